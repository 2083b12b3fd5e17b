"""Local files of the networks that a run uses, as inputs of its jobs.

A hub id has none; its revision is among the params. No heavy imports, for the Snakefile.
"""

from __future__ import annotations

from nsdldm.support.listing import list_files, list_weights


def list_model(settings: dict) -> list[str]:
    """Files of the diffusion model's folder."""
    return list(map(str, list_files(settings["model"]["path"], "*/*.[js]*")))


def list_clip(settings: dict) -> list[str]:
    """Weights of the CLIP model that trained decoders are aligned with."""
    return list_weights(settings["trained"]["clip"]["path"])


def list_judges(settings: dict) -> list[str]:
    """Weights of the networks that compare pictures."""
    networks = settings["evaluation"]["networks"].values()
    return sorted({path for own in networks for path in list_weights(own.get("weights"))})


def list_space(settings: dict, space: str | None) -> list[str]:
    """Weights of the network that computes a user-defined feature space, if there is one."""
    if space is None:
        return []
    return sorted(list_weights(find_weights(settings["feature_spaces"][space]["settings"])))


def list_layered(settings: dict, network: str) -> list[str]:
    """Weights of a network whose layers are compared."""
    return list_weights(settings["networks"][network]["weights"])


def find_weights(settings: dict) -> str | None:
    """Where the weights are that settings of a function name: in a folder, perhaps a part of it."""
    parts = [settings.get(key) for key in ("weights", "subfolder", "weight_name")]
    return "/".join(filter(None, parts)) if parts[0] else None


def list_generator(settings: dict, generator: dict) -> list[str]:
    """Files of a generator's model and of its further weights."""
    folder = generator["path"] or settings["model"]["path"]
    own = generator["settings"]
    further = find_weights(own), own.get("negative")
    files = [str(file) for file in list_files(folder, "*/*.[js]*")]
    return sorted({*files, *(path for own in further for path in list_weights(own))})


def list_all(settings: dict) -> list[str]:
    """All of them."""
    spaces = [path for space in settings["feature_spaces"] for path in list_space(settings, space)]
    spaces += [path for name in settings["networks"] for path in list_layered(settings, name)]
    parts = (list_model, list_clip, list_judges)
    return sorted({path for part in parts for path in part(settings)} | {*spaces})

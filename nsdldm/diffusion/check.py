"""Check that a latent diffusion model is complete and of a supported kind, before it is loaded.

Standard library only, since the Snakefile imports it; the functions that load a model use it too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from nsdldm.support.errors import Finding, InputError, Unexpected, reading
from nsdldm.support.hub import FETCH, check_connection, find_snapshot, is_offline
from nsdldm.support.listing import list_files

LAYOUT = "Set `path` to a model in the layout of diffusers, saved as safetensors"
ANOTHER = "Use a text-to-image model such as Stable Diffusion 1 or 2"
CORRECT = "Correct it, or use another model"
# Alternative names of the files that a part needs; one may be the index of sharded weights.
PARTS = {
    "vae": ("config.json", "diffusion_pytorch_model.safetensors"),
    "text_encoder": ("config.json", "model.safetensors"),
    "unet": ("config.json", "diffusion_pytorch_model.safetensors"),
    "tokenizer": ("tokenizer_config.json", "tokenizer.json"),
    "scheduler": ("scheduler_config.json",),
}
EQUIVALENT = {
    "diffusion_pytorch_model.safetensors": "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors": "model.safetensors.index.json",
    "tokenizer.json": "vocab.json",
}
FP16 = (".fp16.safetensors", ".fp16.bin")
WEIGHTS = ("diffusion_pytorch_model.safetensors", "model.safetensors")
# Defaults of diffusers and transformers where a configuration is silent.
DEFAULTS = {
    "AutoencoderKL": {"in_channels": 3, "out_channels": 3, "latent_channels": 4},
    "VQModel": {"in_channels": 3, "out_channels": 3, "latent_channels": 3},
    "UNet2DConditionModel": {"in_channels": 4, "out_channels": 4, "cross_attention_dim": 1280},
    "CLIPTextModel": {"hidden_size": 512},
    "scheduler": {
        "num_train_timesteps": 1000,
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "prediction_type": "epsilon",
        "timestep_spacing": "leading",
        "rescale_betas_zero_snr": False,
        "set_alpha_to_one": True,
        "use_flow_sigmas": False,
    },
}
# Other things that a U-Net can be conditioned on.
CONDITIONS = (
    "addition_embed_type",
    "class_embed_type",
    "num_class_embeds",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "time_cond_proj_dim",
    "dual_cross_attention",
)
TEXT_MODELS = ("clip_text_model", "clip")
# Ten times Stable Diffusion's; the samplers allocate memory for all of them.
MOST_TIMESTEPS = 10_000
# Of a scheduler's configuration; a noise schedule given as numbers needs no name.
CHOICES = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    "timestep_spacing": ("leading", "trailing", "linspace"),
    "rescale_betas_zero_snr": (False, True),
    "set_alpha_to_one": (False, True),
    "use_flow_sigmas": (False,),
}
# Run by the project's interpreter; the result is in a new folder.
CONVERT = (
    '.venv/bin/python -c "from diffusers import StableDiffusionPipeline as Model; '
    "Model.{load}.save_pretrained('{target}')\""
)


def check_model(
    path: str, revision: str | None = None, chains: Iterable[tuple] = ()
) -> list[Finding]:
    """List what is missing from a latent diffusion model, or why it is not supported.

    Parameters
    ----------
    path : str
        A local folder in the layout of diffusers, or a hub id (owner/name).
    revision : str, optional
        Commit of the hub repository, required for a hub id. It is looked up on this machine;
        whatever is missing here must be available over the network.
    chains : iterable of tuple
        As `check_kind`.

    Returns
    -------
    list of Finding
    """
    folder = Path(path)
    if not folder.is_dir():
        if folder.is_file():
            return [_single_file(folder)]
        if not revision:
            remedy = "Correct `path`, or set `revision` to a commit if it is a hub id"
            expected = "a folder, or a hub id with a revision"
            return [Finding(f"`path` {path}", expected, "no folder, no revision", remedy)]
        return _check_hub(path, revision, chains)
    missing = find_missing(folder)
    other = any(finding.remedy != LAYOUT for finding in missing)
    return missing if other else missing + check_kind(path, folder, chains)


def _check_hub(path, revision, chains):
    """`check_model` for a model from the hub, as far as it is on this machine."""
    folder = find_snapshot(path, revision)
    if is_offline() and not folder.is_dir():
        expected = f"revision {revision} at {folder}, since HF_HUB_OFFLINE is set"
        return [Finding(f"`path` {path}", expected, "nothing", FETCH)]
    missing = find_missing(folder, remedy=FETCH)
    if missing and not is_offline():
        missing = check_connection(path, revision)
    return missing + check_kind(path, folder, chains)


def lacks(folder: Path, part: str) -> list[str]:
    """Names of the files missing from one part of a model in a folder.

    Parameters
    ----------
    folder : Path
    part : str
        One of `PARTS`.

    Returns
    -------
    list of str
    """

    def has_file(name):
        file = folder / part / name
        return file.is_file() and file.stat().st_size > 0

    names = PARTS[part]
    return [n for n in names if not (has_file(n) or (n in EQUIVALENT and has_file(EQUIVALENT[n])))]


def find_missing(
    folder: Path, parts: Iterable[str] = tuple(PARTS), remedy: str = LAYOUT
) -> list[Finding]:
    """List parts of a model that are missing, or what is found instead.

    Parameters
    ----------
    folder : Path
    parts : iterable of str
        Of `PARTS`.
    remedy : str

    Returns
    -------
    list of Finding
        Only one, with its own remedy, if the model is in another form.
    """
    absent = {part: names for part in parts if (names := lacks(folder, part))}
    other = _find_other_form(folder, absent) if absent else None
    if other:
        return [other]
    findings = []
    for part, names in absent.items():
        found = "a folder without " + " and ".join(names)
        found = found if (folder / part).is_dir() else "nothing"
        expected = f"the {part} of a latent diffusion model"
        findings.append(Finding(str(folder / part), expected, found, remedy))
    return findings


def _find_other_form(folder, absent):
    """A finding about a model of another architecture, or in a form that can be converted."""
    without = not (folder / "unet").is_dir()
    if without and (folder / "transformer").is_dir():
        found = "a transformer, as Stable Diffusion 3 and Flux have"
        return Finding(str(folder), "a latent diffusion model with a U-Net", found, ANOTHER)
    wanted = [part for part in absent if PARTS[part][-1] in WEIGHTS]
    for option, suffixes in (("variant='fp16', ", FP16), ("", [".bin"])):
        found = [
            f"{part}/{file.name}"
            for part in wanted
            for suffix in suffixes
            for file in list_files(folder / part, f"*{suffix}")
        ]
        if found:
            load = f"from_pretrained('{folder}', {option}safety_checker=None)"
            pickled = any(name.endswith(".bin") for name in found)
            remedy = _convert(load, folder, pickled)
            expected = "weights named " + " and ".join(WEIGHTS)
            return Finding(str(folder), expected, ", ".join(found), remedy)
    whole = [file for end in ("safetensors", "ckpt") for file in list_files(folder, f"*.{end}")]
    return _single_file(whole[0]) if without and whole else None


def _single_file(file):
    """A finding about a model in a single file."""
    expected = "a folder in the layout of diffusers"
    if file.suffix not in (".ckpt", ".safetensors", ".pt", ".pth", ".bin"):
        return Finding(f"`path` {file}", expected, "another file", LAYOUT)
    load = f"from_single_file('{file}')"
    remedy = _convert(load, file.with_suffix(""), file.suffix != ".safetensors")
    return Finding(f"`path` {file}", expected, "a single file", remedy)


def _convert(load, source, pickled):
    """The command that converts a model, and what to do afterwards."""
    target = source.with_name(f"{source.name}-diffusers")
    if source.parent.name == "snapshots":
        # In the hub's cache, which is not ours to add to.
        target = Path(f"{source.parent.parent.name.rpartition('--')[2]}-diffusers")
    # A pickle can run code.
    trust = " if you trust its source" if pickled else ""
    command = CONVERT.format(load=load, target=target)
    return f"Convert it{trust}: {command}; then set `path` to {target}"


def check_kind(
    path: Path | str,
    folder: Path,
    chains: Iterable[tuple] = (),
    parts: Iterable[str] = tuple(PARTS),
) -> list[Finding]:
    """List why a model is not supported, from the configurations found.

    Parameters
    ----------
    path : str or Path
        For messages.
    folder : Path
        Where the model lies.
    chains : iterable of tuple
        For each reverse process to be run: what to call its steps, name of the sampler, and number
        of steps or None.
    parts : iterable of str
        Of `PARTS`; missing ones are skipped.

    Returns
    -------
    list of Finding
    """
    findings, configs = [], {}
    for part in parts:
        try:
            configs[part] = _read_config(folder, path, part)
        except InputError as error:
            findings += error.findings
    checks = {"vae": check_autoencoder, "unet": check_unet, "text_encoder": check_text}
    for part, check in checks.items():
        if configs.get(part) is not None:
            findings += check(configs[part], f"{path}/{part}/config.json")
    if "unet" in parts and (folder / "text_encoder_2").is_dir() and not findings:
        expected = "one text encoder"
        findings.append(Finding(f"{path}/text_encoder_2", expected, "a second one", ANOTHER))
    if not findings:
        findings += check_together(configs, path)
    if configs.get("scheduler") is not None:
        where = f"{path}/scheduler/scheduler_config.json"
        findings += check_scheduler(configs["scheduler"], where, chains)
    return findings


def _read_config(folder, path, part):
    """The configuration of a part, or None if there is none."""
    name = {"scheduler": "scheduler_config.json", "tokenizer": None}.get(part, "config.json")
    if name is None or not (folder / part / name).is_file():
        return None
    with reading(f"{path}/{part}", f"the {part} of a latent diffusion model", small=True):
        config = json.loads((folder / part / name).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise Unexpected("a configuration that is no mapping")
    return config


def _value(config, kind, key):
    """A setting, or its default."""
    value = config.get(key)
    return DEFAULTS[kind][key] if value is None else value


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _show(value):
    return f"{value!r}"[:80]


def check_autoencoder(config: dict, where: str) -> list[Finding]:
    """List what is not supported in an autoencoder's configuration.

    Parameters
    ----------
    config : dict
    where : str
        The file, for messages.

    Returns
    -------
    list of Finding
    """
    kind = config.get("_class_name") or "AutoencoderKL"
    if kind not in ("AutoencoderKL", "VQModel"):
        return [Finding(where, "AutoencoderKL or VQModel", _show(kind), ANOTHER)]
    findings = []
    channels = [_value(config, kind, key) for key in ("in_channels", "out_channels")]
    if channels != [3, 3]:
        found = f"in_channels {_show(channels[0])} and out_channels {_show(channels[1])}"
        findings.append(Finding(where, "pictures of 3 channels", found, ANOTHER))
    scaling, shift = config.get("scaling_factor", 1), config.get("shift_factor")
    if not _is_number(scaling) or scaling <= 0:
        findings.append(Finding(where, "a scaling_factor above 0", _show(scaling), CORRECT))
    if shift is not None and not _is_number(shift):
        findings.append(Finding(where, "a number or null as shift_factor", _show(shift), CORRECT))
    for key in ("latents_mean", "latents_std"):
        if config.get(key) is not None:
            expected = "one scaling_factor and shift_factor for all channels"
            findings.append(Finding(where, expected, f"a {key} for each", ANOTHER))
            break
    layers = ("use_quant_conv", "use_post_quant_conv")
    without = [key for key in layers if config.get(key) is False]
    if kind == "VQModel" and without:
        expected = "a VQModel with the layers around its codebook, as diffusers builds it"
        findings.append(Finding(where, expected, " and ".join(without) + " false", ANOTHER))
    return findings


def check_unet(config: dict, where: str) -> list[Finding]:
    """`check_autoencoder` for a U-Net, which must take only latents, a timestep and a text."""
    kind = config.get("_class_name") or "UNet2DConditionModel"
    if kind != "UNet2DConditionModel":
        return [Finding(where, "UNet2DConditionModel", _show(kind), ANOTHER)]
    given = [f"{key} {_show(config[key])}" for key in CONDITIONS if config.get(key)]
    if given:
        expected = "a U-Net conditioned on the context of one text encoder only"
        return [Finding(where, expected, ", ".join(given)[:200], ANOTHER)]
    taken, given = (_value(config, kind, key) for key in ("in_channels", "out_channels"))
    if taken == given:
        return []
    found = f"{_show(taken)} and {_show(given)}"
    known = {9: "inpainting", 5: "depth", 8: "editing", 7: "enlarging"}
    if given == 4 and taken in known:
        found += f", as for {known[taken]}"
    return [Finding(where, "as many in_channels as out_channels", found, ANOTHER)]


def check_text(config: dict, where: str) -> list[Finding]:
    """`check_autoencoder` for a text encoder, which must be CLIP's."""
    kind = config.get("model_type")
    if kind is None or kind in TEXT_MODELS:
        return []
    return [Finding(where, "the text encoder of CLIP (clip_text_model)", _show(kind), ANOTHER)]


def check_together(configs: dict[str, dict | None], path: Path | str) -> list[Finding]:
    """List where the parts of a model, each supported by itself, do not fit together.

    Parameters
    ----------
    configs : dict of str to dict or None
        By part.
    path : str or Path
        For messages.

    Returns
    -------
    list of Finding
    """
    unet, vae, text = (configs.get(part) for part in ("unet", "vae", "text_encoder"))
    if unet is None:
        return []
    kind, where, findings = "UNet2DConditionModel", f"{path}/unet/config.json", []
    if vae is not None:
        family = vae.get("_class_name") or "AutoencoderKL"
        latent = _value(vae, family, "latent_channels")
        latent = vae.get("vq_embed_dim") or latent if family == "VQModel" else latent
        channels = _value(unet, kind, "in_channels")
        if channels != latent:
            expected = f"{_show(latent)} in_channels, as the latents of the vae have"
            findings.append(Finding(where, expected, _show(channels), ANOTHER))
    if text is not None:
        width = text.get("text_config") if isinstance(text.get("text_config"), dict) else text
        width = _value(width, "CLIPTextModel", "hidden_size")
        across = _value(unet, kind, "cross_attention_dim")
        if any(each != width for each in (across if isinstance(across, list) else [across])):
            expected = f"cross_attention_dim {_show(width)}, the hidden_size of the text_encoder"
            remedy = "Take unet and text_encoder from the same model"
            findings.append(Finding(where, expected, _show(across), remedy))
    return findings


def check_scheduler(config: dict, where: str, chains: Iterable[tuple] = ()) -> list[Finding]:
    """List what is not supported in a scheduler's configuration.

    Parameters
    ----------
    config : dict
    where : str
        The file, for messages.
    chains : iterable of tuple
        As `check_kind`.

    Returns
    -------
    list of Finding
    """
    if config.get("beta_schedule") is None and config.get("trained_betas") is None:
        found = f"neither, in a {config.get('_class_name') or 'scheduler'}"
        expected = "a noise schedule, as beta_schedule or trained_betas"
        return [Finding(where, expected, found[:80], ANOTHER)]
    settings = DEFAULTS["scheduler"] | {k: v for k, v in config.items() if v is not None}
    n = settings["num_train_timesteps"]
    fits = type(n) is int and 1 <= n <= MOST_TIMESTEPS
    rules = [(fits, f"num_train_timesteps from 1 to {MOST_TIMESTEPS}", n)]
    rules += _check_betas(settings)
    for key, known in CHOICES.items():
        names = f"{key} " + " or ".join(map(json.dumps, known))
        rules.append((settings[key] in known, names, settings[key]))
    findings = [
        Finding(where, expected, _show(value), CORRECT)
        for fits, expected, value in rules
        if not fits
    ]
    return findings or _check_chains(settings, where, chains)


def _check_chains(settings, where, chains):
    """Findings about noise schedules and reverse processes that are incompatible."""
    findings, n = [], settings["num_train_timesteps"]
    rescaled = settings["rescale_betas_zero_snr"]
    if rescaled and settings["prediction_type"] == "epsilon":
        expected = "prediction_type v_prediction or sample with rescale_betas_zero_snr"
        found = "epsilon, which says nothing about the image in pure noise"
        findings.append(Finding(where, expected, found, CORRECT))
    for key, sampler, steps in chains:
        if rescaled and sampler == "plms":
            remedy = f"Use ddim or dpmsolver++ for {key}, or another model"
            expected = "rescale_betas_zero_snr false for plms"
            findings.append(Finding(where, expected, "true", remedy))
        if steps is not None and not 1 <= steps <= n:
            expected = f"1 to {n} steps, the num_train_timesteps of {where}"
            findings.append(Finding(key, expected, str(steps), "Correct it"))
    return findings


def _check_betas(settings):
    """Rules for a noise schedule: whether each holds, what it requires, and what was found."""
    betas, n = settings.get("trained_betas"), settings["num_train_timesteps"]
    if betas is not None:
        fits = isinstance(betas, list) and len(betas) == n
        fits = fits and all(_is_number(beta) and 0 < beta < 1 for beta in betas)
        return [(fits, f"trained_betas: {n} numbers between 0 and 1", betas)]
    # A cosine schedule has no end points to set.
    ends = [settings["beta_start"], settings["beta_end"]]
    fits = all(map(_is_number, ends)) and 0 < ends[0] <= ends[1] < 1
    return [(fits, "beta_start and beta_end between 0 and 1, in this order", ends)]

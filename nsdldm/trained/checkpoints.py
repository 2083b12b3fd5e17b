"""Weights on disk: safetensors with a JSON description in the header. Never pickles."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open
from safetensors.torch import save_file

from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import replacing
from nsdldm.trained.networks import build_encoder

if TYPE_CHECKING:
    import torch

    from nsdldm.trained.networks import Encoder

REMEDY = "Delete it and train again"


def save_weights(path: Path | str, state: dict[str, torch.Tensor], metadata: dict) -> None:
    """Write weights.

    Parameters
    ----------
    path : str or Path
    state : dict of tensor
    metadata : dict
        JSON: settings, length, subjects, parameters (counts by part) and more.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with replacing(path) as part:
        # Unsorted, to keep the order of the columns of curves.
        save_file(tensors, part, {"nsdldm": json.dumps(metadata)})


def read_metadata(path: Path | str) -> dict:
    """Read the description of weights, without the weights."""
    with reading(path, "weights of a trained decoder", REMEDY), safe_open(path, "pt") as file:
        return json.loads(file.metadata()["nsdldm"])


def check_subjects(path: Path | str, known: list[str], given: Iterable[str]) -> None:
    """Check that an encoder was trained on these subjects, in this order."""
    if known != given:
        expected, found = f"an encoder trained on {', '.join(given)}", f"one of {', '.join(known)}"
        raise InputError(Finding(str(path), expected, found, REMEDY))


def load_weights(path: Path | str) -> tuple[dict[str, torch.Tensor], dict]:
    """Read weights and their description.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    state : dict of tensor
    metadata : dict

    Raises
    ------
    InputError
        There is no such file, or it is of another kind.
    """
    metadata = read_metadata(path)
    with reading(path, "weights of a trained decoder", REMEDY), safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


def insert_weights(
    module: torch.nn.Module, state: dict[str, torch.Tensor], path: Path | str, prefix: str = ""
) -> None:
    """Load the weights whose names start with a prefix into a module, which must need no others.

    Parameters
    ----------
    module : nn.Module
    state : dict of tensor
    path : str or Path
        Where they come from, for the message.
    prefix : str

    Raises
    ------
    InputError
        Weights are missing, too many or of another shape.
    """
    own = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
    with reading(path, "weights of this network's shapes", REMEDY):
        missing, excess = module.load_state_dict(own, strict=False)
    if missing or excess:
        expected = f"the weights of {prefix.rstrip('.') or 'the network'}"
        found = f"none for {missing[0]}" if missing else f"others, such as {excess[0]}"
        raise InputError(Finding(str(path), expected, found, REMEDY))


def load_encoder(path: Path | str) -> tuple[Encoder, dict]:
    """Load the encoder of any stage.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    encoder : Encoder
        Of float32, on the CPU.
    metadata : dict
    """
    state, metadata = load_weights(path)
    encoder = build_encoder(metadata["encoder"], metadata["length"], metadata["n_voxels"])
    insert_weights(encoder, state, path, "encoder.")
    return encoder, metadata

"""Count the parameters of presets: ``python -m nsdldm.trained.sizes`` prints a table.

Nothing is computed and no memory is used: networks are built on torch's meta device.
"""

from __future__ import annotations

import argparse

import torch

from nsdldm.trained.data import pad_length
from nsdldm.trained.networks import build_encoder, count_parameters
from nsdldm.trained.presets import PRESETS, SIZES, resolve
from nsdldm.trained.pretraining import Pretraining
from nsdldm.trained.targets import Codes, Quantiles, Values

# Voxels in NSD's region nsdgeneral of subject 1.
N_VOXELS = 15_724


def build_preset(name: str, n_voxels: int, size: str = "full") -> Pretraining:
    """Build the first stage of a preset on the meta device.

    Parameters
    ----------
    name : str
    n_voxels : int
    size : {"full", "demo"}

    Returns
    -------
    nsdldm.trained.pretraining.Pretraining
        Without values.
    """
    settings = resolve(name, {}, size)["stage1"]
    length = pad_length(n_voxels, settings["patch"])
    with torch.device("meta"):
        encoder = build_encoder(settings, length)
        return Pretraining(settings, encoder, _make_target(settings, encoder.n_tokens))


def _make_target(settings, n_tokens):
    """A target of the right size that is not fitted."""
    patch, codes = settings["patch"], settings["codes"]
    if settings["target"] == "mse":
        return Values(patch)
    if settings["target"] == "quantile":
        return Quantiles(
            torch.empty(n_tokens, patch, codes - 1), torch.empty(n_tokens, patch, codes)
        )
    return Codes(torch.empty(patch, patch), torch.empty(codes, patch), torch.empty(codes, patch))


def count_preset(name: str, n_voxels: int, size: str = "full") -> dict[str, int]:
    """Count the parameters of the first stage of a preset.

    Parameters
    ----------
    name : str
    n_voxels : int
    size : {"full", "demo"}

    Returns
    -------
    dict of int
        blocks (of the encoder, with its last norm), encoder (with tokenizer and class token),
        regressor (0 without one), decoder, total. Position embeddings are not parameters.
    """
    network = build_preset(name, n_voxels, size)
    encoder = network.encoder
    counts = {
        "blocks": count_parameters(encoder.blocks) + count_parameters(encoder.norm),
        "encoder": count_parameters(encoder),
        "regressor": count_parameters(network.regressor) if network.regressor else 0,
        "decoder": count_parameters(network.decoder),
    }
    return counts | {"total": count_parameters(network)}


def main() -> None:
    """Print a table of all presets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxels", type=int, default=N_VOXELS)
    parser.add_argument("--size", choices=SIZES, default="full")
    asked = parser.parse_args()
    print(f"Millions of parameters of the first stage, {asked.voxels:,} voxels, size {asked.size}")
    columns = ("blocks", "encoder", "regressor", "encoder + regressor", "decoder", "total")
    print("| preset | " + " | ".join(columns) + " |")
    print("|---" + "|---:" * len(columns) + "|")
    for name in PRESETS:
        counts = count_preset(name, asked.voxels, asked.size)
        counts["encoder + regressor"] = counts["encoder"] + counts["regressor"]
        print(f"| {name} | " + " | ".join(f"{counts[key] / 1e6:.2f}" for key in columns) + " |")


if __name__ == "__main__":
    main()

"""Decoded latents, to be drawn next to maps."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from nsdldm.diffusion.loading import Model, load_autoencoder
from nsdldm.diffusion.reconstruction import decode_pictures
from nsdldm.support.batching import run_batched
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array, load_table, save_array

logger = logging.getLogger(__name__)


def decode_strip(
    *,
    images: str | Path,
    features: Mapping[str, str | Path],
    model: Model,
    n_images: int,
    outputs: Mapping[str, str | Path],
) -> None:
    """Decode several latents of the same few test images.

    Parameters
    ----------
    images
        Table of images with the columns nsd_id and split.
    features
        For each space its latents, float32 of shape (n_images, channels, height, width).
    model : Model
        The images of a space are decoded in one batch, whatever its `batch_size`.
    n_images : int
        Test images, spread evenly over those of the table.
    outputs
        For each space uint8 ``.npy`` of shape (n_images, side, side, 3).

    Raises
    ------
    InputError
        The model cannot be used, or features are not of these images.
    """
    table = load_table(images)
    test = np.flatnonzero(table["split"] == "test")
    places = np.linspace(0, len(test) - 1, min(n_images, len(test)))
    chosen = test[places.round().astype(int)]
    device, dtype = model.choose()
    autoencoder = load_autoencoder(model.path, model.revision, device, dtype)
    for space, path in features.items():
        latents = load_array(path)
        if len(latents) != len(table):
            expected, found = f"a row for each of {len(table)} images", f"{len(latents)} rows"
            raise InputError(Finding(str(path), expected, found, "Compute the features again"))
        z = torch.from_numpy(latents[chosen])
        parts = run_batched(
            lambda batch, z=z: decode_pictures(autoencoder, z[batch]), len(z), len(z), device
        )
        save_array(outputs[space], np.concatenate([pictures for _, pictures in parts]))
    shown = table["nsd_id"].to_numpy()[chosen].tolist()
    logger.info("%d latents of images %s", len(features), shown)

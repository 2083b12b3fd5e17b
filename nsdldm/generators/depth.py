"""Stable Diffusion 2 with a map of depth beside the text."""

from __future__ import annotations

import torch
from torch.nn import functional

from nsdldm.diffusion.denoising import Conditions
from nsdldm.diffusion.latents import latent_shape
from nsdldm.diffusion.loading import Model, load_autoencoder, load_text
from nsdldm.diffusion.text import embed_texts
from nsdldm.generators.generator import Generator
from nsdldm.generators.loading import load_unet
from nsdldm.support.errors import Finding, InputError

KIND = "Stable Diffusion 2 depth"


def open_depth(model: Model, scheduler: str, *, resolution: int | None = None) -> Generator:
    """Open Stable Diffusion 2 depth.

    Parameters
    ----------
    model : Model
        Its depth estimator is not needed.
    scheduler : {"ddim", "dpmsolver++"}
    resolution : int, optional
        Side of the pictures to be made, in pixels; that of the model's training unless set.

    Returns
    -------
    Generator
        ``depth`` is a map of relative inverse depth, (height, width), in any unit; the U-Net needs
        one. ``text`` is the last hidden state of the model's text encoder, (tokens, width), or of
        the empty text. The pass without conditions gets the map too.

    Raises
    ------
    InputError
        The model or resolution cannot be used. A map that is missing or constant is refused by
        `condition`.
    """
    device, dtype = model.choose()
    autoencoder = load_autoencoder(model.path, model.revision, device, dtype)
    channels = autoencoder.config.latent_channels
    empty = embed_texts(*load_text(model.path, model.revision, device, dtype), [""])
    settings = {"in_channels": channels + 1, "out_channels": channels}
    unet, sampler = load_unet(model, scheduler, KIND, settings)
    side = unet.config.sample_size
    if resolution is not None:
        side = latent_shape(autoencoder, resolution)[1]

    def condition(given, n):
        return Conditions(
            (empty, given.get("text", empty)), channels=fit_depth(given.get("depth"), side)
        )

    shapes = {"text": tuple(empty.shape[1:]), "depth": (None, None)}
    return Generator(autoencoder, unet, sampler, shapes, condition)


def fit_depth(maps: torch.Tensor | None, side: int) -> torch.Tensor:
    """Bring maps of depth to the size and range that the U-Net was trained with.

    Parameters
    ----------
    maps : tensor of shape (n, height, width), or None
    side : int
        Of the latents.

    Returns
    -------
    float32 tensor of shape (n, 1, side, side)
        Each map from -1 to 1, resized bicubically, as in diffusers' pipeline.

    Raises
    ------
    InputError
        There are no maps, or one is constant: it has no range, and the U-Net would get undefined
        values.
    """
    if maps is None:
        expected, remedy = "a map for each image", "Name the decoded maps under `depth`"
        raise InputError(Finding("`depth`", expected, "none", remedy))
    maps = maps.float()[:, None]
    constant = (maps.amax((1, 2, 3)) == maps.amin((1, 2, 3))).nonzero()
    if len(constant):
        found = f"a constant one (number {int(constant[0])} of its batch)"
        remedy = "Look at what the map was decoded from, or leave depth out"
        raise InputError(Finding("`depth`", "maps that vary", found, remedy))
    resized = functional.interpolate(maps, (side, side), mode="bicubic", align_corners=False)
    low, high = (extreme(resized, (1, 2, 3), keepdim=True) for extreme in (torch.amin, torch.amax))
    return 2 * (resized - low) / (high - low) - 1

"""Image variations: Stable Diffusion whose only context is the embedding of an image."""

from __future__ import annotations

import torch

from nsdldm.diffusion.denoising import Conditions
from nsdldm.diffusion.loading import Model, load_autoencoder, load_denoiser
from nsdldm.generators.generator import Generator


def open_image_variations(model: Model, scheduler: str) -> Generator:
    """Open Stable Diffusion image variations.

    Parameters
    ----------
    model : Model
        With a U-Net and an autoencoder as in Stable Diffusion 1; its image encoder is not needed.
    scheduler : {"ddim", "dpmsolver++"}

    Returns
    -------
    Generator
        ``image`` is the projected embedding of CLIP ViT-L/14, (768,), which becomes the only token
        of the context. Without an image it is zero, as in training.

    Raises
    ------
    InputError
        The model cannot be used.
    """
    device, dtype = model.choose()
    autoencoder = load_autoencoder(model.path, model.revision, device, dtype)
    unet, sampler = load_denoiser(model.path, model.revision, device, dtype, scheduler)
    empty = torch.zeros(1, 1, unet.config.cross_attention_dim, device=device)

    def condition(given, n):
        return Conditions((empty, given["image"][:, None] if "image" in given else empty))

    shapes = {"image": (unet.config.cross_attention_dim,)}
    return Generator(autoencoder, unet, sampler, shapes, condition)

"""Image latents z: pictures encoded by the autoencoder."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import VQModel
from PIL import Image

from nsdldm.support.errors import Finding, InputError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

logger = logging.getLogger(__name__)

# Log-variance of a latent without variance, before scaling: the minimum that diffusers allows.
LEAST_LOGVAR = -30.0


def prepare_pictures(pictures: Iterable[np.ndarray], resolution: int) -> torch.Tensor:
    """Convert pictures to the autoencoder's input.

    Parameters
    ----------
    pictures : iterable of uint8 arrays of shape (height, width, 3)
    resolution : int
        Side of the result, in pixels; Lanczos resampling, as in the published code.

    Returns
    -------
    float32 tensor of shape (n, 3, resolution, resolution)
        From -1 to 1.
    """
    size = (resolution, resolution)
    resized = [Image.fromarray(p).resize(size, Image.Resampling.LANCZOS) for p in pictures]
    stacked = torch.from_numpy(np.stack([np.asarray(picture) for picture in resized]))
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def encode_pictures(
    autoencoder: AutoencoderKL | VQModel, pictures: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Encode pictures as the mean and log-variance of their scaled latents.

    Parameters
    ----------
    autoencoder : AutoencoderKL or VQModel
    pictures : float32 tensor of shape (n, 3, side, side)
        From -1 to 1.

    Returns
    -------
    mean, logvar : float32 arrays of shape (n, channels, height, width)
        Of the posterior, scaled as for the U-Net (see `scale_latents`). A `VQModel` has no
        posterior: the mean is the latent before quantisation, and the log-variance corresponds to a
        standard deviation of 3e-7 before scaling.
    """
    pictures = pictures.to(autoencoder.device, autoencoder.dtype, memory_format=torch.channels_last)
    encoded = autoencoder.encode(pictures)
    if isinstance(autoencoder, VQModel):
        mean, logvar = encoded.latents, torch.full_like(encoded.latents, LEAST_LOGVAR)
    else:
        mean, logvar = encoded.latent_dist.mean, encoded.latent_dist.logvar
    logvar = logvar.float() + 2 * np.log(autoencoder.config.scaling_factor)
    return scale_latents(autoencoder, mean.float()).cpu().numpy(), logvar.cpu().numpy()


def scale_latents(autoencoder: AutoencoderKL | VQModel, latents: torch.Tensor) -> torch.Tensor:
    """Latents (n, channels, height, width) as the U-Net sees them: (latent - shift_factor) x
    scaling_factor."""
    return (latents - _shift_of(autoencoder)) * autoencoder.config.scaling_factor


def unscale_latents(autoencoder: AutoencoderKL | VQModel, latents: torch.Tensor) -> torch.Tensor:
    """Undo `scale_latents`: latents (n, channels, height, width) as the autoencoder decodes
    them."""
    return latents / autoencoder.config.scaling_factor + _shift_of(autoencoder)


def _shift_of(autoencoder):
    """A VQModel has no such setting, and in Stable Diffusion it is not set."""
    return autoencoder.config.get("shift_factor") or 0.0


def latent_shape(
    autoencoder: AutoencoderKL | VQModel, resolution: int, name: str = "resolution"
) -> tuple[int, ...]:
    """Channels, height and width of the latent of a square picture.

    Parameters
    ----------
    autoencoder : AutoencoderKL or VQModel
    resolution : int
        Side of the picture, in pixels.
    name : str
        Name of the caller's argument for the resolution, for the message.

    Returns
    -------
    tuple of int

    Raises
    ------
    InputError
        The side is not a multiple of the autoencoder's factor.
    """
    factor = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    if resolution % factor:
        expected, remedy = f"a multiple of {factor} pixels", "Set it to the nearest multiple"
        raise InputError(Finding(f"`{name}`", expected, str(resolution), remedy))
    side = resolution // factor
    channels = autoencoder.config.get("vq_embed_dim") or autoencoder.config.latent_channels
    return channels, side, side

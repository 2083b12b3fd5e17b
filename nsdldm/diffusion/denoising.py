"""Run all or part of the reverse process, with classifier-free guidance."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from diffusers import SchedulerMixin, UNet2DConditionModel

from nsdldm.diffusion.loading import Model, load_denoiser, load_text
from nsdldm.diffusion.steps import count_steps
from nsdldm.diffusion.text import embed_texts
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)

NOISES = ("per-image", "shared")


class Denoising(NamedTuple):
    """How latents are noised and denoised.

    Parameters
    ----------
    num_inference_steps : int
        Steps of the whole chain.
    strength : float
        Share of the chain that is run; whole steps by `nsdldm.diffusion.steps.count_steps`.
    guidance_scale : float
        As `denoise`.
    scheduler : {"ddim", "dpmsolver++"}
    noise : {"per-image", "shared"}
        Noise keyed by the image, or that of image 0 for all images.
    seed : int
        Of the noise.
    """

    num_inference_steps: int = 50
    strength: float = 0.8
    guidance_scale: float = 5.0
    scheduler: str = "ddim"
    noise: str = "per-image"
    seed: int = 42


class Denoiser(NamedTuple):
    """What denoises latents; `empty` is the embedding of the empty text, (1, tokens, width)."""

    unet: UNet2DConditionModel
    sampler: SchedulerMixin
    empty: torch.Tensor


def open_denoiser(model: Model, scheduler: str) -> Denoiser:
    """Load what a reverse process in latents needs.

    Parameters
    ----------
    model : Model
    scheduler : {"ddim", "dpmsolver++", "plms"}

    Returns
    -------
    Denoiser

    Raises
    ------
    InputError
        The model cannot be used.
    """
    device, dtype = model.choose()
    empty = embed_texts(*load_text(model.path, model.revision, device, dtype), [""])
    return Denoiser(*load_denoiser(model.path, model.revision, device, dtype, scheduler), empty)


def plan_steps(
    scheduler: SchedulerMixin, num_inference_steps: int, strength: float
) -> torch.Tensor:
    """Set up a sampler for the last part of its chain.

    The noise level is that of the first timestep that is run, as in diffusers' image-to-image
    pipeline. The published code noises z one step further (50 steps, strength 0.8: to 801, while
    the first of the 40 steps is at 781), so the network is told that there is less noise than there
    is.

    Parameters
    ----------
    scheduler : SchedulerMixin
        From `nsdldm.diffusion.loading.load_denoiser`. Changed in place; any state of an earlier run
        is reset.
    num_inference_steps : int
        Steps of the whole chain.
    strength : float
        Share of the chain that is run; whole steps by `nsdldm.diffusion.steps.count_steps`.

    Returns
    -------
    int64 tensor of shape (n,)
        Timesteps, descending. The first is the noise level.

    Raises
    ------
    InputError
        The strength is outside (0, 1], or below 1 with a sampler that cannot start midway, or there
        are more steps than in training.
    """
    if not 0 < strength <= 1:
        remedy = "Set it to the share of the steps to run"
        raise InputError(Finding("`strength`", "above 0 and at most 1", str(strength), remedy))
    most = scheduler.config.num_train_timesteps
    if not 1 <= num_inference_steps <= most:
        expected = f"1 to {most}, the num_train_timesteps of the model's scheduler_config.json"
        found, remedy = str(num_inference_steps), "Correct it"
        raise InputError(Finding("`num_inference_steps`", expected, found, remedy))
    scheduler.set_timesteps(num_inference_steps)
    n = count_steps(num_inference_steps, strength)
    if len(scheduler.timesteps) != num_inference_steps:
        # PLMS repeats its second step, but only if it starts at the beginning.
        if n < num_inference_steps:
            expected, found = "ddim or dpmsolver++ for a part of the chain", "plms"
            remedy = "Change it, or set `strength` to 1"
            raise InputError(Finding("`scheduler`", expected, found, remedy))
        return scheduler.timesteps
    return scheduler.timesteps[num_inference_steps - n :]


class Conditions(NamedTuple):
    """What a U-Net is given beside the latents of n images.

    A pair holds what the pass without conditions gets, and what the pass with them gets; without
    guidance only the second is used. A pair's first tensor may have one row for all images.

    Parameters
    ----------
    context : pair of tensor of shape (n, tokens, width), or None
        For cross-attention.
    classes : pair of tensor of shape (n, width), or None
        Added to the time embedding, if the U-Net has a `class_embedding` that takes it.
    added : dict of str to pair of tensor, or None
        What diffusers calls `added_cond_kwargs`; in that of `image_embeds`, each tensor is of shape
        (n, images, width) or (n, images, tokens, width), for one image adapter.
    channels : tensor of shape (n, channels, height, width), or None
        Joined to the latents in both passes, such as a depth map.
    """

    context: tuple[torch.Tensor, torch.Tensor] | None
    classes: tuple[torch.Tensor, torch.Tensor] | None = None
    added: dict[str, tuple[torch.Tensor, torch.Tensor]] | None = None
    channels: torch.Tensor | None = None

    def join(self, n: int, guided: bool, unet: UNet2DConditionModel) -> dict:
        """Keyword arguments of the U-Net for one pass over n images, or two in one batch."""

        def merge(pair):
            if pair is None:
                return None
            parts = pair if guided else pair[1:]
            parts = [part.to(unet.device, unet.dtype).expand(n, *part.shape[1:]) for part in parts]
            return torch.cat(parts)

        added = {name: merge(pair) for name, pair in (self.added or {}).items()}
        if "image_embeds" in added and unet.config.encoder_hid_dim_type == "ip_image_proj":
            # A list with one entry for each adapter.
            added["image_embeds"] = [added["image_embeds"]]
        return {
            "encoder_hidden_states": merge(self.context),
            "class_labels": merge(self.classes),
            "added_cond_kwargs": added or None,
        }


@torch.inference_mode()
def denoise(
    unet: UNet2DConditionModel,
    scheduler: SchedulerMixin,
    latents: torch.Tensor,
    timesteps: torch.Tensor,
    conditions: Conditions,
    guidance_scale: float,
) -> torch.Tensor:
    """Run the reverse process with classifier-free guidance.

    Parameters
    ----------
    unet : UNet2DConditionModel
        If it predicts more than noise, such as its variance, the rest is ignored.
    scheduler : SchedulerMixin
        Set up by `plan_steps`. All samplers are deterministic (eta of DDIM is 0).
    latents : float32 tensor of shape (n, channels, height, width)
        Noised to the level of the first timestep.
    timesteps : int64 tensor
        As `plan_steps` returns them.
    conditions : Conditions
    guidance_scale : float
        The prediction is unconditional + guidance_scale x (conditional - unconditional); with 1,
        the unconditional pass is skipped.

    Returns
    -------
    float32 tensor of shape (n, channels, height, width)
    """
    guided, n_channels = guidance_scale != 1, latents.shape[1]
    given = conditions.join(len(latents), guided, unet)
    for timestep in timesteps:
        noisy = latents
        if conditions.channels is not None:
            noisy = torch.cat([noisy, conditions.channels.to(noisy)], 1)
        # One pass over both halves is faster than two passes.
        noisy = torch.cat([noisy, noisy]) if guided else noisy
        noisy = noisy.to(unet.dtype, memory_format=torch.channels_last)
        predicted = unet(noisy, timestep, **given).sample[:, :n_channels].float()
        if guided:
            without, conditional = predicted.chunk(2)
            predicted = without + guidance_scale * (conditional - without)
        latents = scheduler.step(predicted, timestep, latents).prev_sample
    return latents


def open_feature(path: Path | str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Open a feature, which must have a given shape.

    Parameters
    ----------
    path : str or Path
        ``.npy`` file.
    shape : tuple of int or None
        None stands for any size.

    Returns
    -------
    read-only memory map

    Raises
    ------
    InputError
        The shape is different.
    """
    array = load_array(path)
    fits = array.ndim == len(shape) and all(
        size in (None, found) for size, found in zip(shape, array.shape, strict=True)
    )
    if not fits:
        expected = f"an array of shape ({', '.join('any' if s is None else str(s) for s in shape)})"
        remedy = "Make it again from the images and the model of the config"
        raise InputError(Finding(str(path), expected, f"one of {array.shape}", remedy))
    return array

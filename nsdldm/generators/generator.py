"""What every generator gives the one reverse process that all share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel, VQModel

from nsdldm.diffusion.denoising import Conditions, open_denoiser
from nsdldm.diffusion.loading import Model, load_autoencoder


class Generator(NamedTuple):
    """A diffusion model that is given features of images.

    Parameters
    ----------
    autoencoder : AutoencoderKL or VQModel
        Of its latents.
    unet : UNet2DConditionModel
    sampler : SchedulerMixin
        As `nsdldm.diffusion.samplers.make_sampler` makes it.
    shapes : dict of str to tuple of int
        The roles of features that it takes, such as text, image or depth, and the shape of one
        image's feature in each; None stands for any size.
    condition : callable
        Takes features by role, float32 tensors of shape (n, ...), and n. Returns `Conditions`; a
        role that is not given gets what the model was trained with in place of it.
    """

    autoencoder: AutoencoderKL | VQModel
    unet: UNet2DConditionModel
    sampler: SchedulerMixin
    shapes: dict[str, tuple]
    condition: Callable[[dict, int], Conditions]


def open_stable_diffusion(model: Model, scheduler: str) -> Generator:
    """Open Stable Diffusion, or any text-to-image model of its kind.

    Parameters
    ----------
    model : Model
    scheduler : {"ddim", "dpmsolver++"}

    Returns
    -------
    Generator
        ``text`` is the last hidden state of its text encoder, (tokens, width).

    Raises
    ------
    InputError
        The model cannot be used.
    """
    autoencoder = load_autoencoder(model.path, model.revision, *model.choose())
    unet, sampler, empty = open_denoiser(model, scheduler)

    def condition(given, n):
        return Conditions((empty, given.get("text", empty)))

    return Generator(autoencoder, unet, sampler, {"text": tuple(empty.shape[1:])}, condition)

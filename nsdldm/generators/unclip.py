"""Stable unCLIP: Stable Diffusion 2.1 with the noised embedding of an image beside the text."""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers import DDPMScheduler
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
    StableUnCLIPImageNormalizer,
)

from nsdldm.diffusion.check import check_scheduler
from nsdldm.diffusion.denoising import Conditions
from nsdldm.diffusion.loading import Model, load_autoencoder, load_text
from nsdldm.diffusion.text import embed_texts
from nsdldm.generators.generator import Generator
from nsdldm.generators.loading import load_network, load_part, load_unet
from nsdldm.support.batching import draw_noise
from nsdldm.support.errors import Finding, InputError, reading

KIND = "Stable Diffusion 2.1 unCLIP"


class Augmentation(NamedTuple):
    """How image embeddings are noised before a U-Net takes them.

    Parameters
    ----------
    normalizer : StableUnCLIPImageNormalizer
        Mean and standard deviation of the embeddings of images.
    schedule : DDPMScheduler
    level : int
        Timestep of the schedule.
    noise : float32 tensor of shape (1, width)
    """

    normalizer: StableUnCLIPImageNormalizer
    schedule: DDPMScheduler
    level: int
    noise: torch.Tensor

    def apply(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Noise embeddings, and append a code of the level; (n, width) becomes (n, 2 x width)."""
        levels = torch.full((len(embeddings),), self.level)
        scaled = self.normalizer.scale(embeddings.float().cpu())
        noised = self.schedule.add_noise(scaled, self.noise.expand_as(scaled), levels)
        width = embeddings.shape[1]
        code = get_timestep_embedding(levels, width, flip_sin_to_cos=True, downscale_freq_shift=0)
        noised = self.normalizer.unscale(noised)
        return torch.cat([noised, code], 1).to(embeddings.device)


def open_unclip(
    model: Model, scheduler: str, *, noise_level: int = 0, noise_seed: int = 0
) -> Generator:
    """Open Stable unCLIP.

    Parameters
    ----------
    model : Model
    scheduler : {"ddim", "dpmsolver++"}
    noise_level : int
        Timestep to which embeddings are noised, which the U-Net is told. A decoded embedding is
        not exact, and a higher level says so. Level 0 adds a little noise too.
    noise_seed : int
        Of this noise. It is the same for all images, so that no picture depends on batches.

    Returns
    -------
    Generator
        ``image`` is the projected embedding of the model's image encoder (CLIP ViT-H/14: (1024,));
        without it, embedding and code of the level are zero. ``text`` is the last hidden state of
        its text encoder, (tokens, width), or of the empty text.

    Raises
    ------
    InputError
        The model cannot be used, or the noise level is outside its range.
    """
    device, dtype = model.choose()
    autoencoder = load_autoencoder(model.path, model.revision, device, dtype)
    empty = embed_texts(*load_text(model.path, model.revision, device, dtype), [""])
    augmentation = _load_augmentation(model, noise_level, noise_seed)
    width = augmentation.noise.shape[1]
    settings = {
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": 2 * width,
    }
    unet, sampler = load_unet(model, scheduler, KIND, settings)
    zeros = torch.zeros(1, 2 * width, device=device)

    def condition(given, n):
        classes = augmentation.apply(given["image"]) if "image" in given else zeros
        return Conditions((empty, given.get("text", empty)), classes=(zeros, classes))

    shapes = {"text": tuple(empty.shape[1:]), "image": (width,)}
    return Generator(autoencoder, unet, sampler, shapes, condition)


def _load_augmentation(model, level, seed):
    """Load what noises embeddings, in float32 on the CPU."""
    part = "image_noising_scheduler"
    config = load_part(DDPMScheduler.load_config, model, part)
    where = f"{model.path}/{part}/scheduler_config.json"
    if findings := check_scheduler(config, where):
        raise InputError(*findings)
    with reading(where, "the configuration of a scheduler"):
        schedule = DDPMScheduler.from_config(config)
    most = schedule.config.num_train_timesteps - 1
    if not 0 <= level <= most:
        remedy = "Set it to a timestep of the schedule that noises embeddings"
        raise InputError(Finding("`noise_level`", f"0 to {most}", str(level), remedy))
    kind, part = StableUnCLIPImageNormalizer, "image_normalizer"
    normalizer = load_network(kind, model, part, torch.float32)
    noise = torch.from_numpy(draw_noise(seed, [0], (normalizer.config.embedding_dim,)))
    return Augmentation(normalizer, schedule, level, noise)

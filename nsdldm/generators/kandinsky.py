"""Kandinsky 2.2: a U-Net that takes nothing but the embedding of an image."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import VQModel
from diffusers.models.autoencoders.vae import DecoderOutput

from nsdldm.diffusion.denoising import Conditions
from nsdldm.diffusion.loading import Model
from nsdldm.generators.generator import Generator
from nsdldm.generators.loading import load_network, load_unet
from nsdldm.generators.negatives import read_negative

KIND = "the decoder of Kandinsky 2.2"


class MoVQ(VQModel):
    """Kandinsky's autoencoder, whose latents are neither scaled nor quantised."""

    def decode(self, h: torch.Tensor, return_dict: bool = True) -> DecoderOutput:
        """Decode latents of shape (n, 4, height, width) as they are, as Kandinsky's own pipelines
        do."""
        return super().decode(h, force_not_quantize=True, return_dict=return_dict)


def open_kandinsky(
    model: Model, scheduler: str, *, negative: str | Path | None = None
) -> Generator:
    """Open the decoder of Kandinsky 2.2; its prior is not needed.

    Parameters
    ----------
    model : Model
        With the folders unet, scheduler and movq.
    scheduler : {"ddim", "dpmsolver++"}
        Deterministic, whereas Kandinsky's own sampler adds noise with a variance that the U-Net
        predicts.
    negative : str or Path
        ``.npy`` of shape (1280,): the embedding of an all-zero picture, as
        `nsdldm.generators.negatives.encode_zero_image` writes it with the layer ``pooled``.

    Returns
    -------
    Generator
        ``image`` is the projected embedding of CLIP ViT-bigG/14, (1280,); without it, `negative`.

    Raises
    ------
    InputError
        The model or the file cannot be used.
    """
    # Quantising autoencoders run in float32, see `nsdldm.diffusion.loading.load_autoencoder`.
    options = {"scaling_factor": 1.0}
    autoencoder = load_network(MoVQ, model, "movq", torch.float32, **options)
    channels = autoencoder.config.vq_embed_dim or autoencoder.config.latent_channels
    settings = {
        "encoder_hid_dim_type": "image_proj",
        "addition_embed_type": "image",
        "in_channels": channels,
        "out_channels": 2 * channels,
    }
    unet, sampler = load_unet(model, scheduler, KIND, settings)
    shape = (unet.config.encoder_hid_dim,)
    without = read_negative(negative, shape).to(unet.device)
    autoencoder = autoencoder.to(unet.device, memory_format=torch.channels_last)

    def condition(given, n):
        return Conditions(None, added={"image_embeds": (without, given.get("image", without))})

    return Generator(autoencoder, unet, sampler, {"image": shape}, condition)

"""Train the demo's IP-Adapter, through which the finished U-Net is given an image's embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from transformers import CLIPModel

from nsdldm.demo.training.classifiers import prepare
from nsdldm.demo.training.loop import autocast
from nsdldm.demo.training.stages import add_noise, draw_embeddings, draw_rows, tokenize
from nsdldm.diffusion.text import embed_texts
from nsdldm.support.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import UNet2DConditionModel

    from nsdldm.demo.training.stages import Workshop

FOLDER, FILE = "ip_adapter", "ip-adapter.safetensors"
# Tokens that an embedding is turned into.
TOKENS = 4
# Shares of pictures trained without their captions, their embedding, or both. Ye et al. (2023,
# arXiv 2308.06721) train 5 % each. Captions are missing more often here: what they say, an adapter
# trained this briefly does not learn to take from the embedding.
WITHOUT_TEXT, WITHOUT_IMAGE, WITHOUT_BOTH = 0.45, 0.05, 0.05
# Decoded embeddings are noisy: noise up to this many standard deviations, for this share.
LARGEST_NOISE, NOISY_SHARE = 1.0, 0.5
# Scenes of training, the first; to encode them all would take about as long as the training itself.
N_SCENES = 6000
BATCH = 100


def train_adapter(shop: Workshop, output: Path) -> None:
    """Train an adapter for the finished model, all of which stays as it is, and write it.

    Parameters
    ----------
    shop : nsdldm.demo.training.stages.Workshop
    output : Path
        The demo model; ``ip_adapter/ip-adapter.safetensors`` is added, in float16 and the layout of
        the published adapters, for `load_ip_adapter`.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(
        output, local_files_only=True, use_safetensors=True
    ).to(shop.device, torch.float32)
    clip = CLIPModel.from_pretrained(output / "clip", dtype=torch.float32, use_safetensors=True)
    clip = clip.to(shop.device).eval()
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet, clip):
        part.requires_grad_(False)
    views = embed_pictures(clip, shop.scenes("train").pictures[:N_SCENES])
    unet = shop.build("adapter", lambda: add_adapter(pipeline.unet, views))
    unet = shop.train("adapter", unet, _make_loss(shop, pipeline, views))
    (output / FOLDER).mkdir(parents=True, exist_ok=True)
    with replacing(output / FOLDER / FILE) as part:
        save_file(read_adapter(unet), part)


@torch.no_grad()
def embed_pictures(clip: CLIPModel, pictures: np.ndarray) -> torch.Tensor:
    """Embed pictures as `CLIPVisionModelWithProjection` does.

    Parameters
    ----------
    clip : CLIPModel
    pictures : uint8 array of shape (n, pixels, pixels, 3)

    Returns
    -------
    float32 tensor of shape (n, size)
        Its `image_embeds`: where captions are compared with pictures, but not normalised.
    """
    parts = []
    for start in range(0, len(pictures), BATCH):
        batch = prepare(pictures[start : start + BATCH], clip.device)
        parts.append(clip.visual_projection(clip.vision_model(batch).pooler_output).float())
    return torch.cat(parts)


def add_adapter(unet: UNet2DConditionModel, views: torch.Tensor) -> UNet2DConditionModel:
    """Give a U-Net an untrained adapter; nothing else of it needs a gradient.

    Keys and values start as those of the text. Tokens start as random projections of standardised
    embeddings, since what all pictures share would otherwise outweigh their differences.

    Parameters
    ----------
    unet : UNet2DConditionModel
        Changed.
    views : float32 tensor of shape (n, size)
        Embeddings of pictures.

    Returns
    -------
    UNet2DConditionModel
        The same.
    """
    width = unet.config.cross_attention_dim
    weight = torch.randn(TOKENS * width, views.shape[1]) / views.shape[1] ** 0.5
    weight = weight.to(views.device) / views.std(0)
    projection = {
        "proj.weight": weight,
        "proj.bias": -weight @ views.mean(0),
        "norm.weight": torch.ones(width, device=views.device),
        "norm.bias": torch.zeros(width, device=views.device),
    }
    blocks = {}
    for number, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            attention = unet.get_submodule(name.removesuffix(".processor"))
            blocks[f"{number}.to_k_ip.weight"] = attention.to_k.weight.detach().clone()
            blocks[f"{number}.to_v_ip.weight"] = attention.to_v.weight.detach().clone()
    unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": blocks}])
    unet.requires_grad_(False)
    for parameter in _find_parts(unet).values():
        parameter.requires_grad_(True)
    return unet


def _find_parts(unet):
    """Parameters of a U-Net's adapter, by their names in published files."""
    (projection,) = unet.encoder_hid_proj.image_projection_layers
    parts = {
        f"image_proj.{name.replace('image_embeds', 'proj')}": parameter
        for name, parameter in projection.named_parameters()
    }
    for number, (name, processor) in enumerate(unet.attn_processors.items()):
        if name.endswith("attn2.processor"):
            parts[f"ip_adapter.{number}.to_k_ip.weight"] = processor.to_k_ip[0].weight
            parts[f"ip_adapter.{number}.to_v_ip.weight"] = processor.to_v_ip[0].weight
    return parts


def read_adapter(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """Take the adapter out of a U-Net.

    Parameters
    ----------
    unet : UNet2DConditionModel
        With one adapter loaded.

    Returns
    -------
    dict of str to float16 tensor
        On the CPU, by their names in published files.
    """
    parts = _find_parts(unet)
    return {
        name: part.detach().to("cpu", torch.float16).contiguous() for name, part in parts.items()
    }


def _make_loss(shop, pipeline, views):
    """The loss of the U-Net's own training, with embeddings of the pictures in addition."""
    scenes, plan, device = shop.scenes("train"), shop.recipe.plans["adapter"], shop.device
    encoder, noise_levels = pipeline.text_encoder, pipeline.scheduler
    scale = pipeline.vae.config.scaling_factor
    means, deviations = _encode_pictures(pipeline.vae, scenes.pictures[:N_SCENES])
    tokens = tokenize(pipeline.tokenizer, scenes.captions[:N_SCENES])
    empty = embed_texts(pipeline.tokenizer, encoder, [""]).clone()

    def loss(network, rng):
        rows = draw_rows(rng, means, plan.batch)
        latents = scale * (means[rows] + deviations[rows] * torch.randn_like(means[rows]))
        c = draw_embeddings(rng, encoder, tokens[rows].to(device), empty, empty_share=0)
        c, given = _spoil(rng, c, views[rows], empty, views.std(0))
        levels = torch.from_numpy(rng.integers(1000, size=plan.batch)).to(device)
        noisy, velocity = add_noise(noise_levels, latents, levels)
        added = {"image_embeds": [given[:, None]]}
        predicted = network(noisy, levels, c, added_cond_kwargs=added).sample
        return F.mse_loss(predicted.float(), velocity)

    return loss


@torch.no_grad()
def _encode_pictures(vae, pictures):
    """Means and standard deviations of the posterior of latents, not scaled."""
    means, deviations = [], []
    for start in range(0, len(pictures), BATCH):
        with autocast(vae.device):
            batch = prepare(pictures[start : start + BATCH], vae.device)
            posterior = vae.encode(batch).latent_dist
        means.append(posterior.mean.float())
        deviations.append(posterior.std.float())
    return torch.cat(means), torch.cat(deviations)


def _spoil(rng, c, views, empty, deviations):
    """Add noise to some embeddings of pictures, and drop some conditions.

    An embedding dropped is zero, as in the guidance of diffusers' pipelines.
    """
    n = len(views)
    level = LARGEST_NOISE * rng.random(n) * (rng.random(n) < NOISY_SHARE)
    level = torch.from_numpy(level).float().to(views.device)[:, None]
    views = views + level * deviations * torch.randn_like(views)
    draw = torch.from_numpy(rng.random(n)).to(views.device)
    no_text = draw < WITHOUT_TEXT + WITHOUT_BOTH
    no_image = (draw >= WITHOUT_TEXT) & (draw < WITHOUT_TEXT + WITHOUT_BOTH + WITHOUT_IMAGE)
    c = torch.where(no_text[:, None, None], empty, c)
    return c, torch.where(no_image[:, None], 0, views)

"""The untrained networks of the demo model, and the two classifiers of its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, DPTConfig, DPTForDepthEstimation

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

    from nsdldm.demo.training.recipe import Recipe

# As in Stable Diffusion 1.
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def build_autoencoder(recipe: Recipe) -> AutoencoderKL:
    """Build the autoencoder: RGB to 4 channels at an eighth of the side.

    Parameters
    ----------
    recipe : nsdldm.demo.training.recipe.Recipe

    Returns
    -------
    AutoencoderKL
    """
    levels = len(recipe.autoencoder_channels)
    return AutoencoderKL(
        block_out_channels=recipe.autoencoder_channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=recipe.pixels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def build_clip(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPModel:
    """Build the two encoders that learn which caption belongs to which picture.

    Parameters
    ----------
    recipe : nsdldm.demo.training.recipe.Recipe
    tokenizer : CLIPTokenizer

    Returns
    -------
    CLIPModel
    """
    special = ("bos_token_id", "eos_token_id", "pad_token_id")
    text = {
        **recipe.text,
        **{name: getattr(tokenizer, name) for name in special},
        "vocab_size": len(tokenizer),
        "max_position_embeddings": recipe.tokens,
        "projection_dim": recipe.projection,
    }
    vision = {**recipe.vision, "image_size": recipe.pixels, "projection_dim": recipe.projection}
    return CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=recipe.projection)
    )


def build_unet(recipe: Recipe) -> UNet2DConditionModel:
    """Build the U-Net that predicts the velocity of noised latents.

    Parameters
    ----------
    recipe : nsdldm.demo.training.recipe.Recipe

    Returns
    -------
    UNet2DConditionModel
    """
    plain = len(recipe.unet_channels) - 1
    return UNet2DConditionModel(
        sample_size=recipe.pixels // 8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=recipe.unet_channels,
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * plain,
        cross_attention_dim=recipe.text["hidden_size"],
        norm_num_groups=16,
        attention_head_dim=4,
    )


def build_depth(recipe: Recipe) -> DPTForDepthEstimation:
    """Build the network that estimates depth: a vision transformer whose layers are fused to a map.

    Parameters
    ----------
    recipe : nsdldm.demo.training.recipe.Recipe

    Returns
    -------
    DPTForDepthEstimation
    """
    network = DPTForDepthEstimation(DPTConfig(**recipe.depth, image_size=recipe.pixels))
    # The last layer cuts off what is negative; from 0.5, no pixel starts where it cannot learn.
    torch.nn.init.constant_(network.head.head[-2].bias, 0.5)
    return network


def build_scheduler() -> DDIMScheduler:
    """Build the noise schedule and its sampler.

    Returns
    -------
    DDIMScheduler
    """
    return DDIMScheduler(
        **NOISE,
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )

"""The published networks at full size, without weights: shapes and numbers of parameters.

Whatever is on the meta device has a shape and no values. The U-Nets' configurations are those of
the checkpoints, as far as they differ from the classes' defaults; that of Kandinsky is only checked
for what its files weigh.
"""

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
    StableUnCLIPImageNormalizer,
)
from test_diffusion_full_size import UNET

from nsdldm.diffusion.denoising import Conditions, denoise, plan_steps
from nsdldm.diffusion.samplers import make_sampler
from nsdldm.generators.adapters import Adapter, attach_adapter
from nsdldm.generators.depth import fit_depth
from nsdldm.generators.unclip import Augmentation

SD_1, SD_2 = 859_520_964, 865_910_724
SECOND = UNET | {
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
XL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
    "up_block_types": (*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
KANDINSKY = {
    "sample_size": 64,
    "out_channels": 8,
    "block_out_channels": (384, 768, 1152, 1536),
    "down_block_types": ("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": (*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"),
    "layers_per_block": 3,
    "attention_head_dim": 64,
    "cross_attention_dim": 768,
    "encoder_hid_dim": 1280,
    "encoder_hid_dim_type": "image_proj",
    "addition_embed_type": "image",
    "resnet_time_scale_shift": "scale_shift",
}


def build(settings):
    with torch.device("meta"):
        return UNet2DConditionModel(**settings).requires_grad_(False)


def nothing(*shape):
    return torch.empty(shape, device="meta")


def count(unet):
    return sum(each.numel() for each in unet.parameters())


def run(unet, conditions, side, n=2):
    """Shape of the latents after two steps with guidance."""
    sampler = make_sampler("ddim", DDIMScheduler(beta_schedule="scaled_linear").config)
    steps = plan_steps(sampler, 2, 1)
    return denoise(unet, sampler, nothing(n, 4, side, side), steps, conditions, 5.0).shape


def sum_attention(widths, context):
    """Keys and values of an adapter, for layers of these widths."""
    return 2 * context * sum(widths)


# Widths of the layers of cross-attention.
WIDTHS_1 = [320] * 5 + [640] * 5 + [1280] * 6
WIDTHS_XL = [640] * 10 + [1280] * 60


def attach(unet, projection):
    """Add an adapter without values to a U-Net, and return the number of its own parameters."""
    before, context = count(unet), unet.config.cross_attention_dim
    layers = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    attention = {}
    for number, name in enumerate(layers):
        width = unet.get_submodule(name.removesuffix(".processor")).to_out[0].weight.shape[0]
        for part in "kv":
            attention[f"{2 * number + 1}.to_{part}_ip.weight"] = nothing(width, context)
    projection = {name: nothing(*shape) for name, shape in projection.items()}
    with torch.device("meta"):
        attach_adapter(unet, Adapter("adapter.safetensors", projection, attention))
    kinds = [type(unet.attn_processors[name]) for name in layers]
    assert {*kinds} == {IPAdapterAttnProcessor2_0}
    return len(layers), count(unet) - before


def plain(embedding, context):
    """Shapes of the projection of a plain adapter."""
    shapes = {"proj.weight": (4 * context, embedding), "proj.bias": (4 * context,)}
    return shapes | {"norm.weight": (context,), "norm.bias": (context,)}


def plus(embedding, context, inner, heads, queries=16):
    """Shapes of the projection of a plus adapter."""
    shapes = {"latents": (1, queries, inner), "proj_in.weight": (inner, embedding)}
    shapes |= {"proj_in.bias": (inner,), "proj_out.weight": (context, inner)}
    shapes |= dict.fromkeys(("proj_out.bias", "norm_out.weight", "norm_out.bias"), (context,))
    for layer in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            shapes |= {f"layers.{layer}.{norm}.{kind}": (inner,) for kind in ("weight", "bias")}
        shapes[f"layers.{layer}.0.to_q.weight"] = (64 * heads, inner)
        shapes[f"layers.{layer}.0.to_kv.weight"] = (2 * 64 * heads, inner)
        shapes[f"layers.{layer}.0.to_out.weight"] = (inner, 64 * heads)
        shapes[f"layers.{layer}.1.1.weight"] = (4 * inner, inner)
        shapes[f"layers.{layer}.1.3.weight"] = (inner, 4 * inner)
    return shapes


@pytest.mark.parametrize("kind", ["plain", "plus"])
def test_adapters_of_stable_diffusion_1_at_their_own_size(kind):
    unet = build(UNET)
    assert count(unet) == SD_1
    embedding = (1024,) if kind == "plain" else (257, 1280)
    projection = plain(1024, 768) if kind == "plain" else plus(1280, 768, 768, 12)
    own = 768 * 4 * 1025 + 2 * 768
    if kind == "plus":
        layer = 3 * 2 * 768 + (1 + 2 + 1 + 4 + 4) * 768**2
        own = 16 * 768 + 768 * 1281 + 768 * 769 + 2 * 768 + 4 * layer
    n_layers, n_added = attach(unet, projection)
    assert n_layers == len(WIDTHS_1)
    assert n_added == own + sum_attention(WIDTHS_1, 768)
    # 22.3 million in the plain file, which is of 45 MB in float16.
    assert kind == "plus" or n_added == 22_319_616
    (tokens,) = unet.encoder_hid_proj([nothing(2, 1, *embedding)])
    assert tokens.shape == (2, 1, 4 if kind == "plain" else 16, 768)
    conditions = Conditions(
        (nothing(1, 77, 768), nothing(2, 77, 768)),
        added={"image_embeds": (nothing(1, 1, *embedding), nothing(2, 1, *embedding))},
    )
    assert run(unet, conditions, 64) == (2, 4, 64, 64)


def test_the_adapter_of_stable_diffusion_xl_at_its_own_size():
    unet = build(XL)
    assert count(unet) == 2_567_463_684
    n_layers, n_added = attach(unet, plain(1024, 2048))
    assert n_layers == len(WIDTHS_XL)
    assert n_added == 2048 * 4 * 1025 + 2 * 2048 + sum_attention(WIDTHS_XL, 2048)
    pairs = {
        "text_embeds": (nothing(1, 1280), nothing(2, 1280)),
        "time_ids": (nothing(1, 6), nothing(1, 6)),
        "image_embeds": (nothing(1, 1, 1024), nothing(2, 1, 1024)),
    }
    context = nothing(1, 77, 2048), nothing(2, 77, 2048)
    assert run(unet, Conditions(context, added=pairs), 128) == (2, 4, 128, 128)


def test_unclip_at_its_own_size():
    taken = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 2048}
    unet = build(SECOND | taken)
    assert count(unet) == SD_2 + 1280 * 2049 + 1280 * 1281
    normalizer = StableUnCLIPImageNormalizer(1024).requires_grad_(False)
    schedule = DDIMScheduler(beta_schedule="squaredcos_cap_v2")
    classes = Augmentation(normalizer, schedule, 200, torch.ones(1, 1024)).apply(
        torch.ones(2, 1024)
    )
    assert classes.shape == (2, 2048)
    conditions = Conditions(
        (nothing(1, 77, 1024), nothing(2, 77, 1024)),
        classes=(nothing(1, 2048), classes.to("meta")),
    )
    assert run(unet, conditions, 96) == (2, 4, 96, 96)


def test_depth_at_its_own_size():
    unet = build(SECOND | {"in_channels": 5, "sample_size": 64})
    # Nine weights more for each of the first layer's filters.
    assert count(unet) == SD_2 + 320 * 9
    maps = fit_depth(torch.rand(2, 384, 384), 64)
    context = nothing(1, 77, 1024), nothing(2, 77, 1024)
    assert run(unet, Conditions(context, channels=maps.to("meta")), 64) == (2, 4, 64, 64)


def test_kandinsky_at_its_own_size():
    unet = build(KANDINSKY)
    # 2.6 GB in float16.
    assert count(unet) * 2 == pytest.approx(2.6e9, rel=0.05)
    conditions = Conditions(None, added={"image_embeds": (nothing(1, 1280), nothing(2, 1280))})
    assert run(unet, conditions, 64) == (2, 4, 64, 64)

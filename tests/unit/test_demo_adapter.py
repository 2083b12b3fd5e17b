"""The adapter through which the demo's U-Net is given the embedding of an image."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPVisionModelWithProjection

from nsdldm.demo.drawing import draw_scene
from nsdldm.demo.scenes import CATEGORIES
from nsdldm.demo.training import adapter
from nsdldm.demo.training.classifiers import load_classifier, prepare
from nsdldm.demo.training.recipe import Recipe
from nsdldm.demo.training.scenes import number_scene

CPU = torch.device("cpu")
MODEL = Path(__file__).parents[2] / "resources/demo_model"
SHIPPED = MODEL / adapter.FOLDER / adapter.FILE


def tiny_unet(seed=0):
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(16, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        norm_num_groups=4,
        attention_head_dim=2,
    ).eval()


def apply(unet, views, seed=1):
    """One step of the U-Net, given embeddings (n, size)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(views), 4, 4, 4, generator=generator)
    c = torch.randn(len(views), 3, 8, generator=generator)
    given = {"image_embeds": [views[:, None]]}
    with torch.no_grad():
        return unet(x, 500, c, added_cond_kwargs=given).sample


def split(weights):
    """Weights by published names as `_load_ip_adapter_weights` takes them."""
    state = {"image_proj": {}, "ip_adapter": {}}
    for name, weight in weights.items():
        part, _, rest = name.partition(".")
        state[part][rest] = weight.float()
    return state


def test_untrained_adapter_alone_needs_gradients_and_starts_as_promised():
    views = 5 + torch.randn(200, 6) * torch.tensor([0.1, 1, 10, 1, 1, 1])
    unet = adapter.add_adapter(tiny_unet(), views)
    plain = tiny_unet()
    old = dict(plain.named_parameters())
    learned = {name for name, p in unet.named_parameters() if p.requires_grad}
    assert learned.isdisjoint(old)
    assert all(torch.equal(p, old[name]) for name, p in unet.named_parameters() if name in old)
    # Two weights in each of the four blocks with cross-attention, and four of the projection.
    assert len(learned) == 2 * 4 + 4
    (projection,) = unet.encoder_hid_proj.image_projection_layers
    with torch.no_grad():
        tokens = projection.image_embeds(views)
    assert tokens.mean(0).abs().max() < 1e-3
    # Every dimension contributes alike, whatever its scale: standardised views would do the same.
    weight = projection.image_embeds.weight.detach() * views.std(0)
    assert weight.square().mean(0).min() > 0.3 * weight.square().mean(0).max()
    first = next(name for name in unet.attn_processors if name.endswith("attn2.processor"))
    attention = plain.get_submodule(first.removesuffix(".processor"))
    assert torch.equal(unet.attn_processors[first].to_k_ip[0].weight, attention.to_k.weight)
    assert torch.equal(unet.attn_processors[first].to_v_ip[0].weight, attention.to_v.weight)


def test_adapter_read_and_loaded_again_is_the_same_function():
    torch.manual_seed(2)
    views = torch.randn(20, 6)
    unet = adapter.add_adapter(tiny_unet(), views)
    with torch.no_grad():
        for parameter in unet.parameters():
            if parameter.requires_grad:
                # Values that float16 can hold.
                parameter.copy_(torch.randn_like(parameter).half().float())
    weights = adapter.read_adapter(unet)
    again = tiny_unet()
    again._load_ip_adapter_weights([split(weights)])
    made = apply(unet, views[:3])
    assert torch.equal(made, apply(again, views[:3]))
    assert (made - apply(unet, views[3:6])).abs().max() > 1e-3


def test_conditions_are_spoiled_as_often_as_promised():
    torch.manual_seed(3)
    n, empty = 20_000, torch.full((1, 2, 3), 7.0)
    views, deviations = torch.full((n, 5), 100.0), torch.tensor([0.0, 1, 1, 2, 2])
    c = torch.zeros(n, 2, 3)
    rng = np.random.default_rng(4)
    texts, spoiled = adapter._spoil(rng, c, views, empty, deviations)
    no_text = (texts == 7).all((1, 2)).numpy()
    no_image = (spoiled == 0).all(1).numpy()
    assert ((texts == 0).all((1, 2)).numpy() | no_text).all()
    assert (no_text & no_image).mean() == pytest.approx(adapter.WITHOUT_BOTH, abs=0.01)
    assert (no_text & ~no_image).mean() == pytest.approx(adapter.WITHOUT_TEXT, abs=0.01)
    assert (no_image & ~no_text).mean() == pytest.approx(adapter.WITHOUT_IMAGE, abs=0.01)
    noise = (spoiled - views).numpy()[~no_image]
    assert (noise[:, 0] == 0).all()
    assert (noise[:, 1] != 0).mean() == pytest.approx(adapter.NOISY_SHARE, abs=0.02)
    # The mean square of a uniform level from 0 to 1 is a third.
    variance = adapter.NOISY_SHARE * adapter.LARGEST_NOISE**2 / 3
    assert noise[:, 1].var() == pytest.approx(variance, rel=0.1)
    assert noise[:, 4].std() == pytest.approx(2 * noise[:, 1].std(), rel=0.1)


def test_shipped_file_has_the_published_names_and_fits_the_model():
    weights = load_file(SHIPPED)
    size, width = Recipe().projection, Recipe().text["hidden_size"]
    shapes = {
        "image_proj.proj.weight": (4 * width, size),
        "image_proj.proj.bias": (4 * width,),
        "image_proj.norm.weight": (width,),
        "image_proj.norm.bias": (width,),
    }
    hidden = Recipe().unet_channels[-1]
    for number in (1, 3, 5, 7):
        for kind in ("k", "v"):
            shapes[f"ip_adapter.{number}.to_{kind}_ip.weight"] = (hidden, width)
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == shapes
    assert {weight.dtype for weight in weights.values()} == {torch.float16}


@pytest.fixture(scope="module")
def pipeline():
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL, local_files_only=True)
    pipeline.load_ip_adapter(
        MODEL, adapter.FOLDER, adapter.FILE, image_encoder_folder=None, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def clip():
    return CLIPModel.from_pretrained(MODEL / "clip", dtype=torch.float32).eval()


def draw_of(category, n):
    """New scenes that show only this category."""
    numbered = (number_scene(11, "test", row) for row in range(5000))
    alone = (s for s in numbered if [t.category for t in s.objects] == [category])
    return np.stack([draw_scene(next(alone), Recipe().pixels) for _ in range(n)])


def test_embeddings_are_those_of_the_published_class(clip):
    vision = CLIPVisionModelWithProjection.from_pretrained(MODEL / "clip", dtype=torch.float32)
    pictures = draw_of("cat", 3)
    with torch.no_grad():
        expected = vision.eval()(prepare(pictures, CPU)).image_embeds
    assert torch.allclose(adapter.embed_pictures(clip, pictures), expected, atol=1e-5)


def test_pictures_show_what_the_embedding_is_of(pipeline, clip):
    n, names = 8, ("giraffe", "boat")
    judge = load_classifier(MODEL, "judge", CPU)
    empty = pipeline.encode_prompt([""], "cpu", 1, False)[0]
    shown = {}
    for name in names:
        view = adapter.embed_pictures(clip, draw_of(name, 1))
        made = pipeline(
            prompt_embeds=empty,
            negative_prompt_embeds=empty,
            ip_adapter_image_embeds=[torch.cat([torch.zeros_like(view), view])[:, None]],
            num_images_per_prompt=n,
            latents=torch.randn(n, 4, 12, 12, generator=torch.Generator().manual_seed(5)),
            guidance_scale=5.0,
            num_inference_steps=10,
            output_type="pt",
        ).images
        with torch.no_grad():
            category, _ = judge(made * 2 - 1)
        shown[name] = [CATEGORIES[i] for i in category.argmax(1)]
    for name, other in (names, names[::-1]):
        assert shown[name].count(name) >= shown[other].count(name) + n // 2


def test_an_embedding_of_zeros_leaves_pictures_to_the_text(pipeline, clip):
    """Noise is removed no worse with the adapter and no image than without an adapter."""
    plain = UNet2DConditionModel.from_pretrained(MODEL, subfolder="unet")
    scenes = np.stack([draw_scene(number_scene(11, "test", row), 96) for row in range(24)])
    pictures = torch.from_numpy(scenes).permute(0, 3, 1, 2) / 127.5 - 1
    texts = ["a photo"] * len(scenes)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        latents = pipeline.vae.encode(pictures).latent_dist.mean
        latents = latents * pipeline.vae.config.scaling_factor
        c = pipeline.encode_prompt(texts, "cpu", 1, False)[0]
        noise = torch.randn(latents.shape, generator=generator)
        level = torch.full((len(scenes),), 600)
        noisy = pipeline.scheduler.add_noise(latents, noise, level)
        velocity = pipeline.scheduler.get_velocity(latents, noise, level)
        losses = []
        for unet in (plain, pipeline.unet):
            given = {"image_embeds": [torch.zeros(len(scenes), 1, Recipe().projection)]}
            made = unet(noisy, level, c, added_cond_kwargs=given).sample
            losses.append(F.mse_loss(made, velocity).item())
        views = adapter.embed_pictures(clip, scenes)
        made = pipeline.unet(
            noisy, level, c, added_cond_kwargs={"image_embeds": [views[:, None]]}
        ).sample
    assert losses[1] <= 1.1 * losses[0]
    # The embedding itself helps.
    assert F.mse_loss(made, velocity).item() < 0.97 * losses[0]

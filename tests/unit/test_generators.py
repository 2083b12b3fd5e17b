import shutil
import textwrap

import numpy as np
import pytest
import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    KandinskyV22Pipeline,
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableUnCLIPImg2ImgPipeline,
    UNet2DConditionModel,
    VQModel,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_depth2img as depth2img
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img as img2img
from diffusers.pipelines.stable_diffusion import pipeline_stable_unclip_img2img as unclip
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
    StableUnCLIPImageNormalizer,
)
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl_img2img as xl
from diffusion_models import DEMO_MODEL, TOKENS, WIDTH, save_model
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from nsdldm.diffusion.denoising import denoise, open_feature, plan_steps
from nsdldm.diffusion.latents import encode_pictures
from nsdldm.diffusion.loading import Model, load_text
from nsdldm.diffusion.reconstruction import decode_pictures
from nsdldm.diffusion.text import embed_texts
from nsdldm.generators.adapters import open_ip_adapter, open_ip_adapter_xl
from nsdldm.generators.depth import fit_depth, open_depth
from nsdldm.generators.generator import open_stable_diffusion
from nsdldm.generators.kandinsky import open_kandinsky
from nsdldm.generators.negatives import encode_zero_image
from nsdldm.generators.unclip import open_unclip
from nsdldm.generators.variations import open_image_variations
from nsdldm.support.batching import draw_noise
from nsdldm.support.errors import InputError

# The multistep sampler of diffusers hands torch tensors to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NUMBERS = np.array([5, 400, 72_999])
N, STEPS, STRENGTH = len(NUMBERS), 5, 0.8
# Width of an image's embedding, of the second text encoder's, of image tokens and their number.
IMAGE, POOLED, PATCH, PATCHES, QUERIES = 6, 10, 5, 7, 3
XL_WIDTH, SIZE_WIDTH, RESOLUTION = 12, 4, 16
GUIDANCE = pytest.mark.parametrize("guidance", [1, 5.0])


def draw(seed, *shape, scale=9):
    """Strong, so that leaving an input out shows."""
    return scale * torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))


NOISE = torch.from_numpy(draw_noise(1, NUMBERS, (4, 8, 8)))
START = draw(0, N, 4, 8, 8, scale=1)
TEXT, EMBEDDING = draw(1, N, TOKENS, WIDTH), draw(2, N, IMAGE)


def adapter_weights(unet, plus=False):
    """Random weights under the published names."""
    generator = torch.Generator().manual_seed(3)
    width = unet.config.cross_attention_dim
    shapes = {}
    if plus:
        inner, heads = 16, 64
        shapes |= {"latents": (1, QUERIES, inner), "proj_in.weight": (inner, PATCH)}
        shapes |= {"proj_in.bias": (inner,), "proj_out.weight": (width, inner)}
        shapes |= dict.fromkeys(("proj_out.bias", "norm_out.weight", "norm_out.bias"), (width,))
        for layer in range(4):
            for norm in ("0.norm1", "0.norm2", "1.0"):
                for kind in ("weight", "bias"):
                    shapes[f"layers.{layer}.{norm}.{kind}"] = (inner,)
            shapes[f"layers.{layer}.0.to_q.weight"] = (heads, inner)
            shapes[f"layers.{layer}.0.to_kv.weight"] = (2 * heads, inner)
            shapes[f"layers.{layer}.0.to_out.weight"] = (inner, heads)
            shapes[f"layers.{layer}.1.1.weight"] = (4 * inner, inner)
            shapes[f"layers.{layer}.1.3.weight"] = (inner, 4 * inner)
    else:
        shapes |= {"proj.weight": (4 * width, IMAGE), "proj.bias": (4 * width,)}
        shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    shapes = {f"image_proj.{name}": shape for name, shape in shapes.items()}
    layers = [name for name, _ in unet.named_modules() if name.endswith(".attn2")]
    for number, name in enumerate(sort_layers(layers)):
        hidden = unet.get_submodule(name).to_k.weight.shape[0]
        for part in "kv":
            shapes[f"ip_adapter.{2 * number + 1}.to_{part}_ip.weight"] = (hidden, width)
    return {name: torch.randn(*s, generator=generator) for name, s in shapes.items()}


def sort_layers(names):
    """The published order: down, up, middle."""
    return sorted(names, key=lambda name: ["down", "up", "mid"].index(name.split("_")[0]))


def write_adapter(home, plus=False):
    unet = UNet2DConditionModel.from_pretrained(home, subfolder="unet")
    save_file(adapter_weights(unet, plus), home / "adapter.safetensors")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A tiny model of each kind."""
    home = tmp_path_factory.mktemp("generators")
    for name, plus in (("plain", False), ("plus", True)):
        save_model(home / name)
        write_adapter(home / name, plus)
    np.save(home / "plus/negative.npy", draw(4, PATCHES, PATCH))
    save_xl(home / "xl")
    save_model(home / "variations", unet={"cross_attention_dim": IMAGE}, width=IMAGE)
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(home / "variations" / part)
    save_unclip(home / "unclip")
    save_kandinsky(home / "kandinsky")
    save_model(home / "depth", unet={"in_channels": 5, "out_channels": 4})
    return home


def save_xl(folder):
    save_model(
        folder,
        unet={
            "cross_attention_dim": XL_WIDTH,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": SIZE_WIDTH,
            "projection_class_embeddings_input_dim": POOLED + 6 * SIZE_WIDTH,
            "transformer_layers_per_block": (1, 2),
        },
    )
    write_adapter(folder)


def save_unclip(folder):
    taken = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 2 * IMAGE}
    save_model(folder, prediction="v_prediction", unet=taken)
    normalizer = StableUnCLIPImageNormalizer(IMAGE)
    normalizer.mean.data = draw(5, 1, IMAGE)
    normalizer.std.data = draw(6, 1, IMAGE).abs() + 1
    normalizer.save_pretrained(folder / "image_normalizer")
    noising = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    noising.save_pretrained(folder / "image_noising_scheduler")
    save_encoder(folder / "image_encoder")


def save_encoder(folder):
    """An image encoder with 5 tokens."""
    config = CLIPVisionConfig(
        hidden_size=PATCH * 2,
        intermediate_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
        projection_dim=IMAGE,
    )
    torch.manual_seed(7)
    CLIPVisionModelWithProjection(config).save_pretrained(folder)


def save_kandinsky(folder):
    torch.manual_seed(0)
    UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=8,
        block_out_channels=(4, 8),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
        encoder_hid_dim=IMAGE,
        encoder_hid_dim_type="image_proj",
        addition_embed_type="image",
        resnet_time_scale_shift="scale_shift",
    ).save_pretrained(folder / "unet")
    VQModel(
        block_out_channels=(32, 64),
        down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
        latent_channels=4,
        vq_embed_dim=4,
        num_vq_embeddings=16,
        norm_num_groups=8,
        norm_type="spatial",
    ).save_pretrained(folder / "movq")
    DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=True,
        clip_sample_range=2.0,
        thresholding=True,
        variance_type="learned_range",
    ).save_pretrained(folder / "scheduler")
    np.save(folder / "negative.npy", draw(8, IMAGE))


def tiny(folder):
    return Model(folder, None, "cpu", "float32")


def run(generator, given, guidance=5.0, start=None):
    """Latents after the part of the chain that follows a start, or after all of it."""
    steps = plan_steps(generator.sampler, STEPS, 1 if start is None else STRENGTH)
    noisy = NOISE if start is None else generator.sampler.add_noise(start, NOISE, steps[:1])
    conditions = generator.condition(given, N)
    return denoise(generator.unet, generator.sampler, noisy, steps, conditions, guidance)


def empty_text(folder):
    tower = load_text(folder, None, torch.device("cpu"), torch.float32)
    return embed_texts(*tower, [""]).repeat(N, 1, 1)


def open_pipeline(folder, scheduler="ddim", **parts):
    """Diffusers' own pipeline for the parts that all of these models have."""
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(folder, **parts)
    if scheduler != "ddim":
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def finish(pipeline, guidance, start=True, **given):
    """Latents of a pipeline; those that begin midway need a strength."""
    given |= {"strength": STRENGTH} if start else {}
    settings = {"num_inference_steps": STEPS, "guidance_scale": guidance, "output_type": "latent"}
    return pipeline(**settings, **given).images


def assert_equal(found, expected):
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def open_adapter(home, name, **settings):
    settings = {"weights": home / name / "adapter.safetensors"} | settings
    if name == "plus":
        settings = {"negative": home / "plus/negative.npy"} | settings
    return open_ip_adapter(tiny(home / name), settings.pop("scheduler", "ddim"), **settings)


def finish_with_adapter(pipeline, folder, module, monkeypatch, guidance, given):
    """Latents of a pipeline with its own adapter; it repeats embeddings, so image by image."""
    file = {"subfolder": "", "weight_name": "adapter.safetensors", "image_encoder_folder": None}
    pipeline.load_ip_adapter(folder, **file)
    pipeline.set_ip_adapter_scale(0.7)
    pipeline.set_progress_bar_config(disable=True)
    latents = []
    for n in range(N):
        monkeypatch.setattr(module, "randn_tensor", lambda *_, n=n, **__: NOISE[[n]])
        own = {name: values[[n]] for name, values in given.items()}
        without, image = (own.pop(name)[:, None] for name in ("without", "with"))
        embeds = [image if guidance == 1 else torch.cat([without, image])]
        latents.append(finish(pipeline, guidance, **own, ip_adapter_image_embeds=embeds))
    return torch.cat(latents)


@GUIDANCE
@pytest.mark.parametrize("name", ["plain", "plus"])
@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++"])
def test_adapter_equals_the_pipeline_of_diffusers(home, monkeypatch, name, guidance, scheduler):
    image = EMBEDDING if name == "plain" else draw(9, N, PATCHES, PATCH)
    without = torch.zeros_like(image)
    if name == "plus":
        without += torch.from_numpy(np.load(home / "plus/negative.npy"))
    generator = open_adapter(home, name, scale=0.7, scheduler=scheduler)
    assert generator.shapes == {"text": (TOKENS, WIDTH), "image": tuple(image.shape[1:])}
    found = run(generator, {"text": TEXT, "image": image}, guidance, START)

    given = {"prompt_embeds": TEXT, "negative_prompt_embeds": empty_text(home / name)}
    given |= {"image": START, "with": image, "without": without}
    pipeline = open_pipeline(home / name, scheduler)
    settings = (pipeline, home / name, img2img, monkeypatch, guidance, given)
    assert_equal(found, finish_with_adapter(*settings))


@GUIDANCE
def test_xl_adapter_equals_the_pipeline_of_diffusers(home, monkeypatch, guidance):
    text, pooled = draw(10, N, TOKENS, XL_WIDTH), draw(11, N, POOLED)
    settings = {"weights": home / "xl/adapter.safetensors", "resolution": RESOLUTION}
    generator = open_ip_adapter_xl(tiny(home / "xl"), "ddim", **settings, scale=0.7)
    roles = {"text": text, "pooled": pooled, "image": EMBEDDING}
    assert generator.shapes == {role: tuple(each.shape[1:]) for role, each in roles.items()}
    found = run(generator, roles, guidance, START)

    whole = open_pipeline(home / "xl")
    parts = {"vae": whole.vae, "unet": whole.unet, "scheduler": whole.scheduler}
    parts |= dict.fromkeys(["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"])
    pipeline = StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)
    given = {"prompt_embeds": text, "negative_prompt_embeds": torch.zeros_like(text)}
    given |= {"pooled_prompt_embeds": pooled}
    given |= {"negative_pooled_prompt_embeds": torch.zeros_like(pooled)}
    given |= {"image": START, "with": EMBEDDING, "without": torch.zeros_like(EMBEDDING)}
    # Unless told otherwise, the pipeline takes the size from the latents: 16 pixels.
    settings = (pipeline, home / "xl", xl, monkeypatch, guidance, given)
    assert_equal(found, finish_with_adapter(*settings))


@GUIDANCE
def test_image_variations_equal_the_pipeline_of_diffusers(home, monkeypatch, guidance):
    generator = open_image_variations(tiny(home / "variations"), "ddim")
    assert generator.shapes == {"image": (IMAGE,)}
    found = run(generator, {"image": EMBEDDING}, guidance, START)
    monkeypatch.setattr(img2img, "randn_tensor", lambda *_, **__: NOISE)
    pipeline = open_pipeline(home / "variations", text_encoder=None, tokenizer=None)
    context = EMBEDDING[:, None]
    given = {"prompt_embeds": context, "negative_prompt_embeds": torch.zeros_like(context)}
    assert_equal(found, finish(pipeline, guidance, **given, image=START))


@GUIDANCE
@pytest.mark.parametrize("level", [0, 400])
def test_unclip_equals_the_pipeline_of_diffusers(home, monkeypatch, guidance, level):
    settings = {"noise_level": level, "noise_seed": 2}
    generator = open_unclip(tiny(home / "unclip"), "ddim", **settings)
    assert generator.shapes == {"text": (TOKENS, WIDTH), "image": (IMAGE,)}
    found = run(generator, {"text": TEXT, "image": EMBEDDING}, guidance)

    whole = open_pipeline(home / "unclip")
    encoder = home / "unclip/image_encoder"
    pipeline = StableUnCLIPImg2ImgPipeline(
        feature_extractor=None,
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(encoder),
        image_normalizer=StableUnCLIPImageNormalizer.from_pretrained(
            home / "unclip/image_normalizer"
        ),
        image_noising_scheduler=DDPMScheduler.from_pretrained(
            home / "unclip/image_noising_scheduler"
        ),
        tokenizer=whole.tokenizer,
        text_encoder=whole.text_encoder,
        unet=whole.unet,
        scheduler=whole.scheduler,
        vae=whole.vae,
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = np.random.default_rng([2, 0, 0]).standard_normal((1, IMAGE), np.float32)
    noise = torch.from_numpy(noise).repeat(N, 1)
    monkeypatch.setattr(unclip, "randn_tensor", lambda *_, **__: noise)
    expected = finish(
        *(pipeline, guidance, False),
        image_embeds=EMBEDDING,
        prompt_embeds=TEXT,
        negative_prompt_embeds=empty_text(home / "unclip"),
        noise_level=level,
        latents=NOISE,
    )
    assert_equal(found, expected)


@GUIDANCE
def test_kandinsky_equals_the_pipeline_of_diffusers(home, monkeypatch, guidance):
    folder = home / "kandinsky"
    generator = open_kandinsky(tiny(folder), "dpmsolver++", negative=folder / "negative.npy")
    assert generator.shapes == {"image": (IMAGE,)}
    found = run(generator, {"image": EMBEDDING}, guidance)
    pipeline = KandinskyV22Pipeline(
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=DPMSolverMultistepScheduler(
            beta_start=0.00085, beta_end=0.012, timestep_spacing="leading", steps_offset=1
        ),
        movq=VQModel.from_pretrained(folder / "movq"),
    )
    pipeline.set_progress_bar_config(disable=True)
    given = {"image_embeds": EMBEDDING, "latents": NOISE, "height": 16, "width": 16}
    given["negative_image_embeds"] = torch.from_numpy(np.load(folder / "negative.npy"))[None]
    given["negative_image_embeds"] = given["negative_image_embeds"].repeat(N, 1)
    assert_equal(found, finish(pipeline, guidance, False, **given))


def test_kandinsky_neither_scales_nor_quantises(home):
    folder = home / "kandinsky"
    generator = open_kandinsky(tiny(folder), "ddim", negative=folder / "negative.npy")
    movq = VQModel.from_pretrained(folder / "movq")
    pictures = draw(12, 2, 3, 16, 16, scale=0.5).clamp(-1, 1)
    with torch.no_grad():
        latents = movq.encode(pictures).latents
        as_is, quantised = (
            movq.decode(latents, force_not_quantize=f).sample for f in (True, False)
        )
    found = encode_pictures(generator.autoencoder, pictures)[0]
    np.testing.assert_allclose(found, latents, rtol=1e-5, atol=1e-5)
    levels = decode_pictures(generator.autoencoder, latents).transpose(0, 3, 1, 2)
    expected, other = ((each * 127.5 + 127.5).clamp(0, 255) for each in (as_is, quantised))
    assert np.abs(levels - expected.numpy()).max() < 0.51
    assert np.abs(levels - other.numpy()).max() > 2


@GUIDANCE
@pytest.mark.parametrize("resolution", [None, 32])
def test_depth_equals_the_pipeline_of_diffusers(home, monkeypatch, guidance, resolution):
    generator = open_depth(tiny(home / "depth"), "ddim", resolution=resolution)
    assert generator.shapes == {"text": (TOKENS, WIDTH), "depth": (None, None)}
    side = 8 if resolution is None else resolution // 2
    maps, pictures = draw(13, N, 20, 30), draw(14, N, 3, 2 * side, 2 * side, scale=0.3).abs() % 1
    noise = torch.from_numpy(draw_noise(1, NUMBERS, (4, side, side)))
    start = torch.from_numpy(encode_pictures(generator.autoencoder, 2 * pictures - 1)[0])
    steps = plan_steps(generator.sampler, STEPS, STRENGTH)
    noisy = generator.sampler.add_noise(start, noise, steps[:1])
    conditions = generator.condition({"text": TEXT, "depth": maps}, N)
    found = denoise(generator.unet, generator.sampler, noisy, steps, conditions, guidance)

    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, _: self.mean)
    monkeypatch.setattr(depth2img, "randn_tensor", lambda *_, **__: noise)
    whole = open_pipeline(home / "depth")
    parts = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    parts = {name: getattr(whole, name) for name in parts}
    pipeline = StableDiffusionDepth2ImgPipeline(
        **parts, depth_estimator=None, feature_extractor=None
    )
    pipeline.set_progress_bar_config(disable=True)
    given = {"prompt_embeds": TEXT, "negative_prompt_embeds": empty_text(home / "depth")}
    assert_equal(found, finish(pipeline, guidance, **given, image=pictures, depth_map=maps))


def open_all(home):
    """Each generator, and strong values for all of its roles."""
    image, settings = {"image": EMBEDDING}, {"weights": home / "xl/adapter.safetensors"}
    negative = {"negative": home / "kandinsky/negative.npy"}
    return {
        "plain": (open_adapter(home, "plain"), {"text": TEXT} | image),
        "plus": (open_adapter(home, "plus"), {"text": TEXT, "image": draw(9, N, PATCHES, PATCH)}),
        "xl": (
            open_ip_adapter_xl(tiny(home / "xl"), "ddim", **settings),
            {"text": draw(10, N, TOKENS, XL_WIDTH), "pooled": draw(11, N, POOLED)} | image,
        ),
        "variations": (open_image_variations(tiny(home / "variations"), "ddim"), image),
        "unclip": (open_unclip(tiny(home / "unclip"), "ddim"), {"text": TEXT} | image),
        "kandinsky": (open_kandinsky(tiny(home / "kandinsky"), "ddim", **negative), image),
        "depth": (
            open_depth(tiny(home / "depth"), "ddim"),
            {"text": TEXT, "depth": draw(13, N, 20, 30)},
        ),
    }


@pytest.fixture(scope="module")
def generators(home):
    return open_all(home)


NAMES = ("plain", "plus", "xl", "variations", "unclip", "kandinsky", "depth")


@pytest.mark.parametrize("name", NAMES)
def test_every_role_counts_and_every_image_has_its_own(generators, name):
    generator, given = generators[name]
    assert {*generator.shapes} == {*given}
    whole = run(generator, given)
    for role, values in given.items():
        other = run(generator, given | {role: values.flip(0)})
        changed = (other - whole).abs().amax((1, 2, 3))
        assert changed[[0, 2]].min() > 1e-3, role
        assert changed[1] < 1e-5, role


@pytest.mark.parametrize("name", NAMES)
def test_without_features_both_passes_are_the_same(generators, name):
    generator, given = generators[name]
    kept = {"depth": given["depth"]} if "depth" in given else {}
    alone = run(generator, kept, 1)
    assert_equal(run(generator, kept, 5.0), alone)
    assert (run(generator, given, 1) - alone).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_a_role_left_out_is_what_the_model_was_trained_with(home, generators, name):
    generator, given = generators[name]
    stands_for = {"text": empty_text(home / name)} if name in ("plain", "plus") else {}
    stands_for |= {"text": torch.zeros_like(given["text"])} if name == "xl" else {}
    for role in {"pooled", "image"} & {*given} if name != "unclip" else ():
        stands_for[role] = torch.zeros_like(given[role])
    if name in ("plus", "kandinsky"):
        negative = torch.from_numpy(np.load(home / name / "negative.npy"))
        stands_for["image"] = negative[None].expand_as(given["image"])
    if name in ("unclip", "depth"):
        stands_for["text"] = empty_text(home / name)
    for role, values in stands_for.items():
        rest = {key: value for key, value in given.items() if key != role}
        assert_equal(run(generator, rest), run(generator, rest | {role: values}))


@pytest.mark.parametrize("name", ["plain", "plus"])
def test_an_adapter_of_scale_zero_is_the_model_without_it(home, name):
    image = EMBEDDING if name == "plain" else draw(9, N, PATCHES, PATCH)
    expected = run(open_stable_diffusion(tiny(home / name), "ddim"), {"text": TEXT}, start=START)
    for scale, differs in ((0, False), (1.0, True)):
        generator = open_adapter(home, name, scale=scale)
        found = run(generator, {"text": TEXT, "image": image}, start=START)
        assert ((found - expected).abs().max() > 1e-3) == differs
    assert_equal(run(open_adapter(home, name, scale=0), {"text": TEXT}, start=START), expected)


def test_an_adapter_has_the_precision_of_the_model(home):
    model = Model(home / "plain", None, "cpu", "bfloat16")
    generator = open_ip_adapter(model, "ddim", weights=home / "plain/adapter.safetensors")
    parameters = [*generator.unet.parameters()]
    assert {each.dtype for each in parameters} == {torch.bfloat16}
    assert not any(each.requires_grad for each in parameters)
    found = run(generator, {"text": TEXT, "image": EMBEDDING}, start=START)
    expected = run(open_adapter(home, "plain"), {"text": TEXT, "image": EMBEDDING}, start=START)
    assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.99


def test_an_adapter_fits_the_model_that_ships(tmp_path):
    unet = UNet2DConditionModel.from_pretrained(DEMO_MODEL, subfolder="unet")
    save_file(adapter_weights(unet), tmp_path / "adapter.safetensors")
    generator = open_ip_adapter(
        tiny(DEMO_MODEL), "ddim", weights=tmp_path, weight_name="adapter.safetensors"
    )
    assert generator.shapes == {"text": (TOKENS, 96), "image": (IMAGE,)}
    start = torch.zeros(N, 4, 8, 8)
    found, other = (run(generator, {"image": e}, 1, start) for e in (EMBEDDING, -EMBEDDING))
    assert (found - other).abs().max() > 1e-3


def test_embeddings_are_noised_in_units_of_the_normaliser(home):
    """By the formula of the forward process, with a cosine schedule's share of signal."""
    part = home / "unclip/image_normalizer/diffusion_pytorch_model.safetensors"
    mean, std = (load_file(part)[name] for name in ("mean", "std"))
    noise = torch.from_numpy(np.random.default_rng([3, 0, 0]).standard_normal(IMAGE, np.float32))
    schedule = [np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2 for t in range(1001)]
    for level in (0, 200, 900):
        signal = schedule[level + 1] / schedule[0]
        expected = (EMBEDDING - mean) * signal**0.5 + (1 - signal) ** 0.5 * noise * std + mean
        settings = {"noise_level": level, "noise_seed": 3}
        generator = open_unclip(tiny(home / "unclip"), "ddim", **settings)
        without, classes = generator.condition({"image": EMBEDDING}, N).classes
        assert_equal(classes[:, :IMAGE], expected)
        # The last columns say the level, whatever the image.
        rates = level * 10_000 ** (-np.arange(IMAGE // 2) / (IMAGE // 2))
        code = torch.tensor(np.concatenate([np.cos(rates), np.sin(rates)]), dtype=torch.float32)
        assert_equal(classes[:, IMAGE:], code.expand(N, -1))
        assert not without.any()
        alone = generator.condition({"image": EMBEDDING[1:2]}, 1).classes[1]
        torch.testing.assert_close(alone[0], classes[1])


def test_maps_of_depth_get_the_size_and_range_of_training():
    slope = torch.linspace(3, 5, 40).expand(2, 30, 40) * torch.tensor([1.0, -7.0])[:, None, None]
    fitted = fit_depth(slope, 8)
    assert fitted.shape == (2, 1, 8, 8)
    assert fitted.amax((1, 2, 3)).tolist() == [1, 1]
    assert fitted.amin((1, 2, 3)).tolist() == [-1, -1]
    torch.testing.assert_close(fitted[0], -fitted[1])
    steps = fitted[0, 0, 0].diff()
    assert (steps > 0).all()
    torch.testing.assert_close(steps[1:-1], steps[3].expand(5), rtol=0.05, atol=0)


@pytest.mark.parametrize("layer", ["pooled", "hidden"])
def test_the_negative_is_the_encoding_of_zeros(home, tmp_path, layer):
    path = tmp_path / "negative.npy"
    encode_zero_image(encoder=home / "unclip", layer=layer, output=path)
    network = CLIPVisionModelWithProjection.from_pretrained(home / "unclip/image_encoder")
    hidden = []
    network.vision_model.encoder.layers[-1].register_forward_pre_hook(
        lambda _, given, named: hidden.append(given[0] if given else named["hidden_states"]),
        with_kwargs=True,
    )
    with torch.no_grad():
        pooled = network(torch.zeros(1, 3, 8, 8)).image_embeds[0]
    expected = pooled if layer == "pooled" else hidden[0][0]
    assert expected.shape == ((IMAGE,) if layer == "pooled" else (5, 2 * PATCH))
    found = np.load(path)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def refused(message, function, *args, **settings):
    with pytest.raises(InputError, match=message) as caught:
        function(*args, **settings)
    assert len(caught.value.findings) == 1


def changed(home, tmp_path, change):
    """The plain adapter's file with a change."""
    tensors = load_file(home / "plain/adapter.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "changed.safetensors")
    return tmp_path / "changed.safetensors"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("ip_adapter.3.to_v_ip.weight"), r"found nothing instead of \(8, 8\) as 3"),
        (lambda t: t.update({"ip_adapter.9.to_k_ip.weight": torch.zeros(8)}), "as 9.to"),
        (lambda t: t.pop("image_proj.norm.bias"), "cannot be read .*state_dict"),
        (lambda t: t.pop("image_proj.proj.weight"), "found weights of another kind"),
        (lambda t: t.update({"image_proj.proj.weight": torch.zeros(36, 6)}), "width 8.*found 9"),
        (lambda t: [t.pop(name) for name in [*t] if "ip_adapter" in name], "of another kind"),
    ],
)
def test_weights_of_an_adapter_that_do_not_fit_are_refused(home, tmp_path, change, message):
    path = changed(home, tmp_path, change)
    refused(f"changed.safetensors: .*{message}", open_adapter, home, "plain", weights=path)


def test_the_adapter_of_another_model_is_refused(home, tmp_path):
    path = home / "xl/adapter.safetensors"
    message = (
        r"xl/adapter.safetensors: expected weights for 4 layers .*\(8, 12\) instead of \(8, 8\)"
    )
    refused(message, open_adapter, home, "plain", weights=path)
    refused("found no such file", open_adapter, home, "plain", weights=tmp_path / "n.safetensors")
    whole = (home / "plain/adapter.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pickle.bin").write_bytes(whole)
    message = "`weights`: expected a .safetensors file, found .*pickle.bin"
    refused(message, open_adapter, home, "plain", weights=tmp_path / "pickle.bin")
    message = "half.safetensors: .*damaged or truncated"
    refused(message, open_adapter, home, "plain", weights=tmp_path / "half.safetensors")


def test_places_of_an_adapter_that_are_incomplete_are_refused(home):
    refused("`weights`: .*Set `weight_name`", open_adapter, home, "plain", weights=home / "plain")
    hub = {"weights": "owner/adapter", "weight_name": "a.safetensors"}
    refused("`weights`: .*set `revision`", open_adapter, home, "plain", **hub)


def test_an_adapter_from_the_hub_is_found_in_its_cache(home, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "models--owner--adapter/snapshots/abc/models"
    folder.mkdir(parents=True)
    shutil.copy(home / "plain/adapter.safetensors", folder / "a.safetensors")
    hub = {"weights": "owner/adapter", "weight_name": "a.safetensors", "subfolder": "models"}
    assert open_adapter(home, "plain", **hub, revision="abc").shapes["image"] == (IMAGE,)


def test_negatives_that_do_not_fit_are_refused(home, tmp_path):
    refused("`negative`: .*found no file", open_adapter, home, "plus", negative=None)
    refused("`negative`: .*found no file", open_kandinsky, tiny(home / "kandinsky"), "ddim")
    path = home / "kandinsky/negative.npy"
    message = r"negative.npy: expected an array of shape \(any, 5\), found one of \(6,\)"
    refused(message, open_adapter, home, "plus", negative=path)
    path = home / "plus/negative.npy"
    message = r"negative.npy: expected an array of shape \(6\), found one of \(7, 5\)"
    refused(message, open_kandinsky, tiny(home / "kandinsky"), "ddim", negative=path)
    np.save(tmp_path / "negative.npy", np.full((PATCHES, PATCH), np.nan))
    path = tmp_path / "negative.npy"
    refused("negative.npy: expected finite", open_adapter, home, "plus", negative=path)


def test_features_of_another_shape_are_refused(generators, tmp_path):
    for name, (generator, given) in generators.items():
        for role, values in given.items():
            np.save(tmp_path / "right.npy", values.numpy())
            np.save(tmp_path / "wrong.npy", values.numpy()[..., None])
            shape = (N, *generator.shapes[role])
            assert open_feature(tmp_path / "right.npy", shape).shape == values.shape, name
            with pytest.raises(InputError, match=r"wrong\.npy: expected an array"):
                open_feature(tmp_path / "wrong.npy", shape)


def test_models_of_another_kind_are_refused(home):
    plain = tiny(home / "plain")
    weights = {"weights": home / "xl/adapter.safetensors"}
    message = "unet/config.json: expected in_channels 5, .*Stable Diffusion 2 depth, found 4"
    refused(message, open_depth, plain, "ddim")
    message = "config.json: expected addition_embed_type 'text_time', .*XL, found None"
    refused(message, open_ip_adapter_xl, plain, "ddim", **weights)
    refused("plain/image_noising_scheduler: .*found nothing", open_unclip, plain, "ddim")
    refused("plain/movq: .*found nothing", open_kandinsky, plain, "ddim")
    refused("unet/config.json: ", open_image_variations, tiny(home / "unclip"), "ddim")
    refused("`scheduler`: expected one of", open_unclip, tiny(home / "unclip"), "euler")
    hub = Model("owner/model", None, "cpu", "float32")
    refused("`path` owner/model: .*set `revision`", open_kandinsky, hub, "ddim")


def test_incomplete_models_are_refused(home, tmp_path):
    folder = shutil.copytree(home / "unclip", tmp_path / "model")
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    first = tensors.pop("class_embedding.linear_1.weight")
    save_file(tensors, file, metadata={"format": "pt"})
    message = "model/unet: .*found none for class_embedding.linear_1.weight"
    refused(message, open_unclip, tiny(folder), "ddim")
    save_file(tensors | {"class_embedding.linear_1.weight": first[:, 1:].clone()}, file)
    refused("model/unet: ", open_unclip, tiny(folder), "ddim")
    file.unlink()
    refused("model/unet: .*found .*no diffusion_pytorch_model", open_unclip, tiny(folder), "ddim")
    shutil.rmtree(folder / "image_normalizer")
    refused("image_normalizer: .*found nothing", open_unclip, tiny(folder), "ddim")


def test_zeros_that_a_model_was_not_trained_with_are_refused(home, tmp_path):
    folder = shutil.copytree(home / "xl", tmp_path / "model")
    index = folder / "model_index.json"
    text = index.read_text().replace("{", '{"force_zeros_for_empty_prompt": false,', 1)
    index.write_text(text)
    weights = {"weights": folder / "adapter.safetensors"}
    message = "model_index.json: expected force_zeros_for_empty_prompt True, .* found False"
    refused(message, open_ip_adapter_xl, tiny(folder), "ddim", **weights)


@pytest.mark.parametrize("level", [-1, 1000])
def test_noise_levels_outside_the_schedule_are_refused(home, level):
    message = "`noise_level`: expected 0 to 999"
    refused(message, open_unclip, tiny(home / "unclip"), "ddim", noise_level=level)


def test_maps_of_depth_without_a_range_are_refused(generators):
    generator, given = generators["depth"]
    flat = given["depth"].clone()
    flat[1] = 0.1
    refused(r"`depth`: .*a constant one \(number 1", generator.condition, {"depth": flat}, N)
    refused("`depth`: expected a map for each image, found none", generator.condition, {}, N)


def test_the_generator_of_the_documentation_works(home, tmp_path, monkeypatch):
    page = (DEMO_MODEL.parents[1] / "docs/generators.md").read_text(encoding="utf-8")
    block = page.split("    # nsdldm/mine.py\n")[1].split("\n    beyond:")[0]
    assert len(block.strip().splitlines()) <= 30
    names = {}
    exec(textwrap.dedent(block), names)
    mean = draw(15, TOKENS, WIDTH)
    np.save(tmp_path / "mean.npy", mean)
    model = tiny(home / "plain")
    generator = names["open_against_mean"](model, "ddim", mean=tmp_path / "mean.npy")
    monkeypatch.setattr(img2img, "randn_tensor", lambda *_, **__: NOISE)
    given = {"prompt_embeds": TEXT, "negative_prompt_embeds": mean.expand(N, -1, -1)}
    expected = finish(open_pipeline(home / "plain"), 5.0, **given, image=START)
    assert_equal(run(generator, {"text": TEXT}, start=START), expected)

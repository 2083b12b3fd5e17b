"""Which models are supported: said of their configurations, before the first job and on loading."""

import inspect
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, VQModel
from diffusion_models import NETWORK, SCALE, TOKENS, save_model, write_images
from nsd_files import write_stimuli
from PIL import Image
from transformers import CLIPTextConfig

from nsdldm.diffusion.check import CONDITIONS, DEFAULTS, check_model
from nsdldm.diffusion.denoising import Denoising
from nsdldm.diffusion.loading import Model, load_autoencoder, load_denoiser, load_text
from nsdldm.diffusion.reconstruction import decode_pictures
from nsdldm.features.latents import encode_latents
from nsdldm.features.trajectories import Trajectories, denoise_latents
from nsdldm.support.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu"), torch.float32
PARTS = ["vae", "text_encoder", "unet", "tokenizer", "scheduler"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("whole") / "model")


@pytest.fixture
def model(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "model")


def change(model, part, values):
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    config = json.loads((model / part / name).read_text())
    (model / part / name).write_text(json.dumps(config | values))


def load_all(model):
    load_autoencoder(model, None, *CPU)
    load_text(model, None, *CPU)
    load_denoiser(model, None, *CPU, "ddim")


def find_one(findings, where, *words):
    (finding,) = findings
    assert finding.where.endswith(where)
    for word in words:
        assert word in str(finding)


def test_a_whole_model_has_no_findings(model):
    assert check_model(model) == []
    assert check_model(PROJECT / "resources/demo_model") == []
    weights = model / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(f"{weights}.index.json")
    assert check_model(model) == []


@pytest.mark.parametrize("part", PARTS)
def test_a_model_without_a_part(model, part):
    shutil.rmtree(model / part)
    find_one(check_model(model), f"/{part}", f"the {part} of a latent", "found nothing")


def test_a_hub_id_needs_a_revision():
    find_one(check_model("owner/a-model-that-is-no-folder"), "no-folder", "`revision`")


def test_defaults_are_those_of_the_libraries():
    kinds = {
        "AutoencoderKL": AutoencoderKL,
        "VQModel": VQModel,
        "UNet2DConditionModel": UNet2DConditionModel,
        "CLIPTextModel": CLIPTextConfig,
        "scheduler": DDIMScheduler,
    }
    for name, kind in kinds.items():
        known = inspect.signature(kind).parameters
        for key, value in DEFAULTS[name].items():
            assert key == "use_flow_sigmas" or known[key].default == value, key
    assert {*CONDITIONS} <= inspect.signature(UNet2DConditionModel).parameters.keys()


# Part, settings, and what the sentence says. Of the real checkpoints, what sets them apart.
OTHERS = {
    "Stable Diffusion XL": (
        "unet",
        {"addition_embed_type": "text_time", "cross_attention_dim": 2048},
        "one text encoder only, found addition_embed_type 'text_time'",
    ),
    "classes": ("unet", {"num_class_embeds": 1000}, "num_class_embeds 1000"),
    "unCLIP": ("unet", {"class_embed_type": "projection"}, "class_embed_type 'projection'"),
    "latent consistency": ("unet", {"time_cond_proj_dim": 256}, "time_cond_proj_dim 256"),
    "Kandinsky": ("unet", {"encoder_hid_dim_type": "image_proj"}, "'image_proj'"),
    "inpainting": ("unet", {"in_channels": 9}, "found 9 and 4, as for inpainting"),
    "depth": ("unet", {"in_channels": 5}, "found 5 and 4, as for depth"),
    "learned variance": ("unet", {"out_channels": 8}, "found 4 and 8"),
    "another U-Net": ("unet", {"_class_name": "UNet2DModel"}, "found 'UNet2DModel'"),
    "another text": ("unet", {"cross_attention_dim": 1024}, "cross_attention_dim 8, the hidden"),
    "two widths": ("unet", {"cross_attention_dim": [8, 16]}, "found [8, 16]"),
    "T5": ("text_encoder", {"model_type": "t5"}, "text encoder of CLIP"),
    "16 channels": (
        "unet",
        {"in_channels": 16, "out_channels": 16},
        "4 in_channels, as the latents of the vae have, found 16",
    ),
    "transparency": ("vae", {"in_channels": 4}, "pictures of 3 channels"),
    "tiny": ("vae", {"_class_name": "AutoencoderTiny"}, "AutoencoderKL or VQModel"),
    "a mean each": ("vae", {"latents_mean": [0, 0, 0, 0]}, "a latents_mean for each"),
    "a text as shift": ("vae", {"shift_factor": "0.1"}, "a number or null as shift_factor"),
    "VQ alone": (
        "vae",
        {"_class_name": "VQModel", "use_quant_conv": False, "latent_channels": 4},
        "found use_quant_conv false",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_kind_is_one_sentence_before_and_on_loading(model, name):
    part, values, words = OTHERS[name]
    change(model, part, values)
    find_one(check_model(model), f"/{part}/config.json", words)
    (finding,) = check_model(model)
    with pytest.raises(InputError, match=re.escape(str(finding))) as caught:
        load_all(model)
    assert caught.value.findings == (finding,)


def test_a_scheduler_that_cannot_be_used_is_said_before_and_on_loading(model):
    change(model, "scheduler", {"timestep_spacing": "karras"})
    (finding,) = check_model(model)
    assert finding.where.endswith("/scheduler/scheduler_config.json")
    assert "timestep_spacing" in finding.expected
    with pytest.raises(InputError, match=re.escape(str(finding))):
        load_all(model)


def test_a_second_text_tower_and_a_transformer(model):
    shutil.copytree(model / "text_encoder", model / "text_encoder_2")
    find_one(check_model(model), "/text_encoder_2", "expected one text encoder")
    (model / "unet").rename(model / "transformer")
    find_one(check_model(model), "/model", "found a transformer, as Stable Diffusion 3")


def test_a_configuration_that_is_no_mapping(model):
    for text, words in (("[1]", "no mapping"), ("{'a'", "damaged JSON"), ("[" * 10**5, "nested")):
        (model / "unet/config.json").write_text(text)
        find_one(check_model(model), "/unet", words)


def test_steps_beyond_training_are_said_before_the_first_job(model):
    chains = [("denoising", "ddim", 50), ("sampling", "plms", 1001)]
    find_one(check_model(model, None, chains), "sampling", "1 to 1000 steps", "1001")


def run_command(finding):
    """What the message says, with the interpreter that runs this."""
    code = re.search(r'\.venv/bin/python -c "([^"]+)"', finding.remedy)[1]
    exec(code, {})
    return Path(re.search(r"set `path` to (\S+)$", finding.remedy)[1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["fp16", "bin", "one bin"])
def test_weights_in_another_form_come_with_a_command_that_works(model, form):
    parts = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}
    before = load_denoiser(model, None, *CPU, "ddim")[0].state_dict()
    for part, kind in parts.items():
        if form == "one bin" and part == "unet":
            continue
        network = kind.from_pretrained(model, subfolder=part)
        (model / part / "diffusion_pytorch_model.safetensors").unlink()
        options = {"variant": "fp16"} if form == "fp16" else {"safe_serialization": False}
        network.save_pretrained(model / part, **options)
    (finding,) = check_model(model)
    name = "diffusion_pytorch_model" + (".fp16.safetensors" if form == "fp16" else ".bin")
    assert f"vae/{name}" in finding.found
    assert ("if you trust its source" in finding.remedy) == (form != "fp16")
    with pytest.raises(InputError, match="save_pretrained"):
        load_autoencoder(model, None, *CPU)
    converted = run_command(finding)
    assert check_model(converted) == []
    after = load_denoiser(converted, None, *CPU, "ddim")[0].state_dict()
    for key, values in before.items():
        torch.testing.assert_close(after[key], values, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", ["v1-5.ckpt", "v1-5.safetensors"])
def test_a_single_file_comes_with_the_command(tmp_path, name, inside):
    file = tmp_path / "sd" / name
    file.parent.mkdir()
    file.write_text("x")
    (finding,) = check_model(file.parent if inside else file)
    assert finding.where == f"`path` {file}"
    command = f"Model.from_single_file('{file}').save_pretrained('{file.parent}/v1-5-diffusers')"
    assert command in finding.remedy
    assert ("if you trust its source" in finding.remedy) == name.endswith("ckpt")
    for load in (load_autoencoder, load_text):
        with pytest.raises(InputError, match="from_single_file"):
            load(file.parent if inside else file, None, *CPU)


# What is supported, end to end: a text encoder of another width, latents of 16 channels that are
# shifted and come without layers around them, as Stable Diffusion 3's, and quantised ones.
NO_LAYERS = {"use_quant_conv": False, "use_post_quant_conv": False}
SUPPORTED = {
    "wide text, as Stable Diffusion 2": {
        "prediction": "v_prediction",
        "width": 32,
        "unet": {"use_linear_projection": True, "attention_head_dim": (2, 4)},
    },
    "shift": {"vae": {"shift_factor": 0.7}},
    "16 channels": {"vae": {"latent_channels": 16, "shift_factor": -0.0609} | NO_LAYERS},
    "quantised": {"quantised": True},
    "quantised, other width": {
        "quantised": True,
        "vae": {"vq_embed_dim": 4},
        "unet": {"in_channels": 4, "out_channels": 4},
    },
    "trailing to noise alone": {
        "prediction": "v_prediction",
        "scheduler": {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    },
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("kind", SUPPORTED)
def test_supported_kinds_run_from_picture_to_picture(tmp_path, kind):
    model = save_model(tmp_path / "model", **SUPPORTED[kind])
    assert check_model(model) == []
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (425, 425, 3), "u1")
    write_stimuli(tmp_path / "stimuli.hdf5", {1: picture}, 3)
    images = write_images(tmp_path / "images.tsv", [1])
    z, logvar, c, zc = (tmp_path / f"{name}.npy" for name in ("z", "logvar", "c", "zc"))
    files = {"images": images, "model": Model(model, batch_size=2, **NETWORK)}
    encode_latents(stimuli=tmp_path / "stimuli.hdf5", resolution=16, z=z, z_logvar=logvar, **files)
    width = SUPPORTED[kind].get("width", 8)
    np.save(c, rng.standard_normal((1, TOKENS, width), np.float32))
    chain = {"denoising": Denoising(5, 0.8, 2.0, seed=0), "trajectories": Trajectories([1], "x_t")}
    denoise_latents(z=z, c=c, outputs={"zc": zc}, **chain, **files)
    assert np.isfinite(np.load(zc)).all()
    # Forth and back by the autoencoder itself, and what the U-Net sees by hand.
    network = load_autoencoder(model, None, *CPU)
    quantised = SUPPORTED[kind].get("quantised")
    own = (VQModel if quantised else AutoencoderKL).from_pretrained(model, subfolder="vae")
    small = Image.fromarray(picture).resize((16, 16), Image.Resampling.LANCZOS)
    tensor = torch.tensor(np.asarray(small, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1)
    with torch.no_grad():
        encoded = own.encode(tensor)
        latent = encoded.latents if quantised else encoded.latent_dist.mean
        expected = own.decode(latent).sample[0]
    shift = SUPPORTED[kind].get("vae", {}).get("shift_factor", 0)
    np.testing.assert_allclose(np.load(z)[0], (latent[0] - shift) * SCALE, atol=1e-5)
    levels = np.rint(255 * (expected / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy())
    assert np.abs(decode_pictures(network, torch.from_numpy(np.load(z)))[0] - levels).max() <= 1

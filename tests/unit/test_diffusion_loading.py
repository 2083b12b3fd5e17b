import json
import shutil
import socket

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel, VQModel
from diffusion_models import DEMO_MODEL, N_WORDS, TOKENS, save_model
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from nsdldm.diffusion import loading
from nsdldm.diffusion.denoising import plan_steps
from nsdldm.diffusion.loading import count_tokens, load_autoencoder, load_denoiser, load_text
from nsdldm.support.devices import choose_device, choose_dtype
from nsdldm.support.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"), "v_prediction")


@pytest.fixture
def copied(model, tmp_path):
    return shutil.copytree(model, tmp_path / "copied")


def load_part(part, path, revision=None):
    if part == "vae":
        return load_autoencoder(path, revision, CPU, torch.float32)
    if part in ("tokenizer", "text_encoder"):
        return load_text(path, revision, CPU, torch.float32)
    return load_denoiser(path, revision, CPU, torch.float32, "ddim")


def test_device_is_chosen_by_what_there_is(monkeypatch):
    for available, device in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=available: found)
        assert choose_device("auto").type == device
        assert choose_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"`device`: expected a GPU.*Set `device` to auto"):
        choose_device("cuda")
    with pytest.raises(InputError, match=r"one of auto, cpu, cuda, found 'gpu'"):
        choose_device("gpu")


def test_dtype_follows_the_device():
    assert choose_dtype("auto", CPU) is torch.float32
    assert choose_dtype("auto", torch.device("cuda")) is torch.float16
    assert choose_dtype("bfloat16", CPU) is torch.bfloat16
    with pytest.raises(InputError, match=r"`dtype`: expected one of auto.*'int8'"):
        choose_dtype("int8", CPU)


@pytest.mark.parametrize("upcast", [True, False])
def test_autoencoder_keeps_float32_where_its_configuration_asks(tmp_path, upcast):
    folder = save_model(tmp_path / "model", force_upcast=upcast)
    half = torch.float32 if upcast else torch.float16
    assert load_autoencoder(folder, None, CPU, torch.float16).dtype == half
    assert load_autoencoder(folder, None, CPU, torch.bfloat16).dtype == torch.bfloat16
    assert load_autoencoder(folder, None, CPU, torch.float32).dtype == torch.float32


def test_autoencoder_whose_configuration_is_silent_keeps_float32(copied):
    config = json.loads((copied / "vae/config.json").read_text())
    del config["force_upcast"]
    (copied / "vae/config.json").write_text(json.dumps(config))
    assert load_autoencoder(copied, None, CPU, torch.float16).dtype == torch.float32


def test_networks_are_ready_for_inference(model):
    tokenizer, encoder = load_text(model, None, CPU, torch.bfloat16)
    unet, sampler = load_denoiser(model, None, CPU, torch.bfloat16, "ddim")
    assert len(tokenizer) == N_WORDS > 600
    assert encoder.dtype == unet.dtype == torch.bfloat16
    for network in (encoder, unet, load_part("vae", model)):
        assert not network.training
        assert not any(weight.requires_grad for weight in network.parameters())
    assert sampler.config.prediction_type == "v_prediction"


def test_a_quantising_autoencoder_is_always_float32(tmp_path):
    folder = save_model(tmp_path / "model", force_upcast=False, quantised=True)
    for dtype in (torch.float16, torch.bfloat16):
        autoencoder = load_autoencoder(folder, None, CPU, dtype)
        assert isinstance(autoencoder, VQModel)
        assert autoencoder.dtype == torch.float32
        assert not autoencoder.training


def test_plms_cannot_begin_with_noise_alone(tmp_path):
    zero = {"rescale_betas_zero_snr": True}
    folder = save_model(tmp_path / "model", "v_prediction", scheduler=zero)
    for name in ("ddim", "dpmsolver++"):
        load_denoiser(folder, None, CPU, torch.float32, name)
    with pytest.raises(InputError, match=r"scheduler_config.json: .*rescale_betas_zero_snr false"):
        load_denoiser(folder, None, CPU, torch.float32, "plms")


def test_plms_cannot_begin_midway(model):
    _, sampler = load_denoiser(model, None, CPU, torch.float32, "plms")
    # The second step is taken twice.
    assert plan_steps(sampler, 4, 1.0).tolist() == [751, 501, 501, 251, 1]
    with pytest.raises(InputError, match=r"`scheduler`: .*a part of the chain, found plms"):
        plan_steps(sampler, 4, 0.5)


def test_tokens_are_those_of_the_text_tower(model, copied):
    assert count_tokens(model, None) == TOKENS
    shutil.rmtree(copied / "text_encoder")
    with pytest.raises(InputError, match=r"text_encoder: .*found nothing"):
        count_tokens(copied, None)


@pytest.mark.parametrize("name", ["ddim", "dpmsolver++", "plms"])
def test_samplers_take_over_the_noise_schedule_and_correct_old_settings(tmp_path, name):
    old = {"clip_sample": True, "steps_offset": 0}
    folder = save_model(tmp_path / "model", "v_prediction", scheduler=old)
    _, sampler = load_denoiser(folder, None, CPU, torch.float32, name)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    torch.testing.assert_close(sampler.alphas_cumprod, (1 - betas).cumprod(0))
    assert sampler.config.prediction_type == "v_prediction"
    assert sampler.config.steps_offset == 1
    assert name != "ddim" or sampler.config.clip_sample is False


def test_unknown_sampler_is_refused(model):
    with pytest.raises(InputError, match=r"`scheduler`: expected one of ddim, dpmsolver"):
        load_denoiser(model, None, CPU, torch.float32, "euler")


@pytest.mark.parametrize("part", ["vae", "tokenizer", "text_encoder", "unet", "scheduler"])
def test_missing_part_is_named(copied, part):
    shutil.rmtree(copied / part)
    with pytest.raises(InputError, match=rf"/{part}: expected the {part} of .*found nothing"):
        load_part(part, copied)


@pytest.mark.parametrize("part", ["vae", "text_encoder", "unet"])
@pytest.mark.parametrize("damage", ["cut", "gone", "incomplete"])
def test_damaged_weights_are_named(copied, part, damage):
    weights, name = next((copied / part).glob("*.safetensors")), ""
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "gone":
        weights.unlink()
    else:
        tensors = load_file(weights)
        name, _ = tensors.popitem()
        save_file(tensors, weights, metadata={"format": "pt"})
    problem = {
        "cut": r"cannot be read.*intact copy",
        "gone": r"a folder without \S+\.safetensors\. Set `path`",
        "incomplete": f"none for {name}.*weights and config.json from the same model",
    }[damage]
    with pytest.raises(InputError, match=rf"/{part}: expected.*{problem}"):
        load_part(part, copied)


def test_tokenizer_without_its_files_is_noticed(copied):
    for file in (copied / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(InputError, match=rf"/tokenizer: expected {N_WORDS} words.*found 2 words"):
        load_text(copied, None, CPU, torch.float32)


def test_text_tower_of_fewer_tokens_is_noticed(copied):
    config = copied / "tokenizer/tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_max_length": 77}))
    with pytest.raises(InputError, match=r"of 24 tokens, .*of 77 tokens"):
        load_text(copied, None, CPU, torch.float32)


@pytest.mark.parametrize("part", ["vae", "tokenizer", "unet"])
def test_hub_model_needs_a_revision(part):
    with pytest.raises(InputError, match=r"`path` nobody/nothing: .*hub id with a revision"):
        load_part(part, "nobody/nothing")


def test_hub_model_is_pinned_and_its_absence_explained(monkeypatch):
    asked = {}

    def fetch(path, **options):
        asked.update(options, path=path)
        raise OSError("no connection\nand more")

    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", fetch)
    for kind in (DDIMScheduler, UNet2DConditionModel):
        monkeypatch.setattr(kind, "load_config", lambda *_, **__: {})
    monkeypatch.setattr(loading, "check_connection", lambda *_: [])
    with pytest.raises(
        InputError, match=r"nobody/nothing/unet: .*\(no connection\).*connection\.$"
    ):
        load_part("unet", "nobody/nothing", "0123abc")
    assert asked["path"] == "nobody/nothing"
    assert asked["revision"] == "0123abc"
    assert asked["use_safetensors"] is True
    assert asked["local_files_only"] is False


def test_files_in_the_form_of_stable_diffusion_1_load_the_same(copied):
    """Words and merges as two files, tensors of the text encoder under one more name."""
    saved = json.loads((DEMO_MODEL / "tokenizer/tokenizer.json").read_text())["model"]
    (copied / "tokenizer/tokenizer.json").unlink()
    (copied / "tokenizer/vocab.json").write_text(json.dumps(saved["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in saved["merges"]]
    (copied / "tokenizer/merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    weights = copied / "text_encoder/model.safetensors"
    tensors = load_file(weights)
    renamed = {f"text_model.{name}": tensor for name, tensor in tensors.items()}
    renamed["text_model.embeddings.position_ids"] = torch.arange(24)[None]
    save_file(renamed, weights, metadata={"format": "pt"})
    tokenizer, encoder = load_text(copied, None, CPU, torch.float32)
    assert encoder.state_dict().keys() == tensors.keys()
    for name, tensor in encoder.state_dict().items():
        torch.testing.assert_close(tensor, tensors[name])
    texts = ["a red cat on the left", "Two  DOGS, and an unheard-of bird!", ""]
    shipped = CLIPTokenizer.from_pretrained(DEMO_MODEL / "tokenizer")
    assert tokenizer(texts)["input_ids"] == shipped(texts)["input_ids"]


def test_a_model_that_is_not_on_this_host_is_named_with_the_host(tmp_path):
    path = tmp_path / "elsewhere"
    with pytest.raises(InputError) as found:
        load_autoencoder(path, None, CPU, torch.float32)
    assert str(path) in str(found.value)
    assert f"no folder of that name on {socket.gethostname()}" in str(found.value)

"""Stable Diffusion 1.4 at full size with random weights; ``pytest -m slow`` runs it.

A folder with such a model, for benchmarks on a machine that cannot download the real one:

    python tests/unit/test_diffusion_full_size.py FOLDER
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

ROOT = Path(__file__).parents[2]
MEMORY_GB, PEAK_GB = 12, 10

# What the checkpoint's own configuration files say, where it is not the classes' default.
UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
AUTOENCODER = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
}
TEXT = {
    "vocab_size": 49_408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
    "bos_token_id": 49_406,
    "eos_token_id": 49_407,
    "pad_token_id": 1,
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
PARTS = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
PARTS |= {"tokenizer": "CLIPTokenizer", "scheduler": "PNDMScheduler"}


@torch.no_grad()
def fill_randomly(network):
    """Weights in float16 that keep a signal's size, in a network without any."""
    network = network.half().to_empty(device="cpu")
    for name, values in network.named_parameters():
        if values.ndim > 1:
            values.normal_(0, values[0].numel() ** -0.5)
        else:
            values.fill_(float(name.endswith("weight")))
    return network


def make_tokenizer():
    """As many words as CLIP has: bytes, bytes that end a word, fillers and two marks."""
    alphabet = sorted(ByteLevel.alphabet())
    marks = ["<|startoftext|>", "<|endoftext|>"]
    words = [*alphabet, *(f"{byte}</w>" for byte in alphabet)]
    words += [f"filler{n}</w>" for n in range(TEXT["vocab_size"] - len(words) - len(marks))]
    vocabulary = {word: number for number, word in enumerate(words + marks)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def save_full_size_model(folder):
    """Save Stable Diffusion 1.4 with random weights; returns the parameters of each network."""
    torch.manual_seed(0)
    networks = {
        "unet": lambda: UNet2DConditionModel(**UNET),
        "vae": lambda: AutoencoderKL(**AUTOENCODER),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**TEXT)),
    }
    sizes = {}
    for name, build in networks.items():
        with init_empty_weights():
            network = build()
        sizes[name] = network.num_parameters()
        fill_randomly(network).save_pretrained(folder / name)
        del network
    make_tokenizer().save_pretrained(folder / "tokenizer")
    PNDMScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    index = {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None]}
    index |= {"feature_extractor": [None, None], "requires_safety_checker": False}
    for name, kind in PARTS.items():
        library = "transformers" if kind.startswith("CLIP") else "diffusers"
        index[name] = [library, kind]
    (folder / "model_index.json").write_text(json.dumps(index))
    return sizes


DECODE_AND_RECONSTRUCT = """
import sys
from pathlib import Path
from nsdldm.decoding.decoders import decode_features
from nsdldm.diffusion.loading import Model
from nsdldm.diffusion.pictures import gather_reconstructions
from nsdldm.diffusion.reconstruction import Reconstruction, reconstruct_chunk

home = Path(sys.argv[1])
names = ("z", "c")
decode_features(
    betas={"early": home / "betas.npy"}, trials=home / "trials.tsv", images=home / "images.tsv",
    features={name: home / f"true_{name}.npy" for name in names}, z_logvar=None,
    regions=dict.fromkeys(names, "early"), protocol="corrected", alphas=[1, 100], n_folds=2,
    memory_gb=4, seed=0, device="cpu", decoded={name: home / f"{name}.npy" for name in names},
    dimensions={name: home / f"{name}.tsv" for name in names},
    by_image={name: home / f"{name}_images.tsv" for name in names},
)
reconstruct_chunk(
    method="zc", images=home / "images.tsv", z=home / "z.npy", c=home / "c.npy",
    model=Model(home / "model", None, "cpu", "auto", 8), latent_resolution=320,
    settings=Reconstruction(samples=1, num_inference_steps=3), chunk=1,
    n_chunks=3, output=home / "chunk.h5",
)
"""


def write_study(home):
    """Responses to 40 images, three of them test, and features of the published sizes."""
    rng = np.random.default_rng(0)
    images = pd.DataFrame({"nsd_id": np.arange(40) * 7, "split": ["train"] * 37 + ["test"] * 3})
    trials = images.loc[np.repeat(np.arange(40), 2)].assign(session=np.tile([1, 2], 40))
    images.to_csv(home / "images.tsv", sep="\t", index=False)
    trials.to_csv(home / "trials.tsv", sep="\t", index=False)
    responses = rng.standard_normal((80, 30), np.float32)
    np.save(home / "betas.npy", responses)
    for name, shape in (("z", (4, 40, 40)), ("c", (77, 768))):
        values = responses[::2] @ rng.standard_normal((30, np.prod(shape)), np.float32) / 5
        np.save(home / f"true_{name}.npy", values.reshape(40, *shape))


@pytest.fixture
def asked_for(request):
    if request.config.option.markexpr != "slow":
        pytest.skip("takes minutes; pytest -m slow runs it")
    available = psutil.virtual_memory().available / 1e9
    if available < MEMORY_GB:
        pytest.skip(f"needs {MEMORY_GB} GB of memory, {available:.1f} are available")


@pytest.mark.slow
def test_stable_diffusion_goes_through_at_its_own_size(asked_for, tmp_path, record_property):
    sizes = save_full_size_model(tmp_path / "model")
    assert sizes == {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}
    write_study(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DECODE_AND_RECONSTRUCT, str(tmp_path)]
    child = subprocess.Popen(command, env=environment)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0

    for name, shape in (("z", (3, 4, 40, 40)), ("c", (3, 77, 768))):
        decoded = np.load(tmp_path / f"{name}.npy")
        assert decoded.shape == shape
        assert decoded.dtype == np.float32
        assert np.isfinite(decoded).all()
    with h5py.File(tmp_path / "chunk.h5") as file:
        pictures = file["images"][:]
        assert file["nsd_id"][:].tolist() == [38 * 7]
        assert file.attrs["dtype"] == "float32"
    assert pictures.shape == (1, 1, 512, 512, 3)
    assert pictures.dtype == np.uint8
    # Neither blank nor cut off at black and white.
    assert pictures.std() > 2
    assert np.isin(pictures, (0, 255)).mean() < 0.5
    peak = usage.ru_maxrss / 1e6
    record_property("peak_gb", peak)
    print(f"\npeak {peak:.1f} GB, {usage.ru_utime + usage.ru_stime:.0f} CPU seconds")
    assert peak < PEAK_GB


if __name__ == "__main__":
    save_full_size_model(Path(sys.argv[1]))

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    VQModel,
)
from diffusion_files import (
    LENGTH,
    STAGE3,
    SUBJECTS,
    TEST,
    WRITTEN,
    save,
    training_settings,
    write_all,
)
from diffusion_models import SCALE
from nesting import nest

from nsdldm.diffusion.loading import Model
from nsdldm.diffusion.pictures import ATTRIBUTES, gather_reconstructions, open_reconstructions
from nsdldm.support.batching import draw_noise
from nsdldm.support.errors import InputError
from nsdldm.trained import sampling
from nsdldm.trained.checkpoints import load_weights, save_weights
from nsdldm.trained.diffusion import fine_tune_diffusion, load_diffusion
from nsdldm.trained.loop import Files
from nsdldm.trained.sampling import Sampling, describe_fit, reconstruct_trained

SIDE, SAMPLES = 16, 2


def train(home, **changes):
    fine_tune_diffusion(**training_settings(home, home, **changes))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("sampling")
    write_all(home, prediction="v_prediction")
    train(home)
    state, about = load_weights(home / "weights.safetensors")
    for name in state:
        # So that responses show in the pictures of random networks.
        if name.endswith(("mapper.context.weight", "to_v.weight")):
            state[name] *= 20
    save_weights(home / "weights.safetensors", state, about)
    return home


def settings_for(home, folder, subject="subj01", **changes):
    names = {"images": "images.tsv", "responses": "test.npy", "rows": "test.tsv"}
    settings = {
        "method": "fcae",
        "subject": subject,
        **{key: home / subject / name for key, name in names.items()},
        "weights": home / "weights.safetensors",
        "model": home / "model",
        "revision": None,
        "resolution": SIDE,
        "num_inference_steps": 4,
        "scheduler": "ddim",
        "samples": SAMPLES,
        "seed": 1,
        "device": "cpu",
        "dtype": "float32",
        "batch_size": 4,
        "chunk": 0,
        "n_chunks": 1,
        "output": folder / "out.h5",
    } | changes
    return nest(settings, model=Model, sampling=Sampling)


def make(home, folder, **changes):
    settings = settings_for(home, folder, **changes)
    reconstruct_trained(**settings)
    with open_reconstructions(settings["output"]) as made:
        return made.images[:]


def assert_same(found, expected, levels=1, share=0.999):
    assert found.shape == expected.shape
    assert (np.abs(found.astype(int) - expected) <= levels).mean() >= share


@pytest.fixture(scope="module")
def whole(home, tmp_path_factory):
    return make(home, tmp_path_factory.mktemp("whole"))


@torch.no_grad()
def reconstruct_one(home, index, sample, autoencoder, channels=4):
    """A picture from diffusers' parts, with the mapped responses and noise given."""
    state, _ = load_weights(home / "weights.safetensors")
    network, _, _ = load_diffusion(home / "weights.safetensors", home / "model", None, *CPU, "ddim")
    values = np.load(home / "subj01/test.npy")[[index]]
    wrapped = torch.from_numpy(np.resize(values, (1, LENGTH)))
    context, shift = network.condition(wrapped)
    unet = UNet2DConditionModel.from_pretrained(home / "model", subfolder="unet")
    parts = {
        name.removeprefix("unet_parts."): tensor
        for name, tensor in state.items()
        if name.startswith("unet_parts.")
    }
    assert not unet.load_state_dict(parts, strict=False).unexpected_keys
    unet.time_embedding.register_forward_hook(lambda *given: given[2] + shift)
    scheduler = DDIMScheduler.from_pretrained(home / "model", subfolder="scheduler")
    scheduler.set_timesteps(4)
    latents = torch.from_numpy(draw_noise(1, TEST[[index]], (channels, 8, 8), sample))
    for timestep in scheduler.timesteps:
        predicted = unet(latents, timestep, context).sample
        latents = scheduler.step(predicted, timestep, latents).prev_sample
    decoded = autoencoder.decode(latents / SCALE).sample[0]
    return np.rint(255 * (decoded / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy())


CPU = (torch.device("cpu"), torch.float32)


def test_pictures_are_those_of_the_parts_of_diffusers(home, whole):
    autoencoder = StableDiffusionPipeline.from_pretrained(home / "model").vae
    for index, sample in [(0, 0), (3, 1)]:
        expected = reconstruct_one(home, index, sample, autoencoder)
        assert_same(whole[index, sample], expected)
    # Responses, noise and weights matter, or the tests below could not fail.
    pictures = whole.astype(float)
    assert np.abs(pictures[:, 0] - pictures[:, 1]).mean((1, 2, 3)).min() > 3


def test_responses_matter(home, tmp_path, whole):
    np.save(tmp_path / "test.npy", np.load(home / "subj01/test.npy")[::-1])
    other = make(home, tmp_path, responses=tmp_path / "test.npy")
    # The third of five keeps its responses.
    assert_same(other[2], whole[2])
    assert (np.abs(np.delete(other.astype(int) - whole, 2, axis=0)) > 1).mean() > 0.2


def test_the_file_says_how_pictures_were_made(home, tmp_path):
    make(home, tmp_path, subject="subj02")
    chunks, images = [tmp_path / "out.h5"], home / "subj02/images.tsv"
    gather_reconstructions(chunks=chunks, images=images, output=tmp_path / "all.h5")
    with open_reconstructions(tmp_path / "all.h5") as made:
        np.testing.assert_array_equal(made.nsd_ids, TEST)
        assert made.images.shape == (len(TEST), SAMPLES, SIDE, SIDE, 3)
        found = {name: made.attrs[name] for name in (*ATTRIBUTES, "trained_on", "responses")}
    assert found == {
        "method": "fcae",
        "model": str(home / "model"),
        "revision": "",
        "seed": 1,
        "strength": 1,
        "guidance_scale": 1,
        "num_inference_steps": 4,
        "scheduler": "ddim",
        "resolution": SIDE,
        "trained_on": "subj01 subj02",
        "responses": "30 voxels, repeated to 32",
    }
    assert describe_fit(32, 32, True) == "32 voxels, in full"
    expected = "40 voxels of a subject unknown in training, cut to 32"
    assert describe_fit(40, 32, False) == expected


@pytest.mark.parametrize("n_chunks, batch_size", [(1, 1), (1, 7), (3, 2)])
def test_pictures_do_not_depend_on_chunks_or_batches(home, tmp_path, whole, n_chunks, batch_size):
    parts = [
        make(home, tmp_path, chunk=chunk, n_chunks=n_chunks, batch_size=batch_size)
        for chunk in range(n_chunks)
    ]
    assert_same(np.concatenate(parts), whole)


def test_plms_equals_the_pipeline_of_diffusers(tmp_path):
    """For noise; of velocities, diffusers mixes those of different timesteps."""
    home = tmp_path / "home"
    home.mkdir()
    write_all(home)
    train(
        home,
        settings=STAGE3 | {"time_condition": False},
        files=Files(*(tmp_path / name for name in WRITTEN)),
    )
    found = make(home, tmp_path, weights=tmp_path / "weights.safetensors", scheduler="plms")
    network, _, _ = load_diffusion(
        tmp_path / "weights.safetensors", home / "model", None, *CPU, "ddim"
    )
    pipeline = StableDiffusionPipeline.from_pretrained(home / "model", unet=network.unet)
    pipeline.scheduler = PNDMScheduler.from_config(pipeline.scheduler.config, skip_prk_steps=True)
    pipeline.set_progress_bar_config(disable=True)
    values = np.resize(np.load(home / "subj01/test.npy")[[2]], (1, LENGTH))
    picture = pipeline(
        prompt_embeds=network.condition(torch.from_numpy(values))[0],
        latents=torch.from_numpy(draw_noise(1, TEST[[2]], (4, 8, 8), 1)),
        num_inference_steps=4,
        guidance_scale=1.0,
        height=SIDE,
        width=SIDE,
    ).images[0]
    assert_same(found[2, 1], np.asarray(picture))


def test_half_precision_comes_near(home, tmp_path, whole):
    assert_same(make(home, tmp_path, dtype="bfloat16"), whole, levels=16, share=0.95)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_gpu_makes_the_same_pictures(home, tmp_path, whole, dtype):
    pictures = make(home, tmp_path, device="cuda", dtype=dtype)
    assert_same(pictures, whole, levels=2 if dtype == "float32" else 8, share=0.98)


def test_a_quantising_model_is_trained_and_makes_pictures(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    write_all(home, quantised=True)
    for subject in SUBJECTS:
        z = np.load(home / subject / "z.npy")[:, :3]
        np.save(home / subject / "z.npy", z)
    train(home)
    pictures = make(home, tmp_path)
    autoencoder = VQModel.from_pretrained(home / "model", subfolder="vae")
    expected = reconstruct_one(home, 1, 0, autoencoder, channels=3)
    assert_same(pictures[1, 0], expected)


def test_responses_that_do_not_fit_are_refused(home, tmp_path):
    save(tmp_path / "rows.tsv", read_rows(home)[::-1])
    values = np.load(home / "subj01/test.npy")
    values[2, 3] = np.nan
    np.save(tmp_path / "test.npy", values)
    with pytest.raises(InputError, match=r"rows.tsv: expected the test images of .*images.tsv"):
        make(home, tmp_path, rows=tmp_path / "rows.tsv")
    with pytest.raises(InputError, match=r"test.npy: expected finite values"):
        make(home, tmp_path, responses=tmp_path / "test.npy")
    _, about = load_weights(home / "weights.safetensors")
    about["n_voxels"] = [21, 30]
    with pytest.raises(InputError, match=r"responses of subj01 or subj02, found those of subj08"):
        paths = (home / f"subj01/{name}" for name in ("images.tsv", "test.npy", "test.tsv"))
        sampling.read_test_responses(*paths, "subj08", about)


def read_rows(home):
    return sampling.TestSet(home / "subj01/test.npy", home / "subj01/test.tsv", LENGTH).table

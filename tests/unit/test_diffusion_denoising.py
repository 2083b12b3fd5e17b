import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionImg2ImgPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img as img2img
from diffusion_models import DEMO_MODEL, NETWORK, TOKENS, WIDTH, save_model, write_images
from nesting import nest

from nsdldm.diffusion.denoising import Denoising, plan_steps
from nsdldm.diffusion.loading import Model, load_text
from nsdldm.diffusion.text import embed_texts
from nsdldm.features import trajectories
from nsdldm.features.trajectories import Trajectories, denoise_latents
from nsdldm.support.batching import draw_noise
from nsdldm.support.errors import InputError

# The multistep sampler of diffusers hands torch tensors to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NUMBERS = np.array([5, 11, 400, 72_999, 8, 6, 3])
PREDICTIONS = ["epsilon", "v_prediction"]
CHAIN = {
    "num_inference_steps": 5,
    "strength": 0.8,
    "guidance_scale": 5.0,
    "noise": "per-image",
    "seed": 1,
    "scheduler": "ddim",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {
        prediction: save_model(tmp_path_factory.mktemp("model"), prediction)
        for prediction in PREDICTIONS
    }


@pytest.fixture(scope="module")
def model(models):
    return models["v_prediction"]


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((len(NUMBERS), 4, 8, 8), np.float32)
    return z, rng.standard_normal((len(NUMBERS), TOKENS, WIDTH), np.float32)


def run(folder, model, features, numbers=NUMBERS, batch_size=16, **changes):
    for name, array in zip("zc", features, strict=True):
        np.save(folder / f"{name}.npy", array)
    files = {name: folder / f"{name}.npy" for name in ("z", "c", "zc")}
    images = write_images(folder / "images.tsv", numbers)
    settings = {"images": images, "model": model, "batch_size": batch_size, **files}
    settings = NETWORK | CHAIN | settings | changes
    settings["outputs"] = {"zc": settings.pop("zc")}
    kept = Trajectories([1.0], "x_t")
    denoise_latents(trajectories=kept, **nest(settings, model=Model, denoising=Denoising))
    return np.load(files["zc"])


def unconditional_of(model):
    return embed_texts(*load_text(model, None, torch.device("cpu"), torch.float32), [""])


@torch.no_grad()
def ddim_by_hand(model, features, index, prediction, guidance, timesteps):
    """One image's reverse process from the formulas of the DDIM paper, eta 0."""
    unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet")
    alphas = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    noise = np.random.default_rng([1, NUMBERS[index], 0]).standard_normal((4, 8, 8), np.float32)
    x = alphas[timesteps[0]] ** 0.5 * features[0][index] + (1 - alphas[timesteps[0]]) ** 0.5 * noise
    contexts = [torch.tensor(features[1][[index]]), unconditional_of(model)]
    for t, following in zip(timesteps, [*timesteps[1:], 0], strict=True):
        given = torch.tensor(x[None], dtype=torch.float32)
        with_c, without = (unet(given, t, context).sample[0].numpy() for context in contexts)
        output = with_c if guidance == 1 else without + guidance * (with_c - without)
        signal, sigma = alphas[t] ** 0.5, (1 - alphas[t]) ** 0.5
        if prediction == "epsilon":
            clean, eps = (x - sigma * output) / signal, output
        else:
            clean, eps = signal * x - sigma * output, signal * output + sigma * x
        x = alphas[following] ** 0.5 * clean + (1 - alphas[following]) ** 0.5 * eps
    return x


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("guidance", [1, 5.0])
@pytest.mark.parametrize("strength, timesteps", [(0.8, [601, 401, 201, 1]), (0.2, [1])])
def test_ddim_follows_its_formulas(
    tmp_path, models, features, prediction, guidance, strength, timesteps
):
    model = models[prediction]
    zc = run(tmp_path, model, features, guidance_scale=guidance, strength=strength)
    assert zc.dtype == np.float32
    for index in (0, 4):
        naive = ddim_by_hand(model, features, index, prediction, guidance, timesteps)
        np.testing.assert_allclose(zc[index], naive, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", ["ddim", "dpmsolver++"])
@pytest.mark.parametrize("strength, guidance", [(0.25, 5.0), (0.8, 1), (0.8, 5.0), (1, 5.0)])
def test_equals_the_pipeline_of_diffusers(
    tmp_path, models, features, monkeypatch, prediction, name, strength, guidance
):
    model = models[prediction]
    zc = run(
        *(tmp_path, model, features),
        guidance_scale=guidance,
        strength=strength,
        scheduler=name,
        num_inference_steps=8,
    )
    noise = torch.from_numpy(draw_noise(1, NUMBERS, (4, 8, 8)))
    monkeypatch.setattr(img2img, "randn_tensor", lambda *_, **__: noise)
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(model)
    if name != "ddim":
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        prompt_embeds=torch.from_numpy(features[1]),
        negative_prompt_embeds=unconditional_of(model).repeat(len(NUMBERS), 1, 1),
        image=torch.from_numpy(features[0]),
        num_inference_steps=8,
        strength=strength,
        guidance_scale=guidance,
        output_type="latent",
    ).images
    np.testing.assert_allclose(zc, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ddim", "dpmsolver++"])
def test_zc_does_not_depend_on_batches_order_or_company(tmp_path, model, features, name):
    whole = run(tmp_path, model, features, batch_size=16, scheduler=name)
    for batch_size in (1, 3):
        zc = run(tmp_path, model, features, batch_size=batch_size, scheduler=name)
        np.testing.assert_allclose(zc, whole, atol=1e-5)
    order = [4, 1, 6]
    some = [array[order] for array in features]
    zc = run(tmp_path, model, some, NUMBERS[order], batch_size=2, scheduler=name)
    np.testing.assert_allclose(zc, whole[order], atol=1e-5)


@pytest.mark.parametrize("name", ["ddim", "dpmsolver++"])
def test_zc_is_complete_when_memory_runs_out(tmp_path, model, features, monkeypatch, caplog, name):
    expected = run(tmp_path, model, features, batch_size=2, scheduler=name)

    def denoise_few(unet, scheduler, latents, *rest):
        # Memory runs out late: the sampler has already been used.
        denoised = whole(unet, scheduler, latents, *rest)
        if len(latents) > 2:
            raise torch.OutOfMemoryError
        return denoised

    whole = trajectories.denoise
    monkeypatch.setattr(trajectories, "denoise", denoise_few)
    found = run(tmp_path, model, features, batch_size=4, scheduler=name)
    np.testing.assert_array_equal(found, expected)
    assert "continuing with 2" in caplog.text


def test_guidance_of_one_is_the_conditional_path_alone(tmp_path, model, features, monkeypatch):
    sizes = []

    def forward(self, sample, *args, **kwargs):
        sizes.append(len(sample))
        return whole(self, sample, *args, **kwargs)

    whole = UNet2DConditionModel.forward
    monkeypatch.setattr(UNet2DConditionModel, "forward", forward)
    alone = run(tmp_path, model, features, guidance_scale=1)
    assert sizes == [len(NUMBERS)] * 4
    sizes.clear()
    guided = run(tmp_path, model, features, guidance_scale=1 + 1e-9)
    assert sizes == [2 * len(NUMBERS)] * 4
    np.testing.assert_allclose(alone, guided, atol=1e-5)
    assert np.abs(run(tmp_path, model, features, guidance_scale=5.0) - alone).max() > 1e-3


def test_shared_noise_is_the_same_for_all_images(tmp_path, model, features):
    repeated = [np.repeat(array[:1], len(NUMBERS), 0) for array in features]
    shared = run(tmp_path, model, repeated, noise="shared")
    np.testing.assert_allclose(shared, np.broadcast_to(shared[:1], shared.shape), atol=1e-5)
    own = run(tmp_path, model, repeated)
    assert np.abs(own[1:] - own[:1]).max((1, 2, 3)).min() > 0.1
    # It is image 0's.
    first = run(tmp_path, model, repeated, np.zeros_like(NUMBERS))
    np.testing.assert_array_equal(first, shared)


def test_seed_changes_the_noise(tmp_path, model, features):
    zc = run(tmp_path, model, features)
    np.testing.assert_array_equal(run(tmp_path, model, features), zc)
    assert np.abs(run(tmp_path, model, features, seed=2) - zc).max() > 0.1


def test_the_least_strength_gives_z_back(tmp_path):
    rng = np.random.default_rng(3)
    z = rng.standard_normal((3, 4, 16, 16), np.float32)
    c = unconditional_of(DEMO_MODEL).repeat(3, 1, 1).numpy()
    changed = {}
    for strength in (1e-4, 0.8):
        zc = run(
            tmp_path, DEMO_MODEL, [z, c], NUMBERS[:3], num_inference_steps=10, strength=strength
        )
        changed[strength] = np.sqrt(np.mean((zc - z) ** 2))
    # The noise at t = 1 has standard deviation 0.04.
    assert changed[1e-4] < 0.06
    assert changed[0.8] > 0.5


@pytest.mark.parametrize(
    "steps, strength, expected",
    [
        (50, 0.8, (40, 781)),
        (20, 0.8, (16, 751)),
        (50, 1, (50, 981)),
        (100, 0.29, (28, 271)),  # 28.999999999999996, as in diffusers
        (50, 0.01, (1, 1)),
        (10, 0.39, (3, 201)),
    ],
)
def test_the_noise_level_is_the_first_timestep_run(steps, strength, expected):
    options = {"steps_offset": 1, "timestep_spacing": "leading"}
    timesteps = plan_steps(DDIMScheduler(**options), steps, strength).tolist()
    assert (len(timesteps), timesteps[0]) == expected
    assert timesteps[-1] == 1
    assert timesteps == sorted(timesteps, reverse=True)


@pytest.mark.parametrize("strength", [0, -0.5, 1.01])
def test_strength_outside_its_range_is_refused(strength):
    with pytest.raises(InputError, match=r"`strength`: expected above 0 and at most 1"):
        plan_steps(DDIMScheduler(), 20, strength)


def test_unknown_noise_is_refused(tmp_path, model, features):
    with pytest.raises(InputError, match=r"`noise`: expected one of per-image, shared"):
        run(tmp_path, model, features, noise="none")


def test_features_of_another_model_are_refused(tmp_path, model, features):
    z, c = features
    with pytest.raises(InputError, match=r"z.npy: .*\(7, 4, any, any\), found .*\(7, 3, 8, 8\)"):
        run(tmp_path, model, [z[:, :3], c])
    with pytest.raises(InputError, match=r"c.npy: .*\(7, 24, 8\), found one of \(7, 24, 6\)"):
        run(tmp_path, model, [z, c[..., :6]])
    with pytest.raises(InputError, match=r"c.npy: .*\(6, 24, 8\)"):
        run(tmp_path, model, features, NUMBERS[:6])
    assert not (tmp_path / "zc.npy").exists()

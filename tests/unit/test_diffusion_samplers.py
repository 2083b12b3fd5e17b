"""With a network that knows image and noise, the end of every reverse process is the image."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
)

from nsdldm.diffusion.check import check_scheduler
from nsdldm.diffusion.denoising import Conditions, denoise, plan_steps
from nsdldm.diffusion.samplers import make_sampler
from nsdldm.diffusion.steps import count_steps
from nsdldm.support.errors import InputError

# The multistep sampler of diffusers hands torch tensors to numpy the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SAMPLERS = ["ddim", "dpmsolver++", "plms"]
SPACINGS = ["leading", "trailing", "linspace"]
PREDICTIONS = ["epsilon", "v_prediction", "sample"]
STEPS = [1, 2, 3, 7, 13, 50, 131, 501, 999, 1000]
N = 1000
SD = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": N,
}
RNG = np.random.default_rng(0)
CLEAN, NOISE = (torch.from_numpy(RNG.standard_normal((2, 4, 4, 4), np.float32)) for _ in "zn")


def alphas_by_hand(config):
    """Signal's share of the variance at each timestep; the last may be noise alone."""
    n = config["num_train_timesteps"]
    ends = config["beta_start"] ** 0.5, config["beta_end"] ** 0.5
    alphas = np.cumprod(1 - np.linspace(*ends, n) ** 2)
    if config.get("rescale_betas_zero_snr"):
        # Lin et al. 2023, algorithm 1.
        roots = np.sqrt(alphas)
        alphas = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    return alphas


def ideal(config):
    """A U-Net that knows image and noise; it answers for timesteps of training only."""
    alphas = alphas_by_hand(config)

    def network(noisy, timestep, *_, **__):
        assert 0 <= int(timestep) < len(alphas)
        signal, spread = alphas[int(timestep)] ** 0.5, (1 - alphas[int(timestep)]) ** 0.5
        answers = {
            "epsilon": NOISE,
            "sample": CLEAN,
            "v_prediction": signal * NOISE - spread * CLEAN,
        }
        return SimpleNamespace(sample=answers[config.get("prediction_type", "epsilon")])

    network.device, network.dtype = torch.device("cpu"), torch.float32
    return network


def run(sampler, config, steps, strength=1.0):
    timesteps = plan_steps(sampler, steps, strength)
    noisy = sampler.add_noise(CLEAN, NOISE, timesteps[:1])
    conditions = Conditions((torch.zeros(1, 1, 1), torch.zeros(2, 1, 1)))
    return denoise(ideal(config), sampler, noisy, timesteps, conditions, 1), timesteps


def rms(values):
    return float(values.square().mean().sqrt())


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_an_ideal_network_ends_at_the_image(name, spacing, prediction, zero_snr):
    config = SD | {
        "timestep_spacing": spacing,
        "prediction_type": prediction,
        "rescale_betas_zero_snr": zero_snr,
    }
    chains = [("denoising", name, None)]
    findings = check_scheduler(config, "scheduler_config.json", chains)
    if zero_snr and (prediction == "epsilon" or name == "plms"):
        assert any("rescale_betas_zero_snr" in str(finding) for finding in findings)
        return
    assert findings == []
    extras = itertools.cycle(
        itertools.product(
            [0, 1], [{}, {"thresholding": True}, {"clip_sample": True, "clip_sample_range": 0.5}]
        )
    )
    # Each step of a long chain costs a millisecond or two, whatever the network predicts.
    for steps in STEPS if prediction == "v_prediction" or name != "dpmsolver++" else STEPS[:7]:
        offset, extra = next(extras)
        given = config | extra | {"steps_offset": offset}
        for strength in (1.0,) if name == "plms" or steps > 131 else (1.0, 0.8, 0.3):
            sampler = make_sampler(name, given)
            end, timesteps = run(sampler, given, steps, strength)
            assert len(timesteps) == count_steps(steps, strength) + (name == "plms" and steps > 1)
            assert rms(end - CLEAN) < 1e-3, (steps, strength)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", ["ddim", "plms"])
def test_stable_diffusion_ends_with_the_noise_of_timestep_0_as_published(name, spacing):
    config = SD | {"set_alpha_to_one": False, "timestep_spacing": spacing}
    first = 1 - SD["beta_start"]
    expected = first**0.5 * CLEAN + (1 - first) ** 0.5 * NOISE
    for steps in (1, 13, 50, 1000):
        end, _ = run(make_sampler(name, config), config, steps)
        assert rms(end - expected) < 1e-4


@pytest.mark.parametrize("n", [1, 2, 10])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_few_timesteps_of_training_are_used_up(name, spacing, n):
    config = SD | {"timestep_spacing": spacing, "num_train_timesteps": n}
    for steps in range(1, n + 1):
        sampler = make_sampler(name, config)
        end, timesteps = run(sampler, config, steps)
        distinct = sorted({*timesteps.tolist()}, reverse=True)
        assert len(distinct) == steps
        assert list(dict.fromkeys(timesteps.tolist())) == distinct
        assert rms(end - CLEAN) < 1e-3
    message = rf"`num_inference_steps`: expected 1 to {n}, .* found {n + 1}"
    with pytest.raises(InputError, match=message):
        plan_steps(make_sampler(name, config), n + 1, 1.0)


@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_other_noise_schedules_end_at_the_image(name, schedule):
    config = {"beta_schedule": schedule, "timestep_spacing": "trailing"}
    sampler = make_sampler(name, config)
    timesteps = plan_steps(sampler, 13, 1.0)
    noisy = sampler.add_noise(CLEAN, NOISE, timesteps[:1])
    for timestep in timesteps:
        noisy = sampler.step(NOISE, timestep, noisy).prev_sample
    assert rms(noisy - CLEAN) < 1e-3


@pytest.mark.parametrize("prediction", PREDICTIONS[:2])
@pytest.mark.parametrize("name", SAMPLERS)
def test_even_steps_are_those_of_diffusers(name, prediction):
    """A network that errs, so that order and weights of steps show."""
    config = SD | {"prediction_type": prediction, "set_alpha_to_one": False, "steps_offset": 1}
    config |= {"timestep_spacing": "leading", "clip_sample": False}
    kind = {
        "ddim": DDIMScheduler,
        "dpmsolver++": DPMSolverMultistepScheduler,
        "plms": PNDMScheduler,
    }[name]
    if name == "plms" and prediction != "epsilon":
        return  # diffusers mixes velocities of different timesteps.
    options = {"skip_prk_steps": True} if name == "plms" else {}
    known = {k: v for k, v in config.items() if name == "ddim" or k != "clip_sample"}
    known = {k: v for k, v in known.items() if name != "dpmsolver++" or k != "set_alpha_to_one"}
    theirs, ours = kind(**known, **options), make_sampler(name, config)
    for steps in (1, 2, 5, 8, 20, 50, 250):
        timesteps = plan_steps(ours, steps, 1.0)
        theirs.set_timesteps(steps)
        assert timesteps.tolist() == theirs.timesteps.tolist()
        latents = [NOISE.clone(), NOISE.clone()]
        for timestep in timesteps:
            for index, sampler in enumerate((ours, theirs)):
                predicted = torch.tanh(latents[index] * (1 + timestep / N))
                latents[index] = sampler.step(predicted, timestep, latents[index]).prev_sample
        torch.testing.assert_close(*latents, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS[:2])
def test_the_steps_run_are_those_of_diffusers(name):
    """All numbers of steps to 100 and strengths in hundredths."""
    pipeline = SimpleNamespace(scheduler=None)
    theirs = StableDiffusionImg2ImgPipeline.get_timesteps
    for steps in range(1, 101):
        sampler = make_sampler(name, SD)
        pipeline.scheduler = SimpleNamespace(order=1, timesteps=plan_steps(sampler, steps, 1.0))
        for hundredth in range(1, 101):
            expected, n = theirs(pipeline, steps, hundredth / 100, None)
            assert count_steps(steps, hundredth / 100) == max(n, 1)
            if n and steps % 10 == 0:
                found = plan_steps(sampler, steps, hundredth / 100)
                assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "change, key",
    [
        ({"timestep_spacing": "karras"}, "timestep_spacing"),
        ({"prediction_type": "flow_prediction"}, "prediction_type"),
        ({"beta_schedule": "exp"}, "beta_schedule"),
        ({"beta_schedule": None}, "beta_schedule or trained_betas"),
        ({"beta_start": 0}, "beta_start"),
        ({"beta_end": "much"}, "beta_start and beta_end"),
        ({"trained_betas": [0.1] * 999}, "trained_betas: 1000 numbers"),
        ({"trained_betas": "all"}, "trained_betas"),
        ({"num_train_timesteps": 0}, "num_train_timesteps"),
        ({"num_train_timesteps": "1000"}, "num_train_timesteps"),
        ({"set_alpha_to_one": "no"}, "set_alpha_to_one"),
        ({"rescale_betas_zero_snr": 2}, "rescale_betas_zero_snr"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas"),
    ],
)
def test_what_a_scheduler_cannot_mean_is_one_finding(change, key):
    chains = [(name, "ddim", 50) for name in ("denoising", "reconstruction")]
    (finding,) = check_scheduler(SD | change, "scheduler_config.json", chains)
    assert finding.where == "scheduler_config.json"
    assert key in finding.expected


def test_flow_matching_is_refused():
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    (finding,) = check_scheduler(config, "scheduler_config.json")
    assert "FlowMatch" in finding.found


def test_steps_of_every_chain_are_checked():
    chains = [("denoising", "ddim", 1000), ("sampling", "plms", 1001)]
    (finding,) = check_scheduler(SD, "scheduler_config.json", chains)
    assert finding.where == "sampling"
    zero = SD | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    (finding,) = check_scheduler(zero, "scheduler_config.json", [("sampling", "plms", 9)])
    assert "ddim or dpmsolver++ for sampling" in finding.remedy


def test_json_survives():
    """As a file has it."""
    config = json.loads(json.dumps(SD | {"trained_betas": list(np.linspace(1e-4, 0.02, N))}))
    assert check_scheduler(config, "scheduler_config.json") == []
    sampler = make_sampler("ddim", config)
    expected = np.cumprod(1 - np.linspace(1e-4, 0.02, N))
    np.testing.assert_allclose(sampler.alphas_cumprod, expected, rtol=1e-3)

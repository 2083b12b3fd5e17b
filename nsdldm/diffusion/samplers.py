"""Samplers of the reverse process that step exactly between their timesteps, however these are
spaced.

DDIM and PLMS in diffusers step from t to t - T // n, which is the next timestep only if spacing is
even, and PLMS mixes velocities of different timesteps. With evenly spaced timesteps and a network
that predicts noise, the samplers here are identical up to rounding.
"""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput

# Weights of the last noise predictions, latest first, for a linear multistep step.
ADAMS_BASHFORTH = (
    (1,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
# From a checkpoint's scheduler we take what belongs to the network, and where its steps are and
# end. The sampler is chosen in the config, and its own settings are diffusers' defaults: latents
# are not pictures, so they are neither clipped nor thresholded.
KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
    "timestep_spacing",
    "set_alpha_to_one",
)


def fit_timesteps(timesteps: torch.Tensor, steps: int, n_train: int) -> torch.Tensor:
    """Keep the timesteps of diffusers that lie between 0 and the last training step.

    Parameters
    ----------
    timesteps : int64 tensor of shape (n,)
        Descending. With "trailing" there can be one too many, with "leading" and its offset one too
        high.
    steps, n_train : int
        Steps of the chain and of training; if equal, all timesteps are used.

    Returns
    -------
    int64 tensor of shape (steps,)
        Without repeats.
    """
    if steps == n_train:
        return torch.arange(n_train).flip(0)
    kept = timesteps[:steps]
    return kept - max(int(kept[0]) - (n_train - 1), 0)


class Ddim(DDIMScheduler):
    """DDIM without added noise (eta 0), from each of its timesteps to the next."""

    def set_timesteps(self, steps: int) -> None:
        """Place a number of steps."""
        super().set_timesteps(steps)
        self.timesteps = fit_timesteps(self.timesteps, steps, self.config.num_train_timesteps)

    def step(
        self, predicted: torch.Tensor, timestep: int | torch.Tensor, sample: torch.Tensor
    ) -> torch.Tensor:
        """Step a sample (n, channels, height, width) from a timestep to the next, or to the end,
        with the network's prediction, of the same shape."""
        clean, noise = self._split(predicted, timestep, sample)
        return self._move(clean, noise, timestep)

    def _split(self, predicted, timestep, sample):
        """The clean latent and the noise in a sample, as implied by the network's prediction."""
        alpha = self.alphas_cumprod[timestep]
        signal, spread = alpha**0.5, (1 - alpha) ** 0.5
        kind = self.config.prediction_type
        if kind == "epsilon":
            return (sample - spread * predicted) / signal, predicted
        if kind == "sample":
            return predicted, (sample - signal * predicted) / spread
        return signal * sample - spread * predicted, signal * predicted + spread * sample

    def _move(self, clean, noise, timestep):
        """Mix both in the proportions of the next timestep; a timestep may occur twice."""
        place = int((self.timesteps == timestep).nonzero()[-1]) + 1
        alpha = self.final_alpha_cumprod
        if place < len(self.timesteps):
            alpha = self.alphas_cumprod[self.timesteps[place]]
        moved = alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise
        return DDIMSchedulerOutput(prev_sample=moved, pred_original_sample=clean)


class Plms(Ddim):
    """Linear multistep on noise predictions, as in latent diffusion's code; repeats the second
    step."""

    def set_timesteps(self, steps: int) -> None:
        """Place a number of steps; if there are several, the network runs one pass more."""
        super().set_timesteps(steps)
        self.timesteps = torch.cat([self.timesteps[:2], self.timesteps[1:]])
        self._noises, self._start = [], None

    def step(
        self, predicted: torch.Tensor, timestep: int | torch.Tensor, sample: torch.Tensor
    ) -> torch.Tensor:
        """Step a sample (n, channels, height, width) from a timestep to the next, with the
        network's prediction, of the same shape; the second call repeats the first step."""
        _, noise = self._split(predicted, timestep, sample)
        if len(self._noises) == 1 and self._start is not None:
            mixed = (noise + self._noises[0]) / 2
            (timestep, sample), self._start = self._start, None
        else:
            if not self._noises:
                self._start = timestep, sample
            self._noises = [noise, *self._noises][: len(ADAMS_BASHFORTH)]
            weights = ADAMS_BASHFORTH[len(self._noises) - 1]
            mixed = sum(w * past for w, past in zip(weights, self._noises, strict=True))
        alpha = self.alphas_cumprod[timestep]
        clean = (sample - (1 - alpha) ** 0.5 * mixed) / alpha**0.5
        return self._move(clean, mixed, timestep)


class DpmSolver(DPMSolverMultistepScheduler):
    """Second-order DPM-Solver++ whose timesteps are all training timesteps."""

    def set_timesteps(self, steps: int) -> None:
        """Place a number of steps."""
        super().set_timesteps(steps)
        fitting = fit_timesteps(self.timesteps, steps, self.config.num_train_timesteps)
        super().set_timesteps(timesteps=fitting.tolist())


SAMPLERS = {
    "ddim": (Ddim, {"clip_sample": False}),
    "dpmsolver++": (DpmSolver, {}),
    "plms": (Plms, {"clip_sample": False}),
}


def make_sampler(name: str, config: dict) -> Ddim | DpmSolver | Plms:
    """Make a sampler for a checkpoint.

    Parameters
    ----------
    name : {"ddim", "dpmsolver++", "plms"}
    config : dict
        ``scheduler_config.json``, checked by `nsdldm.diffusion.check.check_scheduler`.

    Returns
    -------
    Ddim, DpmSolver or Plms
        With "leading" spacing the last timestep is 1, as the image-to-image pipeline sets it even
        if an old checkpoint says otherwise. DDIM and PLMS end without noise or, if
        `set_alpha_to_one` is false as in Stable Diffusion, with the noise of timestep 0 (standard
        deviation 0.03 there), as in the published code; DPM-Solver++ always ends without noise.
    """
    kind, options = SAMPLERS[name]
    known = {key: config[key] for key in KEYS if config.get(key) is not None}
    if kind is DpmSolver:
        known.pop("set_alpha_to_one", None)
    return kind.from_config(known, steps_offset=1, **options)

"""Names of the feature spaces along the reverse process.

Standard library only, since the Snakefile imports it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from nsdldm.diffusion.steps import count_steps
from nsdldm.support.errors import Finding, InputError

LATENTS = ("x_t", "x0")
# The latent that a step starts from, which activations at that step are computed from.
BEFORE = "before"
# Texts that say nothing about the image, and the parts that a space is split into relative to z.
# Both name spaces that are compared with those of z_c, such as zc-n060-empty and zc-n060-linear.
CONTROLS = ("empty", "other-caption")
PARTS = ("linear", "residual")
# Name of the unique variance of z_c beyond all of them.
BEYOND = "beyond"
# Series of spaces, by the letter before their percentage.
SERIES = {"n": "noise", "s": "step"}


class Space(NamedTuple):
    """Where along the reverse process a feature space is taken.

    Parameters
    ----------
    strength : float
        Noise level, as the fraction of the chain that is run.
    step : int
        Number of steps after which a latent is taken; activations are those of the last of these
        steps.
    source : str
        ``x_t`` (the latent), ``x0`` (the predicted clean latent), ``before`` (the latent that the
        last of these steps starts from) or the path of a U-Net module.
    """

    strength: float
    step: int
    source: str


def split_control(space: str) -> tuple[str, str]:
    """Split the name of a feature space into that of z_c and that of its control.

    Parameters
    ----------
    space : str
        Such as zc-n060-empty, zc-s050-shared-linear or zc-n060.

    Returns
    -------
    space, control : str
        The second, one of `CONTROLS` and `PARTS`, is empty if the space is not a control.
    """
    for control in CONTROLS + PARTS:
        if space.endswith(f"-{control}"):
            return space.removesuffix(f"-{control}"), control
    return space, ""


def plan_spaces(
    steps: int,
    noise_levels: Sequence[float],
    strength: float,
    step_shares: Sequence[float],
    latent: str,
    blocks: dict[str, str],
) -> dict[str, Space]:
    """Name the feature spaces that one pass per image and noise level yields.

    The paper shows noise levels from low to high, and early, middle and late steps, without
    specifying them; here all of them are settings.

    Parameters
    ----------
    steps : int
        Steps of the whole chain.
    noise_levels : list of float
        Noise levels whose final latent is kept.
    strength : float
        The noise level whose steps are kept.
    step_shares : list of float
        Fractions of that level's steps after which its latent is kept.
    latent : {"x_t", "x0"}
        Keep the latent itself at these steps, or the clean latent that the U-Net predicts there.
    blocks : dict of str to str
        Name and U-Net module path of every block whose activations are kept.

    Returns
    -------
    dict of str to Space
        ``zc`` at the end of the chain, ``zc-n{percent}`` at the end of each level, and
        ``zc-s{percent}``, ``before-s{percent}`` and ``unet-{block}-s{percent}`` at each step.

    Raises
    ------
    InputError
        Fractions are outside (0, 1], are not whole percentages, or result in the same number of
        steps.
    """
    if latent not in LATENTS:
        expected, remedy = "one of " + ", ".join(LATENTS), "Correct it"
        raise InputError(Finding("`latent`", expected, repr(latent), remedy))
    ends = _percents("`noise_levels`", steps, noise_levels)
    n_run = count_steps(steps, strength)
    shares = _percents("`step_shares`", n_run, step_shares)
    spaces = {"zc": Space(strength, n_run, "x_t")}
    for level, percent in zip(noise_levels, ends, strict=True):
        spaces[f"zc-n{percent:03d}"] = Space(level, count_steps(steps, level), "x_t")
    sources = {"zc": latent, BEFORE: BEFORE}
    sources |= {f"unet-{name}": path for name, path in blocks.items()}
    for name, source in sources.items():
        for share, percent in zip(step_shares, shares, strict=True):
            step = count_steps(n_run, share)
            spaces[f"{name}-s{percent:03d}"] = Space(strength, step, source)
    return spaces


def _percents(where, steps, shares):
    """Fractions as whole percentages; no two may result in the same number of steps."""
    for share in shares:
        if not (0 < share <= 1 and abs(100 * share - round(100 * share)) < 1e-6):
            expected, remedy = "whole percents above 0 and at most 1", "Correct it"
            raise InputError(Finding(where, expected, f"{share}", remedy))
    counts = [count_steps(steps, share) for share in shares]
    if len(set(counts)) < len(counts):
        expected, found = f"a different number of the {steps} steps each", f"{shares} = {counts}"
        raise InputError(Finding(where, expected, found, "Leave out what is there twice"))
    return [round(100 * share) for share in shares]


def parse_space(space: str) -> tuple:
    """Parse the name of a feature space in a series.

    Parameters
    ----------
    space : str
        Such as zc-n060 (noise strength 0.6), zc-s025 (after a quarter of the steps), zc-n060-shared
        or zc-n060-seed43.

    Returns
    -------
    base : str
        Such as zc.
    kind : {"n", "s"}
    share : float
    variant : str
        Such as shared; empty if there is none.

    Raises
    ------
    InputError
        The name has another form.
    """
    found = re.fullmatch(r"([^-+]+)-([ns])(\d{3})(?:-(.+))?", space)
    if not found:
        expected = "a feature space named like zc-n060 or zc-s050"
        raise InputError(Finding("feature space", expected, space, "Draw a series of spaces"))
    base, kind, percent, variant = found.groups()
    return base, kind, int(percent) / 100, variant or ""


def parse_pair(pair: str) -> tuple[str, str]:
    """Split the name of a joint model.

    Parameters
    ----------
    pair : str
        Such as z+zc-n060.

    Returns
    -------
    a, b : str
        The two feature spaces; `parse_space` can read b.

    Raises
    ------
    InputError
        The name has another form.
    """
    a, plus, b = pair.partition("+")
    if not plus:
        expected = "two feature spaces joined by +"
        raise InputError(Finding("joint model", expected, pair, "Name it like z+zc-n060"))
    parse_space(b)
    return a, b

"""Prevalence: in how large a share of the population an effect is to be expected."""

from __future__ import annotations

import numpy as np
from scipy import optimize, stats

from nsdldm.support.errors import Finding, InputError

LEVEL = 0.95


def prevalence(
    n_significant: int, n_subjects: int, alpha: float = 0.05
) -> tuple[float, float, float]:
    """Bayesian population prevalence (Ince et al. 2021, eLife 10:e62461).

    Each subject is tested alone. A test is positive with probability theta = alpha + (1 - alpha)
    gamma, where gamma is the prevalence and every subject with the effect is taken to be found
    (sensitivity 1). A uniform prior of gamma gives a beta distribution of theta, cut to
    [alpha, 1].

    Parameters
    ----------
    n_significant : int
        Subjects whose test is positive.
    n_subjects : int
    alpha : float
        False positive rate of a single subject's test, such as 0.025 for a 95 % interval that lies
        above chance.

    Returns
    -------
    mode, low, high : float
        The likeliest prevalence, and its highest-density interval (95 %).

    Raises
    ------
    InputError
        Counts that cannot be, or alpha outside (0, 1).
    """
    if not 0 <= n_significant <= n_subjects or n_subjects < 1:
        expected = f"from 0 to the number of subjects, {n_subjects}, at least 1"
        raise InputError(Finding("`n_significant`", expected, str(n_significant), "Correct it"))
    if not 0 < alpha < 1:
        raise InputError(Finding("`alpha`", "between 0 and 1", f"{alpha:g}", "Correct it"))
    theta = stats.beta(n_significant + 1, n_subjects - n_significant + 1)
    below = theta.cdf(alpha)
    inside = theta.sf(alpha)

    def find(share):
        """The quantile of gamma."""
        # Rounding can leave [alpha, 1] at either end.
        return np.clip((theta.ppf(below + share * inside) - alpha) / (1 - alpha), 0, 1)

    mode = max(0.0, (n_significant / n_subjects - alpha) / (1 - alpha))
    # The density has one peak, so the shortest interval of this probability is the densest.
    if mode == 0:
        start = 0.0
    elif mode == 1:
        start = 1 - LEVEL
    else:
        width = optimize.minimize_scalar(
            lambda start: find(start + LEVEL) - find(start),
            bounds=(0, 1 - LEVEL),
            method="bounded",
            options={"xatol": 1e-9},
        )
        start = width.x
    return float(mode), float(find(start)), float(find(min(1.0, start + LEVEL)))

"""Prevalence against a posterior on a grid."""

import numpy as np
import pytest

from nsdldm.prevalence import prevalence
from nsdldm.support.errors import InputError


def on_grid(k, n, alpha):
    """Mode and densest 95 % of the posterior of gamma, from its definition."""
    gamma = (np.arange(200_000) + 0.5) / 200_000
    theta = alpha + (1 - alpha) * gamma
    density = theta**k * (1 - theta) ** (n - k)
    order = np.argsort(-density)
    mass = np.cumsum(density[order]) / density.sum()
    inside = gamma[order[: np.searchsorted(mass, 0.95) + 1]]
    return gamma[density.argmax()], inside.min(), inside.max()


@pytest.mark.parametrize("alpha", [0.025, 0.05])
@pytest.mark.parametrize(
    ("k", "n"), [(8, 8), (7, 8), (4, 8), (1, 8), (0, 8), (2, 2), (1, 2), (0, 1)]
)
def test_mode_and_interval_are_those_of_the_posterior(k, n, alpha):
    assert prevalence(k, n, alpha) == pytest.approx(on_grid(k, n, alpha), abs=2e-4)


def test_all_of_eight_is_high_and_none_is_low():
    # Of a posterior (9 theta^8) cut at alpha: low is the 5 % quantile of theta, as a prevalence.
    low = (0.05 + 0.95 * 0.025**9) ** (1 / 9)
    assert prevalence(8, 8, 0.025) == pytest.approx((1, (low - 0.025) / 0.975, 1), abs=1e-9)
    high = 1 - 0.05 ** (1 / 9) * (1 - 0.025)
    assert prevalence(0, 8, 0.025) == pytest.approx((0, 0, (high - 0.025) / 0.975), abs=1e-9)


def test_fewer_than_alpha_explains_is_no_prevalence():
    assert prevalence(1, 50, 0.05)[0] == 0


@pytest.mark.parametrize(
    ("k", "n", "alpha"), [(3, 2, 0.05), (-1, 2, 0.05), (0, 0, 0.05), (1, 2, 0)]
)
def test_impossible_numbers_are_refused(k, n, alpha):
    with pytest.raises(InputError, match=r"n_significant|alpha"):
        prevalence(k, n, alpha)

"""Sign-flip test of whether one model predicts the test images better than another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Bytes of the sums over all flips for a batch of voxels; more is no faster.
SUMS = int(0.25e9)


class FlipTest(NamedTuple):
    """How models are compared.

    Parameters
    ----------
    fdr : float
        False discovery rate.
    flips : int
        Random sign flips; the smallest p is 1 / (1 + flips).
    seed : int
        Of the flips, which are the same for all voxels and models.
    """

    fdr: float
    flips: int
    seed: int


def draw_signs(n_draws: int, n_images: int, seed: int) -> np.ndarray:
    """Draw the signs of a sign-flip test; the first row flips nothing.

    Parameters
    ----------
    n_draws, n_images, seed : int

    Returns
    -------
    float32 array of shape (1 + n_draws, n_images)
        1 or -1.
    """
    flips = np.random.default_rng(seed).integers(0, 2, (n_draws, n_images), np.int8)
    return np.concatenate([np.ones((1, n_images), np.float32), 1 - 2 * flips.astype(np.float32)])


def flip_signs(
    observed: np.ndarray, worse: np.ndarray, better: np.ndarray, signs: np.ndarray
) -> np.ndarray:
    """Test whether one model predicts better than another, one-sided.

    If the models do not differ, the difference of their squared errors is equally likely to be
    negative or positive, independently for each image.

    Parameters
    ----------
    observed, worse, better : float32 arrays of shape (n_images, n_voxels)
        Responses averaged over test trials, and the predictions of two models.
    signs : float32 array of shape (1 + n_flips, n_images)
        As `draw_signs` returns them.

    Returns
    -------
    float64 array of shape (n_voxels,)
        p = (1 + flips whose sum of differences is at least the observed one) / (1 + flips); 1 where
        both models predict the same.
    """
    step = max(1, SUMS // (5 * len(signs)))
    p = np.empty(observed.shape[1])
    for start in range(0, observed.shape[1], step):
        part = slice(start, start + step)
        errors = [np.square(observed[:, part] - each[:, part]) for each in (worse, better)]
        sums = signs @ (errors[0] - errors[1])
        # The first row, which flips nothing, is the 1 of numerator and denominator.
        p[part] = np.count_nonzero(sums >= sums[0], axis=0) / len(signs)
    return p

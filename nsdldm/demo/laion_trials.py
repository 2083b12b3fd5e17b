"""Plan the trials of a simulated LAION-fMRI subject, and compute the noise ceiling of its betas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from nsdldm.demo.laion_images import Picture

RUNS = 12
# Repeats of an image in a session, at least.
TOGETHER = 2


def plan_trials(pictures: list[Picture], sessions: int, rng: np.random.Generator) -> pd.DataFrame:
    """Plan which image is shown when.

    Parameters
    ----------
    pictures : list of nsdldm.demo.laion_images.Picture
    sessions : int
    rng : numpy.random.Generator

    Returns
    -------
    DataFrame
        A row per trial, with the columns of the release: session (ses-01 ...), run (1 to 12),
        beta_index (from 0 in every session) and label (name of the image). An image is shown at
        least twice in a session. One that only this subject sees lacks a repeat, so that sessions
        differ in their number of trials.
    """
    repeats = np.array([picture.repeats for picture in pictures])
    repeats[rng.choice([row for row, p in enumerate(pictures) if p.subject != "all"])] -= 1
    hands = [[] for _ in range(sessions)]
    for row in rng.permutation(len(pictures)):
        visits = min(sessions, max(1, repeats[row] // TOGETHER))
        # The sessions with the fewest trials so far.
        chosen = np.argsort([len(hand) for hand in hands], kind="stable")[:visits]
        shares = np.array_split(np.full(repeats[row], row), visits)
        for session, share in zip(chosen, shares, strict=True):
            hands[session] += share.tolist()
    tables = []
    for number, hand in enumerate(hands, 1):
        order = _keep_apart(np.array(hand), rng)
        positions = np.arange(len(order))
        columns = {
            "session": f"ses-{number:02d}",
            "run": 1 + positions * RUNS // len(order),
            "beta_index": positions,
            "label": [pictures[row].name for row in order],
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _keep_apart(hand, rng):
    """Put the images of a session in an order in which repeats are apart."""
    hand = np.sort(hand)
    _, first, counts = np.unique(hand, return_index=True, return_counts=True)
    which = np.arange(len(hand)) - np.repeat(first, counts)
    starts = np.repeat(rng.uniform(0, 0.9, len(counts)), counts)
    places = (which + starts) / np.repeat(counts, counts)
    return hand[np.argsort(places + rng.uniform(0, 0.02, len(hand)))]


def compute_ceiling(scores: np.ndarray, images: np.ndarray, fewest: int) -> np.ndarray:
    """Compute the release's noise ceiling.

    Parameters
    ----------
    scores : float array of shape (n_trials, n_voxels)
        z-scored, each session on its own; NaN where a voxel has no data.
    images : int array of shape (n_trials,)
        Image of each trial.
    fewest : int
        Images with fewer trials are left out.

    Returns
    -------
    float32 array of shape (n_voxels,)
        Explainable share of the variance of mean responses, in percent; 0 without data.
    """
    counts, n, squares = _sum_squares(scores, images)
    used = (counts >= fewest)[:, None] & (n > 1)
    variance = np.where(used, squares / np.maximum(n - 1, 1), 0)
    with np.errstate(invalid="ignore"):
        noise = variance.sum(axis=0) / used.sum(axis=0)
    signal = np.maximum(0, 1 - noise)
    inverse = np.mean(1 / counts[counts >= fewest])
    return np.nan_to_num(100 * signal / (signal + inverse * noise)).astype(np.float32)


def _sum_squares(scores, images):
    """Trials of each image, and for each voxel those with data and their sum of squares."""
    order = np.argsort(images, kind="stable")
    _, first, counts = np.unique(images[order], return_index=True, return_counts=True)
    known = np.isfinite(scores)[order]
    values = np.where(known, scores[order], 0)
    n, sums, squares = (
        np.add.reduceat(part, first, axis=0, dtype=np.float64)
        for part in (known, values, values**2)
    )
    return counts, n, squares - sums**2 / np.maximum(n, 1)


def compute_r2(scores: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Compute the share of the variance of trials that the means of images explain.

    The release has the share of the time series' variance that its model explains, which a
    simulation without time series lacks.

    Parameters
    ----------
    scores : float array of shape (n_trials, n_voxels)
        z-scored, of one session; NaN where a voxel has no data.
    images : int array of shape (n_trials,)

    Returns
    -------
    float32 array of shape (n_voxels,)
        In percent; 0 without data.
    """
    _, n, squares = _sum_squares(scores, images)
    left = squares.sum(axis=0) / (len(images) - 1)
    return np.where(n.any(axis=0), 100 * (1 - left), 0).astype(np.float32)

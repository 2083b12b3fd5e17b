"""Confidence intervals of means over images, by bootstrap."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

LEVEL = 0.95


@lru_cache(maxsize=1)
def draw_counts(n: int, n_bootstrap: int, seed: int) -> np.ndarray:
    """Draw bootstrap samples of images.

    Parameters
    ----------
    n : int
        Number of images.
    n_bootstrap : int
    seed : int

    Returns
    -------
    int array of shape (n_bootstrap, n)
        How often each image was drawn. Read-only, because it is cached for the next metric.
    """
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_bootstrap)
    counts.flags.writeable = False
    return counts


def bootstrap_interval(
    values: np.ndarray, n_bootstrap: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Confidence interval (95 %) of means over images, by the percentile method.

    Parameters
    ----------
    values : float array of shape (n_images, n_metrics)
        The same draws serve all metrics.
    n_bootstrap : int
    seed : int

    Returns
    -------
    low, high : float64 arrays of shape (n_metrics,)
    """
    counts = draw_counts(len(values), n_bootstrap, seed)
    return take_interval(counts @ values / len(values))


def bootstrap_group(
    groups: list[tuple[np.ndarray, np.ndarray]], n_bootstrap: int, seed: int
) -> tuple[float, float]:
    """Confidence interval of the mean over subjects of their means over images.

    An image is drawn jointly for all subjects who saw it, so effects that it has on all of them
    widen the interval.

    Parameters
    ----------
    groups : list of (int array of shape (n_images,), float array of shape (n_images,))
        The image ids and values of each subject.
    n_bootstrap : int
    seed : int

    Returns
    -------
    low, high : float
    """
    numbers = np.unique(np.concatenate([ids for ids, _ in groups]))
    counts = draw_counts(len(numbers), n_bootstrap, seed)
    means = []
    for ids, values in groups:
        drawn = counts[:, np.searchsorted(numbers, ids)]
        # A draw without any image that a subject saw says nothing about that subject.
        total = drawn.sum(axis=1)
        means.append(np.where(total > 0, drawn @ values / np.maximum(total, 1), values.mean()))
    return take_interval(np.mean(means, axis=0))


def bootstrap_runs(values: np.ndarray, n_bootstrap: int, seed: int) -> tuple[float, float]:
    """Confidence interval of the mean over repeated runs and the images that all of them show.

    Runs and images are drawn independently, each with replacement. With few runs the interval is
    too narrow, because their variance is estimated with the number of runs as divisor.

    Parameters
    ----------
    values : float array of shape (n_runs, n_images)
    n_bootstrap : int
    seed : int

    Returns
    -------
    low, high : float
    """
    n_runs, n_images = values.shape
    images = draw_counts(n_images, n_bootstrap, seed)
    # A different random stream from that of the images.
    runs = np.random.default_rng([seed, 1]).multinomial(
        n_runs, np.full(n_runs, 1 / n_runs), size=n_bootstrap
    )
    means = np.einsum("br,br->b", images @ values.T, runs) / (n_runs * n_images)
    return take_interval(means)


def take_interval(means: np.ndarray) -> np.ndarray:
    """The middle 95 % of bootstrap means, float of shape (n_bootstrap, ...), along the first
    axis."""
    tail = (1 - LEVEL) / 2
    return np.quantile(means, [tail, 1 - tail], axis=0)

"""Score decoded depth maps against those of the pictures shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from nsdldm.evaluation.identification import correlate_rows, identify
from nsdldm.intervals import bootstrap_interval
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array, load_table, save_table

# Rows of a file read at once.
ROWS_AT_ONCE = 1000


def score_depth(
    *,
    decoded: Path | str,
    features: Path | str,
    images: Path | str,
    bootstrap: int,
    seed: int,
    table: Path | str,
) -> None:
    """Score the decoded depth maps of a subject's test images.

    Relative depth has neither scale nor shift, so only the order of values within a map counts.

    Parameters
    ----------
    decoded : path
        ``.npy`` (n_test, height, width): decoded maps, in the order of the test images.
    features : path
        ``.npy`` (n_images, height, width): the estimator's maps of the pictures themselves.
    images : path
        ``images.tsv``.
    bootstrap, seed : int
        Draws of the interval over images.
    table : path
        Output: score, value, low, high, chance, floor and n (test images). Scores are
        ``spearman``, the rank correlation of decoded and true map over all places, averaged over
        images, 0 where a map is constant; and ``identification``, the fraction of other images
        whose decoded map has a lower rank correlation with the true one. ``chance`` is that of
        another image's decoded map, ``floor`` that of the mean map of the training images, which
        knows that the ground is below and near. The ceiling of both is 1.

    Raises
    ------
    InputError
        Maps do not fit the table or each other, or there are fewer than two test images.
    """
    split = load_table(images)["split"].to_numpy()
    test = np.flatnonzero(split == "test")
    known, made = load_array(features), load_array(decoded)
    _check_shape(features, known, (len(split), *known.shape[1:]))
    _check_shape(decoded, made, (len(test), *known.shape[1:]))
    if len(test) < 2:
        remedy = "Use sessions that share images with the other subjects"
        raise InputError(Finding(str(images), "two test images", str(len(test)), remedy))
    true = _rank(known[test])
    r = np.nan_to_num(correlate_rows(true, _rank(made)))
    mean = _average(known, np.flatnonzero(split == "train"))
    r_mean = np.nan_to_num(correlate_rows(true, _rank(mean[None])))
    n = len(test)
    values = np.stack([np.diag(r), identify(r)[0]], axis=1)
    others = (r.sum() - np.trace(r)) / (n * (n - 1))
    # With one map for all images, every comparison is a tie.
    floors = r_mean.mean(), identify(np.repeat(r_mean, n, axis=1))[0].mean()
    low, high = bootstrap_interval(values, bootstrap, seed)
    columns = {"value": values.mean(axis=0), "low": low, "high": high}
    columns |= {"chance": (others, 0.5), "floor": floors, "n": n}
    save_table(table, pd.DataFrame({"score": ("spearman", "identification")} | columns))


def _check_shape(path, array, shape):
    if array.shape != shape:
        remedy = "Make it again from the images and the estimator of the config"
        raise InputError(Finding(str(path), f"shape {shape}", f"shape {array.shape}", remedy))


def _rank(maps):
    """Ranks of the values within each map, in a row per map."""
    return rankdata(maps.reshape(len(maps), -1), axis=1)


def _average(array, rows):
    """Mean over rows, some at a time."""
    starts = range(0, len(rows), ROWS_AT_ONCE)
    parts = (array[rows[start : start + ROWS_AT_ONCE]] for start in starts)
    return sum(part.sum(axis=0, dtype=np.float64) for part in parts) / len(rows)

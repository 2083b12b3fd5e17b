"""Scores of single images of a case, and bootstrap draws of their means over images."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from nsdldm.evaluation.candidates import ALL, GROUP
from nsdldm.intervals import draw_counts, take_interval
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_table

READ = ("nsd_id", "similarity", "source", "score", "candidates", "value")
KEY = ["source", "score", "candidates"]
CEILING = "ceiling"
# Sources that are not what a case's decoder made.
BESIDE = ("shuffled", "nearest", "mean", CEILING)
SHARE, SLOPE = "-category-share", "-by-similarity"
CHANCE = 0.5

Key = tuple[str, str, str]


class Scores(NamedTuple):
    """Scores of the test images of one subject and case.

    Parameters
    ----------
    ids : int array of shape (n_images,)
        Sorted.
    keys : list of tuple
        Source, score and candidates of each column.
    values : float array of shape (n_images, n_keys)
        NaN where an image has no candidates.
    similarity : float array of shape (n_images,)
    """

    ids: np.ndarray
    keys: list[Key]
    values: np.ndarray
    similarity: np.ndarray


class Drawn(NamedTuple):
    """Means over images: of all first, then of each bootstrap sample.

    Parameters
    ----------
    means : float64 array of shape (1 + n_bootstrap,)
    ids : int array of shape (n,)
        The images behind them.
    """

    means: np.ndarray
    ids: np.ndarray

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, by the percentile method; NaN where no draw is finite."""
        known = self.means[1:][np.isfinite(self.means[1:])]
        if not len(known) or not np.isfinite(self.means[0]):
            return np.nan, np.nan
        low, high = take_interval(known)
        return float(low), float(high)


def read_table(path: Path | str, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read a table that must have certain columns; others are left out.

    Raises
    ------
    InputError
    """
    table = load_table(path)
    missing = [name for name in columns if name not in table]
    if missing:
        found = f"none of {', '.join(missing)}"
        expected = f"a table with the columns {', '.join(columns)}"
        raise InputError(Finding(str(path), expected, found, "Make it again"))
    return table[list(columns)]


def read_scores(path: Path | str) -> Scores:
    """Read scores of single images.

    Parameters
    ----------
    path : path
        As `nsdldm.evaluation.generalisation.score_case` writes them.

    Returns
    -------
    Scores

    Raises
    ------
    InputError
        A column is missing, or an image is there twice.
    """
    table = read_table(path, READ)
    table[KEY] = table[KEY].fillna("").astype(str)
    ids, rows = np.unique(table["nsd_id"].to_numpy(np.int64), return_inverse=True)
    columns = table.groupby(KEY, sort=False).ngroup().to_numpy()
    keys = list(table[KEY].drop_duplicates().itertuples(index=False, name=None))
    if len(table) != len(np.unique(rows * len(keys) + columns)):
        expected, remedy = "a row for each image and score", "Score the case again"
        raise InputError(Finding(str(path), expected, "the same image twice", remedy))
    values, similarity = np.full((len(ids), len(keys)), np.nan), np.full(len(ids), np.nan)
    values[rows, columns] = table["value"]
    similarity[rows] = table["similarity"]
    return Scores(ids, keys, values, similarity)


class Draws:
    """Bootstrap samples of the images of a case, the same for all subjects and scores.

    Parameters
    ----------
    ids : int array of shape (n_images,)
        Images that any subject saw.
    n_bootstrap, seed : int
    """

    def __init__(self, ids: np.ndarray, n_bootstrap: int, seed: int):
        self.ids = np.unique(ids)
        counts = draw_counts(len(self.ids), n_bootstrap, seed)
        # All images first, which gives what was observed.
        self.counts = np.vstack([np.ones(len(self.ids)), counts])

    def _choose(self, ids):
        return self.counts[:, np.searchsorted(self.ids, ids)]

    def average(self, scores: Scores) -> dict[Key, Drawn]:
        """Means of all scores of one subject, by key.

        A sample without any image of a score counts as the mean of all, since it says nothing.
        """
        known, counts = np.isfinite(scores.values), self._choose(scores.ids)
        sums, totals = counts @ np.nan_to_num(scores.values), counts @ known
        with np.errstate(invalid="ignore"):
            means = np.where(totals > 0, sums / totals, sums[0] / totals[0])
        return {
            key: Drawn(means[:, place], scores.ids[known[:, place]])
            for place, key in enumerate(scores.keys)
        }

    def relate(self, scores: Scores) -> dict[Key, Drawn]:
        """Rank correlations of scores among all images with similarity, by key.

        Ranks are those of all images, also in bootstrap samples.
        """
        places = [place for place, key in enumerate(scores.keys) if key[2] == ALL]
        known = np.isfinite(scores.similarity) & np.isfinite(scores.values[:, places]).all(axis=1)
        if not places or known.sum() < 3:
            return {}
        ids, counts = scores.ids[known], self._choose(scores.ids[known])
        counts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        x, y = (
            rankdata(values[known], axis=0) - (known.sum() + 1) / 2
            for values in (scores.similarity[:, None], scores.values[:, places])
        )
        mean_x, mean_y = counts @ x, counts @ y
        covariance = counts @ (x * y) - mean_x * mean_y
        variances = counts @ x**2 - mean_x**2, counts @ y**2 - mean_y**2
        # Of constant ranks nothing but rounding is left.
        varies = np.minimum(*np.broadcast_arrays(*variances)) > 1e-9 * len(ids) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.where(varies, covariance / np.sqrt(variances[0] * variances[1]), np.nan)
        found = {}
        for column, place in enumerate(places):
            if np.isfinite(r[0, column]):
                source, score, candidates = scores.keys[place]
                key = source, f"{score}{SLOPE}", candidates
                found[key] = Drawn(np.clip(r[:, column], -1, 1), ids)
        return found

    def pair(self, scores: Scores) -> dict[Key, tuple[Drawn, Drawn]]:
        """Means among images of the same group, and of the same images among all, by key.

        Only for what the case's decoder made.
        """
        found = {}
        for key in scores.keys:
            source, score, candidates = key
            whole = source, score, ALL
            if candidates != GROUP or source in BESIDE or whole not in scores.keys:
                continue
            places = [scores.keys.index(key), scores.keys.index(whole)]
            values = scores.values[:, places]
            rows = np.isfinite(values).all(axis=1)
            part = Scores(scores.ids[rows], [key, whole], values[rows], scores.similarity[rows])
            if rows.any():
                found[source, f"{score}{SHARE}", GROUP] = tuple(self.average(part).values())
        return found


def average_subjects(parts: list[Drawn]) -> Drawn:
    """Mean over subjects of the same draws of images.

    Parameters
    ----------
    parts : list of Drawn

    Returns
    -------
    Drawn
    """
    ids = np.unique(np.concatenate([part.ids for part in parts]))
    return Drawn(np.mean([part.means for part in parts], axis=0), ids)


def divide_margins(part: Drawn, whole: Drawn, chance: float) -> Drawn | None:
    """One margin above chance as a share of another, drawn jointly.

    Parameters
    ----------
    part, whole : Drawn
        Of the same draws of images.
    chance : float

    Returns
    -------
    Drawn or None
        None if `whole` is not above chance by its interval.
    """
    if not whole.interval[0] > chance:
        return None
    margins = whole.means - chance
    # A draw without a margin has no share.
    margins = np.where(margins > 0, margins, np.nan)
    return Drawn((part.means - chance) / margins, part.ids)

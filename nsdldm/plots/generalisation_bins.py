"""Scores of test images by how similar they are to the nearest training image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from nsdldm.intervals import draw_counts, take_interval
from nsdldm.plots.generalisation_rows import ALL, DECODED, OTHERS, PICTURES
from nsdldm.plots.pictures import read_columns
from nsdldm.support.errors import Finding, InputError

READ = ("nsd_id", "similarity", "source", "score", "candidates", "value")
BINS = 8
LEAST = 10  # images of a case in a bin whose mean is shown
DRAWS = 1000
COLUMNS = (
    "what",
    "case",
    "score",
    "similarity_low",
    "similarity_high",
    "similarity",
    "n_images",
    "value",
    "low",
    "high",
)
BIN, DROP, MATCHED = "mean of a bin", "difference", "difference at equal similarity"


class Case(NamedTuple):
    """Per-image scores of one case and score, of all subjects.

    Parameters
    ----------
    images : int array of shape (n,)
        NSD ids; an image that several subjects saw is there for each.
    bins : int array of shape (n,)
    values, similarity : float arrays of shape (n,)
    """

    images: np.ndarray
    bins: np.ndarray
    values: np.ndarray
    similarity: np.ndarray


def read_scores(scores: dict[tuple[str, str], Path | str]) -> pd.DataFrame:
    """Read per-image scores of what was decoded, identified among all other test images.

    Parameters
    ----------
    scores : dict of path
        Keys (subject, case): as `nsdldm.evaluation.generalisation.score_case` writes them.

    Returns
    -------
    DataFrame
        With the columns subject, case, nsd_id, similarity, score and value.

    Raises
    ------
    InputError
        A table lacks a column, or has no such score of any image whose similarity is known.
    """
    parts = []
    for (subject, case), path in scores.items():
        table = read_columns(path, READ)
        picture = table["score"].isin(PICTURES) & ~table["source"].isin((*OTHERS, DECODED))
        feature = (table["source"] == DECODED) & ~table["score"].isin(PICTURES)
        own = table[(picture | feature) & (table["candidates"] == ALL)]
        own = own[np.isfinite(own["similarity"]) & np.isfinite(own["value"])]
        if not len(own):
            expected = "scores of images with their similarity to training images"
            raise InputError(Finding(str(path), expected, "none", "Score the case again"))
        own = own[["nsd_id", "similarity", "score", "value"]]
        parts.append(own.assign(subject=subject, case=case))
    return pd.concat(parts, ignore_index=True)


def choose_edges(similarity: np.ndarray, n_bins: int = BINS) -> np.ndarray:
    """Edges of bins that hold equally many images of all cases together.

    Parameters
    ----------
    similarity : float array of shape (n_images,)
    n_bins : int

    Returns
    -------
    float array of shape (n_bins + 1,)
        Increasing; fewer if many images are equally similar.
    """
    return np.unique(np.quantile(similarity, np.linspace(0, 1, n_bins + 1)))


def bin_scores(table: pd.DataFrame, edges: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Mean scores of every case and bin, and differences from a reference at equal similarity.

    The reference is the first case. A difference at equal similarity is the mean over bins of the
    difference within each, weighted by the case's images; bins with fewer than `LEAST` images of
    either are left out. Intervals (95 %): bootstrap over images, which are drawn jointly for all
    subjects who saw them.

    Parameters
    ----------
    table : DataFrame
        As `read_scores` returns it.
    edges : float array of shape (n_bins + 1,)
    seed : int

    Returns
    -------
    DataFrame
        With `COLUMNS`.
    """
    rows, n_bins = [], max(1, len(edges) - 1)
    for score, own in table.groupby("score", sort=False):
        drawn = {}
        for number, (case, part) in enumerate(own.groupby("case", sort=False)):
            data = _take_case(part, edges)
            drawn[case] = _draw_means(data, n_bins, seed + number)
            rows += _list_bins(case, score, edges, data, drawn[case])
        reference, *others = drawn
        for case in others:
            rows += _compare(case, score, drawn[case], drawn[reference])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _take_case(part, edges):
    """Values of one case and score, and the bin of each."""
    similarity = part["similarity"].to_numpy(float)
    bins = np.clip(np.searchsorted(edges, similarity, side="right") - 1, 0, max(0, len(edges) - 2))
    return Case(part["nsd_id"].to_numpy(), bins, part["value"].to_numpy(float), similarity)


def _draw_means(data, n_bins, seed):
    """Sums and counts of values in each bin: those observed first, then bootstrap draws."""
    ids, rows = np.unique(data.images, return_inverse=True)
    inside = data.bins[:, None] == np.arange(n_bins)
    # Sums over the subjects of an image come first, since an image is drawn for all of them.
    sums, counts = np.zeros((2, len(ids), n_bins))
    np.add.at(sums, rows, inside * data.values[:, None])
    np.add.at(counts, rows, inside)
    weights = np.vstack([np.ones(len(ids)), draw_counts(len(ids), DRAWS, seed)])
    return weights @ sums, weights @ counts


def _divide(sums, counts):
    """Means, NaN where there is nothing."""
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def _list_bins(case, score, edges, data, drawn):
    """Rows of the bins that hold enough images."""
    sums, counts = drawn
    means, rows = _divide(sums, counts), []
    for number in np.flatnonzero(counts[0] >= LEAST):
        inside = data.bins == number
        known = means[1:, number]
        low, high = take_interval(known[np.isfinite(known)])
        ends = edges[number], edges[min(number + 1, len(edges) - 1)]
        middle = data.similarity[inside].mean()
        rows.append((BIN, case, score, *ends, middle, inside.sum(), means[0, number], low, high))
    return rows


def _compare(case, score, own, other):
    """Rows of the difference from the reference, over all images and at equal similarity."""
    plain = [_divide(sums.sum(axis=1), counts.sum(axis=1)) for sums, counts in (own, other)]
    shared = (own[1][0] >= LEAST) & (other[1][0] >= LEAST)
    rows = [_summarise(DROP, case, score, plain[0] - plain[1], own[1][0].sum())]
    if shared.any():
        within = _divide(*(part[:, shared] for part in own))
        within -= _divide(*(part[:, shared] for part in other))
        weights = np.where(np.isfinite(within), own[1][:, shared], 0)
        total = weights.sum(axis=1)
        mean = _divide((np.nan_to_num(within) * weights).sum(axis=1), total)
        rows.append(_summarise(MATCHED, case, score, mean, total[0]))
    return rows


def _summarise(what, case, score, values, n_images):
    """A row of a difference: observed, with the interval of its draws."""
    low, high = take_interval(values[1:][np.isfinite(values[1:])])
    return (what, case, score, np.nan, np.nan, np.nan, int(n_images), values[0], low, high)


def describe_differences(numbers: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Say for each case how much of a lower score remains at equal similarity.

    Parameters
    ----------
    numbers : DataFrame
        As `bin_scores` returns it.
    names : sequence of str
        Scores, in order.

    Returns
    -------
    list of str
        One sentence per case that is compared.
    """
    sentences = []
    for case, own in numbers[numbers["what"] != BIN].groupby("case", sort=False):
        words = {DROP: [], MATCHED: []}
        for what in words:
            part = own[own["what"] == what].set_index("score")
            words[what] = [
                score for score in names if score in part.index and part.loc[score, "high"] < 0
            ]
        if not words[DROP]:
            sentences.append(f"{case}: no score is clearly lower.")
            continue
        left = ", ".join(words[MATCHED]) or "none"
        sentences.append(
            f"{case}: clearly lower in {', '.join(words[DROP])}; at equal similarity in {left}."
        )
    return sentences

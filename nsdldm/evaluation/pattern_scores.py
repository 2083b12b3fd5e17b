"""Identification of images by features that were decoded, and by what needs no decoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from nsdldm.decoding.neighbours import average_rows
from nsdldm.evaluation.candidates import (
    TRAINING,
    Candidates,
    draw_partners,
    identify_against,
    identify_among,
    identify_shuffled,
)
from nsdldm.support.errors import Finding, InputError

# Bytes of a block of training images in float32.
BLOCK_BYTES = 128_000_000
# A dimension that varies by less than this share of its mean varies by rounding.
CONSTANT = 1e-3
# Standardised patterns that vary by less than this differ from the mean by rounding only.
EMPTY = 1e-4


class Scale(NamedTuple):
    """How dimensions vary over training images.

    Parameters
    ----------
    kept : bool array of shape (d,)
        Dimensions that do.
    mean, deviation : float32 arrays of shape (n_kept,)
    """

    kept: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray


class Patterns(NamedTuple):
    """Standardised patterns of one feature, each centred and of unit length.

    A pattern without any variation is all 0, so it correlates 0 with everything and ties.

    Parameters
    ----------
    made, true : float32 arrays of shape (n_test, n_kept)
        Decoded ones, and those of the test images.
    nearest : float32 array of shape (n_test, n_kept), or None
        Of the training images nearest to the decoded ones; None if some are near to nothing.
    r : float32 array of shape (n_test, n_train)
        Correlations of decoded ones with those of training images.
    """

    made: np.ndarray
    true: np.ndarray
    nearest: np.ndarray | None
    r: np.ndarray


def _read_blocks(features, rows) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of rows with the features of these, flattened, as float32."""
    step = max(1, BLOCK_BYTES // (4 * int(np.prod(features.shape[1:]))))
    for start in range(0, len(rows), step):
        places = slice(start, start + step)
        yield places, _flatten(features[rows[places]])


def _flatten(values):
    return np.asarray(values, np.float32).reshape(len(values), -1)


def find_scale(features: np.ndarray, rows: np.ndarray) -> Scale:
    """Find mean and standard deviation of each dimension over training images.

    Parameters
    ----------
    features : float array of shape (n_images, ...)
        Read block by block, twice.
    rows : int array of shape (n_train,)

    Returns
    -------
    Scale

    Raises
    ------
    InputError
        A value is infinite or undefined, or fewer than two dimensions vary.
    """
    mean = average_rows(features, rows)
    squares = np.zeros(len(mean))
    for _, block in _read_blocks(features, rows):
        squares += np.square(block - mean.astype(np.float32)).sum(axis=0, dtype=np.float64)
    deviation = np.sqrt(squares / len(rows))
    kept = deviation > CONSTANT * np.abs(mean)
    if kept.sum() < 2:
        expected = "at least 2 dimensions that vary over training images"
        remedy = "Use more training images, or other features"
        raise InputError(Finding("`features`", expected, str(kept.sum()), remedy))
    return Scale(kept, mean[kept].astype(np.float32), deviation[kept].astype(np.float32))


def standardise(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Standardise dimensions, then centre each pattern and give it unit length.

    Parameters
    ----------
    values : float array of shape (n, ...)
    scale : Scale

    Returns
    -------
    float32 array of shape (n, n_kept)
        0 for a pattern that equals the mean of training images but for rounding.

    Raises
    ------
    InputError
        A value is infinite or undefined.
    """
    # A copy, changed in place.
    values = _flatten(values)[:, scale.kept]
    values -= scale.mean
    values /= scale.deviation
    if not np.isfinite(values).all():
        remedy = "Look for what made them there, then compute the file again"
        found = "infinite or undefined ones"
        raise InputError(Finding("features of test images", "finite values", found, remedy))
    values -= values.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.einsum("ij,ij->i", values, values))
    empty = lengths <= EMPTY * np.sqrt(values.shape[1])
    values /= np.where(empty, 1, lengths)[:, None]
    values[empty] = 0
    return values


def compare_patterns(
    decoded: np.ndarray, true: np.ndarray, known: np.ndarray, train: np.ndarray
) -> Patterns:
    """Compare decoded features with those of training images.

    Memory: five times the decoded features in float32 and a block of training images; for c of
    Stable Diffusion (59,136 dimensions) and 1,000 test images, 1.3 GB. Training images are read
    three times, which takes 2 * n_test * n_train * d operations once.

    Parameters
    ----------
    decoded, true : float arrays of shape (n_test, ...)
    known : float array of shape (n_images, ...)
        Features of images among which are the training ones.
    train : int array of shape (n_train,)
        Their rows.

    Returns
    -------
    Patterns

    Raises
    ------
    InputError
        As `find_scale` and `standardise`.
    """
    scale = find_scale(known, train)
    made = standardise(decoded, scale)
    r = np.empty((len(made), len(train)), np.float32)
    for places, block in _read_blocks(known, train):
        r[:, places] = made @ standardise(block, scale).T
    nearest = None
    if made.any(axis=1).all():
        nearest = standardise(known[train[r.argmax(axis=1)]], scale)
    return Patterns(made, standardise(true, scale), nearest, r)


def score_patterns(
    patterns: Patterns, among: Candidates, seed: int
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Identify every test image by its decoded features, and by what needs none.

    Parameters
    ----------
    patterns : Patterns
    among : Candidates
    seed : int
        Of the other images whose decoded features are taken.

    Yields
    ------
    source, candidates : str
        `decoded`; `shuffled`, those of other images; `nearest`, those of the training
        image nearest to the decoded ones; `mean`, the mean of training images, which ties with
        everything; `ceiling`, the true features.
    values : float64 array of shape (n_test,)
        NaN without candidates.
    """
    true, partners = patterns.true, draw_partners(len(patterns.true), seed)
    own = patterns.made @ true.T
    found = {"decoded": own, "mean": np.zeros_like(own), "ceiling": true @ true.T}
    if patterns.nearest is not None:
        found["nearest"] = patterns.nearest @ true.T
    for name, others in among.others.items():
        for source, r in found.items():
            yield source, name, identify_among(r, others)
        yield "shuffled", name, identify_shuffled(own, others, partners)
    rows = np.arange(len(own))
    moved = [identify_against(own[each, rows], patterns.r[each]) for each in partners]
    yield "decoded", TRAINING, identify_against(np.diag(own), patterns.r)
    yield "shuffled", TRAINING, np.mean(moved, axis=0)
    yield "mean", TRAINING, np.full(len(own), 0.5)

"""Images among which each test image is identified, and the share of them that lose."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from nsdldm.decoding.neighbours import average_rows, compare_directions
from nsdldm.evaluation.identification import derange

ALL, SIMILAR, GROUP, TRAINING = "all", "similar", "group", "training"
# Images of a group among which its images are identified.
LEAST_IMAGES = 3
# Correlations in float32 that differ by less count as equal.
TIE = 1e-6
# Other images whose decoded features or pictures are taken in turn for each.
SHUFFLES = 10


class Candidates(NamedTuple):
    """The other test images that each is compared with.

    Parameters
    ----------
    similarity : float64 array of shape (n_test,)
        Of each test image to its nearest training image.
    others : dict of str to bool array of shape (n_test, n_test)
        By kind of candidates: row i has those of image i, never itself.
    """

    similarity: np.ndarray
    others: dict[str, np.ndarray]


def find_candidates(
    tested: np.ndarray,
    known: np.ndarray,
    train: np.ndarray,
    groups: np.ndarray,
    n_similar: int,
) -> Candidates:
    """Find the test images that are similar to each, or of its group.

    Similarity is the cosine of embeddings, centred on the mean over training images, which would
    otherwise dominate it.

    Parameters
    ----------
    tested : float array of shape (n_test, ...)
        Embeddings of the test images.
    known : float array of shape (n_images, ...)
        Embeddings of all images of the table that has the training images.
    train : int array of shape (n_train,)
        Its rows of training images.
    groups : array of str of shape (n_test,)
        An empty text is no group.
    n_similar : int
        The nearest test images, or all others if there are fewer.

    Returns
    -------
    Candidates
        With `ALL`, `SIMILAR` and, in a row without any where its group has fewer than
        `LEAST_IMAGES`, `GROUP`.
    """
    n, centre = len(tested), average_rows(known, train)
    nearest = np.nan_to_num(compare_directions(tested, known, train, centre), nan=-2).max(axis=1)
    cosines = compare_directions(tested, tested, np.arange(n), centre)
    # An embedding without direction is similar to none.
    cosines = np.nan_to_num(cosines, nan=-2)
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, : min(n_similar, n - 1)]
    similar = np.zeros((n, n), bool)
    np.put_along_axis(similar, order, True, axis=1)
    apart = ~np.eye(n, dtype=bool)
    same = (groups[:, None] == groups) & (groups != "")
    same &= same.sum(axis=1, keepdims=True) >= LEAST_IMAGES
    similarity = np.where(nearest < -1, np.nan, nearest)
    return Candidates(similarity, {ALL: apart, SIMILAR: similar, GROUP: same & apart})


def read_groups(column: pd.Series) -> np.ndarray:
    """Names of groups from a table, str of shape (n,); empty where there is none, numbers without
    decimals."""
    if pd.api.types.is_float_dtype(column):
        column = column.astype("Int64")
    return column.astype("string").fillna("").to_numpy(str)


def identify_among(r: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Two-way identification of what was made by the true images, among candidates.

    Parameters
    ----------
    r : float array of shape (n, n)
        Correlations; rows are what was made for each image, columns the true images.
    others : bool array of shape (n, n)
        The candidates of each row, without itself.

    Returns
    -------
    float64 array of shape (n,)
        The share of candidates whose true image is less similar to what was made than that of the
        image itself; a tie counts one half. NaN without candidates.
    """
    margins = np.diag(r)[:, None] - r
    points = (margins > TIE) + 0.5 * (np.abs(margins) <= TIE)
    counts = others.sum(axis=1)
    sums = np.einsum("ij,ij->i", points, others)
    return np.divide(sums, counts, out=np.full(len(r), np.nan), where=counts > 0)


def identify_against(own: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Two-way identification against images of which none is the true one.

    Parameters
    ----------
    own : float array of shape (n,)
        Correlations of what was made with the true images.
    r : float array of shape (n, m)
        Correlations with others.

    Returns
    -------
    float64 array of shape (n,)
        As `identify_among`.
    """
    margins = own[:, None] - r
    return ((margins > TIE) + 0.5 * (np.abs(margins) <= TIE)).mean(axis=1)


def draw_partners(n: int, seed: int) -> np.ndarray:
    """Draw other images for each.

    Parameters
    ----------
    n : int
        At least 2.
    seed : int

    Returns
    -------
    int array of shape (SHUFFLES, n)
        Permutations that leave no image in its place.
    """
    seeds = np.random.SeedSequence(seed).generate_state(SHUFFLES)
    return np.stack([derange(n, int(each)) for each in seeds])


def identify_shuffled(r: np.ndarray, others: np.ndarray, partners: np.ndarray) -> np.ndarray:
    """Two-way identification by what was made for another image.

    Parameters
    ----------
    r, others
        As `identify_among`.
    partners : int array of shape (n_draws, n)
        The other images. They are no candidates, since what was made for them favours them.

    Returns
    -------
    float64 array of shape (n,)
        Mean over draws; NaN without candidates.
    """
    rows = np.arange(len(r))
    total, counts = np.zeros((2, len(r)))
    for moved in partners:
        left = others.copy()
        left[rows, moved] = False
        # The diagonal of moved rows is what another image's is worth for the true one.
        values = identify_among(r[moved], left)
        total += np.nan_to_num(values)
        counts += np.isfinite(values)
    return np.divide(total, counts, out=np.full(len(r), np.nan), where=counts > 0)

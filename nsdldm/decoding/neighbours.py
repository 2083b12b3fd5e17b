"""Compare decoded embeddings with those of images, and find the nearest training images."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array, load_table

# Bytes of the float64 copies of a block of images.
BLOCK_BYTES = 64_000_000


class Embeddings(NamedTuple):
    """Decoded embeddings, and those of all images of a subject.

    Parameters
    ----------
    decoded : float array of shape (n_test, ...)
        A row per test image, in the order of the table.
    true : float array of shape (n_images, ...)
        A row per image of the table.
    nsd_ids : int64 array of shape (n_images,)
    test, train : int64 arrays of shape (n_test,) and (n_train,)
        Rows of the test and training images.
    """

    decoded: np.ndarray
    true: np.ndarray
    nsd_ids: np.ndarray
    test: np.ndarray
    train: np.ndarray


def open_embeddings(decoded: Path | str, features: Path | str, images: Path | str) -> Embeddings:
    """Open decoded and true embeddings as memory maps.

    Parameters
    ----------
    decoded : path
        ``.npy`` of shape (n_test, ...): embeddings decoded from the test images' responses.
    features : path
        ``.npy`` of shape (n_images, ...): embeddings of all images.
    images : path
        Table of images with the columns nsd_id and split.

    Returns
    -------
    Embeddings

    Raises
    ------
    InputError
        There is no test or no training image, or shapes do not fit the table or one another.
    """
    table = load_table(images)
    test, train = (np.flatnonzero(table["split"] == split) for split in ("test", "train"))
    for rows, what in ((test, "test"), (train, "training")):
        if not len(rows):
            remedy = "Use other sessions"
            raise InputError(Finding(str(images), f"{what} images", "none", remedy))
    made, true = load_array(decoded), load_array(features)
    for path, array, n in ((features, true, len(table)), (decoded, made, len(test))):
        shape = (n, *true.shape[1:])
        if array.shape != shape or array.ndim < 2:
            expected = f"a row for each of {n} images, of the same shape in {features}"
            remedy = "Compute both again from the same images"
            raise InputError(
                Finding(str(path), expected, f"an array of shape {array.shape}", remedy)
            )
    return Embeddings(made, true, table["nsd_id"].to_numpy(np.int64), test, train)


def average_rows(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean of some rows of an array, flattened; float64 of shape (d,)."""
    total = sum(block.sum(axis=0) for _, block in _read_blocks(features, rows))
    return total / len(rows)


def compare_directions(
    decoded: np.ndarray, features: np.ndarray, rows: np.ndarray, centre: np.ndarray | None = None
) -> np.ndarray:
    """Cosines between decoded embeddings and those of images, each flattened.

    Parameters
    ----------
    decoded : array of shape (n_decoded, ...)
        Held in memory as float64.
    features : float array of shape (n_images, ...)
        Read block by block.
    rows : int array of shape (n,)
        Rows of `features` to compare with.
    centre : float64 array of shape (d,), optional
        Subtracted from both sides, such as the mean over training images.

    Returns
    -------
    float64 array of shape (n_decoded, n)
        NaN where either embedding has no length.

    Raises
    ------
    InputError
        A value is infinite or undefined.
    """
    queries = np.concatenate(
        [_normalise(block, centre) for _, block in _read_blocks(decoded, np.arange(len(decoded)))]
    )
    cosines = np.empty((len(decoded), len(rows)))
    for places, block in _read_blocks(features, rows):
        cosines[:, places] = queries @ _normalise(block, centre).T
    return np.clip(cosines, -1, 1)


def _read_blocks(features, rows):
    """Yield slices of `rows` with these rows of an array, flattened, as float64."""
    step = max(1, BLOCK_BYTES // (8 * int(np.prod(features.shape[1:]))))
    for start in range(0, len(rows), step):
        places = slice(start, start + step)
        block = features[rows[places]].reshape(len(rows[places]), -1).astype(np.float64)
        if not np.isfinite(block).all():
            found = "infinite or undefined ones"
            remedy = "Look for what made them there, then compute the file again"
            raise InputError(Finding("embeddings", "finite values", found, remedy))
        yield places, block


def _normalise(block, centre):
    """Rows of unit length; NaN for those without length."""
    block = block if centre is None else block - centre
    with np.errstate(invalid="ignore"):
        return block / np.linalg.norm(block, axis=1, keepdims=True)


def find_neighbours(known: Embeddings, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the training images nearest to each decoded embedding.

    Embeddings are centred on the mean over training images: what all images share, which is most of
    a CLIP embedding, would otherwise dominate the cosine.

    Parameters
    ----------
    known : Embeddings
    k : int
        Number of neighbours.

    Returns
    -------
    rows : int64 array of shape (n_test, k)
        Rows in the table, nearest first; in a tie, the first in the table.
    cosines : float64 array of shape (n_test, k)

    Raises
    ------
    InputError
        There are fewer training images than neighbours, or a decoded embedding equals the mean of
        the training images, to which nothing is near.
    """
    if not 1 <= k <= len(known.train):
        expected = f"from 1 to {len(known.train)}, the number of training images"
        raise InputError(Finding("`k`", expected, str(k), "Correct it"))
    centre = average_rows(known.true, known.train)
    cosines = compare_directions(known.decoded, known.true, known.train, centre)
    lost = np.flatnonzero(np.isnan(cosines).all(axis=1))
    if len(lost):
        number = known.nsd_ids[known.test[lost[0]]]
        found = f"none for {len(lost)} images, such as {number}: only the training images' mean"
        remedy = "Decode from a region with a response to pictures"
        expected = "decoded embeddings that depend on the image"
        raise InputError(Finding("`decoded`", expected, found, remedy))
    # A training image that equals the mean is never near.
    order = np.argsort(-np.nan_to_num(cosines, nan=-2), axis=1, kind="stable")[:, :k]
    return known.train[order], np.take_along_axis(cosines, order, axis=1)

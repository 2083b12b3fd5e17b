"""Bring the pictures of other test sets into the form of the release's own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from nsdldm.nsd.layout import IMAGE_PIXELS
from nsdldm.nsd.stimuli import DATASET, PICTURE
from nsdldm.support.files import create_hdf5


@lru_cache(maxsize=4)
def _find_overlaps(n):
    """Share of each new pixel that n old ones cover, along one side."""
    edges = np.arange(IMAGE_PIXELS + 1) * (n / IMAGE_PIXELS)
    old = np.arange(n)
    shared = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return csr_array(np.maximum(shared, 0) * (IMAGE_PIXELS / n))


def resize_square(picture: np.ndarray) -> np.ndarray:
    """Resize the central square of a picture, every new pixel being the mean over its area.

    Parameters
    ----------
    picture : uint8 or float array of shape (height, width, 3)
        From 0 to 255.

    Returns
    -------
    uint8 array of shape (425, 425, 3)
    """
    square = crop_square(picture)
    overlaps = _find_overlaps(len(square))
    for _ in range(2):
        flat = overlaps @ square.reshape(len(square), -1)
        square = flat.reshape(IMAGE_PIXELS, -1, 3).swapaxes(0, 1)
    return np.rint(square).clip(0, 255).astype(np.uint8)


def crop_square(picture: np.ndarray) -> np.ndarray:
    """The central square of a picture.

    Parameters
    ----------
    picture : array of shape (height, width, 3), of any type

    Returns
    -------
    array of shape (side, side, 3), of the same type
    """
    side = min(picture.shape[:2])
    top, left = ((n - side) // 2 for n in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def save_pictures(path: Path | str, pictures: Iterable[np.ndarray], n_pictures: int) -> None:
    """Write pictures in the form of ``nsd_stimuli.hdf5``, for `nsdldm.nsd.stimuli.read_images`.

    Parameters
    ----------
    path : str or Path
    pictures : iterable of uint8 arrays of shape (425, 425, 3)
        One at a time in memory.
    n_pictures : int
    """
    shape = (n_pictures, *PICTURE)
    with create_hdf5(path, math.prod(shape)) as file:
        dataset = file.create_dataset(DATASET, shape, np.uint8)
        for row, picture in enumerate(pictures):
            dataset[row] = picture

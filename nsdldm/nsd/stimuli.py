"""Read the release's pictures."""

from contextlib import contextmanager

import h5py
import numpy as np

from nsdldm.errors import Finding, InputError, reading
from nsdldm.nsd.layout import IMAGE_PIXELS

DATASET = "imgBrick"


@contextmanager
def open_stimuli(path):
    """Open the picture file of the release.

    Parameters
    ----------
    path : str or Path
        ``nsd_stimuli.hdf5``.

    Yields
    ------
    h5py.Dataset
        uint8 of shape (n_images, 425, 425, 3): rows, columns and RGB of the picture whose 0-based
        NSD number is its index.

    Raises
    ------
    InputError
        The file is missing, cut short or of another shape or dtype.
    """
    with reading(path, f"an HDF5 file with the dataset {DATASET}"):
        # Read-only and network file systems often cannot lock.
        file = h5py.File(path, "r", locking="best-effort")
    with file:
        with reading(path, f"an HDF5 file with the dataset {DATASET}"):
            dataset = file[DATASET]
        picture = (IMAGE_PIXELS, IMAGE_PIXELS, 3)
        if dataset.ndim != 4 or dataset.shape[1:] != picture or dataset.dtype != np.uint8:
            expected = f"uint8 of shape {('n', *picture)} in {DATASET}".replace("'", "")
            found = f"{dataset.dtype} of shape {dataset.shape}"
            remedy = "Use nsd_stimuli.hdf5 of the release"
            raise InputError(Finding(str(path), expected, found, remedy))
        yield dataset


def read_images(path, nsd_ids):
    """Iterate over pictures in the order asked for, one in memory at a time.

    Parameters
    ----------
    path : str or Path
        ``nsd_stimuli.hdf5``.
    nsd_ids : sequence of int
        0-based NSD numbers, in any order, repeats allowed.

    Yields
    ------
    uint8 array of shape (425, 425, 3)
        Rows, columns, RGB.

    Raises
    ------
    InputError
        The file cannot be used, or a number is outside it.
    """
    nsd_ids = np.asarray(nsd_ids, dtype=np.int64)
    with open_stimuli(path) as dataset:
        outside = nsd_ids[(nsd_ids < 0) | (nsd_ids >= len(dataset))]
        if len(outside):
            raise InputError(outside_stimuli(path, outside, len(dataset)))
        for nsd_id in nsd_ids:
            # One by one: HDF5 spends far more on selecting a list of indices than on reading.
            with reading(path, "pictures"):
                picture = dataset[int(nsd_id)]
            yield picture


def outside_stimuli(path, outside, n_images):
    """Describe image numbers that the picture file does not have.

    Parameters
    ----------
    path : str or Path
    outside : sequence of int
        0-based NSD numbers.
    n_images : int
        Pictures in the file.

    Returns
    -------
    Finding
    """
    return Finding(
        str(path),
        f"pictures with NSD numbers from 0 to {n_images - 1}",
        f"{len(outside)} images outside, such as {outside[0]}",
        "Use responses and pictures of the same release",
    )

"""Read and write the project's own files; nothing half-written ever bears a final name."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd


@contextmanager
def replacing(path):
    """Yield a temporary path beside `path` that takes its name when the block succeeds.

    The suffixes stay at the end of the temporary name, since nibabel and others read the
    format from them. A block that fails leaves `path` as it was and no temporary file.

    Parameters
    ----------
    path : str or Path

    Yields
    ------
    Path
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def create_array(path, shape, dtype):
    """Yield a writable memory map of a new ``.npy`` file that appears when the block succeeds.

    Parameters
    ----------
    path : str or Path
    shape : tuple of int
    dtype : dtype

    Yields
    ------
    numpy.memmap of shape `shape`
    """
    with replacing(path) as part:
        array = np.lib.format.open_memmap(part, "w+", dtype, tuple(shape))
        yield array
        array.flush()


def save_array(path, array):
    """Write an array as ``.npy``."""
    with replacing(path) as part:
        np.save(part, array, allow_pickle=False)


def copy_file(source, path):
    """Copy a file's content."""
    with replacing(path) as part:
        shutil.copyfile(source, part)


def load_array(path):
    """Open a ``.npy`` file as a read-only memory map."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def save_table(path, table):
    """Write a DataFrame as tab-separated values with a header and without its index."""
    with replacing(path) as part:
        table.to_csv(part, sep="\t", index=False, float_format="%.6g", na_rep="nan")


def load_table(path):
    """Read a table written by `save_table`."""
    return pd.read_csv(path, sep="\t")


def save_volume(path, data, affine):
    """Write an array of shape (X, Y, Z) or (X, Y, Z, n) as NIfTI; booleans become uint8."""
    data = np.asarray(data)
    image = nib.Nifti1Image(data.astype(np.uint8) if data.dtype == bool else data, affine)
    with replacing(path) as part:
        nib.save(image, part)


def load_volume(path):
    """Read a NIfTI volume as stored.

    Returns
    -------
    data : array of shape (X, Y, Z) or (X, Y, Z, n)
    affine : array of shape (4, 4)
    """
    image = nib.load(path)
    return np.asanyarray(image.dataobj), image.affine


def load_mask(path):
    """Read a mask written by `save_volume` as a boolean array of shape (X, Y, Z)."""
    return load_volume(path)[0] > 0

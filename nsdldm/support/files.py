"""Read and write the project's own files; no incomplete file ever has its final name."""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import nibabel as nib
import numpy as np
import pandas as pd

from nsdldm.support.errors import REMAKE, Finding, InputError, reading

# Less free space than this after a failed write means that the disk is full, whatever the error.
FULL = int(1e6)
# Bytes for the overhead of an HDF5 file.
HDF5_OVERHEAD = int(1e6)


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Report a full or read-only disk as an `InputError` about a file.

    Parameters
    ----------
    path : str or Path
        The file written in the block.
    """
    path = Path(path)
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        finding = _explain_write(path, error)
        if finding is None:
            raise
        raise InputError(finding) from error


def _explain_write(path, error):
    """What a failed write says about the disk, or None if it is unrelated."""
    # Do not blame `path` for what the block writes elsewhere, or reads.
    named = getattr(error, "filename", None)
    place = Path(named).absolute() if isinstance(named, str | Path) else path.absolute()
    beside = place.parent == path.absolute().parent or place in path.absolute().parents
    folder = next(parent for parent in place.parents if parent.is_dir())
    disk = next(parent for parent in (folder, *folder.parents) if os.path.ismount(parent))
    number = getattr(error, "errno", None)
    # numpy and h5py lose the errno; h5py also raises RuntimeError if closing a file fails.
    failed = isinstance(error, OSError | RuntimeError) and number is None
    full = failed and (shutil.disk_usage(folder).free < FULL or "No space left" in str(error))
    if full or number in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(folder).free / 1e6
        found = f"{free:.0f} MB free" if number != errno.EDQUOT else "your quota used up"
        remedy = "Free some and run the same command again; what is finished stays"
        return Finding(
            str(path if beside else place), f"space for it on the file system {disk}", found, remedy
        )
    if beside and number in (errno.EROFS, errno.EACCES, errno.EPERM):
        remedy = "Make the folder writable, or work in a copy of the project"
        return Finding(str(path), "a folder that can be written", error.strerror, remedy)
    return None


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path next to `path`, renamed to it when the block succeeds.

    The temporary name keeps the suffixes, since nibabel and others infer the format from them. A
    failing block leaves `path` unchanged and no temporary file behind; leftovers of a killed
    process are removed, since nobody else writes the same file.

    Parameters
    ----------
    path : str or Path

    Yields
    ------
    Path

    Raises
    ------
    InputError
        The disk is full or read-only.
    """
    path = Path(path)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            for left in path.parent.glob(".part-*"):
                if re.fullmatch(rf"\.part-\d+-{re.escape(path.name)}", left.name):
                    left.unlink(missing_ok=True)
            yield part
            # Network file systems only report a full disk here.
            with part.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def create_array(path: Path | str, shape: tuple[int, ...], dtype: Any) -> Iterator[np.memmap]:
    """Yield a writable memory map of a new ``.npy`` file, which appears when the block succeeds.

    Parameters
    ----------
    path : str or Path
    shape : tuple of int
    dtype : dtype

    Yields
    ------
    numpy.memmap of shape `shape`

    Raises
    ------
    InputError
        There is no space for it.
    """
    with replacing(path) as part:
        array = np.lib.format.open_memmap(part, "w+", dtype, tuple(shape))
        # Writing to a map on a full disk does not raise an error; it kills the process by a signal.
        _reserve(part, part.stat().st_size)
        yield array
        array.flush()


def _reserve(path, n_bytes):
    """Reserve disk space for the first bytes of an existing file, which grows to that size."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, n_bytes)


def open_hdf5(path: Path | str | BinaryIO, mode: str = "r", **options: Any) -> h5py.File:
    """Open an HDF5 file without a lock.

    Many network file systems refuse locks, and none is needed: files being written have a temporary
    name (`replacing`), and files being read are complete.

    Parameters
    ----------
    path : str, Path or binary file object
    mode : str
    **options
        Of `h5py.File`.

    Returns
    -------
    h5py.File
    """
    return h5py.File(path, mode, locking=False, **options)


@contextmanager
def create_hdf5(path: Path | str, n_bytes: int, **options: Any) -> Iterator[h5py.File]:
    """Yield a new HDF5 file, which appears when the block succeeds.

    Parameters
    ----------
    path : str or Path
    n_bytes : int
        Maximum size of its data in bytes, which is reserved.
    **options
        Of `h5py.File`.

    Yields
    ------
    h5py.File

    Raises
    ------
    InputError
        There is no space for it.
    """
    with replacing(path) as part:
        with open_hdf5(part, "w", **options) as file:
            # If HDF5 cannot write, closing the file can crash the process.
            _reserve(part, n_bytes + n_bytes // 100 + HDF5_OVERHEAD)
            yield file
            file.flush()
            size = file.id.get_filesize()
        os.truncate(part, size)


def save_array(path: Path | str, array: np.ndarray) -> None:
    """Write an array as ``.npy``."""
    with replacing(path) as part:
        np.save(part, array, allow_pickle=False)


def copy_file(source: Path | str, path: Path | str) -> None:
    """Copy a file's content."""
    with replacing(path) as part:
        shutil.copyfile(source, part)


def load_array(path: Path | str) -> np.ndarray:
    """Open a ``.npy`` file as a read-only memory map of its own shape and type.

    Raises
    ------
    InputError
        The file is missing, truncated or of another kind.
    """
    with reading(path, "a whole .npy file", REMAKE):
        return np.load(path, mmap_mode="r", allow_pickle=False)


def save_table(path: Path | str, table: pd.DataFrame) -> None:
    """Write a DataFrame as tab-separated values with a header and without its index."""
    with replacing(path) as part:
        table.to_csv(part, sep="\t", index=False, float_format="%.6g", na_rep="nan")


def load_table(path: Path | str) -> pd.DataFrame:
    """Read a table written by `save_table`.

    Raises
    ------
    InputError
        The file is missing, truncated or not a table.
    """
    with reading(path, "a whole table of tab-separated values", REMAKE):
        text = Path(path).read_text(encoding="utf-8")
        if not text.endswith("\n"):
            raise ValueError("the last line is cut off")
        return pd.read_csv(StringIO(text), sep="\t")


def save_volume(
    path: Path | str, data: np.ndarray, affine: np.ndarray, zooms: Sequence[float] | None = None
) -> None:
    """Write a volume as NIfTI.

    Parameters
    ----------
    path : str or Path
    data : array of shape (X, Y, Z) or (X, Y, Z, n)
        Booleans become uint8.
    affine : float array of shape (4, 4) or None
        None leaves the header's codes at 0, which means unknown.
    zooms : sequence of three float, optional
        Voxel sizes in millimetres, if there is no affine that gives them.
    """
    data = np.asarray(data)
    image = nib.Nifti1Image(data.astype(np.uint8) if data.dtype == bool else data, affine)
    if affine is None and zooms is not None:
        image.header.set_zooms((*zooms, *image.header.get_zooms()[3:]))
    with replacing(path) as part:
        nib.save(image, part)


def find_nifti_class(start: bytes) -> type:
    """The nibabel class for a NIfTI file, of version 1 or 2, from its first four bytes."""
    sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    return nib.Nifti2Image if nib.Nifti2Header.sizeof_hdr in sizes else nib.Nifti1Image


def load_image(path: Path | str, remedy: str = REMAKE) -> nib.Nifti1Image | nib.Nifti2Image:
    """Read a NIfTI volume, of version 1 or 2, with its header.

    Parameters
    ----------
    path : str or Path
    remedy : str
        What to do about a damaged file.

    Returns
    -------
    nibabel.Nifti1Image or Nifti2Image
        Held in memory.

    Raises
    ------
    InputError
        The file is missing, truncated, damaged or of another kind.
    """
    with reading(path, "a NIfTI volume", remedy):
        content = Path(path).read_bytes()
        # nibabel stops reading before gzip's checksum, so damage would go unnoticed.
        if str(path).endswith(".gz"):
            content = gzip.decompress(content)
        image = find_nifti_class(content).from_bytes(content)
        # Missing values would otherwise only be noticed when they are accessed.
        np.asanyarray(image.dataobj)
    return image


def load_volume(path: Path | str, remedy: str = REMAKE) -> tuple[np.ndarray, np.ndarray]:
    """Read a NIfTI volume as stored; see `load_image`.

    Returns
    -------
    data : array of shape (X, Y, Z) or (X, Y, Z, n), of the type stored
    affine : float array of shape (4, 4)
    """
    image = load_image(path, remedy)
    return np.asanyarray(image.dataobj), image.affine


def load_mask(path: Path | str) -> np.ndarray:
    """Read a mask written by `save_volume` as a boolean array of shape (X, Y, Z)."""
    return load_volume(path)[0] > 0

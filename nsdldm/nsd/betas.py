"""Read single-trial responses (betas) and extract regions from them.

The release stores a session in a volume space as int16, percent signal change times 300, with zero
in all trials if a voxel has no data. In HDF5 the axes are (trial, z, y, x), with all trials of one
voxel in one chunk, so reading a single trial touches every chunk of the file; NIfTI has (x, y, z,
trial).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from nsdldm.nsd.grids import check_axes, compare_grids, find_grid, load_masks
from nsdldm.nsd.hdf5 import open_dataset
from nsdldm.nsd.layout import TRIALS_PER_SESSION
from nsdldm.nsd.remote import fetched, find_version, is_remote, open_ranges
from nsdldm.support.errors import Damaged, Finding, InputError, reading
from nsdldm.support.files import find_nifti_class
from nsdldm.support.logs import progress
from nsdldm.support.resume import finish_parts, open_parts, record_done

if TYPE_CHECKING:
    import h5py

    from nsdldm.nsd.grids import Grid

logger = logging.getLogger(__name__)

DATASET = "betas"
UNITS_PER_PERCENT = 300
INT16 = np.iinfo(np.int16)
THREADS = 2
# Small enough for a block and its conversion to stay in the CPU cache.
VOXELS_AT_ONCE = 1024


def read_session(
    path: Path | str,
    mask: np.ndarray,
    grid: Grid | None = None,
    n_trials: int = TRIALS_PER_SESSION,
) -> tuple[np.ndarray, int]:
    """Read the betas of one session inside a mask.

    Besides the result, memory holds the same values as stored (half the size) and, unless the file
    is laid out like the release's HDF5, one plane or trial of the volume.

    Parameters
    ----------
    path : str or Path
        ``betas_sessionYY.hdf5`` or ``betas_sessionYY.nii.gz``, or those of NSD-synthetic or
        NSD-Imagery.
    mask : bool array of shape (X, Y, Z)
    grid : nsdldm.nsd.grids.Grid, optional
        The grid of the mask, to be compared with that of the file.
    n_trials : int
        Number of trials that the session must have.

    Returns
    -------
    values : float32 array of shape (n_trials, n_voxels)
        Percent signal change, trials in order, voxels in C-order of the mask; NaN in all trials
        of a voxel without data.
    n_saturated : int
        Number of values at a limit of int16 (-109.23 or 109.22 percent), which the true values may
        exceed.

    Raises
    ------
    InputError
        The file is missing, truncated, on a different grid from the mask, or of another dtype.
    """
    read = _read_hdf5 if str(path).endswith(".hdf5") else _read_nifti
    stored = np.empty((np.count_nonzero(mask), n_trials), "<i2")
    read(path, mask, grid, stored)
    values = np.empty(stored.shape[::-1], np.float32)
    starts = range(0, len(stored), VOXELS_AT_ONCE)
    with ThreadPoolExecutor(THREADS) as pool:
        counts = pool.map(_convert_block, repeat(stored), repeat(values), starts)
    return values, sum(counts)


def _convert_block(stored, values, start):
    """Convert some voxels to percent signal change; return how many values are saturated."""
    block = stored[start : start + VOXELS_AT_ONCE]
    converted = values[:, start : start + VOXELS_AT_ONCE]
    np.divide(block.T, np.float32(UNITS_PER_PERCENT), out=converted)
    converted[:, ~block.any(axis=1)] = np.nan
    return np.count_nonzero((block == INT16.min) | (block == INT16.max))


def check_betas(
    path: Path | str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    mask_shape: tuple[int, ...],
    n_trials: int = TRIALS_PER_SESSION,
) -> None:
    """Compare the shape and dtype of a session's betas with the release's.

    Parameters
    ----------
    path : str or Path
    shape : tuple of int
        (X, Y, Z, trials).
    dtype : dtype
    mask_shape : tuple of int
        (X, Y, Z) of the regions.
    n_trials : int

    Raises
    ------
    InputError
    """
    expected = (*mask_shape, n_trials)
    if tuple(shape) != expected or dtype.newbyteorder("=") != np.int16:
        remedy = "Use betas and regions of the same subject and space (func1pt8mm or func1mm)"
        wanted = f"int16 betas of shape (X, Y, Z, trials) = {expected}"
        raise InputError(Finding(str(path), wanted, f"{dtype} of {tuple(shape)}", remedy))


@contextmanager
def open_hdf5(path: Path | str, storage: dict | None = None) -> Iterator[h5py.Dataset]:
    """Open a session's HDF5 file.

    Parameters
    ----------
    path : str or Path
        A file or the address of an object; only what is read is transferred.
    storage : dict, optional
        How to read a bucket, as `nsdldm.nsd.remote.connect` takes it.

    Yields
    ------
    h5py.Dataset
        (trials, Z, Y, X).

    Raises
    ------
    InputError
        The file is missing or truncated, or has no betas.
    """
    with open_dataset(path, DATASET, storage) as dataset:
        with reading(path, f"an HDF5 file with the dataset {DATASET}"):
            _require_values(dataset)
        yield dataset


def _require_values(dataset):
    """Refuse an array whose values are not in the file; HDF5 would return zeros."""
    # Only checked for small files, since HDF5 looks up every chunk for it.
    if dataset.file.id.get_filesize() < dataset.nbytes and dataset.id.get_storage_size() == 0:
        raise Damaged(f"{DATASET} of shape {dataset.shape} without any values in the file")


@contextmanager
def open_nifti(
    path: Path | str, storage: dict | None = None
) -> Iterator[nib.Nifti1Image | nib.Nifti2Image]:
    """Open a session's NIfTI file.

    Parameters
    ----------
    path : str or Path
        A file or the address of an object; only the header is read.
    storage : dict, optional
        How to read a bucket, as `nsdldm.nsd.remote.connect` takes it.

    Yields
    ------
    nibabel.Nifti1Image or Nifti2Image
        (X, Y, Z, trials); the file stays open, so trials are decompressed once and in order.

    Raises
    ------
    InputError
        The file is missing, is not NIfTI, or scales its values, which the release never does.
    """
    with ExitStack() as stack:
        with reading(path, "a NIfTI file", small=True):
            if is_remote(path):
                stream = stack.enter_context(open_ranges(path, storage))
                if str(path).endswith(".gz"):
                    stream = stack.enter_context(gzip.open(stream))
                kind = find_nifti_class(stream.read(4))
                stream.seek(0)
                image = kind.from_stream(stream)
            else:
                image = nib.load(path, keep_file_open=True)
            slope, intercept = image.dataobj.slope, image.dataobj.inter
        if (slope, intercept) != (1, 0):
            remedy = "Use the file of the release"
            found = f"values scaled by {slope:g} and shifted by {intercept:g}"
            raise InputError(Finding(str(path), "plain numbers", found, remedy))
        yield image


def _read_hdf5(path, mask, grid, stored):
    """Fill int16 (n_voxels, n_trials) with the voxels of a mask."""
    if grid is not None:
        check_axes(grid, path)
    with open_hdf5(path) as dataset:
        check_betas(path, dataset.shape[::-1], dataset.dtype, mask.shape, stored.shape[1])
        with reading(path, "betas"):
            if not (_has_plain_chunks(dataset) and _read_chunks(dataset, mask, stored)):
                _read_planes(dataset, mask, stored)


def _has_plain_chunks(dataset):
    """Whether every voxel is a chunk of plain int16, as in the release's own files."""
    return (
        dataset.chunks == (len(dataset), 1, 1, 1)
        and dataset.dtype == np.dtype("<i2")
        and dataset.id.get_create_plist().get_nfilters() == 0
    )


def _number_voxels(mask):
    """Position of each voxel of a mask in C-order; voxels outside have a meaningless number."""
    return np.cumsum(mask.ravel()).reshape(mask.shape) - 1


def _read_chunks(dataset, mask, stored):
    """Read the voxels' chunks as a whole, since HDF5 would copy them trial by trial.

    Returns False at a chunk that was never written; checking for one beforehand would take longer.
    """
    content = stored.view(np.uint8)
    # Both in the order on disk.
    positions = _number_voxels(mask).T[mask.T]
    chunks = np.argwhere(mask.T)
    try:
        for voxel, place in zip(positions.tolist(), chunks.tolist(), strict=True):
            dataset.id.read_direct_chunk((0, *place), out=content[voxel])
    except RuntimeError:
        return False
    return True


def _read_planes(dataset, mask, stored):
    """Read the box around each z plane of the mask, however the file is chunked."""
    positions = _number_voxels(mask)
    for z in np.flatnonzero(mask.any(axis=(0, 1))):
        plane = mask[:, :, z]
        x, y = (np.flatnonzero(plane.any(axis=axis)) for axis in (1, 0))
        box = slice(x[0], x[-1] + 1), slice(y[0], y[-1] + 1)
        values = dataset[:, z, box[1], box[0]].transpose(2, 1, 0)
        stored[positions[:, :, z][plane]] = values[plane[box]]


def _read_nifti(path, mask, grid, stored):
    """Fill int16 (n_voxels, n_trials) with the voxels of a mask, trial by trial."""
    with open_nifti(path) as image:
        if grid is not None and (finding := compare_grids(find_grid(path, image), grid)):
            raise InputError(finding)
        check_betas(path, image.shape, image.get_data_dtype(), mask.shape, stored.shape[1])
        for trial in range(stored.shape[1]):
            with reading(path, "betas"):
                stored[:, trial] = np.asanyarray(image.dataobj[..., trial])[mask]


def extract_betas(
    *,
    sessions: list[Path | str],
    masks: dict[str, Path | str],
    outputs: dict[str, Path | str],
    partial: Path | str,
    storage: dict | None = None,
    n_trials: int | Sequence[int] = TRIALS_PER_SESSION,
    read: Callable | None = None,
) -> None:
    """Write the betas of each region over sessions, reading each session once.

    Whatever the number of sessions, memory holds two of them (the union of the masks): one is
    written while the next is read. Sessions in a bucket are on disk one at a time. An interrupted
    run continues after the last complete session.

    Parameters
    ----------
    sessions : list of path
        The betas of each session, in the order of the trials table; files or addresses of objects.
    masks : dict of str to path
        The mask of each region, NIfTI of one shape (X, Y, Z).
    outputs : dict of str to path
        ``.npy`` of each region: float32 of shape (n_trials of all sessions, n_voxels), percent
        signal change, voxels in C-order of the mask, NaN for a voxel without data in a session. Not
        z-scored.
    partial : str or Path
        Folder for work in progress, removed at the end. Work on other sessions or masks is
        discarded.
    storage : dict, optional
        How to read a bucket, as `nsdldm.nsd.remote.connect` takes it.
    n_trials : int or sequence of int
        Of every session, or of each.
    read : callable, optional
        What reads a session, in the way of `read_session`, the default.

    Raises
    ------
    InputError
        As `read_session`; or masks are on different grids, or an object cannot be fetched.
    """
    loaded, grid = load_masks({name: masks[name] for name in outputs})
    union = np.logical_or.reduce(list(loaded.values()))
    members = {name: np.flatnonzero(mask[union]) for name, mask in loaded.items()}
    counts = [n_trials] * len(sessions) if isinstance(n_trials, int) else list(n_trials)
    starts = np.cumsum([0, *counts]).tolist()
    shapes = {name: (starts[-1], len(voxels)) for name, voxels in members.items()}
    key = _identify_work(sessions, loaded, storage)
    files, done = open_parts(partial, shapes, key)
    sessions = progress(sessions[done:], len(sessions) - done, "sessions")
    with ThreadPoolExecutor(1) as writer:
        written = writer.submit(int)
        for index, path in enumerate(sessions, done):
            with fetched(path, partial, storage) as local:
                values, n_saturated = (read or read_session)(local, union, grid, counts[index])
            n_invalid = np.count_nonzero(np.isnan(values[0]))
            message = "%s: %d of %d voxels without data, %d saturated values"
            logger.info(message, path, n_invalid, values.shape[1], n_saturated)
            written.result()
            note = (partial, key, index + 1)
            written = writer.submit(_write_session, note, files, members, starts[index], values)
            del values
        written.result()
    finish_parts(partial, files, outputs)


def _identify_work(sessions, masks, storage):
    """Digest of the sessions' versions and of the masks."""
    versions = [find_version(path, storage) for path in sessions]
    digest = hashlib.sha256(json.dumps(versions).encode())
    for name in sorted(masks):
        digest.update(f"{name} {masks[name].shape}".encode())
        digest.update(np.packbits(masks[name]).tobytes())
    return digest.hexdigest()


def _write_session(note, files, members, start, values):
    """Write a session's rows of every matrix, and note that it is complete."""
    rows = slice(start, start + len(values))
    for name, voxels in members.items():
        # Reopened each time: pages of an open map would pile up.
        array = np.load(files[name], mmap_mode="r+", allow_pickle=False)
        np.take(values, voxels, axis=1, out=array[rows], mode="clip")
        array.flush()
    record_done(*note)


def read_surface_betas(path: Path | str) -> np.ndarray:
    """Read one hemisphere's betas of a session on fsaverage.

    Parameters
    ----------
    path : str or Path
        ``lh.betas_sessionYY.mgh``: big-endian float32, already in percent signal change, NaN in
        all trials of a vertex without data.

    Returns
    -------
    float32 array of shape (750, n_vertices)

    Raises
    ------
    InputError
        The file is missing, truncated or of another shape.
    """
    with reading(path, "an MGH file of betas"):
        image = nib.load(path)
        claimed = math.prod(map(int, image.shape)) * image.get_data_dtype().itemsize
        if claimed > Path(path).stat().st_size:
            raise Damaged(f"a header that claims {claimed} bytes in a shorter file")
        data = np.asanyarray(image.dataobj)
    expected = (len(data), 1, 1, TRIALS_PER_SESSION)
    if data.shape != expected:
        remedy = "Use the file of the release"
        raise InputError(Finding(str(path), f"shape {expected}", f"{data.shape}", remedy))
    return np.ascontiguousarray(data[:, 0, 0].T, dtype=np.float32)

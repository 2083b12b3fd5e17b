"""Read single-trial responses (betas) and cut regions out of them.

The release stores a session of a volume space as int16, percent signal change times 300, zero in
all trials where a voxel has no data. In HDF5 the axes are (trial, z, y, x) with all trials of one
voxel in one chunk, so a single trial touches every chunk of the file; NIfTI has (x, y, z, trial).
"""

import gzip
import hashlib
import json
import logging
from contextlib import ExitStack, contextmanager

import h5py
import nibabel as nib
import numpy as np

from nsdldm.errors import Finding, InputError, reading
from nsdldm.files import load_mask
from nsdldm.logs import progress
from nsdldm.nsd.layout import TRIALS_PER_SESSION
from nsdldm.nsd.remote import fetched, identify, is_remote, open_ranges
from nsdldm.resume import finish_parts, open_parts, record_done

logger = logging.getLogger(__name__)

DATASET = "betas"
UNITS_PER_PERCENT = 300
INT16 = np.iinfo(np.int16)


def read_session(path, mask):
    """Read the betas of one session inside a mask.

    One plane of the volume (HDF5) or one trial (NIfTI) is held besides the result.

    Parameters
    ----------
    path : str or Path
        ``betas_sessionYY.hdf5`` or ``betas_sessionYY.nii.gz``.
    mask : bool array of shape (X, Y, Z)

    Returns
    -------
    values : float32 array of shape (750, n_voxels)
        Percent signal change, trials in order, voxels in C-order of the mask; NaN in all trials
        of a voxel without data.
    n_saturated : int
        Values at a limit of int16 (-109.23 or 109.22 percent), which the true ones may exceed.

    Raises
    ------
    InputError
        The file is missing, cut short, on another grid than the mask, or of another dtype.
    """
    read = _read_hdf5 if str(path).endswith(".hdf5") else _read_nifti
    values = np.empty((TRIALS_PER_SESSION, np.count_nonzero(mask)), np.float32)
    n_saturated = 0
    # Fills `values` piece by piece with the stored integers, which float32 holds exactly.
    for trials, voxels, piece in read(path, mask):
        n_saturated += np.count_nonzero((piece == INT16.min) | (piece == INT16.max))
        values[trials, voxels] = piece
    without_data = ~values.any(axis=0)
    values /= UNITS_PER_PERCENT
    values[:, without_data] = np.nan
    return values, n_saturated


def check_betas(path, shape, dtype, mask_shape):
    """Compare the shape and dtype of a session's betas with what the release has.

    Parameters
    ----------
    path : str or Path
    shape : tuple of int
        (X, Y, Z, trials).
    dtype : dtype
    mask_shape : tuple of int
        (X, Y, Z) of the regions.

    Raises
    ------
    InputError
    """
    expected = (*mask_shape, TRIALS_PER_SESSION)
    if tuple(shape) != expected or dtype.newbyteorder("=") != np.int16:
        remedy = "Use betas and regions of the same subject and space (func1pt8mm or func1mm)"
        wanted = f"int16 betas of shape (X, Y, Z, trials) = {expected}"
        raise InputError(Finding(str(path), wanted, f"{dtype} of {tuple(shape)}", remedy))


@contextmanager
def open_hdf5(path, storage=None):
    """Open a session's HDF5 file.

    Parameters
    ----------
    path : str or Path
        A file or the address of an object, of which only what is read is transferred.
    storage : dict, optional
        How to read a bucket, as `nsdldm.nsd.remote.connect` takes it.

    Yields
    ------
    h5py.Dataset
        (trials, Z, Y, X).

    Raises
    ------
    InputError
        The file is missing, cut short, or has no betas.
    """
    with ExitStack() as stack:
        with reading(path, f"an HDF5 file with the dataset {DATASET}"):
            # Read-only and network file systems often cannot lock.
            options = {} if is_remote(path) else {"locking": "best-effort"}
            source = stack.enter_context(open_ranges(path, storage)) if is_remote(path) else path
            file = stack.enter_context(h5py.File(source, "r", **options))
            dataset = file[DATASET]
        yield dataset


@contextmanager
def open_nifti(path, storage=None):
    """Open a session's NIfTI file.

    Parameters
    ----------
    path : str or Path
        A file or the address of an object, of which only the header is to be read.
    storage : dict, optional
        How to read a bucket, as `nsdldm.nsd.remote.connect` takes it.

    Yields
    ------
    nibabel.Nifti1Image
        (X, Y, Z, trials); its file stays open, so that trials are decompressed once and in order.

    Raises
    ------
    InputError
        The file is missing, not NIfTI, or scales its values, which the release never does.
    """
    with ExitStack() as stack:
        with reading(path, "a NIfTI file"):
            if is_remote(path):
                stream = stack.enter_context(open_ranges(path, storage))
                if str(path).endswith(".gz"):
                    stream = stack.enter_context(gzip.open(stream))
                image = nib.Nifti1Image.from_stream(stream)
            else:
                image = nib.load(path, keep_file_open=True)
        if (image.dataobj.slope, image.dataobj.inter) != (1, 0):
            remedy = "Use the file of the release"
            found = f"values scaled by {image.dataobj.slope:g}, shifted by {image.dataobj.inter:g}"
            raise InputError(Finding(str(path), "plain integers", found, remedy))
        yield image


def _read_hdf5(path, mask):
    """Yield (all trials, voxel positions, int16 (750, n)) for each z plane of the mask."""
    with open_hdf5(path) as dataset:
        check_betas(path, dataset.shape[::-1], dataset.dtype, mask.shape)
        read_plane = _read_chunks if _has_plain_chunks(dataset) else _read_box
        positions = np.cumsum(mask.ravel()).reshape(mask.shape) - 1
        for z in np.flatnonzero(mask.any(axis=(0, 1))):
            with reading(path, "betas"):
                piece = read_plane(dataset, z, mask[:, :, z])
            yield slice(None), positions[:, :, z][mask[:, :, z]], piece


def _has_plain_chunks(dataset):
    """Whether every voxel is a chunk of plain int16, as in the release's own files."""
    return (
        dataset.chunks == (TRIALS_PER_SESSION, 1, 1, 1)
        and dataset.dtype == np.dtype("<i2")
        and dataset.id.get_create_plist().get_nfilters() == 0
        and dataset.id.get_storage_size() == dataset.nbytes
    )


def _read_chunks(dataset, z, plane):
    """Read the chunks of a plane's voxels whole, since HDF5 would copy them trial by trial."""
    x, y = np.nonzero(plane)
    chunks = np.empty((len(x), TRIALS_PER_SESSION), "<i2")
    content = chunks.view(np.uint8)
    for voxel in np.lexsort((x, y)):  # the order on disk
        dataset.id.read_direct_chunk((0, z, y[voxel], x[voxel]), out=content[voxel])
    return chunks.T


def _read_box(dataset, z, plane):
    """Read all trials of the bounding box of a plane's voxels, however the file is chunked."""
    x, y = (np.flatnonzero(plane.any(axis=axis)) for axis in (1, 0))
    box = slice(x[0], x[-1] + 1), slice(y[0], y[-1] + 1)
    return dataset[:, z, box[1], box[0]].transpose(0, 2, 1)[:, plane[box]]


def _read_nifti(path, mask):
    """Yield (trial, all voxels, int16 (n,)) for each trial."""
    with open_nifti(path) as image:
        check_betas(path, image.shape, image.get_data_dtype(), mask.shape)
        for trial in range(TRIALS_PER_SESSION):
            with reading(path, "betas"):
                volume = np.asanyarray(image.dataobj[..., trial])
            yield trial, slice(None), volume[mask]


def extract_betas(*, sessions, masks, outputs, partial, storage=None):
    """Write the betas of each region over sessions, reading each session once.

    Memory holds one session of the union of the masks, whatever the number of sessions; of sessions
    in a bucket one at a time lies on disk. A run that was interrupted goes on after the last
    complete session.

    Parameters
    ----------
    sessions : list of path
        The betas of each session, in the order of the trials table; files or addresses of objects.
    masks : dict of str to path
        The mask of each region, NIfTI of one shape (X, Y, Z).
    outputs : dict of str to path
        ``.npy`` of each region: float32 of shape (750 x n_sessions, n_voxels), percent signal
        change, voxels in C-order of the mask, NaN for a voxel without data in a session. Not
        z-scored.
    partial : str or Path
        Folder for work in progress, removed at the end. Work from other sessions or masks is
        discarded.
    storage : dict, optional
        How to read a bucket, as `nsdldm.nsd.remote.connect` takes it.

    Raises
    ------
    InputError
        As `read_session`, the masks are on different grids, or an object cannot be fetched.
    """
    loaded = {name: load_mask(masks[name]) for name in outputs}
    if len({mask.shape for mask in loaded.values()}) > 1:
        found = ", ".join(f"{name} {mask.shape}" for name, mask in loaded.items())
        remedy = "Make the masks from atlases of one subject and space"
        raise InputError(Finding("masks", "one grid", found, remedy))
    union = np.logical_or.reduce(list(loaded.values()))
    members = {name: np.flatnonzero(mask[union]) for name, mask in loaded.items()}
    n_trials = TRIALS_PER_SESSION * len(sessions)
    shapes = {name: (n_trials, len(voxels)) for name, voxels in members.items()}
    key = _identify_work(sessions, loaded, storage)
    files, done = open_parts(partial, shapes, key)
    for index, path in enumerate(progress(sessions[done:], len(sessions) - done, "sessions"), done):
        with fetched(path, partial, storage) as local:
            values, n_saturated = read_session(local, union)
        n_invalid = np.count_nonzero(np.isnan(values[0]))
        message = "%s: %d of %d voxels without data, %d saturated values"
        logger.info(message, path, n_invalid, values.shape[1], n_saturated)
        rows = slice(index * TRIALS_PER_SESSION, (index + 1) * TRIALS_PER_SESSION)
        for name, voxels in members.items():
            _write_rows(files[name], rows, values, voxels)
        record_done(partial, key, index + 1)
    finish_parts(partial, files, outputs)


def _identify_work(sessions, masks, storage):
    """Digest of the sessions' versions and of the masks."""
    versions = [identify(path, storage) for path in sessions]
    digest = hashlib.sha256(json.dumps(versions).encode())
    for name in sorted(masks):
        digest.update(f"{name} {masks[name].shape}".encode())
        digest.update(np.packbits(masks[name]).tobytes())
    return digest.hexdigest()


def _write_rows(path, rows, values, voxels):
    """Write some voxels of a session into a matrix, whose pages would pile up if it stayed open."""
    array = np.load(path, mmap_mode="r+", allow_pickle=False)
    np.take(values, voxels, axis=1, out=array[rows], mode="clip")
    array.flush()


def read_surface_betas(path):
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
        The file is missing, cut short or of another shape.
    """
    with reading(path, "an MGH file of betas"):
        data = np.asanyarray(nib.load(path).dataobj)
    expected = (len(data), 1, 1, TRIALS_PER_SESSION)
    if data.shape != expected:
        remedy = "Use the file of the release"
        raise InputError(Finding(str(path), f"shape {expected}", f"{data.shape}", remedy))
    return np.ascontiguousarray(data[:, 0, 0].T, dtype=np.float32)

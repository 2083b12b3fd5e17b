"""Write volumes, betas and surfaces in exactly the release's formats."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.nifti1 import header_dtype

from nsdldm.support.files import create_hdf5, replacing

SCALE = 300
TR = 4 / 3
STAMP = "created by nsdldm, simulated"


def write_nifti(path: Path | str, data: np.ndarray, zoom: float, tr: float = 1.0) -> None:
    """Write a compressed NIfTI volume with the release's header.

    The header is that of the MATLAB toolbox with which the release was written: the centre of the
    volume is the origin (sform only), no scaling, no units, extrema in ``glmax`` and ``glmin``.

    Parameters
    ----------
    path : str or Path
        Ends in ``.nii.gz``.
    data : int16, float32 or float64 array of shape (X, Y, Z) or (X, Y, Z, T)
        The axes run to the right, front and top.
    zoom : float
        Side of a voxel in millimetres.
    tr : float
        The release's duration of a volume: 4/3 s for the 1.8 mm betas, otherwise 1.
    """
    data = np.asarray(data)
    header = np.zeros((), header_dtype)
    header["sizeof_hdr"], header["regular"], header["magic"] = 348, b"r", b"n+1"
    header["dim"] = [data.ndim, *data.shape, *[1] * (7 - data.ndim)]
    header["datatype"] = nib.nifti1.data_type_codes.code[data.dtype]
    header["bitpix"] = 8 * data.dtype.itemsize
    header["pixdim"] = [0, zoom, zoom, zoom, tr, 1, 1, 1]
    header["vox_offset"], header["aux_file"], header["sform_code"] = 352, b"none", 1
    known = data[np.isfinite(data)] if data.dtype.kind == "f" else data
    if known.size:
        header["glmax"], header["glmin"] = np.rint([known.max(), known.min()])
    for axis, row in enumerate(("srow_x", "srow_y", "srow_z")):
        header[row][axis] = zoom
        header[row][3] = -(data.shape[axis] - 1) / 2 * zoom
    content = header.tobytes() + bytes(4) + data.tobytes(order="F")
    with replacing(path) as part:
        # No time in the gzip header, so that equal data give identical files.
        part.write_bytes(gzip.compress(content, 6, mtime=0))


def to_int16(percent: np.ndarray) -> np.ndarray:
    """Convert percent signal change to the release's integers: times 300, saturated, NaN is 0.

    Parameters
    ----------
    percent : float array of any shape

    Returns
    -------
    int16 array of the same shape
    """
    return np.clip(np.rint(np.nan_to_num(percent) * SCALE), -32768, 32767).astype(np.int16)


def write_betas_hdf5(path: Path | str, betas: np.ndarray) -> None:
    """Write a session's betas as the release's HDF5: a chunk holds all trials of a voxel.

    Parameters
    ----------
    path : str or Path
    betas : int16 array of shape (n_trials, X, Y, Z)
        Percent signal change times 300.
    """
    with create_hdf5(path, betas.nbytes, libver=("earliest", "v108")) as file:
        shape = (len(betas), *betas.shape[:0:-1])
        dataset = file.create_dataset("betas", shape, "<i2", chunks=(len(betas), 1, 1, 1))
        for plane in range(shape[1]):
            dataset[:, plane] = betas[..., plane].transpose(0, 2, 1)


def write_betas_nifti(path: Path | str, betas: np.ndarray, zoom: float) -> None:
    """Write a session's betas as the release's NIfTI.

    Parameters
    ----------
    path : str or Path
    betas : int16 array of shape (n_trials, X, Y, Z)
        Percent signal change times 300.
    zoom : float
        Side of a voxel in millimetres.
    """
    write_nifti(path, np.moveaxis(betas, 0, -1), zoom, TR)


def write_betas_surface(path: Path | str, percent: np.ndarray) -> None:
    """Write a session's betas of one hemisphere of fsaverage.

    Parameters
    ----------
    path : str or Path
        Ends in ``.mgh``.
    percent : float array of shape (n_trials, n_vertices)
        Percent signal change itself; NaN is invalid.
    """
    write_mgh(path, np.asarray(percent).T)


def write_mgh(path: Path | str, values: np.ndarray) -> None:
    """Write values of vertices as MGH, compressed when the name ends in ``.mgz``.

    Parameters
    ----------
    path : str or Path
    values : array of shape (n_vertices,) or (n_vertices, n)
        Stored as float32 of shape (n_vertices, 1, 1) or (n_vertices, 1, 1, n).
    """
    values = np.asarray(values, np.float32)
    shaped = values.reshape(len(values), 1, 1, *values.shape[1:])
    with replacing(path) as part:
        nib.save(nib.MGHImage(shaped, np.eye(4)), part)


def write_surface(path: Path | str, coords: np.ndarray, faces: np.ndarray) -> None:
    """Write a FreeSurfer surface.

    Parameters
    ----------
    path : str or Path
    coords : float array of shape (n_vertices, 3)
        Millimetres.
    faces : int array of shape (n_faces, 3)
    """
    with replacing(path) as part:
        nib.freesurfer.write_geometry(part, coords, faces, create_stamp=STAMP)


def write_morph(path: Path | str, values: np.ndarray, n_faces: int) -> None:
    """Write FreeSurfer values of vertices, such as ``lh.sulc``.

    Parameters
    ----------
    path : str or Path
    values : float array of shape (n_vertices,)
    n_faces : int
        Faces of the surface, which the format stores as well.
    """
    with replacing(path) as part:
        nib.freesurfer.write_morph_data(part, values, n_faces)


def write_label_table(path: Path | str, names: dict[str, int]) -> None:
    """Write the names of an atlas' labels.

    Parameters
    ----------
    path : str or Path
        Ends in ``.mgz.ctab``.
    names : dict of str to int
        Number of each label; 0 Unknown is added.
    """
    lines = [f"{number} {name}\n" for name, number in {"Unknown": 0, **names}.items()]
    with replacing(path) as part:
        part.write_text("".join(lines))

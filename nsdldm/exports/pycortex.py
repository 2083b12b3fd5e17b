"""A subject's surfaces and maps for pycortex, which need not be installed for this.

The subject's folder has the form of pycortex's database, and the HDF5 file that of a `Dataset`
whose surfaces are packed with it. Maps are on vertices, left hemisphere first, so no alignment of a
volume is needed. NSD's flat patches have been turned already to lie as those of fsaverage; pycortex
turns patches that it imports by 90 degrees, once too often for NSD, so they are written here as
they are.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np

from nsdldm.exports.brains import check_count, read_meshes
from nsdldm.exports.gifti import write_surface
from nsdldm.nsd.layout import HEMISPHERES
from nsdldm.nsd.surfaces import flat_mesh, read_morph, read_patch
from nsdldm.plots.cortex import drop_bridges
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import open_hdf5, replacing
from nsdldm.support.listing import list_files

logger = logging.getLogger(__name__)

NAMES = {"wm": "white", "pia": "pial", "inflated": "inflated"}
CMAP = "inferno"
# That a subject must have, even if they are empty.
FOLDERS = ("transforms", "anatomicals", "cache", "views")


def place_flat(
    path: Path | str, white: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Flatten a hemisphere for pycortex, which wants all vertices of the surface.

    Parameters
    ----------
    path : str or Path
        A patch, as `nsdldm.nsd.surfaces.read_patch` reads it.
    white : float array of shape (n_vertices, 3)
        In millimetres.
    faces : int array of shape (n_faces, 3)
        Of the whole surface.

    Returns
    -------
    coords : float32 array of shape (n_vertices, 3)
        Not turned; vertices outside the patch are at 0, and in no triangle.
    faces : int array of shape (m, 3)
        Triangles whose three vertices are all in the patch, and not torn apart.

    Raises
    ------
    InputError
        The patch has vertices that the surface has not.
    """
    patch = read_patch(path)
    if patch[0].max() >= len(white):
        expected, found = f"vertices below {len(white)}", str(patch[0].max())
        remedy = "Use files of the same subject and hemisphere"
        raise InputError(Finding(str(path), expected, found, remedy))
    coords, kept, vertices = flat_mesh(patch, faces)
    flat = np.zeros((len(white), 3), np.float32)
    flat[vertices, :2] = coords[:, :2]
    return flat, vertices[drop_bridges(coords, kept, white[vertices])]


def read_maps(folder: Path | str) -> dict[str, tuple[np.ndarray, float]]:
    """Read the native maps that `nsdldm.exports.maps.export_maps` wrote.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    dict of str to (float32 array of shape (n_left + n_right,), float)
        By ``stat-..._desc-...``: values, where significant if that is known, and the upper end of
        the colour scale.
    """
    maps = {}
    for left in list_files(folder, "*_hemi-L_space-fsnative_stat-*_desc-*_statmap.func.gii"):
        pair = [nib.load(left), nib.load(left.with_name(left.name.replace("hemi-L", "hemi-R")))]
        shown = [image.darrays[:2][-1] for image in pair]
        values = np.concatenate([array.data for array in shown])
        name = left.name.split("space-fsnative_")[1].removesuffix("_statmap.func.gii")
        maps[name] = values, float(shown[0].meta["cal_max"])
    return maps


def _pack_surfaces(file, subject, hemi, surfaces):
    """Surfaces of a hemisphere, as pycortex packs them with a dataset."""
    for kind, (coords, faces) in surfaces.items():
        group = file.require_group(f"/subjects/{subject}/surfaces/{kind}/{hemi}")
        group["pts"], group["polys"] = coords, faces


def _write_view(file, subject, name, values, limit):
    """A Vertex view, as pycortex's Dataview writes it."""
    node = f"__{hashlib.sha1(np.ascontiguousarray(values)).hexdigest()[:16]}"
    data = file["/data"]
    if node not in data:
        data[node] = values
        data[node].attrs["subject"] = subject
    view = file["/views"].create_dataset(name, (8,), h5py.special_dtype(vlen=str))
    fields = ([node], name, [CMAP], [0.0], [limit], None, {}, [None])
    for place, field in enumerate(fields):
        view[place] = field if place == 1 else json.dumps(field)


def export_pycortex(
    *,
    subject: str,
    maps: Path | str,
    surfaces: dict[str, dict[str, Path | str]],
    output: Path | str,
) -> None:
    """Write a subject of pycortex's database and a dataset of its maps.

    Parameters
    ----------
    subject : str
    maps : str or Path
        Folder that `nsdldm.exports.maps.export_maps` wrote.
    surfaces : dict of str to dict of path
        For lh and rh: white, pial, inflated, sulc and flat, a patch.
    output : str or Path
        Folder: ``{subject}/surfaces/{wm,pia,inflated,flat}_{lh,rh}.gii``,
        ``{subject}/surface-info/sulcaldepth.npz``, and ``maps.hdf``, for ``cortex.load``.

    Raises
    ------
    InputError
        A file cannot be used, or numbers of vertices differ.
    """
    folder = Path(output) / subject
    depth = {}
    with replacing(Path(output) / "maps.hdf") as part, open_hdf5(part, "w") as file:
        for group in ("data", "views"):
            file.create_group(group)
        for hemi in HEMISPHERES:
            own = surfaces[hemi]
            meshes = read_meshes(own, tuple(NAMES.values()))
            white, faces = meshes["white"]
            flat = place_flat(own["flat"], white, faces)
            packed = {kind: meshes[name] for kind, name in NAMES.items()} | {"flat": flat}
            for kind, mesh in packed.items():
                write_surface(folder / f"surfaces/{kind}_{hemi}.gii", hemi, kind, *mesh)
            _pack_surfaces(file, subject, hemi, packed)
            sulc = read_morph(own["sulc"])
            check_count(own["sulc"], len(sulc), len(white), own["white"])
            # With the opposite sign to FreeSurfer's.
            depth["left" if hemi == "lh" else "right"] = -sulc
        values = read_maps(maps)
        for name, (own, limit) in values.items():
            _write_view(file, subject, name, own, limit)
    for part in FOLDERS:
        (folder / part).mkdir(parents=True, exist_ok=True)
    with replacing(folder / "surface-info/sulcaldepth.npz") as part:
        np.savez(part, **depth)
    logger.info("%s: %d maps for pycortex", subject, len(values))

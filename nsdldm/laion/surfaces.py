"""Where the cortex is in a functional volume, from FreeSurfer's surfaces alone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial import KDTree

from nsdldm.laion.flats import flatten_sphere
from nsdldm.nsd.rois import read_volume
from nsdldm.nsd.surfaces import INVALID, read_surface
from nsdldm.support.errors import Finding, InputError, Unexpected, reading
from nsdldm.support.files import replacing

logger = logging.getLogger(__name__)

# Share of the way from the pial to the white surface: layerB1, layerB2 and layerB3.
DEPTHS = (0.25, 0.5, 0.75)


def find_scanner(path: Path | str) -> np.ndarray:
    """Find where a surface lies in the scanner.

    Parameters
    ----------
    path : str or Path
        FreeSurfer surface whose footer has the geometry of the volume that it was made from.

    Returns
    -------
    float64 array of shape (4, 4)
        From the surface's own coordinates (tkRAS, millimetres) to the scanner's (RAS, millimetres):
        both belong to the same voxels, of which FreeSurfer puts the middle one at its origin, with
        axes left, inferior and anterior.

    Raises
    ------
    InputError
        The footer is missing or not valid.
    """
    expected = "a FreeSurfer surface with the geometry of its volume"
    with reading(path, expected, "Use FreeSurfer's own file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        *_, info = nib.freesurfer.read_geometry(path, read_metadata=True)
        if not str(info.get("valid", "0")).startswith("1"):
            raise Unexpected("none")
        sizes, shape = info["voxelsize"], info["volume"]
        axes = np.stack([info[key] for key in ("xras", "yras", "zras")], axis=1) * sizes
        scanner = nib.affines.from_matvec(axes, info["cras"] - axes @ (shape / 2))
        own = np.array([[-1, 0, 0], [0, 0, 1], [0, -1, 0]]) * sizes
        own = nib.affines.from_matvec(own, -own @ (shape / 2))
        return scanner @ np.linalg.inv(own)


def locate_depths(
    white: Path | str, pial: Path | str, affine: np.ndarray, shape: tuple[int, int, int]
) -> list[np.ndarray]:
    """Locate three cortical depths of a hemisphere in a volume.

    Parameters
    ----------
    white, pial : path
        FreeSurfer surfaces of the same vertices.
    affine : float array of shape (4, 4)
        Of the volume: from voxel indices, from 0, to millimetres in the scanner.
    shape : tuple of three int
        Of the volume.

    Returns
    -------
    list of three float64 array of shape (n_vertices, 3)
        Voxel coordinates from 1 at 25, 50 and 75 % of the way from the pial surface, with 9999 for
        vertices outside, as the transforms of NSD have them.

    Raises
    ------
    InputError
        The surfaces have different numbers of vertices, or none of them is in the volume.
    """
    inner, outer = (read_surface(path)[0].astype(np.float64) for path in (white, pial))
    if len(inner) != len(outer):
        expected, remedy = f"the {len(inner)} vertices of {white}", "Use surfaces of one subject"
        raise InputError(Finding(str(pial), expected, str(len(outer)), remedy))
    to_voxels = np.linalg.inv(affine) @ find_scanner(white)
    places = []
    for depth in DEPTHS:
        own = nib.affines.apply_affine(to_voxels, outer + depth * (inner - outer)) + 1
        outside = ((own < 1) | (own > shape)).any(axis=1)
        own[outside] = INVALID
        places.append(own)
        if outside.all():
            remedy = "Use surfaces and betas of the same subject, in its own space"
            raise InputError(Finding(str(white), "cortex in the volume", "none", remedy))
    return places


def _save_vertices(path, values):
    """Write numbers of vertices as an MGH file, as the release of NSD does."""
    with replacing(path) as part:
        nib.save(nib.MGHImage(values.astype(np.float32), np.eye(4)), part)


def find_nearest(sphere: np.ndarray, average: np.ndarray) -> np.ndarray:
    """Find the vertex of a registered hemisphere that is nearest to each of the average brain.

    Parameters
    ----------
    sphere, average : float array of shape (n_vertices, 3) and (n_average, 3)
        Coordinates on the registered sphere and on that of fsaverage, of any radius.

    Returns
    -------
    int64 array of shape (n_average,)
        From 0.
    """
    own, other = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (sphere, average))
    return KDTree(own).query(other)[1]


def prepare_surfaces(
    *,
    reference: Path | str,
    white: Sequence[Path | str],
    pial: Sequence[Path | str],
    spheres: Sequence[Path | str],
    transforms: Sequence[Path | str],
    flats: Sequence[Path | str],
    averages: Sequence[Path | str],
) -> None:
    """Write the transforms, flat maps and correspondences of both hemispheres.

    Parameters
    ----------
    reference : str or Path
        A volume on the grid of the betas.
    white, pial, spheres : sequence of two path
        Surfaces of the left and the right hemisphere; the spheres are registered to fsaverage.
    transforms : sequence of six path
        Outputs: for each hemisphere the coordinates of three depths, as
        `nsdldm.nsd.surfaces.read_transform` reads them.
    flats : sequence of two path
        Outputs; see `nsdldm.laion.flats.flatten_sphere`.
    averages : sequence of two path
        Outputs; see `find_nearest`.

    Raises
    ------
    InputError
        A file cannot be used, or surfaces and volume do not belong together.
    """
    # It takes a second to import.
    from nilearn.datasets import load_fsaverage

    _, grid = read_volume(reference)
    if grid.affine is None:
        expected, remedy = "a volume with its place in the scanner", "Use the release's file"
        raise InputError(Finding(str(reference), expected, "no affine", remedy))
    places = [
        place
        for inner, outer in zip(white, pial, strict=True)
        for place in locate_depths(inner, outer, grid.affine, grid.shape)
    ]
    for path, place in zip(transforms, places, strict=True):
        _save_vertices(path, place.reshape(len(place), 1, 1, 3))
    mesh = load_fsaverage("fsaverage5")["sphere"]
    for side, sphere, flat, average in zip(mesh.parts, spheres, flats, averages, strict=True):
        flatten_sphere(sphere=sphere, output=flat)
        nearest = find_nearest(read_surface(sphere)[0], mesh.parts[side].coordinates)
        _save_vertices(average, nearest.reshape(-1, 1, 1) + 1)
    logger.info("%s: %d depths and %d flat maps", reference, len(places), len(flats))

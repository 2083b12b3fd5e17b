"""Read cortical surfaces and bring volumes onto them.

All surfaces of a hemisphere share their vertices. The release's transforms give, for each vertex at
a cortical depth, its location in the functional volume.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import map_coordinates

from nsdldm.nsd.whole import round_whole
from nsdldm.support.errors import Damaged, Finding, InputError, Unexpected, reading
from nsdldm.support.files import replacing

INVALID = 9999
SURFACE_MAGIC = b"\xff\xff\xfe"
# Ten times what fsaverage has. No more is allocated just because a header claims it.
MOST_VERTICES = 2_000_000
MORPH_MAGIC = b"\xff\xff\xff"
PATCH_MAGIC = -1
PATCH_VERTEX = np.dtype([("number", ">i4"), ("coords", ">f4", 3)])


def read_surface(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Read a FreeSurfer surface such as ``lh.white``.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    coords : float32 array of shape (n_vertices, 3)
        In millimetres.
    faces : int64 array of shape (n_faces, 3)
        Vertices of the triangles, 0-based.

    Raises
    ------
    InputError
        The file is missing or truncated, or has triangles with non-existent vertices.
    """
    with reading(path, "a FreeSurfer surface of triangles", small=True):
        _check_counts(path)
        coords, faces = nib.freesurfer.read_geometry(path)
        if faces.min() < 0 or faces.max() >= len(coords):
            raise Damaged(f"triangles of vertices {faces.min()} to {faces.max()}")
        if not np.isfinite(coords).all():
            raise Damaged("coordinates that are not finite")
    return coords.astype(np.float32), faces.astype(np.int64)


def _check_counts(path):
    """Refuse a surface that claims more than its file holds; nibabel would allocate memory for
    it."""
    with open(path, "rb") as stream:
        if stream.read(3) != SURFACE_MAGIC:
            raise Unexpected("a file of another kind")
        stream.readline(), stream.readline()
        counts = [int.from_bytes(stream.read(4), "big", signed=True) for _ in range(2)]
        start = stream.tell()
        held = stream.seek(0, 2) - start
    if min(counts) < 1 or 12 * sum(counts) > held:
        raise Damaged(f"{counts[0]} vertices and {counts[1]} triangles in {held} bytes")


def read_morph(path: Path | str) -> np.ndarray:
    """Read one value per vertex, such as ``lh.sulc``.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    float32 array of shape (n_vertices,)

    Raises
    ------
    InputError
        The file is missing or truncated, or has values that are not finite.
    """
    with reading(path, "FreeSurfer values of vertices", small=True):
        with open(path, "rb") as stream:
            header = stream.read(15)
            n_values = (stream.seek(0, 2) - len(header)) // 4
        # nibabel accepts whatever is there; files in the current format say how many values to
        # expect.
        n_vertices = int.from_bytes(header[3:7], "big", signed=True)
        if header[:3] == MORPH_MAGIC and not 0 < n_vertices <= n_values:
            raise Damaged(f"{n_values} of {n_vertices} values")
        values = nib.freesurfer.read_morph_data(path)
        if not np.isfinite(values).all():
            raise Damaged("values that are not finite")
    return values.astype(np.float32)


def read_patch(path: Path | str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a FreeSurfer patch such as ``lh.full.flat.patch.3d``.

    The format is big-endian: int32 -1, int32 number of vertices, then for each vertex an int32 that
    is the vertex number + 1, negative on the patch's border, and three float32 coordinates.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    vertices : int64 array of shape (n,)
        0-based vertices of the complete surface.
    coords : float32 array of shape (n, 3)
        In millimetres; a flattened patch has one constant coordinate.
    border : bool array of shape (n,)

    Raises
    ------
    InputError
        The file is missing or truncated, or a vertex is impossible or occurs twice.
    """
    with reading(path, "a FreeSurfer patch", small=True):
        content = np.fromfile(path, dtype=np.uint8)
        magic, n_vertices = (int(number) for number in content[:8].view(">i4"))
    size = 8 + n_vertices * PATCH_VERTEX.itemsize
    if magic != PATCH_MAGIC or n_vertices < 1 or len(content) < size:
        expected = f"a FreeSurfer patch of {n_vertices} vertices in {size} bytes"
        found = f"{len(content)} bytes that start with {magic}"
        remedy = "Replace it by an intact copy"
        raise InputError(Finding(str(path), expected, found, remedy))
    table = content[8:size].view(PATCH_VERTEX)
    numbers, coords = table["number"].astype(np.int64), table["coords"].astype(np.float32)
    vertices = np.abs(numbers) - 1
    finite = np.isfinite(coords).all()
    if vertices.min() < 0 or len(np.unique(vertices)) < n_vertices or not finite:
        expected = f"a FreeSurfer patch of {n_vertices} different vertices at finite places"
        found = f"{len(np.unique(vertices))} different ones, the first {vertices.min()}"
        found += "" if finite else ", some at no finite place"
        raise InputError(Finding(str(path), expected, found, "Replace it by an intact copy"))
    return vertices, coords, numbers < 0


def write_patch(
    path: Path | str, vertices: np.ndarray, coords: np.ndarray, border: np.ndarray
) -> None:
    """Write a FreeSurfer patch to a path, from its vertices, coords and border.

    They are as `read_patch` returns them, which describes the format.
    """
    table = np.empty(len(vertices), PATCH_VERTEX)
    numbers = np.asarray(vertices, dtype=np.int64) + 1
    table["number"] = np.where(border, -numbers, numbers)
    table["coords"] = coords
    with replacing(path) as part:
        header = np.array([PATCH_MAGIC, len(table)], ">i4")
        part.write_bytes(header.tobytes() + table.tobytes())


def flat_mesh(patch: tuple, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make a mesh of a flattened patch.

    Parameters
    ----------
    patch : tuple
        As returned by `read_patch`.
    faces : int array of shape (n_faces, 3)
        Triangles of the complete surface; those with all three vertices in the patch are kept.

    Returns
    -------
    coords : float32 array of shape (n, 3)
    faces : int64 array of shape (m, 3)
        Positions in `vertices`.
    vertices : int64 array of shape (n,)
        Vertices of the complete surface, to select their values.
    """
    vertices, coords, _ = patch
    faces = np.asarray(faces)
    position = np.full(max(faces.max(), vertices.max()) + 1, -1, dtype=np.int64)
    position[vertices] = np.arange(len(vertices))
    inside = position[faces]
    return coords, inside[(inside >= 0).all(axis=1)], vertices


def _read_vertices(path, width):
    """Read an MGH file of `width` numbers per vertex as float64 of shape (n_vertices, width)."""
    with reading(path, "an MGH file", small=True):
        image = nib.load(path)
        shape = tuple(map(int, image.shape))
    n_vertices = shape[0]
    if math.prod(shape) != n_vertices * width or shape[-1] != width or n_vertices > MOST_VERTICES:
        expected = f"{width} numbers per vertex, shape (n_vertices, 1, 1, {width})"
        remedy = "Use the file of the release"
        raise InputError(Finding(str(path), expected, f"shape {shape}", remedy))
    with reading(path, "an MGH file", small=True):
        data = np.asanyarray(image.dataobj).astype(np.float64)
    return data.reshape(n_vertices, width)


def read_transform(path: Path | str) -> np.ndarray:
    """Read the locations in the volume of the vertices at a cortical depth.

    Parameters
    ----------
    path : str or Path
        Such as ``lh.func1pt8-to-layerB2.mgz``. The file counts voxels from 1, with (1, 1, 1) at the
        centre of the first, and marks vertices without a location by 9999.

    Returns
    -------
    float64 array of shape (n_vertices, 3)
        Voxel coordinates (i, j, k) from 0; NaN for vertices without a location.

    Raises
    ------
    InputError
        The file is missing, damaged or of another shape.
    """
    coords = _read_vertices(path, 3)
    coords[(coords == INVALID).any(axis=1)] = np.nan
    return coords - 1


def read_index_map(path: Path | str) -> np.ndarray:
    """Read which vertex of another surface each vertex corresponds to.

    Parameters
    ----------
    path : str or Path
        Such as ``lh.white-to-fsaverage.mgz``, which counts from 1.

    Returns
    -------
    int64 array of shape (n_vertices,)
        0-based: ``values_on_fsaverage = values_on_white[read_index_map(path)]``.

    Raises
    ------
    InputError
        The file is missing, damaged, of another shape, or has numbers that are not vertices.
    """
    numbers = _read_vertices(path, 1)[:, 0]
    remedy = "Use the file of the release"
    with reading(path, "whole numbers of vertices", remedy):
        whole = round_whole(numbers, "the number")
    if not ((whole >= 1) & (whole <= MOST_VERTICES)).all():
        expected, found = "numbers of vertices from 1", f"{whole.min()} to {whole.max()}"
        raise InputError(Finding(str(path), expected, found, remedy))
    return whole.astype(np.int64) - 1


def sample_volume(volume: np.ndarray, coords: np.ndarray, order: str) -> np.ndarray:
    """Sample a volume at vertices.

    Parameters
    ----------
    volume : float array of shape (X, Y, Z)
    coords : float array of shape (n_vertices, 3)
        Voxel coordinates from 0, as from `read_transform`.
    order : {"nearest", "linear"}
        Value of the nearest voxel, or trilinear interpolation in which NaN voxels are ignored and
        their weight goes to the others.

    Returns
    -------
    float array of shape (n_vertices,)
        NaN if a vertex has no location, lies beyond the centre of an outermost voxel, or is
        surrounded by NaN voxels.
    """
    volume = np.asarray(volume, dtype=np.float64)
    values = np.full(len(coords), np.nan)
    last = np.array(volume.shape) - 1
    inside = ((coords >= 0) & (coords <= last)).all(axis=1)
    places = coords[inside].T
    if order == "nearest":
        values[inside] = volume[tuple(np.floor(places + 0.5).astype(np.int64))]
    elif order == "linear":
        values[inside] = _interpolate(volume, places)
    else:
        raise ValueError(f"order must be nearest or linear, not {order!r}")
    return values


def _interpolate(volume, places):
    """Trilinear interpolation at locations of shape (3, n), ignoring NaN voxels."""
    known = np.isfinite(volume)
    total = map_coordinates(np.where(known, volume, 0.0), places, order=1, mode="nearest")
    weight = map_coordinates(known.astype(np.float64), places, order=1, mode="nearest")
    # Smaller weights are rounding errors of vertices exactly at the centre of a NaN voxel.
    enough = weight > 1e-6
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=enough)


def project(volume: np.ndarray, transforms: Sequence[Path | str], order: str) -> np.ndarray:
    """Bring a volume onto the cortical surface.

    Parameters
    ----------
    volume : float array of shape (X, Y, Z)
        NaN outside the measured voxels.
    transforms : sequence of three str or Path
        Transforms to layerB1, layerB2, layerB3 of one hemisphere, in this order (25, 50 and 75 % of
        the cortical depth from the pial surface).
    order : {"nearest", "linear"}
        Linear: mean over the three depths, ignoring NaN, as the release computes its own surface
        data (with cubic interpolation). Nearest: layerB2 only, for masks and labels.

    Returns
    -------
    float array of shape (n_vertices,)
        NaN where there are no data.
    """
    if len(transforms) != 3:
        raise ValueError(f"expected the transforms to three depths, got {len(transforms)}")
    if order == "nearest":
        return sample_volume(volume, read_transform(transforms[1]), order)
    layers = [sample_volume(volume, read_transform(path), order) for path in transforms]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.nanmean(layers, axis=0)

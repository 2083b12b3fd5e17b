"""Read cortical surfaces and bring volumes onto them.

All surfaces of a hemisphere share their vertices. The release's transforms hold, for each vertex of
a cortical depth, where it lies in the functional volume.
"""

import warnings

import nibabel as nib
import numpy as np
from scipy.ndimage import map_coordinates

from nsdldm.errors import Finding, InputError, reading
from nsdldm.files import replacing

INVALID = 9999
MORPH_MAGIC = b"\xff\xff\xff"
PATCH_MAGIC = -1
PATCH_VERTEX = np.dtype([("number", ">i4"), ("coords", ">f4", 3)])


def read_surface(path):
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
    """
    with reading(path, "a FreeSurfer surface"):
        coords, faces = nib.freesurfer.read_geometry(path)
    return coords.astype(np.float32), faces.astype(np.int64)


def read_morph(path):
    """Read one value a vertex, such as ``lh.sulc``.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    float32 array of shape (n_vertices,)
    """
    with reading(path, "FreeSurfer values of vertices"):
        values = nib.freesurfer.read_morph_data(path)
        with open(path, "rb") as stream:
            header = stream.read(7)
        # nibabel takes what is there; files of today's format say how many values there should be.
        n_vertices = int.from_bytes(header[3:], "big")
        if header[:3] == MORPH_MAGIC and len(values) != n_vertices:
            raise EOFError(f"{len(values)} of {n_vertices} values")
    return values.astype(np.float32)


def read_patch(path):
    """Read a FreeSurfer patch such as ``lh.full.flat.patch.3d``.

    The format is big-endian: int32 -1, int32 number of vertices, then for each vertex an int32 that
    is the vertex number + 1, negative on the patch's border, and three float32 coordinates.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    vertices : int64 array of shape (n,)
        0-based vertices of the whole surface.
    coords : float32 array of shape (n, 3)
        In millimetres; a flattened patch has one constant coordinate.
    border : bool array of shape (n,)
    """
    with reading(path, "a FreeSurfer patch"):
        content = np.fromfile(path, dtype=np.uint8)
        magic, n_vertices = (int(number) for number in content[:8].view(">i4"))
    size = 8 + n_vertices * PATCH_VERTEX.itemsize
    if magic != PATCH_MAGIC or n_vertices < 1 or len(content) < size:
        expected = f"a FreeSurfer patch of {n_vertices} vertices in {size} bytes"
        found = f"{len(content)} bytes that start with {magic}"
        remedy = "Replace it by an intact copy"
        raise InputError(Finding(str(path), expected, found, remedy))
    table = content[8:size].view(PATCH_VERTEX)
    numbers = table["number"].astype(np.int64)
    return np.abs(numbers) - 1, table["coords"].astype(np.float32), numbers < 0


def write_patch(path, vertices, coords, border):
    """Write a FreeSurfer patch; see `read_patch` for the parameters and the format."""
    table = np.empty(len(vertices), PATCH_VERTEX)
    numbers = np.asarray(vertices, dtype=np.int64) + 1
    table["number"] = np.where(border, -numbers, numbers)
    table["coords"] = coords
    with replacing(path) as part:
        header = np.array([PATCH_MAGIC, len(table)], ">i4")
        part.write_bytes(header.tobytes() + table.tobytes())


def flat_mesh(patch, faces):
    """Make a mesh of a flattened patch.

    Parameters
    ----------
    patch : tuple
        As returned by `read_patch`.
    faces : int array of shape (n_faces, 3)
        Triangles of the whole surface; those with all three vertices in the patch are kept.

    Returns
    -------
    coords : float32 array of shape (n, 3)
    faces : int64 array of shape (m, 3)
        Positions in `vertices`.
    vertices : int64 array of shape (n,)
        Vertices of the whole surface, to pick their values.
    """
    vertices, coords, _ = patch
    faces = np.asarray(faces)
    position = np.full(max(faces.max(), vertices.max()) + 1, -1, dtype=np.int64)
    position[vertices] = np.arange(len(vertices))
    inside = position[faces]
    return coords, inside[(inside >= 0).all(axis=1)], vertices


def _read_vertices(path, width):
    """Read an MGH file of `width` numbers a vertex as float64 of shape (n_vertices, width)."""
    with reading(path, "an MGH file"):
        data = np.asanyarray(nib.load(path).dataobj)
    if data.size != data.shape[0] * width or data.shape[-1] != width:
        expected = f"{width} numbers a vertex, shape (n_vertices, 1, 1, {width})"
        remedy = "Use the file of the release"
        raise InputError(Finding(str(path), expected, f"shape {data.shape}", remedy))
    return data.reshape(len(data), width).astype(np.float64)


def read_transform(path):
    """Read where the vertices of a cortical depth lie in the volume.

    Parameters
    ----------
    path : str or Path
        Such as ``lh.func1pt8-to-layerB2.mgz``. The file counts voxels from 1, (1, 1, 1) being the
        centre of the first, and marks vertices without a place with 9999.

    Returns
    -------
    float64 array of shape (n_vertices, 3)
        Voxel coordinates (i, j, k) that count from 0; NaN for vertices without a place.
    """
    coords = _read_vertices(path, 3)
    coords[(coords == INVALID).any(axis=1)] = np.nan
    return coords - 1


def read_index_map(path):
    """Read which vertex of another surface each vertex takes its value from.

    Parameters
    ----------
    path : str or Path
        Such as ``lh.white-to-fsaverage.mgz``, counting from 1.

    Returns
    -------
    int64 array of shape (n_vertices,)
        0-based: ``values_on_fsaverage = values_on_white[read_index_map(path)]``.
    """
    return np.rint(_read_vertices(path, 1)[:, 0]).astype(np.int64) - 1


def sample_volume(volume, coords, order):
    """Sample a volume at vertices.

    Parameters
    ----------
    volume : array of shape (X, Y, Z)
    coords : float array of shape (n_vertices, 3)
        Voxel coordinates that count from 0, as from `read_transform`.
    order : {"nearest", "linear"}
        Value of the nearest voxel, or trilinear interpolation that leaves out NaN voxels and
        gives their weight to the others.

    Returns
    -------
    float array of shape (n_vertices,)
        NaN where a vertex has no place, lies beyond the centre of an outermost voxel, or has only
        NaN voxels around it.
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
    """Trilinear interpolation at places of shape (3, n) with NaN voxels left out."""
    known = np.isfinite(volume)
    total = map_coordinates(np.where(known, volume, 0.0), places, order=1, mode="nearest")
    weight = map_coordinates(known.astype(np.float64), places, order=1, mode="nearest")
    # Weights below this are rounding errors of vertices at the very centre of a NaN voxel.
    enough = weight > 1e-6
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=enough)


def project(volume, transforms, order):
    """Bring a volume onto the cortical surface.

    Parameters
    ----------
    volume : array of shape (X, Y, Z)
        NaN off the measured voxels.
    transforms : sequence of three str or Path
        Transforms to layerB1, layerB2, layerB3 of one hemisphere, in this order (25, 50 and 75 % of
        the cortical depth from the pial surface).
    order : {"nearest", "linear"}
        Linear: mean over the three depths, NaN left out, as the release makes its own surface data
        (there with cubic interpolation). Nearest: layerB2 only, for masks and labels.

    Returns
    -------
    float array of shape (n_vertices,)
        NaN where nothing is known.
    """
    if len(transforms) != 3:
        raise ValueError(f"expected the transforms to three depths, got {len(transforms)}")
    if order == "nearest":
        return sample_volume(volume, read_transform(transforms[1]), order)
    layers = [sample_volume(volume, read_transform(path), order) for path in transforms]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.nanmean(layers, axis=0)

"""Views of the cortex: inflated from the side, or flattened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import coo_array, diags_array
from scipy.sparse.csgraph import connected_components

from nsdldm.nsd.surfaces import flat_mesh, read_morph, read_patch, read_surface
from nsdldm.plots.raster import interpolation, rasterise
from nsdldm.plots.style import GYRUS, SULCUS
from nsdldm.support.errors import Finding, InputError

if TYPE_CHECKING:
    from matplotlib.cm import ScalarMappable

# Every pixel of the figure is the mean of this many by this many pixels.
SUPERSAMPLING = 3
# Direction of the light, in the viewer's frame: right, up, towards the viewer.
LIGHT = np.array([0.0, 0.45, 0.9]) / np.hypot(0.45, 0.9)
SMOOTHING_MM = 2.0
SMALLEST_MM2 = 100.0
# Flattening stretches edges by less than this factor.
STRETCH = 5.0


class Anatomy(NamedTuple):
    """Files that bring one subject's voxels to the cortical surface.

    Parameters
    ----------
    masks : dict of path
        Regions; cortex holds all voxels, the others are outlined and named.
    transforms : dict of list of path
        For lh and rh, the transforms to layerB1, layerB2 and layerB3.
    surfaces : dict of dict of path
        For lh and rh, the files white, inflated, sulc and flat.
    """

    masks: dict
    transforms: dict
    surfaces: dict


@dataclass(frozen=True)
class Hemisphere:
    """Surfaces of one hemisphere; all share their vertices.

    Parameters
    ----------
    name : {"lh", "rh"}
    white, inflated : float array of shape (n_vertices, 3)
        In millimetres, right-anterior-superior.
    faces : int array of shape (n_faces, 3)
    sulc : float array of shape (n_vertices,)
        Positive in sulci.
    flat : float array of shape (n, 2)
        As returned by `orient_flat`.
    flat_faces : int array of shape (m, 3)
    flat_vertices : int array of shape (n,)
        Vertices of the hemisphere that are on the flat map.
    """

    name: str
    white: np.ndarray
    inflated: np.ndarray
    faces: np.ndarray
    sulc: np.ndarray
    flat: np.ndarray
    flat_faces: np.ndarray
    flat_vertices: np.ndarray


@dataclass(frozen=True)
class Raster:
    """Which part of a hemisphere each pixel of a panel shows.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the panel in pixels of the figure, before `SUPERSAMPLING`.
    seen : bool array of shape (height * SUPERSAMPLING, width * SUPERSAMPLING)
    corners : int array of shape (n_pixels, 3)
        Vertices of the hemisphere around each visible pixel.
    weights : float array of shape (n_pixels, 3)
    light : float array of shape (n_pixels,)
        Brightness of a white surface, 0 to 1.
    """

    shape: tuple
    seen: np.ndarray
    corners: np.ndarray
    weights: np.ndarray
    light: np.ndarray


def read_hemisphere(name: str, surfaces: dict[str, Path | str]) -> Hemisphere:
    """Read the surfaces that the panels of a hemisphere need.

    Parameters
    ----------
    name : {"lh", "rh"}
    surfaces : dict of path
        Files called white, inflated, sulc and flat.

    Returns
    -------
    Hemisphere

    Raises
    ------
    InputError
        The files have different numbers of vertices.
    """
    white, faces = read_surface(surfaces["white"])
    inflated, _ = read_surface(surfaces["inflated"])
    sulc = read_morph(surfaces["sulc"])
    patch = read_patch(surfaces["flat"])
    _check_counts(
        surfaces, len(white), inflated=len(inflated), sulc=len(sulc), flat=patch[0].max() + 1
    )
    flat, flat_faces, vertices = flat_mesh(patch, faces)
    flat_faces = drop_bridges(flat, flat_faces, white[vertices])
    flat = orient_flat(flat[:, :2], flat_faces, white[vertices], name)
    return Hemisphere(name, white, inflated, faces, sulc, flat, flat_faces, vertices)


def _check_counts(surfaces, n_vertices, **counts):
    """Check that all surfaces can have the same vertices."""
    findings = [
        Finding(
            str(surfaces[name]),
            f"{n_vertices} vertices, as in {surfaces['white']}",
            str(count),
            "Use files of the same subject and hemisphere",
        )
        for name, count in counts.items()
        if count > n_vertices or (name != "flat" and count != n_vertices)
    ]
    if findings:
        raise InputError(*findings)


def drop_bridges(flat: np.ndarray, faces: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Leave out triangles that join the two sides of a cut; they would be drawn across the map.

    A patch only lists vertices. If a cut runs along edges, the triangles on it have all their
    vertices in the patch, but the flattening has torn them apart.

    Parameters
    ----------
    flat, white : float array of shape (n, 2 or 3) and (n, 3)
        The same vertices on the flat map and in the brain.
    faces : int array of shape (m, 3)

    Returns
    -------
    int array of shape (k, 3)
    """
    torn = _longest_edges(flat, faces) > STRETCH * _longest_edges(white, faces)
    return faces[~torn]


def _longest_edges(points, faces):
    """Length of the longest edge of each triangle."""
    edges = points[faces] - points[np.roll(faces, 1, axis=1)]
    return np.linalg.norm(edges, axis=2).max(axis=1)


def orient_flat(flat: np.ndarray, faces: np.ndarray, white: np.ndarray, hemi: str) -> np.ndarray:
    """Rotate a flattened cortex so that its posterior end points to the other hemisphere.

    Patches come in any rotation, and some programs mirror them. The map is shown as seen from
    outside the brain, according to its triangles, and rotated (never stretched) so that its
    horizontal axis best follows posterior-anterior and its vertical axis inferior-superior (least
    squares).

    Parameters
    ----------
    flat : float array of shape (n, 2)
    faces : int array of shape (m, 3)
    white : float array of shape (n, 3)
        The same vertices in the brain, right-anterior-superior.
    hemi : {"lh", "rh"}
        Anterior is on the left for lh and on the right for rh.

    Returns
    -------
    float array of shape (n, 2)
        Right and up, in the unit of `flat`, around its centre.
    """
    flat = np.asarray(flat, dtype=np.float64) - np.mean(flat, axis=0)
    a, b, c = (flat[faces[:, corner]] for corner in range(3))
    if np.sum((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) < 0:
        flat = flat * [-1, 1]
    outward = -1 if hemi == "lh" else 1
    target = (white - white.mean(axis=0))[:, 1:] * [outward, 1]
    agreement = flat.T @ target
    angle = np.arctan2(agreement[0, 1] - agreement[1, 0], np.trace(agreement))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return flat @ turn


def face_inflated(inflated: np.ndarray, hemi: str, side: str) -> np.ndarray:
    """Rotate an inflated hemisphere to face the viewer.

    Parameters
    ----------
    inflated : float array of shape (n_vertices, 3)
        Right-anterior-superior.
    hemi : {"lh", "rh"}
    side : {"lateral", "medial"}

    Returns
    -------
    float array of shape (n_vertices, 3)
        Right, up and towards the viewer.
    """
    from_left = (hemi == "lh") == (side == "lateral")
    sign = -1 if from_left else 1
    x, y, z = np.asarray(inflated, dtype=np.float64).T
    return np.stack([sign * y, z, sign * x], axis=1)


def look(hemisphere: Hemisphere, panel: str, shape: tuple[int, ...], scale: float) -> Raster:
    """Project a hemisphere onto a panel.

    Parameters
    ----------
    hemisphere : Hemisphere
    panel : {"flat", "lateral", "medial"}
        The flat map, or the inflated surface from one side.
    shape : tuple of int
        Height and width of the panel in pixels.
    scale : float
        Pixels per millimetre of the surface.

    Returns
    -------
    Raster
    """
    if panel == "flat":
        faces, vertices = hemisphere.flat_faces, hemisphere.flat_vertices
        points = np.column_stack([hemisphere.flat, np.zeros(len(hemisphere.flat))])
        light = np.ones(len(points))
    else:
        faces, vertices = hemisphere.faces, np.arange(len(hemisphere.inflated))
        points = face_inflated(hemisphere.inflated, hemisphere.name, panel)
        light = np.clip(_normals(points, faces) @ LIGHT, 0, 1)
    return _look(points, faces, vertices, light, shape, scale)


def _look(points, faces, vertices, light, shape, scale):
    """Project a mesh whose coordinates are right, up and towards the viewer."""
    fine = np.array(shape) * SUPERSAMPLING
    used = points[np.unique(faces), :2]
    centre = (used.min(axis=0) + used.max(axis=0)) / 2
    places = (points[:, :2] - centre) * [scale * SUPERSAMPLING, -scale * SUPERSAMPLING]
    places += (fine[::-1] - 1) / 2
    triangles = rasterise(places, points[:, 2], faces, tuple(fine))
    corners, weights = interpolation(triangles, places, faces)
    brightness = _blend(light, corners, weights)
    return Raster(tuple(shape), triangles >= 0, vertices[corners], weights, brightness)


def _normals(points, faces):
    """Unit normals of the vertices, pointing outwards (FreeSurfer's triangles turn that way)."""
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    across = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], across)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _blend(values, corners, weights):
    """Interpolate values of vertices at the visible pixels."""
    return np.einsum("ij,ij->i", values.astype(np.float32)[corners], weights)


def paint(
    view: Raster, sulc: np.ndarray, values: np.ndarray, colours: ScalarMappable
) -> np.ndarray:
    """Colour a view: vertices with a value by that value, the others in grey by sulcal depth.

    A pixel is coloured if more than half of its weight is on vertices with a value; then only these
    count.

    Parameters
    ----------
    view : Raster
    sulc : float array of shape (n_vertices,)
    values : float array of shape (n_vertices,)
        NaN where nothing is shown.
    colours : matplotlib ScalarMappable

    Returns
    -------
    uint8 array of shape (height, width, 4)
        RGBA; transparent outside the cortex.
    """
    shown = np.isfinite(values)
    weight = _blend(shown, view.corners, view.weights)
    total = _blend(np.where(shown, values, 0), view.corners, view.weights)
    coloured = weight > 0.5
    grey = _blend(sulcal_grey(sulc), view.corners, view.weights) * (0.6 + 0.4 * view.light)
    rgb = np.repeat(grey[:, None], 3, axis=1)
    # Colours are only dimmed a little, so that they can still be found on the colour bar.
    dimming = 0.88 + 0.12 * view.light[coloured, None]
    rgb[coloured] = colours.to_rgba(total[coloured] / weight[coloured])[:, :3] * dimming
    image = np.zeros((*view.seen.shape, 4), dtype=np.float32)
    image[view.seen] = np.column_stack([rgb, np.ones(len(rgb))])
    return _shrink(image)


def sulcal_grey(sulc: np.ndarray) -> np.ndarray:
    """Turn sulcal depth, in any unit, into light gyri and darker sulci with a soft edge.

    Parameters
    ----------
    sulc : float array of shape (n_vertices,)

    Returns
    -------
    float array of shape (n_vertices,)
        Between `SULCUS` and `GYRUS`, 0 being black and 1 white.
    """
    depth = np.tanh(sulc / (0.4 * np.std(sulc) + 1e-12))
    return (GYRUS + SULCUS) / 2 - (GYRUS - SULCUS) / 2 * depth


def _shrink(image):
    """Mean over `SUPERSAMPLING` pixels each way of an image with premultiplied alpha, as uint8."""
    height, width = (size // SUPERSAMPLING for size in image.shape[:2])
    image = image.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING, 4).mean(axis=(1, 3))
    alpha = np.maximum(image[..., 3:], 1e-6)
    image[..., :3] /= alpha
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def smooth_regions(hemisphere: Hemisphere, regions: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Smooth regions made of voxels so that they can be drawn as outlines.

    On the surface, voxels leave staircases and specks. Regions are smoothed along it by about
    `SMOOTHING_MM` (standard deviation); pieces and holes below `SMALLEST_MM2` are removed. Only for
    drawing.

    Parameters
    ----------
    hemisphere : Hemisphere
    regions : dict of bool array of shape (n_vertices,)

    Returns
    -------
    dict of float array of shape (n_vertices,)
        A region is where its array is above 0.5.
    """
    links, spacing = _links(hemisphere)
    # Averaging over a vertex and its six neighbours has a variance of 3/7 of the squared spacing
    # along each axis of the surface.
    steps = max(1, round(SMOOTHING_MM**2 / (3 / 7 * spacing**2)))
    area = spacing**2 * np.sqrt(3) / 2
    average = diags_array(1 / links.sum(axis=1)) @ links
    smooth = {}
    for name, region in regions.items():
        field = region.astype(np.float32)
        for _ in range(steps):
            field = average @ field
        inside = _without_crumbs(field > 0.5, links, SMALLEST_MM2 / area)
        smooth[name] = np.where(inside, np.maximum(field, 0.51), np.minimum(field, 0.49))
    return smooth


def list_sides(faces: np.ndarray) -> np.ndarray:
    """List the sides of triangles.

    Parameters
    ----------
    faces : int array of shape (n_faces, 3)

    Returns
    -------
    int array of shape (3 * n_faces, 2)
        From corner to corner, so that a side of two triangles is there in both directions.
    """
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def _links(hemisphere):
    """Adjacency of the vertices (each its own neighbour) and the mean length of an edge."""
    faces, n_vertices = hemisphere.faces, len(hemisphere.white)
    edges = list_sides(faces)
    lengths = np.linalg.norm(hemisphere.white[edges[:, 0]] - hemisphere.white[edges[:, 1]], axis=1)
    own = np.tile(np.arange(n_vertices), (2, 1)).T
    rows, columns = np.concatenate([edges, edges[:, ::-1], own]).T
    ones = np.ones(len(rows), dtype=np.float32)
    links = coo_array((ones, (rows, columns)), shape=(n_vertices, n_vertices)).tocsr()
    links.data[:] = 1
    return links, lengths.mean()


def _without_crumbs(inside, links, smallest):
    """Remove the pieces of a region, and then its holes, that have few vertices."""
    for wanted in (True, False):
        part = np.nonzero(inside == wanted)[0]
        _, piece = connected_components(links[part][:, part], directed=False)
        few = part[np.bincount(piece, minlength=1)[piece] < smallest]
        inside = inside.copy()
        inside[few] = not wanted
    return inside


def show_field(view: Raster, field: np.ndarray) -> np.ndarray:
    """Values of vertices at the figure's pixels.

    Parameters
    ----------
    view : Raster
    field : float array of shape (n_vertices,)

    Returns
    -------
    float array of shape (height, width)
        NaN outside the cortex.
    """
    image = np.full(view.seen.shape, np.nan, dtype=np.float32)
    image[view.seen] = _blend(field, view.corners, view.weights)
    middle = SUPERSAMPLING // 2
    return image[middle::SUPERSAMPLING, middle::SUPERSAMPLING]

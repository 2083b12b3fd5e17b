"""Meshes of the page of maps: thinned for large surfaces, with smooth outlines of regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from nsdldm.nsd.surfaces import read_surface
from nsdldm.plots.cortex import list_sides, read_hemisphere, smooth_regions, sulcal_grey

if TYPE_CHECKING:
    from pathlib import Path

FORMS = ("inflated", "flat", "pial")
# Vertices of a hemisphere beyond which the mesh is thinned.
MOST_VERTICES = 40_000
ROUNDS = 3
# Triangles of the flat map have longer sides than this many of the inflated surface's only where
# they span a cut.
STRETCH = 6


@dataclass(frozen=True)
class Outlines:
    """Outlines of regions, as short lines across triangles.

    Parameters
    ----------
    ends : int array of shape (n_lines, 2, 2)
        Each end is on a side of a triangle, between two vertices.
    shares : float array of shape (n_lines, 2)
        How far along it is, from the first vertex, 0, to the second, 1.
    on_flat : bool array of shape (n_lines,)
        The triangle is on the flat map.
    """

    ends: np.ndarray
    shares: np.ndarray
    on_flat: np.ndarray


@dataclass(frozen=True)
class PageMesh:
    """One hemisphere as the page shows it; all forms share their vertices.

    Parameters
    ----------
    kept : int array of shape (n,)
        Its vertices among those of the subject's surface.
    coords : dict of float array of shape (n, 3)
        For each of `FORMS`, in millimetres right-anterior-superior, around the middle. The flat map
        stands upright and faces the side, as if unfolded there.
    faces : int array of shape (n_faces, 3)
    on_flat : bool array of shape (n_faces,)
        Triangles of the flat map.
    grey : uint8 array of shape (n,)
        Brightness by sulcal depth.
    labels : int array of shape (n,)
        Region from 1, or 0.
    outlines : Outlines
    middles : dict of list of int
        For inflated and flat, the vertex deepest inside each region, or -1.
    """

    kept: np.ndarray
    coords: dict
    faces: np.ndarray
    on_flat: np.ndarray
    grey: np.ndarray
    labels: np.ndarray
    outlines: Outlines
    middles: dict


def build_mesh(
    hemi: str,
    surfaces: dict[str, Path | str],
    labels: np.ndarray,
    n_regions: int,
    spacing: float,
) -> PageMesh:
    """Read a hemisphere and thin it if it has many vertices.

    Parameters
    ----------
    hemi : {"lh", "rh"}
    surfaces : dict of path
        Files called white, pial, inflated, sulc and flat, a patch.
    labels : int array of shape (n_vertices,)
        Region of each vertex from 1, or 0.
    n_regions : int
    spacing : float
        Of a thinned mesh, in millimetres.

    Returns
    -------
    PageMesh

    Raises
    ------
    InputError
        A file cannot be used.
    """
    known = read_hemisphere(hemi, surfaces)
    whole = np.asarray(known.inflated, np.float64)
    kept, faces = np.arange(len(whole)), np.asarray(known.faces)
    if len(whole) > MOST_VERTICES:
        kept, faces = thin_mesh(whole, faces, spacing)
    flat = np.full((len(whole), 3), np.nan)
    # The right hemisphere seen from the right has its front on the right, the left one on the left.
    across = known.flat[:, 0] * (1 if hemi == "rh" else -1)
    flat[known.flat_vertices] = np.stack([0 * across, across, known.flat[:, 1]], axis=1)
    coords = {"inflated": whole, "flat": flat, "pial": read_surface(surfaces["pial"])[0]}
    coords = {form: _centre(own[kept]) for form, own in coords.items()}
    on_flat = _find_flat(coords["flat"], coords["inflated"], faces)
    regions = {n: labels == n for n in range(1, n_regions + 1)}
    fields = [field[kept] for field in smooth_regions(known, regions).values()]
    middles = {
        "inflated": _find_middles(coords["inflated"], fields),
        "flat": _find_middles(coords["flat"], fields, _list_rim(faces[on_flat])),
    }
    coords["flat"] = np.nan_to_num(coords["flat"])
    grey = np.rint(255 * sulcal_grey(known.sulc)[kept]).astype(np.uint8)
    outlines = trace_outlines(faces, on_flat, fields)
    return PageMesh(kept, coords, faces, on_flat, grey, labels[kept], outlines, middles)


def thin_mesh(
    coords: np.ndarray, faces: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Keep evenly spaced vertices, each the middle of those nearest to it along the surface.

    Starts from one vertex per cube of a grid, and moves each `ROUNDS` times to the middle of its
    patch (Lloyd 1982). Three patches that meet in a triangle become a triangle.

    Parameters
    ----------
    coords : float array of shape (n_vertices, 3)
        A smooth surface, in millimetres.
    faces : int array of shape (n_faces, 3)
    spacing : float
        Edge of the cubes, in millimetres.

    Returns
    -------
    kept : int array of shape (n,)
    faces : int array of shape (m, 3)
        Positions in `kept`.
    """
    cubes = np.floor((coords - coords.min(axis=0)) / spacing).astype(np.int64)
    _, kept = np.unique(cubes, axis=0, return_index=True)
    links = _measure_sides(coords, faces)
    for _ in range(ROUNDS):
        kept = _find_centres(coords, _assign(links, kept))
    return kept, _merge_corners(_assign(links, kept)[faces])


def _measure_sides(coords, faces):
    """Lengths of the sides of triangles, from vertex to vertex."""
    a, b = list_sides(faces).T
    lengths = np.linalg.norm(coords[a] - coords[b], axis=1)
    n = len(coords)
    # A side of two triangles is there in both directions, one of one triangle in one.
    return csr_array(coo_array((lengths, (a, b)), shape=(n, n)))


def _assign(links, kept):
    """For each vertex, the position of the kept one that is nearest along the sides."""
    nearest = dijkstra(links, False, kept, return_predecessors=True, min_only=True)[2]
    position = np.zeros(len(nearest), dtype=np.int64)
    position[kept] = np.arange(len(kept))
    return position[nearest]


def _find_centres(coords, patch):
    """The vertex of each patch that is nearest to its mean."""
    sizes = np.bincount(patch)
    means = np.stack([np.bincount(patch, axis) for axis in coords.T], axis=1) / sizes[:, None]
    far = np.linalg.norm(coords - means[patch], axis=1)
    order = np.lexsort((far, patch))
    return order[np.concatenate([[0], np.cumsum(sizes)[:-1]])]


def _merge_corners(corners):
    """Triangles with three different corners, each once."""
    a, b, c = corners.T
    corners = corners[(a != b) & (b != c) & (c != a)]
    # Several triangles can become the same one. Its orientation must stay, so only the start is
    # aligned.
    start = corners.argmin(axis=1)[:, None]
    turned = np.take_along_axis(corners, (start + np.arange(3)) % 3, axis=1)
    return np.unique(turned, axis=0)


def _centre(coords):
    """Coordinates around the middle of their bounding box."""
    return coords - (np.nanmin(coords, axis=0) + np.nanmax(coords, axis=0)) / 2


def _find_flat(flat, inflated, faces):
    """Triangles whose corners are all on the flat map, and not torn apart."""
    inside = np.isfinite(flat[:, 0])[faces].all(axis=1)
    longest = [
        np.linalg.norm(own[faces] - own[np.roll(faces, 1, axis=1)], axis=2).max(axis=1)
        for own in (flat, inflated)
    ]
    usual = np.maximum(longest[1], np.median(longest[1]))
    return inside & (np.nan_to_num(longest[0]) < STRETCH * usual)


def trace_outlines(faces: np.ndarray, on_flat: np.ndarray, fields: list[np.ndarray]) -> Outlines:
    """Find the lines along which fields are 0.5, triangle by triangle.

    Parameters
    ----------
    faces : int array of shape (n_faces, 3)
    on_flat : bool array of shape (n_faces,)
    fields : list of float array of shape (n_vertices,)
        As `nsdldm.plots.cortex.smooth_regions` returns them: never 0.5.

    Returns
    -------
    Outlines
    """
    ends, shares, flat = [], [], []
    for field in fields:
        inside = (field > 0.5)[faces]
        n_inside = inside.sum(axis=1)
        crossed = (n_inside == 1) | (n_inside == 2)
        # The line runs between the two sides of the triangle that meet at the corner that is
        # alone inside, or outside.
        alone = inside[crossed] == (n_inside[crossed] == 1)[:, None]
        corner = alone.argmax(axis=1)[:, None]
        own = faces[crossed]
        first = np.repeat(np.take_along_axis(own, corner, axis=1), 2, axis=1)
        others = np.take_along_axis(own, (corner + np.array([1, 2])) % 3, axis=1)
        ends.append(np.stack([first, others], axis=2))
        shares.append((0.5 - field[first]) / (field[others] - field[first]))
        flat.append(on_flat[crossed])
    if not fields:
        return Outlines(np.zeros((0, 2, 2), int), np.zeros((0, 2)), np.zeros(0, bool))
    return Outlines(np.concatenate(ends), np.concatenate(shares), np.concatenate(flat))


def _list_rim(faces):
    """Vertices on the edge of a mesh: on a side of one triangle only."""
    sides = np.sort(list_sides(faces), axis=1)
    sides, times = np.unique(sides, axis=0, return_counts=True)
    return np.unique(sides[times == 1])


def _find_middles(coords, fields, rim=()):
    """The vertex of each region farthest from all that is outside, and from the rim; or -1."""
    there = np.isfinite(coords[:, 0])
    middles = []
    for field in fields:
        inside = there & (field > 0.5)
        outside = there & (field <= 0.5)
        outside[np.asarray(rim, int)] = True
        own = np.flatnonzero(inside)
        if not len(own) or not outside.any():
            middles.append(int(own[0]) if len(own) else -1)
            continue
        distance, _ = cKDTree(coords[outside]).query(coords[own])
        middles.append(int(own[distance.argmax()]))
    return middles

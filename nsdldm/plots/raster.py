"""Turn triangle meshes into pixels.

matplotlib draws a mesh triangle by triangle. At 460,000 triangles per hemisphere this leaves seams
or blurred edges, does not hide what is behind, and costs the same for every map. Here the pixels of
a view are looked up once, and every map of that view is then plain array arithmetic.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

# Limits the memory of one pass, in pixels tested against triangles.
CANDIDATES = 2_000_000


def rasterise(
    points: np.ndarray, depth: np.ndarray, faces: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Find the triangle visible at each pixel.

    Parameters
    ----------
    points : float array of shape (n_vertices, 2)
        Column and row of each vertex in pixels; the centre of the first pixel is (0, 0).
    depth : float array of shape (n_vertices,)
        Nearness to the viewer; of overlapping triangles, the nearest is visible.
    faces : int array of shape (n_faces, 3)
    shape : tuple of int
        Height and width of the raster.

    Returns
    -------
    int32 array of shape `shape`
        Index of a triangle, -1 where there is none.
    """
    seen = np.full(shape[0] * shape[1], -1, dtype=np.int32)
    nearest = np.full(len(seen), -np.inf)
    low, counts = _boxes(points[faces], shape)
    for start, stop in pairwise(_passes(counts.prod(axis=1))):
        triangles, columns, rows = _pixels(low[start:stop], counts[start:stop])
        triangles += start
        weights = _barycentric(points[faces[triangles]], columns, rows)
        inside = (weights >= -1e-6).all(axis=1)
        triangles, weights = triangles[inside], weights[inside]
        pixels = rows[inside] * shape[1] + columns[inside]
        near = np.einsum("ij,ij->i", weights, depth[faces[triangles]])
        np.maximum.at(nearest, pixels, near)
        first = near == nearest[pixels]
        seen[pixels[first]] = triangles[first]
    return seen.reshape(shape)


def interpolation(
    seen: np.ndarray, points: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the vertices around each pixel and their weights.

    Parameters
    ----------
    seen : int array of shape (height, width)
        As returned by `rasterise`.
    points, faces
        As given to `rasterise`.

    Returns
    -------
    corners : int32 array of shape (n_pixels, 3)
        Vertices around each pixel that shows a triangle, in the order of ``seen[seen >= 0]``.
    weights : float32 array of shape (n_pixels, 3)
        Barycentric weights, summing to 1.
    """
    rows, columns = np.nonzero(seen >= 0)
    corners = faces[seen[rows, columns]]
    weights = np.clip(_barycentric(points[corners], columns, rows), 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    return corners.astype(np.int32), weights.astype(np.float32)


def _boxes(triangles, shape):
    """First column and row, and number of columns and rows, of each triangle's pixels."""
    limit = np.array(shape[::-1]) - 1
    low = np.clip(np.ceil(triangles.min(axis=1)), 0, None).astype(np.int64)
    high = np.minimum(np.floor(triangles.max(axis=1)), limit).astype(np.int64)
    return low, np.clip(high - low + 1, 0, None)


def _passes(sizes):
    """Bounds of passes through the triangles, each of about `CANDIDATES` pixels."""
    number = np.cumsum(sizes) // CANDIDATES
    return np.concatenate([[0], np.nonzero(np.diff(number))[0] + 1, [len(sizes)]])


def _pixels(low, counts):
    """List every pixel of every box as triangle, column and row."""
    sizes = counts.prod(axis=1)
    triangles = np.repeat(np.arange(len(sizes)), sizes)
    step = np.arange(len(triangles)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows, columns = np.divmod(step, counts[triangles, 0])
    return triangles, columns + low[triangles, 0], rows + low[triangles, 1]


def _barycentric(triangles, columns, rows):
    """Barycentric coordinates of one pixel per triangle; -1 for triangles without area."""
    (ax, ay), (bx, by), (cx, cy) = (triangles[:, corner].T for corner in range(3))
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    weights = np.stack(
        [
            (bx - columns) * (cy - rows) - (cx - columns) * (by - rows),
            (cx - columns) * (ay - rows) - (ax - columns) * (cy - rows),
            (ax - columns) * (by - rows) - (bx - columns) * (ay - rows),
        ],
        axis=1,
    )
    flat = area == 0
    weights /= np.where(flat, 1, area)[:, None]
    weights[flat] = -1
    return weights

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from nsdldm.plots import raster
from nsdldm.plots.raster import interpolation, rasterise

SQUARE = np.array([[-0.5, -0.5], [9.5, -0.5], [9.5, 7.5], [-0.5, 7.5]])
HALVES = np.array([[0, 1, 2], [0, 2, 3]])


def test_each_pixel_shows_the_triangle_around_its_centre():
    rng = np.random.default_rng(0)
    points = rng.uniform(-5, 45, (3, 2))
    seen = rasterise(points, np.zeros(3), np.array([[0, 1, 2]]), (30, 40))
    rows, columns = np.mgrid[:30, :40]
    pixels = np.column_stack([columns.ravel(), rows.ravel()])
    expected = Polygon(points).contains_points(pixels).reshape(30, 40)
    assert expected.any()
    np.testing.assert_array_equal(seen == 0, expected)


@pytest.mark.parametrize("candidates", [10, 2_000_000])
def test_neighbouring_triangles_leave_no_seam(candidates, monkeypatch):
    monkeypatch.setattr(raster, "CANDIDATES", candidates)
    rng = np.random.default_rng(1)
    columns, rows = np.meshgrid(np.linspace(-1, 60, 12), np.linspace(-1, 50, 12))
    points = np.column_stack([columns.ravel(), rows.ravel()])
    inner = (points > 0).all(axis=1) & (points[:, 0] < 59) & (points[:, 1] < 49)
    points[inner] += rng.uniform(-1, 1, (inner.sum(), 2))
    start = (np.arange(11)[:, None] * 12 + np.arange(11)).ravel()
    a, b, c, d = start, start + 1, start + 12, start + 13
    faces = np.concatenate([np.column_stack([a, b, d]), np.column_stack([a, d, c])])
    assert (rasterise(points, np.zeros(len(points)), faces, (50, 60)) >= 0).all()


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_nearest_triangle_hides_the_others(order):
    points = np.tile(SQUARE, (2, 1))
    depth = np.repeat([1.0, 2.0], 4)
    faces = np.concatenate([HALVES + 4 * layer for layer in order])
    seen = rasterise(points, depth, faces, (8, 10))
    assert (depth[faces[seen]] == 2).all()


def test_triangles_without_area_are_not_seen():
    line = np.array([[0, 0], [5, 5], [9, 9.0]])
    assert (rasterise(line, np.zeros(3), np.array([[0, 1, 2]]), (10, 10)) == -1).all()


def test_linear_functions_are_interpolated_exactly():
    values = SQUARE @ [2.0, -3.0] + 1
    seen = rasterise(SQUARE, np.zeros(4), HALVES, (8, 10))
    corners, weights = interpolation(seen, SQUARE, HALVES)
    rows, columns = np.nonzero(seen >= 0)
    assert len(rows) == 80
    found = (values[corners] * weights).sum(axis=1)
    np.testing.assert_allclose(found, 2 * columns - 3 * rows + 1, atol=1e-4)

"""Flat maps of registered spheres."""

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_fsaverage

from nsdldm.laion.flats import flatten_sphere
from nsdldm.nsd.surfaces import flat_mesh, read_patch
from nsdldm.support.errors import InputError


@pytest.fixture(scope="module")
def sphere(tmp_path_factory):
    mesh = load_fsaverage("fsaverage5")["sphere"].parts["left"]
    path = tmp_path_factory.mktemp("surf") / "lh.sphere.reg"
    nib.freesurfer.write_geometry(path, mesh.coordinates, mesh.faces)
    return path, mesh.coordinates, mesh.faces


def area(coords, faces):
    a, b, c = (coords[faces[:, corner]] for corner in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def test_areas_are_those_of_the_sphere(sphere, tmp_path):
    path, coords, faces = sphere
    flatten_sphere(sphere=path, output=tmp_path / "flat")
    patch = read_patch(tmp_path / "flat")
    flat, kept, vertices = flat_mesh(patch, faces)
    shares = area(flat, kept) / area(coords[vertices], kept)
    assert np.median(np.abs(shares - 1)) < 0.02
    # A sphere's cap of 130 degrees.
    assert len(vertices) / len(coords) == pytest.approx((1 + np.cos(np.deg2rad(50))) / 2, abs=0.02)


def test_the_occipital_pole_is_in_the_middle_and_up_is_up(sphere, tmp_path):
    path, coords, _ = sphere
    flatten_sphere(sphere=path, output=tmp_path / "flat")
    vertices, flat, border = read_patch(tmp_path / "flat")
    x, y, z = coords[vertices].T
    assert np.linalg.norm(flat[np.argmin(y)]) < 5
    assert np.corrcoef(flat[:, 0], x)[0, 1] > 0.9 and np.corrcoef(flat[:, 1], z)[0, 1] > 0.9
    far = np.linalg.norm(flat, axis=1)
    assert 0 < border.sum() < 0.05 * len(far) and far[border].min() > 0.9 * far.max()


def test_another_surface_is_refused(sphere, tmp_path):
    _, coords, faces = sphere
    nib.freesurfer.write_geometry(tmp_path / "lh.white", coords * [1, 2, 1], faces)
    with pytest.raises(InputError, match="expected vertices on a sphere, found radii from 100"):
        flatten_sphere(sphere=tmp_path / "lh.white", output=tmp_path / "flat")

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nsd_files import FACES, OCTAHEDRON, write_mgh, write_patch_bytes

from nsdldm.nsd.surfaces import (
    flat_mesh,
    project,
    read_index_map,
    read_morph,
    read_patch,
    read_surface,
    read_transform,
    sample_volume,
    write_patch,
)
from nsdldm.support.errors import InputError


def test_surface_and_its_values(tmp_path):
    nib.freesurfer.write_geometry(tmp_path / "lh.white", OCTAHEDRON, FACES)
    nib.freesurfer.write_morph_data(tmp_path / "lh.sulc", OCTAHEDRON[:, 2])
    coords, faces = read_surface(tmp_path / "lh.white")
    np.testing.assert_array_equal(coords, OCTAHEDRON)
    np.testing.assert_array_equal(faces, FACES)
    np.testing.assert_array_equal(read_morph(tmp_path / "lh.sulc"), OCTAHEDRON[:, 2])


@pytest.mark.parametrize("name, read", [("lh.white", read_surface), ("lh.sulc", read_morph)])
def test_damaged_surface_files_are_named(tmp_path, name, read):
    with pytest.raises(InputError, match=rf"{name}.*no such file"):
        read(tmp_path / name)
    if read is read_surface:
        nib.freesurfer.write_geometry(tmp_path / name, OCTAHEDRON, FACES)
    else:
        nib.freesurfer.write_morph_data(tmp_path / name, OCTAHEDRON[:, 2])
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-30])
    with pytest.raises(InputError, match=rf"{name}.*intact copy"):
        read(tmp_path / name)


def test_patch_is_decoded_as_the_format_says(tmp_path):
    vertices, border = [0, 5, 2], [True, False, True]
    coords = [[1.5, -2.0, 0.0], [3.0, 4.0, 0.0], [-1.0, 0.25, 0.0]]
    write_patch_bytes(tmp_path / "patch", vertices, coords, border)
    read = read_patch(tmp_path / "patch")
    for values, expected in zip(read, (vertices, coords, border), strict=True):
        np.testing.assert_array_equal(values, expected)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data(), st.lists(st.integers(0, 2**31 - 2), min_size=1, max_size=8, unique=True))
def test_patch_round_trip(tmp_path, data, vertices):
    floats = st.floats(-1e4, 1e4, width=32)
    coords = data.draw(arrays(np.float32, (len(vertices), 3), elements=floats))
    border = data.draw(arrays(bool, len(vertices)))
    write_patch(tmp_path / "patch", vertices, coords, border)
    read = read_patch(tmp_path / "patch")
    for values, expected in zip(read, (vertices, coords, border), strict=True):
        np.testing.assert_array_equal(values, expected)
    write_patch_bytes(tmp_path / "other", vertices, coords, border)
    assert (tmp_path / "patch").read_bytes() == (tmp_path / "other").read_bytes()


def test_damaged_patch_is_named(tmp_path):
    path = tmp_path / "lh.full.flat.patch.3d"
    write_patch_bytes(path, [0, 1], OCTAHEDRON[:2], [False, False])
    whole = path.read_bytes()
    for damaged in (whole[:-4], b"\0" + whole[1:], b"", whole[:4] + whole[:4] + whole[8:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"patch.3d.*intact copy"):
            read_patch(path)


def test_flat_mesh_keeps_faces_inside_the_patch():
    vertices = np.array([4, 0, 2, 1])
    patch = vertices, OCTAHEDRON[:4], np.zeros(4, bool)
    coords, faces, kept = flat_mesh(patch, FACES)
    np.testing.assert_array_equal(kept, vertices)
    np.testing.assert_array_equal(coords, OCTAHEDRON[:4])
    np.testing.assert_array_equal(vertices[faces], [[0, 2, 4], [2, 1, 4]])


def test_transform_counts_from_zero_and_has_nan_for_invalid(tmp_path):
    stored = np.array([[1, 1, 1], [2.5, 3, 4], [9999, 9999, 9999]], "f4")
    write_mgh(tmp_path / "transform.mgz", stored[:, None, None, :])
    expected = [[0, 0, 0], [1.5, 2, 3], [np.nan] * 3]
    np.testing.assert_array_equal(read_transform(tmp_path / "transform.mgz"), expected)


def test_index_map_counts_from_zero(tmp_path):
    write_mgh(tmp_path / "map.mgz", np.array([3, 1, 2], "f4")[:, None, None])
    np.testing.assert_array_equal(read_index_map(tmp_path / "map.mgz"), [2, 0, 1])


def test_transform_of_another_shape_is_refused(tmp_path):
    write_mgh(tmp_path / "labels.mgz", np.zeros((6, 1, 1)))
    with pytest.raises(InputError, match=r"labels.mgz.*3 numbers per vertex.*\(6, 1, 1\)"):
        read_transform(tmp_path / "labels.mgz")
    with pytest.raises(InputError, match=r"absent.mgz.*no such file"):
        read_transform(tmp_path / "absent.mgz")


def test_linear_sampling_is_exact_for_a_linear_volume():
    i, j, k = np.indices((4, 5, 6))
    volume = 2.0 * i - 3 * j + 0.5 * k + 7
    coords = np.random.default_rng(0).uniform(0, [3, 4, 5], (50, 3))
    expected = coords @ [2, -3, 0.5] + 7
    np.testing.assert_allclose(sample_volume(volume, coords, "linear"), expected, atol=1e-12)


def test_linear_sampling_gives_the_weight_of_nan_voxels_to_the_others():
    volume = np.full((2, 2, 2), np.nan)
    volume[0, 0, 0], volume[1, 0, 0] = 10, 20
    coords = np.array([[0.25, 0.5, 0], [1, 0, 0], [0, 1, 1]])
    expected = [(0.75 * 10 + 0.25 * 20), 20, np.nan]
    np.testing.assert_allclose(sample_volume(volume, coords, "linear"), expected)


def test_nearest_sampling_takes_the_nearest_voxel():
    volume = np.arange(24.0).reshape(2, 3, 4)
    volume[1, 2, 3] = np.nan
    coords = np.array([[0.4, 0.6, 2.5], [1, 2, 3], [0.5, 1.5, 0.2]])
    expected = [volume[0, 1, 3], np.nan, volume[1, 2, 0]]
    np.testing.assert_array_equal(sample_volume(volume, coords, "nearest"), expected)


@pytest.mark.parametrize("order", ["nearest", "linear"])
def test_nothing_is_sampled_outside_the_volume(order):
    coords = np.array([[-0.01, 0, 0], [0, 0, 3.01], [np.nan] * 3, [0, 0, 0], [1, 2, 3]])
    values = sample_volume(np.ones((2, 3, 4)), coords, order)
    np.testing.assert_array_equal(values, [np.nan, np.nan, np.nan, 1, 1])


def test_unknown_order_is_refused():
    with pytest.raises(ValueError, match="nearest or linear"):
        sample_volume(np.ones((2, 2, 2)), np.zeros((1, 3)), "cubic")


@pytest.fixture
def layers(tmp_path):
    """Three depths at k = 0, 1, 2; the second vertex has a place in the first and last only."""
    paths = []
    for depth in range(3):
        coords = np.full((3, 1, 1, 3), 1.0)
        coords[..., 2] += depth
        coords[1] = 9999 if depth == 1 else coords[1]
        coords[2] = 9999
        paths.append(tmp_path / f"lh.func1pt8-to-layerB{depth + 1}.mgz")
        write_mgh(paths[-1], coords)
    return paths


def test_projection_is_the_mean_over_depths(layers):
    volume = np.zeros((2, 2, 3))
    volume[0, 0] = [1, 5, 12]
    np.testing.assert_allclose(project(volume, layers, "linear"), [6, 6.5, np.nan])


def test_projection_of_labels_takes_the_middle_depth(layers):
    volume = np.zeros((2, 2, 3))
    volume[0, 0] = [1, 5, 12]
    np.testing.assert_array_equal(project(volume, layers, "nearest"), [5, np.nan, np.nan])


def test_projection_needs_three_depths(layers):
    with pytest.raises(ValueError, match="three depths, got 2"):
        project(np.zeros((2, 2, 3)), layers[:2], "linear")

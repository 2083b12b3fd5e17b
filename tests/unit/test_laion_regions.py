"""Regions of LAION-fMRI."""

import nibabel as nib
import numpy as np
import pytest
from laion_files import AFFINE, GRID, SUBJECT, make_ceiling, write_metadata, write_volume

from nsdldm.laion.rois import make_masks, mark_ribbon, read_ncsnr
from nsdldm.support.errors import InputError

V1, V2 = np.indices(GRID)[0] == 1, np.indices(GRID)[0] == 2
FACES = np.indices(GRID)[1] == 3


@pytest.fixture
def given(tmp_path):
    volumes = {}
    for part, data in (("retinotopy:V1v", V1), ("retinotopy:V2v", V2), ("face:FFA1", FACES)):
        path = tmp_path / f"label-{part.split(':')[1]}_mask.nii.gz"
        # Masks have other numbers than 1.
        volumes[part] = write_volume(path, 0.4 * data)
    return {
        "volumes": volumes,
        "transforms": [],
        "reference": write_volume(tmp_path / "ceiling.nii.gz", make_ceiling()),
    }


def mark(given, tmp_path, parts, **options):
    output = tmp_path / "roi.nii.gz"
    make_masks(rois={"roi": parts}, outputs={"roi": output}, **given, **options)
    image = nib.load(output)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    return np.asanyarray(image.dataobj)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["retinotopy:V1v"], V1),
        (["retinotopy:V2v", "face:FFA1"], V2 | FACES),
        (["retinotopy:all"], V1 | V2),
    ],
)
def test_a_region_is_the_union_of_its_parts(given, tmp_path, parts, expected):
    found = mark(given, tmp_path, parts)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def write_places(folder, name, places):
    """Voxels from 1, and 9999 for none, as NSD has them."""
    path = folder / name
    nib.save(nib.MGHImage(np.reshape(places, (-1, 1, 1, 3)).astype(np.float32), np.eye(4)), path)
    return path


def test_the_ribbon_is_the_voxels_nearest_to_vertices(given, tmp_path):
    one = write_places(tmp_path, "lh.1.mgz", [[1.4, 1, 1], [2.6, 3, 4], [9999] * 3])
    two = write_places(tmp_path, "lh.2.mgz", [[5.4, 6.4, 7.4], [2.7, 3.2, 3.9], [5.6, 1, 1]])
    expected = np.zeros(GRID, bool)
    for voxel in ((0, 0, 0), (2, 2, 3), (4, 5, 6)):
        expected[voxel] = True
    np.testing.assert_array_equal(mark_ribbon([one, two], GRID), expected)
    given["transforms"] = [one, two]
    found = mark(given, tmp_path, ["anatomy:ribbon", "retinotopy:V1v"])
    np.testing.assert_array_equal(found, expected | V1)


def test_noise_is_found_from_the_ceiling(given, tmp_path):
    """By the definition of the ceiling; sub-03 has four images of 4 trials and one of 12."""
    found = read_ncsnr(given["reference"], write_metadata(tmp_path), SUBJECT)
    m = (4 / 4 + 1 / 12) / 5
    np.testing.assert_allclose(100 * found**2 / (found**2 + m), make_ceiling(), atol=1e-4)


def test_voxels_without_signal_are_left_out(given, tmp_path):
    metadata = write_metadata(tmp_path)
    options = {"metadata": metadata, "subject": SUBJECT, "min_ncsnr": 0.3}
    found = mark(given, tmp_path, ["retinotopy:all"], **options)
    m = 13 / 60
    least = 100 * 0.09 / (0.09 + m)
    expected = (V1 | V2) & (make_ceiling() >= least)
    assert 0 < expected.sum() < (V1 | V2).sum()
    np.testing.assert_array_equal(found, expected)


def test_missing_values_of_the_ceiling_are_no_signal(given, tmp_path):
    ceiling = make_ceiling()
    ceiling[4, 5, 5] = np.nan
    write_volume(given["reference"], ceiling)
    found = read_ncsnr(given["reference"], write_metadata(tmp_path), SUBJECT)
    assert found[4, 5, 5] == 0 and found[4, 5, 6] > 0


@pytest.mark.parametrize("scale", [0.01, 2])
def test_a_ceiling_that_is_not_in_percent(given, tmp_path, scale):
    write_volume(given["reference"], make_ceiling() * scale)
    options = {"metadata": write_metadata(tmp_path), "subject": SUBJECT, "min_ncsnr": 0.1}
    with pytest.raises(InputError, match=f"in percent, up to 100, found {60 * scale:.3g} at most"):
        mark(given, tmp_path, ["retinotopy:all"], **options)


def test_a_region_without_voxels(given, tmp_path):
    with pytest.raises(InputError, match=r"rois`.roi: expected voxels of place:all, found none"):
        mark(given, tmp_path, ["place:all"])
    options = {"metadata": write_metadata(tmp_path), "subject": SUBJECT, "min_ncsnr": 9}
    with pytest.raises(InputError, match="or lower `min_ncsnr`"):
        mark(given, tmp_path, ["retinotopy:all"], **options)


def test_a_mask_on_another_grid(given, tmp_path):
    path = given["volumes"]["face:FFA1"]
    write_volume(path, FACES, affine=np.diag([1.5, 1.5, 1.5, 1]))
    with pytest.raises(InputError, match="label-FFA1_mask"):
        mark(given, tmp_path, ["face:FFA1"])

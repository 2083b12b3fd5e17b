"""Volumes on other grids of the same shape, and labels that are not whole.

The truth is planted: nine voxels of a region on the release's grid, and the same region as nibabel
stores it after its axes were turned, or its origin moved.
"""

import logging

import nibabel as nib
import numpy as np
import pytest
from nsd_files import AFFINE, GRID, make_betas, write_betas, write_mgh, write_nifti

from nsdldm.nsd.betas import extract_betas, read_session
from nsdldm.nsd.grids import Grid, compare_grids, load_masks
from nsdldm.nsd.rois import make_masks, read_labels, read_volume
from nsdldm.nsd.surfaces import read_index_map
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_array, load_volume, save_volume

# Nine voxels, at no place that a flip maps onto itself.
TRUTH = np.zeros(GRID, bool)
TRUTH[:3, :3, 0] = True
# Of a voxel of the turned volume, the voxel of the release's: as numpy indexes it.
TURNS = {
    "x": lambda data: data[::-1],
    "y": lambda data: data[:, ::-1],
    "z": lambda data: data[:, :, ::-1],
    "x and y": lambda data: data[::-1, ::-1],
    "order": lambda data: data.transpose(1, 0, 2),
}
TURNED_AFFINES = {
    "x": [[-1.8, 0, 0, 2.7], [0, 1.8, 0, -3.6], [0, 0, 1.8, -1.8]],
    "y": [[1.8, 0, 0, -2.7], [0, -1.8, 0, 3.6], [0, 0, 1.8, -1.8]],
    "z": [[1.8, 0, 0, -2.7], [0, 1.8, 0, -3.6], [0, 0, -1.8, 1.8]],
    "x and y": [[-1.8, 0, 0, 2.7], [0, -1.8, 0, 3.6], [0, 0, 1.8, -1.8]],
    "order": [[0, 1.8, 0, -2.7], [1.8, 0, 0, -3.6], [0, 0, 1.8, -1.8]],
}


def write(path, data, affine, kind=nib.Nifti1Image, code=1):
    path.parent.mkdir(exist_ok=True, parents=True)
    image = kind(data, np.vstack([affine, [0, 0, 0, 1]])[:4])
    image.set_sform(image.affine, code)
    image.set_qform(image.affine, 0)
    nib.save(image, path)
    return path


def moved(shift, zoom=1.0):
    """The release's affine with another origin, in voxels, or voxel size."""
    affine = AFFINE.copy()
    affine[:3, 3] += 1.8 * np.asarray(shift)
    affine[:3, :3] *= zoom
    return affine


@pytest.fixture
def streams(tmp_path):
    """The release's own volume."""
    path = tmp_path / "streams.nii.gz"
    write_nifti(path, np.where(TRUTH, 0.0, -1.0))
    return path


def make(own, streams, parts=("own:5",), **options):
    """The mask of a region of one's own beside the release's volume."""
    output = own.with_name("masks") / "own.nii.gz"
    make_masks(
        atlases={"own": own},
        tables={},
        rois={"own": list(parts)},
        outputs={"own": output},
        reference=streams,
        **options,
    )
    return load_volume(output)


@pytest.mark.parametrize("turn", TURNS)
def test_axes_that_run_another_way_are_refused_or_turned(tmp_path, streams, turn):
    data = TURNS[turn](np.where(TRUTH, 5, 0).astype("i2"))
    own = write(tmp_path / "own.nii.gz", data, TURNED_AFFINES[turn])
    with pytest.raises(InputError) as caught:
        make(own, streams)
    (finding,) = caught.value.findings
    assert finding.where == str(own)
    assert "streams.nii.gz" in finding.expected and "1.8 0 0 -2.7; 0 1.8 0 -3.6" in finding.expected
    for row in TURNED_AFFINES[turn]:
        assert " ".join(f"{number:g}" for number in row) in finding.found
    assert "resample_from_to" in finding.remedy and "`reorient`" in finding.remedy
    mask, affine = make(own, streams, reorient=True)
    np.testing.assert_array_equal(mask, TRUTH)
    np.testing.assert_allclose(affine, AFFINE, atol=1e-6)


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (moved([3, 0, 0]), "3, 0, 0 voxels away"),
        (moved([0, 0.51, 0]), "0, 0.51, 0 voxels away"),
        (moved([0, 0, 0], zoom=1.1), "resample_from_to"),
        (moved([0, 0, 0], zoom=2 / 1.8), "resample_from_to"),
        (AFFINE @ nib.affines.from_matvec(nib.eulerangles.euler2mat(z=0.05)), "resample_from_to"),
    ],
    ids=["shifted by 3", "by half", "10 % larger", "2 mm", "rotated"],
)
def test_another_place_of_the_same_shape_is_refused(tmp_path, streams, affine, words):
    own = write(tmp_path / "own.nii.gz", np.where(TRUTH, 5, 0).astype("i2"), affine[:3])
    for reorient in (False, True):
        with pytest.raises(InputError, match=words) as caught:
            make(own, streams, reorient=reorient)
        assert "`reorient`" not in str(caught.value)


@pytest.mark.parametrize(
    "affine", [moved([1e-5] * 3), moved([0.4, 0, 0]), moved([0] * 3, 1 + 1e-5)]
)
def test_rounding_and_less_than_half_a_voxel_pass(tmp_path, streams, affine):
    own = write(tmp_path / "own.nii.gz", np.where(TRUTH, 5, 0).astype("i2"), affine[:3])
    np.testing.assert_array_equal(make(own, streams)[0], TRUTH)


def test_a_header_that_says_nothing_passes_with_a_line_in_the_log(tmp_path, streams, caplog):
    data = np.where(TRUTH, 5, 0).astype("i2")
    own = write(tmp_path / "own.nii.gz", data, AFFINE[:3], code=0)
    for reorient in (False, True):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            mask, affine = make(own, streams, reorient=reorient)
        assert "own.nii.gz: sform and qform code 0" in caplog.text
        np.testing.assert_array_equal(mask, TRUTH)
        np.testing.assert_allclose(affine, AFFINE, atol=1e-6)
    own = write(tmp_path / "own.nii.gz", data[1:], AFFINE[:3], code=0)
    with pytest.raises(InputError, match=r"own.nii.gz.*found \(3, 5, 3\) voxels\."):
        make(own, streams)


def test_a_qform_alone_says_the_grid(tmp_path, streams):
    image = nib.Nifti1Image(np.where(TRUTH, 5, 0).astype("i2")[::-1], None)
    image.set_qform(np.vstack([TURNED_AFFINES["x"], [0, 0, 0, 1]]), 1)
    nib.save(image, tmp_path / "own.nii.gz")
    with pytest.raises(InputError, match=r"axes L-A-S"):
        make(tmp_path / "own.nii.gz", streams)
    mask, _ = make(tmp_path / "own.nii.gz", streams, reorient=True)
    np.testing.assert_array_equal(mask, TRUTH)


def test_ncsnr_on_another_grid_is_refused_or_turned(tmp_path, streams):
    own = write(tmp_path / "own.nii.gz", np.where(TRUTH, 5, 0).astype("i2"), AFFINE[:3])
    ratios = np.zeros(GRID, "f4")
    ratios[0] = 1
    ncsnr = write(tmp_path / "ncsnr.nii.gz", ratios[::-1], TURNED_AFFINES["x"])
    with pytest.raises(InputError, match=r"ncsnr.nii.gz: expected the grid of.*`reorient`"):
        make(own, streams, ncsnr=ncsnr, min_ncsnr=0.5)
    mask, _ = make(own, streams, ncsnr=ncsnr, min_ncsnr=0.5, reorient=True)
    np.testing.assert_array_equal(mask, TRUTH & (ratios > 0))


@pytest.fixture
def extracted(tmp_path):
    """Keywords of extract_betas for one session of one region."""
    return {
        "masks": {"own": tmp_path / "mask.nii.gz"},
        "outputs": {"own": tmp_path / "own.npy"},
        "partial": tmp_path / "partial",
    }


def test_betas_as_nifti_on_another_grid_are_refused(tmp_path, extracted):
    save_volume(extracted["masks"]["own"], TRUTH, AFFINE)
    path = tmp_path / "betas_session01.nii.gz"
    betas = make_betas(0)
    write(path, betas[::-1], TURNED_AFFINES["x"])
    with pytest.raises(InputError, match=r"betas_session01.nii.gz: expected the grid of .*mask"):
        extract_betas(sessions=[path], **extracted)
    write(path, betas, AFFINE[:3], kind=nib.Nifti2Image)
    extract_betas(sessions=[path], **extracted)
    expected = betas[TRUTH].T / 300
    expected[:, (betas[TRUTH] == 0).all(axis=1)] = np.nan
    np.testing.assert_allclose(load_array(extracted["outputs"]["own"]), expected, rtol=1e-6)


def test_betas_as_hdf5_have_the_axes_of_the_release(tmp_path, extracted):
    """Which their masks must have, since HDF5 says nothing."""
    write_betas(tmp_path / "betas_session01.hdf5", make_betas(0))
    save_volume(
        extracted["masks"]["own"], TRUTH[::-1], np.vstack([TURNED_AFFINES["x"], [0, 0, 0, 1]])
    )
    with pytest.raises(InputError, match=r"mask.nii.gz: expected axes .*R-A-S.*`reorient`"):
        extract_betas(sessions=[tmp_path / "betas_session01.hdf5"], **extracted)
    assert read_session(tmp_path / "betas_session01.hdf5", TRUTH)[0].shape == (750, 9)


def test_masks_of_other_grids_are_refused_wherever_several_are_read(tmp_path):
    affine = np.vstack([TURNED_AFFINES["y"], [0, 0, 0, 1]])
    paths = {"a": tmp_path / "a.nii.gz", "b": tmp_path / "b.nii.gz"}
    save_volume(paths["a"], TRUTH, AFFINE)
    save_volume(paths["b"], TRUTH, affine)
    with pytest.raises(InputError, match=r"b.nii.gz: expected the grid of .*a.nii.gz"):
        load_masks(paths)


def test_a_grid_is_compared_with_itself_however_it_is_turned():
    grids = [Grid("a", GRID, AFFINE)]
    for turn, affine in TURNED_AFFINES.items():
        shape = (5, 4, 3) if turn == "order" else GRID
        grids.append(Grid(turn, shape, np.vstack([affine, [0, 0, 0, 1]])))
    for one in grids:
        for other in grids:
            finding = compare_grids(one, other)
            assert (finding is None) == (one is other)
            assert one is other or "`reorient`" in finding.remedy


# Labels.


def write_scaled(path, labels, slope):
    """Labels as a program stores them that scales: nearly whole after their slope."""
    image = nib.Nifti1Image(np.rint(labels / slope).astype("i2"), AFFINE)
    image.header.set_slope_inter(slope, 0)
    nib.save(image, path)
    return path


LABELS = np.random.default_rng(3).integers(-1, 8, GRID)


@pytest.mark.parametrize("offset", [-1e-4, 1e-4, -9e-4])
def test_labels_nearly_whole_are_that_number(tmp_path, streams, offset):
    own = write(tmp_path / "own.nii.gz", (LABELS + offset).astype("f4"), AFFINE[:3])
    labels, _ = read_labels(own)
    np.testing.assert_array_equal(labels, LABELS)
    assert labels.dtype == np.int32
    mask, _ = make(own, streams, ["own:5", "own:7"])
    np.testing.assert_array_equal(mask, (LABELS == 5) | (LABELS == 7))
    mask, _ = make(own, streams, ["own:ribbon"])
    np.testing.assert_array_equal(mask, LABELS >= 0)
    mask, _ = make(own, streams, ["own:all"])
    np.testing.assert_array_equal(mask, LABELS > 0)


def test_labels_with_a_slope_are_whole_after_it(tmp_path, streams):
    own = write_scaled(tmp_path / "own.nii.gz", LABELS, 1 / 3000)
    stored = np.asanyarray(nib.load(own).dataobj)
    assert not (stored == np.rint(stored)).all()
    np.testing.assert_array_equal(make(own, streams, ["own:5"])[0], LABELS == 5)


@pytest.mark.parametrize(("value", "said"), [(4.98, "4.98"), (np.nan, "nan"), (1e30, r"1e\+30")])
def test_labels_that_were_interpolated_are_refused(tmp_path, streams, value, said):
    labels = LABELS.astype("f4")
    labels[2, 3, 1] = value
    own = write(tmp_path / "own.nii.gz", labels, AFFINE[:3])
    expected = f"own.nii.gz: expected labels that are whole numbers, found the label {said}"
    with pytest.raises(InputError, match=expected):
        make(own, streams)


def test_vertex_numbers_that_are_not_whole_are_refused(tmp_path):
    path = tmp_path / "lh.white-to-fsaverage.mgz"
    write_mgh(path, np.array([1, 2.0001, 3])[:, None, None])
    np.testing.assert_array_equal(read_index_map(path), [0, 1, 2])
    write_mgh(path, np.array([1, 2.4, 3])[:, None, None])
    with pytest.raises(InputError, match=r"whole numbers of vertices, found the number 2.4"):
        read_index_map(path)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_both_versions_of_nifti_are_read_everywhere(tmp_path, streams, kind, suffix):
    own = write(tmp_path / f"own.{suffix}", LABELS.astype("i2"), AFFINE[:3], kind)
    np.testing.assert_array_equal(load_volume(own)[0], LABELS)
    np.testing.assert_array_equal(read_volume(own)[0], LABELS)
    np.testing.assert_array_equal(make(own, streams)[0], LABELS == 5)

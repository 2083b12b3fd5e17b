import logging

import h5py
import nibabel as nib
import numpy as np
import pytest
from nsd_files import (
    AFFINE,
    GRID,
    make_atlas,
    make_betas,
    write_betas,
    write_mgh,
    write_nifti,
)

from nsdldm.nsd import betas as reader
from nsdldm.nsd.betas import extract_betas, read_session, read_surface_betas
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_array, save_volume

FORMATS = ("hdf5", "nii.gz", "nii")
MASKS = {
    "all": np.ones(GRID, bool),
    "early": make_atlas() == 1,
    "ribbon": make_atlas() >= 0,
    "corner": np.indices(GRID).sum(axis=0) == 9,
}


def write(path, betas):
    """In the format that the name says; betas is (X, Y, Z, trials)."""
    (write_betas if path.suffix == ".hdf5" else write_nifti)(path, betas)
    return path


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """One session in each format, and its integers."""
    folder = tmp_path_factory.mktemp("betas")
    betas = make_betas(0)
    return {suffix: write(folder / f"b.{suffix}", betas) for suffix in FORMATS}, betas


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", MASKS)
def test_values_are_percent_in_c_order_of_the_mask(session, suffix, name):
    paths, betas = session
    mask = MASKS[name]
    values, _ = read_session(paths[suffix], mask)
    assert values.dtype == np.float32
    expected = np.array([betas[i, j, k] / 300 for i, j, k in np.argwhere(mask)]).T
    expected[:, (expected == 0).all(axis=0)] = np.nan
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_reader_agrees_with_nibabel_and_with_h5py(session):
    paths, _ = session
    mask = MASKS["ribbon"]
    values, _ = read_session(paths["hdf5"], mask)
    image = np.asarray(nib.load(paths["nii.gz"]).dataobj)
    np.testing.assert_allclose(np.nan_to_num(values) * 300, image[mask].T, atol=1e-3)
    with h5py.File(paths["hdf5"]) as file:
        for column, (i, j, k) in enumerate(np.argwhere(mask)):
            stored = file["betas"][:, k, j, i]
            np.testing.assert_allclose(np.nan_to_num(values[:, column]) * 300, stored, atol=1e-3)


@pytest.mark.parametrize(
    "storage",
    [
        {"chunks": (750, 1, 1, 1)},
        {"chunks": (750, 1, 1, 1), "compression": "gzip"},
        {"chunks": (100, 3, 2, 2), "shuffle": True},
        {"chunks": None},
        {"chunks": (750, 1, 1, 1), "dtype": ">i2"},
    ],
)
def test_hdf5_may_be_stored_in_other_ways(session, tmp_path, storage):
    paths, betas = session
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file.create_dataset("betas", **{"data": betas.T, "dtype": "<i2", **storage})
    for mask in MASKS.values():
        expected = read_session(paths["nii.gz"], mask)[0]
        np.testing.assert_array_equal(read_session(tmp_path / "b.hdf5", mask)[0], expected)


def test_chunks_that_were_never_written_are_voxels_without_data(tmp_path):
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        shape = (750, *GRID[::-1])
        dataset = file.create_dataset("betas", shape, "<i2", chunks=(750, 1, 1, 1))
        dataset[:, 1, 2, 3] = 600
    values, _ = read_session(tmp_path / "b.hdf5", MASKS["all"])
    voxels = values.T.reshape(*GRID, 750)
    assert (voxels[3, 2, 1] == 2).all()
    assert np.isfinite(values).sum() == 750


@pytest.mark.parametrize("suffix", FORMATS)
def test_voxel_without_data_is_nan_and_zero_trials_are_not(tmp_path, suffix):
    betas = make_betas(0)
    betas[2, 2, 2, :749] = 0
    betas[2, 2, 2, 749] = 3
    values, _ = read_session(write(tmp_path / f"b.{suffix}", betas), MASKS["all"])
    voxels = values.T.reshape(*GRID, 750)
    assert np.isnan(voxels[0, 0, 0]).all()
    np.testing.assert_allclose(voxels[2, 2, 2], [0] * 749 + [0.01], rtol=1e-6)
    assert np.isnan(values).sum() == 750


@pytest.mark.parametrize("suffix", FORMATS)
def test_saturated_values_are_counted_inside_the_mask(session, suffix):
    paths, _ = session
    assert read_session(paths[suffix], MASKS["all"])[1] == 2
    mask = MASKS["all"].copy()
    mask[1, 2, 1] = False
    values, n_saturated = read_session(paths[suffix], mask)
    assert n_saturated == 1
    np.testing.assert_allclose(np.nanmin(values), -32768 / 300, rtol=1e-6)


@pytest.mark.parametrize("suffix", FORMATS)
def test_missing_session_file_is_named(tmp_path, suffix):
    with pytest.raises(InputError, match=rf"betas_session07\.{suffix}.*no such file"):
        read_session(tmp_path / f"betas_session07.{suffix}", MASKS["all"])


@pytest.mark.parametrize("suffix", FORMATS)
def test_truncated_file_is_named(session, tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(session[0][suffix].read_bytes()[:-3000])
    with pytest.raises(InputError, match=rf"cut\.{suffix}.*Replace it by an intact copy"):
        read_session(path, MASKS["all"])


@pytest.mark.parametrize("suffix", FORMATS)
def test_wrong_grid_is_named_with_both_shapes(session, suffix):
    mask = np.ones((5, 4, 3), bool)
    with pytest.raises(InputError, match=r"\(5, 4, 3, 750\).*int16 of \(4, 5, 3, 750\)"):
        read_session(session[0][suffix], mask)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "change, found",
    [
        (lambda betas: betas.astype("f4"), "float32"),
        (lambda betas: betas[..., :749], r"749\)"),
    ],
)
def test_wrong_dtype_or_number_of_trials_is_named(tmp_path, suffix, change, found):
    path = write(tmp_path / f"b.{suffix}", change(make_betas(0)))
    with pytest.raises(InputError, match=found):
        read_session(path, MASKS["all"])


def test_hdf5_without_betas_and_scaled_nifti_are_refused(tmp_path):
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file["other"] = [1]
    with pytest.raises(InputError, match=r"b\.hdf5.*the dataset betas"):
        read_session(tmp_path / "b.hdf5", MASKS["all"])
    write_nifti(tmp_path / "b.nii.gz", make_betas(0), slope=0.5)
    with pytest.raises(InputError, match=r"b\.nii\.gz.*plain numbers.*scaled by 0.5"):
        read_session(tmp_path / "b.nii.gz", MASKS["all"])


@pytest.fixture
def regions(tmp_path):
    """Overlapping masks and where their matrices go, as keywords of extract_betas."""
    names = "ribbon", "early", "corner"
    for name in names:
        save_volume(tmp_path / f"{name}.nii.gz", MASKS[name], AFFINE)
    return {
        "masks": {name: tmp_path / f"{name}.nii.gz" for name in names},
        "outputs": {name: tmp_path / f"betas/{name}.npy" for name in names},
        "partial": tmp_path / "partial",
    }


def test_sessions_of_either_format_are_stacked_for_all_regions(regions, tmp_path, caplog):
    files = [write(tmp_path / "s3.hdf5", make_betas(3)), write(tmp_path / "s1.nii", make_betas(1))]
    with caplog.at_level(logging.INFO):
        extract_betas(sessions=files, **regions)
    for name, output in regions["outputs"].items():
        expected = np.vstack([read_session(path, MASKS[name])[0] for path in files])
        assert expected.shape == (1500, MASKS[name].sum())
        np.testing.assert_array_equal(load_array(output), expected)
    union = MASKS["ribbon"] | MASKS["early"] | MASKS["corner"]
    invalid = int(union[0, 0, 0])
    assert f"s3.hdf5: {invalid} of {union.sum()} voxels without data" in caplog.text


def test_nothing_is_written_when_a_session_is_damaged(regions, tmp_path):
    files = [write(tmp_path / "s1.hdf5", make_betas(1)), tmp_path / "s2.hdf5"]
    with pytest.raises(InputError, match=r"s2\.hdf5.*no such file"):
        extract_betas(sessions=files, **regions)
    assert not (tmp_path / "betas").exists()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("n_trials", [744, 720])
def test_sessions_of_other_test_sets_have_other_numbers_of_trials(
    regions, tmp_path, suffix, n_trials
):
    betas = make_betas(0)[..., :n_trials]
    path = write(tmp_path / f"b.{suffix}", betas)
    extract_betas(sessions=[path], n_trials=n_trials, **regions)
    for name, output in regions["outputs"].items():
        expected = np.array([betas[i, j, k] / 300 for i, j, k in np.argwhere(MASKS[name])]).T
        expected[:, (expected == 0).all(axis=0)] = np.nan
        np.testing.assert_allclose(load_array(output), expected, rtol=1e-6)
    with pytest.raises(
        InputError, match=rf"\(4, 5, 3, 750\).*found int16 of \(4, 5, 3, {n_trials}"
    ):
        read_session(path, MASKS["all"])


def test_sessions_of_other_sizes_are_read_chunk_by_chunk_too(tmp_path, monkeypatch):
    path = write(tmp_path / "b.hdf5", make_betas(0)[..., :720])
    monkeypatch.setattr(reader, "_read_planes", None)
    assert read_session(path, MASKS["all"], n_trials=720)[0].shape == (720, 60)


@pytest.fixture
def interrupted(regions, tmp_path, monkeypatch):
    """Three sessions, of which two were read before the run was interrupted."""
    files = [write(tmp_path / f"s{n}.hdf5", make_betas(n)) for n in range(3)]
    read = []

    def read_two(path, mask, *others):
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(path.name)
        return read_session(path, mask)

    monkeypatch.setattr(reader, "read_session", read_two)
    with pytest.raises(KeyboardInterrupt):
        extract_betas(sessions=files, **regions)
    assert read == ["s0.hdf5", "s1.hdf5"]
    read.clear()
    return files, read


def test_sessions_done_are_not_read_again(regions, interrupted):
    files, read = interrupted
    extract_betas(sessions=files, **regions)
    assert read == ["s2.hdf5"]
    for name, output in regions["outputs"].items():
        expected = np.vstack([read_session(path, MASKS[name])[0] for path in files])
        np.testing.assert_array_equal(load_array(output), expected)
    assert not regions["partial"].exists()


@pytest.mark.parametrize("change", ["mask", "session"])
def test_other_masks_or_sessions_begin_anew(regions, interrupted, change):
    files, read = interrupted
    if change == "mask":
        save_volume(regions["masks"]["early"], ~MASKS["early"], AFFINE)
    else:
        write(files[0], make_betas(7))
    with pytest.raises(KeyboardInterrupt):
        extract_betas(sessions=files, **regions)
    assert read == ["s0.hdf5", "s1.hdf5"]


def test_masks_on_different_grids_are_named(regions, tmp_path):
    save_volume(regions["masks"]["early"], np.ones((2, 2, 2), bool), AFFINE)
    with pytest.raises(
        InputError, match=r"early.nii.gz.*ribbon.nii.gz \(\(4, 5, 3\).*found \(2, 2, 2\)"
    ):
        extract_betas(sessions=[], **regions)


def test_surface_betas_are_percent_already(tmp_path):
    percent = np.random.default_rng(0).normal(size=(11, 1, 1, 750)).astype("f4")
    percent[4] = np.nan
    write_mgh(tmp_path / "lh.betas_session01.mgh", percent)
    values = read_surface_betas(tmp_path / "lh.betas_session01.mgh")
    # After a header of 284 bytes: big-endian float32, vertices fastest.
    content = (tmp_path / "lh.betas_session01.mgh").read_bytes()[284 : 284 + 4 * 11 * 750]
    np.testing.assert_array_equal(values, np.frombuffer(content, ">f4").reshape(750, 11))
    assert values.dtype == np.float32
    assert np.isnan(values).sum() == 750


def test_unusable_surface_betas_are_named(tmp_path):
    path = tmp_path / "lh.betas_session01.mgh"
    with pytest.raises(InputError, match=r"session01\.mgh.*no such file"):
        read_surface_betas(path)
    write_mgh(path, np.zeros((11, 1, 1, 749)))
    with pytest.raises(InputError, match=r"\(11, 1, 1, 750\), found \(11, 1, 1, 749\)"):
        read_surface_betas(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"session01\.mgh.*intact copy"):
        read_surface_betas(path)

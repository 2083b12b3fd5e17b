import gzip
import struct
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat
from scipy.stats import ttest_ind

from nsdldm.demo import formats
from nsdldm.demo.atlases import LABELS, STREAMS
from nsdldm.demo.behaviour import COLUMNS, simulate_behaviour
from nsdldm.demo.release import choose_valid, simulate_subject, subject_files
from nsdldm.demo.scenes import describe_scene
from nsdldm.demo.streams import LIVING
from nsdldm.nsd.betas import read_session
from nsdldm.nsd.labels import read_label_table
from nsdldm.nsd.surfaces import flat_mesh, read_morph, read_patch, read_surface, read_transform

SUBJECT, SESSIONS, ZOOM = "subj02", 1, 5.0
SCENES_SEED = 6
# Number of labels of each atlas.
LABELLED = {
    "streams": 7,
    "nsdgeneral": 1,
    "control": 1,
    "prf-visualrois": 7,
    "floc-bodies": 4,
    "floc-faces": 5,
    "floc-places": 3,
    "floc-words": 5,
}


def write_design(path):
    """250 images three times each in the first session; returns their numbers by trial."""
    rng = np.random.default_rng(0)
    order = rng.permutation(np.repeat(rng.permutation(10_000)[:250], 3))
    rest = np.setdiff1d(np.arange(10_000), order)
    order = np.concatenate([order, np.repeat(rest, 3)]) + 1
    images = np.array([rng.permutation(73_000)[:10_000] + 1 for _ in range(8)])
    images[:, :1000] = np.sort(images[0, :1000])
    design = {"masterordering": order[None], "subjectim": images, "sharedix": images[:1, :1000]}
    savemat(path, {key: value.astype(float) for key, value in design.items()})
    return images[1, order[:750] - 1] - 1


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("release")
    nsd_ids = write_design(root / "design.mat")
    rng = np.random.default_rng(1)
    with h5py.File(root / "stimuli.hdf5", "w") as file:
        shape = (73_000, 425, 425, 3)
        pictures = file.create_dataset("imgBrick", shape, "u1", chunks=(1, *shape[1:]))
        for number in np.unique(nsd_ids):
            pictures[number] = rng.integers(0, 256, (5, 5, 3), np.uint8).repeat(85, 0).repeat(85, 1)
    simulate_subject(
        subject=SUBJECT,
        design=root / "design.mat",
        stimuli=root / "stimuli.hdf5",
        root=root / "root",
        seed=5,
        scenes_seed=SCENES_SEED,
        sessions=SESSIONS,
    )
    return root / "root", subject_files(root / "root", SUBJECT, SESSIONS), nsd_ids


def load(path):
    return np.asanyarray(nib.load(path).dataobj)


def test_the_files_named_are_the_files_written(release):
    root, files, _ = release
    written = {str(path) for path in root.rglob("*") if path.is_file()}
    assert written == set(files.values())
    assert sum(Path(path).stat().st_size for path in written) < 80e6
    betas = "nsddata_betas/ppdata/subj02/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    expected = [
        f"{betas}/betas_session01.hdf5",
        f"{betas}/ncsnr.nii.gz",
        "nsddata/ppdata/subj02/func1pt8mm/roi/rh.streams.nii.gz",
        "nsddata/ppdata/subj02/transforms/lh.func1pt8-to-layerB3.mgz",
        "nsddata/freesurfer/subj02/surf/rh.full.flat.patch.3d",
        "nsddata/freesurfer/subj02/label/streams.mgz.ctab",
    ]
    assert {f"{root}/{path}" for path in expected} <= written


def test_betas_are_stored_like_the_release(release):
    _, files, _ = release
    shape = load(files["streams"]).shape
    content = Path(files["betas_session01"]).read_bytes()
    assert content[:8] == b"\x89HDF\r\n\x1a\n"
    assert content[8] == 0  # version of the superblock in files that start with "earliest"
    with h5py.File(files["betas_session01"]) as file:
        assert list(file) == ["betas"]
        betas = file["betas"]
        assert betas.shape == (750, *shape[::-1])
        assert betas.chunks == (750, 1, 1, 1)
        assert betas.dtype == np.dtype("<i2")
        assert betas.compression is None
        assert not betas.attrs
        values = betas[:].transpose(0, 3, 2, 1)
    brain, valid = load(files["brainmask"]) == 1, load(files["valid_session01"]) == 1
    assert (values[:, ~valid] == 0).all()
    assert not (valid & ~brain).any()
    assert 0 < (brain & ~valid).sum() < 0.2 * brain.sum()
    assert (values[:, valid].std(axis=0) > 0).all()
    # A few per cent of signal change.
    assert 1 < np.median(values[:, valid].std(axis=0)) / 300 < 3
    assert np.allclose(load(files["meanbeta_session01"]), values.mean(axis=0), atol=1e-2)


def test_the_projects_reader_reads_the_betas(release):
    _, files, _ = release
    mask = load(files["streams"]) == STREAMS["ventral"]
    values = read_session(files["betas_session01"], mask)[0]
    assert values.shape == (750, mask.sum())
    assert 0.5 < np.nanmean(values) < 2


def test_volumes_have_the_header_of_the_release(release):
    _, files, _ = release
    cases = {
        "streams": (64, 64, 1.0, np.float64),
        "brainmask": (4, 16, 1.0, np.int16),
        "ncsnr": (16, 32, 4 / 3, np.float32),
    }
    for name, (code, bits, tr, dtype) in cases.items():
        raw = gzip.decompress(Path(files[name]).read_bytes())
        x, y, z = load(files[name]).shape
        assert struct.unpack_from("<i", raw, 0) == (348,)
        assert struct.unpack_from("<8h", raw, 40) == (3, x, y, z, 1, 1, 1, 1)
        assert struct.unpack_from("<2h", raw, 70) == (code, bits)
        assert struct.unpack_from("<8f", raw, 76) == pytest.approx((0, 5, 5, 5, tr, 1, 1, 1))
        assert struct.unpack_from("<3f", raw, 108) == (352, 0, 0)
        assert struct.unpack_from("<2h", raw, 252) == (0, 1)
        assert struct.unpack_from("<4f", raw, 280) == (5, 0, 0, -(x - 1) / 2 * 5)
        assert raw[38:39] + raw[228:232] + raw[344:348] == b"rnonen+1\0"
        data = np.frombuffer(raw, dtype, offset=352).reshape(x, y, z, order="F")
        assert np.array_equal(data, load(files[name]), equal_nan=True)
    assert nib.aff2axcodes(nib.load(files["streams"]).affine) == ("R", "A", "S")
    maximum, minimum = struct.unpack_from(
        "<2i", gzip.decompress(Path(files["streams"]).read_bytes()), 140
    )
    assert (maximum, minimum) == (7, -1)


def test_atlases_agree_with_each_other_and_their_tables(release):
    _, files, _ = release
    for atlas, n in LABELLED.items():
        values = set(range(-1, n + 1))
        left, right, both = (load(files[f"{hemi}{atlas}"]) for hemi in ("lh.", "rh.", ""))
        assert np.array_equal(both, np.where(left == -1, right, left))
        assert set(np.unique(both)) == values
        assert set(read_label_table(files[f"{atlas}.ctab"])) == values - {-1}
    assert read_label_table(files["streams.ctab"]) == {
        0: "Unknown",
        1: "early",
        2: "midventral",
        3: "midlateral",
        4: "midparietal",
        5: "ventral",
        6: "lateral",
        7: "parietal",
    }
    names = {0: "Unknown", 1: "EBA", 2: "FBA-1", 3: "FBA-2", 4: "mTL-bodies"}
    assert read_label_table(files["floc-bodies.ctab"]) == names
    streams, general, control = (load(files[a]) for a in ("streams", "nsdgeneral", "control"))
    # Where streams' labels share a voxel with unlabelled cortex, the commonest of two may differ.
    assert ((general == 1) != (streams > 0)).sum() < 0.03 * (streams > 0).sum()
    assert ((streams >= 0) == (control >= 0)).all()
    assert (control == 1).sum() > 300


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_surfaces_lead_into_the_labelled_voxels(release, hemi):
    _, files, _ = release
    labels = load(files[f"{hemi}.streams.mgz"])
    assert labels.shape == (10_242, 1, 1)
    volume = load(files[f"{hemi}.streams"])
    for layer in ("layerB1", "layerB2", "layerB3"):
        stored = load(files[f"{hemi}.func1pt8-to-{layer}"])
        assert stored.shape == (10_242, 1, 1, 3)
        assert stored.dtype == np.dtype(">f4")
        places = read_transform(files[f"{hemi}.func1pt8-to-{layer}"])
        found = volume[tuple(np.rint(places).astype(int).T)]
        assert (found >= 0).all()
        assert (found == labels.ravel()).mean() > 0.9
        # The transforms are the surfaces in voxels, up to a shift.
        coords = read_surface(files[f"{hemi}.{layer}"])[0] / ZOOM
        assert np.ptp(coords - places, axis=0) == pytest.approx(0, abs=1e-3)
    assert np.array_equal(load(files[f"{hemi}.white-to-fsaverage"]).ravel(), 1 + np.arange(10_242))


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_surfaces_share_their_vertices(release, hemi):
    _, files, _ = release
    faces = read_surface(files[f"{hemi}.white"])[1]
    for name in ("pial", "inflated", "sphere", "layerB2"):
        coords, others = read_surface(files[f"{hemi}.{name}"])
        assert len(coords) == 10_242
        assert np.array_equal(others, faces)
    for name in ("sulc", "curv"):
        assert len(read_morph(files[f"{hemi}.{name}"])) == 10_242
    kept = flat_mesh(read_patch(files[f"{hemi}.full.flat.patch.3d"]), faces)[1]
    assert len(kept) > 18_500


def test_responses_follow_the_design(release):
    _, files, nsd_ids = release
    table = pd.read_csv(files["responses"], sep="\t")
    assert list(table) == COLUMNS
    assert len(COLUMNS) == 19
    assert np.array_equal(table["73KID"] - 1, nsd_ids)
    assert (table["SUBJECT"] == 2).all()
    assert table.groupby("RUN").size().tolist() == [63, 62] * 6
    assert table["TRIAL"].max() == 63
    assert table["TIME"].is_monotonic_increasing
    assert table["ISOLD"].sum() == 500
    lines = Path(files["responses"]).read_text().splitlines()
    assert len(lines) == 751
    assert "NaN" in lines[1].split("\t")


def test_ncsnr_is_that_of_the_written_betas(release):
    _, files, nsd_ids = release
    ncsnr = load(files["ncsnr"])
    valid = load(files["valid_session01"]) == 1
    assert np.array_equal(np.isnan(ncsnr), ~valid)
    streams = load(files["streams"])
    chosen = np.argwhere((streams == 1) & valid)[::40]
    with h5py.File(files["betas_session01"]) as file:
        for i, j, k in chosen:
            values = file["betas"][:, k, j, i].astype(float)
            values = (values - values.mean()) / values.std()
            noise = np.mean([values[nsd_ids == n].var(ddof=1) for n in np.unique(nsd_ids)])
            expected = np.sqrt(max(0, 1 - noise) / noise)
            assert ncsnr[i, j, k] == pytest.approx(expected, abs=5e-3)
    for label in STREAMS.values():
        assert 0.35 <= np.median(ncsnr[(streams == label) & valid]) <= 0.55
    assert np.median(ncsnr[(streams == 0) & valid]) < 0.15


def test_body_patch_prefers_what_is_alive(release):
    """More than other things, in each hemisphere; the places' patches are indifferent."""
    _, files, nsd_ids = release
    alive = np.array(
        [
            any(thing.category in LIVING for thing in describe_scene(SCENES_SEED, int(n)).objects)
            for n in nsd_ids
        ]
    )
    with h5py.File(files["betas_session01"]) as file:
        betas = file["betas"][:].transpose(0, 3, 2, 1) / 300
    valid = load(files["valid_session01"]) == 1

    def prefer(atlas, label, hemi):
        """t of the mean over voxels, living against other things."""
        patch = (load(files[f"{hemi}.{atlas}"]) == LABELS[atlas][label]) & valid
        mean = betas[:, patch].mean(axis=1)
        return ttest_ind(mean[alive], mean[~alive]).statistic

    for hemi in ("lh", "rh"):
        assert prefer("floc-bodies", "EBA", hemi) > 5
        assert abs(prefer("floc-places", "PPA", hemi)) < 4


def test_behaviour_counts_what_lies_between_repeats():
    nsd_ids = np.arange(1500) + 10
    nsd_ids[[4, 100, 760]] = 10
    table = simulate_behaviour(
        subject="subj01", numbers=nsd_ids, nsd_ids=nsd_ids, rng=np.random.default_rng(0)
    )
    rows = table.loc[[0, 4, 100, 760]]
    assert rows["ISOLD"].tolist() == [0, 1, 1, 1]
    assert rows["ISOLDCURRENT"].tolist() == [0, 1, 1, 0]
    assert rows["MEMORYRECENT"].tolist() == [pd.NA, 3, 95, 659]
    assert rows["MEMORYFIRST"].tolist() == [pd.NA, pd.NA, 99, 759]
    silent = table["BUTTON"].isna()
    assert 0 < silent.sum() < 75
    for name in ("ISCORRECT", "RT", "CHANGEMIND", "ISCORRECTCURRENT"):
        assert np.array_equal(table[name].isna(), silent)
    pressed = table["TOTAL1"] + table["TOTAL2"]
    assert (pressed[silent] == 0).all()
    assert (pressed[~silent] >= 1).all()
    answered = table[~silent]
    right = (answered["BUTTON"] == 2) == (answered["ISOLD"] == 1)
    assert np.array_equal(right, answered["ISCORRECT"] == 1)


def test_one_session_loses_an_edge():
    brain = np.zeros((6, 6, 12), bool)
    brain[1:-1, 1:-1, 1:-1] = True
    valid = choose_valid(brain, 3, np.random.default_rng(0))
    lost = [(brain & ~v).any(axis=(0, 1)) for v in valid]
    assert sorted(planes.sum() for planes in lost) == [0, 0, 2]
    assert not (valid & ~brain).any()
    planes = np.flatnonzero(np.any(lost, axis=0)).tolist()
    assert planes in ([1, 2], [9, 10])


def test_integers_saturate_and_nan_is_zero():
    percent = np.array([0.01, -0.01, 200.0, -200.0, np.nan, 1.0])
    assert formats.to_int16(percent).tolist() == [3, -3, 32767, -32768, 0, 300]


def test_betas_as_nifti_hold_the_same_numbers_as_hdf5(tmp_path):
    betas = np.random.default_rng(0).integers(-900, 900, (750, 3, 4, 2)).astype(np.int16)
    formats.write_betas_hdf5(tmp_path / "b.hdf5", betas)
    formats.write_betas_nifti(tmp_path / "b.nii.gz", betas, 1.8)
    image = nib.load(tmp_path / "b.nii.gz")
    assert image.shape == (3, 4, 2, 750)
    assert image.header.get_zooms() == pytest.approx((1.8, 1.8, 1.8, 4 / 3))
    with h5py.File(tmp_path / "b.hdf5") as file:
        assert np.array_equal(load(tmp_path / "b.nii.gz"), file["betas"][:].T)
    assert np.array_equal(load(tmp_path / "b.nii.gz"), np.moveaxis(betas, 0, -1))


def test_equal_data_make_equal_files(tmp_path):
    for name in ("a", "b"):
        formats.write_nifti(tmp_path / f"{name}.nii.gz", np.ones((2, 3, 4), np.int16), 5.0)
        formats.write_mgh(tmp_path / f"{name}.mgz", np.arange(5))
        formats.write_betas_hdf5(tmp_path / f"{name}.hdf5", np.ones((750, 2, 2, 2), np.int16))
    for suffix in ("nii.gz", "mgz", "hdf5"):
        first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
        assert first == second


def test_surface_betas_are_percent_in_frames(tmp_path):
    percent = np.random.default_rng(0).standard_normal((750, 6))
    percent[:, 2] = np.nan
    formats.write_betas_surface(tmp_path / "lh.betas_session01.mgh", percent)
    stored = load(tmp_path / "lh.betas_session01.mgh")
    assert stored.shape == (6, 1, 1, 750)
    assert stored.dtype == np.dtype(">f4")
    assert np.allclose(stored[:, 0, 0].T, percent, atol=1e-6, equal_nan=True)

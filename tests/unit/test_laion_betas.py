"""Betas of LAION-fMRI."""

from contextlib import contextmanager

import numpy as np
import pytest
from laion_files import AFFINE, GRID, SHOWN, make_betas, write_betas, write_trials, write_volume

from nsdldm.laion import betas as reader
from nsdldm.laion.betas import extract_matrices
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_array, save_volume

MASKS = {"cortex": np.indices(GRID).sum(axis=0) % 2 == 0, "early": np.indices(GRID)[0] < 3}
ZOOMS = (1.778,) * 3


@pytest.fixture
def given(tmp_path):
    """Inputs and outputs of an extraction."""
    masks = {name: tmp_path / f"{name}.nii.gz" for name in MASKS}
    for name, path in masks.items():
        save_volume(path, MASKS[name], AFFINE, ZOOMS)
    return {
        "sessions": [write_betas(tmp_path, session) for session in SHOWN],
        "tables": [write_trials(tmp_path, session) for session in SHOWN],
        "masks": masks,
        "outputs": {name: tmp_path / f"{name}.npy" for name in MASKS},
        "partial": tmp_path / "partial",
    }


def expect(name):
    """Rows of both sessions, voxel by voxel; NaN in a whole session where a value is missing."""
    parts = []
    for session in SHOWN:
        betas = make_betas(session)
        values = np.array([betas[tuple(voxel)] for voxel in np.argwhere(MASKS[name])]).T
        values[:, [not np.isfinite(v).all() or not v.any() for v in values.T]] = np.nan
        parts.append(values)
    return np.concatenate(parts)


def test_sessions_of_unequal_length(given):
    extract_matrices(**given)
    for name, path in given["outputs"].items():
        found = load_array(path)
        assert found.dtype == np.float32 and len(found) == 9 + 11
        np.testing.assert_array_equal(found, expect(name))
    # (1, 2, 3) lacks its first session, (2, 2, 3) and (3, 2, 3) both.
    cortex = load_array(given["outputs"]["cortex"])
    column = {tuple(voxel): n for n, voxel in enumerate(np.argwhere(MASKS["cortex"]).tolist())}
    lost = np.isnan(cortex[:, column[1, 2, 3]])
    assert lost[:9].all() and not lost[9:].any()
    assert np.isnan(cortex[:, column[3, 2, 3]]).all()


def test_it_continues_after_the_last_complete_session(given, monkeypatch):
    read, done = reader.read_session, []

    def stopped(path, *rest):
        if path == given["sessions"][1] and len(done) == 1:
            done.append("killed")
            raise KeyboardInterrupt
        done.append(path)
        return read(path, *rest)

    monkeypatch.setattr(reader, "read_session", stopped)
    with pytest.raises(KeyboardInterrupt):
        extract_matrices(**given)
    assert not any(path.exists() for path in given["outputs"].values())
    extract_matrices(**given)
    assert done == [given["sessions"][0], "killed", given["sessions"][1]]
    np.testing.assert_array_equal(load_array(given["outputs"]["early"]), expect("early"))


def test_a_truncated_session(given):
    content = given["sessions"][1].read_bytes()
    given["sessions"][1].write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"ses-02_statmap.*damaged compression"):
        extract_matrices(**given)


@pytest.mark.parametrize(
    ("session", "words"),
    [
        ({"data": np.zeros((*GRID, 8))}, r"= \(5, 6, 7, 9\), found float32 of \(5, 6, 7, 8\)"),
        ({"data": np.ones((*GRID, 9)), "dtype": np.int16}, "float32 betas of shape .*found int16"),
        ({"data": np.ones((*GRID, 9)), "affine": np.diag([2, 2, 2, 1.0])}, "grid|voxels"),
    ],
    ids=["one trial too few", "integers", "another grid"],
)
def test_betas_that_do_not_fit(given, session, words):
    write_volume(given["sessions"][0], **session)
    with pytest.raises(InputError, match=words):
        extract_matrices(**given)


def test_a_session_is_inflated_once(given, monkeypatch):
    """Going back would inflate it again from the start."""
    image, places = reader.open_nifti, []

    @contextmanager
    def watched(path):
        with image(path) as opened:
            keep = opened.dataobj.__class__.__getitem__
            monkeypatch.setattr(
                opened.dataobj.__class__,
                "__getitem__",
                lambda self, at: places.append(at[-1]) or keep(self, at),
            )
            yield opened

    monkeypatch.setattr(reader, "open_nifti", watched)
    reader.read_session(given["sessions"][0], MASKS["early"], None, 9)
    assert places == [*range(9)]

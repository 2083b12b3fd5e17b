"""The check of a subject's part of LAION-fMRI."""

import numpy as np
import pytest
from laion_files import (
    AFFINE,
    GRID,
    IMAGES,
    SHOWN,
    SUBJECT,
    make_betas,
    make_ceiling,
    make_pictures,
    write_betas,
    write_captions,
    write_metadata,
    write_stimuli,
    write_surfaces,
    write_trials,
    write_volume,
)

from nsdldm.laion.check import check_release
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table


@pytest.fixture
def files(tmp_path):
    return {
        "subject": SUBJECT,
        "metadata": write_metadata(tmp_path),
        "captions": write_captions(tmp_path),
        "stimuli": write_stimuli(tmp_path),
        "tables": [write_trials(tmp_path, session) for session in SHOWN],
        "betas": [write_betas(tmp_path, session) for session in SHOWN],
        "reference": write_volume(tmp_path / "ceiling.nii.gz", make_ceiling()),
        "masks": [write_volume(tmp_path / "V1v_mask.nii.gz", np.ones(GRID))],
        "surfaces": write_surfaces(tmp_path),
        "report": tmp_path / "release.tsv",
    }


def test_files_that_fit(files):
    check_release(**files)
    table = load_table(files["report"])
    counts = table.groupby("what", sort=False)["value"].apply(list).to_dict()
    assert counts == {"trials": [9, 11], "vertices": [6] * 10, "images": [6]}


def cut(files):
    content = files["betas"][1].read_bytes()
    files["betas"][1].write_bytes(content[:100])


def spoil_surface(files):
    # The right sphere alone.
    folder = files["report"].parent / "others"
    folder.mkdir()
    others = write_surfaces(folder, 8)
    files["surfaces"][8].write_bytes(others[8].read_bytes())


FAULTS = {
    "other betas": (
        lambda files: write_volume(files["betas"][0], make_betas(2)),
        r"ses-01_statmap.*\(5, 6, 7, 9\), found float32 of \(5, 6, 7, 11\)",
    ),
    "truncated betas": (cut, "ses-02_statmap"),
    "beta_index": (
        lambda files: write_trials(files["report"].parent, 1, beta_index=range(1, 10)),
        "ses-01_trials.*found 1 in row 0",
    ),
    "of another subject": (
        lambda files: files.update(subject="sub-01"),
        "ses-01_trials.*of sub-01 with _p01",
    ),
    "unknown image": (
        lambda files: write_metadata(files["report"].parent, IMAGES[:5]),
        f"images of the metadata, found {IMAGES[5][0].replace('+', '.')}",
    ),
    "another grid": (
        lambda files: write_volume(files["masks"][0], np.ones((5, 6, 8))),
        "V1v_mask",
    ),
    "betas elsewhere": (
        lambda files: write_volume(files["betas"][0], make_betas(1), affine=2 * AFFINE),
        "ses-01_statmap.*affine",
    ),
    "pictures": (
        lambda files: write_stimuli(files["report"].parent, make_pictures()[:5]),
        "each of the 6 rows of the metadata, found 5 pictures",
    ),
    "captions": (
        lambda files: write_captions(files["report"].parent, [row[0] for row in IMAGES[1:]]),
        f"found none for 1 of 5, such as {IMAGES[0][0]}",
    ),
    "surfaces": (spoil_surface, r"rh.sphere.reg: expected 6 vertices .*, found 8"),
    "no metadata": (lambda files: files["metadata"].unlink(), "metadata.csv.*no such file"),
}


@pytest.mark.parametrize(("spoil", "words"), FAULTS.values(), ids=FAULTS)
def test_files_that_do_not_fit(files, spoil, words):
    spoil(files)
    with pytest.raises(InputError, match=words):
        check_release(**files)
    assert not files["report"].exists()


def test_all_faults_are_reported_at_once(files):
    for name in ("other betas", "beta_index", "surfaces"):
        FAULTS[name][0](files)
    # The first session has no usable table, so its betas cannot be compared.
    write_volume(files["betas"][1], make_betas(1))
    with pytest.raises(InputError) as error:
        check_release(**files)
    places = [finding.where.rsplit("/")[-1] for finding in error.value.findings]
    assert places == ["ses-01_trials.tsv", "ses-02_statmap.nii.gz", "rh.sphere.reg"]

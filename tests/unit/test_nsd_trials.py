import numpy as np
import pandas as pd
import pytest
from nsd_files import (
    make_design,
    write_design,
    write_responses,
    write_stim_info,
)

from nsdldm.nsd.trials import read_design, read_stim_info, tabulate_trials
from nsdldm.support.errors import InputError

DESIGN = make_design()


@pytest.fixture(scope="module")
def shared_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("design")
    write_design(folder / "nsd_expdesign.mat", *DESIGN)
    write_stim_info(folder / "nsd_stim_info_merged.csv", *DESIGN)
    return {
        "design": folder / "nsd_expdesign.mat",
        "stim_info": folder / "nsd_stim_info_merged.csv",
    }


@pytest.fixture
def files(shared_files, tmp_path):
    """Subject 3 with four sessions, as keywords of tabulate_trials."""
    write_responses(tmp_path / "responses.tsv", DESIGN[0], DESIGN[1], subject=3, n_sessions=4)
    outputs = {name: tmp_path / f"out/{name}.tsv" for name in ("trials", "images")}
    inputs = {"responses": tmp_path / "responses.tsv", **shared_files}
    return {**inputs, **outputs, "subject": "subj03"}


def tabulate(files, sessions):
    tabulate_trials(**files, sessions=sessions)
    return [pd.read_csv(files[name], sep="\t") for name in ("trials", "images")]


def change_responses(files, column, rows, value):
    table = pd.read_csv(files["responses"], sep="\t")
    table.loc[rows, column] = value
    table.to_csv(files["responses"], sep="\t", index=False)


def test_trials_follow_the_design(files):
    trials, _ = tabulate(files, [2, 4])
    assert list(trials) == ["session", "trial", "nsd_id", "repetition", "split"]
    np.testing.assert_array_equal(trials["session"], np.repeat([2, 4], 750))
    np.testing.assert_array_equal(trials["trial"], np.tile(np.arange(1, 751), 2))
    order, images, shared = DESIGN
    for row in trials.itertuples():
        time = (row.session - 1) * 750 + row.trial - 1
        assert row.nsd_id == images[2, order[time] - 1] - 1
        assert row.repetition == np.count_nonzero(order[: time + 1] == order[time])
        assert row.split == ("test" if row.nsd_id + 1 in shared else "train")
    assert set(trials["repetition"]) == {1, 2, 3}
    assert set(trials["split"]) == {"test", "train"}


def test_images_are_those_shown_with_their_origin(files):
    trials, images = tabulate(files, [2, 4])
    assert list(images) == ["nsd_id", "coco_id", "coco_split", "split", "n_trials"]
    expected = np.unique(trials["nsd_id"], return_counts=True)
    np.testing.assert_array_equal(images["nsd_id"], expected[0])
    np.testing.assert_array_equal(images["n_trials"], expected[1])
    np.testing.assert_array_equal(images["coco_id"], 5 * expected[0] + 11)
    splits = np.where(expected[0] % 50, "train2017", "val2017")
    np.testing.assert_array_equal(images["coco_split"], splits)
    merged = trials.merge(images, on="nsd_id", suffixes=("", "_image"))
    assert (merged["split"] == merged["split_image"]).all()


def test_sessions_keep_the_order_asked_for(files):
    forward, backward = tabulate(files, [1, 3])[0], tabulate(files, [3, 1])[0]
    pd.testing.assert_frame_equal(
        pd.concat([forward[750:], forward[:750]], ignore_index=True), backward
    )


def test_narrow_integers_of_matlab_are_widened(shared_files):
    # subjectim is stored as int32, masterordering as double.
    planned, shared = read_design(shared_files["design"], "subj08")
    assert planned.dtype == shared.dtype == np.int64
    np.testing.assert_array_equal(planned, DESIGN[1][7, DESIGN[0] - 1] - 1)
    np.testing.assert_array_equal(shared, DESIGN[2] - 1)


def test_stimulus_table_lists_the_planned_trials_of_the_subject(shared_files):
    info = read_stim_info(shared_files["stim_info"], "subj05")
    image = DESIGN[1][4, DESIGN[0][1234] - 1] - 1
    assert 1235 in info.loc[image, ["rep0", "rep1", "rep2"]].to_list()
    assert info["shared"].sum() == 1000


def test_fewer_responses_than_betas_are_named_by_session(files):
    lines = files["responses"].read_text().splitlines(keepends=True)
    files["responses"].write_text("".join(lines[: 1 + 2 * 750 + 700]))
    with pytest.raises(InputError) as caught:
        tabulate(files, [2, 3, 4])
    (finding,) = caught.value.findings
    assert finding.where == str(files["responses"])
    assert "750 trials per session" in finding.expected
    assert finding.found == "700 in session 3, 0 in session 4"
    tabulate(files, [1, 2])


def test_trial_that_the_design_contradicts_is_named(files):
    image = pd.read_csv(files["responses"], sep="\t")["73KID"][754]
    change_responses(files, "73KID", 752, image)
    with pytest.raises(InputError) as caught:
        tabulate(files, [1, 2])
    where = [finding.where for finding in caught.value.findings]
    assert where == [str(files["responses"]), str(files["stim_info"])]
    assert "others in 1 trials, first in session 2 trial 3" in str(caught.value)
    assert f"73KID {image} in trial 753" in str(caught.value)
    # Sessions that the run does not use are not compared.
    tabulate(files, [1, 3, 4])


def test_image_outside_the_stimulus_table_is_named(files):
    change_responses(files, "73KID", 5, 73_001)
    with pytest.raises(InputError, match=r"images from 1 to 73000.*found 73KID 73001"):
        tabulate(files, [1])


def test_responses_of_another_subject_are_named(files):
    files["subject"] = "subj04"
    with pytest.raises(InputError, match="expected trials of subj04, found subject 3"):
        tabulate(files, [1])


def test_other_shared_images_are_named(files, tmp_path):
    shared = DESIGN[2].copy()
    shared[0] = next(number for number in range(1, 1002) if number not in shared)
    write_design(tmp_path / "other.mat", DESIGN[0], DESIGN[1], shared)
    files["design"] = tmp_path / "other.mat"
    with pytest.raises(InputError, match=r"column shared1000.*2 of them in only one"):
        tabulate(files, [1])


def test_all_disagreements_are_reported_at_once(files, tmp_path):
    shared = np.roll(DESIGN[2], 1)
    shared[0] = next(number for number in range(1, 1002) if number not in shared)
    write_design(tmp_path / "other.mat", DESIGN[0], DESIGN[1], shared)
    files["design"] = tmp_path / "other.mat"
    change_responses(files, "SUBJECT", slice(None), 7)
    change_responses(files, "73KID", 0, 1)
    with pytest.raises(InputError) as caught:
        tabulate(files, [1, 5])
    assert len(caught.value.findings) == 5
    assert not files["trials"].exists()


def test_sessions_beyond_the_design_are_found_missing(files):
    with pytest.raises(InputError, match="0 in session 41"):
        tabulate(files, [1, 41])


def test_design_of_other_shapes_is_refused(files, tmp_path):
    write_design(tmp_path / "other.mat", DESIGN[0][:29_999], DESIGN[1], DESIGN[2])
    files["design"] = tmp_path / "other.mat"
    with pytest.raises(InputError, match=r"other\.mat.*found masterordering of shape \(1, 29999\)"):
        tabulate(files, [1])


def test_stimulus_table_in_another_order_is_refused(files, tmp_path):
    table = pd.read_csv(files["stim_info"], index_col=0)
    table.iloc[::-1].to_csv(tmp_path / "other.csv")
    files["stim_info"] = tmp_path / "other.csv"
    with pytest.raises(InputError, match=r"other\.csv: expected images numbered from 0"):
        tabulate(files, [1])


@pytest.mark.parametrize("name", ["responses", "design", "stim_info"])
def test_missing_and_damaged_files_are_named(files, tmp_path, name):
    files[name] = tmp_path / "absent"
    with pytest.raises(InputError, match=r"absent.*no such file"):
        tabulate(files, [1])
    (tmp_path / "absent").write_text("a\tb,c\n1\t2,3\n")
    with pytest.raises(InputError, match=r"absent.*(found the column|cannot be read)"):
        tabulate(files, [1])


def test_truncated_design_is_named(files, tmp_path):
    content = files["design"].read_bytes()
    (tmp_path / "cut.mat").write_bytes(content[: len(content) // 2])
    files["design"] = tmp_path / "cut.mat"
    with pytest.raises(InputError, match=r"cut\.mat.*MATLAB file with masterordering"):
        tabulate(files, [1])

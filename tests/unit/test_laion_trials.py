"""Trials and images of LAION-fMRI."""

import pytest
from laion_files import IMAGES, SHOWN, SUBJECT, write_metadata, write_trials

from nsdldm.laion.trials import mark_seen, read_metadata, tabulate_trials
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table


def tabulate(folder, tables, metadata=None, subject=SUBJECT):
    outputs = {name: folder / f"{name}.tsv" for name in ("trials", "images")}
    metadata = metadata or write_metadata(folder)
    tabulate_trials(subject=subject, tables=tables, metadata=metadata, **outputs)
    return [load_table(path) for path in outputs.values()]


def test_tables_of_two_sessions(tmp_path):
    tables = {session: write_trials(tmp_path, session) for session in SHOWN}
    trials, images = tabulate(tmp_path, tables)
    shown = [row for rows in SHOWN.values() for row in rows]
    assert trials["nsd_id"].tolist() == shown
    assert trials["session"].tolist() == [1] * 9 + [2] * 11
    assert trials["trial"].tolist() == [*range(1, 10), *range(1, 12)]
    seen = [shown[: n + 1].count(row) for n, row in enumerate(shown)]
    assert trials["repetition"].tolist() == seen
    # Images out of distribution neither train nor test, whatever their names contain.
    where = {0: "test", 1: "unused", 3: "train", 4: "unused", 5: "train"}
    assert trials["split"].tolist() == [where[row] for row in shown]
    assert images["nsd_id"].tolist() == images["coco_id"].tolist() == [*where]
    assert images["split"].tolist() == [*where.values()]
    assert images["n_trials"].tolist() == [shown.count(row) for row in where] == [5, 4, 3, 4, 4]
    assert images["name"].tolist() == [IMAGES[row][0] for row in where]
    assert images["source"].tolist() == [IMAGES[row][1] for row in where]


def test_later_sessions_keep_their_numbers(tmp_path):
    trials, _ = tabulate(tmp_path, {17: write_trials(tmp_path, 2)})
    assert set(trials["session"]) == {17}


def test_names_of_shared_images_are_no_persons(tmp_path):
    known = read_metadata(write_metadata(tmp_path))
    assert mark_seen(known, "sub-03").tolist() == [True, True, False, True, True, True]
    assert mark_seen(known, "sub-01").tolist() == [True, True, True, False, True, False]


BAD_TABLES = {
    "beta_index from 1": ({"beta_index": range(1, 10)}, "found 1 in row 0"),
    "beta_index with a gap": ({"beta_index": [0, 1, 2, 3, 4, 5, 6, 7, 9]}, "found 9 in row 8"),
    "unknown image": ({"label": ["x.jpg"] * 9}, "images of the metadata, found x.jpg"),
    "of another subject": (
        {"label": [IMAGES[2][0]] * 9},
        f"sub-03 with _p04 at the end, found {IMAGES[2][0]}",
    ),
}


@pytest.mark.parametrize(("changes", "words"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_tables_that_do_not_fit(tmp_path, changes, words):
    path = write_trials(tmp_path, 1, **changes)
    with pytest.raises(InputError) as error:
        tabulate(tmp_path, {1: path})
    assert words in str(error.value) and "ses-01_trials.tsv" in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("session\trun\tlabel\n1\t1\ta.jpg\n", "found no beta_index .*there are: session, run"),
        ("session\trun\tbeta_index\tlabel\n", "found no rows"),
    ],
)
def test_tables_of_another_form(tmp_path, text, words):
    path = tmp_path / "trials.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        tabulate(tmp_path, {1: path})


BAD_METADATA = {
    "twice": ([*IMAGES, IMAGES[0]], f"each image once, found {IMAGES[0][0]} twice"),
    "own": ([(*IMAGES[0][:3], "own", 4)], "found 'own' as unique_or_shared"),
    "repeats": ([(*IMAGES[0][:4], "many")], "how often they are shown"),
}


@pytest.mark.parametrize(("rows", "words"), BAD_METADATA.values(), ids=BAD_METADATA)
def test_metadata_that_cannot_be_used(tmp_path, rows, words):
    with pytest.raises(InputError) as error:
        read_metadata(write_metadata(tmp_path, rows))
    assert words in str(error.value)

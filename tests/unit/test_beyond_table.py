import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from beyond_files import (
    CAPTIONS,
    DEPTH,
    METHODS,
    PIXELS,
    PROTOCOLS,
    SEEN,
    SUBJECTS,
    TWO_WAY,
    N,
    value,
    write_beyond,
)
from reconstruction_files import save

from nsdldm.evaluation.beyond import COLUMNS, NUMBERS, name_retrieval, tabulate_beyond
from nsdldm.evaluation.depth import score_depth
from nsdldm.evaluation.published import COMPARABLE, NOTHING, list_published_beyond
from nsdldm.evaluation.retrieval import score_retrieval
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table


def tabulate(folder, **given):
    ceilings = dict.fromkeys(("zci", "zci-rescaled", "true-zci"), "true-zci")
    tabulate_beyond(**given, ceilings=ceilings, dataset="demo", table=folder / "beyond.tsv")
    return load_table(folder / "beyond.tsv")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return write_beyond(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def table(given, tmp_path_factory):
    return tabulate(tmp_path_factory.mktemp("joined"), **given)


def choose(table, **wanted):
    for column, each in wanted.items():
        table = table[table[column] == each]
    return table


def test_every_score_of_every_file_is_a_row(table):
    assert tuple(table) == COLUMNS
    ours = choose(table, data="demo")
    counts = ours.groupby("kind").size().to_dict()
    # Of the metrics of each method one was not computed.
    assert counts == {
        "reconstruction": 2 * 2 * len(METHODS),
        "retrieval": 2 * 16,
        "caption": 2 * len(CAPTIONS),
        "depth": 2 * len(DEPTH),
    }
    assert set(table["data"]) == {"demo", "published"}
    assert not ours.duplicated(["subject", "protocol", "method", "score"]).any()
    assert set(ours["n"].astype(int)) == {N}


def test_reconstructions_keep_their_values(table):
    for subject in SUBJECTS:
        for method in METHODS:
            for metric in (TWO_WAY, PIXELS):
                row = choose(table, subject=subject, method=method, score=metric)
                expected = value(subject, method, metric)
                assert row["protocol"].item() == PROTOCOLS.get(method, "corrected")
                found = row[["value", "low", "high"]].to_numpy()[0]
                assert found == pytest.approx(
                    [expected, expected - 0.03, expected + 0.03], abs=1e-5
                )


def test_chance_is_exact_where_it_can_be(table):
    made = choose(table, kind="reconstruction")
    assert set(choose(made, score=TWO_WAY)["chance"]) == {0.5}
    assert set(choose(made, score=PIXELS)["chance"]) == {0.21}
    assert set(choose(made, score=PIXELS)["floor"]) == {0.43}


def test_a_ceiling_is_the_same_generator_with_true_features(table):
    for subject in SUBJECTS:
        for method in METHODS:
            row = choose(table, subject=subject, method=method, score=PIXELS)
            if method == "nearest":
                assert row["ceiling"].isna().all()
                continue
            true = "true-zci" if method in ("zci", "zci-rescaled", "true-zci") else "true-zc"
            assert row["ceiling"].item() == pytest.approx(value(subject, true, PIXELS), abs=1e-5)


def test_without_true_features_there_is_no_ceiling(given, tmp_path):
    keys = [key for key in given["summaries"] if not key[2].startswith("true-")]
    summaries = {key: given["summaries"][key] for key in keys}
    table = tabulate(tmp_path, **given | {"summaries": summaries})
    assert choose(table, kind="reconstruction")["ceiling"].isna().all()
    assert choose(table, data="demo", kind="retrieval")["ceiling"].eq(1).all()


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (("image", 1, 300, 982, False), "image-top1-of-300"),
        (("brain", 5, 300, 982, True), "brain-top5-of-300-centred"),
        (("image", 1, 982, 982, False), "image-top1-of-test"),
        (("all", 10, 9841, 982, True), "image-top10-of-all-centred"),
    ],
)
def test_names_of_retrieval(row, name):
    assert name_retrieval(*row) == name


def test_retrieval_has_the_same_names_for_all_subjects(table):
    own = choose(table, data="demo", kind="retrieval")
    names = {subject: set(rows["score"]) for subject, rows in own.groupby("subject")}
    assert names["subj01"] == names["subj02"] and len(names["subj01"]) == 16
    for subject in SUBJECTS:
        row = choose(own, subject=subject, score="image-top5-of-all")
        assert row["chance"].item() == pytest.approx(5 / SEEN[subject], rel=1e-5)
        assert row["method"].item() == "clip-vision"


def test_captions_say_what_they_are_compared_with(table):
    own = choose(table, data="demo", kind="caption", subject="subj01").set_index("score")
    assert set(own.index) == {f"{row.score}:{row.references}" for row in CAPTIONS.itertuples()}
    for row in CAPTIONS.itertuples():
        found = own.loc[f"{row.score}:{row.references}", ["value", "chance", "ceiling"]]
        assert found.tolist() == pytest.approx([row.value, row.chance, row.ceiling])
    assert own["floor"].isna().all()


def test_depth_has_a_floor(table):
    own = choose(table, kind="depth", subject="subj01").set_index("score")
    for row in DEPTH.itertuples():
        found = own.loc[row.score, ["value", "chance", "floor", "ceiling"]]
        assert found.tolist() == pytest.approx([row.value, row.chance, row.floor, 1])


def test_kinds_may_be_left_out(given, tmp_path):
    table = tabulate(tmp_path, **given | {"captions": {}, "depth": {}})
    assert set(choose(table, data="demo")["kind"]) == {"reconstruction", "retrieval"}
    table = tabulate(tmp_path, **given | {"captions": {}, "depth": {}, "retrieval": {}})
    assert choose(table, method="zci", score=PIXELS)["ceiling"].notna().all()


def test_published_rows_follow_with_their_source(table):
    published = choose(table, data="published")
    assert table.index[table["data"] == "published"].min() == len(choose(table, data="demo"))
    words = ["kind", "score", "sessions", "definition", "comparable", "evidence", "source", "note"]
    assert published[[*words, "subject"]].notna().all().all()
    assert set(published.loc[published["n"].isna(), "comparable"]) == {NOTHING}
    assert published[list(NUMBERS[1:])].isna().all().all()
    row = choose(published, method="Brain-Diffuser (by MindEye2)", score="brain-top1-of-300")
    assert row["value"].item() == 0.263
    rows = choose(published, method="Takagi & Nishimoto, decoded BLIP", score="meteor:all")
    assert rows["value"].tolist() == [0.1003, 0.096, 0.0993, 0.0954]


def test_published_values_are_comparable_with_what_was_tested_alike():
    rows = list_published_beyond()
    names = [(row["method"], row["metric"], row["source"], row["subject"]) for row in rows]
    assert len(set(names)) == len(names)
    for row in rows:
        assert 0 < row["value"] < 1 and row["comparable"] in COMPARABLE
        if row["definition"] == "different" or row["sessions"] not in ("37", "40"):
            assert row["comparable"] == NOTHING
        if row["comparable"] != NOTHING:
            tested = {"37": "982", "40": "1000"}[row["sessions"]]
            assert row["n_images"] == tested and row["sessions"] in row["comparable"]


def test_no_nan_is_written(given, tmp_path):
    tabulate(tmp_path, **given)
    fields = (tmp_path / "beyond.tsv").read_text().replace("\n", "\t").split("\t")
    assert not {"nan", "NaN", "None"} & set(fields)


@pytest.mark.parametrize(
    ("kind", "column", "words"),
    [
        ("summaries", "chance_mean", "a summary of an evaluation"),
        ("retrieval", "centred", "scores of retrieval"),
        ("captions", "references", "scores of captions"),
        ("depth", "floor", "scores of depth"),
    ],
)
def test_tables_of_another_kind_are_refused(given, tmp_path, kind, column, words):
    key, path = next(iter(given[kind].items()))
    save(tmp_path / "other.tsv", load_table(path).drop(columns=column))
    with pytest.raises(InputError, match=words):
        tabulate(tmp_path, **given | {kind: given[kind] | {key: tmp_path / "other.tsv"}})
    assert not (tmp_path / "beyond.tsv").exists()


def test_tables_are_taken_as_they_are_written(given, tmp_path):
    """By the functions that write those of retrieval and depth."""
    rng = np.random.default_rng(0)
    split = ["train"] * 9 + ["test"] * 6
    save(tmp_path / "images.tsv", pd.DataFrame({"nsd_id": range(15), "split": split}))
    scored = {"bootstrap": 20, "seed": 0, "images": tmp_path / "images.tsv"}
    for name, shape in {"vector": (5,), "map": (4, 4)}.items():
        true = rng.random((15, *shape)).astype(np.float32)
        np.save(tmp_path / f"{name}.npy", true)
        np.save(tmp_path / f"{name}_decoded.npy", true[9:])
        paths = {"features": tmp_path / f"{name}.npy", "decoded": tmp_path / f"{name}_decoded.npy"}
        if name == "vector":
            score_retrieval(**scored, **paths, candidates=4, table=tmp_path / "retrieval.tsv")
        else:
            score_depth(**scored, **paths, table=tmp_path / "depth.tsv")
    key = "subj01", "corrected", "true"
    files = {name: {key: tmp_path / f"{name}.tsv"} for name in ("retrieval", "depth")}
    table = tabulate(tmp_path, **given | {"captions": {}} | files)
    own = choose(table, data="demo", method="true").set_index("score")["value"]
    assert own["spearman"] == own["identification"] == 1
    for name in ("image-top1-of-4", "brain-top1-of-test", "image-top1-of-all-centred"):
        assert own[name] == 1


def test_values_that_are_missing_stay_missing(given, tmp_path):
    key, path = next(iter(given["captions"].items()))
    scores = load_table(path).assign(ceiling=np.nan)
    save(tmp_path / "captions.tsv", scores)
    table = tabulate(tmp_path, **given | {"captions": {key: tmp_path / "captions.tsv"}})
    own = choose(table, data="demo", kind="caption")
    assert own["ceiling"].isna().all() and own["value"].notna().all()
    assert pd.api.types.is_float_dtype(table["ceiling"])


def test_the_table_needs_no_networks():
    code = "import nsdldm.evaluation.beyond, sys; assert not {'torch', 'nltk'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

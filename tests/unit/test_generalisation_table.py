"""The table of all cases against planted numbers."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from nsdldm.evaluation.case_draws import Drawn, Draws, divide_margins, read_scores
from nsdldm.evaluation.generalisation_table import COLUMNS, tabulate_generalisation
from nsdldm.intervals import bootstrap_group, bootstrap_interval
from nsdldm.prevalence import prevalence
from nsdldm.stats import double_reliability
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table

N = 60
KINDS = {"shared": "split", "cluster": "split", "hour": "little data", "hour-all": "little data"}
KINDS |= {"half-1": "half", "half-2": "half"}
CEILINGS = {case: case for case in KINDS} | {"hour": "hour-all"}


class Tables:
    """Writes scores of single images, and tabulates them."""

    def __init__(self, folder):
        self.folder, self.scores, self.encoders, self.inference = folder, {}, {}, {}

    def add(self, subject, case, ids=None, similarity=None, **columns):
        """Scores named source_score_candidates, hyphens as in `layout__r`."""
        n = len(next(iter(columns.values())))
        ids = np.arange(n) if ids is None else ids
        similarity = np.linspace(0.2, 0.9, n) if similarity is None else similarity
        about = pd.DataFrame({"nsd_id": ids, "group": "animal", "similarity": similarity})
        parts = []
        for name, values in columns.items():
            source, score, candidates = name.replace("__", "-").split("_")
            part = about.assign(source=source, score=score, candidates=candidates, value=values)
            parts.append(part[np.isfinite(values)])
        self.scores[subject, case] = self.folder / f"{subject}-{case}.tsv"
        self.save(self.scores[subject, case], pd.concat(parts))

    def save(self, path, table):
        table.to_csv(path, sep="\t", index=False)
        return path

    def tabulate(self, **changes):
        given = {"kinds": KINDS, "ceilings": CEILINGS, "bootstrap": 200, "seed": 3}
        given |= {"dataset": "demo", "encoders": self.encoders, "inference": self.inference}
        path = self.folder / "table.tsv"
        tabulate_generalisation(scores=self.scores, **given | changes, table=path)
        table = load_table(path)
        assert list(table) == list(COLUMNS)
        texts = ["candidates", "region", "space"]
        return table.astype(dict.fromkeys(texts, object)).fillna(dict.fromkeys(texts, ""))


@pytest.fixture
def tables(tmp_path):
    return Tables(tmp_path)


def draw(seed, mean=0.7, n=N):
    return np.clip(np.random.default_rng(seed).normal(mean, 0.15, n), 0, 1).round(4)


def pick(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_values_and_intervals(tables):
    one, two = draw(1), draw(2, 0.6, 50)
    tables.add("subj01", "shared", decoded_z_all=one)
    tables.add("subj02", "shared", ids=np.arange(20, 70), decoded_z_all=two)
    table = tables.tabulate()
    for subject, values in (("subj01", one), ("subj02", two)):
        row = pick(table, subject=subject, score="z")
        assert row["value"] == pytest.approx(values.mean(), rel=1e-5)
        assert (row["n_images"], row["n_subjects"], row["above"]) == (len(values), 1, 1)
        assert np.isnan(row["prevalence"])
    row = pick(table, subject="all", score="z")
    groups = [(np.arange(N), one), (np.arange(20, 70), two)]
    low, high = bootstrap_group(groups, 200, 3)
    numbers = [(one.mean() + two.mean()) / 2, low, high]
    assert row[["value", "low", "high"]].tolist() == pytest.approx(numbers, rel=1e-5)
    assert (row["n_images"], row["n_subjects"], row["chance"]) == (70, 2, 0.5)
    assert set(table["dataset"]) == {"demo"}
    assert set(table["kind"]) == {"split"}


def test_the_interval_of_one_subject_is_that_of_its_images(tables):
    values = draw(1)
    tables.add("subj01", "shared", decoded_z_all=values)
    low, high = bootstrap_interval(values[:, None], 200, 3)
    for subject in ("subj01", "all"):
        row = pick(tables.tabulate(), subject=subject, score="z")
        assert row[["low", "high"]].tolist() == pytest.approx([low[0], high[0]], rel=1e-5)


def test_images_that_only_one_subject_saw(tables):
    tables.add("subj01", "shared", decoded_z_all=draw(1))
    tables.add("subj02", "shared", ids=np.arange(100, 130), decoded_z_all=draw(2, 0.6, 30))
    row = pick(tables.tabulate(), subject="all", score="z")
    assert row["n_images"] == 90
    assert row["low"] < row["value"] < row["high"]


def test_normalised_scores_are_drawn_jointly_with_the_ceiling(tables):
    ceiling = draw(1, 0.8)
    part = 0.5 + 0.4 * (ceiling - 0.5)
    for subject in ("subj01", "subj02"):
        tables.add(subject, "shared", zc_layout_all=part, ceiling_layout_all=ceiling)
    table = tables.tabulate()
    for subject in ("subj01", "subj02", "all"):
        row = pick(table, subject=subject, source="zc", score="layout")
        assert row["ceiling"] == pytest.approx(ceiling.mean(), rel=1e-5)
        # The same share of every image's margin: no uncertainty is left.
        assert row[["normalised", "normalised_low", "normalised_high"]].tolist() == (
            pytest.approx([0.4] * 3, rel=1e-4)
        )
        assert row["reading"].endswith(", 40 % of the way to the ceiling.")
        assert np.isnan(pick(table, subject=subject, source="ceiling", score="layout")["ceiling"])


def test_nothing_is_normalised_by_a_ceiling_at_chance(tables):
    tables.add("subj01", "shared", zc_layout_all=draw(1), ceiling_layout_all=draw(2, 0.5))
    row = pick(tables.tabulate(), subject="subj01", source="zc", score="layout")
    assert np.isfinite(row["ceiling"])
    assert np.isnan(row["normalised"])


def test_the_ceiling_of_another_case_is_that_of_the_same_images(tables):
    ceiling = draw(1, 0.8)
    tables.add("subj01", "hour-all", zc_layout_all=draw(2), ceiling_layout_all=ceiling)
    tables.add("subj01", "hour", ids=np.arange(10, 30), zc_layout_all=draw(3, 0.6, 20))
    row = pick(tables.tabulate(), subject="subj01", case="hour", score="layout")
    assert row["ceiling"] == pytest.approx(ceiling[10:30].mean(), rel=1e-5)
    margin = ceiling[10:30].mean() - 0.5
    assert row["normalised"] == pytest.approx((row["value"] - 0.5) / margin, rel=1e-4)


def test_what_is_owed_to_the_category(tables):
    whole = draw(1, 0.9)
    within = np.where(np.arange(N) < 40, 0.5, np.nan)
    layout = np.where(np.arange(N) < 40, 0.5 + 0.75 * (whole - 0.5), np.nan)
    columns = {"decoded_z_all": whole, "decoded_z_group": within}
    columns |= {"zc_layout_all": whole, "zc_layout_group": layout, "nearest_z_group": within}
    for subject in ("subj01", "subj02"):
        tables.add(subject, "shared", **columns, nearest_z_all=whole)
        tables.add(subject, "cluster", **columns)
    table = tables.tabulate()
    for subject in ("subj01", "subj02", "all"):
        for score, share in {"z": 1, "layout": 0.25}.items():
            row = pick(table, subject=subject, score=f"{score}-category-share")
            numbers = row[["value", "low", "high"]].tolist()
            assert numbers == pytest.approx([share] * 3, abs=1e-4)
            assert (row["case"], row["n_images"]) == ("shared", 40)
    assert row["reading"].startswith("25 % (25 to 25 %) of the margin above chance is lost")


def test_without_a_margin_nothing_is_owed(tables):
    tables.add("subj01", "shared", decoded_z_all=draw(1, 0.5), decoded_z_group=draw(2, 0.5))
    row = pick(tables.tabulate(), subject="all", score="z-category-share")
    assert np.isnan(row["value"])
    assert row["reading"] == "Not known."


def test_relation_to_similarity(tables):
    rng = np.random.default_rng(0)
    similarity, noise = rng.random(N).round(4), rng.random(N)
    values = (0.5 * similarity + 0.2 * noise).round(4)
    known = {"similarity": similarity, "decoded_z_all": values, "mean_z_all": np.full(N, 0.5)}
    tables.add("subj01", "cluster", **known, decoded_z_similar=values)
    table = tables.tabulate()
    row = pick(table, subject="subj01", score="z-by-similarity")
    assert row["value"] == pytest.approx(spearmanr(similarity, values)[0], rel=1e-4)
    assert (row["source"], row["candidates"], row["chance"]) == ("decoded", "all", 0)
    assert 0.5 < row["low"] < row["value"] < row["high"] < 1
    assert row["reading"].startswith("Above 0: ")


def test_reliability_of_the_scores_of_shared(tables):
    rng = np.random.default_rng(0)
    expected = {}
    for subject in ("subj01", "subj02"):
        own = rng.random(N)
        halves = [(own + 0.3 * rng.random(N)).round(4) for _ in range(2)]
        tables.add(subject, "shared", decoded_z_all=own)
        tables.add(subject, "half-1", decoded_z_all=halves[0])
        # Images in another order, and not all of them.
        order = rng.permutation(N)[:50]
        tables.add(subject, "half-2", ids=order, decoded_z_all=halves[1][order])
        expected[subject] = double_reliability(halves[0][order], halves[1][order])
    table = tables.tabulate()
    for subject, value in (expected | {"all": np.mean([*expected.values()])}).items():
        row = pick(table, subject=subject, case="shared", score="z")
        assert row["reliability"] == pytest.approx(value, rel=1e-4)
        assert value > 0.8
    assert np.isnan(pick(table, subject="all", case="half-1", score="z")["reliability"])


def test_subjects_above_chance_and_prevalence(tables):
    for number, mean in enumerate((0.8, 0.5, 0.7)):
        tables.add(f"subj0{number + 1}", "shared", decoded_z_all=draw(number, mean))
    table = tables.tabulate()
    assert [pick(table, subject=f"subj0{n}", score="z")["above"] for n in (1, 2, 3)] == [1, 0, 1]
    row = pick(table, subject="all", score="z")
    assert row["above"] == 2
    found = row[["prevalence", "prevalence_low", "prevalence_high"]].tolist()
    assert found == pytest.approx(prevalence(2, 3, 0.025), rel=1e-4)


@pytest.mark.parametrize(("sign", "word"), [(1, "Above"), (-1, "Below")])
def test_sentences_follow_the_sign(tables, sign, word):
    values = 0.5 + sign * 0.2 + 0.1 * (draw(1) - draw(1).mean())
    tables.add("subj01", "cluster", decoded_z_all=values, zc_layout__r_=values - 0.5)
    table = tables.tabulate()
    reading = pick(table, subject="subj01", score="z")["reading"]
    assert reading.startswith(f"{word} chance: 0.{50 + sign * 20} (")
    assert pick(table, subject="all", score="layout-r")["reading"].startswith(f"{word} 0: ")


def test_cases_stand_in_the_order_of_their_kinds(tables):
    tables.add("subj01", "hour-all", decoded_z_all=draw(1))
    tables.add("subj01", "shared", decoded_z_all=draw(1))
    table = tables.tabulate()
    assert list(dict.fromkeys(table["case"])) == ["shared", "hour-all"]
    assert list(dict.fromkeys(table["kind"])) == ["split", "little data"]


def add_encoders(tables, subject, case, r):
    rows = [
        ("V1", "z", "all", 100, N, r, r - 0.1, r + 0.1, 0.5, 2 * r, 2 * r - 0.2, 2 * r + 0.2),
        ("V1", "z", "food", 100, 9, 0.0, -0.1, 0.1, 0.4, 0.0, -0.25, 0.25),
    ]
    columns = ["region", "space", "group", "n_voxels", "n_images", "r", "low", "high", "ceiling"]
    columns += ["normalised", "normalised_low", "normalised_high"]
    path = tables.folder / f"{subject}-{case}-encoders.tsv"
    tables.encoders[subject, case] = path
    tables.save(path, pd.DataFrame(rows, columns=columns).assign(reliability=np.nan))


def add_inference(tables, subject, share):
    rows = [("z", "r", share, share / 2, 0.9), ("z+c:z", "unique", 0.1, 0.0, 0.2)]
    columns = ["space", "measure", "share_fdr", "share_fwe", "reliability"]
    path = tables.folder / f"{subject}-inference.tsv"
    tables.inference[subject] = path
    tables.save(path, pd.DataFrame(rows, columns=columns).assign(region="V1", n_voxels=100))


def test_encoders_and_their_inference(tables):
    for number, subject in enumerate(("subj01", "subj02")):
        tables.add(subject, "shared", decoded_z_all=draw(number))
        add_encoders(tables, subject, "cluster", 0.05)
        add_encoders(tables, subject, "shared", 0.2 + 0.1 * number)
        add_inference(tables, subject, 0.4 + 0.2 * number)
    table = tables.tabulate()
    rows = table[table["source"] == "encoder"]
    assert set(rows["kind"]) == {"encoder"}
    place = {"space": "z", "region": "V1"}
    row = pick(rows, subject="subj02", case="shared", score="r", candidates="all", **place)
    numbers = row[["value", "low", "high", "ceiling", "normalised", "reliability"]].tolist()
    assert numbers == pytest.approx([0.3, 0.2, 0.4, 0.5, 0.6, 0.9])
    assert row["reading"] == "Above 0: 0.30 (0.20 to 0.40), 60 % of the way to the ceiling."
    row = pick(rows, subject="all", case="shared", score="r", candidates="all", **place)
    names = ["value", "low", "high", "normalised", "n_images", "n_subjects", "above"]
    assert row[names].tolist() == pytest.approx([0.25, 0.15, 0.35, 0.5, N, 2, 2])
    assert row["prevalence"] == 1
    row = pick(rows, subject="all", case="cluster", candidates="all")
    assert (row["above"], row["prevalence"]) == (0, 0)
    row = pick(rows, subject="all", case="cluster", candidates="food")
    assert (row["n_images"], np.isnan(row["reliability"])) == (9, True)
    for score, value in {"share_fdr": 0.5, "share_fwe": 0.25}.items():
        row = pick(rows, subject="all", score=score, **place)
        assert row[["value", "reliability"]].tolist() == pytest.approx([value, 0.9])
        assert np.isnan(row[["low", "chance", "above", "prevalence"]].astype(float)).all()
    assert pick(rows, subject="subj01", score="share_fdr", space="z+c:z")["value"] == 0.1


def test_a_sample_without_the_images_of_a_score_says_nothing(tables):
    few = np.where(np.arange(N) == 0, 0.9, np.nan)
    tables.add("subj01", "shared", decoded_z_all=draw(1), decoded_z_group=few)
    scores = read_scores(tables.scores["subj01", "shared"])
    found = Draws(scores.ids, 200, 1).average(scores)["decoded", "z", "group"]
    assert found.means == pytest.approx(0.9)
    assert found.ids.tolist() == [0]


def test_shares_of_margins():
    whole = Drawn(np.array([0.9, 0.8, 1.0]), np.arange(3))
    part = Drawn(np.array([0.7, 0.8, 0.5]), np.arange(3))
    assert divide_margins(part, whole, 0.5).means == pytest.approx([0.5, 1, 0])
    assert divide_margins(part, part, 0.6) is None


class TestErrors:
    def test_a_missing_column(self, tables):
        tables.add("subj01", "shared", decoded_z_all=draw(1))
        path = tables.scores["subj01", "shared"]
        tables.save(path, load_table(path).drop(columns="similarity"))
        with pytest.raises(InputError, match=r"subj01-shared.tsv: .* found none of similarity"):
            tables.tabulate()

    def test_an_image_twice(self, tables):
        tables.add("subj01", "shared", ids=np.zeros(N, int), decoded_z_all=draw(1))
        with pytest.raises(InputError, match=r"the same image twice\. Score the case again"):
            tables.tabulate()

    def test_a_case_without_kind(self, tables):
        tables.add("subj01", "random", decoded_z_all=draw(1))
        with pytest.raises(InputError, match=r"cases with a kind: shared, .* found random"):
            tables.tabulate()

    def test_no_scores(self, tables):
        with pytest.raises(InputError, match="`scores`: expected scores of a case, found none"):
            tables.tabulate()

    def test_other_columns_of_encoders(self, tables):
        tables.add("subj01", "shared", decoded_z_all=draw(1))
        add_inference(tables, "subj01", 0.5)
        tables.encoders["subj01", "shared"] = tables.inference["subj01"]
        with pytest.raises(InputError, match=r"inference.tsv: .* found none of group, n_images"):
            tables.tabulate()

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from nsdldm.evaluation.names import describe_metric
from nsdldm.evaluation.published import (
    COMPARABLE,
    FCAE,
    FCAE_TOP1,
    NOT_STATED,
    NOTHING,
    NSD_37,
    NSD_40,
    TRAINED,
    list_published,
    list_trained,
)
from nsdldm.evaluation.tables import COLUMNS, tabulate_metrics
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table

SUBJECTS, PROTOCOLS, METHODS = ("subj01", "subj02"), ("corrected", "takagi2023"), ("z", "true-zc")
METRICS = ("pixcorr", "2way:demo-clip:image_embeds")
NUMBERS = ("value", "ci_low", "ci_high", "ties_missed")
NUMBERS += ("chance_random", "chance_mean", "chance_shuffled")
SHARED = np.array([3, 8, 5, 1])


def write_run(folder, number, ids):
    """One method's summary and table by image, with a row that was not computed."""
    rng = np.random.default_rng(number)
    values = rng.random((len(METRICS), len(ids)))
    lines = ["\t".join(["metric", *NUMBERS, "n_images", "n_samples", "note"])]
    for metric, row in zip(METRICS, values, strict=True):
        numbers = [f"{x:.6g}" for x in (row.mean(), row.min(), row.max())]
        numbers.append(f"{row.mean() - 0.1:.6g}" if metric.startswith("2way") else "")
        numbers += [f"{0.01 * number:.6g}", "0.2", "0.3"]
        lines.append("\t".join([metric, *numbers, str(len(ids)), "5", "how"]))
    lines.append("\t".join(["swav", *[""] * 7, str(len(ids)), "5", "not computed: why"]))
    summary, table = folder / f"{number}_summary.tsv", folder / f"{number}.tsv"
    summary.write_text("\n".join(lines) + "\n")
    frame = pd.DataFrame(values.T, columns=METRICS).assign(nsd_id=ids)
    frame.melt("nsd_id", var_name="metric").to_csv(table, sep="\t", index=False)
    return summary, table, values


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    keys = [(s, p, m) for s in SUBJECTS for p in PROTOCOLS for m in METHODS]
    ids = {"subj01": SHARED, "subj02": np.append(SHARED[::-1], 9)}
    return {key: write_run(folder, number, ids[key[0]]) for number, key in enumerate(keys)}


def tabulate(runs, output, **changes):
    files = {
        name: {key: run[k] for key, run in runs.items()}
        for k, name in enumerate(("summaries", "tables"))
    }
    settings = {"dataset": "demo", "bootstrap": 100, "seed": 0, "output": output}
    tabulate_metrics(**files | settings | changes)
    return load_table(output)


@pytest.fixture(scope="module")
def table(runs, tmp_path_factory):
    return tabulate(runs, tmp_path_factory.mktemp("table") / "metrics.tsv")


def choose(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def test_rows_are_marked_by_their_origin(table):
    assert tuple(table) == COLUMNS
    assert set(table["data"]) == {"demo", "published"}
    demo = choose(table, data="demo")
    assert len(demo) == 3 * len(PROTOCOLS) * len(METHODS) * (len(METRICS) + 1)
    assert demo["source"].isna().all() and demo["evidence"].isna().all()
    assert not set(demo["metric"]) & {"clip", "inception"}


def test_subject_rows_are_the_summaries_and_the_ceiling_is_true_zc(runs, table):
    for (subject, protocol, method), (_, _, values) in runs.items():
        for k, metric in enumerate(METRICS):
            row = choose(table, subject=subject, protocol=protocol, method=method, metric=metric)
            assert row["value"].item() == pytest.approx(values[k].mean(), rel=1e-5)
            ceiling = runs[subject, protocol, "true-zc"][2][k].mean()
            assert row["ceiling"].item() == pytest.approx(ceiling, rel=1e-5)


def test_mean_over_subjects_has_an_interval_over_images(runs, table):
    for protocol in PROTOCOLS:
        row = choose(table, subject="mean", protocol=protocol, method="z", metric="pixcorr")
        means = [runs[subject, protocol, "z"][2][0].mean() for subject in SUBJECTS]
        assert row["value"].item() == pytest.approx(np.mean(means), rel=1e-5)
        assert row["ci_low"].item() < row["value"].item() < row["ci_high"].item()
        assert row["n_images"].item() == 5
        chance = choose(table, protocol=protocol, method="z", metric="pixcorr", data="demo")
        own = chance[chance["subject"] != "mean"]["chance_random"]
        assert row["chance_random"].item() == pytest.approx(own.mean(), rel=1e-5)


def test_what_was_not_computed_is_empty_and_says_why(table):
    rows = choose(table, metric="swav", data="demo")
    assert len(rows) == 3 * 4
    assert (rows["note"] == "not computed: why").all()
    assert rows[[*NUMBERS, "ceiling"]].isna().all().all()


def test_no_nan_is_written(runs, tmp_path):
    tabulate(runs, tmp_path / "metrics.tsv")
    fields = (tmp_path / "metrics.tsv").read_text().replace("\n", "\t").split("\t")
    assert not {"nan", "NaN", "None"} & set(fields)


def test_published_rows_say_where_they_come_from(table):
    published = choose(table, data="published")
    assert published[["source", "evidence", "definition", "subject"]].notna().all().all()
    assert set(published["definition"]) == {"same", "similar", "unknown"}
    assert set(published["evidence"]) == {"checked", "third party", "recalled"}
    assert published["note"].notna().all()
    row = choose(published, method="MindEye2 40 h", subject="subj01", metric="alexnet2")
    assert row["value"].item() == 0.979
    row = choose(published, method="Takagi & Nishimoto", metric="2way:clip:image_embeds")
    assert (row["value"].item(), row["evidence"].item()) == (0.77, "recalled")
    row = choose(published, method="Brain-Diffuser", metric="effnet-v1")
    assert row["evidence"].item() == "recalled"


def test_published_values_are_of_our_metrics_and_scales():
    for row in list_published():
        assert describe_metric(row["metric"])
        assert 0 < row["value"] < 1
    names = [(row["method"], row["metric"], row["source"]) for row in list_published()]
    assert len(set(names)) == len(names)


def test_published_rows_say_beside_which_of_ours_they_may_stand(table):
    ours = choose(table, data="demo")
    assert ours[["comparable", "sessions"]].isna().all().all()
    rows = pd.DataFrame(list_published())
    assert set(rows["comparable"]) == set(COMPARABLE)
    # Another test set, another number of sessions or another metric is another test.
    tested = {NSD_37: ("37", "982"), NSD_40: ("40", "1000")}
    for row in rows.itertuples():
        if row.comparable != NOTHING:
            assert (row.sessions, row.n_images) == tested[row.comparable]
            assert row.definition in ("same", "similar") and "best of" not in row.note
    assert set(rows.loc[rows["method"].str.endswith("1 h"), "comparable"]) == {NOTHING}
    for column, unknown in {"n_images": "", "sessions": NOT_STATED}.items():
        assert set(rows.loc[rows[column] == unknown, "comparable"]) == {NOTHING}
    assert set(rows["n_images"]) == {"", "900", "982", "1000"}


def test_rows_of_later_papers_are_complete():
    rows = pd.DataFrame(list_published())
    metrics = ["pixcorr", "ssim", "alexnet2", "alexnet5", "inception", "clip", "effnet-v2", "swav"]
    expected = {
        "DREAM": (0.274, 0.328, 0.939, 0.967, 0.934, 0.941, 0.645, 0.418),
        "UMBRAE": (0.283, 0.341, 0.955, 0.970, 0.917, 0.935, 0.700, 0.393),
        "NeuroVLA": (0.265, 0.357, 0.931, 0.971, 0.968, 0.975, 0.633, 0.321),
        "MindBridge": (0.151, 0.263, 0.877, 0.955, 0.924, 0.947, 0.712, 0.418),
        "NeuroPictor": (0.229, 0.375, 0.965, 0.984, 0.945, 0.933, 0.639, 0.350),
        "MindTuner": (0.322, 0.421, 0.958, 0.988, 0.956, 0.938, 0.612, 0.340),
        "Brain-IT": (0.386, 0.486, 0.984, 0.995, 0.973, 0.964, 0.564, 0.320),
        "MindEye2 1 h": (0.195, 0.419, 0.842, 0.906, 0.812, 0.792, 0.810, 0.468),
        "MindTuner 1 h": (0.224, 0.420, 0.878, 0.936, 0.848, 0.835, 0.780, 0.440),
        "Brain-IT 1 h": (0.331, 0.473, 0.971, 0.986, 0.944, 0.930, 0.648, 0.370),
    }
    for method, values in expected.items():
        own = choose(rows, method=method).set_index("metric")
        assert own.loc[metrics, "value"].tolist() == list(values), method
        hour = "1 of 40" if method.endswith("1 h") else NOT_STATED
        assert set(own["sessions"]) == {hour}


def test_rows_of_the_trained_decoders_are_complete():
    table2 = {
        "mind-vis": (0.513, 0.214, 0.260, 0.55, 303),
        "vis-dec": (0.486, 0.202, 0.251, 0.63, 317),
        "fcae": (0.485, 0.235, 0.302, 0.72, 277),
    }
    metrics = ("mse-signed", "pixcorr", "ssim", "clipscore:clip-b32")
    rows = pd.DataFrame(list_trained(FCAE.source))
    assert len(rows) == len(table2) * len(metrics)
    for model, (*values, millions) in table2.items():
        own = rows[rows["model"] == model].set_index("metric")
        assert own.loc[list(metrics), "value"].tolist() == values
        assert set(own["parameters"]) == {millions * 1_000_000}
    rows = pd.DataFrame(list_trained(FCAE_TOP1.source)).set_index("model")
    top1 = {"fcae": 26.3, "fcae-f": 17.5, "fcae-fi": 23.4, "fcae-ft": 20.1}
    top1 |= {"mae-fi": 19.8, "mae-f": 16.4}
    assert (rows["value"] * 100).round(1).to_dict() == top1
    for model, row in rows.iterrows():
        assert row["encoder"] == ("cae" if model.startswith("fcae") else "mae")
        assert row["parameters"] == (102e6 if row["encoder"] == "cae" else 86e6)
    assert rows["modalities"].tolist() == ["F+I+T", "F", "F+I", "F+T", "F+I", "F"]
    for source in TRAINED:
        assert {row["definition"] for row in list_trained(source)} == {"unknown"}


def test_what_is_not_known_of_a_published_value_is_said_of_it():
    notes = {(row["method"], row["metric"]): row["note"] for row in list_published()}
    assert "scale of pixels not stated" in notes["fCAE", "mse-signed"]
    assert "which CLIP" in notes["fCAE", "clipscore:clip-b32"]
    assert "unstated number of classes" in notes["fCAE full", "nway-50:vit-h-14"]
    assert "CLIP" not in notes["fCAE", "ssim"]


def test_runs_that_do_not_belong_together_are_refused(runs, tmp_path):
    fewer = dict(list(runs.items())[1:])
    summaries = {key: run[0] for key, run in fewer.items()}
    with pytest.raises(InputError, match="a summary and a table of every method"):
        tabulate(runs, tmp_path / "x.tsv", summaries=summaries)
    summary = tmp_path / "summary.tsv"
    lines = runs["subj02", "corrected", "z"][0].read_text().splitlines()
    summary.write_text("\n".join([lines[0], *lines[2:], ""]))
    changed = runs | {
        ("subj02", "corrected", "z"): (summary, *runs["subj02", "corrected", "z"][1:])
    }
    with pytest.raises(InputError, match=r"corrected, z, pixcorr: .* none of subj02"):
        tabulate(changed, tmp_path / "x.tsv")
    summary.write_text("metric\tvalue\n")
    with pytest.raises(InputError, match="a summary of an evaluation"):
        tabulate(changed, tmp_path / "x.tsv")


def test_tables_need_no_networks():
    code = (
        "import nsdldm.evaluation.tables, sys; assert not {'torch', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

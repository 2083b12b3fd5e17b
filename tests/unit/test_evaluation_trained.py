import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from nsdldm.evaluation.trained import COLUMNS, tabulate_fcae_table2, tabulate_fcae_table3
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table

SUBJECTS, IDS = ("subj01", "subj02"), np.arange(12)
METRICS = (
    *("mse", "mse-signed", "pixcorr", "ssim", "psm:demo-clip:image_embeds"),
    *("clipscore:demo-clip", "2way-reconstruction:demo-clip:image_embeds"),
    *("nway:demo-judge", "nway-4:demo-judge", "nway-2:demo-judge", "nway-4:vit-h-14"),
)
MISSING = ("clipscore:clip-b32", "nway-50:vit-h-14")
NUMBERS = ("value", "ci_low", "ci_high", "ties_missed")
NUMBERS += ("chance_random", "chance_mean", "chance_shuffled")
PARTS = {"encoder": 900, "regressor": 90, "decoder": 9, "trained": 999}
BENCHMARKS = ("fcae", "mind-vis", "vis-dec")
ALIGNMENTS = {"fcae": "image+text", "fcae-f": "none", "fcae-fi": "image", "fcae-ft": "text"}
ALIGNMENTS |= {"mae-fi": "image", "mae-f": "none", "mind-vis": "none", "vis-dec": "cross_mae"}
ABLATIONS = ("fcae", "fcae-f", "fcae-fi", "fcae-ft", "mae-fi", "mae-f")


def write_run(folder, key):
    """Summary and scores by image of one subject and method, always the same."""
    rng = np.random.default_rng(list("".join(key).encode()))
    values = rng.random((len(METRICS), len(IDS)))
    frame = pd.DataFrame(values.T, columns=METRICS).assign(nsd_id=IDS)
    table, summary = folder / f"{'_'.join(key)}.tsv", folder / f"{'_'.join(key)}_summary.tsv"
    frame.melt("nsd_id", var_name="metric").to_csv(table, sep="\t", index=False)
    rows = [
        (name, row.mean(), row.min(), row.max(), "", 0.1, 0.2, 0.3, len(IDS), 3, "how")
        for name, row in zip(METRICS, values, strict=True)
    ]
    for name in MISSING:
        if name not in METRICS:
            rows.append((name, *[""] * 7, len(IDS), 3, "not computed: why"))
    columns = ["metric", *NUMBERS, "n_images", "n_samples", "note"]
    pd.DataFrame(rows, columns=columns).to_csv(summary, sep="\t", index=False)
    return summary, table


def write_weights(path, kind, parts):
    metadata = {"encoder": {"encoder": kind}, "parameters": parts}
    save_file({"x": torch.zeros(1)}, path, {"nsdldm": json.dumps(metadata)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    for method in (*ABLATIONS, "mind-vis", "vis-dec"):
        kind = "cae" if method.startswith("fcae") else "mae"
        parts = PARTS if kind == "cae" else {"encoder": 900, "decoder": 9, "trained": 909}
        write_weights(folder / f"{method}.safetensors", kind, parts)
    return folder


def tabulate(folder, function, methods, ridge=("zc", "true-zc"), **changes):
    keys = [(s, "trained", m) for s in SUBJECTS for m in methods]
    keys += [(s, "corrected", m) for s in SUBJECTS for m in ridge]
    files = {key: write_run(folder, key) for key in keys}
    output = folder / "table.tsv"
    given = {
        "summaries": {key: summary for key, (summary, _) in files.items()},
        "tables": {key: table for key, (_, table) in files.items()},
        "weights": {method: folder / f"{method}.safetensors" for method in methods},
        "alignments": ALIGNMENTS,
        "presets": {name: name for name in methods} | {"fcae": "fcae-base"},
        "size": "demo",
    }
    settings = {"dataset": "demo", "bootstrap": 100, "seed": 0, "output": output}
    function(**given | settings | changes)
    return load_table(output)


@pytest.fixture(scope="module")
def table2(folder):
    return tabulate(folder, tabulate_fcae_table2, BENCHMARKS)


@pytest.fixture(scope="module")
def table3(folder):
    return tabulate(folder, tabulate_fcae_table3, ABLATIONS)


def test_table_2_has_every_method_subject_and_metric(table2):
    assert tuple(table2) == COLUMNS
    ours = table2[table2["data"] == "demo"]
    metrics = ["mse", "mse-signed", "pixcorr", "ssim", "clipscore:demo-clip"]
    metrics.append("2way-reconstruction:demo-clip:image_embeds")
    assert list(dict.fromkeys(ours["metric"])) == metrics
    assert len(ours) == len(metrics) * 4 * 3
    assert list(dict.fromkeys(ours["method"])) == [*BENCHMARKS, "zc"]
    assert ours[["ci_low", "ci_high", "chance_random", "ceiling"]].notna().all().all()
    chance = ours.set_index("metric")["chance"].dropna()
    assert set(chance.index) == {metrics[-1]} and set(chance) == {0.5}


def test_published_rows_follow_ours_of_the_same_metric_and_method(table2):
    own = table2[(table2["metric"] == "pixcorr")]
    expected = [
        *(("fcae", "demo"),) * 3,
        ("fCAE", "published"),
        *(("mind-vis", "demo"),) * 3,
        ("MinD-Vis (by fCAE)", "published"),
        *(("vis-dec", "demo"),) * 3,
        ("Vis-Dec (by fCAE)", "published"),
        *(("zc", "demo"),) * 3,
    ]
    assert list(zip(own["method"], own["data"], strict=True)) == expected
    assert own["subject"].tolist()[:3] == ["subj01", "subj02", "mean"]
    # Another network's cosine is not among ours but below.
    kinds = table2["metric"].str.startswith("clipscore")
    scores = table2[kinds]
    assert np.ptp(np.flatnonzero(kinds)) == len(scores) - 1
    assert set(scores["metric"][:-3]) == {"clipscore:demo-clip"}
    last = scores.tail(3)
    assert set(last["metric"]) == {"clipscore:clip-b32"} and set(last["data"]) == {"published"}
    assert last["definition"].eq("unknown").all() and last["note"].notna().all()


def test_means_and_ceiling_are_those_of_the_runs(folder, table2):
    own = table2[(table2["metric"] == "ssim") & (table2["method"] == "fcae")].set_index("subject")
    scores = {}
    for subject in SUBJECTS:
        for protocol, method in (("trained", "fcae"), ("corrected", "true-zc")):
            rows = load_table(folder / f"{subject}_{protocol}_{method}_summary.tsv")
            scores[subject, method] = rows.set_index("metric").loc["ssim", "value"]
    mean = own.loc[list(SUBJECTS), "value"].mean()
    assert own.loc["mean", "value"] == pytest.approx(mean, rel=1e-5)
    assert own.loc["mean", "ci_low"] < mean < own.loc["mean", "ci_high"]
    assert own.loc["mean", "n_images"] == len(IDS)
    ceiling = own.loc[list(SUBJECTS), "ceiling"].mean()
    assert own.loc["mean", "ceiling"] == pytest.approx(ceiling, rel=1e-5)
    assert "true-zc" not in set(table2["method"])


def test_parameters_are_those_of_the_weights(table2, table3):
    whole = table2[table2["data"] == "demo"].groupby("method")["parameters"].first()
    assert whole.dropna().to_dict() == {"fcae": 999, "mind-vis": 909, "vis-dec": 909}
    own = table3[table3["data"] == "demo"].groupby("method")["parameters"].first()
    assert own["fcae-ft"] == 990 and own["mae-f"] == 900
    row = table3[table3["method"] == "fcae"].iloc[0]
    assert row["counted"] == "encoder 0.0009 M, regressor 9e-05 M"


def test_tables_say_who_was_tuned(folder, table2, table3):
    tuned = table2.drop_duplicates("method").set_index("method")["tuned"]
    assert "test scores in sight" in tuned["fcae"]
    assert tuned["zc"] == "penalties, by cross-validation on training images"
    assert set(tuned[["mind-vis", "vis-dec"]]) == {"no; settings chosen for fcae"}
    assert set(table2.loc[table2["data"] == "published", "tuned"]) == {"not stated"}
    own = table3[table3["data"] == "demo"]
    assert set(own.loc[~own["tuned"].str.startswith("no;"), "method"]) == {"fcae", "zc"}
    full = tabulate(folder, tabulate_fcae_table2, BENCHMARKS, size="full")
    assert set(full.loc[full["method"] == "fcae", "tuned"]) == {"no; published or usual settings"}


def test_table_3_has_every_model_and_number_of_classes(table3):
    ours = table3[table3["data"] == "demo"]
    assert list(dict.fromkeys(ours["metric"])) == ["nway-4:demo-judge", "nway-2:demo-judge"]
    assert list(dict.fromkeys(ours["method"])) == [*ABLATIONS, "zc"]
    assert set(zip(ours["metric"], ours["chance"], strict=True)) == {
        ("nway-4:demo-judge", 0.25),
        ("nway-2:demo-judge", 0.5),
    }
    models = ours.drop_duplicates("method").set_index("method")
    assert models["encoder"].tolist() == [*["cae"] * 4, "mae", "mae", "ridge"]
    assert models.loc[["fcae", "fcae-ft", "mae-f"], "modalities"].tolist() == ["F+I+T", "F+T", "F"]
    published = table3[table3["data"] == "published"]
    assert len(published) == 6 and published["chance"].isna().all()
    assert published["note"].str.startswith("top-1 accuracy among an unstated").all()


def test_our_50_classes_stand_beside_the_published_rows(folder, monkeypatch):
    changed = [name.replace("4:vit", "50:vit") for name in METRICS]
    monkeypatch.setattr("test_evaluation_trained.METRICS", changed)
    table = tabulate(folder, tabulate_fcae_table3, ("fcae",), dataset="nsd")
    assert table["method"].tolist()[:4] == ["fcae", "fcae", "fcae", "fCAE full"]
    assert table["data"].tolist()[:4] == ["nsd", "nsd", "nsd", "published"]
    assert table["chance"].tolist()[:3] == [0.02] * 3


def test_models_are_what_their_weights_and_the_configuration_say(folder):
    weights = {"mine": folder / "mae-f.safetensors"}
    given = {"weights": weights, "alignments": {"mine": "text"}, "presets": {"mine": "mae-f"}}
    table = tabulate(folder, tabulate_fcae_table3, ("mine",), **given)
    row = table[table["method"] == "mine"].iloc[0]
    assert (row["encoder"], row["modalities"], row["parameters"]) == ("mae", "F+T", 900)


def test_other_weights_are_refused(folder, tmp_path):
    path = tmp_path / "old.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"nsdldm": json.dumps({"encoder": {"encoder": "cae"}})})
    with pytest.raises(InputError, match="a first stage, with parameters by part"):
        tabulate(folder, tabulate_fcae_table3, ("fcae",), weights={"fcae": path})
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="weights of a trained decoder"):
        tabulate(folder, tabulate_fcae_table2, ("fcae",), weights={"fcae": path})


def test_accuracy_that_was_not_computed_is_empty(folder, caplog):
    table = tabulate(folder, tabulate_fcae_table3, ("fcae",), dataset="nsd")
    ours = table[(table["data"] == "nsd") & (table["metric"] == "nway-50:vit-h-14")]
    assert len(ours) == 6 and ours["value"].isna().all()
    assert ours["note"].eq("not computed: why").all()
    assert "not computed: nway-50:vit-h-14" in caplog.text
    text = (folder / "table.tsv").read_text()
    assert not {"nan", "NaN", "None"} & set(text.replace("\n", "\t").split("\t"))


def test_a_judge_that_is_not_configured_is_named(folder, monkeypatch):
    monkeypatch.setattr("test_evaluation_trained.METRICS", METRICS[:4])
    monkeypatch.setattr("test_evaluation_trained.MISSING", MISSING[:1])
    with pytest.raises(InputError, match="n-way accuracy by demo-judge, found none"):
        tabulate(folder, tabulate_fcae_table3, ("fcae",))

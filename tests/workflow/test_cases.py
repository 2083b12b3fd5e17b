"""Other splits and test sets, bottlenecks and little data, at the size of tests."""

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT, plan, run_snakemake, write_config

from nsdldm.workflow.cases import list_cases
from nsdldm.workflow.loading import load_settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tiny_demo):
    """A few cases of every kind."""
    own = {"splits": ["cluster"], "share": 0.15, "clusters": 8, "ranks": [2], "permutations": 99}
    return tiny_demo | {
        "subjects": ["subj01"],
        "nsd": {"test_sets": ["shared", "imagery"]},
        "generalisation": tiny_demo["generalisation"] | own | {"betas": None, "trained": False},
        "reconstruction": tiny_demo["reconstruction"] | {"chunks": 1},
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory, config):
    """What it makes, for one subject."""
    folder = tmp_path_factory.mktemp("generalisation")
    write_config(folder, **config)
    run_snakemake(folder, "generalisation", project=PROJECT)
    return folder


def test_the_table_has_every_case(made, config):
    table = pd.read_csv(made / "results/tables/generalisation.tsv", sep="\t")
    kinds = list_cases(load_settings(config)).kinds
    assert set(kinds) - {"half-1", "half-2"} <= set(table["case"])
    chance = table[(table["source"] == "decoded") & (table["score"] == "z")]["chance"]
    assert set(chance) == {0.5}
    own = table[(table["subject"] == "subj01") & (table["case"] == "shared")]
    seen = own.set_index(["source", "score", "candidates"])["value"]
    assert seen["decoded", "z", "all"] > 0.6 > seen["shuffled", "z", "all"]
    assert (made / "results/report/generalisation.html").stat().st_size > 50_000


def test_decoders_are_applied_to_another_test_set_unchanged(made):
    images = pd.read_csv(made / "results/subj01/cases/imagery/images.tsv", sep="\t")
    assert (images["split"] == "test").sum() == 12
    for task in ("vision", "imagery", "attention"):
        decoded = np.load(made / f"results/subj01/corrected@{task}/decoded/z.npy")
        assert decoded.shape == (12, 4, 8, 8)


def test_nothing_is_made_twice(made):
    assert not plan(made, "generalisation", project=PROJECT)


def plan_changed(made, config, **changes):
    """Jobs of a run with other settings of the cases."""
    own = config["generalisation"]
    write_config(made, **config | {"generalisation": own | changes})
    try:
        return plan(made, "generalisation", project=PROJECT)
    finally:
        write_config(made, **config)


def test_judges_of_cases_neither_decode_nor_fit(made, config):
    jobs = {rule for rule, _ in plan_changed(made, config, similar=4, min_ncsnr=0.1)}
    assert {"score_case", "score_case_encoders"} <= jobs
    assert not jobs & {"fit_case_decoders", "apply_decoders", "reconstruct_case", "split_images"}
    assert not jobs & {"predict_case", "prepare_case_responses"}


def test_a_setting_of_one_division_redoes_that_one(made, config):
    jobs = plan_changed(made, config, clusters=7)
    for rule in ("split_images", "fit_case_decoders", "predict_case", "score_case"):
        assert jobs[rule, "subj01"] == 1
    assert not {"apply_decoders", "restrict_decoders"} & {rule for rule, _ in jobs}


def test_decoders_of_another_subject(made, config):
    """Aligned by shared images of the first session, and by all."""
    write_config(made, **config | {"subjects": ["subj01", "subj02"]})
    cases = ("hour-aligned", "hour-tuned", "others")
    targets = [f"results/subj01/corrected@{case}/decoded/z.npy" for case in cases]
    try:
        run_snakemake(made, *targets, project=PROJECT)
    finally:
        write_config(made, **config)
    images = pd.read_csv(made / "results/subj01/cases/hour/images.tsv", sep="\t")
    decoded = [np.load(made / target) for target in targets]
    assert {len(each) for each in decoded} == {(images["split"] == "test").sum()}
    assert not np.array_equal(decoded[0], decoded[1])
    table = pd.read_csv(made / "results/subj01/corrected@others/alignment.tsv", sep="\t")
    assert set(table["reference"]) == {"subj02"}


def test_betas_in_the_wrong_order_are_found(made, config):
    """The simulated release has those of a run in the order of time."""
    order = made / "results/subj01/cases/imagery_order.tsv"
    table = pd.read_csv(order, sep="\t")
    right = table[(table["order"] == "chronological") & (table["run"] == "all")].iloc[0]
    assert right["identification"] > right["chance_high"]
    write_config(made, **config | {"nsd": config["nsd"] | {"imagery_order": "by-condition"}})
    try:
        result = run_snakemake(made, str(order.relative_to(made)), project=PROJECT, check=False)
    finally:
        write_config(made, **config)
    assert result.returncode
    said = result.stdout + result.stderr
    assert "nsd.imagery_order" in said
    assert "chronological" in said

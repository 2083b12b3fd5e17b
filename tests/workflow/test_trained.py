"""The decoders that are trained, from responses to tables and figures, at tiny size."""

import shutil

import h5py
import pandas as pd
import pytest
import yaml
from conftest import plan, run_snakemake, write_config

from nsdldm.diffusion.pictures import ATTRIBUTES

pytestmark = pytest.mark.slow

TABLES = ("table2", "table3", "masked", "retrieval")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, finished, nsd_config):
    """A copy of the finished run in which the trained decoders have run, of two subjects."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    shutil.copytree(finished, folder, symlinks=True)
    write_config(folder, **nsd_config)
    run_snakemake(folder, "trained")
    return folder


def read(folder, name):
    return pd.read_csv(folder / f"results/tables/fcae_{name}.tsv", sep="\t")


def test_tables_have_all_methods_with_intervals(trained):
    own = read(trained, "table3").query("data == 'nsd'")
    assert set(own["method"]) == {"fcae", "zc"}
    assert (own["ci_low"] <= own["value"]).all() and (own["value"] <= own["ci_high"]).all()
    table = read(trained, "table2")
    assert {"fcae", "vis-dec", "zc"} <= set(table["method"])
    assert set(table["data"]) == {"nsd", "published"}
    found = read(trained, "retrieval").query("readout == 'probe'")
    names = [("responses", 0), ("fcae", 1), ("vis-dec", 1), ("fcae", 2), ("vis-dec", 2)]
    assert list(zip(found["name"], found["stage"], strict=True)) == names
    assert set(read(trained, "masked")["encoder"]) == {"fcae", "vis-dec"}


def test_pictures_are_in_the_form_of_the_others(trained):
    folder = trained / "results"
    with (
        h5py.File(folder / "subj01/trained/reconstructions/fcae-joint.h5") as joint,
        h5py.File(folder / "subj02/trained/reconstructions/fcae-subj01.h5") as other,
        h5py.File(folder / "subj01/corrected/reconstructions/zc.h5") as ridge,
    ):
        assert (joint["nsd_id"][:] == ridge["nsd_id"][:]).all()
        assert joint["images"].shape[0] == ridge["images"].shape[0]
        assert joint["images"].shape[2:] == ridge["images"].shape[2:]
        assert set(ATTRIBUTES) <= set(ridge.attrs) & set(joint.attrs) & set(other.attrs)
        assert joint.attrs["trained_on"].split() == ["subj01", "subj02"]
        assert other.attrs["trained_on"].split() == ["subj01"]


def test_they_are_no_part_of_a_whole_run(finished, trained):
    assert not plan(finished)
    assert not {rule for rule, _ in plan(trained)} & {"pretrain_encoder", "align_encoder"}
    assert set(plan(trained, "trained")) <= {("trained", "")}


def test_a_change_of_one_method_reruns_what_it_changes(trained):
    """Another stage 3 of one method leaves encoders and the other method alone."""
    path = trained / "config.yaml"
    before = path.read_text()
    config = yaml.safe_load(before)
    config["trained"]["methods"]["vis-dec"]["stage3"]["learning_rate"] = 1e-4
    path.write_text(yaml.safe_dump(config))
    jobs = plan(trained, "results/tables/fcae_table2.tsv")
    path.write_text(before)
    assert jobs["tabulate_fcae", ""] == 1
    # Once each, but pictures in each of the chunks.
    assert set(jobs.values()) <= {1, 2}
    assert [rule for (rule, _), n in jobs.items() if n == 2] == ["reconstruct_trained"]
    rules = {rule for rule, _ in jobs}
    changed = {"fine_tune_diffusion", "reconstruct_trained", "gather_reconstructions"}
    assert changed < rules
    assert not rules & {"pretrain_encoder", "align_encoder", "join_responses"}

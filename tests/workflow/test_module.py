"""Runs in folders of their own: by --directory, and in a workflow that has this one as a module."""

import re
import subprocess
import sys

import pandas as pd
import pytest
from conftest import MODEL, PROJECT, plan, run_snakemake, write_config


@pytest.fixture(params=["in", "out"])
def folder(request, tmp_path):
    """A folder without a configuration, that has or has not a part of the project's resources."""
    if request.param == "in":
        (tmp_path / "resources").symlink_to(PROJECT / "resources")
    return tmp_path


def write_workflow(folder, names=""):
    """The workflow of three lines that docs/runs.md shows."""
    page = (PROJECT / "docs/runs.md").read_text()
    text = (
        re.search("(?m)^    module nsdldm:\n.*\n.*$", page).group().replace("\n    ", "\n").strip()
    )
    assert text.count("\n") == 2
    text = text.replace("/path/to/nsd-ldm/Snakefile", str(PROJECT / "Snakefile"))
    (folder / "Snakefile").write_text(f"{text}{names}\n")


def test_a_folder_without_a_configuration_has_that_of_the_project(folder):
    jobs = plan(folder, "results/figures/fig6.png", project=PROJECT)
    assert jobs["fit_encoders", "subj01"] == 1
    assert jobs["simulate_subject", "subj01"] == 1


def test_resources_are_those_of_the_project(tmp_path, tiny_demo):
    """Whose folder is named from here, so that both can be moved."""
    write_config(tmp_path, **tiny_demo | {"model": {"path": "resources/demo_model"}})
    text = run_snakemake(
        tmp_path, "--dry-run", "results/subj01/features/z.npy", project=PROJECT
    ).stdout
    model = MODEL.removeprefix("/")
    assert f" {'../' * (len(tmp_path.resolve().parts) - 1)}{model}/unet/config.json" in text


def test_the_command_in_the_project_takes_a_directory(tmp_path):
    """As docs/runs.md shows it, without the path of a Snakefile."""
    command = [sys.executable, "-m", "snakemake", "--directory", str(tmp_path / "run"), "--dry-run"]
    (tmp_path / "run").mkdir()
    result = subprocess.run(
        [*command, "results/figures/fig6.png"], cwd=PROJECT, capture_output=True, text=True
    )
    assert "rule plot_fig6" in result.stdout + result.stderr
    assert result.returncode == 0


def test_a_module_plans_what_the_workflow_does(tmp_path, tiny_demo):
    write_config(tmp_path / "own", **tiny_demo)
    write_config(tmp_path / "module", **tiny_demo)
    write_workflow(tmp_path / "module")
    assert plan(tmp_path / "module") == plan(tmp_path / "own", project=PROJECT)


def test_rules_of_a_module_may_have_other_names(tmp_path, tiny_demo):
    write_config(tmp_path, **tiny_demo)
    write_workflow(tmp_path, " as nsd_*")
    jobs = plan(tmp_path, "results/figures/fig6.png")
    assert jobs["nsd_plot_fig6", "subj01"] == 1


@pytest.mark.slow
def test_a_module_runs(tmp_path, tiny_demo):
    write_config(tmp_path, **tiny_demo)
    write_workflow(tmp_path)
    target = "results/subj01/trials.tsv"
    run_snakemake(tmp_path, target)
    assert len((tmp_path / target).read_text().splitlines()) == 751
    source = pd.read_csv(tmp_path / "results/source.tsv", sep="\t").iloc[0]
    assert source["dataset"] == "demo"
    assert source["root"] == "results/demo"


def test_results_of_the_demo_are_not_written_over(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/source.tsv").write_text("dataset\troot\ndemo\tresults/demo\n")
    write_config(tmp_path, dataset="nsd", nsd={"root": str(tmp_path / "nsd")})
    result = run_snakemake(tmp_path, "--dry-run", check=False, project=PROJECT)
    assert result.returncode == 1
    text = result.stdout + result.stderr
    assert "expected results of dataset nsd, or none, found those of dataset demo" in text
    assert text.count("expected") == 1

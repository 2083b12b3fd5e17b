"""`make status` of a run of the workflow."""

import subprocess
import sys

import pytest
from conftest import PROJECT, SMALL, run_snakemake, write_config

pytestmark = pytest.mark.slow


def test_a_run_that_fails_says_where_and_why(tmp_path):
    write_config(tmp_path, **SMALL | {"subjects": ["subj01"]})
    run_snakemake(tmp_path, "--until", "simulate_subject", project=PROJECT)
    ended = (tmp_path / "results/report/status.html").read_text()
    assert "0 failed, 0 left" in ended and 'http-equiv="refresh"' not in ended
    (tmp_path / "results/subj01").mkdir()
    table = tmp_path / "results/demo/nsddata/ppdata/subj01/behav/responses.tsv"
    table.write_text(table.read_text().replace("73KID", "73K"))
    run_snakemake(tmp_path, "results/subj01/trials.tsv", check=False, project=PROJECT)
    command = [sys.executable, "-m", "nsdldm.workflow.status"]
    environment = {"PYTHONPATH": str(PROJECT)}
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "1 failed" in said.stdout and ", ended." in said.stdout
    assert "failed: check_release subj01" in said.stdout
    assert "expected the columns" in said.stdout or "73KID" in said.stdout

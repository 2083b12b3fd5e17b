"""What `make demo` shows while it runs."""

import os
import subprocess
import sys

import pytest
from conftest import PROJECT

SNAKEFILE = """
rule all:
    input:
        "results/figures/fig1.png",


rule draw:
    input:
        expand("{who}.txt", who=["subj01", "subj02"]),
    output:
        "results/figures/fig1.png",
    shell:
        "touch {output}"


rule fit:
    output:
        "{who}.txt",
    shell:
        "COMMAND"
"""


def run(folder, command):
    (folder / "Snakefile").write_text(SNAKEFILE.replace("COMMAND", command))
    arguments = ["--cores", "1", "--workflow-profile", "none", "--logger", "calm"]
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )


def test_a_line_for_each_finished_step_and_the_figure(tmp_path):
    result = run(tmp_path, "touch {output}; test $NSDLDM_QUIET = 1")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    steps = [line.split()[1:] for line in lines if " of 4, " in line]
    assert {*map(tuple, (words[:2] for words in steps[:2]))} == {
        ("fit", "subj01"),
        ("fit", "subj02"),
    }
    assert steps[2][:5] == ["draw", "3", "of", "4,", "soon"]
    assert "results/figures/fig1.png" in lines[-1]
    assert "rule fit" not in result.stdout + result.stderr


def test_problems_are_shown(tmp_path):
    result = run(tmp_path, "echo {wildcards.who}; exit 1")
    assert result.returncode != 0
    assert "Error in rule fit" in result.stderr


def test_the_terminal_gets_warnings_only(tmp_path, monkeypatch, capsys):
    import logging

    from nsdldm.support.logs import QUIET, logged

    monkeypatch.setenv(QUIET, "1")
    with pytest.raises(SystemExit), logged(tmp_path / "job.log"):
        logging.getLogger("nsdldm").info("all is well")
        raise ValueError("something is not")
    said = capsys.readouterr().err
    assert "something is not" in said and "all is well" not in said
    assert "all is well" in (tmp_path / "job.log").read_text()

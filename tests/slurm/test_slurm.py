"""The whole workflow through the shipped Slurm profile, on a cluster of one node.

`make test-slurm`; not part of `make test`, since it needs root and installs Slurm.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from datetime import datetime
from types import SimpleNamespace

import cluster
import pytest
import yaml
from conftest import COPIED, PROJECT, SMALL, plan, run_snakemake, write_config
from test_reruns import CHANGES

from nsdldm.workflow.loading import load_settings

COMMAND = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm"]
# What the profile asks its user to edit, for a cluster without a database; partitions are those of
# the profile. Status checks only come sooner.
EDITS = (
    (r"^  slurm_account: .*\n", ""),
    (r"^slurm-status-command: sacct", "slurm-status-command: squeue"),
    (
        r"^slurm-init-seconds-before-status-checks: \d+",
        "slurm-init-seconds-before-status-checks: 2",
    ),
)
KILLED = "features_subj02"
LONGEST_RUN = 3600  # seconds


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Configuration that reads a simulated release as if it were the real one."""
    folder = tmp_path_factory.mktemp("release")
    write_config(folder, **SMALL)
    run_snakemake(folder, "--until", "simulate_subject", project=PROJECT)
    nsd = {"root": str(folder / "results/demo"), "sessions": [1]}
    # With the demo's sizes also where it says nothing.
    return load_settings(SMALL) | {"dataset": "nsd", "nsd": nsd}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, config):
    """A copy of the project with the profile edited as its comments say."""
    folder = tmp_path_factory.mktemp("run")
    for name in COPIED:
        source = PROJECT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    profile = folder / "profiles/slurm/config.yaml"
    text = profile.read_text()
    for pattern, replacement in EDITS:
        text, n_edits = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert n_edits == 1, pattern
    profile.write_text(text)
    write_config(folder, **config)
    return folder


@pytest.fixture(scope="module")
def run(folder):
    """One run, in which one job is killed once it has written something."""
    with cluster.slurm(), (folder / "run.log").open("w") as log:
        # Two jobs of two threads share two cores, so threads that wait should not spin.
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
        main = subprocess.Popen(
            COMMAND, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            held, killed = watch(main, folder / "results/subj02/features/z.npy")
        finally:
            main.kill()
        jobs = cluster.jobs()
        again = subprocess.run(COMMAND, cwd=folder, capture_output=True, text=True, check=False)
        yield SimpleNamespace(
            code=main.wait(),
            text=(folder / "run.log").read_text(),
            jobs=jobs,
            held=held,
            killed=killed,
            again=again.stdout + again.stderr,
        )


def watch(main, first_output):
    """Note the GPU of every job while the run goes on, and kill one job."""
    held, killed, end = {}, None, time.monotonic() + LONGEST_RUN
    while main.poll() is None and time.monotonic() < end:
        time.sleep(1)
        for number, job in cluster.jobs().items():
            if job["JobState"] != "RUNNING":
                continue
            # Only a running job says which GPU it holds.
            held.setdefault(number, re.findall(r"IDX:(\d+)", job.get("GRES", "")))
            if killed is None and name(job) == KILLED and first_output.exists():
                cluster.ask("scancel", str(number))
                killed = number
    return held, killed


def name(job):
    """Group of a job."""
    return re.match(r"rule_([a-z]+(_subj\d\d)?)_", job["Comment"]).group(1)


def test_the_run_finishes(run, folder):
    assert run.code == 0, run.text[-5000:]
    assert "steps (100%) done" in run.text
    assert (folder / "results/figures/fig9.png").exists()
    assert (folder / "results/report/gallery.html").exists()
    assert "Nothing to be done" in run.again


def test_few_jobs(run):
    assert len(run.jobs) <= 17
    each = ("prepare", "features", "diffusion", "gather", "fits", "judges", "figures")
    groups = {f"{group}_{subject}" for group in each for subject in SMALL["subjects"]}
    assert {name(job) for job in run.jobs.values()} == groups | {"encoding", "decoding"}


def test_the_gpu_serves_one_job_at_a_time(run):
    """Jobs of both subjects want it, so that some have to wait."""
    with_gpu = {n for n, job in run.jobs.items() if job["Partition"] == "gpu"}
    groups = {name(run.jobs[n]).partition("_")[0] for n in with_gpu}
    assert groups == {"features", "diffusion", "fits"}
    assert len(with_gpu) >= 2
    for number, job in run.jobs.items():
        asked = re.findall(r"gpu:\d+", job.get("TresPerJob", ""))
        assert asked == (["gpu:1"] if number in with_gpu else [])
        assert len(run.held[number]) == len(asked)
    assert all(run.held[n] == ["0"] for n in with_gpu)
    held = [run.jobs[n] for n in with_gpu]
    assert cluster.overlaps(held) == []
    assert max(seconds_waited(job) for job in held) > 5


def seconds_waited(job):
    """From when a job could have run to when it did."""
    start, eligible = (datetime.fromisoformat(job[key]) for key in ("StartTime", "EligibleTime"))
    return (start - eligible).total_seconds()


def test_killed_job_comes_again_with_more_memory_and_time(run):
    first, second = sorted(n for n, job in run.jobs.items() if name(job) == KILLED)
    first, second = run.jobs[first], run.jobs[second]
    assert int(first["JobId"]) == run.killed
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    assert gigabytes(second) == 2 * gigabytes(first)
    assert minutes(second) == 2 * minutes(first)
    others = [job for job in run.jobs.values() if name(job) != KILLED]
    assert {job["JobState"] for job in others} == {"COMPLETED"}


def test_members_of_a_group_run_one_after_the_other(run):
    """So their times add up, and their memory and cores do not."""
    figures = next(job for job in run.jobs.values() if name(job) == "figures_subj01")
    members = asked_by_rules(run.text, "figures_{subject}", "subj01")
    assert len(members) > 3
    assert figures["NumCPUs"] == "1"
    assert gigabytes(figures) == max(member["mem_mb"] for member in members) / 1000
    assert minutes(figures) == sum(member["runtime"] for member in members)


def asked_by_rules(text, group, subject):
    """What each job of a group asks for, as Snakemake prints it before it is submitted."""
    groups = yaml.safe_load((PROJECT / "profiles/slurm/config.yaml").read_text())["groups"]
    found = []
    for block in re.split(r"\n *(?=rule )", text):
        rule = re.match(r"rule (\w+):", block)
        if rule and groups.get(rule.group(1)) == group and f"subject={subject}" in block:
            line = block.partition("resources:")[2].partition("\n")[0]
            numbers = re.findall(r"\b(mem_mb|runtime)=(\d+)", line)
            found.append({key: int(number) for key, number in numbers})
    return found


@pytest.mark.parametrize("change", ["one subject's setting", "global alphas", "denoising seed"])
def test_reruns_are_those_of_the_default_profile(run, folder, config, change):
    settings = CHANGES[change][0]
    changed = {key: config.get(key, {}) | value for key, value in settings.items()}
    write_config(folder, **config | changed)
    try:
        jobs = plan(folder, "--workflow-profile", "profiles/slurm")
        assert jobs
        assert jobs == plan(folder)
    finally:
        write_config(folder, **config)


def test_a_group_beyond_its_partition_is_never_submitted(run, folder):
    """Slurm itself would take it, and let it wait for ever."""
    before = set(cluster.jobs())
    cluster.ask("scontrol", "update", "PartitionName=gpu", "MaxTime=100")
    try:
        command = [*COMMAND, "--forceall"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    finally:
        cluster.ask("scontrol", "update", "PartitionName=gpu", "MaxTime=UNLIMITED")
    assert result.returncode == 1
    found = (
        r"features_subj01, features_subj02: expected at most 100 minutes in partition gpu, found"
    )
    assert re.search(found, result.stderr)
    assert set(cluster.jobs()) == before


def test_overlap_is_seen():
    def job(number, start, end):
        times = {"StartTime": f"2026-01-01T00:00:{start}", "EndTime": f"2026-01-01T00:00:{end}"}
        return {"JobId": number, **times}

    assert cluster.overlaps([job("1", 20, 30), job("2", 10, 20)]) == []
    assert cluster.overlaps([job("1", 20, 30), job("2", 10, 21)]) == [("2", "1")]


def test_another_slurm_is_left_alone(tmp_path):
    (tmp_path / "gres.conf").symlink_to(tmp_path / f"{cluster.PREFIX}gone/gres.conf")
    assert cluster.find_remains(tmp_path) == {tmp_path / f"{cluster.PREFIX}gone"}
    (tmp_path / "slurm.conf").write_text("ClusterName=theirs\n")
    with pytest.raises(cluster.ForeignSlurmError, match=r"slurm\.conf configures another Slurm"):
        cluster.find_remains(tmp_path)


def gigabytes(job):
    """Memory that a job asked for."""
    number, unit = re.match(r"(\d+)([MG])", job["MinMemoryNode"]).groups()
    return int(number) / (1000 if unit == "M" else 1)


def minutes(job):
    """Time that a job asked for."""
    days, clock = re.match(r"(?:(\d+)-)?([\d:]+)$", job["TimeLimit"]).groups()
    hours, mins, _ = map(int, clock.split(":"))
    return int(days or 0) * 1440 + hours * 60 + mins

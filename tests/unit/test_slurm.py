"""What Slurm prints was copied from Slurm 22.05; what is allowed of it is counted by hand."""

import math
from types import SimpleNamespace

import pytest

from nsdldm.workflow import slurm
from nsdldm.workflow.slurm import (
    Allowed,
    Asked,
    check_job,
    check_jobs,
    read_minutes,
    read_partitions,
)

LIMITS = """\
PartitionName=cpu AllowGroups=ALL Default=YES QoS=N/A MaxNodes=UNLIMITED MaxTime=UNLIMITED \
MaxCPUsPerNode=UNLIMITED Nodes=n[1-8] DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED
PartitionName=short AllowGroups=ALL Default=NO QoS=N/A MaxNodes=UNLIMITED MaxTime=00:30:00 \
MaxCPUsPerNode=UNLIMITED Nodes=n[1-8] DefMemPerNode=UNLIMITED MaxMemPerNode=4000
PartitionName=gpu AllowGroups=ALL Default=NO MaxTime=1-12:00:00 Nodes=g1 MaxMemPerNode=UNLIMITED
"""
NODES = "cpu|128000|64\ncpu|1024000|16\nshort|128000|64\ngpu|512000|32\n"
ALLOWED = read_partitions(LIMITS, NODES)


def test_partitions_as_slurm_prints_them():
    by_hand = [
        Allowed("cpu", True, math.inf, 128000, 64),
        Allowed("cpu", True, math.inf, 1024000, 16),
        Allowed("short", False, 30, 4000, 64),
        Allowed("gpu", False, 2160, 512000, 32),
    ]
    assert read_partitions(LIMITS, NODES) == by_hand


@pytest.mark.parametrize(
    "text, minutes",
    [("00:30:00", 30), ("2-00:00:00", 2880), ("1-01:01:30", 1501.5), ("UNLIMITED", math.inf)],
)
def test_limits_of_time(text, minutes):
    assert read_minutes(text) == minutes


@pytest.mark.parametrize(
    "partition, minutes, megabytes, cores",
    [
        ("gpu", 2160, 512000, 32),
        ("", 10**6, 1000, 64),  # the default partition
        ("cpu", 0, 0, 0),  # what a job does not say limits nothing
        ("cpu", 10**6, 1024000, 16),  # only one kind of its nodes is so large
        ("short,gpu", 2000, 8000, 1),  # Slurm takes the one that fits
    ],
)
def test_jobs_that_fit(partition, minutes, megabytes, cores):
    assert check_job(Asked("fits", partition, minutes, megabytes, cores), ALLOWED) == ()


@pytest.mark.parametrize(
    "asked, most, found",
    [
        (("gpu", 2161, 1, 1), "2,160 minutes in partition gpu", "2,161 minutes"),
        (("short", 10, 4001, 1), "4,000 MB of memory in partition short", "4,001 MB of memory"),
        (
            ("short", 31, 4001, 1),
            "30 minutes and 4,000 MB of memory in partition short",
            "31 minutes and 4,001 MB of memory",
        ),
        # Neither kind of node has both.
        (("cpu", 1, 200000, 32), "128,000 MB of memory in partition cpu", "200,000 MB of memory"),
        (("short,gpu", 2161, 1, 1), "30 minutes in partition short", "2,161 minutes"),
    ],
)
def test_jobs_that_no_partition_allows(asked, most, found):
    expected, what, remedy = check_job(Asked("fits", *asked), ALLOWED)
    assert (expected, what) == (f"at most {most}", found)
    assert "under set-resources of the profile" in remedy


def test_a_partition_that_is_not_there():
    (finding,) = check_jobs([Asked("a", "gpux", 1, 1, 1), Asked("b", "gpux", 2, 2, 2)], ALLOWED)
    assert str(finding) == (
        "a, b: expected one of the cluster's partitions (cpu, gpu, short), found gpux. "
        "Correct slurm_partition in the profile."
    )


def test_a_partition_without_nodes_limits_only_time():
    allowed = read_partitions("PartitionName=p Default=NO MaxTime=01:00:00\n", "p|0|0\n")
    assert check_job(Asked("a", "p", 60, 10**9, 10**4), allowed) == ()


def test_no_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.ask_partitions() is None


class Job:
    """What of one of Snakemake's jobs is looked at; it asks for more with every attempt."""

    def __init__(self, name, minutes, is_local=False):
        self.name, self.minutes, self.is_local, self.attempt = name, minutes, is_local, 1
        self.rule = SimpleNamespace(restart_times=2)

    def is_group(self):
        return False

    @property
    def resources(self):
        return {"runtime": self.minutes * self.attempt, "slurm_partition": "short"}


class Dag:
    def __init__(self, *jobs, done=()):
        self.jobs, self.done = jobs, done

    def get_jobs_or_groups(self):
        return self.jobs

    def needrun_jobs(self):
        return [job for job in self.jobs if job not in self.done]


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr(slurm, "ask_partitions", lambda: ALLOWED)


def test_jobs_are_repeated_as_long_as_their_partition_allows(cluster):
    """Half an hour: the second of three tries of 15 minutes, the third of 10, none after 20."""
    jobs = [Job("fit", 15), Job("draw", 10), Job("train", 20)]
    wrong, warnings = slurm.check_run(Dag(*jobs), 2)
    assert not wrong
    assert [job.rule.restart_times for job in jobs] == [1, 2, 0]
    assert warnings == [
        "Submitted 2 times at most, since their partition does not allow 3 times as much: "
        "fit, train.",
        "Submitted 1 times at most, since their partition does not allow 2 times as much: train.",
    ]


def test_only_what_is_submitted_is_checked(cluster):
    long, done = Job("fit", 31), Job("made", 31)
    wrong, warnings = slurm.check_run(Dag(long, done, Job("copy", 31, True), done=[done]), 2)
    assert [finding.where for finding in wrong] == ["fit"]
    assert not warnings and long.rule.restart_times == 2


def test_a_cluster_that_says_nothing(monkeypatch):
    monkeypatch.setattr(slurm, "ask_partitions", lambda: None)
    wrong, (warning,) = slurm.check_run(Dag(Job("fit", 10**6)), 2)
    assert not wrong
    assert "jobs are submitted unchecked" in warning

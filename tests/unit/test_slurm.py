"""What Slurm prints was copied from Slurm 22.05; what is allowed of it is counted by hand."""

import math

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

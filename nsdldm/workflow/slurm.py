"""Compare what jobs are about to ask for with what the partitions of a Slurm cluster allow.

By default, Slurm accepts a job that asks for more time than its partition allows and lets it wait
for ever; with stricter settings it rejects the job, which the executor counts as failed.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from nsdldm.support.errors import Finding

UNITS = {"minutes": "minutes", "megabytes": "MB of memory", "cores": "cores"}
REMEDIES = {
    "minutes": "Times of the rules of a job add up: lower runtime under set-resources of the "
    "profile, take rules out of its groups, lower its group-components, or name another partition",
    "megabytes": "Lower mem_mb under set-resources of the profile or memory_gb of the "
    "configuration, or name another partition",
    "cores": "Lower cores of the profile and the rules' set-threads, or name another partition",
}


@dataclass(frozen=True)
class Asked:
    """The resources that one job asks for.

    Parameters
    ----------
    job : str
        Its name, and the name that a user knows.
    partition : str
        Comma-separated names; empty for the cluster's default.
    minutes, megabytes, cores : int
        Zero if the job does not say.
    """

    job: str
    partition: str
    minutes: int
    megabytes: int
    cores: int


@dataclass(frozen=True)
class Allowed:
    """The most that one kind of node in a partition gives a job; infinite if there is no limit."""

    partition: str
    default: bool
    minutes: float
    megabytes: float
    cores: float


def read_minutes(text: str) -> float:
    """Minutes of a limit as Slurm prints it: [days-]hours:minutes:seconds, or a word for no
    limit."""
    if not (match := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)):
        return float("inf")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + minutes + seconds / 60


def read_number(text: str) -> float:
    """A limit; a word or zero means that there is none."""
    return float(text) if re.fullmatch("[1-9][0-9]*", text) else float("inf")


def read_partitions(limits: str, nodes: str) -> list[Allowed]:
    """Read what a cluster allows.

    Parameters
    ----------
    limits : str
        Output of ``scontrol --oneliner show partition``.
    nodes : str
        Output of ``sinfo --noheader --exact --format=%R|%m|%c``.

    Returns
    -------
    list of Allowed
        One for each kind of node in each partition.
    """
    sizes = {}
    for line in nodes.splitlines():
        name, megabytes, cores = line.strip().split("|")
        sizes.setdefault(name, []).append((read_number(megabytes), read_number(cores)))
    found = []
    for line in limits.splitlines():
        said = dict(re.findall(r"(\w+)=(\S*)", line))
        if name := said.get("PartitionName"):
            most = read_number(said.get("MaxMemPerNode", ""))
            fixed = said.get("Default") == "YES", read_minutes(said.get("MaxTime", ""))
            for megabytes, cores in sizes.get(name, [(most, float("inf"))]):
                found.append(Allowed(name, *fixed, min(most, megabytes), cores))
    return found


def ask_partitions() -> list[Allowed] | None:
    """Ask Slurm what it allows, as `read_partitions` returns it, or None if it does not answer."""
    commands = (
        ["scontrol", "--oneliner", "show", "partition"],
        ["sinfo", "--noheader", "--exact", "--format=%R|%m|%c"],
    )
    try:
        answers = [
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
            for command in commands
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return read_partitions(*answers)


def check_job(asked: Asked, allowed: list[Allowed]) -> tuple[str, ...]:
    """Find which request of a job exceeds every partition that it names.

    Parameters
    ----------
    asked : Asked
    allowed : list of Allowed

    Returns
    -------
    tuple of str
        Expected, found and remedy, as in `Finding`; empty if nothing is wrong.
    """
    names = asked.partition.split(",") if asked.partition else []
    named = [each for each in allowed if each.partition in names or (each.default and not names)]
    if names and not named:
        known = ", ".join(sorted({each.partition for each in allowed}))
        remedy = "Correct slurm_partition in the profile"
        return f"one of the cluster's partitions ({known})", asked.partition, remedy
    missed = [[key for key in UNITS if getattr(asked, key) > getattr(each, key)] for each in named]
    if not missed or not all(missed):
        return ()
    # What the best-fitting nodes lack.
    keys = min(missed, key=len)
    place = named[missed.index(keys)]
    most = " and ".join(f"{getattr(place, key):,.0f} {UNITS[key]}" for key in keys)
    wanted = " and ".join(f"{getattr(asked, key):,.0f} {UNITS[key]}" for key in keys)
    remedy = ". ".join(REMEDIES[key] for key in keys)
    return f"at most {most} in partition {place.partition}", wanted, remedy


def list_submitted(dag: Any) -> Iterator[Any]:
    """Jobs of a run that go to the cluster, a group as one."""
    needed = set(dag.needrun_jobs())
    for job in dag.get_jobs_or_groups():
        if not job.is_local and needed & set(list_parts(job)):
            yield job


def list_parts(job: Any) -> list:
    """The jobs of a group, or a job itself."""
    return list(job) if job.is_group() else [job]


def read_asked(job: Any, attempt: int) -> Asked:
    """What one of Snakemake's jobs or groups asks for, the first time or after failures."""
    name = job.groupid if job.is_group() else job.name
    job.attempt = attempt
    asked = [job.resources.get(key, 0) for key in ("runtime", "mem_mb", "_cores")]
    partition = str(job.resources.get("slurm_partition", ""))
    job.attempt = 1
    return Asked(name, partition, *asked)


def check_run(dag: Any, retries: int) -> tuple[list[Finding], list[str]]:
    """Hold what a run is about to submit against what the cluster allows.

    Parameters
    ----------
    dag : snakemake.dag.DAG
        Of jobs that would ask for too much when repeated, the rules are changed.
    retries : int
        How often failed jobs are repeated.

    Returns
    -------
    list of Finding, list of str
        Jobs that would never run, and what else there is to say.
    """
    allowed = ask_partitions()
    if not allowed:
        return [], ["Slurm does not say what it allows; jobs are submitted unchecked."]
    wrong = check_jobs([read_asked(job, 1) for job in list_submitted(dag)], allowed)
    return wrong, [] if wrong else list(limit_retries(dag, retries, allowed))


def limit_retries(dag: Any, retries: int, allowed: list[Allowed]) -> Iterator[str]:
    """Repeat no job until it asks for more than its partition allows; yield what was limited."""
    for n_failures in range(retries, 0, -1):
        jobs = {job: read_asked(job, 1 + n_failures) for job in list_submitted(dag)}
        too_large = {job: asked.job for job, asked in jobs.items() if check_job(asked, allowed)}
        for part in (part for job in too_large for part in list_parts(job)):
            part.rule.restart_times = min(part.rule.restart_times, n_failures - 1)
        if too_large:
            yield (
                f"Submitted {n_failures} times at most, since their partition does not allow "
                f"{1 + n_failures} times as much: {', '.join(sorted(set(too_large.values())))}."
            )


def check_jobs(jobs: Iterable[Asked], allowed: list[Allowed]) -> list[Finding]:
    """List jobs that a cluster would never run.

    Parameters
    ----------
    jobs : iterable of Asked
    allowed : list of Allowed

    Returns
    -------
    list of Finding
        One for all jobs with the same problem.
    """
    wrong = {}
    for asked in jobs:
        if words := check_job(asked, allowed):
            wrong.setdefault(words, []).append(asked.job)
    return [Finding(", ".join(sorted(names)), *words) for words, names in wrong.items()]

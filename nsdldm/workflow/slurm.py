"""What the partitions of a Slurm cluster allow, held against what jobs are about to ask for.

Slurm as it comes takes a job that asks for more time than its partition allows and lets it wait for
ever; set up more strictly it refuses the job, which the executor calls a failed one.
"""

import re
import subprocess
from dataclasses import dataclass

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
    """What one job asks for.

    Parameters
    ----------
    job : str
        Its name, and what a user would know it by.
    partition : str
        Names with commas between them; empty for the cluster's default.
    minutes, megabytes, cores : int
        Zero where the job does not say.
    """

    job: str
    partition: str
    minutes: int
    megabytes: int
    cores: int


@dataclass(frozen=True)
class Allowed:
    """The most that one kind of node in a partition gives a job; infinite where nothing is said."""

    partition: str
    default: bool
    minutes: float
    megabytes: float
    cores: float


def read_minutes(text):
    """Minutes of a limit as Slurm prints it: [days-]hours:minutes:seconds, or a word for none."""
    if not (match := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)):
        return float("inf")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + minutes + seconds / 60


def read_number(text):
    """A number that limits something; a word or zero means that nothing does."""
    return float(text) if re.fullmatch("[1-9][0-9]*", text) else float("inf")


def read_partitions(limits, nodes):
    """Read what a cluster allows.

    Parameters
    ----------
    limits : str
        What ``scontrol --oneliner show partition`` prints.
    nodes : str
        What ``sinfo --noheader --exact --format=%R|%m|%c`` prints.

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


def ask_partitions():
    """Ask Slurm what it allows: `read_partitions` of it, or None where it does not answer."""
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


def check_job(asked, allowed):
    """Say what of a job no partition that it names allows.

    Parameters
    ----------
    asked : Asked
    allowed : list of Allowed

    Returns
    -------
    tuple of str
        What is expected, found and to be done, as in `Finding`; empty if nothing is wrong.
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
    # Of the place that fits best, what it lacks.
    keys = min(missed, key=len)
    place = named[missed.index(keys)]
    most = " and ".join(f"{getattr(place, key):,.0f} {UNITS[key]}" for key in keys)
    wanted = " and ".join(f"{getattr(asked, key):,.0f} {UNITS[key]}" for key in keys)
    remedy = ". ".join(REMEDIES[key] for key in keys)
    return f"at most {most} in partition {place.partition}", wanted, remedy


def list_submitted(dag):
    """Jobs of a run that go to the cluster, a group as one."""
    needed = set(dag.needrun_jobs())
    for job in dag.get_jobs_or_groups():
        if not job.is_local and needed & set(list_parts(job)):
            yield job


def list_parts(job):
    """The jobs of a group, or a job itself."""
    return list(job) if job.is_group() else [job]


def read_asked(job, attempt):
    """What one of Snakemake's jobs or groups asks for, the first time or after failures."""
    name = job.groupid if job.is_group() else job.name
    job.attempt = attempt
    asked = [job.resources.get(key, 0) for key in ("runtime", "mem_mb", "_cores")]
    partition = str(job.resources.get("slurm_partition", ""))
    job.attempt = 1
    return Asked(name, partition, *asked)


def check_run(dag, retries):
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


def limit_retries(dag, retries, allowed):
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


def check_jobs(jobs, allowed):
    """Say which jobs a cluster would never run.

    Parameters
    ----------
    jobs : iterable of Asked
    allowed : list of Allowed

    Returns
    -------
    list of Finding
        One for all jobs with which the same is wrong.
    """
    wrong = {}
    for asked in jobs:
        if words := check_job(asked, allowed):
            wrong.setdefault(words, []).append(asked.job)
    return [Finding(", ".join(sorted(names)), *words) for words, names in wrong.items()]

"""What is looked at before the first job, in this order."""

from __future__ import annotations

from collections.abc import Iterator

from nsdldm.support.errors import Finding
from nsdldm.support.provenance import PROJECT
from nsdldm.workflow.named import check_named
from nsdldm.workflow.networks import list_all
from nsdldm.workflow.release import Release
from nsdldm.workflow.workfolder import (
    check_name,
    check_writable,
    find_foreign,
    find_late,
    find_late_results,
    find_other_source,
)

STATE = ".snakemake"
WRITTEN = ["results", "logs", "benchmarks"]
# Snakemake takes a benchmark for one of a job's outputs.
MADE = ["results", "benchmarks"]


def look_before(
    config: dict, release: Release, unknown: list[Finding], dry: bool, alike: bool
) -> Iterator[tuple[str, list[Finding]]]:
    """Look for what a run lacks, until something is found that makes the rest needless.

    Parameters
    ----------
    config : dict
        All settings.
    release : nsdldm.workflow.release.Release
    unknown : list of Finding
        Targets that no rule makes.
    dry : bool
        Whether nothing is run.
    alike : bool
        Whether jobs import what this process does, so that functions can be looked for.

    Yields
    ------
    str, list of Finding
        What a report is called, and what was found.
    """
    yield "Nothing can be run here:", check_name(PROJECT)
    yield "What was asked for cannot be made:", unknown
    other = find_other_source("results/source.tsv", config["dataset"])
    yield "Nothing can be written over other results:", other
    # Even a dry run writes Snakemake's own state.
    yield "Nothing can be written:", check_writable([STATE] if dry else [*WRITTEN, STATE])
    if not dry:
        noted = [f"{STATE}/metadata", f"{STATE}/incomplete"]
        yield "Nothing can be written:", find_foreign([*WRITTEN, *noted])
    findings = find_late_results(MADE) + check_named(config, functions=alike)
    find = find_late if release.simulated else release.find_missing
    findings += find(list_all(config))
    yield "The run cannot start; nothing was computed:", findings

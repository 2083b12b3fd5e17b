# Checks before the first job runs or is submitted.

import os
import sys
from pathlib import Path

from snakemake.cli import get_argument_parser

from nsdldm.workflow.named import check_named
from nsdldm.workflow.networks import list_all
from nsdldm.workflow.preflight import preflight
from nsdldm.workflow.targets import find_unknown
from nsdldm.workflow.workfolder import (
    check_name,
    check_writable,
    describe_lock,
    find_foreign,
    find_late,
    find_late_results,
    find_other_source,
)

WRITTEN = ["results", "logs", "benchmarks", ".snakemake"]


def unknown_targets():
    """Findings about what the command line asks for and no rule makes."""
    # Snakemake only sets its targets after reading this; besides, programs may run it, and a
    # workflow that uses this one as a module has rules of its own.
    started = Path(sys.argv[0]).stem in ("snakemake", "__main__")
    if not started or not workflow.modifier.is_main_snakefile():
        return []
    command = get_argument_parser().parse_args(sys.argv[1:])
    rules = {rule.name: rule for rule in workflow.rules}

    def describe(target, whole):
        if target in rules:
            whole = whole and rules[target].has_wildcards()
            return "a rule of which one file must be named" if whole else None
        path = target if os.path.isabs(target) else os.path.relpath(target)
        if any(each.is_producer(path) for each in rules.values()):
            return None
        return "a file that no rule makes" if Path(target).exists() else "neither"

    others = (command.forcerun, command.until, command.omit_from)
    found = {
        target: describe(target, False) for each in others for target in each or ()
    }
    found |= {target: describe(target, True) for target in command.targets}
    known = {name: list(map(str, rules[name].input)) for name in ("all", "trained")}
    unknown = {target: words for target, words in found.items() if words}
    return find_unknown(unknown, known, SUBJECTS)


def stop_on_missing_inputs():
    """Report everything the configured run lacks, at once and before the first job."""
    if not workflow.is_main_process or "--unlock" in sys.argv:
        return
    if warning := describe_lock(".snakemake"):
        logger.warning(warning)
    stop_on("Nothing can be run here:", check_name(PROJECT))
    stop_on("What was asked for cannot be made:", unknown_targets())
    stop_on(
        "Nothing can be written over other results:",
        find_other_source("results/source.tsv", config["dataset"]),
    )
    dry = workflow.output_settings.dryrun
    # Even a dry run writes Snakemake's own state.
    written = WRITTEN[-1:] if dry else WRITTEN
    stop_on("Nothing can be written:", check_writable(written))
    if not dry:
        noted = [".snakemake/metadata", ".snakemake/incomplete"]
        stop_on("Nothing can be written:", find_foreign([*WRITTEN[:-1], *noted]))
    # Snakemake counts a benchmark among a job's outputs.
    findings = find_late_results(["results", "benchmarks"])
    # With environments of their own, jobs may have what is missing here.
    alike = not workflow.deployment_settings.deployment_method
    findings += check_named(config, functions=alike)
    if config["dataset"] == "demo":
        findings += find_late(list_all(config))
    else:
        findings += preflight(
            config, RELEASE.root, SUBJECTS, RELEASE.list_sessions, list_all(config)
        )
    stop_on("The run cannot start; nothing was computed:", findings)


stop_on_missing_inputs()


include: "slurm.smk"

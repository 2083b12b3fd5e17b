"""Suggest targets if an unknown one is requested."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from snakemake.cli import get_argument_parser

from nsdldm.laion import layout as laion
from nsdldm.nsd import layout as nsd
from nsdldm.support.errors import Finding

PEOPLE = (*nsd.SUBJECTS, *laion.SUBJECTS)


def find_asked(workflow: Any, arguments: list[str], subjects: list[str]) -> list[Finding]:
    """List what a command asks for and no rule makes.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
        With all its rules; Snakemake notes its targets only after it has read them.
    arguments : list of str
        The command, its program first.
    subjects : list of str
        Subjects of the run.

    Returns
    -------
    list of Finding
        Empty where another program has read the rules, or a workflow that uses them as a module
        and has others of its own.
    """
    started = Path(arguments[0]).stem in ("snakemake", "__main__")
    if not started or not workflow.modifier.is_main_snakefile():
        return []
    command = get_argument_parser().parse_args(arguments[1:])
    rules = {rule.name: rule for rule in workflow.rules}
    others = (command.forcerun, command.until, command.omit_from)
    found = {asked: _describe(asked, rules, False) for own in others for asked in own or ()}
    found |= {asked: _describe(asked, rules, True) for asked in command.targets}
    unknown = {asked: words for asked, words in found.items() if words}
    known = {name: list(map(str, rules[name].input)) for name in ("all", "trained")}
    return find_unknown(unknown, known, subjects)


def _describe(asked, rules, whole):
    """Say what is wrong with a rule or file; rules with wildcards are none to be run whole."""
    if asked in rules:
        whole = whole and rules[asked].has_wildcards()
        return "a rule of which one file must be named" if whole else None
    path = asked if os.path.isabs(asked) else os.path.relpath(asked)
    if any(rule.is_producer(path) for rule in rules.values()):
        return None
    return "a file that no rule makes" if Path(asked).exists() else "neither"


def find_unknown(
    targets: dict[str, str], rules: dict[str, list[str]], subjects: list[str]
) -> list[Finding]:
    """List targets that no rule makes.

    Parameters
    ----------
    targets : dict of str to str
        Requested targets that cannot be made, and what they are instead.
    rules : dict of str to list of str
        Names of rules that can be requested, and the files that each makes.
    subjects : list of str
        Subjects of the run.

    Returns
    -------
    list of Finding
    """
    findings = []
    for target, found in targets.items():
        others = [name for name in re.findall(r"subj?-?\d+", target) if name not in subjects]
        if others and others[0] in PEOPLE:
            found = f"{others[0]}, who is not among subjects ({', '.join(subjects)})"
            remedy = f"Add {others[0]} to subjects in the configuration, or name one of these"
        else:
            remedy = f"Name one of: {_summarise(rules, subjects)}"
        expected = "a rule, or a file that a rule makes"
        findings.append(Finding(f"target {target}", expected, found, remedy))
    return findings


def _summarise(rules, subjects):
    """Rules, and files by folder; per-subject files are listed once."""
    folders = {}
    for file in dict.fromkeys(file for files in rules.values() for file in files):
        for subject in subjects:
            file = file.replace(f"/{subject}/", "/SUBJECT/")
        folder, _, name = file.rpartition("/")
        folders.setdefault(folder, {})[name] = None
    listed = [f"{folder}/ {', '.join(names)}" for folder, names in folders.items()]
    words = "; ".join([" and ".join(rules), *listed])
    if any("/SUBJECT/" in f"{folder}/" for folder in folders):
        words += f" (SUBJECT is {', '.join(subjects)})"
    return words

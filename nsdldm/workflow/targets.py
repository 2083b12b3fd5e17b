"""Suggest targets if an unknown one is requested. Standard library only."""

from __future__ import annotations

import re

from nsdldm.nsd.layout import SUBJECTS
from nsdldm.support.errors import Finding


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
        others = [name for name in re.findall(r"subj\d+", target) if name not in subjects]
        if others and others[0] in SUBJECTS:
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

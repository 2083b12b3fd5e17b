"""Check a working directory before a run: locks, permissions, time stamps."""

from __future__ import annotations

import csv
import os
import pwd
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nsdldm.support.errors import Finding
from nsdldm.support.listing import is_stray, list_files

# Seconds ahead of the clock that will have passed before the first job ends.
PATIENCE = 1
MOST_LISTED = 5


def describe_lock(state: Path | str) -> str:
    """Explain locks in a working directory, before Snakemake refuses to run.

    Parameters
    ----------
    state : str or Path
        Snakemake's own folder.

    Returns
    -------
    str
        Empty if there are no locks.
    """
    if not any(Path(state).glob("locks/*.lock")):
        return ""
    return (
        "Another run is active in this folder, or was killed. If it is no longer active, and none "
        "of its jobs are (pgrep -f .snakemake/scripts; on a cluster squeue), run snakemake "
        "--unlock and then the same command again."
    )


def find_resources(settings: Any, project: Path) -> Any:
    """Locate files that ship with the project, for a run in another folder.

    Parameters
    ----------
    settings : dict, list or object
        Settings, possibly nested.
    project : Path
        The project's folder.

    Returns
    -------
    dict, list or object
        The same, with texts that start with ``resources/`` replaced by paths from the working
        directory, unless they exist there.
    """
    if isinstance(settings, dict):
        return {key: find_resources(value, project) for key, value in settings.items()}
    if isinstance(settings, list):
        return [find_resources(value, project) for value in settings]
    shipped = isinstance(settings, str) and settings.startswith("resources/")
    # A relative path stays valid if both folders are moved.
    return (
        os.path.relpath(project / settings) if shipped and not Path(settings).exists() else settings
    )


def check_name(folder: Path | str) -> list[Finding]:
    """List what Snakemake cannot handle in the path of a project.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    list of Finding
        Blanks, quotes, brackets and the like are fine.
    """
    if not set("{}") & set(str(folder)):
        return []
    expected = "a project folder whose path has no braces, which Snakemake takes for names"
    remedy = "Move the project, or rename the folder"
    return [Finding(str(folder), expected, "one with braces", remedy)]


def find_other_source(path: Path | str, dataset: str) -> list[Finding]:
    """Find results of another dataset where a run would write its own.

    Parameters
    ----------
    path : str or Path
        The table that records the source of the results there; need not exist.
    dataset : str
        The run's own.

    Returns
    -------
    list of Finding
    """
    if not Path(path).is_file():
        return []
    with open(path, encoding="utf-8") as file:
        noted = next(csv.DictReader(file, delimiter="\t"), {})
    if noted.get("dataset", dataset) == dataset:
        return []
    found = f"those of dataset {noted['dataset']} ({noted.get('root')})"
    remedy = "Give this run a folder of its own with snakemake --directory (see docs/runs.md), or "
    remedy += "move these results elsewhere"
    return [Finding(str(path), f"results of dataset {dataset}, or none", found, remedy)]


def check_writable(folders: Iterable[Path | str]) -> list[Finding]:
    """List folders that are not writable.

    Parameters
    ----------
    folders : iterable of str or Path
        Non-existent ones stand for the folder in which they would be made.

    Returns
    -------
    list of Finding
    """
    expected = "a folder that can be written"
    findings = {}
    for folder in (Path(folder).absolute() for folder in folders):
        place = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
        if place.is_symlink() and not place.exists():
            found = f"a link to {os.readlink(place)}, where nothing is"
            remedy = "Mount the disk that holds it, make that folder, or remove the link"
        elif not place.is_dir():
            found, remedy = "a file", "Move it elsewhere"
        elif not os.access(place, os.W_OK | os.X_OK):
            found, remedy = "one that cannot", "Make it writable, or work in a copy of the project"
        else:
            continue
        findings[place] = Finding(str(place), expected, found, remedy)
    return list(findings.values())


def find_foreign(folders: Iterable[Path | str]) -> list[Finding]:
    """List files of other users below some folders that we cannot write.

    Snakemake overwrites outputs, benchmarks and its own records, and would only find out that it
    cannot after the job has ended.

    Parameters
    ----------
    folders : iterable of str or Path
        Non-existent folders have none.

    Returns
    -------
    list of Finding
        One for each of the other users.
    """
    blocked = {}
    for folder in folders:
        for place, names, files in os.walk(folder):
            names[:] = [name for name in names if not is_stray(name)]
            paths = [os.path.join(place, name) for name in files if not is_stray(name)]
            for path in [place, *paths]:
                if os.path.exists(path) and not os.access(path, os.W_OK):
                    blocked.setdefault(os.stat(path).st_uid, []).append(path)
    # Users who write-protect their own files mean it.
    blocked.pop(os.geteuid(), None)
    findings = []
    for user, paths in blocked.items():
        owner = _name_user(user)
        more = f", and so for {len(paths) - 1} more" if len(paths) > 1 else ""
        remedy = f"Ask {owner} to let your group write there (chmod -R g+w, and umask 002 for new "
        remedy += "files), or work in a copy of the project"
        found = f"one of the user {owner}, who does not let you{more}"
        findings.append(Finding(paths[0], "a file or folder that you can write", found, remedy))
    return findings


def _name_user(user):
    """A user's name, or the number if it has no name on this machine."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def find_late(paths: Iterable[Path | str]) -> list[Finding]:
    """Find inputs with time stamps ahead of the clock; files made from them would seem older.

    Parameters
    ----------
    paths : iterable of str or Path
        Files. For a link, its own time counts, as when Snakemake compares a job's outputs with its
        inputs.

    Returns
    -------
    list of Finding
        At most one, about all of them.
    """
    return _find_late(paths, "inputs", "give them the present time with touch; if you cannot,")


def find_late_results(folders: Iterable[Path | str]) -> list[Finding]:
    """The same for all files below some folders: the clock was set back after they were made."""
    paths = (path for folder in folders for path in list_files(folder, "**/*"))
    return _find_late(paths, "results", "bring them back to now in their order:")


def _find_late(paths, kind, mend):
    """Findings about files of one kind, with a remedy besides waiting."""
    now = time.time()
    stamps = {str(path): os.lstat(path).st_mtime for path in paths}
    late = {path: stamp - now for path, stamp in stamps.items() if stamp - now > PATIENCE}
    if not late:
        return []
    listed = sorted(late.items(), key=lambda item: -item[1])[:MOST_LISTED]
    found = ", ".join(f"{path} by {_span(ahead)}" for path, ahead in listed)
    if len(late) > len(listed):
        found += f" and {len(late) - len(listed)} more by less"
    remedy = f"Wait {_span(max(late.values()))}, or {mend} "
    remedy += "see Time stamps ahead of the clock in docs/faults.md"
    expected = "none ahead of this machine's clock"
    return [Finding(f"time stamps of {kind}", expected, found, remedy)]


def _span(seconds):
    """A time in words, to two digits or more."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.0f} s"

"""What must hold of a folder before a run starts in it: who works there, can we, since when."""

import fcntl
import os
import pwd
import socket
import time
from pathlib import Path

from nsdldm.support.errors import Finding
from nsdldm.support.listing import is_stray, list_files

# Seconds ahead of the clock that pass before a first job ends.
PATIENCE = 1
MOST_LISTED = 5
# Locks last as long as their files are open.
_HELD = []


def claim(path, note):
    """Share a lock with all who claim the same file, until this process ends.

    Parameters
    ----------
    path : str or Path
        The file to lock; made if missing. It holds the name of a host.
    note : bool
        Write this host's name, unless somebody else holds a claim.

    Returns
    -------
    bool
        True if nobody else holds a claim, and the host noted before was this one: on some network
        file systems a lock is only seen by processes of one host. False also where a file cannot
        be written or locked.
    """
    host = socket.gethostname()
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115, open for as long as we live
        _HELD.append(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        if alone:
            file.seek(0)
            alone = file.read() == host
            if note:
                file.truncate(0)
                file.write(host)
                file.flush()
        fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:
        return False
    return alone


def check_name(folder):
    """List what Snakemake cannot take in the path of a project.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    list of Finding
        Blanks, quotes, brackets and the like are none.
    """
    if not set("{}") & set(str(folder)):
        return []
    expected = "a project folder whose path has no braces, which Snakemake takes for names"
    remedy = "Move the project, or rename the folder"
    return [Finding(str(folder), expected, "one with braces", remedy)]


def check_writable(folders):
    """List folders in which nothing can be written.

    Parameters
    ----------
    folders : iterable of str or Path
        Those that do not exist stand for the folder that they would be made in.

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


def find_foreign(folders):
    """List what other users made below some folders and we cannot write.

    Snakemake notes a job's end, its benchmark and its outputs over those that are there, and finds
    out that it cannot when the job has ended.

    Parameters
    ----------
    folders : iterable of str or Path
        Those that do not exist have nothing.

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
    # Who takes the right to write from own files means it.
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
    """A user's name, or the number where it has none on this machine."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def find_late(paths):
    """Find inputs whose time stamps are ahead of the clock: what is made of them would seem older.

    Parameters
    ----------
    paths : iterable of str or Path
        Files. Of a link its own time counts, as it does where Snakemake compares a job's outputs
        with its inputs.

    Returns
    -------
    list of Finding
        At most one, about all of them.
    """
    now = time.time()
    stamps = {str(path): os.lstat(path).st_mtime for path in paths}
    late = {path: stamp - now for path, stamp in stamps.items() if stamp - now > PATIENCE}
    if not late:
        return []
    listed = sorted(late.items(), key=lambda item: -item[1])[:MOST_LISTED]
    found = ", ".join(f"{path} by {_span(ahead)}" for path, ahead in listed)
    if len(late) > len(listed):
        found += f" and {len(late) - len(listed)} more by less"
    remedy = f"Wait {_span(max(late.values()))}, or give them the present time with touch; "
    remedy += "if you cannot, see Time stamps ahead of the clock in docs/faults.md"
    expected = "none ahead of this machine's clock"
    return [Finding("time stamps of inputs", expected, found, remedy)]


def _span(seconds):
    """A time in words, to two digits or more."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.0f} s"


def mend_times(folders):
    """Bring modification times that lie in the future back to now, in their order.

    They come from a clock that was set back, and everything made after them would seem older.

    Parameters
    ----------
    folders : iterable of str or Path
        All files below them are looked at.

    Returns
    -------
    int
        Number of files whose time was changed.
    """
    now = time.time_ns()
    files = (path for folder in folders for path in list_files(folder, "**/*"))
    late = {path: stamp for path in files if (stamp := path.stat().st_mtime_ns) > now}
    # What was made at the same time stays so.
    stamps = sorted(set(late.values()), reverse=True)
    mended = {stamp: now - 1000 * number for number, stamp in enumerate(stamps)}
    for path, stamp in sorted(late.items(), key=lambda item: item[1]):
        try:
            os.utime(path, ns=(mended[stamp], mended[stamp]))
        except PermissionError:
            os.utime(path)  # Another user's file that we may write can only be given this moment.
    return len(late)

"""What must hold of a folder before a run starts in it: who works there, can we, since when."""

import fcntl
import os
import socket
import time
from pathlib import Path

from nsdldm.errors import Finding

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
    remedy = "Make it writable, or work in a copy of the project"
    findings = {}
    for folder in (Path(folder).absolute() for folder in folders):
        place = next(place for place in (folder, *folder.parents) if place.exists())
        if not os.access(place, os.W_OK | os.X_OK):
            findings[place] = Finding(
                str(place), "a folder that can be written", "one that cannot", remedy
            )
    return list(findings.values())


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
    files = (path for folder in folders for path in Path(folder).rglob("*") if path.is_file())
    late = {path: stamp for path in files if (stamp := path.stat().st_mtime_ns) > now}
    # What was made at the same time stays so.
    stamps = sorted(set(late.values()), reverse=True)
    mended = {stamp: now - 1000 * number for number, stamp in enumerate(stamps)}
    for path, stamp in late.items():
        os.utime(path, ns=(mended[stamp], mended[stamp]))
    return len(late)

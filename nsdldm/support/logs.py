"""Logging to files and to the terminal."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from nsdldm.support.errors import CALLED, InputError, write_arguments

logger = logging.getLogger(__name__)

# Environment variable with which only warnings and errors go to the terminal.
QUIET = "NSDLDM_QUIET"


class _Formatter(logging.Formatter):
    """Lines that start with the time, and name arguments as the caller of the script does."""

    def __init__(self):
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")
        known = json.loads(os.environ.get(CALLED, "{}"))
        # Snakemake runs a copy of the script, tmp1234.fit_decoders.py.
        script = Path(sys.argv[0]).stem.rpartition(".")[2]
        self.names = known.get("", {}) | known.get(script, {})

    def formatMessage(self, record):
        return write_arguments(super().formatMessage(record), self.names)


@contextmanager
def logged(path: Path | str) -> Iterator[None]:
    """Send the log of everything inside to a file and to stderr; a failure ends the process.

    With NSDLDM_QUIET in the environment, stderr gets warnings and errors only.

    Arguments in backticks are replaced by the names in the environment variable NSDLDM_ARGUMENTS.

    Unusable inputs are logged as findings, any other error as one line that names a file with the
    traceback. With NSDLDM_VERBOSE=1 in the environment, tracebacks are logged too.

    Parameters
    ----------
    path : str or Path
        The log file, overwritten.

    Raises
    ------
    SystemExit
        With status 1, instead of an exception in the block.
    """
    traceback_file = Path(path).with_suffix(".traceback")
    root = logging.getLogger()
    # On a full disk, every log line would print a traceback to stderr.
    logging.raiseExceptions = False
    handlers = [logging.StreamHandler(sys.stderr)]
    if os.environ.get(QUIET):
        handlers[0].setLevel(logging.WARNING)
    with suppress(OSError):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        traceback_file.unlink(missing_ok=True)
        handlers.append(logging.FileHandler(path, mode="w"))
    for handler in handlers:
        handler.setFormatter(_Formatter())
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    # These libraries log routine work at INFO, for every model file or figure.
    for chatty in ("httpx", "matplotlib", "PIL", "fontTools", "nibabel"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        yield
    except Exception as error:
        verbose = os.environ.get("NSDLDM_VERBOSE", "0") not in ("", "0")
        root.error(_describe_failure(error, traceback_file), exc_info=verbose)
        sys.exit(1)
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            with suppress(OSError):
                handler.close()


def _describe_failure(error, path):
    """Log what a user needs to know; tracebacks of unforeseen errors go to a file."""
    if isinstance(error, InputError):
        return str(error)
    message = str(error).partition("\n")[0]
    said = ": ".join(filter(None, [type(error).__name__, message]))
    with suppress(OSError):
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return f"{said}. Where it happened is in {path}; NSDLDM_VERBOSE=1 shows it here."


def progress(items: Iterable, total: int, label: str, every: float = 30.0) -> Iterator[object]:
    """Iterate with a progress bar on a terminal, and occasional plain log lines elsewhere.

    Parameters
    ----------
    items : iterable
    total : int
        Number of items.
    label : str
    every : float
        Minimum time between two log lines, in seconds.

    Yields
    ------
    object
        The items.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=label, leave=False)
        return
    start = said = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - said >= every or done == total:
            said = now
            logger.info("%s: %d of %d in %.0f s", label, done, total, now - start)

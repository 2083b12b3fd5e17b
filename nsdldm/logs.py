"""Log lines for files and people."""

import logging
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

logger = logging.getLogger(__name__)


@contextmanager
def logged(path):
    """Send the log of everything inside to a file and to stderr; a failure is logged whole.

    Parameters
    ----------
    path : str or Path
        The log file, overwritten.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger()
    handlers = [logging.FileHandler(path, mode="w"), logging.StreamHandler(sys.stderr)]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    # These libraries report routine work at INFO, once a model file or figure.
    for chatty in ("httpx", "matplotlib", "PIL", "fontTools", "nibabel"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        yield
    except Exception:
        # The file gets the traceback; Snakemake shows the exception itself on stderr.
        handlers[0].handle(
            root.makeRecord(
                root.name, logging.ERROR, __file__, 0, "failed", (), exc_info=sys.exc_info()
            )
        )
        raise
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


def progress(items, total, label, every=30.0):
    """Iterate with a progress bar on a terminal and a plain log line now and then elsewhere.

    Parameters
    ----------
    items : iterable
    total : int
        Number of items.
    label : str
    every : float
        Least time between two log lines, in seconds.

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

"""Arrays that a job fills piece by piece, and continues after it was killed. Light imports."""

from __future__ import annotations

import json
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np

from nsdldm.support.files import create_array, load_array, replacing
from nsdldm.support.listing import list_files

logger = logging.getLogger(__name__)

LEDGER = "ledger.json"


def record_done(folder: Path | str, key: str, done: int) -> None:
    """Record how much of a partial run is complete; call after flushing it."""
    with replacing(Path(folder) / LEDGER) as part, part.open("w") as file:
        json.dump({"key": key, "done": int(done)}, file)
        file.flush()
        os.fsync(file.fileno())


def read_done(folder: Path | str, key: str) -> int | None:
    """Read what `record_done` recorded.

    Parameters
    ----------
    folder : str or Path
    key : str
        Identifies settings and inputs.

    Returns
    -------
    int or None
        None if nothing was recorded, it cannot be read, or it was recorded under another key.
    """
    try:
        ledger = json.loads((Path(folder) / LEDGER).read_text())
        if ledger["key"] == key:
            return int(ledger["done"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s: discarded, since it cannot be read (%s)", folder, error)
        return None
    logger.info("%s: discarded, since it belongs to other settings or inputs", folder)
    return None


def open_parts(
    folder: Path | str, shapes: dict[str, tuple[int, ...]], key: str
) -> tuple[dict[str, Path], int]:
    """Open the arrays that an interrupted run left, or start new ones.

    `record_done` records how far they are filled.

    Parameters
    ----------
    folder : str or Path
        Made if missing; contains nothing else.
    shapes : dict of str to tuple of int
        Full shape of every array; the first axis is what `record_done` counts.
    key : str
        Identifies settings and inputs. Work with another key is discarded.

    Returns
    -------
    files : dict of str to Path
        The arrays, float32.
    done : int
        The last record; 0 at first.
    """
    folder = Path(folder)
    files = {name: folder / f"{name}.npy" for name in shapes}
    done = read_done(folder, key)
    if done is not None and _fit(files, shapes):
        logger.info("%s: continuing after %d", folder, done)
        return files, done
    remove_parts(folder)
    for name, path in files.items():
        with create_array(path, shapes[name], np.float32):
            pass
    record_done(folder, key, 0)
    return files, 0


def _fit(files, shapes):
    """Whether all arrays can be read and have the right shapes."""
    try:
        arrays = {name: load_array(path) for name, path in files.items()}
        return all(array.shape == tuple(shapes[name]) for name, array in arrays.items())
    except (OSError, ValueError) as error:
        logger.warning("discarded, since it cannot be read (%s)", error)
        return False


def remove_parts(folder: Path | str) -> None:
    """Remove what `open_parts` made, and the folder if it is then empty."""
    folder = Path(folder)
    # Remove the record first: arrays without one are never continued.
    for path in (folder / LEDGER, *list_files(folder, "*.npy"), *folder.glob(".part-*")):
        path.unlink(missing_ok=True)
    # Stray system files keep the folder, which then holds nothing of ours.
    with suppress(OSError):
        folder.rmdir()


def finish_parts(
    folder: Path | str, files: dict[str, Path], outputs: dict[str, Path | str]
) -> None:
    """Give complete arrays their final names, and remove the folder of work in progress.

    Parameters
    ----------
    folder : str or Path
    files : dict of str to Path
        As `open_parts` returns them.
    outputs : dict of str to str or Path
    """
    for name, path in files.items():
        with replacing(outputs[name]) as part:
            shutil.move(path, part)
    remove_parts(folder)

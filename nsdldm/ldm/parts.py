"""Files of feature spaces, filled part by part and joined. Light imports: no networks."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np

from nsdldm.errors import Finding, InputError, reading
from nsdldm.files import create_array, load_array, load_table, replacing
from nsdldm.ldm.chunks import LEDGER, chunk_rows, record_done

logger = logging.getLogger(__name__)

# Rows copied at once: 15 MB of Stable Diffusion's c.
ROWS = 64


def plan_bytes(n_images, shapes):
    """Size of the feature spaces on disk, without the 128 bytes of a file's header.

    Parameters
    ----------
    n_images : int
    shapes : dict of str to tuple of int
        Shape of one image's numbers in each space.

    Returns
    -------
    dict of str to int
        Bytes of each space as float32.
    """
    return {name: 4 * n_images * int(np.prod(shape)) for name, shape in shapes.items()}


def read_rows(path, rows):
    """Copy rows of a ``.npy`` file as float32.

    The file is mapped anew every time: pages of a map that stays open pile up in memory.
    """
    return np.array(load_array(path)[rows], np.float32)


def write_rows(path, rows, values):
    """Overwrite rows of a ``.npy`` file, which is mapped anew as in `read_rows`."""
    array = np.load(path, mmap_mode="r+", allow_pickle=False)
    array[rows] = values
    array.flush()


def row_blocks(n, size=ROWS):
    """Consecutive slices of at most `size` of n rows."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def open_parts(folder, shapes, key):
    """Open the arrays that an interrupted run left, or begin anew.

    `nsdldm.ldm.chunks.record_done` notes how far they are filled.

    Parameters
    ----------
    folder : str or Path
        Made if missing; holds nothing else.
    shapes : dict of str to tuple of int
        Whole shape of every array, the images first.
    key : str
        Identifies settings and inputs. Work under another key is discarded.

    Returns
    -------
    files : dict of str to Path
        float32 arrays.
    done : int
        Number of images that are there already.
    """
    folder = Path(folder)
    files = {name: folder / f"{name}.npy" for name in shapes}
    done = _read_done(folder, files, shapes, key)
    if done is not None:
        logger.info("%s: going on after %d images", folder, done)
        return files, done
    remove_parts(folder)
    for name, path in files.items():
        with create_array(path, shapes[name], np.float32):
            pass
    record_done(folder, key, 0)
    return files, 0


def _read_done(folder, files, shapes, key):
    """How many images an interrupted run left, or None if that is nothing of use."""
    try:
        ledger = json.loads((folder / LEDGER).read_text())
        fits = ledger["key"] == key and all(
            load_array(path).shape == tuple(shapes[name]) for name, path in files.items()
        )
        done = int(ledger["done"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s: discarded, since it cannot be read (%s)", folder, error)
        return None
    if not fits:
        logger.info("%s: discarded, since it belongs to other settings or inputs", folder)
        return None
    return done


def remove_parts(folder):
    """Remove what `open_parts` made, and the folder if that was all it held."""
    folder = Path(folder)
    # The ledger first: arrays without one are never taken up.
    for path in (folder / LEDGER, *folder.glob("*.npy"), *folder.glob(".part-*")):
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def finish_parts(folder, files, outputs):
    """Give complete arrays their final names and remove the folder of the work in progress.

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


def gather_features(*, chunks, images, outputs):
    """Join the chunks of feature spaces, a few rows at a time.

    Parameters
    ----------
    chunks : dict of list of path
        For each space, files of `nsdldm.ldm.activations.collect_trajectories` in the order of
        their numbers.
    images : path
        Table of images.
    outputs : dict of path
        For each space, a float32 array with a row an image of the table.

    Raises
    ------
    InputError
        A chunk that cannot be read, has not the rows of its place, or another shape or type than
        the first.
    """
    n = len(load_table(images))
    for space, paths in chunks.items():
        shape = _check_chunks(paths, n)
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, *shape)}
        with replacing(outputs[space]) as part, part.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for path in paths:
                for rows in row_blocks(len(load_array(path))):
                    file.write(read_rows(path, rows).tobytes())
        logger.info("%s: %d chunks, shape %s", space, len(paths), (n, *shape))


def _check_chunks(paths, n):
    """Shape of a row of the chunks of one space."""
    shape = None
    for number, path in enumerate(paths):
        with reading(path, "a chunk of features as .npy"):
            array = load_array(path)
        rows = chunk_rows(n, number, len(paths))
        shape = shape or array.shape[1:]
        expected = (rows.stop - rows.start, *shape)
        if array.shape != expected or array.dtype != np.float32:
            expected = f"float32 of shape {expected}, as chunk {number} of {len(paths)} has"
            remedy = "Give all chunks of one space in order; make again what is out of date"
            found = f"{array.dtype} of shape {array.shape}"
            raise InputError(Finding(str(path), expected, found, remedy))
    return shape

"""Read the release's pictures."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nsdldm.nsd.hdf5 import open_dataset
from nsdldm.nsd.layout import IMAGE_PIXELS
from nsdldm.nsd.remote import find_version
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import create_hdf5, load_table, open_hdf5, replacing
from nsdldm.support.logs import progress
from nsdldm.support.resume import read_done, record_done, remove_parts

if TYPE_CHECKING:
    import h5py

logger = logging.getLogger(__name__)

DATASET = "imgBrick"
# Only in copies of some pictures: their ids.
NUMBERS = "nsd_id"
PICTURE = (IMAGE_PIXELS, IMAGE_PIXELS, 3)
# Number of pictures between two records of progress.
NOTED = 100


@contextmanager
def open_stimuli(path: Path | str, storage: dict | None = None) -> Iterator[h5py.Dataset]:
    """Open the picture file of the release.

    Parameters
    ----------
    path : str or Path
        ``nsd_stimuli.hdf5``, or its address in a bucket; only what is read is transferred.
    storage : dict, optional
        How to read a bucket, as `nsdldm.nsd.remote.connect` takes it.

    Yields
    ------
    h5py.Dataset
        uint8 of shape (n_images, 425, 425, 3): rows, columns and RGB of the pictures, indexed by
        0-based NSD id, or as the file's `NUMBERS` say.

    Raises
    ------
    InputError
        The file is missing, truncated, or of another shape or dtype.
    """
    with open_dataset(path, DATASET, storage) as dataset:
        with reading(path, f"an HDF5 file with the dataset {DATASET}"):
            shape, dtype = dataset.shape, dataset.dtype
        if len(shape) != 4 or shape[1:] != PICTURE or dtype != np.uint8:
            expected = f"uint8 of shape {('n', *PICTURE)} in {DATASET}".replace("'", "")
            found = f"{dtype} of shape {shape}"
            remedy = "Use nsd_stimuli.hdf5 of the release"
            raise InputError(Finding(str(path), expected, found, remedy))
        yield dataset


def read_images(
    path: Path | str | Sequence[Path | str], nsd_ids: Sequence[int], storage: dict | None = None
) -> Iterator[np.ndarray]:
    """Iterate over pictures in the order requested, with one in memory at a time.

    Parameters
    ----------
    path : str, Path or list of them
        ``nsd_stimuli.hdf5``, its address in a bucket, or the output of `fetch_stimuli`. If several
        are given, each picture is read from the first that has it.
    nsd_ids : sequence of int
        0-based NSD ids, in any order; repeats are allowed.
    storage : dict, optional
        How to read a bucket, as `nsdldm.nsd.remote.connect` takes it.

    Yields
    ------
    uint8 array of shape (425, 425, 3)
        Rows, columns, RGB.

    Raises
    ------
    InputError
        A file cannot be used, or an id is in none of them.
    """
    paths = [path] if isinstance(path, str | Path) else path
    nsd_ids = np.asarray(nsd_ids, dtype=np.int64).tolist()
    with ExitStack() as stack:
        places = {}
        for each in reversed(paths):
            dataset = stack.enter_context(open_stimuli(each, storage))
            rows = _list_rows(each, dataset)
            places |= {
                number: (each, dataset, rows[number]) for number in nsd_ids if number in rows
            }
        outside = [number for number in nsd_ids if number not in places]
        if outside:
            raise InputError(outside_stimuli(", ".join(map(str, paths)), outside, len(rows)))
        for number in nsd_ids:
            where, dataset, row = places[number]
            # One by one: HDF5 spends far more time on selecting a list of indices than on reading.
            with reading(where, "pictures"):
                picture = dataset[row]
            yield picture


def _list_rows(path, dataset):
    """Index of each picture by its NSD id."""
    if NUMBERS not in dataset.file:
        return range(len(dataset))
    with reading(path, f"numbers of pictures in {NUMBERS}"):
        return {int(number): row for row, number in enumerate(dataset.file[NUMBERS][:])}


def fetch_stimuli(
    *, stimuli: str, images: Path | str, output: Path | str, partial: Path | str, storage: dict
) -> None:
    """Copy the pictures that a subject saw from a bucket.

    Only 0.54 MB per picture and the file's index are transferred, not the whole 37 GB. An
    interrupted run continues after the last hundred pictures.

    Parameters
    ----------
    stimuli : str
        Address of ``nsd_stimuli.hdf5``.
    images : str or Path
        Table of images with the column nsd_id.
    output : str or Path
        HDF5 with the datasets imgBrick, uint8 (n_images, 425, 425, 3), and nsd_id, int64
        (n_images,), in the order of the table.
    partial : str or Path
        Folder for work in progress, removed at the end.
    storage : dict
        How to read the bucket, as `nsdldm.nsd.remote.connect` takes it.

    Raises
    ------
    InputError
        As `read_images`, or the connection breaks.
    """
    nsd_ids = load_table(images)["nsd_id"].to_numpy(np.int64)
    version = json.dumps([find_version(stimuli, storage), nsd_ids.tolist()])
    key = hashlib.sha256(version.encode()).hexdigest()
    partial = Path(partial)
    copy = partial / "stimuli.hdf5"
    done = read_done(partial, key) if copy.exists() else None
    if done is None:
        remove_parts(partial)
        _create_copy(copy, nsd_ids)
        done = 0
    with open_hdf5(copy) as file:
        place = file[DATASET].id.get_offset()
    left = nsd_ids[done:]
    fetched = progress(read_images(stimuli, left, storage), len(left), "pictures")
    # Not through HDF5, whose files do not survive a kill while they are open for writing.
    with open(copy, "r+b") as stream:
        stream.seek(place + done * math.prod(PICTURE))
        for row, picture in enumerate(fetched, done):
            stream.write(picture.tobytes())
            if (row + 1) % NOTED == 0:
                stream.flush()
                record_done(partial, key, row + 1)
    with replacing(output) as part:
        copy.rename(part)
    remove_parts(partial)


def _create_copy(path, nsd_ids):
    """Make an HDF5 file with the ids of pictures and space for the pictures."""
    shape = (len(nsd_ids), *PICTURE)
    with create_hdf5(path, math.prod(shape)) as file:
        file[NUMBERS] = nsd_ids
        dataset = file.create_dataset(DATASET, shape, np.uint8)
        # Space is only allocated when something is written.
        dataset[-1] = 0


def outside_stimuli(path: Path | str, outside: Sequence[int], n_images: int) -> Finding:
    """Describe image ids that the picture file does not have.

    Parameters
    ----------
    path : str or Path
    outside : sequence of int
        0-based NSD ids.
    n_images : int
        Number of pictures in the file.

    Returns
    -------
    Finding
    """
    return Finding(
        str(path),
        f"pictures with NSD ids from 0 to {n_images - 1}",
        f"{len(outside)} images outside, such as {outside[0]}",
        "Use responses and pictures of the same release",
    )

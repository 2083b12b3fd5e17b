"""Open the release's HDF5 files, on disk or in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py

from nsdldm.nsd.remote import is_remote, open_ranges
from nsdldm.support.errors import Unexpected, reading
from nsdldm.support.files import open_hdf5


@contextmanager
def open_dataset(
    path: Path | str, name: str, storage: dict | None = None
) -> Iterator[h5py.Dataset]:
    """Open the only array of a file.

    Parameters
    ----------
    path : str or Path
        A file or the address of an object; only what is read is transferred.
    name : str
    storage : dict, optional
        How to read a bucket, as `nsdldm.nsd.remote.connect` takes it.

    Yields
    ------
    h5py.Dataset

    Raises
    ------
    InputError
        The file is missing or truncated, or has no such array.
    """
    with ExitStack() as stack:
        with reading(path, f"an HDF5 file with the dataset {name}"):
            source = stack.enter_context(open_ranges(path, storage)) if is_remote(path) else path
            dataset = stack.enter_context(open_hdf5(source))[name]
            if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
                raise Unexpected(f"{name} that is no array")
        yield dataset

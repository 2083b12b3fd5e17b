"""Read, write and join files of feature spaces by rows. Imports are light: no networks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nsdldm.support.chunks import chunk_rows
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array, load_table, replacing

logger = logging.getLogger(__name__)

# Rows copied at once: 15 MB of Stable Diffusion's c.
ROWS = 64


def plan_bytes(n_images: int, kinds: dict[str, tuple[tuple[int, ...], np.dtype]]) -> dict[str, int]:
    """Size of the feature spaces on disk, without the 128 bytes of a file's header.

    Parameters
    ----------
    n_images : int
    kinds : dict of str to (tuple of int, dtype)
        Shape and dtype of one image's features in each space.

    Returns
    -------
    dict of str to int
        Bytes of each space.
    """
    return {
        name: np.dtype(dtype).itemsize * n_images * int(np.prod(shape))
        for name, (shape, dtype) in kinds.items()
    }


def read_rows(path: Path | str, rows: np.ndarray) -> np.ndarray:
    """Copy rows of a ``.npy`` file as float32 of shape (n_rows, ...).

    The file is remapped every time, because pages of a map that stays open pile up in memory.
    """
    return np.array(load_array(path)[rows], np.float32)


def write_rows(path: Path | str, rows: slice, values: np.ndarray) -> None:
    """Overwrite rows of a ``.npy`` file, remapped as in `read_rows`."""
    array = np.load(path, mmap_mode="r+", allow_pickle=False)
    array[rows] = values
    array.flush()


def row_blocks(n: int, size: int = ROWS) -> Iterator[slice]:
    """Consecutive slices of at most `size` of n rows."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def group_chunks(spaces: list[str], paths: list[Path | str]) -> dict[str, list[Path | str]]:
    """Group the files of chunks by feature space.

    Parameters
    ----------
    spaces : sequence of str
    paths : sequence of path
        All chunks of the first space in order, then those of the next.

    Returns
    -------
    dict of str to list of path

    Raises
    ------
    ValueError
        The files cannot be divided evenly among the spaces.
    """
    n, rest = divmod(len(paths), len(spaces))
    if rest:
        raise ValueError(f"{len(paths)} chunks of {len(spaces)} spaces")
    return {space: list(paths[n * k : n * (k + 1)]) for k, space in enumerate(spaces)}


def gather_features(
    *, chunks: dict[str, list[Path | str]], images: Path | str, outputs: dict[str, Path | str]
) -> None:
    """Join the chunks of feature spaces, a few rows at a time.

    Parameters
    ----------
    chunks : dict of list of path
        For each space, files of `nsdldm.features.trajectories.denoise_latents` in the order of
        their numbers.
    images : path
        Table of images.
    outputs : dict of path
        For each space, a float32 array with a row per image of the table.

    Raises
    ------
    InputError
        A chunk cannot be read, does not have the expected rows, or differs from the first in shape
        or dtype.
    """
    n = len(load_table(images))
    for space, paths in chunks.items():
        shape = check_chunks(paths, n)
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, *shape)}
        with replacing(outputs[space]) as part, part.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for path in paths:
                for rows in row_blocks(len(load_array(path))):
                    file.write(read_rows(path, rows).tobytes())
        logger.info("%s: %d chunks, shape %s", space, len(paths), (n, *shape))


def load_field(path: Path | str, field: str | None = None) -> np.ndarray:
    """Open a ``.npy`` file, or one of the arrays in it if it has several under names.

    Parameters
    ----------
    path : path
    field : str, optional
        Name of the array, for a file of structured dtype.

    Returns
    -------
    memory-mapped array of shape (n_rows, ...), of the file's dtype

    Raises
    ------
    InputError
        The file is missing or damaged, or has no such array.
    """
    array = load_array(path)
    if field is None:
        return array
    if field not in (array.dtype.names or ()):
        found = ", ".join(array.dtype.names or ["none"])
        raise InputError(Finding(str(path), f"an array {field}", found, "Compute the file again"))
    return array[field]


def check_chunks(
    paths: list[Path | str],
    n: int,
    dtypes: tuple[type, ...] = (np.float32,),
    field: str | None = None,
) -> tuple[int, ...]:
    """Check that the chunks of one space are complete, in order and consistent.

    Parameters
    ----------
    paths : list of path
        In the order of their numbers.
    n : int
        Images of all chunks.
    dtypes : sequence of dtype
        Allowed dtypes; all chunks must have the same.
    field : str, optional
        As `load_field` takes it.

    Returns
    -------
    tuple of int
        Shape of a row.

    Raises
    ------
    InputError
        A chunk cannot be read, does not have the expected rows, or differs from the first in shape
        or dtype.
    """
    shape, allowed = None, tuple(map(np.dtype, dtypes))
    for number, path in enumerate(paths):
        array = load_field(path, field)
        rows = chunk_rows(n, number, len(paths))
        shape = shape or array.shape[1:]
        expected = (rows.stop - rows.start, *shape)
        if array.shape != expected or array.dtype not in allowed:
            kind = " or ".join(map(str, allowed))
            expected = f"{kind} of shape {expected}, as chunk {number} of {len(paths)} has"
            remedy = "Give all chunks of one space in order; make again what is out of date"
            found = f"{array.dtype} of shape {array.shape}"
            raise InputError(Finding(str(path), expected, found, remedy))
        allowed = (array.dtype,)
    return shape

"""Read the release's MATLAB files."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from scipy.io import loadmat, whosmat

from nsdldm.support.errors import Unexpected, reading

# Types of elements, the last type that exists, and a size far beyond that of the release's files.
MATRIX, COMPRESSED, LAST_TYPE, MOST_BYTES = 14, 15, 18, 2**26
NUMERIC, IS_COMPLEX = range(6, 16), 0x800


def read_variable(path: Path | str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read one variable of a MATLAB file.

    Parameters
    ----------
    path : str or Path
        Of version 5, as MATLAB writes unless told otherwise.
    name : str
    shape : tuple of int
        The shape that it must have.

    Returns
    -------
    array of this shape
        Of its own type; of objects if it is a cell array.

    Raises
    ------
    InputError
        The file is missing or damaged, or its variable has another shape.
    """
    expected = f"a MATLAB file with {name} of shape {shape}"
    with reading(path, expected, small=True), open(path, "rb") as stream:
        listed = {each: size for each, size, _ in whosmat(stream)}
        stream.seek(0)
        check_elements(stream.read(MOST_BYTES))
        if listed.get(name) != shape:
            raise Unexpected(
                f"{name} of shape {listed[name]}" if name in listed else "no such name"
            )
        stream.seek(0)
        return loadmat(stream, variable_names=[name])[name]


def check_elements(content: bytes) -> None:
    """Refuse data types that MATLAB does not have, because they crash the interpreter in scipy
    1.17.

    Parameters
    ----------
    content : bytes
        Of a whole file.

    Raises
    ------
    Unexpected
        The file is damaged, or of another version of MATLAB.
    """
    order = {b"IM": "little", b"MI": "big"}.get(content[126:128])
    if order is None:
        raise Unexpected("a file of another version of MATLAB")
    for kind, data in _list_elements(content[128:], order):
        if kind == COMPRESSED:
            unpacked = zlib.decompressobj().decompress(data, MOST_BYTES)
            kind, data = next(_list_elements(unpacked, order), (MATRIX, b""))
        _check_matrix(data, order)


def _check_matrix(data, order):
    """Check the parts of an array, and every array in a cell array."""
    parts = list(_list_elements(data, order))
    flags = int.from_bytes(parts[0][1][:4], order) if parts else 0
    # Flags, shape, name and numbers; complex ones have imaginary parts too.
    if len(parts) < (5 if flags & IS_COMPLEX else 4) and flags & 0xFF in NUMERIC:
        raise Unexpected("damaged data")
    for kind, inner in parts:
        if kind == MATRIX:
            _check_matrix(inner, order)


def _list_elements(content, order):
    """Yield type and content of each element of a MATLAB file, or of one of its elements."""
    place = 0
    while place + 8 <= len(content):
        kind, size = (int.from_bytes(content[place + i : place + i + 4], order) for i in (0, 4))
        # Only compressed elements are not padded.
        start, end = place + 8, place + 8 + size + (0 if kind == COMPRESSED else -size % 8)
        if kind >> 16:  # so few bytes that they stand in the tag itself
            kind, size, start, end = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        if not 1 <= kind <= LAST_TYPE or start + size > min(end, len(content)):
            raise Unexpected("damaged data")
        yield kind, content[start : start + size]
        place = end

"""Contiguous parts of the images, each processed by a separate job. Light imports."""

from __future__ import annotations

from nsdldm.support.errors import Finding, InputError


def chunk_rows(n: int, chunk: int, n_chunks: int) -> slice:
    """Rows of one of several contiguous parts whose sizes differ by at most one.

    Parameters
    ----------
    n : int
        Number of images.
    chunk, n_chunks : int
        Index of the part, from 0, and number of parts.

    Returns
    -------
    slice

    Raises
    ------
    InputError
        There are more parts than images.
    """
    if n_chunks > n:
        remedy = "Lower the number of chunks"
        expected = f"at most {n}, one a test image"
        raise InputError(Finding("`n_chunks`", expected, str(n_chunks), remedy))
    return slice(n * chunk // n_chunks, n * (chunk + 1) // n_chunks)

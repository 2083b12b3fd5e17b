"""Contiguous parts of the images, each made by a job of its own. Light imports."""

from __future__ import annotations

from nsdldm.support.errors import Finding, InputError


def chunk_rows(n: int, chunk: int, n_chunks: int) -> slice:
    """Rows of one of several contiguous parts whose sizes differ by one at most.

    Parameters
    ----------
    n : int
        Number of images.
    chunk, n_chunks : int
        0-based number of the part, and number of parts.

    Returns
    -------
    slice

    Raises
    ------
    InputError
        More parts than images.
    """
    if n_chunks > n:
        remedy = "Lower the number of chunks"
        expected = f"at most {n}, one a test image"
        raise InputError(Finding("`n_chunks`", expected, str(n_chunks), remedy))
    return slice(n * chunk // n_chunks, n * (chunk + 1) // n_chunks)

"""Read whole numbers such as labels and vertices; the only module that decides what is whole."""

from __future__ import annotations

import numpy as np

from nsdldm.support.errors import Unexpected

# A slope in the header turns 5 into 4.9999; values further away were interpolated.
TOLERANCE = 1e-3
LARGEST = 2**31


def round_whole(values: np.ndarray, what: str) -> np.ndarray:
    """Round numbers that must be whole.

    Parameters
    ----------
    values : float array of any shape
        Each within 1e-3 of a whole number.
    what : str
        What they are, for the message.

    Returns
    -------
    int32 array of the same shape

    Raises
    ------
    Unexpected
        A number is not whole; it is in the message.
    """
    values = np.asarray(values)
    with np.errstate(invalid="ignore"):
        wrong = ~((np.abs(values - np.rint(values)) <= TOLERANCE) & (np.abs(values) < LARGEST))
    if wrong.any():
        raise Unexpected(f"{what} {values[wrong].flat[0]:.5g}")
    return np.rint(values).astype(np.int32)

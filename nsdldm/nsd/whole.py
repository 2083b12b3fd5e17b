"""Numbers that count: labels, vertices. One place that says which are whole."""

from __future__ import annotations

import numpy as np

from nsdldm.support.errors import Unexpected

# A slope in the header leaves 4.9999 for 5; what lies further away was interpolated.
TOLERANCE = 1e-3
LARGEST = 2**31


def round_whole(values: np.ndarray, what: str) -> np.ndarray:
    """Read numbers as whole ones.

    Parameters
    ----------
    values : array
        Each within 1e-3 of a whole number.
    what : str
        What they are, to say so.

    Returns
    -------
    int32 array of the same shape

    Raises
    ------
    Unexpected
        Another number is among them, which is shown.
    """
    values = np.asarray(values)
    with np.errstate(invalid="ignore"):
        wrong = ~((np.abs(values - np.rint(values)) <= TOLERANCE) & (np.abs(values) < LARGEST))
    if wrong.any():
        raise Unexpected(f"{what} {values[wrong].flat[0]:.5g}")
    return np.rint(values).astype(np.int32)

"""Which subsets of feature spaces are fitted to divide variance among them. No heavy imports."""

from __future__ import annotations

from itertools import combinations

from nsdldm.support.errors import Finding, InputError

# Spaces of a model; of up to so many, all subsets are fitted.
MOST, COMPLETE = 6, 3


def list_subsets(spaces: list[str]) -> list[tuple[str, ...]]:
    """List the models that are fitted, the smallest first.

    Parameters
    ----------
    spaces : list of str

    Returns
    -------
    list of tuple of str
        Every subset of up to three spaces; of more, each alone, all but each, and all.

    Raises
    ------
    InputError
        Fewer than two spaces or more than six, or one twice.
    """
    n = len(spaces)
    if not 2 <= n <= MOST or len({*spaces}) < n:
        expected, found = f"two to {MOST} different spaces", ", ".join(spaces) or "none"
        raise InputError(Finding("`spaces`", expected, found, "Correct them"))
    sizes = range(1, n + 1) if n <= COMPLETE else sorted({1, n - 1, n})
    return [subset for size in sizes for subset in combinations(spaces, size)]

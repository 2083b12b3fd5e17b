"""How many steps a share of a reverse process is.

Standard library only, since names of feature spaces depend on it, which the Snakefile makes.
"""

from __future__ import annotations


def count_steps(steps: int, share: float) -> int:
    """Steps in a share of a chain, rounded down as in diffusers' image-to-image, but at least 1.

    Nothing is done about binary fractions there: 0.29 of 100 steps are 28.
    """
    return max(min(int(steps * share), steps), 1)

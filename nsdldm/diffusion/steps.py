"""Number of steps in a fraction of the reverse process.

Standard library only, since names of feature spaces depend on it, which the Snakefile makes.
"""

from __future__ import annotations


def count_steps(steps: int, share: float) -> int:
    """Steps in a fraction of a chain, rounded down as in diffusers' image-to-image; at least 1.

    As there, binary fractions are not corrected: 0.29 of 100 steps is 28.
    """
    return max(min(int(steps * share), steps), 1)

"""One sentence for a score, made from its numbers alone.

A score is above chance if its whole interval is, and below if its whole interval is. Where chance
is 0, as of correlations, sentences say so, since without a brain they may well be above 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# Scores that are not compared with chance, and what their value is a share of.
SHARES = {
    "category-share": "of the margin above chance is lost among images of the same group",
    "share_fdr": "of voxels are significant by the false discovery rate",
    "share_fwe": "of voxels are significant family-wise",
}


def read_row(row: Mapping) -> str:
    """Say in a sentence what a score is worth.

    Parameters
    ----------
    row : mapping
        value, low, high and chance; and if there are any: score, and normalised with
        normalised_low and normalised_high, the share of the way from chance to the ceiling.
        Missing numbers are NaN.

    Returns
    -------
    str
        Such as "Above chance: 0.83 (0.80 to 0.86; chance 0.50), 71 % of the way to the ceiling."
    """
    if not np.isfinite(row["value"]):
        return "Not known."
    for ending, words in SHARES.items():
        if str(row.get("score", "")).endswith(ending):
            return f"{_write_share(row)} {words}."
    numbers, chance = _write_numbers(row), "0" if row["chance"] == 0 else "chance"
    if not np.isfinite([row["low"], row["high"], row["chance"]]).all():
        return f"{numbers}; whether it is above {chance} is not known."
    if row["low"] > row["chance"]:
        reached = row.get("normalised", np.nan)
        way = f", {_write_percent(reached)} of the way to the ceiling" * bool(np.isfinite(reached))
        return f"Above {chance}: {numbers}{way}."
    return f"{'Below' if row['high'] < row['chance'] else 'Not above'} {chance}: {numbers}."


def _write_numbers(row):
    """Value with interval and chance, unless that is 0, as far as known."""
    parts = []
    if np.isfinite([row["low"], row["high"]]).all():
        parts.append(f"{_write_number(row['low'])} to {_write_number(row['high'])}")
    if np.isfinite(row["chance"]) and row["chance"] != 0:
        parts.append(f"chance {_write_number(row['chance'])}")
    known = f" ({'; '.join(parts)})" if parts else ""
    return f"{_write_number(row['value'])}{known}"


def _write_share(row):
    """A share with its interval, in percent."""
    text = _write_percent(row["value"])
    if not np.isfinite([row["low"], row["high"]]).all():
        return text
    low, high = _write_percent(row["low"]), _write_percent(row["high"])
    return f"{text} ({low.removesuffix(' %')} to {high})"


def _write_number(value):
    """Two decimals and a true minus; -0.00 is 0.00."""
    text = f"{value:.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def _write_percent(value):
    """A share in percent."""
    text = f"{100 * value:.0f}"
    return f"{'0' if float(text) == 0 else text.replace('-', '−')} %"

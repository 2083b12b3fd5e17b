"""Tables of the page on generalisation, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd

from nsdldm.plots.generalisation_words import (
    ABOVE,
    BELOW,
    NOT,
    UNKNOWN,
    format_interval,
    format_number,
    format_percent,
    judge,
)

MARKS = {ABOVE: ("▲", "above"), NOT: ("○", "not clearly different from"), BELOW: ("▼", "below")}


def pick_rows(table: pd.DataFrame, candidates: str) -> dict[str, pd.Series]:
    """Rows by score, of one kind of candidates.

    Parameters
    ----------
    table : DataFrame
        Of one case, source and subject.
    candidates : str

    Returns
    -------
    dict of Series
        Rows without a value are left out.
    """
    own = table[(table["candidates"] == candidates) & table["value"].notna()]
    return {row["score"]: row for _, row in own.iterrows()}


def draw_cell(
    row: pd.Series, baseline: pd.Series | None = None, bar: bool = True, share: bool = False
) -> str:
    """A cell with a score, its interval, and a bar from chance to the ceiling.

    Parameters
    ----------
    row : Series
        Of the table of generalisation.
    baseline : Series, optional
        Row of a baseline, which is marked on the bar.
    bar, share : bool
        Draw the bar; say what share of the way from chance to the ceiling the score is.

    Returns
    -------
    str
        HTML.
    """
    verdict = judge(row)
    mark, words = MARKS.get(verdict, ("", ""))
    text = f'<span title="{words} chance">{mark}</span> ' if mark else ""
    text += f"<b>{format_number(row['value'])}</b>"
    ends = format_interval(row).replace(" to ", "–")
    text += f" <small>({ends})</small>" if ends else ""
    count = ""
    if row["n_subjects"] > 1 and np.isfinite(row["above"]):
        count = f" <small>{row['above']:.0f}/{row['n_subjects']:.0f}</small>"
    if share and np.isfinite(row["normalised"]):
        text += f" <small>{format_percent(row['normalised'])}</small>"
    kind = f" {verdict}" if verdict != UNKNOWN else ""
    below = f'<span class="line">{_draw_bar(row, baseline)}{count}</span>' if bar else count
    return f'<td class="score{kind}">{text}{below}</td>'


def _draw_bar(row, baseline):
    """A bar from chance to the ceiling, or to 1 where there is none."""
    chance = row["chance"]
    end = row["ceiling"] if np.isfinite(row["ceiling"]) else 1.0
    if not end > chance:
        return ""

    def locate(value):
        return f"{100 * min(max((value - chance) / (end - chance), 0), 1):.0f}%"

    inside = f'<i style="width:{locate(row["value"])}"></i>'
    if baseline is not None:
        inside += f'<u style="left:calc({locate(baseline["value"])} - 1px)"></u>'
    words = ""
    if np.isfinite(row["normalised"]):
        words = f"{format_percent(row['normalised'])} of the way from chance to the ceiling"
        ends = format_interval(row, percent=True, prefix="normalised_")
        words = f' title="{words}{f" ({ends})" if ends else ""}"'
    return f'<span class="bar"{words}>{inside}</span>'


def write_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table whose first column names rows.

    Parameters
    ----------
    head : sequence of str
        Plain text.
    lines : iterable of sequence of str
        The first of each is plain text, others are cells as HTML.

    Returns
    -------
    str
        HTML that scrolls sideways on a narrow screen.
    """
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr><th>{escape(first)}</th>{''.join(cells)}</tr>" for first, *cells in lines)
    table = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def write_grid(
    corner: str,
    columns: Sequence[str],
    rows: Mapping[str, Mapping[str, pd.Series]],
    share: bool = False,
) -> str:
    """A table of scores.

    Parameters
    ----------
    corner : str
    columns : sequence of str
    rows : dict of dict of Series
        By row and column; cells that are missing stay empty.
    share : bool
        Say what share of the ceiling a score is.

    Returns
    -------
    str
        HTML.
    """
    lines = []
    for name, own in rows.items():
        known = [own.get(column) for column in columns]
        cells = [
            "<td></td>" if row is None else draw_cell(row, bar=False, share=share) for row in known
        ]
        lines.append([name, *cells])
    return write_table([corner, *columns], lines)


def text_cell(text: str) -> str:
    """A cell with plain text."""
    return f'<td class="score">{escape(text)}</td>'

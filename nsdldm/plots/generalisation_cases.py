"""Figure 11: scores of every case, by kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from nsdldm.plots.generalisation_panels import (
    CEILING,
    CHANCE,
    HEADING,
    MARGIN,
    TICKS,
    TITLE,
    add_panel,
    begin_figure,
    choose_limits,
    count_images,
    find_colour,
    find_marker,
    list_subject_handles,
)
from nsdldm.plots.generalisation_rows import (
    ALL,
    COLUMNS,
    KINDS,
    SHARED,
    SIMILAR,
    list_cases,
    list_scores,
    list_subjects,
    name_case,
    name_score,
    select_main,
)
from nsdldm.plots.pictures import write
from nsdldm.plots.style import FAINT, NORMAL, SMALL, WIDTH_MM, pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASELINES = ("shuffled", "nearest")  # sources of the shared case that have a row of their own
AMONG = {ALL: "among all test images", SIMILAR: "among similar ones"}
# Millimetres: a row, and at least this much for each symbol in it; the rest.
ROW, PER_SYMBOL, HEAD = 4.8, 0.45, 4.4
LABELS, BETWEEN, RIGHT = 30, 2.6, 3


class Line(NamedTuple):
    """A row of the figure: its label, small print below, and its numbers; a heading has none."""

    label: str
    small: str
    numbers: pd.DataFrame | None


def choose_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Choose the rows that figure 11 shows.

    Parameters
    ----------
    table : DataFrame
        With the columns of the table of generalisation.

    Returns
    -------
    DataFrame
        Rows of single subjects, by kind of case, with baselines of the shared images last.
    """
    known = table[table["value"].notna() & table["subject"].isin(list_subjects(table))]
    known = known[known["candidates"].isin((ALL, SIMILAR))]
    main = known[select_main(known)]
    parts = [main[main["kind"] == kind] for kind in KINDS]
    beside = known[known["score"].isin(list_scores(main)) & (known["case"] == SHARED)]
    parts += [beside[beside["source"] == source] for source in BASELINES]
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def list_lines(numbers: pd.DataFrame) -> list[Line]:
    """Rows of figure 11 from top to bottom, each kind of case below its heading.

    Parameters
    ----------
    numbers : DataFrame
        As `choose_numbers` returns it.

    Returns
    -------
    list of Line
    """
    main = numbers[~numbers["source"].isin(BASELINES)]
    beside = numbers[numbers["source"].isin(BASELINES)]
    cases = list_cases(main, list(KINDS))
    lines = []
    for kind, heading in KINDS.items():
        own = [
            Line(name_case(case), case, main[(main["case"] == case) & (main["kind"] == kind)])
            for case in cases.get(kind, [])
        ]
        if kind == "baseline":
            own += [
                Line(name_case(source), f"{SHARED}, {source}", part)
                for source, part in beside.groupby("source", sort=False)
            ]
        lines += [Line(heading, "", None), *own] if own else []
    return lines


def draw_fig11(numbers: pd.DataFrame, demo: bool) -> Figure:
    """Draw figure 11.

    Parameters
    ----------
    numbers : DataFrame
        As `choose_numbers` returns it.
    demo : bool

    Returns
    -------
    matplotlib Figure
    """
    lines, subjects = list_lines(numbers), list_subjects(numbers)
    scores = list_scores(numbers)
    among = [name for name in AMONG if (numbers["candidates"] == name).any()]
    row = pixels(max(ROW, PER_SYMBOL * len(subjects) * len(among) + 0.6))
    heights = [pixels(HEAD) if line.numbers is None else row for line in lines]
    edges = np.concatenate([[0], np.cumsum(heights)]).astype(int)
    full = pixels(HEADING) + int(edges[-1]) + pixels(TICKS)
    handles = _list_handles(subjects, among, numbers)
    figure = begin_figure("Does it generalise?", full, handles, _describe(numbers), demo)
    top, limits = pixels(TITLE + HEADING), choose_limits(numbers)
    _label_lines(figure, top, edges, lines)
    for left, score, room in _list_places(scores):
        axes = add_panel(figure, (left, top, room, int(edges[-1])), name_score(score))
        _draw_panel(axes, score, lines, edges, subjects, among)
        axes.set_xlim(limits)
    return figure


def _list_places(scores):
    """Left end and width of each score's panel."""
    room = pixels(WIDTH_MM) - pixels(LABELS) - pixels(RIGHT)
    room = (room - (len(scores) - 1) * pixels(BETWEEN)) // len(scores)
    for number, score in enumerate(scores):
        yield pixels(LABELS) + number * (room + pixels(BETWEEN)), score, room


def _label_lines(figure, top, edges, lines):
    """Write headings and labels to the left of the panels."""
    for line, start, stop in zip(lines, edges[:-1], edges[1:], strict=True):
        middle = top + round((start + stop) / 2)
        if line.numbers is None:
            style = {"size": NORMAL, "weight": "bold", "va": "center"}
            write(figure, pixels(MARGIN), middle + pixels(0.5), line.label, **style)
            continue
        right, style = pixels(LABELS - 1.5), {"ha": "right", "va": "center"}
        write(figure, right, middle - pixels(1.05), line.label, size=SMALL, **style)
        down = middle + pixels(1.15)
        write(figure, right, down, line.small, size=SMALL, color=FAINT, **style)


def _draw_panel(axes, score, lines, edges, subjects, among):
    """Draw one score of every row: a symbol with its interval for each subject and candidates."""
    colour = find_colour(score)
    for number, (line, start, stop) in enumerate(zip(lines, edges[:-1], edges[1:], strict=True)):
        if line.numbers is None:
            axes.axhline(stop, color="0.6", linewidth=0.4)
            continue
        if number % 2:
            axes.axhspan(start, stop, color="0.96", linewidth=0, zorder=0)
        own = line.numbers[line.numbers["score"] == score]
        if not len(own):
            continue
        axes.vlines(own["chance"].iloc[0], start, stop, zorder=2, **CHANCE)
        step = (stop - start - pixels(0.6)) / len(among)
        for place_, name in enumerate(among):
            part = own[own["candidates"] == name]
            begin = start + pixels(0.3) + place_ * step
            _draw_subjects(axes, part, (begin, begin + step), subjects, colour, name == ALL)
    axes.set_ylim(edges[-1], 0)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x", color="0.9", linewidth=0.4)
    axes.spines["left"].set_visible(False)


def _draw_subjects(axes, own, span, subjects, colour, filled):
    """Draw symbols from top to bottom of a span, and the mean ceiling as a tick."""
    n = len(subjects)
    ceiling = own["ceiling"].mean()
    if np.isfinite(ceiling):
        axes.vlines(ceiling, *span, zorder=2, **CEILING)
    style = {"color": colour, "markerfacecolor": colour if filled else "white", "zorder": 4}
    style |= {"markersize": 3.0 if n < 5 else 2.3, "markeredgewidth": 0.6, "linestyle": ""}
    for row in own.itertuples():
        index = subjects.index(row.subject)
        y = span[0] + (index + 0.5) / n * (span[1] - span[0])
        axes.hlines(y, row.low, row.high, color=colour, linewidth=0.7, zorder=3)
        axes.plot(row.value, y, marker=find_marker(index), **style)


def _list_handles(subjects, among, numbers):
    """Legend entries of what is drawn."""
    handles = list_subject_handles(subjects)
    for name in among if len(among) > 1 else ():
        face = {"markerfacecolor": FAINT if name == ALL else "white"}
        style = {"marker": "o", "color": FAINT, "linestyle": "", "markersize": 3.2}
        handles.append(Line2D([], [], label=AMONG[name], **style, **face))
    handles.append(Line2D([], [], label="chance", **CHANCE))
    if numbers["ceiling"].notna().any():
        handles.append(Line2D([], [], label="ceiling", **CEILING))
    return handles


def _describe(numbers):
    """Describe what is drawn."""
    notes = [
        "Identification: the share of other test images to which what was decoded is less similar "
        "than to the image shown (two-way). Decoded features are compared by correlation, pictures "
        "by 16 × 16 blocks (layout) and by a network's view of them (content). Symbols: subjects, "
        f"with 95 % confidence intervals (bootstrap over {count_images(numbers)} test images)."
    ]
    if (numbers["candidates"] == SIMILAR).any():
        notes.append(
            "Filled: the other images are all test images of the case; open: those most similar."
        )
    if numbers["ceiling"].notna().any():
        notes.append("Ceiling: true features in place of decoded ones, mean over subjects.")
    return [*notes, "Grey below a row: its name in files and tables."]

"""Figure 12: scores by the number of dimensions that decoders pass on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from nsdldm.plots.generalisation_panels import (
    CEILING,
    CHANCE,
    HEADING,
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
    SHARED,
    SIMILAR,
    list_scores,
    list_subjects,
    name_score,
    select_main,
)
from nsdldm.plots.pictures import write
from nsdldm.plots.style import NORMAL, WIDTH_MM, pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANK = re.compile(r"(noise-)?rank-(\d+)$")
MEAN = "mean"  # the case of the generator without a brain
LINES = {
    "noise": {"color": "0.45", "linewidth": 0.8, "linestyle": (0, (1, 1.2))},
    MEAN: {"color": "0.45", "linewidth": 0.9, "linestyle": (0, (6, 1.5, 1, 1.5))},
}
AMONG = {ALL: "among all", SIMILAR: "among similar"}
# Millimetres.
LEFT, BETWEEN, RIGHT, PLOT, ROW_GAP, FOOT = 13, 3.2, 2.5, 33, 5, 3.5


def choose_curve(table: pd.DataFrame) -> pd.DataFrame:
    """Choose the rows that figure 12 shows.

    Parameters
    ----------
    table : DataFrame
        With the columns of the table of generalisation.

    Returns
    -------
    DataFrame
        With two columns more: `line` is responses, noise or mean; `dimensions` is their number,
        missing where all are passed on (the shared case) or none.
    """
    table = table[select_main(table) & table["value"].notna()]
    table = table[table["subject"].isin(list_subjects(table))]
    table = table[table["candidates"].isin((ALL, SIMILAR))]
    found = [RANK.match(case) for case in table["case"]]
    known = {True: "noise", False: "responses"}
    line = [known[bool(match[1])] if match else "" for match in found]
    table = table.assign(
        line=np.where(
            table["case"] == MEAN, MEAN, np.where(table["case"] == SHARED, "responses", line)
        ),
        dimensions=[int(match[2]) if match else np.nan for match in found],
    )
    return table[table["line"] != ""][[*COLUMNS, "line", "dimensions"]].reset_index(drop=True)


def draw_fig12(numbers: pd.DataFrame, demo: bool) -> Figure:
    """Draw figure 12.

    Parameters
    ----------
    numbers : DataFrame
        As `choose_curve` returns it.
    demo : bool

    Returns
    -------
    matplotlib Figure
    """
    scores, subjects = list_scores(numbers), list_subjects(numbers)
    among = [name for name in AMONG if (numbers["candidates"] == name).any()]
    full = len(among) * pixels(HEADING + PLOT) + (len(among) - 1) * pixels(ROW_GAP)
    full += pixels(TICKS + FOOT)
    handles = _list_handles(numbers, subjects)
    title = "How few numbers per image suffice"
    figure = begin_figure(title, full, handles, _describe(numbers), demo)
    room = pixels(WIDTH_MM) - pixels(LEFT) - pixels(RIGHT)
    room = (room - (len(scores) - 1) * pixels(BETWEEN)) // len(scores)
    ticks, limits = _list_ticks(numbers), choose_limits(numbers)
    for row, candidates in enumerate(among):
        top = pixels(TITLE + HEADING) + row * pixels(HEADING + PLOT + ROW_GAP)
        for column, score in enumerate(scores):
            left = pixels(LEFT) + column * (room + pixels(BETWEEN))
            axes = add_panel(figure, (left, top, room, pixels(PLOT)), name_score(score))
            own = numbers[(numbers["score"] == score) & (numbers["candidates"] == candidates)]
            _draw_curves(axes, own, subjects, ticks[-1][0])
            _dress(axes, ticks, limits, last=row == len(among) - 1, first=column == 0)
            if not column:
                axes.set_ylabel(f"Identified {AMONG[candidates]}", labelpad=1.5)
    middle, down = pixels(LEFT) + (pixels(WIDTH_MM) - pixels(LEFT)) // 2, full + pixels(TITLE - 1)
    words = "Dimensions passed on, per image"
    write(figure, middle, down, words, size=NORMAL, ha="center", va="bottom")
    return figure


def _list_ticks(numbers):
    """Places on the axis and their labels; all dimensions are one step beyond the largest."""
    known = sorted({int(number) for number in numbers["dimensions"].dropna()})
    return [(number, f"{number}") for number in known] + [(2.2 * known[-1], "all")]


def _draw_curves(axes, own, subjects, end):
    """Draw a line for each subject, with its controls."""
    for row in own.drop_duplicates("score").itertuples():
        axes.axhline(row.chance, zorder=1, **CHANCE)
        ceiling = own.loc[own["case"] == SHARED, "ceiling"].mean()
        if np.isfinite(ceiling):
            axes.axhline(ceiling, zorder=1, **CEILING)
    for (line, subject), part in own.groupby(["line", "subject"], sort=False):
        marker = find_marker(subjects.index(subject))
        if line == MEAN:
            axes.axhline(part["value"].iloc[0], zorder=1, **LINES[MEAN])
            continue
        part = part.assign(x=part["dimensions"].fillna(end)).sort_values("x")
        style = {"color": find_colour(part["score"].iloc[0]), "linewidth": 0.9}
        style = LINES.get(line, style) | {"marker": marker, "markersize": 2.6}
        inside = part[part["dimensions"].notna()]
        axes.plot(inside["x"], inside["value"], zorder=4, **style)
        axes.vlines(part["x"], part["low"], part["high"], color=style["color"], linewidth=0.7)
        if line != "noise" and len(part) > len(inside):
            joined = part.tail(2)
            broken = style | {"linestyle": (0, (1.5, 1.5)), "marker": ""}
            axes.plot(joined["x"], joined["value"], zorder=3, **broken)
            axes.plot(joined["x"].iloc[-1:], joined["value"].iloc[-1:], zorder=4, **style)


def _dress(axes, ticks, limits, last, first):
    """Add a logarithmic axis of dimensions, and a grid."""
    axes.set_xscale("log")
    axes.set_xlim(ticks[0][0] / 1.4, ticks[-1][0] * 1.4)
    axes.minorticks_off()
    shown, apart = [], (np.log(ticks[-1][0]) - np.log(ticks[0][0])) / 7
    for place, label in reversed(ticks):
        # Labels that would touch are left out, the larger number stays.
        if not shown or np.log(shown[-1][0]) - np.log(place) > apart:
            shown.append((place, label))
    axes.set_xticks([place for place, _ in shown], [label for _, label in shown] if last else [])
    axes.set_xticks([place for place, _ in ticks], minor=True)
    axes.tick_params(which="minor", size=1.2, width=0.4, labelbottom=False)
    axes.set_ylim(limits)
    axes.locator_params(axis="y", nbins=6)
    axes.tick_params(axis="y", labelleft=first, length=2 if first else 0)
    axes.grid(axis="y", color="0.92", linewidth=0.4)


def _list_handles(numbers, subjects):
    """Legend entries of what is drawn."""
    handles = list_subject_handles(subjects, linestyle="-", linewidth=0.8)
    names = {"noise": "noise instead of responses", MEAN: "mean features, no brain"}
    there = set(numbers["line"])
    handles += [Line2D([], [], label=names[key], **LINES[key]) for key in names if key in there]
    handles.append(Line2D([], [], label="chance", **CHANCE))
    if numbers["ceiling"].notna().any():
        handles.append(Line2D([], [], label="ceiling", **CEILING))
    return handles


def _describe(numbers):
    """Describe what is drawn."""
    return [
        "Decoders pass on the first principal components of their predictions, as many as the axis "
        "says; all: the unrestricted decoders. Coloured lines: fitted to responses; dotted grey: "
        "the same decoders fitted to noise. Vertical lines: 95 % confidence intervals (bootstrap "
        f"over {count_images(numbers)} shared images). Identification is two-way, as in figure 11."
    ]

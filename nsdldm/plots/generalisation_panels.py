"""Shared by the figures of generalisation: their frame, colours, symbols and legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from nsdldm.plots.pictures import DEMO, DEMO_NOTE, LINE, place, wrap_text, write
from nsdldm.plots.style import (
    FAINT,
    INK,
    LARGE,
    NORMAL,
    SMALL,
    WIDTH_MM,
    new_figure,
    pixels,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of Okabe and Ito, some darker.
COLOURS = {"z": "#0072b2", "c": "#d55e00", "layout": "#00805d", "content": "#8a5a00"}
OTHER_COLOUR = "#a0447f"
MARKERS = "osD^vP*X"  # of subjects
CHANCE = {"color": INK, "linewidth": 0.7, "linestyle": (0, (4, 3))}
CEILING = {"color": INK, "linewidth": 0.9}
PER_LINE = 8  # entries of the legend
# Millimetres.
TITLE, HEADING, TICKS, LEGEND, MARGIN = 6, 5, 6.5, 4, 1.5


def find_colour(score: str) -> str:
    """Colour of a score."""
    return COLOURS.get(score, OTHER_COLOUR)


def find_marker(number: int) -> str:
    """Symbol of a subject, by its place in the order of subjects."""
    return MARKERS[number % len(MARKERS)]


def begin_figure(
    title: str,
    height: int,
    handles: Sequence[Line2D],
    notes: Sequence[str],
    demo: bool,
    per_line: int = PER_LINE,
) -> Figure:
    """Make a figure of a page's width with its title, legend and notes.

    Parameters
    ----------
    title : str
    height : int
        Pixels of the panels, which begin `TITLE` below the upper edge.
    handles : sequence of Line2D
    notes : sequence of str
        Sentences below the legend.
    demo : bool
        Say that the data are simulated.
    per_line : int
        Entries in a line of the legend.

    Returns
    -------
    matplotlib Figure
    """
    width, legend = pixels(WIDTH_MM), pixels(TITLE) + height
    bottom = legend + pixels(LEGEND) * -(-len(handles) // per_line) + pixels(1)
    sentences = [*notes, *([DEMO_NOTE] if demo else [])]
    lines = wrap_text(" ".join(sentences), width - 2 * pixels(MARGIN))
    figure = new_figure(width, bottom + len(lines) * pixels(LINE) + pixels(1))
    words = title + (f" – {DEMO}" if demo else "")
    write(figure, pixels(MARGIN), pixels(1.5), words, size=LARGE, weight="bold", va="top")
    axes = figure.add_axes(place(figure, 0, legend, width, bottom - pixels(1) - legend))
    axes.set_axis_off()
    style = {"ncols": per_line, "frameon": False, "fontsize": SMALL, "handlelength": 1.7}
    axes.legend(handles=list(handles), loc="center", columnspacing=1.4, **style)
    for number, line in enumerate(lines):
        down = bottom + number * pixels(LINE)
        write(figure, pixels(MARGIN), down, line, size=SMALL, color=FAINT, va="top")
    return figure


def add_panel(figure: Figure, box: tuple[int, int, int, int], heading: str) -> Axes:
    """Add axes below a heading.

    Parameters
    ----------
    figure : matplotlib Figure
    box : (int, int, int, int)
        Left, top, width and height of the axes in pixels; the heading is above.
    heading : str

    Returns
    -------
    matplotlib Axes
    """
    axes = figure.add_axes(place(figure, *box))
    style = {"size": NORMAL, "weight": "bold", "va": "center"}
    write(figure, box[0], box[1] - pixels(2.4), heading, **style)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def list_subject_handles(subjects: Sequence[str], **style: object) -> list[Line2D]:
    """Legend entries of subjects."""
    style = {"color": FAINT, "linestyle": "", "markersize": 3.2} | style
    return [
        Line2D([], [], marker=find_marker(number), label=subject, **style)
        for number, subject in enumerate(subjects)
    ]


def choose_limits(numbers: pd.DataFrame) -> tuple[float, float]:
    """Limits of a scale that shows all values, their intervals, chance and ceilings."""
    names = [name for name in ("value", "low", "high", "chance", "ceiling") if name in numbers]
    values = numbers[names].to_numpy(float)
    low, high = np.nanmin(values), np.nanmax(values)
    room = 0.05 * max(high - low, 0.02)
    return low - room, high + room


def count_images(numbers: pd.DataFrame) -> str:
    """Say over how many images scores are means."""
    counts = numbers["n_images"].dropna().astype(int)
    ends = dict.fromkeys((counts.min(), counts.max()))
    return " to ".join(f"{count:,}" for count in ends)

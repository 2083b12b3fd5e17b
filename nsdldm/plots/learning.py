"""Learning curves: how well features are decoded with more and more sessions."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from nsdldm.plots.pictures import DEMO, DEMO_NOTE, LINE, place, read_columns, wrap_text, write
from nsdldm.plots.style import (
    FAINT,
    INK,
    LARGE,
    NORMAL,
    SMALL,
    WIDTH_MM,
    journal_style,
    new_figure,
    pixels,
    save_figure,
)
from nsdldm.plots.trends import SYMBOLS
from nsdldm.support.files import save_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

COLUMNS = ("subject", "sessions", "n_trials", "target", "score", "value", "low", "high", "chance")
PANELS = {"r": "Correlation, median dimension", "identification": "Identified by coarse picture"}
COLOURS = {"z": "#0072b2", "c": "#d55e00", "zc": "#009e73"}
MARKERS = "osD^vP*X"
# Millimetres.
TITLE, LEFT, BETWEEN, RIGHT, HEADING, PLOT, TICKS, MARGIN = 6, 13, 18, 34, 5, 44, 9, 1.5


def plot_learning_curve(
    *, table: Path | str, demo: bool, png: Path | str, pdf: Path | str, tsv: Path | str
) -> None:
    """Draw the scores of every subject over the number of sessions.

    Parameters
    ----------
    table : path
        As `nsdldm.evaluation.tables.tabulate_learning_curve` writes it.
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and the numbers that it shows.

    Raises
    ------
    InputError
        The table lacks a column.
    """
    numbers = read_columns(table, COLUMNS)
    logger.info("%d values of %d subjects", len(numbers), numbers["subject"].nunique())
    with journal_style():
        save_figure((png, pdf), draw_learning_curve(numbers, demo))
    save_table(tsv, numbers)


def draw_learning_curve(numbers: pd.DataFrame, demo: bool) -> Figure:
    """Draw the figure.

    Parameters
    ----------
    numbers : DataFrame
        With the columns `COLUMNS`.
    demo : bool

    Returns
    -------
    matplotlib Figure
    """
    width = pixels(WIDTH_MM)
    lines = wrap_text(" ".join(_notes(demo)), width - 2 * pixels(MARGIN))
    bottom = pixels(TITLE + HEADING + PLOT + TICKS)
    figure = new_figure(width, bottom + len(lines) * pixels(LINE) + pixels(1))
    title = "Decoding by number of sessions" + (f" – {DEMO}" if demo else "")
    write(figure, pixels(MARGIN), pixels(1.5), title, size=LARGE, weight="bold", va="top")
    room = width - pixels(LEFT) - pixels(BETWEEN) - pixels(RIGHT)
    for number, (score, heading) in enumerate(PANELS.items()):
        left = pixels(LEFT) + number * (room // 2 + pixels(BETWEEN))
        top = pixels(TITLE + HEADING)
        axes = figure.add_axes(place(figure, left, top, room // 2, pixels(PLOT)))
        _draw_score(axes, numbers[numbers["score"] == score])
        write(figure, left, top - pixels(2), heading, size=NORMAL, weight="bold", va="center")
    handles, names = figure.axes[0].get_legend_handles_labels()
    style = {"loc": "upper left", "frameon": False, "fontsize": SMALL, "handlelength": 1.8}
    figure.axes[1].legend(handles, names, bbox_to_anchor=(1.03, 1.0), **style)
    for number, line in enumerate(lines):
        down = bottom + number * pixels(LINE)
        write(figure, pixels(MARGIN), down, line, size=SMALL, color=FAINT, va="top")
    return figure


def _draw_score(axes, own):
    """Draw a line for each target and subject, with intervals and chance where they are known."""
    subjects = list(dict.fromkeys(own["subject"]))
    for (target, subject), line in own.groupby(["target", "subject"], sort=False):
        line = line.sort_values("sessions")
        colour, marker = COLOURS.get(target, INK), MARKERS[subjects.index(subject) % len(MARKERS)]
        style = {"color": colour, "marker": marker, "markersize": 3, "linewidth": 0.9}
        name = f"{SYMBOLS.get(target, (target,))[0]}, {subject}"
        axes.plot(line["sessions"], line["value"], label=name, **style)
        if line["low"].notna().all():
            ends = line["low"], line["high"]
            axes.fill_between(line["sessions"], *ends, color=colour, alpha=0.15, linewidth=0)
    chance = own["chance"].dropna()
    if len(chance):
        axes.axhline(chance.iloc[0], color=INK, linewidth=0.6, linestyle=(0, (4, 2)))
    points = sorted(set(own["sessions"]))
    axes.set_xticks(points, [f"{point:g}" for point in points])
    axes.set_xlabel("Sessions", labelpad=1)
    axes.grid(axis="y", color="0.92", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _notes(demo):
    """Describe what is drawn."""
    notes = [
        "Decoders of the corrected protocol, fitted to the first sessions of each subject; "
        "penalties are chosen on the same folds of images at each point, and the test images are "
        "the same. Identification: the fraction of other test images whose picture is less similar "
        "to the picture shown than the one that the autoencoder makes of the decoded $z$, by "
        "16 × 16 blocks; bands: 95 % confidence intervals (bootstrap over test images); dashed: "
        "chance.",
    ]
    return notes + ([DEMO_NOTE] if demo else [])

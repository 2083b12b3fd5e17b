"""Training curves of the trained stages."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nsdldm.plots.pictures import (
    DEMO,
    DEMO_NOTE,
    LINE,
    place,
    read_columns,
    wrap_text,
    write,
)
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

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

COLUMNS = ("step", "epoch", "learning_rate", "loss", "validation")
# Colours of Okabe and Ito for the parts of a loss; the total is black, validation is red.
PARTS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#7f6000")
HELD_BACK = "#d01c1c"
ACROSS = 3
# A loss that falls below this fraction of its first value gets a logarithmic axis.
DEEP = 0.05
# This fraction of the training may lie above the plot.
EARLY = 0.1
# Millimetres.
TITLE, LEFT, BETWEEN, RIGHT, HEADING, PLOT, TICKS, MARGIN = 6, 10, 11, 3, 7, 25, 8.5, 1.5


def plot_training_curves(
    *, curves: dict[str, Path | str], cohort: str, demo: bool, png: Path | str, pdf: Path | str
) -> None:
    """Draw the losses of every training of a cohort, one plot each.

    Parameters
    ----------
    curves : dict of path
        Tables by the name of the training, with the columns step, epoch, learning_rate, loss (mean
        since the row before), validation (the loss of those images; NaN where it was not computed),
        seconds if known, and one for each part of the loss.
    cohort : str
        Subjects they were trained on, for the title.
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf : path
        Outputs. The numbers are the tables.

    Raises
    ------
    InputError
        A table lacks a column.
    """
    tables = {name: read_columns(path, COLUMNS) for name, path in curves.items()}
    with journal_style():
        save_figure((png, pdf), draw_curves(tables, cohort, demo))
    ends = [f"{name} {table['loss'].iloc[-1]:.4g}" for name, table in tables.items()]
    logger.info("last losses: %s", ", ".join(ends))


def draw_curves(tables: dict[str, pd.DataFrame], cohort: str, demo: bool) -> Figure:
    """Draw the figure.

    Parameters
    ----------
    tables : dict of DataFrame
        As `plot_training_curves` reads them.
    cohort : str
    demo : bool

    Returns
    -------
    matplotlib Figure
    """
    width = pixels(WIDTH_MM)
    lines = wrap_text(" ".join(_notes(demo)), width - 2 * pixels(MARGIN))
    pitch = pixels(HEADING + PLOT + TICKS)
    rows = -(-len(tables) // ACROSS)
    bottom = pixels(TITLE) + rows * pitch
    figure = new_figure(width, bottom + len(lines) * pixels(LINE) + pixels(1))
    title = f"Training, {cohort}" + (f" – {DEMO}" if demo else "")
    write(figure, pixels(MARGIN), pixels(1.5), title, size=LARGE, weight="bold", va="top")
    room = width - pixels(LEFT) - pixels(RIGHT) - (ACROSS - 1) * pixels(BETWEEN)
    for number, (name, table) in enumerate(tables.items()):
        row, column = divmod(number, ACROSS)
        left = pixels(LEFT) + column * (room // ACROSS + pixels(BETWEEN))
        top = pixels(TITLE) + row * pitch + pixels(HEADING)
        axes = figure.add_axes(place(figure, left, top, room // ACROSS, pixels(PLOT)))
        _draw_training(axes, table)
        write(figure, left, top - pixels(4), name, size=NORMAL, weight="bold", va="center")
        write(
            figure, left, top - pixels(1.2), _describe(table), size=SMALL, color=FAINT, va="center"
        )
    for number, line in enumerate(lines):
        down = bottom + number * pixels(LINE)
        write(figure, pixels(MARGIN), down, line, size=SMALL, color=FAINT, va="top")
    return figure


def _draw_training(axes, table):
    """Draw the loss, its parts and that of validation images over epochs."""
    others = (*COLUMNS, "seconds")
    # What is only logged is not part of the loss.
    parts = [name for name in table if name not in others and not name.startswith("logged_")]
    # A single part is the loss itself.
    for name, colour in zip(parts if len(parts) > 1 else [], PARTS, strict=False):
        axes.plot(
            table["epoch"], table[name], color=colour, linewidth=0.7, label=name.replace("_", " ")
        )
    axes.plot(table["epoch"], table["loss"], color=INK, linewidth=1, label="loss")
    known = table[table["validation"].notna()]
    if len(known):
        style = {"color": HELD_BACK, "linewidth": 0.7, "marker": "o", "markersize": 1.8}
        axes.plot(known["epoch"], known["validation"], label="validation", **style)
        best = known.loc[known["validation"].idxmin()]
        style = {"color": HELD_BACK, "marker": "o", "markersize": 4.5, "fillstyle": "none"}
        axes.plot(best["epoch"], best["validation"], linewidth=0, clip_on=False, **style)
    if 0 < table["loss"].min() < DEEP * table["loss"].iloc[0]:
        axes.set_yscale("log")
    else:
        axes.locator_params(axis="y", nbins=5)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlim(0, table["epoch"].max())
    late = [line.get_ydata()[line.get_xdata() > EARLY * axes.get_xlim()[1]] for line in axes.lines]
    late = np.concatenate(late)
    if len(late) and np.ptp(late) > 0 and axes.get_yscale() == "linear":
        # The initial drop would flatten everything after it; leave space for the legend above.
        axes.set_ylim(late.min() - 0.08 * np.ptp(late), late.max() + 0.4 * np.ptp(late))
    axes.set_xlabel("Epoch", labelpad=1)
    axes.grid(axis="y", color="0.92", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    style = {"loc": "upper right", "frameon": False, "fontsize": SMALL, "handlelength": 1.2}
    style |= {"labelspacing": 0.2, "handletextpad": 0.4, "borderaxespad": 0.2}
    axes.legend(ncols=1 + (len(parts) > 1), columnspacing=1, **style)


def _describe(table):
    """Describe the length of a training and its learning rates."""
    last = table.iloc[-1]
    words = [f"{int(last['step']):,} steps"]
    if "seconds" in table:
        minutes = last["seconds"] / 60
        words.append(f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h")
    return ", ".join([*words, f"learning rate at most {table['learning_rate'].max():.2g}"])


def _notes(demo):
    """Describe what is drawn."""
    notes = [
        "Black: the loss that is minimised, averaged since the previous point; thin: its parts, "
        "without their weights. Red: the validation loss, with a ring at its lowest point; for a "
        "contrast it depends on the number of samples compared. "
        f"The first {100 * EARLY:.0f} % may lie above the plot. Test images play no part.",
    ]
    return notes + ([DEMO_NOTE] if demo else [])

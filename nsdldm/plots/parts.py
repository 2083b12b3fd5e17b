"""What each feature space of a joint model explains, by region."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nsdldm.plots.pictures import DEMO, read_columns
from nsdldm.plots.style import (
    FAINT,
    INK,
    LARGE,
    SMALL,
    WIDTH_MM,
    journal_style,
    new_figure,
    pixels,
    save_figure,
)
from nsdldm.support.files import save_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

COLUMNS = ("subject", "roi", "part", "value", "ci_low", "ci_high", "ceiling", "n_voxels")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
GREY = "#9a9a9a"
UNIQUE, COMMON, SHARED, TOTAL = "unique_", "common_", "shared", "r2"


def plot_parts(
    *, table: Path | str, demo: bool, png: Path | str, pdf: Path | str, tsv: Path | str
) -> None:
    """Draw a panel for each region, with a group of bars for each subject.

    Parameters
    ----------
    table : path
        As `nsdldm.encoding.components.tabulate_parts` writes it.
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
    numbers = numbers[numbers["roi"] != "cortex"]
    logger.info("%d regions", numbers["roi"].nunique())
    with journal_style():
        save_figure((png, pdf), draw_parts(numbers, demo))
    save_table(tsv, numbers)


def list_bars(numbers: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Name and colour each part of the variance that is drawn.

    Parameters
    ----------
    numbers : DataFrame
        With the column part.

    Returns
    -------
    dict of str to (str, str)
        Unique parts first, then what several spaces explain: the parts of single groups of spaces
        if they are known, otherwise all together.
    """
    parts = list(dict.fromkeys(numbers["part"]))
    unique = [part for part in parts if part.startswith(UNIQUE)]
    common = [part for part in parts if part.startswith(COMMON)] or [SHARED]
    bars = {
        part: (f"only {part.removeprefix(UNIQUE)}", COLOURS[n % len(COLOURS)])
        for n, part in enumerate(unique)
    }
    shades = np.linspace(0.35, 0.8, len(common)).astype(str)
    for part, shade in zip(common, shades, strict=True):
        *first, last = part.removeprefix(COMMON).split("+")
        name = f"common to {', '.join(first)} and {last}" if first else SHARED
        bars[part] = (name, shade)
    return bars


def draw_parts(numbers: pd.DataFrame, demo: bool) -> Figure:
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
    regions, bars = list(dict.fromkeys(numbers["roi"])), list_bars(numbers)
    n_columns = min(3, len(regions))
    n_rows = -(-len(regions) // n_columns)
    figure = new_figure(pixels(WIDTH_MM), pixels(18 + 44 * n_rows))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
    for panel, roi in zip(panels.ravel(), regions, strict=False):
        _draw_region(panel, numbers[numbers["roi"] == roi], bars)
        panel.set_title(roi, loc="left", fontsize=LARGE, color=INK)
    for panel in panels.ravel()[len(regions) :]:
        panel.set_axis_off()
    for row in panels:
        row[0].set_ylabel("Variance explained (R²)", fontsize=SMALL)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=SMALL
    )
    title = "What each space explains in held-out responses"
    figure.suptitle(f"{title} – {DEMO}" if demo else title, x=0.01, ha="left", fontsize=LARGE)
    return figure


def _draw_region(panel: Axes, own: pd.DataFrame, bars: dict) -> None:
    """Bars of all parts, with intervals, and the joint model and the ceiling as lines."""
    subjects = list(dict.fromkeys(own["subject"]))
    width = 0.8 / len(bars)
    known = own.set_index(["subject", "part"])
    for place, (part, (name, colour)) in enumerate(bars.items()):
        rows = [known.loc[(subject, part)] for subject in subjects]
        x = np.arange(len(subjects)) + (place + 0.5) * width - 0.4
        values = np.array([row["value"] for row in rows])
        bounds = np.array([(row["ci_low"], row["ci_high"]) for row in rows]).T
        errors = np.abs(bounds - values)
        panel.bar(x, values, width * 0.92, color=colour, label=name)
        panel.errorbar(x, values, errors, fmt="none", ecolor=INK, elinewidth=0.6)
    for place, subject in enumerate(subjects):
        row = known.loc[(subject, TOTAL)]
        for height, style, name in (
            (row["value"], "-", "all together"),
            (row["ceiling"], ":", "noise ceiling"),
        ):
            label = name if place == 0 else None
            panel.plot(
                [place - 0.42, place + 0.42], [height] * 2, style, color=INK, lw=1, label=label
            )
    panel.axhline(0, color=FAINT, lw=0.6)
    panel.set_xticks(range(len(subjects)), subjects, fontsize=SMALL)
    panel.spines[["top", "right"]].set_visible(False)

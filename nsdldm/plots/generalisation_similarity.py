"""Figure 13: scores by similarity to the nearest training image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from nsdldm.plots.generalisation_bins import BIN, DROP, LEAST, MATCHED, describe_differences
from nsdldm.plots.generalisation_panels import (
    CHANCE,
    HEADING,
    TICKS,
    TITLE,
    add_panel,
    begin_figure,
    choose_limits,
)
from nsdldm.plots.generalisation_rows import list_scores, name_case, name_score
from nsdldm.plots.style import FAINT, INK, WIDTH_MM, pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = {
    "shared": (INK, "o"),
    "random": ("#0072b2", "s"),
    "cluster": ("#d55e00", "D"),
    "category": ("#00805d", "^"),
}
OTHER_LOOK = ("#a0447f", "v")
EVEN = 0.5  # two-way identification by chance
NAMES = {"z": "$z$", "c": "$c$"}
PER_ROW = 4
# Millimetres.
LEFT, BETWEEN, RIGHT, PLOT, FOOT = 11.5, 10.5, 2.5, 33, 3


def draw_fig13(table: pd.DataFrame, numbers: pd.DataFrame, demo: bool) -> Figure:
    """Draw figure 13.

    Parameters
    ----------
    table : DataFrame
        As `nsdldm.plots.generalisation_bins.read_scores` returns it.
    numbers : DataFrame
        As `nsdldm.plots.generalisation_bins.bin_scores` returns it.
    demo : bool

    Returns
    -------
    matplotlib Figure
    """
    scores = list_scores(numbers)
    compared = numbers[numbers["what"] != BIN]
    n_panels = 1 + len(scores) + bool(len(compared))
    n_rows = -(-n_panels // PER_ROW)
    height = n_rows * pixels(HEADING + PLOT + TICKS + FOOT)
    cases = list(dict.fromkeys(table["case"]))
    notes = _describe(table, numbers, scores)
    figure = begin_figure(
        "Is it explained by similarity to training images?",
        height,
        _list_handles(cases, bool(len(compared))),
        notes,
        demo,
        PER_ROW,
    )
    boxes = _list_boxes(n_panels)
    axes = add_panel(figure, next(boxes), "Test images")
    _draw_similarity(axes, table)
    shown = numbers[numbers["what"] == BIN]
    limits = choose_limits(shown.assign(chance=EVEN))
    for score in scores:
        axes = add_panel(figure, next(boxes), name_score(score))
        _draw_bins(axes, shown[shown["score"] == score], table["similarity"])
        axes.set_ylim(limits)
        axes.set_ylabel("Identified", labelpad=1)
    if len(compared):
        axes = add_panel(figure, next(boxes), f"Difference from {cases[0]}")
        _draw_differences(axes, compared, scores, cases[1:])
    return figure


def _list_boxes(n_panels):
    """Left, top, width and height of each panel, row by row."""
    room = pixels(WIDTH_MM) - pixels(LEFT) - pixels(RIGHT) - (PER_ROW - 1) * pixels(BETWEEN)
    room //= PER_ROW
    for number in range(n_panels):
        row, column = divmod(number, PER_ROW)
        left = pixels(LEFT) + column * (room + pixels(BETWEEN))
        top = pixels(TITLE + HEADING) + row * pixels(HEADING + PLOT + TICKS + FOOT)
        yield left, top, room, pixels(PLOT)


def _look(case):
    return LOOKS.get(case, OTHER_LOOK)


def _draw_similarity(axes, table):
    """Draw how similar the test images of each case are to training images."""
    own = table.drop_duplicates(["subject", "case", "nsd_id"])
    edges = np.linspace(own["similarity"].min(), own["similarity"].max() + 1e-9, 21)
    for case, part in own.groupby("case", sort=False):
        share = np.histogram(part["similarity"], edges)[0] / len(part)
        axes.stairs(share, edges, color=_look(case)[0], linewidth=0.9)
    axes.set_ylabel("Share of images", labelpad=1)
    axes.set_ylim(0)
    _name_similarity(axes)


def _draw_bins(axes, own, similarity):
    """Draw the mean score of each bin with its interval, a line for each case."""
    axes.axhline(EVEN, zorder=1, **CHANCE)
    for case, part in own.groupby("case", sort=False):
        colour, marker = _look(case)
        style = {"color": colour, "marker": marker, "markersize": 2.8, "linewidth": 0.9}
        axes.plot(part["similarity"], part["value"], zorder=4, **style)
        ends = part["similarity"], part["low"], part["high"]
        axes.vlines(*ends, color=colour, linewidth=0.7, zorder=3)
    axes.set_xlim(similarity.min(), similarity.max())
    axes.grid(axis="y", color="0.92", linewidth=0.4)
    _name_similarity(axes)


def _name_similarity(axes):
    axes.set_xlabel("Similarity", labelpad=1)
    axes.locator_params(axis="both", nbins=4)


def _draw_differences(axes, compared, scores, cases):
    """Draw the difference of every case and score: of all images, and at equal similarity."""
    axes.axvline(0, zorder=1, **CHANCE)
    n = 2 * len(cases)
    for row, score in enumerate(scores):
        for lane, (case, what) in enumerate(
            (case, what) for case in cases for what in (DROP, MATCHED)
        ):
            own = compared[(compared["score"] == score) & (compared["case"] == case)]
            colour, marker = _look(case)
            face = "white" if what == DROP else colour
            style = {"color": colour, "markerfacecolor": face, "markersize": 2.8, "zorder": 4}
            for each in own[own["what"] == what].itertuples():
                y = row + (lane + 0.5) / n * 0.8 - 0.4
                axes.hlines(y, each.low, each.high, color=colour, linewidth=0.7, zorder=3)
                axes.plot(each.value, y, marker=marker, markeredgewidth=0.6, **style)
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_yticks(range(len(scores)), [NAMES.get(score, score) for score in scores])
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("Difference", labelpad=1)
    axes.grid(axis="x", color="0.92", linewidth=0.4)
    axes.spines["left"].set_visible(False)


def _list_handles(cases, compared):
    """Legend entries of what is drawn."""
    handles = []
    for case in cases:
        colour, marker = _look(case)
        style = {"color": colour, "marker": marker, "markersize": 3.2, "linewidth": 0.9}
        handles.append(Line2D([], [], label=f"{name_case(case)} ({case})", **style))
    if compared:
        style = {"color": FAINT, "marker": "o", "linestyle": "", "markersize": 3.2}
        handles.append(Line2D([], [], label="all images", markerfacecolor="white", **style))
        handles.append(Line2D([], [], label="at equal similarity", **style))
    return [*handles, Line2D([], [], label="chance, or none", **CHANCE)]


def _describe(table, numbers, scores):
    """Describe what is drawn."""
    n_bins = numbers.loc[numbers["what"] == BIN, "similarity_low"].nunique()
    n = table.drop_duplicates(["subject", "case", "nsd_id"]).groupby("case", sort=False).size()
    counts = ", ".join(f"{case} {number:,}" for case, number in n.items())
    notes = [
        "Similarity: cosine of a test image to the nearest training image of its case, by the "
        f"image embedding. Scores: means of {n_bins} bins with equally many images of all cases "
        f"together; bins with fewer than {LEAST} images of a case are left out. Images, all "
        f"subjects: {counts}. Lines: 95 % confidence intervals (bootstrap over images)."
    ]
    if (numbers["what"] != BIN).any():
        notes.append(
            "At equal similarity: the mean over bins of the difference within each. "
            "Whether an interval of a difference is below 0 – "
            + " ".join(describe_differences(numbers, scores))
        )
    return notes

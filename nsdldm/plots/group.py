"""All subjects together: accuracy of each feature space, and trends of unique variance."""

from __future__ import annotations

import logging
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING

import numpy as np

from nsdldm.encoding.cells import CUBE_MM
from nsdldm.encoding.group import AGREEMENT, KEYS, MEAN, NUMBERS
from nsdldm.features.spaces import BEYOND
from nsdldm.plots.fig5 import choose_looks
from nsdldm.plots.pictures import DEMO, DEMO_NOTE, LINE, place, read_columns, wrap_text, write
from nsdldm.plots.style import (
    FAINT,
    LARGE,
    NORMAL,
    SMALL,
    WIDTH_MM,
    journal_style,
    new_figure,
    pixels,
    save_figure,
)
from nsdldm.plots.trends import (
    AXES,
    choose_limits,
    draw_controls,
    draw_legend,
    dress,
    is_control,
    symbol,
)
from nsdldm.support.files import save_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

# Names of variants for readers.
VARIANTS = {"shared": "the same noise for all images"}
# Regions that no space predicts with at least this mean r are drawn small.
LEAST_R, NARROW = 0.05, 0.4
# Millimetres: margin, title, headings, plots and the space below and between them.
LEFT, RIGHT, TITLE, HEADING, PLOT, TICKS, BETWEEN, LEGEND = 15, 2, 7, 6.5, 34, 10, 2.5, 10
NAMES = 12  # heading, regions and slopes above a plot of trends


def plot_group(
    *,
    table: Path | str,
    left_out: list[str],
    demo: bool,
    png: Path | str,
    pdf: Path | str,
    tsv: Path | str,
) -> None:
    """Draw r by region and space, and unique variance by noise level and denoising step.

    Parameters
    ----------
    table : path
        As `tabulate_group` writes it; the region cortex, which contains all others, is not drawn.
    left_out : list of str
        Variants of series that are not drawn.
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and the rows of the table that it shows.

    Raises
    ------
    InputError
        The table lacks a column.
    """
    numbers = read_columns(table, ["subject", *KEYS, *NUMBERS, *AGREEMENT])
    numbers = numbers[numbers["roi"] != "cortex"].fillna({"series": ""})
    variants = numbers["series"].str.partition("-")[2]
    beyond = numbers["space"].str.endswith(f"-{BEYOND}")
    numbers = numbers[~variants.isin(left_out) & ~beyond]
    with journal_style():
        save_figure((png, pdf), draw_group(numbers, demo))
    save_table(tsv, numbers)


def draw_group(numbers: pd.DataFrame, demo: bool) -> Figure:
    """Draw the group figure.

    Parameters
    ----------
    numbers : DataFrame
        As `tabulate_group` writes it.
    demo : bool

    Returns
    -------
    matplotlib Figure
    """
    width = pixels(WIDTH_MM)
    series = [name for name in dict.fromkeys(numbers["series"]) if name]
    lines = wrap_text(" ".join(_notes(numbers, demo)), width - pixels(3))
    pitch = pixels(HEADING) + pixels(PLOT) + pixels(TICKS)
    below = pixels(LEGEND) + len(lines) * pixels(LINE) + pixels(1)
    figure = new_figure(width, pixels(TITLE) + pitch * (1 + len(series)) + below)
    n_subjects = int(numbers["n_subjects"].max())
    title = f"{n_subjects} subject{'s' if n_subjects > 1 else ''}" + (f" – {DEMO}" if demo else "")
    write(figure, pixels(1.5), pixels(1.5), title, size=LARGE, weight="bold", va="top")
    looks = choose_looks(name for name in numbers["space"] if not is_control(name))
    shares = _share_width(numbers)
    top = pixels(TITLE)
    _draw_accuracy(figure, numbers[numbers["measure"] == "r"], looks, shares, top)
    drawn = numbers[numbers["measure"] == "unique"]
    drawn = drawn[(drawn["subject"] == MEAN) | ~drawn["space"].map(is_control)]
    limits = choose_limits(drawn[["value", "ci_low", "ci_high"]])
    for row, name in enumerate(series, 1):
        own = numbers[numbers["series"] == name]
        where = limits, shares, top + row * pitch
        _draw_series(figure, own, name, looks, *where, ascii_lowercase[row])
    bottom = top + (1 + len(series)) * pitch
    axes = figure.add_axes(place(figure, 0, bottom + pixels(LEGEND) // 3, width, 1))
    draw_legend(axes, looks, set(drawn["space"]), 4)
    for number, line in enumerate(lines):
        down = bottom + pixels(LEGEND) + number * pixels(LINE)
        write(figure, pixels(1.5), down, line, size=SMALL, color=FAINT, va="top")
    return figure


def _share_width(numbers):
    """Fraction of a row's width for each region: little if no space predicts anything."""
    r = numbers[(numbers["measure"] == "r") & (numbers["subject"] == MEAN)]
    best = r.groupby("roi", sort=False)["value"].max()
    widths = {roi: 1.0 if value >= LEAST_R else NARROW for roi, value in best.items()}
    rois = list(dict.fromkeys(numbers["roi"]))
    total = sum(widths.get(roi, 1.0) for roi in rois)
    return {roi: widths.get(roi, 1.0) / total for roi in rois}


def _head(figure, top, letter, text):
    """Write the letter and heading of a row of plots."""
    middle = top + pixels(1.5)
    write(figure, pixels(1.5), middle, letter, size=LARGE, weight="bold", va="center")
    write(figure, pixels(5.5), middle, text, size=NORMAL, va="center")


def _draw_accuracy(figure, numbers, looks, shares, top):
    """Draw r of each space and region, with subjects next to their mean."""
    _head(figure, top, "a", "Prediction accuracy")
    width = pixels(WIDTH_MM) - pixels(LEFT) - pixels(RIGHT)
    box = pixels(LEFT), top + pixels(HEADING), width, pixels(PLOT)
    axes = figure.add_axes(place(figure, *box))
    spaces = [space for space in looks if space in set(numbers["space"])]
    ends = np.cumsum([0, *shares.values()])
    middles = (ends[1:] + ends[:-1]) / 2
    for roi, share, middle in zip(shares, shares.values(), middles, strict=True):
        slot = 0.8 * share / len(spaces)
        for index, space in enumerate(spaces):
            at = middle + (index - (len(spaces) - 1) / 2) * slot
            own = numbers[(numbers["roi"] == roi) & (numbers["space"] == space)]
            _draw_points(axes, at, slot, own, looks[space])
    axes.set_xlim(0, 1)
    axes.set_xticks(middles, list(shares), size=NORMAL)
    axes.tick_params(axis="x", length=0, pad=3)
    axes.set_ylabel("Mean $r$, held-out images")
    dress(axes)


def _draw_points(axes, at, slot, own, look):
    """Draw one space in one region, and above it how many subjects share the sign of the mean."""
    colour, shape = look
    mean, subjects = own[own["subject"] == MEAN], own[own["subject"] != MEAN]
    style = {"color": colour, "elinewidth": 1, "capsize": 1.6, "capthick": 1}
    for row in mean.itertuples():
        ends = [[row.value - row.ci_low], [row.ci_high - row.value]]
        axes.errorbar(at - 0.15 * slot, row.value, ends, fmt=shape, markersize=3.6, **style)
        text = f"{row.n_agree:.0f}/{row.n_subjects:.0f}"
        where = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
        axes.text(at, 1.02, text, size=SMALL, color=colour, **where)
    places = at + np.linspace(0.1, 0.35, len(subjects)) * slot
    small = {"color": colour, "alpha": 0.6, "linewidth": 0}
    axes.scatter(places, subjects["value"], s=5, marker=shape, zorder=3, **small)


def _draw_series(figure, numbers, series, looks, limits, shares, top, letter):
    """Draw unique variance over the levels of a series, one plot per region, one scale for all."""
    kind, _, variant = series.partition("-")
    heading, label = AXES[kind]
    more = f" ({VARIANTS.get(variant, variant)})" if variant else ""
    _head(figure, top, letter, heading + more)
    left, gap = pixels(LEFT), pixels(BETWEEN)
    room = pixels(WIDTH_MM) - left - pixels(RIGHT) - (len(shares) - 1) * gap
    for number, (roi, share) in enumerate(shares.items()):
        width = int(room * share)
        box = left, top + pixels(NAMES), width, pixels(HEADING + PLOT - NAMES)
        axes = figure.add_axes(place(figure, *box))
        left += width + gap
        small = share < max(shares.values())
        _draw_trends(axes, numbers[numbers["roi"] == roi], looks, small)
        axes.set_ylim(limits)
        axes.text(0.5, 1.2, roi, transform=axes.transAxes, ha="center", va="bottom", weight="bold")
        axes.set_xlabel("" if small else label, size=SMALL, labelpad=2)
        if number:
            axes.tick_params(axis="y", length=0, labelleft=False)
        else:
            axes.set_ylabel("Unique variance ($R^2$)")


def _draw_trends(axes, own, looks, small):
    """Draw both spaces in one region; above them the slopes and how many subjects agree."""
    spaces = [space for space in looks if space in set(own["space"])]
    unique = own[own["measure"] == "unique"]
    draw_controls(axes, unique[unique["subject"] == MEAN])
    for number, space in enumerate(spaces):
        colour, shape = looks[space]
        lines = unique[unique["space"] == space].sort_values("level")
        for subject, line in lines.groupby("subject"):
            style = {"color": colour, "linewidth": 0.5, "alpha": 0.4}
            if subject == MEAN:
                style = {"color": colour, "linewidth": 1, "marker": shape, "markersize": 2.8}
                ends = line["ci_low"], line["ci_high"]
                axes.fill_between(line["level"], *ends, color=colour, alpha=0.2, linewidth=0)
            axes.plot(line["level"], line["value"], **style)
        slope = own[
            (own["measure"] == "slope") & (own["subject"] == MEAN) & (own["space"] == space)
        ]
        for row in () if small else slope.itertuples():
            text = f"{row.value:+.3f}".replace("-", "−")
            text += f", {row.n_agree:.0f}/{row.n_subjects:.0f}"
            text = "0.000" if abs(row.value) < 5e-4 else text
            where = {"transform": axes.transAxes, "ha": "center", "va": "bottom"}
            down = 1.01 + 0.1 * (len(spaces) - 1 - number)
            text = f"{symbol(space)} slope {text}"
            axes.text(0.5, down, text, size=SMALL, color=colour, **where)
    levels = sorted(set(own["level"].dropna()))
    dress(axes, levels[:: max(len(levels) - 1, 1)] if small else levels)


def _notes(numbers, demo):
    """Describe what is drawn."""
    subjects = [name for name in dict.fromkeys(numbers["subject"]) if name != MEAN]
    notes = [
        f"Large symbols and thick lines: mean of {', '.join(subjects)}, with 95 % confidence "
        f"intervals for these subjects, other images like these and other parts of the regions "
        f"(bootstrap over test images and cubes of {CUBE_MM:g} mm). Small symbols and pale lines: "
        "subjects.",
        "Fractions: subjects whose value has the same sign as the mean.",
    ]
    if numbers["space"].map(is_control).any():
        notes.append(
            "Dark thin lines: controls of $z_c$, mean over subjects. What they explain requires no "
            "information from the image's caption; only what $z_c$ explains beyond them does. Grey "
            "line: the part of $z_c$ that is not linear in $z$."
        )
    if (numbers["measure"] == "slope").any():
        notes.append("Slopes: least squares, per unit of the horizontal axis.")
    return notes + ([DEMO_NOTE] if demo else [])

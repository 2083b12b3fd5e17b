"""Figure 10, not in the paper: what every added target is worth."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from nsdldm.evaluation.beyond import NEAREST
from nsdldm.evaluation.names import LOWER_IS_BETTER
from nsdldm.evaluation.tables import CEILING
from nsdldm.plots.pictures import (
    DEMO,
    DEMO_NOTE,
    LINE,
    name_method,
    name_metric,
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
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import save_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

NUMBERS = ("value", "low", "high", "chance", "floor", "ceiling")
COLUMNS = ("data", "subject", "protocol", "method", "kind", "score", *NUMBERS, "n")
PUBLISHED = "published"
REFERENCE = "zc"  # what added targets are compared with
# Colours of Okabe and Ito. What the paper decodes, what is added, no generator, true features.
GROUPS = {
    "paper": ("#0072b2", "decoded $z$ and $c$"),
    "added": ("#d55e00", "with added targets"),
    "none": ("0.45", "no generator"),
    "true": (INK, "true features"),
}
MARKERS = "osD^vP*X"  # of subjects
LINES = {
    "chance": ({"linestyle": (0, (4, 3)), "linewidth": 0.7, "color": INK}, "chance"),
    "floor": ({"linestyle": (0, (1, 1.3)), "linewidth": 0.9, "color": INK}, "training mean"),
    "ceiling": ({"linestyle": "-", "linewidth": 0.7, "color": INK}, "ceiling"),
}
REFERENCE_LINE = {"color": "#0072b2", "linewidth": 2.4, "alpha": 0.25}
# What methods are given, by feature and then by role.
GIVEN = {"z": "$z$", "c": "$c$", "zc": "$z_c$", "captions": "caption", "prior": "prior"}
ROLES = {"from": "", "text": "text", "image": "image", "pooled": "pooled text", "depth": "depth"}
BASE = {
    "z-coarse": "$z$, no diffusion",
    "z": "$z$",
    "c": "$c$",
    "zc": "$z$ + $c$",
    NEAREST: "nearest training image",
    CEILING: "true $z$ + $c$",
}
SCORES = {
    "corr16": "16 × 16 correlation",
    "pixcorr": "Pixel correlation",
    "ssim": "SSIM",
    "clip": "Identification, CLIP",
    "alexnet2": "Identification, AlexNet 2",
    "alexnet5": "Identification, AlexNet 5",
    "inception": "Identification, Inception",
    "effnet-v1": "EfficientNet distance",
    "effnet-v2": "EfficientNet distance",
    "swav": "SwAV distance",
    "meteor": "METEOR",
    "meteor-without-synonyms": "METEOR, no synonyms",
    "rouge1": "ROUGE-1",
    "rougeL": "ROUGE-L",
    "clip-text": "CLIP, with captions",
    "clip-image": "CLIP, with image",
    "spearman": "Rank correlation",
    "identification": "Identification",
    "2way": "Identification",
}
RETRIEVAL = re.compile(r"(image|brain)-top(\d+)-of-(\w+?)(-centred)?$")
# Ends of scores that share a row.
ENDS = re.compile(r"(-centred|:all|:first|:picture)$")
DIRECTIONS = {"image": "Image from brain", "brain": "Brain from image"}
PARTS = {"retrieval": "Retrieval, top 1", "caption": "Captions", "depth": "Depth"}
PART_COLOUR = GROUPS["added"][0]
# Millimetres: a row, and at least this much for each subject; the rest.
ROW, PER_SUBJECT, BETWEEN, RIGHT, MARGIN = 5.2, 1.0, 4, 3, 1.5
TITLE, HEADING, TICKS, LEGEND = 6, 5, 6.5, 4
PER_LINE = 7  # entries of the legend
MANY = 5  # from so many subjects on, symbols are smaller


class Row(NamedTuple):
    """A row of a panel.

    Parameters
    ----------
    label, small : str
        The latter in small print below.
    colour : str
    numbers : DataFrame
        With `COLUMNS`: one row per subject.
    open : DataFrame
        The same, for open symbols.
    """

    label: str
    small: str
    colour: str
    numbers: pd.DataFrame
    open: pd.DataFrame


def plot_fig10(
    *,
    table: Path | str,
    methods: Sequence[str],
    metrics: Sequence[str],
    given: dict[str, dict],
    demo: bool,
    png: Path | str,
    pdf: Path | str,
    tsv: Path | str,
) -> None:
    """Draw the scores of every method of reconstruction, and of retrieval, captions and depth.

    Parameters
    ----------
    table : path
        As `nsdldm.evaluation.beyond.tabulate_beyond` writes it. Published rows are not drawn, since
        they stand beside rows of real brains only.
    methods : sequence of str
        Methods in the order drawn.
    metrics : sequence of str
        Metrics of reconstructions, one panel each; those that were not computed are named below.
    given : dict of dict
        By method, the features that it is given: keys from, text, image, pooled, depth, and whether
        they are true (`ceiling`); other keys and None are ignored. Methods without an entry have
        their usual names.
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and the numbers that it shows with the columns of the table.

    Raises
    ------
    InputError
        The table lacks a column, or has none of the metrics for any of the methods.
    """
    numbers = choose_numbers(read_columns(table, COLUMNS), methods, metrics)
    missing = [metric for metric in metrics if metric not in set(numbers["score"])]
    if len(missing) == len(metrics):
        expected = f"values of {', '.join(metrics)} for {', '.join(methods)}"
        remedy = "Name metrics that the evaluation computes"
        raise InputError(Finding(str(table), expected, "none", remedy))
    labels = {method: label_method(method, given.get(method)) for method in methods}
    title = "What added targets are worth" + (f" – {DEMO}" if demo else "")
    with journal_style():
        notes = _notes(numbers, missing, demo)
        save_figure((png, pdf), draw_fig10(title, numbers, labels, metrics, notes))
    logger.info("%d values drawn, not computed: %s", len(numbers), ", ".join(missing) or "none")
    save_table(tsv, numbers)


def choose_numbers(
    table: pd.DataFrame, methods: Sequence[str], metrics: Sequence[str]
) -> pd.DataFrame:
    """Choose the rows that figure 10 shows.

    Parameters
    ----------
    table : DataFrame
        With `COLUMNS`.
    methods, metrics : sequence of str

    Returns
    -------
    DataFrame
        With `COLUMNS`: reconstructions in the order of metrics and methods, then top-1 retrieval,
        captions and depth in the order of the table.
    """
    table = table[(table["data"] != PUBLISHED) & table["value"].notna()][list(COLUMNS)]
    made = table[(table["kind"] == "reconstruction") & table["method"].isin(methods)]
    parts = [made[made["score"] == metric] for metric in metrics]
    order = {method: place for place, method in enumerate(methods)}
    parts = [
        part.sort_values("method", key=lambda names: names.map(order), kind="stable")
        for part in parts
    ]
    for kind in PARTS:
        own = table[table["kind"] == kind]
        if kind == "retrieval":
            own = own[[RETRIEVAL.match(score)[2] == "1" for score in own["score"]]]
        parts.append(own)
    return pd.concat(parts, ignore_index=True)


def label_method(method: str, given: dict | None) -> tuple[str, str, str]:
    """Say what a method's pictures are made of.

    Parameters
    ----------
    method : str
    given : dict or None
        As `plot_fig10` takes it for one method.

    Returns
    -------
    label, small : str
        The features that it is given, and its name.
    group : str
        One of `GROUPS`.
    """
    if given is None:
        group = {NEAREST: "none", CEILING: "true"}.get(method, "paper")
        symbol = name_method(method)
        label = BASE.get(method, symbol)
        return label, "" if label == symbol else symbol, group
    words = [
        GIVEN.get(given[role], ROLES[role] or given[role]) for role in ROLES if given.get(role)
    ]
    label = f"{'true ' if given.get('ceiling') else ''}{' + '.join(words)}"
    label += f", {given['protocol']}" if given.get("protocol") else ""
    return label, method, "true" if given.get("ceiling") else "added"


def draw_fig10(
    title: str,
    numbers: pd.DataFrame,
    labels: dict[str, tuple[str, str, str]],
    metrics: Sequence[str],
    notes: list[str],
) -> Figure:
    """Draw figure 10.

    Parameters
    ----------
    title : str
    numbers : DataFrame
        As `choose_numbers` returns it.
    labels : dict of (str, str, str)
        By method, as `label_method` returns them.
    metrics : sequence of str
    notes : list of str
        Sentences below the plot.

    Returns
    -------
    matplotlib Figure
    """
    panels = _list_panels(numbers, labels, metrics)
    parts = [(PARTS[kind], _list_scores(numbers, kind)) for kind in PARTS]
    parts = [(heading, rows) for heading, rows in parts if rows]
    subjects = list(dict.fromkeys(numbers["subject"]))
    handles = _list_handles(
        numbers, subjects, {labels[m][2] for m in numbers["method"] if m in labels}
    )
    width = pixels(WIDTH_MM)
    lines = wrap_text(" ".join(notes), width - 2 * pixels(MARGIN))
    row, frame = _row_height(subjects), pixels(HEADING) + pixels(TICKS)
    upper = frame + row * len(panels[0][1])
    lower = max((frame + row * len(rows) for _, rows in parts), default=0)
    legend = pixels(TITLE) + upper + lower
    bottom = legend + pixels(LEGEND) * -(-len(handles) // PER_LINE) + pixels(1)
    figure = new_figure(width, bottom + len(lines) * pixels(LINE) + pixels(1))
    write(figure, pixels(MARGIN), pixels(1.5), title, size=LARGE, weight="bold", va="top")
    # Methods are named once, beside the first panel.
    sides = [measure_labels(panels[0][1]), *[0] * (len(panels) - 1)]
    drawn = _draw_row(figure, pixels(TITLE), panels, sides, subjects)
    for axes, (_, rows) in zip(drawn, panels, strict=True):
        _draw_reference(axes, rows)
    sides = [measure_labels(rows) for _, rows in parts]
    _draw_row(figure, pixels(TITLE) + upper, parts, sides, subjects)
    _draw_legend(figure, legend, bottom - legend, handles)
    for number, line in enumerate(lines):
        down = bottom + number * pixels(LINE)
        write(figure, pixels(MARGIN), down, line, size=SMALL, color=FAINT, va="top")
    return figure


def _list_panels(numbers, labels, metrics):
    """Heading and rows of methods, for each metric that has values."""
    made = numbers[numbers["kind"] == "reconstruction"]
    methods = [method for method in labels if method in set(made["method"])]
    panels = []
    for metric in dict.fromkeys(metrics):
        own = made[made["score"] == metric]
        if len(own):
            rows = []
            for method in methods:
                label, small, group = labels[method]
                values = own[own["method"] == method]
                rows.append(Row(label, small, GROUPS[group][0], values, values[:0]))
            panels.append((name_score(metric), rows))
    return panels


def name_score(score: str) -> str:
    """Put the name of a score into words that fit above a panel or beside a row."""
    kind, *rest = score.split(":")
    words = SCORES.get(score) or SCORES.get(kind) or name_metric(score)
    words += f", {rest[0]}" if rest and score not in SCORES and kind in SCORES else ""
    return f"{words} (lower is better)" if score in LOWER_IS_BETTER else words


def _list_scores(numbers, kind):
    """Rows of scores of one kind, for each target or way of choosing captions."""
    own = numbers[numbers["kind"] == kind]
    several = own["method"].nunique() > 1
    rows = []
    names = own["score"].str.replace(ENDS, "", regex=True)
    for (score, method), values in own.groupby([names, "method"], sort=False):
        label, small = name_score(score), method if several else ""
        blank = values["score"].str.endswith(":first")
        if kind == "retrieval":
            direction, k, among, _ = RETRIEVAL.match(score).groups()
            label = f"{direction.title()}, {method}" if several else DIRECTIONS[direction]
            small = _name_candidates(among, values, int(k))
            blank = ~values["score"].str.endswith("-centred")
        rows.append(Row(label, small, PART_COLOUR, values[~blank], values[blank]))
    return rows


def _name_candidates(among, values, k):
    """Among how many an image is found."""
    counts = sorted({round(k / chance) for chance in values["chance"]})
    number = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
    return f"of {number} {'' if among == 'all' else 'test '}images"


def _row_height(subjects):
    """Pixels of a row, with room for every subject."""
    return pixels(max(ROW, PER_SUBJECT * len(subjects)))


def measure_labels(rows: Sequence[Row]) -> int:
    """Pixels that labels of rows need, with margins."""
    figure = new_figure(10, 10)
    texts = [figure.text(0, 0, row.label, size=NORMAL) for row in rows]
    texts += [figure.text(0, 0, row.small, size=SMALL) for row in rows]
    widest = max(text.get_window_extent().width for text in texts)
    return round(widest) + 2 * pixels(MARGIN)


def _draw_row(figure, top, panels, sides, subjects):
    """Draw panels of equal width side by side; `sides` are pixels for the labels of each."""
    room = pixels(WIDTH_MM) - pixels(RIGHT) - sum(sides) - pixels(BETWEEN) * (len(panels) - 1)
    left, drawn = 0, []
    for (heading, rows), side in zip(panels, sides, strict=True):
        box = left + side, top, room // len(panels)
        drawn.append(_draw_panel(figure, box, heading, rows, subjects, bool(side)))
        left += side + room // len(panels) + pixels(BETWEEN)
    return drawn


def _draw_panel(figure, box, heading, rows, subjects, named):
    """Draw rows below a heading; `box` is left, top and width."""
    left, top, width = box
    height = _row_height(subjects)
    axes = figure.add_axes(place(figure, left, top + pixels(HEADING), width, len(rows) * height))
    write(figure, left, top + pixels(2.5), heading, size=NORMAL, weight="bold", va="center")
    for number, row in enumerate(rows):
        if number % 2:
            axes.axhspan(number - 0.5, number + 0.5, color="0.96", linewidth=0, zorder=0)
        _draw_levels(axes, number, row.numbers if len(row.numbers) else row.open)
        _draw_subjects(axes, number, row.numbers, row.colour, subjects, row.colour)
        _draw_subjects(axes, number, row.open, row.colour, subjects, "white")
        if named:
            middle = top + pixels(HEADING) + round((number + 0.5) * height)
            shift = pixels(1.15) if row.small else 0
            style = {"ha": "right", "va": "center"}
            write(figure, left - pixels(1.5), middle - shift, row.label, size=NORMAL, **style)
            down = middle + pixels(1.35)
            write(figure, left - pixels(1.5), down, row.small, size=SMALL, color=FAINT, **style)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xlim(choose_limits(pd.concat([each for row in rows for each in row[3:]])))
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x", color="0.9", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return axes


def choose_limits(numbers: pd.DataFrame) -> tuple[float, float]:
    """Limits of an axis that shows all values, their intervals and levels.

    Parameters
    ----------
    numbers : DataFrame
        With the columns `NUMBERS`.

    Returns
    -------
    low, high : float
    """
    values = numbers[list(NUMBERS)].to_numpy(float)
    low, high = np.nanmin(values), np.nanmax(values)
    room = 0.05 * max(high - low, 0.02)
    return low - room, high + room


def _draw_levels(axes, number, own):
    """Draw chance, floor and ceiling of a row's filled symbols, means over subjects."""
    for name, (style, label) in LINES.items():
        level = own[name].mean()
        if np.isfinite(level):
            axes.vlines(level, number - 0.5, number + 0.5, zorder=2, label=label, **style)


def _draw_subjects(axes, number, own, colour, subjects, face):
    """Draw a symbol with its interval for each subject, from top to bottom."""
    n = len(subjects)
    spread = min(0.11 * n, 0.33) if n > 1 else 0
    places = np.linspace(-spread, spread, n)
    line = {"color": colour, "linewidth": 0.8 if n < MANY else 0.6, "zorder": 3}
    style = {"color": colour, "markerfacecolor": face, "markeredgewidth": 0.6, "zorder": 4}
    style |= {"markersize": 3.4 if n < MANY else 2.6}
    for row in own.itertuples():
        index = subjects.index(row.subject)
        y, marker = number + places[index], MARKERS[index % len(MARKERS)]
        axes.hlines(y, row.low, row.high, **line)
        axes.plot(row.value, y, marker=marker, linestyle="", **style)


def _draw_reference(axes, rows):
    """Draw the mean over subjects of what the paper decodes, to compare the others with."""
    own = pd.concat([row.numbers for row in rows])
    level = own.loc[own["method"] == REFERENCE, "value"].mean()
    if np.isfinite(level):
        axes.axvline(level, zorder=1, **REFERENCE_LINE)


def _list_handles(numbers, subjects, groups):
    """Legend entries of what is drawn."""
    style = {"color": FAINT, "linestyle": "", "markersize": 3.4}
    handles = [
        Line2D([], [], marker=MARKERS[index % len(MARKERS)], label=subject, **style)
        for index, subject in enumerate(subjects)
    ]
    handles += [
        Patch(color=colour, label=label)
        for group, (colour, label) in GROUPS.items()
        if group in groups
    ]
    handles += [
        Line2D([], [], label=label, **style)
        for name, (style, label) in LINES.items()
        if numbers[name].notna().any()
    ]
    if REFERENCE in set(numbers["method"]):
        handles.append(Line2D([], [], label=f"{BASE[REFERENCE]}, mean", **REFERENCE_LINE))
    return handles


def _draw_legend(figure, top, height, handles):
    """Name symbols, colours and lines."""
    axes = figure.add_axes(place(figure, 0, top, pixels(WIDTH_MM), height))
    axes.set_axis_off()
    style = {"ncols": PER_LINE, "frameon": False, "fontsize": SMALL, "handlelength": 1.6}
    style |= {"handleheight": 0.5, "columnspacing": 1.4, "handletextpad": 0.5}
    axes.legend(handles=handles, loc="center", **style)


def _notes(numbers, missing, demo):
    """Describe what is drawn."""
    counts, kinds = sorted({int(n) for n in numbers["n"]}), set(numbers["kind"])
    images = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
    exact = " and retrieval" if "retrieval" in kinds else ""
    depth = " or depth map" if "depth" in kinds else ""
    captions = "; for captions, the image's other captions" if "caption" in kinds else ""
    notes = [
        f"Symbols: subjects, with 95 % confidence intervals over {images} test images (bootstrap). "
        f"Below the features that a method is given: its name. Chance: exact for identification"
        f"{exact}, otherwise the score of what was decoded for another image. Training mean: the "
        f"mean picture{depth} in place of what was decoded. Ceiling: true features in place of "
        f"decoded ones{captions}.",
    ]
    if numbers["score"].str.endswith("-centred").any():
        notes.append(
            "Retrieval: by cosine, after subtracting the training mean (filled) or without (open)."
        )
    if numbers["score"].str.endswith(":first").any():
        notes.append(
            "Captions: compared with all captions of an image, the best of which counts (filled), "
            "or with the first (open); lines: of the former."
        )
    targets = dict.fromkeys(numbers.loc[numbers["kind"].isin(PARTS), "method"])
    if targets:
        notes.append(f"Lower row: from {', '.join(targets)}.")
    if missing:
        notes.append(f"Not computed: {', '.join(missing)}.")
    return notes + ([DEMO_NOTE] if demo else [])

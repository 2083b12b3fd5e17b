"""Figure 5: how often an image is identified from its reconstruction."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nsdldm.evaluation.tables import CEILING
from nsdldm.plots.pictures import (
    DEMO,
    DEMO_NOTE,
    LINE,
    describe_method,
    name_method,
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

HEADING = "Identifying an image from its reconstruction"
CHANCE = 0.5
MEAN = "mean"
KIND = "2way"
BASELINES = {
    "chance_random": "a random pair of images",
    "chance_mean": "the mean image",
    "chance_shuffled": "shuffled reconstructions",
}
SUMMARY = ("metric", "value", "ci_low", "ci_high", *BASELINES, "n_images", "n_samples")
# Colours of Okabe and Ito, which are safe for colour-blind readers, and shapes for greyscale print.
LOOKS = {
    "z-coarse": ("#56b4e9", "D"),
    "z": ("#0072b2", "s"),
    "c": ("#d55e00", "^"),
    "zc": ("#009e73", "o"),
}
CEILING_LOOK = (INK, "p")
OTHERS = (("#cc79a7", "v"), ("#e69f00", "P"), ("#7f6000", "X"))
BASELINE_LINE = {"color": "0.5", "linewidth": 0.8}
LOWEST = 0.4  # of the axis, unless values lie below
# With more subjects than this, intervals would overlap too much.
MOST_WHISKERS = 4
CHANCE_LINE = {"color": INK, "linewidth": 0.6, "linestyle": (0, (4, 3))}
# Millimetres: plot, space to its left, between networks, above and below.
PLOT, LEFT, BETWEEN, RIGHT, TITLE, NAMES, TICKS, LEGEND = 52, 11, 3, 2, 6, 4.5, 5, 5


def plot_fig5(
    *,
    summaries: dict[tuple[str, ...], Path | str],
    tables: dict[tuple[str, ...], Path | str],
    demo: bool,
    png: Path | str,
    pdf: Path | str,
    tsv: Path | str,
    metrics: Sequence[str] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    protocol: str | None = None,
) -> None:
    """Draw the identification accuracy of every method, by network and layer.

    Subjects are small symbols; their mean is a large symbol with a 95 % confidence interval from a
    bootstrap over images, drawn jointly for all subjects, since subjects saw the same images. Ticks
    show three baselines without any signal, averaged over subjects.

    Parameters
    ----------
    summaries, tables : dict of path
        Keys (subject, method): a row per metric with its interval and chance levels, and a row per
        metric. The method true-zc is drawn as the ceiling.
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and its numbers with the columns subject (including ``mean``), method,
        metric, value, ci_low, ci_high, chance_random, chance_mean, chance_shuffled, n_images,
        n_samples.
    metrics : sequence of str, optional
        ``kind:network:layer``, in the order drawn; all of the kind ``2way`` by default.
    bootstrap, seed : int
        Of the bootstrap.
    protocol : str, optional
        For the notes.

    Raises
    ------
    InputError
        No such metric was computed.
    """
    numbers = collect_numbers(summaries, tables, metrics, bootstrap, seed)
    computed = list(dict.fromkeys(numbers["metric"]))
    wanted = metrics or _list_metrics(summaries)
    missing = [metric for metric in wanted if metric not in computed]
    title = HEADING + (f" – {DEMO}" if demo else "")
    with journal_style():
        figure = draw_fig5(title, numbers, _notes(numbers, missing, protocol, demo))
        save_figure((png, pdf), figure)
    logger.info("%d metrics drawn, not computed: %s", len(computed), ", ".join(missing) or "none")
    save_table(tsv, numbers)


def collect_numbers(
    summaries: dict[tuple[str, ...], Path | str],
    tables: dict[tuple[str, ...], Path | str],
    metrics: Sequence[str] | None,
    bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Gather the numbers that figure 5 shows.

    Parameters
    ----------
    summaries, tables, metrics, bootstrap, seed
        As `plot_fig5`.

    Returns
    -------
    DataFrame
        As the table that `plot_fig5` writes; metrics without a value in any file are left out.
    """
    wanted = metrics or _list_metrics(summaries)
    rows = []
    for (subject, method), path in summaries.items():
        table = read_columns(path, SUMMARY)
        own = table[table["metric"].isin(wanted) & table["value"].notna()]
        rows.append(own[list(SUMMARY)].assign(subject=subject, method=method))
    rows = pd.concat(rows, ignore_index=True)
    if not len(rows):
        expected = f"values of {', '.join(wanted) or f'metrics of the kind {KIND}'}"
        remedy = "Name metrics that the evaluation computes"
        raise InputError(Finding(", ".join(map(str, summaries.values())), expected, "none", remedy))
    means = [
        _average(method, metric, own, tables, bootstrap, seed)
        for (method, metric), own in rows.groupby(["method", "metric"], sort=False)
    ]
    numbers = pd.concat([rows, pd.DataFrame(means)], ignore_index=True)
    order = {metric: index for index, metric in enumerate(wanted)}
    numbers = numbers.sort_values("metric", key=lambda names: names.map(order), kind="stable")
    return numbers[["subject", "method", *SUMMARY]].reset_index(drop=True)


def _list_metrics(summaries):
    """Two-way identification by every network and layer, in the order of the files."""
    names = {}
    for path in summaries.values():
        names |= dict.fromkeys(read_columns(path, SUMMARY)["metric"])
    return [name for name in names if name.startswith(f"{KIND}:")]


def _average(method, metric, own, tables, bootstrap, seed):
    """Mean over the subjects of one method and metric, as a row of the table."""
    values = []
    for subject in own["subject"]:
        table = read_columns(tables[subject, method], ("nsd_id", "metric", "value"))
        table = table[table["metric"] == metric]
        values.append(table.set_index("nsd_id")["value"].rename(subject))
    low, high = bootstrap_mean(pd.concat(values, axis=1).to_numpy(), bootstrap, seed)
    row = {name: own[name].mean() for name in ("value", *BASELINES)}
    row |= {"subject": MEAN, "method": method, "metric": metric, "ci_low": low, "ci_high": high}
    return row | {"n_images": own["n_images"].max(), "n_samples": own["n_samples"].max()}


def bootstrap_mean(values: np.ndarray, bootstrap: int, seed: int) -> tuple[float, float]:
    """Confidence interval of the mean over subjects of their means over images.

    Parameters
    ----------
    values : float array of shape (n_images, n_subjects)
        NaN if a subject has no value for an image.
    bootstrap, seed : int
        Bootstrap samples of images, the same for all subjects.

    Returns
    -------
    low, high : float
        2.5th and 97.5th percentile.
    """
    n = len(values)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=bootstrap)
    known = np.isfinite(values)
    sums, weights = counts @ np.where(known, values, 0), counts @ known
    with np.errstate(invalid="ignore"):
        means = (sums / weights).mean(axis=1)
    return tuple(np.nanpercentile(means, [2.5, 97.5]))


def draw_fig5(title: str, numbers: pd.DataFrame, notes: list[str]) -> Figure:
    """Draw figure 5.

    Parameters
    ----------
    title : str
    numbers : DataFrame
        As `collect_numbers` returns it.
    notes : list of str
        Sentences below the plot.

    Returns
    -------
    matplotlib Figure
    """
    width = pixels(WIDTH_MM)
    lines = wrap_text(" ".join(notes), width - pixels(3))
    below = pixels(TICKS) + pixels(LEGEND) + pixels(1.5) + len(lines) * pixels(LINE)
    figure = new_figure(width, pixels(TITLE) + pixels(NAMES) + pixels(PLOT) + below + pixels(1))
    write(figure, pixels(1.5), pixels(1.5), title, size=LARGE, weight="bold", va="top")
    networks = {}
    for metric in dict.fromkeys(numbers["metric"]):
        networks.setdefault(metric.split(":")[1], []).append(metric)
    looks = choose_looks(numbers["method"])
    limits = (find_lower_end(numbers), 1.02)
    left, top = pixels(LEFT), pixels(TITLE) + pixels(NAMES)
    room = width - left - pixels(RIGHT) - (len(networks) - 1) * pixels(BETWEEN)
    for number, (network, metrics) in enumerate(networks.items()):
        span = room * len(metrics) // sum(map(len, networks.values()))
        axes = figure.add_axes(place(figure, left, top, span, pixels(PLOT)))
        _draw_network(axes, numbers, metrics, looks)
        axes.set_title(network, size=NORMAL, pad=4)
        axes.set_ylim(limits)
        if number:
            axes.tick_params(axis="y", length=0, labelleft=False)
        else:
            axes.set_ylabel("Identification accuracy")
        left += span + pixels(BETWEEN)
    _draw_legend(figure, looks, top + pixels(PLOT) + pixels(TICKS) + pixels(LEGEND) // 2)
    for number, line in enumerate(lines):
        start = top + pixels(PLOT) + below - (len(lines) - number) * pixels(LINE)
        write(figure, pixels(1.5), start, line, size=SMALL, color=FAINT, va="top")
    return figure


def find_lower_end(numbers: pd.DataFrame) -> float:
    """Find where the axis starts: at `LOWEST`, or below all values and their intervals."""
    lowest = numbers[["value", "ci_low"]].min().min()
    return LOWEST if lowest >= LOWEST else np.floor((lowest - 0.02) * 20) / 20


def choose_looks(methods: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and shape of each method, in drawing order; the ceiling comes last."""
    names = [name for name in dict.fromkeys(methods) if name != CEILING]
    known = [name for name in LOOKS if name in names]
    others = [name for name in names if name not in LOOKS]
    if len(others) > len(OTHERS):
        expected = f"at most {len(OTHERS)} methods besides {', '.join(LOOKS)}"
        raise InputError(Finding("methods", expected, ", ".join(others), "Draw fewer of them"))
    looks = {name: LOOKS[name] for name in known} | dict(zip(others, OTHERS, strict=False))
    return looks | ({CEILING: CEILING_LOOK} if CEILING in set(methods) else {})


def _draw_network(axes, numbers, metrics, looks):
    """Draw the layers of one network side by side."""
    slot = 0.84 / max(len(looks), 1)
    axes.axhline(CHANCE, zorder=1, **CHANCE_LINE)
    for position, metric in enumerate(metrics):
        own = numbers[numbers["metric"] == metric]
        for index, (method, look) in enumerate(looks.items()):
            at = position + (index - (len(looks) - 1) / 2) * slot
            _draw_method(axes, at, slot, own[own["method"] == method], look)
    layers = [":".join(metric.split(":")[2:]) or metric for metric in metrics]
    axes.set_xlim(-0.5, len(metrics) - 0.5)
    axes.set_xticks(range(len(metrics)), layers, size=SMALL)
    axes.tick_params(axis="x", length=0, pad=3)
    axes.grid(axis="y", color="0.92", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_method(axes, at, slot, own, look):
    """Draw one method at one layer: baselines, subjects, mean with interval."""
    colour, shape = look
    mean, subjects = own[own["subject"] == MEAN], own[own["subject"] != MEAN]
    for row in mean.itertuples():
        if row.method != CEILING:
            levels = [getattr(row, name) for name in BASELINES]
            axes.hlines(levels, at - 0.36 * slot, at + 0.36 * slot, zorder=1.2, **BASELINE_LINE)
        whiskers = [[row.value - row.ci_low], [row.ci_high - row.value]]
        style = {"color": colour, "elinewidth": 1, "capsize": 1.6, "capthick": 1}
        at_mean = at - 0.2 * slot if len(subjects) > 1 else at
        axes.errorbar(at_mean, row.value, whiskers, fmt=shape, markersize=3.6, zorder=4, **style)
    if len(subjects) > 1:
        places = at + np.linspace(0.12, 0.36, len(subjects)) * slot
        style = {"color": colour, "alpha": 0.55, "linewidth": 0}
        axes.scatter(places, subjects["value"], s=3.5, marker=shape, zorder=3, **style)
        if len(subjects) <= MOST_WHISKERS:
            ends = subjects["ci_low"], subjects["ci_high"]
            axes.vlines(places, *ends, color=colour, linewidth=0.4, alpha=0.4)


def _draw_legend(figure, looks, middle):
    """Name the methods, the ceiling and the baselines in one line."""
    axes = figure.add_axes(place(figure, 0, middle, pixels(WIDTH_MM), 1))
    axes.set_axis_off()
    handles = []
    for method, (colour, shape) in looks.items():
        words = describe_method(method)
        label = f"{name_method(method)} ({words})" if words else method
        style = {"color": colour, "elinewidth": 1, "markersize": 3.6, "capsize": 1.6}
        handles.append(axes.errorbar([], [], [], fmt=shape, label=label, **style))
    handles.append(axes.plot([], [], label="no signal", **BASELINE_LINE)[0])
    handles.append(axes.plot([], [], label="chance", **CHANCE_LINE)[0])
    axes.legend(
        handles=handles,
        loc="center",
        ncols=len(handles),
        frameon=False,
        fontsize=SMALL,
        handlelength=1.4,
        handletextpad=0.5,
        columnspacing=1.6,
    )


def _notes(numbers, missing, protocol, demo):
    """Describe what is drawn."""
    subjects = [name for name in dict.fromkeys(numbers["subject"]) if name != MEAN]
    images = sorted({int(n) for n in numbers["n_images"]})
    samples = sorted({int(n) for n in numbers["n_samples"]})
    several = len(subjects) > 1
    whose = f"mean of {len(subjects)} subjects" if several else subjects[0]
    notes = [
        "Accuracy: how often an image is closer to its own reconstruction than to that of "
        "another image, in the features of a layer (below) of a network (above).",
        f"{'Large symbols' if several else 'Symbols'}: {whose}, with 95 % confidence intervals "
        f"over images (bootstrap{'; the same draws for all subjects' if several else ''}).",
    ]
    if several:
        whiskers = " with theirs" if len(subjects) <= MOST_WHISKERS else ""
        notes.append(f"Small symbols: {', '.join(subjects)}, left to right{whiskers}.")
    notes += [
        f"{_range(images)} test images, {_range(samples)} samples per image.",
        *_note_baselines(numbers),
        *([f"Protocol: {protocol}."] if protocol else []),
        *([f"Not computed: {', '.join(missing)}."] if missing else []),
    ]
    return notes + ([DEMO_NOTE] if demo else [])


def _note_baselines(numbers):
    """Describe the baselines, and say if the axis hides one or starts lower than usual."""
    start, means = find_lower_end(numbers), numbers[numbers["subject"] == MEAN]
    notes = [f"No signal: {', '.join(BASELINES.values())}."]
    lowest = {words: means[name].min() for name, words in BASELINES.items()}
    hidden = [f"{words} (from {low:.2f})" for words, low in lowest.items() if low < start]
    if hidden:
        notes.append(f"Below the axis: {', '.join(hidden)}.")
    if start < LOWEST:
        notes.append(f"The axis starts at {start:.2f}, since some values lie below {LOWEST}.")
    return notes


def _range(numbers):
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"

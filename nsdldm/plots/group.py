"""All subjects together: accuracy of each feature space, and trends of unique variance."""

import logging
from string import ascii_lowercase

import numpy as np
import pandas as pd
from nibabel.affines import voxel_sizes

from nsdldm.files import load_volume, save_table
from nsdldm.metrics.intervals import take_interval
from nsdldm.plots.fig5 import choose_looks
from nsdldm.plots.fig7 import SYMBOLS, parse_pair, parse_space
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

logger = logging.getLogger(__name__)

MEAN = "mean"
# Neighbouring voxels share noise: cubes of about this edge are drawn, not voxels.
CUBE_MM = 10.0
# Fewer cubes say nothing about how much a mean varies.
FEWEST_CUBES = 5
KEYS = ["roi", "measure", "space", "series", "level"]
NUMBERS = ["value", "ci_low", "ci_high", "n_voxels", "n_cubes"]
AGREEMENT = ["n_subjects", "n_positive", "n_agree", "n_clear"]
SERIES = {"n": "noise", "s": "step"}
AXES = {
    "noise": ("Unique variance by noise level", "Noise strength"),
    "step": ("Unique variance by denoising step", "Share of steps run"),
}
# Millimetres: margin, title, headings, plots and what lies below and between them.
LEFT, RIGHT, TITLE, HEADING, PLOT, TICKS, BETWEEN, LEGEND = 12, 2, 7, 6.5, 34, 10, 2.5, 6
NAMES = 12  # heading, regions and slopes above a plot of trends


def tabulate_group(*, encoders, joint, masks, output, min_ncsnr, repeats, seed):
    """Compare subjects: r of each space, unique variance by level, and its slope, by region.

    Values are means over the voxels of a region. Their intervals (95 %) come from a bootstrap over
    cubes of `CUBE_MM`, since neighbouring voxels are not independent; all measures of a subject and
    region share the draws, so that a slope's interval is that of the slope. The interval of the
    mean over subjects holds for these subjects, not for others.

    Parameters
    ----------
    encoders : dict of path
        Keys (subject, space): tables as `nsdldm.encoding.fit_encoders` writes them.
    joint : dict of path
        Keys (subject, pair) with pairs such as z+zc-n060: tables of joint models with a row a voxel
        and the columns i, j, k, ncsnr and unique_{space}.
    masks : dict of path
        Keys (subject, roi): masks.
    output : path
        Table with the columns subject (``mean`` among them), roi, measure (r; unique; slope, the
        least-squares change of unique variance from level 0 to 1), space, series (noise or step,
        with its variant), level, value, ci_low, ci_high (blank with fewer than `FEWEST_CUBES`
        cubes), n_voxels, n_cubes, and for the mean n_subjects, n_positive, n_agree (subjects of the
        mean's sign) and n_clear (of these, those whose interval leaves out 0).
    min_ncsnr : float
        Least ncsnr of the voxels taken; 0 takes all.
    repeats, seed : int
        Of the bootstrap.

    Raises
    ------
    InputError
        A table lacks a column, or a joint model is of another kind.
    """
    subjects = list(dict.fromkeys(subject for subject, _ in encoders))
    rows, draws = [], {}
    for subject in subjects:
        own = [_own(paths, subject) for paths in (encoders, joint, masks)]
        columns, places = _collect(*own[:2], min_ncsnr)
        for roi, path in own[2].items():
            rng = np.random.default_rng([seed, *subject.encode(), *roi.encode()])
            part, drawn = _estimate(columns, places, path, repeats, rng)
            part.insert(0, "roi", roi)
            rows.append(part.assign(subject=subject))
            draws[subject, roi] = drawn
    table = pd.concat(rows, ignore_index=True)
    means = [
        _average(keys, own, draws) for keys, own in table.groupby(KEYS, sort=False, dropna=False)
    ]
    table = pd.concat([table, pd.DataFrame(means)], ignore_index=True)
    table[AGREEMENT] = table[AGREEMENT].astype("Int64")
    save_table(output, table[["subject", *KEYS, *NUMBERS, *AGREEMENT]])
    logger.info("%d subjects, %d rows", len(subjects), len(table))


def _own(paths, subject):
    """The files of one subject by their other key."""
    return {name: path for (owner, name), path in paths.items() if owner == subject}


def _collect(encoders, joint, min_ncsnr):
    """Values of one subject's voxels by measure, space, series and level, and where they lie."""
    columns = {}
    for space, path in encoders.items():
        table = read_columns(path, ("i", "j", "k", "ncsnr", "r"))
        columns["r", space, "", np.nan] = _take(table, "r", min_ncsnr)
    for pair, path in joint.items():
        spaces = parse_pair(pair)
        table = read_columns(path, ["i", "j", "k", "ncsnr", *(f"unique_{name}" for name in spaces)])
        base, kind, level, variant = parse_space(spaces[1])
        series = SERIES[kind] + (f"-{variant}" if variant else "")
        for space, short in zip(spaces, (spaces[0], base), strict=True):
            values = _take(table, f"unique_{space}", min_ncsnr)
            columns["unique", short, series, level] = values
    columns = pd.DataFrame(columns)
    return columns, columns.index.to_frame(index=False).to_numpy()


def _take(table, column, min_ncsnr):
    """A column by voxel, without voxels below a noise ceiling."""
    chosen = table[(table["ncsnr"] >= min_ncsnr) | (min_ncsnr == 0)]
    return chosen.set_index(["i", "j", "k"])[column]


def _estimate(columns, places, mask, repeats, rng):
    """Values of one region with their intervals, and the bootstrap draws of each."""
    data, affine = load_volume(mask)
    inside = data[tuple(places.T)] > 0
    edge = np.maximum(1, np.rint(CUBE_MM / voxel_sizes(affine))).astype(int)
    cubes, cube = np.unique(places[inside] // edge, axis=0, return_inverse=True)
    values = columns.to_numpy()[inside]
    known = np.isfinite(values)
    sums, sizes = np.zeros((2, len(cubes), values.shape[1]))
    np.add.at(sums, cube.reshape(-1), np.where(known, values, 0))
    np.add.at(sizes, cube.reshape(-1), known)
    once = np.ones((1, len(cubes)))
    share = np.full(len(cubes), 1 / max(1, len(cubes)))
    counts = rng.multinomial(len(cubes), share, size=repeats) if len(cubes) else once
    with np.errstate(invalid="ignore", divide="ignore"):
        means, drawn = ((each @ sums) / (each @ sizes) for each in (once, counts))
    table = pd.DataFrame(list(columns.columns), columns=KEYS[1:])
    table["n_voxels"] = known.sum(axis=0)
    table["n_cubes"] = (sizes > 0).sum(axis=0)
    return _add_slopes(table, means[0], drawn)


def _add_slopes(table, means, drawn):
    """Add the slope of each series and space to its levels, and intervals to all."""
    extra, weights = [], []
    unique = table[table["measure"] == "unique"]
    for (space, series), own in unique.groupby(["space", "series"], sort=False):
        if own["level"].nunique() > 1:
            away = own["level"] - own["level"].mean()
            weights.append(pd.Series(away / (away**2).sum(), own.index))
            sizes = own[["n_voxels", "n_cubes"]].min().to_dict()
            row = {"measure": "slope", "space": space, "series": series, "level": np.nan}
            extra.append(row | sizes)
    for weight in weights:
        slope = [each[..., weight.index] @ weight.to_numpy() for each in (means, drawn)]
        means, drawn = np.append(means, slope[0]), np.column_stack([drawn, slope[1]])
    table = pd.concat([table, pd.DataFrame(extra)], ignore_index=True)
    enough = table["n_cubes"].to_numpy() >= FEWEST_CUBES
    low, high = np.where(enough, take_interval(drawn), np.nan)
    drawn = dict(zip(map(_key, table[KEYS[1:]].itertuples(index=False)), drawn.T, strict=True))
    return table.assign(value=means, ci_low=low, ci_high=high), drawn


def _key(row):
    """Name of a measure that equals itself, as NaN does not."""
    measure, space, series, level = row
    return measure, space, series, None if np.isnan(level) else level


def _average(keys, own, draws):
    """Mean over subjects of one measure, and how many subjects agree."""
    row = dict(zip(KEYS, keys, strict=True)) | {"subject": MEAN}
    own = own[own["value"].notna()]
    key = _key(keys[1:])
    drawn = [draws[subject, keys[0]][key] for subject in own["subject"]]
    value, sign = own["value"].mean(), np.sign(own["value"].mean())
    certain = len(own) and own["ci_low"].notna().all()
    low, high = take_interval(np.mean(drawn, axis=0)) if certain else (np.nan, np.nan)
    same = np.sign(own["value"]) == sign
    away = np.sign(own["ci_low"]) * np.sign(own["ci_high"]) > 0
    row |= {"value": value, "ci_low": low, "ci_high": high, "n_subjects": len(own)}
    row |= {"n_voxels": own["n_voxels"].sum(), "n_cubes": own["n_cubes"].sum()}
    row |= {"n_positive": (own["value"] > 0).sum(), "n_agree": same.sum()}
    return row | {"n_clear": (same & away).sum()}


def tabulate_noise(*, table, output):
    """Set unique variance under different noise side by side.

    Parameters
    ----------
    table : path
        As `tabulate_group` writes it.
    output : path
        Table with the columns subject, roi, space, level (share of the denoising steps),
        ``configured``, a column for each variant of the series of steps, all of them unique
        variance, and ``range`` between the lowest and the highest of these.

    Raises
    ------
    InputError
        The table lacks a column.
    """
    numbers = read_columns(table, ["subject", *KEYS, "value"])
    series = numbers["series"].fillna("").str.partition("-")
    steps = (numbers["measure"] == "unique") & (series[0] == SERIES["s"])
    numbers = numbers.assign(variant=series[2].replace("", "configured"))[steps]
    order = list(dict.fromkeys(numbers["variant"]))
    keys = ["subject", "roi", "space", "level"]
    wide = numbers.pivot_table("value", keys, "variant", sort=False, dropna=False)[order]
    wide["range"] = wide.max(axis=1) - wide.min(axis=1)
    save_table(output, wide.reset_index())
    logger.info("ranges of the mean: at most %.4f", wide["range"].max())


def plot_group(*, table, left_out, demo, png, pdf, tsv):
    """Draw r by region and space, and unique variance by noise level and denoising step.

    Parameters
    ----------
    table : path
        As `tabulate_group` writes it; the region cortex, which holds all others, is not drawn.
    left_out : list of str
        Variants of series that are not drawn either.
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
    numbers = numbers[~variants.isin(left_out)]
    with journal_style():
        save_figure((png, pdf), draw_group(numbers, demo))
    save_table(tsv, numbers)


def draw_group(numbers, demo):
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
    looks = choose_looks(numbers["space"])
    top = pixels(TITLE)
    _draw_accuracy(figure, numbers[numbers["measure"] == "r"], looks, top)
    for row, name in enumerate(series, 1):
        own = numbers[numbers["series"] == name]
        _draw_series(figure, own, name, looks, top + row * pitch, ascii_lowercase[row])
    bottom = top + (1 + len(series)) * pitch
    _draw_legend(figure, looks, bottom + pixels(LEGEND) // 3)
    for number, line in enumerate(lines):
        down = bottom + pixels(LEGEND) + number * pixels(LINE)
        write(figure, pixels(1.5), down, line, size=SMALL, color=FAINT, va="top")
    return figure


def _head(figure, top, letter, text):
    """Write the letter and heading of a row of plots."""
    middle = top + pixels(1.5)
    write(figure, pixels(1.5), middle, letter, size=LARGE, weight="bold", va="center")
    write(figure, pixels(5.5), middle, text, size=NORMAL, va="center")


def _name(space):
    """Symbol of a feature space; its name where it has none."""
    return SYMBOLS.get(space, (space,))[0]


def _dress(axes):
    """Grid, frame and the line of nothing."""
    axes.axhline(0, color=INK, linewidth=0.5, zorder=1)
    axes.grid(axis="y", color="0.92", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_accuracy(figure, numbers, looks, top):
    """Draw r of each space and region, subjects beside their mean."""
    _head(figure, top, "a", "Prediction accuracy")
    width = pixels(WIDTH_MM) - pixels(LEFT) - pixels(RIGHT)
    box = pixels(LEFT), top + pixels(HEADING), width, pixels(PLOT)
    axes = figure.add_axes(place(figure, *box))
    spaces = [space for space in looks if space in set(numbers["space"])]
    rois = list(dict.fromkeys(numbers["roi"]))
    slot = 0.8 / len(spaces)
    for position, roi in enumerate(rois):
        for index, space in enumerate(spaces):
            at = position + (index - (len(spaces) - 1) / 2) * slot
            own = numbers[(numbers["roi"] == roi) & (numbers["space"] == space)]
            _draw_points(axes, at, slot, own, looks[space])
    axes.set_xlim(-0.5, len(rois) - 0.5)
    axes.set_xticks(range(len(rois)), rois, size=NORMAL)
    axes.tick_params(axis="x", length=0, pad=3)
    axes.set_ylabel("Mean $r$, held-out images")
    _dress(axes)


def _draw_points(axes, at, slot, own, look):
    """Draw one space in one region, and above it how many subjects share the mean's sign."""
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


def _draw_series(figure, numbers, series, looks, top, letter):
    """Draw unique variance over the levels of a series, one plot a region, one scale for all."""
    kind, _, variant = series.partition("-")
    heading, label = AXES[kind]
    _head(figure, top, letter, heading + (f" ({variant})" if variant else ""))
    rois = list(dict.fromkeys(numbers["roi"]))
    left, gap = pixels(LEFT), pixels(BETWEEN)
    width = (pixels(WIDTH_MM) - left - pixels(RIGHT) - (len(rois) - 1) * gap) // len(rois)
    drawn = numbers.loc[numbers["measure"] == "unique", ["value", "ci_low", "ci_high"]]
    ends = np.array([0.0, np.nanmin(drawn), np.nanmax(drawn)])
    room = 0.06 * max(np.ptp(ends), 1e-3)
    limits = ends.min() - room, ends.max() + room
    for number, roi in enumerate(rois):
        box = (
            left + number * (width + gap),
            top + pixels(NAMES),
            width,
            pixels(HEADING + PLOT - NAMES),
        )
        axes = figure.add_axes(place(figure, *box))
        _draw_trends(axes, numbers[numbers["roi"] == roi], looks)
        axes.set_ylim(limits)
        axes.text(0.5, 1.2, roi, transform=axes.transAxes, ha="center", va="bottom", weight="bold")
        axes.set_xlabel(label, size=SMALL, labelpad=2)
        if number:
            axes.tick_params(axis="y", length=0, labelleft=False)
        else:
            axes.set_ylabel("Unique variance ($R^2$)")


def _draw_trends(axes, own, looks):
    """Draw both spaces in one region; above them the slopes and how many subjects agree."""
    spaces = [space for space in looks if space in set(own["space"])]
    for number, space in enumerate(spaces):
        colour, shape = looks[space]
        lines = own[(own["space"] == space) & (own["measure"] == "unique")].sort_values("level")
        for subject, line in lines.groupby("subject"):
            style = {"color": colour, "linewidth": 0.5, "alpha": 0.55}
            if subject == MEAN:
                style = {"color": colour, "linewidth": 1, "marker": shape, "markersize": 2.8}
                ends = line["ci_low"], line["ci_high"]
                axes.fill_between(line["level"], *ends, color=colour, alpha=0.2, linewidth=0)
            axes.plot(line["level"], line["value"], **style)
        slope = own[
            (own["measure"] == "slope") & (own["subject"] == MEAN) & (own["space"] == space)
        ]
        for row in slope.itertuples():
            text = f"{row.value:+.3f}".replace("-", "−")
            text += f", {row.n_agree:.0f}/{row.n_subjects:.0f}"
            text = "0.000" if abs(row.value) < 5e-4 else text
            where = {"transform": axes.transAxes, "ha": "center", "va": "bottom"}
            down = 1.01 + 0.1 * (len(spaces) - 1 - number)
            axes.text(0.5, down, f"{_name(space)} {text}", size=SMALL, color=colour, **where)
    levels = sorted(set(own["level"].dropna()))
    axes.set_xticks(levels, [f"{level:g}" for level in levels])
    axes.margins(x=0.08)
    _dress(axes)


def _draw_legend(figure, looks, middle):
    """Name the spaces in one line."""
    axes = figure.add_axes(place(figure, 0, middle, pixels(WIDTH_MM), 1))
    axes.set_axis_off()
    handles = [
        axes.plot([], [], shape, color=colour, markersize=3.6, label=_name(space))[0]
        for space, (colour, shape) in looks.items()
    ]
    style = {"loc": "center", "ncols": len(handles), "frameon": False, "fontsize": NORMAL}
    axes.legend(handles=handles, handletextpad=0.2, columnspacing=1.8, **style)


def _notes(numbers, demo):
    """Say what is drawn."""
    subjects = [name for name in dict.fromkeys(numbers["subject"]) if name != MEAN]
    notes = [
        f"Large symbols and thick lines: mean of {', '.join(subjects)}, with 95 % confidence "
        f"intervals for these subjects (bootstrap over cubes of {CUBE_MM:g} mm). Small symbols and "
        "thin lines: subjects.",
        "Fractions: subjects whose value has the sign of the mean.",
    ]
    if (numbers["measure"] == "slope").any():
        notes.append(
            "Numbers above trends: their slope (least squares, per unit of the horizontal axis)."
        )
    return notes + ([DEMO_NOTE] if demo else [])

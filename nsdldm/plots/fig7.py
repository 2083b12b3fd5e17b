"""Figures 7 and 8: the variance that z and z_c each explain uniquely."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from nsdldm.features.spaces import SERIES, parse_pair, parse_space, split_control
from nsdldm.nsd.grids import load_masks
from nsdldm.nsd.layout import HEMISPHERES
from nsdldm.plots.cortex import read_hemisphere
from nsdldm.plots.fig5 import choose_looks
from nsdldm.plots.panels import (
    draw_bar,
    draw_maps,
    fill_volume,
    lay_out_block,
    project_masks,
    project_values,
    write_directions,
)
from nsdldm.plots.pictures import DEMO, fit_picture, place, read_columns, show, write
from nsdldm.plots.style import (
    FAINT,
    LARGE,
    NORMAL,
    SMALL,
    UNIQUE,
    WIDTH_MM,
    journal_style,
    new_figure,
    pixels,
    save_figure,
    upper_limit,
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
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array, load_mask, save_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nsdldm.plots.cortex import Anatomy, Hemisphere

logger = logging.getLogger(__name__)

MEASURE = "Unique variance ({r} of both minus {r} without the space, held-out images)"
# Series of feature spaces, and titles of their rows.
KINDS = {
    "n": "Noise strength {share:g}",
    "s": "After {percent:.0f} % of the denoising steps",
}
RANKS = {"n": ("Low", "Middle", "High"), "s": ("Early", "Middle", "Late")}
FIGURES = {"n": 7, "s": 8}
# Strips around the maps, gaps, the margin and the pictures, in millimetres.
HEAD, ROW_TITLE, FOOT, GAP, MARGIN, PICTURE = 11.5, 6, 19.5, 3, 2, 15
# Line plots of regions below the maps: total, plots, and space to the left of and below them.
LINES, PLOT, LEFT, LEGEND = 38, 16.5, 13, 8
MOST_PICTURES = 3
# Which vertices are coloured, for each setting.
DRAWN = {
    "unique": "Colour: significant unique variance",
    "joint": "Colour: unique variance above 0 where both together predict held-out images",
}
COUNTS = (
    "{colour}. Counts: significant voxels of those tested, which both together predict in training."
)


def name_rows(pairs: Sequence[str]) -> list[str]:
    """Title the rows of the figure.

    Parameters
    ----------
    pairs : sequence of str
        In the order of the rows; three rows are also called low, middle and high, or early to late.

    Returns
    -------
    list of str
    """
    titles = []
    for number, pair in enumerate(pairs):
        _, kind, share, variant = parse_space(parse_pair(pair)[1])
        title = KINDS[kind].format(share=share, percent=100 * share) + (
            f", {variant}" if variant else ""
        )
        if len(pairs) == len(RANKS[kind]):
            title = f"{RANKS[kind][number]}: {title[0].lower()}{title[1:]}"
        titles.append(title)
    return titles


def plot_unique_variance(
    *,
    subject: str,
    tables: dict[str, Path | str],
    anatomy: Anatomy,
    drawn: str,
    demo: bool,
    png: Path | str,
    pdf: Path | str,
    tsv: Path | str,
    pictures: Path | str | None = None,
) -> None:
    """Draw the unique variance of two feature spaces, one row per noise level or denoising step.

    A space's unique variance is the variance that the joint model explains (R² on test images)
    minus that of the other space alone. All maps share one scale that starts at 0. Below them, the
    means over each region are drawn, together with those of the controls of z_c. Noise levels are
    figure 7, denoising steps figure 8.

    Parameters
    ----------
    subject : str
    tables : dict of path
        For each pair such as z+zc-n060, in the order of the rows, the table of its joint model,
        with a row per voxel: i, j, k, r, significant, tested, ceiling, unique_{space} and
        significant_{space}.
        Pairs such as z+zc-n060-empty and z+zc-n060-linear are controls, which have no maps.
    anatomy : nsdldm.plots.cortex.Anatomy
    drawn : {"unique", "joint"}
        Colour vertices if the nearest voxel at mid-depth has significant unique variance of that
        space, or if both spaces together predict it and unique variance is above 0. With few test
        images the latter shows the pattern, although single voxels cannot be distinguished from
        chance.
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and a summary of its maps by region with the columns of
        `summarize_unique`.
    pictures : sequence of path, optional
        ``.npy`` per row, uint8 (n_images, height, width, 3): z_c of some images as decoded by the
        autoencoder. The first `MOST_PICTURES` are drawn.

    Raises
    ------
    InputError
        A table lacks a column, or the pictures have another shape.
    """
    masks, transforms, surfaces = anatomy
    every = {pair: read_columns(path, _columns(pair)) for pair, path in tables.items()}
    read = {pair: table for pair, table in every.items() if not split_control(pair)[1]}
    strip = None if pictures is None else _read_strip(pictures, len(read))
    shape = load_mask(masks["cortex"]).shape
    hemispheres = {hemi: read_hemisphere(hemi, surfaces[hemi]) for hemi in HEMISPHERES}
    regions = {hemi: project_masks(masks, transforms[hemi]) for hemi in HEMISPHERES}
    project = partial(_project_pair, shape=shape, transforms=transforms, drawn=drawn)
    maps = {pair: project(table, pair) for pair, table in read.items()}
    values = [r2 for row in maps.values() for each in row.values() for r2 in each.values()]
    limit = upper_limit(np.concatenate(values), step=0.02)
    logger.info("%s: unique variance from 0 to %.2f, one scale for all maps", subject, limit)
    title = f"{subject} – {DEMO}" if demo else subject
    counts = {pair: _count(table, pair) for pair, table in read.items()}
    summary, note = summarize_unique(subject, every, masks), COUNTS.format(colour=DRAWN[drawn])
    with journal_style():
        shown = hemispheres, maps, regions, limit, note, summary, strip
        save_figure((png, pdf), draw_unique(title, counts, *shown))
    save_table(tsv, summary)


def find_kind(pair: str) -> str:
    """Which series a pair belongs to: "n" for noise levels, "s" for denoising steps."""
    return parse_space(parse_pair(pair)[1])[1]


def _columns(pair):
    """Columns that the table of a pair must have."""
    spaces = parse_pair(pair)
    own = [f"{name}_{space}" for name in ("unique", "significant") for space in spaces]
    return ["i", "j", "k", "r", "significant", "tested", "ceiling", *own]


def _read_strip(paths, n_rows):
    """Read the first decoded pictures of each row."""
    if len(paths) != n_rows:
        raise ValueError(f"{len(paths)} files of pictures for {n_rows} rows")
    rows = []
    for path in paths:
        row = load_array(path)
        if row.ndim != 4 or row.dtype != np.uint8 or row.shape[3] != 3 or not len(row):
            expected = "uint8 of shape (images, height, width, 3)"
            found = f"{row.dtype} of shape {row.shape}"
            raise InputError(Finding(str(path), expected, found, "Decode the pictures again"))
        rows.append(np.array(row[:MOST_PICTURES]))
    return rows


def _project_pair(table, pair, shape, transforms, drawn):
    """Unique variance of both spaces at the vertices of each hemisphere, NaN if not drawn."""
    maps = {}
    for space in parse_pair(pair):
        mask = f"significant_{space}" if drawn == "unique" else "significant"
        volumes = [fill_volume(table, name, shape) for name in (f"unique_{space}", mask)]
        values = {hemi: project_values(*volumes, at) for hemi, at in transforms.items()}
        maps[space] = {hemi: np.where(each > 0, each, np.nan) for hemi, each in values.items()}
    return maps


def _count(table, pair):
    """Count, for each space, the tested voxels with significant unique variance."""
    counts = [int((table[f"significant_{space}"] == 1).sum()) for space in parse_pair(pair)]
    return [f"{count:,} of {table['tested'].sum():,} tested voxels significant" for count in counts]


def _name_maps(maps):
    """Maps by titles in plain text."""
    return {
        f"{title} – unique to {symbol(space, mathematics=False)}": values
        for title, row in zip(name_rows(list(maps)), maps.values(), strict=True)
        for space, values in row.items()
    }


def summarize_unique(
    subject: str, tables: dict[str, pd.DataFrame], masks: dict[str, Path | str]
) -> pd.DataFrame:
    """Summarise the unique variance of one subject by region.

    Parameters
    ----------
    subject : str
    tables : dict of DataFrame
        For each pair, including controls, the table of its joint model.
    masks : dict of path
        The mask of each region, on the grid of the tables.

    Returns
    -------
    DataFrame
        Columns subject, pair, space, roi, mean_unique, median_unique and median_r (of the joint
        model) over all voxels, median_ceiling, n_voxels, n_tested, n_significant (of these) and
        median_unique_significant.
    """
    inside, _ = load_masks(masks)
    rows = []
    for pair, table in tables.items():
        voxels = tuple(table[axis] for axis in "ijk")
        for space in parse_pair(pair):
            for roi, mask in inside.items():
                chosen = table[mask[voxels]]
                found = chosen[chosen[f"significant_{space}"] == 1]
                row = {"subject": subject, "pair": pair, "space": space, "roi": roi}
                row["mean_unique"] = chosen[f"unique_{space}"].mean()
                row["median_unique"] = chosen[f"unique_{space}"].median()
                row["median_r"] = chosen["r"].median()
                row["median_ceiling"] = chosen["ceiling"].median()
                row |= {"n_voxels": len(chosen), "n_tested": int(chosen["tested"].sum())}
                row["n_significant"] = len(found)
                row["median_unique_significant"] = found[f"unique_{space}"].median()
                rows.append(row)
    return pd.DataFrame(rows)


def draw_unique(
    title: str,
    counts: dict[str, list[str]],
    hemispheres: dict[str, Hemisphere],
    maps: dict[str, dict[str, dict[str, np.ndarray]]],
    regions: dict[str, dict[str, np.ndarray]],
    limit: float,
    note: str,
    summary: pd.DataFrame,
    strip: np.ndarray | None = None,
) -> Figure:
    """Draw figure 7 or 8 from values of vertices.

    Parameters
    ----------
    title : str
    counts : dict of list of str
        For each pair, the small print of both maps.
    hemispheres : dict of Hemisphere
        lh and rh.
    maps : dict of dict of dict of float array of shape (n_vertices,)
        For each pair, for each of its spaces, for each hemisphere; NaN where not significant.
    regions : dict of dict of bool array of shape (n_vertices,)
        For each hemisphere the regions to outline.
    limit : float
        Upper end of the colour scale.
    note : str
        Which vertices are coloured.
    summary : DataFrame
        As `summarize_unique` returns it.
    strip : sequence of uint8 array of shape (n_images, height, width, 3), optional

    Returns
    -------
    matplotlib Figure
    """
    margin, gap = pixels(MARGIN), pixels(GAP)
    start = margin + (0 if strip is None else pixels(PICTURE) + gap)
    layout = lay_out_block(hemispheres, (pixels(WIDTH_MM) - margin - start - gap) // 2)
    lefts = (start, start + layout.width + gap)
    pitch = pixels(ROW_TITLE) + layout.height + pixels(1)
    tops = [pixels(HEAD) + row * pitch for row in range(len(maps))]
    bottom = tops[-1] + pitch
    figure = new_figure(pixels(WIDTH_MM), bottom + pixels(FOOT + LINES))
    places = [(left, top + pixels(ROW_TITLE)) for top in tops for left in lefts]
    colours = ScalarMappable(Normalize(0, limit), UNIQUE)
    shown = [values for row in maps.values() for values in row.values()]
    draw_maps(figure, hemispheres, regions, layout, places, shown, colours)
    _write_heads(figure, title, list(maps), lefts, layout, strip is not None)
    _write_rows(figure, counts, tops, lefts, layout)
    if strip is not None:
        _draw_strip(figure, strip, [top + pixels(ROW_TITLE) for top in tops])
    _draw_foot(figure, colours, layout, lefts, bottom, note)
    _draw_lines(figure, summary, bottom + pixels(FOOT), ascii_lowercase[len(maps)])
    return figure


def _list_lines(summary):
    """Means over regions by space and level, as `nsdldm.plots.trends` draws them."""
    spaces, controls = zip(*map(split_control, summary["space"]), strict=True)
    pairs = [split_control(pair)[0] for pair in summary["pair"]]
    own = [space.split("-")[0] for space in spaces]
    named = [
        f"{base}-{control}" if control else base
        for base, control in zip(own, controls, strict=True)
    ]
    lines = pd.DataFrame({"roi": summary["roi"], "space": named, "value": summary["mean_unique"]})
    lines["level"] = [parse_space(parse_pair(pair)[1])[2] for pair in pairs]
    # z relative to a control adds nothing new.
    again = summary["space"].map(lambda name: not split_control(name)[1])
    again &= summary["pair"].map(lambda name: bool(split_control(name)[1]))
    return lines[~again & (lines["roi"] != "cortex")]


def _draw_lines(figure, summary, top, letter):
    """Draw means over regions, one plot per region, with the controls as thin lines."""
    lines = _list_lines(summary)
    heading, label = AXES[SERIES[find_kind(summary["pair"].iloc[0])]]
    middle = top + pixels(1.5)
    write(figure, pixels(MARGIN), middle, letter, size=LARGE, weight="bold", va="center")
    text = f"{heading}, mean over each region"
    write(figure, pixels(MARGIN + 4), middle, text, size=NORMAL, va="center")
    rois, looks = (
        list(dict.fromkeys(lines["roi"])),
        choose_looks(space for space in lines["space"] if not is_control(space)),
    )
    left, gap = pixels(LEFT), pixels(GAP)
    width = (pixels(WIDTH_MM - MARGIN) - left - (len(rois) - 1) * gap) // len(rois)
    limits = choose_limits(lines["value"])
    for number, roi in enumerate(rois):
        box = left + number * (width + gap), top + pixels(ROW_TITLE), width, pixels(PLOT)
        axes = figure.add_axes(place(figure, *box))
        _draw_region(axes, lines[lines["roi"] == roi], looks)
        axes.set_ylim(limits)
        axes.set_title(roi, size=NORMAL, weight="bold", pad=2)
        axes.set_xlabel(label, size=SMALL, labelpad=1)
        if number:
            axes.tick_params(axis="y", length=0, labelleft=False)
        else:
            axes.set_ylabel("Unique variance ($R^2$)", size=SMALL)
    box = 0, top + pixels(LINES - LEGEND / 2), pixels(WIDTH_MM), 1
    draw_legend(figure.add_axes(place(figure, *box)), looks, set(lines["space"]), 4)


def _draw_region(axes, lines, looks):
    """Draw z, z_c and its controls in one region."""
    draw_controls(axes, lines)
    for space, (colour, shape) in looks.items():
        own = lines[lines["space"] == space].sort_values("level")
        axes.plot(own["level"], own["value"], color=colour, marker=shape, markersize=2.8)
    dress(axes, sorted(set(lines["level"])))


def _write_heads(figure, title, pairs, lefts, layout, decoded):
    """Write the figure's title and what each column shows."""
    write(figure, pixels(MARGIN), pixels(1.5), title, size=LARGE, weight="bold", va="top")
    style = {"size": NORMAL, "weight": "bold", "ha": "center", "va": "center"}
    middle = pixels(HEAD - 2)
    spaces = parse_pair(pairs[0])
    for left, space in zip(lefts, spaces, strict=True):
        text = f"Unique to {symbol(space)}"
        write(figure, left + layout.width // 2, middle, text, **style)
    if decoded:
        # Before the last step, the latent is not yet z_c.
        series = parse_space(spaces[1])[1]
        text = f"Decoded {symbol(spaces[1]) if series == 'n' else 'latent'}"
        write(figure, pixels(MARGIN), middle, text, **style | {"ha": "left"})


def _write_rows(figure, counts, tops, lefts, layout):
    """Write the rows' titles on the left, and the small print on the right of each map."""
    titles = name_rows(list(counts))
    for letter, text, small, top in zip(
        ascii_lowercase, titles, counts.values(), tops, strict=False
    ):
        middle, left = top + pixels(ROW_TITLE) // 2, pixels(MARGIN)
        write(figure, left, middle, letter, size=LARGE, weight="bold", va="center")
        write(figure, left + pixels(4), middle, text, size=NORMAL, va="center")
        style = {"size": SMALL, "color": FAINT, "ha": "right", "va": "center"}
        for start, count in zip(lefts, small, strict=True):
            write(figure, start + layout.width, middle, count, **style)


def _draw_strip(figure, strip, tops):
    """Draw the decoded pictures of each row below each other."""
    side = pixels(PICTURE)
    for row, top in zip(strip, tops, strict=True):
        for number, picture in enumerate(row):
            down = top + number * (side + pixels(1))
            show(figure, pixels(MARGIN), down, fit_picture(picture, side))


def _draw_foot(figure, colours, layout, lefts, top, note):
    """Draw directions under the lowest flat maps, the colour bar and the note."""
    middle = pixels(WIDTH_MM) // 2
    for left in lefts:
        write_directions(figure, layout, left, top + pixels(1))
    style = {"size": SMALL, "color": FAINT, "ha": "center", "va": "center"}
    write(figure, middle, top + pixels(FOOT - 2.2), note, **style)
    draw_bar(figure, colours, middle, top + pixels(5), MEASURE.format(r="$R^2$"))

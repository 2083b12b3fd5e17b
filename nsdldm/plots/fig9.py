"""Figure 9: which block of the U-Net predicts each voxel best, at several denoising steps."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.legend_handler import HandlerTuple
from matplotlib.ticker import MaxNLocator

from nsdldm.encoding.block_regions import read_regions, summarise_regions
from nsdldm.nsd.grids import load_masks
from nsdldm.nsd.layout import HEMISPHERES
from nsdldm.nsd.surfaces import project
from nsdldm.plots.cortex import read_hemisphere
from nsdldm.plots.panels import draw_maps, fill_volume, lay_out_row, project_masks, write_directions
from nsdldm.plots.pictures import DEMO, place, read_columns, write
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
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_mask, save_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nsdldm.plots.cortex import Anatomy, Hemisphere

logger = logging.getLogger(__name__)

# Uniform in lightness, so that the order of blocks is visible in greyscale and to the colour-blind.
BLOCKS, BRIGHTEST = "viridis", 0.97
# Fraction of white in the colour of a winner that is not clear.
PALENESS = 0.5
STEP = "After {percent:.0f} % of the denoising steps"
NOTE = (
    "Colour: {one} with the best cross-validated prediction, where it predicts held-out images "
    "significantly; pale where it is not clearly better there than the second best."
)
# Next to the bars.
NOTE_REGIONS = (
    "With a region's name: its best {one} on average, and the lead of that in R² over the second "
    "best on held-out images, with a 95 % interval over these."
)
# Names in a line of the legend, and its height in millimetres.
NAMES_IN_LINE, LINE = 8, 3.5
# Strips around the maps, gaps, the margin and the bars with their labels, in millimetres.
HEAD, ROW_TITLE, FOOT, GAP, MARGIN, BARS, NAMES, AXIS = 7, 6, 16, 4, 2, 30, 20, 6


def plot_fig9(
    *,
    subject: str,
    blocks: list[str],
    tables: dict[str, Path | str],
    errors: dict[str, Path | str],
    anatomy: Anatomy,
    repeats: int,
    seed: int,
    demo: bool,
    png: Path | str,
    pdf: Path | str,
    tsv: Path | str,
) -> None:
    """Draw the block that predicts each voxel best, one row per denoising step.

    Vertices take the value of the nearest voxel at mid-depth.

    Parameters
    ----------
    subject : str
    blocks : list of str
        Names of the blocks in the order of the network, which defines their indices.
    tables : dict of path
        For each share of the denoising steps (0 to 1), a table with a row per voxel: i, j, k,
        winner (index of the block, from 0), significant (whether it predicts the voxel) and clear
        (whether it is better than the second best).
    errors : dict of path
        For each share, the errors that `nsdldm.encoding.blocks.choose_blocks` writes.
    anatomy : nsdldm.plots.cortex.Anatomy
    repeats, seed : int
        Of the bootstrap over images.
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and the numbers drawn: what
        `count_winners` returns, and in the row of a region's best block on average its lead over
        the second best with its interval, named as by `summarise_regions`.

    Raises
    ------
    InputError
        A table lacks a column, or names a block that does not exist.
    """
    drawn = measure_best(subject, blocks, tables, errors, anatomy, repeats, seed)
    title = f"{subject} – {DEMO}" if demo else subject
    titles = {share: STEP.format(percent=100 * share) for share in tables}
    with journal_style():
        save_figure((png, pdf), draw_fig9(title, blocks, *drawn, titles))
    save_table(tsv, drawn.counts)


class Best(NamedTuple):
    """What maps of the best block show.

    Parameters
    ----------
    counts : DataFrame
        As `count_winners` returns it, with the columns lead, ci_low and ci_high.
    hemispheres : dict of Hemisphere
        lh and rh.
    maps : dict of dict of float array of shape (n_vertices,)
        For each row of the figure, for each hemisphere the numbers of `choose_colours`, NaN where
        nothing is significant.
    regions : dict of dict of bool array of shape (n_vertices,)
        For each hemisphere the regions to outline and count.
    """

    counts: pd.DataFrame
    hemispheres: dict[str, Hemisphere]
    maps: dict
    regions: dict


def measure_best(
    subject: str,
    blocks: list[str],
    tables: dict[float | str, Path | str],
    errors: dict[float | str, Path | str],
    anatomy: Anatomy,
    repeats: int,
    seed: int,
) -> Best:
    """Count and project the voxels that each block predicts best.

    Parameters
    ----------
    subject : str
    blocks : list of str
        Names in the order of the network.
    tables, errors : dict of path
        For each row of the figure, what `nsdldm.encoding.blocks.choose_blocks` writes; its keys are
        in the column share of the counts.
    anatomy : nsdldm.plots.cortex.Anatomy
    repeats, seed : int
        Of the bootstrap over images.

    Returns
    -------
    Best

    Raises
    ------
    InputError
        A table lacks a column, or names a block that does not exist.
    """
    masks, transforms, surfaces = anatomy
    read = {share: _read(path, blocks) for share, path in tables.items()}
    shape = load_mask(masks["cortex"]).shape
    hemispheres = {hemi: read_hemisphere(hemi, surfaces[hemi]) for hemi in HEMISPHERES}
    outlines = {hemi: project_masks(masks, transforms[hemi]) for hemi in HEMISPHERES}
    project = partial(_project_winner, n_blocks=len(blocks), shape=shape, transforms=transforms)
    maps = {share: project(table) for share, table in read.items()}
    counts = count_winners(subject, read, masks, blocks)
    regions = {share: read_regions(path, blocks) for share, path in errors.items()}
    counts = counts.merge(_summarise(subject, regions, blocks, repeats, seed), how="left")
    clear = {str(share): int(table["clear"].sum()) for share, table in read.items()}
    logger.info("%s: voxels with a clearly best one, by row: %s", subject, clear)
    return Best(counts, hemispheres, maps, outlines)


def _read(path, blocks):
    """Read the winners of a step; a voxel that is not significant has none."""
    table = read_columns(path, ("i", "j", "k", "winner", "significant", "clear"))
    known = table["winner"].dropna()
    if not known.isin(range(len(blocks))).all():
        expected = f"winners from 0 to {len(blocks) - 1}, the blocks {', '.join(blocks)}"
        found = f"{known.min():g} to {known.max():g}"
        raise InputError(Finding(str(path), expected, found, "Choose the blocks again"))
    winner = table["winner"].where(table["significant"] == 1)
    return table.assign(winner=winner, clear=(table["clear"] == 1) & winner.notna())


def _summarise(subject, regions, blocks, repeats, seed):
    """Rows of the best block of each region on average."""
    parts = [
        summarise_regions({subject: found}, blocks, repeats, seed).assign(share=share)
        for share, found in regions.items()
    ]
    return pd.concat(parts)[["share", "roi", "block", "second", "lead", "ci_low", "ci_high"]]


def _project_winner(table, n_blocks, shape, transforms):
    """Class, as `choose_colours` numbers them, at the vertices of each hemisphere, or NaN."""
    shown = table["winner"] + np.where(table["clear"], 0, n_blocks)
    volume = fill_volume(table.assign(shown=shown), "shown", shape)
    return {hemi: project(volume, layers, "nearest") for hemi, layers in transforms.items()}


def count_winners(
    subject: str, tables: dict[str, pd.DataFrame], masks: dict[str, Path | str], blocks: list[str]
) -> pd.DataFrame:
    """Count the voxels of each region that each block predicts best.

    Parameters
    ----------
    subject : str
    tables : dict of DataFrame
        For each share of the steps the winners.
    masks : dict of path
        The mask of each region, on the grid of the tables.
    blocks : list of str

    Returns
    -------
    DataFrame
        Columns subject, share, roi, block, n_voxels, n_clear (of these, clearly better than the
        second best), and n_significant of the region, which n_voxels sum to.
    """
    inside, _ = load_masks(masks)
    rows = []
    for share, table in tables.items():
        voxels = tuple(table[axis] for axis in "ijk")
        for roi, mask in inside.items():
            chosen = table[mask[voxels] & table["winner"].notna()]
            common = {"subject": subject, "share": share, "roi": roi}
            for number, block in enumerate(blocks):
                won = chosen[chosen["winner"] == number]
                sizes = {"n_voxels": len(won), "n_clear": int(won["clear"].sum())}
                rows.append(common | {"block": block} | sizes | {"n_significant": len(chosen)})
    return pd.DataFrame(rows)


def choose_colours(n_blocks: int) -> ScalarMappable:
    """One colour per block, from dark to bright, and a pale version of each.

    Parameters
    ----------
    n_blocks : int

    Returns
    -------
    matplotlib ScalarMappable
        Maps 0 to n_blocks - 1 to blocks that are clearly best, and n_blocks onwards to blocks that
        are best, but not clearly.
    """
    full = mpl.colormaps[BLOCKS](np.linspace(0, BRIGHTEST, n_blocks))
    pale = PALENESS + (1 - PALENESS) * full
    norm = BoundaryNorm(np.arange(2 * n_blocks + 1) - 0.5, 2 * n_blocks)
    return ScalarMappable(norm, ListedColormap(np.vstack([full, pale])))


def draw_fig9(
    title: str,
    blocks: list[str],
    counts: pd.DataFrame,
    hemispheres: dict[str, Hemisphere],
    maps: dict[str, dict[str, np.ndarray]],
    regions: dict[str, dict[str, np.ndarray]],
    titles: dict[float | str, str],
    one: str = "block",
) -> Figure:
    """Draw figure 9 from values of vertices.

    Parameters
    ----------
    title : str
    blocks : list of str
    counts, hemispheres, maps, regions
        As `Best` has them.
    titles : dict of str
        Of each row.
    one : str
        What a block is called.

    Returns
    -------
    matplotlib Figure
    """
    width, margin = pixels(WIDTH_MM), pixels(MARGIN)
    right = pixels(BARS) + pixels(NAMES) + pixels(GAP)
    layout = lay_out_row(hemispheres, width - 2 * margin - right)
    pitch = pixels(ROW_TITLE) + layout.height + pixels(AXIS)
    tops = [pixels(HEAD) + row * pitch for row in range(len(maps))]
    lines = -(-len(blocks) // NAMES_IN_LINE)
    figure = new_figure(width, tops[-1] + pitch + pixels(FOOT + LINE * (lines - 1)))
    colours = choose_colours(len(blocks))
    places = [(margin, top + pixels(ROW_TITLE)) for top in tops]
    draw_maps(
        figure, hemispheres, regions, layout, places, list(maps.values()), colours, classes=True
    )
    write(figure, margin, pixels(1.5), title, size=LARGE, weight="bold", va="top")
    drawn = counts[counts["roi"] != "cortex"]
    highest = drawn["n_significant"].max()
    totals = counts[counts["roi"] == "cortex"].groupby("share")[["n_clear", "n_voxels"]].sum()
    for letter, (share, top) in zip(ascii_lowercase, zip(maps, tops, strict=True), strict=False):
        _write_row(figure, top, letter, titles[share], *totals.loc[share])
        # The last tick label may extend to the right by half its width.
        box = (
            width - margin - pixels(BARS),
            top + pixels(ROW_TITLE),
            pixels(BARS - 2),
            layout.height,
        )
        axes = figure.add_axes(place(figure, *box))
        _draw_bars(axes, drawn[drawn["share"] == share], colours, highest)
        if top == tops[-1]:
            axes.set_xlabel("Significant voxels", labelpad=2)
    _draw_foot(figure, blocks, colours, layout, tops[-1] + pitch - pixels(AXIS), one)
    return figure


def _write_row(figure, top, letter, title, n_clear, n_found):
    """Write the title of a row and, on the right, how many voxels have a clearly best block."""
    left, middle = pixels(MARGIN), top + pixels(ROW_TITLE) // 2
    write(figure, left, middle, letter, size=LARGE, weight="bold", va="center")
    write(figure, left + pixels(4), middle, title, size=NORMAL, va="center")
    text = f"clearly best in {n_clear:,} of {n_found:,} significant voxels"
    style = {"size": SMALL, "color": FAINT, "ha": "right", "va": "center"}
    write(figure, pixels(WIDTH_MM - MARGIN), middle, text, **style)


def _draw_bars(axes, counts, colours, highest):
    """Draw a stacked bar per region: for each block the clear voxels, then the others."""
    regions = list(dict.fromkeys(counts["roi"]))
    blocks = list(dict.fromkeys(counts["block"]))
    starts = np.zeros(len(regions))
    for number, block in enumerate(blocks):
        own = counts[counts["block"] == block].set_index("roi").loc[regions]
        clear, found = own["n_clear"].to_numpy(), own["n_voxels"].to_numpy()
        for shade, length in ((number, clear), (len(blocks) + number, found - clear)):
            style = {"color": colours.to_rgba(shade), "linewidth": 0.3, "edgecolor": "white"}
            axes.barh(range(len(regions)), length, 0.72, left=starts, **style)
            starts += length
    names = [_name_region(roi, counts[counts["roi"] == roi]) for roi in regions]
    axes.set_yticks(range(len(regions)), names, size=SMALL, linespacing=1.25)
    axes.set_ylim(len(regions) - 0.5, -0.5)
    limit = max(1, highest) * 1.02
    ticks = MaxNLocator(4, integer=True).tick_values(0, limit)
    axes.set_xticks(ticks[ticks <= limit])
    axes.set_xlim(0, limit)
    axes.tick_params(axis="y", length=0, pad=2)
    axes.spines[["top", "right"]].set_visible(False)


def _name_region(roi, counts):
    """Name of a region, and its best block on average if there is one."""
    best = counts.dropna(subset="lead")
    if best.empty:
        return roi
    row = best.iloc[0]
    # Adding 0 avoids a minus sign before a rounded 0.
    lead, low, high = (round(row[name], 3) + 0.0 for name in ("lead", "ci_low", "ci_high"))
    text = f"{lead:+.3f} [{low:.3f}, {high:.3f}]".replace("0.", ".").replace("-", "\N{MINUS SIGN}")
    return f"{roi}: {row['block']}\n{text}"


def _draw_foot(figure, blocks, colours, layout, top, one):
    """Draw directions under the lowest flat map, the names of the blocks and the notes."""
    write_directions(figure, layout, pixels(MARGIN), top + pixels(1.5))
    middle = pixels(WIDTH_MM) // 2
    lower = LINE * (-(-len(blocks) // NAMES_IN_LINE) - 1)
    axes = figure.add_axes(place(figure, 0, top + pixels(11.5 + lower / 2), pixels(WIDTH_MM), 1))
    axes.set_axis_off()
    # Full and pale side by side.
    pairs = [
        tuple(axes.bar([0], [0], color=colours.to_rgba(shade)) for shade in (n, n + len(blocks)))
        for n in range(len(blocks))
    ]
    axes.legend(
        pairs,
        blocks,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
        loc="center",
        ncols=min(len(blocks), NAMES_IN_LINE),
        frameon=False,
        fontsize=NORMAL,
        handlelength=2.4,
        handleheight=1.0,
        handletextpad=0.5,
        columnspacing=1.8,
    )
    style = {"size": SMALL, "color": FAINT, "ha": "center", "va": "center"}
    for number, note in enumerate((NOTE, NOTE_REGIONS)):
        below = top + pixels(16.5 + lower + 3 * number)
        write(figure, middle, below, note.format(one=one), **style)

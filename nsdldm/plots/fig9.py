"""Figure 9: which block of the U-Net predicts each voxel best, at several denoising steps."""

import logging
from functools import partial
from html import escape
from string import ascii_lowercase

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex, to_rgba
from matplotlib.ticker import MaxNLocator
from nilearn.plotting import view_surf

from nsdldm.errors import Finding, InputError
from nsdldm.files import load_mask, save_table
from nsdldm.nsd.layout import HEMISPHERES
from nsdldm.nsd.surfaces import project
from nsdldm.plots.cortex import read_hemisphere, sulcal_grey
from nsdldm.plots.page import join_hemispheres, write_views
from nsdldm.plots.panels import draw_maps, fill_volume, plan_row, project_masks, write_directions
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

logger = logging.getLogger(__name__)

UNDECIDED = "undecided"
# Pale, and unlike both the blocks and the grey of the cortex.
UNDECIDED_SHADE = "#ecd9b8"
# Uniform in lightness, so that the order of the blocks shows in grey and to the colour-blind.
BLOCKS, BRIGHTEST = "viridis", 0.97
STEP = "After {percent:.0f} % of the denoising steps"
NOTE = (
    "Colour: block with the best cross-validated prediction, where it predicts held-out images "
    "significantly; undecided: not clearly better than the second best."
)
# Strips around the maps, gaps, the margin and the bars with their labels, in millimetres.
HEAD, ROW_TITLE, FOOT, GAP, MARGIN, BARS, NAMES, AXIS = 7, 6, 13, 4, 2, 36, 12, 6


def plot_fig9(*, subject, blocks, tables, masks, transforms, surfaces, demo, png, pdf, html, tsv):
    """Draw the best-predicting block of each voxel, one row a denoising step.

    Vertices take the value of the nearest voxel at mid-depth.

    Parameters
    ----------
    subject : str
    blocks : list of str
        Names of the blocks in the order of the network, which is that of their numbers.
    tables : dict of path
        For each share of the denoising steps (0 to 1) a table with a row a voxel: i, j, k, winner
        (number of the block from 0, blank where undecided) and significant (of its best block).
    masks : dict of path
        Regions; cortex holds all voxels, the others are drawn as outlines, named and counted.
    transforms : dict of list of path
        For lh and rh the transforms to layerB1, layerB2, layerB3.
    surfaces : dict of dict of path
        For lh and rh the files white, inflated, sulc and flat.
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, html, tsv : path
        Outputs: the figure, the same maps to turn by hand, and the counts drawn, as
        `count_winners` returns them.

    Raises
    ------
    InputError
        A table lacks a column, or names a block that there is not.
    """
    read = {share: _read(path, blocks) for share, path in tables.items()}
    shape = load_mask(masks["cortex"]).shape
    hemispheres = {hemi: read_hemisphere(hemi, surfaces[hemi]) for hemi in HEMISPHERES}
    regions = {hemi: project_masks(masks, transforms[hemi]) for hemi in HEMISPHERES}
    project = partial(_project_winner, n_blocks=len(blocks), shape=shape, transforms=transforms)
    maps = {share: project(table) for share, table in read.items()}
    counts = count_winners(subject, read, masks, blocks)
    title = f"{subject} – {DEMO}" if demo else subject
    with journal_style():
        save_figure((png, pdf), draw_fig9(title, blocks, counts, hemispheres, maps, regions))
    save_table(tsv, counts)
    named = {STEP.format(percent=100 * share): values for share, values in maps.items()}
    write_classes(html, f"Figure 9: {title}", hemispheres, named, blocks)
    decided = {f"{share:g}": int(table["winner"].notna().sum()) for share, table in read.items()}
    logger.info("%s: voxels with a best block, by share of the steps: %s", subject, decided)


def _read(path, blocks):
    """Read the winners of a step; a voxel that is not significant has none."""
    table = read_columns(path, ("i", "j", "k", "winner", "significant"))
    known = table["winner"].dropna()
    if not known.isin(range(len(blocks))).all():
        expected = f"winners from 0 to {len(blocks) - 1}, the blocks {', '.join(blocks)}"
        found = f"{known.min():g} to {known.max():g}"
        raise InputError(Finding(str(path), expected, found, "Choose the blocks again"))
    return table.assign(winner=table["winner"].where(table["significant"] == 1))


def _project_winner(table, n_blocks, shape, transforms):
    """Number of the best block at the vertices of each hemisphere, of undecided, or NaN."""
    shown = table["winner"].fillna(n_blocks).where(table["significant"] == 1)
    volume = fill_volume(table.assign(shown=shown), "shown", shape)
    return {hemi: project(volume, layers, "nearest") for hemi, layers in transforms.items()}


def count_winners(subject, tables, masks, blocks):
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
        Columns subject, share, roi, block (``undecided`` last: significant, but no block is better
        than the second), n_voxels, and n_significant of the region, which they sum to.
    """
    inside = {roi: load_mask(path) for roi, path in masks.items()}
    rows = []
    for share, table in tables.items():
        voxels = tuple(table[axis] for axis in "ijk")
        for roi, mask in inside.items():
            chosen = table[mask[voxels] & (table["significant"] == 1)]
            common = {"subject": subject, "share": share, "roi": roi}
            numbers = [int((chosen["winner"] == block).sum()) for block in range(len(blocks))]
            numbers.append(int(chosen["winner"].isna().sum()))
            for block, number in zip([*blocks, UNDECIDED], numbers, strict=True):
                sizes = {"n_voxels": number, "n_significant": len(chosen)}
                rows.append(common | {"block": block} | sizes)
    return pd.DataFrame(rows)


def choose_colours(n_blocks):
    """One colour a block, dark to bright, and one for undecided.

    Parameters
    ----------
    n_blocks : int

    Returns
    -------
    matplotlib ScalarMappable
        Of the numbers 0 to n_blocks, the last of which is undecided.
    """
    shades = mpl.colormaps[BLOCKS](np.linspace(0, BRIGHTEST, n_blocks))
    shades = np.vstack([shades, to_rgba(UNDECIDED_SHADE)])
    norm = BoundaryNorm(np.arange(n_blocks + 2) - 0.5, n_blocks + 1)
    return ScalarMappable(norm, ListedColormap(shades))


def draw_fig9(title, blocks, counts, hemispheres, maps, regions):
    """Draw figure 9 from values of vertices.

    Parameters
    ----------
    title : str
    blocks : list of str
    counts : DataFrame
        As `count_winners` returns it.
    hemispheres : dict of Hemisphere
        lh and rh.
    maps : dict of dict of float array of shape (n_vertices,)
        For each share of the steps, for each hemisphere the number of a block, that of undecided
        after them, NaN where nothing is significant.
    regions : dict of dict of bool array of shape (n_vertices,)
        For each hemisphere the regions to outline and count.

    Returns
    -------
    matplotlib Figure
    """
    width, margin = pixels(WIDTH_MM), pixels(MARGIN)
    right = pixels(BARS) + pixels(NAMES) + pixels(GAP)
    plan = plan_row(hemispheres, width - 2 * margin - right)
    pitch = pixels(ROW_TITLE) + plan.height + pixels(AXIS)
    tops = [pixels(HEAD) + row * pitch for row in range(len(maps))]
    figure = new_figure(width, tops[-1] + pitch + pixels(FOOT))
    colours = choose_colours(len(blocks))
    places = [(margin, top + pixels(ROW_TITLE)) for top in tops]
    draw_maps(
        figure, hemispheres, regions, plan, places, list(maps.values()), colours, classes=True
    )
    write(figure, margin, pixels(1.5), title, size=LARGE, weight="bold", va="top")
    drawn = counts[counts["roi"] != "cortex"]
    highest = drawn["n_significant"].max()
    totals = counts[counts["roi"] == "cortex"].set_index(["share", "block"])["n_voxels"]
    for letter, (share, top) in zip(ascii_lowercase, zip(maps, tops, strict=True), strict=False):
        _write_row(figure, top, letter, share, totals[share])
        # The last number of the axis may stand out to the right by half its width.
        box = width - margin - pixels(BARS), top + pixels(ROW_TITLE), pixels(BARS - 2), plan.height
        axes = figure.add_axes(place(figure, *box))
        _draw_bars(axes, drawn[drawn["share"] == share], colours, highest)
        if top == tops[-1]:
            axes.set_xlabel("Significant voxels", labelpad=2)
    _draw_foot(figure, blocks, colours, plan, tops[-1] + pitch - pixels(AXIS))
    return figure


def _write_row(figure, top, letter, share, totals):
    """Write the title of a row and, at the right, how many voxels have a best block."""
    left, middle = pixels(MARGIN), top + pixels(ROW_TITLE) // 2
    write(figure, left, middle, letter, size=LARGE, weight="bold", va="center")
    write(
        figure, left + pixels(4), middle, STEP.format(percent=100 * share), size=NORMAL, va="center"
    )
    decided, found = totals.drop(UNDECIDED).sum(), totals.sum()
    text = f"best block known in {decided:,} of {found:,} significant voxels"
    style = {"size": SMALL, "color": FAINT, "ha": "right", "va": "center"}
    write(figure, pixels(WIDTH_MM - MARGIN), middle, text, **style)


def _draw_bars(axes, counts, colours, highest):
    """Draw a stacked bar a region."""
    table = counts.pivot_table(index="roi", columns="block", values="n_voxels", sort=False)
    starts = np.zeros(len(table))
    for number, block in enumerate(table):
        style = {"color": colours.to_rgba(number), "linewidth": 0.3, "edgecolor": "white"}
        axes.barh(range(len(table)), table[block], 0.72, left=starts, **style)
        starts += table[block].to_numpy()
    axes.set_yticks(range(len(table)), table.index, size=SMALL)
    axes.set_ylim(len(table) - 0.5, -0.5)
    limit = max(1, highest) * 1.02
    ticks = MaxNLocator(4, integer=True).tick_values(0, limit)
    axes.set_xticks(ticks[ticks <= limit])
    axes.set_xlim(0, limit)
    axes.tick_params(axis="y", length=0, pad=2)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_foot(figure, blocks, colours, plan, top):
    """Draw directions under the lowest flat map, the names of the blocks and the note."""
    write_directions(figure, plan, pixels(MARGIN), top + pixels(1.5))
    middle = pixels(WIDTH_MM) // 2
    axes = figure.add_axes(place(figure, 0, top + pixels(11.5), pixels(WIDTH_MM), 1))
    axes.set_axis_off()
    names = [*blocks, UNDECIDED]
    shades = [colours.to_rgba(number) for number in range(len(names))]
    chips = [
        axes.bar([0], [0], color=shade, label=name)
        for shade, name in zip(shades, names, strict=True)
    ]
    axes.legend(
        handles=chips,
        loc="center",
        ncols=len(chips),
        frameon=False,
        fontsize=NORMAL,
        handlelength=1.2,
        handleheight=1.0,
        handletextpad=0.5,
        columnspacing=1.8,
    )
    style = {"size": SMALL, "color": FAINT, "ha": "center", "va": "center"}
    write(figure, middle, top + pixels(16.5), NOTE, **style)


def write_classes(path, title, hemispheres, maps, blocks):
    """Write maps of classes on both inflated hemispheres as one HTML page that needs no network.

    Parameters
    ----------
    path : str or Path
    title : str
    hemispheres : dict of Hemisphere
        lh and rh.
    maps : dict of dict of float array of shape (n_vertices,)
        As for `draw_fig9`, by title.
    blocks : list of str
    """
    coords, faces, chosen = join_hemispheres(hemispheres)
    grey = np.concatenate([sulcal_grey(each.sulc)[chosen[h]] for h, each in hemispheres.items()])
    colours = choose_colours(len(blocks))
    names = [*blocks, UNDECIDED]
    shades = [to_hex(colours.to_rgba(number)) for number in range(len(names))]
    legend = "&ensp; ".join(
        f'<span style="color: {shade}">&#9632;</span> {escape(name)}'
        for shade, name in zip(shades, names, strict=True)
    )
    views = {}
    for name, values in maps.items():
        shown = np.concatenate([values[hemi][chosen[hemi]] for hemi in hemispheres])
        views[name] = _view(coords, faces, shown, grey, colours)
    write_views(path, title, f"<p>{escape(NOTE)}</p><p>{legend}</p>", views)


def _view(coords, faces, values, grey, colours):
    """Page of one map; the legend stands above all maps instead of a colour bar."""
    return view_surf(
        (coords, faces),
        values,
        bg_map=1 - grey,  # nilearn draws high values dark
        cmap=colours.cmap,
        vmin=-0.5,
        vmax=colours.cmap.N - 0.5,
        symmetric_cmap=False,
        colorbar=False,
        view="back",
    ).get_standalone()

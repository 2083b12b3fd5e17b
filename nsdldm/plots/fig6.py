"""Figure 6: how well z, c and z_c predict each point of the cortex."""

import logging
from string import ascii_lowercase

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from nsdldm.files import load_mask, load_table, load_volume, save_table
from nsdldm.nsd.layout import HEMISPHERES
from nsdldm.nsd.surfaces import project
from nsdldm.plots.cortex import look, paint, read_hemisphere, show_field, smooth_regions
from nsdldm.plots.outlines import draw_outlines, name_regions, trace
from nsdldm.plots.page import write_page
from nsdldm.plots.style import (
    ACCURACY,
    FAINT,
    LARGE,
    NORMAL,
    SMALL,
    WIDTH_MM,
    journal_style,
    new_figure,
    pixels,
    save_figure,
    upper_limit,
)
from nsdldm.summary import MAPS, summarize_encoding

logger = logging.getLogger(__name__)

# What each feature is, and its symbol in matplotlib's mathematics and in plain text.
TITLES = {
    "z": ("Image latent", "$z$", "z"),
    "c": ("Caption embedding", "$c$", "c"),
    "zc": ("Denoised latent", "$z_c$", "z_c"),
}
DEMO = "simulated NSD (demo)"
MEASURE = "Prediction accuracy (Pearson's {r}, held-out images)"
NOTE = "Colour: significant after correction for the false discovery rate. Grey: sulcal depth."
# Strips around the maps, gaps and the colour bar, in millimetres.
HEAD, ROW_TITLE, FOOT, GAP, MARGIN = 7, 6, 19, 2, 2
BAR_WIDTH, BAR_HEIGHT = 56, 2.4


def plot_fig6(*, subject, maps, tables, masks, transforms, surfaces, demo, png, html, tsv):
    """Draw one subject's maps of prediction accuracy, one row a feature space.

    Vertices are coloured where the nearest voxel at mid-depth is significant; their value is the
    mean over three depths of linear interpolation. All maps share one scale that starts at 0.

    Parameters
    ----------
    subject : str
    maps : dict of path
        For each feature, top to bottom, a volume as written by `nsdldm.encoding.fit_encoders`.
    tables : dict of path
        For each feature, the same per voxel.
    masks : dict of path
        Regions; cortex holds all voxels, the others are drawn as outlines and named.
    transforms : dict of list of path
        For lh and rh the transforms to layerB1, layerB2, layerB3.
    surfaces : dict of dict of path
        For lh and rh the files white, inflated, sulc and flat.
    demo : bool
        Say on the figure that the data are simulated.
    png, html, tsv : path
        Outputs: the figure, the same maps to turn by hand, and their summary by region with the
        columns subject, feature, roi, median_r, median_ceiling, n_voxels, share_significant.
    """
    hemispheres = {hemi: read_hemisphere(hemi, surfaces[hemi]) for hemi in HEMISPHERES}
    accuracy = {feature: _project_map(path, transforms) for feature, path in maps.items()}
    regions = {hemi: _project_masks(masks, transforms[hemi]) for hemi in HEMISPHERES}
    limit = upper_limit(np.concatenate([r for pair in accuracy.values() for r in pair.values()]))
    logger.info("%s: accuracies from 0 to %.2f, one scale for all maps", subject, limit)
    title = f"{subject} – {DEMO}" if demo else subject
    counts = {feature: _count(tables[feature]) for feature in maps}
    with journal_style():
        figure = draw_fig6(title, counts, hemispheres, accuracy, regions, limit)
        save_figure(png, figure)
    summary = summarize_encoding(subject=subject, tables=tables, masks=masks)
    save_table(tsv, summary.drop(columns="min_ncsnr"))
    write_page(
        html,
        title=f"Figure 6: {title}",
        note=f"{MEASURE.format(r='r')}. {NOTE}",
        hemispheres=hemispheres,
        maps={_plain(feature): values for feature, values in accuracy.items()},
        limit=limit,
    )


def _project_map(path, transforms):
    """Bring r of one feature to the vertices of each hemisphere, NaN where not significant."""
    volumes, _ = load_volume(path)
    r, significant = (volumes[..., MAPS.index(name)] for name in ("r", "significant"))
    values = {}
    for hemi, layers in transforms.items():
        shown = project(significant, layers, "nearest") == 1
        values[hemi] = np.where(shown, project(r, layers, "linear"), np.nan)
    return values


def _project_masks(masks, layers):
    """Bring the regions to the vertices of one hemisphere."""
    return {
        name: project(load_mask(path), layers, "nearest") == 1
        for name, path in masks.items()
        if name != "cortex"
    }


def _count(table):
    """Say how many voxels are significant."""
    significant = load_table(table)["significant"]
    return f"{int(significant.sum()):,} of {len(significant):,} voxels significant"


def _plain(feature):
    """Title of a feature in plain text; its name where it has none."""
    words, _, symbol = TITLES.get(feature, (feature, "", ""))
    return f"{words} {symbol}".strip()


def draw_fig6(title, counts, hemispheres, accuracy, regions, limit):
    """Draw figure 6 from values of vertices.

    Parameters
    ----------
    title : str
    counts : dict of str
        Small print of each feature.
    hemispheres : dict of Hemisphere
        lh and rh.
    accuracy : dict of dict of float array of shape (n_vertices,)
        For each feature, for each hemisphere; NaN where not significant.
    regions : dict of dict of bool array of shape (n_vertices,)
        For each hemisphere the regions to outline.
    limit : float
        Upper end of the colour scale.

    Returns
    -------
    matplotlib Figure
    """
    scales, sizes = plan_panels(hemispheres)
    pitch = pixels(ROW_TITLE) + sizes["flat"][0]
    height = pixels(HEAD) + len(accuracy) * pitch + pixels(FOOT)
    figure = new_figure(pixels(WIDTH_MM), height)
    tops = [pixels(HEAD) + row * pitch for row in range(len(accuracy))]
    colours = ScalarMappable(Normalize(0, limit), ACCURACY)
    unnamed = set().union(*regions.values())
    for hemi, hemisphere in hemispheres.items():
        fields = smooth_regions(hemisphere, regions[hemi])
        values = [pair[hemi] for pair in accuracy.values()]
        for panel, (left, top) in _corners(hemi, sizes).items():
            view = look(hemisphere, panel, sizes[panel], scales[panel])
            shown = {name: show_field(view, field) for name, field in fields.items()}
            lines = [line for image in shown.values() for line in trace(image)]
            images = [paint(view, hemisphere.sulc, each, colours) for each in values]
            corners = [(left, start + pixels(ROW_TITLE) + top) for start in tops]
            axes = [_show(figure, *pair) for pair in zip(corners, images, strict=True)]
            for each in axes:
                draw_outlines(each, lines)
            if panel == "flat":
                coloured = show_field(view, np.isfinite(values[0])) > 0
                unnamed -= name_regions(axes[0], shown, unnamed, coloured)
            _label_panel(axes[0], hemi, panel)
    _write_titles(figure, title, counts, tops)
    _draw_foot(figure, colours, sizes, tops[-1] + pitch)
    return figure


def plan_panels(hemispheres):
    """Choose scales so that a row fills the width and both its kinds of panels its height.

    Parameters
    ----------
    hemispheres : dict of Hemisphere

    Returns
    -------
    scales : dict of float
        Pixels per millimetre of flat and inflated cortex.
    sizes : dict of tuple of int
        Height and width of the panels flat, lateral and medial, in pixels.
    """
    flats = [np.ptp(each.flat[np.unique(each.flat_faces)], axis=0) for each in hemispheres.values()]
    flat_width, flat_height = np.max(flats, axis=0)
    sides = [np.ptp(each.inflated, axis=0)[1:] for each in hemispheres.values()]
    width, height = np.max(sides, axis=0)
    # Two flat panels and two inflated ones side by side; two inflated ones and a gap are as high
    # as a flat one.
    gap, room = pixels(GAP), pixels(WIDTH_MM) - 2 * pixels(MARGIN) - 3 * pixels(GAP)
    flat = (room + gap * width / height) / (2 * flat_width + width * flat_height / height)
    inflated = (flat * flat_height - gap) / (2 * height)
    side = (round(inflated * height), round(inflated * width))
    tall = 2 * side[0] + gap
    sizes = {"flat": (tall, round(flat * flat_width)), "lateral": side, "medial": side}
    return {"flat": flat, "lateral": inflated, "medial": inflated}, sizes


def _corners(hemi, sizes):
    """Left and top of a hemisphere's panels in its row; the right one mirrors the left one."""
    lefts = {"flat": pixels(WIDTH_MM) // 2 - sizes["flat"][1], "side": pixels(MARGIN)}
    if hemi == "rh":
        lefts["flat"] = pixels(WIDTH_MM) // 2
        lefts["side"] = pixels(WIDTH_MM) - pixels(MARGIN) - sizes["lateral"][1]
    return {
        "flat": (lefts["flat"], 0),
        "lateral": (lefts["side"], 0),
        "medial": (lefts["side"], sizes["lateral"][0] + pixels(GAP)),
    }


def _place(figure, left, top, width, height):
    """Position in the figure of a box given in pixels from its upper left corner."""
    full_width, full_height = np.rint(figure.get_size_inches() * figure.dpi)
    bottom = full_height - top - height
    return left / full_width, bottom / full_height, width / full_width, height / full_height


def _show(figure, corner, image):
    """Show an image pixel by pixel, on axes whose unit is a pixel."""
    axes = figure.add_axes(_place(figure, *corner, image.shape[1], image.shape[0]))
    axes.imshow(image, interpolation="none")
    axes.set_axis_off()
    axes.autoscale(False)
    return axes


def _write(figure, left, top, text, **style):
    """Write text at a place given in pixels from the figure's upper left corner."""
    x, y, _, _ = _place(figure, left, top, 0, 0)
    return figure.text(x, y, text, **style)


def _label_panel(axes, hemi, panel):
    """Say which hemisphere or side a panel shows, in the corner that the cortex leaves free."""
    outer = 0.02 if hemi == "lh" else 0.98
    align = "left" if hemi == "lh" else "right"
    if panel == "flat":
        text, style = hemi[0].upper(), {"size": LARGE, "weight": "bold"}
    else:
        text, style = panel, {"size": SMALL, "color": FAINT}
    axes.text(outer, 0.02, text, transform=axes.transAxes, ha=align, va="bottom", **style)


def _write_titles(figure, title, counts, tops):
    """Write the figure's title and those of the rows, with the rows' small print at the right."""
    left, right = pixels(MARGIN), pixels(WIDTH_MM - MARGIN)
    _write(figure, left, pixels(1.5), title, size=LARGE, weight="bold", va="top")
    for letter, (feature, count), top in zip(ascii_lowercase, counts.items(), tops, strict=False):
        words, symbol, _ = TITLES.get(feature, (feature, "", ""))
        middle = top + pixels(ROW_TITLE) // 2
        _write(figure, left, middle, letter, size=LARGE, weight="bold", va="center")
        _write(figure, left + pixels(4), middle, f"{words} {symbol}", size=NORMAL, va="center")
        _write(figure, right, middle, count, size=SMALL, color=FAINT, ha="right", va="center")


def _draw_foot(figure, colours, sizes, top):
    """Draw directions under the flat maps, the colour bar and the note."""
    middle, reach = pixels(WIDTH_MM) // 2, sizes["flat"][1]
    style = {"size": SMALL, "color": FAINT, "va": "center"}
    for side, align in ((-1, "left"), (1, "right")):
        _write(figure, middle + side * reach, top + pixels(1.5), "anterior", ha=align, **style)
    _write(figure, middle, top + pixels(1.5), "posterior", ha="center", **style)
    _write(figure, middle, top + pixels(FOOT - 1.5), NOTE, ha="center", **style)
    bar = (middle - pixels(BAR_WIDTH) // 2, top + pixels(5), pixels(BAR_WIDTH), pixels(BAR_HEIGHT))
    axes = figure.add_axes(_place(figure, *bar))
    figure.colorbar(colours, cax=axes, orientation="horizontal", extend="max", extendfrac=0.03)
    axes.set_xlabel(MEASURE.format(r="$r$"), labelpad=2)
    axes.locator_params(nbins=6)

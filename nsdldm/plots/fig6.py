"""Figure 6: how well z, c and z_c predict the response at each point of the cortex."""

from __future__ import annotations

import logging
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from nsdldm.encoding.summary import MAPS, summarize_encoding
from nsdldm.nsd.layout import HEMISPHERES
from nsdldm.plots.cortex import read_hemisphere
from nsdldm.plots.panels import (
    NOTE,
    draw_bar,
    draw_maps,
    lay_out_row,
    project_masks,
    project_values,
    write_directions,
)
from nsdldm.plots.pictures import DEMO, write
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
from nsdldm.support.files import load_table, load_volume, save_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nsdldm.plots.cortex import Anatomy, Hemisphere

logger = logging.getLogger(__name__)

# Name of each feature, and its symbol in matplotlib's mathtext and in plain text.
TITLES = {
    "z": ("Image latent", "$z$", "z"),
    "c": ("Caption embedding", "$c$", "c"),
    "zc": ("Denoised latent", "$z_c$", "z_c"),
}
MEASURE = "Prediction accuracy (Pearson's {r}, held-out images)"
# Strips around the maps and the margin, in millimetres.
HEAD, ROW_TITLE, FOOT, MARGIN = 7, 6, 19, 2


def plot_fig6(
    *,
    subject: str,
    maps: dict[str, Path | str],
    tables: dict[str, Path | str],
    anatomy: Anatomy,
    demo: bool,
    png: Path | str,
    pdf: Path | str,
    tsv: Path | str,
) -> None:
    """Draw one subject's maps of prediction accuracy, one row per feature space.

    Vertices are coloured if the nearest voxel at mid-depth is significant; their value is linearly
    interpolated and averaged over three depths. All maps share one scale that starts at 0.

    Parameters
    ----------
    subject : str
    maps : dict of path
        For each feature, top to bottom, a volume as `nsdldm.encoding.scores.score_encoders` writes
        it.
    tables : dict of path
        For each feature, the same per voxel.
    anatomy : nsdldm.plots.cortex.Anatomy
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and a summary of its maps by region with the columns subject, feature,
        roi, median_r, median_ceiling, n_voxels and share_significant.
    """
    masks, transforms, surfaces = anatomy
    hemispheres = {hemi: read_hemisphere(hemi, surfaces[hemi]) for hemi in HEMISPHERES}
    accuracy = {feature: _project_map(path, transforms) for feature, path in maps.items()}
    regions = {hemi: project_masks(masks, transforms[hemi]) for hemi in HEMISPHERES}
    limit = upper_limit(np.concatenate([r for pair in accuracy.values() for r in pair.values()]))
    logger.info("%s: accuracies from 0 to %.2f, one scale for all maps", subject, limit)
    title = f"{subject} – {DEMO}" if demo else subject
    counts = {feature: _count(tables[feature]) for feature in maps}
    with journal_style():
        figure = draw_fig6(title, counts, hemispheres, accuracy, regions, limit)
        save_figure((png, pdf), figure)
    summary = summarize_encoding(subject=subject, tables=tables, masks=masks)
    save_table(tsv, summary.drop(columns="min_ncsnr"))


def _project_map(path, transforms):
    """Project r of one feature onto the vertices of each hemisphere; NaN where not significant."""
    volumes, _ = load_volume(path)
    r, significant = (volumes[..., MAPS.index(name)] for name in ("r", "significant"))
    return {hemi: project_values(r, significant, layers) for hemi, layers in transforms.items()}


def _count(table):
    """Say how many voxels are significant."""
    significant = load_table(table)["significant"]
    return f"{int(significant.sum()):,} of {len(significant):,} voxels significant"


def draw_fig6(
    title: str,
    counts: dict[str, str],
    hemispheres: dict[str, Hemisphere],
    accuracy: dict[str, dict[str, np.ndarray]],
    regions: dict[str, dict[str, np.ndarray]],
    limit: float,
) -> Figure:
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
    layout = lay_out_row(hemispheres, pixels(WIDTH_MM) - 2 * pixels(MARGIN))
    pitch = pixels(ROW_TITLE) + layout.height
    height = pixels(HEAD) + len(accuracy) * pitch + pixels(FOOT)
    figure = new_figure(pixels(WIDTH_MM), height)
    tops = [pixels(HEAD) + row * pitch for row in range(len(accuracy))]
    colours = ScalarMappable(Normalize(0, limit), ACCURACY)
    places = [(pixels(MARGIN), top + pixels(ROW_TITLE)) for top in tops]
    draw_maps(figure, hemispheres, regions, layout, places, list(accuracy.values()), colours)
    _write_titles(figure, title, counts, tops)
    _draw_foot(figure, colours, layout, tops[-1] + pitch)
    return figure


def _write_titles(figure, title, counts, tops):
    """Write the titles of the figure and of its rows, with the rows' small print on the right."""
    left, right = pixels(MARGIN), pixels(WIDTH_MM - MARGIN)
    write(figure, left, pixels(1.5), title, size=LARGE, weight="bold", va="top")
    for letter, (feature, count), top in zip(ascii_lowercase, counts.items(), tops, strict=False):
        words, symbol, _ = TITLES.get(feature, (feature, "", ""))
        middle = top + pixels(ROW_TITLE) // 2
        write(figure, left, middle, letter, size=LARGE, weight="bold", va="center")
        write(figure, left + pixels(4), middle, f"{words} {symbol}", size=NORMAL, va="center")
        write(figure, right, middle, count, size=SMALL, color=FAINT, ha="right", va="center")


def _draw_foot(figure, colours, layout, top):
    """Draw directions under the flat maps, the colour bar and the note."""
    middle = pixels(WIDTH_MM) // 2
    write_directions(figure, layout, pixels(MARGIN), top + pixels(1.5))
    style = {"size": SMALL, "color": FAINT, "ha": "center", "va": "center"}
    write(figure, middle, top + pixels(FOOT - 1.5), NOTE, **style)
    draw_bar(figure, colours, middle, top + pixels(5), MEASURE.format(r="$r$"))

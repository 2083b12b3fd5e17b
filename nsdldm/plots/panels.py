"""Arrange maps of both hemispheres, inflated and flat, in a figure; shared by figures 6 to 9."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nsdldm.nsd.surfaces import project
from nsdldm.plots.cortex import look, paint, show_field, smooth_regions
from nsdldm.plots.outlines import draw_outlines, name_regions, trace
from nsdldm.plots.pictures import place, show, write
from nsdldm.plots.style import FAINT, LARGE, SMALL, pixels
from nsdldm.support.files import load_mask

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from nsdldm.plots.cortex import Hemisphere, Raster

GAP = 2  # millimetres between panels
# Lower panels have their names below, where the cortex cannot overlap them.
ROOMY = 18
BELOW = 2.6
NOTE = "Colour: significant after correction for the false discovery rate. Grey: sulcal depth."


@dataclass(frozen=True)
class Layout:
    """The arrangement of the six panels of one map.

    Parameters
    ----------
    scales : dict of float
        Pixels per millimetre of cortex in the panels flat, lateral and medial.
    sizes : dict of tuple of int
        Height and width of these panels in pixels.
    corners : dict of dict of tuple of int
        For lh and rh, left and top of each panel from the map's upper left corner, in pixels.
    width, height : int
        Of the map.
    """

    scales: dict
    sizes: dict
    corners: dict
    width: int
    height: int


def _extents(hemispheres):
    """Width and height in millimetres of the larger flat map and of the larger inflated side."""
    flats = [np.ptp(each.flat[np.unique(each.flat_faces)], axis=0) for each in hemispheres.values()]
    sides = [np.ptp(each.inflated, axis=0)[1:] for each in hemispheres.values()]
    return np.max(flats, axis=0), np.max(sides, axis=0)


def lay_out_row(hemispheres: dict[str, Hemisphere], width: int) -> Layout:
    """Lay out a map with the flat panels between the inflated ones, as high as two of these.

    Parameters
    ----------
    hemispheres : dict of Hemisphere
        lh and rh.
    width : int
        Pixels to fill.

    Returns
    -------
    Layout
    """
    (flat_width, flat_height), (across, up) = _extents(hemispheres)
    gap = pixels(GAP)
    room = width - 3 * gap
    flat = (room + gap * across / up) / (2 * flat_width + across * flat_height / up)
    inflated = (flat * flat_height - gap) / (2 * up)
    side = (round(inflated * up), round(inflated * across))
    tall, wide = 2 * side[0] + gap, round(flat * flat_width)
    below = side[0] + gap
    corners = {
        "lh": {"flat": (width // 2 - wide, 0), "lateral": (0, 0), "medial": (0, below)},
        "rh": {
            "flat": (width // 2, 0),
            "lateral": (width - side[1], 0),
            "medial": (width - side[1], below),
        },
    }
    scales = {"flat": flat, "lateral": inflated, "medial": inflated}
    sizes = {"flat": (tall, wide), "lateral": side, "medial": side}
    return Layout(scales, sizes, corners, width, tall)


def lay_out_block(hemispheres: dict[str, Hemisphere], width: int) -> Layout:
    """Lay out a map with the four inflated panels in a row above the flat ones.

    Parameters
    ----------
    hemispheres, width
        As `lay_out_row`.

    Returns
    -------
    Layout
    """
    (flat_width, flat_height), (across, up) = _extents(hemispheres)
    gap = pixels(GAP)
    flat, inflated = width / 2 / flat_width, (width - 3 * gap) / 4 / across
    side = (round(inflated * up), int(inflated * across))
    wide, top = width // 2, side[0] + pixels(BELOW)
    tall = round(flat * flat_height)
    step = side[1] + gap
    corners = {
        "lh": {"flat": (0, top), "lateral": (0, 0), "medial": (step, 0)},
        "rh": {
            "flat": (width - wide, top),
            "lateral": (width - side[1], 0),
            "medial": (width - step - side[1], 0),
        },
    }
    scales = {"flat": flat, "lateral": inflated, "medial": inflated}
    sizes = {"flat": (tall, wide), "lateral": side, "medial": side}
    return Layout(scales, sizes, corners, width, top + tall)


def draw_maps(
    figure: Figure,
    hemispheres: dict[str, Hemisphere],
    regions: dict[str, dict[str, np.ndarray]],
    layout: Layout,
    places: Sequence[tuple[int, int]],
    maps: Sequence[dict[str, np.ndarray]],
    colours: ScalarMappable,
    classes: bool = False,
) -> None:
    """Draw maps that share their views, colours and outlines.

    Regions are named, and panels labelled, on the first map only.

    Parameters
    ----------
    figure : matplotlib Figure
    hemispheres : dict of Hemisphere
        lh and rh.
    regions : dict of dict of bool array of shape (n_vertices,)
        For each hemisphere the regions to outline.
    layout : Layout
    places : sequence of (int, int)
        Left and top of each map in pixels from the figure's upper left corner.
    maps : sequence of dict of float array of shape (n_vertices,)
        Values of each hemisphere, NaN where the cortex stays grey.
    colours : matplotlib ScalarMappable
    classes : bool
        Values are classes: pixels take that of the nearest vertex, never a mean.
    """
    unnamed = set().union(*regions.values())
    for hemi, hemisphere in hemispheres.items():
        fields = smooth_regions(hemisphere, regions[hemi])
        values = [pair[hemi] for pair in maps]
        for panel, (left, top) in layout.corners[hemi].items():
            view = look(hemisphere, panel, layout.sizes[panel], layout.scales[panel])
            shown = {name: show_field(view, field) for name, field in fields.items()}
            lines = [line for image in shown.values() for line in trace(image)]
            axes = []
            for (right, down), each in zip(places, values, strict=True):
                seen = snap(view, each) if classes else view
                image = paint(seen, hemisphere.sulc, each, colours)
                axes.append(show(figure, left + right, top + down, image))
                draw_outlines(axes[-1], lines)
            if panel == "flat":
                coloured = show_field(view, np.isfinite(values[0])) > 0
                unnamed -= name_regions(axes[0], shown, unnamed, coloured)
            _label_panel(axes[0], hemi, panel)


def snap(view: Raster, values: np.ndarray) -> Raster:
    """Make each pixel that `paint` would colour show a single vertex, the nearest with a value.

    Parameters
    ----------
    view : Raster
    values : float array of shape (n_vertices,)
        Classes; NaN where there is none.

    Returns
    -------
    Raster
        Pixels that stay grey are unchanged.
    """
    known = np.isfinite(values)[view.corners]
    coloured = (known * view.weights).sum(axis=1) > 0.5
    nearest = np.argmax(np.where(known, view.weights, -1), axis=1)
    alone = np.eye(3, dtype=view.weights.dtype)[nearest]
    return replace(view, weights=np.where(coloured[:, None], alone, view.weights))


def _label_panel(axes, hemi, panel):
    """Label the hemisphere or side of a panel, in or below its free corner."""
    outer = 0.02 if hemi == "lh" else 0.98
    align = "left" if hemi == "lh" else "right"
    if panel == "flat":
        text, style = hemi[0].upper(), {"size": LARGE, "weight": "bold"}
    else:
        text, style = panel, {"size": SMALL, "color": FAINT}
    narrow = panel != "flat" and axes.bbox.height < pixels(ROOMY)
    down, rest = (-0.01, "top") if narrow else (0.02, "bottom")
    axes.text(outer, down, text, transform=axes.transAxes, ha=align, va=rest, **style)


def write_directions(figure: Figure, layout: Layout, left: int, top: int) -> None:
    """Write anatomical directions below the flat panels of a map.

    Parameters
    ----------
    figure : matplotlib Figure
    layout : Layout
    left, top : int
        Left edge of the map and middle of the text, in pixels.
    """
    middle, reach = left + layout.width // 2, layout.sizes["flat"][1]
    style = {"size": SMALL, "color": FAINT, "va": "center"}
    for side, align in ((-1, "left"), (1, "right")):
        write(figure, middle + side * reach, top, "anterior", ha=align, **style)
    write(figure, middle, top, "posterior", ha="center", **style)


def draw_bar(
    figure: Figure,
    colours: ScalarMappable,
    middle: int,
    top: int,
    label: str,
    width: float = 56,
    height: float = 2.4,
) -> None:
    """Draw a horizontal colour bar that extends beyond its upper end.

    Parameters
    ----------
    figure : matplotlib Figure
    colours : matplotlib ScalarMappable
    middle, top : int
        In pixels.
    label : str
    width, height : float
        In millimetres.
    """
    box = (middle - pixels(width) // 2, top, pixels(width), pixels(height))
    axes = figure.add_axes(place(figure, *box))
    figure.colorbar(colours, cax=axes, orientation="horizontal", extend="max", extendfrac=0.03)
    axes.set_xlabel(label, labelpad=2)
    axes.locator_params(nbins=6)


def project_masks(masks: dict[str, Path | str], layers: list[Path | str]) -> dict[str, np.ndarray]:
    """Project regions onto the vertices of one hemisphere.

    Parameters
    ----------
    masks : dict of path
        NIfTI masks; cortex, which contains all voxels, is left out.
    layers : list of path
        Transforms to layerB1, layerB2, layerB3.

    Returns
    -------
    dict of bool array of shape (n_vertices,)
    """
    return {
        name: project(load_mask(path), layers, "nearest") == 1
        for name, path in masks.items()
        if name != "cortex"
    }


def fill_volume(table: pd.DataFrame, column: str, shape: tuple[int, ...]) -> np.ndarray:
    """Put a column of a table with a row per voxel (i, j, k) into a volume, NaN elsewhere.

    Parameters
    ----------
    table : DataFrame
    column : str
    shape : tuple of int

    Returns
    -------
    float array of shape `shape`
    """
    volume = np.full(shape, np.nan)
    volume[tuple(table[axis].to_numpy() for axis in "ijk")] = table[column].to_numpy(float)
    return volume


def project_values(
    volume: np.ndarray, significant: np.ndarray, layers: list[Path | str]
) -> np.ndarray:
    """Project values onto the vertices of one hemisphere.

    Parameters
    ----------
    volume, significant : float array of shape (X, Y, Z)
    layers : list of path
        Transforms to layerB1, layerB2, layerB3.

    Returns
    -------
    float array of shape (n_vertices,)
        Linear interpolation, averaged over three depths; NaN if the nearest voxel at mid-depth is
        not significant (1).
    """
    shown = project(significant, layers, "nearest") == 1
    return np.where(shown, project(volume, layers, "linear"), np.nan)

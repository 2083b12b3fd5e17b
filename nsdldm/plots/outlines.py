"""Outlines of regions on a view of the cortex, and their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from contourpy import contour_generator
from matplotlib.collections import LineCollection
from matplotlib.patheffects import Normal
from scipy.ndimage import distance_transform_edt, uniform_filter

from nsdldm.plots.style import INK, SMALL, halo

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE, RIM = 0.6, 1.5  # points
# In pixels of the figure: space around a name, and step size of candidate positions.
CLEARANCE, STEP = 9, 5
SHORTEST = 25
# How much longer a line may be to avoid crossing another region.
DETOUR = 4


def trace(image: np.ndarray) -> list[np.ndarray]:
    """Find the outline of a region.

    Parameters
    ----------
    image : float array of shape (height, width)
        As returned by `nsdldm.plots.cortex.show_field`: above 0.5 inside, NaN outside the cortex,
        where outlines end.

    Returns
    -------
    list of float array of shape (n, 2)
        Column and row along each line. Lines shorter than `SHORTEST` are left out; a region that
        just reaches over the horizon of a view would leave dots there.
    """
    lines = contour_generator(z=np.ma.masked_invalid(image)).lines(0.5)
    return [
        line for line in lines if np.linalg.norm(np.diff(line, axis=0), axis=1).sum() > SHORTEST
    ]


def draw_outlines(axes: Axes, lines: list[np.ndarray]) -> None:
    """Draw thin dark lines with a white rim, visible on colours and greys.

    Parameters
    ----------
    axes : matplotlib Axes
        Shows the view, one unit per pixel.
    lines : list of float array of shape (n, 2)
        As returned by `trace`.
    """
    style = {"colors": INK, "linewidths": LINE, "path_effects": [*halo(RIM), Normal()]}
    axes.add_collection(LineCollection(lines, joinstyle="round", **style), autolim=False)


def name_regions(
    axes: Axes, images: dict[str, np.ndarray], names: set[str], taken: np.ndarray
) -> set[str]:
    """Name regions where there is space, each with a thin line to its widest part.

    Parameters
    ----------
    axes : matplotlib Axes
        Shows the view, one unit per pixel.
    images : dict of float array of shape (height, width)
        Regions as for `trace`.
    names : set of str
        Regions to name.
    taken : bool array of shape (height, width)
        Pixels that names must avoid, in addition to those of the regions.

    Returns
    -------
    set of str
        The names written: those of visible regions.
    """
    inside = {name: image > 0.5 for name, image in images.items()}
    seen = {name for name in names if inside[name].any()}
    free = ~np.logical_or.reduce([taken, *inside.values()])
    for name in sorted(seen):
        anchor = innermost(inside[name])
        text = axes.text(0, 0, name, size=SMALL, ha="center", va="center", path_effects=halo(1))
        box = text.get_window_extent()
        half = (np.ceil([box.height, box.width]).astype(int) + 2 * CLEARANCE) // 2
        place = find_room(free, 2 * half + 1, anchor, ~free & ~inside[name])
        text.set_position(place[::-1])
        top, left = np.maximum(np.array(place) - half, 0)
        free[top : place[0] + half[0] + 1, left : place[1] + half[1] + 1] = False
        _point(axes, text, anchor)
    return seen


def _point(axes, text, anchor):
    """Draw a thin line from a name to its region."""
    style = {"arrowstyle": "-", "linewidth": 0.5, "color": INK, "patchA": text}
    style |= {"shrinkA": 1, "shrinkB": 0, "path_effects": [*halo(1.2), Normal()]}
    axes.annotate("", xy=anchor[::-1], xytext=text.get_position(), arrowprops=style)
    axes.plot(*anchor[::-1], "o", markersize=2, color=INK, markeredgecolor="white", mew=0.3)


def innermost(inside: np.ndarray) -> tuple[int, ...]:
    """Find the point of a region that is farthest from its edge.

    Parameters
    ----------
    inside : bool array of shape (height, width)

    Returns
    -------
    tuple of int
        Row and column.
    """
    depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    return tuple(int(place) for place in np.unravel_index(np.argmax(depth), depth.shape))


def find_room(
    free: np.ndarray, size: tuple[int, int], anchor: tuple[int, int], crossed: np.ndarray
) -> tuple[int, int]:
    """Find where a box fits into free pixels near a point, with a direct connecting line.

    Parameters
    ----------
    free : bool array of shape (height, width)
    size : pair of odd int
        Height and width of the box.
    anchor : pair of int
        Row and column of the point.
    crossed : bool array of shape (height, width)
        Pixels that the line between box and point should avoid.

    Returns
    -------
    row, column : int
        Centre of the box; `anchor` if there is no free space.
    """
    fits = uniform_filter(free.astype(np.float64), tuple(size), mode="constant") > 1 - 1e-6
    places = np.argwhere(fits[::STEP, ::STEP]) * STEP
    if not len(places):
        return tuple(anchor)
    anchor = np.asarray(anchor)
    share = np.linspace(0, 1, 50)[:, None, None]
    rows, columns = np.moveaxis(np.rint(anchor + share * (places - anchor)).astype(int), 2, 0)
    length = np.linalg.norm(places - anchor, axis=1)
    cost = length * (1 + DETOUR * crossed[rows, columns].mean(axis=0))
    row, column = places[np.argmin(cost)]
    return int(row), int(column)

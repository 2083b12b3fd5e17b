"""Outlines of regions on a view of the cortex, and their names."""

import numpy as np
from matplotlib.patheffects import Normal
from scipy.ndimage import distance_transform_edt, uniform_filter

from nsdldm.plots.style import INK, SMALL, halo

LINE, RIM = 0.6, 1.5  # points
# In pixels of the figure: room around a name, and steps in which places are tried.
CLEARANCE, STEP = 6, 5
# How much longer a line may be to avoid a stretch through another region.
DETOUR = 4


def draw_outlines(axes, images):
    """Draw regions as thin dark lines with a white rim, legible on colours and greys.

    Parameters
    ----------
    axes : matplotlib Axes
        Shows the view, one unit a pixel.
    images : dict of float array of shape (height, width)
        A region is where its image, as returned by `nsdldm.plots.cortex.show_field`, is above 0.5.
    """
    for image in images.values():
        if np.nanmax(image, initial=0) > 0.5:
            lines = axes.contour(np.ma.masked_invalid(image), [0.5], colors=INK, linewidths=LINE)
            lines.set_path_effects([*halo(RIM), Normal()])


def name_regions(axes, images, names, taken):
    """Name regions where there is room, each with a thin line to where it is widest.

    Parameters
    ----------
    axes, images
        As for `draw_outlines`.
    names : set of str
        Regions to name.
    taken : bool array of shape (height, width)
        Pixels that names must leave alone, beside those of the regions.

    Returns
    -------
    set of str
        The names written: those of the regions that are seen.
    """
    inside = {name: image > 0.5 for name, image in images.items()}
    seen = {name for name in names if inside[name].any()}
    free = ~np.logical_or.reduce([taken, *inside.values()])
    for name in sorted(seen):
        others = [region for other, region in inside.items() if other != name]
        anchor = innermost(inside[name])
        text = axes.text(0, 0, name, size=SMALL, ha="center", va="center", path_effects=halo(1))
        box = text.get_window_extent()
        half = (np.ceil([box.height, box.width]).astype(int) + 2 * CLEARANCE) // 2
        place = find_room(free, 2 * half + 1, anchor, np.logical_or.reduce(others))
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
    axes.plot(*anchor[::-1], "o", markersize=1.6, color=INK, markeredgecolor="white", mew=0.3)


def innermost(inside):
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


def find_room(free, size, anchor, crossed):
    """Find where a box fits into free pixels near a point and without detours.

    Parameters
    ----------
    free : bool array of shape (height, width)
    size : pair of odd int
        Height and width of the box.
    anchor : pair of int
        Row and column of the point.
    crossed : bool array of shape (height, width)
        Pixels that the line between box and point had better not cross.

    Returns
    -------
    row, column : int
        Centre of the box; on `anchor` when nothing is free.
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

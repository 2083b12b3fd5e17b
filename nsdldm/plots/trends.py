"""Lines of unique variance over noise levels or denoising steps, with the controls of z_c."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nsdldm.features.spaces import BEYOND, CONTROLS, PARTS, split_control
from nsdldm.plots.style import INK, NORMAL

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SYMBOLS = {"z": ("$z$", "z"), "c": ("$c$", "c"), "zc": ("$z_c$", "z_c")}
# Shades, dashes and names of the controls; the remainder of z_c is what is not linear in z.
CONTROL_LOOKS = {
    "empty": ("0.25", (0, (1, 1.2)), "with the empty text"),
    "other-caption": ("0.25", (0, (4, 1.2, 1, 1.2)), "with another image's caption"),
    "linear": ("0.25", (0, (4, 1.5)), "its linear part given $z$"),
    "residual": ("0.6", (0, (6, 0)), "the rest of it"),
}
THIN = 0.8
AXES = {
    "noise": ("Unique variance by noise level", "Noise strength"),
    "step": ("Unique variance by denoising step", "Share of steps run"),
}


def symbol(space: str, mathematics: bool = True) -> str:
    """Symbol of a feature space, without its position in a series; or its name."""
    base = space.split("-")[0] if split_control(space)[1] == "" else space
    return SYMBOLS.get(base, (base, base))[0 if mathematics else 1]


def is_control(space: str) -> bool:
    """Whether a space is relative to another one: a control, a part, or beyond controls."""
    return bool(split_control(space)[1]) or space.endswith(f"-{BEYOND}")


def draw_controls(axes: Axes, lines: pd.DataFrame) -> None:
    """Draw the controls as thin lines.

    Parameters
    ----------
    axes : matplotlib Axes
    lines : DataFrame
        Columns space, level and value, of one region and series.
    """
    for control in CONTROLS + PARTS:
        own = lines[[split_control(space)[1] == control for space in lines["space"]]]
        own = own.sort_values("level")
        colour, dashes, _ = CONTROL_LOOKS[control]
        axes.plot(own["level"], own["value"], color=colour, linestyle=dashes, linewidth=THIN)


def dress(axes: Axes, levels: Sequence[float] = ()) -> None:
    """Add grid, frame, zero line, and the levels at the bottom."""
    axes.axhline(0, color=INK, linewidth=0.5, zorder=1)
    axes.grid(axis="y", color="0.92", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(levels):
        axes.set_xticks(levels, [f"{level:g}" for level in levels])
        axes.margins(x=0.08)


def choose_limits(values: Iterable[float]) -> tuple[float, float]:
    """Limits of a scale for unique variance that includes 0 and all values."""
    known = np.asarray(values, float)
    ends = np.append(known[np.isfinite(known)], 0.0)
    room = 0.06 * max(np.ptp(ends), 1e-3)
    return ends.min() - room, ends.max() + room


def draw_legend(
    axes: Axes, looks: dict[str, tuple[str, str]], spaces: Iterable[str], ncols: int
) -> None:
    """Name spaces and the controls that are drawn.

    Parameters
    ----------
    axes : matplotlib Axes
        Contains nothing else.
    looks : dict of (str, str)
        Colour and marker of each space.
    spaces : iterable of str
        All spaces drawn, including controls.
    ncols : int
    """
    axes.set_axis_off()
    handles = [
        axes.plot([], [], shape, color=colour, markersize=3.6, label=symbol(space))[0]
        for space, (colour, shape) in looks.items()
    ]
    there = {split_control(space)[1] for space in spaces}
    for control, (colour, dashes, name) in CONTROL_LOOKS.items():
        if control in there:
            style = {"color": colour, "linestyle": dashes, "linewidth": THIN}
            handles += axes.plot([], [], label=f"$z_c$: {name}", **style)
    style = {"loc": "center", "ncols": ncols, "frameon": False, "fontsize": NORMAL}
    axes.legend(handles=handles, handlelength=1.9, columnspacing=1.4, **style)

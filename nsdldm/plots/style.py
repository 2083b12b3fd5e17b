"""One look for every figure: a journal's double column, one font, one scale of colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from nsdldm.support.files import replacing

DPI = 300
WIDTH_MM = 180
SMALL, NORMAL, LARGE = 6, 7, 8  # points, at the printed width
INK, FAINT = "0.1", "0.4"
GYRUS, SULCUS = 0.90, 0.76  # greys


def shades(name: str, start: float = 0, stop: float = 1) -> ListedColormap:
    """Take a part of a matplotlib colour map.

    Parameters
    ----------
    name : str
    start, stop : float
        Fractions of its range.

    Returns
    -------
    matplotlib ListedColormap
        With 256 colours, whatever ``image.lut`` a matplotlibrc sets.
    """
    colours = mpl.colormaps[name].resampled(256)
    return ListedColormap(colours(np.linspace(start, stop, 256)))


# Sequential and perceptually uniform, without the black in which outlines would vanish.
ACCURACY = shades("inferno", 0.3)
# From the grey of the cortex to dark, so that small values are faint and large ones stand out.
UNIQUE = LinearSegmentedColormap.from_list(
    "unique", [str((GYRUS + SULCUS) / 2), *shades("YlOrRd", 0.3)(np.linspace(0, 1, 7))], 256
)

RC = {
    # Ships with matplotlib, so figures are the same on every machine.
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "font.size": NORMAL,
    "axes.labelsize": NORMAL,
    "axes.linewidth": 0.5,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.width": 0.5,
    "xtick.major.size": 2,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "figure.facecolor": "white",
    "pdf.fonttype": 42,  # text that can be selected and edited
}
# Without dates and versions, so that the same figure gives identical bytes.
METADATA = {
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


@contextmanager
def journal_style() -> Iterator[None]:
    """Use the project's style inside the block, whatever a user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def new_figure(width: int, height: int) -> Figure:
    """Make an empty figure.

    It is not registered with pyplot, so drawing needs no display, does not affect notebooks, and
    leaves no figure open.

    Parameters
    ----------
    width, height : int
        In pixels at `DPI`.

    Returns
    -------
    matplotlib Figure
    """
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def pixels(mm: float) -> int:
    """Pixels, rounded, of a length in millimetres on the printed page."""
    return round(mm / 25.4 * DPI)


def halo(width: float, colour: str = "white") -> list:
    """Surround text or lines by a rim of `width` points, so that they are legible on any colour."""
    return [withStroke(linewidth=width, foreground=colour)]


def upper_limit(values: np.ndarray, percentile: float = 99.0, step: float = 0.05) -> float:
    """Choose the upper end of a colour scale that starts at 0.

    Parameters
    ----------
    values : float array of any shape
        NaN is left out.
    percentile : float
        Percentile of the values; a few above it may saturate.
    step : float
        The end is the next multiple of it.

    Returns
    -------
    float
        At least `step`, even if there are no values.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    top = np.percentile(known, percentile) if known.size else 0.0
    return max(1, np.ceil(top / step - 1e-9)) * step


def save_figure(paths: Sequence[Path | str], figure: Figure) -> None:
    """Write a figure at its own size; the same figure gives identical bytes.

    Parameters
    ----------
    paths : sequence of path
        Each ends in ``.png``, for pixels at `DPI`, or in ``.pdf``, for vector text and lines with
        pictures at `DPI`.
    figure : matplotlib Figure
    """
    for path in map(Path, paths):
        with journal_style(), replacing(path) as part:
            figure.savefig(part, dpi=DPI, metadata=METADATA[path.suffix])

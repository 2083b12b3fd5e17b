"""Shared by figures of pictures: which picture is shown, why, and how pictures are laid out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from nsdldm.diffusion.pictures import open_reconstructions
from nsdldm.plots.style import (
    FAINT,
    INK,
    LARGE,
    NORMAL,
    SMALL,
    WIDTH_MM,
    new_figure,
    pixels,
)
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import load_table

if TYPE_CHECKING:
    import h5py
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

# Symbol of each method in matplotlib's mathtext and in plain text, and its source.
METHODS = {
    "z": ("$z$", "z", "image latent"),
    "z-coarse": ("$z$ coarse", "z coarse", "no diffusion"),
    "c": ("$c$", "c", "text"),
    "zc": ("$z_c$", "z_c", "both"),
    "true-zc": ("true $z_c$", "true z_c", "ceiling"),
    # Trained methods, and what their encoders learn from: F (responses), I (images), T (captions).
    "fcae": ("fCAE", "fCAE", "full model"),
    "fcae-base": ("fCAE base", "fCAE base", "full model"),
    "fcae-f": ("fCAE F", "fCAE F", "no alignment"),
    "fcae-fi": ("fCAE F+I", "fCAE F+I", "no captions"),
    "fcae-ft": ("fCAE F+T", "fCAE F+T", "no images"),
    "mae-f": ("MAE F", "MAE F", "no alignment"),
    "mae-fi": ("MAE F+I", "MAE F+I", "no captions"),
    "cae": ("CAE", "CAE", "contextual"),
    "mae": ("MAE", "MAE", "masked"),
    "mind-vis": ("MinD-Vis", "MinD-Vis", "MAE"),
    "vis-dec": ("Vis-Dec", "Vis-Dec", "contrast"),
}
# Suffix of methods that were not trained on the subject alone.
COHORT = re.compile(r"-(joint|subj\d\d)$")
DEMO = "simulated data (demo)"
DEMO_NOTE = "Demo: simulated brain and a small model; nothing about real brains follows from it."
NUMBERED = "NSD ids count from 0."
PRESENTED = "Presented"
FRAME = "#d01c1c"  # the paper frames what was presented in red

SAMPLES = ("nsd_id", "sample", "metric", "value")
SHOWN = ("subject", "nsd_id", "rank", "group", "method", "sample", "samples", "metric", "value")
GROUPS = ("best", "spread", "named")

# Millimetres. A picture with less than 15 pixels per millimetre in print is not enlarged beyond
# MOST.
MOST, LEAST_WIDTH = 30, 86
MARGIN, LABELS, GAP, SECTION_GAP = 1.5, 17, 1.0, 4.0
TITLE, HEADING, HEADER, CAPTION, BLOCK_GAP, LINE = 6, 5, 3.6, 3.4, 1.2, 2.9
PER_BLOCK = 8


class Showing(NamedTuple):
    """Which images a figure shows, and which sample of each.

    Parameters
    ----------
    best_by : str
        Score that compares samples, such as ``psm:clip:image_embeds``; larger is better.
    shown_images : int
        Images, chosen by `choose_images`.
    nsd_ids : sequence of int, optional
        Show these images instead.
    """

    best_by: str
    shown_images: int = 8
    nsd_ids: Sequence[int] | None = None


class Cell(NamedTuple):
    """A picture in a grid (uint8 (h, w, 3) or None), the text below, and whether it is framed."""

    picture: np.ndarray | None
    caption: str
    framed: bool = False


class Column(NamedTuple):
    """A column of a grid: the text above, and one cell per row."""

    header: str
    cells: list


class Section(NamedTuple):
    """Columns under one heading."""

    heading: str
    columns: list


def read_columns(path: Path | str, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table that must have certain columns.

    Parameters
    ----------
    path : str or Path
    columns : sequence of str

    Returns
    -------
    DataFrame

    Raises
    ------
    InputError
        The table cannot be read or lacks a column.
    """
    table = load_table(path)
    missing = [name for name in columns if name not in table]
    if missing:
        expected = f"the columns {', '.join(columns)}"
        raise InputError(Finding(str(path), expected, f"no {', '.join(missing)}", "Make it again"))
    return table


def read_test_images(path: Path | str) -> pd.DataFrame:
    """Read the test images of a subject, in file order.

    Parameters
    ----------
    path : str or Path
        Table with the columns nsd_id, coco_id and split.

    Returns
    -------
    DataFrame
        Its rows of the test split.
    """
    table = read_columns(path, ("nsd_id", "coco_id", "split"))
    return table[table["split"] == "test"].reset_index(drop=True)


def rank_samples(path: Path | str, metric: str, nsd_ids: Sequence[int]) -> pd.DataFrame:
    """Order the samples of every image by a metric, best first.

    Parameters
    ----------
    path : str or Path
        Table with a row per image, sample and metric: nsd_id, sample, metric, value.
    metric : str
        A metric whose larger values are better.
    nsd_ids : sequence of int

    Returns
    -------
    DataFrame
        Columns nsd_id, sample, value, place (0 is the best). Samples without a value (a constant
        picture has no correlation) come last; ties keep the order of samples.

    Raises
    ------
    InputError
        The metric was not computed, or an image is missing.
    """
    table = read_columns(path, SAMPLES)
    chosen = table[table["metric"] == metric]
    remedy = "Choose a metric that the evaluation computes for every sample"
    if chosen["value"].notna().sum() == 0:
        found = f"scores of {', '.join(sorted(table['metric'].unique())) or 'nothing'}"
        if len(chosen):
            found = "none that could be computed"
        raise InputError(Finding(str(path), f"scores of {metric}", found, remedy))
    missing = np.setdiff1d(nsd_ids, chosen["nsd_id"])
    if len(missing):
        found = f"none of {len(missing)} images, such as NSD id {missing[0]}"
        remedy = "Evaluate the reconstructions of these images again"
        raise InputError(Finding(str(path), f"scores of {metric} of every image", found, remedy))
    chosen = chosen[chosen["nsd_id"].isin(nsd_ids)]
    ranked = chosen.sort_values(
        ["nsd_id", "value", "sample"], ascending=[True, False, True], na_position="last"
    )
    ranked = ranked[["nsd_id", "sample", "value"]].reset_index(drop=True)
    return ranked.assign(place=ranked.groupby("nsd_id").cumcount())


def best_samples(path: Path | str, metric: str, nsd_ids: Sequence[int]) -> pd.DataFrame:
    """Pick the best sample of every image.

    Parameters
    ----------
    path, metric, nsd_ids
        As `rank_samples`.

    Returns
    -------
    DataFrame
        Indexed by nsd_id in the order given; columns sample, value (NaN if no sample of the image
        has one; then the first sample is taken) and of (number of samples of the image).
    """
    ranked = rank_samples(path, metric, nsd_ids)
    best = ranked[ranked["place"] == 0].set_index("nsd_id")[["sample", "value"]]
    return best.assign(of=ranked.groupby("nsd_id").size()).loc[list(nsd_ids)]


def choose_images(
    scores: pd.Series, shown_images: int, nsd_ids: Sequence[int] | None = None
) -> pd.DataFrame:
    """Choose which images a figure shows, by a fixed rule.

    All images are ranked by their score. The first half of those shown (rounded up) are the best
    ones. The rest of the ranking is cut into as many equal parts as there are pictures left, and
    the middle image of each part is shown, so bad reconstructions are shown as often as they occur.

    Parameters
    ----------
    scores : Series
        Indexed by nsd_id; NaN ranks last.
    shown_images : int
    nsd_ids : sequence of int, optional
        Show these instead, in this order.

    Returns
    -------
    DataFrame
        Columns nsd_id, rank (1 is the best) and group (one of `GROUPS`).

    Raises
    ------
    InputError
        There are fewer images than requested, or a requested image is not among them.
    """
    # Break ties by id, so that the choice does not depend on the order of rows.
    ranked = scores.sort_index().sort_values(ascending=False, kind="stable", na_position="last")
    ranks = pd.Series(np.arange(1, len(ranked) + 1), index=ranked.index)
    if nsd_ids:
        unknown = [number for number in nsd_ids if number not in ranks.index]
        if unknown:
            found = f"{unknown[0]}, which is none"
            remedy = "Name images of the split test that everyone shown has seen"
            raise InputError(Finding("`nsd_ids`", "NSD ids of test images", found, remedy))
        rows = [(number, ranks[number], "named") for number in nsd_ids]
        return pd.DataFrame(rows, columns=["nsd_id", "rank", "group"])
    if not 1 <= shown_images <= len(ranked):
        expected = f"from 1 to the {len(ranked)} test images"
        raise InputError(
            Finding("`shown_images`", expected, str(shown_images), "Show as many as there are")
        )
    n_best = -(-shown_images // 2)
    parts = np.arange(shown_images - n_best) + 0.5
    middles = n_best + (parts * (len(ranked) - n_best) / max(shown_images - n_best, 1)).astype(int)
    places = [*range(n_best), *middles]
    groups = ["best"] * n_best + ["spread"] * len(middles)
    numbers = ranked.index[places]
    return pd.DataFrame({"nsd_id": numbers, "rank": np.add(places, 1), "group": groups})


@contextmanager
def open_pictures(path: Path | str) -> Iterator[tuple[h5py.Dataset, dict[int, int]]]:
    """Open the reconstructions of one subject and method.

    Parameters
    ----------
    path : str or Path
        HDF5 with images, uint8 (n_images, n_samples, H, W, 3), and nsd_id, int64 (n_images,).

    Yields
    ------
    images : h5py.Dataset
    rows : dict of int to int
        Row of each NSD id.

    Raises
    ------
    InputError
        The file is of another kind.
    """
    with open_reconstructions(path) as made:
        yield made.images, {int(number): row for row, number in enumerate(made.nsd_ids)}


def read_pictures(path: Path | str, wanted: Iterable[tuple[int, int]]) -> list[np.ndarray]:
    """Read some reconstructions.

    Parameters
    ----------
    path : str or Path
        As `open_pictures`.
    wanted : iterable of (int, int)
        NSD id and sample.

    Returns
    -------
    list of uint8 array of shape (H, W, 3)
    """
    with open_pictures(path) as (images, rows):
        pictures = []
        for nsd_id, sample in wanted:
            check_picture(path, images, rows, nsd_id, sample)
            with reading(path, "pictures", "Reconstruct again"):
                pictures.append(images[rows[nsd_id], sample])
    return pictures


def check_picture(
    path: Path | str, images: h5py.Dataset, rows: dict[int, int], nsd_id: int, sample: int
) -> None:
    """Refuse an nsd_id that rows lack, or a sample that images, in the file at path, lack."""
    if nsd_id not in rows or not 0 <= sample < images.shape[1]:
        expected = f"sample {sample} of the image with NSD id {nsd_id}"
        found = f"{images.shape[1]} samples of {len(rows)} images"
        remedy = "Evaluate the reconstructions of this file again"
        raise InputError(Finding(str(path), expected, found, remedy))


def fit_picture(picture: np.ndarray, side: int) -> np.ndarray:
    """Resize a picture to a square.

    Parameters
    ----------
    picture : uint8 array of shape (H, W, 3)
    side : int

    Returns
    -------
    uint8 array of shape (side, side, 3)
    """
    smaller = side < len(picture)
    # Lanczos would ring at edges when enlarging.
    method = Image.Resampling.LANCZOS if smaller else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize((side, side), method))


def format_score(value: float) -> str:
    """Write a score with two digits, or that there is none."""
    return "no score" if pd.isna(value) else f"{value:.2f}"


def tabulate_shown(
    chosen: pd.DataFrame, shown: dict[tuple[str, str], pd.DataFrame], metric: str
) -> pd.DataFrame:
    """List what a figure shows, a row per picture.

    Parameters
    ----------
    chosen : DataFrame
        As `choose_images` returns it.
    shown : dict of DataFrame
        Keys (subject, method): the samples shown, as `best_samples`, in the order of `chosen`.
    metric : str

    Returns
    -------
    DataFrame
        Columns subject, nsd_id, rank, group, method, sample, samples, metric, value.
    """
    parts = []
    for (subject, method), table in shown.items():
        part = chosen.assign(subject=subject, method=method, metric=metric)
        values = {"sample": table["sample"], "samples": table["of"], "value": table["value"]}
        parts.append(part.assign(**{name: each.to_numpy() for name, each in values.items()}))
    return pd.concat(parts, ignore_index=True)[list(SHOWN)]


def split_method(method: str) -> tuple[str, str]:
    """Split the name of a method into its own name and the subjects it was trained on.

    Parameters
    ----------
    method : str
        Such as ``fcae``, ``fcae-joint`` or ``fcae-subj01``.

    Returns
    -------
    base : str
    cohort : str
        ``joint``, a subject, or empty if each subject has its own model.
    """
    found = COHORT.search(method)
    return (method[: found.start()], found.group(1)) if found else (method, "")


def name_method(method: str, mathematics: bool = True) -> str:
    """Symbol of a method, or its name."""
    base, cohort = split_method(method)
    symbol, plain, _ = METHODS.get(base, (base, base, ""))
    name = symbol if mathematics else plain
    return f"{name}, {cohort}" if cohort else name


def describe_method(method: str) -> str:
    """What a method's pictures are made from, or whom it was trained on, in a word or two."""
    base, cohort = split_method(method)
    words = METHODS.get(base, ("", "", ""))[2]
    return {"": words, "joint": "all subjects"}.get(cohort, f"of {cohort}")


def name_metric(metric: str) -> str:
    """Put the name of a metric in the tables into words.

    Parameters
    ----------
    metric : str
        Such as ``psm:clip:image_embeds``.

    Returns
    -------
    str
    """
    kinds = {"psm": "PSM", "clipscore": "CLIP score", "nway": "n-way identification"}
    kinds["2way"] = "two-way identification"
    kinds["2way-reconstruction"] = "two-way identification from the reconstruction"
    kind, *rest = metric.split(":")
    words = kinds.get(kind, kind)
    if kind.startswith("nway-"):
        words = f"{kind.removeprefix('nway-')}-way identification"
    return f"{words} ({', '.join(rest)})" if rest else words


def describe_best(metric: str, counts: dict[str, int]) -> str:
    """Say that the pictures are the best of several.

    Parameters
    ----------
    metric : str
    counts : dict of str to int
        Number of samples of each method or subject, by name.

    Returns
    -------
    str
    """
    by = f"by {name_metric(metric)}"
    several = sorted({n for n in counts.values() if n > 1})
    number = "the numbers below the pictures are its values"
    if not several:
        return f"One sample per picture; {number.replace('its', name_metric(metric))}."
    single = [name for name, n in counts.items() if n == 1]
    words = f"Each picture is the best of {' or '.join(map(str, several))} samples {by}"
    if single:
        words += f" (of {' and '.join(single)} there is one sample)"
    meaning = ", Pearson's $r$ with the presented image" if metric.startswith("psm:") else ""
    return f"{words}{meaning}; {number}."


def describe_choice(chosen: pd.DataFrame, n_images: int, by: str) -> str:
    """Say how the images were chosen, and how they are numbered.

    Parameters
    ----------
    chosen : DataFrame
        As `choose_images` returns it.
    n_images : int
        Number of images to choose from.
    by : str
        What they were ranked by, such as "the value of z_c".

    Returns
    -------
    str
    """
    n_best = int((chosen["group"] == "best").sum())
    n_spread = int((chosen["group"] == "spread").sum())
    if not n_best + n_spread:
        words = f"Images named in the configuration; ranks among {n_images} test images by {by}"
        return f"{words}. {NUMBERED}"
    words = f"Images by rule: the {'best' if n_best == 1 else f'{n_best} best'} of {n_images} test "
    words += f"images by {by}"
    if n_spread:
        parts = "of the rest" if n_spread == 1 else f"of each {_ordinal(n_spread)} of the rest"
        words += f", then the middle one {parts}"
    return f"{words}. {NUMBERED}"


def _ordinal(n):
    return {2: "half", 3: "third", 4: "quarter"}.get(n, f"{n}th part")


def split_sections(
    chosen: pd.DataFrame, columns: list[Column], n_images: int
) -> list[list[Section]]:
    """Lay the images out: the best, then those spread over the ranks.

    Parameters
    ----------
    chosen : DataFrame
        As `choose_images` returns it.
    columns : list of Column
        One per image.
    n_images : int
        Number of images to choose from.

    Returns
    -------
    list of list of Section
        Blocks, one below the other. Both groups share a block if they fit.
    """
    headings = {
        "best": f"{(chosen['group'] == 'best').sum()} best of {n_images}",
        "spread": "Evenly spaced over the other ranks",
        "named": "",
    }
    blocks, used = [[]], 0
    for group in dict.fromkeys(chosen["group"]):
        own = [columns[i] for i in np.flatnonzero(chosen["group"] == group)]
        for start in range(0, len(own), PER_BLOCK):
            part = own[start : start + PER_BLOCK]
            if used and used + len(part) > PER_BLOCK:
                blocks.append([])
                used = 0
            blocks[-1].append(Section(headings[group] if not start else "", part))
            used += len(part)
    return blocks


def draw_pictures(
    *, title: str, notes: list[str], rows: list[tuple[str, str]], blocks: list[list[Section]]
) -> Figure:
    """Draw a grid of pictures at a journal's width.

    Parameters
    ----------
    title : str
    notes : list of str
        Sentences below the pictures.
    rows : list of (str, str)
        Label of each row and its small print.
    blocks : list of list of Section
        One below the other, each with all rows.

    Returns
    -------
    matplotlib Figure
        `WIDTH_MM`, or narrower if the pictures would become too large.
    """
    side = min(_side(sections) for sections in blocks)
    width = max(max(_width(sections, side) for sections in blocks), pixels(LEAST_WIDTH))
    if width > 0.95 * pixels(WIDTH_MM):
        width = pixels(WIDTH_MM)  # sides of pictures are whole pixels
    lines = wrap_text(" ".join(notes), width - 2 * pixels(MARGIN))
    heights = [_height(sections, side, len(rows)) for sections in blocks]
    foot = len(lines) * pixels(LINE) + pixels(1)
    height = pixels(TITLE) + sum(heights) + len(blocks) * pixels(BLOCK_GAP) + foot
    figure = new_figure(width, height)
    write(figure, pixels(MARGIN), pixels(1.5), title, size=LARGE, weight="bold", va="top")
    top = pixels(TITLE)
    for sections, block_height in zip(blocks, heights, strict=True):
        _draw_block(figure, top, rows, sections, side)
        top += block_height + pixels(BLOCK_GAP)
    top = height - foot
    for number, line in enumerate(lines):
        place = top + number * pixels(LINE)
        write(figure, pixels(MARGIN), place, line, size=SMALL, color=FAINT, va="top")
    return figure


def _count(sections):
    return sum(len(section.columns) for section in sections)


def _gaps(sections):
    """Pixels of a block's width that are not pictures."""
    inner = (_count(sections) - len(sections)) * pixels(GAP)
    outer = (len(sections) - 1) * pixels(SECTION_GAP)
    return pixels(LABELS) + pixels(MARGIN) + inner + outer


def _side(sections):
    """Side of a picture so that a block fills the width."""
    return min((pixels(WIDTH_MM) - _gaps(sections)) // _count(sections), pixels(MOST))


def _width(sections, side):
    return _gaps(sections) + _count(sections) * side


def _head(sections):
    """Heights of a block's headings and of the lines above its columns."""
    heading = pixels(HEADING) if any(section.heading for section in sections) else 0
    headers = [column.header for section in sections for column in section.columns]
    return heading, pixels(HEADER) if any(headers) else 0


def _height(sections, side, n_rows):
    return sum(_head(sections)) + n_rows * (side + pixels(CAPTION))


def _draw_block(figure, top, rows, sections, side):
    """Draw the headings, labels and pictures of one block."""
    heading, header = _head(sections)
    first = top + heading + header
    for row, (label, small) in enumerate(rows):
        middle = first + row * (side + pixels(CAPTION)) + side // 2
        _label_row(figure, middle, label, small)
    left = pixels(LABELS)
    for section in sections:
        width = len(section.columns) * (side + pixels(GAP)) - pixels(GAP)
        if section.heading:
            _draw_heading(figure, left, top, width, section.heading)
        for column in section.columns:
            centre = left + side // 2
            style = {"size": SMALL, "ha": "center", "va": "center"}
            write(figure, centre, top + heading + header // 2, column.header, **style)
            for row, cell in enumerate(column.cells):
                _draw_cell(figure, left, first + row * (side + pixels(CAPTION)), side, cell)
            left += side + pixels(GAP)
        left += pixels(SECTION_GAP) - pixels(GAP)


def _label_row(figure, middle, label, small):
    """Write a row's label to the left of its pictures, with its small print below."""
    right, shift = pixels(LABELS - 1.5), pixels(1.7) if small else 0
    style = {"ha": "right", "va": "center"}
    write(figure, right, middle - shift, label, size=NORMAL, **style)
    write(figure, right, middle + shift, small, size=SMALL, color=FAINT, **style)


def _draw_heading(figure, left, top, width, heading):
    """Write what columns have in common above a rule that spans them."""
    style = {"ha": "center", "va": "center"}
    write(figure, left + width // 2, top + pixels(1.8), heading, size=NORMAL, **style)
    axes = figure.add_axes(place(figure, left, top + pixels(3.9), width, 2))
    axes.set_facecolor(INK)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_cell(figure, left, top, side, cell):
    """Show one picture with its caption."""
    if cell.picture is None:
        return
    axes = show(figure, left, top, fit_picture(cell.picture, side))
    if cell.framed:
        axes.set_axis_on()
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=FRAME, linewidth=1.2)
    style = {"size": SMALL, "color": FAINT, "ha": "center", "va": "center"}
    write(figure, left + side // 2, top + side + pixels(1.5), cell.caption, **style)


def place(
    figure: Figure, left: float, top: float, width: float, height: float
) -> tuple[float, float, float, float]:
    """Position in a figure of a box of a width and height, left and top given in pixels from its
    upper left corner."""
    full_width, full_height = np.rint(figure.get_size_inches() * figure.dpi)
    bottom = full_height - top - height
    return left / full_width, bottom / full_height, width / full_width, height / full_height


def show(figure: Figure, left: float, top: float, image: np.ndarray) -> Axes:
    """Show an image of shape (height, width, 3) in a figure pixel by pixel, from left and top on,
    on axes whose unit is a pixel."""
    axes = figure.add_axes(place(figure, left, top, image.shape[1], image.shape[0]))
    axes.imshow(image, interpolation="none")
    axes.set_axis_off()
    axes.autoscale(False)
    return axes


def write(figure: Figure, left: float, top: float, text: str, **style: Any) -> Text:
    """Write text in a style, left and top given in pixels from the figure's upper left corner."""
    x, y, _, _ = place(figure, left, top, 0, 0)
    return figure.text(x, y, text, **style)


def wrap_text(text: str, width: int, size: float = SMALL) -> list[str]:
    """Break text into lines that fit a width when drawn.

    Parameters
    ----------
    text : str
    width : int
        Pixels.
    size : float
        Points.

    Returns
    -------
    list of str
    """
    figure = new_figure(10, 10)
    lines = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        drawn = figure.text(0, 0, longer, size=size)
        fits = drawn.get_window_extent().width <= width
        drawn.remove()
        if lines and fits:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines

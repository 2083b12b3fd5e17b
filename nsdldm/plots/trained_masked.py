"""Figure 2 of Yang et al. 2025: partly hidden responses, and their completion."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nsdldm.plots.pictures import (
    DEMO,
    DEMO_NOTE,
    LINE,
    choose_images,
    describe_choice,
    name_method,
    place,
    read_columns,
    wrap_text,
    write,
)
from nsdldm.plots.style import (
    FAINT,
    INK,
    LARGE,
    NORMAL,
    SMALL,
    WIDTH_MM,
    journal_style,
    new_figure,
    pixels,
    save_figure,
    shades,
)
from nsdldm.support.errors import Unexpected, reading
from nsdldm.support.files import open_hdf5, save_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

# Predictors of hidden voxels: an encoder, or a baseline.
PREDICTORS = {"model": "", "mean": "training mean", "neighbour": "nearest voxel"}
MODEL, BASELINE = "#009e73", "#d55e00"
ERRORS = ("encoder", "predictor", "n_images", "mse", "ci_low", "ci_high")
GAINS = ("gain", "gain_low", "gain_high")
RESPONSES, COUNTS = shades("RdBu_r"), shades("Greys")
HIDDEN = "0.88"
# Millimetres: strips and their surroundings, and the plots to their right.
LEFT, STRIPS, STRIP, STRIP_GAP, RESPONSE_GAP = 15, 99, 4.2, 0.5, 4.2
TITLE, HEADING, BAR, RIGHT_LEFT, SQUARE, MARGIN = 6, 4, 11, 138, 38, 1.5
ROW, AXIS = 5, 9
ROWS = ("measured", "seen", "filled in")


def plot_masked_responses(
    *,
    reconstructions: Path | str,
    errors: Path | str,
    encoder: str,
    n_images: int,
    n_voxels: int,
    demo: bool,
    png: Path | str,
    pdf: Path | str,
    tsv: Path | str,
    nsd_ids: Sequence[int] | None = None,
) -> None:
    """Draw test responses, the part that the encoder saw, and its completion of the rest.

    On the right, every hidden voxel of every test image, measured against filled in, and the mean
    squared error next to those of predictors that ignore the context.

    Parameters
    ----------
    reconstructions : path
        HDF5 with ``true``, ``model``, ``mean`` and ``neighbour``, float32 (n_test, n_voxels) of
        standardised responses, ``visible``, bool of the same shape, and ``nsd_id``, int64
        (n_test,).
    errors : path
        Table with the columns encoder, predictor (model, mean: the voxel's training mean,
        neighbour: regression on the nearest visible voxel), n_images, mse, ci_low, ci_high, and
        gain, gain_low, gain_high: by how much the model's error is smaller, paired by image.
    encoder : str
        The encoder of `reconstructions`; drawn first.
    n_images : int
        Responses drawn, chosen by `nsdldm.plots.pictures.choose_images` from their correlation with
        the measured response over hidden voxels.
    n_voxels : int
        Maximum number of voxels drawn per response, starting with the first.
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and for every test image and predictor nsd_id, predictor, r and mse
        over hidden voxels, with rank and group of those drawn.
    nsd_ids : sequence of int, optional
        Draw these instead.

    Raises
    ------
    InputError
        A file is malformed, or a requested image is not there.
    """
    filled = read_filled(reconstructions)
    table = read_columns(errors, (*ERRORS, *GAINS))
    scores = score_filled(filled)
    own = scores[scores["predictor"] == "model"].set_index("nsd_id")["r"]
    chosen = choose_images(own, n_images, nsd_ids)
    with journal_style():
        figure = draw_masked(filled, scores, table, encoder, chosen, n_voxels, demo)
        save_figure((png, pdf), figure)
    logger.info("images %s of %d", chosen["nsd_id"].tolist(), len(own))
    save_table(tsv, scores.merge(chosen, on="nsd_id", how="left"))


def read_filled(path: Path | str) -> dict[str, np.ndarray]:
    """Read measured and filled-in responses.

    Parameters
    ----------
    path : path
        As `plot_masked_responses` describes it.

    Returns
    -------
    dict of array of shape (n_images, n_voxels)
        float32 by name: true, visible, what fills them in, and nsd_id, (n_images,).

    Raises
    ------
    InputError
        A dataset is missing or of another shape.
    """
    expected = "responses true, visible, model, mean and neighbour of one shape, and nsd_id"
    with reading(path, expected, "Make it again"), open_hdf5(path) as file:
        filled = {name: file[name][:] for name in ("true", "visible", *PREDICTORS, "nsd_id")}
        shapes = {values.shape for name, values in filled.items() if name != "nsd_id"}
        if len(shapes) > 1 or filled["true"].shape[:1] != filled["nsd_id"].shape:
            raise Unexpected(f"shapes {', '.join(map(str, sorted(shapes)))}")
        filled["visible"] = filled["visible"].astype(bool)
        if filled["visible"].all(axis=1).any():
            raise Unexpected("a response without hidden voxels")
    return filled


def score_filled(filled: dict[str, np.ndarray]) -> pd.DataFrame:
    """Compare filled-in with measured responses over the hidden voxels of each image.

    Parameters
    ----------
    filled : dict of array
        As `read_filled` returns it.

    Returns
    -------
    DataFrame
        Columns nsd_id, predictor, r (Pearson; NaN for a constant prediction) and mse.
    """
    rows = []
    for index, number in enumerate(filled["nsd_id"]):
        hidden = ~filled["visible"][index]
        true = filled["true"][index][hidden].astype(np.float64)
        for predictor in PREDICTORS:
            guess = filled[predictor][index][hidden].astype(np.float64)
            varies = np.ptp(guess) > 0 and np.ptp(true) > 0
            r = np.corrcoef(true, guess)[0, 1] if varies else np.nan
            rows.append((int(number), predictor, r, np.square(true - guess).mean()))
    return pd.DataFrame(rows, columns=["nsd_id", "predictor", "r", "mse"])


def draw_masked(
    filled: dict[str, np.ndarray],
    scores: pd.DataFrame,
    errors: pd.DataFrame,
    encoder: str,
    chosen: pd.DataFrame,
    n_voxels: int,
    demo: bool,
) -> Figure:
    """Draw the figure.

    Parameters
    ----------
    filled : dict of array
        As `read_filled` returns it.
    scores : DataFrame
        As `score_filled` returns it.
    errors : DataFrame
        As the table that `plot_masked_responses` takes.
    encoder : str
    chosen : DataFrame
        As `nsdldm.plots.pictures.choose_images` returns it.
    n_voxels : int
    demo : bool

    Returns
    -------
    matplotlib Figure
    """
    width, top = pixels(WIDTH_MM), pixels(TITLE + HEADING)
    pitch = 3 * pixels(STRIP) + 2 * pixels(STRIP_GAP) + pixels(RESPONSE_GAP)
    encoders = [encoder, *(name for name in dict.fromkeys(errors["encoder"]) if name != encoder)]
    factor = find_factor(filled)
    lines = wrap_text(
        " ".join(_notes(filled, errors, encoder, chosen, n_voxels, factor, demo)),
        width - 2 * pixels(MARGIN),
    )
    strips = len(chosen) * pitch + pixels(BAR)
    plots = pixels(SQUARE + AXIS + HEADING + ROW * (len(encoders) + 2) + AXIS)
    bottom = top + max(strips, plots)
    figure = new_figure(width, bottom + len(lines) * pixels(LINE) + pixels(1))
    title = f"Masked responses, filled in by {name_method(encoder)}" + (
        f" – {DEMO}" if demo else ""
    )
    write(figure, pixels(MARGIN), pixels(1.5), title, size=LARGE, weight="bold", va="top")
    bound = np.percentile(np.abs(filled["true"]), 98)
    colours = None
    own = scores[scores["predictor"] == "model"].set_index("nsd_id")
    for number, row in enumerate(chosen.itertuples()):
        index = int(np.flatnonzero(filled["nsd_id"] == row.nsd_id)[0])
        heading = f"NSD {row.nsd_id}, rank {row.rank}, $r$ = {own.loc[row.nsd_id, 'r']:.2f}"
        colours = _draw_response(
            figure, top + number * pitch, filled, index, n_voxels, bound, factor, heading
        )
    _draw_bar(figure, top + len(chosen) * pitch, colours)
    _draw_scatter(figure, filled, bound, top)
    _draw_errors(figure, errors, encoders, top + pixels(SQUARE + AXIS + HEADING))
    for number, line in enumerate(lines):
        down = bottom + number * pixels(LINE)
        write(figure, pixels(MARGIN), down, line, size=SMALL, color=FAINT, va="top")
    return figure


def find_factor(filled: dict[str, np.ndarray]) -> int:
    """Factor by which filled-in responses must be amplified to be visible.

    The expectation of a noisy response varies less than the response itself.

    Parameters
    ----------
    filled : dict of array
        As `read_filled` returns it.

    Returns
    -------
    int
        At least 1.
    """
    hidden = ~filled["visible"]
    true, model = (np.percentile(np.abs(filled[name][hidden]), 98) for name in ("true", "model"))
    return max(1, int(true / model)) if model > 0 else 1


def _draw_response(figure, top, filled, index, n_voxels, bound, factor, heading):
    """Draw one response as strips: measured, visible, and the hidden rest as filled in."""
    visible = filled["visible"][index, :n_voxels]
    true, model = filled["true"][index, :n_voxels], filled["model"][index, :n_voxels]
    shown = (true, np.where(visible, true, np.nan), np.where(visible, np.nan, factor * model))
    write(figure, pixels(LEFT), top - pixels(0.7), heading, size=SMALL, color=FAINT, va="bottom")
    for row, (name, values) in enumerate(zip(ROWS, shown, strict=True)):
        down = top + row * (pixels(STRIP) + pixels(STRIP_GAP))
        box = place(figure, pixels(LEFT), down, pixels(STRIPS), pixels(STRIP))
        axes = figure.add_axes(box, facecolor=HIDDEN)
        style = {"cmap": RESPONSES, "vmin": -bound, "vmax": bound, "interpolation": "none"}
        colours = axes.imshow(values[None], aspect="auto", **style)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_linewidth(0.3)
        middle = down + pixels(STRIP) // 2
        words = f"{name} × {factor}" if name == ROWS[-1] and factor > 1 else name
        write(figure, pixels(LEFT - 1), middle, words, size=SMALL, ha="right", va="center")
    return colours


def _draw_bar(figure, top, colours):
    """Draw the colour bar below the strips."""
    left = pixels(LEFT) + pixels(STRIPS - 44) // 2
    axes = figure.add_axes(place(figure, left, top, pixels(44), pixels(1.6)))
    figure.colorbar(colours, cax=axes, orientation="horizontal", extend="both", extendfrac=0.03)
    axes.set_xlabel("Response (standard deviations)", labelpad=2, size=SMALL)
    axes.locator_params(nbins=5)


def _draw_scatter(figure, filled, bound, top):
    """Draw all hidden voxels, measured against filled in."""
    hidden = ~filled["visible"]
    true, model = filled["true"][hidden], filled["model"][hidden]
    heading = top - pixels(HEADING) + pixels(1.4)
    write(figure, pixels(RIGHT_LEFT), heading, "Hidden voxels of all images", size=NORMAL)
    box = place(figure, pixels(RIGHT_LEFT), top, pixels(SQUARE), pixels(SQUARE))
    axes = figure.add_axes(box)
    reach = (-1.5 * bound, 1.5 * bound)
    axes.hist2d(
        true, model, bins=60, range=[reach, reach], cmap=COUNTS, norm="log", rasterized=True
    )
    axes.plot(reach, reach, color=INK, linewidth=0.5, linestyle=(0, (4, 3)))
    r = np.corrcoef(true, model)[0, 1]
    words = {"size": SMALL, "ha": "left", "va": "top", "transform": axes.transAxes}
    axes.text(0.04, 0.96, f"$r$ = {r:.2f}", **words)
    axes.set_xlabel("Measured", labelpad=1)
    axes.set_ylabel("Filled in", labelpad=1)
    axes.locator_params(nbins=5)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_errors(figure, errors, encoders, top):
    """Draw the mean squared error of each encoder, and of the baselines of the first."""
    heading = top - pixels(HEADING) + pixels(1.4)
    write(figure, pixels(RIGHT_LEFT), heading, "Mean squared error there", size=NORMAL)
    wanted = [(name, "model", name_method(name)) for name in encoders]
    wanted += [(encoders[0], name, label) for name, label in PREDICTORS.items() if label]
    box = (pixels(RIGHT_LEFT), top, pixels(SQUARE), pixels(ROW * len(wanted)))
    axes = figure.add_axes(place(figure, *box))
    values = errors.set_index(["encoder", "predictor"])
    for row, (name, predictor, _) in enumerate(wanted):
        if (name, predictor) not in values.index:
            continue
        mse, *ends = values.loc[(name, predictor), ["mse", "ci_low", "ci_high"]]
        colour, shape = (MODEL, "o") if predictor == "model" else (BASELINE, "s")
        style = {"color": colour, "elinewidth": 1, "capsize": 1.6, "capthick": 1}
        reach = [[mse - ends[0]], [ends[1] - mse]]
        axes.errorbar(mse, row, xerr=reach, fmt=shape, markersize=3.2, **style)
    axes.set_yticks(range(len(wanted)), [label for *_, label in wanted])
    axes.set_ylim(len(wanted) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.92", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.locator_params(axis="x", nbins=5)


def _notes(filled, errors, encoder, chosen, n_voxels, factor, demo):
    """Describe what is drawn."""
    own = errors[errors["encoder"] == encoder].set_index("predictor")
    gains = [
        "{} {:+.3f} ({:.3f} to {:.3f})".format(label, *own.loc[name, list(GAINS)])
        for name, label in PREDICTORS.items()
        if label and name in own.index
    ]
    n_test, n_all = filled["true"].shape
    share = 1 - filled["visible"].mean()
    drawn = f"the first {n_voxels} of" if n_voxels < n_all else "all"
    notes = [
        f"Responses to test images: {drawn} {n_all} voxels in the order of the response vector; "
        f"{100 * share:.0f} % of it hidden (grey: hidden, or in the lowest strip visible)"
        + (f"; filled-in responses are amplified by a factor of {factor}." if factor > 1 else "."),
        describe_choice(chosen, n_test, "$r$ over hidden voxels"),
        f"More error than {name_method(encoder)}, paired by image: {', '.join(gains)}; nearest "
        "voxel: regression on the nearest visible voxel. Intervals (95 %) are over images.",
    ]
    return notes + ([DEMO_NOTE] if demo else [])

"""Figure 4: the same images, reconstructed from the brain of every subject."""

from __future__ import annotations

import logging
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd

from nsdldm.nsd.stimuli import read_images
from nsdldm.plots.pictures import (
    DEMO,
    DEMO_NOTE,
    PRESENTED,
    Cell,
    Column,
    Section,
    Showing,
    best_samples,
    choose_images,
    describe_best,
    describe_choice,
    draw_pictures,
    format_score,
    name_method,
    read_pictures,
    read_test_images,
    split_sections,
    tabulate_shown,
)
from nsdldm.plots.style import journal_style, save_figure
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import save_table

logger = logging.getLogger(__name__)


def plot_fig4(
    *,
    stimuli: str | Path,
    images: dict[str, Path],
    reconstructions: dict[str, Path],
    samples: dict[str, Path],
    showing: Showing,
    demo: bool,
    png: Path,
    pdf: Path,
    tsv: Path,
    method: str = "zc",
) -> None:
    """Draw images that all subjects saw next to each subject's reconstruction.

    Images are ranked by the mean over subjects of the best sample's score and chosen by
    `nsdldm.plots.pictures.choose_images`. They run down the page, or across it if there are more
    images than subjects plus one.

    Parameters
    ----------
    stimuli : str or Path
        ``nsd_stimuli.hdf5``.
    images, reconstructions, samples : dict of path
        For each subject the table of images, the pictures of the method as HDF5, and the scores of
        every sample.
    showing : Showing
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and what it shows with the columns of
        `nsdldm.plots.fig3.plot_fig3`.
    method : str

    Raises
    ------
    InputError
        Subjects share no test image, files do not fit together, or the metric was not computed.
    """
    metric, *chosen_by = showing
    numbers = find_shared_images(images)
    best = {name: best_samples(path, metric, numbers) for name, path in samples.items()}
    means = pd.DataFrame({name: table["value"] for name, table in best.items()}).mean(axis=1)
    chosen = choose_images(means, *chosen_by)
    shown = {name: table.loc[chosen["nsd_id"]] for name, table in best.items()}
    cells = _make_cells(stimuli, chosen["nsd_id"].tolist(), reconstructions, shown)
    names = [PRESENTED, *shown]
    symbol = name_method(method)
    counts = {name: int(table["of"].max()) for name, table in shown.items()}
    everyone = "" if len(shown) == 1 else f", mean of {len(shown)} subjects"
    notes = [
        describe_best(metric, counts),
        describe_choice(chosen, len(numbers), f"the best sample of {symbol}{everyone}"),
        *([DEMO_NOTE] if demo else []),
    ]
    rows, blocks = _lay_out(cells, names, chosen, len(numbers))
    with journal_style():
        title = f"Reconstructions from {symbol}" + (f" – {DEMO}" if demo else "")
        save_figure((png, pdf), draw_pictures(title=title, notes=notes, rows=rows, blocks=blocks))
    logger.info("images %s of %d that all saw", chosen["nsd_id"].tolist(), len(numbers))
    labelled = {(name, method): table for name, table in shown.items()}
    save_table(tsv, tabulate_shown(chosen, labelled, metric))


def find_shared_images(images: dict[str, Path | str]) -> list[int]:
    """Find the test images of every subject.

    Parameters
    ----------
    images : dict of path
        For each subject the table of images.

    Returns
    -------
    list of int
        NSD ids, in the first subject's order.

    Raises
    ------
    InputError
        There are none.
    """
    tested = [read_test_images(path)["nsd_id"].to_numpy() for path in images.values()]
    shared = reduce(np.intersect1d, tested)
    if not len(shared):
        expected, remedy = "a test image that all have seen", "Take subjects with shared images"
        raise InputError(Finding(", ".join(map(str, images.values())), expected, "none", remedy))
    return tested[0][np.isin(tested[0], shared)].tolist()


def _make_cells(stimuli, numbers, reconstructions, shown):
    """For each image its cells: the presented image, then each subject's reconstruction."""
    seen = read_images(stimuli, numbers)
    cells = [[Cell(picture, f"NSD {n}", True)] for picture, n in zip(seen, numbers, strict=True)]
    for name, table in shown.items():
        wanted = zip(numbers, table["sample"], strict=True)
        pictures = read_pictures(reconstructions[name], wanted)
        for own, picture, value in zip(cells, pictures, table["value"], strict=True):
            own.append(Cell(picture, format_score(value)))
    return cells


def _lay_out(cells, names, chosen, n_images):
    """Rows and blocks of the figure, in the direction that fills the page better."""
    ranks = [f"rank {rank}" for rank in chosen["rank"]]
    if len(cells) > len(names):
        columns = [Column(*each) for each in zip(ranks, cells, strict=True)]
        return [(name, "") for name in names], split_sections(chosen, columns, n_images)
    columns = [
        Column(*each) for each in zip(names, map(list, zip(*cells, strict=True)), strict=True)
    ]
    return [(rank, f"of {n_images}") for rank in ranks], [[Section("", columns)]]

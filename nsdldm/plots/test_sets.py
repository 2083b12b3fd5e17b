"""Reconstructions of the images of other test sets: seen, imagined, and patterns."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

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
    draw_pictures,
    format_score,
    read_columns,
    read_pictures,
)
from nsdldm.plots.style import journal_style, save_figure
from nsdldm.support.files import save_table

logger = logging.getLogger(__name__)

MEASURE = "layout-r"
NAMES = {"zc": "$z_c$", "z": "$z$", "true-z": "true $z$"}
# Images of a class or set that are shown; of more, some evenly spaced ones.
PER_GROUP = {"synthetic": 2, "imagery": 6}
# Columns of pictures side by side.
PER_BLOCK = {"synthetic": 8, "imagery": 12}
GROUPS = {"A": "Set A, simple", "B": "Set B, scenes"}
NAMED = {"synthetic": "NSD-synthetic", "imagery": "NSD-Imagery"}


class Row(NamedTuple):
    """A row of reconstructions.

    Parameters
    ----------
    case, source : str
        Such as imagery and zc.
    pictures, scores : path
        Reconstructions as HDF5, and the scores of every image.
    """

    case: str
    source: str
    pictures: Path | str
    scores: Path | str


def plot_test_set(
    *,
    subject: str,
    session: str,
    images: Path | str,
    stimuli: Path | str,
    rows: list[Row],
    demo: bool,
    png: Path | str,
    pdf: Path | str,
    tsv: Path | str,
) -> None:
    """Draw images of a test set above what was decoded from the responses to them.

    Parameters
    ----------
    subject : str
    session : {"synthetic", "imagery"}
    images : path
        Table of its images, with name and group.
    stimuli : path
        Their pictures.
    rows : list of Row
        From top to bottom. The first sample of every image is shown.
    demo : bool
        Say on the figure that the data are simulated.
    png, pdf, tsv : path
        Outputs: the figure, and what it shows with the columns subject, nsd_id, name, group, case,
        source, measure and value.
    """
    table = read_columns(images, ("nsd_id", "name", "group", "split"))
    chosen = choose_spread(table[table["split"] == "test"], PER_GROUP[session])
    numbers = chosen["nsd_id"].tolist()
    cells = [[Cell(p, "", framed=True) for p in read_images(stimuli, numbers)]]
    parts = []
    for row in rows:
        values = _read_values(row, numbers)
        pictures = read_pictures(row.pictures, [(number, 0) for number in numbers])
        cells.append([Cell(*own) for own in zip(pictures, map(format_score, values), strict=True)])
        known = {"subject": subject, "case": row.case, "source": row.source, "measure": MEASURE}
        parts.append(chosen.assign(**known, value=values))
    columns = [Column("", list(column)) for column in zip(*cells, strict=True)]
    labels = [(PRESENTED, "picture"), *((NAMES.get(row.source), row.case) for row in rows)]
    title = f"{subject}, {NAMED[session]}"
    with journal_style():
        figure = draw_pictures(
            title=f"{title} – {DEMO}" if demo else title,
            notes=[_describe(session), *([DEMO_NOTE] if demo else [])],
            rows=labels,
            blocks=_arrange(chosen["group"].tolist(), columns, PER_BLOCK[session]),
        )
        save_figure((png, pdf), figure)
    logger.info("%s: images %s", subject, numbers)
    save_table(tsv, pd.concat(parts, ignore_index=True))


def choose_spread(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """Choose images of every group, evenly spaced in the order of the table.

    Parameters
    ----------
    table : DataFrame
        With the column group.
    most : int
        Images of a group.

    Returns
    -------
    DataFrame
        nsd_id, name and group of the images chosen, group by group.
    """
    parts = []
    for _, own in table.groupby("group", sort=False):
        n = min(most, len(own))
        parts.append(own.iloc[((np.arange(n) + 0.5) * len(own) / n).astype(int)])
    return pd.concat(parts)[["nsd_id", "name", "group"]].reset_index(drop=True)


def _read_values(row, numbers):
    """The measure of each image's reconstruction."""
    table = read_columns(row.scores, ("nsd_id", "source", "score", "value"))
    own = table[(table["source"] == row.source) & (table["score"] == MEASURE)]
    return own.set_index("nsd_id")["value"].reindex(numbers).to_numpy()


def _arrange(groups, columns, most):
    """Sections of the groups in blocks, as many columns wide as fit."""
    blocks, used = [[]], 0
    for group in dict.fromkeys(groups):
        own = [column for name, column in zip(groups, columns, strict=True) if name == group]
        if used and used + len(own) > most:
            blocks.append([])
            used = 0
        blocks[-1].append(Section(GROUPS.get(group, group), own))
        used += len(own)
    return blocks


def _describe(session):
    """Say what is drawn."""
    chosen = "Images are evenly spaced over each class of the set, whatever their scores. "
    if session == "imagery":
        chosen = "All targets that are pictures, seen, imagined and attended to. "
    return (
        "Decoders were fitted to the core experiment and applied to this session unchanged; the "
        f"first sample is shown. {chosen}Numbers: correlation with the picture, by 16 × 16 blocks. "
        "The last row is what the generator makes of the picture's true $z$."
    )

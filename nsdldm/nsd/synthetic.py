"""Read NSD-synthetic: which image was shown in which trial, and the images.

One more session, in which every subject saw the same 284 images in the same order: noise, natural
and manipulated scenes, words, gratings and colours. Its pictures are stored in linear light, on a
screen of 714 x 1360 pixels, of which models see the central square, as in Gifford et al. (2026).
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from nsdldm.nsd.hdf5 import open_dataset
from nsdldm.nsd.layout import N_SYNTHETIC, N_SYNTHETIC_SHARED, SYNTHETIC_TRIALS
from nsdldm.nsd.matlab import read_variable
from nsdldm.nsd.pictures import crop_square, resize_square, save_pictures
from nsdldm.nsd.stimuli import DATASET
from nsdldm.support.errors import Finding, InputError, Unexpected, reading
from nsdldm.support.files import save_table

logger = logging.getLogger(__name__)

SCREEN = (714, 1360, 3)
# Columns of the table of images, and what they become.
COLUMNS = {
    "Image number": "nsd_id",
    "Image": "name",
    "Image subclass": "subclass",
    "Image class": "group",
}
# Of stored values, which are proportional to luminance.
DISPLAYED = np.sqrt(np.arange(256, dtype=np.float32) / 255) * 255


def read_order(path: Path | str) -> np.ndarray:
    """Read the image of each trial.

    Parameters
    ----------
    path : str or Path
        ``nsdsynthetic_expdesign.mat``.

    Returns
    -------
    int64 array of shape (744,)
        0-based, in the order of the betas.

    Raises
    ------
    InputError
        The file is missing, or ``masterordering`` is not 744 numbers that cover 1 to 284.
    """
    order = read_variable(path, "masterordering", (1, SYNTHETIC_TRIALS)).ravel()
    with reading(path, f"every number from 1 to {N_SYNTHETIC}, and no other, in masterordering"):
        if order.dtype.kind not in "iuf":
            raise Unexpected(f"values of type {order.dtype}")
        if not np.array_equal(np.unique(order), np.arange(1, N_SYNTHETIC + 1)):
            raise Unexpected(f"numbers from {order.min():g} to {order.max():g}, or some missing")
    return order.astype(np.int64) - 1


def read_information(path: Path | str) -> pd.DataFrame:
    """Read the name and class of each image.

    Parameters
    ----------
    path : str or Path
        ``nsdsyntheticimageinformation.csv``.

    Returns
    -------
    DataFrame
        A row per image: nsd_id (from 0), name, subclass, group (the class).

    Raises
    ------
    InputError
        The file is missing, lacks a column or a class, or does not number the images 1 to 284.
    """
    with reading(path, f"comma-separated columns {', '.join(COLUMNS)}", small=True):
        with open(path, encoding="utf-8-sig", newline="") as stream:
            header, *rows = csv.reader(stream, strict=True)
        for name in COLUMNS:
            if header.count(name) != 1:
                raise Unexpected(f"the column {name} {header.count(name)} times")
        rows = [row for row in rows if row]
        if any(len(row) != len(header) for row in rows):
            raise Unexpected("rows of other length than the header")
        table = pd.DataFrame(rows, columns=header, dtype=object)[list(COLUMNS)]
        table = table.map(str.strip).rename(columns=COLUMNS)
    with reading(path, f"images numbered from 1 to {N_SYNTHETIC} in order, with names and classes"):
        if table["nsd_id"].tolist() != [str(n) for n in range(1, N_SYNTHETIC + 1)]:
            raise Unexpected(f"other numbers in {len(table)} rows")
        if (table == "").to_numpy().any():
            raise Unexpected("an empty field")
    return table.assign(nsd_id=np.arange(N_SYNTHETIC))


def read_pictures(stimuli: Path | str, colours: Path | str) -> Iterator[np.ndarray]:
    """Iterate over the central squares of the pictures as they looked, one at a time.

    Parameters
    ----------
    stimuli : str or Path
        ``nsdsynthetic_stimuli.hdf5``: the first 220 images, shared by all subjects.
    colours : str or Path
        ``nsdsynthetic_colorstimuli_subjXX.hdf5``: the other 64, isoluminant for the subject.

    Yields
    ------
    float32 array of shape (714, 714, 3)
        From 0 to 255, the square root of the stored luminance, as displays and networks expect.

    Raises
    ------
    InputError
        A file is missing or its pictures are of another number, size or dtype.
    """
    wanted = {stimuli: N_SYNTHETIC_SHARED, colours: N_SYNTHETIC - N_SYNTHETIC_SHARED}
    for path, n_images in wanted.items():
        with open_dataset(path, DATASET) as dataset:
            shape = (n_images, *SCREEN)
            if dataset.shape != shape or dataset.dtype != np.uint8:
                expected = f"uint8 of shape {shape} in {DATASET}"
                found = f"{dataset.dtype} of shape {dataset.shape}"
                remedy = "Use the file of the release"
                raise InputError(Finding(str(path), expected, found, remedy))
            for row in range(n_images):
                with reading(path, "pictures"):
                    picture = dataset[row]
                yield DISPLAYED[crop_square(picture)]


def prepare_synthetic(
    *,
    design: Path | str,
    information: Path | str,
    stimuli: Path | str,
    colours: Path | str,
    trials: Path | str,
    images: Path | str,
    pictures: Path | str,
) -> None:
    """Write a subject's tables of trials and images, and the pictures.

    Images that are blank in the central square, such as words beside it, are not used.

    Parameters
    ----------
    design, information : str or Path
        As `read_order` and `read_information` take them.
    stimuli, colours : str or Path
        As `read_pictures` takes them.
    trials : str or Path
        Output, a row per trial in the order of the betas: session (1), trial (1 to 744), nsd_id
        (row of the picture, from 0), repetition (from 1), split (test, or unused), one_back (the
        image is that of the trial before).
    images : str or Path
        Output, a row per image: nsd_id, name, subclass, group (its class), split, n_trials (that
        are used).
    pictures : str or Path
        Output, HDF5 as of the release: imgBrick, uint8 (284, 425, 425, 3).

    Raises
    ------
    InputError
        A file is unusable.
    """
    order, table = read_order(design), read_information(information)
    blank = []

    def resized():
        for square in read_pictures(stimuli, colours):
            blank.append((square == square[0, 0]).all())
            yield resize_square(square)

    save_pictures(pictures, resized(), N_SYNTHETIC)
    split = np.where(blank, "unused", "test")
    shown = pd.Series(order)
    rows = pd.DataFrame({"session": 1, "trial": np.arange(1, len(order) + 1), "nsd_id": order})
    rows["repetition"] = shown.groupby(order).cumcount() + 1
    rows["split"], rows["one_back"] = split[order], shown.eq(shown.shift())
    counts = np.bincount(order, minlength=N_SYNTHETIC)
    table["split"], table["n_trials"] = split, np.where(blank, 0, counts)
    save_table(trials, rows)
    save_table(images, table)
    logger.info("%d trials, %d of them one-back repeats", len(rows), rows["one_back"].sum())
    message = "%d images, of which %d are not used because the central square is blank: %s"
    names = ", ".join(table["name"][split == "unused"]) or "none"
    logger.info(message, len(table), sum(blank), names)

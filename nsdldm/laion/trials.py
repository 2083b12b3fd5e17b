"""Which image was shown in each trial, in the form of NSD's tables."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd

from nsdldm.laion.layout import PERSONS
from nsdldm.support.errors import Finding, InputError, Unexpected, reading
from nsdldm.support.files import save_table

logger = logging.getLogger(__name__)

RELEASED = "Use the file of the release; its form may have changed since September 2026"
COLUMNS = ("session", "run", "beta_index", "label")
DESCRIBED = ("image_name", "dataset", "participant", "unique_or_shared", "n_reps")
# Out of distribution: in no pool of images.
OUTSIDE = re.compile(r"shared_\d+rep_OOD_")
OWN = re.compile(r"_p(\d\d)\.\w+$")


def read_cells(path: Path | str, separator: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read columns of a table as text.

    Parameters
    ----------
    path : str or Path
    separator : str
    columns : tuple of str
        That it must have.

    Returns
    -------
    DataFrame of str

    Raises
    ------
    InputError
        The file cannot be read, has no rows, or lacks a column.
    """
    with reading(path, f"a table with the columns {', '.join(columns)}", RELEASED):
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
        missing = [name for name in columns if name not in table]
        if missing:
            raise Unexpected(f"no {missing[0]} (there are: {', '.join(table.columns)})")
        if table.empty:
            raise Unexpected("no rows")
    return table[list(columns)]


def read_metadata(path: Path | str) -> pd.DataFrame:
    """Read what the release says of its images.

    Parameters
    ----------
    path : str or Path
        ``task-images_metadata.csv``; a row is an image's place in the picture file.

    Returns
    -------
    DataFrame
        name, source (LAION, THINGS, THINGS+, NSD or OOD), shared (bool) and repeats (int); the
        index is the row, from 0.

    Raises
    ------
    InputError
        The file cannot be used, or has an image twice.
    """
    table = read_cells(path, ",", DESCRIBED)
    with reading(path, "images that are shared or unique, and how often they are shown", RELEASED):
        unknown = sorted({*table["unique_or_shared"]} - {"shared", "unique"})
        if unknown:
            raise Unexpected(f"{unknown[0]!r} as unique_or_shared")
        repeats = pd.to_numeric(table["n_reps"]).astype(int)
    twice = table["image_name"][table["image_name"].duplicated()]
    if len(twice):
        raise InputError(Finding(str(path), "each image once", f"{twice.iloc[0]} twice", RELEASED))
    return pd.DataFrame(
        {
            "name": table["image_name"],
            "source": table["dataset"],
            "shared": table["unique_or_shared"] == "shared",
            "repeats": repeats,
        }
    ).rename_axis("nsd_id")


def read_trials(path: Path | str) -> pd.Series:
    """Read the images of a session.

    Parameters
    ----------
    path : str or Path
        ``..._desc-SingletrialBetas_trials.tsv``: a row per beta in the order of presentation.

    Returns
    -------
    Series of str
        Names of the images, in the order of the betas.

    Raises
    ------
    InputError
        The file cannot be used, or its beta_index is not 0, 1, 2 and so on.
    """
    table = read_cells(path, "\t", COLUMNS)
    index = pd.to_numeric(table["beta_index"], errors="coerce")
    wrong = np.flatnonzero(index.to_numpy() != np.arange(len(table)))
    if len(wrong):
        expected = "beta_index from 0, in order, without gaps"
        found = f"{table['beta_index'][wrong[0]]} in row {wrong[0]}"
        raise InputError(Finding(str(path), expected, found, RELEASED))
    return table["label"]


def mark_seen(known: pd.DataFrame, subject: str) -> pd.Series:
    """Mark the images that are meant for a subject.

    Parameters
    ----------
    known : DataFrame
        As `read_metadata` returns it.
    subject : str
        Such as sub-01.

    Returns
    -------
    Series of bool
        Shared images, and those with the subject's number in their names.
    """
    number = known["name"].str.extract(OWN, expand=False)
    return known["shared"] | (number == f"{PERSONS[subject]:02d}")


def identify_images(
    path: Path | str, names: pd.Series, known: pd.DataFrame, subject: str
) -> np.ndarray:
    """Find the images of a session among those of the release.

    Parameters
    ----------
    path : str or Path
        The session's table, to name it.
    names : Series of str
        As `read_trials` returns them.
    known : DataFrame
        As `read_metadata` returns it.
    subject : str
        Such as sub-01.

    Returns
    -------
    int64 array of shape (n_trials,)
        Rows of the images, from 0.

    Raises
    ------
    InputError
        An image is unknown or another subject's.
    """
    rows = pd.Series(known.index, index=known["name"])
    unknown = names[~names.isin(rows.index)]
    if len(unknown):
        expected, remedy = "images of the metadata", "Use files of one version of the release"
        raise InputError(Finding(str(path), expected, unknown.iloc[0], remedy))
    numbers = rows[names].to_numpy()
    others = names[~mark_seen(known, subject).to_numpy()[numbers]]
    if len(others):
        expected = f"shared images, or those of {subject} with _p{PERSONS[subject]:02d} at the end"
        raise InputError(Finding(str(path), expected, others.iloc[0], "Use this subject's file"))
    return numbers


def tabulate_trials(
    *,
    subject: str,
    tables: dict[int, Path | str],
    metadata: Path | str,
    trials: Path | str,
    images: Path | str,
) -> None:
    """Write which image was shown in each trial, and the images shown.

    Parameters
    ----------
    subject : str
        Such as sub-01.
    tables : dict of int to path
        The table of each session, in the order of the betas; see `read_trials`.
    metadata : str or Path
        As `read_metadata` reads it.
    trials, images : path
        Outputs, as `nsdldm.nsd.trials.tabulate_trials` writes them. nsd_id is the image's row in
        the picture file, from 0, and coco_id the same; repetition counts from 1 in these sessions;
        images have their name and source. Shared images are test images and own ones train; those
        out of distribution are unused.

    Raises
    ------
    InputError
        A file cannot be used, or an image is unknown or another subject's.
    """
    known = read_metadata(metadata)
    numbers = {
        session: identify_images(path, read_trials(path), known, subject)
        for session, path in tables.items()
    }
    listed = pd.concat(
        [pd.DataFrame({"session": session, "nsd_id": own}) for session, own in numbers.items()],
        ignore_index=True,
    )
    listed["trial"] = listed.groupby("session").cumcount() + 1
    listed["repetition"] = listed.groupby("nsd_id").cumcount() + 1
    split = np.where(known["shared"], "test", "train")
    split = np.where(known["name"].str.match(OUTSIDE), "unused", split)
    listed["split"] = split[listed["nsd_id"]]
    save_table(trials, listed[["session", "trial", "nsd_id", "repetition", "split"]])
    shown = listed.groupby("nsd_id", as_index=False).agg(
        split=("split", "first"), n_trials=("trial", "size")
    )
    shown["coco_id"], shown["coco_split"] = shown["nsd_id"], "none"
    shown = shown.join(known[["name", "source"]], on="nsd_id")
    columns = ["nsd_id", "coco_id", "coco_split", "split", "n_trials", "name", "source"]
    save_table(images, shown[columns])
    logger.info("%d trials: %s", len(listed), listed["split"].value_counts().to_dict())
    logger.info("%d images: %s", len(shown), shown["split"].value_counts().to_dict())

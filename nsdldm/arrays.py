"""Read a dataset of one's own: arrays and tables in one folder (docs/datasets.md).

Everything is written in the form that the readers of NSD write, so that nothing after them knows
the dataset. An image is a number from 0, its row in the table of images; the files of the workflow
call it nsd_id.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from nsdldm.nsd.grids import compare_grids
from nsdldm.nsd.layout import IMAGE_PIXELS
from nsdldm.nsd.rois import read_volume
from nsdldm.nsd.stimuli import DATASET, PICTURE, open_stimuli
from nsdldm.support.errors import Finding, InputError, Unexpected, reading
from nsdldm.support.files import (
    create_array,
    create_hdf5,
    open_hdf5,
    replacing,
    save_table,
    save_volume,
)
from nsdldm.support.listing import list_files
from nsdldm.support.logs import progress

if TYPE_CHECKING:
    import h5py

logger = logging.getLogger(__name__)

SPLITS = ("train", "test", "unused")
BETAS = "betas"  # dataset of an HDF5 file
TRIALS_AT_ONCE = 512


def _read_table(path, columns):
    """A tab-separated table with certain columns, in which nothing is empty."""
    with reading(path, "a table of tab-separated values with a header"):
        table = pd.read_csv(path, sep="\t", dtype={"image": str}, keep_default_na=False)
        missing = [name for name in columns if name not in table]
        if missing:
            raise Unexpected(f"no column {missing[0]} (there are: {', '.join(table.columns)})")
        if table.empty:
            raise Unexpected("no rows")
    return table


def read_images(path: Path | str) -> pd.DataFrame:
    """Read the images of a dataset.

    Parameters
    ----------
    path : str or Path
        ``images.tsv`` with the columns image, a name (of a file in ``pictures`` if there is no
        ``stimuli.hdf5``), and split: train, test or unused.

    Returns
    -------
    DataFrame
        These columns, a row per image in the order of the file.

    Raises
    ------
    InputError
        The file cannot be used, a name is there twice, or a split is none of these.
    """
    table = _read_table(path, ("image", "split"))
    twice = table["image"][table["image"].duplicated()]
    if len(twice):
        raise InputError(
            Finding(str(path), "each image once", f"{twice.iloc[0]} twice", "Name it once")
        )
    unknown = sorted({*table["split"].astype(str)} - {*SPLITS})
    if unknown:
        expected = f"a split of {', '.join(SPLITS)}"
        raise InputError(Finding(str(path), expected, unknown[0], "Write one of these"))
    return table[["image", "split"]]


def read_trials(path: Path | str, images: pd.DataFrame) -> pd.DataFrame:
    """Read the trials of a subject.

    Parameters
    ----------
    path : str or Path
        ``trials.tsv`` with the columns session, a whole number from 1 that does not fall, and
        image, a name; a row per trial in the order of the betas.
    images : DataFrame
        As from `read_images`.

    Returns
    -------
    DataFrame
        session, trial (from 1 in its session), nsd_id (the row of the image, from 0), repetition
        (from 1) and split.

    Raises
    ------
    InputError
        The file cannot be used, sessions are not in order, or an image is not in the other table.
    """
    table = _read_table(path, ("session", "image"))
    sessions = pd.to_numeric(table["session"], errors="coerce")
    if not (sessions >= 1).all() or (sessions % 1).any() or (sessions.diff() < 0).any():
        expected, remedy = "sessions as whole numbers from 1, in order", "Sort trials as the betas"
        raise InputError(Finding(str(path), expected, "others", f"{remedy} by session"))
    rows = pd.Series(np.arange(len(images)), index=images["image"])
    unknown = table["image"][~table["image"].isin(rows.index)]
    if len(unknown):
        remedy = "Add it to images.tsv, or correct its name"
        raise InputError(Finding(str(path), "images of images.tsv", unknown.iloc[0], remedy))
    trials = pd.DataFrame({"session": sessions.astype(int)})
    trials["trial"] = trials.groupby("session").cumcount() + 1
    trials["nsd_id"] = rows[table["image"]].to_numpy()
    trials["repetition"] = trials.groupby("nsd_id").cumcount() + 1
    trials["split"] = images["split"].to_numpy()[trials["nsd_id"]]
    return trials


def tabulate_trials(
    *, images: Path | str, trials: Path | str, output_trials: Path | str, output_images: Path | str
) -> None:
    """Write which image was shown in each trial, and the images shown.

    Parameters
    ----------
    images, trials : path
        As `read_images` and `read_trials` read them.
    output_trials, output_images : path
        Outputs, as `nsdldm.nsd.trials.tabulate_trials` writes them; name is the image's.

    Raises
    ------
    InputError
        As these, or no image is left to train or to test on.
    """
    known = read_images(images)
    listed = read_trials(trials, known)
    shown = listed.groupby("nsd_id", as_index=False).agg(
        split=("split", "first"), n_trials=("trial", "size")
    )
    for split in SPLITS[:2]:
        if not (shown["split"] == split).any():
            expected, remedy = f"images whose split is {split}", f"Set split to {split} for some"
            raise InputError(Finding(str(images), expected, f"none in {trials}", remedy))
    shown["coco_id"], shown["coco_split"] = shown["nsd_id"], "none"
    shown["name"] = known["image"].to_numpy()[shown["nsd_id"]]
    save_table(output_trials, listed)
    columns = ["nsd_id", "coco_id", "coco_split", "split", "n_trials", "name"]
    save_table(output_images, shown[columns])
    logger.info("%d trials of %d images", len(listed), len(shown))


@contextmanager
def _open_betas(path) -> Iterator[np.ndarray | h5py.Dataset]:
    """A matrix of trials and voxels, unread."""
    if str(path).endswith(".npy"):
        with reading(path, "a whole .npy file with a matrix"):
            yield np.load(path, mmap_mode="r", allow_pickle=False)
        return
    with reading(path, f"an HDF5 file with the matrix {BETAS}"), open_hdf5(path) as file:
        if BETAS not in file:
            raise Unexpected(f"no {BETAS} (there are: {', '.join(file)})")
        yield file[BETAS]


def _check_matrix(path, betas, n_trials):
    """Refuse betas of another shape or kind."""
    kind = np.dtype(betas.dtype).kind
    if len(betas.shape) != 2 or betas.shape[0] != n_trials or kind not in "iuf":
        expected = f"numbers of shape ({n_trials} trials, voxels), as trials.tsv says"
        found = f"{betas.dtype} of shape {tuple(map(int, betas.shape))}"
        raise InputError(Finding(str(path), expected, found, "Write a row per trial"))


def _check_values(path, betas):
    """Refuse betas without any value; reading stops at the first."""
    for start in range(0, betas.shape[0], TRIALS_AT_ONCE):
        with reading(path, "betas"):
            if np.isfinite(betas[start : start + TRIALS_AT_ONCE]).any():
                return
    remedy = "Write the betas of its voxels, or leave out the region"
    raise InputError(Finding(str(path), "numbers", "no value in any voxel and trial", remedy))


def copy_betas(*, betas: Path | str, trials: Path | str, output: Path | str) -> None:
    """Write the single-trial betas of a region as the workflow reads them.

    Parameters
    ----------
    betas : str or Path
        ``.npy``, or HDF5 with the dataset betas: numbers of shape (n_trials, n_voxels), in any
        unit, in the order of trials.tsv; NaN where a voxel has no data in a session.
    trials : str or Path
        As `tabulate_trials` writes them.
    output : str or Path
        float32 ``.npy`` of the same shape.

    Raises
    ------
    InputError
        The file cannot be used, has another number of trials, or infinite values.
    """
    n_trials = len(pd.read_csv(trials, sep="\t"))
    with _open_betas(betas) as given:
        _check_matrix(betas, given, n_trials)
        with create_array(output, given.shape, np.float32) as copied:
            for start in range(0, n_trials, TRIALS_AT_ONCE):
                with reading(betas, "betas"):
                    block = np.asarray(given[start : start + TRIALS_AT_ONCE], np.float32)
                if np.isinf(block).any():
                    row = start + int(np.isinf(block).any(axis=1).argmax())
                    expected, remedy = "finite numbers, or NaN", "Write NaN where there are no data"
                    raise InputError(Finding(str(betas), expected, f"inf in row {row}", remedy))
                copied[start : start + TRIALS_AT_ONCE] = block
    logger.info("%s: %d trials, %d voxels", betas, *given.shape)


def _square(path):
    """A picture as RGB at the release's size; what is not square is cut to its middle."""
    with reading(path, "a picture"), Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode in ("RGBA", "LA", "P"):
            picture = picture.convert("RGBA")
            grey = Image.new("RGBA", picture.size, (128, 128, 128, 255))
            picture = Image.alpha_composite(grey, picture)
        size = (IMAGE_PIXELS, IMAGE_PIXELS)
        return np.asarray(ImageOps.fit(picture.convert("RGB"), size, Image.Resampling.LANCZOS))


def gather_stimuli(*, images: Path | str, pictures: Path | str, output: Path | str) -> None:
    """Write the pictures of all images into one file, in the form of the release's.

    Parameters
    ----------
    images : str or Path
        As `read_images` reads them.
    pictures : str or Path
        Folder with a file for each image, in any size and format that PIL reads. Transparency is
        laid over grey; what is not square is cut to its middle.
    output : str or Path
        HDF5 with imgBrick, uint8 of shape (n_images, 425, 425, 3), in the order of the table.

    Raises
    ------
    InputError
        A picture is missing or cannot be read.
    """
    names = read_images(images)["image"].tolist()
    shape = (len(names), *PICTURE)
    with create_hdf5(output, math.prod(shape)) as file:
        dataset = file.create_dataset(DATASET, shape, np.uint8)
        for row, name in enumerate(progress(names, len(names), "pictures")):
            dataset[row] = _square(Path(pictures) / name)


def _read_captions(path):
    """Captions by the name of their image."""
    table = _read_table(path, ("image", "caption"))
    table = table[table["caption"].astype(str).str.strip() != ""]
    return table.groupby("image")["caption"].apply(list).to_dict()


def write_captions(*, images: Path | str, captions: Path | str, output: Path | str) -> None:
    """Write captions in the form of COCO's.

    Parameters
    ----------
    images : str or Path
        As `read_images` reads them.
    captions : str or Path
        ``captions.tsv`` with the columns image and caption; one row or more for each image.
    output : str or Path
        JSON with annotations of image_id, the row of the image from 0, and caption.

    Raises
    ------
    InputError
        An image has no caption.
    """
    known, by_name = read_images(images), _read_captions(captions)
    absent = [name for name in known["image"] if name not in by_name]
    if absent:
        found = f"none for {len(absent)} of {len(known)}, such as {absent[0]}"
        remedy = "Write a row for each; unused images need one too"
        raise InputError(Finding(str(captions), "a caption of every image", found, remedy))
    annotations = [
        {"image_id": row, "caption": str(text)}
        for row, name in enumerate(known["image"])
        for text in by_name[name]
    ]
    with replacing(output) as part:
        part.write_text(json.dumps({"annotations": annotations}), encoding="utf-8")


def copy_mask(*, mask: Path | str, reference: Path | str, output: Path | str) -> None:
    """Write the mask of a region as the workflow reads it.

    Parameters
    ----------
    mask, reference : path
        Volumes of shape (X, Y, Z), above 0 in the region, and that of the cortex.
    output : str or Path
        uint8 NIfTI.

    Raises
    ------
    InputError
        A file cannot be used, or the two are on different grids.
    """
    data, grid = read_volume(mask)
    misfit = compare_grids(grid, read_volume(reference)[1])
    if misfit:
        raise InputError(misfit)
    save_volume(output, data > 0, grid.affine, grid.zooms)


def check_arrays(
    *,
    images: Path | str,
    trials: Path | str,
    captions: Path | str,
    stimuli: Path | str,
    betas: Sequence[Path | str],
    masks: Sequence[Path | str],
    report: Path | str,
) -> None:
    """Check that a subject's files fit together, before anything long starts.

    Parameters
    ----------
    images, trials, captions : str or Path
        Tables.
    stimuli : str or Path
        HDF5 with imgBrick, or a folder with a file for each image.
    betas : sequence of path
        Matrices of regions.
    masks : sequence of path
        Masks of some of them, by the same names: their voxels are the columns in C-order.
    report : str or Path
        Output, a table with the columns path, what and value.

    Raises
    ------
    InputError
        With the first thing that does not fit.
    """
    known = read_images(images)
    listed = read_trials(trials, known)
    rows = [(images, "images", len(known)), (trials, "trials", len(listed))]
    _check_pictures(stimuli, known)
    absent = sorted({*known["image"]} - {*_read_captions(captions)})
    if absent:
        remedy = "Write a row for each; unused images need one too"
        found = f"none of {absent[0]}"
        raise InputError(Finding(str(captions), "a caption of every image", found, remedy))
    columns = {}
    for path in betas:
        with _open_betas(path) as given:
            _check_matrix(path, given, len(listed))
            _check_values(path, given)
            columns[Path(path).stem] = given.shape[1]
        rows.append((path, "voxels", given.shape[1]))
    for path in masks:
        marked = int((read_volume(path)[0] > 0).sum())
        region = Path(path).name.removesuffix(".nii.gz")
        wanted = columns.get(region, marked)
        if marked != wanted or not marked:
            expected = f"a mask of the {wanted} voxels that the betas of {region} have"
            remedy = "Write columns of the betas for the voxels of the mask, in C-order"
            raise InputError(Finding(str(path), expected, f"{marked} voxels", remedy))
        rows.append((path, "voxels", marked))
    save_table(report, pd.DataFrame(rows, columns=["path", "what", "value"]))


def _check_pictures(stimuli, known):
    """Refuse pictures that are missing."""
    if Path(stimuli).is_dir():
        there = {path.name for path in list_files(Path(stimuli))}
        absent = [name for name in known["image"] if name not in there]
        if absent:
            found = f"no {absent[0]}, and so for {len(absent)} of {len(known)} images"
            remedy = "Copy it there, or correct its name in images.tsv"
            raise InputError(Finding(str(stimuli), "a file for each image", found, remedy))
        return
    with open_stimuli(stimuli) as pictures:
        if len(pictures) != len(known):
            expected = f"a picture for each of the {len(known)} rows of images.tsv"
            remedy = "Write them in the order of images.tsv"
            raise InputError(Finding(str(stimuli), expected, f"{len(pictures)} pictures", remedy))

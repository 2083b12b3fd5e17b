"""A baseline that knows nothing about a test image: the mean of the training pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nsdldm.nsd.stimuli import read_images
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_table, save_array


def average_pictures(*, images: Path | str, stimuli: Path | str, output: Path | str) -> None:
    """Average the pictures that a subject's decoders are trained on.

    Parameters
    ----------
    images : path
        Table of the images the subject saw, with the columns nsd_id and split.
    stimuli : path
        ``nsd_stimuli.hdf5``. Pictures are read one at a time.
    output : path
        ``.npy``, uint8 of shape (height, width, 3): the mean, rounded.

    Raises
    ------
    InputError
        There is no training image, or a picture cannot be read.
    """
    table = load_table(images)
    wanted = table.loc[table["split"] == "train", "nsd_id"].to_numpy()
    if not len(wanted):
        remedy = "Use sessions with images that other subjects do not share"
        raise InputError(Finding(str(images), "training images", "none", remedy))
    total = 0
    for picture in read_images(stimuli, wanted):
        total = total + picture.astype(np.int64)
    save_array(output, np.round(total / len(wanted)).astype(np.uint8))

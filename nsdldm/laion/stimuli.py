"""The pictures that a subject saw, in the form of NSD's."""

from __future__ import annotations

import io
import logging
import math
from pathlib import Path

import numpy as np
from PIL import Image

from nsdldm.laion.trials import RELEASED
from nsdldm.nsd.hdf5 import open_dataset
from nsdldm.nsd.layout import IMAGE_PIXELS
from nsdldm.nsd.stimuli import DATASET, NUMBERS, PICTURE, outside_stimuli
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import create_hdf5, load_table
from nsdldm.support.logs import progress

logger = logging.getLogger(__name__)

ENCODED = "images"
GREY = (128, 128, 128, 255)  # what transparent pictures were shown on


def decode_picture(encoded: bytes) -> np.ndarray:
    """Decode a picture as it was shown, at the size of NSD's.

    Parameters
    ----------
    encoded : bytes
        JPEG or PNG; transparency is laid over grey.

    Returns
    -------
    uint8 array of shape (425, 425, 3)
    """
    with Image.open(io.BytesIO(encoded)) as opened:
        picture = opened
        if picture.mode != "RGB":
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, GREY), picture)
        size = (IMAGE_PIXELS, IMAGE_PIXELS)
        return np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BOX))


def copy_stimuli(
    *,
    stimuli: Path | str,
    images: Path | str,
    output: Path | str,
    storage: dict | None = None,
) -> None:
    """Write the pictures that a subject saw.

    Parameters
    ----------
    stimuli : str or Path
        ``task-images_stimuli.h5``: the dataset images has an encoded file in each row.
    images : str or Path
        Table of images with the column nsd_id, the row.
    output : str or Path
        HDF5 with the datasets imgBrick, uint8 (n_images, 425, 425, 3), and nsd_id, int64
        (n_images,), in the order of the table.
    storage : dict, optional
        How to read a bucket, as `nsdldm.nsd.remote.connect` takes it.

    Raises
    ------
    InputError
        The file cannot be used, or lacks a picture.
    """
    numbers = load_table(images)["nsd_id"].to_numpy(np.int64)
    shape = (len(numbers), *PICTURE)
    with open_dataset(stimuli, ENCODED, storage) as encoded:
        check_encoded(stimuli, encoded)
        outside = numbers[numbers >= len(encoded)].tolist()
        if outside:
            raise InputError(outside_stimuli(stimuli, outside, len(encoded)))
        with create_hdf5(output, math.prod(shape)) as file:
            file[NUMBERS] = numbers
            dataset = file.create_dataset(DATASET, shape, np.uint8)
            for row, number in enumerate(progress(numbers, len(numbers), "pictures")):
                with reading(stimuli, f"a picture in row {number}"):
                    dataset[row] = decode_picture(np.asarray(encoded[number]).tobytes())


def check_encoded(path: Path | str, encoded: object) -> None:
    """Refuse a dataset that does not hold encoded files.

    Parameters
    ----------
    path : str or Path
    encoded : h5py.Dataset
        Of shape (n_images,), each uint8 of any length.

    Raises
    ------
    InputError
    """
    kind = encoded.dtype.metadata or {}
    if len(encoded.shape) != 1 or kind.get("vlen") != np.uint8:
        expected = f"one encoded file in each row of {ENCODED}"
        found = f"{encoded.dtype} of shape {tuple(encoded.shape)}"
        raise InputError(Finding(str(path), expected, found, RELEASED))

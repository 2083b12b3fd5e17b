"""Features that decoders are compared with: none of them takes a response.

What the mean of the training images scores needs no brain; what the true features of the test
images score is all that a perfect decoder could reach.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nsdldm.decoding.neighbours import average_rows
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import create_array, load_array, load_table


def write_baselines(
    *,
    images: Path | str,
    features: dict[str, Path | str],
    mean: dict[str, Path | str],
    true: dict[str, Path | str] | None = None,
) -> None:
    """Write the training images' mean features and the test images' true ones as if decoded.

    Parameters
    ----------
    images : path
        ``images.tsv``; only the splits train and test are used.
    features : dict of path
        By target: ``.npy`` with a row per image of `images`.
    mean : dict of path
        Output by target, any of those of `features`: float32 ``.npy`` (n_test, ...), in each row
        the mean over the training images.
    true : dict of path, optional
        Output by target: float32 ``.npy`` (n_test, ...), in the order of the test images.

    Raises
    ------
    InputError
        There is no training or no test image, features have another number of rows, or a value of
        the training images is infinite or undefined.
    """
    table = load_table(images)
    train, test = (np.flatnonzero(table["split"] == split) for split in ("train", "test"))
    for rows, what in ((test, "test"), (train, "training")):
        if not len(rows):
            remedy = "Use other sessions, or another split"
            raise InputError(Finding(str(images), f"{what} images", "none", remedy))
    for name, path in features.items():
        values = load_array(path)
        if len(values) != len(table):
            expected = f"one row for each of the {len(table)} images of {images}"
            remedy = "Compute the features again"
            raise InputError(Finding(str(path), expected, f"{len(values)} rows", remedy))
        shape = (len(test), *values.shape[1:])
        if name in mean:
            with create_array(mean[name], shape, np.float32) as output:
                output[:] = average_rows(values, train).reshape(shape[1:])
        if true and name in true:
            with create_array(true[name], shape, np.float32) as output:
                output[:] = values[test]

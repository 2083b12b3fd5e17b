"""Encoders of a case: fitted to its training images, and applied to its own or other test images.

Another test set is predicted by encoders of the core experiment, unchanged: its features are
centred, reduced and scaled by those of the training images, like any test image of the core.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from nsdldm import ridge
from nsdldm.encoding.fits import FitSettings, plan_fits
from nsdldm.encoding.predictions import Model, create_predictions, write_model
from nsdldm.features.kernels import compute_kernel
from nsdldm.responses import Responses
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array, load_table

logger = logging.getLogger(__name__)

FORM = "zscored/averages"


def predict_case(
    *,
    images: Path | str,
    features: dict[str, Path | str],
    responses: Path | str,
    predictions: Path | str,
    settings: FitSettings,
    max_components: int,
    test_images: Path | str | None = None,
    test_features: dict[str, Path | str] | None = None,
    tested: Path | str | None = None,
    form: str = FORM,
) -> None:
    """Fit encoders of single spaces to the training images of a case, and predict its test images.

    Each voxel has a kernel ridge regression with an intercept and a penalty of its own, fitted as
    by `nsdldm.encoding.fits.fit_encoders`. Memory holds the kernel of one space (with float64
    copies while it is computed) and as many voxels as settings allow.

    Parameters
    ----------
    images : path
        Table of the training images (nsd_id, split), a row per row of `features`.
    features : dict of path
        ``.npy`` files of shape (n_images, ...) by the name of the space.
    responses : path
        Training responses, as `nsdldm.responses.prepare_responses` writes them.
    predictions : path
        Output, read by `nsdldm.encoding.predictions.Predictions`: a model for each space, of the
        test images in the order of the responses tested.
    settings : FitSettings
    max_components : int
        Maximum number of principal components of a space.
    test_images : path, optional
        Table of another test set, whose split is test or unused. By default, or if it is `images`,
        the test images are those of `images`.
    test_features : dict of path, optional
        Its features, a row per row of `test_images`.
    tested : path, optional
        Responses to its images, in the same voxels.
    form : str
        Of the responses.

    Raises
    ------
    InputError
        Inputs contradict each other, or there is too little memory.
    """
    own = test_images is None or Path(test_images) == Path(images)
    tables = [load_table(images)]
    paths = {space: [path] for space, path in features.items()}
    known = shown = Responses(responses, form)
    if not own:
        tables.append(load_table(test_images))
        shown = _open_tested(tested, known)
        for space, files in paths.items():
            files.append(_find_features(space, test_features))
    _check_rows(paths, tables, [images, test_images])
    rows = _match_images(tables, [images, images if own else test_images], known, shown)
    train = np.zeros(sum(map(len, tables)), bool)
    train[rows[0]] = True
    ridge.set_device(settings.device)
    plan = plan_fits(rows, known.n_voxels, settings)
    folds = ridge.group_folds(rows[0], settings.n_folds, settings.seed)
    penalties = ridge.list_penalties(settings.alphas, settings.weights)
    with create_predictions(
        predictions, list(paths), known.n_voxels, shown, penalties, every=1
    ) as file:
        for space, files in paths.items():
            kernel = compute_kernel(space, files, train, max_components, settings.device)
            parts = [kernel[np.ix_(samples, rows[0])] for samples in rows]
            del kernel
            for start in range(0, known.n_voxels, plan["voxels"]):
                block = slice(start, min(start + plan["voxels"], known.n_voxels))
                fit = known.read_train(block), penalties, folds, plan
                write_model(file, space, block, Model(*ridge.fit_ridge(*parts, *fit)))
            logger.info("%s: predicted %d test images", space, len(rows[1]))


def _open_tested(path, known):
    """Responses to another test set, which must be of the same voxels."""
    if path is None:
        remedy = "Give the file of its responses"
        raise InputError(Finding("`tested`", "responses to the other test images", "none", remedy))
    shown = Responses(path, known.form)
    if shown.n_voxels != known.n_voxels:
        expected = f"the {known.n_voxels} voxels of {known.path}"
        raise InputError(
            Finding(str(path), expected, str(shown.n_voxels), "Extract both from the same mask")
        )
    return shown


def _find_features(space, features):
    """The file with a space's features of another test set."""
    if space not in (features or {}):
        found = ", ".join(features or {}) or "none"
        expected = f"features {space} of the other test images"
        raise InputError(Finding("`test_features`", expected, found, "Give their file"))
    return features[space]


def _check_rows(paths, tables, names):
    """Features must have a row per image of their table."""
    findings = []
    for files in paths.values():
        for path, table, name in zip(files, tables, names, strict=False):
            if (n := len(load_array(path))) != len(table):
                expected = f"a row for each of the {len(table)} images of {name}"
                remedy = "Compute the features again"
                findings.append(Finding(str(path), expected, f"{n} rows", remedy))
    if findings:
        raise InputError(*findings)


def _match_images(tables, names, known, shown):
    """Row of the kernels of each training and test response; the tables lie below each other."""
    rows, start = [], len(tables[0]) if len(tables) > 1 else 0
    wanted = (
        (tables[0], "train", known.train_ids, known.path, names[0], 0),
        (tables[-1], "test", shown.test_ids, shown.path, names[1], start),
    )
    for table, split, ids, path, name, first in wanted:
        listed = table.loc[table["split"] == split, "nsd_id"]
        if set(listed) != set(ids):
            expected = f"responses to the {split} images of {name}"
            remedy = "Prepare the responses again"
            raise InputError(Finding(str(path), expected, "others", remedy))
        position = pd.Series(first + np.arange(len(table)), table["nsd_id"])
        rows.append(position[ids].to_numpy())
    if len(rows[1]) < 3:
        remedy = "Use a case with more of them"
        raise InputError(Finding(str(names[1]), "at least 3 test images", "fewer", remedy))
    return tuple(rows)

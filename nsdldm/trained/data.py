"""Responses as trained decoders take them, with training and test rows in separate files.

Training only opens the files of training rows: `TrainingSet` has no access to test rows. All
statistics, such as a voxel's mean, come from training rows.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from nsdldm.responses import Responses
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import create_array, load_array, load_table, save_table

logger = logging.getLogger(__name__)

# Voxels at once: 240 MB of 30,000 trials.
BLOCK = 2_000
REMEDY = "Prepare the responses again"


def join_responses(
    *,
    responses: list[Path | str],
    train_on: str,
    validation: float,
    seed: int,
    train: Path | str,
    train_rows: Path | str,
    test: Path | str,
    test_rows: Path | str,
) -> None:
    """Convert a subject's responses to the networks' input.

    The voxels of all regions are concatenated. They are z-scored per session, and then standardised
    over the training rows. Missing values are 0, the mean.

    Parameters
    ----------
    responses : list of path
        Of each region, as `nsdldm.responses.prepare_responses` writes them.
    train_on : {"averages", "trials"}
        Rows of the training file: averages of an image's trials, or single trials. Test rows are
        always averages.
    validation : float
        Fraction of training images used for validation, chosen with `seed`.
    seed : int
    train, test : path
        Outputs: float32 of shape (n_rows, n_voxels).
    train_rows, test_rows : path
        Outputs: nsd_id of each row; for training rows also validation, 0 or 1, the same for all
        rows of an image.

    Raises
    ------
    InputError
        Regions have different images, or there are too few training images.
    """
    regions = [Responses(path, f"zscored/{train_on}") for path in responses]
    train_ids, test_ids = regions[0].train_ids, regions[0].test_ids
    for region in regions[1:]:
        both = (region.train_ids, train_ids), (region.test_ids, test_ids)
        if not all(np.array_equal(*pair) for pair in both):
            expected = f"the images of {responses[0]}"
            raise InputError(Finding(str(region.path), expected, "others", REMEDY))
    validated = choose_validation(np.unique(train_ids), validation, seed)
    n_voxels = sum(region.n_voxels for region in regions)
    with (
        create_array(train, (len(train_ids), n_voxels), np.float32) as trained,
        create_array(test, (len(test_ids), n_voxels), np.float32) as tested,
    ):
        done = 0
        for region, start in ((r, s) for r in regions for s in range(0, r.n_voxels, BLOCK)):
            columns = slice(start, min(start + BLOCK, region.n_voxels))
            own, other = region.read_train(columns), region.read_test(columns)
            mean, deviation = own.mean(axis=0), own.std(axis=0)
            deviation[deviation == 0] = 1
            place = slice(done, done := done + own.shape[1])
            trained[:, place] = (own - mean) / deviation
            tested[:, place] = (other - mean) / deviation
    rows = pd.DataFrame(
        {"nsd_id": train_ids, "validation": np.isin(train_ids, validated).astype(int)}
    )
    save_table(train_rows, rows)
    save_table(test_rows, pd.DataFrame({"nsd_id": test_ids}))
    message = "%d voxels; %d training rows, %d of them for validation; %d test images"
    logger.info(message, n_voxels, len(rows), rows["validation"].sum(), len(test_ids))


def choose_validation(nsd_ids: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose the training images used for validation.

    Parameters
    ----------
    nsd_ids : int array of shape (n,)
        Of training images.
    share : float
    seed : int

    Returns
    -------
    int array of shape (n_validation,)
        At least one image.

    Raises
    ------
    InputError
        There are fewer than two training images.
    """
    if len(nsd_ids) < 2:
        expected, remedy = "at least two training images", "Use more sessions"
        raise InputError(Finding("images", expected, str(len(nsd_ids)), remedy))
    n = min(max(round(share * len(nsd_ids)), 1), len(nsd_ids) - 1)
    return np.random.default_rng(seed).choice(np.sort(nsd_ids), n, replace=False)


def pad_length(n_voxels: int, patch: int) -> int:
    """Length of a response vector, rounded up to a multiple of the patch."""
    return n_voxels + -n_voxels % patch


def wrap_responses(responses: np.ndarray, length: int) -> np.ndarray:
    """Adjust responses to a length: shorter ones are repeated from their start, longer ones cut.

    Parameters
    ----------
    responses : float array of shape (n, n_voxels)
    length : int

    Returns
    -------
    float32 array of shape (n, length)
    """
    responses = np.asarray(responses, np.float32)[:, :length]
    return np.pad(responses, ((0, 0), (0, length - responses.shape[1])), mode="wrap")


class Sizes(NamedTuple):
    """Lengths of response vectors.

    Parameters
    ----------
    vector : int
        As read: that of the subject with most voxels, in whole patches.
    encoder : int
        As the encoder sees them: the same, or the output length of adapters.
    n_voxels : list of int or None
        Of each subject, if there are adapters.
    """

    vector: int
    encoder: int
    n_voxels: list | None


def measure_responses(responses: dict[str, Path | str], settings: dict) -> Sizes:
    """Find the lengths that result from the subjects' responses.

    Parameters
    ----------
    responses : dict of path
        For each subject.
    settings : dict
        Of stage 1: patch, adapter, adapter_width.

    Returns
    -------
    Sizes
    """
    counts = [load_array(path).shape[1] for path in responses.values()]
    vector = pad_length(max(counts), settings["patch"])
    if settings["adapter"] == "wrap":
        return Sizes(vector, vector, None)
    return Sizes(vector, pad_length(settings["adapter_width"], settings["patch"]), counts)


class _Responses:
    """Rows of the response files of one or several subjects."""

    def __init__(self, responses, rows, length):
        self.subjects, self.length = list(responses), length
        self._arrays = [load_array(path) for path in responses.values()]
        tables = [load_table(rows[subject]) for subject in self.subjects]
        for array, table, path in zip(self._arrays, tables, responses.values(), strict=True):
            if len(array) != len(table):
                expected, found = f"{len(table)} rows, as its table has", f"{len(array)}"
                raise InputError(Finding(str(path), expected, found, REMEDY))
        self.n_voxels = [array.shape[1] for array in self._arrays]
        self.table = pd.concat(tables, ignore_index=True)
        counts = [len(table) for table in tables]
        self.subject = np.repeat(np.arange(len(counts)), counts)
        self._rows = np.concatenate([np.arange(count) for count in counts])
        self.nsd_ids = self.table["nsd_id"].to_numpy()

    def responses(self, rows):
        """Responses of some rows, wrapped to the common length; float32 tensor (n, length)."""
        rows = np.asarray(rows)
        values = np.empty((len(rows), self.length), np.float32)
        for index, array in enumerate(self._arrays):
            own = self.subject[rows] == index
            values[own] = wrap_responses(array[self._rows[rows[own]]], self.length)
        return torch.from_numpy(values)

    def batch(self, rows):
        """Responses of some rows and their subjects, as networks take them."""
        subject = torch.from_numpy(self.subject[np.asarray(rows)])
        return {"responses": self.responses(rows), "subject": subject}


class TrainingSet(_Responses):
    """Training rows of one or several subjects, and features of their images.

    Parameters
    ----------
    responses, rows : dict of path
        For each subject, the training rows that `join_responses` wrote.
    length : int
        Length to which responses are wrapped.
    images : dict of path, optional
        Of each subject, ``images.tsv``.
    features : dict of dict of path, optional
        By name and subject: ``.npy`` with a row per image of `images`.

    Attributes
    ----------
    train, validation : int arrays of shape (n_rows,)
        Rows to train on, and rows of the validation images.
    nsd_ids, subject : int array of shape (n_rows,)
    """

    def __init__(self, responses, rows, length, images=None, features=None):
        super().__init__(responses, rows, length)
        if "validation" not in self.table:
            where = ", ".join(map(str, rows.values()))
            raise InputError(Finding(where, "training rows", "a table without validation", REMEDY))
        watched = self.table["validation"].to_numpy(bool)
        self.train, self.validation = np.flatnonzero(~watched), np.flatnonzero(watched)
        places = [self._find_images(images[s], i) for i, s in enumerate(self.subjects) if images]
        self._places = np.concatenate([rows for rows, _ in places]) if images else None
        self._features = {}
        for name, paths in (features or {}).items():
            self._features[name] = [load_array(paths[subject]) for subject in self.subjects]
            for array, (_, n), path in zip(
                self._features[name], places, paths.values(), strict=True
            ):
                if len(array) != n:
                    expected = f"a row for each of the {n} images"
                    raise InputError(Finding(str(path), expected, f"{len(array)} rows", REMEDY))

    def _find_images(self, path, index):
        """Rows of ``images.tsv`` that a subject's training rows belong to, and its length."""
        table = load_table(path)
        place = pd.Series(np.arange(len(table)), index=table["nsd_id"])
        wanted = self.nsd_ids[self.subject == index]
        known = table.loc[table["split"] == "train", "nsd_id"]
        strange = np.setdiff1d(wanted, known)
        if len(strange):
            found = f"image {strange[0]}, which is none"
            expected = "training images alone in the training rows"
            raise InputError(Finding(str(path), expected, found, REMEDY))
        return place[wanted].to_numpy(), len(table)

    def features(self, name: str, rows: np.ndarray) -> torch.Tensor:
        """A feature of the images of some rows; float32 tensor (n, ...)."""
        rows = np.asarray(rows)
        arrays = self._features[name]
        values = np.empty((len(rows), *arrays[0].shape[1:]), np.float32)
        for index, array in enumerate(arrays):
            own = self.subject[rows] == index
            values[own] = array[self._places[rows[own]]]
        return torch.from_numpy(values)


class TestSet(_Responses):
    """Test rows of one subject, for evaluation and pictures.

    Parameters
    ----------
    responses, rows : path
        The test rows that `join_responses` wrote.
    length : int
        Lengths that the weights were trained with.
    """

    __test__ = False  # not a test of pytest's

    def __init__(self, responses, rows, length):
        super().__init__({"": responses}, {"": rows}, length)

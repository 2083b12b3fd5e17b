"""What fits of encoders write and scoring reads: one HDF5 file per family of models.

Nothing in it depends on a threshold, a null distribution or an interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nsdldm.responses import Responses, read_columns
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import REMAKE, create_hdf5, open_hdf5

if TYPE_CHECKING:
    import h5py

# Voxels scored at once.
JUDGED_AT_ONCE = 4096


class Model(NamedTuple):
    """Models of some voxels, from one space or from two.

    Parameters
    ----------
    predictions : float32 array of shape (n_test, n_voxels)
    alphas : float64 array of shape (n_voxels,)
        Penalties chosen.
    cv_scores : float array of shape (n_voxels,)
        R² of the chosen model, averaged over folds of the training images.
    weights : float64 array of shape (n_voxels,), optional
        Weights of the first of two kernels.
    """

    predictions: np.ndarray
    alphas: np.ndarray
    cv_scores: np.ndarray
    weights: np.ndarray | None = None


def name_pair(pair: tuple[str, str]) -> str:
    """Name of a joint model of two spaces, in files and elsewhere: ``a+b``."""
    return "+".join(pair)


@contextmanager
def create_predictions(
    path: Path | str,
    names: list[str],
    n_voxels: int,
    responses: Responses,
    penalties: list[float],
    every: int,
) -> Iterator[h5py.File]:
    """Yield a new file of predictions that appears when the block succeeds.

    Parameters
    ----------
    path : path
    names : list of str
        Names of the models; those of two spaces contain a +.
    n_voxels : int
        That are fitted.
    responses : nsdldm.responses.Responses
        What they are fitted to.
    penalties : list of float
        Penalties tried.
    every : int
        Every n-th voxel of `responses` is fitted, starting with the first.

    Yields
    ------
    h5py.File
        For `write_model`.
    """
    n_test = len(responses.test_ids)
    n_bytes = len(names) * n_voxels * (4 * n_test + 20) + 8 * n_test
    with create_hdf5(path, n_bytes) as file:
        file.attrs.update(form=responses.form, every=every, penalties=penalties, names=names)
        file["test_ids"] = responses.test_ids
        for name in names:
            file.create_dataset(f"{name}/predictions", (n_test, n_voxels), "f4")
            file.create_dataset(f"{name}/cv_scores", (n_voxels,), "f4")
            for each in ("alphas", "weights")[: 1 + ("+" in name)]:
                file.create_dataset(f"{name}/{each}", (n_voxels,), "f8")
        yield file


def write_model(file: h5py.File, name: str, block: slice, model: Model) -> None:
    """Write a model of a block of voxels.

    Parameters
    ----------
    file : h5py.File
        As `create_predictions` yields it.
    name : str
    block : slice
        The voxels, counted among those fitted.
    model : Model
    """
    file[f"{name}/predictions"][:, block] = model.predictions
    for each in ("alphas", "cv_scores", "weights"):
        if f"{name}/{each}" in file:
            file[f"{name}/{each}"][block] = getattr(model, each)


class Predictions:
    """Predictions of a family of models, read a block of voxels at a time.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    names : list of str
        Of the models.
    form : str
        The form of the responses that they were fitted to.
    every : int
        Every n-th voxel of these responses was fitted, starting with the first.
    penalties : list of float
        Penalties tried.
    test_ids : int array of shape (n_test,)
    n_voxels : int
        Number of voxels fitted.

    Raises
    ------
    InputError
        The file is missing, damaged or of another kind.
    """

    def __init__(self, path):
        self.path = path
        with self._open() as file:
            self.names, self.form = list(file.attrs["names"]), str(file.attrs["form"])
            self.every, self.penalties = int(file.attrs["every"]), list(file.attrs["penalties"])
            self.test_ids = file["test_ids"][:]
            self.n_voxels = file[f"{self.names[0]}/predictions"].shape[1]

    @contextmanager
    def _open(self):
        with reading(self.path, "predictions of encoders", REMAKE), open_hdf5(self.path) as file:
            yield file

    def read(self, name: str, columns: slice = slice(None)) -> Model:
        """Read the model of some voxels, counted among those fitted; a `Model`."""
        with self._open() as file:
            group = file[name]
            values = [group[key][columns] for key in Model._fields[1:] if key in group]
            return Model(read_columns(group["predictions"], columns), *values)

    def read_shares(self, name: str) -> np.ndarray:
        """Read the weight of each space of a joint model of several, (n_spaces, n_voxels)."""
        with self._open() as file:
            return file[f"{name}/shares"][:]

    def open_responses(self, path: Path | str) -> Responses:
        """Open the responses that the models were fitted to.

        Parameters
        ----------
        path : path
            As `nsdldm.responses.prepare_responses` writes them.

        Returns
        -------
        nsdldm.responses.Responses

        Raises
        ------
        InputError
            The responses are to other images, or of other voxels.
        """
        responses = Responses(path, self.form)
        fits = -(-responses.n_voxels // self.every) == self.n_voxels
        if not fits or not np.array_equal(responses.test_ids, self.test_ids):
            expected = f"the test images and voxels of {path}"
            raise InputError(Finding(str(self.path), expected, "others", "Fit the encoders again"))
        return responses

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Yield slices of the voxels fitted, and of their positions among all voxels."""
        for start in range(0, self.n_voxels, JUDGED_AT_ONCE):
            block = slice(start, min(start + JUDGED_AT_ONCE, self.n_voxels))
            yield block, slice(self.every * start, self.every * (block.stop - 1) + 1, self.every)

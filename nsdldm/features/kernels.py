"""Linear kernels: scaled Gram matrices of a subject's images, computed once per feature space."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from nsdldm.features.grams import compute_gram
from nsdldm.support.devices import choose_device
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import REMAKE, create_hdf5, load_array, load_table, open_hdf5

logger = logging.getLogger(__name__)

# Rows of a kernel read at once.
ROWS_AT_ONCE = 1000


def _truncate_gram(gram, train, n_components):
    """Gram matrix of the first principal components of the training rows, and their share of
    variance."""
    train = torch.as_tensor(np.flatnonzero(train), device=gram.device)
    values, vectors = torch.linalg.eigh(gram[train[:, None], train])
    # Below the precision of float32 features, a component is mere rounding.
    resolved = values > values[-1] * torch.finfo(torch.float32).eps
    resolved[:-n_components] = False
    scores = gram[:, train] @ (vectors[:, resolved] / values[resolved].sqrt())
    return scores @ scores.T, float(values[resolved].sum() / values.sum())


def _open_gram(path, train, device, known):
    """Gram matrix of features, computed or as given, and the maximum number of components."""
    array, n = load_array(path), len(train)
    if len(array) != n or (known and array.shape != (n, n)):
        expected = f"one row for each of the {n} images of images.tsv"
        remedy = f"Compute the {'Gram matrix' if known else 'features'} again"
        raise InputError(Finding(str(path), expected, f"shape {array.shape}", remedy))
    if known:
        return torch.as_tensor(np.array(array, np.float64), device=device), train.sum() - 1
    n_columns = int(np.prod(array.shape[1:]))
    return compute_gram([path], train, device), min(n_columns, train.sum() - 1)


def _scale_gram(gram, train, n_components, name, path):
    """A kernel, float32: the Gram matrix of a space in the form that fits take."""
    n_most, n_kept = n_components
    if n_kept < n_most:
        gram, share = _truncate_gram(gram, train, n_kept)
        logger.info("%s: %d components, %.2f %% of variance", name, n_kept, 100 * share)
    scale = float(gram.diagonal().cpu().numpy()[train].mean())
    if not scale > 0:
        remedy = "Compute the features again"
        raise InputError(Finding(str(path), "features that vary", "constant ones", remedy))
    logger.info("%s: kernel of %d images", name, len(train))
    return (gram / scale).float().cpu().numpy()


def compute_kernel(
    space: str,
    paths: list[Path | str],
    train: np.ndarray,
    max_components: int,
    device: str = "auto",
) -> np.ndarray:
    """Compute the linear kernel of one space over the images of one or several files.

    It is what `compute_kernels` writes, for images of which some may be of another test set.

    Parameters
    ----------
    space : str
        For messages.
    paths : list of path
        ``.npy`` files of features, whose rows, one after the other, are the images.
    train : bool array of shape (n_images,)
    max_components : int
        Maximum number of principal components kept.
    device : "auto", "cpu" or "cuda"

    Returns
    -------
    float32 array of shape (n_images, n_images)
        In memory, beside float64 copies while it is computed.

    Raises
    ------
    InputError
        Features have another number of images or dimensions than the others, are not finite, or are
        the same for all training images.
    """
    shapes = [load_array(path).shape for path in paths]
    n_images = sum(shape[0] for shape in shapes)
    if n_images != len(train) or len({shape[1:] for shape in shapes}) > 1:
        expected = f"features of one shape, of {len(train)} images together"
        where, remedy = ", ".join(map(str, paths)), "Compute the features again"
        raise InputError(Finding(where, expected, f"shapes {shapes}", remedy))
    gram = compute_gram(paths, train, choose_device(device))
    n_most = min(int(np.prod(shapes[0][1:])), train.sum() - 1)
    return _scale_gram(gram, train, (n_most, max_components), space, paths[0])


def compute_kernels(
    *,
    images: Path | str,
    output: Path | str,
    max_components: int,
    features: dict[str, Path | str] | None = None,
    grams: dict[str, Path | str] | None = None,
    device: str = "auto",
) -> None:
    """Compute the linear kernel of each feature space over a subject's images.

    Features are centred by their training mean and not scaled; if a space has more dimensions than
    `max_components`, that many principal components of the training images are kept. Their Gram
    matrix is divided by its mean training diagonal, so that penalties mean the same in all spaces.

    Parameters
    ----------
    images : path
        ``images.tsv`` with the column split.
    output : path
        HDF5 file with a float32 dataset of shape (n_images, n_images) for each space, under its
        name; `Kernels` reads it.
    max_components : int
        Maximum number of principal components kept.
    features : dict of path, optional
        ``.npy`` files of shape (n_images, ...), in the order of `images`.
    grams : dict of path, optional
        Gram matrices of further spaces, as `nsdldm.features.grams.compute_grams` writes them.
    device : "auto", "cpu" or "cuda"

    Raises
    ------
    InputError
        Features have a different number of images, are not finite, or are the same for all training
        images.
    """
    device = choose_device(device)
    train = (load_table(images)["split"] == "train").to_numpy()
    features, grams = features or {}, grams or {}
    with create_hdf5(output, 4 * len(train) ** 2 * len(features | grams)) as file:
        for name, path in (features | grams).items():
            gram, n_most = _open_gram(path, train, device, name in grams)
            sizes = n_most, max_components
            file[name] = _scale_gram(gram, train, sizes, name, path)


class Kernels:
    """Kernels of feature spaces, in one or several files.

    Parameters
    ----------
    paths : list of path
        As `compute_kernels` writes them.

    Attributes
    ----------
    shapes : dict of tuple of int
        By the name of the space.

    Raises
    ------
    InputError
        A file is missing, damaged or of another kind.
    """

    def __init__(self, paths: list[Path | str]) -> None:
        self.shapes, self._paths = {}, {}
        for path in paths:
            with self._open(path) as file:
                found = {space: dataset.shape for space, dataset in file.items()}
            self.shapes |= found
            self._paths |= dict.fromkeys(found, path)

    @contextmanager
    def _open(self, path):
        with reading(path, "kernels of feature spaces", REMAKE), open_hdf5(path) as file:
            yield file

    def find(self, space: str) -> Path | str:
        """Path of the file that holds a space."""
        if space not in self._paths:
            found = ", ".join(self.shapes) or "none"
            expected = f"the kernel of {space} in one of the files"
            raise InputError(Finding("kernels", expected, f"those of {found}", "Name its file"))
        return self._paths[space]

    def read(self, space: str) -> np.ndarray:
        """Kernel of a space over all images, float32 of shape (n_images, n_images)."""
        with self._open(self.find(space)) as file:
            return file[space][:]

    def read_parts(self, space: str, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Read those parts of a kernel that a fit needs, a block of rows at a time.

        Parameters
        ----------
        space : str
        rows : (train, test)
            Row of the image of each training and test sample, int arrays of shape (n_train,) and
            (n_test,).

        Returns
        -------
        list of float32 arrays of shapes (n_train, n_train) and (n_test, n_train)
        """
        parts = [np.empty((len(samples), len(rows[0])), np.float32) for samples in rows]
        with self._open(self.find(space)) as file:
            for start in range(0, len(file[space]), ROWS_AT_ONCE):
                strip = file[space][start : start + ROWS_AT_ONCE]
                for part, samples in zip(parts, rows, strict=True):
                    here = np.flatnonzero((samples >= start) & (samples < start + len(strip)))
                    part[here] = strip[np.ix_(samples[here] - start, rows[0])]
        return parts


def split_kernel(
    kernel: np.ndarray,
    given: np.ndarray,
    train: np.ndarray,
    alphas: Sequence[float],
    folds: list[tuple[np.ndarray, np.ndarray]],
    device: str | torch.device = "cpu",
) -> tuple[np.ndarray, np.ndarray, float]:
    """Split a feature space into the part that is linear in another space and the remainder, by
    kernels.

    The linear part is the prediction of a ridge regression on the other space, with a single
    penalty for all dimensions, chosen by cross-validated squared error. Training images are
    predicted out of fold, as test images are predicted from training images; a regression fitted to
    the image itself would leak some of the remainder. Both parts keep the units of the whole space,
    so a small part counts little.

    Parameters
    ----------
    kernel, given : float arrays of shape (n_images, n_images)
        Gram matrices of the space and of the other one, centred by their training means.
    train : bool array of shape (n_images,)
    alphas : sequence of float
    folds : list of (train, test)
        Indices into the training images, as `nsdldm.ridge.group_folds` returns them.
    device : str or torch.device

    Returns
    -------
    linear, rest : float32 arrays of shape (n_images, n_images)
        Gram matrices of the parts, centred by their training means.
    alpha : float
        The penalty chosen.
    """
    kernel, given = (
        torch.as_tensor(np.array(each, np.float64), device=device) for each in (kernel, given)
    )
    train, test = (torch.as_tensor(np.flatnonzero(part)).to(device) for part in (train, ~train))
    parts = [(train[fit], train[held]) for fit, held in folds]
    grid = torch.as_tensor(np.asarray(alphas, np.float64), device=device)
    errors = sum(_squared_errors(kernel, given, *part, grid) for part in parts)
    alpha = float(grid[errors.argmin()])
    smoother = torch.zeros_like(kernel)
    for fit, held in [*parts, (train, test)]:
        values, vectors = torch.linalg.eigh(given[fit[:, None], fit])
        along = given[held[:, None], fit] @ vectors
        smoother[held[:, None], fit] = along / (values + alpha) @ vectors.T
    identity = torch.eye(len(kernel), dtype=torch.float64, device=device)
    mean = torch.zeros_like(kernel)
    mean[:, train] = 1 / len(train)
    found = []
    for part in (smoother, identity - smoother):
        part = part - mean @ part
        found.append((part @ kernel @ part.T).float().cpu().numpy())
    return *found, alpha


def _squared_errors(kernel, given, fit, held, alphas):
    """Squared errors of a space's ridge prediction, summed over all dimensions, for each
    penalty."""
    values, vectors = torch.linalg.eigh(given[fit[:, None], fit])
    along = given[held[:, None], fit] @ vectors
    cross = ((vectors.T @ kernel[fit[:, None], held]) * along.T).sum(axis=1)
    inner = (vectors.T @ kernel[fit[:, None], fit] @ vectors) * (along.T @ along)
    shrunk = 1 / (values + alphas[:, None])
    total = kernel[held, held].sum()
    return total - 2 * shrunk @ cross + ((shrunk @ inner) * shrunk).sum(axis=1)

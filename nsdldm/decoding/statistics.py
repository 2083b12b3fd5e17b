"""Ridge from sufficient statistics: sums over trials, of responses and of their products.

himalaya's RidgeCV takes a singular value decomposition of the trials-by-voxels matrix for every
fold. With fewer voxels than trials it is cheaper to sum products of voxels in one pass over the
trials; a training set is then the total minus a fold, and one symmetric eigendecomposition of its
voxels-by-voxels matrix serves all penalties and targets. Trials can be added.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from himalaya.backend import get_backend
from scipy.sparse import csr_array

from nsdldm import ridge
from nsdldm.support.errors import Finding, InputError

logger = logging.getLogger(__name__)

# Trials whose products are summed in float32, before they are added in float64.
ROWS = 4096
TARGETS_AT_ONCE = 1024
LEAST_TARGETS = 64


class Sums:
    """Sums over the trials added so far, by fold.

    Parameters
    ----------
    folds : list of (train, test)
        Indices of trials. Each trial is tested in one fold.
    rows : int array of shape (n_trials,)
        The row of each trial's targets.
    n_voxels : int

    Attributes
    ----------
    n : float64 array of shape (n_folds,)
        Number of trials.
    x : float64 array of shape (n_folds, n_voxels)
        Their sum.
    xx : float64 array of shape (n_folds, n_voxels, n_voxels)
        Sum of their products.
    fold, row, n_trials : int arrays of shape (n_cells,)
        The trials of a fold with the same targets are a cell: its fold and row, and its number of
        trials.
    x_cells : float32 array of shape (n_cells, n_voxels)
        Sum of a cell's trials.
    """

    def __init__(self, folds: list[tuple[np.ndarray, np.ndarray]], rows: np.ndarray, n_voxels: int):
        self._fold = np.full(len(rows), -1)
        for number, (_, tested) in enumerate(folds):
            self._fold[tested] = number
        if sum(len(tested) for _, tested in folds) != len(rows) or self._fold.min() < 0:
            raise ValueError("each trial must be tested in one fold")
        n_rows = rows.max() + 1
        cells, self._cell = np.unique(self._fold * n_rows + rows, return_inverse=True)
        self.fold, self.row = np.divmod(cells, n_rows)
        self.n = np.zeros(len(folds))
        self.x = np.zeros((len(folds), n_voxels))
        self.xx = np.zeros((len(folds), n_voxels, n_voxels))
        self.n_trials = np.zeros(len(cells), np.int64)
        self.x_cells = np.zeros((len(cells), n_voxels), np.float32)

    def add(self, X: np.ndarray, trials: np.ndarray) -> None:
        """Add trials.

        Parameters
        ----------
        X : float32 array of shape (n, n_voxels)
            With means near 0, as z-scored responses have.
        trials : int array of shape (n,)
            Their indices in `rows`.
        """
        backend = get_backend()
        for start in range(0, len(X), ROWS):
            block, own = X[start : start + ROWS], trials[start : start + ROWS]
            for fold in np.unique(self._fold[own]):
                part = block[self._fold[own] == fold]
                self.n[fold] += len(part)
                self.x[fold] += part.sum(axis=0, dtype=np.float64)
                values = backend.asarray(part)
                self.xx[fold] += backend.to_numpy(values.T @ values)
            cells = self._cell[own]
            member = (np.ones(len(own), np.float32), (cells, np.arange(len(own))))
            self.x_cells += csr_array(member, shape=(len(self.row), len(own))) @ block
            self.n_trials += np.bincount(cells, minlength=len(self.row))


class Part(NamedTuple):
    """What ridge needs of the trials that one fold trains on, or of all.

    Parameters
    ----------
    n : float
    mean : float64 array of shape (n_voxels,)
        0 without an intercept.
    values : tensor of shape (n_voxels,)
        Eigenvalues of the products of deviations from the mean; infinite where rounding hides them,
        so that no penalty divides by them.
    vectors : tensor of shape (n_voxels, n_voxels)
        Eigenvectors in columns, float64 for all trials and float32 for the folds.
    tested : float32 tensor of shape (n_voxels, n_voxels), or None
        Products of the fold's test trials, as deviations from the mean, in these vectors.
    """

    n: float
    mean: np.ndarray
    values: torch.Tensor
    vectors: torch.Tensor
    tested: torch.Tensor | None = None


def _centred(n, x, xx, mean):
    """Sum of products of deviations from a mean, which need not be that of the trials."""
    return xx - np.outer(x, mean) - np.outer(mean, x) + n * np.outer(mean, mean)


def _decompose(n, x, xx, intercept, device, dtype=torch.float32):
    """Eigendecomposition of the products of some training trials; a `Part`."""
    mean = x / n if intercept else np.zeros_like(x)
    products = torch.from_numpy(_centred(n, x, xx, mean)).to(device)
    # In float64: in float32 the smallest penalties drown in the rounding of the largest eigenvalue.
    values, vectors = torch.linalg.eigh(products)
    # What sums of float32 products cannot resolve, and what exceeds the rank that trials allow.
    hidden = values < values.max() * torch.finfo(torch.float32).eps
    hidden[: max(0, len(values) - int(n) + intercept)] = True
    values = torch.where(hidden, torch.inf, values)
    return Part(n, mean, values.to(dtype), vectors.to(dtype))


class LeftOut(NamedTuple):
    """Images of a fold that its decoder predicts from averages, to find the gain.

    Parameters
    ----------
    averages : float32 array of shape (n_images, n_voxels)
    rows : int array of shape (n_images,)
        Of their targets.
    weights : float64 array of shape (n_images,)
    """

    averages: np.ndarray
    rows: np.ndarray
    weights: np.ndarray


class Fit(NamedTuple):
    """Ridge of some targets.

    Parameters
    ----------
    predictions : float32 array of shape (n_test, n_targets)
    alphas : float64 array of shape (n_targets,)
        Penalties chosen.
    weights : float32 array of shape (n_voxels, n_targets)
    """

    predictions: np.ndarray
    alphas: np.ndarray
    weights: np.ndarray


class Ridge:
    """Ridge with a penalty for each target, chosen by the squared error averaged over folds.

    Equals `nsdldm.ridge.fit_decoder` up to rounding.

    Parameters
    ----------
    sums : Sums
    alphas : sequence of float
        Penalties tried.
    intercept : bool
        Fit an intercept, in every fold too.
    """

    def __init__(self, sums: Sums, alphas: Sequence[float], intercept: bool):
        self.sums, self.alphas = sums, np.asarray(alphas, np.float64)
        self.intercept = intercept
        self.device = "cuda" if get_backend().name == "torch_cuda" else "cpu"
        whole = sums.n.sum(), sums.x.sum(axis=0), sums.xx.sum(axis=0)
        self.whole = _decompose(*whole, intercept, self.device, torch.float64)
        self.parts = []
        for fold in zip(sums.n, sums.x, sums.xx, strict=True):
            rest = (total - own for total, own in zip(whole, fold, strict=True))
            part = _decompose(*rest, intercept, self.device)
            products = torch.from_numpy(_centred(*fold, part.mean)).to(self.device).float()
            self.parts.append(part._replace(tested=part.vectors.T @ products @ part.vectors))

    def fit(self, features: np.ndarray, X_test: np.ndarray) -> Fit:
        """Choose penalties, fit all trials and predict.

        Parameters
        ----------
        features : float32 array of shape (n_rows, n_targets)
            Targets, in the rows that trials refer to.
        X_test : float32 array of shape (n_test, n_voxels)

        Returns
        -------
        Fit
        """

        def fit(batches):
            parts = [
                self._fit(features[:, batch], X_test)
                for batch in _split(features.shape[1], batches["targets"])
            ]
            return Fit(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)))

        n = min(TARGETS_AT_ONCE, features.shape[1])
        return ridge.fit_batched(fit, {"targets": n, "alphas": 1})

    def compare_left_out(
        self, features: np.ndarray, alphas: np.ndarray, left_out: Sequence[LeftOut]
    ) -> np.ndarray:
        """Predict averages of trials that a fold's decoder was not fitted to, and compare.

        Parameters
        ----------
        features : float32 array of shape (n_rows, n_targets)
        alphas : float64 array of shape (n_targets,)
        left_out : sequence of LeftOut
            One for each fold.

        Returns
        -------
        float64 array of shape (2, n_targets)
            Weighted sums over images of prediction times true value and of squared predictions,
            both as deviations from the training mean.
        """

        def compare(batches):
            return np.concatenate(
                [
                    self._compare(features[:, batch], alphas[batch], left_out)
                    for batch in _split(features.shape[1], batches["targets"])
                ],
                axis=1,
            )

        n = min(TARGETS_AT_ONCE, features.shape[1])
        return ridge.fit_batched(compare, {"targets": n, "alphas": 1})

    def _fit(self, features, X_test):
        targets, middle = self._shift(features)
        y, xy, yy = self._sum_targets(targets)
        sums = self.sums
        scores = np.zeros((len(self.alphas), targets.shape[1]))
        for number, part in enumerate(self.parts):
            mean, side = self._side(part, y.sum(axis=0) - y[number], xy.sum(axis=0) - xy[number])
            n = sums.n[number]
            # Of the test trials, as deviations from both training means.
            tested = xy[number] - np.outer(part.mean, y[number])
            tested = self._project(part, tested, mean, sums.x[number] - n * part.mean)
            square = torch.from_numpy(yy[number] - 2 * mean * y[number] + n * mean**2)
            for index, alpha in enumerate(self.alphas):
                weights = side / (part.values[:, None] + alpha)
                explained = (weights * (2 * tested - part.tested @ weights)).sum(axis=0)
                scores[index] -= (square - explained.cpu().double()).numpy() / n
        alphas = self.alphas[scores.argmax(axis=0)]
        mean, side = self._side(self.whole, y.sum(axis=0), xy.sum(axis=0))
        predicted, weights = self._predict(self.whole, side, alphas, X_test)
        return Fit(predicted + (middle + mean).astype(np.float32), alphas, weights)

    def _compare(self, features, alphas, left_out):
        targets, _ = self._shift(features)
        y, xy, _ = self._sum_targets(targets)
        compared = np.zeros((2, targets.shape[1]))
        for number, (part, own) in enumerate(zip(self.parts, left_out, strict=True)):
            rest = y.sum(axis=0) - y[number]
            _, side = self._side(part, rest, xy.sum(axis=0) - xy[number])
            predicted, _ = self._predict(part, side, alphas, own.averages)
            # The truth deviates from the training mean even without an intercept.
            truth = targets[own.rows] - rest / part.n
            for row, other in enumerate((truth, predicted)):
                compared[row] += (own.weights[:, None] * predicted * other).sum(axis=0)
        return compared

    def _shift(self, features):
        """Deviations from the mean lose less to rounding; those of a constant target are 0."""
        varies = np.ptp(features, axis=0) > 0
        middle = np.where(varies, features.mean(axis=0, dtype=np.float64), features[0])
        middle = (middle * self.intercept).astype(np.float32)
        return features - middle, middle

    def _side(self, part, y, xy):
        """Mean of a part's targets, and products of responses and targets in its vectors."""
        mean = y / part.n * self.intercept
        return mean, self._project(part, xy, mean, part.n * part.mean)

    def _sum_targets(self, targets):
        """Sums over each fold's trials: of targets, of responses times targets, of squares."""
        sums, backend = self.sums, get_backend()
        n_folds, n_voxels = sums.x.shape
        n_targets = targets.shape[1]
        y, yy = (np.zeros((n_folds, n_targets)) for _ in range(2))
        xy = np.zeros((n_folds, n_voxels, n_targets))
        for fold in range(n_folds):
            cells = np.flatnonzero(sums.fold == fold)
            for own in np.array_split(cells, max(1, -(-len(cells) // ROWS))):
                values, n = targets[sums.row[own]], sums.n_trials[own].astype(np.float64)
                y[fold] += n @ values
                yy[fold] += n @ np.square(values, dtype=np.float64)
                products = backend.asarray(sums.x_cells[own]).T @ backend.asarray(values)
                xy[fold] += backend.to_numpy(products)
        return y, xy, yy

    def _project(self, part, xy, mean, x):
        """Products of responses and targets in a part's vectors, without those of the means."""
        products = torch.from_numpy(xy - np.outer(x, mean)).to(self.device, part.vectors.dtype)
        return part.vectors.T @ products

    def _predict(self, part, side, alphas, X):
        """Predictions as deviations from the mean, and weights, with a penalty per target."""
        alphas = torch.from_numpy(alphas).to(part.values)
        weights = part.vectors @ (side / (part.values[:, None] + alphas))
        deviations = torch.from_numpy(X - part.mean).to(weights)
        return (deviations @ weights).float().cpu().numpy(), weights.float().cpu().numpy()


def _split(n, size) -> Iterator[slice]:
    """Slices of n of at most a size."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def plan_targets(
    n_train: int, n_test: int, n_voxels: int, n_targets: int, n_folds: int, memory_gb: float
) -> tuple[int, int]:
    """Choose how many targets are fitted at once, and predict the peak.

    Parameters
    ----------
    n_train, n_test, n_voxels, n_targets, n_folds : int
    memory_gb : float
        Memory the process may use, in units of 1e9 bytes.

    Returns
    -------
    targets : int
    peak : int
        Bytes.

    Raises
    ------
    InputError
        Not even a few targets fit into memory.
    """
    # Responses and their sums by image; in float64 the products of each fold, of all and of those
    # that are decomposed, with LAPACK's workspace; vectors and test products in float32.
    square = 8 * (n_folds + 6) + 4 * (2 * n_folds + 1)
    fixed = ridge.LIBRARIES + 4 * 3 * n_train * n_voxels + square * n_voxels**2
    # Targets three times; products by fold in float64, and in the vectors of each; predictions.
    each = 4 * 3 * n_train + n_voxels * (8 * (n_folds + 3) + 4 * (n_folds + 6)) + 8 * n_test
    possible = int((1e9 * memory_gb - fixed) // each)
    if possible < min(n_targets, LEAST_TARGETS):
        least = (fixed + each * min(n_targets, LEAST_TARGETS)) / 1e9 + 0.05
        found, remedy = f"{memory_gb:g}", "Raise it, or use fewer voxels"
        raise InputError(Finding("`memory_gb`", f"at least {least:.1f}", found, remedy))
    targets = min(possible, n_targets, TARGETS_AT_ONCE)
    return targets, int(fixed + each * targets)

"""Joint encoding models of two feature spaces, and the parts of one space relative to the other."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from himalaya.backend import get_backend
from himalaya.kernel_ridge import MultipleKernelRidgeCV
from himalaya.scoring import r2_score

from nsdldm import ridge
from nsdldm.encoding.predictions import Model
from nsdldm.features.kernels import split_kernel
from nsdldm.features.spaces import PARTS, split_control
from nsdldm.support.errors import Finding, InputError

if TYPE_CHECKING:
    import pandas as pd

    from nsdldm.encoding.fits import FitSettings
    from nsdldm.features.kernels import Kernels

logger = logging.getLogger(__name__)

# The base space of all joint models.
BASE = "z"
# A joint model must beat each single model by more than the rounding of a float32 R².
TIE = 1e-5
# Bytes per pair of images while a space is split: eight float64 matrices.
DIVIDING = 64
# Penalties for splitting: a linear function of z must leave no remainder, and a space unrelated to
# z no linear part.
SPLITS = np.logspace(-8, 8, 33)
# A part with a smaller fraction of z_c's variance counts as absent: in a joint model it would only
# give the other space penalties between those tried.
LEAST_PART = 1e-3


def check_weights(weights: list[float]) -> None:
    """Refuse weights that are not between 0 and 1, or that include no actual mix."""
    if not any(0 < weight < 1 for weight in weights) or not all(0 <= w <= 1 for w in weights):
        expected = "shares of the first space from 0 to 1, at least one of them between"
        raise InputError(Finding("`weights`", expected, str(list(weights)), "Correct them"))


def count_dividing(spaces: Iterable[str], n_images: int) -> int:
    """Bytes needed to split a space, if any of `spaces` are parts of one."""
    divided = any(split_control(space)[1] in PARTS for space in spaces)
    return DIVIDING * n_images**2 if divided else 0


def read_kernels(
    kernels: Kernels,
    images: pd.DataFrame,
    rows: tuple[np.ndarray, np.ndarray],
    settings: FitSettings,
) -> Callable:
    """Make the function that reads those parts of a space's kernel that a fit needs.

    ``{space}-linear`` and ``{space}-residual`` are derived from the kernel of {space} by
    `nsdldm.features.kernels.split_kernel`, given the base space.

    Parameters
    ----------
    kernels : nsdldm.features.kernels.Kernels
    images : DataFrame
    rows : (train, test)
        As `nsdldm.encoding.fits.find_rows` returns them.
    settings : nsdldm.encoding.fits.FitSettings

    Returns
    -------
    callable
        From the name of a space to what `nsdldm.features.kernels.Kernels.read_parts` returns.
    """
    train = (images["split"] == "train").to_numpy()
    device = "cuda" if get_backend().name == "torch_cuda" else "cpu"

    @functools.lru_cache(maxsize=1)
    def divide(space):
        folds = ridge.group_folds(np.flatnonzero(train), settings.n_folds, settings.seed)
        both = [kernels.read(name) for name in (space, BASE)]
        *parts, alpha = split_kernel(*both, train, SPLITS, folds, device)
        share = parts[0].diagonal()[train].mean() / both[0].diagonal()[train].mean()
        message = "%s: %.1f %% of its variance is linear in %s (alpha %g)"
        logger.info(message, space, 100 * share, BASE, alpha)
        return dict(zip(PARTS, parts, strict=True))

    def read(space):
        whole, control = split_control(space)
        if control not in PARTS:
            return kernels.read_parts(space, rows)
        kernel = divide(whole)[control]
        return [kernel[np.ix_(samples, rows[0])] for samples in rows]

    return read


def fit_joint(
    kernels_train: np.ndarray,
    kernels_test: np.ndarray,
    Y: np.ndarray,
    weights: Sequence[float],
    alphas: list[float],
    folds: list[tuple[np.ndarray, np.ndarray]],
    batches: dict[str, int],
) -> Model:
    """Fit kernel ridge to a weighted sum of two kernels, with an intercept, and predict.

    Parameters
    ----------
    kernels_train : float32 array of shape (2, n_train, n_train)
    kernels_test : float32 array of shape (2, n_test, n_train)
    Y : float32 array of shape (n_train, n_targets)
        Finite; stays in main memory.
    weights : sequence of float
        Weights tried for the first kernel, between 0 and 1; the second gets the remainder.
    alphas, folds, batches
        As `nsdldm.ridge.fit_ridge` takes them.

    Returns
    -------
    Model
        Weights and alphas are elements of the grids given.

    Raises
    ------
    InputError
        As `fit_mixes`.
    """
    shares = np.asarray(weights, np.float64)
    mixes = np.stack([shares, 1 - shares], axis=1)
    model, chosen = fit_mixes(kernels_train, kernels_test, Y, mixes, alphas, folds, batches)
    return model._replace(weights=shares[chosen])


def fit_mixes(
    kernels_train: np.ndarray,
    kernels_test: np.ndarray,
    Y: np.ndarray,
    mixes: np.ndarray,
    alphas: list[float],
    folds: list[tuple[np.ndarray, np.ndarray]],
    batches: dict[str, int],
) -> tuple[Model, np.ndarray]:
    """Fit kernel ridge to a weighted sum of kernels, with an intercept, and predict.

    For each target, the weights and the penalty with the best R², averaged over folds, are chosen.
    This is deterministic: all combinations are tried, in the order given.

    Parameters
    ----------
    kernels_train : float32 array of shape (n_kernels, n_train, n_train)
    kernels_test : float32 array of shape (n_kernels, n_test, n_train)
    Y : float32 array of shape (n_train, n_targets)
        Finite; stays in main memory.
    mixes : float array of shape (n_mixes, n_kernels)
        Weights tried; those of a mix sum to 1.
    alphas, folds, batches
        As `nsdldm.ridge.fit_ridge` takes them.

    Returns
    -------
    model : Model
        Alphas are elements of the grid given.
    chosen : int array of shape (n_targets,)
        Row of `mixes`.

    Raises
    ------
    InputError
        All alphas are too small for the precision of the kernels.
    """

    def fit(batches):
        model = MultipleKernelRidgeCV(
            kernels="precomputed",
            solver="random_search",
            fit_intercept=True,
            cv=folds,
            Y_in_cpu=True,
            solver_params={
                "n_iter": mixes.astype(Y.dtype),
                "alphas": np.asarray(alphas, Y.dtype),
                "score_func": r2_score,
                "n_targets_batch": batches["targets"],
                "n_targets_batch_refit": batches["targets"],
                "n_alphas_batch": batches["alphas"],
                "progress_bar": False,
            },
        ).fit(kernels_train, Y)
        return model, model.predict(kernels_test)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        for category in (UserWarning, RuntimeWarning):
            warnings.simplefilter("always", category)
        model, predictions = ridge.fit_batched(fit, batches)
    for message in sorted({str(warning.message) for warning in caught}):
        logger.warning("himalaya: %s", message)
    to_numpy = get_backend().to_numpy
    cv_scores = to_numpy(model.cv_scores_).max(axis=0)
    if (cv_scores < ridge.UNRESOLVED).any():
        expected = "a penalty that float32 can resolve relative to the kernels' eigenvalues"
        found = f"at most {max(alphas):g}"
        raise InputError(Finding("`alphas`", expected, found, "Add larger ones"))
    # himalaya's deltas are log(weight / alpha), and weights sum to 1.
    scaled = np.exp(to_numpy(model.deltas_).astype(np.float64))
    shares = (scaled / scaled.sum(axis=0)).T
    chosen = np.abs(mixes[:, None] - shares).sum(axis=2).argmin(axis=0)
    grid = np.asarray(alphas, np.float64)
    alpha = grid[_find(np.log(grid), -np.log(scaled.sum(axis=0)))]
    return Model(to_numpy(predictions), alpha, cv_scores), chosen


def _find(grid, values):
    """Index of the grid element nearest to each value; they differ by rounding only."""
    return np.abs(grid[:, None] - values).argmin(axis=0)


def _join(mixed, singles, weights):
    """The best of the joint models and each single model.

    Where a weight of 0 or 1 scores best, the joint model is exactly that single model.
    """
    predictions, alphas, best, shares = mixed
    for end, single in zip((1, 0), singles, strict=True):
        if end in weights:
            won = single.cv_scores >= best - TIE
            predictions[:, won], alphas[won] = single.predictions[:, won], single.alphas[won]
            shares[won] = end
            best = np.maximum(best, single.cv_scores)
    return Model(predictions, alphas, best, shares)


def fit_beside(
    kernels: tuple[list, list], singles: tuple[Model, Model], settings: FitSettings, fit: tuple
) -> Model:
    """Fit the joint model of two spaces whose single models exist.

    Parameters
    ----------
    kernels : pair of lists
        As `nsdldm.features.kernels.Kernels.read_parts` returns them.
    singles : pair of Model
    settings : nsdldm.encoding.fits.FitSettings
    fit : tuple
        Responses (n_train, n_voxels), penalties of single models, folds and batches, as
        `nsdldm.ridge.fit_ridge` takes them.

    Returns
    -------
    Model
        With the weights of the first space. Weights of 0 and 1 are the single models, so the joint
        model need not be worse than those in training.
    """
    if kernels[1][0].diagonal().mean() < LEAST_PART:
        return singles[0]._replace(weights=np.ones(len(singles[0].alphas)))
    parts = [np.stack(kernel) for kernel in zip(*kernels, strict=True)]
    del kernels
    mixes = [weight for weight in settings.weights if 0 < weight < 1]
    Y, _, folds, batches = fit
    mixed = fit_joint(*parts, Y, mixes, settings.alphas, folds, batches)
    return _join(mixed, singles, settings.weights)

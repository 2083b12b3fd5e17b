"""Ridge regression of many targets on a GPU or CPU with himalaya, from kernels or from responses.

himalaya keeps its backend in a global variable; only `set_device` sets it.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from himalaya.backend import get_backend, set_backend
from himalaya.kernel_ridge import KernelRidgeCV
from himalaya.ridge import RidgeCV
from himalaya.scoring import l2_neg_loss, r2_score
from sklearn.model_selection import GroupKFold

from nsdldm.support.devices import choose_device
from nsdldm.support.errors import Finding, InputError

logger = logging.getLogger(__name__)

# Larger batches need more memory and are no faster: targets, and bytes for the matrices of alphas.
TARGETS_AT_ONCE = 2000
MATRICES = int(0.5e9)
# Every call repeats the eigendecompositions; with fewer voxels they would be most of the work.
LEAST_VOXELS = 500
# Bytes of a process that has imported everything (measured: 0.42e9 on a CPU), and of host memory
# for preparing data where a GPU does the fit.
LIBRARIES = int(0.45e9)
CUDA_LIBRARIES = int(3e9)
STAGING = int(1e9)
# Penalties nearer to each other than this ratio are as good as one: R² is flat around its best.
NEAR = 1.4
# himalaya scores alphas that float32 cannot resolve with -1e5.
UNRESOLVED = -1e4


def set_device(device: str) -> str:
    """Choose the device that himalaya computes on, for the whole process.

    Parameters
    ----------
    device : "auto", "cpu" or "cuda"
        "auto" is the GPU, if there is one.

    Returns
    -------
    "cpu" or "cuda"

    Raises
    ------
    InputError
        "cuda" without a GPU that torch can use.
    """
    device = choose_device(device).type
    set_backend("torch_cuda" if device == "cuda" else "torch")
    return device


def group_folds(groups: np.ndarray, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split samples into folds such that no group is on both sides of a fold.

    Parameters
    ----------
    groups : int array of shape (n_samples,)
        The group of each sample, such as its image.
    n_folds : int
    seed : int
        Shuffles groups over folds.

    Returns
    -------
    list of (train, test)
        Indices of samples, one pair a fold.

    Raises
    ------
    InputError
        There are fewer groups than folds.
    """
    n_groups = len(np.unique(groups))
    if n_groups < n_folds:
        expected = f"at least {n_folds} training images for as many folds"
        remedy = "Use more sessions or fewer `n_folds`"
        raise InputError(Finding("`n_folds`", expected, str(n_groups), remedy))
    folds = GroupKFold(n_folds, shuffle=True, random_state=seed)
    return list(folds.split(groups, groups=groups))


def list_penalties(alphas: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Penalties that a model of a single space must try to be comparable with joint models.

    A joint model that gives a space the weight w penalises it by alpha / w. If the single model did
    not try these penalties too, a joint model with an uninformative space could predict better,
    merely by trying penalties between those of the single model.

    Parameters
    ----------
    alphas : sequence of float
        Penalties tried with every kernel weight.
    weights : sequence of float
        Weights of the first of two spaces, from 0 to 1; the second gets the remainder.

    Returns
    -------
    list of float
        Ascending: `alphas`, to six digits, and between two of these no penalty nearer than by a
        factor of `NEAR` to the one before it.
    """
    shares = {1.0, *weights, *(1 - weight for weight in weights)} - {0.0}
    given = {float(f"{alpha:.6g}") for alpha in alphas}
    kept = []
    for penalty in sorted(given | {float(f"{a / share:.6g}") for a in given for share in shares}):
        if penalty in given or penalty >= NEAR * kept[-1]:
            kept.append(penalty)
    return kept


def _count_work(n_train, n_folds, n_targets, n_alphas):
    """The most numbers that himalaya's solver holds at once, besides those of all voxels.

    According to its source (0.4.11), and checked by benchmarks/encoding.py: the kernel, two copies
    and the last fold's kernels stay in memory. To these comes the larger of a decomposition with
    LAPACK's workspace, and a batch of alphas with its scaled eigenvectors, resolution matrices and
    one copy.
    """
    fold = n_train - n_train // n_folds
    held = 3 * n_train**2 + fold * n_train
    decomposition = 4.4 * n_train**2
    matrices = (1 + 3 * n_alphas) * n_train**2
    targets = (3.3 * n_alphas * (n_train - fold) + (2 + n_alphas) * n_train) * n_targets
    return held + max(decomposition, matrices + targets)


def plan_batches(
    n_train: int,
    n_test: int,
    n_voxels: int,
    n_alphas: int,
    n_folds: int,
    memory_gb: float,
    device_gb: float | None = None,
) -> dict[str, int]:
    """Choose batches so that a fit stays within memory, and predict its peak.

    If memory allows, all voxels go into one call of `fit_ridge`, because every call repeats the
    eigendecompositions; otherwise they are split into as few equal blocks as possible.

    Parameters
    ----------
    n_train, n_test, n_voxels, n_alphas, n_folds : int
    memory_gb : float
        Memory the process may use, in units of 1e9 bytes.
    device_gb : float, optional
        Free memory of the GPU to compute on, in units of 1e9 bytes; None for the CPU.

    Returns
    -------
    dict of int
        voxels (of one call), targets and alphas (of one batch in it), peak and device_peak
        (predicted bytes of the process and on the GPU) and spare (those bytes of the process that
        are in use only during calls).

    Raises
    ------
    InputError
        There is not enough memory to fit a few hundred voxels.
    """
    on_gpu = device_gb is not None
    targets = min(n_voxels, TARGETS_AT_ONCE)
    alphas = min(max(MATRICES // (12 * n_train**2), 1), n_alphas)
    work = 4 * _count_work(n_train, n_folds, targets, alphas)
    # Per voxel: Y, himalaya's centred copy and its weights twice; test data and predictions.
    score = 4 * (n_folds + 3) * n_alphas
    voxel = 4 * (4 * n_train + 2 * n_test) + score
    device_peak = work + score * n_voxels if on_gpu else 0
    spare = STAGING if on_gpu else work
    fixed = (CUDA_LIBRARIES + 4 * n_train * (n_train + n_test) if on_gpu else LIBRARIES) + spare
    if device_peak > 0.9e9 * (device_gb or 0):
        needed = f"at least {device_peak / 0.9e9:.1f} GB of free memory on the GPU"
        found = f"{device_gb:.1f} GB"
        raise InputError(Finding("`device`", needed, found, "Set it to cpu"))
    possible = int((1e9 * memory_gb - fixed) // voxel)
    if possible < min(n_voxels, LEAST_VOXELS):
        least, ample = (
            f"{(fixed + voxel * n) / 1e9 + 0.05:.1f}"
            for n in (min(n_voxels, LEAST_VOXELS), n_voxels)
        )
        remedy = f"Raise it, to {ample} for all voxels in one call"
        found = f"{memory_gb:g}"
        raise InputError(Finding("`memory_gb`", f"at least {least}", found, remedy))
    voxels = math.ceil(n_voxels / math.ceil(n_voxels / possible))
    return {
        "voxels": voxels,
        "targets": min(targets, voxels),
        "alphas": alphas,
        "peak": int(fixed + voxel * voxels),
        "device_peak": int(device_peak),
        "spare": int(spare),
    }


def free_device_memory() -> float | None:
    """Free memory of the GPU in units of 1e9 bytes, or None where himalaya computes on the CPU."""
    if get_backend().name != "torch_cuda":
        return None
    return torch.cuda.mem_get_info()[0] / 1e9


def fit_batched(fit: Callable[[dict[str, int]], Any], batches: dict[str, int]) -> Any:
    """Call a fit, and repeat it with smaller batches whenever the GPU runs out of memory.

    Parameters
    ----------
    fit : callable
        Takes `batches`.
    batches : dict of int
        ``targets`` and ``alphas`` handled at once; if halved, the caller's batches stay small.

    Returns
    -------
    object
        What `fit` returns.

    Raises
    ------
    InputError
        Not even a single target and penalty fit into memory.
    """
    while True:
        try:
            return fit(batches)
        except torch.OutOfMemoryError as error:
            # Keep only the message: the traceback would keep the tensors of the failed fit alive.
            failure = str(error).partition("\n")[0]
        if batches["targets"] == batches["alphas"] == 1:
            expected = "memory for the fit of one voxel or dimension"
            raise InputError(Finding("`device`", expected, failure, "Set it to cpu"))
        batches.update({key: max(1, batches[key] // 2) for key in ("targets", "alphas")})
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        message = "out of memory, continuing with %d targets and %d alphas at once"
        logger.warning(message, batches["targets"], batches["alphas"])


def fit_ridge(
    kernel_train: np.ndarray,
    kernel_test: np.ndarray,
    Y: np.ndarray,
    alphas: Sequence[float],
    folds: list[tuple[np.ndarray, np.ndarray]],
    batches: dict[str, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit kernel ridge with an intercept and one penalty per target, and predict the test samples.

    The penalty with the best R², averaged over folds, is chosen for each target; kernels and
    targets are centred within each fold. The model is then refit on all training samples.

    Parameters
    ----------
    kernel_train : float32 array of shape (n_train, n_train)
    kernel_test : float32 array of shape (n_test, n_train)
    Y : float32 array of shape (n_train, n_targets)
        Finite; stays in main memory.
    alphas : sequence of float
        Penalties tried, positive.
    folds : list of (train, test)
        Indices into the training samples, as `group_folds` returns them.
    batches : dict
        ``targets`` and ``alphas`` handled at once, as `plan_batches` returns them; halved when the
        GPU runs out of memory.

    Returns
    -------
    predictions : float array of shape (n_test, n_targets)
    alphas : float64 array of shape (n_targets,)
        The penalty chosen, an element of `alphas`.
    cv_scores : float array of shape (n_targets,)
        Its R², averaged over folds.

    Raises
    ------
    InputError
        All alphas are too small for the precision of the kernel.
    """

    def fit(batches):
        model = KernelRidgeCV(
            alphas=np.asarray(alphas, Y.dtype),
            kernel="precomputed",
            fit_intercept=True,
            cv=folds,
            Y_in_cpu=True,
            solver_params={
                "score_func": r2_score,
                "n_targets_batch": batches["targets"],
                "n_targets_batch_refit": batches["targets"],
                "n_alphas_batch": batches["alphas"],
            },
        ).fit(kernel_train, Y)
        return model, model.predict(kernel_test)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        for category in (UserWarning, RuntimeWarning):
            warnings.simplefilter("always", category)
        model, predictions = fit_batched(fit, batches)
    for message in sorted({str(warning.message) for warning in caught}):
        logger.warning("himalaya: %s", message)
    to_numpy = get_backend().to_numpy
    cv_scores = to_numpy(model.cv_scores_)
    if (cv_scores < UNRESOLVED).any():
        expected = "a penalty that float32 can resolve relative to the kernel's eigenvalues"
        found = f"at most {max(alphas):g}"
        raise InputError(Finding("`alphas`", expected, found, "Add larger ones"))
    # himalaya returns exp(log(alpha)), which equals alpha up to rounding.
    grid = np.asarray(alphas, np.float64)
    distances = np.abs(np.log(grid)[:, None] - np.log(to_numpy(model.best_alphas_)))
    return to_numpy(predictions), grid[distances.argmin(axis=0)], cv_scores


def fit_decoder(
    X: np.ndarray,
    Y: np.ndarray,
    X_test: np.ndarray,
    alphas: Sequence[float],
    folds: list[tuple[np.ndarray, np.ndarray]] | int,
    intercept: bool,
    targets: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit ridge with one penalty per target, and predict the test samples.

    Parameters
    ----------
    X : array of shape (n_train, n_voxels)
        float32 or float64; everything is computed in this precision.
    Y : float array of shape (n_train, n_targets)
    X_test : float array of shape (n_test, n_voxels)
    alphas : sequence of float
        Penalties tried.
    folds : list of (train, test), or int
        Passed to himalaya as `cv`.
    intercept : bool
        Fit an intercept. Either way, the penalty is chosen by the squared error, averaged over
        folds.
    targets : int, optional
        Targets handled at once, all by default; halved when the GPU runs out of memory.

    Returns
    -------
    predictions : float array of shape (n_test, n_targets)
    alphas : float64 array of shape (n_targets,)
        An element of `alphas` for each target.
    weights : float array of shape (n_voxels, n_targets)
    """

    def fit(batches):
        model = RidgeCV(
            alphas=np.asarray(alphas, X.dtype),
            fit_intercept=intercept,
            cv=folds,
            # On a CPU they exist in any case, but himalaya 0.4.11 does not report them.
            Y_in_cpu=get_backend().name == "torch_cuda",
            solver_params={
                "score_func": l2_neg_loss,
                "n_targets_batch": batches["targets"],
                "n_targets_batch_refit": batches["targets"],
                "n_alphas_batch": batches["alphas"],
                "warn": False,
            },
        ).fit(X, Y)
        return model, model.predict(X_test)

    n = min(targets or Y.shape[1], Y.shape[1])
    model, predictions = fit_batched(fit, {"targets": n, "alphas": 1})
    to_numpy = get_backend().to_numpy
    grid = np.asarray(alphas, np.float64)
    chosen = np.abs(np.log(grid)[:, None] - np.log(to_numpy(model.best_alphas_))).argmin(axis=0)
    return to_numpy(predictions), grid[chosen], to_numpy(model.coef_)

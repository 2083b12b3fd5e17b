"""Kernel ridge regression of many voxels on images, on himalaya.

Linear ridge in its dual form: a feature space enters as the Gram matrix of its images, so that
59,136 features cost what 10 do. All voxels share the decompositions of a feature space; each has
its own penalty.
"""

import logging

import numpy as np
import torch
from himalaya.backend import set_backend
from himalaya.kernel_ridge import KernelRidgeCV
from sklearn.model_selection import GroupKFold

from nsdldm.errors import Finding, InputError
from nsdldm.files import create_array, load_array, load_table

logger = logging.getLogger(__name__)

FLOAT = 4
COLUMNS = 8192


def set_device(device):
    """Choose himalaya's backend, a setting of the whole process.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        "auto" is the GPU if there is one.

    Returns
    -------
    module
        The backend: torch, or torch_cuda.

    Raises
    ------
    InputError
        "cuda" without a GPU.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        remedy = "Set model.device to auto, or run where torch sees a GPU"
        raise InputError(Finding("model.device cuda", "a GPU", "none", remedy))
    cuda = available and device != "cpu"
    return set_backend("torch_cuda" if cuda else "torch")


def group_folds(groups, n_folds, seed):
    """Split samples into folds so that samples of one group stay together.

    Parameters
    ----------
    groups : array of shape (n_samples,)
        The image of each sample; repeats of an image must not straddle a fold.
    n_folds : int
    seed : int
        Of the assignment of groups to folds.

    Returns
    -------
    list of (train, test)
        Ascending int arrays of sample numbers.
    """
    groups = np.asarray(groups)
    n_groups = len(np.unique(groups))
    if n_groups < n_folds:
        remedy = "Lower encoding.n_folds, or use more sessions"
        found = f"{n_groups} training images"
        raise InputError(Finding("encoding.n_folds", f"at least {n_folds} images", found, remedy))
    splitter = GroupKFold(n_folds, shuffle=True, random_state=seed)
    return list(splitter.split(groups, groups=groups))


def compute_kernels(*, features, images, kernels, max_components, device="auto"):
    """Compute the Gram matrices of feature spaces over a subject's images.

    Features are centred with the mean of the training images and neither whitened nor scaled one
    by one. Where a space has more than `max_components` principal components in the training
    images, only the first are kept. The matrix is scaled so that training images have a mean
    squared norm of 1, which makes penalties comparable between spaces.

    Parameters
    ----------
    features : dict of str to path
        ``.npy`` of shape (n_images, ...), a row an image of the table.
    images : str or Path
        Table of images with the column split.
    kernels : dict of str to path
        Outputs, float32 of shape (n_images, n_images).
    max_components : int
    device : {"auto", "cpu", "cuda"}

    Raises
    ------
    InputError
        Features of another number of images, or that do not differ between training images.
    """
    train = load_table(images)["split"].to_numpy() == "train"
    where = "cuda" if set_device(device).name == "torch_cuda" else "cpu"
    for name, path in features.items():
        values = load_array(path)
        if len(values) != len(train):
            found = f"{len(values)} rows"
            remedy = "Make the features again"
            raise InputError(Finding(str(path), f"{len(train)} images", found, remedy))
        kernel = _gram(values.reshape(len(values), -1), train, where)
        rank = min(train.sum() - 1, values[0].size)
        if rank > max_components:
            kernel = _keep_components(kernel, train, max_components)
            logger.info("%s: kept %d of %d principal components", name, max_components, rank)
        scale = kernel.diagonal()[torch.from_numpy(train)].mean()
        if not scale > 0:
            remedy = "Check the model and the images"
            raise InputError(Finding(str(path), "features that differ", "constant ones", remedy))
        with create_array(kernels[name], kernel.shape, np.float32) as result:
            result[:] = (kernel / scale).cpu().numpy()
        logger.info("%s: %d features, %d images", name, values[0].size, len(train))


def _gram(values, train, where):
    """Inner products of rows after centring with the training mean, by blocks of columns."""
    kernel = torch.zeros((len(values), len(values)), device=where)
    for start in range(0, values.shape[1], COLUMNS):
        block = np.array(values[:, start : start + COLUMNS], np.float32)
        block -= block[train].mean(axis=0)
        block = torch.from_numpy(block).to(where)
        kernel.addmm_(block, block.T)
    return kernel


def _keep_components(kernel, train, n):
    """Gram matrix of the first n principal components of the training images."""
    rows = torch.from_numpy(np.flatnonzero(train)).to(kernel.device)
    values, vectors = torch.linalg.eigh(kernel[rows][:, rows])
    scores = kernel[:, rows] @ (vectors[:, -n:] / values[-n:].clamp_min(1e-12).sqrt())
    return scores @ scores.T


def plan_batches(*, n_train, n_test, n_voxels, n_alphas, n_folds, memory_gb):
    """Choose batches that keep a fit within a memory budget, and predict what it takes.

    The count follows himalaya 0.4.11: a fold holds copies of the kernel, its eigenvectors with
    their work space, and one resolution matrix an alpha; the refit holds such matrices for all
    samples; responses, weights and scores come once a voxel.

    Parameters
    ----------
    n_train, n_test : int
        Samples.
    n_voxels, n_alphas, n_folds : int
    memory_gb : float
        Budget of the arrays of a fit, in gigabytes.

    Returns
    -------
    dict
        voxels (at once), targets and alphas (himalaya's own batches), bytes (predicted peak).

    Raises
    ------
    InputError
        Not even one alpha and a few voxels fit.
    """
    budget = memory_gb * 1e9
    square, fold = n_train**2, (n_train * (n_folds - 1) // n_folds) ** 2
    fixed = FLOAT * (4 * square + max(5 * fold, 3 * square) + 2 * n_test * n_train)
    an_alpha = FLOAT * 2 * square
    alphas = int(np.clip((0.2 * budget) // an_alpha, 1, n_alphas))
    a_voxel = FLOAT * (7 * n_train + 3 * n_test + 3 * n_folds * n_alphas)
    a_target = FLOAT * (alphas + 2) * n_train
    targets = int(np.clip((0.1 * budget) // a_target, 1, n_voxels))
    left = budget - fixed - alphas * an_alpha - targets * a_target
    voxels = int(min(n_voxels, left // a_voxel))
    if voxels < min(n_voxels, 100):
        need = (fixed + an_alpha + 1000 * (a_voxel + a_target)) / 1e9
        remedy = f"Set it to at least {need:.1f}, or lower encoding.max_components' images"
        found = f"{memory_gb:g}"
        expected = f"enough for {n_train} images"
        raise InputError(Finding("encoding.memory_gb", expected, found, remedy))
    # Equal batches: the last one costs as many decompositions as the others.
    voxels = -(-n_voxels // -(-n_voxels // voxels))
    targets = min(targets, voxels)
    total = fixed + alphas * an_alpha + targets * a_target + voxels * a_voxel
    return {"voxels": voxels, "targets": targets, "alphas": alphas, "bytes": int(total)}


def fit_ridge(kernel_train, kernel_test, responses, *, alphas, folds, batches):
    """Fit one ridge model a voxel and predict test samples.

    Parameters
    ----------
    kernel_train : float32 array of shape (n_train, n_train)
    kernel_test : float32 array of shape (n_test, n_train)
    responses : float32 array of shape (n_train, n_voxels)
    alphas : sequence of float
        Penalties tried; each voxel gets the one with the least squared error in
        cross-validation.
    folds : list of (train, test)
        As returned by `group_folds`.
    batches : dict
        As returned by `plan_batches`.

    Returns
    -------
    predictions : float32 array of shape (n_test, n_voxels)
    best : float32 array of shape (n_voxels,)
        The alphas chosen.
    """
    model = KernelRidgeCV(
        alphas=np.asarray(alphas, np.float32),
        kernel="precomputed",
        cv=folds,
        fit_intercept=True,
        Y_in_cpu=True,
        solver_params={
            "n_targets_batch": batches["targets"],
            "n_alphas_batch": batches["alphas"],
        },
    )
    model.fit(kernel_train, responses)
    weights, intercept, best = (
        torch.as_tensor(part).cpu().numpy()
        for part in (model.dual_coef_, model.intercept_, model.best_alphas_)
    )
    return kernel_test @ weights + intercept, best

"""Encoders of a finished run, fitted again to predict responses to other images.

A run keeps no weights of encoders. Its kernels, responses and penalties determine them, so that
nothing has to be chosen again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nsdldm.encoding.fits import find_rows
from nsdldm.encoding.predictions import Predictions
from nsdldm.features.kernels import Kernels
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array, load_table

# A kernel has no negative eigenvalues but by rounding; up to this multiple, positive ones are too.
ROUNDING = 4
# Training images by which the scale of a kernel is found.
PROBES = 100
# The largest difference between a kernel and its features, as a fraction.
MISMATCH = 1e-2
# Bytes of the columns of features (float64) in memory at a time.
STRIP = int(0.25e9)


def predict_responses(
    *,
    features: np.ndarray,
    space: str,
    trained: Path | str,
    images: Path | str,
    kernels: Path | str,
    responses: Path | str,
    predictions: Path | str,
) -> np.ndarray:
    """Predict responses to other images by the encoders that `fit_encoders` fitted.

    Each voxel's kernel ridge regression is solved again with the penalty that was chosen for it, in
    float64; for the test images it returns what the run has predicted, up to rounding.

    Parameters
    ----------
    features : float array of shape (n, ...)
        Of the images, in the form of `trained`.
    space : str
        A model of a single space in `predictions`.
    trained : path
        The features that the kernel was computed from, ``.npy`` of shape (n_images, ...).
    images : path
        ``images.tsv``, a row per row of `trained`.
    kernels : path
        As `nsdldm.features.kernels.compute_kernels` writes them.
    responses : path
        Responses that the encoders were fitted to.
    predictions : path
        As `nsdldm.encoding.fits.fit_encoders` writes them.

    Returns
    -------
    float32 array of shape (n, n_voxels)
        In the units of the responses; NaN for voxels that were not fitted.

    Raises
    ------
    InputError
        The features have another shape, or the files do not belong together.
    """
    model, table = Predictions(predictions), load_table(images)
    known = model.open_responses(responses)
    train = np.flatnonzero(table["split"] == "train")
    samples = np.searchsorted(train, find_rows(known, table)[0])
    kernel = Kernels([kernels]).read(space)[np.ix_(train, train)].astype(np.float64)
    others = _relate(features, trained, train, kernel, kernels)
    kernel, others = kernel[np.ix_(samples, samples)], others[:, samples]
    others -= others.mean(axis=1, keepdims=True) + kernel.mean(axis=0) - kernel.mean()
    kernel -= kernel.mean(axis=0) + kernel.mean(axis=1, keepdims=True) - kernel.mean()
    values, vectors = np.linalg.eigh(kernel)
    values, along = values.clip(0), others @ vectors
    predicted = np.full((len(features), known.n_voxels), np.nan, np.float32)
    for block, columns in model.blocks():
        Y = known.read_train(columns).astype(np.float64)
        mean, alphas = Y.mean(axis=0), model.read(space, block).alphas
        turned, part = vectors.T @ (Y - mean), np.empty((len(features), len(mean)))
        for alpha in np.unique(alphas):
            own = alphas == alpha
            part[:, own] = (along / (values + alpha)) @ turned[:, own] + mean[own]
        predicted[:, columns] = part
    return predicted


def _relate(features, path, train, kernel, where):
    """Kernel between other images and the training images, (n, n_train), in its own scale.

    If it was computed from principal components, so is this.
    """
    known, n = load_array(path), len(features)
    if features.shape[1:] != known.shape[1:]:
        expected = f"shape (n, {', '.join(map(str, known.shape[1:]))}) as in {path}"
        remedy = "Compute them as the features there"
        raise InputError(Finding("`features`", expected, str(features.shape), remedy))
    probes = np.arange(0, len(train), max(1, len(train) // PROBES))
    known, features = known.reshape(len(known), -1), features.reshape(n, -1)
    products = np.zeros((n + len(probes), len(train)))
    width = max(1, STRIP // (8 * (len(train) + len(products))))
    for start in range(0, known.shape[1], width):
        columns = slice(start, start + width)
        strip = known[train, columns].astype(np.float64)
        mean = strip.mean(axis=0)
        strip -= mean
        products += np.concatenate([features[:, columns] - mean, strip[probes]]) @ strip.T
    values, vectors = np.linalg.eigh(kernel)
    vectors = vectors[:, values > ROUNDING * max(0, -values[0])]
    products = products @ vectors @ vectors.T
    ours, stored = products[n:], kernel[probes]
    scale = (ours * stored).sum() / (stored**2).sum()
    if np.abs(ours - scale * stored).max() > MISMATCH * np.abs(ours).max():
        remedy = "Compute the kernels again"
        raise InputError(Finding(str(where), f"the kernel of {path}", "another", remedy))
    return products[:n] / scale

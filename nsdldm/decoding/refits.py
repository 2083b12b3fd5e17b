"""Decoders of a finished run, fitted again to decode other responses.

The penalties that were chosen, the responses and the features determine the weights, and what was
decoded from the test images determines the gain of the protocol.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from nsdldm.decoding.decoders import PROTOCOLS
from nsdldm.responses import Responses
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array, load_table

DIMENSIONS_AT_ONCE = 2048
# The largest difference from what was decoded, as a fraction of its standard deviation.
MISMATCH = 1e-2


def find_form(protocol: str) -> str:
    """Form of the responses that the decoders of a protocol are fitted to."""
    return "zscored/trials" if PROTOCOLS[protocol].session_zscore else "scaled/trials"


def decode_responses(
    *,
    values: np.ndarray,
    protocol: str,
    responses: Path | str,
    images: Path | str,
    features: Path | str,
    dimensions: Path | str,
    decoded: Path | str,
    weights: Path | str | None = None,
) -> np.ndarray:
    """Decode features from other responses by the decoders that `decode_features` fitted.

    For the responses to the test images it returns what the run has decoded, up to rounding.

    Parameters
    ----------
    values : array of shape (n, n_voxels)
        Standardised as `find_form` names it: z-scored within their session, or by the mean and the
        standard deviation of the training trials.
    protocol : str
        One of `nsdldm.decoding.decoders.PROTOCOLS`.
    responses, images, features : path
        What the decoders were fitted to; of one target.
    dimensions, decoded : path
        As `nsdldm.decoding.decoders.decode_features` writes them.
    weights : path, optional
        The same; without them the ridge regression is solved again, in float64.

    Returns
    -------
    float32 array of shape (n, ...)
        In the shape and units of the features.

    Raises
    ------
    InputError
        The responses have other voxels, or the files do not belong together.
    """
    chosen, known = PROTOCOLS[protocol], Responses(responses, find_form(protocol))
    if np.ndim(values) != 2 or values.shape[1] != known.n_voxels:
        expected = f"shape (n, {known.n_voxels}) as in {responses}"
        remedy = "Give a row per response and a column per voxel of the region"
        raise InputError(Finding("`values`", expected, str(np.shape(values)), remedy))
    X, stored = known.read_train().astype(np.float64), load_array(decoded)
    middle = X.mean(axis=0) if chosen.intercept else 0
    asked = np.concatenate([known.read_test(), values]).astype(np.float64) - middle
    if weights:
        found = asked @ _load_weights(weights, known)
    else:
        position = pd.Series(np.arange(len(table := load_table(images))), table["nsd_id"])
        rows = position[known.train_ids].to_numpy()
        alphas = load_table(dimensions)["alpha"].to_numpy()
        found = _solve(X - middle, rows, features, alphas, asked, chosen.intercept)
    test = stored.reshape(len(stored), -1).astype(np.float64)
    scaled = bool(weights) or not (chosen.gain or chosen.rescale != "none")
    found = _match(found, test, None if scaled else chosen.gain, decoded, known.path.stem)
    return found[len(test) :].reshape(-1, *stored.shape[1:]).astype(np.float32)


def _load_weights(path, known):
    """Weights of decoders, which must be those of a region's voxels."""
    weights = load_array(path)
    if len(weights) != known.n_voxels:
        expected = f"weights of the {known.n_voxels} voxels of {known.path.stem}"
        remedy = "Give responses of the region that it was decoded from"
        raise InputError(Finding(str(path), expected, f"{len(weights)} voxels", remedy))
    return weights


def _solve(X, rows, path, alphas, asked, intercept):
    """Ridge predictions without their mean, (n_asked, n_dimensions), with a penalty for each."""
    features = load_array(path)
    features, used = features.reshape(len(features), -1), np.unique(rows)
    place = np.searchsorted(used, rows)
    shares = np.bincount(place) / len(rows)
    # Of the trials of each image: they have the same features.
    sums = np.zeros((len(used), X.shape[1]))
    np.add.at(sums, place, X)
    values, vectors = np.linalg.eigh(X.T @ X)
    values, along, sums = values.clip(0), asked @ vectors, sums @ vectors
    found = np.empty((len(asked), len(alphas)))
    for start in range(0, len(alphas), DIMENSIONS_AT_ONCE):
        block = slice(start, start + DIMENSIONS_AT_ONCE)
        Y = features[used, block].astype(np.float64)
        Y -= shares @ Y if intercept else 0
        found[:, block] = along @ (sums.T @ Y / (values[:, None] + alphas[block]))
    return found


def _match(found, test, shared, where, region):
    """Give predictions the gain and the mean of what was decoded from the test images.

    `shared` says whether all dimensions have one gain; None, that there is none to find.
    """
    ours, centre = found[: len(test)], found[: len(test)].mean(axis=0)
    moving, stored = ours - centre, test - test.mean(axis=0)
    gain = 1.0
    if shared is not None:
        products, squares = ((moving * each).sum(axis=0) for each in (stored, moving))
        if shared:
            products, squares = products.sum(), squares.sum()
        gain = np.divide(products, squares, out=np.ones_like(products), where=squares > 0)
    wrong = np.sqrt(((gain * moving - stored) ** 2).mean())
    if wrong > MISMATCH * np.sqrt((stored**2).mean()):
        expected = f"what these features and the responses of {region} decode"
        remedy = "Give responses of the region that it was decoded from. If these are, decode again"
        raise InputError(Finding(str(where), expected, "something else", remedy))
    return gain * (found - centre) + test.mean(axis=0)

"""Decode z, c and other features of the images from one subject's brain activity by ridge.

`corrected` is what we consider correct; `takagi2023` is the arithmetic of the published code
(Takagi & Nishimoto, CVPR 2023, ``codes/utils/ridge.py``), choice by choice, so that its numbers can
be reproduced and the effect of each difference measured. `rescaled` and `rescaled-test` are
`corrected` with predictions that vary as much as the training features, in every dimension, which
generators expect.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from himalaya.backend import get_backend
from sklearn.model_selection import KFold

from nsdldm import ridge, stats
from nsdldm.decoding import statistics
from nsdldm.decoding.statistics import LeftOut, Ridge, Sums
from nsdldm.responses import Responses, average_trials
from nsdldm.support.batching import draw_noise
from nsdldm.support.devices import check_choice
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array, load_table, save_array, save_table

logger = logging.getLogger(__name__)

PUBLISHED_ALPHAS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
PUBLISHED_FOLDS = 5
# Warn if this fraction of targets chooses the smallest or largest penalty.
EDGE_SHARE = 0.05
TARGETS_AT_ONCE = 4096
LEAST_TARGETS = 64
# Fraction of training images, so that the gain does not depend on a few.
LEAST_SHARE = 0.1


class Protocol(NamedTuple):
    """The choices in which the protocols differ.

    Parameters
    ----------
    intercept : bool
        Fit an intercept, so that predictions have the targets' mean.
    grouped_folds : bool
        Keep all trials of an image on the same side of a fold; otherwise, folds are contiguous
        fifths of the trials.
    wide_alphas : bool
        Use the configured penalties; otherwise 1e-6 to 1.
    posterior_mean : bool
        z is the mean of the autoencoder's posterior; otherwise a random sample.
    session_zscore : bool
        Responses are z-scored within sessions; otherwise over all training trials.
    gain : bool
        Decoders are fitted to single trials but applied to averages, which are less noisy, so
        predictions vary too little: their deviations from the mean are multiplied by `find_gain`.
    rescale : str
        "left-out" and "test" multiply the deviations in each dimension such that they vary as much
        as the training features: those of left-out training images, or those of the test images
        themselves, as in Brain-Diffuser (Ozcelik & VanRullen 2023), which also centres them. The
        latter uses the predictions of all test images for each.
    """

    intercept: bool
    grouped_folds: bool
    wide_alphas: bool
    posterior_mean: bool
    session_zscore: bool
    gain: bool
    rescale: str = "none"

    @property
    def leaves_out(self) -> bool:
        """Whether predictions of left-out images are needed."""
        return self.gain or self.rescale == "left-out"


CHOICES = tuple(name for name in Protocol._fields if name != "rescale")
CORRECTED = Protocol(*[True] * len(CHOICES))
PROTOCOLS = {
    "corrected": CORRECTED,
    "rescaled": CORRECTED._replace(gain=False, rescale="left-out"),
    "rescaled-test": CORRECTED._replace(gain=False, rescale="test"),
    "takagi2023": Protocol(*[False] * len(CHOICES)),
}


class Fitted(NamedTuple):
    """What ridge alone predicts for one target, before any gain.

    Parameters
    ----------
    predicted, alphas, weights, features, solver
        As in `Decoded`.
    compared : float64 array of shape (2, n_dimensions)
        As `compare_left_out` returns it; ones where the protocol predicts no left-out images.
    """

    predicted: np.ndarray
    alphas: np.ndarray
    weights: np.ndarray
    compared: np.ndarray
    features: np.ndarray
    solver: str


class Decoded(NamedTuple):
    """What is decoded for one target.

    Parameters
    ----------
    predicted : float array of shape (n_test, n_dimensions)
    alphas : float64 array of shape (n_dimensions,)
    weights : float array of shape (n_voxels, n_dimensions)
        Without voxels if they are not kept.
    features : float array of shape (n_images, ...)
        True features of all images.
    gain : float
        The factor by which deviations from the mean were multiplied; the median over dimensions if
        each has its own.
    solver : str
        One of `SOLVERS`.
    """

    predicted: np.ndarray
    alphas: np.ndarray
    weights: np.ndarray
    features: np.ndarray
    gain: float
    solver: str


class DecoderSettings(NamedTuple):
    """How decoders are fitted.

    Parameters
    ----------
    alphas : list of float
        Penalties tried, in units of a voxel's summed squared response.
    n_folds : int
    memory_gb : float
        Memory the process may use, in units of 1e9 bytes.
    seed : int
        For the folds and for sampling the posterior.
    device : {"auto", "cpu", "cuda"}
    solver : {"auto", "himalaya", "statistics"}
        himalaya's RidgeCV, or the same ridge from sums over trials
        (`nsdldm.decoding.statistics`); "auto" is the latter where there are fewer voxels than
        trials. The published protocol is always himalaya's.
    """

    alphas: list
    n_folds: int
    memory_gb: float
    seed: int
    device: str
    solver: str = "auto"


def make_folds(
    protocol: Protocol, nsd_ids: np.ndarray, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]] | int:
    """Split training trials for the choice of the penalty.

    Parameters
    ----------
    protocol : Protocol
    nsd_ids : int array of shape (n_train_trials,)
    n_folds, seed : int
        Only used where folds are grouped.

    Returns
    -------
    list of (train, test), or int
        What himalaya takes as `cv`.
    """
    if protocol.grouped_folds:
        return ridge.group_folds(nsd_ids, n_folds, seed)
    return PUBLISHED_FOLDS


def weigh_images(nsd_ids: np.ndarray, n_trials: np.ndarray) -> np.ndarray:
    """Weight training images so that their averages are as noisy as those of the test images.

    Parameters
    ----------
    nsd_ids : int array of shape (n_train_trials,)
        The image of each training trial.
    n_trials : int array of shape (n_test_images,)
        Trials of each test image.

    Returns
    -------
    float64 array of shape (n_train_images,)
        In the order of the nsd_ids. With these weights, each number of trials is as frequent as
        among the test images. Numbers of trials that fewer than a tenth of the training images have
        get no weight, so that a few images cannot dominate; if nothing is left, all images are
        weighted equally.
    """
    _, n_train_trials = np.unique(nsd_ids, return_counts=True)
    most = max(n_train_trials.max(), n_trials.max()) + 1
    trained, tested = (np.bincount(n, minlength=most) / len(n) for n in (n_train_trials, n_trials))
    weights = np.divide(tested, trained, out=np.zeros(most), where=trained >= LEAST_SHARE)
    return weights[n_train_trials] if weights.any() else np.ones(len(n_train_trials))


def compare_left_out(
    X: np.ndarray,
    Y: np.ndarray,
    nsd_ids: np.ndarray,
    weights: np.ndarray,
    alphas: list[float],
    folds: list[tuple[np.ndarray, np.ndarray]],
    intercept: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Predict training images that the decoder was not fitted to, and compare.

    Parameters
    ----------
    X, Y, alphas, intercept
        As `nsdldm.ridge.fit_decoder`, but a penalty for each target.
    nsd_ids : int array of shape (n_train,)
        The image of each trial.
    weights : float array of shape (n_train_images,)
        Weights of the images in the order of their ids; each image is predicted from the average of
        its trials.
    folds : list of (train, test)
        All trials of an image are on the same side.

    Returns
    -------
    products, squares : float64 arrays of shape (n_targets,)
        Weighted sums over images of prediction times true value and of squared predictions, both as
        deviations from the training mean in units of the target's standard deviation; 0 for a
        constant target.
    """
    backend = get_backend()

    def compare(batches):
        sums = np.zeros((2, Y.shape[1]))
        for train, left_out in folds:
            images = np.unique(nsd_ids[left_out])
            images = images[weights[np.searchsorted(known, images)] > 0]
            weight = weights[np.searchsorted(known, images), None]
            averages, _ = average_trials(X, nsd_ids, images)
            truth = first[np.searchsorted(known, images)]
            middle = X[train].mean(axis=0) if intercept else 0
            U, singular, Vt = backend.svd(backend.asarray(X[train] - middle), full_matrices=False)
            components = backend.asarray(averages - middle) @ Vt.T
            for start in range(0, Y.shape[1], batches["targets"]):
                batch = slice(start, start + batches["targets"])
                mean = Y[train, batch].mean(axis=0)
                fitted = backend.asarray(Y[train, batch] - (mean if intercept else 0))
                penalties = backend.asarray(alphas[batch], dtype=fitted.dtype)
                shrunk = singular[:, None] / (singular[:, None] ** 2 + penalties)
                predicted = backend.to_numpy(components @ (shrunk * (U.T @ fitted)))
                for row, other in enumerate((Y[truth, batch] - mean, predicted)):
                    sums[row, batch] += (weight * predicted * other).sum(axis=0)
        return sums

    known, first = np.unique(nsd_ids, return_index=True)
    n = min(TARGETS_AT_ONCE, Y.shape[1])
    sums = ridge.fit_batched(compare, {"targets": n, "alphas": 1})
    return scale_sums(sums, Y)


def scale_sums(sums: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Divide sums of products over images, (2, n_targets), by the targets' variance over trials.

    Those of constant targets become 0.
    """
    scaled = np.zeros_like(sums)
    for start in range(0, Y.shape[1], TARGETS_AT_ONCE):
        batch = slice(start, start + TARGETS_AT_ONCE)
        varies = np.ptp(Y[:, batch], axis=0) > 0
        variance = Y[:, batch].var(axis=0, dtype=np.float64)
        scaled[:, batch] = np.where(varies, sums[:, batch] / np.where(varies, variance, 1), 0)
    return scaled


def find_gain(products: np.ndarray, squares: np.ndarray) -> float:
    """Slope of the true values on the predictions, over all dimensions of a target together.

    Parameters
    ----------
    products, squares : arrays of shape (n_dimensions,)
        As `compare_left_out` returns them.

    Returns
    -------
    float
        1 if predictions of left-out images do not covary with the true values at all.
    """
    product, square = np.sum(products), np.sum(squares)
    if not product > 0:
        logger.warning("predictions of left-out images do not covary with the true values: no gain")
        return 1.0
    return float(product / square)


def plan_targets(
    n_train: int, n_test: int, n_voxels: int, n_targets: int, n_folds: int, memory_gb: float
) -> tuple[int, int]:
    """Choose how many targets one fit can hold in memory, and predict its peak.

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
    validation = -(-n_train // n_folds)
    # Betas and their copies, a fold's decomposition and the matrix that maps its targets.
    fixed = ridge.LIBRARIES + 4 * (6 * n_train * n_voxels + 2 * validation * n_train)
    # Targets and their centred copy with a fold of both, weights twice, predictions.
    each = 4 * (4 * n_train + 3 * n_voxels + 2 * n_test)
    possible = int((1e9 * memory_gb - fixed) // each)
    if possible < min(n_targets, LEAST_TARGETS):
        least = (fixed + each * min(n_targets, LEAST_TARGETS)) / 1e9 + 0.05
        found, remedy = f"{memory_gb:g}", "Raise it, or use fewer sessions or voxels"
        raise InputError(Finding("`memory_gb`", f"at least {least:.1f}", found, remedy))
    blocks = -(-n_targets // possible)
    targets = -(-n_targets // blocks)
    return targets, int(fixed + each * targets)


def _read_targets(path, images, logvar, seed):
    """Features (n_images, n_dimensions) of a target; optionally a sample of the posterior."""
    features = load_array(path)
    if len(features) != len(images):
        expected = f"one row for each of the {len(images)} images of images.tsv"
        found = f"{len(features)} rows"
        raise InputError(Finding(str(path), expected, found, "Compute the features again"))
    values = np.array(features, np.float32)
    if logvar is not None:
        noise = draw_noise(seed, images["nsd_id"].to_numpy(), values.shape[1:])
        values += np.exp(0.5 * np.array(load_array(logvar))) * noise
    return values


def score_dimensions(true: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """Score every dimension across images.

    Parameters
    ----------
    true, predicted : float arrays of shape (n_images, n_dimensions)

    Returns
    -------
    DataFrame
        dimension, r and r2; missing where the true dimension is constant (such as the start token
        of c).
    """
    scores = {"r": stats.correlate(true, predicted), "r2": stats.r2(true, predicted)}
    scores["r"][np.ptp(true, axis=0) == 0] = np.nan
    # A constant prediction explains nothing.
    scores["r"][(np.ptp(predicted, axis=0) == 0) & (np.ptp(true, axis=0) > 0)] = 0
    return pd.DataFrame({"dimension": np.arange(true.shape[1])} | scores)


def score_images(
    true: np.ndarray, predicted: np.ndarray, mean: np.ndarray, deviation: np.ndarray
) -> pd.DataFrame:
    """Score every image across dimensions.

    Parameters
    ----------
    true, predicted : float arrays of shape (n_images, n_dimensions)
    mean, deviation : float arrays of shape (n_dimensions,)
        Of the training images; constant dimensions are left out of `r_pattern`.

    Returns
    -------
    DataFrame
        r, the published score: the correlation across all dimensions of an image, which mostly
        reflects whether the mean is right; and r_pattern, the same after standardising each
        dimension.
    """
    varies = deviation > 0
    scale = np.where(varies, deviation, 1)
    patterns = [((values - mean) / scale)[:, varies].T for values in (true, predicted)]
    return pd.DataFrame(
        {"r": stats.correlate(true.T, predicted.T), "r_pattern": stats.correlate(*patterns)}
    )


def list_left_out(
    X: np.ndarray,
    nsd_ids: np.ndarray,
    rows: np.ndarray,
    n_trials: np.ndarray,
    folds: list[tuple[np.ndarray, np.ndarray]],
) -> list[LeftOut]:
    """Average the trials of the images that each fold leaves out.

    Parameters
    ----------
    X : float32 array of shape (n, n_voxels)
    nsd_ids, rows : int arrays of shape (n,)
        The image of each trial, and the row of its targets.
    n_trials : int array of shape (n_test_images,)
        As `weigh_images` takes it.
    folds : list of (train, test)
        Indices of trials; all trials of an image are on the same side.

    Returns
    -------
    list of LeftOut
        Without images of no weight.
    """
    weights, (known, first) = weigh_images(nsd_ids, n_trials), np.unique(nsd_ids, return_index=True)
    left_out = []
    for _, tested in folds:
        places = np.searchsorted(known, np.unique(nsd_ids[tested]))
        places = places[weights[places] > 0]
        averages, _ = average_trials(X, nsd_ids, known[places])
        left_out.append(LeftOut(averages, rows[first[places]], weights[places]))
    return left_out


class Study:
    """One subject's images and responses, read once for all fits.

    Parameters
    ----------
    responses, images, features, z_logvar, regions
        As `decode_features` takes them.
    tested : dict of path, optional
        By region: responses to predict from instead of those of the test images, as
        `apply_decoders` takes them.

    Attributes
    ----------
    images : DataFrame
    test, train : bool arrays of shape (n_images,)
        An image may be in neither.
    n_trials : int array of shape (n_test,)
        Trials of each test image.
    nsd_ids, rows : int arrays of shape (n_train_trials,)
        The image of each training trial, and its row in `images` and in features.
    """

    def __init__(
        self,
        responses: dict[str, Path | str],
        images: Path | str,
        features: dict[str, Path | str],
        z_logvar: Path | str | None,
        regions: dict[str, str],
        tested: dict[str, Path | str] | None = None,
    ):
        self.images, self.paths, self.features = load_table(images), responses, features
        self.z_logvar, self.regions, self.tested = z_logvar, regions, tested
        self.test, self.train = (
            (self.images["split"] == split).to_numpy() for split in ("test", "train")
        )
        self.nsd_ids = self.open(next(iter(responses)), True).train_ids
        self.n_trials = self.images.loc[self.test, "n_trials"].to_numpy()
        self.rows = pd.Series(np.arange(len(self.images)), self.images["nsd_id"])[
            self.nsd_ids
        ].to_numpy()

    def open(self, region: str, zscore: bool) -> Responses:
        """Responses of a region: z-scored per session, or as in the published decoders."""
        region = Responses(self.paths[region], "zscored/trials" if zscore else "scaled/trials")
        tested = self.images.loc[self.test, "nsd_id"]
        if not np.array_equal(region.test_ids, tested):
            expected = f"the {len(tested)} test images of images.tsv"
            remedy = "Prepare the responses again"
            raise InputError(Finding(str(region.path), expected, "others", remedy))
        return region

    def read(self, region: str, zscore: bool) -> tuple[np.ndarray, np.ndarray]:
        """Training trials of a region, float32 of shape (n_train_trials, n_voxels), and the
        responses to predict from, a row per image."""
        known = self.open(region, zscore)
        if self.tested is None:
            return known.read_train(), known.read_test()
        other = Responses(self.tested[region], "zscored/test" if zscore else "scaled/test")
        if other.n_voxels != known.n_voxels:
            expected = f"the {known.n_voxels} voxels of {known.path}"
            found, remedy = str(other.n_voxels), "Extract the same voxels for both"
            raise InputError(Finding(str(other.path), expected, found, remedy))
        return known.read_train(), other.read_test()

    def targets(self, protocol: Protocol, seed: int) -> dict[str, np.ndarray]:
        """Features of all images by target, float32 of shape (n_images, ...)."""
        return {
            name: _read_targets(
                path,
                self.images,
                self.z_logvar if name == "z" and not protocol.posterior_mean else None,
                seed,
            )
            for name, path in self.features.items()
        }


def choose_solver(solver: str, protocol: Protocol, shape: tuple[int, int]) -> str:
    """Choose between `SOLVERS` for responses of a shape (n_trials, n_voxels)."""
    check_choice("solver", solver, ("auto", *SOLVERS))
    if protocol == PROTOCOLS["takagi2023"]:
        return "himalaya"
    if solver == "auto":
        return "statistics" if shape[1] < shape[0] else "himalaya"
    return solver


def fit_targets(
    study: Study, protocol: Protocol, settings: DecoderSettings, keep_weights: bool = False
) -> Iterator[tuple[str, Fitted]]:
    """Fit the decoders of all targets, and predict.

    Parameters
    ----------
    study : Study
    protocol : Protocol
    settings : DecoderSettings
    keep_weights : bool
        Keep the weights of voxels: those of all tokens of an image take more than everything else.

    Yields
    ------
    name : str
        The target.
    fitted : Fitted

    Raises
    ------
    InputError
        Inputs contradict each other, or there is too little memory.
    """
    features = study.targets(protocol, settings.seed)
    for region in sorted(set(study.regions.values())):
        own = {name: features[name] for name, used in study.regions.items() if used == region}
        solver, parts = _fit_region(study, protocol, region, own, settings, keep_weights)
        for name, *found in zip(own, *parts, strict=True):
            yield name, Fitted(*found, features[name], solver)


def _fit_region(study, protocol, region, features, settings, keep_weights):
    """Fit the targets of a region; the solver, and lists of predictions, penalties, weights and
    comparisons, an entry per target."""
    flat = [values.reshape(len(study.images), -1) for values in features.values()]
    edges = np.cumsum([values.shape[1] for values in flat])[:-1]
    X, X_test = responses = study.read(region, protocol.session_zscore)
    solver = choose_solver(settings.solver, protocol, X.shape)
    plan, fit = SOLVERS[solver]
    n_targets = sum(values.shape[1] for values in flat)
    sizes = len(X), len(X_test), X.shape[1], n_targets, settings.n_folds
    block, peak = plan(*sizes, settings.memory_gb)
    message = "%s from %s by %s: %d trials, %d voxels, %d dimensions, predicted peak %.1f GB"
    logger.info(message, " and ".join(features), region, solver, *X.shape, n_targets, peak / 1e9)
    # All targets of a region share its decompositions, as far as memory allows.
    stacked = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)
    blocks = np.split(stacked, np.arange(block, n_targets, block), axis=1)
    parts = [
        # A slice alone would keep all of it.
        (predicted, alphas, weights if keep_weights else weights[:0].copy(), compared)
        for predicted, alphas, weights, compared in fit(
            study, protocol, responses, blocks, settings
        )
    ]
    joined = [np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)]
    return solver, [np.split(part, edges, axis=-1) for part in joined]


def _decode(study, protocol, settings, keep_weights=False):
    """Decode all targets under a protocol; returns a `Decoded` by target."""
    return {
        name: rescale(name, protocol, study, fitted)
        for name, fitted in fit_targets(study, protocol, settings, keep_weights)
    }


def _fit_by_himalaya(study, protocol, responses, blocks, settings):
    """Yield predictions, penalties and weights of blocks of dimensions, and the comparison on
    left-out images."""
    X, X_test = responses
    folds = make_folds(protocol, study.nsd_ids, settings.n_folds, settings.seed)
    alphas = settings.alphas if protocol.wide_alphas else PUBLISHED_ALPHAS
    grouped = ridge.group_folds(study.nsd_ids, settings.n_folds, settings.seed)
    weights = weigh_images(study.nsd_ids, study.n_trials)
    for features in blocks:
        Y = features[study.rows]
        fitted = ridge.fit_decoder(X, Y, X_test, alphas, folds, protocol.intercept)
        compared = np.ones((2, Y.shape[1]))
        if protocol.leaves_out:
            known = X, Y, study.nsd_ids, weights, fitted[1]
            compared = compare_left_out(*known, grouped, protocol.intercept)
        yield *fitted, compared


def _fit_by_statistics(study, protocol, responses, blocks, settings):
    """The same from sums over trials."""
    X, X_test = responses
    folds = make_folds(protocol, study.nsd_ids, settings.n_folds, settings.seed)
    if not protocol.grouped_folds:
        folds = list(KFold(folds).split(X))
    alphas = settings.alphas if protocol.wide_alphas else PUBLISHED_ALPHAS
    fitted = _sum_up(study, X, folds, alphas, protocol)
    if protocol.leaves_out:
        # Left-out images are of no training trial.
        grouped = ridge.group_folds(study.nsd_ids, settings.n_folds, settings.seed)
        left_out = list_left_out(X, study.nsd_ids, study.rows, study.n_trials, grouped)
        tester = fitted if protocol.grouped_folds else _sum_up(study, X, grouped, alphas, protocol)
    for features in blocks:
        found = fitted.fit(features, X_test)
        compared = np.ones((2, features.shape[1]))
        if protocol.leaves_out:
            compared = tester.compare_left_out(features, found.alphas, left_out)
            compared = scale_sums(compared, features[study.rows])
        yield *found, compared


def _sum_up(study, X, folds, alphas, protocol):
    """Decompose the sums over all trials."""
    sums = Sums(folds, study.rows, X.shape[1])
    sums.add(X, np.arange(len(X)))
    return Ridge(sums, alphas, protocol.intercept)


SOLVERS = {
    "himalaya": (plan_targets, _fit_by_himalaya),
    "statistics": (statistics.plan_targets, _fit_by_statistics),
}


def rescale(name: str, protocol: Protocol, study: Study, fitted: Fitted) -> Decoded:
    """Multiply the deviations of a target's predictions from the training mean by its gain, or by
    that of each dimension.

    Parameters
    ----------
    name : str
        The target, for the log.
    protocol : Protocol
    study : Study
    fitted : Fitted

    Returns
    -------
    Decoded
    """
    predicted, alphas, weights, compared, features, solver = fitted
    flat = features.reshape(len(features), -1)
    # Over training trials, as in the fit itself.
    shares = np.bincount(study.rows, minlength=len(features)) / len(study.rows)
    middle = shares.astype(flat.dtype) @ flat if protocol.intercept else 0
    gain, centre = 1.0, middle
    if protocol.gain:
        gain = find_gain(*compared)
    elif protocol.rescale == "left-out":
        gain = match_spread(compared[1] / weigh_images(study.nsd_ids, study.n_trials).sum())
    elif protocol.rescale == "test":
        spread = np.sqrt(shares.astype(flat.dtype) @ (flat - middle) ** 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = match_spread((predicted.std(axis=0) / spread) ** 2)
        centre = predicted.mean(axis=0)
    if protocol.gain or protocol.rescale != "none":
        logger.info("%s: gain %.3f", name, np.median(gain))
        predicted, weights = middle + gain * (predicted - centre), gain * weights
    return Decoded(predicted, alphas, weights, features, float(np.median(gain)), solver)


def match_spread(squares: np.ndarray) -> np.ndarray:
    """The factors that make predictions vary as much as the true values.

    Parameters
    ----------
    squares : float array of shape (n_dimensions,)
        Mean squared deviation of predictions, in units of the variance of the true values;
        undefined or infinite where these are constant.

    Returns
    -------
    float64 array of shape (n_dimensions,)
        1 where predictions or true values do not vary.
    """
    usable = np.isfinite(squares) & (squares > 0)
    return np.where(usable, 1 / np.sqrt(np.where(usable, squares, 1)), 1.0)


def _score(study, name, result, alphas):
    """Tables of a target's scores: by dimension, and by image."""
    predicted, flat = result.predicted, result.features.reshape(len(result.features), -1)
    true, n = flat[study.test], flat.shape[1]
    dimensions = score_dimensions(true, predicted)
    dimensions["alpha"], dimensions["solver"] = result.alphas, result.solver
    mean, deviation, constant = np.empty(n), np.empty(n), np.empty(n, bool)
    # The training images of all tokens of a picture take gigabytes.
    for start in range(0, n, TARGETS_AT_ONCE):
        block = slice(start, start + TARGETS_AT_ONCE)
        train = flat[study.train, block]
        constant[block] = np.ptp(train, axis=0) == 0
        mean[block] = train.mean(axis=0, dtype=np.float64)
        deviation[block] = train.std(axis=0, dtype=np.float64)
    dimensions["constant"] = constant
    dimensions.loc[constant, ["r", "r2"]] = np.nan
    deviation[constant] = 0
    by_image = score_images(true, predicted, mean, deviation)
    by_image.insert(0, "nsd_id", study.images.loc[study.test, "nsd_id"].to_numpy())
    found = dimensions["r"].median(), by_image["r"].mean(), by_image["r_pattern"].mean()
    message = "%s: median r of a dimension %.3f, mean r of an image %.3f, of its pattern %.3f"
    logger.info(message, name, *found)
    if dimensions["constant"].any():
        logger.info("%s: %d constant dimensions not scored", name, dimensions["constant"].sum())
    _warn_of_edges(name, dimensions, alphas)
    return dimensions, by_image


def _warn_of_edges(name, dimensions, alphas):
    """Warn if well-decoded dimensions chose the smallest or largest penalty."""
    chosen = dimensions.loc[dimensions["r"] > 0.1, "alpha"]
    for edge, where in ((min(alphas), "smallest"), (max(alphas), "largest")):
        share = (chosen == edge).mean() if len(chosen) else 0
        if share > EDGE_SHARE:
            message = "%s: %.0f %% of dimensions with r above 0.1 chose the %s alpha, %g"
            logger.warning(message, name, 100 * share, where, edge)


def decode_features(
    *,
    responses: dict[str, Path | str],
    images: Path | str,
    features: dict[str, Path | str],
    z_logvar: Path | str,
    regions: dict[str, str],
    protocol: str,
    settings: DecoderSettings,
    decoded: dict[str, Path | str],
    dimensions: dict[str, Path | str],
    by_image: dict[str, Path | str],
    weights: dict[str, Path | str] | None = None,
) -> None:
    """Decode the features of a subject's test images from its responses, and score them.

    Parameters
    ----------
    responses : dict of path
        By region, as `nsdldm.responses.prepare_responses` writes them: zscored/trials for the
        corrected protocol, scaled/trials for the published one.
    images : path
        ``images.tsv``; images whose split is neither train nor test are left out.
    features : dict of path
        By target: ``.npy`` with a row per image of `images`.
    z_logvar : path
        Log-variance of the posterior, for protocols that sample z.
    regions : dict of str
        The region that each target is decoded from.
    protocol : str
        One of `PROTOCOLS`.
    settings : DecoderSettings
    decoded : dict of path
        Output by target: float32 ``.npy`` (n_test, ...), in the order of the test images.
    dimensions : dict of path
        Output by target: table with a row per dimension: r and R² across test images, the penalty
        chosen, the solver and whether the target is constant.
    by_image : dict of path
        Output by target: table with a row per test image: nsd_id, r (the published score) and
        r_pattern.
    weights : dict of path, optional
        Output by target: float32 ``.npy`` (n_voxels, n_dimensions).

    Raises
    ------
    InputError
        Inputs contradict each other, or there is too little memory.
    """
    ridge.set_device(settings.device)
    study = Study(responses, images, features, z_logvar, regions)
    chosen = PROTOCOLS[protocol]
    for name, result in _decode(study, chosen, settings, bool(weights)).items():
        used = settings.alphas if chosen.wide_alphas else PUBLISHED_ALPHAS
        tables = _score(study, name, result, used)
        shape = (-1, *result.features.shape[1:])
        save_array(decoded[name], result.predicted.reshape(shape).astype(np.float32))
        save_table(dimensions[name], tables[0])
        save_table(by_image[name], tables[1])
        if weights:
            save_array(weights[name], result.weights.astype(np.float32))


def apply_decoders(
    *,
    responses: dict[str, Path | str],
    tested: dict[str, Path | str],
    images: Path | str,
    features: dict[str, Path | str],
    z_logvar: Path | str,
    regions: dict[str, str],
    protocol: str,
    settings: DecoderSettings,
    decoded: dict[str, Path | str],
) -> None:
    """Decode features from other responses by the decoders of `decode_features`.

    Everything about a decoder follows from `responses` and `images`, including the gain for
    averages of as many trials as the test images there have. Only ``rescaled-test`` takes the
    spread of the predictions from `tested`.

    Parameters
    ----------
    responses, images, features, z_logvar, regions, settings
        As `decode_features`.
    tested : dict of path
        By region: responses of the same voxels, of which ``zscored/test`` is predicted from; with
        the same images in all regions.
    protocol : str
        One of `PROTOCOLS` that z-scores responses within sessions.
    decoded : dict of path
        Output by target: float32 ``.npy`` (n, ...), with a row per row of ``zscored/test``.

    Raises
    ------
    InputError
        Inputs contradict each other, the protocol standardises over the training trials, or there
        is too little memory.
    """
    chosen = PROTOCOLS[protocol]
    if not chosen.session_zscore:
        usable = " or ".join(name for name, each in PROTOCOLS.items() if each.session_zscore)
        remedy = "Use one of these for other responses"
        raise InputError(Finding("`protocol`", usable, protocol, remedy))
    _check_same_images(tested)
    ridge.set_device(settings.device)
    study = Study(responses, images, features, z_logvar, regions, tested)
    for name, result in _decode(study, chosen, settings).items():
        shape = (-1, *result.features.shape[1:])
        save_array(decoded[name], result.predicted.reshape(shape).astype(np.float32))


def _check_same_images(tested):
    """Responses of all regions must have the same rows."""
    first, *others = (Responses(path, "zscored/test") for path in tested.values())
    for other in others:
        if not np.array_equal(other.test_ids, first.test_ids):
            expected, remedy = f"the test images of {first.path}", "Prepare the responses again"
            raise InputError(Finding(str(other.path), expected, "others", remedy))


def compare_protocols(
    *,
    responses: dict[str, Path | str],
    images: Path | str,
    features: dict[str, Path | str],
    z_logvar: Path | str,
    regions: dict[str, str],
    settings: DecoderSettings,
    table: Path | str,
) -> None:
    """Decode with each choice of `corrected` dropped by itself, with rescaled predictions, and with
    all choices dropped.

    Parameters
    ----------
    responses, images, features, z_logvar, regions, settings
        As `decode_features`; responses in both forms.
    table : path
        Output, with a row per variant and target: variant, target, r and r2 (medians over
        dimensions), r_image (mean over images, the published score), r_pattern, alpha (median) and
        gain.
    """
    ridge.set_device(settings.device)
    study = Study(responses, images, features, z_logvar, regions)
    corrected, published = PROTOCOLS["corrected"], PROTOCOLS["takagi2023"]
    variants = {"corrected": corrected}
    variants |= {
        f"corrected, {field} off": corrected._replace(**{field: False}) for field in CHOICES
    }
    variants |= {name: PROTOCOLS[name] for name in ("rescaled", "rescaled-test")}
    variants["takagi2023"] = published
    rows = []
    for variant, protocol in variants.items():
        logger.info("%s", variant)
        for name, result in _decode(study, protocol, settings).items():
            used = settings.alphas if protocol.wide_alphas else PUBLISHED_ALPHAS
            dimensions, by_image = _score(study, name, result, used)
            row = {"variant": variant, "target": name}
            row |= {key: dimensions[key].median() for key in ("r", "r2")}
            row |= {"r_image": by_image["r"].mean(), "r_pattern": by_image["r_pattern"].mean()}
            row |= {"alpha": dimensions["alpha"].median(), "gain": result.gain}
            rows.append(row)
    save_table(table, pd.DataFrame(rows))

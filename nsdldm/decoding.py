"""Decode z, c and other features of the images from one subject's brain activity by ridge.

Two protocols. `corrected` is what we hold to be right; `takagi2023` is the published code's
arithmetic (Takagi & Nishimoto, CVPR 2023, ``codes/utils/ridge.py``), choice by choice, so that its
numbers can be reproduced and each difference priced.
"""

import logging
from typing import NamedTuple

import numpy as np
import pandas as pd
from himalaya.backend import get_backend
from himalaya.ridge import RidgeCV
from himalaya.scoring import l2_neg_loss, r2_score
from sklearn.preprocessing import StandardScaler

from nsdldm import ridge, stats
from nsdldm.errors import Finding, InputError
from nsdldm.files import load_array, load_table, save_array, save_table
from nsdldm.ldm.batching import draw_noise

logger = logging.getLogger(__name__)

PUBLISHED_ALPHAS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
PUBLISHED_FOLDS = 5
# Share of targets at an end of the penalties that calls for a wider range.
EDGE_SHARE = 0.05
TARGETS_AT_ONCE = 4096
LEAST_TARGETS = 64


class Protocol(NamedTuple):
    """The choices in which the protocols differ.

    Parameters
    ----------
    intercept : bool
        Fit an intercept, so that predictions have the targets' mean.
    grouped_folds : bool
        Keep the trials of an image on one side of a fold; else contiguous fifths of the trials.
    wide_alphas : bool
        Penalties of the configuration; else 1e-6 to 1.
    posterior_mean : bool
        z is the mean of the autoencoder's posterior; else one random sample.
    session_zscore : bool
        Responses are z-scored in each session; else over all training trials.
    """

    intercept: bool
    grouped_folds: bool
    wide_alphas: bool
    posterior_mean: bool
    session_zscore: bool


PROTOCOLS = {"corrected": Protocol(*[True] * 5), "takagi2023": Protocol(*[False] * 5)}


def prepare_responses(betas, trials, images, zscore):
    """Bring single-trial betas into the form that decoders take.

    Parameters
    ----------
    betas : float32 array of shape (n_trials, n_voxels)
        Percent signal change, NaN where invalid.
    trials, images : DataFrame
        ``trials.tsv`` and ``images.tsv``.
    zscore : bool
        z-score each session by its training trials; else standardise over all training trials, in
        which invalid values count as the 0 that the release stores for them.

    Returns
    -------
    train : float32 array of shape (n_train_trials, n_voxels)
    test : float32 array of shape (n_test_images, n_voxels)
        Averages of a test image's trials, in the order of `images`.
    """
    fitted = (trials["split"] == "train").to_numpy()
    wanted = images.loc[images["split"] == "test", "nsd_id"].to_numpy()
    nsd_ids = trials["nsd_id"].to_numpy()
    if zscore:
        values = stats.zscore_sessions(betas, trials["session"].to_numpy(), fitted)
        test, _ = stats.average_trials(values, nsd_ids, wanted)
        return np.nan_to_num(values[fitted]), test.astype(np.float32)
    values = np.nan_to_num(betas)
    scaler = StandardScaler().fit(values[fitted])
    test, _ = stats.average_trials(values, nsd_ids, wanted)
    return scaler.transform(values[fitted]), scaler.transform(test).astype(np.float32)


def make_folds(protocol, nsd_ids, n_folds, seed):
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


def fit_decoder(X, Y, X_test, alphas, folds, intercept, targets=None):
    """Fit ridge with one penalty a target, and predict the test samples.

    Parameters
    ----------
    X : array of shape (n_train, n_voxels)
        float32 or float64, which is the precision of everything.
    Y : array of shape (n_train, n_targets)
    X_test : array of shape (n_test, n_voxels)
    alphas : sequence of float
        Penalties tried.
    folds : list of (train, test), or int
        As `make_folds` returns them.
    intercept : bool
        With one the penalty is chosen by R², averaged over folds; without by the squared error,
        himalaya's own choice and so the published one.
    targets : int, optional
        Handled at once; halved where the memory of the GPU runs out.

    Returns
    -------
    predictions : array of shape (n_test, n_targets)
    alphas : float64 array of shape (n_targets,)
        An element of `alphas` for each target.
    weights : array of shape (n_voxels, n_targets)
    """

    def fit(batches):
        model = RidgeCV(
            alphas=np.asarray(alphas, X.dtype),
            fit_intercept=intercept,
            cv=folds,
            # On a CPU they are there anyway, and himalaya 0.4.11 fails to say so.
            Y_in_cpu=get_backend().name == "torch_cuda",
            solver_params={
                "score_func": r2_score if intercept else l2_neg_loss,
                "n_targets_batch": batches["targets"],
                "n_targets_batch_refit": batches["targets"],
                "n_alphas_batch": batches["alphas"],
                "warn": False,
            },
        ).fit(X, Y)
        return model, model.predict(X_test)

    n = min(targets or TARGETS_AT_ONCE, Y.shape[1])
    model, predictions = ridge.fit_batched(fit, {"targets": n, "alphas": 1})
    to_numpy = get_backend().to_numpy
    grid = np.asarray(alphas, np.float64)
    chosen = np.abs(np.log(grid)[:, None] - np.log(to_numpy(model.best_alphas_))).argmin(axis=0)
    return to_numpy(predictions), grid[chosen], to_numpy(model.coef_)


def plan_targets(n_train, n_test, n_voxels, n_targets, n_folds, memory_gb):
    """Choose how many targets fit into memory in one fit, and predict its peak.

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
        Not even a few targets fit.
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
        raise InputError(Finding("decoding.memory_gb", f"at least {least:.1f}", found, remedy))
    blocks = -(-n_targets // possible)
    targets = -(-n_targets // blocks)
    return targets, int(fixed + each * targets)


def _read_targets(path, images, logvar, seed):
    """Features (n_images, n_dimensions) of a target; a sample of the posterior if asked for."""
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


def score_dimensions(true, predicted):
    """Score every dimension across images.

    Parameters
    ----------
    true, predicted : arrays of shape (n_images, n_dimensions)

    Returns
    -------
    DataFrame
        dimension, r and r2, missing where the true dimension is constant (such as c's start
        token).
    """
    scores = {"r": stats.correlate(true, predicted), "r2": stats.r2(true, predicted)}
    scores["r"][np.ptp(true, axis=0) == 0] = np.nan
    # A prediction that never changes explains nothing.
    scores["r"][(np.ptp(predicted, axis=0) == 0) & (np.ptp(true, axis=0) > 0)] = 0
    return pd.DataFrame({"dimension": np.arange(true.shape[1])} | scores)


def score_images(true, predicted, mean, deviation):
    """Score every image across dimensions.

    Parameters
    ----------
    true, predicted : arrays of shape (n_images, n_dimensions)
    mean, deviation : arrays of shape (n_dimensions,)
        Of the training images; a dimension that does not vary is left out of `r_pattern`.

    Returns
    -------
    DataFrame
        r, the published score: the correlation of all dimensions of an image, which mostly says
        whether the mean is right; and r_pattern, the same after standardising each dimension.
    """
    varies = deviation > 0
    scale = np.where(varies, deviation, 1)
    patterns = [((values - mean) / scale)[:, varies].T for values in (true, predicted)]
    return pd.DataFrame(
        {"r": stats.correlate(true.T, predicted.T), "r_pattern": stats.correlate(*patterns)}
    )


class _Study:
    """One subject's tables and responses, read once for all fits."""

    def __init__(self, betas, trials, images, features, z_logvar, regions):
        self.trials, self.images = load_table(trials), load_table(images)
        self.paths, self.features = betas, features
        self.z_logvar, self.regions = z_logvar, regions
        self.test = (self.images["split"] == "test").to_numpy()
        fitted = self.trials["split"] == "train"
        self.nsd_ids = self.trials.loc[fitted, "nsd_id"].to_numpy()
        self.rows = pd.Series(np.arange(len(self.images)), self.images["nsd_id"])[
            self.nsd_ids
        ].to_numpy()

    def responses(self, region, zscore):
        betas = np.array(load_array(self.paths[region]), np.float32)
        if len(betas) != len(self.trials):
            expected = f"one row for each of the {len(self.trials)} trials"
            found = f"{len(betas)} rows"
            raise InputError(
                Finding(str(self.paths[region]), expected, found, "Extract them again")
            )
        return prepare_responses(betas, self.trials, self.images, zscore)

    def targets(self, protocol, seed):
        """Features of all images by target."""
        return {
            name: _read_targets(
                path,
                self.images,
                self.z_logvar if name == "z" and not protocol.posterior_mean else None,
                seed,
            )
            for name, path in self.features.items()
        }


def _decode(study, protocol, alphas, n_folds, memory_gb, seed):
    """Predictions, penalties, weights and true features of all targets under a protocol."""
    alphas = alphas if protocol.wide_alphas else PUBLISHED_ALPHAS
    folds = make_folds(protocol, study.nsd_ids, n_folds, seed)
    features = study.targets(protocol, seed)
    results = {}
    for region in sorted(set(study.regions.values())):
        names = [name for name, wanted in study.regions.items() if wanted == region]
        X, X_test = study.responses(region, protocol.session_zscore)
        flat = [features[name].reshape(len(study.images), -1) for name in names]
        widths = [values.shape[1] for values in flat]
        block, peak = plan_targets(
            *(len(X), len(X_test), X.shape[1], sum(widths), n_folds, memory_gb)
        )
        message = "%s from %s: %d trials, %d voxels, %d dimensions, predicted peak %.1f GB"
        logger.info(message, " and ".join(names), region, *X.shape, sum(widths), peak / 1e9)
        # All targets of a region in as few fits as memory allows: each repeats the decompositions.
        stacked = np.concatenate(flat, axis=1)
        parts = []
        for start in range(0, stacked.shape[1], block):
            Y = stacked[:, start : start + block][study.rows]
            parts.append(fit_decoder(X, Y, X_test, alphas, folds, protocol.intercept))
        joined = [np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)]
        edges = np.cumsum(widths)[:-1]
        split = [np.split(part, edges, axis=-1) for part in joined]
        for name, *result in zip(names, *split, strict=True):
            results[name] = (*result, features[name])
    return results


def _score(study, name, result, alphas):
    """Tables of a target's scores, by dimension and by image."""
    predicted, chosen, _, features = result
    flat = features.reshape(len(features), -1)
    true, train = flat[study.test], flat[~study.test]
    dimensions = score_dimensions(true, predicted)
    dimensions["alpha"] = chosen
    dimensions["constant"] = np.ptp(train, axis=0) == 0
    dimensions.loc[dimensions["constant"], ["r", "r2"]] = np.nan
    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    deviation[dimensions["constant"]] = 0
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
    """Say if well-decoded dimensions chose the smallest or largest penalty."""
    chosen = dimensions.loc[dimensions["r"] > 0.1, "alpha"]
    for edge, where in ((min(alphas), "smallest"), (max(alphas), "largest")):
        share = (chosen == edge).mean() if len(chosen) else 0
        if share > EDGE_SHARE:
            message = "%s: %.0f %% of dimensions with r above 0.1 chose the %s alpha, %g"
            logger.warning(message, name, 100 * share, where, edge)


def decode_features(
    *,
    betas,
    trials,
    images,
    features,
    z_logvar,
    regions,
    protocol,
    alphas,
    n_folds,
    memory_gb,
    seed,
    device,
    decoded,
    dimensions,
    by_image,
    weights=None,
):
    """Decode the features of a subject's test images from its responses, and score them.

    Parameters
    ----------
    betas : dict of path
        By region: float32 ``.npy`` of shape (n_trials, n_voxels), percent signal change.
    trials, images : path
        ``trials.tsv`` and ``images.tsv``.
    features : dict of path
        By target: ``.npy`` with a row an image of `images`.
    z_logvar : path
        Log-variance of the posterior, for a protocol that samples z.
    regions : dict of str
        The region that each target is decoded from.
    protocol : str
        One of `PROTOCOLS`.
    alphas : list of float
        Penalties tried, in units of a voxel's summed squared response.
    n_folds : int
    memory_gb : float
    seed : int
        Of folds and of the posterior's sample.
    device : {"auto", "cpu", "cuda"}
    decoded : dict of path
        Output by target: float32 ``.npy`` (n_test, ...), in the order of the test images.
    dimensions : dict of path
        Output by target: table with a row a dimension: r and R² across test images, the penalty
        chosen and whether the target is constant.
    by_image : dict of path
        Output by target: table with a row a test image: nsd_id, r (the published score) and
        r_pattern.
    weights : dict of path, optional
        Output by target: float32 ``.npy`` (n_voxels, n_dimensions).

    Raises
    ------
    InputError
        Inputs that contradict each other, or too little memory.
    """
    ridge.set_device(device)
    study = _Study(betas, trials, images, features, z_logvar, regions)
    chosen = PROTOCOLS[protocol]
    results = _decode(study, chosen, alphas, n_folds, memory_gb, seed)
    for name, result in results.items():
        tables = _score(study, name, result, alphas if chosen.wide_alphas else PUBLISHED_ALPHAS)
        predicted, _, coefficients, values = result
        save_array(decoded[name], predicted.reshape(-1, *values.shape[1:]).astype(np.float32))
        save_table(dimensions[name], tables[0])
        save_table(by_image[name], tables[1])
        if weights:
            save_array(weights[name], coefficients.astype(np.float32))


def compare_protocols(
    *,
    betas,
    trials,
    images,
    features,
    z_logvar,
    regions,
    alphas,
    n_folds,
    memory_gb,
    seed,
    device,
    table,
):
    """Decode with each choice of `corrected` given up alone, and with all of them.

    Parameters
    ----------
    betas, trials, images, features, z_logvar, regions, alphas, n_folds, memory_gb, seed, device
        As `decode_features`.
    table : path
        Output, a row a variant and target: variant, target, r (median over dimensions), r_image
        (mean over images, the published score), r_pattern and alpha (median).
    """
    ridge.set_device(device)
    study = _Study(betas, trials, images, features, z_logvar, regions)
    corrected, published = PROTOCOLS["corrected"], PROTOCOLS["takagi2023"]
    variants = {"corrected": corrected}
    variants |= {
        f"corrected, {field} off": corrected._replace(**{field: False})
        for field in Protocol._fields
    }
    variants["takagi2023"] = published
    rows = []
    for variant, protocol in variants.items():
        logger.info("%s", variant)
        for name, result in _decode(study, protocol, alphas, n_folds, memory_gb, seed).items():
            used = alphas if protocol.wide_alphas else PUBLISHED_ALPHAS
            dimensions, by_image = _score(study, name, result, used)
            rows.append(
                {
                    "variant": variant,
                    "target": name,
                    "r": dimensions["r"].median(),
                    "r_image": by_image["r"].mean(),
                    "r_pattern": by_image["r_pattern"].mean(),
                    "alpha": dimensions["alpha"].median(),
                }
            )
    save_table(table, pd.DataFrame(rows))


def tabulate_protocols(*, tables, demo, output):
    """Put all subjects' comparisons into one table, with their mean.

    Parameters
    ----------
    tables : dict of path
        By subject, as `compare_protocols` writes them.
    demo : bool
        The brains are simulated.
    output : path
        Output: data ("demo" or "nsd"), subject (or "mean") and the columns of the tables.
    """
    table = pd.concat({name: load_table(path) for name, path in tables.items()}, names=["subject"])
    table = table.reset_index("subject")
    keys = ["variant", "target"]
    mean = table.drop(columns="subject").groupby(keys, sort=False).mean().reset_index()
    mean.insert(0, "subject", "mean")
    joined = pd.concat([table, mean])
    joined.insert(0, "data", "demo" if demo else "nsd")
    save_table(output, joined)

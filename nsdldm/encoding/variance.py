"""Joint encoding models of two feature spaces, and the variance that only one of them explains.

The unique variance of a space is R² of the joint model minus R² of the model of the other space
alone, on averaged test trials: the definition of variance partitioning for two spaces (Lescroart
et al. 2015, Frontiers in Computational Neuroscience 9, 135).
"""

import functools
import logging
import time
import warnings

import numpy as np
import pandas as pd
import torch
from himalaya.backend import get_backend
from himalaya.kernel_ridge import MultipleKernelRidgeCV
from himalaya.scoring import r2_score

from nsdldm import ridge, stats
from nsdldm.encoding import fits as encoding
from nsdldm.features.spaces import PARTS, split_control
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array

logger = logging.getLogger(__name__)

# A mix of two spaces must beat each alone by more than rounding of a float32 R².
TIE = 1e-5
# Below this noise ceiling (1 % of the variance) a normalised value is noise.
LEAST_CEILING = 0.1
# Bytes of the products of random draws and a batch of voxels; larger is no faster.
PRODUCTS = int(0.25e9)
# Bytes for each pair of images while a space is divided: eight matrices of float64.
DIVIDING = 64
# Penalties of that: what is a function of z must leave no rest, and what is none no linear part.
SPLITS = np.logspace(-8, 8, 33)
# A part with a smaller share of z_c's variance is none: mixed in, it would do no more than let the
# other space have penalties between those tried.
LEAST_PART = 1e-3


def name_pair(pair):
    """Name of a pair of spaces in files: ``a+b``."""
    return "+".join(pair)


def fit_joint(kernels_train, kernels_test, Y, weights, alphas, folds, batches):
    """Fit kernel ridge to a weighted sum of two kernels, with an intercept, and predict.

    The weights and the penalty with the best R², averaged over folds, are chosen for each target.
    Deterministic: all combinations given are tried, in that order.

    Parameters
    ----------
    kernels_train : float32 array of shape (2, n_train, n_train)
    kernels_test : float32 array of shape (2, n_test, n_train)
    Y : float32 array of shape (n_train, n_targets)
        Finite; stays in main memory.
    weights : sequence of float
        Weights tried for the first kernel, between 0 and 1; the second has the rest.
    alphas, folds, batches
        As `nsdldm.ridge.fit_ridge` takes them.

    Returns
    -------
    predictions : array of shape (n_test, n_targets)
    weights : float64 array of shape (n_targets,)
        The weight of the first kernel that was chosen, an element of `weights`.
    alphas : float64 array of shape (n_targets,)
    cv_scores : array of shape (n_targets,)
        R² of weight and penalty chosen, averaged over folds.

    Raises
    ------
    InputError
        All alphas are too small for the accuracy of the kernels.
    """
    shares = np.asarray(weights, np.float64)

    def fit(batches):
        model = MultipleKernelRidgeCV(
            kernels="precomputed",
            solver="random_search",
            fit_intercept=True,
            cv=folds,
            Y_in_cpu=True,
            solver_params={
                "n_iter": np.stack([shares, 1 - shares], axis=1).astype(Y.dtype),
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
        expected = "a penalty that float32 can resolve beside the kernels' eigenvalues"
        found = f"at most {max(alphas):g}"
        raise InputError(Finding("encoding.alphas", expected, found, "Add larger ones"))
    # himalaya's deltas are log(weight / alpha), and weights sum to 1.
    scaled = np.exp(to_numpy(model.deltas_).astype(np.float64))
    share = shares[_find(shares, scaled[0] / scaled.sum(axis=0))]
    grid = np.asarray(alphas, np.float64)
    alpha = grid[_find(np.log(grid), -np.log(scaled.sum(axis=0)))]
    return to_numpy(predictions), share, alpha, cv_scores


def _find(grid, values):
    """Index of the element of a grid nearest to each value, which differs from it by rounding."""
    return np.abs(grid[:, None] - values).argmin(axis=0)


def draw_signs(n_draws, n_images, seed):
    """Signs of a sign-flip test; the first row flips nothing.

    Parameters
    ----------
    n_draws, n_images, seed : int

    Returns
    -------
    float32 array of shape (1 + n_draws, n_images)
        1 or -1.
    """
    flips = np.random.default_rng(seed).integers(0, 2, (n_draws, n_images), np.int8)
    return np.concatenate([np.ones((1, n_images), np.float32), 1 - 2 * flips.astype(np.float32)])


def judge_errors(observed, worse, better, draws, judge, memory):
    """Share of random draws over images whose sum of squared-error differences is so and so.

    Parameters
    ----------
    observed, worse, better : float32 arrays of shape (n_images, n_voxels)
        What was measured, and the predictions of two models; differences are those of `worse`
        minus those of `better`.
    draws : float32 array of shape (n_draws, n_images)
        Weights of the images in each draw, such as signs or numbers of resampled images.
    judge : callable
        Takes the sums, a tensor of shape (n_draws, n_batch), and returns one of bool.
    memory : int
        Bytes that sums of a batch of voxels may take.

    Returns
    -------
    float64 array of shape (n_voxels,)
    """
    device = "cuda" if get_backend().name == "torch_cuda" else "cpu"
    draws = torch.as_tensor(draws, device=device)
    step = max(1, int(min(memory, PRODUCTS) // (5 * len(draws))))
    shares = np.empty(observed.shape[1])
    for start in range(0, observed.shape[1], step):
        part = slice(start, start + step)
        errors = [np.square(observed[:, part] - other[:, part]) for other in (worse, better)]
        differences = torch.as_tensor(errors[0] - errors[1], device=device)
        passed = judge(draws @ differences)
        # Whole numbers below 2^24 are exact, and float32 is four times as fast as float64 here.
        shares[part] = passed.float().sum(axis=0).cpu().numpy() / len(draws)
    return shares


def flip_signs(observed, without, joint, signs, memory=PRODUCTS):
    """Test whether a joint model predicts better than the model without a space, one-sided.

    Without a difference between the models, the difference of their squared errors is as likely
    negative as positive, for each image independently.

    Parameters
    ----------
    observed, without, joint : float32 arrays of shape (n_images, n_voxels)
        Averaged test trials and their predictions by the two models.
    signs : float32 array of shape (1 + n_flips, n_images)
        As `draw_signs` returns them.
    memory : int
        Bytes that a batch of voxels may take.

    Returns
    -------
    float64 array of shape (n_voxels,)
        p = (1 + flips with a sum of differences of at least the observed) / (1 + flips); 1 where
        the models predict the same.
    """
    # The first row, which flips nothing, is the 1 of numerator and denominator.
    return judge_errors(observed, without, joint, signs, lambda sums: sums >= sums[0], memory)


def _check_pairs(pairs, weights):
    """Refuse pairs of one space and weights that leave out mixes or are none."""
    findings = [
        Finding(name_pair(pair), "two spaces", "one", "Pair it with another space")
        for pair in pairs
        if len(set(pair)) != 2
    ]
    if not any(0 < weight < 1 for weight in weights) or not all(0 <= w <= 1 for w in weights):
        expected = "shares of the first space from 0 to 1, at least one of them between"
        findings.append(Finding("encoding.weights", expected, str(list(weights)), "Correct them"))
    if findings:
        raise InputError(*findings)


def _list_idle(pairs):
    """For each pair, the spaces that no later pair needs, and most spaces needed at one time."""
    last = {space: n for n, pair in enumerate(pairs) for space in pair}
    idle = [{space for space in pair if last[space] == n} for n, pair in enumerate(pairs)]
    held, most = set(), 0
    for pair, done in zip(pairs, idle, strict=True):
        held |= set(pair)
        most = max(most, len(held))
        held -= done
    return idle, most


def _join(pair, alone, weights, mixed):
    """Predictions, weights and alphas of a joint model from its mixes and from each space alone.

    Where a weight of 0 or 1 scores best, the joint model is that single one, to the last digit.
    """
    predicted, share, alpha, best = mixed
    for end, space in zip((1, 0), pair, strict=True):
        if end in weights:
            single, penalty, score = alone[space]
            won = score >= best - TIE
            predicted[:, won], alpha[won], share[won] = single[:, won], penalty[won], end
            best = np.maximum(best, score)
    return predicted, share, alpha


def _reader(kernels, images, rows, n_folds, seed):
    """The function that makes what a fit needs of the kernel of a space, beside another space.

    ``{space}-linear`` and ``{space}-residual`` are made of that space by `ridge.split_kernel`.
    """
    train = (images["split"] == "train").to_numpy()
    folds = ridge.group_folds(np.flatnonzero(train), n_folds, seed)

    @functools.lru_cache(maxsize=1)
    def divide(base, other):
        both = [load_array(kernels[space]) for space in (base, other)]
        *parts, alpha = ridge.split_kernel(*both, train, SPLITS, folds)
        share = parts[0].diagonal()[train].mean() / both[0].diagonal()[train].mean()
        message = "%s: %.1f %% of its variance is linear in %s (alpha %g)"
        logger.info(message, base, 100 * share, other, alpha)
        return dict(zip(PARTS, parts, strict=True))

    def read(space, other):
        base, control = split_control(space)
        if control not in PARTS:
            return encoding.load_kernel(kernels[space], rows)
        kernel = divide(base, other)[control]
        return [kernel[np.ix_(samples, rows[0])] for samples in rows]

    return read


def _fit_pair(weights, pair, read, alone, fit):
    """Joint model of a pair, as `_join` returns it; adds the single ones that are not there yet."""
    penalties = ridge.list_penalties(fit[1], weights)
    kernels = [read(space, pair[0]) for space in pair]
    for space, kernel in zip(pair, kernels, strict=True):
        if space not in alone:
            alone[space] = ridge.fit_ridge(*kernel, fit[0], penalties, *fit[2:])
    if kernels[1][0].diagonal().mean() < LEAST_PART:
        predicted, penalty, _ = alone[pair[0]]
        return predicted.copy(), np.ones(len(penalty)), penalty
    parts = [np.stack(kernel) for kernel in zip(*kernels, strict=True)]
    del kernels
    mixes = [weight for weight in weights if 0 < weight < 1]
    return _join(pair, alone, weights, fit_joint(*parts, fit[0], mixes, *fit[1:]))


def _score_pair(pair, observed, joint, alone, signs, memory):
    """Columns of a pair's table for a block of voxels, and what each image adds to unique variance.

    The second are an array a space.
    """
    predicted, share, alpha = joint
    r, r2 = encoding.score(observed, predicted)
    shares = {}
    columns = {"r": r, "r2": r2, "weight": share, "alpha": alpha}
    for space, other in (pair, pair[::-1]):
        single = alone[other][0]
        columns[f"r2_{other}"] = encoding.score(observed, single)[1]
        p = flip_signs(observed, single, predicted, signs, memory)
        columns[f"p_unique_{space}"] = np.where(np.isnan(r2), np.nan, p)
        shares[space] = stats.share_gain(observed, single, predicted)
    return pd.DataFrame(columns), shares


def _fit_block(pairs, idle, read, weights, observed, signs, fit):
    """Each pair and its scores for a block of voxels; `fit` is the rest of `fit_ridge`'s.

    A model of one space is kept until no later pair needs it.
    """
    alone = {}
    for pair, done in zip(pairs, idle, strict=True):
        began = time.monotonic()
        joint = _fit_pair(weights, pair, read, alone, fit)
        yield pair, *_score_pair(pair, observed, joint, alone, signs, fit[-1]["spare"])
        alone = {space: model for space, model in alone.items() if space not in done}
        logger.info("%s: %.0f s", name_pair(pair), time.monotonic() - began)


def _say_floor(n_voxels, flips, q):
    """Warn where so few flips are drawn that a few voxels can hardly pass the correction."""
    needed = int(np.ceil(n_voxels / ((1 + flips) * q)))
    if needed > 1:
        message = "with %d flips at least %d of %d voxels must reach the smallest p to pass FDR %g"
        logger.warning(message, flips, needed, n_voxels, q)


def list_columns(pair):
    """Columns of a pair's table besides i, j and k, which are the volumes of its map in order.

    Parameters
    ----------
    pair : (str, str)
        Names of the two spaces, a and b.

    Returns
    -------
    list of str
        r, r2, p and significant (of the joint model), r2_{a}, r2_{b} (each alone), then for both
        spaces unique_, p_unique_ and significant_, then ceiling, ncsnr, unique_{a}_normalised,
        unique_{b}_normalised, weight (of a in the joint model) and alpha.
    """
    both = [
        f"{what}_{space}" for what in ("r2", "unique", "p_unique", "significant") for space in pair
    ]
    normalised = [f"unique_{space}_normalised" for space in pair]
    joint = ["r", "r2", "p", "significant"]
    return [*joint, *both, "ceiling", "ncsnr", *normalised, "weight", "alpha"]


def _finish(pair, table, n_test, penalties, q):
    """Add unique variance, its normalised form and significance; log what matters."""
    table["p"] = stats.p_values(table["r"], n_test)
    table["significant"] = stats.fdr(table["p"], q)
    table.loc[table["r2"].isna(), ["weight", "alpha"]] = np.nan
    ceiling = table["ceiling"].where(table["ceiling"] >= LEAST_CEILING)
    for space, other in (pair, pair[::-1]):
        unique = table["r2"] - table[f"r2_{other}"]
        table[f"unique_{space}"] = unique
        table[f"unique_{space}_normalised"] = unique / ceiling**2
        table[f"significant_{space}"] = stats.fdr(table[f"p_unique_{space}"], q)
        found = table[f"significant_{space}"].sum(), len(table), q
        message = "%s: unique variance of %s in %d of %d voxels at FDR %g"
        logger.info(message, name_pair(pair), space, *found)
    either = table[f"significant_{pair[0]}"] | table[f"significant_{pair[1]}"]
    encoding.warn_edges(name_pair(pair), table.loc[either, "alpha"], penalties)
    return table[list_columns(pair)]


def fit_pairs(
    *,
    pairs,
    kernels,
    betas,
    trials,
    images,
    mask,
    regions,
    maps,
    tables,
    sums,
    alphas,
    weights,
    n_folds,
    fdr,
    flips,
    train_on,
    zscore,
    memory_gb,
    device,
    seed,
    min_ncsnr=0,
    every=1,
    only_every=False,
):
    """Partition the variance of every voxel of a subject between two feature spaces, pair by pair.

    Single models are those of `nsdldm.encoding.fits.fit_encoders`, fitted once a space and shared
    by its pairs. A joint model is one kernel ridge regression on a weighted sum of the two kernels;
    the weights and the penalty of each voxel are chosen on the same folds. Weights of 0 and 1 are
    the single models, so that a joint model need not be worse than those. Unique variance of a
    space is R² of the joint model minus R² of the other space alone, on averaged test trials. It is
    tested one-sided by flipping the signs of the images' differences of squared errors, the same
    flips for all voxels and pairs, with a false discovery rate over the voxels of a map.

    Parameters
    ----------
    pairs : list of (str, str)
        Names of the two spaces, a and b.
    kernels : dict of path
        Gram matrix of each space, as `nsdldm.ridge.compute_kernels` writes it. A space called
        ``{space}-linear`` or ``{space}-residual`` is made from that of {space}: the part that is
        linear in the pair's first space, and the rest (`nsdldm.ridge.split_kernel`).
    betas, trials, images, mask, regions, min_ncsnr, every
        As `nsdldm.encoding.fits.fit_encoders` takes them.
    maps, tables : dict of path
        Output for each pair, by its name ``a+b``: a float32 NIfTI whose volumes are
        `list_columns(pair)`, NaN off the mask, and a table with a row a voxel in C-order of the
        mask (i, j, k and these). Normalised values are divided by the squared noise ceiling; blank
        where that is unknown or less than 1 %.
    sums : path
        Output: what each test image adds to unique variance, by ``{pair}:{space}``, as
        `nsdldm.encoding.cells.load_sums` reads it.
    alphas : list of float
        Penalties tried with every mix; single models have more (`nsdldm.ridge.list_penalties`).
        Kernels have a mean diagonal of 1.
    weights : list of float
        Weights of a's kernel tried, from 0 to 1; b's has the rest.
    n_folds : int
    fdr : float
        False discovery rate.
    flips : int
        Random sign flips; the smallest p is 1 / (1 + flips).
    train_on : "averages" or "trials"
    zscore : bool
    only_every : bool
        Fit every so many voxels instead of all, as the means over regions of controls need.
    memory_gb : float
        Memory the process may use, in units of 1e9 bytes; sets the batches.
    device : "auto", "cpu" or "cuda"
    seed : int
        Shuffles images over folds, and draws the flips.

    Raises
    ------
    InputError
        Inputs that contradict each other, or too little memory.
    """
    pairs = list(dict.fromkeys(tuple(pair) for pair in pairs))
    _check_pairs(pairs, weights)
    divided = {space for pair in pairs for space in pair if split_control(space)[1] in PARTS}
    needed = {space for pair in pairs for space in pair} - divided
    needed |= {split_control(space)[0] for space in divided}
    kernels = {space: path for space, path in kernels.items() if space in needed}
    shown, seen = encoding.check_inputs(kernels, betas, trials, images, mask)
    ridge.set_device(device)
    rows = encoding.find_rows(shown, seen, train_on)
    step = every if only_every else 1
    n_voxels = encoding.count_every(betas, step)
    idle, held = _list_idle(pairs)
    penalties = ridge.list_penalties(alphas, weights)
    beside = DIVIDING * len(seen) ** 2 if divided else 0
    plan = encoding.plan_fits(
        rows, n_voxels, len(penalties), n_folds, memory_gb, held, n_kernels=2, beside=beside
    )
    folds = ridge.group_folds(rows[0], n_folds, seed)
    signs = draw_signs(flips, len(rows[1]), seed)
    _say_floor(n_voxels, flips, fdr)
    read = _reader(kernels, seen, rows, n_folds, seed)
    shares = encoding.collect_shares(mask, regions, every, seen, min_ncsnr)

    found, ratio = {pair: [] for pair in pairs}, np.empty(n_voxels, np.float32)
    how = shown, seen, rows, plan, train_on, zscore, step
    for block, fitted, observed, known in encoding.prepare_blocks(betas, *how):
        ratio[block] = known
        fit = fitted, alphas, folds, plan
        voxels = step * np.arange(block.start, block.stop)
        for pair, columns, own in _fit_block(pairs, idle, read, weights, observed, signs, fit):
            found[pair].append(columns)
            for space, each in own.items():
                shares.add(f"{name_pair(pair)}:{space}", voxels, each, known)
        logger.info("voxels to %d of %d", block.stop, n_voxels)

    noise = encoding.describe_noise(ratio, shown, seen)
    for pair, parts in found.items():
        table = pd.concat(parts, ignore_index=True).assign(**noise)
        name = name_pair(pair)
        table = _finish(pair, table, len(rows[1]), penalties, fdr)
        encoding.write_maps(table, mask, maps[name], tables[name], step)
    shares.save(sums)

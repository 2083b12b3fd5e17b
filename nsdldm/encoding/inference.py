"""Inference about encoders over the whole cortex: family-wise error, ceilings and reliability.

r and unique variance are tested by the largest value over all voxels under one random relabelling
of the test images, the same for all voxels, so that whatever voxels share is kept (Nichols and
Holmes 2002, Human Brain Mapping 15). A family-wise p is the fraction of relabellings whose largest
value is at least that of the voxel. Nothing is fitted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from nsdldm import stats
from nsdldm.encoding.case_scores import find_members
from nsdldm.encoding.flips import draw_signs
from nsdldm.encoding.partition import LEAST_CEILING
from nsdldm.encoding.predictions import Predictions
from nsdldm.intervals import draw_counts, take_interval
from nsdldm.responses import Responses
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_volume, save_table, save_volume

logger = logging.getLogger(__name__)

# Volumes of a map, in order.
VOLUMES = ("r", "p_fwe", "normalised", "low", "high")
# Voxels permuted at once: their responses and predictions stay in a processor's cache.
PERMUTED_AT_ONCE = 64


class _Draws(NamedTuple):
    """Relabellings of the test images, and bootstrap samples of them."""

    orders: np.ndarray
    signs: np.ndarray
    counts: np.ndarray


class _Tested(NamedTuple):
    """What is tested: r of a space (pair is empty), or a space's unique variance in a pair."""

    name: str
    measure: str
    pair: str = ""
    other: str = ""


def draw_orders(n_draws: int, n_images: int, seed: int) -> np.ndarray:
    """Draw the orders of a permutation test; the first row changes nothing.

    Parameters
    ----------
    n_draws, n_images, seed : int

    Returns
    -------
    int array of shape (1 + n_draws, n_images)
    """
    rng = np.random.default_rng(seed)
    orders = np.tile(np.arange(n_images), (1 + n_draws, 1))
    orders[1:] = rng.permuted(orders[1:], axis=1)
    return orders


def permute_images(
    observed: np.ndarray, predicted: np.ndarray, orders: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Correlate responses with predictions, and with predictions of permuted images.

    Parameters
    ----------
    observed, predicted : float32 arrays of shape (n_images, n_voxels)
    orders : int array of shape (1 + n_draws, n_images)
        As `draw_orders` returns them.

    Returns
    -------
    r : float32 array of shape (n_voxels,)
        NaN where a column is constant or not finite.
    largest : float32 array of shape (n_draws,)
        The largest r of each permutation; -inf without voxels.
    """
    r = np.full(observed.shape[1], np.nan, np.float32)
    largest = np.full(len(orders), -np.inf, np.float32)
    columns = np.flatnonzero(np.isfinite(stats.correlate(observed, predicted)))
    for start in range(0, len(columns), PERMUTED_AT_ONCE):
        part = columns[start : start + PERMUTED_AT_ONCE]
        a, b = (_standardise(each[:, part]) for each in (observed, predicted))
        moved = np.empty_like(b)
        for draw, order in enumerate(orders):
            np.take(b, order, axis=0, out=moved, mode="clip")
            found = np.einsum("ij,ij->j", a, moved)
            if not draw:
                r[part] = found
            largest[draw] = max(largest[draw], found.max())
    return r, largest[1:]


def _standardise(values):
    """Columns of mean 0 and length 1."""
    values = values - values.mean(axis=0, dtype=np.float64)
    return np.ascontiguousarray(values / np.linalg.norm(values, axis=0), np.float32)


def flip_images(
    observed: np.ndarray, worse: np.ndarray, better: np.ndarray, signs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare the squared errors of two models, and so with signs of their differences flipped.

    The sum of differences over images is divided by the root of their summed squares, which no flip
    changes, so that voxels with large errors do not rule the largest value.

    Parameters
    ----------
    observed, worse, better : float32 arrays of shape (n_images, n_voxels)
        Responses averaged over test trials, and the predictions of two models.
    signs : float32 array of shape (1 + n_draws, n_images)
        As `nsdldm.encoding.flips.draw_signs` returns them.

    Returns
    -------
    t : float32 array of shape (n_voxels,)
        Positive where `better` is; 0 where both predict the same.
    p : float64 array of shape (n_voxels,)
        Of single voxels, as `nsdldm.encoding.flips.flip_signs` returns it.
    largest : float32 array of shape (n_draws,)
        The largest t of each draw; -inf without voxels.
    """
    gains = np.square(observed - worse) - np.square(observed - better)
    norms = np.linalg.norm(gains, axis=0)
    sums = signs @ (gains / np.where(norms > 0, norms, 1))
    p = np.count_nonzero(sums >= sums[0], axis=0) / len(signs)
    return sums[0], p, sums[1:].max(axis=1, initial=-np.inf)


def judge_family(values: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Family-wise p of each voxel.

    Parameters
    ----------
    values : float array of shape (n_voxels,)
    largest : float array of shape (n_draws,)
        The largest value over voxels of each relabelling.

    Returns
    -------
    float64 array of shape (n_voxels,)
        (1 + draws whose largest value is at least that of the voxel) / (1 + draws); NaN where the
        value is.
    """
    ordered = np.sort(largest)
    count = len(ordered) - np.searchsorted(ordered, values, side="left")
    return np.where(np.isnan(values), np.nan, (1 + count) / (1 + len(ordered)))


def find_threshold(largest: np.ndarray, alpha: float) -> float:
    """The value that a voxel must exceed for a family-wise p of at most `alpha`.

    Parameters
    ----------
    largest : array of shape (n_draws,)
        As `judge_family` takes it; at least 1 / alpha - 1 draws.
    alpha : float

    Returns
    -------
    float
        NaN without voxels.
    """
    allowed = int(np.floor(alpha * (1 + len(largest)) * (1 + 1e-12))) - 1
    threshold = float(np.sort(largest)[::-1][allowed])
    return threshold if np.isfinite(threshold) else np.nan


def infer_encoders(
    *,
    predictions: list[Path | str],
    responses: Path | str,
    mask: Path | str,
    regions: dict[str, Path | str],
    halves: list[Path | str],
    n_permutations: int,
    fdr: float,
    alpha: float,
    seed: int,
    maps: dict[str, Path | str],
    table: Path | str,
    n_flips: int | None = None,
) -> None:
    """Test r and unique variance of encoders in every voxel, with ceilings and reliability.

    r is tested by permuting test images, beside the Gaussian null of `nsdldm.stats.p_values` with
    FDR control, in all voxels. Unique variance is tested by flipping the signs of images'
    differences of squared errors, beside FDR control over p of single voxels, in voxels that the
    joint model predicts in training (as `nsdldm.encoding.partition.judge_unique`). A family is all
    voxels tested of one space, wherever they lie.

    Memory holds 4,096 voxels: about 0.02 GB for each model and 1,000 test images, and likewise for
    each 1,000 flips. Time grows with images, voxels and draws: for 982 images, 100,000 voxels and
    1,000 draws, the permutations of a space take about a minute on one core, its intervals half a
    minute, and flips less.

    Parameters
    ----------
    predictions : list of path
        As `nsdldm.encoding.fits.fit_encoders` writes them: single spaces, joint models ``a+b``, and
        both single models of each of these.
    responses : path
        What they were fitted to.
    mask : path
        NIfTI mask of the voxels; their C-order is that of the responses.
    regions : dict of path
        Masks.
    halves : list of path
        Responses to the test images in either half of their trials; images that are not in both
        are ignored.
    n_permutations : int
        Permutations and bootstrap samples.
    fdr, alpha : float
        False discovery rate, and family-wise error.
    seed : int
    maps : dict of path
        Output for single spaces: float32 NIfTI with the volumes `VOLUMES`, NaN off the mask: r, its
        family-wise p, r divided by the noise ceiling, and the interval (95 %, bootstrap over
        images) of that, given the ceiling; the last three NaN where it is below `LEAST_CEILING`.
    table : path
        Output, a row per region, for each space with the measure r, and for each space of a joint
        model (``a+b:a``) with the measure unique: n_voxels, n_tested, n_fdr, n_fwe (significant
        voxels), share_fdr, share_fwe (of those tested), threshold_fwe (of r, or of the statistic of
        `flip_images`), median_normalised with median_low and median_high (medians over voxels of
        the values in maps; unique variance is divided by the squared ceiling), and
        reliability (correlation over the voxels tested between the halves of the trials, by
        `nsdldm.stats.double_reliability`).
    n_flips : int, optional
        Sign flips, if not as many as permutations. FDR control over single voxels needs many, since
        their smallest p is 1 / (1 + n_flips).

    Raises
    ------
    InputError
        Inputs contradict each other, or there are too few permutations for `alpha`.
    """
    n_flips = n_flips or n_permutations
    for name, n_draws in (("permutations", n_permutations), ("flips", n_flips)):
        _check_draws(name, n_draws, alpha)
    files = _open_files(predictions, responses)
    known = files[0].open_responses(responses)
    members = find_members(mask, regions, known.n_voxels)
    holders = {name: file for file in files for name in file.names}
    tests = _list_tests(holders, maps)
    parts = _Halves(halves, known)
    n = len(known.test_ids)
    draws = _Draws(
        draw_orders(n_permutations, n, seed),
        draw_signs(n_flips, n, seed),
        draw_counts(n, n_permutations, seed).astype(np.float32),
    )
    found, largest = _test_voxels(tests, holders, known, parts, draws)
    rows = []
    for test, voxels in found.items():
        voxels["fwe"] = judge_family(voxels["statistic"].to_numpy(), largest[test])
        voxels["significant"] = stats.fdr(voxels["p"], fdr)
        threshold = find_threshold(largest[test], alpha)
        rows += _summarise(test, voxels, members, threshold, alpha)
        if test.measure == "unique":
            _say_floor(test, voxels, fdr, n_flips)
        if test.measure == "r" and test.name in maps:
            _write_map(voxels, mask, maps[test.name])
    save_table(table, pd.DataFrame(rows))


def _check_draws(name, n_draws, alpha):
    """There must be enough draws for the smallest p to reach alpha."""
    needed = int(np.ceil(1 / alpha - 1e-9)) - 1
    if n_draws < needed:
        expected = f"at least {needed} for a family-wise error of {alpha:g}"
        raise InputError(Finding(f"`{name}`", expected, str(n_draws), "Raise it"))


def _say_floor(test, voxels, fdr, n_flips):
    """Warn if so few flips make FDR control stricter than it need be."""
    n_tested = int(voxels["statistic"].notna().sum())
    needed = int(np.ceil(n_tested / ((1 + n_flips) * fdr)))
    if needed > 1:
        message = "%s: with %d flips, at least %d of %d voxels must reach the smallest p at FDR %g"
        logger.warning(message, test.name, n_flips, needed, n_tested, fdr)


def _open_files(paths, responses):
    """Predictions of all voxels, fitted to the same responses."""
    files = list(map(Predictions, paths))
    for file in files:
        file.open_responses(responses)
        if file.every != 1 or file.form != files[0].form:
            expected = f"models of all voxels, fitted to {files[0].form}"
            found = f"of every {file.every}, fitted to {file.form}"
            raise InputError(Finding(str(file.path), expected, found, "Fit the encoders again"))
    return files


def _list_tests(holders, maps):
    """All tests, of which the single spaces need their models too."""
    tests, needed = [], set(maps)
    for name in holders:
        pair = name.split("+")
        if len(pair) == 1:
            tests.append(_Tested(name, "r"))
            continue
        needed |= set(pair)
        tests += [
            _Tested(f"{name}:{space}", "unique", name, other) for space, other in (pair, pair[::-1])
        ]
    if missing := sorted(needed - set(holders)):
        expected = f"models of {', '.join(missing)}"
        remedy = "Give the files of predictions that hold them"
        raise InputError(Finding("`predictions`", expected, "none", remedy))
    return tests


class _Halves:
    """Test responses in both halves of the trials, for the images that are in both."""

    def __init__(self, paths, known):
        form = f"{known.form.partition('/')[0]}/averages"
        self._files = [Responses(path, form) for path in paths]
        common = set(known.test_ids).intersection(*(file.test_ids for file in self._files))
        self.rows = np.flatnonzero(np.isin(known.test_ids, list(common)))
        names = " and ".join(map(str, paths))
        if len(paths) != 2 or len(common) < 3:
            expected = "two files with at least 3 test images in common with all trials"
            found = f"{len(paths)} files with {len(common)}"
            raise InputError(Finding(names, expected, found, "Divide the trials again"))
        if any(file.n_voxels != known.n_voxels for file in self._files):
            expected, found = f"the {known.n_voxels} voxels of {known.path}", "others"
            raise InputError(Finding(names, expected, found, "Prepare the responses again"))
        wanted = known.test_ids[self.rows]
        self._orders = [_locate(wanted, file.test_ids) for file in self._files]

    def read(self, block: slice) -> list[np.ndarray]:
        """Responses of some voxels, float32 of shape (n_rows, n_block) for each half."""
        pairs = zip(self._files, self._orders, strict=True)
        return [file.read_test(block)[order] for file, order in pairs]


def _locate(wanted, ids):
    """Position of each wanted id."""
    return pd.Series(np.arange(len(ids)), ids)[wanted].to_numpy()


def _test_voxels(tests, holders, known, parts, draws):
    """Tables of voxels by test, and the largest statistic of each draw over all voxels."""
    found = {test: [] for test in tests}
    largest = {}
    first = next(iter(holders.values()))
    for block, _ in first.blocks():
        observed, ceiling = known.read_test(block), known.ceiling[block]
        seen = parts.rows, parts.read(block)
        models = {name: file.read(name, block) for name, file in holders.items()}
        for test in tests:
            judge = _judge_r if test.measure == "r" else _judge_unique
            voxels, most = judge(test, models, observed, seen, draws, ceiling)
            found[test].append(pd.DataFrame(voxels))
            largest[test] = np.maximum(most, largest.get(test, most))
        logger.info("voxels to %d of %d", block.stop, known.n_voxels)
    return {test: pd.concat(tables, ignore_index=True) for test, tables in found.items()}, largest


def _judge_r(test, models, observed, seen, draws, ceiling):
    """Columns of the table of r for a block of voxels, and the largest r of each permutation."""
    predicted = models[test.name].predictions
    statistic, largest = permute_images(observed, predicted, draws.orders)
    r = stats.correlate(observed, predicted)
    rows, halves = seen
    columns = {"r": r, "statistic": statistic, "p": stats.p_values(r, len(observed))}
    for number, half in enumerate(halves):
        columns[f"half{number}"] = stats.correlate(half, predicted[rows])
    clear = ceiling >= LEAST_CEILING
    shares = stats.share_r(observed[:, clear], predicted[:, clear])
    return columns | _normalise(r, shares, np.where(clear, ceiling, np.nan), draws), largest


def _normalise(values, shares, ceiling, draws):
    """Scores divided by their ceiling, and intervals from contributions of images where it is
    known."""
    low, high = np.full((2, len(values)), np.nan)
    clear = np.isfinite(ceiling)
    if clear.any():
        means = draws.counts @ shares.astype(np.float32) / np.float32(len(shares))
        low[clear], high[clear] = take_interval(means)
    scores = {"normalised": values, "low": low, "high": high}
    return {name: each / ceiling for name, each in scores.items()}


def _judge_unique(test, models, observed, seen, draws, ceiling):
    """The same for unique variance and sign flips, in voxels that the joint model predicts in
    training."""
    joint, without = models[test.pair], models[test.other].predictions
    tested = np.flatnonzero((joint.cv_scores > 0) & (np.ptp(observed, axis=0) > 0))
    known, worse, better = (each[:, tested] for each in (observed, without, joint.predictions))
    statistic, p, largest = flip_images(known, worse, better, draws.signs)
    found = {"statistic": statistic, "p": p}
    rows, halves = seen
    for number, half in enumerate(halves):
        scores = (stats.r2(half[:, tested], each[rows]) for each in (better, worse))
        found[f"half{number}"] = np.subtract(*scores)
    unique = stats.r2(known, better) - stats.r2(known, worse)
    clear = ceiling[tested] >= LEAST_CEILING
    shares = stats.share_gain(*(each[:, clear] for each in (known, worse, better)))
    squared = np.where(clear, np.square(ceiling[tested], dtype=np.float64), np.nan)
    found |= _normalise(unique, shares, squared, draws)
    columns = {name: np.full(observed.shape[1], np.nan) for name in found}
    for name, values in found.items():
        columns[name][tested] = values
    return columns, largest


def _summarise(test, voxels, members, threshold, alpha) -> Iterator[dict]:
    """Yield the row of each region."""
    for region, inside in members.items():
        own = voxels[inside]
        tested = own["statistic"].notna()
        n, n_fdr, n_fwe = tested.sum(), own["significant"].sum(), (own["fwe"] <= alpha).sum()
        yield {
            "space": test.name,
            "measure": test.measure,
            "region": region,
            "n_voxels": len(own),
            "n_tested": n,
            "n_fdr": n_fdr,
            "n_fwe": n_fwe,
            "share_fdr": n_fdr / n if n else np.nan,
            "share_fwe": n_fwe / n if n else np.nan,
            "threshold_fwe": threshold,
            **{f"median_{name}": own[name].median() for name in ("normalised", "low", "high")},
            "reliability": stats.double_reliability(
                own["half0"].to_numpy(), own["half1"].to_numpy()
            ),
        }


def _write_map(voxels, mask, path):
    """Write the volumes of a space's map."""
    data, affine = load_volume(mask)
    volumes = np.full((*data.shape, len(VOLUMES)), np.nan, np.float32)
    columns = voxels.rename(columns={"fwe": "p_fwe"})[list(VOLUMES)]
    volumes[data > 0] = columns.to_numpy(np.float32)
    save_volume(path, volumes, affine)

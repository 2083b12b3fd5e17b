"""Decoders fitted to the first sessions of a subject, and to more of them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from nsdldm import ridge
from nsdldm.decoding.decoders import (
    PROTOCOLS,
    DecoderSettings,
    Study,
    find_gain,
    list_left_out,
    scale_sums,
)
from nsdldm.decoding.statistics import Ridge, Sums, plan_targets
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import create_hdf5, load_table

logger = logging.getLogger(__name__)


def choose_points(points: list[int], n_sessions: int) -> list[int]:
    """Numbers of sessions up to those that there are, and all of these, ascending."""
    return sorted({point for point in points if point < n_sessions} | {n_sessions})


def fit_learning_curve(
    *,
    responses: dict[str, Path | str],
    trials: Path | str,
    images: Path | str,
    features: dict[str, Path | str],
    regions: dict[str, str],
    settings: DecoderSettings,
    points: list[int],
    predictions: Path | str,
) -> None:
    """Decode the test images with the first sessions, by the corrected protocol.

    Sums over trials grow from point to point, so each trial is read once. The folds of the penalty
    are the same images at every point.

    Parameters
    ----------
    responses, images, features, regions, settings
        As `nsdldm.decoding.decoders.decode_features` takes them; the solver is always that of
        `nsdldm.decoding.statistics`.
    trials : path
        ``trials.tsv``.
    points : list of int
        Numbers of sessions; those that the subject does not have are left out, and all of the
        subject's sessions are added.
    predictions : path
        Output, HDF5: ``{number}/{target}``, float32 of the shape of the target's features, with
        the attributes n_trials (for training) and gain.

    Raises
    ------
    InputError
        Inputs contradict each other, or the first sessions have fewer images than folds.
    """
    ridge.set_device(settings.device)
    study = Study(responses, images, features, None, regions)
    table = load_table(trials)
    table = table[table["split"] == "train"]
    if not np.array_equal(table["nsd_id"], study.nsd_ids):
        expected = f"the training trials of {study.open(next(iter(responses)), True).path}"
        remedy = "Prepare the responses again"
        raise InputError(Finding(str(trials), expected, "others", remedy))
    sessions = table["session"].to_numpy()
    numbers = np.unique(sessions)
    ends = choose_points(points, len(numbers))
    known = study.targets(PROTOCOLS["corrected"], settings.seed)
    size = sum(values[study.test].nbytes for values in known.values())
    with create_hdf5(predictions, len(ends) * size) as file:
        for region in sorted(set(regions.values())):
            own = {name: known[name] for name, wanted in regions.items() if wanted == region}
            for end, found in _follow(study, region, sessions, numbers, ends, own, settings):
                _write_point(file, end, found, own)


def _follow(study, region, sessions, numbers, ends, targets, settings):
    """Yield the number of sessions, and predictions, gain and number of trials by target."""
    responses = study.open(region, True)
    X, X_test = responses.read_train(), responses.read_test()
    folds = ridge.group_folds(study.nsd_ids, settings.n_folds, settings.seed)
    flat = {name: features.reshape(len(features), -1) for name, features in targets.items()}
    most = max(values.shape[1] for values in flat.values())
    sizes = len(X), len(X_test), X.shape[1], most, settings.n_folds
    block, peak = plan_targets(*sizes, settings.memory_gb)
    logger.info("%s: %d trials, %d voxels, predicted peak %.1f GB", region, *X.shape, peak / 1e9)
    sums, seen = Sums(folds, study.rows, X.shape[1]), np.zeros(len(X), bool)
    for before, end in zip([0, *ends], ends, strict=False):
        new = np.isin(sessions, numbers[before:end])
        seen |= new
        sums.add(X[new], np.flatnonzero(new))
        if not sums.n.all():
            found = f"{len(np.unique(study.nsd_ids[seen]))} in the first {end} sessions"
            expected = f"training images in each of {len(folds)} folds"
            raise InputError(Finding("`n_folds`", expected, found, "Use fewer"))
        fitted = Ridge(sums, settings.alphas, True)
        rows, places = study.rows[seen], np.cumsum(seen) - 1
        own_folds = [(None, places[tested[seen[tested]]]) for _, tested in folds]
        left_out = list_left_out(X[seen], study.nsd_ids[seen], rows, study.n_trials, own_folds)
        given = fitted, X_test, left_out, rows, block
        yield end, {name: (*_predict(*given, own), len(rows)) for name, own in flat.items()}


def _predict(fitted, X_test, left_out, rows, block, features):
    """Predictions of a target with its gain, some dimensions at a time."""
    predicted, compared = [], []
    for start in range(0, features.shape[1], block):
        part = features[:, start : start + block]
        fit = fitted.fit(part, X_test)
        predicted.append(fit.predictions)
        sums = fitted.compare_left_out(part, fit.alphas, left_out)
        compared.append(scale_sums(sums, part[rows]))
    gain = find_gain(*np.concatenate(compared, axis=1))
    # Mean over training trials, as in the fit itself.
    middle = np.bincount(rows, minlength=len(features)) / len(rows) @ features
    return middle + gain * (np.concatenate(predicted, axis=1) - middle), gain


def _write_point(file, end, found, targets):
    for name, (values, gain, n_trials) in found.items():
        shaped = values.reshape(-1, *targets[name].shape[1:]).astype(np.float32)
        dataset = file.create_dataset(f"{end}/{name}", data=shaped)
        dataset.attrs.update(gain=gain, n_trials=n_trials)
        logger.info("%s from %d sessions, %d trials: gain %.3f", name, end, n_trials, gain)

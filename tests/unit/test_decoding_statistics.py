"""Ridge from sums over trials equals himalaya's."""

import numpy as np
import pytest

from nsdldm import ridge
from nsdldm.decoding import decoders, statistics
from nsdldm.decoding.statistics import LeftOut, Ridge, Sums
from nsdldm.support.errors import InputError

ALPHAS = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6]
SHAPES = {
    "few voxels": (900, 100, 60),
    "many targets": (500, 60, 900),
    "some collinear voxels": (600, 120, 50),
    "more voxels than trials": (200, 300, 50),
}


def simulate(n, n_voxels, n_targets, seed=0, collinear=False):
    """Standardised responses to images that are shown three times, and targets by image."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.arange(n) % (n // 3))
    features = rng.standard_normal((n // 3, n_targets), np.float32)
    strength = rng.random((n_targets, 1), np.float32) * 3 / np.sqrt(n_targets)
    mixing = strength * rng.standard_normal((n_targets, n_voxels), np.float32)
    X = features[rows] @ mixing + rng.standard_normal((n, n_voxels), np.float32)
    if collinear:
        X[:, n_voxels // 2 :] = X[:, : n_voxels - n_voxels // 2]
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    return X.astype(np.float32), features, rows, rng.standard_normal((40, n_voxels), np.float32)


def sum_up(X, rows, folds):
    sums = Sums(folds, rows, X.shape[1])
    sums.add(X, np.arange(len(X)))
    return sums


@pytest.fixture(autouse=True)
def on_cpu():
    ridge.set_device("cpu")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("intercept", [True, False])
def test_penalties_predictions_and_weights_are_those_of_himalaya(shape, intercept):
    X, features, rows, X_test = simulate(*SHAPES[shape], collinear="collinear" in shape)
    features += 3 * intercept
    folds = ridge.group_folds(rows, 5, 0)
    # In float64, so that differences are ours.
    exact = (values.astype(np.float64) for values in (X, features[rows], X_test))
    predictions, alphas, weights = ridge.fit_decoder(*exact, ALPHAS, folds, intercept)
    found = Ridge(sum_up(X, rows, folds), ALPHAS, intercept).fit(features, X_test)
    same = found.alphas == alphas
    assert same.mean() >= 0.999
    assert len(set(alphas)) > 1
    error = np.abs(found.predictions - predictions)[:, same]
    assert (error / features.std(axis=0)[same]).max() < 1e-5
    assert np.abs(found.weights - weights)[:, same].max() < 1e-5 * np.abs(weights).max()


def test_a_constant_target_is_predicted_by_its_value():
    X, features, rows, X_test = simulate(300, 40, 5)
    features[:, 2] = 0.1
    folds = ridge.group_folds(rows, 5, 0)
    found = Ridge(sum_up(X, rows, folds), ALPHAS, True).fit(features, X_test)
    np.testing.assert_array_equal(found.predictions[:, 2], np.float32(0.1))
    assert not found.weights[:, 2].any()


def test_folds_need_not_keep_images_together():
    X, features, rows, X_test = simulate(300, 40, 30)
    parts = np.array_split(np.arange(300), 5)
    folds = [(np.setdiff1d(np.arange(300), part), part) for part in parts]
    predictions, alphas, _ = ridge.fit_decoder(X, features[rows], X_test, ALPHAS, 5, True)
    found = Ridge(sum_up(X, rows, folds), ALPHAS, True).fit(features, X_test)
    np.testing.assert_array_equal(found.alphas, alphas)
    np.testing.assert_allclose(found.predictions, predictions, atol=1e-5)


def test_trials_can_be_added_in_any_portions():
    X, features, rows, X_test = simulate(700, 50, 20)
    folds = ridge.group_folds(rows, 5, 0)
    whole = Ridge(sum_up(X, rows, folds), ALPHAS, True).fit(features, X_test)
    sums = Sums(folds, rows, X.shape[1])
    for part in np.array_split(np.random.default_rng(1).permutation(700), 9):
        sums.add(X[part], part)
    found = Ridge(sums, ALPHAS, True).fit(features, X_test)
    np.testing.assert_array_equal(found.alphas, whole.alphas)
    np.testing.assert_allclose(found.predictions, whole.predictions, atol=1e-5)


def test_batches_of_targets_and_of_trials_change_nothing(monkeypatch):
    X, features, rows, X_test = simulate(500, 50, 30)
    folds = ridge.group_folds(rows, 5, 0)
    whole = Ridge(sum_up(X, rows, folds), ALPHAS, True).fit(features, X_test)
    monkeypatch.setattr(statistics, "TARGETS_AT_ONCE", 7)
    monkeypatch.setattr(statistics, "ROWS", 40)
    found = Ridge(sum_up(X, rows, folds), ALPHAS, True).fit(features, X_test)
    np.testing.assert_array_equal(found.alphas, whole.alphas)
    np.testing.assert_allclose(found.predictions, whole.predictions, atol=1e-5)


def test_left_out_images_are_compared_as_with_himalaya():
    X, features, rows, _ = simulate(600, 50, 40)
    folds = ridge.group_folds(rows, 5, 0)
    alphas = np.random.default_rng(0).choice(ALPHAS, 40)
    n_trials = np.full(30, 3)
    weights = decoders.weigh_images(rows, n_trials)
    given = X, features[rows], rows, weights, alphas, folds
    for intercept in (True, False):
        expected = decoders.compare_left_out(*given, intercept)
        left_out = decoders.list_left_out(X, rows, rows, n_trials, folds)
        assert all(isinstance(each, LeftOut) for each in left_out)
        tester = Ridge(sum_up(X, rows, folds), ALPHAS, intercept)
        found = tester.compare_left_out(features, alphas, left_out)
        scaled = decoders.scale_sums(found, features[rows])
        np.testing.assert_allclose(scaled, expected, rtol=1e-3, atol=1e-2)


def test_each_trial_is_tested_once():
    with pytest.raises(ValueError, match="tested in one fold"):
        Sums([(np.arange(3), np.arange(3, 5))], np.arange(5), 2)


def test_the_solver_follows_from_protocol_and_shape():
    corrected, published = decoders.PROTOCOLS["corrected"], decoders.PROTOCOLS["takagi2023"]
    assert decoders.choose_solver("auto", corrected, (100, 99)) == "statistics"
    assert decoders.choose_solver("auto", corrected, (100, 100)) == "himalaya"
    assert decoders.choose_solver("himalaya", corrected, (100, 10)) == "himalaya"
    assert decoders.choose_solver("statistics", corrected, (100, 1000)) == "statistics"
    assert decoders.choose_solver("statistics", published, (100, 10)) == "himalaya"
    with pytest.raises(InputError, match="`solver`"):
        decoders.choose_solver("ols", corrected, (100, 10))


def test_memory_is_planned_and_too_little_refused():
    targets, peak = statistics.plan_targets(24_980, 982, 5900, 6400, 5, 48)
    assert targets == statistics.TARGETS_AT_ONCE
    assert 4e9 < peak < 8e9
    with pytest.raises(InputError, match="`memory_gb`: expected at least"):
        statistics.plan_targets(24_980, 982, 5900, 6400, 5, 2)

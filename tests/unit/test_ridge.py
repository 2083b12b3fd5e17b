"""Ridge regression against scikit-learn and closed forms, on every backend."""

import numpy as np
import pytest
import torch
from himalaya.backend import get_backend, set_backend
from sklearn.linear_model import Ridge

from nsdldm import ridge
from nsdldm.support.errors import InputError

BACKENDS = ["numpy", "torch", *(["torch_cuda"] if torch.cuda.is_available() else [])]
BATCHES = {"targets": 100, "alphas": 10}
ALPHAS = [1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e3]


@pytest.fixture(autouse=True)
def same_backend_after():
    """himalaya's backend belongs to the process."""
    before = get_backend().name
    yield
    set_backend(before)


@pytest.fixture(params=BACKENDS)
def backend(request):
    set_backend(request.param)


def simulate(n_train=90, n_test=40, n_features=12, n_voxels=30, seed=0):
    """Features and targets that follow them from not at all to closely, both far from zero mean."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_train + n_test, n_features)) + 3
    strength = np.linspace(0, 1, n_voxels)
    Y = (X @ rng.standard_normal((n_features, n_voxels))) * strength
    Y += 2 * rng.standard_normal(Y.shape) + 50
    X /= np.sqrt(np.square(X).sum(axis=1).mean())
    parts = X[:n_train], X[n_train:], Y[:n_train], Y[n_train:]
    return tuple(part.astype(np.float32) for part in parts)


def fit_by_sklearn(X, X_test, Y, folds):
    """Choose each voxel's penalty by mean R² over folds with plain ridge, then refit."""
    scores = np.zeros((len(ALPHAS), Y.shape[1]))
    for train, test in folds:
        for row, alpha in enumerate(ALPHAS):
            predicted = Ridge(alpha=alpha).fit(X[train], Y[train]).predict(X[test])
            residual = np.square(Y[test] - predicted).sum(axis=0)
            scores[row] += 1 - residual / np.square(Y[test] - Y[test].mean(axis=0)).sum(axis=0)
    chosen = np.array(ALPHAS)[scores.argmax(axis=0)]
    predictions = np.empty((len(X_test), Y.shape[1]))
    for voxel, alpha in enumerate(chosen):
        predictions[:, voxel] = Ridge(alpha=alpha).fit(X, Y[:, voxel]).predict(X_test)
    return predictions, chosen, scores.max(axis=0) / len(folds)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-6), (np.float32, 1e-2)])
def test_fit_ridge_equals_ridge_with_intercept_and_a_penalty_a_voxel(backend, dtype, tolerance):
    X, X_test, Y, _ = (array.astype(dtype) for array in simulate())
    if dtype == np.float32:  # as kernels on disk are; float64 shows that centring is exact
        X, X_test = X - X.mean(axis=0), X_test - X.mean(axis=0)
    folds = ridge.group_folds(np.arange(len(X)), 5, 0)
    found = ridge.fit_ridge(X @ X.T, X_test @ X.T, Y, ALPHAS, folds, BATCHES)
    predictions, alphas, scores = fit_by_sklearn(X, X_test, Y, folds)
    assert len(np.unique(alphas)) > 2
    np.testing.assert_array_equal(found[1], alphas)
    np.testing.assert_allclose(found[0], predictions, atol=tolerance)
    np.testing.assert_allclose(found[2], scores, atol=tolerance)


def test_fit_ridge_finds_planted_voxels(backend):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((260, 20)).astype(np.float32)
    Y = np.hstack([X @ rng.standard_normal((20, 5)), rng.standard_normal((260, 200))])
    kernel = X @ X.T / 20
    folds = ridge.group_folds(np.arange(200), 5, 0)
    grid = np.logspace(-3, 6, 10)
    Y = Y.astype(np.float32)
    predictions, alphas, scores = ridge.fit_ridge(
        kernel[:200, :200], kernel[200:, :200], Y[:200], grid, folds, BATCHES
    )
    planted = [np.corrcoef(predictions[:, v], Y[200:, v])[0, 1] for v in range(5)]
    assert min(planted) > 0.99
    assert scores[:5].min() > 0.99
    assert scores[5:].max() < 0.2
    assert np.median(alphas[:5]) < 1 < np.median(alphas[5:])


def test_batches_do_not_change_a_fit(backend):
    X, X_test, Y, _ = simulate()
    folds = ridge.group_folds(np.arange(len(X)), 4, 0)
    first, second = (
        ridge.fit_ridge(X @ X.T, X_test @ X.T, Y, ALPHAS, folds, batches)
        for batches in (BATCHES, {"targets": 7, "alphas": 1})
    )
    np.testing.assert_array_equal(first[1], second[1])
    # Sums of float32 in another order.
    np.testing.assert_allclose(first[0], second[0], rtol=1e-4, atol=1e-3)


def test_fit_ridge_leaves_its_inputs_alone():
    set_backend("torch")
    X, X_test, Y, _ = simulate()
    given = [X @ X.T, X_test @ X.T, Y]
    before = [array.copy() for array in given]
    ridge.fit_ridge(*given, ALPHAS, ridge.group_folds(np.arange(len(X)), 5, 0), BATCHES)
    for array, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_penalties_below_the_kernels_accuracy_are_refused(backend):
    X, X_test, Y, _ = simulate()
    # A kernel that is off by more than the penalty, as rounding makes it.
    kernel = X @ X.T - np.eye(len(X), dtype=np.float32) / 100
    folds = ridge.group_folds(np.arange(len(X)), 5, 0)
    with pytest.raises(InputError, match=r"`alphas`"):
        ridge.fit_ridge(kernel, X_test @ X.T, Y, [1e-3, 1e-2], folds, BATCHES)
    _, alphas, _ = ridge.fit_ridge(kernel, X_test @ X.T, Y, [1e-3, 1e2], folds, BATCHES)
    assert (alphas == 1e2).all()


def test_penalties_of_mixes_are_tried_unless_they_are_near_another():
    found = ridge.list_penalties([1, 10], [0, 0.1, 0.5, 0.6, 0.9, 1])
    # 1 / 0.9 is near 1, 1 / 0.5 near 1 / 0.6; 10 / 0.9 is near 10 / 1, and all of 10 / 0.1 counts.
    assert found == [1, 1.66667, 2.5, 10, 16.6667, 25, 100]
    assert ridge.list_penalties([1, 1.1], [1]) == [1, 1.1]


def test_warnings_of_himalaya_reach_the_log(monkeypatch, caplog):
    set_backend("torch")
    X, X_test, Y, _ = simulate()
    monkeypatch.setenv("HIMALAYA_SKIP_FIT", "True")
    folds = ridge.group_folds(np.arange(len(X)), 5, 0)
    ridge.fit_ridge(X @ X.T, X_test @ X.T, Y, ALPHAS, folds, BATCHES)
    assert "HIMALAYA_SKIP_FIT" in caplog.text


def test_a_fit_is_silent(caplog, recwarn):
    set_backend("torch")
    X, X_test, Y, _ = simulate()
    folds = ridge.group_folds(np.arange(len(X)), 5, 0)
    ridge.fit_ridge(X @ X.T, X_test @ X.T, Y, ALPHAS, folds, BATCHES)
    assert not caplog.text
    assert not recwarn.list


def test_folds_partition_samples_and_keep_groups_together():
    groups = np.random.default_rng(2).integers(0, 40, 200)
    folds = ridge.group_folds(groups, 5, 0)
    assert len(folds) == 5
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(200))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert sorted([*train, *test]) == list(range(200))


def test_folds_follow_the_seed():
    groups = np.arange(50)
    first, again, other = (ridge.group_folds(groups, 5, seed)[0][1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)
    assert set(first) != set(range(10))


def test_fewer_images_than_folds_are_refused():
    with pytest.raises(InputError, match=r"`n_folds`"):
        ridge.group_folds([0, 0, 1, 1], 3, 0)


def test_device_is_set_in_one_place(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    set_backend("numpy")
    assert ridge.set_device("auto") == "cpu"
    assert get_backend().name == "torch"
    assert ridge.free_device_memory() is None
    with pytest.raises(InputError, match=r"`device`"):
        ridge.set_device("cuda")


@pytest.mark.parametrize("memory_gb", [4, 8, 12, 24])
def test_plan_stays_within_memory(memory_gb):
    plan = ridge.plan_batches(9000, 1000, 107_000, 10, 5, memory_gb)
    assert 0.5e9 * memory_gb < plan["peak"] <= 1e9 * memory_gb
    n_calls = -(-107_000 // plan["voxels"])
    # Blocks are equal, and fewer of them would not fit.
    assert plan["voxels"] * n_calls - 107_000 < n_calls
    assert (n_calls == 1) == (memory_gb == 24)


def test_plan_counts_the_targets_and_their_three_copies():
    small, large = (ridge.plan_batches(2000, 100, n, 10, 5, 50)["peak"] for n in (5000, 15_000))
    copies = (large - small) / (4 * 10_000)
    assert 4 * 2000 < copies < 4.2 * 2000


def test_plan_puts_kernels_on_the_gpu():
    on_cpu = ridge.plan_batches(9000, 1000, 5000, 10, 5, 64)
    on_gpu = ridge.plan_batches(9000, 1000, 5000, 10, 5, 64, device_gb=80)
    assert on_cpu["device_peak"] == 0
    assert 4 * 7 * 9000**2 < on_gpu["device_peak"] < 80e9
    with pytest.raises(InputError, match=r"`device`"):
        ridge.plan_batches(9000, 1000, 5000, 10, 5, 64, device_gb=1)


def test_plan_says_how_much_memory_is_needed():
    with pytest.raises(InputError, match=r"`memory_gb`") as caught:
        ridge.plan_batches(9000, 1000, 107_000, 10, 5, 2)
    needed = float(caught.value.findings[0].expected.split()[-1])
    assert ridge.plan_batches(9000, 1000, 107_000, 10, 5, needed)["peak"] <= 1e9 * needed
    ample = float(caught.value.findings[0].remedy.split()[3])
    assert ridge.plan_batches(9000, 1000, 107_000, 10, 5, ample)["voxels"] == 107_000


def scarce(monkeypatch, method, limit):
    """Let himalaya's fit run out of memory with more targets at once than a limit."""
    sizes = []

    def fit(self, X, y):
        sizes.append((self.solver_params["n_targets_batch"], self.solver_params["n_alphas_batch"]))
        if sizes[-1][0] > limit:
            raise torch.OutOfMemoryError("no room\nand more")
        return original(self, X, y)

    original = method.fit
    monkeypatch.setattr(method, "fit", fit)
    return sizes


def test_fits_that_do_not_fit_are_halved_and_stay_small(monkeypatch):
    set_backend("torch")
    X, X_test, Y, _ = simulate()
    folds = ridge.group_folds(np.arange(len(X)), 5, 0)
    given = X @ X.T, X_test @ X.T, Y, ALPHAS, folds
    wanted = ridge.fit_ridge(*given, dict(BATCHES))
    sizes, batches = scarce(monkeypatch, ridge.KernelRidgeCV, 30), dict(BATCHES)
    for found, expected in zip(ridge.fit_ridge(*given, batches), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert sizes == [(100, 10), (50, 5), (25, 2)]
    ridge.fit_ridge(*given, batches)
    assert sizes[3:] == [(25, 2)]


def test_a_fit_that_never_fits_is_named(monkeypatch):
    set_backend("torch")
    X, X_test, Y, _ = simulate()
    scarce(monkeypatch, ridge.KernelRidgeCV, 0)
    folds = ridge.group_folds(np.arange(len(X)), 5, 0)
    with pytest.raises(InputError, match=r"`device`: .* found no room. Set it to cpu"):
        ridge.fit_ridge(X @ X.T, X_test @ X.T, Y, ALPHAS, folds, dict(BATCHES))

"""Statistics against closed forms, simulations and independent code."""

import numpy as np
import pytest
from scipy.stats import pearsonr
from scipy.stats import zscore as scipy_zscore
from sklearn.metrics import r2_score

from nsdldm import stats
from nsdldm.support.errors import InputError


def simulate_trials(rng, n_images, n_voxels, ratio, repeats=3):
    """Standardised betas of images shown `repeats` times, with a known signal-to-noise ratio."""
    nsd_ids = rng.permutation(np.repeat(np.arange(n_images), repeats))
    signal = rng.standard_normal((n_images, n_voxels)) * ratio / np.sqrt(1 + ratio**2)
    noise = rng.standard_normal((len(nsd_ids), n_voxels)) / np.sqrt(1 + ratio**2)
    return (signal[nsd_ids] + noise).astype(np.float32), nsd_ids


def test_zscore_uses_the_training_trials_of_the_same_session():
    rng = np.random.default_rng(0)
    sessions = np.repeat([4, 7], 20)
    train = np.tile([True, True, True, False], 10)
    betas = rng.normal(3, 2, (40, 5)) + 10 * sessions[:, None]
    scores = stats.zscore_sessions(betas, sessions, train)
    assert scores.dtype == np.float32
    for session in (4, 7):
        rows = sessions == session
        fitted = betas[rows & train]
        expected = (betas[rows] - fitted.mean(0)) / fitted.std(0, ddof=1)
        np.testing.assert_allclose(scores[rows], expected, rtol=1e-5, atol=1e-5)
        own = scipy_zscore(fitted, axis=0, ddof=1)
        np.testing.assert_allclose(scores[rows & train], own, rtol=1e-5, atol=1e-5)


def test_zscore_ignores_what_test_trials_are():
    rng = np.random.default_rng(1)
    betas, sessions = rng.standard_normal((20, 3)), np.ones(20, int)
    train = np.arange(20) < 15
    changed = betas.copy()
    changed[~train] += 100
    first = stats.zscore_sessions(betas, sessions, train)
    second = stats.zscore_sessions(changed, sessions, train)
    np.testing.assert_array_equal(first[train], second[train])


@pytest.mark.parametrize("value", [0.1, 1 / 3, np.nan])
def test_zscore_blanks_constant_and_missing_voxels_in_their_session_only(value):
    rng = np.random.default_rng(2)
    betas, sessions = rng.standard_normal((1500, 2)), np.repeat([1, 2], 750)
    betas[sessions == 1, 0] = value
    scores = stats.zscore_sessions(betas, sessions, np.ones(1500, bool))
    assert np.isnan(scores[sessions == 1, 0]).all()
    assert np.isfinite(scores[sessions == 2, 0]).all()
    assert np.isfinite(scores[:, 1]).all()


def test_zscore_leaves_single_missing_trials_out():
    betas = np.array([[1.0], [2.0], [np.nan], [3.0]])
    scores = stats.zscore_sessions(betas, np.ones(4, int), np.ones(4, bool))
    np.testing.assert_allclose(scores[:, 0], [-1, 0, np.nan, 1])


def test_zscore_refuses_a_session_without_training_trials():
    with pytest.raises(InputError, match="session 2"):
        stats.zscore_sessions(np.ones((4, 1)), [1, 1, 2, 2], [True, True, False, False])


def test_center_subtracts_the_training_mean():
    betas = np.array([[1.0, 5.0], [3.0, 5.0], [10.0, 5.0]], np.float32)
    centred = stats.center(betas, np.array([True, True, False]))
    np.testing.assert_allclose(centred[:, 0], [-1, 1, 8])
    assert np.isnan(centred[:, 1]).all()


def test_average_trials_by_hand():
    nsd_ids = np.array([30, 10, 30, 20, 10, 30, 99])
    betas = np.array([[1, 1], [2, 2], [3, np.nan], [4, np.nan], [6, 8], [8, 2], [50, 50]])
    averages, filled = stats.average_trials(betas.astype(np.float32), nsd_ids, [30, 20, 10])
    np.testing.assert_allclose(averages, [[4, 1.5], [4, 0], [4, 5]])
    assert filled == 1
    assert averages.dtype == np.float32


def test_average_trials_with_and_without_missing_values_agree():
    rng = np.random.default_rng(3)
    nsd_ids = rng.permutation(np.repeat(np.arange(30), 3))
    betas = rng.standard_normal((90, 4)).astype(np.float32)
    clean, none = stats.average_trials(betas, nsd_ids, np.arange(30))
    betas[5, 3] = np.nan
    holed, _ = stats.average_trials(betas, nsd_ids, np.arange(30))
    assert none == 0
    np.testing.assert_allclose(holed[:, :3], clean[:, :3], rtol=1e-6)
    expected = [betas[nsd_ids == image].mean(axis=0) for image in range(30)]
    np.testing.assert_allclose(clean[:, :3], np.array(expected)[:, :3], rtol=1e-4, atol=1e-6)


def test_average_trials_refuses_an_image_that_was_not_shown():
    with pytest.raises(InputError, match="image 5"):
        stats.average_trials(np.ones((2, 1), np.float32), np.array([1, 2]), [1, 5])


def test_correlate_and_r2_match_scipy_and_sklearn():
    rng = np.random.default_rng(4)
    a = rng.standard_normal((60, 6)).astype(np.float32) + 100
    b = a + 2 * rng.standard_normal((60, 6)).astype(np.float32)
    r = [pearsonr(a[:, column].astype(float), b[:, column].astype(float))[0] for column in range(6)]
    np.testing.assert_allclose(stats.correlate(a, b), r, rtol=1e-5)
    np.testing.assert_allclose(stats.r2(a, b), r2_score(a, b, multioutput="raw_values"), rtol=1e-4)


def test_scores_of_constant_columns_are_missing():
    varying = np.arange(12.0).reshape(6, 2)
    constant = np.full((6, 2), 0.1)
    assert np.isnan(stats.correlate(varying, constant)).all()
    assert np.isnan(stats.correlate(constant, varying)).all()
    assert np.isnan(stats.r2(constant, varying)).all()
    np.testing.assert_allclose(stats.r2(varying, np.full((6, 2), varying.mean(axis=0))), 0)
    np.testing.assert_allclose(stats.correlate(varying, -varying), -1)


def test_p_values_match_monte_carlo():
    rng = np.random.default_rng(5)
    n = 20
    null = stats.correlate(rng.standard_normal((n, 200_000)), rng.standard_normal((n, 200_000)))
    for r in (-0.3, 0.0, 0.2, 0.5):
        assert stats.p_values(r, n) == pytest.approx((null >= r).mean(), abs=0.004)
    uniform = stats.p_values(null, n)
    assert (uniform < 0.05).mean() == pytest.approx(0.05, abs=0.002)


def test_p_values_match_scipy_and_end_at_the_extremes():
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((2, 25))
    expected = pearsonr(a, b, alternative="greater")
    assert stats.p_values(expected[0], 25) == pytest.approx(expected[1])
    np.testing.assert_allclose(stats.p_values([1, -1, np.nan], 25), [0, 1, np.nan])


def test_fdr_by_hand():
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.9, np.nan])
    # Of five tests the thresholds are 0.01 k: ranks 1 and 2 are 0.005 and 0.01, both below;
    # ranks 3 and 4 are 0.03 and 0.04, just passing; rank 5 is 0.9.
    assert stats.fdr(p, 0.05).tolist() == [True, True, True, True, False, False]
    assert stats.fdr(p, 0.0499).tolist() == [True, False, False, True, False, False]
    assert not stats.fdr(np.full(3, np.nan), 0.05).any()


def test_ncsnr_by_hand():
    # One image shown three times: variance over trials 0.25; the other is shown twice.
    betas = np.array([[0.5], [9.0], [1.0], [1.5], [-9.0]])
    nsd_ids = np.array([7, 3, 7, 7, 3])
    np.testing.assert_allclose(stats.ncsnr(betas, nsd_ids), np.sqrt(0.75 / 0.25))
    betas[2] = np.nan
    assert np.isnan(stats.ncsnr(betas, nsd_ids)).all()


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_ncsnr_finds_a_simulated_ratio(ratio):
    betas, nsd_ids = simulate_trials(np.random.default_rng(7), 2000, 20, ratio)
    found = stats.ncsnr(betas, nsd_ids)
    assert np.square(found).mean() == pytest.approx(ratio**2, abs=0.03)


def test_compute_ncsnr_removes_scale_and_shift_of_sessions():
    betas, nsd_ids = simulate_trials(np.random.default_rng(8), 500, 10, 0.6)
    sessions = np.repeat([1, 2, 3], 500)
    scaled = betas * sessions[:, None] * 7 + 20 * sessions[:, None]
    np.testing.assert_allclose(
        stats.compute_ncsnr(scaled, sessions, nsd_ids),
        stats.compute_ncsnr(betas, sessions, nsd_ids),
        atol=1e-3,
    )
    assert stats.compute_ncsnr(scaled, sessions, nsd_ids).mean() == pytest.approx(0.6, abs=0.08)


def test_noise_ceiling_is_the_release_formula():
    ratio = np.array([0.0, 0.5, 1.0, np.nan])
    # 100 ncsnr² / (ncsnr² + 1/n), in percent of variance, for n = 3.
    expected = np.sqrt(ratio**2 / (ratio**2 + 1 / 3))
    np.testing.assert_allclose(stats.noise_ceiling(ratio, [3, 3, 3]), expected)
    # A = 2 images with three trials, B = 1 with two, C = 1 with one.
    mixed = (2 / 3 + 1 / 2 + 1) / 4
    found = stats.noise_ceiling(np.array([0.8]), [3, 2, 3, 1])
    np.testing.assert_allclose(found, np.sqrt(0.64 / (0.64 + mixed)))


def test_noise_ceiling_is_the_correlation_of_a_perfect_model():
    rng = np.random.default_rng(9)
    ratio, n_images, n_voxels = 0.5, 4000, 20
    repeats = rng.choice([1, 2, 3], n_images)
    signal = ratio * rng.standard_normal((n_images, n_voxels))
    noise = rng.standard_normal((n_images, n_voxels)) / np.sqrt(repeats)[:, None]
    reached = stats.correlate(signal, signal + noise).mean()
    assert stats.noise_ceiling(ratio, repeats) == pytest.approx(reached, abs=0.01)

"""Statistics against closed forms, simulations and independent code."""

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import r2_score

from nsdldm import stats


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


def test_reliability_of_halves_is_that_of_the_whole():
    rng = np.random.default_rng(7)
    score, *noise = rng.standard_normal((5, 100_000))
    halves = [score + each for each in noise[:2]]
    # The mean of two halves has half the noise; as much new data correlates by 1 / 1.5.
    assert np.corrcoef(*halves)[0, 1] == pytest.approx(1 / 2, abs=0.01)
    assert stats.double_reliability(*halves) == pytest.approx(1 / 1.5, abs=0.01)
    assert abs(stats.double_reliability(*noise[:2])) < 0.02


def test_reliability_is_bounded_and_ignores_what_is_missing():
    a = np.array([1.0, 2, 3, np.nan, 7])
    assert stats.double_reliability(a, a) == pytest.approx(1)
    assert stats.double_reliability(a, -a) == pytest.approx(-1)
    b = np.array([np.nan, 5, 1, 0, 2])
    r = np.corrcoef([2, 3, 7], [5, 1, 2])[0, 1]
    assert stats.double_reliability(a, b) == pytest.approx(2 * r / (1 - r))
    assert np.isnan(stats.double_reliability(a[:2], a[:2]))
    assert np.isnan(stats.double_reliability(a, np.ones(5)))


def test_correlations_without_each_row():
    rng = np.random.default_rng(8)
    a, b = rng.normal(3, 2, (2, 9, 4))
    b[:, 3] = 1.5
    found = stats.leave_out_r(a, b)
    assert found.shape == (9, 4)
    for row in range(9):
        expected = stats.correlate(np.delete(a, row, 0), np.delete(b, row, 0))
        np.testing.assert_allclose(found[row], expected, atol=1e-10)

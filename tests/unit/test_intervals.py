import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from nsdldm.intervals import (
    bootstrap_group,
    bootstrap_interval,
    bootstrap_runs,
    draw_counts,
)


def test_interval_is_that_of_scipy_and_of_the_normal_law():
    values = np.random.default_rng(0).normal(3, 2, (400, 2))
    low, high = bootstrap_interval(values, 4000, 1)
    for k in range(2):
        column = values[:, k]
        expected = bootstrap((column,), np.mean, n_resamples=4000, method="percentile", rng=2)
        interval = expected.confidence_interval
        assert (low[k], high[k]) == pytest.approx((interval.low, interval.high), abs=0.02)
        width = norm.ppf(0.975) * column.std() / np.sqrt(400)
        assert (low[k], high[k]) == pytest.approx(
            (column.mean() - width, column.mean() + width), abs=0.03
        )


def test_every_draw_has_as_many_images_as_there_are():
    counts = draw_counts(17, 50, 0)
    assert (counts.sum(axis=1) == 17).all()
    np.testing.assert_array_equal(counts, draw_counts(17, 50, 0))
    assert not np.array_equal(counts, draw_counts(17, 50, 1))


def test_constant_values_have_no_width():
    low, high = bootstrap_interval(np.full((9, 1), 0.25), 100, 0)
    assert low == high == pytest.approx(0.25)


def test_subjects_who_saw_the_same_images_do_not_narrow_the_interval():
    rng = np.random.default_rng(0)
    ids, values = np.arange(200) * 7, rng.normal(size=200)
    alone = bootstrap_group([(ids, values)], 2000, 0)
    np.testing.assert_allclose(alone, np.ravel(bootstrap_interval(values[:, None], 2000, 0)))
    same = bootstrap_group([(ids, values), (ids[::-1], values[::-1])], 2000, 0)
    np.testing.assert_allclose(same, alone)
    others = bootstrap_group([(ids, values), (ids + 1, rng.permutation(values))], 2000, 0)
    assert others[1] - others[0] < 0.8 * (alone[1] - alone[0])


def test_subjects_count_alike_however_many_images_they_saw():
    many, few = (np.arange(100), np.zeros(100)), (np.arange(3), np.ones(3))
    low, high = bootstrap_group([many, few], 500, 0)
    assert low == high == pytest.approx(0.5)


def test_an_interval_over_runs_and_images_has_the_variance_of_a_crossed_design():
    rng = np.random.default_rng(0)
    runs, images = rng.normal(0, 0.5, 12), rng.normal(0, 2, 300)
    values = 1 + runs[:, None] + images + rng.normal(0, 0.1, (12, 300))
    low, high = bootstrap_runs(values, 20000, 1)
    # Of a mean over independent runs and images, whose own noise hardly counts.
    width = norm.ppf(0.975) * np.sqrt(runs.var() / 12 + images.var() / 300)
    assert (low, high) == pytest.approx((values.mean() - width, values.mean() + width), abs=0.03)


def test_runs_that_are_all_alike_have_the_interval_of_one():
    values = np.random.default_rng(0).normal(size=200)
    alone = np.ravel(bootstrap_interval(values[:, None], 2000, 0))
    np.testing.assert_allclose(bootstrap_runs(np.stack([values] * 3), 2000, 0), alone)

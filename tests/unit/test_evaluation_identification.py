from math import comb

import numpy as np
import pytest
from scipy.stats import pearsonr
from torch import from_numpy
from torchmetrics.functional import pairwise_cosine_similarity

from nsdldm.evaluation import identification
from nsdldm.evaluation.identification import (
    correlate_features,
    correlate_rows,
    derange,
    identify,
    score_n_way,
)
from nsdldm.support.errors import InputError


def make_features(n=7, n_samples=5, d=400, seed=0, signal=0.04):
    rng = np.random.default_rng(seed)
    original = rng.standard_normal((n, d)).astype(np.float32)
    generated = rng.standard_normal((n, n_samples, d)) + signal * original[:, None]
    return 3 * original + 50, generated.astype(np.float32)


def published_correlations(original, generated):
    """The double loop, with the mean over samples that the comparison takes."""
    n = len(original)
    r = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            r[i, j] = np.corrcoef(original[i], generated[j])[0, 1:].mean()
    return r


def published_identification(r, original_fixed):
    shares = []
    for i in range(len(r)):
        others = [j for j in range(len(r)) if j != i]
        wins = [r[i, i] > (r[i, j] if original_fixed else r[j, i]) for j in others]
        shares.append(sum(wins) / len(wins))
    return np.array(shares)


@pytest.mark.parametrize("block", [10**9, 50_000])
def test_correlations_and_identification_equal_the_published_loop(block, monkeypatch):
    monkeypatch.setattr(identification, "BLOCK_BYTES", block)
    original, generated = make_features()
    r, loop = correlate_features(original, generated), published_correlations(original, generated)
    np.testing.assert_allclose(r, loop, rtol=0, atol=1e-14)
    for found, fixed in zip(identify(r), (True, False), strict=True):
        np.testing.assert_array_equal(found, published_identification(loop, fixed))
    directions = identify(r)
    assert not np.array_equal(*directions)
    assert 0.5 < directions[0].mean() < 1


def test_correlations_equal_scipy_and_torchmetrics():
    original, generated = make_features(n=4, n_samples=1)
    r = correlate_rows(original, generated[:, 0])
    assert r[1, 2] == pytest.approx(pearsonr(*map(np.float64, (original[1], generated[2, 0])))[0])
    centred = [
        from_numpy(x.astype(float) - x.astype(float).mean(1, keepdims=True))
        for x in (original, generated[:, 0])
    ]
    np.testing.assert_allclose(r, pairwise_cosine_similarity(*centred), atol=1e-12)


def test_small_variance_on_a_large_mean_survives():
    rng = np.random.default_rng(0)
    a = (1e4 + rng.standard_normal((3, 5000))).astype(np.float32)
    np.testing.assert_allclose(correlate_rows(a, a), np.corrcoef(a.astype(float)), atol=1e-13)


def test_mean_over_samples_comes_before_the_comparison():
    # One sample of image 1 wins by little and one loses by much.
    original = np.array([[1.0, 0, -1, 0], [0, 1.0, 0, -1]])
    generated = np.array([[[1, 0, -1, 0], [-1, 0.1, 1, 0]], [[0.1, 1, 0, -1], [0.1, 1, 0, -1]]])
    r = correlate_features(original, generated)
    assert r[0, 0] < r[0, 1]
    np.testing.assert_array_equal(identify(r)[0], [0, 1])


def test_direction_is_what_stays_fixed():
    # Seen picture 0 is most like reconstruction 1, but reconstruction 0 most like seen picture 0.
    r = np.array([[0.5, 0.9, 0.0], [0.1, 0.95, 0.2], [0.3, 0.1, 0.4]])
    original, reconstruction = identify(r)
    np.testing.assert_array_equal(original, [0.5, 1, 1])
    np.testing.assert_array_equal(reconstruction, [1, 1, 1])
    assert (r < np.diag(r)).sum(0).mean() / 2 == reconstruction.mean()  # Brain-Diffuser's formula


def test_ties_are_half_identified_and_missed_as_published():
    original, generated = make_features()
    same = np.repeat(generated[:1], len(generated), axis=0)
    # Another order of the samples changes the last bit of their mean.
    same[1] = same[1, ::-1]
    r = correlate_features(original, same)
    original_fixed, reconstruction_fixed = identify(r)
    np.testing.assert_array_equal(original_fixed, 0.5)
    assert reconstruction_fixed.mean() == 0.5
    np.testing.assert_array_equal(identify(r, tie=0)[0], 0)
    # Of three others one loses, one ties and one wins.
    r = np.array([[0.5, 0.4, 0.5, 0.6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert identify(r)[0][0] == (1 + 0.5 + 0) / 3
    assert identify(r, tie=0)[0][0] == 1 / 3


@pytest.mark.parametrize("seen", [True, False])
def test_constant_features_are_missed_as_in_the_published_loop(seen):
    """Also where another's are constant, and where only one sample is: NaN is never greater."""
    original, generated = make_features(signal=-0.3)
    if seen:
        original[2] = 0.1
    generated[3], generated[4, 0] = 0, 7
    generated[5, 0] = 1e30 * generated[5, 1]
    with np.errstate(invalid="ignore"):
        loop = published_correlations(original, generated)
    assert np.isnan(loop).any() and (loop[0, 1:3] < 0).any()
    r = correlate_features(original, generated)
    np.testing.assert_array_equal(np.isnan(r), np.isnan(loop))
    for found, fixed in zip(identify(r), (True, False), strict=True):
        np.testing.assert_array_equal(found, published_identification(loop, fixed))
        assert not found[[3, 4]].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_undefined_features_are_refused(value):
    original, generated = make_features()
    generated[1, 2, 3] = value
    with pytest.raises(InputError, match="undefined ones in row 7"):
        correlate_features(original, generated)


def test_n_way_equals_drawing_the_classes():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((3, 2, 30)), np.array([[4, 4], [0, 0], [29, 29]])
    found = score_n_way(logits, labels, 5)
    for place in np.ndindex(3, 2):
        own, others = labels[place], np.delete(np.arange(30), labels[place])
        better = sum(logits[place][k] > logits[place][own] for k in others)
        assert found[place] == pytest.approx(comb(29 - better, 4) / comb(29, 4), rel=1e-12)
        draws = np.argsort(rng.random((4000, 29)), axis=1)[:, :4]
        wins = (logits[place][others[draws]] < logits[place][own]).all(axis=1).mean()
        assert found[place] == pytest.approx(wins, abs=0.04)


@pytest.mark.parametrize("n", [2, 50, 1000])
def test_n_way_at_its_ends(n):
    scores = np.arange(1000.0)[None]
    assert score_n_way(scores, np.array([999]), n) == pytest.approx(1, rel=1e-9)
    assert score_n_way(scores, np.array([0]), n) == 0
    # Ties go to the label.
    assert score_n_way(np.zeros((1, 1000)), np.array([7]), n) == pytest.approx(1, rel=1e-9)
    expected = comb(998, n - 1) / comb(999, n - 1)
    assert score_n_way(scores, np.array([998]), n) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_derangement_moves_everything_and_keeps_its_seed(n):
    partners = derange(n, 3)
    assert sorted(partners) == list(range(n))
    assert (partners != np.arange(n)).all()
    np.testing.assert_array_equal(partners, derange(n, 3))

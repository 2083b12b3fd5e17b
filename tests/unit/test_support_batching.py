import numpy as np
import pytest
import torch

from nsdldm.support.batching import draw_noise, run_batched, run_images
from nsdldm.support.errors import InputError

CPU = torch.device("cpu")


def limited(limit, calls=None):
    """A function that has memory for `limit` images only."""

    def function(batch):
        size = batch.stop - batch.start
        if calls is not None:
            calls.append((batch.start, size))
        if size > limit:
            raise torch.OutOfMemoryError(f"no room for {size}\nand more")
        return np.arange(batch.start, batch.stop, dtype=float)

    return function


@pytest.mark.parametrize("n", [0, 1, 7, 16])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_slices_cover_all_images_in_order(n, batch_size):
    results = list(run_batched(limited(100), n, batch_size, CPU))
    assert all(batch.stop - batch.start <= batch_size for batch, _ in results)
    found = [index for batch, _ in results for index in range(batch.start, batch.stop)]
    assert found == list(range(n))
    np.testing.assert_array_equal(np.concatenate([[], *(result for _, result in results)]), found)


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 15])
def test_batches_are_halved_until_they_fit_and_stay_small(limit, caplog):
    calls = []
    results = list(run_batched(limited(limit, calls), 37, 16, CPU))
    np.testing.assert_array_equal(np.concatenate([result for _, result in results]), np.arange(37))
    sizes = [size for _, size in calls]
    fitting = next(size for size in (16, 8, 4, 2, 1) if size <= limit)
    failed = [size for size in (16, 8, 4, 2) if size > limit]
    assert sizes[: len(failed)] == failed
    assert max(sizes[len(failed) :]) == fitting
    assert len(caplog.records) == len(failed)
    assert f"continuing with {fitting}" in caplog.text


def test_a_late_shortage_repeats_only_the_batch_that_failed():
    calls = []

    def function(batch):
        calls.append((batch.start, batch.stop))
        if batch == slice(4, 8):
            raise torch.OutOfMemoryError
        return None

    assert [batch for batch, _ in run_batched(function, 9, 4, CPU)] == [
        slice(0, 4),
        slice(4, 6),
        slice(6, 8),
        slice(8, 9),
    ]
    assert calls == [(0, 4), (4, 8), (4, 6), (6, 8), (8, 9)]


def test_one_image_that_does_not_fit_is_explained():
    with pytest.raises(InputError, match=r"memory for one image, found no room for 1\. Use a GPU"):
        list(run_batched(limited(0), 5, 4, CPU))


def test_other_errors_pass():
    def function(batch):
        raise RuntimeError("unrelated")

    with pytest.raises(RuntimeError, match="unrelated"):
        list(run_batched(function, 5, 4, CPU))


def test_images_come_one_by_one_with_their_results():
    results = list(run_images(limited(3), 10, 8, CPU, "numbers"))
    assert results == [(index, float(index)) for index in range(10)]


def test_results_that_are_not_finite_are_refused():
    def function(batch):
        return [(np.ones(2), np.full(2, np.inf if index == 3 else 1.0)) for index in range(5)]

    with pytest.raises(InputError, match=r"finite values of z.* image 3 of 5.*float32"):
        list(run_images(function, 5, 5, CPU, "z"))


def test_too_few_results_are_noticed():
    with pytest.raises(ValueError, match="shorter"):
        list(run_images(lambda batch: np.zeros(2), 3, 3, CPU, "z"))


def test_noise_belongs_to_the_image():
    noise = draw_noise(5, [7, 3, 72_999, 3], (4, 2, 2))
    assert noise.dtype == np.float32
    assert noise.shape == (4, 4, 2, 2)
    np.testing.assert_array_equal(noise[1], noise[3])
    for row, number in zip(noise, [7, 3, 72_999, 3], strict=True):
        np.testing.assert_array_equal(draw_noise(5, [number], (4, 2, 2))[0], row)
        stream = np.random.default_rng([5, number, 0])
        np.testing.assert_array_equal(stream.standard_normal((4, 2, 2), np.float32), row)


def test_noise_is_standard_normal_and_independent_over_seeds_images_and_samples():
    draws = [draw_noise(*key[:2], (5000,), key[2])[0] for key in KEYS]
    np.testing.assert_allclose(np.mean(draws, 1), 0, atol=0.06)
    np.testing.assert_allclose(np.std(draws, 1), 1, atol=0.04)
    np.testing.assert_allclose(np.corrcoef(draws), np.eye(len(KEYS)), atol=0.06)


KEYS = [(0, [0], 0), (1, [0], 0), (0, [1], 0), (0, [0], 1), (42, [72_999], 4), (72_999, [42], 4)]

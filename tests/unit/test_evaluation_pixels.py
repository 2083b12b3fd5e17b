import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import pearsonr
from skimage.color import rgb2gray
from skimage.metrics import mean_squared_error, structural_similarity
from torchmetrics.functional import pearson_corrcoef
from torchmetrics.functional.image import structural_similarity_index_measure

from nsdldm.evaluation import pixels


def make_pictures(side=40, other=None, seed=0):
    """Two smooth pictures that are alike."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (8, 8, 3), "u1")
    resized = [Image.fromarray(small).resize((size, size)) for size in (side, other or side)]
    seen, made = (np.asarray(picture).astype(int) for picture in resized)
    made = made + rng.integers(-40, 40, made.shape)
    return seen.astype("u1"), np.clip(made, 0, 255).astype("u1")


def compare(seen, made):
    prepared = pixels.prepare_picture(seen)
    return pixels.compare_pictures(prepared, pixels.prepare_picture(made, seen.shape[:2]))


def test_metrics_equal_other_libraries():
    seen, made = make_pictures()
    found = compare(seen, made)
    assert tuple(found) == pixels.METRICS
    a, b = seen / 255, made / 255
    assert found["pixcorr"] == pytest.approx(pearsonr(a.ravel(), b.ravel())[0], abs=1e-12)
    tensors = [torch.from_numpy(x.ravel()) for x in (a, b)]
    assert found["pixcorr"] == pytest.approx(pearson_corrcoef(*tensors).item(), abs=1e-6)
    assert found["mse"] == pytest.approx(mean_squared_error(a, b), abs=1e-15)
    assert found["mse-255"] == pytest.approx(
        mean_squared_error(seen.astype(float), made.astype(float))
    )
    assert found["mse-signed"] == pytest.approx(mean_squared_error(2 * a - 1, 2 * b - 1))


def test_ssim_equals_torchmetrics():
    seen, made = make_pictures(seed=1)
    grey = [torch.from_numpy(rgb2gray(x / 255))[None, None] for x in (seen, made)]
    _, whole = structural_similarity_index_measure(
        *grey, sigma=1.5, data_range=1.0, return_full_image=True
    )
    # scikit-image leaves out what the kernel sees past the edge.
    inside = whole[..., 5:-5, 5:-5].mean().item()
    assert compare(seen, made)["ssim"] == pytest.approx(inside, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_ssim_of_columns_is_what_old_scikit_image_computed(seed):
    seen, made = make_pictures(seed=seed)
    grey = rgb2gray(seen / 255), rgb2gray(made / 255)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    found = compare(seen, made)
    for name, axis in (("ssim", None), ("ssim-bd", -1)):
        expected = structural_similarity(*grey, data_range=1, channel_axis=axis, **options)
        assert found[name] == pytest.approx(expected, abs=1e-12)
    assert found["ssim"] != pytest.approx(found["ssim-bd"], abs=0.01)


def test_made_picture_takes_the_size_of_the_seen_one():
    seen, made = make_pictures(425, 512)
    resized = np.asarray(Image.fromarray(made).resize((425, 425)))  # Brain-Diffuser's call
    found = compare(seen, made)
    expected = np.corrcoef((seen / 255).ravel(), (resized / 255).ravel())[0, 1]
    assert found["pixcorr"] == pytest.approx(expected, abs=1e-12)
    assert found["corr16"] != pytest.approx(compare(seen, resized)["corr16"], abs=1e-12)


@pytest.mark.parametrize("side", [16, 48, 50, 425])
def test_blocks_share_the_pixels_on_their_edges(side):
    picture = np.random.default_rng(0).random((side, side, 3))
    # Each pixel repeated 16 times, blocks are whole.
    fine = picture.repeat(16, axis=0).repeat(16, axis=1) if side < 100 else None
    found = pixels.average_blocks(picture)
    assert found.shape == (16, 16, 3)
    assert found.mean() == pytest.approx(picture.mean())
    if fine is not None:
        expected = fine.reshape(16, side, 16, side, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_coarse_correlation_ignores_detail_and_scale():
    rng = np.random.default_rng(0)
    seen = rng.integers(100, 150, (16, 16, 3), "u1").repeat(3, axis=0).repeat(3, axis=1)
    coarse = pixels.prepare_picture(seen).coarse
    opposite = pixels.centre(0.3 - 0.1 * coarse.values)
    assert pixels.correlate(coarse, opposite) == pytest.approx(-1)
    detail = np.tile([0, 30, -30], 16)[None, :, None]
    assert compare(seen, (seen + detail).astype("u1"))["corr16"] == pytest.approx(1)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_constant_pictures_have_defined_scores(level):
    seen, _ = make_pictures()
    flat = np.full_like(seen, level)
    for pair in ((seen, flat), (flat, seen), (flat, flat)):
        found = compare(*pair)
        assert np.isfinite(list(found.values())).all()
        assert found["pixcorr"] == found["corr16"] == 0
    assert found["ssim"] == found["ssim-bd"] == pytest.approx(1)
    assert found["mse"] == 0

"""Compare pictures pixel by pixel, with every size and scale fixed.

A made picture is resized to the seen one (bicubic, as Brain-Diffuser does); the seen one never.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

COARSE = 16
METRICS = ("pixcorr", "ssim", "ssim-bd", "mse", "mse-signed", "mse-255", "corr16")

# Of Wang et al. (2004), as scikit-image has them.
SIGMA, TRUNCATE, K1, K2 = 1.5, 3.5, 0.01, 0.03


class Picture(NamedTuple):
    """A picture in the forms that are compared.

    Parameters
    ----------
    rgb : float64 array of shape (height, width, 3)
        From 0 to 1, of the seen picture's size.
    grey : float64 array of shape (height, width)
        Luminance.
    coarse : float64 array of shape (16, 16, 3)
        Means of blocks of the picture in its own size.
    """

    rgb: np.ndarray
    grey: np.ndarray
    coarse: np.ndarray


def prepare_picture(picture: np.ndarray, size: tuple[int, ...] | None = None) -> Picture:
    """Bring a picture into the forms that are compared.

    Parameters
    ----------
    picture : uint8 array of shape (height, width, 3)
    size : tuple of int
        Height and width of the picture that it is to be compared with.

    Returns
    -------
    Picture
    """
    resized = picture
    if size and tuple(size) != picture.shape[:2]:
        image = Image.fromarray(picture)
        resized = np.asarray(image.resize(tuple(size)[::-1], Image.Resampling.BICUBIC))
    rgb = resized / 255
    return Picture(rgb, rgb2gray(rgb), average_blocks(picture / 255))


def compare_pictures(seen: Picture, made: Picture) -> dict[str, float]:
    """Compare a seen and a made picture.

    Parameters
    ----------
    seen, made : Picture
        With `rgb` of one size.

    Returns
    -------
    dict of str to float
        Keys `METRICS`. A correlation with a constant picture is 0.
    """
    error = float(np.square(seen.rgb - made.rgb).mean())
    return {
        "pixcorr": correlate(seen.rgb, made.rgb),
        "ssim": measure_ssim(seen.grey, made.grey),
        "ssim-bd": measure_column_ssim(seen.grey, made.grey),
        "mse": error,
        "mse-signed": error * 2**2,
        "mse-255": error * 255**2,
        "corr16": correlate(seen.coarse, made.coarse),
    }


def correlate(a: np.ndarray, b: np.ndarray) -> float:
    """Correlate all values of two arrays of one shape (Pearson); 0 if either is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    a, b = (array.ravel() - array.mean() for array in (a, b))
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def average_blocks(picture: np.ndarray, n: int = COARSE) -> np.ndarray:
    """Average a picture over n x n equal blocks; a pixel on an edge counts in both by its area.

    Parameters
    ----------
    picture : float array of shape (height, width, channels)
        Of any size.
    n : int

    Returns
    -------
    float64 array of shape (n, n, channels)
    """
    rows, columns = (_block_weights(size, n) for size in picture.shape[:2])
    return np.einsum("ai,bj,ijc->abc", rows, columns, picture, optimize=True)


def _block_weights(size, n):
    """Share of each pixel in each of n equal parts of a side, shape (n, size)."""
    edges = np.linspace(0, size, n + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.maximum(overlap, 0) * n / size


def measure_ssim(seen: np.ndarray, made: np.ndarray) -> float:
    """Structural similarity of two grey pictures, as scikit-image 0.20 and later compute it.

    Parameters
    ----------
    seen, made : float64 arrays of shape (height, width)
        From 0 to 1, at least 11 pixels a side.

    Returns
    -------
    float
    """
    similarity = structural_similarity(
        seen,
        made,
        gaussian_weights=True,
        sigma=SIGMA,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=None,
    )
    return float(similarity)


def measure_column_ssim(seen: np.ndarray, made: np.ndarray) -> float:
    """Mean structural similarity of the columns of two grey pictures.

    What Brain-Diffuser's call gives with the scikit-image it pins (0.17), where
    ``multichannel=True`` takes the columns of a grey picture for channels. Equal to
    `structural_similarity` with ``channel_axis=-1``, which loops over the columns.

    Parameters
    ----------
    seen, made : float64 arrays of shape (height, width)
        From 0 to 1, at least 11 pixels high.

    Returns
    -------
    float
    """

    def blur(values):
        return gaussian_filter1d(values, SIGMA, axis=0, truncate=TRUNCATE)

    mean_seen, mean_made = blur(seen), blur(made)
    covariance = blur(seen * made) - mean_seen * mean_made
    variances = blur(seen**2) - mean_seen**2 + blur(made**2) - mean_made**2
    light = (2 * mean_seen * mean_made + K1**2) / (mean_seen**2 + mean_made**2 + K1**2)
    structure = (2 * covariance + K2**2) / (variances + K2**2)
    edge = int(TRUNCATE * SIGMA + 0.5)
    return float((light * structure)[edge:-edge].mean())

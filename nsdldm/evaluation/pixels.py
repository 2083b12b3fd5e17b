"""Compare pictures pixel by pixel, with every size and scale fixed.

A made picture is resized to the seen one (bicubic, as Brain-Diffuser does); the seen one never.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from skimage.color import rgb2gray

COARSE = 16
METRICS = ("pixcorr", "ssim", "ssim-bd", "mse", "mse-signed", "mse-255", "corr16")

# Of Wang et al. (2004), as scikit-image has them.
SIGMA, TRUNCATE, K1, K2 = 1.5, 3.5, 0.01, 0.03


class Centred(NamedTuple):
    """Values without their mean, and the sum of their squares, which is 0 if all are equal."""

    values: np.ndarray
    mean: float
    squares: float


class Picture(NamedTuple):
    """A picture in the forms that are compared.

    Parameters
    ----------
    rgb : Centred
        Of all values from 0 to 1, in the seen picture's size.
    grey : float64 array of shape (height, width)
        Luminance.
    coarse : Centred
        Of means over 16 x 16 blocks of the picture in its own size.
    columns, window : pair of float64 arrays of shape (height, width)
        Means of `grey` and of its square under the Gaussian of structural similarity, along columns
        and in two dimensions.
    """

    rgb: Centred
    grey: np.ndarray
    coarse: Centred
    columns: tuple[np.ndarray, np.ndarray]
    window: tuple[np.ndarray, np.ndarray]


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
    grey = rgb2gray(rgb)
    columns = blur(grey, axis=0), blur(grey**2, axis=0)
    window = blur(columns[0], axis=1), blur(columns[1], axis=1)
    coarse = average_blocks(picture / 255)
    return Picture(centre(rgb), grey, centre(coarse), columns, window)


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
    error = measure_error(seen.rgb, made.rgb)
    product = blur(seen.grey * made.grey, axis=0)
    edge = int(TRUNCATE * SIGMA + 0.5)
    columns = map_similarity(seen.columns, made.columns, product)
    window = map_similarity(seen.window, made.window, blur(product, axis=1))
    return {
        "pixcorr": correlate(seen.rgb, made.rgb),
        "ssim": float(window[edge:-edge, edge:-edge].mean()),
        "ssim-bd": float(columns[edge:-edge].mean()),
        "mse": error,
        "mse-signed": error * 2**2,
        "mse-255": error * 255**2,
        "corr16": correlate(seen.coarse, made.coarse),
    }


def centre(values: np.ndarray) -> Centred:
    """Take the mean out of an array of any shape, so that comparing it takes one product."""
    if np.ptp(values) == 0:
        return Centred(np.zeros(values.size), float(values.flat[0]), 0.0)
    mean = float(values.mean())
    values = values.ravel() - mean
    return Centred(values, mean, float(values @ values))


def correlate(a: Centred, b: Centred) -> float:
    """Correlate all values of two arrays of one shape (Pearson); 0 if either is constant."""
    if a.squares == 0 or b.squares == 0:
        return 0.0
    return float(np.clip(a.values @ b.values / np.sqrt(a.squares * b.squares), -1, 1))


def measure_error(a: Centred, b: Centred) -> float:
    """Mean squared difference between two arrays of one shape."""
    spread = a.squares + b.squares - 2 * float(a.values @ b.values)
    return max(spread, 0.0) / len(a.values) + (a.mean - b.mean) ** 2


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


def blur(values: np.ndarray, axis: int) -> np.ndarray:
    """Average float values of any shape along an axis under the Gaussian of structural
    similarity."""
    return gaussian_filter1d(values, SIGMA, axis=axis, truncate=TRUNCATE)


def map_similarity(
    seen: tuple[np.ndarray, np.ndarray], made: tuple[np.ndarray, np.ndarray], product: np.ndarray
) -> np.ndarray:
    """Structural similarity of two grey pictures around each pixel (Wang et al. 2004).

    In two dimensions it is that of scikit-image 0.20 and later, which leaves out what the Gaussian
    sees past the edge. Along columns it is what Brain-Diffuser's call gives with the scikit-image
    it pins (0.17), where ``multichannel=True`` takes the columns of a grey picture for channels.
    Neither is called here since they blur the seen picture again for every made one.

    Parameters
    ----------
    seen, made : pair of float64 arrays of shape (height, width)
        Blurred picture, from 0 to 1, and blurred square of it.
    product : float64 array of shape (height, width)
        Blurred product of both pictures.

    Returns
    -------
    float64 array of shape (height, width)
    """
    means = seen[0] * made[0]
    squares = seen[0] ** 2 + made[0] ** 2
    light = (2 * means + K1**2) / (squares + K1**2)
    return light * (2 * (product - means) + K2**2) / (seen[1] + made[1] - squares + K2**2)

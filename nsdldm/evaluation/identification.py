"""Correlate features of originals and reconstructions, and identify which belongs to which.

Everything follows from the matrix of correlations r[i, j] between original i and the
reconstructions of image j. The larger correlation wins a comparison; a tie counts one half, as a
guess would, whereas it is a miss in the published code. Constant features correlate with nothing:
every comparison with them is a miss, as in the published code, where NaN is never greater.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from nsdldm.support.errors import Finding, InputError

# Bytes of the float64 copies of a block of columns.
BLOCK_BYTES = 64_000_000
# Correlations that differ by less count as equal: ten thousand times the rounding of float64.
TIE = 1e-12


def find_moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the moments that standardise the rows of a feature matrix.

    Parameters
    ----------
    features : float array of shape (n, d)

    Returns
    -------
    means : float64 array of shape (n,)
    varies : bool array of shape (n,)
        False for a constant row, whose variance may be above 0 because of rounding.

    Raises
    ------
    InputError
        A value is infinite or undefined.
    """
    means = features.mean(axis=1, dtype=np.float64)
    if not np.isfinite(means).all():
        found = f"infinite or undefined ones in row {np.flatnonzero(~np.isfinite(means))[0]}"
        remedy = "Check the weights of the network"
        raise InputError(Finding("features of pictures", "finite values", found, remedy))
    return means, np.ptp(features, axis=1) > 0


def correlate_rows(a: np.ndarray, b: np.ndarray, moments: tuple | None = None) -> np.ndarray:
    """Correlate every row of one matrix with every row of another (Pearson).

    Computed as a matrix product of centred rows in float64, summed over blocks of columns.

    Parameters
    ----------
    a : float array of shape (n, d)
    b : float array of shape (m, d)
    moments : tuple
        Those of `a`, as `find_moments` returns them, if known.

    Returns
    -------
    float64 array of shape (n, m)
        NaN where either row is constant.

    Raises
    ------
    InputError
        A value is infinite or undefined.
    """
    (mean_a, varies_a), (mean_b, varies_b) = moments or find_moments(a), find_moments(b)
    products = np.zeros((len(a), len(b)))
    squares_a, squares_b = np.zeros(len(a)), np.zeros(len(b))
    step = max(1, BLOCK_BYTES // (8 * (len(a) + len(b))))
    for start in range(0, a.shape[1], step):
        columns = slice(start, start + step)
        centred_a = a[:, columns] - mean_a[:, None]
        centred_b = b[:, columns] - mean_b[:, None]
        products += centred_a @ centred_b.T
        squares_a += np.einsum("ij,ij->i", centred_a, centred_a)
        squares_b += np.einsum("ij,ij->i", centred_b, centred_b)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = products / np.sqrt(squares_a)[:, None] / np.sqrt(squares_b)
    r[~varies_a], r[:, ~varies_b] = np.nan, np.nan
    return np.clip(r, -1, 1)


def correlate_features(original: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """Correlate the features of all originals with those of all reconstructions.

    As in the published code: r of the original with each sample, then the mean over samples.

    Parameters
    ----------
    original : float array of shape (n, d)
    generated : float array of shape (n, n_samples, d)

    Returns
    -------
    float64 array of shape (n, n)
        Rows are originals, columns the images that were reconstructed; NaN where any features are
        constant.

    Raises
    ------
    InputError
        A value is infinite or undefined.
    """
    n, n_samples, d = generated.shape
    r = correlate_rows(original, generated.reshape(n * n_samples, d))
    return r.reshape(len(original), n, n_samples).mean(axis=2)


def identify(r: np.ndarray, tie: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Two-way identification in both directions, against all other images.

    Parameters
    ----------
    r : float array of shape (n, n)
        As `correlate_features` returns it; n of at least 2.
    tie : float
        The value of a tie: 0 in the published code.

    Returns
    -------
    original, reconstruction : float64 arrays of shape (n,)
        For each image, the fraction of other images that lose. `original`: the original is compared
        with its own and with another image's reconstruction (``identification.py`` of Takagi &
        Nishimoto). `reconstruction`: the reconstruction is compared with its own and with another
        original (Brain-Diffuser and later work).
    """
    true = np.diag(r)

    def share(margins):
        # NaN is neither greater nor smaller than anything. The diagonal does not count.
        points = (margins > TIE) + tie * (np.abs(margins) <= TIE)
        return (points.sum(axis=1) - np.diag(points)) / (len(r) - 1)

    return share(true[:, None] - r), share((true - r).T)


def score_n_way(scores: np.ndarray, labels: np.ndarray, n_way: int) -> np.ndarray:
    """Probability that the label wins against n - 1 other classes drawn at random.

    The expectation of MinD-Vis' n-way top-1 accuracy, which draws the classes many times: C(N - 1 -
    b, n - 1) / C(N - 1, n - 1) for N classes, b of which score better than the label. A class that
    ties with the label loses.

    Parameters
    ----------
    scores : float array of shape (..., n_classes)
        Any increasing function of class probabilities, such as logits.
    labels : int array of shape (...)
    n_way : int
        From 2 to n_classes.

    Returns
    -------
    float64 array of shape (...)
    """
    own = np.take_along_axis(scores, labels[..., None], axis=-1)
    worse = scores.shape[-1] - 1 - (scores > own).sum(axis=-1)
    possible = worse >= n_way - 1
    # The factorials of n - 1 cancel.
    least = np.where(possible, worse, n_way - 1)
    log = gammaln(least + 1) - gammaln(least - n_way + 2)
    total = scores.shape[-1] - 1
    log -= gammaln(total + 1) - gammaln(total - n_way + 2)
    return np.where(possible, np.exp(log), 0.0)


def derange(n: int, seed: int) -> np.ndarray:
    """Draw a permutation that leaves no element in its place.

    Parameters
    ----------
    n : int
        At least 2.
    seed : int

    Returns
    -------
    int array of shape (n,)
    """
    order = np.random.default_rng(seed).permutation(n)
    partners = np.empty(n, np.int64)
    partners[order] = np.roll(order, 1)
    return partners

"""Statistics of voxel-wise models: scores and their significance."""

from __future__ import annotations

import numpy as np
from scipy import stats


def correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlate the columns of two matrices (Pearson).

    Parameters
    ----------
    a, b : float arrays of shape (n, n_voxels)

    Returns
    -------
    float64 array of shape (n_voxels,)
        NaN where a column is constant or not finite.
    """
    varies = (np.ptp(a, axis=0) > 0) & (np.ptp(b, axis=0) > 0)
    a = a - a.mean(axis=0, dtype=np.float64)
    b = b - b.mean(axis=0, dtype=np.float64)
    products = np.einsum("ij,ij->j", a, b)
    norms = np.sqrt(np.einsum("ij,ij->j", a, a)) * np.sqrt(np.einsum("ij,ij->j", b, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(varies, np.clip(products / norms, -1, 1), np.nan)


def r2(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """R²: the fraction of each column's variance that a prediction explains.

    Parameters
    ----------
    observed, predicted : float arrays of shape (n, n_voxels)

    Returns
    -------
    float64 array of shape (n_voxels,)
        1 - residual / total sum of squares about the mean of `observed`; at most 1, negative for
        a prediction worse than that mean, NaN where `observed` is constant or not finite.
    """
    residual = np.square(np.subtract(observed, predicted, dtype=np.float64)).sum(axis=0)
    total = np.square(observed - observed.mean(axis=0, dtype=np.float64)).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.ptp(observed, axis=0) > 0, 1 - residual / total, np.nan)


def leave_out_r(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlate the columns of two matrices (Pearson) without each of their rows.

    Parameters
    ----------
    a, b : float arrays of shape (n, n_voxels)

    Returns
    -------
    float64 array of shape (n, n_voxels)
        NaN where a column is constant without the row, or not finite.
    """
    n = len(a)
    a, b = (each - each.mean(axis=0, dtype=np.float64) for each in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        # Without a row, means move by the row's deviation divided by n - 1.
        products = (a * b).sum(axis=0) - a * b * n / (n - 1)
        squares = ((each**2).sum(axis=0) - each**2 * n / (n - 1) for each in (a, b))
        squares_a, squares_b = (np.where(each > 1e-12, each, np.nan) for each in squares)
        return np.clip(products / np.sqrt(squares_a * squares_b), -1, 1)


def share_r(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The contribution of each sample to the correlation of two columns.

    These are values of its influence function: resampling changes the correlation by the change in
    their mean, up to second-order terms.

    Parameters
    ----------
    observed, predicted : float arrays of shape (n, n_voxels)

    Returns
    -------
    float64 array of shape (n, n_voxels)
        Their mean over samples is the correlation; NaN where a column is constant or not finite.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (
            (each - each.mean(axis=0, dtype=np.float64)) / each.std(axis=0, dtype=np.float64)
            for each in (observed, predicted)
        )
        r = (a * b).mean(axis=0)
        return np.where(np.isfinite(r), r + a * b - r / 2 * (a**2 + b**2), np.nan)


def share_gain(observed: np.ndarray, without: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """The contribution of each sample to the gain in R² of one prediction over another.

    Parameters
    ----------
    observed, without, joint : float arrays of shape (n, n_voxels)
        The measured values, and the two predictions compared.

    Returns
    -------
    float64 array of shape (n, n_voxels)
        As `share_r`; their mean is R² of `joint` minus R² of `without`.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = np.square(observed - observed.mean(axis=0, dtype=np.float64))
        total = squares.mean(axis=0)
        gain = (np.square(observed - without) - np.square(observed - joint)) / total
        whole = gain.mean(axis=0)
        shares = gain - whole * (squares / total - 1)
        return np.where(np.ptp(observed, axis=0) > 0, shares, np.nan)


def p_values(r: np.ndarray, n: int) -> np.ndarray:
    """Test correlations against those of independent Gaussian vectors, one-sided.

    Parameters
    ----------
    r : float array of any shape
        Correlations.
    n : int
        Length of the correlated vectors.

    Returns
    -------
    float64 array of the same shape
        Probability of a correlation of `r` or more under the exact null (t with n - 2 degrees of
        freedom); NaN where `r` is.
    """
    r = np.asarray(r, np.float64)
    with np.errstate(divide="ignore"):
        t = r * np.sqrt((n - 2) / (1 - r**2))
    return stats.t.sf(t, n - 2)


def fdr(p: np.ndarray, q: float) -> np.ndarray:
    """Find the tests that pass a false discovery rate (Benjamini and Hochberg 1995).

    Parameters
    ----------
    p : float array of shape (n_tests,)
        p-values; NaN counts as no test.
    q : float
        False discovery rate.

    Returns
    -------
    bool array of shape (n_tests,)
    """
    p = np.asarray(p, np.float64)
    tested = np.isfinite(p)
    passed = np.zeros(p.shape, bool)
    if tested.any():
        passed[tested] = stats.false_discovery_control(p[tested], method="bh") <= q
    return passed


def double_reliability(a: np.ndarray, b: np.ndarray) -> float:
    """Reliability of a score from its values in both halves of the data, by Spearman and Brown.

    Parameters
    ----------
    a, b : float arrays of shape (n,)
        The score of each voxel or image in either half; those that are not finite in both are
        ignored.

    Returns
    -------
    float
        2 r / (1 + |r|), where r is the correlation of the halves: the correlation expected between
        the score of all data and that of as much new data. The absolute value bounds it by -1. NaN
        with fewer than three values, or where they do not vary.
    """
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3:
        return np.nan
    r = float(correlate(np.asarray(a)[known, None], np.asarray(b)[known, None])[0])
    return 2 * r / (1 + abs(r))

"""Statistics of voxel-wise models: z-scores, averages, scores, significance and noise ceilings.

Arrays of betas are (n_trials, n_voxels); a missing value is NaN. Noise ceilings follow the
release's own definition (Allen et al. 2022, Nature Neuroscience 25, methods, "Noise ceiling").
"""

import numpy as np
from scipy import stats
from scipy.sparse import csr_array

from nsdldm.support.errors import Finding, InputError


def _moments(values):
    """Mean and standard deviation (ddof 1) of each column, NaN where it is constant or empty."""
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    n = finite.sum(axis=0)
    # Rounding hides that a column is constant from its variance, not from its extremes.
    low = np.where(finite, values, np.inf).min(axis=0)
    varies = np.where(finite, values, -np.inf).max(axis=0) > low
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(finite, values, 0).sum(axis=0) / n
        squares = (np.where(finite, values - mean, 0) ** 2).sum(axis=0)
        std = np.sqrt(squares / (n - 1))
    return np.where(varies, mean, np.nan), np.where(varies, std, np.nan)


def zscore_sessions(betas, sessions, train):
    """z-score each voxel within each session by the statistics of its training trials.

    Parameters
    ----------
    betas : array of shape (n_trials, n_voxels)
        Any unit; NaN where invalid.
    sessions : int array of shape (n_trials,)
        The session of each trial.
    train : bool array of shape (n_trials,)
        The trials whose mean and standard deviation (ddof 1) are used.

    Returns
    -------
    float32 array of shape (n_trials, n_voxels)
        NaN in a session where a voxel's training trials are constant or all missing.

    Raises
    ------
    InputError
        A session has fewer than two training trials.
    """
    sessions, train = np.asarray(sessions), np.asarray(train, bool)
    scores = np.empty(betas.shape, np.float32)
    for session in np.unique(sessions):
        rows = sessions == session
        fitted = rows & train
        if fitted.sum() < 2:
            raise InputError(
                Finding(
                    f"session {session}",
                    "at least two training trials to z-score with",
                    str(fitted.sum()),
                    "Leave the session out, or turn encoding/zscore off",
                )
            )
        mean, std = _moments(betas[fitted])
        scores[rows] = (betas[rows] - mean) / std
    return scores


def center(betas, train):
    """Subtract each voxel's mean over the training trials.

    Parameters
    ----------
    betas : array of shape (n_trials, n_voxels)
    train : bool array of shape (n_trials,)

    Returns
    -------
    float32 array of shape (n_trials, n_voxels)
        NaN where a voxel's training trials are constant or all missing.
    """
    mean, _ = _moments(betas[np.asarray(train, bool)])
    return (betas - mean).astype(np.float32)


def average_trials(betas, nsd_ids, images):
    """Average each image's trials, leaving out missing values.

    Parameters
    ----------
    betas : float32 array of shape (n_trials, n_voxels)
        z-scored or centred, so that 0 is a voxel's mean.
    nsd_ids : int array of shape (n_trials,)
        The image of each trial.
    images : int array of shape (n_images,)
        The images wanted, each once; trials of others are ignored.

    Returns
    -------
    averages : float32 array of shape (n_images, n_voxels)
        0, the mean, where all of an image's trials are missing.
    n_filled : int
        Number of such values.

    Raises
    ------
    InputError
        An image has no trial.
    """
    images, nsd_ids = np.asarray(images), np.asarray(nsd_ids)
    wanted = np.flatnonzero(np.isin(nsd_ids, images))
    order = np.argsort(images)
    rows = order[np.searchsorted(images[order], nsd_ids[wanted])]
    shown = np.bincount(rows, minlength=len(images))
    if not shown.all():
        found = f"none of image {images[shown == 0][0]}"
        raise InputError(Finding("trials", "a trial of every image", found, "Tabulate them again"))
    member = (np.ones(len(wanted), np.float32), (rows, wanted))
    sums = csr_array(member, shape=(len(images), len(nsd_ids)))
    finite = np.isfinite(betas)
    if finite.all():
        return sums @ betas / shown[:, None].astype(np.float32), 0
    counts = sums @ finite.astype(np.float32)
    averages = sums @ np.where(finite, betas, np.float32(0)) / np.maximum(counts, 1)
    return averages, int((counts == 0).sum())


def correlate(a, b):
    """Correlate the columns of two matrices (Pearson).

    Parameters
    ----------
    a, b : arrays of shape (n, n_voxels)

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


def r2(observed, predicted):
    """Share of the variance of each column that a prediction explains.

    Parameters
    ----------
    observed, predicted : arrays of shape (n, n_voxels)

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


def share_r(observed, predicted):
    """What each sample adds to the correlation of two columns.

    Samples drawn anew change the correlation by the change of these means, but for terms of second
    order: they are its influence function.

    Parameters
    ----------
    observed, predicted : arrays of shape (n, n_voxels)

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


def share_gain(observed, without, joint):
    """What each sample adds to the gain in R² of one prediction over another.

    Parameters
    ----------
    observed, without, joint : arrays of shape (n, n_voxels)
        What was measured, and the predictions compared.

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


def p_values(r, n):
    """Test correlations against those of independent Gaussian vectors, one-sided.

    Parameters
    ----------
    r : array
        Correlations.
    n : int
        Length of the correlated vectors.

    Returns
    -------
    float64 array
        Probability of a correlation of at least `r` under the exact null (t with n - 2 degrees of
        freedom); NaN where `r` is.
    """
    r = np.asarray(r, np.float64)
    with np.errstate(divide="ignore"):
        t = r * np.sqrt((n - 2) / (1 - r**2))
    return stats.t.sf(t, n - 2)


def fdr(p, q):
    """Find the tests that pass a false discovery rate (Benjamini and Hochberg 1995).

    Parameters
    ----------
    p : array of shape (n_tests,)
        p-values; NaN is no test.
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


def ncsnr(betas, nsd_ids):
    """Noise-ceiling signal-to-noise ratio of z-scored betas.

    The noise variance is the variance over an image's three trials, averaged over images; what is
    left of the unit variance is signal.

    Parameters
    ----------
    betas : array of shape (n_trials, n_voxels)
        z-scored within sessions.
    nsd_ids : int array of shape (n_trials,)
        The image of each trial.

    Returns
    -------
    float32 array of shape (n_voxels,)
        Standard deviation of the signal over that of the noise, from images with exactly three
        trials; NaN without such images.
    """
    nsd_ids = np.asarray(nsd_ids)
    order = np.argsort(nsd_ids, kind="stable")
    _, first, counts = np.unique(nsd_ids[order], return_index=True, return_counts=True)
    trials = order[first[counts == 3][:, None] + np.arange(3)]
    variances = betas[trials].var(axis=1, ddof=1)
    known = np.isfinite(variances)
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = np.where(known, variances, 0).sum(axis=0, dtype=np.float64) / known.sum(axis=0)
        ratio = np.sqrt(np.maximum(0, 1 - noise) / noise)
    return np.where(noise > 0, ratio, np.nan).astype(np.float32)


def compute_ncsnr(betas, sessions, nsd_ids):
    """The release's ncsnr: z-score by all of a session's trials, then `ncsnr`.

    Parameters
    ----------
    betas : array of shape (n_trials, n_voxels)
        Single-trial betas; NaN where invalid.
    sessions, nsd_ids : int arrays of shape (n_trials,)
        Session and image of each trial.

    Returns
    -------
    float32 array of shape (n_voxels,)
    """
    scores = zscore_sessions(betas, sessions, np.ones(len(betas), bool))
    return ncsnr(scores, nsd_ids)


def noise_ceiling(ncsnr, repeats):
    """Largest correlation that a model can reach with averaged trials.

    Parameters
    ----------
    ncsnr : array of shape (n_voxels,)
        Noise-ceiling signal-to-noise ratio.
    repeats : int array of shape (n_images,)
        Number of trials averaged for each image.

    Returns
    -------
    array of shape (n_voxels,)
        sqrt(ncsnr² / (ncsnr² + mean(1 / repeats))): the square root of the release's noise
        ceiling in its form for images with different numbers of trials.
    """
    signal = np.square(ncsnr)
    return np.sqrt(signal / (signal + np.mean(1 / np.asarray(repeats))))

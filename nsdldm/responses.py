"""The responses that models are fitted to and tested on, made once from the betas of a region.

This is the only module that standardises betas, averages them over the trials of an image and fills
in missing values, and that computes the noise ceiling, by the release's own definition (Allen et
al. 2022, Nature Neuroscience 25, methods, "Noise ceiling"). Betas are (n_trials, n_voxels); a
missing value is NaN.

A form of the training responses is called ``{standard}/{rows}``:

* ``zscored``: z-scored within each session with its training trials; missing values are 0, the
  mean.
* ``centred``: the mean of the training trials is subtracted; missing values are 0, the mean.
* ``scaled``: standardised over all training trials, with missing values left at the 0 that the
  release stores for them, as in the published decoders.
* ``averages`` of the trials of each training image, or single ``trials``.

Test responses are always averages, in each standard. Trials of the split ``unused`` are left out of
everything. A session without training trials, as that of another test set, is standardised with all
its trials.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from nsdldm.splits import check_split
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import REMAKE, create_hdf5, load_array, load_table, open_hdf5

if TYPE_CHECKING:
    import h5py

logger = logging.getLogger(__name__)

STANDARDS = ("zscored", "centred", "scaled")
ROWS = ("averages", "trials")
# Trials and images that a case leaves out.
UNUSED = "unused"
# Bytes that standardising takes per trial and voxel (measured: 19 to 27).
WORKING = 30
# Columns read at once where only every n-th is wanted.
COLUMNS_AT_ONCE = 500


def _moments(values):
    """Mean and standard deviation (ddof 1) of each column, NaN where it is constant or empty."""
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    n = finite.sum(axis=0)
    # After rounding, the variance of a constant column may not be 0, but its range is.
    low = np.where(finite, values, np.inf).min(axis=0)
    varies = np.where(finite, values, -np.inf).max(axis=0) > low
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(finite, values, 0).sum(axis=0) / n
        squares = (np.where(finite, values - mean, 0) ** 2).sum(axis=0)
        std = np.sqrt(squares / (n - 1))
    return np.where(varies, mean, np.nan), np.where(varies, std, np.nan)


def zscore_sessions(betas: np.ndarray, sessions: np.ndarray, train: np.ndarray) -> np.ndarray:
    """z-score each voxel within each session, using the session's training trials.

    Parameters
    ----------
    betas : float array of shape (n_trials, n_voxels)
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


def center(betas: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Subtract each voxel's mean over the training trials.

    Parameters
    ----------
    betas : float array of shape (n_trials, n_voxels)
    train : bool array of shape (n_trials,)

    Returns
    -------
    float32 array of shape (n_trials, n_voxels)
        NaN where a voxel's training trials are constant or all missing.
    """
    mean, _ = _moments(betas[np.asarray(train, bool)])
    return (betas - mean).astype(np.float32)


def average_trials(
    betas: np.ndarray, nsd_ids: np.ndarray, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Average the trials of each image, ignoring missing values.

    Parameters
    ----------
    betas : float32 array of shape (n_trials, n_voxels)
        z-scored or centred, so that 0 is a voxel's mean.
    nsd_ids : int array of shape (n_trials,)
        The image of each trial.
    images : int array of shape (n_images,)
        The images to average, each once; trials of other images are ignored.

    Returns
    -------
    averages : float32 array of shape (n_images, n_voxels)
        0, the mean, where all trials of an image are missing.
    n_filled : int array of shape (n_voxels,)
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
    n_trials = np.bincount(rows, minlength=len(images))
    if not n_trials.all():
        found = f"none of image {images[n_trials == 0][0]}"
        raise InputError(Finding("trials", "a trial of every image", found, "Tabulate them again"))
    member = (np.ones(len(wanted), np.float32), (rows, wanted))
    sums = csr_array(member, shape=(len(images), len(nsd_ids)))
    finite = np.isfinite(betas)
    if finite.all():
        averages = sums @ betas / n_trials[:, None].astype(np.float32)
        return averages, np.zeros(betas.shape[1], int)
    counts = sums @ finite.astype(np.float32)
    averages = sums @ np.where(finite, betas, np.float32(0)) / np.maximum(counts, 1)
    return averages, (counts == 0).sum(axis=0)


def ncsnr(zscores: np.ndarray, nsd_ids: np.ndarray, pooled: bool = False) -> np.ndarray:
    """Noise-ceiling signal-to-noise ratio of z-scored betas.

    The noise variance is the variance over the three trials of an image, averaged over images; the
    remainder of the unit variance is signal.

    Parameters
    ----------
    zscores : float array of shape (n_trials, n_voxels)
        z-scored within sessions, using all trials.
    nsd_ids : int array of shape (n_trials,)
        The image of each trial.
    pooled : bool
        Use all images of at least two trials, each as often as it has degrees of freedom, as
        Gifford et al. (2026) do for NSD-synthetic; otherwise those of exactly three, as the
        release.

    Returns
    -------
    float32 array of shape (n_voxels,)
        Standard deviation of the signal divided by that of the noise; NaN without such images.
    """
    nsd_ids = np.asarray(nsd_ids)
    order = np.argsort(nsd_ids, kind="stable")
    _, first, counts = np.unique(nsd_ids[order], return_index=True, return_counts=True)
    total, weight = 0.0, 0
    for n in np.unique(counts[counts > 1]) if pooled else [3]:
        trials = order[first[counts == n][:, None] + np.arange(n)]
        variances = zscores[trials].var(axis=1, ddof=1)
        known = np.isfinite(variances)
        total += (n - 1) * np.where(known, variances, 0).sum(axis=0, dtype=np.float64)
        weight += (n - 1) * known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = np.divide(total, weight)
        ratio = np.sqrt(np.maximum(0, 1 - noise) / noise)
    known = np.where(noise > 0, ratio, np.nan).astype(np.float32)
    return np.broadcast_to(known, zscores.shape[1:]).copy()


def compute_ncsnr(
    betas: np.ndarray, sessions: np.ndarray, nsd_ids: np.ndarray, pooled: bool = False
) -> np.ndarray:
    """The release's ncsnr: z-score with all trials of a session, then call `ncsnr`.

    Parameters
    ----------
    betas : float array of shape (n_trials, n_voxels)
        Single-trial betas; NaN where invalid.
    sessions, nsd_ids : int arrays of shape (n_trials,)
        Session and image of each trial.
    pooled : bool
        As `ncsnr`.

    Returns
    -------
    float32 array of shape (n_voxels,)
    """
    scores = zscore_sessions(betas, sessions, np.ones(len(betas), bool))
    return ncsnr(scores, nsd_ids, pooled)


def noise_ceiling(ncsnr: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    """The highest correlation that a model can reach with averaged trials.

    Parameters
    ----------
    ncsnr : float array of shape (n_voxels,)
        Noise-ceiling signal-to-noise ratio.
    repeats : int array of shape (n_images,)
        Number of trials averaged for each image.

    Returns
    -------
    array of shape (n_voxels,)
        sqrt(ncsnr² / (ncsnr² + mean(1 / repeats))): the square root of the release's noise ceiling,
        in its form for images with different numbers of trials.
    """
    signal = np.square(ncsnr)
    return np.sqrt(signal / (signal + np.mean(1 / np.asarray(repeats))))


class _Design(NamedTuple):
    """The image that each trial shows, and the images to use.

    Parameters
    ----------
    used : bool array of shape (n_all_trials,)
        The trials that count.
    sessions, nsd_ids : int arrays of shape (n_trials,)
        Of these.
    train : bool array of shape (n_trials,)
    wanted : dict of int array
        nsd_id of the rows of ``averages``, ``trials``, ``test`` and ``align``.
    """

    used: np.ndarray
    sessions: np.ndarray
    nsd_ids: np.ndarray
    train: np.ndarray
    wanted: dict

    @property
    def fitted(self):
        """The trials that responses are standardised with: all of a session that trains nothing."""
        return self.train | ~np.isin(self.sessions, self.sessions[self.train])

    @property
    def repeats(self):
        """Number of trials of each test image."""
        return (self.wanted["test"][:, None] == self.nsd_ids).sum(axis=1)


def _read_design(trials, images):
    """Read both tables, which must contain the same images."""
    listed, known = load_table(trials), load_table(images)
    if "grouped" in known:
        check_split(known, listed, images)
    used = (listed["split"] != UNUSED).to_numpy()
    listed, known = listed[used], known[known["split"] != UNUSED]
    pairs = (set(zip(table["nsd_id"], table["split"], strict=True)) for table in (listed, known))
    if len(set(map(frozenset, pairs))) > 1:
        remedy = "Tabulate both again"
        raise InputError(Finding(str(trials), f"the images of {images}", "others", remedy))
    sessions, nsd_ids = (listed[name].to_numpy() for name in ("session", "nsd_id"))
    train = (listed["split"] == "train").to_numpy()
    own = {split: group.to_numpy() for split, group in known.groupby("split")["nsd_id"]}
    none = np.array([], int)
    wanted = {"averages": own.get("train", none), "test": own.get("test", none)}
    wanted |= {"align": own["align"]} if "align" in own else {}
    return _Design(used, sessions, nsd_ids, train, wanted | {"trials": nsd_ids[train]})


def standardise(
    betas: np.ndarray, design: _Design, standard: str, rows: Sequence[str]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Bring a block of betas into one standard.

    Parameters
    ----------
    betas : float32 array of shape (n_trials, n_voxels)
    design : _Design
    standard : str
        One of `STANDARDS`.
    rows : sequence of {"averages", "trials", "test", "align"}

    Yields
    ------
    values : float32 array of shape (n_rows, n_voxels)
        Of each of `rows`.
    n_filled : int array of shape (n_voxels,)
        Number of values without any valid trial.
    """
    if standard == "zscored":
        values = zscore_sessions(betas, design.sessions, design.fitted)
    elif standard == "centred":
        values = center(betas, design.fitted)
    else:
        values = np.nan_to_num(betas)
        mean = values[design.fitted].mean(axis=0, dtype=np.float64).astype(np.float32)
        std = values[design.fitted].std(axis=0, dtype=np.float64).astype(np.float32)
        std[np.ptp(values[design.fitted], axis=0) == 0] = 1
    for name in rows:
        if name == "trials":
            own = values[design.train]
            n_filled = np.isnan(own).sum(axis=0)
            np.nan_to_num(own, copy=False)
        else:
            own, n_filled = average_trials(values, design.nsd_ids, design.wanted[name])
        if standard == "scaled":
            own -= mean
            own /= std
        yield own, n_filled


def prepare_responses(
    *,
    betas: Path | str,
    trials: Path | str,
    images: Path | str,
    output: Path | str,
    forms: list[str],
    memory_gb: float = 2.0,
) -> None:
    """Standardise and average the betas of a region, and compute its noise ceiling.

    Parameters
    ----------
    betas : path
        float32 ``.npy`` of shape (n_trials, n_voxels), percent signal change, NaN where invalid;
        never read at once.
    trials, images : path
        ``trials.tsv`` (a row per trial, in the order of `betas`) and ``images.tsv``.
    output : path
        HDF5 file that `Responses` reads: ``{standard}/{rows}`` and ``{standard}/test``, float32 of
        shape (n_rows, n_voxels), with ``{standard}/filled/{rows}``, how many values of a voxel are
        0 because all trials are missing; ``nsd_ids/{rows}``; ``repeats``, trials of each test
        image; ``ncsnr``, and ``ceiling``, the highest correlation possible with averaged test
        trials. If there are images of the split align, also ``{standard}/align``, their averages.
    forms : list of str
        Such as ``zscored/averages``; see the top of this module.
    memory_gb : float
        Memory for betas and everything derived from them, in units of 1e9 bytes.

    Raises
    ------
    InputError
        Betas that do not fit the trials, or too few training trials in a session.
    """
    design = _read_design(trials, images)
    shape = _measure(betas, len(design.used))
    step = max(1, int(1e9 * memory_gb // (WORKING * shape[0])))
    wanted = _group_forms(forms, [name for name in ("align",) if name in design.wanted])
    sizes = {f"{s}/{name}": len(design.wanted[name]) for s, rows in wanted.items() for name in rows}
    n_bytes = shape[1] * (4 * sum(sizes.values()) + 8 * len(sizes) + 8) + 8 * 3 * shape[0]
    with create_hdf5(output, n_bytes) as file:
        for name, ids in design.wanted.items():
            file[f"nsd_ids/{name}"] = ids
        file["repeats"] = design.repeats
        for name, n_rows in sizes.items():
            file.create_dataset(name, (n_rows, shape[1]), "f4")
        noise = np.empty(shape[1], np.float32)
        filled = {name: np.empty(shape[1], int) for name in sizes}
        for start in range(0, shape[1], step):
            columns = slice(start, min(start + step, shape[1]))
            # Reopened each time: pages of a memory map that stays open count as memory of the
            # process.
            block = np.array(load_array(betas)[:, columns], np.float32)
            block = block if design.used.all() else block[design.used]
            # With trials left out, few images may have exactly three.
            whole = design.used.all() and design.train.any()
            known = design.sessions, design.nsd_ids, not whole
            noise[columns] = compute_ncsnr(block, *known)
            for standard, rows in wanted.items():
                made = standardise(block, design, standard, rows)
                for name, (values, n_filled) in zip(rows, made, strict=True):
                    file[f"{standard}/{name}"][:, columns] = values
                    filled[f"{standard}/{name}"][columns] = n_filled
        file["ncsnr"], file["ceiling"] = noise, noise_ceiling(noise, design.repeats)
        for name, counts in filled.items():
            standard, rows = name.split("/")
            file[f"{standard}/filled/{rows}"] = counts
    _log_made(shape, sizes, filled, noise)


def _measure(betas, n_trials):
    """Shape of betas, which must have a row per trial."""
    shape = load_array(betas).shape
    if len(shape) != 2 or shape[0] != n_trials:
        expected = f"one row for each of the {n_trials} trials"
        remedy = "Extract them again"
        raise InputError(Finding(str(betas), expected, f"an array of shape {shape}", remedy))
    return shape


def _group_forms(forms, others):
    """Kinds of rows by standard, including those of the test images and other averages."""
    wanted = {}
    for form in dict.fromkeys(forms):
        standard, _, rows = form.partition("/")
        if standard not in STANDARDS or rows not in ROWS:
            expected = f"{' or '.join(STANDARDS)}, and {' or '.join(ROWS)}, such as zscored/trials"
            raise InputError(Finding("forms", expected, form, "Correct it"))
        wanted.setdefault(standard, ["test", *others]).append(rows)
    return wanted


def _log_made(shape, sizes, filled, noise):
    """Log what was made, and how much of it is missing."""
    logger.info("%d trials, %d voxels, median ncsnr %.3f", *shape, np.nanmedian(noise))
    for name, counts in filled.items():
        n, total = counts.sum(), sizes[name] * shape[1]
        message = "%s: %d rows; %d missing values (%.2f %%) set to the voxel's mean"
        logger.info(message, name, sizes[name], n, 100 * n / max(total, 1))


def read_columns(dataset: h5py.Dataset, columns: slice) -> np.ndarray:
    """Read some columns of a matrix in an HDF5 file.

    Parameters
    ----------
    dataset : h5py.Dataset of shape (n_rows, n_columns)
    columns : slice
        With a step, every n-th column.

    Returns
    -------
    float32 array of shape (n_rows, n_chosen)
    """
    first, stop, step = columns.indices(dataset.shape[1])
    chosen = range(first, stop, step)
    if step == 1:
        return dataset[:, first:stop]
    values = np.empty((len(dataset), len(chosen)), np.float32)
    # HDF5 itself is slow at strided columns.
    for start in range(0, len(chosen), COLUMNS_AT_ONCE):
        part = chosen[start : start + COLUMNS_AT_ONCE]
        values[:, start : start + len(part)] = dataset[:, part[0] : part[-1] + 1][:, ::step]
    return values


class Responses:
    """A region's responses in one form, read a block of voxels at a time.

    Parameters
    ----------
    path : path
        As `prepare_responses` writes it.
    form : str
        Such as ``zscored/averages``.

    Attributes
    ----------
    n_voxels : int
    train_ids, test_ids : int arrays of shape (n_train,) and (n_test,)
        nsd_id of each row.
    ncsnr, ceiling : float32 arrays of shape (n_voxels,)
        NaN unless responses are z-scored, since they only hold for those.

    Raises
    ------
    InputError
        The file is missing or damaged, or lacks the form.
    """

    def __init__(self, path, form):
        self.path, self.form = path, form
        standard, _, rows = form.partition("/")
        self._names = {"train": form, "test": f"{standard}/test"}
        with self._open() as file:
            self.train_ids, self.test_ids = (file[f"nsd_ids/{n}"][:] for n in (rows, "test"))
            self.ncsnr, self.ceiling = file["ncsnr"][:], file["ceiling"][:]
            shapes = [file[name].shape for name in self._names.values()]
        self.n_voxels = len(self.ncsnr)
        if shapes != [(len(ids), self.n_voxels) for ids in (self.train_ids, self.test_ids)]:
            expected = "a row for each nsd_id and a column for each voxel"
            raise InputError(Finding(str(path), expected, f"shapes {shapes}", REMAKE))
        if standard != "zscored":
            self.ncsnr, self.ceiling = (np.full(self.n_voxels, np.nan, np.float32),) * 2

    @contextmanager
    def _open(self):
        expected = f"responses of the form {self.form}"
        with reading(self.path, expected, REMAKE), open_hdf5(self.path) as file:
            yield file

    def read_train(self, columns: slice = slice(None)) -> np.ndarray:
        """Training responses of some voxels, float32 of shape (n_train, n_columns)."""
        return self._read("train", columns)

    def read_test(self, columns: slice = slice(None)) -> np.ndarray:
        """Averaged test responses of some voxels, float32 of shape (n_test, n_columns)."""
        return self._read("test", columns)

    def _read(self, part, columns):
        with self._open() as file:
            return read_columns(file[self._names[part]], columns)

"""Decode one subject's images with the decoders of other subjects, aligned by shared images.

A reference subject's training responses are reduced to principal components, and features are
decoded from these by ridge. The new subject's responses are mapped into the components by ridge,
which is fitted on images that both saw (functional alignment); other images of the new subject need
no training. With tuning, ridge on the new subject's own trials adds what the aligned decoders miss.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from nsdldm import ridge, stats
from nsdldm.decoding.decoders import DecoderSettings, find_gain, scale_sums, weigh_images
from nsdldm.decoding.statistics import Ridge, Sums
from nsdldm.responses import Responses, average_trials
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array, load_table, save_array, save_table

logger = logging.getLogger(__name__)

TARGETS_AT_ONCE = 4096
# Shared images that each fold must have for the mapping.
LEAST_PER_FOLD = 2
# Components that vary less than this fraction of the largest only hold rounding.
LEAST_SPREAD = 1e-5
PREPARE = "Prepare the responses again"


class Reference(NamedTuple):
    """Files of a subject whose decoders serve another.

    Parameters
    ----------
    responses : dict of path
        By region, as `nsdldm.responses.prepare_responses` writes them: ``zscored/trials`` and
        ``zscored/test``.
    images : path
        ``images.tsv``.
    features : dict of path
        By target: ``.npy`` with a row per image of `images`.
    """

    responses: dict
    images: Path | str
    features: dict


def list_references(
    names: Sequence[str],
    regions: dict[str, str],
    responses: Sequence[Path | str],
    images: Sequence[Path | str],
    features: Sequence[Path | str],
) -> dict[str, Reference]:
    """Sort the files of several subjects.

    Parameters
    ----------
    names : sequence of str
        The subjects.
    regions : dict of str
        The region that each target is decoded from.
    responses, images, features : sequences of path
        Subject by subject: one of each region, in alphabetical order; one table; one of each
        target, in the order of `regions`.

    Returns
    -------
    dict of Reference
        By subject.
    """

    def sort(files, keys):
        starts = range(0, len(files), len(keys))
        return [dict(zip(keys, files[i : i + len(keys)], strict=True)) for i in starts]

    kinds = sort(list(responses), sorted(set(regions.values()))), sort(list(features), [*regions])
    found = zip(names, kinds[0], images, kinds[1], strict=True)
    return {name: Reference(*files) for name, *files in found}


class SmallRidge:
    """Ridge of fewer samples than there are voxels, with a penalty for each target.

    There is no intercept: of z-scored responses, 0 is the mean. Besides the penalties given, an
    infinite one is tried, which predicts 0.

    Parameters
    ----------
    X : float32 array of shape (n, n_voxels)
    folds : list of (train, test)
        Indices of samples. Each sample is tested in one fold.
    alphas : sequence of float
        Penalties tried, positive.
    """

    def __init__(
        self,
        X: np.ndarray,
        folds: list[tuple[np.ndarray, np.ndarray]],
        alphas: Sequence[float],
    ):
        # Weights lie in the space that the samples span, so nothing is lost by a basis of it.
        self._basis = np.linalg.qr(X.T)[0] if len(X) < X.shape[1] else None
        # Where penalties are equally good, the largest counts.
        self.alphas = np.array(sorted({*map(float, alphas), np.inf}, reverse=True))
        self.folds = folds
        self._X = self._project(X)
        self._whole = self._decompose(self._X)
        self._parts = [self._decompose(self._X[train]) for train, _ in folds]

    def choose(self, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Choose penalties by the squared error of left-out samples.

        Parameters
        ----------
        Y : float32 array of shape (n, n_targets)

        Returns
        -------
        alphas : float64 array of shape (n_targets,)
        left_out : float32 array of shape (n, n_targets)
            Predictions of each sample by the fold that leaves it out, with these penalties.
        """
        errors = np.zeros((len(self.alphas), Y.shape[1]))
        for part, (train, test) in zip(self._parts, self.folds, strict=True):
            for row, alpha in enumerate(self.alphas):
                wrong = Y[test] - self._apply(part, Y[train], alpha, self._X[test])
                errors[row] += np.square(wrong).sum(axis=0)
        alphas = self.alphas[errors.argmin(axis=0)]
        left_out = np.empty(Y.shape, np.float32)
        for part, (train, test) in zip(self._parts, self.folds, strict=True):
            left_out[test] = self._apply(part, Y[train], alphas, self._X[test])
        return alphas, left_out

    def predict(self, Y: np.ndarray, alphas: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Fit all samples and predict others.

        Parameters
        ----------
        Y : float32 array of shape (n, n_targets)
        alphas : float64 array of shape (n_targets,)
        X : float32 array of shape (n_new, n_voxels)

        Returns
        -------
        float32 array of shape (n_new, n_targets)
        """
        return self._apply(self._whole, Y, alphas, self._project(X))

    def _project(self, X):
        return X if self._basis is None else X @ self._basis

    def _decompose(self, X):
        """Singular vectors and values."""
        U, singular, Vt = np.linalg.svd(X.astype(np.float64), full_matrices=False)
        return U.astype(np.float32), singular, Vt.astype(np.float32)

    def _apply(self, part, Y, alphas, X):
        """Predict samples by the ridge of others, whose decomposition is given."""
        U, singular, Vt = part
        shrunk = singular[:, None] / (singular[:, None] ** 2 + alphas)
        return X @ Vt.T @ (shrunk.astype(np.float32) * (U.T @ Y))


class _Subject:
    """The new subject's images, and which of them serve for what.

    Parameters
    ----------
    images, references
        As `decode_by_others` takes them.

    Attributes
    ----------
    test, align : int arrays
        nsd_id of the test images, in order; and, ascending, of the images for the alignment that
        all references saw outside their training.
    n_trials : Series of int
        Trials of each image, by nsd_id.
    """

    def __init__(self, images, references):
        self.path, self.images = images, load_table(images)
        split = self.images["split"]
        own = {name: self.images.loc[split == name, "nsd_id"].to_numpy() for name in set(split)}
        self.n_images, nsd_ids = len(self.images), self.images["nsd_id"]
        self.places = pd.Series(np.arange(self.n_images), nsd_ids)
        self.n_trials = self.images.set_index("nsd_id")["n_trials"]
        self.test, self.train = (own.get(name, np.array([], int)) for name in ("test", "train"))
        self.align = np.unique(own.get("align", np.array([], int)))
        if np.isin(self.test, np.concatenate([self.align, self.train])).any():
            self._refuse(images, "test images that nothing is fitted to", "some in other splits")
        if not references:
            remedy = "Name at least two subjects"
            raise InputError(Finding("`references`", "other subjects", "none", remedy))
        for reference in references.values():
            self._check(reference)

    def _refuse(self, path, expected, found):
        remedy = "Divide the images such that test images are in no other subject's training"
        raise InputError(Finding(str(path), expected, found, remedy))

    def _check(self, reference):
        """A reference must not have trained on any test image; keep the images it saw beside."""
        table = load_table(reference.images)
        trained = set(table.loc[table["split"] == "train", "nsd_id"])
        for path in reference.responses.values():
            known = Responses(path, "zscored/trials")
            both = np.intersect1d(self.test, [*trained, *known.train_ids])
            if len(both):
                found = f"{len(both)} of them, such as {both[0]}"
                self._refuse(path, f"no training trials of the test images of {self.path}", found)
            if extra := set(known.train_ids) - trained:
                expected, found = f"the training images of {reference.images}", f"{min(extra)} too"
                raise InputError(Finding(str(path), expected, found, PREPARE))
            seen = np.setdiff1d(known.test_ids, known.train_ids)
            self.align = np.intersect1d(self.align, seen)

    def check_number(self, n_folds):
        """There must be enough images to align."""
        least = LEAST_PER_FOLD * n_folds
        if len(self.align) < least:
            expected = f"at least {least} images of the split align that all subjects saw"
            remedy = "Use more sessions of the subjects, or fewer `n_folds`"
            raise InputError(Finding(str(self.path), expected, str(len(self.align)), remedy))

    def read(self, path, tune):
        """Responses of a region: to the test images, to those that align, and single trials."""
        shown = Responses(path, "zscored/align")
        if not np.array_equal(shown.test_ids, self.test) or set(self.align) - {*shown.train_ids}:
            expected = f"the {len(self.test)} test images and those that align of {self.path}"
            raise InputError(Finding(str(path), expected, "others", PREPARE))
        aligned = shown.read_train()[_find(shown.train_ids, self.align)]
        own = Responses(path, "zscored/trials") if tune else None
        if own and (not len(own.train_ids) or set(own.train_ids) - {*self.train}):
            expected = f"trials of the training images of {self.path}"
            raise InputError(Finding(str(path), expected, "others or none", PREPARE))
        return shown.read_test(), aligned, own


def _find(ids, wanted):
    """Rows of some ids."""
    return pd.Series(np.arange(len(ids)), ids)[wanted].to_numpy()


def _open_features(path, n_images, n_dimensions=None):
    """Features, a row per image."""
    features = load_array(path)
    flat = features.reshape(len(features), -1)
    expected = (n_images, n_dimensions or flat.shape[1])
    if flat.shape != expected:
        wanted = f"{expected[0]} images of {expected[1]} dimensions"
        found, remedy = "{} of {}".format(*flat.shape), "Compute the features again"
        raise InputError(Finding(str(path), wanted, found, remedy))
    return flat, features.shape[1:]


class _Aligned(NamedTuple):
    """A reference's decoder of component scores, and the scores of the new subject.

    Parameters
    ----------
    decoder : Ridge
    shares : float32 array of shape (n_train_images,)
        Fraction of the training trials that each image has.
    rows : int array of shape (n_train_images,)
        Of the reference's training images in its features.
    n_images : int
    scores : float32 array of shape (n, n_components)
        Of all responses that are predicted from.
    row : dict
        What the table says about it.
    """

    decoder: Ridge
    shares: np.ndarray
    rows: np.ndarray
    n_images: int
    scores: np.ndarray
    row: dict

    def decode(self, features):
        """Predict a block of features, and the training mean."""
        known = np.asarray(features[self.rows], np.float32)
        return self.decoder.fit(known, self.scores).predictions, self.shares @ known


def _check_memory(path, n_trials, n_images, n_voxels, memory_gb):
    """Trials, and averages with the copies that the components need, must fit."""
    needed = ridge.LIBRARIES + 4 * n_voxels * (1.5 * n_trials + 4 * n_images)
    logger.info("%s: predicted peak %.1f GB", path, needed / 1e9)
    if needed > 1e9 * memory_gb:
        expected, remedy = f"at least {needed / 1e9 + 0.05:.1f}", "Raise it, or use fewer voxels"
        raise InputError(Finding("`memory_gb`", expected, f"{memory_gb:g}", remedy))


def _reduce(path, align, n_components, settings):
    """Component scores of a reference's training trials, their images, the spread of the averaged
    scores, and the scores of the images that align."""
    known = Responses(path, "zscored/trials")
    images = np.unique(known.train_ids)
    sizes = len(known.train_ids), len(images), known.n_voxels
    _check_memory(path, *sizes, settings.memory_gb)
    X = known.read_train()
    averages, _ = average_trials(X, known.train_ids, images)
    n_components = min(n_components, len(images) - 1, known.n_voxels)
    components = PCA(n_components, random_state=settings.seed)
    spread = components.fit_transform(averages).std(axis=0)
    kept = spread > LEAST_SPREAD * spread.max()
    seen = known.read_test()[_find(known.test_ids, align)]
    scores, aligned = (components.transform(values)[:, kept] for values in (X, seen))
    return scores, known.train_ids, spread[kept], aligned


def _align(name, region, reference, given, subject, n_components, settings, tune):
    """Fit a reference's decoder, and map the new subject's responses into its components."""
    X_test, X_align, trials = given
    scores, nsd_ids, spread, truth = _reduce(
        reference.responses[region], subject.align, n_components, settings
    )
    folds = ridge.group_folds(subject.align, settings.n_folds, settings.seed)
    mapping = SmallRidge(X_align, folds, settings.alphas)
    truth = truth / spread
    alphas, left_out = mapping.choose(truth)
    X = np.concatenate([X_test, trials]) if tune else X_test
    mapped = mapping.predict(truth, alphas, X)
    mapped = spread * (mapped if tune else np.concatenate([mapped, left_out]))
    images, rows, counts = np.unique(nsd_ids, return_inverse=True, return_counts=True)
    sums = Sums(ridge.group_folds(nsd_ids, settings.n_folds, settings.seed), rows, len(spread))
    sums.add(scores, np.arange(len(scores)))
    r = np.where(np.ptp(left_out, axis=0) > 0, stats.correlate(truth, left_out), 0)
    found = {"r": np.median(r), "alpha": np.median(alphas)}
    sizes = {"n_align": len(truth), "n_components": len(spread)}
    logger.info("%s of %s: %d images, %d components", region, name, *sizes.values())
    logger.info("left-out scores correlate with %.3f (median)", found["r"])
    known = load_table(reference.images)["nsd_id"]
    return _Aligned(
        decoder=Ridge(sums, settings.alphas, intercept=True),
        shares=(counts / len(rows)).astype(np.float32),
        rows=_find(known, images),
        n_images=len(known),
        scores=mapped.astype(np.float32),
        row={"reference": name, "region": region} | sizes | found,
    )


class _Tuner:
    """Ridge of the new subject's own trials on what aligned decoders leave.

    Parameters
    ----------
    trials : float32 array of shape (n, n_voxels)
    nsd_ids : int array of shape (n,)
    settings : DecoderSettings
    """

    def __init__(self, trials, nsd_ids, settings):
        self.nsd_ids, self.images = nsd_ids, np.unique(nsd_ids)
        folds = ridge.group_folds(nsd_ids, settings.n_folds, settings.seed)
        self._ridge = SmallRidge(trials, folds, settings.alphas)

    def add(self, aligned, Y, X_test):
        """Correct aligned predictions (test images first, then trials) by true values of trials;
        those of left-out images, averaged over trials, come too."""
        n_test = len(X_test)
        rest = Y - aligned[n_test:]
        alphas, left_out = self._ridge.choose(rest)
        tuned = aligned[:n_test] + self._ridge.predict(rest, alphas, X_test)
        # Averages of predictions are predictions from averages.
        averages, _ = average_trials(aligned[n_test:] + left_out, self.nsd_ids, self.images)
        return tuned, averages


def _decode(target, subject, aligned, X_test, tuner):
    """Decode a target by all references together: predictions with the gain, before reshaping."""
    _, features, others = target
    n_dimensions, n_test = features.shape[1], len(X_test)
    ids = tuner.nsd_ids if tuner else subject.align
    trials = ids if tuner else np.repeat(ids, subject.n_trials[ids].to_numpy())
    weights = weigh_images(trials, subject.n_trials[subject.test].to_numpy())[:, None]
    predicted = np.empty((n_test, n_dimensions), np.float32)
    middle, compared = np.empty(n_dimensions, np.float32), np.zeros((2, n_dimensions))
    for start in range(0, n_dimensions, TARGETS_AT_ONCE):
        block = slice(start, start + TARGETS_AT_ONCE)
        pairs = zip(aligned, others, strict=True)
        made = [each.decode(known[:, block]) for each, known in pairs]
        values, middle[block] = (sum(part) / len(made) for part in zip(*made, strict=True))
        Y = np.asarray(features[:, block][subject.places[ids].to_numpy()], np.float32)
        if tuner:
            predicted[:, block], left_out = tuner.add(values, Y, X_test)
            truth = Y[np.unique(ids, return_index=True)[1]]
        else:
            predicted[:, block], left_out, truth = values[:n_test], values[n_test:], Y
        left_out, truth = left_out - middle[block], truth - middle[block]
        sums = [(weights * left_out * other).sum(axis=0) for other in (truth, left_out)]
        compared[:, block] = scale_sums(np.array(sums), Y)
    gain = find_gain(*compared)
    logger.info("%s: gain %.3f", target[0], gain)
    return middle + np.float32(gain) * (predicted - middle)


def decode_by_others(
    *,
    responses: dict[str, Path | str],
    images: Path | str,
    features: dict[str, Path | str],
    references: dict[str, Reference],
    regions: dict[str, str],
    n_components: int,
    settings: DecoderSettings,
    tune: bool,
    decoded: dict[str, Path | str],
    table: Path | str,
) -> None:
    """Decode features of a subject's test images by decoders of other subjects.

    Predictions are averaged over the references. Their deviations from the references' training
    mean are multiplied by the slope of the true values on predictions of left-out images: of those
    that align, or of the own training images where decoders are tuned. Test images are in no fit.

    Parameters
    ----------
    responses : dict of path
        By region, of the new subject, with ``zscored/align``; ``zscored/trials`` for tuning.
    images : path
        Its ``images.tsv``, with images of the split align.
    features : dict of path
        By target: ``.npy`` with a row per image of `images`.
    references : dict of Reference
        By subject, at least one.
    regions : dict of str
        The region that each target is decoded from.
    n_components : int
        Principal components of a reference's averaged training responses, at most.
    settings : DecoderSettings
        The penalties are those of all ridge here. `solver` does not matter.
    tune : bool
        Add ridge on the subject's own training trials, fitted to what the aligned decoders leave.
        Where own trials do not help, its penalty is infinite.
    decoded : dict of path
        Output by target: float32 ``.npy`` (n_test, ...), in the order of the test images.
    table : path
        Output, with a row per region and reference: reference, region, n_align (images),
        n_components, r (between left-out mapped and true scores, the median over components) and
        alpha (median; infinite if most components cannot be predicted).

    Raises
    ------
    InputError
        A reference was trained on test images, too few images align, inputs contradict each other,
        or there is too little memory.
    """
    ridge.set_device(settings.device)
    subject, rows = _Subject(images, references), []
    subject.check_number(settings.n_folds)
    for region in sorted(set(regions.values())):
        X_test, X_align, own = subject.read(responses[region], tune)
        trials = own.read_train() if tune else None
        known = X_test, X_align, trials
        aligned = [
            _align(name, region, reference, known, subject, n_components, settings, tune)
            for name, reference in references.items()
        ]
        rows += [each.row for each in aligned]
        tuner = _Tuner(trials, own.train_ids, settings) if tune else None
        for name in (target for target, used in regions.items() if used == region):
            flat, shape = _open_features(features[name], subject.n_images)
            others = [
                _open_features(reference.features[name], each.n_images, flat.shape[1])[0]
                for reference, each in zip(references.values(), aligned, strict=True)
            ]
            target = name, flat, others
            predicted = _decode(target, subject, aligned, X_test, tuner)
            save_array(decoded[name], predicted.reshape(-1, *shape).astype(np.float32))
    save_table(table, pd.DataFrame(rows))

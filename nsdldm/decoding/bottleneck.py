"""Decoders that may pass only a few numbers per image on to the generator.

BrainBits (Mayo et al. 2024, arXiv 2411.02783) puts a linear bottleneck between the brain and all
decoded features, and asks how much each score needs. Here it is reduced-rank ridge, in closed form:
the decoders are fitted as always, and their predictions are projected on the principal components
of those of the training images, of all targets together. K components, K numbers per image. What a
protocol does to predictions comes after it, as there: the gain of the whole decoder, or rescaling.

The random baseline replaces responses by uniform noise, everything else equal.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh

from nsdldm import ridge
from nsdldm.decoding.decoders import (
    PROTOCOLS,
    DecoderSettings,
    Fitted,
    Study,
    fit_targets,
    rescale,
)
from nsdldm.responses import average_trials
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array, save_array

logger = logging.getLogger(__name__)

# Bytes of the float64 copy of a block of columns.
BLOCK_BYTES = 256_000_000


class WholeStudy(Study):
    """A study whose decoders predict the training images too, from averages of their trials.

    Parameters
    ----------
    responses, images, features, z_logvar, regions
        As `nsdldm.decoding.decoders.decode_features` takes them.
    noise : int, optional
        Seed of uniform noise that replaces all responses. It has their mean of 0 and the standard
        deviation of single trials, less for a test image as if its trials were averaged.

    Attributes
    ----------
    known : int array of shape (n_train,)
        Rows in `images` of the training images, which are predicted after the test images.
    """

    def __init__(
        self,
        responses: dict[str, Path | str],
        images: Path | str,
        features: dict[str, Path | str],
        z_logvar: Path | str | None,
        regions: dict[str, str],
        noise: int | None = None,
    ):
        super().__init__(responses, images, features, z_logvar, regions)
        self.noise, self.known = noise, np.unique(self.rows)

    def read(self, region: str, zscore: bool) -> tuple[np.ndarray, np.ndarray]:
        """Training trials of a region, and averages of the test and training images; float32 of
        shape (n, n_voxels)."""
        X, X_test = super().read(region, zscore)
        if self.noise is not None:
            # Other noise in each region.
            generator = np.random.default_rng([self.noise, sorted(self.paths).index(region)])
            deviation = np.sqrt(np.einsum("ij,ij->", X, X, dtype=np.float64) / X.size)
            X = _draw_uniform(generator, X.shape, deviation)
            X_test = _draw_uniform(generator, X_test.shape, deviation)
            X_test /= np.sqrt(self.n_trials)[:, None].astype(np.float32)
        averages, _ = average_trials(X, self.nsd_ids, self.images["nsd_id"].to_numpy()[self.known])
        return X, np.concatenate([X_test, averages])


def _draw_uniform(generator, shape, deviation):
    """float32 uniform noise of mean 0 and a standard deviation."""
    values = generator.random(shape, np.float32)
    values -= np.float32(0.5)
    values *= np.float32(np.sqrt(12) * deviation)
    return values


class Predictions(NamedTuple):
    """Predictions of a target, as deviations from their mean over the training images.

    Parameters
    ----------
    train, test : float32 arrays of shape (n_train, n_dimensions) and (n_test, n_dimensions)
        Divided by `scale`.
    mean : float32 array of shape (n_dimensions,)
    scale : float
        Square root of the summed variance of the true features of the training images, so that
        targets count alike, whatever their units and number of dimensions.
    """

    train: np.ndarray
    test: np.ndarray
    mean: np.ndarray
    scale: float


class Components(NamedTuple):
    """Principal components of predictions of the training images.

    Parameters
    ----------
    test : float64 array of shape (n_test, n_components)
        The numbers that each test image passes on, in descending order of variance.
    directions : float64 array of shape (n_components, n_dimensions)
        Orthonormal rows.
    shares : float64 array of shape (n_components, n_dimensions)
        Sum over training images of what a component adds to the squared deviation of a dimension.
    possible : int
        Number of components that there are.
    """

    test: np.ndarray
    directions: np.ndarray
    shares: np.ndarray
    possible: int


def centre_predictions(fitted: Fitted, n_test: int, known: np.ndarray) -> Predictions:
    """Centre and scale predictions of one target.

    Parameters
    ----------
    fitted : Fitted
        With predictions of test images, then of training images.
    n_test : int
    known : int array of shape (n_train,)
        Rows of the training images in the target's features.

    Returns
    -------
    Predictions
    """
    flat = fitted.features.reshape(len(fitted.features), -1)
    total = sum(
        flat[known, columns].var(axis=0, dtype=np.float64).sum()
        for columns in _list_blocks(flat.shape, len(known))
    )
    # A target that does not vary is predicted by its mean.
    scale = float(np.sqrt(total)) or 1.0
    mean = fitted.predicted[n_test:].mean(axis=0, dtype=np.float64).astype(np.float32)
    deviations = (fitted.predicted - mean) / np.float32(scale)
    return Predictions(deviations[n_test:], deviations[:n_test], mean, scale)


def _list_blocks(shape, n_rows):
    """Slices of columns whose rows take at most `BLOCK_BYTES` as float64."""
    step = max(1, BLOCK_BYTES // (8 * n_rows))
    return [slice(start, start + step) for start in range(0, shape[1], step)]


def find_components(predictions: list[Predictions], ranks: list[int]) -> Components:
    """Decompose predictions of all targets together, once for all ranks.

    From the matrix of products between training images, as there are fewer images than dimensions.

    Parameters
    ----------
    predictions : list of Predictions
        Of all targets; their dimensions are joined.
    ranks : list of int
        Numbers of components wanted.

    Returns
    -------
    Components
        As many as the largest rank that leaves some of them out.
    """
    blocks = [
        (made.train, made.test, columns)
        for made in predictions
        for columns in _list_blocks(made.train.shape, len(made.train))
    ]
    n_train = len(predictions[0].train)
    gram = np.zeros((n_train, n_train))
    for train, _, columns in blocks:
        block = train[:, columns].astype(np.float64)
        gram += block @ block.T
    values, vectors = eigh(gram)
    # What rounding hides; centred images have one component less than there are images.
    possible = int((values > values.max() * n_train * np.finfo(np.float64).eps).sum())
    possible = min(possible, n_train - 1)
    most = max((rank for rank in ranks if rank < possible), default=0)
    vectors = vectors[:, ::-1][:, :most]
    loaded = np.concatenate(
        [vectors.T @ train[:, columns].astype(np.float64) for train, _, columns in blocks], axis=1
    )
    # They are orthogonal but for the rounding of small ones.
    directions = np.linalg.qr(loaded.T)[0].T
    scores, start = 0, 0
    for _, test, columns in blocks:
        block = test[:, columns].astype(np.float64)
        scores = scores + block @ directions[:, start : start + block.shape[1]].T
        start += block.shape[1]
    return Components(scores, directions, loaded**2, possible)


def _restrict(protocol, found, made, columns, rank, fitted):
    """A target's `Fitted` whose predictions of the test images pass `rank` numbers on."""
    kept = found.test[:, :rank] @ found.directions[:rank, columns]
    compared = fitted.compared
    if protocol.rescale == "left-out":
        # How much less predictions of left-out images vary is taken from the training images.
        whole = np.einsum("ij,ij->j", made.train, made.train, dtype=np.float64)
        share = found.shares[:rank, columns].sum(axis=0) / np.where(whole > 0, whole, 1)
        compared = compared * share
    # In float64, as dimensions that hardly load are rescaled too.
    predicted = made.mean + made.scale * kept
    return fitted._replace(predicted=predicted, compared=compared)


def _plan_memory(study, protocol, ranks, memory_gb):
    """Memory in units of 1e9 bytes that is left for the fits beside features and predictions."""
    n_dimensions = sum(int(np.prod(load_array(path).shape[1:])) for path in study.features.values())
    n_train, n_test = len(study.known), int(study.test.sum())
    # There are no more components than voxels.
    regions = (study.open(name, protocol.session_zscore) for name in {*study.regions.values()})
    possible = min(n_train, sum(region.n_voxels for region in regions))
    most = max((rank for rank in ranks if rank < possible), default=0)
    # Predictions as the solver returns them, and centred.
    held = 4 * n_dimensions * (len(study.images) + 2 * (n_train + n_test))
    # The matrix of products with LAPACK's copies; directions before and after, and their shares.
    work = 8 * (3 * n_train**2 + 4 * most * n_dimensions) + BLOCK_BYTES
    least = (ridge.LIBRARIES + held + work) / 1e9
    if memory_gb < least:
        found, remedy = f"{memory_gb:g}", "Raise it, or use fewer targets or sessions"
        raise InputError(Finding("`memory_gb`", f"at least {least:.1f}", found, remedy))
    logger.info("predictions and features take %.1f GB, components %.1f GB", held / 1e9, work / 1e9)
    return memory_gb - held / 1e9


def restrict_decoders(
    *,
    responses: dict[str, Path | str],
    images: Path | str,
    features: dict[str, Path | str],
    z_logvar: Path | str,
    regions: dict[str, str],
    protocol: str,
    settings: DecoderSettings,
    ranks: list[int],
    decoded: dict[int, dict[str, Path | str]],
    noise: int | None = None,
) -> None:
    """Decode the test images' features through a bottleneck shared by all targets.

    Features of all images, and predictions of training and test images twice, stay in memory as
    float32: 8 GB for z and c of 10,000 images.

    Parameters
    ----------
    responses, images, features, z_logvar, regions, protocol, settings
        As `nsdldm.decoding.decoders.decode_features` takes them.
    ranks : list of int
        Numbers per image that may pass; as many as there are components, or more, are no
        restriction.
    decoded : dict of dict of path
        Output by rank and target: float32 ``.npy`` (n_test, ...), in the order of the test images.
    noise : int, optional
        Seed of uniform noise that replaces all responses, for the random baseline.

    Raises
    ------
    InputError
        Inputs contradict each other, a rank is not positive, or there is too little memory.
    """
    if not ranks or min(ranks) < 1:
        expected, remedy = "ranks of at least 1", "Correct them"
        raise InputError(Finding("`ranks`", expected, str(ranks), remedy))
    ridge.set_device(settings.device)
    study = WholeStudy(responses, images, features, z_logvar, regions, noise)
    chosen, n_test = PROTOCOLS[protocol], int(study.test.sum())
    left = _plan_memory(study, chosen, ranks, settings.memory_gb)
    settings = settings._replace(memory_gb=left)
    fitted, made = {}, {}
    for name, found in fit_targets(study, chosen, settings):
        made[name] = centre_predictions(found, n_test, study.known)
        # A slice alone would keep the training images.
        fitted[name] = found._replace(predicted=found.predicted[:n_test].copy())
    components = find_components(list(made.values()), ranks)
    message = "%d components of %d training images' predictions; ranks %s"
    logger.info(message, components.possible, len(study.known), ", ".join(map(str, ranks)))
    _write_ranks(study, chosen, fitted, made, components, ranks, decoded)


def _write_ranks(study, protocol, fitted, made, components, ranks, decoded):
    """Write every target at every rank."""
    start = 0
    for name, whole in fitted.items():
        columns = slice(start, start + len(made[name].mean))
        start = columns.stop
        for rank in ranks:
            within = rank < components.possible
            given = protocol, components, made[name], columns, rank, whole
            own = _restrict(*given) if within else whole
            values = rescale(name, protocol, study, own).predicted
            shape = (-1, *whole.features.shape[1:])
            save_array(decoded[rank][name], values.reshape(shape).astype(np.float32))

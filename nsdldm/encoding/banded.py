"""Joint encoding models of several feature spaces: banded ridge regression.

Each space has its own penalty, by a weight of its kernel in a weighted sum (Nunez-Elizalde, Huth &
Gallant 2019, NeuroImage 197, 482; Dupré la Tour et al. 2022, NeuroImage 264, 119728). To say what
each space adds, the same is fitted without it; with up to three spaces, to every subset of them.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np

from nsdldm import ridge
from nsdldm.encoding.fits import FitSettings, check_inputs, find_rows, plan_fits
from nsdldm.encoding.joint import TIE, fit_mixes
from nsdldm.encoding.predictions import Model, create_predictions, name_pair, write_model
from nsdldm.encoding.subsets import list_subsets
from nsdldm.features.kernels import Kernels
from nsdldm.responses import Responses

logger = logging.getLogger(__name__)

# Of the Dirichlet distributions that weights are drawn from in turn: sparse, and even.
CONCENTRATIONS = (0.2, 1.0)
LEAST_SHARE = 0.05


def draw_mixes(n_kernels: int, n_mixes: int, seed: int) -> np.ndarray:
    """Draw weights of kernels.

    Parameters
    ----------
    n_kernels, n_mixes : int
    seed : int

    Returns
    -------
    float64 array of shape (n_mixes, n_kernels)
        Rows sum to 1; the first is even.
    """
    rng = np.random.default_rng([seed, n_kernels])
    drawn = [np.full(n_kernels, 1 / n_kernels)]
    while len(drawn) < n_mixes:
        concentration = CONCENTRATIONS[len(drawn) % len(CONCENTRATIONS)]
        drawn.append(rng.dirichlet(np.full(n_kernels, concentration)))
    return np.array(drawn[:n_mixes])


def _prefer_smaller(subset, model, shares, fitted):
    """Where a smaller model is as good in training, the joint model is that one.

    `shares` has a row per space of the subset. So a joint model is not worse in training than any
    of its parts, although random weights hardly leave a space out.
    """
    for other, (known, own) in fitted.items():
        if {*other} < {*subset}:
            won = known.cv_scores >= model.cv_scores - TIE
            for new, old in zip(model[:3], known[:3], strict=True):
                new[..., won] = old[..., won]
            shares[:, won] = 0
            rows = [subset.index(space) for space in other]
            shares[np.ix_(rows, np.flatnonzero(won))] = own[:, won]
    return model, shares


def _fit_subset(subset, kernels, fit, mixes):
    """The model of some spaces, and the weight of each."""
    Y, penalties, alphas, folds, plan = fit
    if len(subset) == 1:
        model = Model(*ridge.fit_ridge(*kernels[subset[0]], Y, penalties, folds, plan))
        return model, np.ones((1, len(model.alphas)))
    parts = [np.stack(part) for part in zip(*(kernels[name] for name in subset), strict=True)]
    model, chosen = fit_mixes(*parts, Y, mixes, alphas, folds, plan)
    return model, mixes[chosen].T.copy()


def fit_banded(
    *,
    spaces: list[str],
    kernels: list[Path | str],
    responses: Path | str,
    form: str,
    images: Path | str,
    predictions: Path | str,
    settings: FitSettings,
    n_mixes: int,
) -> None:
    """Predict every voxel of a subject from several spaces jointly, and from subsets of them.

    Parameters
    ----------
    spaces : list of str
        Two to six.
    kernels, responses, form, images
        As `nsdldm.encoding.fits.fit_encoders` takes them.
    predictions : path
        Output, as that function writes it: a model for each of `list_subsets`, called by its spaces
        with + between them. That of all spaces has shares, float64 (n_spaces, n_voxels): the
        weight of each space.
    settings : nsdldm.encoding.fits.FitSettings
    n_mixes : int
        Weights tried for each subset and voxel; see `draw_mixes`.

    Raises
    ------
    InputError
        Inputs contradict each other, or there is too little memory.
    """
    subsets = list_subsets(spaces)
    known, files = Responses(responses, form), Kernels(kernels)
    table = check_inputs(files, known, images)
    ridge.set_device(settings.device)
    rows, n_voxels = find_rows(known, table), known.n_voxels
    # So that a space that adds nothing does not help by the penalties that its weight implies.
    shares = np.unique(draw_mixes(len(spaces), n_mixes, settings.seed).round(2))
    settings = settings._replace(weights=shares[shares >= LEAST_SHARE].tolist())
    penalties = ridge.list_penalties(settings.alphas, settings.weights)
    # All models of a block of voxels are kept until the last one is fitted.
    plan = plan_fits(rows, n_voxels, settings, len(spaces), kept=len(subsets))
    folds = ridge.group_folds(rows[0], settings.n_folds, settings.seed)
    read = {name: files.read_parts(name, rows) for name in spaces}
    names = [name_pair(subset) for subset in subsets]
    with create_predictions(predictions, names, n_voxels, known, penalties, 1) as file:
        whole = name_pair(tuple(spaces))
        shares = file.create_dataset(f"{whole}/shares", (len(spaces), n_voxels), "f8")
        for start in range(0, n_voxels, plan["voxels"]):
            block = slice(start, min(start + plan["voxels"], n_voxels))
            fit = known.read_train(block), penalties, settings.alphas, folds, plan
            fitted = {}
            for subset in subsets:
                began = time.monotonic()
                mixes = draw_mixes(len(subset), n_mixes, settings.seed)
                model, own = _fit_subset(subset, read, fit, mixes)
                fitted[subset] = _prefer_smaller(subset, model, own, fitted)
                model, own = fitted[subset]
                write_model(file, name_pair(subset), block, model._replace(weights=own[0]))
                message = "%s: voxels to %d of %d in %.0f s"
                seconds = time.monotonic() - began
                logger.info(message, name_pair(subset), block.stop, n_voxels, seconds)
            shares[:, block] = own

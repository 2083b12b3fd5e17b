"""Files of a small simulated subject whose voxels follow given signals."""

import numpy as np
import pandas as pd

from nsdldm.encoding.fits import FitSettings, fit_encoders
from nsdldm.encoding.scores import score_encoders
from nsdldm.features.kernels import compute_kernels
from nsdldm.responses import prepare_responses
from nsdldm.support.files import load_table, save_array, save_table, save_volume

REPEATS, SESSIONS = 3, 3
HOW = {
    "alphas": [0.01, 0.3, 3, 30, 300],
    "weights": [1],
    "n_folds": 5,
    "memory_gb": 2,
    "device": "cpu",
    "seed": 0,
}


def write_subject(folder, features, signal, n_test, noise, seed=0):
    """Betas that are a signal (n_images, n_voxels) plus noise; a third of it where averaged."""
    rng = np.random.default_rng(seed)
    n_images, n_voxels = signal.shape
    nsd_ids = np.sort(rng.choice(5000, n_images, replace=False))
    split = np.where(rng.permutation(n_images) < n_test, "test", "train")
    shown = rng.permutation(np.repeat(np.arange(n_images), REPEATS))
    sessions = np.repeat(np.arange(SESSIONS), n_images * REPEATS // SESSIONS)
    betas = signal[shown] + noise * rng.standard_normal((len(shown), n_voxels))
    trials = {"session": sessions, "nsd_id": nsd_ids[shown], "split": split[shown]}
    mask = np.zeros((10, 12, 14), bool)
    mask.flat[rng.choice(mask.size, n_voxels, replace=False)] = True
    save_table(folder / "trials.tsv", pd.DataFrame(trials))
    save_table(folder / "images.tsv", pd.DataFrame({"nsd_id": nsd_ids, "split": split}))
    save_array(folder / "betas.npy", betas.astype(np.float32))
    save_volume(folder / "mask.nii.gz", mask, np.diag([1.8, 1.8, 1.8, 1]))
    for name, values in features.items():
        save_array(folder / f"{name}.npy", values.astype(np.float32))
    compute_kernels(
        features={name: folder / f"{name}.npy" for name in features},
        images=folder / "images.tsv",
        output=folder / "kernels.h5",
        max_components=6400,
        device="cpu",
    )
    prepare(folder)


def prepare(folder, output=None):
    """Responses of a subject in all forms that encoders take."""
    prepare_responses(
        **{key: folder / f"{key}.tsv" for key in ("trials", "images")},
        betas=folder / "betas.npy",
        output=(output or folder) / "responses.h5",
        forms=["zscored/averages", "zscored/trials", "centred/averages"],
    )


def fit(inputs, predictions, spaces, form="zscored/averages", every=1, base=None, **changed):
    """Fit a family of spaces."""
    fit_encoders(
        spaces=list(spaces),
        kernels=[inputs / "kernels.h5"],
        responses=inputs / "responses.h5",
        form=form,
        images=inputs / "images.tsv",
        predictions=predictions,
        settings=FitSettings(**HOW | changed),
        base=base,
        every=every,
    )
    return predictions


def name_judged(inputs):
    """What all judges are given."""
    given = {"responses": inputs / "responses.h5", "mask": inputs / "mask.nii.gz"}
    return given | {"regions": {"cortex": inputs / "mask.nii.gz"}}


def score(inputs, output, spaces, **changed):
    """Fit and score spaces; returns their tables by name."""
    fitted = fit(inputs, output / "features.h5", spaces, **changed)
    tables = {space: output / f"{space}.tsv" for space in spaces}
    score_encoders(
        predictions=fitted,
        maps={space: output / f"{space}.nii.gz" for space in spaces},
        tables=tables,
        sums=output / "features.npz",
        fdr=0.05,
        **name_judged(inputs),
    )
    return {space: load_table(path) for space, path in tables.items()}


def draw_weights(rng, n_dimensions, n_voxels):
    """Weights of unit length, so that a voxel's signal has the variance of a dimension."""
    weights = rng.standard_normal((n_dimensions, n_voxels))
    return weights / np.linalg.norm(weights, axis=0)

"""Files of a small simulated subject whose voxels follow given signals."""

import numpy as np
import pandas as pd

from nsdldm import ridge
from nsdldm.support.files import save_array, save_table, save_volume

REPEATS, SESSIONS = 3, 3
HOW = {
    "alphas": [0.01, 0.3, 3, 30, 300],
    "n_folds": 5,
    "fdr": 0.05,
    "train_on": "averages",
    "zscore": True,
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
    ridge.compute_kernels(
        features={name: folder / f"{name}.npy" for name in features},
        images=folder / "images.tsv",
        kernels=name_kernels(folder, features),
        max_components=6400,
        device="cpu",
    )


def name_kernels(folder, names):
    return {name: folder / f"{name}_kernel.npy" for name in names}


def name_inputs(folder):
    tables = {key: folder / f"{key}.tsv" for key in ("trials", "images")}
    return tables | {"betas": folder / "betas.npy", "mask": folder / "mask.nii.gz"}


def name_sums(folder):
    """The one region, and where sums over it go."""
    return {"regions": {"cortex": folder / "mask.nii.gz"}, "sums": folder / "sums.npz"}


def draw_weights(rng, n_dimensions, n_voxels):
    """Weights of unit length, so that a voxel's signal has the variance of a dimension."""
    weights = rng.standard_normal((n_dimensions, n_voxels))
    return weights / np.linalg.norm(weights, axis=0)

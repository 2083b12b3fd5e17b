"""Files of a small simulated subject whose regions see some of the features."""

import numpy as np
import pandas as pd

from nsdldm.decoding.decoders import DecoderSettings
from nsdldm.responses import prepare_responses
from nsdldm.support.files import save_array, save_table

ALPHAS = [1.0, 10.0, 100.0, 1000.0, 1e4]
SETTINGS = DecoderSettings(ALPHAS, 4, memory_gb=2, seed=1, device="cpu")
REPEATS, SESSIONS = 3, 3


def draw_splits(n, n_test, seed=0):
    """Test images at random among all."""
    return np.where(np.random.default_rng(seed).permutation(n) < n_test, "test", "train")


def write_responses(folder, nsd_ids, splits, signals, noise=1.0, seed=0):
    """Tables and responses, by region, of images shown three times in each of some regions."""
    rng = np.random.default_rng(seed)
    n = len(nsd_ids)
    shown = rng.permutation(np.repeat(np.arange(n), REPEATS))
    sessions = np.repeat(np.arange(SESSIONS), n * REPEATS // SESSIONS)
    trials = {"session": sessions, "nsd_id": nsd_ids[shown], "split": splits[shown]}
    save_table(folder / "trials.tsv", pd.DataFrame(trials))
    images = {"nsd_id": nsd_ids, "split": splits, "n_trials": REPEATS}
    save_table(folder / "images.tsv", pd.DataFrame(images))
    responses = {}
    for region, signal in signals.items():
        betas = signal[shown] + noise * rng.normal(size=(len(shown), signal.shape[1]))
        save_array(folder / f"{region}.npy", betas.astype(np.float32))
        responses[region] = folder / f"{region}.h5"
        prepare(responses[region])
    return responses


def prepare(path):
    """Responses of a region from its betas and the tables beside it."""
    prepare_responses(
        **{name: path.with_name(f"{name}.tsv") for name in ("trials", "images")},
        betas=path.with_suffix(".npy"),
        output=path,
        forms=["zscored/trials", "scaled/trials"],
    )


def write_subject(folder, features, signals, regions, n_test, noise=1.0):
    """A subject's files, as arguments of decoders."""
    n = len(next(iter(features.values())))
    nsd_ids = np.random.default_rng(1).permutation(10 * n)[:n]
    responses = write_responses(folder, nsd_ids, draw_splits(n, n_test), signals, noise)
    paths = {name: folder / f"features-{name}.npy" for name in features}
    for name, values in features.items():
        save_array(paths[name], values.astype(np.float32))
    if "z" in features:
        save_array(folder / "z_logvar.npy", np.full(features["z"].shape, -6, np.float32))
    return {
        "responses": responses,
        "images": folder / "images.tsv",
        "features": paths,
        "z_logvar": folder / "z_logvar.npy",
        "regions": regions,
    }

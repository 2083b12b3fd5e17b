"""Write all that stage 3 and its pictures need: a tiny model, encoder, responses and latents."""

import numpy as np
import pandas as pd
import torch
from diffusion_models import save_model

from nsdldm.trained.checkpoints import save_weights
from nsdldm.trained.loop import Files
from nsdldm.trained.networks import build_encoder
from nsdldm.trained.presets import resolve

SUBJECTS = {"subj01": 21, "subj02": 30}  # their voxels
LENGTH, PATCH = 32, 4
LATENT = (4, 8, 8)
WRITTEN = ("partial.safetensors", "weights.safetensors", "curve.tsv")
ENCODER = resolve("mind-vis", {}, "demo")["stage1"] | {
    "patch": PATCH,
    "width": 8,
    "depth": 1,
    "heads": 2,
    "mlp_ratio": 1.0,
}
STAGE3 = resolve("mind-vis", {}, "demo")["stage3"] | {"batch_size": 4, "epochs": 1}
TEST = np.array([70_000, 12, 5, 400, 72_999])
TRAIN = np.array([3, 8, 1, 0, 25, 30, 42])


def make_encoder(seed=0):
    torch.manual_seed(seed)
    return build_encoder(ENCODER, LENGTH)


def write_subject(folder, subject, n_voxels):
    rng = np.random.default_rng(n_voxels)
    folder.mkdir()
    # Training and test images alternate, as in the table that the workflow writes.
    table = pd.DataFrame(
        [*((n, "test") for n in TEST[:3]), *((n, "train") for n in TRAIN)]
        + [(n, "test") for n in TEST[3:]],
        columns=["nsd_id", "split"],
    )
    save(folder / "images.tsv", table)
    np.save(folder / "z.npy", rng.standard_normal((len(table), *LATENT), np.float32))
    for name, numbers in (("train", TRAIN[::-1]), ("test", TEST)):
        np.save(folder / f"{name}.npy", rng.standard_normal((len(numbers), n_voxels), np.float32))
        rows = pd.DataFrame({"nsd_id": numbers})
        if name == "train":
            rows["validation"] = [1, 1, *[0] * (len(numbers) - 2)]
        save(folder / f"{name}.tsv", rows)


def save(path, table):
    table.to_csv(path, sep="\t", index=False)


def write_all(home, **model):
    """A folder with a model, an encoder of both subjects, and a folder for each subject."""
    save_model(home / "model", **model)
    for subject, n_voxels in SUBJECTS.items():
        write_subject(home / subject, subject, n_voxels)
    about = {"stage": 1, "encoder": ENCODER, "length": LENGTH, "vector": LENGTH, "n_voxels": None}
    state = {f"encoder.{name}": tensor for name, tensor in make_encoder().state_dict().items()}
    about["subjects"] = list(SUBJECTS)
    save_weights(home / "encoder.safetensors", state, about)


def training_settings(home, out, **changes):
    """Keywords of `fine_tune_diffusion`."""
    files = {"responses": "train.npy", "rows": "train.tsv", "images": "images.tsv", "z": "z.npy"}
    return {
        "encoder": home / "encoder.safetensors",
        **{key: {s: home / s / name for s in SUBJECTS} for key, name in files.items()},
        "model": home / "model",
        "revision": None,
        "settings": STAGE3,
        "device": "cpu",
        "precision": "float32",
        "seed": 1,
        "files": Files(*(out / name for name in WRITTEN)),
    } | changes

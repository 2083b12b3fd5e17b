"""Tiny settings of the real networks, and files of small subjects to train them on."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import multiprocessing

from nsdldm.trained.loop import Files
from nsdldm.trained.networks import build_encoder
from nsdldm.trained.presets import resolve
from nsdldm.trained.pretraining import Pretraining
from nsdldm.trained.targets import fit_target

# Processes that can be killed, or work in parallel, and need not import everything anew.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["nsdldm.trained.alignment", "nsdldm.trained.diffusion"])

SMALL = {"patch": 4, "width": 8, "depth": 1, "heads": 2, "mlp_ratio": 2.0}
SMALL |= {"regressor_width": 8, "decoder_width": 8, "batch_size": 8, "epochs": 6, "codes": 3}
N_TOKENS = 6
LENGTH = N_TOKENS * SMALL["patch"]
# CLIP's tokens of a picture and its dimensions.
CLIP = (5, 12)
WRITTEN = ("partial.safetensors", "weights.safetensors", "curve.tsv")
N_TRAIN, N_TEST, N_VALIDATION = 20, 5, 4
KINDS = {"cae": "fcae-base", "mae": "mae-f"}


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """For modules that import it: networks this small only lose time to a second one."""
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def stage1(kind="cae", **changes):
    return resolve(KINDS[kind], {}, "demo")["stage1"] | SMALL | changes


def stage2(align="image+text", **changes):
    small = {"batch_size": 8, "epochs": 6, "align": align}
    return resolve("fcae-base", {}, "demo")["stage2"] | small | changes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def make_encoder(seed=0, n_voxels=None, **changes):
    torch.manual_seed(seed)
    return build_encoder(stage1(**changes), LENGTH, n_voxels)


def make_pretraining(seed=0, n_voxels=None, **changes):
    settings = stage1(**changes)
    patches = draw(30, N_TOKENS, settings["patch"], seed=9).numpy()
    encoder = make_encoder(seed, n_voxels, **changes)
    return Pretraining(settings, encoder, fit_target(settings["target"], patches, 3, 0))


def make_batch(n=5, longest=LENGTH):
    return {"responses": draw(n, longest, seed=4), "subject": torch.arange(n) % 2}


def to_gpu(batch):
    return {name: tensor.cuda() for name, tensor in batch.items()}


def save(path, table):
    table.to_csv(path, sep="\t", index=False)


def write_subject(folder, n_voxels=22, seed=0):
    """A subject's folder; responses are a noisy linear function of CLIP's embeddings."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    n = N_TRAIN + N_TEST
    split = rng.permutation(["train"] * N_TRAIN + ["test"] * N_TEST)
    images = pd.DataFrame({"nsd_id": rng.choice(900, n, replace=False), "split": split})
    save(folder / "images.tsv", images)
    text = rng.standard_normal((n, CLIP[1])).astype(np.float32)
    tokens = text[:, None] + rng.standard_normal((n, *CLIP)).astype(np.float32)
    np.save(folder / "clip_text.npy", text)
    np.save(folder / "clip_image.npy", tokens)
    responses = text @ rng.standard_normal((CLIP[1], n_voxels)) + rng.standard_normal((n, n_voxels))
    responses /= responses.std(axis=0)
    for name in ("train", "test"):
        own = np.flatnonzero(split == name)[::-1]
        rows = images.loc[own, ["nsd_id"]]
        if name == "train":
            rows["validation"] = (np.arange(len(own)) % 5 == 2).astype(int)
        np.save(folder / f"{name}.npy", responses[own].astype(np.float32))
        save(folder / f"{name}.tsv", rows)


def name_files(home, subjects, **files):
    return {key: {s: home / s / name for s in subjects} for key, name in files.items()}


def pretraining_inputs(home, out, subjects=("subj01",), **changes):
    """Keywords of `pretrain_encoder`."""
    return {
        **name_files(home, subjects, responses="train.npy", rows="train.tsv"),
        "settings": stage1(),
        "seed": 1,
        "device": "cpu",
        "precision": "float32",
        "files": Files(*(out / name for name in WRITTEN)),
    } | changes


def alignment_inputs(home, out, encoder, subjects=("subj01",), **changes):
    """Keywords of `align_encoder`."""
    names = {"images": "images.tsv", "clip_image": "clip_image.npy", "clip_text": "clip_text.npy"}
    return {
        **pretraining_inputs(home, out, subjects),
        **name_files(home, subjects, **names),
        "encoder": encoder,
        "stimuli": [],
        "settings": stage2(),
    } | changes

"""Representational similarity with geometries that are known."""

from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest

from nsdldm.encoding import similarity
from nsdldm.encoding.components import Interval
from nsdldm.features.kernels import compute_kernels
from nsdldm.support.errors import InputError
from nsdldm.support.files import save_array, save_table, save_volume

N, EXTRA, DIM, N_VOXELS, FORM = 60, 200, 5, 300, "zscored/averages"


def write_responses(path, ids, values):
    with h5py.File(path, "w") as file:
        file[FORM] = np.zeros((EXTRA, values.shape[1]), np.float32)
        file["zscored/test"] = values.astype(np.float32)
        file["nsd_ids/averages"], file["nsd_ids/test"] = np.arange(100, 100 + EXTRA), ids
        file["ncsnr"] = np.ones(values.shape[1], np.float32)
        file["ceiling"] = np.ones(values.shape[1], np.float32)
    return path


def make(folder, noise, missing=0):
    """Responses that are linear in the features `same`, halves of them, and kernels."""
    rng = np.random.default_rng(0)
    same, other = (rng.standard_normal((N + EXTRA, DIM)) for _ in range(2))
    signal = same[:N] @ rng.standard_normal((DIM, N_VOXELS))
    halves = [signal + noise * rng.standard_normal(signal.shape) for _ in range(2)]
    files = SimpleNamespace(images=folder / "images.tsv", mask=folder / "mask.nii.gz")
    ids = np.r_[np.arange(N), np.arange(100, 100 + EXTRA)]
    split = ["test"] * N + ["train"] * EXTRA
    save_table(files.images, pd.DataFrame({"nsd_id": ids, "split": split}))
    paths = {}
    for name, each in (("same", same), ("other", other)):
        paths[name] = folder / f"{name}.npy"
        save_array(paths[name], each.astype(np.float32))
    files.kernels = [folder / "kernels.h5"]
    compute_kernels(features=paths, images=files.images, output=files.kernels[0], max_components=99)
    files.responses = write_responses(folder / "all.h5", ids[:N], sum(halves) / 2)
    files.halves = [
        write_responses(folder / f"half{n}.h5", ids[missing * n : N], own[missing * n :])
        for n, own in enumerate(halves)
    ]
    save_volume(files.mask, np.ones((N_VOXELS, 1, 1), bool), np.eye(4))
    return files


def compare(folder, files):
    similarity.score_rsa(
        spaces=["same", "other"],
        regions={"region": files.mask},
        form=FORM,
        interval=Interval(300, 0),
        output=folder / "rsa.tsv",
        **vars(files),
    )
    return pd.read_csv(folder / "rsa.tsv", sep="\t").set_index("space")


def test_the_same_geometry_reaches_the_ceiling_and_another_stays_at_chance(tmp_path):
    table = compare(tmp_path, make(tmp_path, noise=3.0, missing=5))
    same, other = table.loc["same"], table.loc["other"]
    assert same["rho"] > 0.7 and abs(other["rho"]) < other["chance"] < 0.15
    assert same["ci_low"] < same["rho"] < same["ci_high"] < same["rho"] + 0.1
    assert 0.8 < same["rho"] / same["ceiling"] <= 1.05
    assert set(table["n_images"]) == {N} and set(table["n_voxels"]) == {N_VOXELS}


def test_the_ceiling_follows_the_noise(tmp_path):
    ceilings = []
    for noise in (0.0, 4.0, 1e6):
        folder = tmp_path / str(noise)
        folder.mkdir()
        ceilings.append(compare(folder, make(folder, noise))["ceiling"].iloc[0])
    assert ceilings[0] == pytest.approx(1) and ceilings[0] > ceilings[1] > 0.4
    assert ceilings[2] < 0.3


@pytest.mark.parametrize(("noise", "lowest", "highest"), [(1, -0.02, 0.02), (10, -0.1, 0)])
def test_the_ceiling_is_the_correlation_with_the_true_geometry(noise, lowest, highest):
    rng = np.random.default_rng(2)
    signal = rng.standard_normal((120, DIM)) @ rng.standard_normal((DIM, N_VOXELS))
    trials = signal + noise * rng.standard_normal((3, *signal.shape))
    parts = (trials[[0, 2]].mean(axis=0), trials[1])
    ceiling = similarity.find_ceiling([similarity.measure_patterns(each) for each in parts])
    measured = (similarity.measure_patterns(each) for each in (signal, trials.mean(axis=0)))
    assert lowest < ceiling - similarity.compare_ranks(*measured) < highest


def test_pairs_are_compared_by_rank():
    a = np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0)))
    assert similarity.compare_ranks(a, a**3) == pytest.approx(1)
    assert similarity.compare_ranks(a, -a) == pytest.approx(-1)


def test_the_cosine_of_a_kernel():
    vectors = np.random.default_rng(1).standard_normal((5, 3))
    found = similarity.measure_kernel(vectors @ vectors.T)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(found, 1 - unit @ unit.T, atol=1e-12)


def test_halves_need_common_images(tmp_path):
    files = make(tmp_path, noise=1.0, missing=N - 1)
    with pytest.raises(InputError, match="3 test images with trials in both halves, found 1"):
        compare(tmp_path, files)

"""Exact Gram matrices of chunks against numpy's, and winners against ridge on whole features."""

import numpy as np
import pandas as pd
import pytest
from himalaya.backend import get_backend, set_backend
from sklearn.linear_model import Ridge

from nsdldm import ridge
from nsdldm.features import grams
from nsdldm.features.kernels import Kernels, compute_kernels
from nsdldm.support.chunks import chunk_rows
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_array, save_array, save_table

N, N_TEST, N_VOXELS = 130, 30, 40
ALPHAS = [1e-3, 1e-1, 1e1, 1e3]


@pytest.fixture(autouse=True)
def same_backend_after():
    """himalaya's backend belongs to the process."""
    before = get_backend().name
    yield
    set_backend(before)


def write_images(folder, n=N, n_test=N_TEST):
    split = np.full(n, "train")
    split[np.linspace(0, n - 1, n_test).astype(int)] = "test"
    save_table(folder / "images.tsv", pd.DataFrame({"split": split}))
    return split == "train"


def write_chunks(folder, name, features, n_chunks):
    """Chunks of a space as the pass through the U-Net leaves them."""
    paths = [folder / f"{name}.{chunk}.npy" for chunk in range(n_chunks)]
    for chunk, path in enumerate(paths):
        save_array(path, features[chunk_rows(len(features), chunk, n_chunks)])
    return paths


def gram_of(folder, chunks):
    given = {"chunks": chunks, "images": folder / "images.tsv", "device": "cpu"}
    paths = {name: folder / f"{name}_gram.npy" for name in chunks}
    grams.compute_grams(grams=paths, **given)
    return paths


@pytest.mark.parametrize("n_chunks", [1, 4])
@pytest.mark.parametrize("strip", [8 * N * 7, grams.STRIP])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_gram_matrix_is_all_products_of_centred_images(
    tmp_path, monkeypatch, n_chunks, strip, dtype
):
    monkeypatch.setattr(grams, "STRIP", strip)
    monkeypatch.setattr(grams, "COLUMNS_AT_ONCE", 5)
    train = write_images(tmp_path)
    # Far from zero, so that centring after the products would lose them.
    features = (np.random.default_rng(0).standard_normal((N, 601)) + 40).astype(dtype)
    paths = gram_of(tmp_path, {"x": write_chunks(tmp_path, "x", features, n_chunks)})
    X = features.astype(np.float64)
    X -= X[train].mean(axis=0)
    expected = X @ X.T
    found = load_array(paths["x"])
    assert found.dtype == np.float32 and found.shape == (N, N)
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())


def test_chunks_that_do_not_fit_together_are_refused(tmp_path):
    write_images(tmp_path)
    features = np.random.default_rng(0).standard_normal((N, 12)).astype(np.float16)
    paths = write_chunks(tmp_path, "x", features, 3)
    for wrong, message in (
        (paths[:2], r"float16 or float32 of shape \(65, 12\)"),
        (paths[::-1], r"of shape \(43, 12\)|of shape \(44, 12\)"),
    ):
        with pytest.raises(InputError, match=message):
            gram_of(tmp_path, {"x": wrong})
    save_array(paths[2], load_array(paths[2]).astype(np.float32))
    with pytest.raises(InputError, match=r"expected float16 of shape .* found float32"):
        gram_of(tmp_path, {"x": paths})
    assert not (tmp_path / "x_gram.npy").exists()


def test_activations_that_are_not_finite_are_refused(tmp_path):
    write_images(tmp_path)
    features = np.ones((N, 3), np.float16)
    features[70, 2] = np.inf
    with pytest.raises(InputError, match="finite numbers"):
        gram_of(tmp_path, {"x": write_chunks(tmp_path, "x", features, 2)})


def score_by_sklearn(X, Y, folds):
    """Best mean R² over folds of ridge on whole features, whose penalty means that of a kernel."""
    X = X - X.mean(axis=0)
    X /= np.sqrt(np.square(X).sum(axis=1).mean())
    scores = np.zeros((len(ALPHAS), Y.shape[1]))
    for train, test in folds:
        for row, alpha in enumerate(ALPHAS):
            predicted = Ridge(alpha=alpha).fit(X[train], Y[train]).predict(X[test])
            residual = np.square(Y[test] - predicted).sum(axis=0)
            scores[row] += 1 - residual / np.square(Y[test] - Y[test].mean(axis=0)).sum(axis=0)
    return scores.max(axis=0) / len(folds)


def test_winners_of_exact_kernels_are_those_of_whole_features(tmp_path):
    """Blocks that share most of their variance, over more columns than images."""
    train, rng = write_images(tmp_path), np.random.default_rng(1)
    shared = rng.standard_normal((N, 400))
    spaces = {
        name: (shared + 0.5 * rng.standard_normal((N, 400))) @ rng.standard_normal((400, columns))
        for name, columns in (("small", 150), ("middle", 900), ("large", 2500))
    }
    spaces = {name: values.astype(np.float16) for name, values in spaces.items()}
    chosen = rng.choice(list(spaces), N_VOXELS)
    Y = np.stack(
        [spaces[name] @ rng.standard_normal(spaces[name].shape[1]) for name in chosen], axis=1
    ).astype(np.float64)
    Y = (Y / Y.std(axis=0) + 0.3 * rng.standard_normal(Y.shape))[train].astype(np.float32)
    chunks = {name: write_chunks(tmp_path, name, values, 3) for name, values in spaces.items()}
    compute_kernels(
        grams=gram_of(tmp_path, chunks),
        images=tmp_path / "images.tsv",
        output=tmp_path / "kernels.h5",
        max_components=6400,
        device="cpu",
    )
    rows = np.flatnonzero(train), np.flatnonzero(~train)
    kernels = Kernels([tmp_path / "kernels.h5"])
    folds = ridge.group_folds(np.arange(train.sum()), 4, 0)
    found, expected = [], []
    for name in spaces:
        kernel, batches = kernels.read_parts(name, rows), {"targets": 100, "alphas": 4}
        found.append(ridge.fit_ridge(*kernel, Y, ALPHAS, folds, batches)[2])
        expected.append(score_by_sklearn(spaces[name][train].astype(np.float64), Y, folds))
    np.testing.assert_allclose(found, expected, atol=2e-3)
    best = np.argmax(expected, axis=0)
    np.testing.assert_array_equal(np.argmax(found, axis=0), best)
    assert len(set(best)) == 3


def test_the_kernel_of_a_gram_matrix_is_that_of_its_features(tmp_path):
    write_images(tmp_path)
    features = np.random.default_rng(2).standard_normal((N, 300)).astype(np.float32)
    save_array(tmp_path / "x.npy", features)
    paths = gram_of(tmp_path, {"x": write_chunks(tmp_path, "x", features, 2)})
    made = []
    for given in ({"features": {"x": tmp_path / "x.npy"}}, {"grams": paths}):
        compute_kernels(
            **given,
            images=tmp_path / "images.tsv",
            output=tmp_path / "k.h5",
            max_components=12,
            device="cpu",
        )
        made.append(Kernels([tmp_path / "k.h5"]).read("x"))
    np.testing.assert_allclose(*made, atol=1e-4)
    assert np.linalg.matrix_rank(made[1], tol=1e-4) == 12
    save_array(tmp_path / "y.npy", made[0][:, :-1])
    with pytest.raises(InputError, match=r"130 images .* Compute the Gram matrix again"):
        compute_kernels(
            grams={"y": tmp_path / "y.npy"},
            images=tmp_path / "images.tsv",
            output=tmp_path / "k.h5",
            max_components=12,
            device="cpu",
        )

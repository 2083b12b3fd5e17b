"""Kernels of feature spaces against Gram matrices and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from nsdldm.features import grams, kernels
from nsdldm.features.kernels import Kernels, compute_kernels, split_kernel
from nsdldm.ridge import group_folds
from nsdldm.support.errors import InputError
from nsdldm.support.files import save_array, save_table


def write_features(tmp_path, features, n_test):
    """Features and images on disk, with the test images in between."""
    split = np.full(len(features), "train")
    split[np.linspace(0, len(features) - 1, n_test).astype(int)] = "test"
    save_array(tmp_path / "x.npy", features)
    save_table(tmp_path / "images.tsv", pd.DataFrame({"split": split}))
    return split == "train"


def kernel_of(tmp_path, max_components=6400):
    compute_kernels(
        features={"x": tmp_path / "x.npy"},
        images=tmp_path / "images.tsv",
        output=tmp_path / "kernels.h5",
        max_components=max_components,
        device="cpu",
    )
    return Kernels([tmp_path / "kernels.h5"]).read("x")


def test_kernel_is_the_scaled_gram_matrix_of_centred_features(tmp_path, monkeypatch):
    monkeypatch.setattr(grams, "COLUMNS_AT_ONCE", 7)
    features = np.random.default_rng(3).standard_normal((40, 4, 5, 5)).astype(np.float32) + 20
    train = write_features(tmp_path, features, 8)
    kernel = kernel_of(tmp_path)
    X = features.reshape(40, -1).astype(float)
    X -= X[train].mean(axis=0)
    gram = X @ X.T
    np.testing.assert_allclose(kernel, gram / gram.diagonal()[train].mean(), atol=1e-5)
    assert kernel.dtype == np.float32
    assert kernel.diagonal()[train].mean() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(kernel[np.ix_(train, train)].sum(axis=0), 0, atol=1e-4)


@pytest.mark.parametrize("n_components", [3, 12])
def test_kernel_keeps_the_components_of_the_training_images(tmp_path, n_components):
    rng = np.random.default_rng(4)
    features = (rng.standard_normal((60, 50)) / np.arange(1, 51) ** 0.5).astype(np.float32) + 1
    train = write_features(tmp_path, features, 15)
    kernel = kernel_of(tmp_path, n_components)
    scores = PCA(n_components).fit(features[train]).transform(features)
    gram = scores @ scores.T
    np.testing.assert_allclose(kernel, gram / gram.diagonal()[train].mean(), atol=1e-4)
    assert np.linalg.matrix_rank(kernel, tol=1e-4) == n_components


def test_kernel_without_fewer_components_is_not_truncated(tmp_path):
    features = np.random.default_rng(5).standard_normal((30, 10)).astype(np.float32)
    write_features(tmp_path, features, 6)
    full = kernel_of(tmp_path, 6400)
    np.testing.assert_array_equal(kernel_of(tmp_path, 10), full)


def test_truncation_leaves_out_components_that_are_rounding(tmp_path):
    rng = np.random.default_rng(6)
    # 4 dimensions in 80 columns: components beyond the fourth would divide rounding by rounding.
    features = (rng.standard_normal((50, 4)) @ rng.standard_normal((4, 80))).astype(np.float32)
    train = write_features(tmp_path, features, 10)
    kernel = kernel_of(tmp_path, 20)
    X = features.astype(float) - features[train].mean(axis=0, dtype=float)
    gram = X @ X.T
    np.testing.assert_allclose(kernel, gram / gram.diagonal()[train].mean(), atol=1e-4)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((20, 3), np.float32), "vary"),
        (np.full((20, 3), np.nan, np.float32), "finite"),
        (np.random.default_rng(7).standard_normal((21, 3)).astype(np.float32), "20 images"),
    ],
)
def test_unusable_features_are_refused(tmp_path, features, message):
    write_features(tmp_path, np.zeros((20, 1), np.float32), 5)
    save_array(tmp_path / "x.npy", features)
    with pytest.raises(InputError, match=message):
        kernel_of(tmp_path)
    assert not (tmp_path / "kernels.h5").exists()


def test_parts_are_those_of_the_whole_strip_by_strip(tmp_path, monkeypatch):
    rng = np.random.default_rng(6)
    files = []
    for name in "xy":
        train = write_features(tmp_path, rng.standard_normal((25, 6)).astype(np.float32), 5)
        files.append(tmp_path / f"{name}.h5")
        compute_kernels(
            features={name: tmp_path / "x.npy"},
            images=tmp_path / "images.tsv",
            output=files[-1],
            max_components=6400,
        )
    found = Kernels(files)
    assert found.shapes == {"x": (25, 25), "y": (25, 25)} and found.find("y") == files[1]
    monkeypatch.setattr(kernels, "ROWS_AT_ONCE", 4)
    # Single trials, in any order and some images more than once.
    rows = rng.choice(np.flatnonzero(train), 50), np.flatnonzero(~train)[::-1]
    for name in "xy":
        whole = found.read(name)
        for part, samples in zip(found.read_parts(name, rows), rows, strict=True):
            np.testing.assert_array_equal(part, whole[np.ix_(samples, rows[0])])
    with pytest.raises(InputError, match="kernel of w in one of the files, found those of x, y"):
        found.read("w")


def test_the_linear_part_is_that_of_ridge_regression_fold_by_fold():
    """scikit-learn's predictions, whose Gram matrices are taken by hand."""
    rng, n_train, n = np.random.default_rng(3), 80, 100
    train = np.arange(n) < n_train
    z = rng.standard_normal((n, 30))
    b = z @ rng.standard_normal((30, 12)) + 3 * rng.standard_normal((n, 12))
    z, b = (x - x[train].mean(axis=0) for x in (z, b))
    folds, alphas = group_folds(np.arange(n_train), 4, 0), [0.1, 1, 10, 100, 1000]
    linear, rest, alpha = split_kernel(b @ b.T, z @ z.T, train, alphas, folds)
    errors, parts = [], []
    for penalty in alphas:
        predicted = np.empty_like(b)
        for fold, held in [*folds, (np.arange(n_train), np.arange(n_train, n))]:
            model = Ridge(alpha=penalty, fit_intercept=False).fit(z[fold], b[fold])
            predicted[held] = model.predict(z[held])
        errors.append(np.square(b - predicted)[train].sum())
        parts.append(predicted)
    best = int(np.argmin(errors))
    assert alpha == alphas[best] and 0 < best < 4
    for kernel, part in ((linear, parts[best]), (rest, b - parts[best])):
        part = part - part[train].mean(axis=0)
        np.testing.assert_allclose(kernel, part @ part.T, rtol=1e-4, atol=1e-3)

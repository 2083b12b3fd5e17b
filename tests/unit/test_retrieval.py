from math import comb

import numpy as np
import pandas as pd
import pytest
from nsd_files import write_stimuli
from PIL import Image
from scipy.spatial.distance import cosine

from nsdldm.decoding import neighbours
from nsdldm.diffusion.pictures import ATTRIBUTES, open_reconstructions
from nsdldm.evaluation.retrieval import (
    count_rivals,
    find_nearest,
    score_retrieval,
    score_top_k,
    write_nearest,
)
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table

N, N_TEST = 40, 12


@pytest.fixture
def files(tmp_path):
    """Embeddings with much in common, of two tokens each; test images are not together."""
    rng = np.random.default_rng(3)
    common = 4 + rng.standard_normal((N, 1, 1))
    true = (common + rng.standard_normal((N, 2, 15))).astype(np.float32)
    test = np.sort(rng.permutation(N)[:N_TEST])
    ids = 500 - np.arange(N)
    split = np.where(np.isin(np.arange(N), test), "test", "train")
    table = pd.DataFrame({"nsd_id": ids, "coco_id": ids + 1000, "split": split})
    table.to_csv(tmp_path / "images.tsv", sep="\t", index=False)
    noise = rng.standard_normal((N_TEST, 2, 15))
    np.save(tmp_path / "true.npy", true)
    np.save(tmp_path / "decoded.npy", (true[test] + 3 * noise).astype(np.float32))
    return tmp_path


def paths(folder):
    return {
        "decoded": folder / "decoded.npy",
        "features": folder / "true.npy",
        "images": folder / "images.tsv",
    }


def score(folder, candidates=(5,), bootstrap=500):
    score_retrieval(
        **paths(folder),
        candidates=list(candidates),
        bootstrap=bootstrap,
        seed=1,
        table=folder / "scores.tsv",
    )
    return load_table(folder / "scores.tsv")


def read(folder):
    """Decoded and true embeddings, flat, and which images are test images."""
    made, true = (np.load(folder / name).astype(float) for name in ("decoded.npy", "true.npy"))
    test = np.flatnonzero(load_table(folder / "images.tsv")["split"] == "test")
    return made.reshape(len(made), -1), true.reshape(len(true), -1), test


def draw(similar, right, k, size, n_draws=4000, seed=0):
    """How often the right candidate is among the best k of candidates drawn at random."""
    rng, hits = np.random.default_rng(seed), 0
    others = np.delete(np.arange(len(similar)), right)
    for _ in range(n_draws):
        rivals = similar[rng.choice(others, size - 1, replace=False)]
        hits += (rivals >= similar[right]).sum() < k
    return hits / n_draws


@pytest.mark.parametrize("block", [10**9, 1000])
@pytest.mark.parametrize("centred", [False, True])
def test_every_value_equals_a_plain_loop(files, monkeypatch, block, centred):
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", block)
    table = score(files, candidates=(5, 300)).query("centred == @centred")
    made, true, test = read(files)
    if centred:
        mean = np.delete(true, test, axis=0).mean(axis=0)
        made, true = made - mean, true - mean
    similar = np.array([[1 - cosine(a, b) for b in true] for a in made])
    square = similar[:, test]
    whole = {
        "image": (square, np.arange(N_TEST)),
        "brain": (square.T, np.arange(N_TEST)),
        "all": (similar, test),
    }
    seen = set()
    for row in table.itertuples():
        matrix, right = whole[row.direction]
        assert row.candidates in ((N,) if row.direction == "all" else (5, N_TEST))
        if row.candidates == len(matrix[0]):
            order = np.argsort(-matrix, axis=1)[:, : row.k]
            expected = np.mean([right[i] in order[i] for i in range(N_TEST)])
            assert row.value == pytest.approx(expected, abs=1e-6)
        else:
            drawn = [draw(matrix[i], right[i], row.k, row.candidates) for i in range(N_TEST)]
            assert row.value == pytest.approx(np.mean(drawn), abs=0.012)
        assert row.chance == pytest.approx(row.k / row.candidates, rel=1e-5)
        assert row.low <= row.value <= row.high
        assert row.n == N_TEST
        seen.add((row.direction, row.candidates, row.k))
    of_all = {("all", N, k) for k in (1, 5, 10)}
    both = {(way, *rest) for way in ("image", "brain") for rest in ((5, 1), (12, 1), (12, 5))}
    assert seen == of_all | both


def test_some_values_are_neither_trivial_nor_equal(files):
    """So that the comparison with the loop can fail."""
    table = score(files).set_index(["direction", "centred", "candidates", "k"])["value"]
    assert 0.1 < table["image", False, N_TEST, 1] < 0.99
    assert table["image", False, N_TEST, 1] != table["brain", False, N_TEST, 1]
    assert table["image", True, 5, 1] > table["image", True, N_TEST, 1]


@pytest.mark.parametrize(("total", "size"), [(982, 300), (20, 20), (20, 2), (1000, 300)])
def test_top_1_is_the_ratio_of_binomials(total, size):
    rivals = np.array([0, 1, 2, 5, total - size, total - 1])
    found = score_top_k(rivals, total, size, 1)
    expected = [comb(total - 1 - r, size - 1) / comb(total - 1, size - 1) for r in rivals]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)


def test_top_k_sums_to_all_ranks():
    """The place of the right one among the candidates, over k, is a distribution."""
    found = np.stack([score_top_k(np.arange(30), 30, 8, k) for k in range(1, 9)])
    assert (np.diff(found, axis=0) >= -1e-12).all()
    np.testing.assert_allclose(found[-1], 1)
    # Without information every number of rivals is as likely, and the mean is chance.
    np.testing.assert_allclose(found.mean(axis=1), np.arange(1, 9) / 8, rtol=1e-9)


def test_ties_and_undefined_similarities_are_misses():
    own = np.array([[0.5]] * 3 + [[np.nan]])
    others = np.array([[0.5, 0.5, 0.1], [0.5, 0.4, 0.1], [0.5, np.nan, 0.1], [np.nan, 0.1, 0.2]])
    np.testing.assert_array_equal(count_rivals(others, own), [1, 0, 1, 2])


def test_equal_decoded_embeddings_retrieve_nothing(files):
    made = np.load(files / "decoded.npy")
    np.save(files / "decoded.npy", np.repeat(made[:1], N_TEST, axis=0))
    table = score(files).set_index(["direction", "centred", "candidates", "k"])["value"]
    # An image finds the same similarity everywhere; one embedding finds one image.
    assert table["brain", False, N_TEST, 1] == table["brain", True, N_TEST, 5] == 0
    assert table["image", False, N_TEST, 1] == pytest.approx(1 / N_TEST, abs=1e-6)


def test_perfect_decoding_retrieves_everything(files):
    _, true, test = read(files)
    np.save(files / "decoded.npy", true[test].reshape(N_TEST, 2, 15))
    assert (score(files, [3, 5])["value"] == 1).all()


def test_nearest_images_are_training_images_by_a_plain_loop(files):
    find_nearest(**paths(files), output=files / "nearest.tsv")
    table, images = load_table(files / "nearest.tsv"), load_table(files / "images.tsv")
    made, true, test = read(files)
    train = np.delete(np.arange(N), test)
    mean = true[train].mean(axis=0)
    np.testing.assert_array_equal(table["nsd_id"], images["nsd_id"][test])
    for row, vector in zip(table.itertuples(), made, strict=True):
        similar = [1 - cosine(vector - mean, true[place] - mean) for place in train]
        assert row.nearest == images["nsd_id"][train[int(np.argmax(similar))]]
        assert row.similarity == pytest.approx(max(similar), abs=1e-5)
    assert table["nearest"].nunique() > 3
    # Not centred, others are nearest: what all have in common is most of the cosine.
    raw = [train[np.argmin([cosine(vector, true[place]) for place in train])] for vector in made]
    assert (images["nsd_id"].to_numpy()[raw] != table["nearest"]).any()


def test_nearest_pictures_are_a_file_of_reconstructions(files):
    find_nearest(**paths(files), output=files / "nearest.tsv")
    table = load_table(files / "nearest.tsv")
    rng = np.random.default_rng(0)
    pictures = {
        int(number): np.asarray(
            Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)).resize((425, 425))
        )
        for number in table["nearest"].unique()
    }
    write_stimuli(files / "stimuli.hdf5", pictures, 501)
    write_nearest(
        nearest=files / "nearest.tsv",
        images=files / "images.tsv",
        stimuli=files / "stimuli.hdf5",
        resolution=64,
        output=files / "nearest.h5",
    )
    with open_reconstructions(files / "nearest.h5") as made:
        assert made.images.shape == (N_TEST, 1, 64, 64, 3)
        np.testing.assert_array_equal(made.nsd_ids, table["nsd_id"])
        assert {*ATTRIBUTES} <= {*made.attrs}
        assert made.attrs["method"] == "nearest"
        assert made.attrs["num_inference_steps"] == 0
        for row, number in enumerate(table["nearest"]):
            seen = Image.fromarray(pictures[number])
            expected = np.asarray(seen.resize((64, 64), Image.Resampling.BICUBIC))
            np.testing.assert_array_equal(made.images[row, 0], expected)


def test_nearest_of_other_images_is_refused(files):
    find_nearest(**paths(files), output=files / "nearest.tsv")
    table = load_table(files / "nearest.tsv")
    wrong = [table[::-1], table.assign(nearest=table["nsd_id"])]
    for each in wrong:
        each.to_csv(files / "nearest.tsv", sep="\t", index=False)
        with pytest.raises(InputError, match="a training image for each test image"):
            write_nearest(
                nearest=files / "nearest.tsv",
                images=files / "images.tsv",
                stimuli=files / "stimuli.hdf5",
                resolution=64,
                output=files / "nearest.h5",
            )


def test_bad_inputs_are_named(files):
    made, true = np.load(files / "decoded.npy"), np.load(files / "true.npy")
    np.save(files / "decoded.npy", made[:-1])
    with pytest.raises(InputError, match=r"decoded.npy: expected a row for each of 12 images"):
        score(files)
    np.save(files / "decoded.npy", made[:, :, :-1])
    with pytest.raises(InputError, match=r"found an array of shape \(12, 2, 14\)"):
        score(files)
    np.save(files / "decoded.npy", np.where(made == made.max(), np.nan, made))
    with pytest.raises(InputError, match="embeddings: expected finite values"):
        score(files)
    np.save(files / "decoded.npy", made)
    with pytest.raises(InputError, match="1 candidates"):
        score(files, [1])
    # Decoded without any information, exactly.
    np.save(files / "true.npy", np.round(true))
    mean = np.delete(np.round(true), read(files)[2], axis=0).mean(axis=0, dtype=np.float64)
    np.save(files / "decoded.npy", np.repeat(mean[None], N_TEST, axis=0))
    with pytest.raises(InputError, match="none for 12 images"):
        find_nearest(**paths(files), output=files / "nearest.tsv")

"""Decoders through a bottleneck against a second computation, and baselines."""

import numpy as np
import pandas as pd
import pytest
from decoding_files import SETTINGS, write_subject

from nsdldm.decoding import decoders
from nsdldm.decoding.baselines import write_baselines
from nsdldm.decoding.bottleneck import WholeStudy, restrict_decoders
from nsdldm.evaluation.identification import correlate_rows, identify
from nsdldm.responses import Responses, average_trials
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_array, load_table, save_array, save_table

N, N_TEST, N_VOXELS = 150, 60, 14
SHAPES = {"z": (4, 2, 2), "c": (3, 2)}
FULL = 1000


def make_subject(folder, n_latent, regions, units=1.0, noise=2.0):
    """z and c are mixtures of a few numbers, which all voxels mix too."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(N, n_latent))
    features = {}
    for name, shape in SHAPES.items():
        mixed = latent @ rng.normal(size=(n_latent, int(np.prod(shape)))) + 3
        features[name] = mixed.reshape(N, *shape)
    features["c"] = features["c"] * units
    features["c"][:, 0] = [7, -7]
    signals = {name: latent @ rng.normal(size=(n_latent, N_VOXELS)) for name in {*regions.values()}}
    return write_subject(folder, features, signals, regions, N_TEST, noise)


TOGETHER, APART = {"z": "early", "c": "early"}, {"z": "early", "c": "ventral"}


def decode(subject, folder, protocol="corrected", settings=SETTINGS, weights=False):
    """By the decoders as they are."""
    kinds = {"decoded": "npy", "dimensions": "tsv", "by_image": "images.tsv"}
    kinds |= {"weights": "w.npy"} if weights else {}
    outputs = {
        kind: {name: folder / f"{protocol}-{name}.{suffix}" for name in SHAPES}
        for kind, suffix in kinds.items()
    }
    decoders.decode_features(**subject, protocol=protocol, settings=settings, **outputs)
    found = {name: np.array(load_array(path)) for name, path in outputs["decoded"].items()}
    if not weights:
        return found
    return found, {name: load_array(path) for name, path in outputs["weights"].items()}


def restrict(subject, folder, ranks, protocol="corrected", settings=SETTINGS, noise=None):
    """Through a bottleneck, by rank and target."""
    decoded = {rank: {name: folder / f"{rank}-{name}.npy" for name in SHAPES} for rank in ranks}
    given = {"protocol": protocol, "settings": settings, "ranks": ranks, "noise": noise}
    restrict_decoders(**subject, **given, decoded=decoded)
    return {
        rank: {name: np.array(load_array(path)) for name, path in paths.items()}
        for rank, paths in decoded.items()
    }


def join(decoded):
    return np.concatenate([values.reshape(N_TEST, -1) for values in decoded.values()], axis=1)


@pytest.mark.parametrize("protocol", decoders.PROTOCOLS)
def test_all_components_are_no_restriction(tmp_path, protocol):
    subject = make_subject(tmp_path, 4, APART)
    whole = decode(subject, tmp_path, protocol)
    found = restrict(subject, tmp_path / "few", [FULL], protocol)[FULL]
    for name, shape in SHAPES.items():
        assert found[name].shape == (N_TEST, *shape)
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], whole[name], atol=1e-5)


@pytest.mark.parametrize("protocol", ["corrected", "rescaled", "rescaled-test"])
def test_what_is_planted_in_one_number_passes_through_one(tmp_path, protocol):
    subject = make_subject(tmp_path, 1, TOGETHER)
    whole = decode(subject, tmp_path, protocol)
    found = restrict(subject, tmp_path / "few", [1], protocol)[1]
    for name in SHAPES:
        np.testing.assert_allclose(found[name], whole[name], atol=1e-4)


def test_two_regions_that_see_one_number_pass_two_on(tmp_path):
    """The noise of their voxels is not the same."""
    subject = make_subject(tmp_path, 1, APART)
    whole = join(decode(subject, tmp_path))
    found = restrict(subject, tmp_path / "few", [1, 2])
    np.testing.assert_allclose(join(found[2]), whole, atol=1e-4)
    assert np.abs(join(found[1]) - whole).max() > 0.05


def test_the_planted_rank_is_enough_and_less_is_not(tmp_path):
    subject = make_subject(tmp_path, 3, TOGETHER)
    settings = SETTINGS._replace(alphas=[10.0])
    whole = join(decode(subject, tmp_path, settings=settings))
    found = restrict(subject, tmp_path / "few", [1, 2, 3, 5], settings=settings)
    errors = [np.abs(join(found[rank]) - whole).max() for rank in (1, 2, 3, 5)]
    assert errors[0] > errors[1] > 0.1
    assert max(errors[2:]) < 1e-4


@pytest.mark.parametrize("protocol", ["corrected", "rescaled", "rescaled-test", "takagi2023"])
def test_predictions_span_as_many_dimensions_as_numbers_pass(tmp_path, protocol):
    subject = make_subject(tmp_path, 8, APART)
    found = restrict(subject, tmp_path, [1, 2, 5], protocol)
    for rank, decoded in found.items():
        deviations = join(decoded).astype(np.float64)
        deviations -= deviations.mean(axis=0)
        sizes = np.linalg.svd(deviations, compute_uv=False)
        assert sizes[rank - 1] > 1e-3 * sizes[0]
        assert sizes[rank] < 1e-5 * sizes[0]


def test_components_are_those_of_the_training_images_predictions(tmp_path, monkeypatch):
    """By hand, from weights and a singular value decomposition."""
    plain = decoders.CORRECTED._replace(gain=False)
    monkeypatch.setitem(decoders.PROTOCOLS, "plain", plain)
    subject = make_subject(tmp_path, 8, APART, units=1000)
    whole, weights = decode(subject, tmp_path, "plain", weights=True)
    found = restrict(subject, tmp_path / "few", [3], "plain")[3]
    train = (load_table(subject["images"])["split"] == "train").to_numpy()
    known, made, middles, scales = [], [], [], []
    for name, region in APART.items():
        responses = Responses(subject["responses"][region], "zscored/trials")
        ids = np.unique(responses.train_ids)
        averages, _ = average_trials(responses.read_train(), responses.train_ids, ids)
        test = responses.read_test()
        predicted = averages.astype(np.float64) @ weights[name]
        middle = predicted.mean(axis=0)
        true = np.array(load_array(subject["features"][name]))[train].reshape(train.sum(), -1)
        scale = np.sqrt(true.var(axis=0, dtype=np.float64).sum())
        known.append((predicted - middle) / scale)
        made.append((test @ weights[name] - middle) / scale)
        # Weights are without the intercept.
        middles.append(middle + (whole[name].reshape(N_TEST, -1) - test @ weights[name]).mean(0))
        scales.append(np.full(len(middle), scale))
    components = np.linalg.svd(np.concatenate(known, axis=1), full_matrices=False)[2][:3]
    kept = np.concatenate(made, axis=1) @ components.T @ components
    expected = np.concatenate(middles) + np.concatenate(scales) * kept
    n_z = int(np.prod(SHAPES["z"]))
    np.testing.assert_allclose(join(found)[:, :n_z], expected[:, :n_z], atol=1e-4)
    np.testing.assert_allclose(join(found)[:, n_z:], expected[:, n_z:], rtol=1e-4, atol=0.1)


def test_the_gain_is_that_of_the_whole_decoder_at_every_rank(tmp_path, monkeypatch):
    plain = decoders.CORRECTED._replace(gain=False)
    monkeypatch.setitem(decoders.PROTOCOLS, "plain", plain)
    subject = make_subject(tmp_path, 8, APART, noise=6.0)
    known = [restrict(subject, tmp_path / p, [1, 3, FULL], p) for p in ("corrected", "plain")]
    for name in SHAPES:
        gains = []
        for rank in (1, 3, FULL):
            larger, smaller = (each[rank][name][:, 1].reshape(N_TEST, -1)[:, 0] for each in known)
            gains.append(np.polyfit(smaller, larger, 1)[0])
        assert gains[-1] > 1.1
        np.testing.assert_allclose(gains, gains[-1], rtol=1e-3)


def test_features_that_do_not_vary_have_no_component(tmp_path):
    subject = make_subject(tmp_path, 3, TOGETHER)
    for name, shape in SHAPES.items():
        save_array(subject["features"][name], np.full((N, *shape), 2, np.float32))
    found = restrict(subject, tmp_path / "few", [1, 3])
    assert all((values == 2).all() for each in found.values() for values in each.values())


def test_the_unit_of_a_target_does_not_matter(tmp_path):
    found = {}
    for units in (1.0, 1000.0):
        folder = tmp_path / str(units)
        subject = make_subject(folder, 8, TOGETHER, units=units)
        found[units] = restrict(subject, folder / "few", [2])[2]
    np.testing.assert_allclose(found[1000.0]["z"], found[1.0]["z"], atol=1e-3)
    # But for the token that is constant.
    ours, theirs = (found[units]["c"][:, 1:] for units in (1.0, 1000.0))
    np.testing.assert_allclose(theirs / 1000, ours, atol=1e-3)


def test_restricted_predictions_are_rescaled_after_the_bottleneck(tmp_path):
    subject = make_subject(tmp_path, 8, TOGETHER)
    images = load_table(subject["images"])
    shown = images["split"] == "train"
    known = np.array(load_array(subject["features"]["z"]))[shown].reshape(shown.sum(), -1)
    for protocol, tolerance in (("rescaled-test", 1e-3), ("rescaled", 0.3)):
        found = restrict(subject, tmp_path / protocol, [2], protocol)[2]["z"]
        spread = found.reshape(N_TEST, -1).std(axis=0) / known.std(axis=0)
        np.testing.assert_allclose(spread, 1, atol=tolerance)


def score(subject, decoded):
    """Two-way identification of each target."""
    test = (load_table(subject["images"])["split"] == "test").to_numpy()
    for name, values in decoded.items():
        true = np.array(load_array(subject["features"][name]))[test].reshape(N_TEST, -1)
        yield identify(correlate_rows(true, values.reshape(N_TEST, -1)))[0].mean()


@pytest.mark.parametrize("protocol", ["corrected", "rescaled", "takagi2023"])
def test_noise_is_at_chance_at_every_rank_and_the_brain_is_not(tmp_path, protocol):
    subject = make_subject(tmp_path, 8, APART)
    ranks = [1, 2, 5, 10, FULL]
    noise = restrict(subject, tmp_path / "noise", ranks, protocol, noise=0)
    brain = restrict(subject, tmp_path / "brain", ranks, protocol)
    # The score of an image is uniform by chance; four standard errors of a mean over images.
    bound = 4 * np.sqrt(1 / 12 / N_TEST)
    for rank in ranks:
        assert all(abs(found - 0.5) < bound for found in score(subject, noise[rank]))
    assert min(score(subject, brain[1])) > 0.55
    assert min(score(subject, brain[FULL])) > 0.5 + 2 * bound


def test_noise_is_uniform_as_large_as_trials_and_follows_its_seed(tmp_path):
    subject = make_subject(tmp_path, 3, APART)
    names = ("responses", "images", "features", "z_logvar", "regions")
    known = [subject[name] for name in names]
    X, _ = WholeStudy(*known).read("early", True)
    first, again, other = (WholeStudy(*known, noise).read("early", True) for noise in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert np.abs(np.corrcoef(first[0].ravel(), other[0].ravel())[0, 1]) < 0.1
    assert first[0].shape == X.shape
    assert first[0].dtype == np.float32
    assert first[0].mean() == pytest.approx(0, abs=0.05)
    assert first[0].std() == pytest.approx(X.std(), rel=0.05)
    assert np.abs(first[0]).max() <= np.sqrt(3) * X.std() * 1.001
    # Three trials of each test image, and of each training image.
    for averages in (first[1][:N_TEST], first[1][N_TEST:]):
        assert averages.std() == pytest.approx(X.std() / np.sqrt(3), rel=0.05)
    region, _ = WholeStudy(*known, 1).read("ventral", True)
    assert np.abs(np.corrcoef(first[0].ravel(), region.ravel())[0, 1]) < 0.1


def test_no_number_is_one_clear_error(tmp_path):
    subject = make_subject(tmp_path, 3, TOGETHER)
    with pytest.raises(InputError, match=r"`ranks`: expected ranks of at least 1, found \[0, 2\]"):
        restrict(subject, tmp_path, [0, 2])


def test_too_little_memory_is_one_clear_error(tmp_path):
    subject = make_subject(tmp_path, 3, TOGETHER)
    settings = SETTINGS._replace(memory_gb=0.3)
    with pytest.raises(InputError, match=r"`memory_gb`: expected at least 0.7, found 0.3"):
        restrict(subject, tmp_path, [1], settings=settings)


@pytest.fixture
def embedded(tmp_path):
    """Features of four training, three test and three other images."""
    splits = ["test", "train", "unused", "train", "test", "align", "train", "train", "test", ""]
    images = pd.DataFrame({"nsd_id": np.arange(10) + 70, "split": splits})
    save_table(tmp_path / "images.tsv", images)
    values = np.random.default_rng(0).normal(size=(10, 3, 2)).astype(np.float32)
    values[[2, 5, 9]] = 1e6
    save_array(tmp_path / "c.npy", values)
    return tmp_path, values


def write(folder, wanted=("mean", "true")):
    outputs = {kind: {"c": folder / f"{kind}.npy"} for kind in wanted}
    write_baselines(images=folder / "images.tsv", features={"c": folder / "c.npy"}, **outputs)
    return {kind: load_array(folder / f"{kind}.npy") for kind in wanted}


def test_baselines_are_the_training_mean_and_the_truth(embedded):
    folder, values = embedded
    found = write(folder)
    np.testing.assert_array_equal(found["true"], values[[0, 4, 8]])
    assert found["mean"].dtype == found["true"].dtype == np.float32
    mean = values[[1, 3, 6, 7]].mean(axis=0)
    np.testing.assert_allclose(found["mean"], [mean] * 3, rtol=1e-6)


def test_a_baseline_is_written_where_it_is_wanted(embedded):
    folder, _ = embedded
    write(folder, ["mean"])
    assert not (folder / "true.npy").exists()


def test_baselines_of_other_images_are_one_clear_error(embedded):
    folder, values = embedded
    save_array(folder / "c.npy", values[1:])
    with pytest.raises(InputError, match=r"c.npy: expected one row for each of the 10 images"):
        write(folder)


@pytest.mark.parametrize(("split", "what"), [("train", "training"), ("test", "test")])
def test_baselines_without_images_are_one_clear_error(embedded, split, what):
    folder, _ = embedded
    images = load_table(folder / "images.tsv")
    images["split"] = images["split"].replace(split, "unused")
    save_table(folder / "images.tsv", images)
    with pytest.raises(InputError, match=rf"images.tsv: expected {what} images, found none"):
        write(folder)

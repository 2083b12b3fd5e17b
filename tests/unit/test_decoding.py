"""Decoders against closed forms, and what each protocol's choices do."""

import numpy as np
import pandas as pd
import pytest
from himalaya.backend import set_backend
from sklearn.metrics import r2_score

from nsdldm import ridge
from nsdldm.decoding import decoders as decoding
from nsdldm.decoding.decoders import PROTOCOLS, PUBLISHED_ALPHAS, DecoderSettings
from nsdldm.decoding.learning import fit_learning_curve
from nsdldm.evaluation.tables import tabulate_protocols
from nsdldm.responses import Responses, prepare_responses
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_array, load_table, open_hdf5, save_array, save_table

ALPHAS = [1.0, 10.0, 100.0, 1000.0, 1e4]
N_TRAIN, N_TEST, N_VOXELS = 60, 20, 12


@pytest.fixture
def subject(tmp_path):
    """A subject whose voxels see z (4 x 2 x 2) and c (3 x 2, first token constant) with noise."""
    rng = np.random.default_rng(0)
    n = N_TRAIN + N_TEST
    z = rng.normal(size=(n, 4, 2, 2)).astype(np.float32) + 3
    c = rng.normal(size=(n, 3, 2)).astype(np.float32) - 5
    c[:, 0] = [7, -7]
    splits = np.where(np.arange(n) % 4 == 3, "test", "train")
    images = pd.DataFrame({"nsd_id": rng.permutation(1000)[:n], "split": splits, "n_trials": 3})
    shown = rng.permutation(np.repeat(np.arange(n), 3))
    trials = pd.DataFrame(
        {
            "session": np.repeat([1, 2, 3], n),
            "nsd_id": images["nsd_id"].to_numpy()[shown],
            "split": splits[shown],
        }
    )
    save_table(tmp_path / "trials.tsv", trials)
    save_table(tmp_path / "images.tsv", images)
    responses = {}
    for roi, feature in (("early", z), ("ventral", c)):
        flat = feature.reshape(n, -1)
        signal = (flat - flat.mean(0)) @ rng.normal(size=(flat.shape[1], N_VOXELS))
        drift = trials["session"].to_numpy()[:, None] * rng.normal(size=N_VOXELS)
        values = signal[shown] + drift + rng.normal(size=(3 * n, N_VOXELS))
        save_array(tmp_path / f"{roi}.npy", values.astype(np.float32))
        responses[roi] = tmp_path / f"{roi}.h5"
        prepare(responses[roi])
    features = {"z": tmp_path / "z.npy", "c": tmp_path / "c.npy"}
    save_array(features["z"], z)
    save_array(features["c"], c)
    save_array(tmp_path / "z_logvar.npy", np.full(z.shape, -6, np.float32))
    return {
        "images": tmp_path / "images.tsv",
        "responses": responses,
        "features": features,
        "z_logvar": tmp_path / "z_logvar.npy",
        "regions": {"z": "early", "c": "ventral"},
    }


def prepare(path):
    """Responses of a region from its betas beside it."""
    prepare_responses(
        **{name: path.with_name(f"{name}.tsv") for name in ("trials", "images")},
        betas=path.with_suffix(".npy"),
        output=path,
        forms=["zscored/trials", "scaled/trials"],
    )


HOW = {"settings": DecoderSettings(ALPHAS, 4, memory_gb=2, seed=1, device="cpu")}


def decode(subject, folder, protocol="corrected", weights=False, **changes):
    kinds = {"decoded": "npy", "dimensions": "tsv", "by_image": "images.tsv"}
    if weights:
        kinds["weights"] = "weights.npy"
    outputs = {
        kind: {name: folder / protocol / f"{name}.{suffix}" for name in ("z", "c")}
        for kind, suffix in kinds.items()
    }
    decoding.decode_features(**subject | HOW | changes, protocol=protocol, **outputs)
    return {
        kind: {
            name: load_array(path) if str(path).endswith("npy") else load_table(path)
            for name, path in paths.items()
        }
        for kind, paths in outputs.items()
    }


def closed_form(X, Y, X_test):
    """The published ridge in numpy alone: five contiguous folds, squared error, no intercept."""

    def solve(x, y, alpha):
        return np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ y)

    folds = np.array_split(np.arange(len(X)), 5)
    errors = np.zeros((len(PUBLISHED_ALPHAS), Y.shape[1]))
    for fold in folds:
        kept = np.setdiff1d(np.arange(len(X)), fold)
        for i, alpha in enumerate(PUBLISHED_ALPHAS):
            residual = Y[fold] - X[fold] @ solve(X[kept], Y[kept], alpha)
            errors[i] += np.square(residual).mean(axis=0)
    best = np.array(PUBLISHED_ALPHAS)[errors.argmin(axis=0)]
    weights = np.stack([solve(X, Y[:, [j]], a)[:, 0] for j, a in enumerate(best)], axis=1)
    return X_test @ weights, best


def simulate(n_targets=300, voxels=40, spread=0.15, noise=3.0):
    """More voxels than what they share, and much noise, so that the penalty matters."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(203, 10))
    X = latent @ rng.normal(size=(10, voxels)) + spread * rng.normal(size=(203, voxels))
    Y = latent @ rng.normal(size=(10, n_targets)) + noise * rng.normal(size=(203, n_targets)) + 1
    X = (X - X[:180].mean(0)) / X[:180].std(0)
    return X[:180], Y[:180], X[180:]


def test_published_arithmetic_in_float64_is_the_closed_form():
    ridge.set_device("cpu")
    X, Y, X_test = simulate(voxels=12, spread=0.5, noise=1.0)
    predicted, chosen, _ = ridge.fit_decoder(X, Y, X_test, PUBLISHED_ALPHAS, 5, False)
    expected, best = closed_form(X, Y, X_test)
    np.testing.assert_array_equal(chosen, best)
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=1e-8)
    assert len(set(chosen)) > 1


def test_published_arithmetic_in_float32_is_close_to_it():
    ridge.set_device("cpu")
    X, Y, X_test = simulate(n_targets=1000)
    singles = [array.astype(np.float32) for array in (X, Y, X_test)]
    predicted, chosen, _ = ridge.fit_decoder(*singles, PUBLISHED_ALPHAS, 5, False)
    expected, best = closed_form(X, Y, X_test)
    same = chosen == best
    assert same.mean() >= 0.995
    error = np.abs(predicted - expected)[:, same] / Y.std(axis=0)[same]
    assert error.max() < 1e-3


def solve(X, Y, alpha):
    """Ridge with an intercept, for one penalty; returns weights and the means of X and Y."""
    x, y = X.mean(axis=0), Y.mean(axis=0)
    centred = X - x
    return np.linalg.solve(centred.T @ centred + alpha * np.eye(X.shape[1]), centred.T @ (Y - y)), (
        x,
        y,
    )


def test_penalties_are_chosen_by_the_squared_error_with_an_intercept_too():
    """R² of a fold in which a target hardly varies outweighs all others."""
    ridge.set_device("cpu")
    X, Y, X_test = simulate(n_targets=40)
    Y[:36] = Y[:36].mean(axis=0) + 0.1 * (Y[:36] - Y[:36].mean(axis=0))
    folds = [(np.setdiff1d(np.arange(180), part), part) for part in np.split(np.arange(180), 5)]
    errors = np.zeros((2, len(ALPHAS), 40))
    for train, left_out in folds:
        for i, alpha in enumerate(ALPHAS):
            weights, (x, y) = solve(X[train], Y[train], alpha)
            residual = np.square(Y[left_out] - y - (X[left_out] - x) @ weights).mean(axis=0)
            errors[:, i] += residual, residual / Y[left_out].var(axis=0)
    by_error, by_r2 = np.array(ALPHAS)[errors.argmin(axis=1)]
    assert (by_error != by_r2).mean() > 0.2
    _, chosen, _ = ridge.fit_decoder(X, Y, X_test, ALPHAS, folds, True)
    np.testing.assert_array_equal(chosen, by_error)


def test_gain_is_the_slope_of_truth_on_predictions_of_left_out_averages():
    ridge.set_device("cpu")
    rng = np.random.default_rng(3)
    true = rng.normal(size=(90, 8)) * [1, 1, 1, 1, 5, 5, 5, 0] + 4
    # 60 images are shown three times, 30 once.
    nsd_ids = rng.permutation(np.r_[np.repeat(np.arange(60), 3), np.arange(60, 90)]) + 100
    Y = true[nsd_ids - 100]
    X = (Y - 4) @ rng.normal(size=(8, 30)) + 25 * rng.normal(size=(210, 30))
    alphas = np.array([1e3, 1e4, 1e5, 1e6] * 2)
    folds = ridge.group_folds(nsd_ids, 4, 0)
    # A quarter of the test images is shown once.
    weights = decoding.weigh_images(nsd_ids, np.array([3, 3, 1, 3]))
    np.testing.assert_allclose(weights, [0.75 / (2 / 3)] * 60 + [0.25 / (1 / 3)] * 30)

    predicted, deviation = np.zeros((210, 8)), np.zeros((210, 8))
    for train, left_out in folds:
        for j, alpha in enumerate(alphas):
            fitted, (x, y) = solve(X[train], Y[train][:, [j]], alpha)
            predicted[left_out, j] = ((X[left_out] - x) @ fitted)[:, 0]
            deviation[left_out, j] = Y[left_out, j] - y
    pairs = np.array(
        [
            (predicted[nsd_ids == i].mean(axis=0), deviation[nsd_ids == i].mean(axis=0))
            for i in np.arange(90) + 100
        ]
    )[..., :7]
    pairs /= Y[:, :7].std(axis=0)
    each = weights[:, None]
    expected = (each * pairs[:, 0] * pairs[:, 1]).sum() / (each * pairs[:, 0] ** 2).sum()

    for targets in (8, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoding, "TARGETS_AT_ONCE", targets)
            sums = decoding.compare_left_out(X, Y, nsd_ids, weights, alphas, folds, True)
        assert sums[:, 7].tolist() == [0, 0]
        assert decoding.find_gain(*sums) == pytest.approx(expected, abs=1e-9)
    assert expected > 1.05


def simulate_trials(images, mixing, rng):
    """Responses of 10 voxels to three trials of each image, with noise twice the signal."""
    signal = np.repeat(images @ mixing, 3, axis=0)
    return signal + 2 * mixing.shape[0] ** 0.5 * rng.normal(size=signal.shape)


def test_a_gain_brings_predictions_from_averages_to_the_size_of_the_truth():
    ridge.set_device("cpu")
    rng = np.random.default_rng(5)
    train, test = rng.normal(size=(400, 6)), rng.normal(size=(300, 6))
    mixing = rng.normal(size=(6, 10))
    X, X_test = (simulate_trials(images, mixing, rng) for images in (train, test))
    X_test = X_test.reshape(300, 3, 10).mean(axis=1)
    nsd_ids, Y = np.repeat(np.arange(400), 3), np.repeat(train, 3, axis=0)
    folds = ridge.group_folds(nsd_ids, 5, 0)
    predicted, alphas, _ = ridge.fit_decoder(X, Y, X_test, ALPHAS, folds, True)
    sums = decoding.compare_left_out(X, Y, nsd_ids, np.ones(400), alphas, folds, True)
    gain, mean = decoding.find_gain(*sums), train.mean(axis=0)
    slope = ((predicted - mean) * (test - mean)).sum() / np.square(predicted - mean).sum()
    assert slope > 1.4
    assert gain == pytest.approx(slope, rel=0.1)
    scores = [
        r2_score(test, mean + factor * (predicted - mean), multioutput="raw_values")
        for factor in (1, gain)
    ]
    assert (scores[1] - scores[0]).min() > 0.03


def test_decoded_features_and_weights_have_the_gain(subject, tmp_path):
    rng = np.random.default_rng(5)
    for path in subject["responses"].values():
        betas = path.with_suffix(".npy")
        save_array(betas, load_array(betas) + 8 * rng.normal(size=(240, N_VOXELS)).astype("f4"))
        prepare(path)
    plain = PROTOCOLS["corrected"]._replace(gain=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROTOCOLS, "plain", plain)
        results = [decode(subject, tmp_path, name, True) for name in ("corrected", "plain")]
    images, trials = (load_table(tmp_path / f"{name}.tsv") for name in ("images", "trials"))
    rows = images.reset_index().set_index("nsd_id")["index"]
    shown = rows[trials.loc[trials["split"] == "train", "nsd_id"]]
    for name in ("z", "c"):
        weights, without = (each["weights"][name] for each in results)
        gain = (weights * without).sum() / np.square(without).sum()
        assert gain > 1.2
        np.testing.assert_allclose(weights, gain * without, rtol=1e-4, atol=1e-6)
        mean = load_array(subject["features"][name])[shown].mean(axis=0)
        decoded, without = (each["decoded"][name] for each in results)
        np.testing.assert_allclose(decoded, mean + gain * (without - mean), atol=1e-4)


def test_rescaled_predictions_vary_as_much_as_training_features(subject, tmp_path):
    rng = np.random.default_rng(5)
    for path in subject["responses"].values():
        betas = path.with_suffix(".npy")
        save_array(betas, load_array(betas) + 8 * rng.normal(size=(240, N_VOXELS)).astype("f4"))
        prepare(path)
    names = ("corrected", "rescaled", "rescaled-test")
    results = {name: decode(subject, tmp_path, name)["decoded"]["z"] for name in names}
    results = {name: array.reshape(len(array), -1) for name, array in results.items()}
    images, trials = (load_table(tmp_path / f"{name}.tsv") for name in ("images", "trials"))
    rows = images.reset_index().set_index("nsd_id")["index"]
    shown = rows[trials.loc[trials["split"] == "train", "nsd_id"]]
    known = load_array(subject["features"]["z"])[shown].reshape(len(shown), -1)
    # Exactly, where the test images themselves are the measure.
    np.testing.assert_allclose(results["rescaled-test"].mean(0), known.mean(0), atol=1e-3)
    np.testing.assert_allclose(results["rescaled-test"].std(0), known.std(0), rtol=1e-3)
    # As well as training images tell, dimension by dimension; with one gain for all, not.
    spreads = {name: array.std(0) / known.std(0) for name, array in results.items()}
    assert spreads["rescaled"].mean() == pytest.approx(1, abs=0.15)
    assert spreads["corrected"].mean() < 0.9
    for name in names[1:]:
        deviations = (results[name] - results[name].mean(0)).T
        other = (results["corrected"] - results["corrected"].mean(0)).T
        r = [np.corrcoef(one, two)[0, 1] for one, two in zip(deviations, other, strict=True)]
        assert min(r) > 0.9999


def test_what_does_not_vary_is_not_rescaled():
    factors = decoding.match_spread(np.array([0.25, 4, 0, np.nan, np.inf]))
    np.testing.assert_allclose(factors, [2, 0.5, 1, 1, 1])


def test_images_shown_as_often_as_test_images_weigh_most_in_the_gain():
    nsd_ids = np.r_[np.arange(50), np.repeat(np.arange(50, 70), 2), [99] * 3]
    # One image of three trials is too few, and no test image is shown once.
    weights = decoding.weigh_images(nsd_ids, np.array([3, 3, 3, 2]))
    np.testing.assert_allclose(weights, [0] * 50 + [0.25 / (20 / 71)] * 20 + [0])
    np.testing.assert_array_equal(decoding.weigh_images(nsd_ids, np.array([3, 3])), np.ones(71))


def test_predictions_of_nothing_have_no_gain(caplog):
    assert decoding.find_gain(np.array([-1.0, 0.5]), np.ones(2)) == 1
    assert "no gain" in caplog.text


def test_batches_of_targets_change_nothing():
    set_backend("torch")
    X, Y, X_test = simulate()
    whole, parts = (ridge.fit_decoder(X, Y, X_test, ALPHAS, 5, True, targets=n) for n in (None, 7))
    np.testing.assert_allclose(whole[0], parts[0], atol=1e-10)
    np.testing.assert_array_equal(whole[1], parts[1])


def test_memory_for_fewer_targets_repeats_the_fit_with_the_same_result(
    subject, tmp_path, monkeypatch
):
    whole = decode(subject, tmp_path / "whole")
    monkeypatch.setattr(decoding, "plan_targets", lambda *_: (5, 0))
    parts = decode(subject, tmp_path / "parts")
    np.testing.assert_allclose(whole["decoded"]["z"], parts["decoded"]["z"], atol=1e-4)


def test_plan_grows_with_the_data_and_refuses_too_little_memory():
    targets, peak = decoding.plan_targets(24_980, 982, 5_900, 59_136, 5, 48)
    assert 0 < targets <= 59_136
    assert peak <= 48e9
    assert decoding.plan_targets(24_980, 982, 5_900, 6_400, 5, 48)[0] == 6_400
    with pytest.raises(InputError, match=r"`memory_gb`: expected at least"):
        decoding.plan_targets(24_980, 982, 5_900, 6_400, 5, 2)


def test_corrected_decoding_is_good_and_has_the_mean(subject, tmp_path):
    results = decode(subject, tmp_path)
    assert results["decoded"]["z"].shape == (N_TEST, 4, 2, 2)
    assert results["decoded"]["c"].shape == (N_TEST, 3, 2)
    assert results["dimensions"]["z"]["r"].median() > 0.6
    assert np.abs(results["decoded"]["z"].mean() - 3) < 0.3
    assert (results["by_image"]["c"]["r"] > 0.9).all()


def test_both_solvers_decode_the_same(subject, tmp_path):
    found = {}
    for solver in ("himalaya", "statistics"):
        settings = HOW["settings"]._replace(solver=solver)
        found[solver] = decode(subject, tmp_path / solver, settings=settings)
        assert set(found[solver]["dimensions"]["z"]["solver"]) == {solver}
    for target in ("z", "c"):
        ours, theirs = (found[name]["dimensions"][target] for name in ("statistics", "himalaya"))
        varying = ~theirs["constant"]
        assert ours["alpha"][varying].tolist() == theirs["alpha"][varying].tolist()
        decoded = [found[name]["decoded"][target] for name in ("statistics", "himalaya")]
        np.testing.assert_allclose(*decoded, rtol=1e-4, atol=1e-4)


def test_the_learning_curve_ends_with_all_sessions(subject, tmp_path):
    known = {key: value for key, value in subject.items() if key != "z_logvar"}
    path = tmp_path / "predictions.h5"
    trials = tmp_path / "trials.tsv"
    fit_learning_curve(**known, **HOW, trials=trials, points=[1, 2, 9], predictions=path)
    whole = decode(subject, tmp_path)["decoded"]
    with open_hdf5(path) as file:
        assert sorted(file) == ["1", "2", "3"]
        n_trials = [file[f"{end}/z"].attrs["n_trials"] for end in "123"]
        assert n_trials[2] == 3 * N_TRAIN > n_trials[1] > n_trials[0] > 0
        for name in ("z", "c"):
            np.testing.assert_allclose(file[f"3/{name}"][:], whole[name], rtol=1e-3, atol=1e-3)
        few = file["1/z"][:]
    # With the trials of the first session alone, by hand.
    table = load_table(trials).query("split == 'train' and session == 1")
    region = Responses(subject["responses"]["early"], "zscored/trials")
    z = load_array(subject["features"]["z"]).reshape(N_TRAIN + N_TEST, -1)
    images = load_table(subject["images"])
    rows = images.reset_index().set_index("nsd_id")["index"][table["nsd_id"]].to_numpy()
    X = region.read_train()[: len(rows)]
    every = load_table(trials).query("split == 'train'")["nsd_id"].to_numpy()
    places = np.arange(len(X))
    folds = [
        (np.setdiff1d(places, tested), np.intersect1d(places, tested))
        for _, tested in ridge.group_folds(every, 4, 1)
    ]
    set_backend("torch")
    fitted = ridge.fit_decoder(X, z[rows], region.read_test(), ALPHAS, folds, True)
    few = few.reshape(N_TEST, -1)
    # But for the gain, which is one for all dimensions.
    middle = z[rows].mean(axis=0)
    slopes = ((few - middle) * (fitted[0] - middle)).sum(0) / np.square(fitted[0] - middle).sum(0)
    assert np.ptp(slopes) < 1e-2 * slopes.mean()


def test_trials_of_another_table_have_no_learning_curve(subject, tmp_path):
    known = {key: value for key, value in subject.items() if key != "z_logvar"}
    save_table(tmp_path / "other.tsv", load_table(tmp_path / "trials.tsv")[1:])
    given = {"trials": tmp_path / "other.tsv", "predictions": tmp_path / "p.h5"}
    with pytest.raises(InputError, match=r"other.tsv: expected the training trials of"):
        fit_learning_curve(**known, **HOW, **given, points=[1])


def test_published_decoding_lacks_the_mean(subject, tmp_path):
    results = decode(subject, tmp_path, "takagi2023")
    assert np.abs(results["decoded"]["z"].mean()) < 0.5
    assert results["dimensions"]["z"]["r"].median() > 0.4
    assert set(results["dimensions"]["z"]["alpha"]) <= set(PUBLISHED_ALPHAS)


def test_constant_dimensions_are_predicted_by_their_mean_and_not_scored(subject, tmp_path):
    results = decode(subject, tmp_path)
    np.testing.assert_allclose(results["decoded"]["c"][:, 0], [[7, -7]] * N_TEST, atol=1e-4)
    dimensions = results["dimensions"]["c"]
    assert dimensions["constant"].tolist() == [True, True, False, False, False, False]
    assert dimensions["r"].isna().tolist() == dimensions["constant"].tolist()


def test_scores_are_those_of_numpy(subject, tmp_path):
    results = decode(subject, tmp_path)
    images = load_table(subject["images"])
    test = (images["split"] == "test").to_numpy()
    true = load_array(subject["features"]["z"]).reshape(len(images), -1)
    predicted = results["decoded"]["z"].reshape(N_TEST, -1)
    by_dimension = [np.corrcoef(a, b)[0, 1] for a, b in zip(true[test].T, predicted.T, strict=True)]
    np.testing.assert_allclose(results["dimensions"]["z"]["r"], by_dimension, atol=1e-5)
    by_image = [np.corrcoef(a, b)[0, 1] for a, b in zip(true[test], predicted, strict=True)]
    np.testing.assert_allclose(results["by_image"]["z"]["r"], by_image, atol=1e-5)
    standard = [
        (values - true[~test].mean(0)) / true[~test].std(0) for values in (true[test], predicted)
    ]
    patterns = [np.corrcoef(a, b)[0, 1] for a, b in zip(*standard, strict=True)]
    np.testing.assert_allclose(results["by_image"]["z"]["r_pattern"], patterns, atol=1e-5)
    assert results["by_image"]["z"]["nsd_id"].tolist() == images.loc[test, "nsd_id"].tolist()


def test_weights_predict_when_asked_for(subject, tmp_path):
    results = decode(subject, tmp_path, "takagi2023", weights=True)
    weights = results["weights"]["z"]
    assert weights.shape == (N_VOXELS, 16)
    study = decoding.Study(**{k: subject[k] for k in subject})
    X_test = study.open("early", False).read_test()
    np.testing.assert_allclose(
        X_test @ weights, results["decoded"]["z"].reshape(N_TEST, -1), atol=1e-3
    )


def test_posterior_is_sampled_by_the_published_protocol_only(subject):
    study = decoding.Study(**{k: subject[k] for k in subject})
    true = load_array(subject["features"]["z"])
    np.testing.assert_array_equal(study.targets(PROTOCOLS["corrected"], 1)["z"], true)
    noise = study.targets(PROTOCOLS["takagi2023"], 1)["z"] - true
    assert noise.std() == pytest.approx(np.exp(-3), rel=0.1)


def test_comparison_gives_up_one_choice_at_a_time(subject, tmp_path):
    decoding.compare_protocols(**subject | HOW, table=tmp_path / "protocols.tsv")
    table = load_table(tmp_path / "protocols.tsv")
    assert len(table) == 10 * 2
    scores = table[table["target"] == "z"].set_index("variant")
    whole = decode(subject, tmp_path)["dimensions"]["z"]["r"].median()
    assert scores.loc["corrected", "r"] == pytest.approx(whole, abs=1e-5)
    # Without an intercept the mean is lost, which the published score sees.
    lost = scores.loc["corrected", "r_image"] - scores.loc["corrected, intercept off", "r_image"]
    assert lost > 0.05
    # A gain changes how large predictions are, never how they correlate.
    same = scores.loc[["corrected", "corrected, gain off", "rescaled", "rescaled-test"]]
    assert np.ptp(same["r"]) < 1e-5
    assert (table["gain"] == 1).tolist() == table["variant"].isin(
        ["corrected, gain off", "takagi2023"]
    ).tolist()
    tabulate_protocols(
        tables={"subj01": tmp_path / "protocols.tsv", "subj02": tmp_path / "protocols.tsv"},
        demo=True,
        output=tmp_path / "group.tsv",
    )
    group = load_table(tmp_path / "group.tsv")
    assert group["subject"].value_counts().to_dict() == {"subj01": 20, "subj02": 20, "mean": 20}
    assert set(group["data"]) == {"demo"}
    mean = group[(group["subject"] == "mean") & (group["variant"] == "corrected")]
    assert mean["r"].tolist() == pytest.approx(table.loc[:1, "r"].tolist(), abs=1e-5)


def test_features_of_other_images_are_one_clear_error(subject, tmp_path):
    save_array(subject["features"]["z"], np.zeros((7, 4, 2, 2), np.float32))
    with pytest.raises(InputError, match=r"z\.npy: expected one row for each of the 80 images"):
        decode(subject, tmp_path)


def test_responses_of_other_images_are_one_clear_error(subject, tmp_path):
    images = load_table(subject["images"])
    images["nsd_id"] += 1
    save_table(subject["images"], images)
    with pytest.raises(InputError, match=r"early\.h5: expected the 20 test images of images.tsv"):
        decode(subject, tmp_path)

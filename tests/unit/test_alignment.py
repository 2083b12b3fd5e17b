"""Decoders of other subjects: planted rotations, strangers, tuning and leaks."""

import numpy as np
import pandas as pd
import pytest

from nsdldm.decoding.alignment import Reference, SmallRidge, decode_by_others, list_references
from nsdldm.decoding.decoders import DecoderSettings, decode_features
from nsdldm.responses import prepare_responses
from nsdldm.ridge import fit_decoder, group_folds
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_array, load_table, open_hdf5, save_array, save_table

LATENT, VOXELS, N_COMPONENTS = 6, 30, 10
SETTINGS = DecoderSettings([10.0, 100.0, 1000.0, 1e4], 4, memory_gb=2, seed=1, device="cpu")
ALIGN, TEST = np.arange(40), np.arange(40, 100)
SHARED = np.concatenate([ALIGN, TEST])
REGIONS = {"z": "early", "c": "early"}
N_IMAGES = 1000


def draw_images(seed=0):
    """What every image of the world evokes, and its features, each a mixture of that."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(N_IMAGES, LATENT))
    mixed = {name: latent @ rng.normal(size=(LATENT, n)) for name, n in (("z", 8), ("c", 5))}
    features = {
        name: values + 0.1 * rng.normal(size=values.shape) for name, values in mixed.items()
    }
    features["z"] = features["z"].reshape(-1, 2, 2, 2) + 3
    features["c"][:, 2] = 7
    return latent, features


def rotate(latent, seed):
    """A cortex of its own: orthogonal patterns of the same latent response."""
    random = np.random.default_rng(seed).normal(size=(VOXELS, VOXELS))
    return latent @ np.linalg.qr(random)[0][: latent.shape[1]] * 3


def write_person(folder, signal, features, splits, repeats, noise=1.0):
    """A subject's files; splits are the nsd_ids of each."""
    folder.mkdir()
    rng = np.random.default_rng(len(str(folder.name)) + ord(folder.name[-1]))
    listed = {image: split for split, images in splits.items() for image in images}
    images = pd.DataFrame({"nsd_id": rng.permutation([*listed])})
    images["split"] = images["nsd_id"].map(listed)
    images["n_trials"] = images["split"].map(repeats)
    trials = images.loc[images.index.repeat(images["n_trials"])].sample(frac=1, random_state=3)
    trials = trials.assign(session=np.arange(len(trials)) % 2)
    save_table(folder / "images.tsv", images)
    save_table(folder / "trials.tsv", trials)
    shown = trials["nsd_id"].to_numpy()
    betas = signal[shown] + noise * rng.normal(size=(len(shown), signal.shape[1]))
    save_array(folder / "early.npy", betas.astype(np.float32))
    prepare(folder)
    for name, values in features.items():
        save_array(folder / f"features-{name}.npy", values[images["nsd_id"]].astype(np.float32))
    return {
        "responses": {"early": folder / "early.h5"},
        "images": folder / "images.tsv",
        "features": {name: folder / f"features-{name}.npy" for name in features},
    }


def prepare(folder):
    prepare_responses(
        **{name: folder / f"{name}.tsv" for name in ("trials", "images")},
        betas=folder / "early.npy",
        output=folder / "early.h5",
        forms=["zscored/trials"],
    )


def write_reference(folder, latent, features, first=100, seed=1, shared=SHARED, noise=1.0):
    """A subject with much data."""
    splits = {"train": np.arange(first, first + 300), "test": shared}
    signal = rotate(latent, seed)
    return write_person(folder, signal, features, splits, {"train": 2, "test": 3}, noise)


def write_new(folder, latent, features, n_train=12, seed=7, align=ALIGN, noise=1.0, **signal):
    """A subject with an hour's data."""
    splits = {"train": np.arange(900, 900 + n_train), "align": align, "test": TEST}
    repeats = {"train": 1, "align": 2, "test": 3}
    seen = signal.get("signal", rotate(latent, seed))
    return write_person(folder, seen, features, splits, repeats, noise)


@pytest.fixture
def world(tmp_path):
    latent, features = draw_images()
    references = {
        f"subj0{i}": Reference(
            **write_reference(tmp_path / f"subj0{i}", latent, features, 100 + 300 * (i - 1), i)
        )
        for i in (1, 2)
    }
    return latent, features, references


def decode(new, references, folder, tune=False, settings=SETTINGS):
    decoded = {name: folder / f"decoded-{tune}-{name}.npy" for name in REGIONS}
    decode_by_others(
        **new,
        references=references,
        regions=REGIONS,
        n_components=N_COMPONENTS,
        settings=settings,
        tune=tune,
        decoded=decoded,
        table=folder / "alignment.tsv",
    )
    return {name: np.array(load_array(path)) for name, path in decoded.items()}


def decode_own(subject, folder):
    """The subject's decoder of its own training trials."""
    outputs = {
        kind: {name: folder / f"own-{name}.{suffix}" for name in REGIONS}
        for kind, suffix in (("decoded", "npy"), ("dimensions", "tsv"), ("by_image", "i.tsv"))
    }
    given = subject if isinstance(subject, dict) else subject._asdict()
    known = {"protocol": "corrected", "settings": SETTINGS, "regions": REGIONS, "z_logvar": None}
    decode_features(**given, **known, **outputs)
    return {name: np.array(load_array(path)) for name, path in outputs["decoded"].items()}


def score(predicted, subject, name):
    """Median correlation over dimensions that vary."""
    images = load_table(subject["images"])
    true = load_array(subject["features"][name])[images["split"] == "test"]
    one, two = (values.reshape(len(values), -1) for values in (true, predicted))
    varies = np.ptp(one, axis=0) > 0
    pairs = zip(one.T[varies], two.T[varies], strict=True)
    return np.median([np.corrcoef(*pair)[0, 1] for pair in pairs])


def find_error(predicted, subject, name="z"):
    """Squared error in units of the variance."""
    images = load_table(subject["images"])
    true = load_array(subject["features"][name])[images["split"] == "test"]
    return np.mean((true - predicted) ** 2) / true.var(axis=0).mean()


def test_a_rotation_is_recovered(world, tmp_path):
    latent, features, references = world
    new = write_new(tmp_path / "new", latent, features, n_train=8)
    aligned = decode(new, references, tmp_path)
    assert aligned["z"].shape == (len(TEST), 2, 2, 2)
    assert aligned["z"].dtype == np.float32
    table = load_table(tmp_path / "alignment.tsv")
    assert list(table["reference"]) == ["subj01", "subj02"]
    assert (table["n_align"] == len(ALIGN)).all()
    assert (table["n_components"] == N_COMPONENTS).all()
    own = decode_own(new, tmp_path)
    known = references["subj01"]._asdict()
    best = decode_own(known, tmp_path)
    for name in REGIONS:
        assert score(aligned[name], new, name) > 0.85
        assert score(aligned[name], new, name) > score(best[name], known, name) - 0.1
        assert score(aligned[name], new, name) > score(own[name], new, name) + 0.15
    np.testing.assert_allclose(aligned["c"][:, 2], 7, atol=1e-3)


def test_mapped_scores_of_left_out_images_are_true(tmp_path):
    latent, features = draw_images()
    known = write_reference(tmp_path / "subj01", latent, features, noise=0.3)
    new = write_new(tmp_path / "new", latent, features, noise=0.3)
    decoded = {name: tmp_path / f"{name}.npy" for name in REGIONS}
    given = {"references": {"a": Reference(**known)}, "regions": REGIONS, "settings": SETTINGS}
    outputs = {"decoded": decoded, "table": tmp_path / "alignment.tsv"}
    decode_by_others(**new, **given, **outputs, n_components=LATENT, tune=False)
    row = load_table(tmp_path / "alignment.tsv").iloc[0]
    assert row["r"] > 0.9
    assert row["alpha"] in SETTINGS.alphas


def test_predictions_have_the_right_size(world, tmp_path):
    """The gain undoes the shrinkage of the ridges in a row."""
    latent, features, references = world
    new = write_new(tmp_path / "new", latent, features)
    aligned = decode(new, references, tmp_path)["z"].reshape(len(TEST), -1)
    images = load_table(new["images"])
    true = load_array(new["features"]["z"])[images["split"] == "test"].reshape(len(TEST), -1)
    deviations = aligned - aligned.mean(axis=0)
    slope = np.sum(deviations * (true - true.mean(axis=0))) / np.sum(deviations**2)
    assert slope == pytest.approx(1, abs=0.15)
    assert find_error(aligned.reshape(-1, 2, 2, 2), new) < 0.35


def test_strangers_are_at_chance(world, tmp_path):
    """A subject whose responses have nothing to do with the images."""
    latent, features, references = world
    strange = np.random.default_rng(5).permutation(latent)
    new = write_new(tmp_path / "new", strange, features)
    aligned = decode(new, references, tmp_path)
    assert abs(score(aligned["z"], new, "z")) < 0.25
    assert abs(load_table(tmp_path / "alignment.tsv")["r"]).max() < 0.2
    # Nothing is invented: the prediction stays near the mean.
    assert find_error(aligned["z"], new) < 1.3


def test_tuning_adds_what_only_the_new_subject_sees(tmp_path):
    latent, features = draw_images()
    half = latent * (np.arange(LATENT) < LATENT // 2)
    references = {"subj01": Reference(**write_reference(tmp_path / "subj01", half, features))}
    new = write_new(tmp_path / "new", latent, features, n_train=90)
    aligned, tuned = (decode(new, references, tmp_path, tune) for tune in (False, True))
    for name in REGIONS:
        assert score(tuned[name], new, name) > score(aligned[name], new, name) + 0.1
    assert find_error(tuned["z"], new) < 0.8 * find_error(aligned["z"], new)


def test_tuning_with_little_data_is_no_worse_than_alignment(world, tmp_path):
    latent, features, references = world
    new = write_new(tmp_path / "new", latent, features)
    aligned, tuned = (decode(new, references, tmp_path, tune) for tune in (False, True))
    own = decode_own(new, tmp_path)
    for name in REGIONS:
        assert score(tuned[name], new, name) > score(aligned[name], new, name) - 0.05
        assert score(tuned[name], new, name) > score(own[name], new, name) + 0.1


def test_tuning_on_noise_leaves_the_aligned_decoder(world, tmp_path):
    """Own training trials without any signal."""
    latent, features, references = world
    signal = rotate(latent, 7)
    signal[900:] = 0
    new = write_new(tmp_path / "new", latent, features, n_train=24, signal=signal)
    aligned, tuned = (decode(new, references, tmp_path, tune) for tune in (False, True))
    one, two = (values["z"].reshape(len(TEST), -1) for values in (aligned, tuned))
    r = [np.corrcoef(*pair)[0, 1] for pair in zip(one.T, two.T, strict=True)]
    assert np.median(r) > 0.9
    assert score(tuned["z"], new, "z") > score(aligned["z"], new, "z") - 0.15


def test_with_a_strange_reference_tuning_is_the_own_decoder(tmp_path):
    latent, features = draw_images()
    strange = np.random.default_rng(5).permutation(latent)
    references = {"subj01": Reference(**write_reference(tmp_path / "subj01", strange, features))}
    new = write_new(tmp_path / "new", latent, features, n_train=90)
    tuned, own = decode(new, references, tmp_path, tune=True), decode_own(new, tmp_path)
    for name in REGIONS:
        assert score(tuned[name], new, name) > score(own[name], new, name) - 0.1


def test_it_is_the_same_again(world, tmp_path):
    latent, features, references = world
    new = write_new(tmp_path / "new", latent, features)
    for tune in (False, True):
        first, second = (decode(new, references, tmp_path, tune) for _ in range(2))
        for name in REGIONS:
            np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("tune", [False, True])
def test_test_images_have_no_say(world, tmp_path, tune):
    """Neither their features nor any reference's responses to them change the predictions."""
    latent, features, references = world
    new = write_new(tmp_path / "new", latent, features)
    before = decode(new, references, tmp_path, tune)
    rng = np.random.default_rng(0)
    for files in (new, *(each._asdict() for each in references.values())):
        chosen = load_table(files["images"])["nsd_id"].isin(TEST).to_numpy()
        for path in files["features"].values():
            values = np.array(load_array(path))
            values[chosen] = rng.permutation(values[chosen])
            save_array(path, values)
    for reference in references.values():
        folder = reference.responses["early"].parent
        betas = np.array(load_array(folder / "early.npy"))
        betas[load_table(folder / "trials.tsv")["nsd_id"].isin(TEST)] *= -1
        save_array(folder / "early.npy", betas)
        prepare(folder)
    after = decode(new, references, tmp_path, tune)
    for name in REGIONS:
        np.testing.assert_array_equal(before[name], after[name])


def test_untuned_decoders_ignore_own_training(world, tmp_path):
    latent, features, references = world
    new = write_new(tmp_path / "new", latent, features)
    before = decode(new, references, tmp_path)
    with open_hdf5(new["responses"]["early"], "r+") as file:
        file["zscored/trials"][:] = 0
    chosen = load_table(new["images"])["split"] == "train"
    for path in new["features"].values():
        values = np.array(load_array(path))
        values[chosen] += 5
        save_array(path, values)
    after = decode(new, references, tmp_path)
    for name in REGIONS:
        np.testing.assert_array_equal(before[name], after[name])


def test_a_reference_that_trained_on_test_images_is_refused(tmp_path):
    latent, features = draw_images()
    known = write_reference(tmp_path / "subj01", latent, features, first=98, shared=SHARED[:98])
    new = write_new(tmp_path / "new", latent, features)
    message = r"early.h5: expected no training trials of the test images of .*found 2 of them, such"
    with pytest.raises(InputError, match=message):
        decode(new, {"subj01": Reference(**known)}, tmp_path)


def test_a_leak_behind_the_table_is_refused(world, tmp_path):
    latent, features, references = world
    path = references["subj02"].images
    images = load_table(path)
    images.loc[images["nsd_id"] == 500, "split"] = "unused"
    save_table(path, images)
    new = write_new(tmp_path / "new", latent, features)
    with pytest.raises(InputError, match=r"expected the training images of .*found 500 too"):
        decode(new, references, tmp_path)


def test_images_that_align_cannot_be_tested(world, tmp_path):
    latent, features, references = world
    new = write_new(tmp_path / "new", latent, features)
    images = load_table(new["images"])
    double = images[images["nsd_id"] == TEST[0]].assign(split="align")
    save_table(new["images"], pd.concat([images, double]))
    with pytest.raises(InputError, match="expected test images that nothing is fitted to"):
        decode(new, references, tmp_path)


def test_too_few_images_are_one_clear_error(world, tmp_path):
    latent, features, references = world
    new = write_new(tmp_path / "new", latent, features, align=ALIGN[:7])
    message = r"images.tsv: expected at least 8 images of the split align .*found 7"
    with pytest.raises(InputError, match=message):
        decode(new, references, tmp_path)


def test_images_that_a_reference_did_not_see_do_not_align(world, tmp_path):
    latent, features, references = world
    known = write_reference(tmp_path / "subj03", latent, features, seed=3, shared=SHARED[15:])
    new = write_new(tmp_path / "new", latent, features)
    decode(new, references | {"subj03": Reference(**known)}, tmp_path)
    assert (load_table(tmp_path / "alignment.tsv")["n_align"] == 25).all()


def test_responses_without_images_that_align_are_one_clear_error(world, tmp_path):
    latent, features, references = world
    new = write_new(tmp_path / "new", latent, features)
    images, trials = (tmp_path / "new" / f"{name}.tsv" for name in ("images", "trials"))
    kept = images.read_text()
    for path in (images, trials):
        save_table(path, load_table(path).replace("align", "unused"))
    prepare(tmp_path / "new")
    images.write_text(kept)
    with pytest.raises(InputError, match=r"early.h5: expected responses of the form zscored/align"):
        decode(new, references, tmp_path)


def test_other_responses_are_one_clear_error(world, tmp_path):
    latent, features, references = world
    new = write_new(tmp_path / "new", latent, features)
    save_table(new["images"], load_table(new["images"]).iloc[::-1])
    with pytest.raises(InputError, match=r"early.h5: expected the 60 test images and those that"):
        decode(new, references, tmp_path)


def test_trials_of_other_images_are_one_clear_error(world, tmp_path):
    latent, features, references = world
    new = write_new(tmp_path / "new", latent, features)
    images = load_table(new["images"])
    images.loc[images["nsd_id"] == 905, "split"] = "unused"
    save_table(new["images"], images)
    with pytest.raises(InputError, match=r"early.h5: expected trials of the training images of"):
        decode(new, references, tmp_path, tune=True)


def test_features_of_another_size_are_one_clear_error(world, tmp_path):
    latent, features, references = world
    new = write_new(tmp_path / "new", latent, features)
    path = references["subj02"].features["c"]
    save_array(path, load_array(path)[:, 1:])
    message = r"features-c.npy: expected 400 images of 5 dimensions, found 400 of 4"
    with pytest.raises(InputError, match=message):
        decode(new, references, tmp_path)


def test_too_little_memory_is_one_clear_error(world, tmp_path):
    latent, features, references = world
    new = write_new(tmp_path / "new", latent, features)
    with pytest.raises(InputError, match=r"`memory_gb`: expected at least 0.5, found 0.1"):
        decode(new, references, tmp_path, settings=SETTINGS._replace(memory_gb=0.1))


def test_no_reference_is_one_clear_error(world, tmp_path):
    latent, features, _ = world
    new = write_new(tmp_path / "new", latent, features)
    with pytest.raises(InputError, match="`references`: expected other subjects, found none"):
        decode(new, {}, tmp_path)


def test_files_are_sorted_by_subject():
    found = list_references(
        ["a", "b"],
        {"z": "early", "c": "ventral", "clip": "ventral"},
        ["a/early", "a/ventral", "b/early", "b/ventral"],
        ["a/images", "b/images"],
        ["a/z", "a/c", "a/clip", "b/z", "b/c", "b/clip"],
    )
    assert found["a"] == Reference(
        {"early": "a/early", "ventral": "a/ventral"},
        "a/images",
        {"z": "a/z", "c": "a/c", "clip": "a/clip"},
    )
    assert found["b"].features["clip"] == "b/clip"


@pytest.mark.parametrize("n_voxels", [5, 40])
def test_small_ridge_is_ridge(n_voxels):
    """The same penalties and predictions as himalaya's, whichever there are more of."""
    rng = np.random.default_rng(0)
    X, X_new = (rng.normal(size=(n, n_voxels)).astype(np.float32) for n in (20, 6))
    Y = X[:, :3] @ rng.normal(size=(3, 4)) + rng.normal(size=(20, 4))
    Y = Y.astype(np.float32)
    folds = group_folds(np.arange(20), 4, 0)
    alphas = [0.1, 1.0, 10.0]
    known = fit_decoder(X, Y, X_new, alphas, folds, False)
    small = SmallRidge(X, folds, alphas)
    chosen, left_out = small.choose(Y)
    finite = np.isfinite(chosen)
    assert finite.any()
    np.testing.assert_allclose(chosen[finite], known[1][finite])
    made = small.predict(Y, known[1], X_new)
    np.testing.assert_allclose(made, known[0], atol=1e-4)
    for train, test in folds:
        alone = SmallRidge(X[train], group_folds(np.arange(15), 3, 0), alphas)
        np.testing.assert_allclose(
            left_out[test], alone.predict(Y[train], chosen, X[test]), atol=1e-4
        )


def test_an_infinite_penalty_predicts_nothing():
    rng = np.random.default_rng(0)
    X, Y = (rng.normal(size=(30, n)).astype(np.float32) for n in (8, 200))
    small = SmallRidge(X, group_folds(np.arange(30), 5, 0), [0.01, 0.1])
    chosen, _ = small.choose(Y)
    assert np.isinf(chosen).mean() > 0.9
    made = small.predict(Y, np.full(200, np.inf), X)
    assert not made.any()

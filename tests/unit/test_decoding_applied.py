"""Decoders of a subject applied to other responses, and decoders of a part of the images."""

from shutil import copyfile

import numpy as np
import pytest
from decoding_files import SETTINGS, prepare, write_responses, write_subject

from nsdldm.decoding.decoders import apply_decoders, decode_features
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_array, load_table, open_hdf5, save_array, save_table

N, N_TEST, N_VOXELS = 90, 20, 12
NAMES = ("z", "c")


def see(features, rng):
    """What each region answers to features of images."""
    flat = {name: values.reshape(len(values), -1) for name, values in features.items()}
    seen = {"early": flat["z"] - 3, "ventral": flat["c"] + 5}
    return {region: v @ rng.normal(size=(v.shape[1], N_VOXELS)) for region, v in seen.items()}


def draw_features(n, rng):
    return {"z": rng.normal(size=(n, 4, 2, 2)) + 3, "c": rng.normal(size=(n, 3, 2)) - 5}


@pytest.fixture
def subject(tmp_path):
    rng = np.random.default_rng(0)
    features = draw_features(N, rng)
    signals = see(features, np.random.default_rng(7))
    return write_subject(tmp_path, features, signals, {"z": "early", "c": "ventral"}, N_TEST)


@pytest.fixture
def other(tmp_path):
    """Another test set that the same voxels saw: its responses and true features."""
    folder = tmp_path / "other"
    folder.mkdir()
    features = draw_features(15, np.random.default_rng(4))
    signals = see(features, np.random.default_rng(7))
    splits = np.full(15, "test")
    return write_responses(folder, np.arange(15), splits, signals, noise=0.5), features


def decode(subject, folder, protocol="corrected", **changes):
    outputs = {
        kind: {name: folder / f"{protocol}-{name}.{suffix}" for name in NAMES}
        for kind, suffix in (("decoded", "npy"), ("dimensions", "tsv"), ("by_image", "images.tsv"))
    }
    decode_features(**subject, protocol=protocol, settings=SETTINGS, **outputs)
    return outputs


def apply(subject, tested, folder, protocol="corrected"):
    decoded = {name: folder / f"applied-{name}.npy" for name in NAMES}
    given = {"protocol": protocol, "settings": SETTINGS, "decoded": decoded}
    apply_decoders(**subject, tested=tested, **given)
    return {name: np.array(load_array(path)) for name, path in decoded.items()}


@pytest.mark.parametrize("protocol", ["corrected", "rescaled", "rescaled-test"])
def test_applied_to_the_test_images_nothing_changes(subject, tmp_path, protocol):
    known = decode(subject, tmp_path / "own", protocol)["decoded"]
    applied = apply(subject, subject["responses"], tmp_path, protocol)
    for name in NAMES:
        np.testing.assert_array_equal(applied[name], load_array(known[name]))


def test_images_of_another_set_are_decoded(subject, other, tmp_path):
    responses, features = other
    applied = apply(subject, responses, tmp_path)
    assert applied["z"].shape == (15, 4, 2, 2)
    assert applied["z"].dtype == np.float32
    for name, at_least in (("z", 0.6), ("c", 0.9)):
        true, made = (values.reshape(15, -1) for values in (features[name], applied[name]))
        r = [np.corrcoef(one, two)[0, 1] for one, two in zip(true.T, made.T, strict=True)]
        assert np.median(r) > at_least


def test_the_other_set_has_no_say_in_the_decoders(subject, other, tmp_path):
    """A responses file of the same test images, of which only the first rows differ."""
    changed = {}
    for region, path in subject["responses"].items():
        changed[region] = tmp_path / f"changed-{region}.h5"
        copyfile(path, changed[region])
        with open_hdf5(changed[region], "r+") as file:
            file["zscored/test"][:5] *= 3
            file["zscored/trials"][:] = 0
            file["repeats"][:] = 1
    known = decode(subject, tmp_path / "own")["decoded"]
    applied = apply(subject, changed, tmp_path)
    for name in NAMES:
        np.testing.assert_array_equal(applied[name][5:], load_array(known[name])[5:])
        images = load_table(subject["images"])
        mean = load_array(subject["features"][name])[images["split"] == "train"].mean(axis=0)
        tripled = mean + 3 * (load_array(known[name])[:5] - mean)
        np.testing.assert_allclose(applied[name][:5], tripled, atol=0.02)


def test_published_decoders_are_not_applied_to_other_responses(subject, other, tmp_path):
    message = r"`protocol`: expected corrected or rescaled or rescaled-test, found takagi2023"
    with pytest.raises(InputError, match=message):
        apply(subject, other[0], tmp_path, "takagi2023")


def test_other_voxels_are_one_clear_error(subject, other, tmp_path):
    path = other[0]["early"]
    save_array(path.with_suffix(".npy"), load_array(path.with_suffix(".npy"))[:, 1:])
    prepare(path)
    with pytest.raises(InputError, match=r"early.h5: expected the 12 voxels of .*early.h5, found"):
        apply(subject, other[0], tmp_path)


def test_regions_of_different_images_are_one_clear_error(subject, other, tmp_path):
    mixed = {"early": other[0]["early"], "ventral": subject["responses"]["ventral"]}
    with pytest.raises(InputError, match=r"ventral.h5: expected the test images of .*early.h5"):
        apply(subject, mixed, tmp_path)


def test_unused_images_and_those_of_other_splits_change_nothing(subject, tmp_path):
    folder = tmp_path / "case"
    folder.mkdir()
    images, trials = (load_table(tmp_path / f"{name}.tsv") for name in ("images", "trials"))
    rng = np.random.default_rng(2)
    places = rng.permutation(N)
    images.loc[places < 25, "split"] = "align"
    images.loc[places < 20, "split"] = "unused"
    trials["split"] = trials["nsd_id"].map(images.set_index("nsd_id")["split"])
    kept = images["split"].isin(["train", "test"]).to_numpy()
    found = {}
    for case, rows in (("marked", np.full(N, True)), ("removed", kept)):
        own = folder / case
        own.mkdir()
        counted = trials["nsd_id"].isin(images["nsd_id"][rows]).to_numpy()
        save_table(own / "images.tsv", images[rows])
        save_table(own / "trials.tsv", trials[counted])
        known = subject | {"images": own / "images.tsv", "responses": {}, "features": {}}
        for region in ("early", "ventral"):
            save_array(own / f"{region}.npy", load_array(tmp_path / f"{region}.npy")[counted])
            prepare(own / f"{region}.h5")
            known["responses"][region] = own / f"{region}.h5"
        for name in NAMES:
            values = np.array(load_array(subject["features"][name]))
            # What is left out must not reach the mean and spread that scores are made with.
            values[~kept] += 30
            known["features"][name] = own / f"{name}.npy"
            save_array(known["features"][name], values[rows])
        found[case] = decode(known, own)
    for name in NAMES:
        marked, removed = (load_array(found[case]["decoded"][name]) for case in found)
        assert len(marked) == (images["split"] == "test").sum()
        np.testing.assert_allclose(marked, removed, atol=1e-4)
        for kind in ("dimensions", "by_image"):
            tables = (load_table(each[kind][name]) for each in found.values())
            one, two = (table.drop(columns="solver", errors="ignore") for table in tables)
            np.testing.assert_allclose(one.to_numpy(float), two.to_numpy(float), atol=1e-4)

"""Encoders of cases: equal to those of the core, applied to other test sets, and their scores."""

import h5py
import numpy as np
import pandas as pd
import pytest
from himalaya.backend import get_backend, set_backend
from planted_voxels import HOW, draw_weights, fit, prepare, write_subject
from scipy.stats import t as student
from sklearn.linear_model import Ridge

from nsdldm import stats
from nsdldm.encoding.case_scores import _add_block, _summarise, score_case_encoders
from nsdldm.encoding.fits import FitSettings
from nsdldm.encoding.predictions import Predictions
from nsdldm.encoding.transfer import predict_case
from nsdldm.features.kernels import compute_kernels
from nsdldm.responses import noise_ceiling, prepare_responses
from nsdldm.support.errors import InputError
from nsdldm.support.files import (
    load_array,
    load_mask,
    load_table,
    save_array,
    save_table,
    save_volume,
)

VOXELS, SETS = 60, 24


@pytest.fixture(autouse=True)
def same_backend_after():
    """himalaya's backend belongs to the process."""
    before = get_backend().name
    yield
    set_backend(before)


def write_set(folder, weights, mean, seed=1, noise=0.5):
    """Another test set: fewer images, each shown twice in a session of its own."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((SETS, 12)) + mean
    shown = rng.permutation(np.repeat(np.arange(SETS), 2))
    betas = features[shown] @ weights + noise * rng.standard_normal((len(shown), VOXELS))
    split = np.where(np.arange(SETS) < 4, "unused", "test")
    trials = {"session": 1, "nsd_id": shown, "split": split[shown]}
    group = np.where(np.arange(SETS) < 12, "noise", np.where(np.arange(SETS) < 21, "words", "few"))
    images = {"nsd_id": np.arange(SETS), "split": split, "group": group}
    save_table(folder / "trials.tsv", pd.DataFrame(trials))
    save_table(folder / "images.tsv", pd.DataFrame(images))
    save_array(folder / "betas.npy", betas.astype(np.float32))
    save_array(folder / "x.npy", features.astype(np.float32))
    prepare_responses(
        **{key: folder / f"{key}.tsv" for key in ("trials", "images")},
        betas=folder / "betas.npy",
        output=folder / "responses.h5",
        forms=["zscored/averages"],
    )


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """All voxels follow the features x."""
    folder = tmp_path_factory.mktemp("subject")
    rng = np.random.default_rng(0)
    features = {name: rng.standard_normal((120, 12)) + 3 for name in "xy"}
    weights = draw_weights(rng, 12, VOXELS)
    write_subject(folder, features, features["x"] @ weights, 40, 1.0)
    write_set(folder / "set", weights, 3)
    return folder


def predict(folder, output, spaces="x", max_components=6400, **changed):
    given = {
        "images": folder / "images.tsv",
        "features": {space: folder / f"{space}.npy" for space in spaces},
        "responses": folder / "responses.h5",
        "settings": FitSettings(**HOW),
        "max_components": max_components,
    }
    predict_case(**given | changed, predictions=output)
    return Predictions(output)


def of_set(folder, **changed):
    own = folder / "set"
    given = {"test_images": own / "images.tsv", "test_features": {"x": own / "x.npy"}}
    return given | {"tested": own / "responses.h5"} | changed


@pytest.mark.parametrize("max_components", [6400, 5])
def test_models_of_the_core_are_those_of_the_core(subject, tmp_path, max_components):
    compute_kernels(
        features={name: subject / f"{name}.npy" for name in "xy"},
        images=subject / "images.tsv",
        output=tmp_path / "kernels.h5",
        max_components=max_components,
        device="cpu",
    )
    for name in ("responses.h5", "images.tsv"):
        (tmp_path / name).symlink_to(subject / name)
    core = Predictions(fit(tmp_path, tmp_path / "core.h5", "xy"))
    # As the workflow calls it: the case's own table and features are also those tested.
    own = predict(
        *(subject, tmp_path / "own.h5", "xy", max_components),
        test_images=subject / "images.tsv",
        test_features={name: subject / f"{name}.npy" for name in "xy"},
        tested=subject / "responses.h5",
    )
    np.testing.assert_array_equal(own.test_ids, core.test_ids)
    for space in "xy":
        for a, b in zip(own.read(space)[:3], core.read(space)[:3], strict=True):
            np.testing.assert_array_equal(a, b)


def test_voxels_in_several_calls_change_nothing(subject, tmp_path, monkeypatch):
    whole = predict(subject, tmp_path / "whole.h5").read("x")
    plan = {"voxels": 17, "targets": 17, "alphas": 2, "peak": 0, "device_peak": 0, "spare": 0}
    monkeypatch.setattr("nsdldm.encoding.transfer.plan_fits", lambda *_: plan)
    parts = predict(subject, tmp_path / "parts.h5").read("x")
    np.testing.assert_allclose(parts.predictions, whole.predictions, rtol=1e-4, atol=1e-5)


def test_another_test_set_is_predicted_by_the_encoders_of_the_core(subject, tmp_path):
    found = predict(subject, tmp_path / "set.h5", **of_set(subject))
    core = predict(subject, tmp_path / "core.h5").read("x")
    model = found.read("x")
    np.testing.assert_array_equal(found.test_ids, np.arange(4, SETS))
    np.testing.assert_array_equal(model.alphas, core.alphas)
    images = load_table(subject / "images.tsv")
    train = (images["split"] == "train").to_numpy()
    X = load_array(subject / "x.npy").astype(float)
    X, mean = X[train], X[train].mean(axis=0)
    unit = np.square(X - mean).sum(axis=1).mean()
    with h5py.File(subject / "responses.h5") as file:
        ids, Y = file["nsd_ids/averages"][:], file["zscored/averages"][:]
    np.testing.assert_array_equal(ids, images["nsd_id"][train])
    new = load_array(subject / "set/x.npy")[4:]
    for voxel in range(5):
        ridge = Ridge(alpha=model.alphas[voxel] * unit).fit(X, Y[:, voxel])
        np.testing.assert_allclose(model.predictions[:, voxel], ridge.predict(new), atol=1e-4)
    observed = found.open_responses(subject / "set/responses.h5").read_test()
    assert np.median(stats.correlate(observed, model.predictions)) > 0.8


def test_unused_images_change_no_model(subject, tmp_path):
    """Their features might be those of test images of another case."""
    table = load_table(subject / "images.tsv")
    trials = load_table(subject / "trials.tsv")
    left = table["nsd_id"].sample(30, random_state=0)
    for name, each in (("images", table), ("trials", trials)):
        each.loc[each["nsd_id"].isin(left), "split"] = "unused"
        save_table(tmp_path / f"{name}.tsv", each)
    (tmp_path / "betas.npy").symlink_to(subject / "betas.npy")
    prepare(tmp_path)
    found = []
    for number, factor in enumerate((1, 100)):
        x = load_array(subject / "x.npy").copy()
        x[table["split"] == "unused"] *= factor
        save_array(tmp_path / f"x{number}.npy", x)
        features = {"x": tmp_path / f"x{number}.npy"}
        found.append(predict(tmp_path, tmp_path / f"{number}.h5", features=features).read("x"))
    np.testing.assert_allclose(*(model.predictions for model in found), atol=1e-5)


def test_contradicting_inputs_are_refused(subject, tmp_path):
    output, own = tmp_path / "out.h5", subject / "set"
    with pytest.raises(InputError, match="features x of the other test images"):
        predict(subject, output, **of_set(subject, test_features={"y": own / "x.npy"}))
    with pytest.raises(InputError, match="responses to the other test images"):
        predict(subject, output, **of_set(subject, tested=None))
    with pytest.raises(InputError, match="a row for each of the 24 images"):
        predict(subject, output, **of_set(subject, test_features={"x": subject / "x.npy"}))
    save_array(tmp_path / "wide.npy", np.ones((SETS, 13), np.float32))
    with pytest.raises(InputError, match="features of one shape"):
        predict(subject, output, **of_set(subject, test_features={"x": tmp_path / "wide.npy"}))
    table = load_table(own / "images.tsv")
    table.loc[4, "split"] = "unused"
    save_table(tmp_path / "images.tsv", table)
    with pytest.raises(InputError, match="responses to the test images"):
        predict(subject, output, **of_set(subject, test_images=tmp_path / "images.tsv"))
    with pytest.raises(InputError, match="responses to the train images"):
        predict(subject, output, responses=own / "responses.h5")
    assert not output.exists()


def test_responses_of_other_voxels_are_refused(subject, tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(subject / "set/responses.h5") as file, h5py.File(other, "w") as new:
        for name in ("nsd_ids", "repeats"):
            file.copy(name, new)
        for name in ("zscored/averages", "zscored/test"):
            new[name] = file[name][:, 1:]
        new["ncsnr"], new["ceiling"] = file["ncsnr"][1:], file["ceiling"][1:]
    with pytest.raises(InputError, match=f"the {VOXELS} voxels of"):
        predict(subject, tmp_path / "out.h5", **of_set(subject, tested=other))


def test_cases_with_hardly_any_test_image_are_refused(subject, tmp_path):
    trials = load_table(subject / "trials.tsv")
    table = load_table(subject / "images.tsv")
    left = table.loc[table["split"] == "test", "nsd_id"][2:]
    for name, each in (("images", table), ("trials", trials)):
        each.loc[each["nsd_id"].isin(left), "split"] = "unused"
        save_table(tmp_path / f"{name}.tsv", each)
    (tmp_path / "betas.npy").symlink_to(subject / "betas.npy")
    prepare(tmp_path)
    with pytest.raises(InputError, match="at least 3 test images"):
        predict(tmp_path, tmp_path / "out.h5", features={"x": subject / "x.npy"})


@pytest.fixture
def predicted(subject, tmp_path):
    """Predictions of the other test set, and masks of two regions."""
    predict(subject, tmp_path / "set.h5", **of_set(subject))
    mask = load_mask(subject / "mask.nii.gz")
    order = np.cumsum(mask.ravel()).reshape(mask.shape) - 1
    regions = {}
    for name, chosen in (("late", order >= 20), ("early", order < 30)):
        regions[name] = tmp_path / f"{name}.nii.gz"
        save_volume(regions[name], mask & chosen, np.diag([1.8, 1.8, 1.8, 1]))
    return tmp_path, regions


def score(subject, folder, regions, **changed):
    given = {
        "predictions": folder / "set.h5",
        "responses": subject / "set/responses.h5",
        "images": subject / "set/images.tsv",
        "mask": subject / "mask.nii.gz",
        "regions": regions,
        "ncsnr": subject / "set/responses.h5",
        "min_ncsnr": 0.8,
        "table": folder / "scores.tsv",
    }
    score_case_encoders(**given | changed)
    return load_table(folder / "scores.tsv").set_index(["region", "space", "group"])


def test_scores_equal_plain_numpy(subject, predicted, monkeypatch):
    folder, regions = predicted
    monkeypatch.setattr("nsdldm.encoding.predictions.JUDGED_AT_ONCE", 7)
    table = score(subject, folder, regions)
    # The class with three test images has no row.
    names = ("all", "noise", "words")
    assert [*table.index] == [(r, "x", g) for r in ("late", "early") for g in names]
    with h5py.File(subject / "set/responses.h5") as file:
        observed, ncsnr, repeats = (file[n][:] for n in ("zscored/test", "ncsnr", "repeats"))
        ceiling = file["ceiling"][:]
    model = Predictions(folder / "set.h5").read("x").predictions
    rows = {"all": slice(None), "noise": slice(0, 8), "words": slice(8, 17)}
    parts = {"late": np.arange(VOXELS) >= 20, "early": np.arange(VOXELS) < 30}
    for (region, _, group), row in table.iterrows():
        chosen = parts[region] & (ncsnr >= 0.8)
        a, b = (each[rows[group]][:, chosen] for each in (observed, model))
        r = [np.corrcoef(a[:, v].astype(float), b[:, v])[0, 1] for v in range(chosen.sum())]
        assert row["n_voxels"] == chosen.sum() > 5
        assert row["n_images"] == len(a)
        assert row["r"] == pytest.approx(np.mean(r), abs=1e-5)
        kept = [np.delete(np.arange(len(a)), i) for i in range(len(a))]
        left = np.array([stats.correlate(a[own], b[own]).mean() for own in kept])
        half = student.ppf(0.975, len(a) - 2) * np.sqrt((len(a) - 1) * left.var())
        bounds = np.array([np.mean(r) - half, np.mean(r) + half])
        assert row[["low", "high"]].tolist() == pytest.approx(bounds.tolist(), abs=1e-5)
        most = noise_ceiling(ncsnr, repeats[rows[group]])[chosen].mean()
        assert row["ceiling"] == pytest.approx(most, abs=1e-5)
        scores = np.array([np.mean(r), *bounds]) / most
        names = ["normalised", "normalised_low", "normalised_high"]
        assert row[names].tolist() == pytest.approx(scores.tolist(), abs=1e-4)
        assert np.isnan(row["reliability"])
        if group == "all":
            assert row["ceiling"] == pytest.approx(ceiling[chosen].mean(), abs=1e-5)


def test_numbered_groups_keep_their_names(subject, predicted):
    folder, regions = predicted
    table = load_table(subject / "set/images.tsv")
    table["group"] = ["", "", *np.repeat(["3", "12"], 11)]
    save_table(folder / "images.tsv", table)
    found = score(subject, folder, regions, images=folder / "images.tsv")
    assert [*found.loc["late"].index.get_level_values("group")] == ["all", "12", "3"]
    table["group"] = ""
    save_table(folder / "images.tsv", table)
    assert len(score(subject, folder, regions, images=folder / "images.tsv")) == 2


def test_regions_without_voxels_have_empty_scores(subject, predicted):
    table = score(subject, *predicted, min_ncsnr=100)
    assert (table["n_voxels"] == 0).all()
    assert table[["r", "low", "ceiling", "normalised"]].isna().all(axis=None)


def test_intervals_hold_with_few_images():
    """In noise, 2.5 % of intervals lie above 0, even with the twelve images of NSD-Imagery."""
    rng, above = np.random.default_rng(5), []
    for _ in range(400):
        observed, predicted = (
            rng.standard_normal((12, 30)) + rng.standard_normal((12, 1)) for _ in range(2)
        )
        known = np.full(30, 0.5)
        (row,) = _summarise(_add_block(observed, predicted, known, np.ones((1, 30))))
        above.append(row["low"] > 0)
    assert np.mean(above) < 0.06


def test_voxels_of_another_case_are_chosen_by_the_core(subject, predicted):
    folder, regions = predicted
    copy = folder / "core.h5"
    with h5py.File(subject / "set/responses.h5") as file, h5py.File(copy, "w") as new:
        for name in file:
            file.copy(name, new)
        new["ncsnr"][:] = np.where(np.arange(VOXELS) < 25, 2, 0)
    table = score(subject, folder, regions, ncsnr=copy, min_ncsnr=1)
    assert table.loc["early"]["n_voxels"].tolist() == [25] * 3
    assert table.loc["late"]["n_voxels"].tolist() == [5] * 3


def test_voxels_without_a_ceiling_are_scored_if_all_are_asked_for(subject, predicted):
    folder, regions = predicted
    copy = folder / "unknown.h5"
    with h5py.File(subject / "set/responses.h5") as file, h5py.File(copy, "w") as new:
        for name in file:
            file.copy(name, new)
        new["ncsnr"][:] = np.nan
    table = score(subject, folder, regions, responses=copy, min_ncsnr=0)
    assert table["r"].notna().all()
    assert table[["ceiling", "normalised"]].isna().all(axis=None)


def test_tables_of_other_images_and_other_masks_are_refused(subject, predicted):
    folder, regions = predicted
    with pytest.raises(InputError, match="the test images of the responses, and their group"):
        score(subject, folder, regions, images=subject / "images.tsv")
    save_volume(folder / "mask.nii.gz", np.ones((10, 12, 14), bool), np.diag([1.8, 1.8, 1.8, 1]))
    with pytest.raises(InputError, match=f"a mask of {VOXELS} voxels"):
        score(subject, folder, regions, mask=folder / "mask.nii.gz")
    copy = folder / "trials.h5"
    with h5py.File(subject / "set/responses.h5") as file, h5py.File(copy, "w") as new:
        for name in file:
            file.copy(name, new)
        del new["repeats"]
        new["repeats"] = [2, 2]
    with pytest.raises(InputError, match="the trials of 20 test images"):
        score(subject, folder, regions, responses=copy)

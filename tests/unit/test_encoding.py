"""Encoders of a small simulated subject, against independent fits and by hand."""

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from himalaya.backend import get_backend, set_backend
from planted_voxels import fit as fit_family
from planted_voxels import name_judged, prepare, score
from sklearn.linear_model import Ridge

from nsdldm import ridge, stats
from nsdldm.encoding import predictions
from nsdldm.encoding.scores import score_encoders
from nsdldm.encoding.summary import MAPS
from nsdldm.features.kernels import compute_kernels
from nsdldm.responses import zscore_sessions
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_array, load_table, save_array, save_table, save_volume

N_SIGNAL, N_NOISE = 40, 160
AFFINE = np.diag([1.8, 1.8, 1.8, 1.0]) + np.array([[0, 0, 0, t] for t in (5, -7, 9, 0)])


@pytest.fixture(autouse=True)
def same_backend_after():
    """himalaya's backend belongs to the process."""
    before = get_backend().name
    yield
    set_backend(before)


def write_subject(folder, shuffle=False, seed=0):
    """Files of a subject: the first voxels follow the features x, none the features y."""
    rng = np.random.default_rng(seed)
    n_images, n_voxels = 120, N_SIGNAL + N_NOISE
    nsd_ids = np.sort(rng.choice(1000, n_images, replace=False))
    split = np.where(rng.permutation(n_images) < 40, "test", "train")
    features = {name: rng.standard_normal((n_images, 2, 5)).astype(np.float32) for name in "xy"}
    signal = np.zeros((n_images, n_voxels))
    signal[:, :N_SIGNAL] = features["x"].reshape(n_images, -1) @ rng.standard_normal((10, N_SIGNAL))
    shown = rng.permutation(np.repeat(np.arange(n_images), 3))
    sessions = np.repeat([1, 2, 3], 120)
    betas = signal[shown] / 3 + rng.standard_normal((360, n_voxels)) + sessions[:, None]
    named = rng.permutation(shown) if shuffle else shown
    trials = {"session": sessions, "nsd_id": nsd_ids[named], "split": split[named]}
    mask = np.zeros((7, 8, 9), bool)
    mask.flat[rng.choice(mask.size, n_voxels, replace=False)] = True
    save_table(folder / "trials.tsv", pd.DataFrame(trials))
    save_table(folder / "images.tsv", pd.DataFrame({"nsd_id": nsd_ids, "split": split}))
    save_array(folder / "betas.npy", betas.astype(np.float32))
    save_volume(folder / "mask.nii.gz", mask, AFFINE)
    for name, values in features.items():
        save_array(folder / f"{name}.npy", values)
    compute_kernels(
        features={name: folder / f"{name}.npy" for name in features},
        images=folder / "images.tsv",
        output=folder / "kernels.h5",
        max_components=6400,
        device="cpu",
    )
    prepare(folder)


def fit(folder, names="xy", **changed):
    """Fit and return the tables by feature space."""
    alphas = [1e-3, 1e-2, 1e-1, 1, 10, 100, 1000]
    return score(folder, folder, names, **{"alphas": alphas, "n_folds": 4} | changed)


FILES = ("trials.tsv", "images.tsv", "betas.npy", "mask.nii.gz", "kernels.h5", "responses.h5")


def link(subject, folder, *names):
    """The subject's files, but for those a test changes."""
    for name in FILES:
        if name not in names:
            (folder / name).symlink_to(subject / name)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("subject")
    write_subject(folder)
    return folder


@pytest.fixture(scope="module")
def fitted(subject):
    return fit(subject)


def test_planted_voxels_are_found_and_others_are_not(fitted):
    x, y = fitted["x"], fitted["y"]
    assert x["significant"][:N_SIGNAL].mean() > 0.9
    assert x["significant"][N_SIGNAL:].mean() < 0.05
    assert y["significant"].mean() < 0.03
    planted = x[:N_SIGNAL]
    assert planted["r"].median() == pytest.approx(planted["ceiling"].median(), abs=0.1)
    assert (planted["r2"] <= planted["r"] ** 2 + 1e-6).all()
    assert abs(x["r"][N_SIGNAL:].median()) < 0.05
    assert x["alpha"][:N_SIGNAL].median() < x["alpha"][N_SIGNAL:].median()


def test_maps_hold_the_table_in_the_documented_order(subject, fitted):
    image = nib.load(subject / "x.nii.gz")
    inside = np.asarray(nib.load(subject / "mask.nii.gz").dataobj) > 0
    volumes = image.get_fdata()
    assert MAPS == ("r", "r2", "p", "significant", "ceiling", "ncsnr", "alpha")
    assert volumes.shape == (*inside.shape, len(MAPS))
    assert image.get_data_dtype() == np.float32
    np.testing.assert_allclose(image.affine, AFFINE)
    assert np.isnan(volumes[~inside]).all()
    table = fitted["x"]
    assert list(table) == ["i", "j", "k", *MAPS]
    np.testing.assert_array_equal(table[["i", "j", "k"]], np.argwhere(inside))
    at_voxels = volumes[tuple(table[axis] for axis in "ijk")]
    np.testing.assert_allclose(at_voxels, table[list(MAPS)].to_numpy(float), rtol=1e-5, atol=1e-6)


def test_scores_equal_an_independent_fit(subject, fitted):
    trials, images = load_table(subject / "trials.tsv"), load_table(subject / "images.tsv")
    betas = pd.DataFrame(np.array(load_array(subject / "betas.npy"), float)[:, :12])
    train = trials["split"] == "train"
    session = trials["session"]
    scores = betas.copy()
    for number in (1, 2, 3):
        known = betas[(session == number) & train]
        scores[session == number] = (betas[session == number] - known.mean()) / known.std()
    averages = scores.groupby(trials["nsd_id"]).mean().loc[images["nsd_id"]].to_numpy()
    X = load_array(subject / "x.npy").reshape(len(images), -1).astype(float)
    fitted_on, test = ((images["split"] == part).to_numpy() for part in ("train", "test"))
    # Penalties count in units of the mean squared norm of the centred training features.
    unit = np.square(X[fitted_on] - X[fitted_on].mean(axis=0)).sum(axis=1).mean()
    for voxel in range(12):
        row = fitted["x"].loc[voxel]
        model = Ridge(alpha=row["alpha"] * unit).fit(X[fitted_on], averages[fitted_on, voxel])
        predicted = model.predict(X[test])
        observed = averages[test, voxel]
        r = np.corrcoef(predicted, observed)[0, 1]
        assert row["r"] == pytest.approx(r, abs=1e-3)
        total = np.square(observed - observed.mean()).sum()
        residual = np.square(observed - predicted).sum()
        assert row["r2"] == pytest.approx(1 - residual / total, abs=2e-3)
        assert row["p"] == pytest.approx(stats.p_values(r, test.sum()), rel=0.02, abs=1e-12)


def test_significance_is_fdr_over_the_voxels_of_a_space(fitted):
    for table in fitted.values():
        np.testing.assert_array_equal(table["significant"], stats.fdr(table["p"], 0.05))


def test_shuffled_trials_leave_only_chance(tmp_path):
    write_subject(tmp_path, shuffle=True, seed=1)
    tables = fit(tmp_path)
    for table in tables.values():
        assert (table["p"] < 0.05).mean() < 0.12
        assert not table["significant"].any()


def test_blocks_of_voxels_do_not_change_the_results(subject, fitted, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ridge, "LIBRARIES", 0)
    monkeypatch.setattr(ridge, "LEAST_VOXELS", 10)
    monkeypatch.setattr(predictions, "JUDGED_AT_ONCE", 17)
    caplog.set_level("INFO")
    sizes = (80, 40, N_SIGNAL + N_NOISE, 7, 4)
    whole = ridge.plan_batches(*sizes, 2)
    assert whole["voxels"] == N_SIGNAL + N_NOISE
    memory_gb = (whole["peak"] - 0.7 * (whole["peak"] - whole["spare"])) / 1e9
    link(subject, tmp_path)
    again = fit(tmp_path, "x", memory_gb=memory_gb)["x"]
    assert "50 in a call" in caplog.text
    np.testing.assert_array_equal(again["alpha"], fitted["x"]["alpha"])
    np.testing.assert_allclose(again["r"], fitted["x"]["r"], atol=1e-4)


def test_missing_values(subject, fitted, tmp_path, caplog):
    link(subject, tmp_path, "betas.npy", "responses.h5")
    betas = np.array(load_array(subject / "betas.npy"))
    betas[:120, 0] = np.nan
    betas[:, 1] = np.nan
    save_array(tmp_path / "betas.npy", betas)
    caplog.set_level("INFO")
    prepare(tmp_path)
    table = fit(tmp_path, "x")["x"]
    assert "missing values" in caplog.text
    assert 0 < table["r"][0] < fitted["x"]["r"][0] + 0.1
    columns = ["r", "r2", "p", "ceiling", "ncsnr", "alpha"]
    assert table.loc[1, columns].isna().all()
    assert not table["significant"][1]
    np.testing.assert_allclose(table["r"][2:], fitted["x"]["r"][2:], atol=1e-5)


def test_without_zscores_there_is_no_ceiling(subject, tmp_path):
    link(subject, tmp_path)
    table = fit(tmp_path, "x", form="centred/averages")["x"]
    assert table[["ceiling", "ncsnr"]].isna().all(axis=None)
    # The sessions' means differ here, which is noise that z-scoring would have removed.
    assert 0.1 < table["r"][:N_SIGNAL].median() < 0.9


def test_single_trials_weigh_images_by_their_number(subject, tmp_path):
    link(subject, tmp_path, "trials.tsv", "betas.npy", "responses.h5")
    trials, images = load_table(subject / "trials.tsv"), load_table(subject / "images.tsv")
    keep = np.sort(np.random.default_rng(3).permutation(len(trials))[:320])
    trials = trials.iloc[keep].reset_index(drop=True)
    assert trials["nsd_id"].nunique() == len(images)
    betas = load_array(subject / "betas.npy")[keep]
    save_table(tmp_path / "trials.tsv", trials)
    save_array(tmp_path / "betas.npy", betas)
    prepare(tmp_path)
    table = fit(tmp_path, "x", form="zscored/trials", alphas=[0.5])["x"]

    train = (trials["split"] == "train").to_numpy()
    scores = zscore_sessions(betas, trials["session"].to_numpy(), train)
    groups = pd.DataFrame(scores[:, :5]).groupby(trials["nsd_id"])
    averages = groups.mean().loc[images["nsd_id"]].to_numpy()
    weights = groups.size().loc[images["nsd_id"]].to_numpy()
    X = load_array(subject / "x.npy").reshape(len(images), -1).astype(float)
    fitted_on = (images["split"] == "train").to_numpy()
    unit = np.square(X[fitted_on] - X[fitted_on].mean(axis=0)).sum(axis=1).mean()
    model = Ridge(alpha=0.5 * unit)
    model.fit(X[fitted_on], averages[fitted_on], sample_weight=weights[fitted_on])
    expected = stats.correlate(model.predict(X[~fitted_on]), averages[~fitted_on])
    np.testing.assert_allclose(table["r"][:5], expected, atol=1e-3)


def test_penalties_at_the_edge_are_logged(subject, tmp_path, caplog):
    link(subject, tmp_path)
    fit(tmp_path, "x", alphas=[100, 1000])
    assert "significant voxels chose the smallest alpha, 100" in caplog.text
    assert "largest" not in caplog.text


def test_wide_penalties_are_not(subject, tmp_path, caplog):
    link(subject, tmp_path)
    fit(tmp_path, "x")
    assert "widen" not in caplog.text


def test_the_memory_is_predicted_before_the_fit(subject, tmp_path, caplog):
    link(subject, tmp_path)
    caplog.set_level("INFO")
    fit(tmp_path, "x")
    messages = [record.getMessage() for record in caplog.records]
    predicted = [i for i, message in enumerate(messages) if "predicted peak memory" in message]
    finished = [i for i, message in enumerate(messages) if message.startswith("x: voxels to")]
    assert predicted
    assert predicted[0] < finished[0]


def test_all_contradictions_are_reported_at_once(subject, tmp_path):
    link(subject, tmp_path, "kernels.h5", "images.tsv")
    with h5py.File(tmp_path / "kernels.h5", "w") as file:
        file["x"] = np.zeros((5, 5), np.float32)
    images = load_table(subject / "images.tsv")
    images.loc[0, "nsd_id"] = 5000
    save_table(tmp_path / "images.tsv", images)
    with pytest.raises(InputError) as caught:
        fit(tmp_path, "x")
    assert len(caught.value.findings) == 2
    assert not (tmp_path / "features.h5").exists()


def test_fewer_than_three_test_images_are_refused(subject, tmp_path):
    link(subject, tmp_path, "images.tsv", "trials.tsv", "responses.h5")
    tables = {name: load_table(subject / f"{name}.tsv") for name in ("images", "trials")}
    few = tables["images"].query("split == 'test'")["nsd_id"][:2]
    for name, table in tables.items():
        split = np.where(table["nsd_id"].isin(few), "test", "train")
        save_table(tmp_path / f"{name}.tsv", table.assign(split=split))
    prepare(tmp_path)
    with pytest.raises(InputError, match=r"images\.tsv: expected at least 3 test images"):
        fit(tmp_path, "x")


def test_judges_refuse_what_was_not_fitted_to_their_responses(subject, tmp_path):
    link(subject, tmp_path, "betas.npy", "responses.h5")
    fit_family(subject, tmp_path / "features.h5", "x", alphas=[1])
    given = {"predictions": tmp_path / "features.h5", "sums": tmp_path / "out", "fdr": 0.05}
    given |= {name: {"x": tmp_path / "out"} for name in ("maps", "tables")}
    save_array(tmp_path / "betas.npy", load_array(subject / "betas.npy")[:, :-1])
    prepare(tmp_path)
    with pytest.raises(InputError, match=r"features\.h5: expected the test images and voxels of"):
        score_encoders(**given, **name_judged(tmp_path))
    other = np.zeros((7, 8, 9), bool)
    other[:3] = True
    save_volume(tmp_path / "other.nii.gz", other, AFFINE)
    judged = name_judged(subject) | {"mask": tmp_path / "other.nii.gz", "regions": {}}
    with pytest.raises(InputError, match=r"other\.nii\.gz: expected a mask of 200 voxels"):
        score_encoders(**given, **judged)

"""Responses against closed forms, simulations and tables by hand."""

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.stats import zscore as scipy_zscore
from sklearn.preprocessing import StandardScaler

from nsdldm import responses, stats
from nsdldm.responses import Responses
from nsdldm.support.errors import InputError
from nsdldm.support.files import save_array, save_table


def simulate_trials(rng, n_images, n_voxels, ratio, repeats=3):
    """Standardised betas of images shown `repeats` times, with a known signal-to-noise ratio."""
    nsd_ids = rng.permutation(np.repeat(np.arange(n_images), repeats))
    signal = rng.standard_normal((n_images, n_voxels)) * ratio / np.sqrt(1 + ratio**2)
    noise = rng.standard_normal((len(nsd_ids), n_voxels)) / np.sqrt(1 + ratio**2)
    return (signal[nsd_ids] + noise).astype(np.float32), nsd_ids


def test_zscore_uses_the_training_trials_of_the_same_session():
    rng = np.random.default_rng(0)
    sessions = np.repeat([4, 7], 20)
    train = np.tile([True, True, True, False], 10)
    betas = rng.normal(3, 2, (40, 5)) + 10 * sessions[:, None]
    scores = responses.zscore_sessions(betas, sessions, train)
    assert scores.dtype == np.float32
    for session in (4, 7):
        rows = sessions == session
        fitted = betas[rows & train]
        expected = (betas[rows] - fitted.mean(0)) / fitted.std(0, ddof=1)
        np.testing.assert_allclose(scores[rows], expected, rtol=1e-5, atol=1e-5)
        own = scipy_zscore(fitted, axis=0, ddof=1)
        np.testing.assert_allclose(scores[rows & train], own, rtol=1e-5, atol=1e-5)


def test_zscore_ignores_what_test_trials_are():
    rng = np.random.default_rng(1)
    betas, sessions = rng.standard_normal((20, 3)), np.ones(20, int)
    train = np.arange(20) < 15
    changed = betas.copy()
    changed[~train] += 100
    first = responses.zscore_sessions(betas, sessions, train)
    second = responses.zscore_sessions(changed, sessions, train)
    np.testing.assert_array_equal(first[train], second[train])


@pytest.mark.parametrize("value", [0.1, 1 / 3, np.nan])
def test_zscore_blanks_constant_and_missing_voxels_in_their_session_only(value):
    rng = np.random.default_rng(2)
    betas, sessions = rng.standard_normal((1500, 2)), np.repeat([1, 2], 750)
    betas[sessions == 1, 0] = value
    scores = responses.zscore_sessions(betas, sessions, np.ones(1500, bool))
    assert np.isnan(scores[sessions == 1, 0]).all()
    assert np.isfinite(scores[sessions == 2, 0]).all()
    assert np.isfinite(scores[:, 1]).all()


def test_zscore_leaves_single_missing_trials_out():
    betas = np.array([[1.0], [2.0], [np.nan], [3.0]])
    scores = responses.zscore_sessions(betas, np.ones(4, int), np.ones(4, bool))
    np.testing.assert_allclose(scores[:, 0], [-1, 0, np.nan, 1])


def test_zscore_refuses_a_session_without_training_trials():
    with pytest.raises(InputError, match="session 2"):
        responses.zscore_sessions(np.ones((4, 1)), [1, 1, 2, 2], [True, True, False, False])


def test_center_subtracts_the_training_mean():
    betas = np.array([[1.0, 5.0], [3.0, 5.0], [10.0, 5.0]], np.float32)
    centred = responses.center(betas, np.array([True, True, False]))
    np.testing.assert_allclose(centred[:, 0], [-1, 1, 8])
    assert np.isnan(centred[:, 1]).all()


def test_average_trials_by_hand():
    nsd_ids = np.array([30, 10, 30, 20, 10, 30, 99])
    betas = np.array([[1, 1], [2, 2], [3, np.nan], [4, np.nan], [6, 8], [8, 2], [50, 50]])
    averages, filled = responses.average_trials(betas.astype(np.float32), nsd_ids, [30, 20, 10])
    np.testing.assert_allclose(averages, [[4, 1.5], [4, 0], [4, 5]])
    assert filled.tolist() == [0, 1]
    assert averages.dtype == np.float32


def test_average_trials_with_and_without_missing_values_agree():
    rng = np.random.default_rng(3)
    nsd_ids = rng.permutation(np.repeat(np.arange(30), 3))
    betas = rng.standard_normal((90, 4)).astype(np.float32)
    clean, none = responses.average_trials(betas, nsd_ids, np.arange(30))
    betas[5, 3] = np.nan
    holed, _ = responses.average_trials(betas, nsd_ids, np.arange(30))
    assert not none.any()
    np.testing.assert_allclose(holed[:, :3], clean[:, :3], rtol=1e-6)
    expected = [betas[nsd_ids == image].mean(axis=0) for image in range(30)]
    np.testing.assert_allclose(clean[:, :3], np.array(expected)[:, :3], rtol=1e-4, atol=1e-6)


def test_average_trials_refuses_an_image_that_was_not_shown():
    with pytest.raises(InputError, match="image 5"):
        responses.average_trials(np.ones((2, 1), np.float32), np.array([1, 2]), [1, 5])


def test_ncsnr_by_hand():
    # One image shown three times: variance over trials 0.25; the other is shown twice.
    betas = np.array([[0.5], [9.0], [1.0], [1.5], [-9.0]])
    nsd_ids = np.array([7, 3, 7, 7, 3])
    np.testing.assert_allclose(responses.ncsnr(betas, nsd_ids), np.sqrt(0.75 / 0.25))
    betas[2] = np.nan
    assert np.isnan(responses.ncsnr(betas, nsd_ids)).all()


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_ncsnr_finds_a_simulated_ratio(ratio):
    betas, nsd_ids = simulate_trials(np.random.default_rng(7), 2000, 20, ratio)
    found = responses.ncsnr(betas, nsd_ids)
    assert np.square(found).mean() == pytest.approx(ratio**2, abs=0.03)


def test_compute_ncsnr_removes_scale_and_shift_of_sessions():
    betas, nsd_ids = simulate_trials(np.random.default_rng(8), 500, 10, 0.6)
    sessions = np.repeat([1, 2, 3], 500)
    scaled = betas * sessions[:, None] * 7 + 20 * sessions[:, None]
    np.testing.assert_allclose(
        responses.compute_ncsnr(scaled, sessions, nsd_ids),
        responses.compute_ncsnr(betas, sessions, nsd_ids),
        atol=1e-3,
    )
    assert responses.compute_ncsnr(scaled, sessions, nsd_ids).mean() == pytest.approx(0.6, abs=0.08)


def test_noise_ceiling_is_the_release_formula():
    ratio = np.array([0.0, 0.5, 1.0, np.nan])
    # 100 ncsnr² / (ncsnr² + 1/n), in percent of variance, for n = 3.
    expected = np.sqrt(ratio**2 / (ratio**2 + 1 / 3))
    np.testing.assert_allclose(responses.noise_ceiling(ratio, [3, 3, 3]), expected)
    # A = 2 images with three trials, B = 1 with two, C = 1 with one.
    mixed = (2 / 3 + 1 / 2 + 1) / 4
    found = responses.noise_ceiling(np.array([0.8]), [3, 2, 3, 1])
    np.testing.assert_allclose(found, np.sqrt(0.64 / (0.64 + mixed)))


def test_noise_ceiling_is_the_correlation_of_a_perfect_model():
    rng = np.random.default_rng(9)
    ratio, n_images, n_voxels = 0.5, 4000, 20
    repeats = rng.choice([1, 2, 3], n_images)
    signal = ratio * rng.standard_normal((n_images, n_voxels))
    noise = rng.standard_normal((n_images, n_voxels)) / np.sqrt(repeats)[:, None]
    reached = stats.correlate(signal, signal + noise).mean()
    assert responses.noise_ceiling(ratio, repeats) == pytest.approx(reached, abs=0.01)


N_IMAGES, N_VOXELS = 40, 11
FORMS = [f"{standard}/{rows}" for standard in responses.STANDARDS for rows in responses.ROWS]


@pytest.fixture
def region(tmp_path):
    """Two sessions of trials of images shown once to three times, a quarter of them for tests.

    A voxel misses a session, one is constant and one misses all trials of the first image.
    """
    rng = np.random.default_rng(11)
    nsd_ids = rng.choice(1000, N_IMAGES, replace=False)
    split = np.where(np.arange(N_IMAGES) % 4 == 1, "test", "train")
    shown = rng.permutation(np.repeat(np.arange(N_IMAGES), [3] * 20 + [2] * 10 + [1] * 10))
    session = np.repeat([1, 2], 45)
    betas = rng.standard_normal((90, N_VOXELS)) * rng.uniform(1, 5, N_VOXELS) + session[:, None]
    betas[session == 2, 3], betas[:, 4], betas[shown == 0, 5] = np.nan, 2.5, np.nan
    trials = pd.DataFrame({"session": session, "nsd_id": nsd_ids[shown], "split": split[shown]})
    images = pd.DataFrame({"nsd_id": nsd_ids, "split": split})
    save_table(tmp_path / "trials.tsv", trials)
    save_table(tmp_path / "images.tsv", images)
    save_array(tmp_path / "betas.npy", betas.astype(np.float32))
    return tmp_path, pd.DataFrame(betas.astype(np.float32)), trials, images


def prepare(folder, **changes):
    paths = {name: folder / f"{name}.tsv" for name in ("trials", "images")}
    paths |= {"betas": folder / "betas.npy", "output": folder / "responses.h5"}
    responses.prepare_responses(**paths | {"forms": FORMS} | changes)
    return folder / "responses.h5"


def standardise_by_hand(betas, trials, standard):
    """What pandas makes of betas, before missing values are filled."""
    train = trials["split"] == "train"
    varies = betas[train].max() > betas[train].min()
    if standard == "centred":
        return (betas - betas[train].mean()).where(varies, np.nan, axis=1)
    scores = betas.copy()
    for session in (1, 2):
        rows = trials["session"] == session
        own = betas[rows & train]
        scores[rows] = ((betas[rows] - own.mean()) / own.std()).where(own.max() > own.min(), axis=1)
    return scores


@pytest.mark.parametrize("standard", ["zscored", "centred"])
def test_responses_are_those_of_pandas(region, standard):
    folder, betas, trials, images = region
    path = prepare(folder)
    scores = standardise_by_hand(betas, trials, standard)
    averages = scores.groupby(trials["nsd_id"]).mean().loc[images["nsd_id"]]
    train = (images["split"] == "train").to_numpy()
    wanted = {"averages": averages[train], "trials": scores[trials["split"] == "train"]}
    for rows, expected in wanted.items():
        found = Responses(path, f"{standard}/{rows}")
        np.testing.assert_allclose(found.read_train(), expected.fillna(0), atol=1e-5)
        np.testing.assert_allclose(found.read_test(), averages[~train].fillna(0), atol=1e-5)
        ids = trials.loc[trials["split"] == "train", "nsd_id"]
        assert (
            found.train_ids.tolist()
            == (images.loc[train, "nsd_id"] if rows == "averages" else ids).tolist()
        )
        assert found.test_ids.tolist() == images.loc[~train, "nsd_id"].tolist()
        with h5py.File(path) as file:
            filled = file[f"{standard}/filled/{rows}"][:]
        assert filled.tolist() == expected.isna().sum().tolist()
        assert filled[3] and filled[4] == len(expected) and filled[5]


def test_published_responses_are_those_of_scikit_learn(region):
    folder, betas, trials, images = region
    path = prepare(folder)
    # What the release stores for missing values is 0, which there counts as a response.
    values, train = betas.fillna(0).to_numpy(), (trials["split"] == "train").to_numpy()
    scaler = StandardScaler().fit(values[train])
    found = Responses(path, "scaled/trials")
    np.testing.assert_array_equal(found.read_train(), scaler.transform(values[train]))
    averages = pd.DataFrame(values).groupby(trials["nsd_id"]).mean()
    for rows, read in (("train", "read_train"), ("test", "read_test")):
        wanted = averages.loc[images.loc[images["split"] == rows, "nsd_id"]].to_numpy()
        again = getattr(Responses(path, "scaled/averages"), read)()
        np.testing.assert_allclose(again, scaler.transform(wanted), atol=1e-5)


def test_noise_ceiling_is_of_the_betas_by_all_trials_of_a_session(region):
    """By the release's definition, step by step; no split has a part in it."""
    folder, betas, trials, _ = region
    found = Responses(prepare(folder), "zscored/averages")
    groups = betas.groupby(trials["session"])
    scores = (betas - groups.transform("mean")) / groups.transform("std").replace(0, np.nan)
    own = scores.groupby(trials["nsd_id"])
    three = trials["nsd_id"].value_counts()
    variances = own.var(ddof=1)[own.count() == 3].loc[three.index[three == 3]]
    noise = variances.mean()
    expected = np.sqrt((1 - noise).clip(lower=0) / noise)
    np.testing.assert_allclose(found.ncsnr, expected, atol=1e-5)
    assert np.isfinite(found.ncsnr).sum() >= N_VOXELS - 2 and np.isnan(found.ncsnr[4])
    tested = trials.loc[trials["split"] == "test", "nsd_id"].value_counts()
    ceiling = np.sqrt(expected**2 / (expected**2 + (1 / tested).mean()))
    np.testing.assert_allclose(found.ceiling, ceiling, atol=1e-5)
    # It is of z-scored responses; of others it is not known.
    other = Responses(folder / "responses.h5", "centred/averages")
    assert np.isnan(other.ncsnr).all() and np.isnan(other.ceiling).all()


def test_blocks_of_voxels_change_no_byte(region):
    folder = region[0]
    whole = prepare(folder).read_bytes()
    n_trials = len(region[2])
    for columns in (1, 3):
        memory = columns * responses.WORKING * n_trials / 1e9
        assert prepare(folder, memory_gb=memory).read_bytes() == whole


def test_some_voxels_are_read_as_from_the_whole(region, monkeypatch):
    found = Responses(prepare(region[0]), "zscored/trials")
    whole, test = found.read_train(), found.read_test()
    monkeypatch.setattr(responses, "COLUMNS_AT_ONCE", 2)
    for columns in (slice(2, 7), slice(0, 11, 4), slice(3, 10, 3), slice(5, 5)):
        np.testing.assert_array_equal(found.read_train(columns), whole[:, columns])
        np.testing.assert_array_equal(found.read_test(columns), test[:, columns])


def test_forms_that_are_not_there_or_not_known(region):
    path = prepare(region[0], forms=["zscored/averages"])
    with pytest.raises(InputError, match=r"responses\.h5: expected responses of the form scaled"):
        Responses(path, "scaled/trials")
    with pytest.raises(InputError, match="forms: expected zscored or centred or scaled"):
        prepare(region[0], forms=["zscored/means"])


def test_betas_and_images_of_others_are_refused(region):
    folder, betas, _, images = region
    save_array(folder / "betas.npy", betas.to_numpy()[:-1])
    with pytest.raises(InputError, match=r"betas\.npy: expected one row for each of the 90 trials"):
        prepare(folder)
    save_table(folder / "images.tsv", images[1:])
    with pytest.raises(InputError, match=r"trials\.tsv: expected the images of"):
        prepare(folder)


def test_memory_is_bounded_by_blocks(tmp_path):
    """What numpy holds at its peak, as the parameter says, and not more for more voxels."""
    import tracemalloc

    rng = np.random.default_rng(0)
    trials = {"session": np.repeat([1, 2, 3], 200), "nsd_id": np.repeat(np.arange(200), 3)}
    trials = pd.DataFrame(trials | {"split": np.where(np.arange(600) % 5, "train", "test")})
    trials["split"] = trials.groupby("nsd_id")["split"].transform("first")
    save_table(tmp_path / "trials.tsv", trials)
    save_table(tmp_path / "images.tsv", trials.groupby("nsd_id", as_index=False).first())
    for n_voxels in (2000, 4000):
        betas = rng.standard_normal((600, n_voxels)).astype(np.float32)
        betas[:200, ::3] = np.nan
        save_array(tmp_path / "betas.npy", betas)
        tracemalloc.start()
        prepare(tmp_path, memory_gb=0.02)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 0.01e9 < peak < 0.021e9 + 100 * n_voxels


def test_trials_and_images_left_out_change_nothing(region):
    """Responses of a case are those of its own trials alone."""
    folder, betas, trials, images = region
    left_out = images["nsd_id"].to_numpy()[:7]
    unused = trials["nsd_id"].isin(left_out)
    alone = folder / "alone"
    alone.mkdir()
    save_table(alone / "trials.tsv", trials[~unused])
    save_table(alone / "images.tsv", images[7:])
    save_array(alone / "betas.npy", betas.to_numpy()[~unused])
    save_table(folder / "trials.tsv", trials.assign(split=trials["split"].where(~unused, "unused")))
    among = images["nsd_id"].isin(left_out)
    save_table(folder / "images.tsv", images.assign(split=images["split"].where(~among, "unused")))
    with h5py.File(prepare(folder)) as found, h5py.File(prepare(alone)) as expected:
        for name in [*FORMS, *(f"{standard}/test" for standard in responses.STANDARDS)]:
            np.testing.assert_array_equal(found[name][:], expected[name][:])
        # Where trials are left out, few images may have three.
        own = trials[~unused]
        known = betas.to_numpy()[~unused], own["session"].to_numpy(), own["nsd_id"].to_numpy()
        pooled = responses.compute_ncsnr(*known, pooled=True)
        np.testing.assert_allclose(found["ncsnr"][:], pooled, rtol=1e-4)


def test_images_that_align_subjects_are_averaged_and_train_nothing(region):
    folder, betas, trials, images = region
    aligned = images["nsd_id"][images["split"] == "test"].to_numpy()[:4]
    for name, table in (("trials", trials), ("images", images)):
        among = table["nsd_id"].isin(aligned)
        split = table["split"].where(~among, "align")
        save_table(folder / f"{name}.tsv", table.assign(split=split))
    known = Responses(prepare(folder), "zscored/averages")
    scores = standardise_by_hand(betas, trials, "zscored").assign(image=trials["nsd_id"])
    expected = scores.groupby("image").mean().loc[aligned].fillna(0)
    with h5py.File(known.path) as file:
        np.testing.assert_array_equal(file["nsd_ids/align"][:], aligned)
        np.testing.assert_allclose(file["zscored/align"][:], expected, rtol=1e-4, atol=1e-5)
    assert not {*aligned} & {*known.train_ids, *known.test_ids}


def test_a_session_that_trains_nothing_is_standardised_with_all_its_trials(region):
    """As that of another test set, and those of test images alone."""
    folder, betas, trials, images = region
    for name, table in (("trials", trials), ("images", images)):
        save_table(folder / f"{name}.tsv", table.assign(split="test"))
    known = Responses(prepare(folder, forms=["zscored/averages"]), "zscored/averages")
    assert known.read_train().shape == (0, N_VOXELS)
    everything = trials.assign(split="train")
    scores = standardise_by_hand(betas, everything, "zscored").assign(image=trials["nsd_id"])
    expected = scores.groupby("image").mean().loc[images["nsd_id"]].fillna(0)
    np.testing.assert_allclose(known.read_test(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ratio", [0.4, 1.2])
def test_pooled_ncsnr_takes_images_with_any_number_of_trials(ratio):
    rng = np.random.default_rng(21)
    repeats = rng.choice([1, 2, 4, 6], 400)
    nsd_ids = rng.permutation(np.repeat(np.arange(400), repeats))
    signal = rng.standard_normal((400, 30)) * ratio / np.sqrt(1 + ratio**2)
    noise = rng.standard_normal((len(nsd_ids), 30)) / np.sqrt(1 + ratio**2)
    found = responses.ncsnr(signal[nsd_ids] + noise, nsd_ids, pooled=True)
    assert found.mean() == pytest.approx(ratio, rel=0.05)
    assert np.isnan(responses.ncsnr(signal[nsd_ids] + noise, nsd_ids)).all()
    three = np.repeat(np.arange(100), 3)
    same = rng.standard_normal((300, 4))
    both = (responses.ncsnr(same, three, pooled) for pooled in (False, True))
    np.testing.assert_allclose(*both, rtol=1e-6)

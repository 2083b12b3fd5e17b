"""Unique variance on planted voxels, against closed forms and scikit-learn."""

import itertools

import nibabel as nib
import numpy as np
import pandas as pd
import planted_voxels
import pytest
from himalaya.backend import get_backend, set_backend
from planted_voxels import HOW, draw_weights, write_subject
from scipy.stats import ortho_group
from sklearn.linear_model import Ridge

from nsdldm import ridge, stats
from nsdldm.encoding import flips, joint, predictions
from nsdldm.encoding.flips import FlipTest
from nsdldm.encoding.partition import judge_unique, list_columns, partition_variance
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_array, load_mask, load_table
from nsdldm.workflow.loading import load_settings

N_IMAGES, N_TEST, N_DIMENSIONS, N_EACH, NOISE = 600, 150, 6, 60, 1.2
GROUPS = {name: slice(n * N_EACH, (n + 1) * N_EACH) for n, name in enumerate(("z", "zc", "sum"))}
N_NOISE = 60
WEIGHTS = [0, 0.25, 0.5, 0.75, 1]
SPACES = ("zc", "copy")
FDR = 0.05


@pytest.fixture(autouse=True)
def same_backend_after():
    """himalaya's backend belongs to the process."""
    before = get_backend().name
    yield
    set_backend(before)


def plant(seed=0):
    """Features z and zc, of which half is z, signals of voxels, and what one space adds to them."""
    rng = np.random.default_rng(seed)
    z, own = rng.standard_normal((2, N_IMAGES, N_DIMENSIONS))
    turn = ortho_group.rvs(N_DIMENSIONS, random_state=seed)
    zc = (z @ turn + own) / np.sqrt(2)
    a, b = (draw_weights(rng, N_DIMENSIONS, 3 * N_EACH) for _ in range(2))
    a[:, GROUPS["zc"]], b[:, GROUPS["z"]] = 0, 0
    signal = np.hstack([z @ a + zc @ b, np.zeros((N_IMAGES, N_NOISE))])
    # What is left of each space when the best guess of it from the other is taken away.
    left = {"z": (z - zc @ turn.T / np.sqrt(2)) @ a, "zc": (zc - z @ turn / np.sqrt(2)) @ b}
    return {"z": z, "zc": zc, "copy": z}, signal, left


def partition(inputs, output, spaces=SPACES, every=1, flips=2000, base=None, **changed):
    """Fit z and joint models of it with some spaces; returns tables by the space beside z."""
    how = {"weights": WEIGHTS} | changed
    base = base or planted_voxels.fit(inputs, output / "base.h5", "z", **how)
    fitted = planted_voxels.fit(inputs, output / "family.h5", spaces, every=every, **how, base=base)
    pairs = [("z", space) for space in spaces]
    partition_variance(
        predictions=[fitted],
        base=base,
        maps={pair: output / f"{pair[1]}.nii.gz" for pair in pairs},
        tables={pair: output / f"{pair[1]}.tsv" for pair in pairs},
        sums=output / "sums.npz",
        test=FlipTest(fdr=FDR, flips=flips, seed=0),
        **planted_voxels.name_judged(inputs),
    )
    return {space: load_table(output / f"{space}.tsv") for space in spaces}


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("subject")
    features, signal, left = plant()
    write_subject(folder, features, signal, N_TEST, NOISE)
    test = (load_table(folder / "images.tsv")["split"] == "test").to_numpy()
    total = signal[test, : 3 * N_EACH].var(axis=0) + NOISE**2 / 3
    return folder, {space: np.square(x[test]).mean(axis=0) / total for space, x in left.items()}


@pytest.fixture(scope="module")
def fitted(subject):
    before = get_backend().name
    tables = partition(subject[0], subject[0])
    set_backend(before)
    return tables


@pytest.mark.parametrize("group", GROUPS)
def test_planted_unique_variance_is_recovered(subject, fitted, group):
    table, voxels = fitted["zc"].iloc[GROUPS[group]], GROUPS[group]
    for space in ("z", "zc"):
        truth, found = subject[1][space][voxels], table[f"unique_{space}"]
        assert found.mean() == pytest.approx(truth.mean(), abs=0.02 if truth.any() else 0.01)
        if truth.any():
            assert truth.mean() > 0.2
            assert table[f"significant_{space}"].mean() > 0.9
            scale = np.square(table["ceiling"])
            np.testing.assert_allclose(
                table[f"unique_{space}_normalised"], found / scale, rtol=1e-4, atol=1e-5
            )
        else:
            assert table[f"significant_{space}"].mean() < 0.1
    assert (table["r2"] > table[["r2_z", "r2_zc"]].max(axis=1) - 0.05).all()


def test_noise_has_no_unique_variance(fitted):
    table = fitted["zc"].iloc[3 * N_EACH :]
    assert abs(table[["unique_z", "unique_zc"]].mean()).max() < 0.01
    assert table[["significant_z", "significant_zc"]].mean().max() < 0.08


def test_two_identical_spaces_have_none_each(fitted):
    table = fitted["copy"]
    assert (table[["unique_z", "unique_copy"]] == 0).all(axis=None)
    assert (table[["p_unique_z", "p_unique_copy"]] == 1).all(axis=None)


def prepare_by_hand(folder):
    """Averaged z-scores of training and test images, and the rows of each in images.tsv."""
    trials, images = load_table(folder / "trials.tsv"), load_table(folder / "images.tsv")
    train = (trials["split"] == "train").to_numpy()
    betas = np.array(load_array(folder / "betas.npy"), float)
    for session in np.unique(trials["session"]):
        rows = (trials["session"] == session).to_numpy()
        known = betas[rows & train]
        betas[rows] = (betas[rows] - known.mean(axis=0)) / known.std(axis=0, ddof=1)
    averages = [betas[trials["nsd_id"] == nsd_id].mean(axis=0) for nsd_id in images["nsd_id"]]
    return np.array(averages), (images["split"] == "train").to_numpy()


def scale_features(folder, name, train):
    """Centred features of unit mean squared length over the training images."""
    X = np.array(load_array(folder / f"{name}.npy"), float)
    X -= X[train].mean(axis=0)
    return X / np.sqrt(np.square(X[train]).sum(axis=1).mean())


def choose_penalty(X, Y, train, penalties):
    """Test predictions of scikit-learn's ridge with the best penalty of each voxel over folds."""
    folds, scores = ridge.group_folds(np.arange(train.sum()), HOW["n_folds"], HOW["seed"]), []
    for penalty in penalties:
        parts = [
            stats.r2(Y[train][held], Ridge(alpha=penalty).fit(*each).predict(X[train][held]))
            for fitted, held in folds
            for each in [(X[train][fitted], Y[train][fitted])]
        ]
        scores.append(np.mean(parts, axis=0))
    models = [Ridge(alpha=penalty).fit(X[train], Y[train]) for penalty in penalties]
    predicted = np.stack([model.predict(X[~train]) for model in models])
    return np.take_along_axis(predicted, np.argmax(scores, axis=0)[None, None], axis=0)[0]


@pytest.mark.parametrize("weight", [0.5, 0.3])
def test_fixed_weights_equal_fitting_and_subtracting_by_hand(subject, tmp_path, weight):
    folder = subject[0]
    table = partition(folder, tmp_path, ["zc"], weights=[weight], alphas=[2])["zc"]
    Y, train = prepare_by_hand(folder)
    z, zc = (scale_features(folder, name, train) for name in ("z", "zc"))
    both = np.hstack([np.sqrt(weight) * z, np.sqrt(1 - weight) * zc])
    # Alone, a space may also have the penalties that the mix gives it.
    penalties = {2, 2 / weight, 2 / (1 - weight)}
    scores = []
    for X, tried in ((both, {2}), (z, penalties), (zc, penalties)):
        predicted = choose_penalty(X, Y, train, sorted(tried))
        residual = np.square(Y[~train] - predicted).sum(axis=0)
        total = np.square(Y[~train] - Y[~train].mean(axis=0)).sum(axis=0)
        scores.append(1 - residual / total)
    np.testing.assert_allclose(table["unique_z"], scores[0] - scores[2], atol=1e-4)
    np.testing.assert_allclose(table["unique_zc"], scores[0] - scores[1], atol=1e-4)
    np.testing.assert_allclose(table["r2"], scores[0], atol=1e-4)
    assert (table["weight"] == weight).all()
    assert (table["alpha"] == 2).all()


def test_weights_and_penalties_are_chosen_as_by_a_loop(subject):
    folder = subject[0]
    Y, train = prepare_by_hand(folder)
    Y = Y[train][:, ::12].astype(np.float32)
    X = [scale_features(folder, name, train) for name in ("z", "zc")]
    kernels = [np.stack([x[rows] @ x[train].T for x in X]) for rows in (train, ~train)]
    kernels = [kernel.astype(np.float32) for kernel in kernels]
    weights, alphas = [0.25, 0.5, 0.75], [0.1, 1, 10, 100]
    folds = ridge.group_folds(np.arange(train.sum()), 4, 0)
    ridge.set_device("cpu")
    batches = {"targets": 7, "alphas": 3}
    predicted, alpha, cv, share = joint.fit_joint(*kernels, Y, weights, alphas, folds, batches)

    combinations = list(itertools.product(weights, alphas))
    scores = np.zeros((len(combinations), Y.shape[1]))
    joined = [np.hstack([np.sqrt(w) * X[0], np.sqrt(1 - w) * X[1]]) for w, _ in combinations]
    for row, (both, (_, penalty)) in enumerate(zip(joined, combinations, strict=True)):
        for fold, held_out in folds:
            model = Ridge(alpha=penalty).fit(both[train][fold], Y[fold])
            scores[row] += stats.r2(Y[held_out], model.predict(both[train][held_out])) / len(folds)
    best = scores.argmax(axis=0)
    assert len(np.unique(best)) > 3
    np.testing.assert_array_equal(np.array(combinations)[best].T, [share, alpha])
    np.testing.assert_allclose(cv, scores.max(axis=0), atol=1e-5)
    for voxel, row in enumerate(best):
        model = Ridge(alpha=combinations[row][1]).fit(joined[row][train], Y[:, voxel])
        np.testing.assert_allclose(
            predicted[:, voxel], model.predict(joined[row][~train]), rtol=1e-4, atol=1e-4
        )


def shipped_weights():
    """Grids of kernel weights: those of the demo and of the real data."""
    configs = {"demo": {}, "nsd": {"dataset": "nsd", "nsd": {"root": "x"}}}
    return {name: load_settings(own)["encoding"]["weights"] for name, own in configs.items()}


def solve_by_hand(kernel, Y, penalty, n_train):
    """R² on the rest of a kernel ridge fitted to the first samples, in closed form."""
    Y = Y - Y[:n_train].mean(axis=0)
    inner = kernel[:n_train, :n_train] + penalty * np.eye(n_train)
    predicted = kernel[n_train:, :n_train] @ np.linalg.solve(inner, Y[:n_train])
    observed = Y[n_train:]
    errors = np.square(observed - predicted).sum(axis=0)
    return 1 - errors / np.square(observed - observed.mean(axis=0)).sum(axis=0)


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_small_shares_of_the_signal_are_found_with_the_weights_shipped(tmp_path, share):
    """As much of them as a model that is told the shares and the noise finds (in closed form)."""
    rng, n, n_test, size, n_voxels = np.random.default_rng(0), 1200, 500, 200, 60
    z, b = rng.standard_normal((2, n, size)) / np.sqrt(size)
    a, own = rng.standard_normal((2, size, n_voxels))
    signal = np.sqrt(1 - share) * z @ a + np.sqrt(share) * b @ own
    write_subject(tmp_path, {"z": z, "zc": b, "copy": z}, signal, n_test, np.sqrt(3))
    averages, train = prepare_by_hand(tmp_path)
    order = np.argsort(~train, kind="stable")
    z, b, Y = (x[order] - x[train].mean(axis=0) for x in (z, b, averages))
    told = solve_by_hand((1 - share) * z @ z.T + share * b @ b.T, Y, 1, train.sum())
    alone = solve_by_hand((1 - share) * z @ z.T, Y, 1 + share, train.sum())
    possible = (told - alone).mean()
    chosen = {"alphas": [0.3, 1, 3, 10], "flips": 99}
    assert possible > (0.005 if share == 0.1 else 0.02)
    for name, weights in shipped_weights().items():
        found = partition(tmp_path, tmp_path, ["zc"], weights=weights, **chosen)["zc"]
        assert found["unique_zc"].mean() > 0.7 * possible, name
    coarse = partition(tmp_path, tmp_path, ["zc"], weights=[0, 0.5, 1], **chosen)["zc"]
    assert coarse["unique_zc"].mean() < 0.6 * possible


def plant_beside(case, seed=0):
    """z, something beside it, and signals of voxels that weigh some directions of z more.

    ``linear`` and ``noisy`` are functions of z that a linear model of it does not need; ``new``
    holds what voxels answer to besides, and ``another's`` the same of other images. In ``only new``
    voxels weigh all directions of z alike, so that no function of z can help.
    """
    rng, size, n_voxels = np.random.default_rng(seed), 150, 80
    z, new, noise = rng.standard_normal((3, N_IMAGES, size))
    smooth = np.arange(1, size + 1) ** (0.0 if case == "only new" else -1.0)
    linear = z * smooth / np.linalg.norm(smooth) * np.sqrt(size)
    weights = [draw_weights(rng, size, n_voxels) * scale for scale in (smooth[:, None], 1)]
    weights = [each / np.linalg.norm(each, axis=0) for each in weights]
    signal = z @ weights[0] + (case not in ("linear", "noisy")) * 1.2 * new @ weights[1]
    other = new[np.roll(np.arange(N_IMAGES), 7)]
    beside = {
        "linear": linear,
        "noisy": linear + 0.7 * noise,
        "new": linear + new,
        "only new": linear + new,
        "another's": other,
    }[case]
    return z, beside, signal


@pytest.mark.parametrize("case", ["linear", "noisy", "new", "only new", "another's"])
def test_controls_tell_new_information_from_another_prior(tmp_path, case):
    z, beside, signal = plant_beside(case)
    write_subject(tmp_path, {"z": z, "zc": beside, "copy": z}, signal, N_TEST, NOISE)
    spaces = ("zc", "zc-linear", "zc-residual")
    tables = partition(tmp_path, tmp_path, spaces, alphas=[0.1, 1, 10, 100, 1000])
    own, linear, rest = (tables[space][f"unique_{space}"].mean() for space in spaces)
    p = {space: (tables[space][f"p_unique_{space}"] < 0.05).mean() for space in spaces}
    if case == "linear":
        # Nothing that z does not hold, and yet: the 47 to 54 % of voxels.
        assert own > 0.02 and p["zc"] > 0.3
    if case in ("linear", "noisy"):
        assert linear > 0.85 * own and p["zc-linear"] > 0.85 * p["zc"]
        assert rest < 0.005 and p["zc-residual"] < 0.1
    if case in ("new", "only new"):
        assert rest > 0.05 and p["zc-residual"] > 0.7
        assert own > linear + 0.03
    if case == "only new":
        # Below 0 is not unique: parts of training images know too much of one another.
        assert linear < 0.005 and p["zc-linear"] < 0.1
    if case == "another's":
        assert max(own, rest) < 0.01 and max(p["zc"], p["zc-residual"]) < 0.1


def test_controls_can_be_fitted_in_every_so_many_voxels(subject, fitted, tmp_path):
    base = subject[0] / "base.h5"
    some = partition(subject[0], tmp_path, ["zc"], every=4, base=base)["zc"]
    whole = fitted["zc"][::4].reset_index(drop=True)
    columns = ["i", "j", "k", "r2", "unique_z", "unique_zc", "p_unique_zc", "ceiling"]
    np.testing.assert_allclose(some[columns], whole[columns], atol=2e-3)
    volume = nib.load(tmp_path / "zc.nii.gz").get_fdata()
    assert np.isfinite(volume[..., 0]).sum() == len(some)


def test_single_models_are_those_of_the_encoders(subject, fitted, tmp_path):
    names = ("z", "zc")
    alone = planted_voxels.score(subject[0], tmp_path, names, weights=WEIGHTS)
    table = fitted["zc"]
    for n, name in enumerate(names):
        np.testing.assert_array_equal(table[f"r2_{name}"], alone[name]["r2"])
        np.testing.assert_array_equal(table["ceiling"], alone[name]["ceiling"])
        # A joint model that has chosen one space is that model.
        chosen = table["weight"] == 1 - n
        assert chosen.sum() > 20
        np.testing.assert_array_equal(table["r2"][chosen], alone[name]["r2"][chosen])
        np.testing.assert_array_equal(table["alpha"][chosen], alone[name]["alpha"][chosen])


def test_maps_and_tables_hold_the_documented_columns(subject, fitted):
    table = fitted["zc"]
    columns = list_columns(("z", "zc"))
    assert list(table) == ["i", "j", "k", *columns]
    inside = load_mask(subject[0] / "mask.nii.gz")
    volumes = nib.load(subject[0] / "zc.nii.gz").get_fdata()
    assert volumes.shape == (*inside.shape, len(columns))
    assert np.isnan(volumes[~inside]).all()
    # float32 has no p below 1e-38.
    values = table[columns].to_numpy(float)
    np.testing.assert_allclose(volumes[inside], values, rtol=1e-4, atol=1e-38)
    np.testing.assert_array_equal(table["significant"] == 1, stats.fdr(table["p"], FDR))
    for space, other in (("z", "zc"), ("zc", "z")):
        np.testing.assert_allclose(
            table[f"unique_{space}"], table["r2"] - table[f"r2_{other}"], atol=3e-6
        )
        # Corrected over the voxels that the joint model predicts in training, by hand.
        p = table[f"p_unique_{space}"][table["cv"] > 0].sort_values()
        passing = np.flatnonzero(p <= FDR * np.arange(1, len(p) + 1) / len(p))
        expected = table.index.isin(p.index[: passing[-1] + 1])
        np.testing.assert_array_equal(table[f"significant_{space}"], expected)
    np.testing.assert_array_equal(table["tested"], table["cv"] > 0)
    assert 3 * N_EACH < table["tested"].sum() < len(table)
    assert table[["p_unique_z", "p_unique_zc"]].notna().all(axis=None)


def test_blocks_of_voxels_do_not_change_the_results(subject, fitted, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ridge, "LIBRARIES", 0)
    monkeypatch.setattr(ridge, "LEAST_VOXELS", 10)
    monkeypatch.setattr(predictions, "JUDGED_AT_ONCE", 71)
    caplog.set_level("INFO")
    n_penalties = len(ridge.list_penalties(HOW["alphas"], WEIGHTS))
    # Test predictions of the joint model and of both spaces.
    whole = ridge.plan_batches(450, 225, 240, n_penalties, 5, 2)
    beside = 4 * 450 * (4 * 450 + 150)
    memory_gb = (beside + whole["spare"] + 0.6 * (whole["peak"] - whole["spare"])) / 1e9
    again = partition(
        subject[0], tmp_path, ["zc"], memory_gb=memory_gb, base=subject[0] / "base.h5"
    )["zc"]
    assert "120 in a call" in caplog.text
    columns = ["r2", "r2_z", "unique_z", "unique_zc", "p_unique_z", "ncsnr"]
    np.testing.assert_allclose(again[columns], fitted["zc"][columns], atol=2e-3)
    np.testing.assert_array_equal(again["significant_zc"], fitted["zc"]["significant_zc"])


def test_too_little_memory_counts_the_second_kernel(subject, tmp_path):
    with pytest.raises(InputError, match=r"`memory_gb`") as caught:
        partition(subject[0], tmp_path, memory_gb=0.1, base=subject[0] / "base.h5")
    assert "further kernels" in str(caught.value)


def test_z_is_read_and_not_fitted_again(subject, tmp_path, monkeypatch):
    calls, fit_ridge = [], ridge.fit_ridge
    monkeypatch.setattr(ridge, "fit_ridge", lambda *how: calls.append(1) or fit_ridge(*how))
    base = planted_voxels.fit(subject[0], tmp_path / "base.h5", "z", alphas=[1])
    assert len(calls) == 1
    how = {"alphas": [1], "weights": [0, 0.5, 1], "base": base}
    fitted = planted_voxels.fit(subject[0], tmp_path / "family.h5", ["zc", "copy"], **how)
    assert len(calls) == 3
    found = predictions.Predictions(fitted)
    assert found.names == ["zc", "copy", "z+zc", "z+copy"] and found.every == 1
    # Where it has chosen z alone, a joint model is what was read, to the last digit.
    alone, both = predictions.Predictions(base).read("z"), found.read("z+zc")
    chosen = both.weights == 1
    assert chosen.sum() > 20
    for name in ("predictions", "alphas", "cv_scores"):
        one, other = (getattr(model, name)[..., chosen] for model in (both, alone))
        np.testing.assert_array_equal(one, other)


def test_z_of_other_voxels_or_responses_is_refused(subject, tmp_path):
    how = {"alphas": [1], "weights": [0.5]}
    base = planted_voxels.fit(subject[0], tmp_path / "base.h5", "z", every=3, **how)
    with pytest.raises(InputError, match=r"base\.h5: expected models of all voxels"):
        planted_voxels.fit(subject[0], tmp_path / "family.h5", ["zc"], base=base, **how)
    base = planted_voxels.fit(subject[0], base, "z", form="centred/averages", **how)
    with pytest.raises(InputError, match=r"to zscored/averages, found .* centred/averages"):
        planted_voxels.fit(subject[0], tmp_path / "family.h5", ["zc"], base=base, **how)


def test_without_zscores_normalised_values_are_blank(subject, tmp_path):
    how = {"form": "centred/averages", "weights": [0.5], "alphas": [1]}
    table = partition(subject[0], tmp_path, ["zc"], **how)["zc"]
    assert table[["unique_z_normalised", "unique_zc_normalised"]].isna().all(axis=None)
    assert table["unique_z"].notna().all()


@pytest.mark.parametrize("weights", [[0, 1], [0.5, 1.5]])
def test_weights_that_make_no_joint_model_are_refused(subject, tmp_path, weights):
    with pytest.raises(InputError, match=r"`weights`"):
        partition(subject[0], tmp_path, base=subject[0] / "base.h5", weights=weights)


def test_sign_flips_equal_all_flips_by_hand(monkeypatch):
    rng = np.random.default_rng(1)
    observed, without, joint = rng.standard_normal((3, 8, 5)).astype(np.float32)
    joint[:, 0] = without[:, 0]
    joint[:, 1] = observed[:, 1]
    signs = np.array(list(itertools.product((1, -1), repeat=8)), np.float32)
    assert (signs[0] == 1).all()
    monkeypatch.setattr(flips, "SUMS", 5 * len(signs) * 2)
    p = flips.flip_signs(observed, without, joint, signs)
    assert p[0] == 1
    assert p[1] == 1 / 256
    for voxel in range(2, 5):
        gain = (observed - without)[:, voxel] ** 2 - (observed - joint)[:, voxel] ** 2
        sums = [np.dot(each, gain.astype(float)) for each in signs]
        assert p[voxel] == np.mean(np.array(sums) >= sums[0] - 1e-9)


def test_signs_are_fair_and_follow_the_seed():
    first, again, other = (flips.draw_signs(500, 40, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.shape == (501, 40)
    assert (first[0] == 1).all()
    assert set(np.unique(first)) == {-1, 1}
    assert abs(first[1:].mean()) < 0.03


def test_the_null_holds_its_level_on_noise(tmp_path):
    features, _, _ = plant(seed=5)
    write_subject(tmp_path, features, np.zeros((N_IMAGES, 1000)), N_TEST, 1, seed=5)
    table = partition(tmp_path, tmp_path, ["zc"], weights=[0.5], alphas=[1000])["zc"]
    for space in ("z", "zc"):
        assert 0.03 < (table[f"p_unique_{space}"] < 0.05).mean() < 0.07
    chosen = partition(tmp_path, tmp_path, ["zc"])["zc"]
    for space in ("z", "zc"):
        assert (chosen[f"p_unique_{space}"] < 0.05).mean() < 0.07
        assert chosen[f"significant_{space}"].mean() < 0.01


def test_the_joint_model_has_the_score_of_its_folds(subject, fitted):
    """Of voxels whose joint model is one space alone, by scikit-learn."""
    Y, train = prepare_by_hand(subject[0])
    X = scale_features(subject[0], "z", train)[train]
    table = fitted["zc"]
    folds = ridge.group_folds(np.arange(train.sum()), HOW["n_folds"], HOW["seed"])
    for voxel in np.flatnonzero(table["weight"] == 1)[:10]:
        y, model = Y[train][:, voxel], Ridge(alpha=table["alpha"][voxel])
        scores = [
            stats.r2(y[held][:, None], model.fit(X[rest], y[rest]).predict(X[held])[:, None])
            for rest, held in folds
        ]
        assert table["cv"][voxel] == pytest.approx(np.mean(scores), abs=1e-4)


def simulate_unique(folder, seed, n_unique):
    """A small subject: voxels that only z, or z and another space, or nothing, makes respond."""
    rng = np.random.default_rng(seed)
    z, own = rng.standard_normal((2, 240, 5))
    a, b = draw_weights(rng, 5, 60), draw_weights(rng, 5, 60)
    b[:, n_unique:] = 0
    signal = np.hstack([z @ a + 1.5 * own @ b, np.zeros((240, 140))])
    features = {"z": z, "zc": (z + own) / np.sqrt(2)}
    write_subject(folder, features, signal, 80, 1.5, seed=seed)
    how = {"alphas": [1, 10, 100], "weights": [0, 0.5, 1], "n_folds": 4}
    return partition(folder, folder, ["zc"], flips=1999, **how)["zc"]


@pytest.mark.parametrize("n_unique", [0, 12])
def test_the_level_holds_among_the_voxels_that_training_chooses(tmp_path, n_unique):
    """From fits to tests: most voxels tested have signal of both spaces, none of z_c alone."""
    shares, found, without, tested = [], [], [], []
    for seed in range(25):
        table = simulate_unique(tmp_path, seed, n_unique)
        true = np.arange(len(table)) < n_unique
        passed = table["significant_zc"].to_numpy(bool)
        shares.append((passed & ~true).sum() / max(1, passed.sum()))
        found.append(passed[:n_unique].mean() if n_unique else 1)
        without.append(stats.fdr(table["p_unique_zc"], FDR)[:n_unique].mean() if n_unique else 0)
        tested.append(table["tested"].mean())
    # Signal and a part of the noise; by choice of the training images alone.
    assert 0.3 < np.mean(tested) < 0.7
    # Two standard errors of a share of 0.05 in 25 runs, at most, where nothing is true.
    assert np.mean(shares) <= FDR + (0.09 if n_unique == 0 else 0.03)
    assert np.mean(found) > 0.8 and np.mean(found) >= np.mean(without)


def test_the_level_holds_exactly_without_fits():
    """Models that predict equally well, in voxels chosen by how well both do in training."""
    rng, shares = np.random.default_rng(0), []
    for _ in range(200):
        signal = np.where(np.arange(80) < 40, 0.8, 0.0)
        observed = rng.standard_normal((60, 80)).astype(np.float32)
        noise = rng.standard_normal((2, 60, 80)).astype(np.float32)
        alone, both = (signal * observed + 0.3 * each for each in noise)
        cv = signal - 0.1 + 0.1 * rng.standard_normal(80)
        signs = flips.draw_signs(999, 60, int(rng.integers(1e6)))
        p = flips.flip_signs(observed, *(x.astype(np.float32) for x in (alone, both)), signs)
        table = pd.DataFrame({"cv": cv, "p_unique_z": p, "p_unique_zc": p})
        judged = judge_unique(table, ("z", "zc"), 0.1)
        assert not judged["significant_zc"][~judged["tested"]].any()
        assert 40 <= judged["tested"].sum() < 60
        shares.append(judged["significant_zc"].any())
    # Nothing is true: any discovery is false. Two standard errors of 0.1 in 200 runs.
    assert 0.04 < np.mean(shares) < 0.1 + 2 * np.sqrt(0.1 * 0.9 / 200)

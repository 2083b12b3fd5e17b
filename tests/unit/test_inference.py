"""Family-wise inference about encoders: levels, power, and values by brute force."""

from itertools import permutations, product

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from nsdldm import stats
from nsdldm.encoding import inference
from nsdldm.encoding.flips import draw_signs, flip_signs
from nsdldm.encoding.inference import (
    VOLUMES,
    draw_orders,
    find_threshold,
    flip_images,
    infer_encoders,
    judge_family,
    permute_images,
)
from nsdldm.intervals import bootstrap_interval
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table, save_volume


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def test_family_wise_p_equal_those_of_all_permutations():
    rng = np.random.default_rng(0)
    observed, predicted = draw(rng, 5, 4), draw(rng, 5, 4)
    orders = np.array(list(permutations(range(5))))
    r, largest = permute_images(observed, predicted, orders)
    nulls = np.array([stats.correlate(observed, predicted[order]) for order in orders])
    np.testing.assert_allclose(r, nulls[0], rtol=1e-5)
    np.testing.assert_allclose(largest, nulls[1:].max(axis=1), rtol=1e-5)
    expected = (nulls.max(axis=1)[:, None] >= nulls[0] - 1e-6).mean(axis=0)
    np.testing.assert_allclose(judge_family(r, largest), expected)


def test_flips_equal_those_of_all_signs():
    rng = np.random.default_rng(1)
    observed, worse, better = (draw(rng, 6, 5) for _ in range(3))
    better[:, 4] = worse[:, 4]
    signs = np.array(list(product([1, -1], repeat=6)), np.float32)
    t, p, largest = flip_images(observed, worse, better, signs)
    gains = (observed - worse) ** 2 - (observed - better) ** 2
    scaled = gains[:, :4] / np.sqrt((gains[:, :4] ** 2).sum(axis=0))
    nulls = np.column_stack([signs @ scaled, np.zeros(len(signs))])
    np.testing.assert_allclose(t, nulls[0], atol=1e-6)
    np.testing.assert_allclose(largest, nulls[1:].max(axis=1), atol=1e-6)
    np.testing.assert_array_equal(p, flip_signs(observed, worse, better, signs))
    assert p[4] == judge_family(t, np.maximum(largest, 0))[4] == 1


def test_first_order_and_signs_change_nothing():
    orders = draw_orders(20, 30, 0)
    assert orders.shape == (21, 30)
    np.testing.assert_array_equal(orders[0], np.arange(30))
    assert (np.sort(orders, axis=1) == np.arange(30)).all()
    assert len(np.unique(orders, axis=0)) == 21
    np.testing.assert_array_equal(orders, draw_orders(20, 30, 0))


def test_threshold_is_where_p_reaches_alpha():
    largest = np.random.default_rng(2).permutation(np.arange(99) / 99)
    for alpha in (0.01, 0.05, 0.1):
        threshold = find_threshold(largest, alpha)
        above, at = judge_family(np.array([threshold + 1e-9, threshold]), largest)
        assert above <= alpha < at
    assert np.isnan(judge_family(np.array([np.nan]), largest)).all()
    assert np.isnan(find_threshold(np.full(99, -np.inf), 0.05))


def smooth(rng, n_images, n_voxels, width=15):
    """Noise that neighbouring voxels share."""
    noise = draw(rng, n_images, n_voxels + width)
    sums = np.cumsum(noise, axis=1)
    return (sums[:, width:] - sums[:, :-width]) / np.float32(np.sqrt(width))


@pytest.mark.parametrize("kind", ["independent", "smooth"])
def test_family_wise_error_is_controlled(kind):
    """Of 200 experiments without any effect, about 10 reject anything; 22 or more: p < 0.0005."""
    rng = np.random.default_rng(3)
    wrong, wrong_flips = 0, 0
    for seed in range(200):
        make = smooth if kind == "smooth" else draw
        observed, worse, better = (make(rng, 30, 40) for _ in range(3))
        r, largest = permute_images(observed, worse, draw_orders(99, 30, seed))
        wrong += (judge_family(r, largest) <= 0.05).any()
        t, _, largest = flip_images(observed, worse, better, draw_signs(99, 30, seed))
        wrong_flips += (judge_family(t, largest) <= 0.05).any()
    assert wrong < 22
    assert wrong_flips < 22


def test_shared_noise_lowers_the_threshold():
    """A correction by the number of voxels would not know that they share their noise."""
    rng = np.random.default_rng(4)
    found = []
    for width in (1, 100):
        values = [smooth(rng, 60, 150, width) for _ in range(2)]
        found.append(find_threshold(permute_images(*values, draw_orders(199, 60, 0))[1], 0.05))
    assert found[1] < 0.85 * found[0]


# A simulated subject, of whose predictions we know all.
N, VOXELS, PLANTED = 60, 150, 30


def write_predictions(path, models, ids, cv=1.0, every=1):
    with h5py.File(path, "w") as file:
        file.attrs.update(form="zscored/averages", every=every, penalties=[1.0], names=list(models))
        file["test_ids"] = ids
        for name, values in models.items():
            file[f"{name}/predictions"] = values
            scores = np.full(values.shape[1], cv, np.float32)
            file[f"{name}/cv_scores"] = scores
            file[f"{name}/alphas"] = np.ones(len(scores))
            if "+" in name:
                file[f"{name}/weights"] = np.full(len(scores), 0.5)


def write_responses(path, test, ids, ceiling):
    with h5py.File(path, "w") as file:
        file["nsd_ids/averages"], file["nsd_ids/test"] = np.arange(2), ids
        file["zscored/averages"] = np.zeros((2, test.shape[1]), np.float32)
        file["zscored/test"] = test
        file["ncsnr"], file["ceiling"] = ceiling / np.sqrt(1 - ceiling**2), ceiling
        file["repeats"] = np.full(len(ids), 3)


@pytest.fixture
def subject(tmp_path):
    """Voxels follow a, in the first region also b, less and less."""
    rng = np.random.default_rng(5)
    ids = np.sort(rng.choice(1000, N, replace=False))
    a, b = draw(rng, N, VOXELS), draw(rng, N, VOXELS)
    mask = np.zeros((5, 6, 7), bool)
    mask.flat[rng.choice(mask.size, VOXELS, replace=False)] = True
    regions = {}
    for name, part in (("first", slice(0, PLANTED)), ("rest", slice(PLANTED, None))):
        chosen = np.zeros(VOXELS, bool)
        chosen[part] = True
        region = np.zeros(mask.shape, bool)
        region[mask] = chosen
        regions[name] = tmp_path / f"{name}.nii.gz"
        save_volume(regions[name], region, np.eye(4))
    save_volume(tmp_path / "mask.nii.gz", mask, np.eye(4))
    signal = a.copy()
    signal[:, :PLANTED] += b[:, :PLANTED]
    strength = np.linspace(2, 0.01, VOXELS, dtype=np.float32)
    ceiling = np.full(VOXELS, 0.8, np.float32)
    ceiling[:2] = 0.05
    halves = [strength * signal + draw(rng, N, VOXELS) for _ in range(2)]
    write_responses(tmp_path / "all.h5", sum(halves) / 2, ids, ceiling)
    for number, half in enumerate(halves):
        # A half lacks an image, and lists the others in an order of its own.
        order = rng.permutation(N)[number:]
        write_responses(tmp_path / f"half{number}.h5", half[order], ids[order], ceiling)
    single = {"a": strength * a, "b": strength * b}
    write_predictions(tmp_path / "features.h5", single, ids)
    write_predictions(tmp_path / "joint.h5", {"a+b": strength * signal}, ids)
    return tmp_path, regions, halves, ids


def infer(folder, regions, **changed):
    given = {
        "predictions": [folder / "features.h5", folder / "joint.h5"],
        "responses": folder / "all.h5",
        "mask": folder / "mask.nii.gz",
        "regions": regions,
        "halves": [folder / "half0.h5", folder / "half1.h5"],
        "n_permutations": 199,
        "fdr": 0.05,
        "alpha": 0.05,
        "seed": 0,
        "maps": {"a": folder / "a.nii.gz"},
        "table": folder / "table.tsv",
    }
    infer_encoders(**given | changed)
    return load_table(folder / "table.tsv").set_index(["space", "region"])


def read(folder, name):
    with h5py.File(folder / name) as file:
        key = "zscored/test" if "zscored" in file else "a/predictions"
        return file[key][:]


def test_planted_voxels_are_found_and_others_are_not(subject):
    table = infer(*subject[:2])
    assert set(table["measure"]) == {"r", "unique"}
    assert list(table.index.get_level_values("space").unique()) == ["a", "b", "a+b:a", "a+b:b"]
    assert (table["n_fwe"] <= table["n_fdr"]).all()
    np.testing.assert_allclose(table["share_fwe"], table["n_fwe"] / table["n_tested"], atol=1e-6)
    assert table.loc[("a", "rest"), "share_fwe"] > 0.6
    assert table.loc[("a", "first"), "n_fwe"] == table.loc[("b", "first"), "n_fwe"] == PLANTED
    assert table.loc[("b", "rest"), "n_fwe"] <= 1
    assert table.loc[("a+b:b", "rest"), "n_fwe"] == 0
    assert table.loc[("a+b:b", "first"), "n_fwe"] > 0.9 * PLANTED
    assert table.loc[("a+b:a", "rest"), "share_fwe"] > 0.5
    assert (table["n_tested"] == table["n_voxels"]).all()


def test_blocks_of_voxels_change_nothing(subject, monkeypatch):
    folder, regions, *_ = subject
    whole = infer(folder, regions)
    monkeypatch.setattr("nsdldm.encoding.predictions.JUDGED_AT_ONCE", 40)
    monkeypatch.setattr(inference, "PERMUTED_AT_ONCE", 7)
    pd.testing.assert_frame_equal(infer(folder, regions), whole, rtol=1e-4)


def test_maps_hold_r_its_p_and_the_normalised_interval(subject):
    folder, regions, _, _ = subject
    infer(folder, regions)
    inside = np.asarray(nib.load(folder / "mask.nii.gz").dataobj) > 0
    volumes = nib.load(folder / "a.nii.gz").get_fdata()
    assert volumes.shape == (*inside.shape, 5)
    assert np.isnan(volumes[~inside]).all()
    found = dict(zip(VOLUMES, volumes[inside].T, strict=True))
    observed, predicted = read(folder, "all.h5"), read(folder, "features.h5")
    r = stats.correlate(observed, predicted)
    np.testing.assert_allclose(found["r"], r, rtol=1e-5)
    statistic, largest = permute_images(observed, predicted, draw_orders(199, N, 0))
    np.testing.assert_allclose(found["p_fwe"], judge_family(statistic, largest), rtol=1e-6)
    shares = stats.share_r(observed, predicted)
    low, high = bootstrap_interval(shares, 199, 0)
    for name, values in (("normalised", r), ("low", low), ("high", high)):
        assert np.isnan(found[name][:2]).all()
        np.testing.assert_allclose(found[name][2:], values[2:] / 0.8, rtol=2e-4, atol=1e-5)


def test_unique_variance_is_normalised_by_the_squared_ceiling(subject):
    folder, regions, _, _ = subject
    table = infer(folder, regions)
    observed = read(folder, "all.h5")[:, PLANTED:]
    with h5py.File(folder / "features.h5") as file:
        worse = file["b/predictions"][:, PLANTED:]
    with h5py.File(folder / "joint.h5") as file:
        better = file["a+b/predictions"][:, PLANTED:]
    shares = stats.share_gain(observed, worse, better)
    row = table.loc[("a+b:a", "rest")]
    gain = np.median(stats.r2(observed, better) - stats.r2(observed, worse)) / 0.64
    assert row["median_normalised"] == pytest.approx(gain, rel=1e-4)
    low, high = np.median(bootstrap_interval(shares, 199, 0), axis=1) / 0.64
    assert row["median_low"] == pytest.approx(low, rel=1e-3)
    assert row["median_high"] == pytest.approx(high, rel=1e-3)


def test_reliability_is_that_of_the_halves(subject):
    folder, regions, halves, ids = subject
    table = infer(folder, regions)
    predicted = read(folder, "features.h5")
    with h5py.File(folder / "half1.h5") as file:
        common = np.isin(ids, file["nsd_ids/test"][:])
    assert common.sum() == N - 1
    a, b = (stats.correlate(half[common], predicted[common])[PLANTED:] for half in halves)
    r = np.corrcoef(a, b)[0, 1]
    assert table.loc[("a", "rest"), "reliability"] == pytest.approx(2 * r / (1 + r), abs=1e-4)
    assert r > 0.5
    assert table.loc[("a", "rest"), "reliability"] > table.loc[("b", "rest"), "reliability"]


def test_voxels_that_training_does_not_predict_are_not_tested_for_unique_variance(subject):
    folder, regions, _, ids = subject
    joint = {"a+b": np.zeros((N, VOXELS), np.float32)}
    write_predictions(folder / "joint.h5", joint, ids, cv=-0.1)
    table = infer(folder, regions)
    unique = table[table["measure"] == "unique"]
    assert (unique[["n_tested", "n_fdr", "n_fwe"]] == 0).all(axis=None)
    assert unique[["share_fwe", "threshold_fwe", "reliability"]].isna().all(axis=None)
    assert (table[table["measure"] == "r"]["n_tested"] > 0).all()


def test_constant_voxels_are_not_tested(subject):
    folder, regions, _, _ = subject
    with h5py.File(folder / "all.h5", "a") as file:
        file["zscored/test"][:, :10] = 0
    table = infer(folder, regions)
    assert (table.xs("first", level="region")["n_tested"] == PLANTED - 10).all()


def test_models_that_joint_models_and_maps_need_are_asked_for(subject):
    folder, regions, *_ = subject
    with pytest.raises(InputError, match="models of a, b"):
        infer(folder, regions, predictions=[folder / "joint.h5"], maps={})
    with pytest.raises(InputError, match="models of q"):
        infer(folder, regions, maps={"q": folder / "q.nii.gz"})


def test_too_few_permutations_are_refused(subject):
    with pytest.raises(InputError, match="at least 19 for a family-wise error"):
        infer(*subject[:2], n_permutations=18)
    with pytest.raises(InputError, match="`flips`: expected at least 19"):
        infer(*subject[:2], n_flips=18)
    infer(*subject[:2], n_permutations=19)


def test_few_flips_leave_fdr_control_a_floor_and_say_so(subject, caplog):
    infer(*subject[:2], n_flips=199)
    assert "at least 15 of 150 voxels must reach the smallest p" in caplog.text
    caplog.clear()
    more = infer(*subject[:2], n_flips=3999)
    assert not caplog.text
    assert more.loc[("a+b:a", "rest"), "n_fdr"] > 0.6 * (VOXELS - PLANTED)


def test_models_of_some_voxels_are_refused(subject):
    folder, regions, _, ids = subject
    some = np.zeros((N, VOXELS // 2), np.float32)
    write_predictions(folder / "joint.h5", {"a+b": some}, ids, every=2)
    with pytest.raises(InputError, match="models of all voxels"):
        infer(folder, regions)


def test_other_halves_are_refused(subject):
    folder, regions, halves, ids = subject
    ceiling = np.full(VOXELS, 0.5, np.float32)
    write_responses(folder / "half1.h5", halves[1], ids + 5000, ceiling)
    with pytest.raises(InputError, match="in common"):
        infer(folder, regions)
    write_responses(folder / "half1.h5", halves[1][:, 1:], ids, ceiling[1:])
    with pytest.raises(InputError, match=f"the {VOXELS} voxels"):
        infer(folder, regions)


def test_another_mask_is_refused(subject):
    folder, regions, *_ = subject
    save_volume(folder / "mask.nii.gz", np.ones((5, 6, 7), bool), np.eye(4))
    with pytest.raises(InputError, match=f"a mask of {VOXELS} voxels"):
        infer(folder, regions)

"""The best block of planted voxels, against independent fits and intervals by hand."""

import h5py
import nibabel as nib
import numpy as np
import pytest
from himalaya.backend import get_backend, set_backend
from planted_voxels import draw_weights, fit, name_judged, score, write_subject

from nsdldm import ridge, stats
from nsdldm.encoding import block_regions, blocks, predictions
from nsdldm.encoding.flips import FlipTest, draw_signs
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_mask, load_table, save_table, save_volume

NAMES = ("down1", "down2", "mid", "up1", "up2")
N_IMAGES, N_TEST, N_EACH, N_NOISE = 450, 150, 30, 90
TRUTH = np.repeat(np.arange(5), N_EACH)


@pytest.fixture(autouse=True)
def same_backend_after():
    """himalaya's backend belongs to the process."""
    before = get_backend().name
    yield
    set_backend(before)


FDR = 0.05


def choose(inputs, output, names=NAMES, regions=None, **changed):
    """Fit blocks, choose between them and return the table."""
    fitted = fit(inputs, output / "blocks.h5", names, **changed)
    judged = name_judged(inputs)
    blocks.choose_blocks(
        predictions=fitted,
        models={"s050": {name: name for name in names}},
        maps={"s050": output / "blocks.nii.gz"},
        tables={"s050": output / "blocks.tsv"},
        errors={"s050": output / "errors.tsv"},
        test=FlipTest(fdr=FDR, flips=5000, seed=0),
        **judged | {"regions": regions or judged["regions"]},
    )
    return load_table(output / "blocks.tsv")


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """Blocks that share half of their variance; the last, `twin`, is all but the first."""
    folder = tmp_path_factory.mktemp("subject")
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((N_IMAGES, 8))
    own = rng.standard_normal((5, N_IMAGES, 8))
    features = dict(zip(NAMES, (shared + own) / np.sqrt(2), strict=True))
    features["twin"] = features["down1"] + 0.05 * rng.standard_normal((N_IMAGES, 8))
    planted = [features[name] @ draw_weights(rng, 8, N_EACH) for name in NAMES]
    signal = np.hstack([*planted, np.zeros((N_IMAGES, N_NOISE))])
    write_subject(folder, features, signal, N_TEST, 1.0)
    return folder


@pytest.fixture(scope="module")
def chosen(subject):
    before = get_backend().name
    table = choose(subject, subject)
    set_backend(before)
    return table


def test_the_planted_block_wins_and_noise_is_blank(chosen):
    planted, noise = chosen[: len(TRUTH)], chosen[len(TRUTH) :]
    assert (planted["winner"] == TRUTH).mean() >= 0.9
    assert planted["significant"].all()
    assert (planted["clear"] & (planted["winner"] == TRUTH)).mean() >= 0.85
    assert noise["winner"].isna().mean() > 0.95
    assert noise["significant"].mean() < 0.05
    assert not noise["clear"].any()


def test_blocks_that_predict_alike_are_not_clear(subject, tmp_path):
    table = choose(subject, tmp_path, ("down1", "twin", "mid"))
    alike = table[:N_EACH]
    assert alike["significant"].all() and alike["winner"].isin([0, 1]).all()
    # There is a small true difference.
    assert alike["clear"].mean() < 0.2
    third = table[2 * N_EACH : 3 * N_EACH]
    assert ((third["winner"] == 2) & third["clear"]).mean() >= 0.9


def simulate_winners(rng, n_better, n_voxels=60, n_images=50):
    """A table of voxels whose blocks predict equally well, but the first a few voxels better.

    Predictions are the truth plus noise, and so are the scores of the training images.
    """
    observed = rng.standard_normal((n_images, n_voxels)).astype(np.float32)
    noise = np.where(np.arange(n_voxels) < n_better, np.array([[0.5], [1.5], [1.5]]), 1.5)
    predictions = observed + noise[:, None] * rng.standard_normal((3, n_images, n_voxels))
    cv_scores = 0.3 - noise / 10 + 0.02 * rng.standard_normal((3, n_voxels))
    predictions = predictions.astype(np.float32)
    signs = draw_signs(1999, n_images, int(rng.integers(1e6)))
    table = blocks._tabulate("abc", observed, predictions, cv_scores, signs)
    return blocks._finish(table.assign(ceiling=1, ncsnr=1), "abc", n_images, 0.1)


@pytest.mark.parametrize("n_better", [0, 20])
def test_few_of_the_clear_winners_are_false(n_better):
    """The level is kept where blocks are equally good, and planted winners are found."""
    rng, shares, uncorrected, found = np.random.default_rng(0), [], [], []
    for _ in range(120):
        table = simulate_winners(rng, n_better)
        equal = np.arange(len(table)) >= n_better
        clear = table["clear"].to_numpy()
        shares.append((clear & equal).sum() / max(1, clear.sum()))
        alone = (table["p_clear"] < 0.025).to_numpy()
        uncorrected.append((alone & equal).sum() / max(1, alone.sum()))
        found.append(clear[:n_better].mean() if n_better else 1)
    # Three standard errors of a share of 0.1 in 120 runs, at most.
    assert np.mean(shares) <= 0.1 + 0.08 * (n_better == 0) + 0.02
    assert np.mean(found) > 0.95
    if not n_better:
        assert np.mean(uncorrected) > 0.6


def test_scores_are_those_of_the_encoders(subject, chosen, tmp_path):
    alone = score(subject, tmp_path, NAMES)
    for name in NAMES:
        np.testing.assert_array_equal(chosen[f"r_{name}"], alone[name]["r"])
        np.testing.assert_array_equal(chosen["ncsnr"], alone[name]["ncsnr"])
    best = chosen[[f"cv_{name}" for name in NAMES]].to_numpy().argmax(axis=1)
    for voxel in range(0, len(chosen), 11):
        expected = alone[NAMES[best[voxel]]].loc[voxel, "p"]
        assert chosen["p"][voxel] == pytest.approx(expected, rel=1e-3)
    np.testing.assert_array_equal(chosen["significant"], stats.fdr(chosen["p"], FDR))
    np.testing.assert_array_equal(chosen["winner"], np.where(chosen["significant"], best, np.nan))
    # Corrected over the voxels that training images choose, by hand.
    tested = chosen[[f"cv_{name}" for name in NAMES]].max(axis=1) > 0
    p = np.sort(chosen["p_clear"][tested])
    passing = np.flatnonzero(p <= FDR * np.arange(1, len(p) + 1) / len(p))
    clear = tested & (chosen["p_clear"] <= p[passing[-1]]) & chosen["significant"]
    np.testing.assert_array_equal(chosen["clear"], clear)


def test_the_map_holds_the_table(subject, chosen):
    columns = blocks.list_columns(NAMES)
    assert list(chosen) == ["i", "j", "k", *columns]
    inside = load_mask(subject / "mask.nii.gz")
    volumes = nib.load(subject / "blocks.nii.gz").get_fdata()
    assert np.isnan(volumes[~inside]).all()
    np.testing.assert_allclose(
        volumes[inside], chosen[columns].to_numpy(float), rtol=1e-4, atol=1e-9
    )


def test_blocks_of_voxels_do_not_change_the_results(subject, chosen, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ridge, "LIBRARIES", 0)
    monkeypatch.setattr(ridge, "LEAST_VOXELS", 10)
    monkeypatch.setattr(predictions, "JUDGED_AT_ONCE", 71)
    caplog.set_level("INFO")
    whole = ridge.plan_batches(300, 150, 240, 5, 5, 2)
    memory_gb = (whole["spare"] + 0.6 * (whole["peak"] - whole["spare"])) / 1e9
    again = choose(subject, tmp_path, memory_gb=memory_gb)
    assert "120 in a call" in caplog.text
    planted = slice(len(TRUTH))
    np.testing.assert_array_equal(again["winner"][planted], chosen["winner"][planted])
    np.testing.assert_allclose(again["cv_mid"], chosen["cv_mid"], atol=1e-4)
    counts = blocks.count_winners(again["winner"], NAMES)
    assert sum(counts.values()) == len(again)
    assert counts["none"] == again["winner"].isna().sum()
    assert f"mid {counts['mid']}" in caplog.text


def test_winners_are_tested_by_sign_flips():
    rng = np.random.default_rng(3)
    observed = rng.standard_normal((60, 40)).astype(np.float32)
    quality = np.linspace(0, 1, 40)
    near = observed + rng.standard_normal((60, 40))
    predictions = np.stack([near + quality * rng.standard_normal((60, 40)), near, 5 + near])
    predictions = predictions.astype(np.float32)
    ranks = np.tile([[1], [0]], 40)
    signs = draw_signs(1999, 60, 0)
    p = blocks.compare_best(observed, predictions, ranks, signs)
    errors = np.square(observed - predictions).astype(float)
    differences = errors[0] - errors[1]
    flipped = signs[1:].astype(float) @ differences
    expected = (1 + (flipped >= differences.sum(axis=0)).sum(axis=0)) / 2000
    np.testing.assert_allclose(p, expected, atol=1e-3)
    assert (p < 0.05).sum() > 10 and (p > 0.1).sum() > 3


@pytest.fixture(scope="module")
def two(subject, chosen, tmp_path_factory):
    """Two subjects with the same regions, one for every planted block, and one of noise."""
    folder = tmp_path_factory.mktemp("two")
    before = get_backend().name
    inside, order = load_mask(subject / "mask.nii.gz"), np.zeros(len(chosen), int)
    order[: len(TRUTH)], order[len(TRUTH) :] = TRUTH, 5
    regions = {name: folder / f"{name}.nii.gz" for name in [*NAMES, "noise"]}
    for number, path in enumerate(regions.values()):
        region = np.zeros(inside.shape, bool)
        region[inside] = order == number
        save_volume(path, region, np.eye(4))
    errors = {}
    for seed, name in enumerate(("subj01", "subj02")):
        (folder / name).mkdir()
        choose(subject, folder / name, regions=regions, seed=seed)
        errors[name, 0.5] = folder / name / "errors.tsv"
    set_backend(before)
    output = folder / "regions.tsv"
    given = {"errors": errors, "blocks": list(NAMES), "repeats": 500, "seed": 0}
    block_regions.tabulate_blocks(**given, output=output)
    return load_table(output)


def test_the_planted_block_wins_its_region(two):
    planted = two[two["roi"] != "noise"]
    assert (planted["block"] == planted["roi"]).all()
    assert (planted["ci_low"] > 0).all() and (planted["lead"] < planted["ci_high"]).all()
    assert planted["n_images"].eq(N_TEST).all()
    mean = planted[planted["subject"] == "mean"]
    assert len(mean) == len(NAMES)
    assert mean["n_agree"].eq(2).all() and mean["n_clear"].eq(2).all()
    assert mean["n_voxels"].eq(2 * N_EACH).all()


def test_regions_have_r2_and_intervals_of_numpy(subject, chosen, two):
    """R² from the files themselves, and the interval of a bootstrap by hand."""
    row = two.set_index(["subject", "roi"]).loc[("subj01", "mid")]
    with h5py.File(subject / "blocks.h5") as file, h5py.File(subject / "responses.h5") as known:
        predicted = np.stack([file[f"{name}/predictions"][:] for name in NAMES])
        observed = known["zscored/test"][:]
    errors = np.square(observed - predicted) / observed.var(axis=0)
    errors = errors[:, :, 2 * N_EACH : 3 * N_EACH].astype(float)
    np.testing.assert_allclose(
        [row[f"r2_{name}"] for name in NAMES], 1 - errors.mean(axis=(1, 2)), atol=1e-5
    )
    second = NAMES.index(row["second"])
    lead = (errors[second] - errors[2]).mean(axis=1)
    assert row["lead"] == pytest.approx(lead.mean(), abs=1e-5)
    rng = np.random.default_rng(9)
    drawn = lead[rng.integers(0, N_TEST, (4000, N_TEST))].mean(axis=1)
    np.testing.assert_allclose(
        [row["ci_low"], row["ci_high"]], np.quantile(drawn, [0.025, 0.975]), rtol=0.1
    )


def test_errors_are_of_voxels_that_training_predicts(subject, chosen):
    table = load_table(subject / "errors.tsv")
    names = [f"cv_{name}" for name in NAMES]
    counted = chosen[names].max(axis=1) > 0
    assert N_EACH < counted.sum() < len(chosen)
    found = block_regions.read_regions(subject / "errors.tsv", list(NAMES))["cortex"]
    assert (table["n_voxels"] == counted.sum()).all() and found["n_voxels"] == counted.sum()
    np.testing.assert_allclose(found["cv"], chosen.loc[counted, names].mean(), atol=1e-5)
    images = load_table(subject / "images.tsv").query("split == 'test'")["nsd_id"]
    assert found["errors"].index.tolist() == images.tolist()


def test_errors_of_other_blocks_are_refused(subject, chosen, tmp_path):
    table = load_table(subject / "errors.tsv")
    save_table(tmp_path / "errors.tsv", table.drop(columns="error_mid"))
    with pytest.raises(InputError, match=r"errors of the blocks down1.*found no error_mid"):
        block_regions.read_regions(tmp_path / "errors.tsv", list(NAMES))


def test_ranks_prefer_the_first_of_equals():
    scores = np.array([[0.1, 0.3, 0.2], [0.2, 0.3, -1], [0.3, 0.1, 0.2]])
    np.testing.assert_array_equal(blocks.rank_blocks(scores), [[2, 0, 0], [1, 1, 2]])


def test_one_block_is_refused(subject, tmp_path):
    with pytest.raises(InputError, match=r"`models`"):
        choose(subject, tmp_path, ("mid",))

"""The best block of planted voxels, against independent fits and intervals by hand."""

import nibabel as nib
import numpy as np
import pytest
from himalaya.backend import get_backend, set_backend
from planted_voxels import HOW, draw_weights, name_inputs, name_kernels, write_subject

from nsdldm import blocks, encoding, ridge, stats
from nsdldm.errors import InputError
from nsdldm.files import load_mask, load_table

NAMES = ("down1", "down2", "mid", "up1", "up2")
N_IMAGES, N_TEST, N_EACH, N_NOISE = 450, 150, 30, 90
TRUTH = np.repeat(np.arange(5), N_EACH)


@pytest.fixture(autouse=True)
def same_backend_after():
    """himalaya's backend belongs to the process."""
    before = get_backend().name
    yield
    set_backend(before)


def choose(inputs, output, names=NAMES, **changed):
    """Run and return the table."""
    blocks.choose_blocks(
        kernels=name_kernels(inputs, names),
        map=output / "blocks.nii.gz",
        table=output / "blocks.tsv",
        **name_inputs(inputs),
        **HOW | changed,
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
    assert noise["winner"].isna().mean() > 0.95
    assert noise["significant"].mean() < 0.05


def test_blocks_that_predict_alike_have_no_winner(subject, tmp_path):
    table = choose(subject, tmp_path, ("down1", "twin", "mid"))
    alike = table[:N_EACH]
    assert alike["significant"].all()
    # The interval excludes a small true difference in some.
    assert alike["winner"].isna().mean() > 0.7
    assert (table["winner"][2 * N_EACH : 3 * N_EACH] == 2).mean() >= 0.9


def test_scores_are_those_of_the_encoders(subject, chosen, tmp_path):
    encoding.fit_encoders(
        kernels=name_kernels(subject, NAMES),
        maps={name: tmp_path / f"{name}.nii.gz" for name in NAMES},
        tables={name: tmp_path / f"{name}.tsv" for name in NAMES},
        **name_inputs(subject),
        **HOW,
    )
    alone = {name: load_table(tmp_path / f"{name}.tsv") for name in NAMES}
    for name in NAMES:
        np.testing.assert_array_equal(chosen[f"r_{name}"], alone[name]["r"])
        np.testing.assert_array_equal(chosen["ncsnr"], alone[name]["ncsnr"])
    best = chosen[[f"cv_{name}" for name in NAMES]].to_numpy().argmax(axis=1)
    for voxel in range(0, len(chosen), 11):
        expected = alone[NAMES[best[voxel]]].loc[voxel, "p"]
        assert chosen["p"][voxel] == pytest.approx(expected, rel=1e-3)
    np.testing.assert_array_equal(chosen["significant"], stats.fdr(chosen["p"], HOW["fdr"]))
    wins = (chosen["significant"] & chosen["clear"]).to_numpy()
    np.testing.assert_array_equal(chosen["winner"], np.where(wins, best, np.nan))


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
    caplog.set_level("INFO")
    whole = ridge.plan_batches(300, 150 + 525, 240, 5, 5, 2)
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


def test_clear_is_an_interval_above_zero():
    rng = np.random.default_rng(3)
    observed = rng.standard_normal((60, 40)).astype(np.float32)
    quality = np.linspace(0, 1, 40)
    near = observed + rng.standard_normal((60, 40))
    predictions = np.stack([near + quality * rng.standard_normal((60, 40)), near, 5 + near])
    predictions = predictions.astype(np.float32)
    ranks = np.tile([[1], [0]], 40)
    draws = blocks.draw_resamples(2000, 60, 0)
    assert (draws.sum(axis=1) == 60).all()
    ridge.set_device("cpu")
    clear = blocks.compare_best(observed, predictions, ranks, 0.9, draws, memory=5 * 2000 * 7)
    errors = np.square(observed - predictions)
    sums = draws.astype(float) @ (errors[0] - errors[1])
    np.testing.assert_array_equal(clear, np.quantile(sums, 0.05, axis=0) > 0)
    assert 0.1 < clear.mean() < 0.9


def test_ranks_prefer_the_first_of_equals():
    scores = np.array([[0.1, 0.3, 0.2], [0.2, 0.3, -1], [0.3, 0.1, 0.2]])
    np.testing.assert_array_equal(blocks.rank_blocks(scores), [[2, 0, 0], [1, 1, 2]])


def test_one_block_is_refused(subject, tmp_path):
    with pytest.raises(InputError, match=r"trajectories\.blocks"):
        choose(subject, tmp_path, ("mid",))

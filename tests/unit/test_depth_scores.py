import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from nsdldm.evaluation import depth
from nsdldm.evaluation.depth import score_depth
from nsdldm.intervals import bootstrap_interval
from nsdldm.support.errors import InputError

SIDE, N = 6, 40
SPLIT = np.where(np.arange(N) % 4, "train", "test")
TEST = np.flatnonzero(SPLIT == "test")


@pytest.fixture
def maps():
    """Like depth: nearer towards the bottom, and of each image's own beside that."""
    rng = np.random.default_rng(0)
    return (np.arange(SIDE)[:, None] + 3 * rng.standard_normal((N, SIDE, SIDE))).astype(np.float32)


def score(folder, maps, decoded):
    pd.DataFrame({"nsd_id": np.arange(N), "split": SPLIT}).to_csv(
        folder / "images.tsv", sep="\t", index=False
    )
    np.save(folder / "features.npy", maps)
    np.save(folder / "decoded.npy", decoded)
    score_depth(
        decoded=folder / "decoded.npy",
        features=folder / "features.npy",
        images=folder / "images.tsv",
        bootstrap=500,
        seed=3,
        table=folder / "depth.tsv",
    )
    return pd.read_csv(folder / "depth.tsv", sep="\t").set_index("score")


def test_the_order_of_values_is_all_that_counts(tmp_path, maps):
    found = score(tmp_path, maps, 5 * np.exp(maps[TEST]) - 2)
    assert list(found.columns) == ["value", "low", "high", "chance", "floor", "n"]
    assert (found[["value", "low", "high"]] == 1).all(axis=None)
    assert (found["n"] == len(TEST)).all()


def test_every_number_follows_from_its_definition(tmp_path, maps):
    rng = np.random.default_rng(1)
    decoded = maps[TEST] + 6 * rng.standard_normal((len(TEST), SIDE, SIDE)).astype(np.float32)
    found = score(tmp_path, maps, decoded)
    r = np.array(
        [[spearmanr(maps[i].ravel(), other.ravel()).statistic for other in decoded] for i in TEST]
    )
    n = len(TEST)
    wins = [np.mean([r[i, i] > r[i, j] for j in range(n) if j != i]) for i in range(n)]
    chance = np.mean([r[i, j] for i in range(n) for j in range(n) if i != j])
    mean = maps[SPLIT == "train"].mean(axis=0).ravel()
    floor = np.mean([spearmanr(maps[i].ravel(), mean).statistic for i in TEST])
    values = np.stack([np.diag(r), wins], axis=1)
    low, high = bootstrap_interval(values, 500, 3)
    expected = {
        "value": values.mean(axis=0),
        "low": low,
        "high": high,
        "chance": (chance, 0.5),
        "floor": (floor, 0.5),
    }
    for column, numbers in expected.items():
        assert found[column].tolist() == pytest.approx(numbers, abs=1e-5), column
    # Planted: decoding is better than another image's map, and the mean map is a strong floor.
    assert found["value"]["spearman"] > found["low"]["spearman"] > chance + 0.05
    assert floor > chance


def test_maps_of_other_images_are_at_chance(tmp_path, maps):
    found = score(tmp_path, maps, np.roll(maps[TEST], 1, axis=0))
    assert found["value"]["spearman"] == pytest.approx(found["chance"]["spearman"], abs=0.1)
    assert found["value"]["identification"] < 0.7
    assert found["floor"]["spearman"] > 0.2


def test_a_constant_map_tells_nothing(tmp_path, maps):
    found = score(tmp_path, maps, np.ones((len(TEST), SIDE, SIDE), np.float32))
    assert found["value"].to_dict() == {"spearman": 0, "identification": 0.5}


def test_the_mean_does_not_depend_on_blocks(tmp_path, maps, monkeypatch):
    whole = score(tmp_path, maps, maps[TEST])
    monkeypatch.setattr(depth, "ROWS_AT_ONCE", 7)
    pd.testing.assert_frame_equal(score(tmp_path, maps, maps[TEST]), whole)


def test_maps_that_do_not_fit_are_refused(tmp_path, maps):
    with pytest.raises(InputError, match=r"decoded.npy: expected shape \(10, 6, 6\), found"):
        score(tmp_path, maps, maps)
    with pytest.raises(InputError, match=r"decoded.npy: expected shape \(10, 6, 6\), found"):
        score(tmp_path, maps, maps[TEST, :5])
    with pytest.raises(InputError, match=r"features.npy: expected shape \(40, 6, 6\), found"):
        score(tmp_path, maps[:-1], maps[TEST])

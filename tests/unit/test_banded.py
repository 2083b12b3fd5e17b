"""Joint models of several spaces, on voxels whose parts are known."""

from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest

from nsdldm.encoding import banded, components, subsets
from nsdldm.encoding.fits import FitSettings
from nsdldm.encoding.flips import FlipTest
from nsdldm.features.kernels import compute_kernels
from nsdldm.support.errors import InputError
from nsdldm.support.files import save_array, save_table, save_volume

SPACES = ["a", "b", "c"]
N_TRAIN, N_TEST, DIM = 900, 600, 6
FORM = "zscored/averages"
# Variance of each voxel that only a, b and c explain, that b and c share, and noise.
PLANTED = np.array(
    [
        (0.5, 0.2, 0.1, 0.2, 0.0),
        (0.0, 0.0, 0.0, 0.7, 0.3),
        (0.3, 0.0, 0.4, 0.1, 0.2),
        (0.0, 0.7, 0.0, 0.0, 0.3),
        (0.0, 0.0, 0.0, 0.0, 1.0),
    ]
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Spaces b and c have some dimensions in common."""
    folder = tmp_path_factory.mktemp("banded")
    rng = np.random.default_rng(3)
    n = N_TRAIN + N_TEST
    # Columns are exactly uncorrelated among training and among test images, as in a population.
    halves = [rng.standard_normal((size, 4 * DIM + 1)) for size in (N_TRAIN, N_TEST)]
    halves = [np.linalg.qr(each - each.mean(axis=0))[0] * np.sqrt(len(each)) for each in halves]
    columns = np.split(np.concatenate(halves), [DIM, 2 * DIM, 3 * DIM, 4 * DIM], axis=1)
    a, b, c, shared, _ = columns
    features = {"a": a, "b": np.hstack([b, shared]), "c": np.hstack([c, shared])}
    drives = np.stack([each[:, 0] for each in columns], axis=1)
    responses = drives @ np.sqrt(PLANTED.T)
    files = SimpleNamespace(folder=folder, images=folder / "images.tsv")
    split = np.where(np.arange(n) < N_TRAIN, "train", "test")
    save_table(files.images, pd.DataFrame({"nsd_id": np.arange(n), "split": split}))
    for name, each in features.items():
        save_array(folder / f"{name}.npy", each.astype(np.float32))
    files.kernels = folder / "kernels.h5"
    paths = {name: folder / f"{name}.npy" for name in features}
    compute_kernels(features=paths, images=files.images, output=files.kernels, max_components=99)
    files.responses = folder / "responses.h5"
    with h5py.File(files.responses, "w") as file:
        file[FORM] = responses[:N_TRAIN].astype(np.float32)
        file["zscored/test"] = responses[N_TRAIN:].astype(np.float32)
        file["nsd_ids/averages"], file["nsd_ids/test"] = np.arange(N_TRAIN), np.arange(N_TRAIN, n)
        file["ncsnr"], file["ceiling"] = np.ones(5, np.float32), np.full(5, 0.9, np.float32)
    files.mask = folder / "mask.nii.gz"
    save_volume(files.mask, np.ones((5, 1, 1), bool), np.eye(4))
    return files


@pytest.fixture(scope="module")
def found(data):
    """A table of voxels and one of regions."""
    settings = FitSettings([1e-4, 1e-2, 1.0, 1e2, 1e4], [1], 4, 4.0, 0, "cpu")
    predictions = data.folder / "predictions.h5"
    banded.fit_banded(
        spaces=SPACES,
        kernels=[data.kernels],
        responses=data.responses,
        form=FORM,
        images=data.images,
        predictions=predictions,
        settings=settings,
        n_mixes=12,
    )
    outputs = {name: data.folder / f"out.{name}" for name in ("nii.gz", "tsv")}
    components.divide_variance(
        spaces=SPACES,
        predictions=predictions,
        responses=data.responses,
        mask=data.mask,
        regions={"all": data.mask},
        output_map=outputs["nii.gz"],
        output_table=outputs["tsv"],
        summary=data.folder / "summary.tsv",
        test=FlipTest(fdr=0.05, flips=500, seed=0),
        interval=components.Interval(500, 0),
    )
    tables = (outputs["tsv"], data.folder / "summary.tsv")
    return [pd.read_csv(path, sep="\t") for path in tables]


@pytest.mark.parametrize(
    ("part", "column"),
    [("unique_a", 0), ("unique_b", 1), ("unique_c", 2), ("shared", 3), ("common_b+c", 3)],
)
def test_planted_parts_are_recovered(found, part, column):
    np.testing.assert_allclose(found[0][part], PLANTED[:, column], atol=0.02)


def test_nothing_is_common_to_spaces_that_have_nothing_in_common(found):
    for part in ("common_a+b", "common_a+c", "common_a+b+c"):
        assert found[0][part].abs().max() < 0.02


def test_significance_follows_what_is_planted(found):
    for column, space in enumerate(SPACES):
        seen = found[0][f"significant_{space}"].to_numpy()
        assert np.array_equal(seen, PLANTED[:, column] > 0)
        assert (
            found[0][f"share_{space}"][PLANTED[:, column] + PLANTED[:, 3] == 0][:-1] < 0.1
        ).all()


def test_regions_have_means_with_intervals(found):
    table = found[1].set_index("part")
    assert set(table["n_voxels"]) == {5}
    for column, part in enumerate(("unique_a", "unique_b", "unique_c", "shared")):
        row = table.loc[part]
        assert row["value"] == pytest.approx(found[0][part].mean(), abs=1e-4)
        assert row["ci_low"] < row["value"] < row["ci_high"] < row["value"] + 0.05
        assert row["value"] == pytest.approx(PLANTED[:, column].mean(), abs=0.02)
    parts = [f"common_{names}" for names in ("a+b", "a+c", "b+c", "a+b+c")]
    assert table.loc[parts, "value"].sum() == pytest.approx(table.loc["shared", "value"], abs=1e-5)


def test_subsets_and_mixes():
    assert len(subsets.list_subsets(SPACES)) == 7
    assert len(subsets.list_subsets([*"abcde"])) == 5 + 5 + 1
    mixes = banded.draw_mixes(3, 20, 1)
    assert np.allclose(mixes.sum(axis=1), 1) and np.allclose(mixes[0], 1 / 3)
    assert np.array_equal(mixes, banded.draw_mixes(3, 20, 1))
    for spaces in (["a"], [*"abcdefg"], ["a", "a"]):
        with pytest.raises(InputError, match="two to 6 different spaces"):
            subsets.list_subsets(spaces)


def test_parts_of_many_spaces_are_unique_or_shared():
    parts = components.list_parts([*"abcd"])
    assert list(parts) == ["r2", *(f"unique_{s}" for s in "abcd"), "shared"]
    assert sum(parts["shared"].values()) == 1

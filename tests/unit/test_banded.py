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
from nsdldm.plots import parts
from nsdldm.support.errors import InputError
from nsdldm.support.files import save_array, save_table, save_volume

SPACES = ["a", "b", "c"]
N_TRAIN, N_TEST, DIM = 500, 600, 6
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


def fit(data, memory_gb=4.0):
    banded.fit_banded(
        spaces=SPACES,
        kernels=[data.kernels],
        responses=data.responses,
        form=FORM,
        images=data.images,
        predictions=data.folder / "predictions.h5",
        settings=FitSettings([1e-4, 1e-2, 1.0, 1e2, 1e4], [1], 4, memory_gb, 0, "cpu"),
        n_mixes=12,
    )
    return data.folder / "predictions.h5"


@pytest.fixture(scope="module")
def found(data):
    """A table of voxels and one of regions."""
    predictions = fit(data)
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
    common = [f"common_{names}" for names in ("a+b", "a+c", "b+c", "a+b+c")]
    assert table.loc[common, "value"].sum() == pytest.approx(table.loc["shared", "value"], abs=1e-5)


def test_a_figure_shows_the_regions_of_all_subjects(data, found):
    table, summary = data.folder / "joint.tsv", data.folder / "summary.tsv"
    who = ["subj01", "subj02"]
    components.tabulate_parts(subjects=who, summaries=[summary, summary], output=table)
    numbers = pd.read_csv(table, sep="\t")
    assert list(numbers["subject"].unique()) == who and len(numbers) == 2 * len(found[1])
    bars = {part: name for part, (name, _) in parts.list_bars(numbers).items()}
    assert bars["unique_a"] == "only a" and bars["common_a+b+c"] == "common to a, b and c"
    assert set(bars) == set(numbers["part"]) - {"r2", "shared"}
    outputs = {kind: data.folder / f"figure.{kind}" for kind in ("png", "pdf", "tsv")}
    parts.plot_parts(table=table, demo=True, **outputs)
    assert len(pd.read_csv(outputs["tsv"], sep="\t")) == len(numbers)
    with pytest.raises(InputError, match="no subject"):
        parts.plot_parts(table=summary, demo=True, **outputs)


def test_too_little_memory_counts_all_kernels(data, found):
    with pytest.raises(InputError, match=r"`memory_gb`: expected \S+ more, for further kernels"):
        fit(data, memory_gb=0.1)


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
    found = components.list_parts([*"abcd"])
    assert list(found) == ["r2", *(f"unique_{s}" for s in "abcd"), "shared"]
    assert sum(found["shared"].values()) == 1

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from nsdldm.diffusion.pictures import ATTRIBUTES
from nsdldm.nsd.pictures import save_pictures
from nsdldm.plots.test_sets import Row, choose_spread, plot_test_set
from nsdldm.support.files import create_hdf5, save_table

GROUPS = ["A"] * 6 + ["B"] * 6 + ["C"] * 2


@pytest.fixture
def folder(tmp_path):
    """A set of which two images are unused, their pictures, and two reconstructions."""
    rng = np.random.default_rng(3)
    n = len(GROUPS)
    split = ["test"] * 12 + ["unused"] * 2
    table = {"nsd_id": np.arange(n), "name": [f"image {i}" for i in range(n)]}
    save_table(tmp_path / "images.tsv", pd.DataFrame(table | {"group": GROUPS, "split": split}))
    pictures = rng.integers(0, 256, (n, 425, 425, 3), np.uint8)
    save_pictures(tmp_path / "pictures.hdf5", iter(pictures), n)
    for name, value in (("vision", 0.5), ("imagery", -0.25)):
        made = rng.integers(0, 256, (12, 2, 32, 32, 3), np.uint8)
        with create_hdf5(tmp_path / f"{name}.h5", made.nbytes) as file:
            file["images"], file["nsd_id"] = made, np.arange(12)
            file.attrs.update(dict.fromkeys(ATTRIBUTES, 1))
        scores = {"nsd_id": np.arange(12), "source": "zc", "score": "layout-r", "value": value}
        save_table(tmp_path / f"{name}.tsv", pd.DataFrame(scores))
    return tmp_path


def plot(folder, session="imagery"):
    outputs = {ending: folder / f"figure.{ending}" for ending in ("png", "pdf", "tsv")}
    rows = [
        Row(name, "zc", folder / f"{name}.h5", folder / f"{name}.tsv")
        for name in ("vision", "imagery")
    ]
    plot_test_set(
        subject="subj01",
        session=session,
        images=folder / "images.tsv",
        stimuli=folder / "pictures.hdf5",
        rows=rows,
        demo=True,
        **outputs,
    )
    return outputs


def test_all_targets_are_drawn_with_their_scores(folder):
    outputs = plot(folder)
    shown = pd.read_csv(outputs["tsv"], sep="\t")
    assert sorted(shown["nsd_id"]) == sorted([*range(12)] * 2)
    values = shown.groupby("case")["value"].unique()
    assert (values["vision"].tolist(), values["imagery"].tolist()) == ([0.5], [-0.25])
    height, width = imread(outputs["png"]).shape[:2]
    # Both sets are side by side.
    assert height < width


def test_images_are_spread_over_their_class_whatever_their_scores():
    table = pd.DataFrame({"nsd_id": range(20), "name": "x", "group": ["a"] * 16 + ["b"] * 4})
    chosen = choose_spread(table, 2)
    assert chosen["nsd_id"].tolist() == [4, 12, 17, 19]
    assert choose_spread(table, 30)["nsd_id"].tolist() == list(range(20))

import json

import numpy as np
import pandas as pd
import pytest

from nsdldm.nsd.categories import read_categories
from nsdldm.splits import SplitSettings, check_split, split_images
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table, save_array, save_table

N_SHARED, N_OWN, N_SESSIONS = 12, 60, 3
KINDS = ("cat", "dog", "bus", "boat", "pizza", "tree")
SETTINGS = SplitSettings(share=0.2, clusters=6, seed=4)


@pytest.fixture
def folder(tmp_path):
    """A subject's tables, embeddings in six clusters, and the objects of its images.

    Every image is shown one to three times; images of even number have a second, smaller object.
    """
    rng = np.random.default_rng(5)
    nsd_ids = np.sort(rng.choice(73_000, N_SHARED + N_OWN, replace=False))
    split = np.where(rng.permutation(len(nsd_ids)) < N_SHARED, "test", "train")
    repeats = rng.integers(1, 4, len(nsd_ids))
    shown = rng.permutation(np.repeat(np.arange(len(nsd_ids)), repeats))
    session = np.sort(rng.integers(1, N_SESSIONS + 1, len(shown)))
    trials = {"session": session, "trial": 1, "nsd_id": nsd_ids[shown], "repetition": 1}
    save_table(tmp_path / "trials.tsv", pd.DataFrame(trials | {"split": split[shown]}))
    images = {"nsd_id": nsd_ids, "coco_id": nsd_ids + 7, "coco_split": "train2017"}
    images |= {"split": split, "n_trials": repeats}
    save_table(tmp_path / "images.tsv", pd.DataFrame(images))
    kind = rng.integers(0, 6, len(nsd_ids))
    centres = 5 * rng.standard_normal((6, 9))
    features = centres[kind] + 0.1 * rng.standard_normal((len(nsd_ids), 9))
    save_array(tmp_path / "features.npy", features.astype(np.float32))
    objects = [
        {"image_id": int(number) + 7, "category_id": int(own) + 1, "area": 50.0}
        for number, own in zip(nsd_ids, kind, strict=True)
    ]
    objects += [
        {"image_id": int(number) + 7, "category_id": int(own + 1) % 6 + 1, "area": 30.0}
        for number, own in zip(nsd_ids, kind, strict=True)
        if number % 2 == 0
    ]
    write_objects(tmp_path / "instances.json", objects, nsd_ids + 7)
    return tmp_path


def write_objects(path, objects, coco_ids=(), kinds=KINDS):
    categories = [{"id": place + 1, "name": name} for place, name in enumerate(kinds)]
    images = [{"id": int(number)} for number in coco_ids]
    content = {"images": images, "annotations": objects, "categories": categories}
    path.write_text(json.dumps(content))


def split(folder, name, **changes):
    settings = {
        "trials": folder / "trials.tsv",
        "images": folder / "images.tsv",
        "features": folder / "features.npy",
        "instances": [folder / "instances.json"],
        "settings": SETTINGS,
    }
    outputs = {f"output_{kind}": folder / f"{name}_{kind}.tsv" for kind in ("trials", "images")}
    split_images(name=name, **settings | outputs | changes)
    return tuple(load_table(outputs[f"output_{kind}"]) for kind in ("trials", "images"))


def known(folder):
    return tuple(load_table(folder / f"{kind}.tsv") for kind in ("trials", "images"))


@pytest.mark.parametrize(
    "name",
    [
        *("shared", "sessions-2", "unique-3", "random", "cluster", "category"),
        *("half-1", "half-2", "hour", "hour-all"),
    ],
)
def test_tables_keep_their_rows_and_agree(folder, name):
    trials, images = split(folder, name)
    before = known(folder)
    for table, own in zip((trials, images), before, strict=True):
        pd.testing.assert_frame_equal(table[["nsd_id"]], own[["nsd_id"]])
    used = trials[trials["split"] != "unused"]
    counts = images["nsd_id"].map(used["nsd_id"].value_counts()).fillna(0)
    np.testing.assert_array_equal(images["n_trials"], counts)
    assert ((images["n_trials"] == 0) == (images["split"] == "unused")).all()
    where = images.set_index("nsd_id")["split"]
    assert (used["split"] == used["nsd_id"].map(where)).all()
    again = split(folder, name)
    pd.testing.assert_frame_equal(again[1], images)


def test_shared_is_the_table_itself_with_main_categories(folder):
    trials, images = split(folder, "shared")
    before = known(folder)
    pd.testing.assert_frame_equal(trials, before[0])
    pd.testing.assert_frame_equal(images.drop(columns=["group", "grouped"]), before[1])
    assert set(images["group"]) <= {*KINDS}


def test_first_sessions(folder):
    trials, _ = split(folder, "sessions-2")
    assert set(trials.loc[trials["session"] == 3, "split"]) == {"unused"}
    assert "unused" not in set(trials.loc[trials["session"] < 3, "split"])
    everything, _ = split(folder, "sessions-40")
    pd.testing.assert_frame_equal(everything, known(folder)[0])


def test_own_images_are_tested_among_those_with_the_most_trials(folder):
    _, images = split(folder, "unique-3")
    _, before = known(folder)
    shared = before["split"] == "test"
    assert set(images.loc[shared, "split"]) == {"unused"}
    tested = images[images["split"] == "test"]
    assert len(tested) == N_SHARED
    assert tested["n_trials"].min() >= images.loc[images["split"] == "train", "n_trials"].max()


def test_no_image_of_a_held_out_cluster_trains(folder):
    _, images = split(folder, "cluster")
    sides = images.groupby("group")["split"].unique()
    assert (sides.map(len) == 1).all()
    assert len(sides) == SETTINGS.clusters
    assert (images["split"] == "test").mean() >= SETTINGS.share


def test_no_training_image_contains_a_held_out_category(folder):
    _, images = split(folder, "category")
    held_out = set(images.loc[images["split"] == "test", "group"])
    objects = read_categories([folder / "instances.json"], images["coco_id"])
    train = objects[(images["split"] == "train").to_numpy()]
    assert not {*train["all"].explode()} & held_out
    # Images that merely contain one are on neither side.
    assert "unused" in set(images["split"])


def test_random_images_do_not_depend_on_who_else_saw_them(folder):
    _, images = split(folder, "random")
    _, before = known(folder)
    save_table(folder / "images.tsv", before.assign(split=before["split"].to_numpy()[::-1]))
    trials, _ = known(folder)
    where = load_table(folder / "images.tsv").set_index("nsd_id")["split"]
    save_table(folder / "trials.tsv", trials.assign(split=trials["nsd_id"].map(where)))
    _, again = split(folder, "random")
    pd.testing.assert_frame_equal(again, images)
    assert (images["split"] == "test").sum() == round(SETTINGS.share * len(images))


def test_halves_have_the_same_images_and_different_trials(folder):
    halves = [split(folder, name) for name in ("half-1", "half-2")]
    tested = [images.loc[images["split"] == "test", "nsd_id"].tolist() for _, images in halves]
    assert tested[0] == tested[1]
    used = [trials["split"] == "test" for trials, _ in halves]
    assert not (used[0] & used[1]).any()
    before, _ = known(folder)
    own = before[before["split"] == "test"]
    more = own["nsd_id"].value_counts()
    assert set(tested[0]) == set(more.index[more >= 2])
    assert (used[0] | used[1]).sum() == more[more >= 2].sum()


def test_an_hour_trains_and_aligns_with_the_first_session_alone(folder):
    trials, images = split(folder, "hour")
    _, everything = split(folder, "hour-all")
    tested = images.loc[images["split"] == "test", "nsd_id"]
    assert tested.tolist() == everything.loc[everything["split"] == "test", "nsd_id"].tolist()
    for name in ("train", "align"):
        assert set(trials.loc[trials["split"] == name, "session"]) == {1}
    before, _ = known(folder)
    assert (trials["split"] == "test").sum() == before["nsd_id"].isin(tested).sum()
    aligned = everything.loc[everything["split"] == "align", "nsd_id"]
    assert set(aligned) | set(tested) == set(before.loc[before["split"] == "test", "nsd_id"])


def test_a_leak_is_found_and_refused(folder):
    trials, images = split(folder, "cluster")
    images = images.astype({"group": str})
    group = images.loc[images["split"] == "test", "group"].iloc[0]
    moved = images.index[images["split"] == "test"][0]
    leaked = images.copy()
    leaked.loc[moved, "split"] = "train"
    number = leaked.loc[moved, "nsd_id"]
    own = trials["nsd_id"] == number
    with pytest.raises(InputError, match=f"cases/cluster.*group '{group}' on both"):
        check_split(
            leaked, trials.assign(split=trials["split"].where(~own, "train")), "cases/cluster"
        )
    with pytest.raises(InputError, match=f"a trial of image {number} in test, the image in train"):
        check_split(leaked.assign(grouped=False), trials, "cases/cluster")
    with pytest.raises(InputError, match="twice"):
        check_split(pd.concat([images, images[:1]]), trials, "cases/cluster")
    with pytest.raises(InputError, match="found held"):
        check_split(images.assign(split="held"), trials, "cases/cluster")
    with pytest.raises(InputError, match="at least 3 test images, found 0"):
        check_split(images.assign(split="train"), trials.assign(split="train"), "x")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("sesions-2", {}, "`name`: expected shared, sessions-N"),
        ("sessions", {}, "`name`: expected shared, sessions-N"),
        ("half-3", {}, "`name`: expected shared, sessions-N"),
        ("cluster", {"features": None}, "clusters: expected an embedding"),
        ("category", {"instances": None}, "categories: expected the objects"),
        ("cluster", {"settings": SETTINGS._replace(clusters=900)}, "`clusters`: expected from 2"),
    ],
)
def test_what_is_missing_or_unknown(folder, name, changes, message):
    with pytest.raises(InputError, match=message):
        split(folder, name, **changes)


def test_main_category_has_the_largest_area_together(tmp_path):
    objects = [
        {"image_id": 3, "category_id": 1, "area": 10.0},
        {"image_id": 3, "category_id": 2, "area": 6.0},
        {"image_id": 3, "category_id": 2, "area": 6.5},
        {"image_id": 9, "category_id": 6, "area": 1.0},
    ]
    write_objects(tmp_path / "a.json", objects, [3, 5, 9])
    write_objects(tmp_path / "b.json", [])
    found = read_categories([tmp_path / "a.json", tmp_path / "b.json"], [9, 3, 5])
    assert found.index.tolist() == [9, 3, 5]
    assert found["main"].tolist() == ["tree", "dog", ""]
    assert found["all"].tolist() == [("tree",), ("cat", "dog"), ()]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "COCO's objects"),
        ('{"annotations": []}', "'categories'"),
        ('{"categories": [], "annotations": [{"image_id": 3, "area": 1}]}', "'category_id'"),
        ("{", "COCO's objects"),
    ],
)
def test_files_of_another_kind(tmp_path, content, message):
    (tmp_path / "instances.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_categories([tmp_path / "instances.json"], [3])


def test_categories_named_differently(tmp_path):
    write_objects(tmp_path / "a.json", [])
    write_objects(tmp_path / "b.json", [], kinds=KINDS[::-1])
    with pytest.raises(InputError, match="one name for each category"):
        read_categories([tmp_path / "a.json", tmp_path / "b.json"], [3])


@pytest.mark.parametrize("shape", [(71, 16), (36, 18), (72,)])
def test_embeddings_of_other_images(folder, shape):
    save_array(folder / "features.npy", np.ones(shape))
    with pytest.raises(InputError, match=r"features.npy.*each of 72 images, found an array of"):
        split(folder, "cluster")


def test_embeddings_with_undefined_values(folder):
    values = np.load(folder / "features.npy")
    values[3, 1] = np.nan
    save_array(folder / "features.npy", values)
    with pytest.raises(InputError, match=r"features.npy.*found infinite or undefined ones"):
        split(folder, "cluster")


def test_tables_that_do_not_list_every_image_once(folder):
    trials, images = known(folder)
    number = trials["nsd_id"][0]
    own = images["nsd_id"] == number
    for table, often in ((pd.concat([images, images[own]]), "twice"), (images[~own], "in a trial")):
        save_table(folder / "images.tsv", table)
        with pytest.raises(InputError, match=f"images.tsv.*found image {number} {often}"):
            split(folder, "shared")


def write_listing(folder, content):
    path = folder / "tau.json"
    path.write_text(json.dumps(content))
    return path


def divide_as(folder, content):
    """Tables of a division that a file lists; images are named by their number."""
    images = load_table(folder / "images.tsv")
    images["name"] = [f"image {number}.jpg" for number in images["nsd_id"]]
    images.loc[0, "split"] = "unused"
    save_table(folder / "named.tsv", images)
    trials = load_table(folder / "trials.tsv")
    trials.loc[trials["nsd_id"] == images["nsd_id"][0], "split"] = "unused"
    save_table(folder / "trials.tsv", trials)
    made = {name: folder / f"listed_{name}.tsv" for name in ("trials", "images")}
    split_images(
        name="tau",
        trials=folder / "trials.tsv",
        images=folder / "named.tsv",
        output_trials=made["trials"],
        output_images=made["images"],
        settings=SETTINGS,
        listing=write_listing(folder, content),
    )
    return [load_table(path) for path in made.values()]


def list_names(folder, *rows):
    numbers = load_table(folder / "images.tsv")["nsd_id"]
    return [f"image {numbers[row]}.jpg" for row in rows]


@pytest.mark.parametrize("form", ["plain", "variants"])
def test_a_file_lists_names(folder, form):
    """Also of images that are unused otherwise; others are unused then."""
    content = {
        "train_ids": list_names(folder, *range(5, 30)),
        "test_ids": list_names(folder, 0, 1, 2),
    }
    if form == "variants":
        content = {"n_train": 25, "n_test": 3, "variants": [{"variant_id": "a", **content}]}
    content |= {"name": "tau"}
    trials, images = divide_as(folder, content)
    expected = ["test"] * 3 + ["unused"] * 2 + ["train"] * 25
    assert images["split"].tolist() == expected + ["unused"] * (len(images) - 30)
    where = images.set_index("nsd_id")["split"]
    assert trials["split"].tolist() == where[trials["nsd_id"]].tolist()


BAD_LISTINGS = {
    "on both sides": ({"train_ids": ["a"], "test_ids": ["a"]}, "found a among both"),
    "no side": ({"train_ids": ["a"]}, "test_ids"),
    "empty side": ({"train_ids": ["a"], "test_ids": []}, "found test_ids without names"),
    "numbers": ({"train_ids": [1], "test_ids": ["a"]}, "found train_ids without names"),
    "count": (
        {"train_ids": ["a"], "test_ids": ["b"], "n_test": 3},
        "1 different test_ids where it",
    ),
    "variants": ({"variants": [{}, {}]}, "found 2 variants"),
    "another subject": ({"train_ids": ["a"], "test_ids": ["b"]}, "Use the file of this subject"),
}


@pytest.mark.parametrize(("content", "words"), BAD_LISTINGS.values(), ids=BAD_LISTINGS)
def test_a_file_that_lists_nothing_of_use(folder, content, words):
    with pytest.raises(InputError) as error:
        divide_as(folder, content)
    assert words in str(error.value) and "tau.json" in str(error.value)

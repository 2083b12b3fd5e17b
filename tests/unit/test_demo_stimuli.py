import ast
import json

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat

from nsdldm.demo import stimuli as module
from nsdldm.demo.captions import write_captions
from nsdldm.demo.drawing import draw_scene
from nsdldm.demo.scenes import describe_scene
from nsdldm.demo.stimuli import simulate_stimuli
from nsdldm.support.errors import InputError

SEED = 42
# The fewest pictures that fill a session: 270 + 8 x 6.
SIZES = {"sessions": 1, "shared_images": 270, "unique_images": 6}
SPLITS = ("train2017", "val2017")
COLUMNS = [
    *("cocoId", "cocoSplit", "cropBox", "loss", "nsdId", "flagged", "BOLD5000", "shared1000"),
    *(f"subject{s}" for s in range(1, 9)),
    *(f"subject{s}_rep{r}" for s in range(1, 9) for r in range(3)),
]


def simulate(folder, **settings):
    paths = {
        "design": folder / "nsd_expdesign.mat",
        "stim_info": folder / "nsd_stim_info_merged.csv",
        "stimuli": folder / "nsd_stimuli.hdf5",
        "captions": {split: folder / f"captions_{split}.json" for split in SPLITS},
        "tables": {
            atlas: folder / f"nsddata/freesurfer/fsaverage/label/{atlas}.mgz.ctab"
            for atlas in ("streams", "nsdgeneral", "control")
        },
    }
    simulate_stimuli(**paths, **{"seed": SEED, **SIZES, **settings})
    return paths


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("release"), threads=2)


@pytest.fixture(scope="module")
def design(release):
    return loadmat(release["design"])


@pytest.fixture(scope="module")
def info(release):
    return pd.read_csv(release["stim_info"], index_col=0)


@pytest.fixture(scope="module")
def shown(design):
    """0-based numbers of the images of the one session, over all subjects."""
    numbers = design["masterordering"].ravel()[:750].astype(int)
    return np.unique(design["subjectim"][:, numbers - 1].astype(int)) - 1


def test_design_has_the_variables_of_the_release(design):
    shapes = {name: value.shape for name, value in design.items() if not name.startswith("__")}
    assert shapes == {
        "masterordering": (1, 30_000),
        "subjectim": (8, 10_000),
        "sharedix": (1, 1000),
        "basiccnt": (3, 40),
        "stimpattern": (40, 12, 75),
    }
    assert (design["subjectim"].min(), design["subjectim"].max()) == (1, 73_000)
    assert (design["masterordering"].min(), design["masterordering"].max()) == (1, 10_000)
    times = np.unique(design["masterordering"].ravel()[:750], return_counts=True)[1]
    assert design["basiccnt"][:, 0].tolist() == [(times == k).sum() for k in (1, 2, 3)]
    assert design["stimpattern"][0].sum() == 750


def test_table_has_the_columns_of_the_release(release, info):
    assert release["stim_info"].read_text().startswith(",cocoId,cocoSplit,cropBox,")
    assert list(info.columns) == COLUMNS
    assert len(info) == 73_000
    assert (info.index == info["nsdId"]).all()
    assert info["cocoId"].is_unique
    assert set(info["cocoSplit"]) == set(SPLITS)
    assert all(info[name].dtype == bool for name in ("flagged", "BOLD5000", "shared1000"))
    assert info["loss"].dtype == float


def test_table_and_design_agree_on_who_sees_what_when(design, info):
    shared = np.flatnonzero(info["shared1000"]) + 1
    np.testing.assert_array_equal(shared, design["sharedix"].ravel())
    order = design["masterordering"].ravel().astype(int)
    for subject in range(8):
        prefix = f"subject{subject + 1}"
        images = design["subjectim"][subject].astype(int)
        assert sorted(np.flatnonzero(info[prefix]) + 1) == sorted(images)
        repeats = info[[f"{prefix}_rep{r}" for r in range(3)]].to_numpy()
        assert (repeats[info[prefix] == 0] == 0).all()
        seen = repeats[images - 1]
        assert (np.diff(seen, axis=1) > 0).all()
        assert (order[seen - 1] == np.arange(1, 10_001)[:, None]).all()


def test_crops_are_texts_of_shares_of_two_opposite_sides(info):
    crops = np.array([ast.literal_eval(text) for text in info["cropBox"][:500]])
    assert crops.shape == (500, 4)
    assert ((crops >= 0) & (crops < 0.5)).all()
    assert (~crops[:, :2].any(axis=1) | ~crops[:, 2:].any(axis=1)).all()
    assert crops[:, :2].any()
    assert crops[:, 2:].any()


def test_pictures_stand_at_their_numbers(release, shown):
    with h5py.File(release["stimuli"]) as file:
        bricks = file["imgBrick"]
        assert bricks.shape == (73_000, 425, 425, 3)
        assert bricks.dtype == np.uint8
        for nsd_id in shown[:: len(shown) // 6]:
            expected = draw_scene(describe_scene(SEED, int(nsd_id)))
            np.testing.assert_array_equal(bricks[nsd_id], expected)


def test_pictures_of_all_subjects_and_no_others_are_stored(release, shown):
    assert len(shown) == 270 + 8 * 6
    with h5py.File(release["stimuli"]) as file:
        bricks = file["imgBrick"]
        chunks = [bricks.id.get_chunk_info(i) for i in range(bricks.id.get_num_chunks())]
        assert sorted(chunk.chunk_offset[0] for chunk in chunks) == shown.tolist()
        unseen = np.setdiff1d(np.arange(73_000), shown)[0]
        assert not bricks[unseen].any()


def test_captions_are_those_of_the_pictures(release, info, shown):
    total = 0
    for split in SPLITS:
        content = json.loads(release["captions"][split].read_text())
        images = {image["id"]: image for image in content["images"]}
        wanted = info.loc[shown]
        wanted = wanted[wanted["cocoSplit"] == split]
        assert set(images) == set(wanted["cocoId"])
        numbers = [annotation["id"] for annotation in content["annotations"]]
        assert len(set(numbers)) == len(numbers) == 5 * len(images)
        texts = {}
        for annotation in content["annotations"]:
            texts.setdefault(annotation["image_id"], []).append(annotation["caption"])
        for nsd_id, coco_id in zip(wanted.index, wanted["cocoId"], strict=True):
            assert texts[coco_id] == write_captions(describe_scene(SEED, nsd_id))
            assert images[coco_id]["file_name"] == f"{coco_id:012d}.jpg"
        total += len(images)
    assert total == len(shown)


def test_crops_of_the_listed_sizes_are_square(release, info):
    crops = dict(zip(info["cocoId"], info["cropBox"], strict=True))
    content = json.loads(release["captions"]["train2017"].read_text())
    for image in content["images"]:
        top, bottom, left, right = ast.literal_eval(crops[image["id"]])
        height, width = image["height"] * (1 - top - bottom), image["width"] * (1 - left - right)
        assert height == pytest.approx(width)
        assert max(image["height"], image["width"]) == 640


def test_one_process_writes_each_picture_to_its_place(tmp_path, monkeypatch, shown):
    def plain(scene):
        return np.full((425, 425, 3), scene.seed % 256, dtype=np.uint8)

    monkeypatch.setattr(module, "draw_scene", plain)
    paths = simulate(tmp_path, threads=1)
    with h5py.File(paths["stimuli"]) as file:
        read = [file["imgBrick"][int(nsd_id), 200, 200, 1] for nsd_id in shown]
    assert read == [describe_scene(SEED, int(nsd_id)).seed % 256 for nsd_id in shown]
    assert len(set(read)) > 100


def test_impossible_numbers_leave_no_files(tmp_path):
    with pytest.raises(InputError, match=r"`unique_images`: expected"):
        simulate(tmp_path, unique_images=5000)
    assert not list(tmp_path.iterdir())


def test_failure_while_drawing_leaves_no_pictures(tmp_path, monkeypatch):
    def fail(scene):
        raise RuntimeError("no ink")

    monkeypatch.setattr(module, "draw_scene", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        simulate(tmp_path, threads=2)
    assert not list(tmp_path.glob("*nsd_stimuli*"))


def test_the_same_settings_give_the_same_bytes(release, tmp_path, monkeypatch):
    """Whenever they are given, and by however many threads."""
    monkeypatch.setattr("time.asctime", lambda *when: "another day")
    again = simulate(tmp_path, threads=1)
    for name in ("design", "stim_info", "stimuli"):
        assert again[name].read_bytes() == release[name].read_bytes()
    for split in SPLITS:
        assert again["captions"][split].read_bytes() == release["captions"][split].read_bytes()


def read_as_nsd_access(folder, atlas):
    """Names of an atlas' labels as nsd_access reads them, for any subject and space.

    By its read_atlas_results: pandas, a single blank, no header.
    """
    path = folder / f"nsddata/freesurfer/fsaverage/label/{atlas}.mgz.ctab"
    table = pd.read_csv(path, delimiter=" ", header=None, index_col=0)
    return {table[1][number]: number for number in table.index}


def test_nsd_access_reads_the_names_of_our_atlases(release):
    folder = release["design"].parent
    assert read_as_nsd_access(folder, "streams") == {
        "Unknown": 0,
        **{"early": 1, "midventral": 2, "midlateral": 3, "midparietal": 4},
        **{"ventral": 5, "lateral": 6, "parietal": 7},
    }
    assert read_as_nsd_access(folder, "nsdgeneral") == {"Unknown": 0, "nsdgeneral": 1}
    assert read_as_nsd_access(folder, "control") == {"Unknown": 0, "frontal": 1}

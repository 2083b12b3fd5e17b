"""A dataset of one's own: what its readers write, and what they refuse."""

import json

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nsdldm import arrays
from nsdldm.nsd.captions import read_captions
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.errors import InputError

NAMES = ["a b.png", "c.jpg", "d.png", "e.png"]
SHOWN = [3, 0, 0, 1, 3, 0]
SESSIONS = [1, 1, 1, 2, 2, 2]


def write(path, table):
    pd.DataFrame(table).to_csv(path, sep="\t", index=False)
    return path


@pytest.fixture
def root(tmp_path):
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for name in NAMES:
        shape = (60, 80, 4) if name == "d.png" else (80, 60, 3)
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(tmp_path / "pictures" / name)
    write(tmp_path / "images.tsv", {"image": NAMES, "split": ["test", "train", "unused", "train"]})
    write(tmp_path / "trials.tsv", {"session": SESSIONS, "image": [NAMES[n] for n in SHOWN]})
    captions = [(name, f"a thing of {name} {n}") for name in NAMES for n in range(2)]
    write(
        tmp_path / "captions.tsv",
        dict(zip(("image", "caption"), zip(*captions, strict=True), strict=True)),
    )
    betas = rng.normal(size=(6, 5))
    betas[:3, 2] = np.nan
    np.save(tmp_path / "early.npy", betas)
    return tmp_path


def tabulate(root):
    outputs = {name: root / f"out_{name}.tsv" for name in ("trials", "images")}
    arrays.tabulate_trials(
        images=root / "images.tsv",
        trials=root / "trials.tsv",
        output_trials=outputs["trials"],
        output_images=outputs["images"],
    )
    return [pd.read_csv(path, sep="\t") for path in outputs.values()]


def check(root, **changed):
    files = {name: root / f"{name}.tsv" for name in ("images", "trials", "captions")}
    files |= {"stimuli": root / "pictures", "betas": [root / "early.npy"], "masks": []}
    arrays.check_arrays(**files | changed, report=root / "release.tsv")
    return pd.read_csv(root / "release.tsv", sep="\t")


def test_trials_and_images(root):
    trials, images = tabulate(root)
    assert trials["nsd_id"].tolist() == SHOWN
    assert trials["trial"].tolist() == [1, 2, 3, 1, 2, 3]
    assert trials["repetition"].tolist() == [1, 1, 2, 1, 2, 3]
    assert trials["split"].tolist() == ["train", "test", "test", "train", "train", "test"]
    assert images["nsd_id"].tolist() == [0, 1, 3] == images["coco_id"].tolist()
    assert images["n_trials"].tolist() == [3, 1, 2]
    assert images["name"].tolist() == ["a b.png", "c.jpg", "e.png"]


@pytest.mark.parametrize("suffix", ["npy", "hdf5"])
def test_betas_are_copied_as_they_are(root, suffix):
    tabulate(root)
    betas = np.load(root / "early.npy")
    if suffix == "hdf5":
        with h5py.File(root / "early.hdf5", "w") as file:
            file["betas"] = betas
    output = root / "out.npy"
    arrays.copy_betas(betas=root / f"early.{suffix}", trials=root / "out_trials.tsv", output=output)
    copied = np.load(output)
    assert copied.dtype == np.float32
    np.testing.assert_array_equal(copied, betas.astype(np.float32))


def test_pictures_and_captions_have_the_numbers_of_images(root):
    arrays.gather_stimuli(
        images=root / "images.tsv", pictures=root / "pictures", output=root / "stimuli.hdf5"
    )
    first, last = read_images(root / "stimuli.hdf5", [0, 3])
    assert first.shape == (425, 425, 3) and (first != last).any()
    # The middle of a tall picture.
    given = np.asarray(Image.open(root / "pictures" / NAMES[3]).resize((425, 567), 1))
    assert np.corrcoef(given[71:496].ravel(), last.ravel())[0, 1] > 0.95
    arrays.write_captions(
        images=root / "images.tsv", captions=root / "captions.tsv", output=root / "captions.json"
    )
    found = read_captions([root / "captions.json"], [1, 3])
    assert found == {1: ["a thing of c.jpg 0", "a thing of c.jpg 1"]} | {
        3: ["a thing of e.png 0", "a thing of e.png 1"]
    }
    assert json.loads((root / "captions.json").read_text())["annotations"][0]["image_id"] == 0


def test_what_fits_is_listed(root):
    mask = np.zeros((2, 2, 2), np.uint8)
    mask.ravel()[:5] = 1
    nib.save(nib.Nifti1Image(mask, np.eye(4)), root / "early.nii.gz")
    report = check(root, masks=[root / "early.nii.gz"])
    assert report["value"].tolist() == [4, 6, 5, 5]


BAD = {
    "image twice": ("images", {"image": ["a", "a"], "split": ["test", "train"]}, "found a twice"),
    "split": ("images", {"image": ["a"], "split": ["validation"]}, "a split of train, test"),
    "no split": ("images", {"image": ["a"]}, "no column split (there are: image)"),
    "session 0": ("trials", {"session": [0], "image": NAMES[:1]}, "sessions as whole numbers"),
    "sessions": ("trials", {"session": [2, 1], "image": NAMES[:2]}, "sessions as whole numbers"),
    "unknown image": ("trials", {"session": [1], "image": ["z.png"]}, "found z.png. Add it to"),
    "no rows": ("trials", {"session": [], "image": []}, "no rows"),
    "captions": ("captions", {"image": ["c.jpg"], "caption": ["a"]}, "none of a b.png"),
    "empty": ("captions", {"image": NAMES, "caption": ["a", " ", "a", "a"]}, "none of c.jpg"),
    "trials": ("trials", {"session": [1], "image": NAMES[:1]}, "(1 trials, voxels)"),
}


@pytest.mark.parametrize(("name", "table", "words"), BAD.values(), ids=BAD)
def test_bad_tables(root, name, table, words):
    write(root / f"{name}.tsv", table)
    with pytest.raises(InputError) as error:
        check(root)
    assert f"{name if name != 'trials' or 'voxels' not in words else 'early'}." in str(error.value)
    assert words in str(error.value)


def test_no_image_to_test_on(root):
    write(root / "images.tsv", {"image": NAMES, "split": ["train"] * 4})
    with pytest.raises(InputError, match="images whose split is test, found none in"):
        tabulate(root)


def test_bad_arrays(root):
    tabulate(root)
    betas = np.load(root / "early.npy")
    betas[4, 1] = np.inf
    np.save(root / "inf.npy", betas)
    with pytest.raises(InputError, match="finite numbers, or NaN, found inf in row 4"):
        arrays.copy_betas(
            betas=root / "inf.npy", trials=root / "out_trials.tsv", output=root / "out.npy"
        )
    assert not (root / "out.npy").exists()
    with h5py.File(root / "early.h5", "w") as file:
        file["data"] = betas
    with pytest.raises(InputError, match=r"no betas \(there are: data\)"):
        check(root, betas=[root / "early.h5"])
    np.save(root / "empty.npy", np.full_like(betas, np.nan))
    with pytest.raises(InputError, match=r"empty\.npy.* found no value in any voxel and trial"):
        check(root, betas=[root / "empty.npy"])
    mask = np.ones((2, 2, 2), np.uint8)
    nib.save(nib.Nifti1Image(mask, np.eye(4)), root / "early.nii.gz")
    with pytest.raises(InputError, match=r"a mask of the 5 voxels that .* found 8 voxels"):
        check(root, masks=[root / "early.nii.gz"])


def test_bad_pictures(root):
    (root / "pictures" / NAMES[1]).write_text("no picture")
    with pytest.raises(InputError, match="expected a picture, found one that cannot be read"):
        arrays.gather_stimuli(
            images=root / "images.tsv", pictures=root / "pictures", output=root / "s.hdf5"
        )
    (root / "pictures" / NAMES[1]).unlink()
    with pytest.raises(InputError, match=r"found no c\.jpg, and so for 1 of 4 images"):
        check(root)

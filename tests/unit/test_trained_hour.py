"""Joint training where one subject contributes the training images of a case, such as one hour."""

import numpy as np
import pandas as pd
import pytest
from trained_files import (
    CLIP,
    alignment_inputs,
    name_files,
    one_thread,
    pretraining_inputs,
    save,
    write_subject,
)

from nsdldm.responses import prepare_responses
from nsdldm.support.errors import InputError
from nsdldm.trained.alignment import align_encoder
from nsdldm.trained.checkpoints import load_weights
from nsdldm.trained.data import TrainingSet, join_responses
from nsdldm.trained.pretraining import pretrain_encoder
from nsdldm.trained.sampling import read_test_responses

__all__ = ["one_thread"]

SPLITS = {
    "train": range(10),
    "align": range(10, 13),
    "test": range(13, 17),
    "unused": range(17, 30),
}
WRITTEN = {"train": "train.npy", "train_rows": "train.tsv", "test": "test.npy"}
WRITTEN |= {"test_rows": "test.tsv"}


def write_hour(folder, n_voxels=13):
    """A subject's folder: two sessions, but only training images of the first are trained on."""
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True)
    splits = {row: split for split, rows in SPLITS.items() for row in rows}
    images = pd.DataFrame({"nsd_id": rng.choice(900, 30, replace=False)})
    images["split"] = pd.Series(splits)
    shown = np.concatenate([np.tile(np.arange(13), 3), np.tile(np.arange(13, 30), 3)])
    trials = images.iloc[shown].assign(session=np.where(shown < 13, 1, 2))
    save(folder / "images.tsv", images)
    save(folder / "trials.tsv", trials)
    betas = rng.normal(size=(len(shown), n_voxels)).astype(np.float32)
    np.save(folder / "early.npy", betas)
    for name, shape in (("clip_image", CLIP), ("clip_text", CLIP[1:])):
        np.save(folder / f"{name}.npy", rng.normal(size=(30, *shape)).astype(np.float32))
    prepare_responses(
        **{name: folder / f"{name}.tsv" for name in ("trials", "images")},
        betas=folder / "early.npy",
        output=folder / "early.h5",
        forms=["zscored/averages"],
    )
    join_responses(
        responses=[folder / "early.h5"],
        **{"train_on": "averages", "validation": 0.2, "seed": 0},
        **{name: folder / file for name, file in WRITTEN.items()},
    )
    return images


@pytest.fixture
def home(tmp_path):
    write_subject(tmp_path / "subj01", 22)
    write_hour(tmp_path / "subj02")
    return tmp_path


SUBJECTS = ("subj01", "subj02")


def test_only_the_hour_is_trained_on(home):
    images = pd.read_csv(home / "subj02" / "images.tsv", sep="\t")
    given = name_files(home, SUBJECTS, responses="train.npy", rows="train.tsv", images="images.tsv")
    features = name_files(home, SUBJECTS, clip_text="clip_text.npy")
    samples = TrainingSet(**given, length=24, features=features)
    own = samples.nsd_ids[samples.subject == 1]
    assert set(own) == set(images.loc[images["split"] == "train", "nsd_id"])
    rows = np.flatnonzero(samples.subject == 1)
    places = pd.Series(images.index, images["nsd_id"])[own]
    expected = np.load(home / "subj02" / "clip_text.npy")[places]
    np.testing.assert_array_equal(samples.features("clip_text", rows).numpy(), expected)


@pytest.mark.parametrize("split", ["align", "test", "unused"])
def test_other_images_of_the_case_are_refused(home, split):
    path = home / "subj02" / "train.tsv"
    rows = pd.read_csv(path, sep="\t")
    images = pd.read_csv(home / "subj02" / "images.tsv", sep="\t")
    rows.loc[0, "nsd_id"] = images.loc[images["split"] == split, "nsd_id"].iloc[0]
    save(path, rows)
    given = name_files(home, SUBJECTS, responses="train.npy", rows="train.tsv", images="images.tsv")
    with pytest.raises(InputError, match="expected training images alone"):
        TrainingSet(**given, length=24)


def test_two_stages_are_trained_and_the_test_images_of_the_case_read(home):
    out = home / "out"
    given = pretraining_inputs(home, out, SUBJECTS)
    pretrain_encoder(**given)
    encoder = out / "encoder.safetensors"
    given["files"].weights.rename(encoder)
    inputs = alignment_inputs(home, out, encoder, SUBJECTS)
    align_encoder(**inputs)
    about = load_weights(inputs["files"].weights)[1]
    assert about["subjects"] == [*SUBJECTS]
    folder = home / "subj02"
    tables = (folder / name for name in ("images.tsv", "test.npy", "test.tsv"))
    nsd_ids, read, origin = read_test_responses(*tables, "subj02", about)
    images = pd.read_csv(folder / "images.tsv", sep="\t")
    assert nsd_ids.tolist() == images.loc[images["split"] == "test", "nsd_id"].tolist()
    assert (read["subject"] == 1).all()
    assert "unknown" not in origin

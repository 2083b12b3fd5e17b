"""Pictures and captions of LAION-fMRI."""

import io
import json

import h5py
import numpy as np
import pandas as pd
import pytest
from laion_files import (
    IMAGES,
    encode,
    make_pictures,
    write_captions,
    write_metadata,
    write_stimuli,
    write_table,
)
from PIL import Image

from nsdldm.laion.captions import write_captions as convert_captions
from nsdldm.laion.stimuli import copy_stimuli, decode_picture
from nsdldm.support.errors import InputError


def copy(folder, rows, stimuli=None):
    images = write_table(folder / "images.tsv", pd.DataFrame({"nsd_id": rows}))
    output = folder / "out.hdf5"
    copy_stimuli(stimuli=stimuli or write_stimuli(folder), images=images, output=output)
    with h5py.File(output) as file:
        return file["imgBrick"][:], file["nsd_id"][:]


def test_pictures_of_a_subject(tmp_path):
    bricks, numbers = copy(tmp_path, [1, 3, 5])
    assert bricks.shape == (3, 425, 425, 3) and bricks.dtype == np.uint8
    assert numbers.tolist() == [1, 3, 5]
    # Half of (200, 0, 100) on half of grey; JPEG is a little off.
    assert np.abs(bricks[0] - np.array([164.0, 64, 114])).max() <= 1
    assert np.abs(bricks[1] - np.array([10.0, 10, 250])).max() <= 3
    assert bricks[2].max() <= 3


def test_pictures_are_averaged_not_thinned_out():
    """Black and white lines of one pixel become grey."""
    lines = np.zeros((1000, 1000, 3), np.uint8)
    lines[:, ::2] = 255
    file = io.BytesIO()
    Image.fromarray(lines).save(file, "PNG")
    found = decode_picture(file.getvalue())
    assert found.min() > 70 and found.max() < 185 and 126 < found.mean() < 129


def test_grey_pictures_have_three_channels():
    assert decode_picture(encode("L", 77)).shape == (425, 425, 3)


def test_a_damaged_picture(tmp_path):
    pictures = make_pictures()
    pictures[3] = b"no picture"
    with pytest.raises(InputError, match=r"stimuli\.h5: expected a picture in row 3"):
        copy(tmp_path, [0, 3], write_stimuli(tmp_path, pictures))
    assert not (tmp_path / "out.hdf5").exists()


def test_a_picture_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"stimuli\.h5: .*found .*6"):
        copy(tmp_path, [0, 6])


def test_pictures_that_are_not_encoded(tmp_path):
    path = tmp_path / "stimuli.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((6, 4, 4, 3), np.uint8)
    found = r"one encoded file in each row of images, found uint8 of shape \(6, 4, 4, 3\)"
    with pytest.raises(InputError, match=found):
        copy(tmp_path, [0], path)


def test_captions_in_the_form_of_coco(tmp_path):
    output = tmp_path / "captions.json"
    given = {"captions": write_captions(tmp_path), "metadata": write_metadata(tmp_path)}
    convert_captions(**given, output=output)
    annotations = json.loads(output.read_text())["annotations"]
    own = {row: [] for row in range(len(IMAGES))}
    for entry in annotations:
        own[entry["image_id"]].append(entry["caption"])
    for row, (name, source, *_) in enumerate(IMAGES):
        people = [f"person {n}: {name}" for n in (1, 2)]
        assert own[row] == ([f"model: {name}"] if source == "OOD" else people)


def test_images_without_captions(tmp_path):
    captions = write_captions(tmp_path, [IMAGES[0][0]])
    with pytest.raises(InputError, match=f"found none for 5 of 6, such as {IMAGES[1][0]}"):
        convert_captions(
            captions=captions, metadata=write_metadata(tmp_path), output=tmp_path / "c.json"
        )

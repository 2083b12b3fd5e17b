import h5py
import numpy as np
import pytest
from nsd_files import write_stimuli

from nsdldm.nsd.stimuli import open_stimuli, read_images
from nsdldm.support.errors import InputError


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return {number: rng.integers(0, 256, (425, 425, 3), "u1") for number in (0, 2, 3, 7)}


@pytest.fixture(scope="module")
def path(tmp_path_factory, pictures):
    path = tmp_path_factory.mktemp("stimuli") / "nsd_stimuli.hdf5"
    write_stimuli(path, pictures, 8)
    return path


@pytest.mark.parametrize("numbers", [[0, 2, 3, 7], [7, 0, 3, 3, 2, 7], []])
def test_pictures_come_in_the_order_asked_for(path, pictures, numbers):
    read = list(read_images(path, numbers))
    assert len(read) == len(numbers)
    for number, picture in zip(numbers, read, strict=True):
        assert picture.dtype == np.uint8
        np.testing.assert_array_equal(picture, pictures[number])


def test_dataset_is_open_to_direct_reading(path, pictures):
    with open_stimuli(path) as dataset:
        assert dataset.shape == (8, 425, 425, 3)
        np.testing.assert_array_equal(dataset[7, 100:110], pictures[7][100:110])


@pytest.mark.parametrize("number", [-1, 8])
def test_image_outside_the_stimuli_is_named(path, number):
    with pytest.raises(InputError, match=rf"ids from 0 to 7.*1 images outside.*{number}"):
        next(read_images(path, [0, number]))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent.hdf5.*no such file"):
        next(read_images(tmp_path / "absent.hdf5", [0]))


def test_truncated_file_is_named(path, tmp_path):
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"cut.hdf5.*truncated"):
        next(read_images(cut, [0]))


def test_other_dataset_or_shape_is_refused(tmp_path):
    with h5py.File(tmp_path / "small.hdf5", "w") as file:
        file["imgBrick"] = np.zeros((2, 10, 10, 3), "u1")
    with pytest.raises(InputError, match=r"\(n, 425, 425, 3\).*found uint8 of shape \(2, 10"):
        next(read_images(tmp_path / "small.hdf5", [0]))
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["images"] = np.zeros((2, 10, 10, 3), "u1")
    with pytest.raises(InputError, match="dataset imgBrick"):
        next(read_images(tmp_path / "other.hdf5", [0]))

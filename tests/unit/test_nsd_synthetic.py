import csv
import logging

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from nsdldm.nsd import pictures as resizing
from nsdldm.nsd import synthetic
from nsdldm.nsd.stimuli import read_images
from nsdldm.nsd.synthetic import prepare_synthetic, read_information, read_order
from nsdldm.support.errors import InputError

HEADER = ["Image number", "Image", "Image subclass number", "Image subclass"]
HEADER += ["Image class number", "Image class"]
INPUTS = {
    "design": "nsdsynthetic_expdesign.mat",
    "information": "nsdsyntheticimageinformation.csv",
    "stimuli": "nsdsynthetic_stimuli.hdf5",
    "colours": "nsdsynthetic_colorstimuli_subj01.hdf5",
}
OUTPUTS = {"trials": "trials.tsv", "images": "images.tsv", "pictures": "pictures.hdf5"}
# Images with something outside the square only, and with something inside, by number from 0.
OUTSIDE, INSIDE = (64, 283), {0: 1, 219: 2, 220: 3, 282: 4}


def make_order(seed=0):
    """744 numbers from 1 with each image twice at least, and one-back repeats."""
    rng = np.random.default_rng(seed)
    order = rng.permutation([*range(1, 285), *range(1, 285), *rng.integers(1, 285, 176)])
    order[101], order[744 - 1] = order[100], order[744 - 2]
    missing = np.setdiff1d(np.arange(1, 285), order)
    assert not len(missing)
    return order


ORDER = make_order()


def draw_screen(number):
    """What is stored of an image."""
    screen = np.full((714, 1360, 3), 127, np.uint8)
    if number in OUTSIDE:
        screen[300:400, 100:200] = 250
    if number in INSIDE:
        screen[:] = np.random.default_rng(number).integers(0, 256, screen.shape)
    return screen


def write_brick(path, numbers, name="imgBrick", dtype="u1"):
    with h5py.File(path, "w") as file:
        shape = (len(numbers), 714, 1360, 3)
        brick = file.create_dataset(name, shape, dtype, chunks=(1, *shape[1:]), fillvalue=127)
        for row, number in enumerate(numbers):
            if number in OUTSIDE or number in INSIDE:
                brick[row] = draw_screen(number)


def write_information(path, header=HEADER, change=None):
    rows = [
        [n + 1, f"image_{n}", n // 4 + 1, f"kind {n // 4}", n // 40 + 1, f"Class {n // 40}"]
        for n in range(284)
    ]
    if change:
        change(rows)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """The files of one subject, as keywords of prepare_synthetic."""
    folder = tmp_path_factory.mktemp("release")
    files = {name: folder / file for name, file in INPUTS.items()}
    pattern = np.zeros((1, 8, 107))
    savemat(files["design"], {"masterordering": ORDER[None] * 1.0, "stimpattern": pattern})
    write_information(files["information"])
    write_brick(files["stimuli"], range(220))
    write_brick(files["colours"], range(220, 284))
    return files


@pytest.fixture(scope="module")
def prepared(release, tmp_path_factory):
    folder = tmp_path_factory.mktemp("case")
    outputs = {name: folder / file for name, file in OUTPUTS.items()}
    prepare_synthetic(**release, **outputs)
    tables = [pd.read_csv(outputs[name], sep="\t") for name in ("trials", "images")]
    return *tables, outputs["pictures"]


def test_trials_are_those_of_the_design(prepared):
    trials, images, _ = prepared
    assert list(trials) == ["session", "trial", "nsd_id", "repetition", "split", "one_back"]
    assert (trials["session"] == 1).all()
    assert trials["trial"].tolist() == list(range(1, 745))
    for place, row in enumerate(trials.itertuples()):
        assert row.nsd_id == ORDER[place] - 1
        assert row.repetition == (ORDER[: place + 1] == ORDER[place]).sum()
        assert row.one_back == (place > 0 and ORDER[place] == ORDER[place - 1])
        assert row.split == ("test" if row.nsd_id in INSIDE else "unused")
    assert trials["one_back"].sum() >= 2
    used = [{*zip(t["nsd_id"], t["split"], strict=True)} for t in (trials, images)]
    assert used[0] == used[1]


def test_images_have_names_and_classes(prepared):
    _, images, _ = prepared
    assert list(images) == ["nsd_id", "name", "subclass", "group", "split", "n_trials"]
    for number, row in enumerate(images.itertuples()):
        assert row.nsd_id == number
        assert row.name == f"image_{number}"
        assert row.subclass == f"kind {number // 4}"
        assert row.group == f"Class {number // 40}"
        used = number in INSIDE
        assert row.split == ("test" if used else "unused")
        assert row.n_trials == (number + 1 == ORDER).sum() * used


def shrink(screen):
    """Independent: square root of luminance, central square, exact means over areas."""
    square = np.sqrt(screen[:, 323:1037] / 255) * 255
    ends = np.arange(426) * 714 / 425
    sums = np.zeros((715, 715, 3))
    sums[1:, 1:] = square.cumsum(axis=0).cumsum(axis=1)
    low = np.minimum(ends.astype(int), 713)
    part = ends - low

    def at(axis, values):
        before, after = np.take(values, low, axis), np.take(values, low + 1, axis)
        weight = part.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        return before + (after - before) * weight

    whole = at(1, at(0, sums))
    return np.diff(np.diff(whole, axis=0), axis=1) * (425 / 714) ** 2


@pytest.fixture
def unresized(monkeypatch):
    """Resizing takes time."""
    monkeypatch.setattr(synthetic, "resize_square", lambda _: np.zeros((425, 425, 3), np.uint8))


@pytest.mark.parametrize("number", [*INSIDE])
def test_pictures_look_as_on_the_display(prepared, number):
    (picture,) = read_images(prepared[2], [number])
    expected = shrink(draw_screen(number))
    assert picture.dtype == np.uint8
    assert np.abs(picture - expected).max() < 0.51


def test_blank_pictures_are_grey(prepared):
    for picture in read_images(prepared[2], [1, *OUTSIDE]):
        assert (picture == round((127 / 255) ** 0.5 * 255)).all()


@pytest.mark.usefixtures("unresized")
def test_the_log_counts_what_is_left_out(release, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        prepare_synthetic(**release, **{k: tmp_path / v for k, v in OUTPUTS.items()})
    n = 284 - len(INSIDE)
    assert f"284 images, of which {n} are not used" in caplog.text
    assert "744 trials" in caplog.text


def test_resizing_keeps_the_mean_and_leaves_the_right_size_alone():
    picture = np.random.default_rng(0).integers(0, 256, (425, 425, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resizing.resize_square(picture), picture)
    big = np.kron(picture, np.ones((2, 2, 1), np.uint8))
    np.testing.assert_array_equal(resizing.resize_square(big), picture)
    np.testing.assert_array_equal(resizing.resize_square(big[:, :850]), picture)
    wide = np.zeros((850, 1000, 3), np.uint8)
    wide[:, 75:925] = big
    np.testing.assert_array_equal(resizing.resize_square(wide), picture)


@pytest.mark.parametrize(
    "variables, found",
    [
        ({"masterordering": ORDER[None, :743]}, r"masterordering of shape \(1, 743\)"),
        ({"order": ORDER[None]}, "no such name"),
        ({"masterordering": np.maximum(ORDER[None] - 1, 0)}, "from 0 to 283"),
        ({"masterordering": np.where(ORDER == 284, 285, ORDER)[None]}, "from 1 to 285"),
        ({"masterordering": np.where(ORDER == 7, 8, ORDER)[None]}, "or some missing"),
        ({"masterordering": ORDER[None] + 0.5}, "or some missing"),
        ({"masterordering": np.where(ORDER == 7, np.nan, ORDER)[None]}, "or some missing"),
        ({"masterordering": ORDER[None] * 1j}, "values of type complex128"),
    ],
)
def test_another_order_is_refused(tmp_path, variables, found):
    path = tmp_path / "nsdsynthetic_expdesign.mat"
    savemat(path, variables)
    with pytest.raises(InputError, match=rf"expdesign\.mat.*{found}"):
        read_order(path)


def drop_last(rows):
    rows.pop()


def swap(rows):
    rows[3], rows[4] = rows[4], rows[3]


def blank(rows):
    rows[5][5] = " "


def shorten(rows):
    rows[5].pop()


@pytest.mark.parametrize(
    "change, found",
    [
        (drop_last, "other numbers in 283 rows"),
        (swap, "other numbers in 284 rows"),
        (blank, "an empty field"),
        (shorten, "rows of other length"),
    ],
)
def test_another_table_of_images_is_refused(tmp_path, change, found):
    write_information(tmp_path / "images.csv", change=change)
    with pytest.raises(InputError, match=rf"images\.csv.*{found}"):
        read_information(tmp_path / "images.csv")


def test_a_table_of_images_without_classes_is_refused(tmp_path):
    write_information(tmp_path / "images.csv", [*HEADER[:-1], "Class"])
    with pytest.raises(InputError, match="the column Image class 0 times"):
        read_information(tmp_path / "images.csv")
    (tmp_path / "images.csv").write_text("")
    with pytest.raises(InputError, match=r"images\.csv"):
        read_information(tmp_path / "images.csv")


@pytest.mark.usefixtures("unresized")
@pytest.mark.parametrize("name", [*INPUTS])
def test_a_missing_file_is_named(release, tmp_path, name):
    files = release | {name: tmp_path / "lost"}
    with pytest.raises(InputError, match=r"lost: .*no such file"):
        prepare_synthetic(**files, **{k: tmp_path / v for k, v in OUTPUTS.items()})
    assert not (tmp_path / "pictures.hdf5").exists()


@pytest.mark.usefixtures("unresized")
@pytest.mark.parametrize(
    "name, options, found",
    [
        ("stimuli", {"numbers": range(219)}, r"uint8 of shape \(219, 714, 1360, 3\)"),
        ("colours", {"numbers": range(220, 283)}, r"uint8 of shape \(63, 714, 1360, 3\)"),
        ("colours", {"numbers": range(220, 284), "dtype": "f4"}, "float32 of shape"),
        ("stimuli", {"numbers": range(220), "name": "other"}, "nothing named imgBrick"),
    ],
)
def test_other_pictures_are_refused(release, tmp_path, name, options, found):
    write_brick(tmp_path / "other.hdf5", **options)
    files = release | {name: tmp_path / "other.hdf5"}
    with pytest.raises(InputError, match=rf"other\.hdf5.*{found}"):
        prepare_synthetic(**files, **{k: tmp_path / v for k, v in OUTPUTS.items()})

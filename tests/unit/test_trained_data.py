import numpy as np
import pandas as pd
import pytest
import torch
from trained_files import (
    CLIP,
    N_TEST,
    N_TRAIN,
    N_VALIDATION,
    draw,
    name_files,
    one_thread,  # noqa: F401
    save,
    write_subject,
)

from nsdldm.responses import prepare_responses
from nsdldm.support.errors import InputError
from nsdldm.trained.data import (
    TestSet,
    TrainingSet,
    choose_validation,
    join_responses,
    measure_responses,
    pad_length,
    wrap_responses,
)

OUTPUTS = ("train.npy", "train.tsv", "test.npy", "test.tsv")
SUBJECTS = {"subj01": 22, "subj02": 13}
LENGTH = 24


def write_trials(folder, seed=0):
    """Two sessions of trials of 12 images, each shown three times; two regions."""
    rng = np.random.default_rng(seed)
    nsd_ids = rng.choice(500, 12, replace=False)
    split = np.where(np.arange(12) % 4 == 1, "test", "train")
    shown = rng.permutation(np.repeat(np.arange(12), 3))
    trials = {"session": np.repeat([1, 2], 18), "nsd_id": nsd_ids[shown], "split": split[shown]}
    save(folder / "images.tsv", pd.DataFrame({"nsd_id": nsd_ids, "split": split}))
    save(folder / "trials.tsv", pd.DataFrame(trials))
    for name, n_voxels in (("early", 5), ("ventral", 4)):
        scale = rng.uniform(1, 9, n_voxels)
        betas = scale * rng.standard_normal((36, n_voxels)) + rng.uniform(-5, 5, n_voxels)
        np.save(folder / f"{name}.npy", betas.astype(np.float32))


@pytest.fixture
def folder(tmp_path):
    write_trials(tmp_path)
    return tmp_path


def prepare(folder, **changes):
    """From betas to the outputs."""
    (folder / "out").mkdir(exist_ok=True)
    names = ("train", "train_rows", "test", "test_rows")
    tables = {name: folder / f"{name}.tsv" for name in ("trials", "images")}
    settings = {"train_on": "averages", "validation": 0.2, "seed": 0} | changes
    regions = {roi: folder / f"{roi}.h5" for roi in ("early", "ventral")}
    forms = [f"zscored/{settings['train_on']}"]
    for roi, path in regions.items():
        prepare_responses(**tables, betas=folder / f"{roi}.npy", output=path, forms=forms)
    join_responses(
        responses=list(regions.values()),
        **{name: folder / "out" / file for name, file in zip(names, OUTPUTS, strict=True)},
        **settings,
    )
    return {name: (folder / "out" / name).read_bytes() for name in OUTPUTS}


def load(folder):
    """The outputs, as arrays and tables."""
    arrays = [np.load(folder / "out" / f"{name}.npy") for name in ("train", "test")]
    tables = [pd.read_csv(folder / "out" / f"{name}.tsv", sep="\t") for name in ("train", "test")]
    return *arrays, *tables


@pytest.mark.parametrize("train_on", ["averages", "trials"])
def test_responses_are_standardised_by_training_rows(folder, train_on):
    prepare(folder, train_on=train_on)
    train, test, rows, test_rows = load(folder)
    trials, images = (pd.read_csv(folder / f"{n}.tsv", sep="\t") for n in ("trials", "images"))
    betas = np.hstack([np.load(folder / f"{n}.npy") for n in ("early", "ventral")])
    scores = pd.DataFrame(betas.astype(np.float64))
    fitted = trials["split"] == "train"
    for _, own in scores.groupby(trials["session"]):
        base = own[fitted[own.index]]
        scores.loc[own.index] = (own - base.mean()) / base.std()
    averages = scores.groupby(trials["nsd_id"]).mean()
    numbers = {s: images.loc[images["split"] == s, "nsd_id"] for s in ("train", "test")}
    expected = averages.loc[numbers["train"]].to_numpy()
    if train_on == "trials":
        expected = scores[fitted].to_numpy()
    mean, deviation = expected.mean(axis=0), expected.std(axis=0)
    np.testing.assert_allclose(train, (expected - mean) / deviation, atol=1e-4)
    other = averages.loc[numbers["test"]].to_numpy()
    np.testing.assert_allclose(test, (other - mean) / deviation, atol=1e-4)
    shown = trials.loc[fitted, "nsd_id"] if train_on == "trials" else numbers["train"]
    assert rows["nsd_id"].tolist() == shown.tolist()
    assert test_rows["nsd_id"].tolist() == numbers["test"].tolist()
    # All trials of an image are on one side.
    assert (rows.groupby("nsd_id")["validation"].nunique() == 1).all()
    assert rows.loc[rows["validation"] == 1, "nsd_id"].nunique() == 2


def test_missing_values_are_the_mean(folder):
    trials, images = (pd.read_csv(folder / f"{n}.tsv", sep="\t") for n in ("trials", "images"))
    betas = np.load(folder / "early.npy")
    lost = images.loc[images["split"] == "train", "nsd_id"].iloc[3]
    betas[trials["nsd_id"] == lost, 2] = np.nan
    betas[:, 4] = 1.5
    np.save(folder / "early.npy", betas)
    prepare(folder)
    train, test, rows, _ = load(folder)
    assert np.isfinite(train).all() and np.isfinite(test).all()
    # Nothing of the voxel is known of this image: what it has is common to all such images.
    assert abs(train[rows["nsd_id"] == lost, 2]) < 0.5
    assert not train[:, 4].any() and not test[:, 4].any()


@pytest.mark.parametrize("train_on", ["averages", "trials"])
def test_test_trials_change_no_byte_of_training_files(folder, train_on):
    before = prepare(folder, train_on=train_on)
    trials, images = (pd.read_csv(folder / f"{n}.tsv", sep="\t") for n in ("trials", "images"))
    tested = (trials["split"] == "test").to_numpy()
    betas = np.load(folder / "early.npy")
    betas[tested] = 1000 * draw(*betas[tested].shape).numpy()
    np.save(folder / "early.npy", betas)
    # The labels of the test set, too: every trial of one image is now one of another.
    numbers = images.loc[images["split"] == "test", "nsd_id"].tolist()
    swapped = dict(zip(numbers, numbers[1:] + numbers[:1], strict=True))
    trials["nsd_id"] = trials["nsd_id"].replace(swapped)
    save(folder / "trials.tsv", trials)
    after = prepare(folder, train_on=train_on)
    assert [name for name in OUTPUTS if before[name] != after[name]] == ["test.npy"]


def test_regions_are_joined_block_by_block(folder, monkeypatch):
    before = prepare(folder)
    monkeypatch.setattr("nsdldm.trained.data.BLOCK", 2)
    assert prepare(folder) == before


def test_regions_of_other_images(folder):
    prepare(folder)
    trials, images = (pd.read_csv(folder / f"{n}.tsv", sep="\t") for n in ("trials", "images"))
    for name, table in (("trials", trials), ("images", images)):
        save(folder / f"{name}.tsv", table.assign(nsd_id=table["nsd_id"] + 1))
    tables = {name: folder / f"{name}.tsv" for name in ("trials", "images")}
    given = {"betas": folder / "ventral.npy", "output": folder / "ventral.h5"}
    prepare_responses(**tables, **given, forms=["zscored/averages"])
    with pytest.raises(InputError, match=r"ventral.h5: expected the images of .*early.h5"):
        join_responses(
            responses=[folder / "early.h5", folder / "ventral.h5"],
            **{"train_on": "averages", "validation": 0.2, "seed": 0},
            **dict.fromkeys(("train", "train_rows", "test", "test_rows")),
        )


def test_validation_images_are_of_the_seed_and_not_of_the_order():
    numbers = np.arange(100, 140)
    chosen = choose_validation(numbers, 0.1, 0)
    assert len(set(chosen)) == 4 and set(chosen) < set(numbers)
    assert set(choose_validation(numbers[::-1], 0.1, 0)) == set(chosen)
    assert set(choose_validation(numbers, 0.1, 1)) != set(chosen)
    assert len(choose_validation(numbers, 0.001, 0)) == 1
    assert len(choose_validation(numbers[:2], 0.9, 0)) == 1
    with pytest.raises(InputError, match="at least two training images"):
        choose_validation(numbers[:1], 0.1, 0)


@pytest.mark.parametrize(
    "n_voxels, expected", [(1, 16), (15, 16), (16, 16), (17, 32), (4672, 4672)]
)
def test_padding_adds_no_patch_to_a_multiple(n_voxels, expected):
    assert pad_length(n_voxels, 16) == expected


@pytest.mark.parametrize("n_voxels, length", [(7, 7), (7, 8), (7, 30), (7, 4), (1, 5)])
def test_wrapping_repeats_responses_from_their_start(n_voxels, length):
    responses = draw(3, n_voxels).numpy()
    found = wrap_responses(responses, length)
    expected = responses[:, np.arange(length) % n_voxels]
    assert np.array_equal(found, expected) and found.dtype == np.float32


def measure(home, **settings):
    write_subject(home / "subj01", 22)
    write_subject(home / "subj02", 13)
    responses = name_files(home, SUBJECTS, r="train.npy")["r"]
    return measure_responses(responses, {"patch": 4, **settings})


def test_lengths_of_joint_subjects(tmp_path):
    assert measure(tmp_path, adapter="wrap", adapter_width=30) == (24, 24, None)
    tmp_path = tmp_path / "other"
    assert measure(tmp_path, adapter="linear", adapter_width=30) == (24, 32, [22, 13])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("responses")
    for seed, (subject, n_voxels) in enumerate(SUBJECTS.items()):
        write_subject(home / subject, n_voxels, seed)
    return home


def open_rows(home, name="train", **changes):
    files = name_files(home, SUBJECTS, responses=f"{name}.npy", rows=f"{name}.tsv")
    files |= name_files(home, SUBJECTS, images="images.tsv")
    clip = {"clip_image": "clip_image.npy", "clip_text": "clip_text.npy"}
    files["features"] = name_files(home, SUBJECTS, **clip)
    return TrainingSet(**files | {"length": LENGTH} | changes)


def test_training_rows(home):
    samples = open_rows(home)
    rows = np.array([N_TRAIN + 3, 0, 7, 2 * N_TRAIN - 1])
    places = [("subj02", 3), ("subj01", 0), ("subj01", 7), ("subj02", N_TRAIN - 1)]
    responses, image, text = (
        samples.responses(rows),
        samples.features("clip_image", rows),
        samples.features("clip_text", rows),
    )
    assert responses.dtype == image.dtype == text.dtype == torch.float32
    assert image.shape == (4, *CLIP) and text.shape == (4, CLIP[1])
    for k, (subject, row) in enumerate(places):
        values = np.load(home / subject / "train.npy")[row]
        expected = values[np.arange(LENGTH) % SUBJECTS[subject]]
        assert np.array_equal(responses[k], expected)
        number = pd.read_csv(home / subject / "train.tsv", sep="\t")["nsd_id"][row]
        assert samples.nsd_ids[rows[k]] == number
        images = pd.read_csv(home / subject / "images.tsv", sep="\t")["nsd_id"]
        place = images.tolist().index(number)
        assert np.array_equal(image[k], np.load(home / subject / "clip_image.npy")[place])
        assert np.array_equal(text[k], np.load(home / subject / "clip_text.npy")[place])
    assert samples.batch(rows)["subject"].tolist() == [1, 0, 0, 1]
    assert torch.equal(samples.batch(rows)["responses"], responses)


def test_rows_to_train_on_and_validation_ones(home):
    samples = open_rows(home)
    tables = [pd.read_csv(home / s / "train.tsv", sep="\t") for s in SUBJECTS]
    validation = pd.concat(tables, ignore_index=True)["validation"]
    assert len(samples.validation) == 2 * N_VALIDATION
    assert (validation[samples.validation] == 1).all() and (validation[samples.train] == 0).all()
    assert len(samples.train) + len(samples.validation) == 2 * N_TRAIN == len(samples.nsd_ids)


def test_training_set_refuses_test_rows(home, tmp_path):
    with pytest.raises(InputError, match="training rows, found a table without validation"):
        open_rows(home, "test")
    # Nor can they be passed off as training rows.
    for subject, n_voxels in SUBJECTS.items():
        write_subject(tmp_path / subject, n_voxels, list(SUBJECTS).index(subject))
    path = tmp_path / "subj02/test.tsv"
    table = pd.read_csv(path, sep="\t")
    save(path, table.assign(validation=[1, 0, 0, 0, 0]))
    files = name_files(tmp_path, SUBJECTS, responses="train.npy", rows="train.tsv")
    files["responses"]["subj02"], files["rows"]["subj02"] = path.with_suffix(".npy"), path
    with pytest.raises(InputError, match=r"subj02/images.tsv: expected training images alone"):
        open_rows(tmp_path, **files)


def test_training_set_has_no_way_to_test_rows(home):
    samples = open_rows(home)
    tested = [pd.read_csv(home / s / "test.tsv", sep="\t")["nsd_id"] for s in SUBJECTS]
    for index, numbers in enumerate(tested):
        assert not set(numbers) & set(samples.nsd_ids[samples.subject == index])
    for ask in (samples.responses, samples.batch, lambda rows: samples.features("clip_text", rows)):
        with pytest.raises(IndexError):
            ask(np.array([2 * N_TRAIN]))


def test_files_that_do_not_fit_each_other(home, tmp_path):
    other = {"responses": name_files(home, SUBJECTS, r="test.npy")["r"]}
    with pytest.raises(InputError, match=f"expected {N_TRAIN} rows, as its table has, found"):
        open_rows(home, **other)
    np.save(tmp_path / "short.npy", np.ones((3, 2), np.float32))
    features = {"clip_text": dict.fromkeys(SUBJECTS, tmp_path / "short.npy")}
    with pytest.raises(InputError, match=r"short.npy: expected a row for each of the 25 images"):
        open_rows(home, features=features)


def test_test_rows(home):
    folder = home / "subj02"
    samples = TestSet(folder / "test.npy", folder / "test.tsv", LENGTH)
    expected = np.load(folder / "test.npy")[:, np.arange(LENGTH) % 13]
    assert np.array_equal(samples.responses(np.arange(N_TEST)), expected)
    numbers = pd.read_csv(folder / "test.tsv", sep="\t")["nsd_id"]
    assert samples.nsd_ids.tolist() == numbers.tolist()

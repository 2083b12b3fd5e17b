"""Scores of a case against planted truth and brute force."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from nsdldm.diffusion.pictures import ATTRIBUTES, save_reconstructions
from nsdldm.evaluation import generalisation, picture_scores
from nsdldm.evaluation.candidates import (
    find_candidates,
    identify_against,
    identify_among,
    identify_shuffled,
    read_groups,
)
from nsdldm.evaluation.generalisation import COLUMNS, Images, score_case
from nsdldm.evaluation.pattern_scores import compare_patterns, find_scale, standardise
from nsdldm.evaluation.pixels import average_blocks
from nsdldm.features.networks import Unavailable
from nsdldm.features.views import View
from nsdldm.support.errors import InputError
from nsdldm.support.files import create_hdf5, load_table

CATEGORIES = ("animal", "food", "person", "vehicle")
N_TEST, N_TRAIN = 40, 60
SIDE = 32
NETWORK = {"network": "clip", "layer": "image_embeds", "settings": None}


def look(pictures):
    """Content of a picture, as another network might see it."""
    return np.stack([average_blocks(p / 255, 5).ravel() for p in pictures]).astype(np.float32)


@pytest.fixture
def _look(monkeypatch):
    monkeypatch.setattr(generalisation, "load_layer", lambda *_: look)


def enlarge(pattern, side):
    """A picture of 16 x 16 blocks around grey."""
    rows = np.arange(side) * 16 // side
    return np.clip(128 + 40 * pattern[rows][:, rows], 0, 255).astype(np.uint8)


class Subject:
    """Files of one subject: rows of test and training images in turn."""

    def __init__(self, folder, seed=0):
        self.folder, self.rng = folder, np.random.default_rng(seed)
        n = N_TEST + N_TRAIN
        self.category = np.arange(n) % len(CATEGORIES)
        self.test = self.rng.permutation(n)[:N_TEST]
        self.test.sort()
        self.table = pd.DataFrame({"nsd_id": np.arange(n)[::-1]})
        self.table["split"] = "train"
        self.table.loc[self.test, "split"] = "test"
        self.table["group"] = np.array(CATEGORIES)[self.category]
        self.common, self.own = {}, {}
        for name, shape in (("z", (4, 6, 6)), ("space", (20,)), ("picture", (16, 16, 3))):
            centres = self.rng.standard_normal((len(CATEGORIES), *shape))
            self.common[name] = centres[self.category]
            self.own[name] = self.rng.standard_normal((n, *shape))
            np.save(folder / f"{name}.npy", self.true(name).astype(np.float32))
        with create_hdf5(folder / "stimuli.hdf5", n * 425**2 * 3) as file:
            options = {"chunks": (1, 425, 425, 3), "compression": 1}
            bricks = file.create_dataset("imgBrick", (n, 425, 425, 3), np.uint8, **options)
            for row, number in enumerate(self.table["nsd_id"]):
                bricks[number] = enlarge(self.true("picture")[row], 425)
        self.save_table()

    def true(self, name):
        return 3 + self.common[name] + 0.7 * self.own[name]

    def save_table(self):
        self.table.to_csv(self.folder / "images.tsv", sep="\t", index=False)

    @property
    def images(self):
        folder, features = self.folder, {"z": self.folder / "z.npy"}
        return Images(
            folder / "images.tsv", folder / "stimuli.hdf5", folder / "space.npy", features
        )

    def decode(self, name, share):
        """The category and a share of what is an image's own, with noise."""
        noise = self.rng.standard_normal((N_TEST, *self.own[name].shape[1:]))
        signal = self.common[name][self.test] + 0.7 * share * self.own[name][self.test]
        return 3 + signal + 0.7 * noise

    def save_decoded(self, values, name="decoded.npy"):
        np.save(self.folder / name, np.asarray(values, np.float32))
        return {"z": self.folder / name}

    def save_pictures(self, patterns, name="zc", samples=1):
        attributes = dict.fromkeys(ATTRIBUTES, "made up")
        attributes |= {"samples": samples, "resolution": SIDE}
        numbers = self.table["nsd_id"].to_numpy()[self.test]
        pictures = (enlarge(each, SIDE) for each in patterns for _ in range(samples))
        save_reconstructions(self.folder / f"{name}.h5", pictures, numbers, attributes)
        return {name: self.folder / f"{name}.h5"}

    def score(self, decoded=None, reconstructions=None, **changes):
        path = self.folder / "scores.tsv"
        given = {"tested": self.images, "known": self.images, "network": NETWORK}
        given |= {"similar": 5, "samples": 1, "seed": 1, "device": "cpu", "batch_size": 7}
        given |= {"decoded": decoded or {}, "reconstructions": reconstructions or {}}
        score_case(**given | changes, table=path)
        return load_table(path).fillna({"candidates": "", "group": ""})


@pytest.fixture
def subject(tmp_path):
    return Subject(tmp_path)


def means(table):
    """Mean values by source, score and candidates."""
    return table.groupby(["source", "score", "candidates"])["value"].mean()


def correlate(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


def test_a_subject_that_knows_only_categories(subject):
    found = means(subject.score(subject.save_decoded(subject.decode("z", 0))))["decoded", "z"]
    # Half of the comparisons with the nine others of the category, all with other categories.
    assert found["all"] == pytest.approx((0.5 * 9 + 30) / 39, abs=0.06)
    assert found["group"] == pytest.approx(0.5, abs=0.1)


def test_a_subject_that_knows_more(subject):
    found = means(subject.score(subject.save_decoded(subject.decode("z", 1))))["decoded", "z"]
    assert found["all"] > 0.97
    assert found["group"] > 0.9
    assert found["training"] > 0.97


@pytest.mark.usefixtures("_look")
@pytest.mark.parametrize(("share", "within"), [(0, (0.38, 0.62)), (1, (0.9, 1))])
def test_pictures_of_categories_or_of_layout(subject, share, within):
    pictures = subject.save_pictures(subject.decode("picture", share))
    found = means(subject.score(reconstructions=pictures))
    for score in ("layout", "content"):
        assert found["zc", score, "all"] > 0.8
        assert within[0] <= found["zc", score, "group"] <= within[1]


@pytest.mark.usefixtures("_look")
def test_baselines_and_ceiling(subject):
    decoded = subject.save_decoded(subject.decode("z", 1))
    pictures = subject.save_pictures(subject.decode("picture", 1))
    pictures |= subject.save_pictures(subject.true("picture")[subject.test], "ceiling")
    table = subject.score(decoded, pictures)
    found = means(table)
    for candidates in ("all", "similar", "group", "training"):
        assert found["mean", "z", candidates] == 0.5
        assert found["shuffled", "z", candidates] == pytest.approx(0.5, abs=0.05)
    for score in ("layout", "content"):
        # The mean is compared with all images in either order, so half of them lose.
        assert found["mean", score, "all"] == pytest.approx(0.5, abs=1e-6)
        assert found["shuffled", score, "all"] == pytest.approx(0.5, abs=0.05)
        assert found["ceiling", score, "group"] > 0.98
        assert found["ceiling", f"{score}-r", ""] > 0.9
        assert found["nearest", score, "all"] > 0.8
        assert found["nearest", score, "group"] < found["zc", score, "group"]
    assert found["ceiling", "z", "similar"] == 1
    assert 0.8 < found["nearest", "z", "all"] < found["decoded", "z", "all"]
    assert ("nearest", "z", "training") not in found.index
    assert ("zc", "layout", "training") not in found.index
    assert list(table) == list(COLUMNS)
    assert not table.duplicated(["nsd_id", "source", "score", "candidates"]).any()


def test_decoded_values_by_brute_force(subject):
    made = subject.decode("z", 0.5)
    table = subject.score(subject.save_decoded(made))
    true, test = np.float32(subject.true("z")).reshape(100, -1), subject.test
    train = np.setdiff1d(np.arange(100), test)
    mean, deviation = true[train].mean(axis=0), true[train].std(axis=0)
    true = (true - mean) / deviation
    made = (np.float32(made).reshape(40, -1) - mean) / deviation
    r = np.array([[correlate(a, b) for b in true] for a in made])
    space = np.float32(subject.true("space"))
    space = space - space[train].mean(axis=0)
    space /= np.linalg.norm(space, axis=1, keepdims=True)
    cosines = space @ space.T
    value = table.set_index(["source", "candidates", "nsd_id"])["value"]
    similarity = table.drop_duplicates("nsd_id").set_index("nsd_id")["similarity"]
    for i, row in enumerate(test):
        number = subject.table.loc[row, "nsd_id"]
        others = test[test != row]
        nearest = train[r[i, train].argmax()]
        near = sorted(others, key=lambda other: -cosines[row, other])[:5]
        same = others[subject.category[others] == subject.category[row]]
        for name, chosen in {"all": others, "similar": near, "group": same}.items():
            wins = np.mean([r[i, row] > r[i, other] for other in chosen])
            assert value["decoded", name, number] == pytest.approx(wins)
            wins = [
                correlate(true[nearest], true[row]) > correlate(true[nearest], true[other])
                for other in chosen
            ]
            assert value["nearest", name, number] == pytest.approx(np.mean(wins))
        wins = np.mean(r[i, row] > r[i, train])
        assert value["decoded", "training", number] == pytest.approx(wins, abs=1e-5)
        assert similarity[number] == pytest.approx(cosines[row, train].max(), abs=1e-5)


@pytest.mark.usefixtures("_look")
def test_picture_values_by_brute_force(subject):
    patterns = subject.decode("picture", 0.5)
    table = subject.score(reconstructions=subject.save_pictures(patterns))
    test = subject.test
    seen = [enlarge(each, 425) for each in subject.true("picture")[test]]
    made = [enlarge(each, SIDE) for each in patterns]
    a, b = ([average_blocks(picture / 255) for picture in pictures] for pictures in (made, seen))
    r = np.array([[correlate(x, y) for y in b] for x in a])
    value = table.set_index(["score", "candidates", "source", "nsd_id"])["value"]
    for i, row in enumerate(test):
        number = subject.table.loc[row, "nsd_id"]
        wins = np.mean([r[i, i] > r[i, j] for j in range(N_TEST) if j != i])
        assert value["layout", "all", "zc", number] == pytest.approx(wins)
        assert value["layout-r", "", "zc", number] == pytest.approx(r[i, i], abs=1e-5)


@pytest.mark.usefixtures("_look")
def test_r_is_the_mean_over_the_samples_that_are_used(subject):
    patterns = subject.decode("picture", 0.5)
    one = subject.score(reconstructions=subject.save_pictures(patterns))
    two = subject.score(reconstructions=subject.save_pictures(patterns, samples=3), samples=2)
    pd.testing.assert_frame_equal(one, two)
    with pytest.raises(InputError, match=r"zc.h5: expected at least 4 pictures .* found 3"):
        subject.score(reconstructions={"zc": subject.folder / "zc.h5"}, samples=4)


@pytest.mark.usefixtures("_look")
def test_a_decoder_of_the_mean_is_at_chance_and_near_to_nothing(subject):
    train = np.setdiff1d(np.arange(100), subject.test)
    mean = np.float32(np.float64(np.float32(subject.true("z")))[train].mean(axis=0))
    decoded = subject.save_decoded(np.broadcast_to(mean, (N_TEST, *mean.shape)))
    table = subject.score(decoded, subject.save_pictures(subject.decode("picture", 0)))
    assert set(table.loc[table["source"] == "decoded", "value"]) == {0.5}
    assert "nearest" not in set(table["source"])


def test_constant_dimensions_do_not_count(subject):
    values = np.random.default_rng(0).standard_normal((30, 6)).astype(np.float32)
    values[:, 2] = 28 + 1e-5 * values[:, 2]
    values[:, 4] = 7
    scale = find_scale(values, np.arange(20))
    assert scale.kept.tolist() == [True, True, False, True, False, True]
    made = standardise(values[20:], scale)
    assert np.linalg.norm(made, axis=1) == pytest.approx(1)
    assert made.mean(axis=1) == pytest.approx(0, abs=1e-6)
    values[:, :5] = 7
    with pytest.raises(InputError, match="at least 2 dimensions that vary"):
        find_scale(values, np.arange(20))


def test_blocks_do_not_matter(subject, monkeypatch):
    true, made = subject.true("z"), subject.decode("z", 0.5)
    train = np.setdiff1d(np.arange(100), subject.test)
    given = made, true[subject.test], true, train
    whole = compare_patterns(*given)
    monkeypatch.setattr("nsdldm.evaluation.pattern_scores.BLOCK_BYTES", 4 * 144 * 7)
    for a, b in zip(whole, compare_patterns(*given), strict=True):
        assert np.allclose(a, b, atol=1e-5)


def test_small_groups_and_images_without_one_have_no_candidates(subject):
    group = subject.table["group"].astype(object)
    group[subject.test[:2]] = "rare"
    group[subject.test[2:5]] = ""
    subject.table["group"] = group
    subject.save_table()
    table = subject.score(subject.save_decoded(subject.decode("z", 0)))
    numbers = subject.table["nsd_id"].to_numpy()[subject.test]
    within = table[table["candidates"] == "group"]
    assert set(within["nsd_id"]) == set(numbers[5:])
    assert set(table["nsd_id"]) == set(numbers)
    assert set(table.loc[table["nsd_id"] == numbers[3], "group"]) == {""}


def test_groups_are_text():
    assert read_groups(pd.Series([1.0, np.nan, 12.0])).tolist() == ["1", "", "12"]
    assert read_groups(pd.Series([3, 4])).tolist() == ["3", "4"]
    assert read_groups(pd.Series(["a", np.nan])).tolist() == ["a", ""]
    assert read_groups(pd.Series([np.nan, np.nan])).tolist() == ["", ""]


def test_identification_on_a_tiny_matrix():
    r = np.array([[0.5, 0.5, 0.1], [0.9, 0.2, 0.3], [-1.0, 0.0, 0.4]])
    apart = ~np.eye(3, dtype=bool)
    assert identify_among(r, apart).tolist() == [0.75, 0, 1]
    none = apart & (np.arange(3) != 1)[:, None]
    assert np.isnan(identify_among(r, none)[1])
    assert identify_against(np.diag(r), r[:, :2]).tolist() == [0.5, 0.25, 1]
    # What was made for image 1 and then 2 is taken for image 0, and so on; the third decides.
    partners = np.array([[1, 2, 0], [2, 0, 1]])
    expected = [np.mean([0.9 > 0.3, -1.0 > 0.0]), np.mean([0.0 > -1.0, 0.5 > 0.1]), 0.25]
    expected[2] = np.mean([0.1 > 0.5, 0.3 > 0.9])
    assert identify_shuffled(r, apart, partners).tolist() == expected


def test_fewer_images_than_similar_ones_are_all():
    rng = np.random.default_rng(0)
    tested, known = rng.standard_normal((4, 5)), rng.standard_normal((6, 5))
    found = find_candidates(tested, known, np.arange(6), np.array(["", "a", "a", "a"]), 10)
    assert np.array_equal(found.others["similar"], found.others["all"])
    assert found.others["group"].sum(axis=1).tolist() == [0, 2, 2, 2]


def test_other_test_sets_are_compared_with_the_core(subject, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    second = Subject(other, seed=1)
    second.table["split"] = np.where(second.table["split"] == "test", "test", "unused")
    second.save_table()
    decoded = second.save_decoded(second.decode("z", 1))
    found = means(second.score(decoded, known=subject.images))
    assert found["decoded", "z", "all"] > 0.9
    with pytest.raises(InputError, match="at least 1 training images, found 0"):
        second.score(decoded)


class TestErrors:
    def decoded(self, subject):
        return subject.save_decoded(subject.decode("z", 0))

    def test_no_group(self, subject):
        del subject.table["group"]
        subject.save_table()
        with pytest.raises(InputError, match=r"images.tsv: expected the column group"):
            subject.score(self.decoded(subject))

    def test_one_test_image(self, subject):
        subject.table.loc[subject.test[1:], "split"] = "unused"
        subject.save_table()
        with pytest.raises(InputError, match="at least 2 test images, found 1"):
            subject.score(self.decoded(subject))

    def test_rows_of_other_images(self, subject):
        for name in ("space", "z"):
            good = np.load(subject.folder / f"{name}.npy")
            np.save(subject.folder / f"{name}.npy", good[1:])
            with pytest.raises(InputError, match=rf"{name}.npy: expected a row for each of 100"):
                subject.score(self.decoded(subject))
            np.save(subject.folder / f"{name}.npy", good)

    def test_another_shape_decoded(self, subject):
        decoded = subject.save_decoded(subject.decode("z", 0)[1:])
        with pytest.raises(InputError, match=r"shape \(40, 4, 6, 6\), found shape \(39, 4"):
            subject.score(decoded)

    def test_another_shape_of_the_features_known(self, subject):
        np.save(subject.folder / "flat.npy", np.zeros((100, 144), np.float32))
        known = subject.images._replace(features={"z": subject.folder / "flat.npy"})
        with pytest.raises(InputError, match=r"z.npy: expected rows of shape \(144,\)"):
            subject.score(self.decoded(subject), known=known)

    def test_no_true_features(self, subject):
        known = subject.images._replace(features={})
        with pytest.raises(InputError, match="`known`: expected features of z, found none"):
            subject.score(self.decoded(subject), known=known)

    def test_undefined_values(self, subject):
        values = subject.decode("z", 0)
        values[3, 0] = np.nan
        with pytest.raises(InputError, match="features of test images: expected finite"):
            subject.score(subject.save_decoded(values))

    def test_nothing_to_score(self, subject):
        with pytest.raises(InputError, match="decoded features or reconstructions, found neither"):
            subject.score()

    def test_pictures_of_other_images(self, subject):
        pictures = subject.save_pictures(subject.decode("picture", 0))
        subject.table["nsd_id"] = subject.table["nsd_id"].to_numpy()[::-1]
        subject.save_table()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(generalisation, "load_layer", lambda *_: look)
            with pytest.raises(InputError, match=r"zc.h5: expected pictures of the 40 test images"):
                subject.score(reconstructions=pictures)


class TestNetwork:
    cpu = torch.device("cpu")

    def load(self, monkeypatch, layer):
        view = View(8, 2, ((0,), (1,)), {"first": "a", "second": "b"})
        views = [(view, lambda pictures: {"first": 1, "second": 2})]
        monkeypatch.setattr(picture_scores, "load_extractors", lambda *_: views)
        return picture_scores.load_layer("clip", layer, {}, self.cpu)

    def test_a_layer_is_taken(self, monkeypatch):
        assert self.load(monkeypatch, "second")([]) == 2

    def test_another_layer(self, monkeypatch):
        with pytest.raises(InputError, match="`layer`: expected a layer of clip: first, second"):
            self.load(monkeypatch, "third")

    def test_no_weights(self, monkeypatch):
        def refuse(*_):
            raise Unavailable("no weights are given")

        monkeypatch.setattr(picture_scores, "load_extractors", refuse)
        with pytest.raises(InputError, match="`network`: expected the network clip with its wei"):
            picture_scores.load_layer("clip", "image_embeds", None, self.cpu)


def test_at_most_so_many_training_pictures_are_averaged(subject, monkeypatch):
    monkeypatch.setattr(picture_scores, "AVERAGED", 3)
    numbers = np.array([5, 9, 1, 30, 2])
    stimuli = subject.folder / "stimuli.hdf5"
    found = picture_scores.average_training(stimuli, numbers)
    chosen = [enlarge(subject.true("picture")[99 - n], 425) for n in (5, 1, 2)]
    assert np.abs(found - np.mean(chosen, axis=0)).max() <= 0.5 + 1e-9


def test_memory_is_halved_as_elsewhere(subject):
    sizes = []

    def content(pictures):
        sizes.append(len(pictures))
        if len(pictures) > 2:
            raise torch.OutOfMemoryError("too many")
        return look(pictures)

    viewer = picture_scores.Viewer(content, 5, SimpleNamespace(type="cpu"))
    found = picture_scores.look_at_images(subject.folder / "stimuli.hdf5", np.arange(6), viewer)
    assert sizes[:2] == [5, 2]
    assert found["content"].shape == (6, 75)
    assert found["layout"].shape == (6, 768)

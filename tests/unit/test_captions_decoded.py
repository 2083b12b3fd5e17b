from collections import Counter
from math import log, sqrt

import numpy as np
import pandas as pd
import pytest
from nsd_files import write_captions

from nsdldm.decoding.captions import choose_captions
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table

TRAIN = {
    10: ["a red ball on the grass", "the ball"],
    11: ["a dog with a red ball", "a dog on the grass"],
    12: ["a dog runs", "two people and a dog on the grass", "a dog in the sun"],
    13: ["a pizza on a table", "a plate with pizza"],
    14: ["a pizza and a glass on a table", "food"],
    15: ["a train at a station"],
}
TEST = {20: ["a brown dog"], 21: ["a slice of pizza"]}
NEAR = {20: (11, 12, 10), 21: (14, 13, 15)}


@pytest.fixture
def files(tmp_path):
    ids = [20, 10, 11, 12, 21, 13, 14, 15]
    split = ["test" if number in TEST else "train" for number in ids]
    table = {"nsd_id": ids, "coco_id": [1000 - number for number in ids], "split": split}
    pd.DataFrame(table).to_csv(tmp_path / "images.tsv", sep="\t", index=False)
    rng = np.random.default_rng(0)
    # Orthogonal directions, with much in common.
    basis = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    true = {number: basis[place] for place, number in enumerate(ids)}
    decoded = {
        number: 10 * basis[-1] + 3 * true[a] + 2 * true[b] + 1 * true[c]
        for number, (a, b, c) in NEAR.items()
    }
    np.save(tmp_path / "true.npy", [10 * basis[-1] + true[number] for number in ids])
    np.save(tmp_path / "decoded.npy", [decoded[20], decoded[21]])
    texts = TRAIN | TEST
    pairs = [(1000 - number, text) for number in texts for text in texts[number]]
    write_captions(tmp_path / "captions.json", pairs)
    return tmp_path


def choose(folder, k):
    choose_captions(
        decoded=folder / "decoded.npy",
        features=folder / "true.npy",
        images=folder / "images.tsv",
        captions=[folder / "captions.json"],
        k=k,
        output=folder / "chosen.tsv",
    )
    return load_table(folder / "chosen.tsv")


def vector(text):
    """Counts weighted by log((1 + n) / (1 + frequency)) + 1, of unit length."""
    texts = [each for group in TRAIN.values() for each in group]
    frequency = Counter(word for each in texts for word in {*each.split()})
    counts = Counter(text.split())
    weighted = {w: n * (log((1 + len(texts)) / (1 + frequency[w])) + 1) for w, n in counts.items()}
    length = sqrt(sum(value**2 for value in weighted.values()))
    return {word: value / length for word, value in weighted.items()}


def similarity(a, b):
    return sum(value * vector(b).get(word, 0) for word, value in vector(a).items())


def test_one_neighbour_gives_its_first_caption(files):
    table = choose(files, 1)
    assert table["nsd_id"].tolist() == [20, 21]
    assert table["source"].tolist() == [NEAR[20][0], NEAR[21][0]]
    assert table["caption"].tolist() == [TRAIN[11][0], TRAIN[14][0]]


@pytest.mark.parametrize("k", [2, 3])
def test_consensus_is_that_of_a_plain_loop(files, k):
    table = choose(files, k)
    for row in table.itertuples():
        near = NEAR[row.nsd_id][:k]
        means = {}
        for owner in near:
            others = [text for each in near if each != owner for text in TRAIN[each]]
            for text in TRAIN[owner]:
                means[owner, text] = np.mean([similarity(text, other) for other in others])
        owner, text = max(means, key=means.get)
        assert (row.source, row.caption) == (owner, text)


def test_consensus_names_what_neighbours_share(files):
    """Not always the first caption, nor the nearest image's."""
    table = choose(files, 3).set_index("nsd_id")
    assert table.loc[20, "caption"] == "a dog on the grass"
    assert "pizza" in table.loc[21, "caption"]


def test_captions_of_test_images_are_not_seen(files):
    before = choose(files, 3)
    pairs = [(1000 - number, text) for number in TRAIN for text in TRAIN[number]]
    write_captions(files / "captions.json", pairs)
    pd.testing.assert_frame_equal(choose(files, 3), before)


@pytest.mark.parametrize("k", [0, 7])
def test_an_impossible_number_of_neighbours_is_refused(files, k):
    with pytest.raises(InputError, match=r"`k`: expected from 1 to 6"):
        choose(files, k)

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from nltk.stem.porter import PorterStemmer
from nsd_files import write_captions, write_stimuli
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from nsdldm.evaluation.captions import Clip, compare_words, open_wordnet, score_captions
from nsdldm.evaluation.identification import derange
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table

CLIP = Path(__file__).parents[2] / "resources/demo_model/clip"
OWN = {
    7: ["a red circle on the left", "the circle is red", "red circles and a square"],
    2: ["two green triangles", "a green triangle beside another triangle"],
    40: ["a blue square"],
    11: ["a small red square", "a square in front of mountains", "one square", "a red thing"],
}
CHOSEN = ["a red circle", "the squares are blue", "", "a square, a red one"]
SEED = 5


def split(text):
    """Words; the captions here have no other punctuation."""
    return text.lower().replace(",", " ,").split()


def align(hypothesis, reference, synonyms):
    """Pairs of places: equal words, then equal stems, then synonyms, each from the end."""
    stem, pairs = PorterStemmer().stem, []
    left, right = list(range(len(hypothesis))), list(range(len(reference)))
    for same in (
        lambda a, b: a == b,
        lambda a, b: stem(a) == stem(b),
        # The library looks stems up, so it only finds synonyms that are their own stems.
        lambda a, b: stem(b) in synonyms.get(stem(a), ()),
    ):
        for i in left[::-1]:
            fits = [j for j in right if same(hypothesis[i], reference[j])]
            if fits:
                pairs.append((i, fits[-1]))
                left.remove(i)
                right.remove(fits[-1])
    return sorted(pairs)


def meteor(text, reference, synonyms=None):
    """Lavie and Agarwal (2007) with nltk's weights."""
    a, b = split(text), split(reference)
    pairs = align(a, b, synonyms or {})
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(a), len(pairs) / len(b)
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    chunks = 1
    for (i, j), (k, m) in pairwise(pairs):
        chunks += (k, m) != (i + 1, j + 1)
    return mean * (1 - 0.5 * (chunks / len(pairs)) ** 3)


def f1(common, a, b):
    return 2 * common / (len(a) + len(b)) if common else 0.0


def words(text):
    return [word for word in split(text) if word.isalnum()]


def rouge1(text, reference):
    a, b = words(text), words(reference)
    return f1(sum(min(a.count(word), b.count(word)) for word in {*a}), a, b)


def rouge_l(text, reference):
    a, b = words(text), words(reference)

    def longest(i, j):
        if i == len(a) or j == len(b):
            return 0
        if a[i] == b[j]:
            return 1 + longest(i + 1, j + 1)
        return max(longest(i + 1, j), longest(i, j + 1))

    return f1(longest(0, 0), a, b)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("captions")
    ids = [3, 7, 2, 40, 9, 11]
    table = {"nsd_id": ids, "coco_id": [number + 100 for number in ids]}
    table["split"] = ["test" if number in OWN else "train" for number in ids]
    pd.DataFrame(table).to_csv(home / "images.tsv", sep="\t", index=False)
    write_captions(home / "c.json", [(n + 100, text) for n in OWN for text in OWN[n]])
    rng = np.random.default_rng(0)
    pictures = {
        number: np.asarray(
            Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((425, 425))
        )
        for number in OWN
    }
    write_stimuli(home / "stimuli.hdf5", pictures, 41)
    np.savez(home / "pictures.npz", *pictures.values())
    return home


def score(home, out, chosen=CHOSEN, numbers=tuple(OWN), wordnet=None):
    table = pd.DataFrame({"nsd_id": numbers, "caption": chosen})
    table.to_csv(out / "chosen.tsv", sep="\t", index=False)
    score_captions(
        chosen=out / "chosen.tsv",
        images=home / "images.tsv",
        captions=[home / "c.json"],
        stimuli=home / "stimuli.hdf5",
        clip=Clip(CLIP, None, "cpu", 3),
        wordnet=wordnet,
        bootstrap=200,
        seed=SEED,
        output=out / "scores.tsv",
        details=out / "details.tsv",
    )
    means = load_table(out / "scores.tsv").set_index(["score", "references"])
    return means, load_table(out / "details.tsv")


def pick(details, name, kind):
    """Rows of a score by image."""
    rows = details.query("score == @name and references == @kind").set_index("nsd_id")
    return rows[["value", "chance", "ceiling"]]


@pytest.fixture(scope="module")
def scored(home, tmp_path_factory):
    return score(home, tmp_path_factory.mktemp("scored"))


@pytest.fixture(scope="module")
def clip(home):
    """CLIP's own embeddings, text by text and picture by picture."""
    model, tokenizer = CLIPModel.from_pretrained(CLIP).eval(), CLIPTokenizer.from_pretrained(CLIP)
    side = model.config.vision_config.image_size

    def unit(output):
        vector = getattr(output, "pooler_output", output)[0].double().numpy()
        return vector / np.linalg.norm(vector)

    with np.load(home / "pictures.npz") as file, torch.no_grad():
        texts = [*CHOSEN, *(text for group in OWN.values() for text in group)]
        # Not padded, but cut: the demo's words are long, in tokens.
        options = {"return_tensors": "pt", "truncation": True, "max_length": 24}
        written = {
            text: unit(model.get_text_features(**tokenizer([text], **options))) for text in texts
        }
        shown = {}
        for number, name in zip(OWN, file, strict=True):
            picture = Image.fromarray(file[name]).resize((side, side), Image.Resampling.BICUBIC)
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
            shown[number] = unit(model.get_image_features(pixel_values=pixels / 127.5 - 1))
    return written, shown


def by_hand(pair, kind):
    """Value, chance and ceiling by image."""
    rows, partners = [], derange(len(OWN), SEED)
    for place, own in enumerate(OWN.values()):
        references = own if kind == "all" else own[:1]
        people = [
            max(pair(text, each) for each in references if each != text)
            for text in own
            if {*references} - {text}
        ]
        rows.append(
            [
                max(pair(CHOSEN[place], each) for each in references),
                max(pair(CHOSEN[partners[place]], each) for each in references),
                np.mean(people) if people else np.nan,
            ]
        )
    return np.array(rows)


@pytest.mark.parametrize("kind", ["all", "first"])
@pytest.mark.parametrize(
    ("name", "pair"),
    [("meteor-without-synonyms", meteor), ("rouge1", rouge1), ("rougeL", rouge_l)],
)
def test_scores_of_words_equal_plain_loops(scored, name, pair, kind):
    expected = by_hand(pair, kind)
    found = pick(scored[1], name, kind)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.index.tolist() == list(OWN)
    mean = scored[0].loc[name, kind]
    np.testing.assert_allclose(
        mean[["value", "chance", "ceiling"]], np.nanmean(expected, axis=0), atol=1e-5
    )
    assert mean["low"] <= mean["value"] <= mean["high"]
    assert mean["n"] == len(OWN)
    # An image with one caption has no ceiling, and an empty caption nothing in common.
    assert np.isnan(found.loc[40, "ceiling"]) and found.loc[40, "value"] == 0
    assert 0 < expected[0, 0] < 1


@pytest.mark.parametrize("kind", ["all", "first"])
def test_clip_s_scores_of_texts_are_cosines(scored, clip, kind):
    written, _ = clip
    expected = by_hand(lambda a, b: written[a] @ written[b], kind)
    found = pick(scored[1], "clip-text", kind)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert expected[:, 0].std() > 0.01


def test_clip_s_scores_of_pictures_are_cosines(scored, clip):
    written, shown = clip
    found, partners = pick(scored[1], "clip-image", "picture"), derange(len(OWN), SEED)
    for place, (number, own) in enumerate(OWN.items()):
        row, vector = found.loc[number], shown[number]
        assert row["value"] == pytest.approx(written[CHOSEN[place]] @ vector, abs=1e-4)
        assert row["chance"] == pytest.approx(written[CHOSEN[partners[place]]] @ vector, abs=1e-4)
        expected = np.mean([written[text] @ vector for text in own])
        assert row["ceiling"] == pytest.approx(expected, abs=1e-4)
    assert found["value"].std() > 0.01


def test_all_scores_are_there_once(scored):
    names = ("meteor-without-synonyms", "rouge1", "rougeL", "clip-text")
    expected = {(name, kind) for name in names for kind in ("all", "first")}
    assert {*scored[0].index} == expected | {("clip-image", "picture")}
    assert len(scored[0]) == 9 and len(scored[1]) == 9 * len(OWN)


def test_own_captions_score_best_and_others_worst(home, tmp_path):
    means, _ = score(home, tmp_path, [group[0] for group in OWN.values()])
    for name in ("rouge1", "rougeL", "clip-text"):
        for kind in ("all", "first"):
            assert means.loc[name, kind]["value"] == pytest.approx(1, abs=1e-5)
            assert means.loc[name, kind]["chance"] < means.loc[name, kind]["ceiling"] < 1
    # METEOR counts even an unbroken match as one chunk.
    lengths = [len(split(group[0])) for group in OWN.values()]
    expected = np.mean([1 - 0.5 / n**3 for n in lengths])
    assert means.loc["meteor-without-synonyms", "all"]["value"] == pytest.approx(expected, abs=1e-5)


def write_wordnet(folder):
    """Two synsets in the files' own format: disk, ring; and small, short."""
    folder.mkdir()
    for part, letter, lemmas in (("noun", "n", "disk ring"), ("adj", "a", "small short")):
        names = lemmas.split()
        line = f"00000000 00 {letter} 02 {names[0]} 0 {names[1]} 0 000 | it  \n"
        (folder / f"data.{part}").write_text(line)
        rows = [f"{name} {letter} 1 0 1 0 00000000  \n" for name in names]
        (folder / f"index.{part}").write_text("".join(rows))
    for part in ("verb", "adv"):
        (folder / f"data.{part}").write_text("")
        (folder / f"index.{part}").write_text("")
    for part in ("noun", "verb", "adj", "adv"):
        (folder / f"{part}.exc").write_text("")
    (folder / "lexnames").write_text("00\tall\t1\n")
    return folder


def test_synonyms_count_with_wordnet_alone(home, tmp_path):
    folder = write_wordnet(tmp_path / "wordnet")
    texts = ["a short ring", "a small disk", "small disks", "a circle"]
    synonyms = {"short": ["small"], "ring": ["disk"], "small": ["short"], "disk": ["ring"]}
    plain = compare_words(texts, None)["meteor-without-synonyms"]
    found = compare_words(texts, folder)["meteor"]
    for text, reference in np.ndindex(4, 4):
        pair = texts[text], texts[reference]
        assert plain(text, reference) == pytest.approx(meteor(*pair))
        assert found(text, reference) == pytest.approx(meteor(*pair, synonyms))
    assert found(0, 1) > plain(0, 1) > 0
    means, _ = score(home, tmp_path, wordnet=folder)
    assert {name for name, _ in means.index if name.startswith("meteor")} == {"meteor"}


def test_a_folder_without_wordnet_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"the files of WordNet 3.0"):
        open_wordnet(tmp_path)
    (write_wordnet(tmp_path / "wordnet") / "index.verb").write_text("go v one\n")
    with pytest.raises(InputError, match=r"the files of WordNet 3.0"):
        open_wordnet(tmp_path / "wordnet")


@pytest.mark.parametrize("numbers", [(2, 7, 40, 11), (7, 2, 40, 3)])
def test_captions_of_other_images_are_refused(home, tmp_path, numbers):
    with pytest.raises(InputError, match="a caption for each test image"):
        score(home, tmp_path, numbers=numbers)

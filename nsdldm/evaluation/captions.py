"""Score captions of what was decoded against the images' own captions and the pictures shown."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nltk
import numpy as np
import pandas as pd
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from nltk.tokenize import word_tokenize
from nltk.translate.meteor_score import single_meteor_score
from rouge_score.rouge_scorer import RougeScorer

from nsdldm.diffusion.pictures import find_test_images
from nsdldm.evaluation.identification import derange
from nsdldm.features.clip import embed_sentences, embed_tokens, load_clip
from nsdldm.features.networks import normalise_pictures
from nsdldm.features.views import BICUBIC
from nsdldm.intervals import bootstrap_interval
from nsdldm.nsd.captions import read_captions
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.batching import run_images
from nsdldm.support.devices import choose_device
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import load_table, save_table
from nsdldm.support.logs import progress

logger = logging.getLogger(__name__)

METEOR, WITHOUT = "meteor", "meteor-without-synonyms"
ROUGE = ("rouge1", "rougeL")
# What a caption is compared with: all captions of the image, of which the best counts, the first of
# them (one, as in MindEye2), or the picture.
ALL, FIRST, PICTURE = "all", "first", "picture"
COLUMNS = ("value", "chance", "ceiling")


class Clip(NamedTuple):
    """A CLIP model and how to run it.

    Parameters
    ----------
    path : str or Path
        Folder in the layout of transformers, or hub id.
    revision : str or None
        Commit of the hub repository; needed for a hub id, ignored for a folder.
    device : {"auto", "cpu", "cuda"}
    batch_size : int
        Texts or pictures at once; halved when memory runs out.
    """

    path: str | Path
    revision: str | None = None
    device: str = "auto"
    batch_size: int = 64


def score_captions(
    *,
    chosen: Path | str,
    images: Path | str,
    captions: Sequence[Path | str],
    stimuli: Path | str,
    clip: Clip,
    wordnet: Path | str | None,
    bootstrap: int,
    seed: int,
    output: Path | str,
    details: Path | str,
) -> None:
    """Score a caption of each test image.

    Scores, each from 0 or -1 to 1:

    ``meteor`` or ``meteor-without-synonyms``
        METEOR of nltk (equal words, then equal stems, then synonyms), which MindEye2 reports. Its
        synonyms need WordNet, where the library looks stems up; without, the score is lower and has
        the second name. METEOR of COCO's own tools is another program, with other values.
    ``rouge1``, ``rougeL``
        F1 of words, and of the longest common subsequence of words (rouge-score, no stemming).
    ``clip-text``
        Cosine of CLIP's embeddings of the two texts.
    ``clip-image``
        Cosine of CLIP's embeddings of caption and picture.

    Chance is the score of the caption that another test image got. The ceiling is that of people:
    the mean over the image's own captions, each scored in the same way against the others, which is
    one reference fewer with ``all``. It is no bound, since people word the same thing differently.
    Images with a single caption have no ceiling, except in ``clip-image``, where captions are
    compared with the picture.

    Parameters
    ----------
    chosen : path
        Table with the columns nsd_id and caption, a row per test image.
    images : path
        Table of images with the columns nsd_id, coco_id and split.
    captions : list of path
        COCO's caption files.
    stimuli : path
        ``nsd_stimuli.hdf5``.
    clip : Clip
    wordnet : path or None
        Folder with the files of WordNet 3.0 (``index.noun`` and so on).
    bootstrap, seed : int
        Draws of the intervals (95 %) over images; the seed also pairs images for chance.
    output : path
        Output: score, references, value, low, high, chance, ceiling and n. `references` is ``all``
        (the best of all captions of the image counts), ``first`` (one reference, as published) or
        ``picture``.
    details : path
        Output: nsd_id, score, references, value, chance and ceiling.

    Raises
    ------
    InputError
        There are fewer than two test images, the table is that of other images, or captions,
        pictures, the CLIP model or WordNet cannot be used.
    """
    nsd_ids, rows = find_test_images(images)
    table = load_table(chosen)
    if len(nsd_ids) < 2 or not np.array_equal(table["nsd_id"], nsd_ids):
        expected = f"a caption for each test image of {images}, at least 2, in its order"
        raise InputError(Finding(str(chosen), expected, "others", "Caption the images again"))
    # pandas reads an empty caption as missing.
    texts = table["caption"].fillna("").astype(str).tolist()
    coco_ids = load_table(images)["coco_id"].to_numpy()[rows]
    by_image = read_captions(captions, coco_ids)
    # All texts in a row: the captions chosen, then the images' own.
    owned = []
    for number in coco_ids:
        owned.append(list(range(len(texts), len(texts) + len(by_image[number]))))
        texts += by_image[number]
    written, shown = embed_all(texts, stimuli, nsd_ids, clip)
    cosines = {"clip-text": lambda text, reference: written[text] @ written[reference]}
    partners = derange(len(nsd_ids), seed)
    values = score_texts(compare_words(texts, wordnet) | cosines, owned, partners)
    values["clip-image", PICTURE] = score_pictures(written, shown, owned, partners)
    _save(output, details, values, nsd_ids, bootstrap, seed)


def compare_words(texts: list[str], wordnet: Path | str | None) -> dict[str, Callable]:
    """Make the scores that compare words.

    Parameters
    ----------
    texts : list of str
    wordnet : path or None

    Returns
    -------
    dict of str to callable
        Takes the indices of a text and of its reference, and returns the score.
    """
    # The tokens of the published score, except that a caption always counts as one sentence: to
    # split sentences, the library would need data of its own.
    tokens = [word_tokenize(text, preserve_line=True) for text in texts]
    synonyms = _NoSynonyms() if wordnet is None else open_wordnet(wordnet)

    def meteor(text, reference):
        return single_meteor_score(tokens[reference], tokens[text], wordnet=synonyms)

    def rouge(name, scorer, text, reference):
        return scorer.score(texts[reference], texts[text])[name].fmeasure

    scorers = {name: RougeScorer([name], use_stemmer=False) for name in ROUGE}
    rules = {name: partial(rouge, name, scorer) for name, scorer in scorers.items()}
    return {WITHOUT if wordnet is None else METEOR: meteor} | rules


class _NoSynonyms:
    """A dictionary that knows no word."""

    def synsets(self, word):
        """None."""
        return []


class _WordNet(WordNetCorpusReader):
    """WordNet without other languages, which would need more data."""

    def map_wn(self, version="wordnet"):
        """No correspondence with another version."""


def open_wordnet(path: Path | str) -> WordNetCorpusReader:
    """Open WordNet's files.

    Parameters
    ----------
    path : path
        Folder with ``index.noun``, ``data.noun`` and so on.

    Returns
    -------
    WordNetCorpusReader

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    # The library only reads from folders that it was told of.
    nltk.data.path.append(str(Path(path).resolve()))
    with (
        reading(path, "a folder with the files of WordNet 3.0", "Unpack WordNet 3.0 there"),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="The multilingual functions")
        return _WordNet(str(Path(path).resolve()), None)


def embed_all(
    texts: list[str], stimuli: Path | str, nsd_ids: np.ndarray, clip: Clip
) -> tuple[np.ndarray, np.ndarray]:
    """Embed texts and pictures with CLIP.

    Parameters
    ----------
    texts : list of str
    stimuli : path
    nsd_ids : int array of shape (n_images,)
    clip : Clip

    Returns
    -------
    written : float64 array of shape (n_texts, d)
    shown : float64 array of shape (n_images, d)
        Embeddings of unit length.
    """
    device = choose_device(clip.device)
    model, tokenizer, processor = load_clip(str(clip.path), clip.revision)
    model = model.to(device)
    tokenizer.model_max_length = model.config.text_config.max_position_embeddings
    side = model.config.vision_config.image_size
    colours = processor.image_mean, processor.image_std

    def embed_texts(batch):
        groups = [[text] for text in texts[batch]]
        return embed_sentences(model, tokenizer, groups).cpu().numpy()

    def embed_pictures(batch):
        pictures = read_images(stimuli, nsd_ids[batch])
        pixels = normalise_pictures(pictures, side, BICUBIC, colours)
        return embed_tokens(model, pixels.to(device))[:, 0].cpu().numpy()

    def gather(embed, n, label):
        rows = run_images(embed, n, clip.batch_size, device, label)
        return np.stack([row for _, row in rows]).astype(np.float64)

    written = gather(embed_texts, len(texts), "embeddings of captions")
    return written, gather(embed_pictures, len(nsd_ids), "embeddings of pictures")


def score_texts(
    rules: dict[str, Callable], owned: list[list[int]], partners: np.ndarray
) -> dict[tuple[str, str], np.ndarray]:
    """Score the captions of images against the images' own, with chance and ceiling.

    Parameters
    ----------
    rules : dict of str to callable
        As `compare_words` returns them. Text i is the caption of image i.
    owned : list of list of int
        By image, the indices of its own captions.
    partners : int array of shape (n_images,)
        A different image for each image.

    Returns
    -------
    dict of (str, str) to float64 array of shape (n_images, 3)
        By score and references: value, chance and ceiling. NaN if an image has no ceiling.
    """
    values = {}
    for image, own in progress(enumerate(owned), len(owned), "captions compared"):
        compared = [image, int(partners[image]), *own]
        for name, rule in rules.items():
            pairs = np.array([[rule(text, each) for each in own] for text in compared])
            best, people = pairs[:2].max(axis=1), pairs[2:].copy()
            # No caption is its own reference.
            np.fill_diagonal(people, -np.inf)
            ceilings = np.nan, np.nan
            if len(own) > 1:
                ceilings = people.max(axis=1).mean(), people[1:, 0].mean()
            values.setdefault((name, ALL), []).append((*best, ceilings[0]))
            values.setdefault((name, FIRST), []).append((*pairs[:2, 0], ceilings[1]))
    return {key: np.array(rows) for key, rows in values.items()}


def score_pictures(
    written: np.ndarray, shown: np.ndarray, owned: list[list[int]], partners: np.ndarray
) -> np.ndarray:
    """Score the captions of images against the pictures, with chance and ceiling.

    Parameters
    ----------
    written, shown : float64 arrays of shape (n_texts, d) and (n_images, d)
        As `embed_all` returns them.
    owned, partners
        As `score_texts`.

    Returns
    -------
    float64 array of shape (n_images, 3)
        Value, chance and ceiling: the mean over the image's own captions.
    """
    n = len(shown)
    own = np.einsum("ij,ij->i", written[:n], shown)
    chance = np.einsum("ij,ij->i", written[partners], shown)
    ceiling = [
        (written[texts] @ picture).mean() for texts, picture in zip(owned, shown, strict=True)
    ]
    return np.stack([own, chance, np.array(ceiling)], axis=1)


def _save(output, details, values, nsd_ids, bootstrap, seed):
    """Write the table of means and that of images."""
    n = len(nsd_ids)
    own = np.stack([rows[:, 0] for rows in values.values()], axis=1)
    low, high = bootstrap_interval(own, bootstrap, seed)
    means, images = [], []
    for (score, references), rows, *ends in zip(values, values.values(), low, high, strict=True):
        people = rows[~np.isnan(rows[:, 2]), 2]
        ceiling = people.mean() if len(people) else np.nan
        row = (score, references, rows[:, 0].mean(), *ends, rows[:, 1].mean(), ceiling, n)
        means.append(row)
        part = pd.DataFrame(rows, columns=COLUMNS)
        part.insert(0, "nsd_id", nsd_ids)
        part.insert(1, "score", score)
        part.insert(2, "references", references)
        images.append(part)
        logger.info("%s (%s): %.3f, chance %.3f, ceiling %.3f", *row[:3], *row[5:7])
    names = ["score", "references", "value", "low", "high", "chance", "ceiling", "n"]
    save_table(output, pd.DataFrame(means, columns=names))
    save_table(details, pd.concat(images, ignore_index=True))

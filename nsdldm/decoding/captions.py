"""Captions of training images as captions of what was decoded, without a language model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer

from nsdldm.decoding.neighbours import find_neighbours, open_embeddings
from nsdldm.nsd.captions import read_captions
from nsdldm.support.files import load_table, save_table

logger = logging.getLogger(__name__)

# Words of any length; the library's own pattern leaves out single letters and digits.
WORD = r"\w+"


def choose_captions(
    *,
    decoded: Path | str,
    features: Path | str,
    images: Path | str,
    captions: Sequence[Path | str],
    k: int,
    output: Path | str,
) -> None:
    """Choose a caption for each test image among those of the nearest training images.

    The one that is most similar, on average, to the captions of the other neighbours is chosen: it
    names what most of them show. The similarity is the cosine of word counts, each word weighted by
    the inverse of its frequency in all training captions (tf-idf). It needs no network, and words
    that almost every caption has, such as "a" and "on", count little, whereas plain word overlap
    would prefer short captions made of them. The captions of the same image do not count, so with
    one neighbour there is nothing to compare and its first caption is chosen.

    Parameters
    ----------
    decoded : path
        ``.npy`` of shape (n_test, ...): embeddings decoded from the responses to the test images.
    features : path
        ``.npy`` of shape (n_images, ...): true embeddings of all images.
    images : path
        Table of the images a subject saw, with the columns nsd_id, coco_id and split.
    captions : list of path
        COCO's caption files.
    k : int
        Number of neighbours, by the cosine of embeddings centred on the mean over training images.
    output : path
        Table with a row per test image: nsd_id, caption and source (id of the training image that
        the caption belongs to). In a tie, the nearest image's first caption is chosen.

    Raises
    ------
    InputError
        As `nsdldm.decoding.neighbours.open_embeddings` and `find_neighbours`, or a training image
        has no caption.
    """
    known = open_embeddings(decoded, features, images)
    coco_ids = load_table(images)["coco_id"].to_numpy()
    by_image = read_captions(captions, coco_ids[known.train])
    # Captions of test images have no part in it, not even in the weights of words.
    texts = [text for number in sorted(by_image) for text in by_image[number]]
    weights = TfidfVectorizer(token_pattern=WORD).fit(texts)
    chosen = []
    for test, neighbours in zip(known.test, find_neighbours(known, k)[0], strict=True):
        groups = [by_image[number] for number in coco_ids[neighbours]]
        place, caption = find_consensus(groups, weights)
        numbers = known.nsd_ids[[test, neighbours[place]]]
        chosen.append((numbers[0], caption, numbers[1]))
    save_table(output, pd.DataFrame(chosen, columns=["nsd_id", "caption", "source"]))
    logger.info("%d captions, of the %d nearest training images each", len(chosen), k)


def find_consensus(groups: list[list[str]], weights: TfidfVectorizer) -> tuple[int, str]:
    """Find the caption that is most similar to those of other images.

    Parameters
    ----------
    groups : list of list of str
        Captions by image.
    weights : TfidfVectorizer
        Fitted.

    Returns
    -------
    place : int
        Index of the image.
    caption : str
        With the largest mean similarity to the captions of all other images; the first in a tie.
    """
    texts = [text for group in groups for text in group]
    owners = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    vectors = weights.transform(texts)
    similarities = (vectors @ vectors.T).toarray()
    others = owners[:, None] != owners
    means = (similarities * others).sum(axis=1) / np.maximum(others.sum(axis=1), 1)
    # Equal means may differ in their last bits.
    best = int(np.flatnonzero(means >= means.max() - 1e-12)[0])
    return int(owners[best]), texts[best]

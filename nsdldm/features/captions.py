"""Caption embeddings c: the captions of the images a subject saw, through the text encoder."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from nsdldm.diffusion.loading import Model, load_text
from nsdldm.diffusion.text import embed_texts
from nsdldm.nsd.captions import read_captions
from nsdldm.support.batching import run_images
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import create_array, load_table

logger = logging.getLogger(__name__)


def embed_captions(
    *, images: str | Path, captions: Sequence[str | Path], model: Model, c: str | Path
) -> None:
    """Embed the captions of the images a subject saw, averaged over each image's captions.

    Parameters
    ----------
    images
        Table of images with the column coco_id.
    captions
        COCO's caption files.
    model : Model
        Its `batch_size` counts images, each with about five captions.
    c
        Output, float32 of shape (n_images, tokens, width), one row per image of the table.

    Raises
    ------
    InputError
        The model or the captions cannot be used, or an image has no caption.
    """
    coco_ids = load_table(images)["coco_id"].tolist()
    by_image = read_captions(captions, coco_ids)
    device, dtype = model.choose()
    tokenizer, encoder = load_text(model.path, model.revision, device, dtype)

    def embed(batch):
        groups = [by_image[number] for number in coco_ids[batch]]
        embedded = embed_texts(tokenizer, encoder, [text for group in groups for text in group])
        parts = embedded.split([len(group) for group in groups])
        return torch.stack([part.mean(0) for part in parts]).cpu().numpy()

    n = len(coco_ids)
    shape = (n, tokenizer.model_max_length, encoder.config.hidden_size)
    with create_array(c, shape, np.float32) as means:
        for index, mean in run_images(embed, n, model.batch_size, device, "c"):
            means[index] = mean
    logger.info("c: shape %s, means of %d captions", shape, sum(map(len, by_image.values())))


def embed_chosen_captions(*, captions: Path | str, model: Model, output: Path | str) -> None:
    """Embed one caption per test image, to generate pictures from.

    Parameters
    ----------
    captions
        Table with the column caption, as `nsdldm.decoding.captions.choose_captions` writes it.
    model : Model
        Its `batch_size` counts captions.
    output
        float32 ``.npy`` of shape (n, tokens, width), a row per row of the table.

    Raises
    ------
    InputError
        The model or the table cannot be used.
    """
    # A captioner may write nothing, which a table reads as missing.
    texts = load_table(captions)["caption"].fillna("").astype(str).tolist()
    device, dtype = model.choose()
    tokenizer, encoder = load_text(model.path, model.revision, device, dtype)

    def embed(batch):
        return embed_texts(tokenizer, encoder, texts[batch]).cpu().numpy()

    shape = (len(texts), tokenizer.model_max_length, encoder.config.hidden_size)
    with create_array(output, shape, np.float32) as embedded:
        for index, row in run_images(embed, len(texts), model.batch_size, device, "captions"):
            embedded[index] = row


def lend_captions(nsd_ids: Sequence[int], splits: Sequence[str], seed: int) -> np.ndarray:
    """Choose for each image another image whose captions it gets.

    The images of a split form a ring, in an order that depends only on their ids and the seed, and
    each gets the captions of the next one. No image keeps its own, training and test images are not
    mixed, and images that all subjects saw get the same captions in all of them.

    Parameters
    ----------
    nsd_ids : int array of shape (n_images,)
        Image ids from 0, each once.
    splits : sequence of str of shape (n_images,)
    seed : int

    Returns
    -------
    int array of shape (n_images,)
        Row of the image whose captions each image gets.

    Raises
    ------
    InputError
        A split has only one image.
    """
    splits = np.asarray(splits, str)
    keys = [np.random.default_rng([seed, int(number)]).random() for number in nsd_ids]
    lenders = np.empty(len(keys), np.int64)
    for split in np.unique(splits):
        ring = np.flatnonzero(splits == split)
        if len(ring) < 2:
            remedy = "Do without other-caption as `text`"
            expected = "at least two images, so that each gets captions of another"
            raise InputError(Finding(f"{split} images", expected, "one", remedy))
        ring = ring[np.argsort(np.asarray(keys)[ring])]
        lenders[ring] = np.roll(ring, -1)
    return lenders

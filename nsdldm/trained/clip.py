"""CLIP embeddings of pictures and captions: the targets of stage 2."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from nsdldm.features.clip import embed_sentences, embed_tokens, load_clip
from nsdldm.features.networks import normalise_pictures
from nsdldm.features.views import BICUBIC
from nsdldm.nsd.captions import read_captions
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.batching import run_images
from nsdldm.support.devices import choose_device
from nsdldm.support.files import create_array, load_table

logger = logging.getLogger(__name__)


def embed_clip(
    *,
    images: Path | str,
    stimuli: Path | str,
    captions: list[Path | str],
    path: str,
    revision: str,
    device: str,
    batch_size: int,
    clip_image: Path | str,
    clip_text: Path | str,
) -> None:
    """Embed the pictures and captions of the images a subject saw.

    Parameters
    ----------
    images : path
        ``images.tsv``.
    stimuli : path
        ``nsd_stimuli.hdf5``.
    captions : list of path
        COCO's caption files; all captions of an image are used.
    path, revision : str
        As `load_clip`.
    device : {"auto", "cpu", "cuda"}
    batch_size : int
        Images at once; halved when memory runs out.
    clip_image : path
        Output: float32 (n_images, 1 + patches, d) from `embed_tokens`; 1 GB for 10,000 images with
        ViT-B/32.
    clip_text : path
        Output: float32 (n_images, d) from `embed_sentences`.

    Raises
    ------
    InputError
        The model, pictures or captions cannot be used.
    """
    table = load_table(images)
    nsd_ids, coco_ids = table["nsd_id"].to_numpy(), table["coco_id"].tolist()
    by_image = read_captions(captions, coco_ids)
    device = choose_device(device)
    model, tokenizer, processor = load_clip(path, revision)
    model = model.to(device)
    config = model.config.vision_config
    tokenizer.model_max_length = model.config.text_config.max_position_embeddings
    colours = processor.image_mean, processor.image_std

    def embed_pictures(batch):
        pictures = read_images(stimuli, nsd_ids[batch])
        pixels = normalise_pictures(pictures, config.image_size, BICUBIC, colours)
        return embed_tokens(model, pixels.to(device)).cpu().numpy()

    def embed_texts(batch):
        groups = [by_image[number] for number in coco_ids[batch]]
        return embed_sentences(model, tokenizer, groups).cpu().numpy()

    n, d = len(nsd_ids), model.config.projection_dim
    n_tokens = 1 + (config.image_size // config.patch_size) ** 2
    for path_out, shape, embed in (
        (clip_image, (n, n_tokens, d), embed_pictures),
        (clip_text, (n, d), embed_texts),
    ):
        with create_array(path_out, shape, np.float32) as array:
            label = Path(path_out).stem
            for index, values in run_images(embed, n, batch_size, device, label):
                array[index] = values
        logger.info("%s: shape %s", label, shape)

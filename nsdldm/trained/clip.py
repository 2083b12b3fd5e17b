"""CLIP embeddings of pictures and captions: the targets of stage 2."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from nsdldm.features.networks import normalise_pictures
from nsdldm.features.views import BICUBIC
from nsdldm.nsd.captions import read_captions
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.batching import run_images
from nsdldm.support.devices import choose_device
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import create_array, load_table
from nsdldm.support.listing import list_weights

logger = logging.getLogger(__name__)


def load_clip(
    path: str, revision: str | None
) -> tuple[CLIPModel, CLIPTokenizer, CLIPImageProcessorPil]:
    """Load CLIP's two encoders and their preprocessing.

    Parameters
    ----------
    path : str
        A folder in the layout of transformers, or a hub id such as openai/clip-vit-base-patch32.
    revision : str or None
        Commit of the hub repository; needed for a hub id, ignored for a folder.

    Returns
    -------
    model : CLIPModel
    tokenizer : CLIPTokenizer
    processor : CLIPImageProcessorPil

    Raises
    ------
    InputError
        There is no such model, a hub id has no revision, or weights are missing.
    """
    local = Path(path).is_dir()
    if not local and not revision:
        remedy = "Correct it, or set `revision` to a commit"
        expected = "a folder, or a hub id with a revision"
        raise InputError(Finding(f"`path` {path}", expected, "neither", remedy))
    expected, remedy = "all weights, as safetensors", "Name a model with all its weights"
    if local and not list_weights(path):
        raise InputError(Finding(path, expected, "none", remedy))
    options = {"revision": None if local else revision, "local_files_only": local}
    with reading(path, "a CLIP model in the layout of transformers"):
        model, report = CLIPModel.from_pretrained(
            path, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
        )
        tokenizer = CLIPTokenizer.from_pretrained(path, **options)
        processor = CLIPImageProcessorPil.from_pretrained(path, **options)
    if report["missing_keys"]:
        found = f"none for {sorted(report['missing_keys'])[0]}"
        raise InputError(Finding(path, expected, found, remedy))
    return model.requires_grad_(False).eval(), tokenizer, processor


@torch.inference_mode()
def embed_tokens(model: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    """Embed pictures token by token, as CAE v2 does for its targets.

    Parameters
    ----------
    model : CLIPModel
    pixels : float32 tensor of shape (n, 3, side, side)

    Returns
    -------
    float32 tensor of shape (n, 1 + patches, d)
        Every token of the last layer after the final norm and the projection, normalised. The first
        (the class token) is CLIP's embedding of the picture.
    """
    tower = model.vision_model
    states = tower(pixels).last_hidden_state
    projected = model.visual_projection(tower.post_layernorm(states))
    return functional.normalize(projected.float(), dim=-1)


@torch.inference_mode()
def embed_sentences(
    model: CLIPModel, tokenizer: CLIPTokenizer, groups: list[list[str]]
) -> torch.Tensor:
    """Embed each image's captions: the mean of their normalised embeddings, normalised again.

    Parameters
    ----------
    model : CLIPModel
    tokenizer : CLIPTokenizer
    groups : list of list of str

    Returns
    -------
    float32 tensor of shape (n, d)
    """
    texts = [text for group in groups for text in group]
    tokens = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
    tokens = {name: value.to(model.device) for name, value in tokens.items()}
    embedded = model.get_text_features(**tokens)
    embedded = getattr(embedded, "pooler_output", embedded).float()
    parts = functional.normalize(embedded, dim=-1).split([len(group) for group in groups])
    return functional.normalize(torch.stack([part.mean(0) for part in parts]), dim=-1)


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

"""CLIP: its two encoders, and embeddings of pictures and captions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import (
    AutoConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from nsdldm.diffusion.loading import Model
from nsdldm.generators.loading import load_network
from nsdldm.support.devices import check_choice
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.listing import list_weights


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


logger = logging.getLogger(__name__)

# What generators take of a picture: the embedding; all tokens after the last layer's norm and the
# projection, divided by the length of the first (Versatile Diffusion); or all tokens before the
# last layer (plus adapters).
LAYERS = ("pooled", "tokens", "hidden")


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


def embed_texts_by_clip(
    device: str | torch.device, *, weights: Path | str, revision: str | None = None
) -> Callable:
    """Make a function that embeds the captions of pictures.

    Parameters
    ----------
    device : torch.device
    weights, revision : str
        Path of the model, and its revision, as `load_clip` takes them.

    Returns
    -------
    callable
        As `nsdldm.features.pictures.compute_features` needs it. A row is the mean embedding of an
        image's captions, as `embed_sentences`.

    Raises
    ------
    InputError
        The model cannot be used.
    """
    model, tokenizer, _ = load_clip(str(weights), revision)
    model.to(device)

    def embed(pictures: list[np.ndarray], captions: list[list[str]]) -> np.ndarray:
        return embed_sentences(model, tokenizer, captions).cpu().numpy()

    return embed


def embed_pictures_by_clip(
    device: str | torch.device,
    *,
    weights: Path | str,
    revision: str | None = None,
    subfolder: str = "",
    layer: str = "pooled",
) -> Callable:
    """Make a function that embeds pictures, in the form that generators take.

    Parameters
    ----------
    device : torch.device
    weights, revision : str
        Folder of a model in the layout of transformers, or hub id and commit.
    subfolder : str
        The encoder's in it, such as ``image_encoder`` beside adapters. Where neither has a
        `preprocessor_config.json`, pictures are prepared as CLIP's are, as IP-Adapter's own code
        does.
    layer : {"pooled", "tokens", "hidden"}
        The embedding, of shape (d,); all tokens after the projection, (1 + patches, d), divided by
        the length of the first, which is the embedding; or all tokens before the last layer.

    Returns
    -------
    callable
        As `nsdldm.features.pictures.compute_features` needs it.

    Raises
    ------
    InputError
        The model cannot be used.
    """
    check_choice("layer", layer, LAYERS)
    local = Path(weights).is_dir()
    if not local and not revision:
        expected, remedy = "a folder, or a hub id with a revision", "Correct it, or set `revision`"
        raise InputError(Finding(f"`weights` {weights}", expected, "neither", remedy))
    options = {"revision": None if local else revision, "local_files_only": local}
    with reading(weights, "a CLIP model in the layout of transformers"):
        config = AutoConfig.from_pretrained(str(weights), subfolder=subfolder, **options)
    if config.model_type == "clip":
        network, _, processor = load_clip(str(weights), revision)
        network.to(device)
    else:
        processor = _find_processor(weights, subfolder, config.image_size, options)
        kind, model = CLIPVisionModelWithProjection, Model(weights, revision)
        network = load_network(kind, model, subfolder, torch.float32).to(device)

    @torch.inference_mode()
    def embed(pictures: list[np.ndarray], captions: list[list[str]]) -> np.ndarray:
        pixels = processor(images=list(pictures), return_tensors="pt")["pixel_values"].to(device)
        found = network.vision_model(pixels, output_hidden_states=layer == "hidden")
        if layer == "hidden":
            return found.hidden_states[-2].cpu().numpy()
        if layer == "pooled":
            return network.visual_projection(found.pooler_output).cpu().numpy()
        states = network.vision_model.post_layernorm(found.last_hidden_state)
        tokens = network.visual_projection(states)
        return (tokens / tokens[:, :1].norm(dim=-1, keepdim=True)).cpu().numpy()

    return embed


def _find_processor(weights, subfolder, side, options):
    """The preprocessing of pictures in an encoder's folder, in that above it, or CLIP's own."""
    for folder in dict.fromkeys((subfolder, "")):
        try:
            return CLIPImageProcessorPil.from_pretrained(str(weights), subfolder=folder, **options)
        except OSError:
            logger.info("no preprocessor_config.json in %s/%s", weights, folder)
    crop = {"height": side, "width": side}
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=crop)

"""Captioning networks, GIT and BLIP, and the visual features that they write captions from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    GitForCausalLM,
    PreTrainedTokenizerBase,
)

from nsdldm.support.devices import choose_dtype
from nsdldm.support.errors import Finding, InputError, reading

logger = logging.getLogger(__name__)

# By the model_type of their configuration: the network and the preprocessing of pictures.
KINDS = {
    "git": (GitForCausalLM, CLIPImageProcessorPil),
    "blip": (BlipForConditionalGeneration, BlipImageProcessorPil),
}
# BLIP has two tokens more than the tokenizer that it shares with BERT: the first of every caption,
# and one for tasks that are not used here.
MORE_TOKENS = 2


def check_origin(path: Path | str, revision: str | None) -> dict:
    """Options of transformers for loading a part of a model from a folder or the hub.

    Parameters
    ----------
    path : str or Path
        Folder in the layout of transformers, or hub id.
    revision : str or None
        Commit of the hub repository; needed for a hub id, ignored for a folder.

    Returns
    -------
    dict

    Raises
    ------
    InputError
        There is no such folder and no revision.
    """
    local = Path(path).is_dir()
    if not local and not revision:
        expected, found = "a folder, or a hub id with a revision", "no folder, no revision"
        remedy = "Correct the path, or set revision to a commit if it is a hub id"
        raise InputError(Finding(f"captioner {path}", expected, found, remedy))
    return {"revision": None if local else revision, "local_files_only": local}


def load_captioner(
    path: Path | str, revision: str | None, device: torch.device, dtype: torch.dtype
) -> GitForCausalLM | BlipForConditionalGeneration:
    """Load a captioning network.

    Parameters
    ----------
    path, revision
        As `check_origin`, such as microsoft/git-large-coco or
        Salesforce/blip-image-captioning-base.
    device : torch.device
    dtype : torch.dtype

    Returns
    -------
    GitForCausalLM or BlipForConditionalGeneration
        In evaluation mode, without gradients.

    Raises
    ------
    InputError
        There is no such model, it is of another kind, or weights are missing or no safetensors.
    """
    options = check_origin(path, revision)
    with reading(path, "a captioner in the layout of transformers"):
        kind = AutoConfig.from_pretrained(path, **options).model_type
    if kind not in KINDS:
        expected, remedy = f"one of {', '.join(KINDS)}", "Use a captioner of one of these kinds"
        raise InputError(Finding(f"captioner {path}", expected, str(kind), remedy))
    with reading(path, "weights of a captioner in the layout of transformers"):
        network, report = KINDS[kind][0].from_pretrained(
            path, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
    # The library only warns, and leaves them random.
    if report["missing_keys"]:
        found = f"none for {sorted(report['missing_keys'])[0]}"
        remedy = "Name a model with all its weights"
        raise InputError(Finding(str(path), "weights of the whole network", found, remedy))
    logger.info("loaded %s, a captioner of the kind %s", path, kind)
    return network.to(device).requires_grad_(False).eval()


def load_tokenizer(path: Path | str, revision: str | None, n_words: int) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a captioner.

    Parameters
    ----------
    path, revision
        As `load_captioner`.
    n_words : int
        Number of tokens that the network knows.

    Returns
    -------
    PreTrainedTokenizerBase

    Raises
    ------
    InputError
        There is none, or it belongs to another network.
    """
    with reading(path, "the tokenizer of a captioner"):
        tokenizer = AutoTokenizer.from_pretrained(path, **check_origin(path, revision))
    # Without files, transformers makes a tokenizer of five tokens.
    if not n_words - MORE_TOKENS <= len(tokenizer) <= n_words:
        expected = f"a tokenizer of {n_words} tokens, as the network has"
        remedy = "Take tokenizer and weights from the same model, whole"
        raise InputError(Finding(str(path), expected, f"one of {len(tokenizer)}", remedy))
    return tokenizer


def describe_features(network: GitForCausalLM | BlipForConditionalGeneration) -> tuple[int, int]:
    """Numbers of tokens and of dimensions of a picture's visual features."""
    config = network.config.vision_config
    return (config.image_size // config.patch_size) ** 2 + 1, config.hidden_size


def encode_pixels(
    network: GitForCausalLM | BlipForConditionalGeneration, pixels: torch.Tensor
) -> torch.Tensor:
    """Compute the visual features that a captioner writes captions from.

    Parameters
    ----------
    network : GitForCausalLM or BlipForConditionalGeneration
    pixels : tensor of shape (n, 3, side, side)
        Preprocessed.

    Returns
    -------
    tensor of shape (n, tokens, width)
        The last hidden state of the picture's encoder, after its last layer norm: 257 x 1024 for
        GIT-large, 577 x 768 for BLIP-base.
    """
    encoder = network.git.image_encoder if hasattr(network, "git") else network.vision_model
    return encoder(pixels).last_hidden_state


def embed_captioner(
    device: str | torch.device,
    *,
    weights: Path | str,
    revision: str | None = None,
    dtype: str = "float32",
) -> Callable:
    """Make a function that returns a captioner's visual features of pictures.

    Parameters
    ----------
    device : torch.device
    weights, revision
        Path and revision, as `load_captioner`.
    dtype : {"float32", "float16", "bfloat16", "auto"}
        "auto" is float16 on a GPU.

    Returns
    -------
    callable
        As `nsdldm.features.pictures.compute_features` needs it; rows are float32 of shape (tokens,
        width).

    Raises
    ------
    InputError
        As `load_captioner`, or the model's preprocessing makes pictures of another size than its
        encoder's.
    """
    device = torch.device(device)
    network = load_captioner(weights, revision, device, choose_dtype(dtype, device))
    with reading(weights, "the preprocessing of a captioner's pictures"):
        make = KINDS[network.config.model_type][1].from_pretrained
        processor = make(weights, **check_origin(weights, revision))
    side = network.config.vision_config.image_size

    @torch.inference_mode()
    def embed(pictures, captions):
        pixels = processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        # BLIP would take smaller ones without a word, with the wrong positions.
        if tuple(pixels.shape[1:]) != (3, side, side):
            expected, found = f"pictures of {side} px", f"a preprocessing to {tuple(pixels.shape)}"
            remedy = "Take preprocessor_config.json and weights from the same model"
            raise InputError(Finding(str(weights), expected, found, remedy))
        features = encode_pixels(network, pixels.to(device, network.dtype))
        return features.float().cpu().numpy().astype(np.float32)

    return embed

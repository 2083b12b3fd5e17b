"""Captions of decoded visual features, by captioning networks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import BlipForConditionalGeneration, GitForCausalLM

from nsdldm.diffusion.pictures import find_test_images
from nsdldm.features.captioners import describe_features, load_captioner, load_tokenizer
from nsdldm.support.batching import run_images
from nsdldm.support.devices import choose_device, choose_dtype
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array, save_table

logger = logging.getLogger(__name__)


class Captioner(NamedTuple):
    """A captioning network and how to run it.

    Parameters
    ----------
    path : str or Path
        Folder in the layout of transformers, or hub id.
    revision : str or None
        Commit of the hub repository; needed for a hub id, ignored for a folder.
    device : {"auto", "cpu", "cuda"}
    dtype : {"auto", "float32", "float16", "bfloat16"}
        "auto" is float16 on a GPU and float32 on a CPU.
    batch_size : int
        Images at once; halved when memory runs out.
    """

    path: str | Path
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 16


class Writing(NamedTuple):
    """How captions are written. The most likely one is searched for, nothing is drawn.

    Parameters
    ----------
    num_beams : int
        1 takes the likeliest token at each step (MindEye2 with GIT; 3 in Takagi & Nishimoto's later
        work with BLIP).
    max_length : int
        Tokens of a caption at most, the first one, which starts every caption, included (20 in
        both).
    min_length : int
        Tokens at least, counted alike (5 in the latter).
    repetition_penalty : float
        Above 1, tokens that are already there become less likely (1.5 in the latter).
    """

    num_beams: int = 1
    max_length: int = 20
    min_length: int = 0
    repetition_penalty: float = 1.0


def caption_features(
    *,
    decoded: Path | str,
    images: Path | str,
    captioner: Captioner,
    writing: Writing,
    output: Path | str,
) -> None:
    """Write a caption of what was decoded of each test image.

    The captioner's language model gets the decoded features in place of those of a picture.

    Parameters
    ----------
    decoded : path
        ``.npy``, float of shape (n_test, tokens, width): decoded features of the kind that
        `nsdldm.features.captioners.embed_captioner` computes, with the same network.
    images : path
        Table of images with the columns nsd_id and split.
    captioner : Captioner
    writing : Writing
    output : path
        Table with a row per test image: nsd_id and caption, which may be empty.

    Raises
    ------
    InputError
        The network cannot be used, features are not finite or of another shape, or a length is
        impossible.
    """
    nsd_ids, _ = find_test_images(images)
    device = choose_device(captioner.device)
    dtype = choose_dtype(captioner.dtype, device)
    network = load_captioner(captioner.path, captioner.revision, device, dtype)
    text = getattr(network.config, "text_config", network.config)
    tokenizer = load_tokenizer(captioner.path, captioner.revision, text.vocab_size)
    _check_writing(writing, text.max_position_embeddings)
    features = load_array(decoded)
    shape = (len(nsd_ids), *describe_features(network))
    if features.shape != shape or not np.isfinite(features).all():
        expected = f"finite values of shape {shape}, test images by the network's tokens and width"
        remedy = "Decode the features of this network"
        raise InputError(Finding(str(decoded), expected, f"an array of {features.shape}", remedy))
    write = prepare_writer(network, writing)

    def caption(batch):
        return write(torch.from_numpy(np.array(features[batch])).to(device, dtype)).cpu().numpy()

    n = len(nsd_ids)
    tokens = run_images(caption, n, captioner.batch_size, device, "captions")
    # The tokenizer passes over numbers that it does not know, such as BLIP's first.
    texts = [tokenizer.decode(row, skip_special_tokens=True).strip() for _, row in tokens]
    save_table(output, pd.DataFrame({"nsd_id": nsd_ids, "caption": texts}))
    logger.info("%d captions, %d different ones", n, len(set(texts)))


def _check_writing(writing, most):
    """Refuse lengths that cannot be."""
    if not 2 <= writing.max_length <= most:
        expected = f"from 2 to {most} tokens, which the network has places for"
        raise InputError(Finding("`max_length`", expected, str(writing.max_length), "Correct it"))
    if not 0 <= writing.min_length <= writing.max_length:
        expected = f"from 0 to {writing.max_length}, the maximum length"
        raise InputError(Finding("`min_length`", expected, str(writing.min_length), "Correct it"))


class _Given(nn.Module):
    """Stands in for GIT's encoder of pictures, which the library always runs: features are passed
    as if they were a picture with one channel."""

    def forward(self, pixel_values, interpolate_pos_encoding=False):
        """The features, in the form of the encoder's output."""
        return SimpleNamespace(last_hidden_state=pixel_values[:, 0])


def prepare_writer(
    network: GitForCausalLM | BlipForConditionalGeneration, writing: Writing
) -> Callable:
    """Make the function that writes captions of visual features.

    Parameters
    ----------
    network : GitForCausalLM or BlipForConditionalGeneration
        Of GIT, the encoder of pictures is taken out.
    writing : Writing

    Returns
    -------
    callable
        Takes a tensor of shape (n, tokens, width), returns token numbers, an int tensor of shape
        (n, length). Features must not be repeated for beams; the library does that.
    """
    text = getattr(network.config, "text_config", network.config)
    options = writing._asdict() | {"do_sample": False, "pad_token_id": text.pad_token_id}
    if isinstance(network, GitForCausalLM):
        network.git.image_encoder = _Given()
    else:
        options["eos_token_id"] = text.sep_token_id

    @torch.inference_mode()
    def write(features):
        first = torch.full((len(features), 1), text.bos_token_id, device=features.device)
        if isinstance(network, GitForCausalLM):
            return network.generate(input_ids=first, pixel_values=features[:, None], **options)
        return network.text_decoder.generate(
            input_ids=first,
            encoder_hidden_states=features,
            encoder_attention_mask=torch.ones(features.shape[:2], device=features.device).long(),
            **options,
        )

    return write

"""What a generator is given in the pass without an image, where that is not zero.

Plus adapters and Kandinsky were trained with the encoding of an all-zero picture in place of an
image. It depends on nothing but the image encoder, so it is encoded once and kept in a file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import CLIPVisionModelWithProjection

from nsdldm.diffusion.denoising import open_feature
from nsdldm.diffusion.loading import Model
from nsdldm.generators.loading import load_network
from nsdldm.support.devices import check_choice
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import save_array

LAYERS = ("pooled", "hidden")


@torch.inference_mode()
def encode_zero_image(
    *,
    encoder: str | Path,
    subfolder: str = "image_encoder",
    revision: str | None = None,
    layer: str,
    output: str | Path,
) -> None:
    """Encode the all-zero picture with an image encoder of CLIP.

    Zero is meant after normalisation, as in the pipelines of diffusers, so it is CLIP's mean
    colour.

    Parameters
    ----------
    encoder : str or Path
        Folder that holds the encoder's, or hub id.
    subfolder : str
        The encoder's, in the layout of transformers.
    revision : str, optional
        Commit of the hub repository; needed for a hub id.
    layer : {"pooled", "hidden"}
        The embedding, as Kandinsky takes it, or the hidden state of all tokens before the last
        layer, as plus adapters take it.
    output
        float32 ``.npy`` of shape (width,) or (tokens, width).

    Raises
    ------
    InputError
        The encoder cannot be used.
    """
    check_choice("layer", layer, LAYERS)
    model = Model(encoder, revision)
    network = load_network(CLIPVisionModelWithProjection, model, subfolder, torch.float32)
    side = network.config.image_size
    encoded = network(torch.zeros(1, 3, side, side), output_hidden_states=layer == "hidden")
    values = encoded.image_embeds if layer == "pooled" else encoded.hidden_states[-2]
    save_array(output, values[0].numpy())


def read_negative(path: str | Path | None, shape: tuple[int | None, ...]) -> torch.Tensor:
    """Read what `encode_zero_image` wrote.

    Parameters
    ----------
    path : str, Path or None
        The generator's setting `negative`.
    shape : tuple of int or None
        As `nsdldm.diffusion.denoising.open_feature`.

    Returns
    -------
    float32 tensor of shape (1, *shape)

    Raises
    ------
    InputError
        No file was named, or it is of another shape or not finite.
    """
    if path is None:
        expected = "the encoding of an all-zero picture, which this generator needs for guidance"
        remedy = "Make the file with nsdldm.generators.negatives (docs/generators.md), and name it"
        raise InputError(Finding("`negative`", expected, "no file", remedy))
    values = np.array(open_feature(path, shape), np.float32)
    if not np.isfinite(values).all():
        remedy = "Make it again with nsdldm.generators.negatives"
        raise InputError(Finding(str(path), "finite values", "others", remedy))
    return torch.from_numpy(values)[None]

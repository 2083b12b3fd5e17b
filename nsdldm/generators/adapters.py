"""IP-Adapter: layers that let Stable Diffusion attend to the embedding of an image.

The weights are those of the published files; diffusers adds them to the U-Net.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import IPAdapterMixin
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file

from nsdldm.diffusion.denoising import Conditions, open_denoiser
from nsdldm.diffusion.loading import Model, count_tokens, load_autoencoder
from nsdldm.generators.generator import Generator
from nsdldm.generators.loading import load_unet, require
from nsdldm.generators.negatives import read_negative
from nsdldm.support.errors import Finding, InputError, Unexpected, reading
from nsdldm.support.hub import FETCH, check_connection, find_snapshot, is_offline

XL = "Stable Diffusion XL"
# Of a plain adapter; fixed in diffusers, since the file does not say it.
PLAIN_TOKENS = 4
MATCH = "Use the adapter that was made for this model"


class Adapter(NamedTuple):
    """Weights of an adapter.

    Parameters
    ----------
    where : str
        The file, for messages.
    projection, attention : dict of str to tensor
        By name, without ``image_proj.`` and ``ip_adapter.``: what makes tokens of an embedding,
        and what attends to them.
    """

    where: str
    projection: dict[str, torch.Tensor]
    attention: dict[str, torch.Tensor]

    @property
    def is_plus(self) -> bool:
        """Whether it takes all tokens of the image encoder rather than one embedding."""
        return "latents" in self.projection

    def measure(self) -> tuple[int, float]:
        """Width of the embedding that it takes, and of the tokens that it makes."""
        first, last = ("proj_in", "proj_out") if self.is_plus else ("proj", "proj")
        tokens = 1 if self.is_plus else PLAIN_TOKENS
        sizes = self.projection[f"{first}.weight"].shape, self.projection[f"{last}.weight"].shape
        return sizes[0][1], sizes[1][0] / tokens


def open_ip_adapter(
    model: Model,
    scheduler: str,
    *,
    weights: str | Path,
    revision: str | None = None,
    subfolder: str | None = None,
    weight_name: str | None = None,
    negative: str | Path | None = None,
    scale: float = 1.0,
) -> Generator:
    """Open Stable Diffusion 1 or 2 with an image adapter, plain or plus.

    Parameters
    ----------
    model : Model
    scheduler : {"ddim", "dpmsolver++"}
    weights : str or Path
        The adapter's ``.safetensors`` file, or the folder or hub id that holds it.
    revision : str, optional
        Commit of the hub repository of `weights`; needed for a hub id.
    subfolder, weight_name : str, optional
        Where in that folder or repository the file lies.
    negative : str or Path, optional
        ``.npy`` of shape (tokens, width), needed by a plus adapter: the encoding of an all-zero
        picture, as `nsdldm.generators.negatives.encode_zero_image` writes it with the layer
        ``hidden``.
    scale : float
        Weight of the image tokens' attention; 0 is the model without an adapter. Published advice
        is 1 without a text and about 0.5 with one.

    Returns
    -------
    Generator
        ``text`` is the last hidden state of the model's text encoder, (tokens, width), or of the
        empty text. ``image`` is for a plain adapter the projected embedding of an image, (width,),
        and zero without one; for a plus adapter the image encoder's hidden state before the last
        layer, (tokens, width), and `negative` without one.

    Raises
    ------
    InputError
        The model, the adapter or `negative` cannot be used, or they do not fit together.
    """
    adapter = read_adapter(weights, revision, subfolder, weight_name)
    without = _read_without(adapter, negative).to(model.choose()[0])
    autoencoder = load_autoencoder(model.path, model.revision, *model.choose())
    unet, sampler, empty = open_denoiser(model, scheduler)
    attach_adapter(unet, adapter, scale)

    def condition(given, n):
        embeds = _pair(given, without)
        return Conditions((empty, given.get("text", empty)), added={"image_embeds": embeds})

    shapes = {"text": tuple(empty.shape[1:]), "image": tuple(without.shape[2:])}
    return Generator(autoencoder, unet, sampler, shapes, condition)


def open_ip_adapter_xl(
    model: Model,
    scheduler: str,
    *,
    weights: str | Path,
    revision: str | None = None,
    subfolder: str | None = None,
    weight_name: str | None = None,
    negative: str | Path | None = None,
    scale: float = 1.0,
    resolution: int = 1024,
) -> Generator:
    """Open Stable Diffusion XL with an image adapter, plain or plus.

    Parameters
    ----------
    model : Model
        Its text encoders are not loaded.
    scheduler : {"ddim", "dpmsolver++"}
    weights, revision, subfolder, weight_name, negative, scale
        As `open_ip_adapter`.
    resolution : int
        Side in pixels that the U-Net is told, of the picture and its source, without cropping.

    Returns
    -------
    Generator
        ``text`` is the two text encoders' hidden states before the last layer, side by side,
        (tokens, 2048), and ``pooled`` the projected embedding of the second, (1280,); both are zero
        without a text, as in training. ``image`` is as `open_ip_adapter`.

    Raises
    ------
    InputError
        As `open_ip_adapter`.
    """
    adapter = read_adapter(weights, revision, subfolder, weight_name)
    without = _read_without(adapter, negative).to(model.choose()[0])
    autoencoder = load_autoencoder(model.path, model.revision, *model.choose())
    unet, sampler = load_unet(model, scheduler, XL, {"addition_embed_type": "text_time"})
    empty, pooled, sizes = _describe_xl(model, unet, resolution)
    attach_adapter(unet, adapter, scale)

    def condition(given, n):
        added = {
            "text_embeds": (pooled, given.get("pooled", pooled)),
            "time_ids": (sizes, sizes),
            "image_embeds": _pair(given, without),
        }
        return Conditions((empty, given.get("text", empty)), added=added)

    shapes = {"text": tuple(empty.shape[1:]), "pooled": tuple(pooled.shape[1:])}
    shapes["image"] = tuple(without.shape[2:])
    return Generator(autoencoder, unet, sampler, shapes, condition)


def _describe_xl(model, unet, resolution):
    """Context and pooled embedding without a text, and the sizes that the U-Net is told."""
    config, where = unet.config, f"{model.path}/model_index.json"
    with reading(where, "the index of a Stable Diffusion XL model"):
        index = DiffusionPipeline.load_config(model.path, revision=model.revision)
    # Without the key, the pipeline of diffusers does the same.
    index = {"force_zeros_for_empty_prompt": True} | index
    require(index, {"force_zeros_for_empty_prompt": True}, where, XL)
    # Height and width of the source, top and left of the crop, height and width of the picture.
    sizes = torch.tensor([[resolution, resolution, 0, 0, resolution, resolution]])
    width = config.projection_class_embeddings_input_dim
    width -= sizes.shape[1] * config.addition_time_embed_dim
    tokens = count_tokens(model.path, model.revision)
    zeros = torch.zeros(1, tokens, config.cross_attention_dim), torch.zeros(1, width)
    return *(tensor.to(unet.device) for tensor in zeros), sizes.to(unet.device)


def _read_without(adapter, negative):
    """What the adapter gets without an image: (1, 1, width) or (1, 1, tokens, width)."""
    width, _ = adapter.measure()
    if adapter.is_plus:
        return read_negative(negative, (None, width))[None]
    if negative is not None:
        return read_negative(negative, (width,))[None]
    return torch.zeros(1, 1, width)


def _pair(given, without):
    """An adapter's pair of embeddings; each is of one image."""
    return without, given["image"][:, None] if "image" in given else without


def read_adapter(
    weights: str | Path,
    revision: str | None = None,
    subfolder: str | None = None,
    weight_name: str | None = None,
) -> Adapter:
    """Read the published file of a plain or plus adapter.

    Parameters
    ----------
    weights, revision, subfolder, weight_name
        As `open_ip_adapter`.

    Returns
    -------
    Adapter

    Raises
    ------
    InputError
        There is no such file, or it is damaged or of another kind.
    """
    path = _find_weights(weights, revision, subfolder, weight_name)
    if path.suffix != ".safetensors":
        # The published .bin files are pickles, which can run code.
        remedy = "Take the .safetensors file, which the same repository has"
        raise InputError(Finding("`weights`", "a .safetensors file", str(path), remedy))
    with reading(path, "the weights of a plain or plus IP-Adapter"):
        tensors = load_file(path)
        parts = [
            {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
            for start in ("image_proj.", "ip_adapter.")
        ]
        known = {"proj.weight", "latents"} & {*parts[0]}
        if not known or not parts[1]:
            raise Unexpected("weights of another kind")
        adapter = Adapter(str(path), *parts)
        adapter.measure()
    return adapter


def _find_weights(weights, revision, subfolder, weight_name):
    """Where an adapter's file is; downloads it if need be."""
    path = Path(weights)
    if path.suffix == ".safetensors" or path.is_file():
        return path
    if not weight_name:
        remedy = "Set `weight_name` to the name of the file there"
        raise InputError(Finding("`weights`", "a .safetensors file", str(weights), remedy))
    name = "/".join([*([subfolder] if subfolder else []), weight_name])
    if path.is_dir():
        return path / name
    if not revision:
        expected = "a file, a folder, or a hub id with a revision"
        remedy = "Correct `weights`, or set `revision` to a commit if it is a hub id"
        raise InputError(Finding("`weights`", expected, str(weights), remedy))
    held = find_snapshot(str(weights), revision) / name
    if held.is_file():
        return held
    if not is_offline() and (findings := check_connection(str(weights), revision)):
        raise InputError(*findings)
    remedy = FETCH if is_offline() else "Check the id, revision, name and connection"
    with reading(f"{weights}/{name}", "an adapter's weights", remedy):
        return Path(hf_hub_download(str(weights), name, revision=revision))


class _Holder(IPAdapterMixin):
    """What diffusers adds an adapter to."""

    def __init__(self, unet):
        self.unet = unet


def attach_adapter(unet: UNet2DConditionModel, adapter: Adapter, scale: float = 1.0) -> None:
    """Add an adapter to a U-Net, in place.

    Hooks on the U-Net's attention have to be set afterwards, since diffusers replaces it.

    Parameters
    ----------
    unet : UNet2DConditionModel
    adapter : Adapter
    scale : float
        As `open_ip_adapter`.

    Raises
    ------
    InputError
        The adapter was not made for this U-Net.
    """
    _check_fit(unet, adapter)
    holder = _Holder(unet)
    state = {"image_proj": adapter.projection, "ip_adapter": adapter.attention}
    where = {"subfolder": "", "weight_name": "", "image_encoder_folder": None}
    with reading(adapter.where, "the weights of a plain or plus IP-Adapter", MATCH):
        # With empty networks, diffusers would leave weights that the file lacks undefined.
        holder.load_ip_adapter(state, **where, low_cpu_mem_usage=False)
    holder.set_ip_adapter_scale(scale)
    unet.requires_grad_(False).eval()


def _check_fit(unet, adapter):
    """Refuse an adapter whose layers are not those of the U-Net."""
    needed, number = {}, 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            shape = tuple(unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape)
            needed |= {f"{number}.to_{part}_ip.weight": shape for part in "kv"}
            number += 2
    found = {name: tuple(tensor.shape) for name, tensor in adapter.attention.items()}
    wrong = sorted(name for name in {*needed, *found} if needed.get(name) != found.get(name))
    width = adapter.measure()[1]
    expected = f"weights for {len(needed) // 2} layers of cross-attention, as the U-Net has"
    if wrong:
        found = f"{found.get(wrong[0], 'nothing')} instead of {needed.get(wrong[0], 'nothing')}"
        raise InputError(Finding(adapter.where, expected, f"{found} as {wrong[0]}", MATCH))
    if width != unet.config.cross_attention_dim:
        expected = f"tokens of width {unet.config.cross_attention_dim}, as the U-Net takes"
        raise InputError(Finding(adapter.where, expected, f"{width:g}", MATCH))

"""Depth of pictures by a depth estimator, as feature spaces.

`embed_depth` is the map itself. `embed_depth_states` are the hidden states that the estimator makes
the map of, which Takagi & Nishimoto's follow-up (arXiv 2306.11536) decodes; `render_depth_states`
turns decoded ones into maps.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import AutoImageProcessor, AutoModelForDepthEstimation

from nsdldm.support.batching import run_images
from nsdldm.support.devices import choose_device
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import create_array, load_array

logger = logging.getLogger(__name__)

UNUSED = "neck.fusion_stage.layers.0.residual_layer1."

# Kinds that estimate inverse depth up to scale and shift; others estimate metres.
RELATIVE = ("dpt", "depth_anything")


def load_estimator(
    weights: Path | str, revision: str | None, device: torch.device
) -> tuple[nn.Module, Callable]:
    """Load a depth estimator of transformers.

    Parameters
    ----------
    weights : str or Path
        Folder in the layout of transformers, with the configuration of the pictures' processing, or
        hub id.
    revision : str or None
        Commit of the hub repository; needed for a hub id, ignored for a folder.
    device : torch.device

    Returns
    -------
    network : torch.nn.Module
        In float32 and evaluation mode, without gradients.
    process : callable
        Takes a list of uint8 arrays (height, width, 3); returns the network's input, float32 of
        shape (n, 3, side, side), on the device.

    Raises
    ------
    InputError
        There is no such model, it is damaged, or it does not estimate relative inverse depth.
    """
    local = Path(weights).is_dir()
    if not local and not revision:
        expected, found = "a folder, or a hub id with a revision", "no folder, no revision"
        remedy = "Correct weights, or set revision to a commit if it is a hub id"
        raise InputError(Finding(f"depth estimator {weights}", expected, found, remedy))
    options = {"revision": None if local else revision, "local_files_only": local}
    with reading(weights, "a depth estimator in the layout of transformers"):
        # With PIL where torchvision is installed too, so that maps do not depend on that.
        processor = AutoImageProcessor.from_pretrained(weights, backend="pil", **options)
        network, report = AutoModelForDepthEstimation.from_pretrained(
            weights, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
        )
    _check_kind(weights, network.config, sorted(report["missing_keys"]))
    logger.info("loaded the depth estimator %s", weights)

    def process(pictures):
        values = processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        return values.to(device, torch.float32)

    return network.to(device).requires_grad_(False).eval(), process


def _check_kind(weights, config, missing):
    """Refuse estimators of metric depth, and weights that the library would leave random."""
    metric = getattr(config, "depth_estimation_type", "relative") != "relative"
    if config.model_type not in RELATIVE or metric:
        expected, found = "an estimator of relative inverse depth", f"{config.model_type}"
        remedy = "Take one such as DPT or Depth Anything"
        raise InputError(Finding(str(weights), expected, found + " of metres" * metric, remedy))
    # Nothing is fused with the first layer, so published files of DPT lack what would do that.
    missing = [key for key in missing if not key.startswith(UNUSED)]
    if missing:
        expected, found = "the weights of its configuration", f"none for {', '.join(missing[:3])}"
        remedy = "Take weights and config.json from the same model, whole"
        raise InputError(Finding(str(weights), expected, found, remedy))


def embed_depth(
    device: str | torch.device,
    *,
    weights: Path | str,
    revision: str | None = None,
    side: int = 64,
) -> Callable:
    """Make a function that returns depth maps of pictures.

    A map this small is all that a diffusion model with a depth channel sees, and costs a decoder a
    fraction of the estimator's hidden states.

    Parameters
    ----------
    device : torch.device
    weights, revision
        As `load_estimator`.
    side : int
        Of the maps, in pixels.

    Returns
    -------
    callable
        As `nsdldm.features.pictures.compute_features` needs it; float32 of shape (n, side, side),
        see `scale_maps`. Nearer is larger.

    Raises
    ------
    InputError
        As `load_estimator`.
    """
    network, process = load_estimator(weights, revision, torch.device(device))

    @torch.inference_mode()
    def embed(pictures, captions):
        return scale_maps(network(process(pictures)).predicted_depth, side)

    return embed


def scale_maps(depth: torch.Tensor, side: int) -> np.ndarray:
    """Bring maps to a side, and each of them to values from -1 to 1.

    Parameters
    ----------
    depth : float tensor of shape (n, height, width)
        Of unknown scale and shift, as relative depth is.
    side : int
        Bicubic resampling, antialiased.

    Returns
    -------
    float32 array of shape (n, side, side)
        From -1 to 1 in each map; 0 in one that is constant.
    """
    size = {"size": (side, side), "mode": "bicubic", "antialias": True}
    maps = nn.functional.interpolate(depth.float()[:, None], **size)[:, 0].cpu().numpy()
    low, high = (find(maps, axis=(1, 2), keepdims=True) for find in (np.min, np.max))
    span = high - low
    return np.where(span > 0, 2 * (maps - low) / np.where(span > 0, span, 1) - 1, 0)


def embed_depth_states(
    device: str | torch.device, *, weights: Path | str, revision: str | None = None
) -> Callable:
    """Make a function that returns the hidden states that depth maps of pictures are made of.

    Parameters
    ----------
    device : torch.device
    weights, revision
        As `load_estimator`.

    Returns
    -------
    callable
        As `nsdldm.features.pictures.compute_features` needs it; float32 of shape (n, 4, 1 + places,
        width): what the estimator's neck is given, with the class token first. 2.4 million numbers
        a picture for DPT-large.

    Raises
    ------
    InputError
        As `load_estimator`, or the states of an estimator are maps of different sizes.
    """
    network, process = load_estimator(weights, revision, torch.device(device))

    @torch.inference_mode()
    def embed(pictures, captions):
        found = []
        hook = network.neck.register_forward_pre_hook(lambda module, given: found.extend(given[0]))
        try:
            network(process(pictures))
        finally:
            hook.remove()
        shapes = {tuple(states.shape) for states in found}
        if len(shapes) > 1 or len(next(iter(shapes))) != 3:
            expected, remedy = "states of one size", "Take an estimator that is not a hybrid"
            raise InputError(Finding(str(weights), expected, f"{sorted(shapes)}", remedy))
        return torch.stack(found, dim=1).float().cpu().numpy()

    return embed


def render_depth_states(
    *,
    decoded: Path | str,
    weights: Path | str,
    revision: str | None,
    side: int,
    device: str,
    batch_size: int,
    output: Path | str,
) -> None:
    """Turn decoded hidden states into depth maps.

    Parameters
    ----------
    decoded : path
        ``.npy`` (n, 4, 1 + places, width), as `embed_depth_states` returns states.
    weights, revision
        As `load_estimator`.
    side : int
        Of the maps, in pixels.
    device : {"auto", "cpu", "cuda"}
    batch_size : int
        Images at once; halved when memory runs out.
    output : path
        float32 ``.npy`` (n, side, side), as `embed_depth` returns maps.

    Raises
    ------
    InputError
        As `load_estimator`, or the states are not those of square pictures.
    """
    device = choose_device(device)
    network, _ = load_estimator(weights, revision, device)
    states = load_array(decoded)
    grid = math.isqrt(max(states.shape[2] - 1, 0)) if states.ndim == 4 else 0
    if not grid or grid**2 + 1 != states.shape[2]:
        expected, remedy = "states (n, 4, 1 + places, width) of a square", "Decode them again"
        raise InputError(Finding(str(decoded), expected, f"shape {states.shape}", remedy))

    @torch.inference_mode()
    def render(batch):
        given = torch.from_numpy(np.array(states[batch], np.float32)).to(device)
        maps = network.neck(list(given.unbind(1)), grid, grid)
        sizes = () if network.config.model_type == "dpt" else (grid, grid)
        return scale_maps(network.head(maps, *sizes), side)

    with create_array(output, (len(states), side, side), np.float32) as maps:
        found = run_images(render, len(states), batch_size, device, "depth maps")
        for index, depth in found:
            maps[index] = depth

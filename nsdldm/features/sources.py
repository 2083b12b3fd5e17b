"""Networks whose layers are looked at: those of the metrics, and any of torch, torchvision, timm or
transformers. What they are shown follows from what their libraries say."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import hf_hub_download
from torch import nn
from transformers.image_processing_base import ImageProcessingMixin

from nsdldm.features import networks
from nsdldm.features.networks import Unavailable
from nsdldm.features.views import BICUBIC, BILINEAR, COLOURS, IMAGENET, VIEWS, View
from nsdldm.support.devices import check_choice
from nsdldm.support.errors import Finding, InputError, reading

logger = logging.getLogger(__name__)

# How networks that do not say are shown pictures.
PLAIN = View(224, BILINEAR, IMAGENET, {})
FILTERS = {"bilinear": BILINEAR, "bicubic": BICUBIC}
# Of weights that are drawn, so that every job has the same.
SEED = 0


class Source(NamedTuple):
    """Where a network comes from, and how it is shown pictures.

    Parameters
    ----------
    network : str, optional
        One of `nsdldm.features.views.VIEWS`, which is shown pictures as the first of its views
        says.
    function : str, optional
        Instead of `network`: dotted name of a function or class that makes a torch.nn.Module from
        `options`, such as ``timm.create_model``. It takes pictures of shape (n, 3, side, side). A
        class of transformers, such as ``transformers.AutoModel``, loads `weights`.
    options : dict, optional
        Arguments of `function`.
    weights, revision, sha256 : str, optional
        For `network` as the settings of `nsdldm.features.networks.load_extractors`; for a class of
        transformers a folder or a hub id with its commit; for another `function` a file or
        address with its hash, or a hub id with its commit. Without weights those that the function
        draws, always the same.
    pixels : int, optional
        Side of the pictures shown. The default is the network's own, or 224.
    colours : {"imagenet", "clip", "signed"}, optional
        Mean and standard deviation of colours that the network of `function` expects; the last
        means from -1 to 1. The default is the network's own, or imagenet.
    """

    network: str | None = None
    function: str | None = None
    options: dict | None = None
    weights: Path | str | None = None
    revision: str | None = None
    sha256: str | None = None
    pixels: int | None = None
    colours: str | None = None


def open_network(source: Source) -> tuple[nn.Module, View]:
    """Load a network, and find out how it is shown pictures.

    Parameters
    ----------
    source : Source

    Returns
    -------
    network : nn.Module
        On the CPU.
    view : View
        Side, filter and colours.

    Raises
    ------
    InputError
        The network is not available, or settings contradict each other.
    """
    if (source.network is None) == (source.function is None):
        found = "neither" if source.network is None else "both"
        remedy = "Name the network to look at"
        raise InputError(Finding("`network`", "this or `function`", found, remedy))
    if source.colours is not None:
        check_choice("colours", source.colours, COLOURS)
    network, view = _load_named(source) if source.network else _load_made(source)
    if source.pixels is not None:
        view = view._replace(pixels=source.pixels)
    if source.colours is not None and source.function:
        view = view._replace(colours=COLOURS[source.colours])
    logger.info("shown pictures of %d pixels", view.pixels)
    return network, view


def _load_named(source):
    """A network of `VIEWS`, and how it is shown pictures."""
    name, weights = source.network, source.weights
    check_choice("network", name, VIEWS)
    try:
        if not weights:
            raise Unavailable("no weights are given")
        network = networks.load_network(name, weights, source.revision, source.sha256)
    except Unavailable as error:
        remedy = "Give weights, or install what is missing"
        finding = Finding(f"network {name}", "a usable network", str(error), remedy)
        raise InputError(finding) from error
    view = VIEWS[name][0]
    if view.pixels is None:
        view = view._replace(pixels=networks.find_demo_pixels(weights))
    return network, view


def _load_made(source):
    """The network that a function makes, with its weights, and how it is shown pictures."""
    make, weights, options = _find(source.function), source.weights, source.options or {}
    if hasattr(make, "from_pretrained"):
        if not weights:
            expected = "weights, which a class of transformers loads"
            raise InputError(
                Finding(f"`function` {source.function}", expected, "none", "Give them")
            )
        how = source.revision, source.sha256
        network = networks.load_pretrained(make, "model", weights, *how, **options)
        return network, _read_processor(weights, source)
    network = _make(source.function, make, options)
    if weights:
        networks.insert_weights(network, _read_weights(source), (), weights)
    return network, _find_view(network)


def _find(function) -> Callable:
    """The function of a dotted name; its library may be missing or not fit the torch there is."""
    module, _, name = function.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    # A library for a different torch raises RuntimeError or OSError.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        expected = "the dotted name of a function that takes `options`"
        remedy = "Correct it, or install what is missing"
        if module.partition(".")[0] in ("timm", "torchvision"):
            remedy = "Install it, with the build of torchvision for this torch"
        raise InputError(Finding(f"`function` {function}", expected, reason, remedy)) from error


def _make(function, make, options):
    """What a function makes of options; weights that it draws are the same every time."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            network = make(**options)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        expected = "a function that takes `options`"
        raise InputError(
            Finding(f"`function` {function}", expected, str(error), "Correct it")
        ) from error
    if not isinstance(network, nn.Module):
        expected, found = "one that returns a torch.nn.Module", type(network).__name__
        raise InputError(Finding(f"`function` {function}", expected, found, "Correct it"))
    return network


def _read_weights(source):
    """Tensors of a file with a hash, or of a hub id at a commit."""
    weights, digest = source.weights, source.sha256
    if source.revision:
        with reading(weights, "a hub id that has model.safetensors at this revision"):
            path = hf_hub_download(str(weights), "model.safetensors", revision=source.revision)
            return networks.read_weights(path, digest)
    if not digest:
        expected, remedy = "the SHA-256 of the weights", "Add sha256, as their publisher gives it"
        raise InputError(Finding(f"`weights` {weights}", expected, "none", remedy))
    return networks.read_weights(weights, digest)


def _find_view(network):
    """How a network of timm says that it was shown pictures; of others, how most were."""
    own = getattr(network, "pretrained_cfg", None) or {}
    return View(
        own.get("input_size", (3, PLAIN.pixels, PLAIN.pixels))[-1],
        FILTERS.get(own.get("interpolation"), PLAIN.resample),
        (tuple(own["mean"]), tuple(own["std"])) if own.get("mean") else PLAIN.colours,
        {},
    )


def _read_processor(weights, source):
    """How a model of transformers is shown pictures; its whole square instead of its centre."""
    try:
        given, _ = ImageProcessingMixin.get_image_processor_dict(weights, revision=source.revision)
    except OSError as error:
        if source.pixels and source.colours:
            return PLAIN
        expected, found = "preprocessor_config.json of the model", "none"
        remedy = "Add it, or set `pixels` and `colours`"
        raise InputError(Finding(f"`weights` {weights}", expected, found, remedy)) from error
    size = given.get("crop_size") if given.get("do_center_crop") else given.get("size")
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    colours = ((0.0,) * 3, (1.0,) * 3)
    if given.get("do_normalize", True):
        colours = tuple(given["image_mean"]), tuple(given["image_std"])
    return View(size or PLAIN.pixels, given.get("resample", BICUBIC), colours, {})

"""Networks whose features are compared by the metrics.

Published networks are built without their own libraries where that is easy: AlexNet from torch
alone, CLIP with transformers. The others need torchvision, which is only imported when one of them
is loaded, because a broken installation of it breaks other libraries.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPModel

from nsdldm.features.views import VIEWS, View
from nsdldm.support.errors import Finding, InputError, reading

logger = logging.getLogger(__name__)

# Function of torchvision.models, with the options that its own weights use: Inception's weights
# expect colours that the network rescales itself.
TORCHVISION = {
    "inception": (
        "inception_v3",
        {"aux_logits": True, "transform_input": True, "init_weights": False},
    ),
    "efficientnet-v1": ("efficientnet_b1", {}),
    "efficientnet-v2": ("efficientnet_b1", {}),
    "swav": ("resnet50", {}),
    "vit-h-14": ("vit_h_14", {"image_size": 518}),
}
# Weights that may be missing or superfluous, since they do not affect the scores.
OPTIONAL = {"swav": ("fc.", "projection_head.", "prototypes.")}
# Patch size, which distinguishes the published CLIP models.
PATCHES = {"clip": 14, "clip-b32": 32}
# The demo's own networks, and the function that loads them; resolved when needed, since nothing
# here imports the demo.
DEMO = {"demo-alexnet": "classifier", "demo-judge": "judge"}
DEMO_LOADER = "nsdldm.demo.training.classifiers.load_classifier"


class Unavailable(Exception):
    """A network that is not available; the message says why."""


def load_extractors(name: str, settings: dict, device: torch.device) -> list[tuple[View, Callable]]:
    """Load a network, with one feature extractor for each of its views.

    Parameters
    ----------
    name : str
        Key of `nsdldm.features.views.VIEWS`.
    settings : dict or None
        `weights`: for a demo network the folder of the demo model; for ``clip`` and ``clip-b32`` a
        folder in the layout of transformers or a hub id, with `revision`; for the others a file of
        weights, safetensors or PyTorch's, or its address. `sha256`: of the file, required for
        published networks.
    device : torch.device

    Returns
    -------
    list of (View, callable)
        The function takes a list of uint8 arrays (height, width, 3) and returns a dict of feature
        to float32 array (n, d).

    Raises
    ------
    Unavailable
        No weights are given, or a library is not installed.
    InputError
        The network is unknown, or its weights are missing, damaged or do not match the hash.
    """
    if name not in VIEWS:
        expected = "one of " + ", ".join(VIEWS)
        raise InputError(Finding("network", expected, name, "Correct the name"))
    weights = (settings or {}).get("weights")
    if not weights:
        raise Unavailable("no weights are given")
    network = load_network(name, weights, settings.get("revision"), settings.get("sha256"))
    network = network.to(device, torch.float32).requires_grad_(False).eval()
    side = find_demo_pixels(weights) if name.startswith("demo-") else None
    return [(view, _make_extractor(network, view, side, device)) for view in VIEWS[name]]


def load_network(
    name: str, weights: Path | str, revision: str | None, digest: str | None
) -> nn.Module:
    """Load a network by its name, with weights of a revision and digest, on the CPU; see
    `load_extractors`."""
    if name == "demo-clip":
        return load_pretrained(CLIPModel, "CLIP model", Path(weights) / "clip")
    if name in DEMO:
        return _import(DEMO_LOADER)(weights, DEMO[name], torch.device("cpu"))
    if not digest:
        expected, remedy = "the SHA-256 of the weights", "Add sha256, as their publisher gives it"
        raise InputError(Finding(f"network {name}", expected, "none", remedy))
    if name in PATCHES:
        network = load_pretrained(CLIPModel, "CLIP model", weights, revision, digest)
        side = network.config.vision_config.patch_size
        if side != PATCHES[name]:
            expected, remedy = f"patches of {PATCHES[name]} px", f"Give the weights of {name}"
            raise InputError(Finding(str(weights), expected, f"of {side} px", remedy))
        return network
    build = build_alexnet if name == "alexnet" else _find_builder(name)
    state = read_weights(weights, digest)
    network = build()
    insert_weights(network, state, OPTIONAL.get(name, ()), weights)
    logger.info("loaded %s from %s", name, weights)
    return network


def _import(name):
    """Find a function by its dotted name."""
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(module), function)


def find_demo_pixels(folder: Path | str) -> int:
    """Side of the pictures that the demo's networks were trained on."""
    path = Path(folder) / "clip" / "config.json"
    with reading(path, "the configuration of a CLIP model"):
        return json.loads(path.read_text(encoding="utf-8"))["vision_config"]["image_size"]


def load_pretrained(
    kind: type,
    what: str,
    path: Path | str,
    revision: str | None = None,
    digest: str | None = None,
    **options: Any,
) -> nn.Module:
    """Load a model of transformers, with weights of all its parts, on the CPU in float32.

    Parameters
    ----------
    kind : type
        Its class, or one that chooses it, such as AutoModel.
    what : str
        For messages, such as ``CLIP model``.
    path : str or Path
        Folder in the layout of transformers, or hub id.
    revision : str, optional
        Commit of the hub repository; needed for a hub id, ignored for a folder.
    digest : str, optional
        SHA-256 of model.safetensors.
    **options
        Further arguments of the class.

    Returns
    -------
    nn.Module

    Raises
    ------
    InputError
        There is no such model, or it is damaged or lacks weights.
    """
    local = Path(path).is_dir()
    if not local and not revision:
        expected, found = "a folder, or a hub id with a revision", "no folder, no revision"
        remedy = "Correct weights, or set revision to a commit if it is a hub id"
        raise InputError(Finding(f"{what} {path}", expected, found, remedy))
    options |= {"revision": None if local else revision, "local_files_only": local}
    with reading(path, f"a {what} in the layout of transformers"):
        if digest:
            file = Path(path) / "model.safetensors"
            if not local:
                file = hf_hub_download(path, file.name, revision=revision)
            check_digest(file, digest)
        network, report = kind.from_pretrained(
            path, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
        )
    _refuse_missing(sorted(report["missing_keys"]), path)
    return network


def build_alexnet() -> torch.nn.Module:
    """Build AlexNet with the layers, sizes and weight names of torchvision.

    Returns
    -------
    nn.Module
        61,100,840 parameters; pictures of shape (n, 3, side, side), side of at least 63, to 1,000
        logits.
    """

    def convolve(before, after, kernel, stride, padding):
        return nn.Conv2d(before, after, kernel, stride, padding), nn.ReLU()

    network = nn.Sequential()
    network.features = nn.Sequential(
        *(*convolve(3, 64, 11, 4, 2), nn.MaxPool2d(3, 2)),
        *(*convolve(64, 192, 5, 1, 2), nn.MaxPool2d(3, 2)),
        *convolve(192, 384, 3, 1, 1),
        *convolve(384, 256, 3, 1, 1),
        *(*convolve(256, 256, 3, 1, 1), nn.MaxPool2d(3, 2)),
    )
    network.avgpool = nn.AdaptiveAvgPool2d(6)
    network.flatten = nn.Flatten()
    network.classifier = nn.Sequential(
        *(nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU()),
        *(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()),
        nn.Linear(4096, 1000),
    )
    return network


def _find_builder(name):
    """The function that builds a network of torchvision, untrained."""
    try:
        models = importlib.import_module("torchvision.models")
    # A build for a different torch raises RuntimeError, AttributeError or OSError.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise Unavailable(f"torchvision cannot be imported ({reason})") from error
    builder, options = TORCHVISION[name]
    return partial(getattr(models, builder), weights=None, **options)


def check_digest(path: Path | str, digest: str | None) -> None:
    """Refuse a file whose SHA-256 is not as given.

    Parameters
    ----------
    path : str or Path
    digest : str
        Hexadecimal, whole.

    Raises
    ------
    InputError
    """
    with open(path, "rb") as stream:
        found = file_digest(stream, "sha256").hexdigest()
    if found != digest.lower():
        remedy = "Download the file again, or correct sha256"
        raise InputError(Finding(str(path), f"SHA-256 {digest}", found, remedy))


def read_weights(weights: Path | str, digest: str | None) -> dict[str, torch.Tensor]:
    """Read the tensors of a file by name, in the shapes stored; local or downloaded once into
    torch's cache. Without a digest, the file is of a commit, which is a digest itself."""
    path = Path(weights)
    if str(weights).startswith("https://"):
        path = Path(torch.hub.get_dir()) / "checkpoints" / path.name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with reading(weights, "weights to download", "Check the address and connection"):
                torch.hub.download_url_to_file(str(weights), str(path), digest, progress=False)
    with reading(path, "weights as safetensors or in PyTorch's format"):
        if digest:
            check_digest(path, digest)
        if path.suffix == ".safetensors":
            return load_file(path)
        # Refuses anything except tensors and plain containers.
        return torch.load(path, map_location="cpu", weights_only=True)


def insert_weights(
    network: nn.Module, state: dict, optional: tuple[str, ...], where: Path | str
) -> None:
    """Load the weights of a state into a network, where all must fit except names that begin with
    one of `optional`."""
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    with reading(where, "weights of this network's shapes", "Give the weights of this network"):
        missing, excess = network.load_state_dict(state, strict=False)
    for names, what in ((missing, "none for"), (excess, "others, such as")):
        _refuse_missing([key for key in names if not key.startswith(optional)], where, what)


def _refuse_missing(keys, where, what="none for"):
    """Refuse missing weights, which the libraries leave random, and those of another network."""
    if keys:
        expected, found = "the weights of this network", f"{what} {', '.join(keys[:3])}"
        raise InputError(Finding(str(where), expected, found, "Give the weights of this network"))


def _make_extractor(network, view, side, device):
    """Make the function from pictures to the features of a view."""
    pixels = view.pixels or side
    # The full CLIP model would also require texts.
    forward = getattr(network, "get_image_features", network)

    @torch.inference_mode()
    def extract(pictures):
        features, hooks = {}, []
        for layer, module in view.layers.items():

            def keep(module, given, output, layer=layer):
                output = output[0] if isinstance(output, tuple) else output
                features[layer] = output.flatten(1).float().cpu().numpy()

            hooks.append(network.get_submodule(module).register_forward_hook(keep))
        try:
            forward(normalise_pictures(pictures, pixels, view.resample, view.colours).to(device))
        finally:
            for hook in hooks:
                hook.remove()
        for layer, values in features.items():
            if not np.isfinite(values).all():
                expected, remedy = f"finite values of {layer}", "Check the weights of the network"
                raise InputError(Finding("features of pictures", expected, "others", remedy))
        return features

    return extract


def normalise_pictures(
    pictures: list[np.ndarray], pixels: int, resample: Image.Resampling, colours: tuple
) -> torch.Tensor:
    """Convert pictures to a network's input.

    Equal to torchvision's Resize and CenterCrop of PIL pictures to one side, ToTensor and
    Normalize for square pictures; all of NSD's are.

    Parameters
    ----------
    pictures : iterable of uint8 arrays of shape (height, width, 3)
    pixels : int
        Side of the result.
    resample : PIL.Image.Resampling
    colours : tuple of two sequences of 3 float
        Mean and standard deviation of the channels, of values from 0 to 1.

    Returns
    -------
    float32 tensor of shape (n, 3, pixels, pixels)
    """
    resized = [Image.fromarray(p).resize((pixels, pixels), resample) for p in pictures]
    values = torch.from_numpy(np.stack([np.asarray(picture) for picture in resized]))
    mean, deviation = (torch.tensor(channels).view(3, 1, 1) for channels in colours)
    return (values.permute(0, 3, 1, 2).float() / 255 - mean) / deviation

"""Networks that look at pictures, and how each metric has them look.

Published networks are built without their libraries where that is easy: AlexNet from torch alone,
CLIP by transformers. The others need torchvision, which is imported only when one of them is
loaded: half-installed it breaks other libraries.
"""

import importlib
import json
import logging
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPModel

from nsdldm.demo.scenes import BACKGROUNDS, CATEGORIES
from nsdldm.demo.training.classifiers import load_classifier
from nsdldm.support.errors import Finding, InputError, reading

logger = logging.getLogger(__name__)

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIGNED = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


class View(NamedTuple):
    """One way in which a network is shown pictures, and what is scored of what it makes of them.

    Parameters
    ----------
    pixels : int or None
        Side of the square that pictures are resized to; None for the side the model names.
    resample : PIL.Image.Resampling
    colours : tuple of two tuples
        Mean and standard deviation of each channel, of values from 0 to 1.
    layers : dict of str to str
        Name of each feature to that of the module whose output it is.
    psm : tuple of str
        Features scored as psm, 2way and 2way-reconstruction.
    community : dict of str to tuple
        Metric to feature and "2way" or "distance".
    pairs : dict of str to tuple
        What is scored of each picture with its own seen one alone: nway, category, background or
        clipscore to feature and the first and last + 1 of its values, such as classes.
    """

    pixels: int | None
    resample: Image.Resampling
    colours: tuple
    layers: dict
    psm: tuple = ()
    community: dict = {}  # noqa: RUF012
    pairs: dict = {}  # noqa: RUF012


def _community(pixels, metrics, colours=IMAGENET):
    """A view scored the community's way, from metrics with module and score."""
    layers = {metric: module for metric, (module, _) in metrics.items()}
    scores = {metric: (metric, score) for metric, (_, score) in metrics.items()}
    return View(pixels, BILINEAR, colours, layers, community=scores)


def _psm(pixels, resample, colours, layers, **pairs):
    """A view whose features are all scored as the published code does."""
    return View(pixels, resample, colours, layers, psm=tuple(layers), **pairs)


CLIP_SCORE = {"clipscore": ("image_embeds", None, None)}
N_CATEGORIES, N_BACKGROUNDS = len(CATEGORIES), len(BACKGROUNDS)
# The published code (img2feat_decoded.py) gives AlexNet Inception's 299 pixels. Brain-Diffuser
# (eval_extract_features.py) gives all networks 224; MindEye gives EfficientNet 255.
VIEWS = {
    "demo-clip": [
        _psm(
            *(None, BICUBIC, SIGNED),
            {"image_embeds": "visual_projection", "hidden_1": "vision_model.encoder.layers.0"},
            pairs=CLIP_SCORE,
        )
    ],
    "demo-alexnet": [
        _psm(None, BICUBIC, SIGNED, {"conv2": "body.5", "conv5": "body.12", "fc": "body.16"})
    ],
    "demo-judge": [
        _psm(
            *(None, BICUBIC, SIGNED, {"features": "body", "logits": "head"}),
            pairs={
                "nway": ("logits", 0, N_CATEGORIES),
                "category": ("logits", 0, N_CATEGORIES),
                "background": ("logits", N_CATEGORIES, N_CATEGORIES + N_BACKGROUNDS),
            },
        )
    ],
    "alexnet": [
        _psm(
            *(299, BILINEAR, IMAGENET),
            {name: name for name in ("features.5", "features.12", "classifier.5")},
        ),
        _community(224, {"alexnet2": ("features.4", "2way"), "alexnet5": ("features.11", "2way")}),
    ],
    "clip": [
        _psm(
            *(224, BICUBIC, CLIP),
            {
                "image_embeds": "visual_projection",
                # The output of the k-th layer is hidden state k.
                "hidden_6": "vision_model.encoder.layers.5",
                "hidden_12": "vision_model.encoder.layers.11",
            },
            pairs=CLIP_SCORE,
        ),
        _community(224, {"clip": ("visual_projection", "2way")}, CLIP),
    ],
    "clip-b32": [
        View(*(224, BICUBIC, CLIP, {"image_embeds": "visual_projection"}), pairs=CLIP_SCORE)
    ],
    "inception": [
        _psm(299, BILINEAR, IMAGENET, {"flatten": "avgpool"}),
        _community(224, {"inception": ("avgpool", "2way")}),
    ],
    "efficientnet-v1": [_community(224, {"effnet-v1": ("avgpool", "distance")})],
    "efficientnet-v2": [_community(255, {"effnet-v2": ("avgpool", "distance")})],
    "swav": [_community(224, {"swav": ("avgpool", "distance")})],
    "vit-h-14": [
        View(
            *(518, BICUBIC, IMAGENET, {"logits": "heads"}),
            pairs={"nway": ("logits", 0, 1000)},
        )
    ],
}
# The function of torchvision.models and its options as with its own weights: Inception's weights
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
# Weights that a checkpoint lacks or has in excess without harm to what is scored.
OPTIONAL = {"swav": ("fc.", "projection_head.", "prototypes.")}
# Side of a patch, which tells the published CLIP models apart.
PATCHES = {"clip": 14, "clip-b32": 32}
DEMO = {"demo-alexnet": "classifier", "demo-judge": "judge"}


class Unavailable(Exception):
    """A network that cannot be had here; the message says why."""


def list_metrics(name, n_ways=()):
    """List the metrics that a network serves.

    Parameters
    ----------
    name : str
        Key of `VIEWS`.
    n_ways : sequence of int
        Numbers of classes of n-way accuracy.

    Returns
    -------
    list of str
    """
    return [metric for view in VIEWS[name] for metric in name_metrics(name, view, n_ways)]


def name_metrics(name, view, n_ways):
    """List the metrics that one view of a network serves."""
    kinds = ("psm", "2way", "2way-reconstruction")
    return [
        *(f"{kind}:{name}:{layer}" for layer in view.psm for kind in kinds),
        *view.community,
        *(f"{own}:{name}" for kind in view.pairs for own in name_ways(kind, n_ways)),
    ]


def name_ways(kind, n_ways):
    """Kinds of a score of pairs and their numbers of classes, which only n-way accuracy has.

    Parameters
    ----------
    kind : str
    n_ways : sequence of int

    Returns
    -------
    dict of str to int or None
        ``nway`` is that of the first number, ``nway-50`` that of 50.
    """
    if kind != "nway" or not n_ways:
        return {kind: None}
    return {kind: n_ways[0]} | {f"{kind}-{n}": n for n in n_ways}


def load_extractors(name, settings, device):
    """Load a network and have it ready to look at pictures in each of its ways.

    Parameters
    ----------
    name : str
        Key of `VIEWS`.
    settings : dict or None
        `weights`: for a demo network the folder of the demo model; for ``clip`` and ``clip-b32``
        a folder in the layout of transformers or a hub id, with `revision`; for the others a file
        of weights, safetensors or PyTorch's, or its address. `sha256`: of the file, needed for
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
        Unknown network, or weights that are missing, damaged or not those of the hash.
    """
    if name not in VIEWS:
        expected = "one of " + ", ".join(VIEWS)
        raise InputError(Finding("evaluation.networks", expected, name, "Correct the name"))
    weights = (settings or {}).get("weights")
    if not weights:
        raise Unavailable("no weights are given")
    network = _load(name, weights, settings.get("revision"), settings.get("sha256"))
    network = network.to(device, torch.float32).requires_grad_(False).eval()
    side = _demo_pixels(weights) if name.startswith("demo-") else None
    return [(view, _make_extractor(network, view, side, device)) for view in VIEWS[name]]


def _load(name, weights, revision, digest):
    """A network with its weights, on the CPU."""
    if name == "demo-clip":
        return _load_clip(Path(weights) / "clip", None)
    if name in DEMO:
        return load_classifier(weights, DEMO[name], torch.device("cpu"))
    if not digest:
        expected, remedy = "the SHA-256 of the weights", "Add sha256, as their publisher gives it"
        raise InputError(Finding(f"evaluation.networks.{name}", expected, "none", remedy))
    if name in PATCHES:
        network = _load_clip(weights, revision, digest)
        side = network.config.vision_config.patch_size
        if side != PATCHES[name]:
            expected, remedy = f"patches of {PATCHES[name]} px", f"Give the weights of {name}"
            raise InputError(Finding(str(weights), expected, f"of {side} px", remedy))
        return network
    build = build_alexnet if name == "alexnet" else _find_builder(name)
    state = _read_weights(weights, digest)
    network = build()
    _insert_weights(network, state, OPTIONAL.get(name, ()), weights)
    logger.info("loaded %s from %s", name, weights)
    return network


def _demo_pixels(folder):
    """Side of the pictures that the demo's networks were trained on."""
    path = Path(folder) / "clip" / "config.json"
    with reading(path, "the configuration of a CLIP model"):
        return json.loads(path.read_text(encoding="utf-8"))["vision_config"]["image_size"]


def _load_clip(path, revision, digest=None):
    """A CLIP model, of which only the image tower will be called."""
    local = Path(path).is_dir()
    if not local and not revision:
        expected, found = "a folder, or a hub id with a revision", "no folder, no revision"
        remedy = "Correct weights, or set revision to a commit if it is a hub id"
        raise InputError(Finding(f"evaluation.networks: {path}", expected, found, remedy))
    options = {"revision": None if local else revision, "local_files_only": local}
    expected = "a CLIP model in the layout of transformers"
    with reading(path, expected):
        if digest:
            file = Path(path) / "model.safetensors"
            if not local:
                file = hf_hub_download(path, file.name, revision=revision)
            check_digest(file, digest)
        network, report = CLIPModel.from_pretrained(
            path, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
        )
    _refuse_missing(sorted(report["missing_keys"]), path)
    return network


def build_alexnet():
    """Build AlexNet with the layers, sizes and names of weights of torchvision's.

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
    # A build for another torch raises RuntimeError, AttributeError or OSError.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise Unavailable(f"torchvision cannot be imported ({reason})") from error
    builder, options = TORCHVISION[name]
    return partial(getattr(models, builder), weights=None, **options)


def check_digest(path, digest):
    """Stop if a file is not the one whose SHA-256 is given.

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


def _read_weights(weights, digest):
    """Tensors of a file, local or downloaded once into torch's cache."""
    path = Path(weights)
    if str(weights).startswith("https://"):
        path = Path(torch.hub.get_dir()) / "checkpoints" / path.name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with reading(weights, "weights to download", "Check the address and connection"):
                torch.hub.download_url_to_file(str(weights), str(path), digest, progress=False)
    with reading(path, "weights as safetensors or in PyTorch's format"):
        check_digest(path, digest)
        if path.suffix == ".safetensors":
            return load_file(path)
        # Refuses everything but tensors and plain containers.
        return torch.load(path, map_location="cpu", weights_only=True)


def _insert_weights(network, state, optional, where):
    """Load weights that must fit, but for names that begin with one of `optional`."""
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    with reading(where, "weights of this network's shapes", "Give the weights of this network"):
        missing, excess = network.load_state_dict(state, strict=False)
    for names, what in ((missing, "none for"), (excess, "others, such as")):
        _refuse_missing([key for key in names if not key.startswith(optional)], where, what)


def _refuse_missing(keys, where, what="none for"):
    """Stop if weights are missing, which the libraries leave random, or of another network."""
    if keys:
        expected, found = "the weights of this network", f"{what} {', '.join(keys[:3])}"
        raise InputError(Finding(str(where), expected, found, "Give the weights of this network"))


def _make_extractor(network, view, side, device):
    """A function from pictures to the features of a view."""
    pixels = view.pixels or side
    # CLIP's whole model would want texts too.
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
                raise InputError(Finding("evaluation.networks", expected, "others", remedy))
        return features

    return extract


def normalise_pictures(pictures, pixels, resample, colours):
    """Bring pictures into the form that a network takes.

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

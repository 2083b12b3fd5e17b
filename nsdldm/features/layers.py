"""Features of several layers of a network, joined into one row a picture.

Everything from the pixels to the row is differentiable and the same at every call, so that
`nsdldm.decoding.prior` can look for a picture that has given features.
"""

from __future__ import annotations

import difflib
import importlib
import logging
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nsdldm.features import networks
from nsdldm.features.activations import REDUCTIONS, make_projection, plan_reduction
from nsdldm.features.networks import Unavailable, normalise_pictures
from nsdldm.features.views import BICUBIC, BILINEAR, CLIP, IMAGENET, SIGNED, VIEWS, View
from nsdldm.support.devices import check_choice
from nsdldm.support.errors import Finding, InputError

logger = logging.getLogger(__name__)

COLOURS = {"imagenet": IMAGENET, "clip": CLIP, "signed": SIGNED}
# Of networks that a function makes, unless told otherwise.
PIXELS = 224
# torch's names for PIL's filters.
MODES = {BILINEAR: "bilinear", BICUBIC: "bicubic"}


class LayerReader:
    """A frozen network whose activations at some layers are the features of a picture.

    Parameters
    ----------
    network : torch.nn.Module
        Moved to the device, in float32 and evaluation mode, without gradients of its weights.
    view : View
        Side and colours of its input; what it says of layers is not used.
    layers : sequence of str
        Paths of modules. The network runs each once per pass.
    reduction : {"exact", "projection", "pooling"}
    width : int
        As `nsdldm.features.activations.plan_reduction`, for each layer.
    device : torch.device

    Attributes
    ----------
    sizes : list of int
        Features of each layer.

    Raises
    ------
    InputError
        There is no such layer, it does not return a row per picture, or it cannot be reduced so.
    """

    def __init__(
        self,
        network: nn.Module,
        view: View,
        layers: Sequence[str],
        reduction: str,
        width: int,
        device: torch.device,
    ):
        network = network.to(device, torch.float32).requires_grad_(False).eval()
        for module in network.modules():
            # Would overwrite the activations of the layer before.
            if getattr(module, "inplace", False):
                module.inplace = False
        self._modules = {path: _find_layer(network, path) for path in layers}
        # The full CLIP model would also require texts.
        self._forward = getattr(network, "get_image_features", network)
        self._view, self._device = view, device
        self._colours = [torch.tensor(c, device=device).view(3, 1, 1) for c in view.colours]
        self._reductions, self.sizes = self._plan(reduction, width)

    def __call__(self, pictures: list[np.ndarray], captions: list | None = None) -> np.ndarray:
        """Features of pictures, as `nsdldm.features.pictures.compute_features` asks for them.

        Parameters
        ----------
        pictures : list of uint8 arrays of shape (height, width, 3)
        captions
            Ignored.

        Returns
        -------
        float32 array of shape (n, sum(sizes))
        """
        view = self._view
        values = normalise_pictures(pictures, view.pixels, view.resample, view.colours)
        with torch.no_grad():
            return self._join(values.to(self._device)).cpu().numpy()

    def read(self, pictures: torch.Tensor) -> torch.Tensor:
        """Features of pictures, with gradients.

        Parameters
        ----------
        pictures : float32 tensor of shape (n, 3, height, width)
            From 0 to 1, on the device. A picture that is not of the network's side is resized in
            floating point, where `__call__` rounds to whole levels as PIL does.

        Returns
        -------
        float32 tensor of shape (n, sum(sizes))
        """
        size = (self._view.pixels,) * 2
        if pictures.shape[-2:] != size:
            mode = MODES[self._view.resample]
            resized = nn.functional.interpolate(pictures, size, mode=mode, antialias=True)
            # Bicubic filters overshoot.
            pictures = resized.clamp(0, 1)
        mean, deviation = self._colours
        return self._join((pictures - mean) / deviation)

    def _join(self, values):
        """Reduced activations of all layers for the network's input, one row a picture."""
        found, _ = self._run(values)
        return torch.cat([reduce(found[path]) for path, reduce in self._reductions.items()], dim=1)

    def _run(self, values):
        """Outputs of the layers by path, and how often each ran."""
        found, calls = {}, Counter()

        def keep(path, module, arguments, output):
            found[path] = output[0] if isinstance(output, tuple) else output
            calls[path] += 1

        hooks = [
            module.register_forward_hook(partial(keep, path))
            for path, module in self._modules.items()
        ]
        try:
            self._forward(values)
        finally:
            for hook in hooks:
                hook.remove()
        return found, calls

    def _plan(self, reduction, width):
        """How each layer is reduced, and to how many numbers, from a pass over two pictures."""
        check_choice("reduction", reduction, REDUCTIONS)
        pixels = self._view.pixels
        with torch.no_grad():
            found, calls = self._run(torch.zeros(2, 3, pixels, pixels, device=self._device))
        # Layers of one size share a projection.
        projection = cache(partial(make_projection, width=width, device=self._device))
        reductions, sizes = {}, []
        for path in self._modules:
            where, output = f"`layers` {path}", found.get(path)
            shape = tuple(output.shape) if isinstance(output, torch.Tensor) else ()
            if calls[path] != 1 or len(shape) < 2 or shape[0] != 2:
                returns = f"{shape} for two pictures" if shape else type(output).__name__
                expected = "a module that runs once and returns a row per picture"
                runs = f"one that runs {calls[path]} times and returns {returns}"
                remedy = "Take the module around it, or one inside"
                raise InputError(Finding(where, expected, runs, remedy))
            reductions[path], size = plan_reduction(shape[1:], reduction, width, projection, where)
            sizes.append(size)
            logger.info("%s: %s, %d numbers kept", path, shape[1:], size)
        return reductions, sizes


def _find_layer(network, path):
    """The module of a network at a path."""
    modules = dict(network.named_modules())
    if path and path in modules:
        return modules[path]
    near = difflib.get_close_matches(path, filter(None, modules), n=5, cutoff=0.5)
    near = near or [child for child, _ in network.named_children()]
    expected = "the path of a module of the network, such as " + ", ".join(near)
    raise InputError(Finding("`layers`", expected, repr(path), "Correct the path"))


def embed_layers(
    device: str | torch.device,
    *,
    layers: Sequence[str],
    network: str | None = None,
    function: str | None = None,
    options: dict | None = None,
    weights: Path | str | None = None,
    revision: str | None = None,
    sha256: str | None = None,
    pixels: int | None = None,
    colours: str = "imagenet",
    reduction: str = "exact",
    width: int = 4096,
) -> LayerReader:
    """Make a feature space of the activations of a network at several layers.

    Layers are flattened and joined in the order given. Those with more than `width` numbers can be
    reduced, always in the same way; nothing is fitted to the pictures. Principal components of
    training images are a matter of encoders and decoders.

    Parameters
    ----------
    device : torch.device
    layers : list of str
        Paths of modules, such as ``features.5``.
    network : str, optional
        One of `nsdldm.features.views.VIEWS`, which is shown pictures as the first of its views
        says.
    function : str, optional
        Instead of `network`: dotted name of a function or class that makes a torch.nn.Module from
        `options`. It takes pictures of shape (n, 3, side, side).
    options : dict, optional
        Arguments of `function`.
    weights, revision, sha256 : str, optional
        For `network` as the settings of `nsdldm.features.networks.load_extractors`. For `function`
        a file or address of weights with its hash; without them, those that it makes, which then
        have to be the same every time.
    pixels : int, optional
        Side of the pictures shown. The default is the named network's own, or 224.
    colours : {"imagenet", "clip", "signed"}
        Mean and standard deviation of colours that the network of `function` expects; the last
        means from -1 to 1.
    reduction : {"exact", "projection", "pooling"}
        All activations, a sparse random projection, or means over neighbouring positions; as
        `nsdldm.features.activations.plan_reduction`.
    width : int
        Most numbers that the latter two keep of a layer.

    Returns
    -------
    LayerReader
        `nsdldm.features.pictures.compute_features` can call it.

    Raises
    ------
    InputError
        The network or a layer is not available, or settings contradict each other.
    """
    if (network is None) == (function is None):
        found = "neither" if network is None else "both"
        remedy = "Name the network to look at"
        raise InputError(Finding("`network`", "this or `function`", found, remedy))
    if network is not None:
        made, view = _load_named(network, weights, revision, sha256)
    else:
        check_choice("colours", colours, COLOURS)
        made = _make(function, options or {}, weights, sha256)
        view = View(PIXELS, BILINEAR, COLOURS[colours], {})
    if pixels is not None:
        view = view._replace(pixels=pixels)
    return LayerReader(made, view, layers, reduction, width, torch.device(device))


def _load_named(name, weights, revision, digest):
    """A network of `VIEWS`, and how it is shown pictures."""
    check_choice("network", name, VIEWS)
    try:
        if not weights:
            raise Unavailable("no weights are given")
        network = networks.load_network(name, weights, revision, digest)
    except Unavailable as error:
        remedy = "Give weights, or install what is missing"
        finding = Finding(f"network {name}", "a usable network", str(error), remedy)
        raise InputError(finding) from error
    view = VIEWS[name][0]
    if view.pixels is None:
        view = view._replace(pixels=networks.find_demo_pixels(weights))
    return network, view


def _make(function, options, weights, digest):
    """The network that a function makes, with weights from a file if one is given."""
    module, _, name = function.rpartition(".")
    try:
        make = getattr(importlib.import_module(module), name)
        network = make(**options)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        expected = "the dotted name of a function that takes `options`"
        raise InputError(Finding("`function`", expected, str(error), "Correct it")) from error
    if not isinstance(network, nn.Module):
        expected, found = "one that returns a torch.nn.Module", type(network).__name__
        raise InputError(Finding(f"`function` {function}", expected, found, "Correct it"))
    if weights and not digest:
        expected, remedy = "the SHA-256 of the weights", "Add sha256, as their publisher gives it"
        raise InputError(Finding(f"`weights` {weights}", expected, "none", remedy))
    if weights:
        networks.insert_weights(network, networks.read_weights(weights, digest), (), weights)
    return network

"""Features of several layers of a network, joined into one row a picture.

Everything from the pixels to the row is differentiable and the same at every call, so that
`nsdldm.decoding.prior` can look for a picture that has given features.
"""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nsdldm.features.activations import REDUCTIONS, make_projection, plan_reduction
from nsdldm.features.networks import normalise_pictures
from nsdldm.features.sources import Source, open_network
from nsdldm.features.views import BICUBIC, BILINEAR, View
from nsdldm.support.devices import check_choice
from nsdldm.support.errors import Finding, InputError

logger = logging.getLogger(__name__)

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
        Paths of modules. The network runs each once per pass. Of several outputs of a module, the
        first is taken.
    reduction : {"exact", "projection", "pooling"}
    width : int
        As `nsdldm.features.activations.plan_reduction`, for each layer.
    device : torch.device

    Attributes
    ----------
    shapes : list of tuple of int
        One picture's activations at each layer.
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
        self._reductions, self.shapes, self.sizes = self._plan(reduction, width)

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
        return np.concatenate(self.read_apart(pictures), axis=1)

    def read_apart(self, pictures: list[np.ndarray]) -> list[np.ndarray]:
        """The same, layer by layer.

        Parameters
        ----------
        pictures : list of uint8 arrays of shape (height, width, 3)

        Returns
        -------
        list of float32 arrays of shape (n, size)
        """
        view = self._view
        values = normalise_pictures(pictures, view.pixels, view.resample, view.colours)
        with torch.no_grad():
            return [part.cpu().numpy() for part in self._reduce(values.to(self._device))]

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
        return torch.cat(self._reduce((pictures - mean) / deviation), dim=1)

    def _reduce(self, values):
        """Reduced activations of each layer for the network's input, one row a picture."""
        found, _ = self._run(values)
        return [reduce(found[path]) for path, reduce in self._reductions.items()]

    def _run(self, values):
        """Outputs of the layers by path, and how often each ran."""
        found, calls = {}, Counter()

        def keep(path, module, arguments, output):
            found[path] = _find_first(output)
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
        found, calls = self._try()
        # Layers of one size share a projection.
        projection = cache(partial(make_projection, width=width, device=self._device))
        reductions, shapes, sizes = {}, [], []
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
            shapes.append(shape[1:])
            sizes.append(size)
            logger.info("%s: %s, %d numbers kept", path, shape[1:], size)
        return reductions, shapes, sizes

    def _try(self):
        """Outputs of the layers for two black pictures; networks refuse sides that do not fit."""
        pixels = self._view.pixels
        try:
            with torch.no_grad():
                return self._run(torch.zeros(2, 3, pixels, pixels, device=self._device))
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            expected = f"a network of pictures of {pixels} x {pixels} pixels"
            found = f"one that refuses them ({error})"
            raise InputError(Finding("`pixels`", expected, found, "Correct the side")) from error


def _find_first(output):
    """The first tensor of a module's outputs."""
    while not isinstance(output, torch.Tensor) and output:
        if isinstance(output, Mapping):
            output = next(iter(output.values()))
        elif isinstance(output, Sequence):
            output = output[0]
        else:
            break
    return output


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
    colours: str | None = None,
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
    network, function, options, weights, revision, sha256, pixels, colours
        As `nsdldm.features.sources.Source`.
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
    given = network, function, options, weights, revision, sha256, pixels, colours
    made, view = open_network(Source(*given))
    return LayerReader(made, view, layers, reduction, width, torch.device(device))

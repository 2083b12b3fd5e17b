"""User-defined feature spaces: a function of pictures and captions, named in the configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from nsdldm.features.networks import Unavailable, load_extractors
from nsdldm.features.views import VIEWS
from nsdldm.nsd.captions import read_captions
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.batching import run_images
from nsdldm.support.devices import choose_device
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import create_array, load_table
from nsdldm.support.functions import find_function

logger = logging.getLogger(__name__)


def compute_features(
    *,
    space: str,
    function: str,
    settings: dict,
    images: Path | str,
    stimuli: Path | str,
    captions: list[Path | str],
    device: str,
    batch_size: int,
    output: Path | str,
) -> None:
    """Compute a feature space of the images a subject saw.

    Parameters
    ----------
    space : str
        Its name, for messages.
    function : str
        Dotted name of a function such as `embed_pictures`. It takes a torch.device and the settings
        as keywords. It returns a function of a list of pictures, uint8 (height, width, 3), and a
        list of the captions of each, which returns a float array with a row per picture.
    settings : dict
    images : path
        Table of images with the columns nsd_id and, with captions, coco_id.
    stimuli : path
        ``nsd_stimuli.hdf5``.
    captions : list of path
        COCO's caption files; without any, as for the images of another test set, the function gets
        no captions of any picture.
    device : {"auto", "cpu", "cuda"}
    batch_size : int
        Images at once; halved when memory runs out.
    output : path
        float32 of shape (n_images, ...), a row per image of the table.

    Raises
    ------
    InputError
        There is no such function, it does not take these settings, or what it returns is not finite
        or does not have one row per image.
    """
    where = f"`space`.{space}"
    table = load_table(images)
    nsd_ids, texts = table["nsd_id"].to_numpy(), [[] for _ in range(len(table))]
    if captions:
        coco_ids = table["coco_id"].tolist()
        by_image = read_captions(captions, coco_ids)
        texts = [by_image[number] for number in coco_ids]
    device = choose_device(device)
    embed = find_function(where, function, settings)(device, **settings)

    shapes = []

    def compute(batch):
        pictures = list(read_images(stimuli, nsd_ids[batch]))
        return _check(where, function, embed(pictures, texts[batch]), len(pictures), shapes)

    n = len(nsd_ids)
    rows = run_images(compute, n, batch_size, device, space)
    first = next(rows)
    shape = (n, *first[1].shape)
    with create_array(output, shape, np.float32) as features:
        for index, row in chain([first], rows):
            features[index] = row
    logger.info("%s: shape %s", space, shape)


def _check(where, function, values, n, shapes):
    """Check that there are n rows, finite and of the same shape as all before; returns float32."""
    expected = f"finite numbers on the CPU, a row of one shape for each of {n} pictures"
    try:
        values = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        ragged = "inhomogeneous" in str(error)
        found = "rows of different shapes" if ragged else "values that are no numbers"
        finding = Finding(where, expected, found, f"Correct {function}")
        raise InputError(finding) from error
    shapes.append(values.shape[1:])
    if len(values) != n or shapes[-1] != shapes[0] or not np.isfinite(values).all():
        found = f"an array of shape {values.shape}"
        found += f" after rows of shape {shapes[0]}" if shapes[-1] != shapes[0] else ""
        found += "" if np.isfinite(values).all() else " that is not finite everywhere"
        raise InputError(Finding(where, expected, found, f"Correct {function}"))
    return values


def embed_pictures(
    device: str | torch.device,
    *,
    network: str,
    layer: str,
    weights: Path | str,
    revision: str | None = None,
    sha256: str | None = None,
) -> Callable:
    """Make a function that returns the output of a layer of a network for pictures.

    Parameters
    ----------
    device : torch.device
    network, layer : str
        A network in `nsdldm.features.views.VIEWS` and one of its layers, such as ``clip`` and
        ``image_embeds``.
    weights, revision, sha256 : str
        As the settings of `nsdldm.features.networks.load_extractors`.

    Returns
    -------
    callable
        As `compute_features` needs it.

    Raises
    ------
    InputError
        There is no such network or layer, or it is not available.
    """
    settings = {"weights": weights, "revision": revision, "sha256": sha256}
    try:
        views = load_extractors(network, settings, device)
    except Unavailable as error:
        remedy = "Give weights, or install what is missing"
        finding = Finding(f"network {network}", "a usable network", str(error), remedy)
        raise InputError(finding) from error
    for view, extract in views:
        if layer in view.layers:
            return lambda pictures, captions: extract(pictures)[layer]
    layers = ", ".join(layer for view in VIEWS[network] for layer in view.layers)
    raise InputError(Finding(f"layer of {network}", f"one of {layers}", layer, "Correct it"))

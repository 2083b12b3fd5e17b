"""Identification of images by the layout and the content of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from nsdldm.evaluation.candidates import (
    Candidates,
    draw_partners,
    identify_among,
    identify_shuffled,
)
from nsdldm.evaluation.evaluate import open_test_reconstructions, read_made
from nsdldm.evaluation.identification import correlate_features
from nsdldm.evaluation.pixels import average_blocks
from nsdldm.features.networks import Unavailable, load_extractors
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.batching import run_batched
from nsdldm.support.errors import Finding, InputError

LAYOUT, CONTENT = "layout", "content"
# Training pictures of which the mean is taken, evenly spaced over all.
AVERAGED = 500

# Takes a list of pictures, gives the features of each.
Look = Callable[[list[np.ndarray]], np.ndarray]


class Viewer(NamedTuple):
    """How pictures are looked at.

    Parameters
    ----------
    content : callable
        From a list of uint8 pictures to float32 (n, d): a layer of a network.
    batch_size : int
    device : torch.device
    """

    content: Look
    batch_size: int
    device: torch.device


def load_layer(name: str, layer: str, settings: dict | None, device: torch.device) -> Look:
    """Load a network of which one layer is compared.

    Parameters
    ----------
    name, settings, device
        As `nsdldm.features.networks.load_extractors`.
    layer : str
        A feature of one of its views.

    Returns
    -------
    callable
        From a list of uint8 pictures to float32 (n, d).

    Raises
    ------
    InputError
        As `load_extractors`, or the network has no weights or no such layer.
    """
    try:
        views = load_extractors(name, settings, device)
    except Unavailable as error:
        remedy = "Give its weights, or name a network that has some"
        finding = Finding("`network`", f"the network {name} with its weights", str(error), remedy)
        raise InputError(finding) from error
    for view, extract in views:
        if layer in view.layers:
            return lambda pictures: extract(pictures)[layer]
    known = ", ".join(layer for view, _ in views for layer in view.layers)
    raise InputError(Finding("`layer`", f"a layer of {name}: {known}", layer, "Correct it"))


def look_at(read: Callable[[slice], list[np.ndarray]], n: int, viewer: Viewer) -> dict:
    """Describe pictures by their layout and their content.

    Parameters
    ----------
    read : callable
        From a slice to its uint8 pictures; called again where a batch did not fit.
    n : int
        Number of pictures.
    viewer : Viewer

    Returns
    -------
    dict of float array of shape (n, d)
        `layout`: means over 16 x 16 blocks of each picture and colour; `content`.
    """

    def describe(batch):
        pictures = read(batch)
        blocks = [average_blocks(picture / 255).ravel() for picture in pictures]
        return np.stack(blocks), viewer.content(pictures)

    batches = [found for _, found in run_batched(describe, n, viewer.batch_size, viewer.device)]
    layout, content = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return {LAYOUT: layout, CONTENT: content}


def look_at_images(stimuli: Path | str, nsd_ids: np.ndarray, viewer: Viewer) -> dict:
    """Describe pictures that were shown, as `look_at`."""
    return look_at(lambda batch: list(read_images(stimuli, nsd_ids[batch])), len(nsd_ids), viewer)


def look_at_made(path: Path | str, images: Path | str, n_samples: int, viewer: Viewer) -> dict:
    """Describe the first reconstructions of every test image.

    Parameters
    ----------
    path : path
        Reconstructions of all test images.
    images : path
        Table of images.
    n_samples : int
        Pictures of each image.
    viewer : Viewer

    Returns
    -------
    dict of float array of shape (n_test, n_samples, d)
        As `look_at`.

    Raises
    ------
    InputError
        Other images, or fewer pictures of each.
    """
    with open_test_reconstructions(path, images) as (made, _):
        if made.shape[1] < n_samples:
            expected, found = f"at least {n_samples} pictures of each image", str(made.shape[1])
            raise InputError(Finding(str(path), expected, found, "Reconstruct again"))
        places = [divmod(index, n_samples) for index in range(len(made) * n_samples)]
        found = look_at(
            lambda batch: [read_made(made, place) for place in places[batch]], len(places), viewer
        )
        shape = len(made), n_samples
    return {name: values.reshape(*shape, -1) for name, values in found.items()}


def average_training(stimuli: Path | str, nsd_ids: np.ndarray) -> np.ndarray:
    """Mean of training pictures, of at most `AVERAGED` of them.

    Parameters
    ----------
    stimuli : path
    nsd_ids : int array of shape (n_train,)

    Returns
    -------
    uint8 array of shape (height, width, 3)
    """
    n = min(AVERAGED, len(nsd_ids))
    chosen = nsd_ids[np.linspace(0, len(nsd_ids) - 1, n).round().astype(int)]
    total = sum(picture.astype(np.int64) for picture in read_images(stimuli, chosen))
    return np.round(total / n).astype(np.uint8)


def score_pictures(
    seen: dict, made: dict[str, dict], among: Candidates, seed: int
) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """Identify every test image by pictures made for it.

    r is the mean over the pictures of an image. A constant picture correlates 0 with everything.

    Parameters
    ----------
    seen : dict of float array of shape (n_test, d)
        The test images, as `look_at` describes them.
    made : dict of dict of float array of shape (n_test or 1, n_samples, d)
        By source, likewise; the first has its pictures taken for other images, too (`shuffled`).
        One row is the same picture for all images.
    among : Candidates
    seed : int
        Of the other images.

    Yields
    ------
    source, score, candidates : str
        Scores are identification by layout and content, and, without candidates, the correlations
        themselves: layout-r and content-r.
    values : float64 array of shape (n_test,)
        NaN without candidates.
    """
    partners, first = draw_partners(len(among.similarity), seed), next(iter(made))
    for score, originals in seen.items():
        r = {source: _correlate(originals, own[score]) for source, own in made.items()}
        for name, others in among.others.items():
            for source, own in r.items():
                yield source, score, name, identify_among(own, others)
            yield "shuffled", score, name, identify_shuffled(r[first], others, partners)
        for source, own in r.items():
            yield source, f"{score}-r", "", np.diag(own)
        moved = [np.diag(r[first][each]) for each in partners]
        yield "shuffled", f"{score}-r", "", np.mean(moved, axis=0)


def _correlate(originals, made):
    """Correlations of what was made for each image (rows) with all originals (columns)."""
    n = len(originals)
    made = np.broadcast_to(made, (n, *made.shape[1:])) if len(made) == 1 else made
    return np.nan_to_num(correlate_features(originals, made)).T

"""Retrieve images by what was decoded, and what was decoded by images.

The published protocol (MindEye, MindEye2) draws 300 of the test images again and again and counts
how often the cosine between an image's embedding and what was decoded of it is the largest. The
expectation over all draws only depends on the number of competitors that are not worse, so it is
computed instead of drawn. A tie is a miss.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.stats import hypergeom

from nsdldm.decoding.neighbours import (
    average_rows,
    compare_directions,
    find_neighbours,
    open_embeddings,
)
from nsdldm.diffusion.pictures import find_test_images, save_reconstructions
from nsdldm.evaluation.identification import TIE
from nsdldm.intervals import bootstrap_interval
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_table, save_table

logger = logging.getLogger(__name__)

# A retrieval succeeds if the right one is among this many best.
TOP = {"image": (1, 5), "brain": (1, 5), "all": (1, 5, 10)}
METHOD = "nearest"
# As for every method without a reverse process.
WITHOUT_DIFFUSION = {
    "model": "none",
    "revision": "",
    "seed": 0,
    "strength": 0.0,
    "guidance_scale": 1.0,
    "num_inference_steps": 0,
    "scheduler": "none",
    "samples": 1,
}


def score_retrieval(
    *,
    decoded: Path | str,
    features: Path | str,
    images: Path | str,
    candidates: int | list[int],
    bootstrap: int,
    seed: int,
    table: Path | str,
) -> None:
    """Score how well decoded embeddings retrieve their images, and the reverse.

    Parameters
    ----------
    decoded : path
        ``.npy`` of shape (n_test, ...): embeddings decoded from the responses to the test images.
    features : path
        ``.npy`` of shape (n_images, ...): true embeddings of all images. Read block by block,
        whereas the decoded ones are held in memory as float64.
    images : path
        Table of the images a subject saw, with the columns nsd_id and split.
    candidates : int or list of int
        Numbers of test images, the right one included, among which it is to be found (300 in
        MindEye); those that are not below the number of test images are left out. Retrieval among
        all test images is always scored.
    bootstrap, seed : int
        Draws of the intervals (95 %), over the images that are looked for; the candidates stay.
    table : path
        Output: direction, centred, candidates, k, value, low, high, chance and n. `direction` is
        ``image`` (a test image retrieved by what was decoded), ``brain`` (what was decoded,
        retrieved by its test image) or ``all`` (as ``image``, among all images of the table,
        including those that the decoder was trained on). `centred` says whether the mean over
        training images was subtracted before the cosine; False is the published protocol. `value`
        is the expected fraction of images with the right candidate among the best `k`.

    Raises
    ------
    InputError
        Inputs do not fit one another, a value is not finite, there are fewer than two test images,
        or a number of candidates is below 2.
    """
    known = open_embeddings(decoded, features, images)
    n, n_images = len(known.test), len(known.nsd_ids)
    sizes = [int(size) for size in np.atleast_1d(candidates)]
    if n < 2 or min(sizes) < 2:
        expected = "at least 2 test images and at least 2 of them as candidates"
        found, remedy = f"{n} test images, {min(sizes)} candidates", "Correct it"
        raise InputError(Finding("`candidates`", expected, found, remedy))
    sizes = sorted({size for size in sizes if size < n} | {n})
    rows, values = [], []
    for centred in (False, True):
        centre = average_rows(known.true, known.train) if centred else None
        cosines = compare_directions(known.decoded, known.true, np.arange(n_images), centre)
        among = {"image": sizes, "brain": sizes, "all": [n_images]}
        for direction, rivals in _find_rivals(cosines, known.test).items():
            total = n_images if direction == "all" else n
            for size in among[direction]:
                for k in (k for k in TOP[direction] if k < size):
                    rows.append((direction, centred, size, k, k / size))
                    values.append(score_top_k(rivals, total, size, k))
    values = np.stack(values, axis=1)
    low, high = bootstrap_interval(values, bootstrap, seed)
    found = pd.DataFrame(rows, columns=["direction", "centred", "candidates", "k", "chance"])
    found.insert(4, "value", values.mean(axis=0))
    found.insert(5, "low", low)
    found.insert(6, "high", high)
    save_table(table, found.assign(n=n))


def _find_rivals(cosines, test):
    """Numbers of competitors that are not worse, by direction, from cosines with all images."""
    square = cosines[:, test]
    own = np.diag(square)[:, None]
    return {
        "image": count_rivals(square, own),
        "brain": count_rivals(square.T, own),
        "all": count_rivals(cosines, own),
    }


def count_rivals(similarities: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Count the competitors of the right candidates that are not clearly worse.

    Parameters
    ----------
    similarities : float array of shape (n, n_candidates)
        Of every query with all candidates, the right one included.
    own : float array of shape (n, 1)
        Of every query with the right one.

    Returns
    -------
    int array of shape (n,)
        From 0 to n_candidates - 1. Undefined similarities are never worse, and if that with the
        right candidate is undefined, no other is.
    """
    worse = own - similarities > TIE
    return similarities.shape[1] - 1 - worse.sum(axis=1)


def score_top_k(rivals: np.ndarray, total: int, candidates: int, k: int) -> np.ndarray:
    """Probability that the right one is among the best k of some candidates drawn at random.

    Of `total` - 1 others, `candidates` - 1 are drawn without replacement. The right one is among
    the best k if at most k - 1 of those drawn are its rivals, whose number is hypergeometric. With
    k = 1, this is C(total - 1 - rivals, candidates - 1) / C(total - 1, candidates - 1).

    Parameters
    ----------
    rivals : int array of shape (n,)
        Number of others that are not worse, as `count_rivals` returns it.
    total : int
        Number of all, the right one included.
    candidates : int
        Number of candidates, the right one included.
    k : int

    Returns
    -------
    float64 array of shape (n,)
        From 0 to 1; either, if `candidates` is `total`.
    """
    return hypergeom.cdf(k - 1, total - 1, rivals, candidates - 1)


def find_nearest(
    *, decoded: Path | str, features: Path | str, images: Path | str, output: Path | str
) -> None:
    """Find the training image whose embedding is nearest to what was decoded of each test image.

    Parameters
    ----------
    decoded, features, images
        As `score_retrieval`.
    output : path
        Table with a row per test image: nsd_id, nearest (id of the training image) and similarity
        (cosine of embeddings centred on the mean over training images).

    Raises
    ------
    InputError
        As `nsdldm.decoding.neighbours.open_embeddings` and `find_neighbours`.
    """
    known = open_embeddings(decoded, features, images)
    rows, cosines = find_neighbours(known, 1)
    columns = {
        "nsd_id": known.nsd_ids[known.test],
        "nearest": known.nsd_ids[rows[:, 0]],
        "similarity": cosines[:, 0],
    }
    save_table(output, pd.DataFrame(columns))
    different = len(np.unique(columns["nearest"]))
    logger.info("%d test images, %d different nearest ones", len(rows), different)


def write_nearest(
    *,
    nearest: Path | str,
    images: Path | str,
    stimuli: Path | str,
    resolution: int,
    output: Path | str,
) -> None:
    """Write the nearest training images as if they were reconstructions.

    A baseline for what a generator adds: these pictures are natural, and resemble what was shown as
    far as the training images allow.

    Parameters
    ----------
    nearest : path
        As `find_nearest` writes it.
    images : path
        Table of images with the columns nsd_id and split.
    stimuli : path
        ``nsd_stimuli.hdf5``.
    resolution : int
        Side of the pictures in pixels; bicubic, as other pictures that are made without diffusion.
    output : path
        HDF5 that `nsdldm.diffusion.pictures.open_reconstructions` opens, of the method
        ``nearest``, with one sample per image.

    Raises
    ------
    InputError
        The table is not that of these test images, names an image that is not a training image, or
        a picture cannot be read.
    """
    table, nsd_ids = load_table(nearest), find_test_images(images)[0]
    everything = load_table(images)
    train = everything.loc[everything["split"] == "train", "nsd_id"]
    if not np.array_equal(table["nsd_id"], nsd_ids) or not table["nearest"].isin(train).all():
        expected = f"a training image for each test image of {images}, in its order"
        raise InputError(Finding(str(nearest), expected, "others", "Find them again"))
    pictures = (
        np.asarray(Image.fromarray(picture).resize((resolution,) * 2, Image.Resampling.BICUBIC))
        for picture in read_images(stimuli, table["nearest"].to_numpy())
    )
    attributes = {"method": METHOD, "resolution": resolution} | WITHOUT_DIFFUSION
    save_reconstructions(output, pictures, nsd_ids, attributes)

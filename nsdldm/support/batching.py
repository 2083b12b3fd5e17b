"""Run networks over many images in batches that fit, with noise that does not depend on them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from nsdldm.support.errors import Finding, InputError
from nsdldm.support.logs import progress

logger = logging.getLogger(__name__)


def run_batched(
    function: Callable, n: int, batch_size: int, device: torch.device
) -> Iterator[tuple[slice, Any]]:
    """Call a function on consecutive slices and halve them when memory runs out.

    Parameters
    ----------
    function : callable
        Takes a slice of the images, returns their result. Called again on a part of a slice that
        did not fit, so it must not change anything.
    n : int
        Number of images.
    batch_size : int
        Images of the first slices; once halved, slices stay small.
    device : torch.device
        Where the function computes; its cache is emptied before the next try.

    Yields
    ------
    batch : slice
        Without gaps or overlaps from 0 to n.
    result : object

    Raises
    ------
    InputError
        A single image does not fit.
    """
    start = 0
    while start < n:
        batch = slice(start, min(start + batch_size, n))
        failure = None
        try:
            result = function(batch)
        except torch.OutOfMemoryError as error:
            # Only the message: the traceback keeps the failed call's tensors alive.
            failure = str(error).partition("\n")[0]
        if failure is not None:
            batch_size = _halve(batch.stop - batch.start, device, failure)
            continue
        yield batch, result
        start = batch.stop


def _halve(batch_size, device, failure):
    """The next batch size to try, with the memory of the failed one given back."""
    if batch_size == 1:
        remedy = "Use a GPU with more memory, set `device` to cpu, or make pictures smaller"
        raise InputError(Finding("`device`", "memory for one image", failure, remedy))
    if device.type == "cuda":
        torch.cuda.empty_cache()
    half = batch_size // 2
    logger.warning("out of memory with %d images at once, going on with %d", batch_size, half)
    return half


def run_images(
    function: Callable, n: int, batch_size: int, device: torch.device, label: str
) -> Iterator[tuple[int, Any]]:
    """Iterate over the images' results, computed in batches, and report progress.

    Parameters
    ----------
    function : callable
        Takes a slice of the images, returns a sequence with one float array, or tuple of arrays of
        one shape, an image.
    n, batch_size, device
        As `run_batched`.
    label : str
        What is computed.

    Yields
    ------
    index : int
    result : array, or tuple of arrays

    Raises
    ------
    InputError
        A single image does not fit, or a result is not finite.
    """
    batches = run_batched(function, n, batch_size, device)
    results = (
        pair
        for batch, result in batches
        for pair in zip(range(batch.start, batch.stop), result, strict=True)
    )
    for index, result in progress(results, n, label):
        if not np.isfinite(result).all():
            found = f"infinite or undefined ones for image {index} of {n}"
            remedy = "Set `dtype` to float32, or to bfloat16 on a GPU that has it"
            raise InputError(Finding("`dtype`", f"finite values of {label}", found, remedy))
        yield index, result


def draw_noise(
    seed: int, nsd_ids: Sequence[int], shape: tuple[int, ...], sample: int = 0
) -> np.ndarray:
    """Draw standard normal noise that belongs to the images.

    The noise of an image depends on the arguments `seed` and `sample`, on its number and on
    `shape` only: not on the subject, the batch, the order or the device.

    Parameters
    ----------
    seed : int
    nsd_ids : sequence of int
        0-based numbers of the images, repeats allowed.
    shape : tuple of int
        Of one image's noise.
    sample : int
        Number of the draw, for several pictures of one image.

    Returns
    -------
    float32 array of shape (n_images, *shape)
    """
    noise = np.empty((len(nsd_ids), *shape), np.float32)
    for row, nsd_id in zip(noise, nsd_ids, strict=True):
        key = np.random.SeedSequence([seed, int(nsd_id), sample])
        np.random.default_rng(key).standard_normal(dtype=np.float32, out=row)
    return noise

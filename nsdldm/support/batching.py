"""Run networks over many images in batches that fit, with noise that is independent of batches."""

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
    """Call a function on consecutive slices, and halve them when memory runs out.

    Parameters
    ----------
    function : callable
        Takes a slice of the images and returns their result. It is called again on part of a slice
        that did not fit, so it must not have side effects.
    n : int
        Number of images.
    batch_size : int
        Images per slice at first; once halved, slices stay small.
    device : torch.device
        Device that the function uses; its cache is emptied before the next attempt.

    Yields
    ------
    batch : slice
        Without gaps or overlaps from 0 to n.
    result : object

    Raises
    ------
    InputError
        Not even a single image fits into memory.
    """
    start = 0
    while start < n:
        batch = slice(start, min(start + batch_size, n))
        failure = None
        try:
            result = function(batch)
        except torch.OutOfMemoryError as error:
            # Keep only the message: the traceback would keep the tensors of the failed call alive.
            failure = str(error).partition("\n")[0]
        if failure is not None:
            batch_size = _halve(batch.stop - batch.start, device, failure)
            continue
        yield batch, result
        start = batch.stop


def _halve(batch_size, device, failure):
    """Free the memory of the failed batch, and return the next size to try."""
    if batch_size == 1:
        remedy = "Use a GPU with more memory, set `device` to cpu, or make pictures smaller"
        raise InputError(Finding("`device`", "memory for one image", failure, remedy))
    if device.type == "cuda":
        torch.cuda.empty_cache()
    half = batch_size // 2
    logger.warning("out of memory with %d images at once, continuing with %d", batch_size, half)
    return half


def run_images(
    function: Callable, n: int, batch_size: int, device: torch.device, label: str
) -> Iterator[tuple[int, Any]]:
    """Iterate over the results of images, computed in batches, and report progress.

    Parameters
    ----------
    function : callable
        Takes a slice of the images and returns a sequence with one float array, or tuple of arrays
        of the same shape, per image.
    n, batch_size, device
        As `run_batched`.
    label : str
        What is computed, for messages.

    Yields
    ------
    index : int
    result : float array, or tuple of arrays, of the function's shape

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
    """Draw standard normal noise keyed by image.

    The noise of an image depends only on `seed`, `sample`, its id and `shape`, not on the subject,
    the batch, the order or the device.

    Parameters
    ----------
    seed : int
    nsd_ids : sequence of int
        0-based ids of the images; repeats are allowed.
    shape : tuple of int
        Shape of the noise of one image.
    sample : int
        Index of the draw, for several pictures of the same image.

    Returns
    -------
    float32 array of shape (n_images, *shape)
    """
    noise = np.empty((len(nsd_ids), *shape), np.float32)
    for row, nsd_id in zip(noise, nsd_ids, strict=True):
        key = np.random.SeedSequence([seed, int(nsd_id), sample])
        np.random.default_rng(key).standard_normal(dtype=np.float32, out=row)
    return noise

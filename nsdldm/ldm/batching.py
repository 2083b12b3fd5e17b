"""Run networks over many images in batches that fit, with noise that does not depend on them."""

import logging

import numpy as np
import torch

logger = logging.getLogger(__name__)


def run_batched(function, n, batch_size):
    """Call a function on consecutive slices and halve them when memory runs out.

    Parameters
    ----------
    function : callable
        Takes a slice of images, returns their result. Must be free of side effects, since a slice
        that does not fit is tried again in parts.
    n : int
        Number of images.
    batch_size : int
        Images of the first slices; smaller ones stay small.

    Yields
    ------
    batch : slice
    result : object

    Raises
    ------
    torch.OutOfMemoryError
        A single image does not fit.
    """
    start = 0
    while start < n:
        batch = slice(start, min(start + batch_size, n))
        try:
            result = function(batch)
        except torch.OutOfMemoryError:
            if batch_size == 1:
                logger.error("one image does not fit into memory; use another device or dtype")
                raise
            result = None
        if result is None:
            # Outside the except block, where the failed call's tensors are no longer referenced.
            batch_size = max(1, batch_size // 2)
            logger.warning("out of memory: going on with batches of %d", batch_size)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        yield batch, result
        start = batch.stop


def draw_noise(seed, nsd_ids, shape, sample=0):
    """Draw standard normal noise that belongs to the images.

    The noise of an image depends on nothing else: not on the subject, the batch, the order or the
    device.

    Parameters
    ----------
    seed : int
    nsd_ids : sequence of int
        0-based images.
    shape : tuple of int
        Of one image's noise.
    sample : int
        Number of the draw, for several pictures of one image.

    Returns
    -------
    float32 array of shape (n_images, *shape)
    """
    return np.stack(
        [
            np.random.default_rng([seed, int(nsd_id), sample]).standard_normal(shape, np.float32)
            for nsd_id in nsd_ids
        ]
    )

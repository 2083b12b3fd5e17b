"""What passes of a network leave on scratch: its size, and whether it can be kept."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from nsdldm.features.parts import plan_bytes
from nsdldm.support.batching import run_batched
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.logs import progress

logger = logging.getLogger(__name__)


def plan_disk(
    n_images: int,
    part: slice,
    kinds: dict[str, tuple[tuple[int, ...], np.dtype]],
    output: Path | str,
) -> None:
    """Log what will be written before anything is, and stop if there is no disk space for it.

    Parameters
    ----------
    n_images : int
        Images of the subject.
    part : slice
        Those of this chunk.
    kinds : dict of str to (tuple of int, dtype)
        Shape and dtype of one image's features in each space.
    output : path
        A file that will be in the folder of all.

    Raises
    ------
    InputError
        The disk has no space for this chunk.
    """
    sizes = plan_bytes(n_images, kinds)
    folder = Path(output).absolute().parent
    for name, size in sizes.items():
        logger.info("%s: %.3f GB", name, size / 1e9)
    total = sum(sizes.values())
    own = total * (part.stop - part.start) // n_images
    folder = next(each for each in (folder, *folder.parents) if each.is_dir())
    free = shutil.disk_usage(folder).free
    message = "%d bytes in all, %.3f GB; %.3f GB in this chunk; %.3f GB are free"
    logger.info(message, total, *(size / 1e9 for size in (total, own, free)))
    if own > free:
        expected = f"{own / 1e9:.3f} GB of free space for this chunk, {total / 1e9:.3f} GB for all"
        remedy = "Free some, use a larger disk, or set `reduction` to projection"
        raise InputError(Finding(str(folder), expected, f"{free / 1e9:.3f} GB", remedy))
    if total > free:
        message = "%s has space for this chunk, but not for all of the subject's"
        logger.warning(message, folder)


def run_checked(
    make: Callable,
    n: int,
    batch_size: int,
    device: torch.device,
    kinds: dict[str, tuple[tuple[int, ...], np.dtype]],
    cause: tuple[str, str],
) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
    """Run a network over images in batches, and refuse values that cannot be kept.

    Parameters
    ----------
    make : callable
        Takes a slice of the images and returns an array for each space.
    n, batch_size, device
        As `nsdldm.support.batching.run_batched`.
    kinds : dict of str to (tuple of int, dtype)
        Shape and dtype of one image's features in each space.
    cause : tuple of str
        Where to look for values that are not finite, and what to do.

    Yields
    ------
    batch : slice
    values : dict of str to float32 array of shape (n, ...)

    Raises
    ------
    InputError
        Values are not finite, or exceed the range of the dtype.
    """
    batches = run_batched(make, n, batch_size, device)
    for batch, values in progress(batches, -(-n // batch_size), "batches of pictures"):
        for name, array in values.items():
            images = f"images {batch.start} to {batch.stop - 1}"
            if not np.isfinite(array).all():
                where, remedy = cause
                found = f"infinite or undefined ones in {images}"
                raise InputError(Finding(where, f"finite values of {name}", found, remedy))
            largest, most = np.abs(array).max(), np.finfo(kinds[name][1]).max
            if largest > most:
                expected = f"activations of at most {most:g}, which float16 can hold"
                found = f"{largest:g} in {name}, {images}"
                remedy = "Set it to projection, which keeps float32"
                raise InputError(Finding("`reduction`", expected, found, remedy))
        yield batch, values

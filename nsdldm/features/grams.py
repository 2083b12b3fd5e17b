"""Gram matrices: inner products of all pairs of a subject's images in a centred feature space."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from nsdldm.features.parts import check_chunks, load_field
from nsdldm.support.devices import choose_device
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_table, save_array

logger = logging.getLogger(__name__)

# Bytes of the columns (float64, all images) in memory at a time; every byte of the files is read
# once, whatever their size.
STRIP = int(0.25e9)
# Columns per float32 product; products are summed in float64.
COLUMNS_AT_ONCE = 2048


def compute_gram(
    paths: list[Path | str],
    train: np.ndarray,
    device: str | torch.device,
    field: str | None = None,
) -> torch.Tensor:
    """Gram matrix of features that are centred by the mean of the training images.

    Parameters
    ----------
    paths : list of path
        ``.npy`` files whose rows, one after the other, are the images.
    train : bool array of shape (n_images,)
    device : str or torch.device
    field : str, optional
        Which array of the files, as `nsdldm.features.parts.load_field`.

    Returns
    -------
    float64 tensor of shape (n_images, n_images)
        On the device.

    Raises
    ------
    InputError
        Features are not finite.
    """
    n_columns = int(np.prod(load_field(paths[0], field).shape[1:]))
    width = max(1, STRIP // (8 * len(train)))
    gram = torch.zeros((len(train), len(train)), dtype=torch.float64, device=device)
    for start in range(0, n_columns, width):
        columns = _read_columns(paths, slice(start, start + width), field)
        if not np.isfinite(columns).all():
            remedy = "Compute the features again, with model/dtype float32"
            raise InputError(Finding(str(paths[0]), "finite numbers", "others", remedy))
        # Centre before multiplying: what all images share would cost precision.
        columns -= columns[train].mean(axis=0)
        columns = torch.as_tensor(columns.astype(np.float32))
        for part in columns.split(COLUMNS_AT_ONCE, dim=1):
            part = part.to(device)
            gram += part @ part.T
    return gram


def _read_columns(paths, columns, field):
    """Columns of all rows of some files as float64; remapped each time, since pages of open maps
    pile up."""
    arrays = [load_field(path, field) for path in paths]
    parts = [array.reshape(len(array), -1)[:, columns] for array in arrays]
    return np.concatenate(parts).astype(np.float64)


def compute_grams(
    *, chunks: list[Path | str], images: Path | str, grams: dict[str, Path | str], device: str
) -> None:
    """Compute the exact Gram matrix of U-Net activations that are on scratch in chunks of images.

    This matrix is all that is needed of the activations, however large they are.

    Parameters
    ----------
    chunks : dict of list of path
        For each space, files of `nsdldm.features.trajectories.collect_activations` in the order of
        their numbers.
    images : path
        Table of images with the column split.
    grams : dict of path
        Output for each space: float32 ``.npy`` of shape (n_images, n_images), of features centred
        by their training mean.
    device : "auto", "cpu" or "cuda"

    Raises
    ------
    InputError
        A chunk cannot be read, is not finite, or does not have the expected rows.
    """
    device = choose_device(device)
    train = (load_table(images)["split"] == "train").to_numpy()
    for space, paths in chunks.items():
        shape = check_chunks(paths, len(train), (np.float16, np.float32))
        gram = compute_gram(paths, train, device)
        save_array(grams[space], gram.float().cpu().numpy())
        message = "%s: Gram matrix of %d images from %d columns in %d chunks"
        logger.info(message, space, len(train), np.prod(shape), len(paths))


def compute_layer_gram(
    *,
    chunks: list[Path | str],
    layer: str,
    images: Path | str,
    gram: Path | str,
    device: str,
) -> None:
    """Compute the exact Gram matrix of one layer of a network, of which chunks are on scratch.

    Parameters
    ----------
    chunks : list of path
        Files of `nsdldm.features.insides.collect_layers` in the order of their numbers.
    layer : str
        Its name.
    images : path
        Table of images with the column split.
    gram : path
        Output, as `compute_grams` writes it.
    device : "auto", "cpu" or "cuda"

    Raises
    ------
    InputError
        A chunk cannot be read, has no such layer or not the expected rows, or is not finite.
    """
    train = (load_table(images)["split"] == "train").to_numpy()
    shape = check_chunks(chunks, len(train), (np.float16, np.float32), layer)
    found = compute_gram(chunks, train, choose_device(device), layer)
    save_array(gram, found.float().cpu().numpy())
    logger.info("%s: Gram matrix of %d images from %d columns", layer, len(train), shape[0])

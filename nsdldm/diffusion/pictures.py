"""Reconstructed pictures on disk: one file per method, joined from those of its chunks.

Imports are light, since reading pictures needs no networks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import create_hdf5, load_table, open_hdf5

logger = logging.getLogger(__name__)

# Attributes of every file of reconstructions: how its pictures were made.
ATTRIBUTES = (
    "method",
    "model",
    "revision",
    "seed",
    "strength",
    "guidance_scale",
    "num_inference_steps",
    "scheduler",
    "resolution",
)
# Attributes of chunks only.
CHUNK_ATTRIBUTES = ("chunk", "n_chunks")
REMEDY = "Delete it and reconstruct again"


class Reconstructions(NamedTuple):
    """Reconstructions by one method.

    Parameters
    ----------
    images : h5py.Dataset
        uint8 of shape (n_images, n_samples, height, width, 3), read when indexed.
    nsd_ids : int64 array of shape (n_images,)
        0-based numbers of the images.
    attrs : dict
        How the pictures were made: `ATTRIBUTES` and more.
    """

    images: h5py.Dataset
    nsd_ids: np.ndarray
    attrs: dict


def find_test_images(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Ids and rows of the test images in a table of images.

    Parameters
    ----------
    path : str or Path
        Table with the columns nsd_id and split.

    Returns
    -------
    nsd_ids, rows : int64 arrays of shape (n_test,)
    """
    table = load_table(path)
    rows = np.flatnonzero(table["split"] == "test")
    if not len(rows):
        remedy = "Use sessions that share images with the other subjects"
        raise InputError(Finding(str(path), "test images", "none", remedy))
    return table["nsd_id"].to_numpy(np.int64)[rows], rows


def _create_dataset(file, n_images, n_samples, side):
    """A dataset with a compressed chunk per picture."""
    shape, chunk = (n_images, n_samples, side, side, 3), (1, 1, side, side, 3)
    return file.create_dataset("images", shape, np.uint8, chunks=chunk, compression="gzip")


def save_reconstructions(
    path: Path | str, pictures: Iterable[np.ndarray], nsd_ids: np.ndarray, attributes: dict
) -> None:
    """Write pictures as one HDF5 file.

    Parameters
    ----------
    path : str or Path
    pictures : iterable of uint8 array of shape (side, side, 3)
        All samples of the first image, then those of the next.
    nsd_ids : int array of shape (n_images,)
    attributes : dict
        With `ATTRIBUTES`, and `samples` per image.
    """
    n_samples, side = attributes["samples"], attributes["resolution"]
    n = len(nsd_ids) * n_samples
    with create_hdf5(path, n * side * side * 3) as file:
        dataset = _create_dataset(file, len(nsd_ids), n_samples, side)
        for index, picture in zip(range(n), pictures, strict=True):
            dataset[divmod(index, n_samples)] = picture
        file["nsd_id"] = np.asarray(nsd_ids, np.int64)
        file.attrs.update(attributes)


@contextmanager
def open_reconstructions(path: Path | str) -> Iterator[Reconstructions]:
    """Open a file of reconstructions, of a complete method or of a chunk.

    Parameters
    ----------
    path : str or Path

    Yields
    ------
    Reconstructions

    Raises
    ------
    InputError
        There is no such file; it is damaged (even if that only shows when pictures are read inside
        the block); or it lacks pictures, ids or attributes.
    """
    with ExitStack() as stack:
        with reading(path, "an HDF5 file of reconstructions", REMEDY):
            file = stack.enter_context(open_hdf5(path))
            images, nsd_ids, attrs = file["images"], file["nsd_id"][:], dict(file.attrs)
        _check_reconstructions(path, images, nsd_ids, attrs)
        try:
            yield Reconstructions(images, nsd_ids, attrs)
        except OSError as error:
            # h5py's message for a chunk that cannot be decompressed.
            if "synchronously read data" not in str(error):
                raise
            expected = "pictures that can be read"
            raise InputError(Finding(str(path), expected, str(error), REMEDY)) from error


def _check_reconstructions(path, images, nsd_ids, attrs):
    """Refuse a file of another kind."""
    shape = images.shape
    if images.dtype != np.uint8 or len(shape) != 5 or shape[-1] != 3 or shape[0] != len(nsd_ids):
        expected = "uint8 images of shape (n_images, n_samples, height, width, 3), a nsd_id each"
        found = f"{images.dtype} of shape {shape} and {len(nsd_ids)} numbers"
        raise InputError(Finding(str(path), expected, found, REMEDY))
    missing = [name for name in ATTRIBUTES if name not in attrs]
    if missing:
        expected = f"the attributes {', '.join(ATTRIBUTES)}"
        raise InputError(Finding(str(path), expected, f"none of {', '.join(missing)}", REMEDY))


def gather_reconstructions(
    *, chunks: list[Path | str], images: Path | str, output: Path | str
) -> None:
    """Join the chunks of one method.

    Parameters
    ----------
    chunks : list of path
        Files of `nsdldm.diffusion.reconstruction.reconstruct_chunk`, in any order.
    images : str or Path
        Table of images with the columns nsd_id and split.
    output : str or Path
        HDF5 with the dataset images, uint8 of shape (n_test, n_samples, side, side, 3), one
        compressed chunk per picture, the dataset nsd_id, int64 of shape (n_test,), and
        `ATTRIBUTES`; rows are the test images of the table, in its order.

    Raises
    ------
    InputError
        Chunks cannot be read, were made with different settings, or do not cover all test images.
    """
    nsd_ids = find_test_images(images)[0]
    with ExitStack() as stack:
        parts = [(path, stack.enter_context(open_reconstructions(path))) for path in chunks]
        _check_fellows(parts)
        parts.sort(key=lambda part: part[1].attrs["chunk"])
        found = np.concatenate([part.nsd_ids for _, part in parts])
        if not np.array_equal(found, nsd_ids):
            expected = f"the {len(nsd_ids)} test images of {images}, in its order"
            where, what = ", ".join(str(path) for path, _ in parts), f"{len(found)} images"
            raise InputError(Finding(where, expected, f"{what}, not the same", REMEDY))
        _write_joined(output, [part for _, part in parts])
    logger.info("%d chunks, %d images", len(parts), len(nsd_ids))


def _check_fellows(parts):
    """Check that all chunks have the same settings and that each part is there once."""
    path, first = parts[0]
    for other_path, other in parts:
        if not set(CHUNK_ATTRIBUTES) <= set(other.attrs):
            expected = "a chunk of a method's pictures"
            remedy = "Give the chunks, not what was gathered"
            raise InputError(Finding(str(other_path), expected, "pictures of another kind", remedy))
        names = ("n_chunks", *ATTRIBUTES)
        different = [name for name in names if other.attrs[name] != first.attrs[name]]
        if different:
            expected, found = f"the settings of {path}", f"another {different[-1]}"
            remedy = "Delete the chunks that are out of date and reconstruct them again"
            raise InputError(Finding(str(other_path), expected, found, remedy))
    numbers = sorted(int(part.attrs["chunk"]) for _, part in parts)
    n_chunks = int(first.attrs["n_chunks"])
    if numbers != list(range(n_chunks)):
        where = ", ".join(str(path) for path, _ in parts)
        expected, remedy = f"chunks 0 to {n_chunks - 1}, each once", "Give all of the method's"
        raise InputError(Finding(where, expected, f"{numbers}", remedy))


def _write_joined(path, chunks):
    """Copy the chunks' pictures without decompressing them."""
    nsd_ids = np.concatenate([chunk.nsd_ids for chunk in chunks])
    attributes = {k: v for k, v in chunks[0].attrs.items() if k not in CHUNK_ATTRIBUTES}
    n_bytes = sum(chunk.images.id.get_storage_size() for chunk in chunks)
    with create_hdf5(path, n_bytes) as file:
        _, n_samples, side, *_ = chunks[0].images.shape
        dataset = _create_dataset(file, len(nsd_ids), n_samples, side)
        start = 0
        for chunk in chunks:
            for image, sample in np.ndindex(chunk.images.shape[:2]):
                mask, packed = chunk.images.id.read_direct_chunk((image, sample, 0, 0, 0))
                dataset.id.write_direct_chunk((start + image, sample, 0, 0, 0), packed, mask)
            start += len(chunk.nsd_ids)
        file["nsd_id"] = nsd_ids
        file.attrs.update(attributes)

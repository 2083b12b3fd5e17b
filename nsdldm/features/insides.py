"""Activations at the layers of a network for the images a subject saw, in one pass over them.

They are on scratch only until the Gram matrix of each layer is computed.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from nsdldm.features.collecting import plan_disk, run_checked
from nsdldm.features.layers import LayerReader
from nsdldm.features.parts import write_rows
from nsdldm.features.sources import Source, open_network
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.chunks import chunk_rows
from nsdldm.support.devices import choose_device
from nsdldm.support.files import create_array, load_table, replacing, save_table

logger = logging.getLogger(__name__)

# Of values that are not finite.
CAUSE = ("`weights`", "Check the weights of the network")


def _open(source, layers, reduction, width, device):
    """A reader of the layers, and shape and dtype of what is kept of each for a picture."""
    network, view = open_network(source)
    reader = LayerReader(network, view, list(layers.values()), reduction, width, device)
    # Full activations are large.
    dtype = np.dtype(np.float16 if reduction == "exact" else np.float32)
    return reader, {name: ((size,), dtype) for name, size in zip(layers, reader.sizes, strict=True)}


def describe_network(
    *,
    source: Source,
    layers: dict[str, str],
    reduction: str,
    width: int,
    output: Path | str,
) -> None:
    """Tabulate the layers of a network that are looked at, which needs no pictures.

    Parameters
    ----------
    source : nsdldm.features.sources.Source
    layers : dict of str to str
        Names and module paths, in the order of the network.
    reduction, width
        As `nsdldm.features.activations.plan_reduction`, for each layer.
    output : path
        Output: a table with a row per layer: layer, module, shape of one picture's activations
        (such as 64 x 56 x 56), n_numbers (their product) and n_kept (after reduction).

    Raises
    ------
    InputError
        The network or a layer is not available.
    """
    reader, kinds = _open(source, layers, reduction, width, choose_device("cpu"))
    rows = {
        "layer": list(layers),
        "module": list(layers.values()),
        "shape": [" x ".join(map(str, shape)) for shape in reader.shapes],
        "n_numbers": [int(np.prod(shape)) for shape in reader.shapes],
        "n_kept": [shape[0] for shape, _ in kinds.values()],
    }
    save_table(output, pd.DataFrame(rows))


def collect_layers(
    *,
    images: Path | str,
    stimuli: Path | str,
    source: Source,
    layers: dict[str, str],
    reduction: str,
    width: int,
    device: str,
    batch_size: int,
    output: Path | str,
    chunk: int = 0,
    n_chunks: int = 1,
) -> None:
    """Keep the activations at all layers of a network for a chunk of the images a subject saw.

    Parameters
    ----------
    images : path
        Table of images with the column nsd_id.
    stimuli : path
        ``nsd_stimuli.hdf5``.
    source, layers, reduction, width
        As `describe_network`.
    device : {"auto", "cpu", "cuda"}
    batch_size : int
        Images at once; halved when memory runs out.
    output : path
        ``.npy`` with a row per image of the chunk and an array of shape (n_kept,) for each layer,
        under its name: float32, except that full activations are float16 because of their size.
    chunk, n_chunks : int
        Index of the part, from 0, and number of contiguous parts of the images.

    Raises
    ------
    InputError
        The network or a layer is not available; there is too little memory for one image or too
        little disk space; or activations are not finite or exceed the range of float16.
    """
    device = choose_device(device)
    nsd_ids = load_table(images)["nsd_id"].to_numpy()
    part = chunk_rows(len(nsd_ids), chunk, n_chunks)
    reader, kinds = _open(source, layers, reduction, width, device)
    plan_disk(len(nsd_ids), part, kinds, output)
    dtype, own = (
        np.dtype([(name, kind, shape) for name, (shape, kind) in kinds.items()]),
        nsd_ids[part],
    )

    def make(batch):
        found = reader.read_apart(list(read_images(stimuli, own[batch])))
        return dict(zip(layers, found, strict=True))

    with replacing(output) as file:
        with create_array(file, (len(own),), dtype):
            pass
        for batch, values in run_checked(make, len(own), batch_size, device, kinds, CAUSE):
            rows = np.empty(batch.stop - batch.start, dtype)
            for name, array in values.items():
                rows[name] = array
            write_rows(file, batch, rows)
    logger.info("%d images of %d", len(own), len(nsd_ids))

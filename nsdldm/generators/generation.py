"""Make pictures of decoded features with any generator."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from nsdldm.diffusion.latents import latent_shape
from nsdldm.diffusion.loading import Model, load_autoencoder
from nsdldm.diffusion.pictures import save_reconstructions
from nsdldm.diffusion.reconstruction import (
    ONE_BY_ONE,
    Reconstruction,
    check_channels,
    encode_starts,
    read_features,
    reverse_process,
)
from nsdldm.generators.generator import Generator
from nsdldm.support.batching import run_images
from nsdldm.support.chunks import chunk_rows
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.functions import find_function


class Opening(NamedTuple):
    """How a generator is opened.

    Parameters
    ----------
    function : str
        Dotted name of a function such as
        `nsdldm.generators.generator.open_stable_diffusion`: it takes a `Model`, the name of a
        scheduler and further settings as keywords, and returns a `Generator`. If it takes a
        `resolution`, that is the side of the pictures made.
    model : Model
        Its `batch_size` counts pictures.
    settings : dict
    """

    function: str
    model: Model
    settings: dict


def generate_chunk(
    *,
    method: str,
    images: str | Path,
    given: dict[str, str | Path],
    true: bool,
    generator: Opening,
    model: Model,
    latent_resolution: int,
    settings: Reconstruction,
    chunk: int,
    n_chunks: int,
    output: str | Path,
) -> None:
    """Make pictures of the features that a method is given, for a part of the test images.

    The reverse process is that of `nsdldm.diffusion.reconstruction.reconstruct_chunk`, and so is
    its noise: latents to start from are turned into a picture, which is enlarged, encoded by the
    generator's autoencoder and noised; the generator then denoises it.

    Parameters
    ----------
    method : str
        Its name, for the file.
    images
        Table of images with the columns nsd_id and split.
    given : dict of path
        float32 ``.npy`` by role. ``from`` are scaled latents of the autoencoder of `model`; without
        them, the reverse process starts from pure noise. The other roles are those of the
        generator. One row per test image, or if they are `true` features per image of the table.
    true : bool
    generator : Opening
    model : Model
        Whose latents are decoded.
    latent_resolution : int
        Side of the picture that they encode, in pixels.
    settings : Reconstruction
    chunk, n_chunks : int
        Index of the part, from 0, and number of contiguous parts.
    output
        HDF5 that `nsdldm.diffusion.pictures.open_reconstructions` opens. Additional attributes:
        generator (its function), and what was given, such as ``text``.

    Raises
    ------
    InputError
        Features do not fit the images or the generator, or are not finite; the generator or a
        setting cannot be used; or there is too little memory for one picture.
    """
    device, _ = generator.model.choose()
    opened = _open(generator, settings)
    shapes, decoder = dict(opened.shapes), None
    if "from" in given:
        decoder = load_autoencoder(model.path, model.revision, *model.choose())
        shapes["from"] = latent_shape(decoder, latent_resolution, "latent_resolution")
    _check_roles(given, shapes, generator)
    nsd_ids, features = read_features(images, given, shapes, true)
    part = chunk_rows(len(nsd_ids), chunk, n_chunks)
    nsd_ids, features = nsd_ids[part], {name: array[part] for name, array in features.items()}
    starts = None
    if decoder is not None:
        place = settings.resolution, generator.model.batch_size, device
        starts = encode_starts(decoder, opened.autoencoder, features.pop("from"), *place)
    make = reverse_process(
        settings, opened[:3], nsd_ids, _conditioner(opened, features, device), starts, device
    )
    n, label = len(nsd_ids) * settings.samples, f"pictures by {method}"
    pictures = (made for _, made in run_images(make, n, generator.model.batch_size, device, label))
    about = {role: Path(path).stem for role, path in given.items()} | {"true": true}
    about |= {"generator": generator.function, "chunk": chunk, "n_chunks": n_chunks}
    attributes = settings.describe(method, generator.model, **about)
    save_reconstructions(output, pictures, nsd_ids, attributes)


def _open(generator: Opening, settings: Reconstruction) -> Generator:
    """Open a generator, and check that it makes pictures of this size."""
    known = generator.function, generator.settings, ("model", "scheduler")
    make = find_function("`generator`", *known)
    own = dict(generator.settings)
    if "resolution" in inspect.signature(make).parameters:
        own.setdefault("resolution", settings.resolution)
    opened = make(generator.model, settings.scheduler, **own)
    opened.autoencoder.use_slicing = settings.resolution >= ONE_BY_ONE
    shape = latent_shape(opened.autoencoder, settings.resolution)
    if "depth" not in opened.shapes:
        check_channels(opened.unet, shape[0], generator.model.path)
    if settings.compile:
        opened.unet.compile()
    return opened


def _check_roles(given, shapes, generator):
    """Refuse features that a generator does not take."""
    unknown = sorted({*given} - {*shapes})
    if unknown:
        expected = f"features in the roles {', '.join(sorted({'from', *shapes}))}"
        remedy = "Take another generator, or leave it out"
        where = f"`generator` {generator.function}"
        raise InputError(Finding(where, expected, ", ".join(unknown), remedy))


def _conditioner(opened, features, device):
    """Make the function that returns the conditions of rows of images."""

    def condition(rows: np.ndarray):
        given = {name: torch.from_numpy(own[rows]).to(device) for name, own in features.items()}
        return opened.condition(given, len(rows))

    return condition

"""Reconstruct pictures from responses with a diffusion model conditioned on them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from nsdldm.diffusion.denoising import Conditions, denoise, plan_steps
from nsdldm.diffusion.latents import latent_shape
from nsdldm.diffusion.loading import Model, load_autoencoder
from nsdldm.diffusion.pictures import find_test_images, save_reconstructions
from nsdldm.diffusion.reconstruction import (
    ONE_BY_ONE,
    Reconstruction,
    check_channels,
    decode_pictures,
    draw_pairs,
)
from nsdldm.support.batching import run_images
from nsdldm.support.chunks import chunk_rows
from nsdldm.support.errors import Finding, InputError
from nsdldm.trained.data import TestSet
from nsdldm.trained.diffusion import load_diffusion

logger = logging.getLogger(__name__)


class Sampling(NamedTuple):
    """How pictures are sampled.

    Parameters
    ----------
    num_inference_steps : int
        Of the reverse process (250 in the paper).
    scheduler : {"ddim", "dpmsolver++", "plms"}
        The paper's is plms.
    samples : int
        Pictures per image (5 in the paper).
    seed : int
        Of the noise.
    """

    num_inference_steps: int = 250
    scheduler: str = "plms"
    samples: int = 5
    seed: int = 42


def reconstruct_trained(
    *,
    method: str,
    subject: str,
    images: str | Path,
    responses: str | Path,
    rows: str | Path,
    weights: str | Path,
    model: Model,
    resolution: int,
    sampling: Sampling,
    chunk: int,
    n_chunks: int,
    output: str | Path,
) -> None:
    """Make pictures from test responses, for one of several parts of the test images.

    The reverse process starts from pure noise and runs all of its steps, conditioned on the
    responses only, without guidance, as in MinD-Vis. The noise of a picture depends only on the
    seed, the image and the sample, and is the same as in
    `nsdldm.diffusion.reconstruction.reconstruct_chunk`.

    Parameters
    ----------
    method
        Name of the trained decoder, for the file.
    subject
        Subject of the responses. Responses of a subject that the weights were not trained on are
        used as they are, voxel by voxel in file order, although voxels of different subjects do not
        correspond.
    images
        Table of images with the columns nsd_id and split.
    responses, rows
        ``test.npy`` and ``test.tsv`` of `nsdldm.trained.data.join_responses`. Responses of a
        different length than in training are repeated from their start, or cut.
    weights
        As `nsdldm.trained.diffusion.fine_tune_diffusion` writes them.
    model : Model
        The model that the weights were trained from; its `batch_size` counts pictures. Encoder and
        mapper are always float32.
    resolution : int
        Side of the pictures, in pixels; in training, that of the latents.
    sampling : Sampling
    chunk, n_chunks : int
        Index of the part, from 0, and number of contiguous parts.
    output
        HDF5 that `nsdldm.diffusion.pictures.open_reconstructions` opens. Additional attributes:
        trained_on (subjects) and responses (how they were adjusted to the length in training).

    Raises
    ------
    InputError
        Responses do not fit the images or are not finite; weights, model or a setting cannot be
        used; or there is too little memory for one picture.
    """
    device, dtype = model.choose()
    source = model.path, model.revision, device, dtype
    network, sampler, about = load_diffusion(weights, *source, sampling.scheduler)
    autoencoder = load_autoencoder(*source)
    autoencoder.use_slicing = resolution >= ONE_BY_ONE
    shape = latent_shape(autoencoder, resolution)
    check_channels(network.unet, shape[0], model.path)
    if list(shape) != about["latent"]:
        logger.warning("latents of shape %s, in training of %s", shape, tuple(about["latent"]))
    nsd_ids, given, origin = read_test_responses(images, responses, rows, subject, about)
    part = chunk_rows(len(nsd_ids), chunk, n_chunks)
    nsd_ids, given = nsd_ids[part], {name: array[part] for name, array in given.items()}
    make = _reverse_process(
        sampling, (network, sampler, autoencoder), shape, nsd_ids, given, device
    )
    n, label = len(nsd_ids) * sampling.samples, f"pictures by {method}"
    pictures = (made for _, made in run_images(make, n, model.batch_size, device, label))
    chain = {"strength": 1.0, "guidance_scale": 1.0, "resolution": resolution}
    settings = Reconstruction(**chain, **sampling._asdict())
    origin = {"trained_on": " ".join(about["subjects"]), "responses": origin}
    more = {"chunk": chunk, "n_chunks": n_chunks} | origin
    save_reconstructions(output, pictures, nsd_ids, settings.describe(method, model, **more))


def read_test_responses(
    images: Path | str, responses: Path | str, rows: Path | str, subject: str, about: dict
) -> tuple[np.ndarray, dict[str, np.ndarray], str]:
    """Read the responses to a subject's test images in the form that weights take.

    Parameters
    ----------
    images, responses, rows, subject
        As `reconstruct_trained`.
    about : dict
        Metadata of the weights.

    Returns
    -------
    nsd_ids : int64 array of shape (n_test,)
    given : dict of array
        responses, float32 of shape (n_test, length), and subject, int64 of shape (n_test,).
    origin : str
        How responses were adjusted to the length in training.

    Raises
    ------
    InputError
        Rows are not the test images of the table, values are not finite, or weights have a map for
        each training subject but none for this one.
    """
    nsd_ids = find_test_images(images)[0]
    samples = TestSet(responses, rows, about["vector"])
    if not np.array_equal(samples.nsd_ids, nsd_ids):
        expected, remedy = f"the test images of {images}, in its order", "Prepare it again"
        raise InputError(Finding(str(rows), expected, "others", remedy))
    values = samples.responses(np.arange(len(nsd_ids))).numpy()
    if not np.isfinite(values).all():
        remedy = "Look for what made them there, then prepare it again"
        found = "infinite or undefined ones"
        raise InputError(Finding(str(responses), "finite values", found, remedy))
    known = subject in about["subjects"]
    if about["n_voxels"] and not known:
        expected = f"weights for any subject, or responses of {' or '.join(about['subjects'])}"
        remedy = "Train without adapters for pictures of other subjects"
        raise InputError(Finding(str(responses), expected, f"those of {subject}", remedy))
    index = about["subjects"].index(subject) if known else 0
    given = {"responses": values, "subject": np.full(len(nsd_ids), index)}
    return nsd_ids, given, describe_fit(samples.n_voxels[0], about["vector"], known)


def describe_fit(n_voxels: int, length: int, known: bool) -> str:
    """Describe how the voxels of a subject, in training or not, fill a length."""
    fitted = "in full"
    if n_voxels != length:
        fitted = f"repeated to {length}" if n_voxels < length else f"cut to {length}"
    return f"{n_voxels} voxels{'' if known else ' of a subject unknown in training'}, {fitted}"


def _reverse_process(sampling, networks, shape, nsd_ids, given, device):
    """Make the function that makes pictures from a slice of the pairs of image and sample."""
    network, sampler, autoencoder = networks

    @torch.inference_mode()
    def make(pairs):
        rows, noise = draw_pairs(sampling.seed, sampling.samples, nsd_ids, shape, pairs)
        values, subject = (
            torch.from_numpy(given[name][rows]).to(device) for name in ("responses", "subject")
        )
        context, shift = network.condition(values, subject)
        timesteps = plan_steps(sampler, sampling.num_inference_steps, 1)
        noisy = noise.to(device) * sampler.init_noise_sigma
        conditions = Conditions((context, context), shift if shift is None else (shift, shift))
        latents = denoise(network.unet, sampler, noisy, timesteps, conditions, 1)
        return decode_pictures(autoencoder, latents)

    return make

"""Pictures that have decoded features of a network: a start for generators, beside z.

Takagi & Nishimoto's follow-up (arXiv 2306.11536) inverts decoded features of VGG-19 with an image
generator whose inputs it optimises, and starts the diffusion model from the result. Here the
generator is the decoder of the diffusion model's own autoencoder, so that what is optimised is
already the latent that the diffusion model starts from, and no weights of another framework are
needed.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL, VQModel

from nsdldm.diffusion.denoising import open_feature
from nsdldm.diffusion.latents import latent_shape, unscale_latents
from nsdldm.diffusion.loading import Model, load_autoencoder
from nsdldm.diffusion.pictures import find_test_images
from nsdldm.features.layers import LayerReader, embed_layers
from nsdldm.features.parts import check_chunks, read_rows, row_blocks
from nsdldm.support.batching import run_images
from nsdldm.support.chunks import chunk_rows
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import create_array, load_array, load_table, save_array

logger = logging.getLogger(__name__)


class Inversion(NamedTuple):
    """How a latent is found. Nothing is random.

    Parameters
    ----------
    steps : int
        Of Adam.
    learning_rate : float
        At the first step, in standard deviations of the training latents; falls linearly to 0.
    latent_weight : float
        Weight of the mean squared distance from the start, in units of the training variance of
        each value of the latent. Without it, directions that the picture hardly depends on drift.
    total_variation : float
        Weight of the mean absolute difference between neighbouring pixels, from 0 to 1.
    rescale : bool
        Give decoded features the training mean and standard deviation of each dimension first, as
        published decoders do. The mean and standard deviation that they have are taken over all
        test images, so a latent then depends on the other images too; and dimensions that are
        decoded badly get as much variance as others.
    """

    steps: int = 16
    learning_rate: float = 0.3
    latent_weight: float = 0.3
    total_variation: float = 0.0
    rescale: bool = False


def invert_features(
    *,
    decoded: Path | str,
    features: Path | str,
    z: Path | str,
    images: Path | str,
    network: dict,
    start: Path | str | None,
    model: Model,
    settings: Inversion,
    chunk: int,
    n_chunks: int,
    output: Path | str,
) -> None:
    """Find a latent for each test image whose picture has the decoded features.

    Minimised for each image by itself, so up to rounding a latent does not depend on batches or
    chunks: the squared error of each layer's features divided by their squared length, averaged
    over layers, plus penalties (`Inversion`).

    Parameters
    ----------
    decoded : path
        float32 ``.npy`` (n_test, n_features): decoded features, in the order of the test images.
    features : path
        The same of all images of `images`, from the pictures themselves. Only training images are
        read, and only to rescale.
    z : path
        Latents of all images, float32 (n_images, channels, height, width), scaled. Those of
        training images give the mean and the standard deviation of every value.
    images : path
        Table of images with the columns nsd_id and split.
    network : dict
        Settings of `nsdldm.features.layers.embed_layers` that `features` were computed with.
    start : path or None
        Latents to start from, (n_test, channels, height, width), such as the decoded z; None for
        the mean of training images.
    model : Model
        Whose autoencoder's decoder makes the pictures. It runs in float32, whatever the dtype, and
        `batch_size` images at once.
    settings : Inversion
    chunk, n_chunks : int
        Index of the part, from 0, and number of contiguous parts.
    output : path
        float32 ``.npy`` of the shape of the latents of this part, scaled like z.

    Raises
    ------
    InputError
        Inputs do not fit each other, the network or the model.
    """
    device, _ = model.choose()
    autoencoder = load_autoencoder(model.path, model.revision, device, torch.float32)
    reader = embed_layers(device, **network)
    n, split = len(find_test_images(images)[0]), load_table(images)["split"]
    part, train = chunk_rows(n, chunk, n_chunks), np.flatnonzero(split == "train")
    if not len(train):
        remedy = "Use sessions with images that other subjects do not share"
        raise InputError(Finding(str(images), "training images", "none", remedy))
    targets = _read_finite(decoded, (n, sum(reader.sizes)))
    if settings.rescale:
        targets = rescale_features(targets, *_find_moments(features, train))
    known = open_feature(z, (len(split), _count_channels(autoencoder), None, None))
    mean, deviation = _find_moments(z, train)
    starts = np.tile(mean, (n, 1, 1, 1))
    if start is not None:
        starts = _read_finite(start, (n, *known.shape[1:]))
    targets, starts = targets[part], starts[part]

    def invert(batch):
        given = (torch.from_numpy(rows[batch]).to(device) for rows in (targets, starts))
        spread = torch.from_numpy(deviation).to(device)
        latents, errors = invert_latents(autoencoder, reader, *given, spread, settings)
        first, last = errors[[0, -1]].mean(dim=1).tolist()
        logger.debug("error of features %.4f at the start, %.4f at the end", first, last)
        return latents.cpu().numpy()

    with create_array(output, starts.shape, np.float32) as latents:
        found = run_images(invert, len(starts), model.batch_size, device, "image priors")
        for index, latent in found:
            latents[index] = latent


def _read_finite(path, shape):
    """A feature of a given shape, float32, in memory."""
    values = np.array(open_feature(path, shape), np.float32)
    if not np.isfinite(values).all():
        found, remedy = "infinite or undefined ones", "Decode it again"
        raise InputError(Finding(str(path), "finite values", found, remedy))
    return values


def _count_channels(autoencoder):
    """Channels of a latent."""
    return latent_shape(autoencoder, 2 ** len(autoencoder.config.block_out_channels))[0]


def _find_moments(path, rows):
    """Mean and standard deviation over some rows of a file, float32 of the shape of a row."""
    blocks = [rows[block] for block in row_blocks(len(rows))]
    mean = sum(read_rows(path, block).sum(axis=0, dtype=np.float64) for block in blocks) / len(rows)
    squares = sum(np.square(read_rows(path, block) - mean).sum(axis=0) for block in blocks)
    return mean.astype(np.float32), np.sqrt(squares / len(rows)).astype(np.float32)


def rescale_features(decoded: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Give every dimension of decoded features a mean and a standard deviation.

    Decoded features vary less than true ones, the less the worse they are decoded. Published linear
    decoders rescale them thus (Ozcelik & VanRullen 2023), over all test images.

    Parameters
    ----------
    decoded : float32 array of shape (n, n_features)
    mean, deviation : float32 arrays of shape (n_features,)

    Returns
    -------
    float32 array of shape (n, n_features)
        The mean, where a decoded dimension is constant.
    """
    middle = decoded.mean(axis=0, dtype=np.float64)
    varies = np.ptp(decoded, axis=0) > 0
    spread = np.where(varies, decoded.std(axis=0, dtype=np.float64), 1)
    scale = np.where(varies, deviation / spread, 0)
    return ((decoded - middle) * scale + mean).astype(np.float32)


def invert_latents(
    autoencoder: AutoencoderKL | VQModel,
    reader: LayerReader,
    targets: torch.Tensor,
    starts: torch.Tensor,
    deviation: torch.Tensor,
    settings: Inversion,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Optimise latents so that their pictures have given features.

    Parameters
    ----------
    autoencoder : AutoencoderKL or VQModel
        In float32.
    reader : LayerReader
    targets : float32 tensor of shape (n, n_features)
    starts : float32 tensor of shape (n, channels, height, width)
        Scaled latents.
    deviation : float32 tensor of shape (channels, height, width)
        Of training latents; where it is 0, nothing changes.
    settings : Inversion

    Returns
    -------
    latents : float32 tensor of the shape of `starts`
    errors : float32 tensor of shape (steps + 1, n)
        Of the features before every step and at the end.

    Raises
    ------
    InputError
        The features of a layer are 0 throughout for an image.
    """
    wanted = targets.split(reader.sizes, dim=1)
    lengths = [layer.square().sum(dim=1) for layer in wanted]
    if not all(length.min() > 0 for length in lengths):
        remedy = "Take a layer that responds to all pictures"
        raise InputError(Finding("decoded features", "some that are not 0", "none", remedy))
    # In units of the training spread, so that the learning rate means the same in all dimensions.
    offsets = torch.zeros_like(starts, requires_grad=True)
    optimiser = torch.optim.Adam([offsets], lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: 1 - k / settings.steps)
    errors = []
    for step in range(settings.steps + 1):
        with torch.set_grad_enabled(step < settings.steps):
            pictures = render_latents(autoencoder, starts + deviation * offsets)
            found = reader.read(pictures).split(reader.sizes, dim=1)
            pairs = zip(found, wanted, lengths, strict=True)
            parts = [(own - given).square().sum(dim=1) / length for own, given, length in pairs]
            error = torch.stack(parts).mean(dim=0)
            errors.append(error.detach())
        if step == settings.steps:
            break
        loss = error + settings.latent_weight * offsets.square().flatten(1).mean(dim=1)
        if settings.total_variation:
            loss = loss + settings.total_variation * measure_variation(pictures)
        optimiser.zero_grad()
        # Images share nothing: the gradient of the sum is that of each image's own loss.
        loss.sum().backward()
        optimiser.step()
        schedule.step()
    return (starts + deviation * offsets).detach(), torch.stack(errors)


def render_latents(autoencoder: AutoencoderKL | VQModel, latents: torch.Tensor) -> torch.Tensor:
    """Decode scaled latents to pictures from 0 to 1, with gradients.

    Parameters
    ----------
    autoencoder : AutoencoderKL or VQModel
    latents : float32 tensor of shape (n, channels, height, width)

    Returns
    -------
    float32 tensor of shape (n, 3, side, side)
    """
    latents = unscale_latents(autoencoder, latents).contiguous(memory_format=torch.channels_last)
    return (autoencoder.decode(latents).sample / 2 + 0.5).clamp(0, 1)


def measure_variation(pictures: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference between neighbouring pixels, along rows plus along columns.

    Parameters
    ----------
    pictures : float tensor of shape (n, channels, height, width)

    Returns
    -------
    float tensor of shape (n,)
    """
    return sum(pictures.diff(dim=dim).abs().flatten(1).mean(dim=1) for dim in (2, 3))


def gather_priors(*, chunks: list[Path | str], images: Path | str, output: Path | str) -> None:
    """Join the chunks of `invert_features`.

    Parameters
    ----------
    chunks : list of path
        In the order of their numbers.
    images : path
        Table of images.
    output : path
        float32 ``.npy`` (n_test, channels, height, width).

    Raises
    ------
    InputError
        A chunk cannot be read or does not have the expected rows.
    """
    check_chunks(chunks, len(find_test_images(images)[0]))
    save_array(output, np.concatenate([load_array(path) for path in chunks]))

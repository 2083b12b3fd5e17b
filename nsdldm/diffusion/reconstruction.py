"""Reconstruct pictures from decoded features with the diffusion model."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL, VQModel
from PIL import Image

from nsdldm.diffusion.denoising import (
    Conditions,
    Denoiser,
    denoise,
    open_denoiser,
    open_feature,
    plan_steps,
)
from nsdldm.diffusion.latents import (
    encode_pictures,
    latent_shape,
    prepare_pictures,
    unscale_latents,
)
from nsdldm.diffusion.loading import Model, load_autoencoder
from nsdldm.diffusion.pictures import find_test_images, save_reconstructions
from nsdldm.support.batching import draw_noise, run_images
from nsdldm.support.chunks import chunk_rows
from nsdldm.support.devices import check_choice
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_table

if TYPE_CHECKING:
    from diffusers import SchedulerMixin, UNet2DConditionModel

logger = logging.getLogger(__name__)

# Which features each method starts from.
METHODS = {"zc": "zc", "z": "z", "c": "c", "z-coarse": "z", "true-zc": "zc"}
# Settings that a method imposes.
IN_EFFECT = {
    "z": {"guidance_scale": 1.0},
    "c": {"strength": 1.0},
    "z-coarse": {
        "num_inference_steps": 0,
        "strength": 0.0,
        "guidance_scale": 1.0,
        "scheduler": "none",
        "samples": 1,
    },
}
# From this side on, in pixels, one picture saturates the hardware. The autoencoder then takes
# pictures one by one, since a batch would only need more memory than the U-Net.
ONE_BY_ONE = 256


@torch.inference_mode()
def decode_pictures(autoencoder: AutoencoderKL | VQModel, latents: torch.Tensor) -> np.ndarray:
    """Decode scaled latents.

    Parameters
    ----------
    autoencoder : AutoencoderKL or VQModel
        A quantising autoencoder quantises first.
    latents : float32 tensor of shape (n, channels, height, width)
        Scaled as for the U-Net, see `nsdldm.diffusion.latents.scale_latents`.

    Returns
    -------
    uint8 array of shape (n, side, side, 3)
        Rounded, as in diffusers; the published code truncates.

    Raises
    ------
    InputError
        Values that are not finite.
    """
    latents = unscale_latents(autoencoder, latents).to(
        autoencoder.device, autoencoder.dtype, memory_format=torch.channels_last
    )
    decoded = autoencoder.decode(latents).sample.float()
    if not torch.isfinite(decoded).all():
        remedy = "Set `dtype` to float32, or to bfloat16 on a GPU that has it"
        found = "infinite or undefined ones"
        raise InputError(Finding("`dtype`", "finite values of decoded pictures", found, remedy))
    levels = (decoded * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).cpu().numpy()


def resize_pictures(pictures: np.ndarray, side: int) -> np.ndarray:
    """Resize uint8 pictures (n, height, width, 3) to a side in pixels; bicubic, as in the published
    code."""
    resized = [Image.fromarray(p).resize((side, side), Image.Resampling.BICUBIC) for p in pictures]
    return np.stack([np.asarray(picture) for picture in resized])


class Reconstruction(NamedTuple):
    """How pictures are made.

    Parameters
    ----------
    resolution : int
        Side of the pictures made, in pixels (512 in the paper).
    samples : int
        Pictures per image (5 in the paper).
    num_inference_steps, strength, scheduler
        As `nsdldm.diffusion.denoising.Denoising` (50, 0.8 and DDIM in the paper).
    guidance_scale : float
        As `nsdldm.diffusion.denoising.denoise` (5 in the paper).
    seed : int
        Of the noise.
    compile : bool
        Compile the U-Net: a minute or more at first, faster steps on a GPU.
    """

    resolution: int = 512
    samples: int = 5
    num_inference_steps: int = 50
    strength: float = 0.8
    guidance_scale: float = 5.0
    scheduler: str = "ddim"
    seed: int = 42
    compile: bool = False

    def describe(self, method: str, model: Model, **more: Any) -> dict:
        """Attributes of the file: everything that pictures depend on besides code and inputs."""
        settings = self._asdict()
        settings.pop("compile")
        dtype = str(model.choose()[1]).removeprefix("torch.")
        origin = {"model": str(model.path), "revision": model.revision or "", "dtype": dtype}
        return {"method": method} | origin | settings | more


def reconstruct_chunk(
    *,
    method: str,
    images: str | Path,
    z: str | Path | None,
    c: str | Path | None,
    model: Model,
    latent_resolution: int,
    settings: Reconstruction,
    chunk: int,
    n_chunks: int,
    output: str | Path,
    true: bool = False,
) -> None:
    """Make pictures from decoded features, for one of several parts of the test images.

    As in section 3.3 of Takagi & Nishimoto (2023) and its code, z is turned into a picture, which
    is enlarged, encoded again and noised; the reverse process then denoises it with c. Methods:

    ``zc``
        Both features, decoded from the brain.
    ``z``
        The same with the embedding of the empty text instead of c. Guidance then has no effect.
    ``c``
        c alone: the reverse process starts from pure noise and therefore runs all of its steps,
        whatever the `strength`.
    ``z-coarse``
        The picture of z before diffusion; one sample.
    ``true-zc``
        `zc` with the true features of the images: the result of perfect decoding.

    The noise of a picture depends only on the seed, the image and the sample, so up to rounding a
    picture does not depend on batches, chunks or subjects. The encoded picture is the posterior
    mean, whereas the published code draws a random sample.

    Parameters
    ----------
    method : {"zc", "z", "c", "z-coarse", "true-zc"}
    images
        Table of images with the columns nsd_id and split.
    z, c
        float32 ``.npy`` of shape (n, channels, height, width), scaled, and (n, tokens, width). One
        row per test image; for ``true-zc`` one per image of the table. A feature that the method
        does not use is not opened.
    model : Model
        Its `batch_size` counts pictures.
    latent_resolution : int
        Side of the picture that z encodes, in pixels (320 in the paper).
    settings : Reconstruction
    chunk, n_chunks : int
        Index of the part, from 0, and number of contiguous parts.
    output
        HDF5 that `nsdldm.diffusion.pictures.open_reconstructions` opens. Its attributes are the
        settings in effect: guidance_scale 1 for ``z``, strength 1 for ``c``, no steps for
        ``z-coarse``.
    true : bool
        `z` and `c` are true features, with a row per image of the table, as for ``true-zc``.

    Raises
    ------
    InputError
        Features do not fit the images or the model, or are not finite; the model or a setting
        cannot be used; or there is too little memory for one picture.
    """
    check_choice("method", method, METHODS)
    settings = settings._replace(**IN_EFFECT.get(method, {}))
    device, _ = model.choose()
    networks = _load_networks(method, model, latent_resolution, settings)
    paths = {name: path for name, path in (("z", z), ("c", c)) if name in METHODS[method]}
    nsd_ids, features = read_features(images, paths, networks.shapes, true or method == "true-zc")
    part = chunk_rows(len(nsd_ids), chunk, n_chunks)
    nsd_ids, features = nsd_ids[part], {name: array[part] for name, array in features.items()}
    autoencoder = networks.autoencoder
    if method == "z-coarse":
        make = functools.partial(_make_coarse, autoencoder, features["z"], settings.resolution)
    else:
        starts, place = None, (settings.resolution, model.batch_size, device)
        if "z" in features:
            starts = encode_starts(autoencoder, autoencoder, features["z"], *place)
        unet, sampler, empty = networks.denoiser

        def condition(rows):
            given = torch.from_numpy(features["c"][rows]) if "c" in features else empty
            return Conditions((empty, given))

        make = reverse_process(
            settings, (autoencoder, unet, sampler), nsd_ids, condition, starts, device
        )
    n, label = len(nsd_ids) * settings.samples, f"pictures by {method}"
    pictures = (made for _, made in run_images(make, n, model.batch_size, device, label))
    place = {"chunk": chunk, "n_chunks": n_chunks, "latent_resolution": latent_resolution}
    save_reconstructions(output, pictures, nsd_ids, settings.describe(method, model, **place))


class Pipeline(NamedTuple):
    """What a method needs.

    Parameters
    ----------
    autoencoder : AutoencoderKL or VQModel
    shapes : dict of str to tuple of int
        Of one image's features.
    denoiser : Denoiser or None
        None if there is no diffusion.
    """

    autoencoder: AutoencoderKL | VQModel
    shapes: dict
    denoiser: Denoiser | None = None


def _load_networks(method, model, latent_resolution, settings):
    """Load what a method needs."""
    autoencoder = load_autoencoder(model.path, model.revision, *model.choose())
    autoencoder.use_slicing = settings.resolution >= ONE_BY_ONE
    # Refuse unsuitable sides before the large parts are loaded.
    shape = latent_shape(autoencoder, settings.resolution)
    shapes = {"z": latent_shape(autoencoder, latent_resolution, "latent_resolution")}
    if method == "z-coarse":
        return Pipeline(autoencoder, shapes)
    denoiser = open_denoiser(model, settings.scheduler)
    check_channels(denoiser.unet, shape[0], model.path)
    if settings.compile:
        denoiser.unet.compile()
    return Pipeline(autoencoder, shapes | {"c": denoiser.empty.shape[1:]}, denoiser)


def check_channels(unet: UNet2DConditionModel, channels: int, model: Path | str) -> None:
    """Refuse a U-Net whose input is not latents with this number of channels."""
    if unet.config.in_channels != channels:
        found, remedy = f"{unet.config.in_channels}", "Use a text-to-image model"
        where, expected = f"{model}/unet", f"{channels} input channels, as latents have"
        raise InputError(Finding(where, expected, found, remedy))


def read_features(
    images: Path | str, paths: dict[str, Path | str], shapes: dict[str, tuple], true: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read features of the test images.

    Parameters
    ----------
    images : path
        Table of images with the columns nsd_id and split.
    paths : dict of path
        ``.npy`` by name, with a row per test image, or if they are `true` features per image of the
        table.
    shapes : dict of str to tuple
        Of one image's feature; None stands for any size.
    true : bool

    Returns
    -------
    nsd_ids : int64 array of shape (n_test,)
    features : dict of float32 array of shape (n_test, ...)

    Raises
    ------
    InputError
        Shapes are different, or values are not finite.
    """
    nsd_ids, rows = find_test_images(images)
    n_rows = len(load_table(images)) if true else len(nsd_ids)
    rows = rows if true else np.arange(n_rows)
    features = {}
    for name, path in paths.items():
        array = open_feature(path, (n_rows, *shapes[name]))
        features[name] = _select_rows(array, rows, path, nsd_ids)
    return nsd_ids, features


def _select_rows(array, rows, path, nsd_ids):
    """Copy rows of a feature, one per image; values must be finite."""
    selected = np.empty((len(rows), *array.shape[1:]), np.float32)
    for target, row, nsd_id in zip(selected, rows, nsd_ids, strict=True):
        target[...] = array[row]
        if not np.isfinite(target).all():
            found = f"infinite or undefined ones for image {nsd_id} (row {row})"
            remedy = "Look for what made them there, then compute the file again"
            raise InputError(Finding(str(path), "finite values", found, remedy))
    return selected


def _make_coarse(autoencoder, z, side, batch):
    """Decode some rows of z with the autoencoder, and resize them to a side; uint8."""
    decoded = decode_pictures(autoencoder, torch.from_numpy(z[batch]))
    return resize_pictures(decoded, side)


def encode_starts(
    decoder: AutoencoderKL | VQModel,
    encoder: AutoencoderKL | VQModel,
    z: np.ndarray,
    side: int,
    batch_size: int,
    device: torch.device,
) -> np.ndarray:
    """Turn latents into pictures, enlarge these, and encode them.

    Parameters
    ----------
    decoder, encoder : AutoencoderKL or VQModel
        Of the latents given and of those returned; usually the same.
    z : float32 array of shape (n, channels, height, width)
        Scaled.
    side : int
        Of the enlarged pictures, in pixels.
    batch_size : int
    device : torch.device

    Returns
    -------
    float32 array of shape (n, channels, height, width)
        Scaled posterior means.

    Raises
    ------
    InputError
        Values are not finite, or there is too little memory for one picture.
    """

    def encode(batch):
        pictures = _make_coarse(decoder, z, side, batch)
        return encode_pictures(encoder, prepare_pictures(pictures, side))[0]

    starts = np.empty((len(z), *latent_shape(encoder, side)), np.float32)
    latents = run_images(encode, len(z), batch_size, device, "encoded pictures")
    for index, latent in latents:
        starts[index] = latent
    return starts


def draw_pairs(
    seed: int, samples: int, nsd_ids: np.ndarray, shape: tuple[int, ...], pairs: slice
) -> tuple[np.ndarray, torch.Tensor]:
    """Draw the noise of some pairs of image and sample.

    Parameters
    ----------
    seed, samples : int
        Of the noise, and samples per image.
    nsd_ids : int array of shape (n_images,)
    shape
        Of a latent.
    pairs
        Of the pairs in C-order of images and samples.

    Returns
    -------
    rows : int array of shape (n,)
        The image of each pair.
    noise : float32 tensor of shape (n, *shape)
    """
    rows, numbers = np.divmod(np.arange(pairs.start, pairs.stop), samples)
    keys = zip(nsd_ids[rows], numbers.tolist(), strict=True)
    drawn = [draw_noise(seed, [number], shape, sample) for number, sample in keys]
    return rows, torch.from_numpy(np.concatenate(drawn))


def reverse_process(
    settings: Reconstruction,
    networks: tuple[AutoencoderKL | VQModel, UNet2DConditionModel, SchedulerMixin],
    nsd_ids: np.ndarray,
    condition: Callable[[np.ndarray], Conditions],
    starts: np.ndarray | None,
    device: torch.device,
) -> Callable[[slice], np.ndarray]:
    """Make the function that makes pictures from a slice of the pairs of image and sample.

    Parameters
    ----------
    settings : Reconstruction
    networks : autoencoder, U-Net and sampler
    nsd_ids : int array of shape (n,)
        Images, for their noise.
    condition : callable
        Takes rows of images, and returns their conditions.
    starts : float32 array of shape (n, channels, height, width) or None
        Latents that the reverse process starts from, before noise; None is pure noise.
    device : torch.device

    Returns
    -------
    callable
        Takes a slice of the pairs in C-order of images and samples, and returns pictures as
        `decode_pictures` does.
    """
    autoencoder, unet, sampler = networks
    shape = latent_shape(autoencoder, settings.resolution)

    def make(pairs):
        rows, noise = draw_pairs(settings.seed, settings.samples, nsd_ids, shape, pairs)
        noise = noise.to(device)
        timesteps = plan_steps(sampler, settings.num_inference_steps, settings.strength)
        if starts is None:
            noisy = noise * sampler.init_noise_sigma
        else:
            clean = torch.from_numpy(starts[rows]).to(device)
            noisy = sampler.add_noise(clean, noise, timesteps[:1])
        scale = settings.guidance_scale
        latents = denoise(unet, sampler, noisy, timesteps, condition(rows), scale)
        return decode_pictures(autoencoder, latents)

    return make

"""Pictures of what was seen: decoded latents through the diffusion model."""

import logging
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel, VQModel
from PIL import Image

from nsdldm.diffusion.denoising import denoise, open_feature, plan_steps
from nsdldm.diffusion.latents import (
    encode_pictures,
    latent_shape,
    prepare_pictures,
    unscale_latents,
)
from nsdldm.diffusion.loading import load_autoencoder, load_denoiser, load_text
from nsdldm.diffusion.pictures import find_test_images, save_reconstructions
from nsdldm.diffusion.text import embed_texts
from nsdldm.support.batching import draw_noise, run_images
from nsdldm.support.chunks import chunk_rows
from nsdldm.support.devices import check_choice, choose_device, choose_dtype
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_table

logger = logging.getLogger(__name__)

# Which features each method starts from.
METHODS = {"zc": "zc", "z": "z", "c": "c", "z-coarse": "z", "true-zc": "zc"}
# Settings that a method has whatever is asked for.
IN_EFFECT = {
    "z": {"guidance": 1.0},
    "c": {"strength": 1.0},
    "z-coarse": {
        "steps": 0,
        "strength": 0.0,
        "guidance": 1.0,
        "scheduler": "none",
        "n_samples": 1,
    },
}
# From this side on, in pixels, one picture fills the hardware: the autoencoder takes several one
# by one, since at once they would only need more memory than the U-Net.
ONE_BY_ONE = 256


@torch.inference_mode()
def decode_pictures(autoencoder, latents):
    """Decode scaled latents.

    Parameters
    ----------
    autoencoder : AutoencoderKL or VQModel
        One that quantises does so first.
    latents : float32 tensor of shape (n, channels, height, width)
        As the U-Net sees them, see `nsdldm.diffusion.latents.scale_latents`.

    Returns
    -------
    uint8 array of shape (n, side, side, 3)
        Rounded, as in diffusers; the published code cuts the fraction off.

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
        remedy = "Set model.dtype to float32, or to bfloat16 on a GPU that has it"
        found = "infinite or undefined ones"
        raise InputError(Finding("model.dtype", "finite values of decoded pictures", found, remedy))
    levels = (decoded * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).cpu().numpy()


def resize_pictures(pictures, side):
    """Bring uint8 pictures to a side in pixels; bicubic, as in the published code."""
    resized = [Image.fromarray(p).resize((side, side), Image.Resampling.BICUBIC) for p in pictures]
    return np.stack([np.asarray(picture) for picture in resized])


def reconstruct_chunk(
    *,
    method,
    images,
    z,
    c,
    model,
    revision,
    latent_resolution,
    image_resolution,
    steps,
    strength,
    guidance,
    scheduler,
    n_samples,
    seed,
    device,
    dtype,
    batch_size,
    compile,
    chunk,
    n_chunks,
    output,
):
    """Make pictures from decoded features, for one of several parts of the test images.

    As in section 3.3 of Takagi & Nishimoto (2023) and its code, z becomes a picture, which is
    enlarged, encoded again and noised; the reverse process takes it back with c. Methods:

    ``zc``
        Both features, decoded from the brain.
    ``z``
        The same with the embedding of the empty text instead of c. Guidance then has no effect.
    ``c``
        c alone: the reverse process from nothing but noise, hence all of its steps, whatever
        `strength` says.
    ``z-coarse``
        The picture of z before diffusion; one sample.
    ``true-zc``
        `zc` with the features of the images themselves: what perfect decoding would give.

    The noise of a picture depends on the seed, the image and the sample only, so that a picture
    does not depend on batches, chunks or subjects beyond rounding. The encoded picture is the
    posterior's mean, where the published code draws a random sample.

    Parameters
    ----------
    method : {"zc", "z", "c", "z-coarse", "true-zc"}
    images : str or Path
        Table of images with the columns nsd_id and split.
    z, c : str or Path or None
        float32 ``.npy`` of shape (n, channels, height, width), times the scaling factor, and
        (n, tokens, width). A row a test image; for ``true-zc`` a row an image of the table. A
        feature that the method leaves out is not opened.
    model, revision : str
        As `nsdldm.features.latents.encode_latents`.
    latent_resolution : int
        Side of the picture that z stands for, in pixels (320 in the paper).
    image_resolution : int
        Side of the pictures made, in pixels (512 in the paper).
    steps, strength, scheduler
        As `nsdldm.features.trajectories.denoise_latents` (50, 0.8 and DDIM in the paper).
    guidance : float
        As `nsdldm.diffusion.denoising.denoise` (5 in the paper).
    n_samples : int
        Pictures of an image (5 in the paper).
    seed : int
        Of the noise.
    device, dtype
        As `nsdldm.features.latents.encode_latents`.
    batch_size : int
        Pictures at once; halved when memory runs out.
    compile : bool
        Compile the U-Net: a minute or more at first, faster steps on a GPU.
    chunk, n_chunks : int
        0-based number of the part, and number of contiguous parts.
    output : str or Path
        HDF5 that `nsdldm.diffusion.pictures.open_reconstructions` opens. Its attributes are the
        settings in effect: guidance 1 for ``z``, strength 1 for ``c``, no steps for ``z-coarse``.

    Raises
    ------
    InputError
        Features that do not fit the images or the model, or are not finite; a model or a setting
        that cannot be used; too little memory for one picture.
    """
    check_choice("method", method, METHODS)
    device = choose_device(device)
    dtype = choose_dtype(dtype, device)
    settings = {
        "method": method,
        "model": str(model),
        "revision": revision or "",
        "dtype": str(dtype).removeprefix("torch."),
        "latent_resolution": latent_resolution,
        "resolution": image_resolution,
        "steps": steps,
        "strength": float(strength),
        "guidance": float(guidance),
        "scheduler": scheduler,
        "n_samples": n_samples,
        "seed": seed,
    } | IN_EFFECT.get(method, {})
    networks = _load_networks(settings, model, revision, device, dtype, compile)
    nsd_ids, features = _read_features(settings, images, {"z": z, "c": c}, networks)
    part = chunk_rows(len(nsd_ids), chunk, n_chunks)
    nsd_ids, features = nsd_ids[part], {name: array[part] for name, array in features.items()}
    pictures = _make_pictures(settings, networks, nsd_ids, features, device, batch_size)
    attributes = settings | {"chunk": chunk, "n_chunks": n_chunks}
    save_reconstructions(output, pictures, nsd_ids, attributes)


class Networks(NamedTuple):
    """The parts of a checkpoint; all but the first are None where a method needs no diffusion."""

    autoencoder: AutoencoderKL | VQModel
    unet: UNet2DConditionModel | None = None
    sampler: SchedulerMixin | None = None
    empty: torch.Tensor | None = None


def _load_networks(settings, model, revision, device, dtype, compile):
    """Load what a method needs; `empty` is the embedding of the empty text, (1, tokens, width)."""
    autoencoder = load_autoencoder(model, revision, device, dtype)
    autoencoder.use_slicing = settings["resolution"] >= ONE_BY_ONE
    # Refuses sides that do not fit before the large parts are loaded.
    latent_shape(autoencoder, settings["resolution"], "reconstruction.resolution")
    latent_shape(autoencoder, settings["latent_resolution"])
    if settings["method"] == "z-coarse":
        return Networks(autoencoder)
    empty = embed_texts(*load_text(model, revision, device, dtype), [""])
    unet, sampler = load_denoiser(model, revision, device, dtype, settings["scheduler"])
    check_channels(unet, latent_shape(autoencoder, settings["resolution"])[0], model)
    if compile:
        unet.compile()
    return Networks(autoencoder, unet, sampler, empty)


def check_channels(unet, channels, model):
    """Stop at a U-Net that takes more, or less, than latents of so many channels."""
    if unet.config.in_channels != channels:
        found, remedy = f"{unet.config.in_channels}", "Use a model for text to image"
        where, expected = f"{model}/unet", f"{channels} input channels, as latents have"
        raise InputError(Finding(where, expected, found, remedy))


def _read_features(settings, images, paths, networks):
    """Numbers of the test images, and what the method needs to know of them, as float32 arrays."""
    nsd_ids, rows = find_test_images(images)
    n_rows = len(nsd_ids)
    if settings["method"] == "true-zc":
        n_rows = len(load_table(images))
    else:
        rows = np.arange(n_rows)
    shapes = {"z": latent_shape(networks.autoencoder, settings["latent_resolution"])}
    if networks.empty is not None:
        shapes["c"] = networks.empty.shape[1:]
    features = {}
    for name in METHODS[settings["method"]]:
        array = open_feature(paths[name], (n_rows, *shapes[name]))
        features[name] = _select_rows(array, rows, paths[name], nsd_ids)
    return nsd_ids, features


def _select_rows(array, rows, path, nsd_ids):
    """Copy rows of a feature, a row an image, and stop at values that are not finite."""
    selected = np.empty((len(rows), *array.shape[1:]), np.float32)
    for target, row, nsd_id in zip(selected, rows, nsd_ids, strict=True):
        target[:] = array[row]
        if not np.isfinite(target).all():
            found = f"infinite or undefined ones for image {nsd_id} (row {row})"
            remedy = "Look for what made them there, then compute the file again"
            raise InputError(Finding(str(path), "finite values", found, remedy))
    return selected


def _make_pictures(settings, networks, nsd_ids, features, device, batch_size):
    """Yield the pictures, in C-order of images and samples."""
    side, autoencoder = settings["resolution"], networks.autoencoder
    if settings["method"] == "z-coarse":

        def make(batch):
            return _coarse_pictures(autoencoder, features["z"][batch], side)

    else:
        starts = None
        if "z" in features:
            starts = _encode_coarse(autoencoder, features["z"], side, device, batch_size)
        make = _reverse_process(settings, networks, nsd_ids, features.get("c"), starts, device)
    n, label = len(nsd_ids) * settings["n_samples"], f"pictures by {settings['method']}"
    for _, picture in run_images(make, n, batch_size, device, label):
        yield picture


def _coarse_pictures(autoencoder, z, side):
    """The autoencoder's pictures of z at a side, uint8."""
    return resize_pictures(decode_pictures(autoencoder, torch.from_numpy(z)), side)


def _encode_coarse(autoencoder, z, side, device, batch_size):
    """Encode the pictures of z, enlarged."""

    def encode(batch):
        pictures = _coarse_pictures(autoencoder, z[batch], side)
        return encode_pictures(autoencoder, prepare_pictures(pictures, side))[0]

    starts = np.empty((len(z), *latent_shape(autoencoder, side)), np.float32)
    for index, latent in run_images(encode, len(z), batch_size, device, "encoded pictures"):
        starts[index] = latent
    return starts


def draw_pairs(settings, nsd_ids, shape, pairs):
    """Draw the noise of some pairs of image and sample.

    Parameters
    ----------
    settings : dict
        With seed and n_samples.
    nsd_ids : int array of shape (n_images,)
    shape : tuple of int
        Of a latent.
    pairs : slice
        Of the pairs in C-order of images and samples.

    Returns
    -------
    rows : int array of shape (n,)
        The image of each pair.
    noise : float32 tensor of shape (n, *shape)
    """
    rows, samples = np.divmod(np.arange(pairs.start, pairs.stop), settings["n_samples"])
    keys = zip(nsd_ids[rows], samples.tolist(), strict=True)
    drawn = [draw_noise(settings["seed"], [number], shape, sample) for number, sample in keys]
    return rows, torch.from_numpy(np.concatenate(drawn))


def _reverse_process(settings, networks, nsd_ids, c, starts, device):
    """The function that makes pictures from a slice of the pairs of image and sample.

    `c` None stands for the empty text, `starts` None for nothing but noise.
    """
    autoencoder, unet, sampler, empty = networks
    shape = latent_shape(autoencoder, settings["resolution"])

    def make(pairs):
        rows, noise = draw_pairs(settings, nsd_ids, shape, pairs)
        noise = noise.to(device)
        timesteps = plan_steps(sampler, settings["steps"], settings["strength"])
        if starts is None:
            noisy = noise * sampler.init_noise_sigma
        else:
            clean = torch.from_numpy(starts[rows]).to(device)
            noisy = sampler.add_noise(clean, noise, timesteps[:1])
        given = empty.expand(len(rows), -1, -1) if c is None else torch.from_numpy(c[rows])
        latents = denoise(
            unet, sampler, noisy, timesteps, given.to(device), empty, settings["guidance"]
        )
        return decode_pictures(autoencoder, latents)

    return make

"""Image latents z: what the autoencoder makes of a picture."""

import logging

import numpy as np
import torch
from PIL import Image

from nsdldm.files import create_array, load_table
from nsdldm.ldm.batching import run_batched
from nsdldm.ldm.loading import choose_device, choose_dtype, load_autoencoder
from nsdldm.logs import progress
from nsdldm.nsd.stimuli import read_images

logger = logging.getLogger(__name__)


def prepare_pictures(pictures, resolution):
    """Bring pictures into the form the autoencoder takes.

    Parameters
    ----------
    pictures : iterable of uint8 arrays of shape (height, width, 3)
    resolution : int
        Side of the result, in pixels; Lanczos resampling, as in the published code.

    Returns
    -------
    float32 tensor of shape (n, 3, resolution, resolution)
        From -1 to 1.
    """
    size = (resolution, resolution)
    resized = [Image.fromarray(p).resize(size, Image.Resampling.LANCZOS) for p in pictures]
    stacked = torch.from_numpy(np.stack([np.asarray(picture) for picture in resized]))
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def encode_pictures(autoencoder, pictures):
    """Encode pictures as the mean and log-variance of their scaled latents.

    Parameters
    ----------
    autoencoder : AutoencoderKL
    pictures : float32 tensor of shape (n, 3, side, side)
        From -1 to 1.

    Returns
    -------
    mean, logvar : float32 arrays of shape (n, channels, height, width)
        Of the posterior times `scaling_factor`, the latent that the U-Net sees.
    """
    posterior = autoencoder.encode(pictures.to(autoencoder.device, autoencoder.dtype)).latent_dist
    scale = autoencoder.config.scaling_factor
    mean = posterior.mean.float() * scale
    logvar = posterior.logvar.float() + 2 * np.log(scale)
    return mean.cpu().numpy(), logvar.cpu().numpy()


def encode_latents(
    *, images, stimuli, model, revision, resolution, device, dtype, batch_size, z, z_logvar
):
    """Encode the images a subject saw.

    The posterior mean is kept, where the published code draws a random sample.

    Parameters
    ----------
    images : str or Path
        Table of images with the column nsd_id.
    stimuli : str or Path
        ``nsd_stimuli.hdf5``.
    model : str
        Folder of a diffusers checkpoint, or hub id.
    revision : str or None
        Commit of the hub repository.
    resolution : int
        Side of the picture given to the autoencoder, in pixels (320 in the paper).
    device : {"auto", "cpu", "cuda"}
    dtype : {"auto", "float32", "float16", "bfloat16"}
    batch_size : int
    z : str or Path
        Output, float32 of shape (n_images, channels, height, width): posterior mean times the
        scaling factor, a row an image of the table.
    z_logvar : str or Path
        Output of the same shape: log-variance of the scaled latent.

    Raises
    ------
    InputError
        The model or the pictures cannot be used.
    """
    nsd_ids = load_table(images)["nsd_id"].to_numpy()
    device = choose_device(device)
    autoencoder = load_autoencoder(model, revision, device, choose_dtype(dtype, device))

    def encode(batch):
        pictures = prepare_pictures(read_images(stimuli, nsd_ids[batch]), resolution)
        return encode_pictures(autoencoder, pictures)

    n = len(nsd_ids)
    side = resolution // 2 ** (len(autoencoder.config.block_out_channels) - 1)
    shape = (n, autoencoder.config.latent_channels, side, side)
    with (
        create_array(z, shape, np.float32) as means,
        create_array(z_logvar, shape, np.float32) as logvars,
    ):
        batches = run_batched(encode, n, batch_size)
        for batch, (mean, logvar) in progress(batches, -(-n // batch_size), "batches of z"):
            means[batch], logvars[batch] = mean, logvar
        logger.info("z: %d images, standard deviation %.3f", n, float(np.std(means)))

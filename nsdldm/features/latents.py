"""Image latents z: what the autoencoder makes of the images that a subject saw."""

import logging

import numpy as np

from nsdldm.diffusion.latents import encode_pictures, latent_shape, prepare_pictures
from nsdldm.diffusion.loading import load_autoencoder
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.batching import run_images
from nsdldm.support.devices import choose_device, choose_dtype
from nsdldm.support.files import create_array, load_table

logger = logging.getLogger(__name__)


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
    model : str or Path
        Folder of a checkpoint in the layout of diffusers, or hub id.
    revision : str or None
        Commit of the hub repository.
    resolution : int
        Side of the picture given to the autoencoder, in pixels (320 in the paper).
    device : {"auto", "cpu", "cuda"}
    dtype : {"auto", "float32", "float16", "bfloat16"}
    batch_size : int
        Images at once; halved when memory runs out.
    z : str or Path
        Output, float32 of shape (n_images, channels, height, width): posterior mean as
        `nsdldm.diffusion.latents.scale_latents` has it, a row an image of the table.
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
    shape = (len(nsd_ids), *latent_shape(autoencoder, resolution))

    def encode(batch):
        pictures = prepare_pictures(read_images(stimuli, nsd_ids[batch]), resolution)
        return list(zip(*encode_pictures(autoencoder, pictures), strict=True))

    with (
        create_array(z, shape, np.float32) as means,
        create_array(z_logvar, shape, np.float32) as logvars,
    ):
        for index, latent in run_images(encode, len(nsd_ids), batch_size, device, "z"):
            means[index], logvars[index] = latent
        logger.info("z: shape %s, standard deviation %.3f", shape, means.std())

"""Image latents z: the images that a subject saw, through the autoencoder."""

import logging
from pathlib import Path

import numpy as np

from nsdldm.diffusion.latents import encode_pictures, latent_shape, prepare_pictures
from nsdldm.diffusion.loading import Model, load_autoencoder
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.batching import run_images
from nsdldm.support.files import create_array, load_table

logger = logging.getLogger(__name__)


def encode_latents(
    *,
    images: str | Path,
    stimuli: str | Path,
    model: Model,
    resolution: int,
    z: str | Path,
    z_logvar: str | Path,
) -> None:
    """Encode the images a subject saw.

    The posterior mean is kept, whereas the published code draws a random sample.

    Parameters
    ----------
    images
        Table of images with the column nsd_id.
    stimuli
        ``nsd_stimuli.hdf5``.
    model : Model
    resolution : int
        Side of the picture given to the autoencoder, in pixels (320 in the paper).
    z
        Output, float32 of shape (n_images, channels, height, width): posterior mean, scaled as by
        `nsdldm.diffusion.latents.scale_latents`, one row per image of the table.
    z_logvar
        Output of the same shape: log-variance of the scaled latent.

    Raises
    ------
    InputError
        The model or the pictures cannot be used.
    """
    nsd_ids = load_table(images)["nsd_id"].to_numpy()
    device, dtype = model.choose()
    autoencoder = load_autoencoder(model.path, model.revision, device, dtype)
    shape = (len(nsd_ids), *latent_shape(autoencoder, resolution))

    def encode(batch):
        pictures = prepare_pictures(read_images(stimuli, nsd_ids[batch]), resolution)
        return list(zip(*encode_pictures(autoencoder, pictures), strict=True))

    latents = run_images(encode, len(nsd_ids), model.batch_size, device, "z")
    with (
        create_array(z, shape, np.float32) as means,
        create_array(z_logvar, shape, np.float32) as logvars,
    ):
        for index, latent in latents:
            means[index], logvars[index] = latent
        logger.info("z: shape %s, standard deviation %.3f", shape, means.std())

"""Denoised latents z_c: z noised to a level, then denoised with c."""

import logging

import numpy as np
import torch

from nsdldm.diffusion.denoising import NOISES, denoise, open_feature, plan_steps
from nsdldm.diffusion.loading import load_denoiser, load_text
from nsdldm.diffusion.text import embed_texts
from nsdldm.support.batching import draw_noise, run_images
from nsdldm.support.devices import check_choice, choose_device, choose_dtype
from nsdldm.support.files import create_array, load_table

logger = logging.getLogger(__name__)


def denoise_latents(
    *,
    images,
    z,
    c,
    model,
    revision,
    steps,
    strength,
    guidance,
    noise,
    seed,
    scheduler,
    device,
    dtype,
    batch_size,
    zc,
):
    """Noise the latents of the images a subject saw and denoise them with their captions.

    Parameters
    ----------
    images : str or Path
        Table of images with the column nsd_id.
    z, c : str or Path
        Features of these images, as `encode_latents` and `embed_captions` write them.
    model, revision, device, dtype, batch_size
        As `nsdldm.features.latents.encode_latents`.
    steps, strength
        As `plan_steps`.
    guidance : float
        As `denoise`.
    noise : {"per-image", "shared"}
        Noise that belongs to the image, or that of image 0 for all.
    seed : int
        Of the noise.
    scheduler : {"ddim", "dpmsolver++"}
    zc : str or Path
        Output, float32 of the shape of z: the latent at the end of the reverse process.

    Raises
    ------
    InputError
        The model or a setting cannot be used, or z or c do not belong to the model or images.
    """
    check_choice("denoising.noise", noise, NOISES)
    nsd_ids = load_table(images)["nsd_id"].to_numpy()
    owners = nsd_ids if noise == "per-image" else np.zeros_like(nsd_ids)
    device = choose_device(device)
    dtype = choose_dtype(dtype, device)
    unconditional = embed_texts(*load_text(model, revision, device, dtype), [""])
    unet, sampler = load_denoiser(model, revision, device, dtype, scheduler)
    latents = open_feature(z, (len(nsd_ids), unet.config.in_channels, None, None))
    embeddings = open_feature(c, (len(nsd_ids), *unconditional.shape[1:]))
    logger.info("timesteps %s", plan_steps(sampler, steps, strength).tolist())

    def run(batch):
        timesteps = plan_steps(sampler, steps, strength)
        clean, given = (
            torch.from_numpy(np.array(array[batch])).to(device) for array in (latents, embeddings)
        )
        drawn = torch.from_numpy(draw_noise(seed, owners[batch], clean.shape[1:])).to(device)
        noisy = sampler.add_noise(clean, drawn, timesteps[:1])
        result = denoise(unet, sampler, noisy, timesteps, given, unconditional, guidance)
        return result.cpu().numpy()

    with create_array(zc, latents.shape, np.float32) as denoised:
        for index, latent in run_images(run, len(nsd_ids), batch_size, device, "z_c"):
            denoised[index] = latent
        logger.info("z_c: shape %s, standard deviation %.3f", latents.shape, denoised.std())

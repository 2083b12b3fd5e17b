"""Denoised latents z_c: z noised to a level, then denoised with c."""

import logging

import numpy as np
import torch

from nsdldm.errors import Finding, InputError
from nsdldm.files import create_array, load_array, load_table
from nsdldm.ldm.batching import draw_noise, run_batched
from nsdldm.ldm.loading import choose_device, choose_dtype, load_denoiser, load_text
from nsdldm.ldm.text import embed_texts
from nsdldm.logs import progress

logger = logging.getLogger(__name__)


def plan_steps(scheduler, steps, strength):
    """List the timesteps that a reverse process runs.

    As in diffusers' image-to-image pipeline the latent is noised to the level of the first step
    that is run. The published code noises it one step further (801 where the first of 40 steps is
    781), a level that no step then removes.

    Parameters
    ----------
    scheduler : diffusers scheduler
    steps : int
        Steps of the whole chain.
    strength : float
        Share of the chain that is run, the last part; at least one step.

    Returns
    -------
    int64 tensor of shape (n,)
        Descending.
    """
    scheduler.set_timesteps(steps)
    n = min(max(int(steps * strength), 1), steps)
    start = (steps - n) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    return scheduler.timesteps[start:]


@torch.inference_mode()
def denoise(unet, scheduler, latents, timesteps, c, unconditional, guidance):
    """Run the reverse process with classifier-free guidance.

    Parameters
    ----------
    unet : UNet2DConditionModel
    scheduler : diffusers scheduler
        Deterministic; set up by `plan_steps`.
    latents : float32 tensor of shape (n, channels, height, width)
        Noised to the level of the first timestep.
    timesteps : int64 tensor
    c : tensor of shape (n, tokens, width)
    unconditional : tensor of shape (1, tokens, width)
        Embedding of the empty text.
    guidance : float
        Predicted = unconditional + guidance x (conditional - unconditional); 1 leaves the
        unconditional pass out.

    Returns
    -------
    float32 tensor of shape (n, channels, height, width)
    """
    n = len(latents)
    guided = guidance != 1
    context = torch.cat([unconditional.expand(n, -1, -1), c]) if guided else c
    context = context.to(unet.device, unet.dtype)
    for timestep in timesteps:
        given = torch.cat([latents, latents]) if guided else latents
        predicted = unet(given.to(unet.dtype), timestep, context).sample.float()
        if guided:
            without, with_c = predicted.chunk(2)
            predicted = without + guidance * (with_c - without)
        latents = scheduler.step(predicted, timestep, latents).prev_sample
    return latents


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
        As `nsdldm.ldm.latents.encode_latents`.
    steps, strength
        As `plan_steps`.
    guidance : float
        As `denoise`.
    noise : {"per-image", "shared"}
        Noise that belongs to the image, or the same for all images.
    seed : int
        Of the noise.
    scheduler : {"ddim", "dpmsolver++"}
    zc : str or Path
        Output, float32 of the shape of z: the latent at the end of the reverse process.

    Raises
    ------
    InputError
        The model cannot be used, or z or c do not belong to it.
    """
    nsd_ids = load_table(images)["nsd_id"].to_numpy()
    device = choose_device(device)
    dtype = choose_dtype(dtype, device)
    unet, sampler = load_denoiser(model, revision, device, dtype, scheduler)
    unconditional = embed_texts(*load_text(model, revision, device, dtype), [""])
    z, c = load_array(z), load_array(c)
    _check_features(unet, z, c, len(nsd_ids))

    def run(batch):
        timesteps = plan_steps(sampler, steps, strength)
        owners = nsd_ids[batch] if noise == "per-image" else [0] * len(nsd_ids[batch])
        drawn = torch.from_numpy(draw_noise(seed, owners, z.shape[1:])).to(device)
        clean = torch.from_numpy(np.array(z[batch])).to(device)
        noised = sampler.add_noise(clean, drawn, timesteps[:1])
        given = torch.from_numpy(np.array(c[batch])).to(device)
        return denoise(unet, sampler, noised, timesteps, given, unconditional, guidance)

    with create_array(zc, z.shape, np.float32) as result:
        batches = run_batched(run, len(nsd_ids), batch_size)
        n_batches = -(-len(nsd_ids) // batch_size)
        for batch, latents in progress(batches, n_batches, "batches of z_c"):
            result[batch] = latents.cpu().numpy()
        logger.info("z_c: %d images, standard deviation %.3f", len(result), float(np.std(result)))


def _check_features(unet, z, c, n):
    """Stop if z or c were not made by this model for these images."""
    channels, width = unet.config.in_channels, unet.config.cross_attention_dim
    findings = []
    remedy = "Make the features again with the model of the config"
    if z.shape[:2] != (n, channels):
        expected = f"{n} latents of {channels} channels"
        findings.append(Finding("z", expected, f"shape {z.shape}", remedy))
    if c.shape[0] != n or c.shape[-1] != width:
        expected = f"{n} embeddings of width {width}"
        findings.append(Finding("c", expected, f"shape {c.shape}", remedy))
    if findings:
        raise InputError(*findings)

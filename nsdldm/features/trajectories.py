"""Latents and U-Net activations along the reverse process, from z noised and then denoised with
c."""

from __future__ import annotations

import logging
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from nsdldm.diffusion.denoising import (
    NOISES,
    Denoising,
    denoise,
    open_denoiser,
    open_feature,
    plan_steps,
)
from nsdldm.diffusion.loading import Model
from nsdldm.features.activations import plan_reductions, trace
from nsdldm.features.captions import lend_captions
from nsdldm.features.parts import plan_bytes, read_rows, row_blocks, write_rows
from nsdldm.features.spaces import CONTROLS, LATENTS, plan_spaces
from nsdldm.support.batching import draw_noise, run_batched, run_images
from nsdldm.support.chunks import chunk_rows
from nsdldm.support.devices import check_choice
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import create_array, load_table, replacing
from nsdldm.support.logs import progress

logger = logging.getLogger(__name__)

TEXTS = ("own", *CONTROLS)


class Trajectories(NamedTuple):
    """What is kept along the reverse process.

    Parameters
    ----------
    noise_levels, step_shares, latent, blocks
        As `nsdldm.features.spaces.plan_spaces`. A block is any module that the U-Net runs once per
        pass. If it has several outputs, the first (the hidden states) is taken, and from a guided
        pass the half that sees c. Activations at a step are those of the pass that computes the
        step.
    reduction : {"exact", "projection", "pooling"}
        Whether activations are kept in full, as float16, or reduced to a `width`, as
        `nsdldm.features.activations.plan_reduction` does.
    width : int
        Maximum width per block and step after projection or pooling.
    """

    noise_levels: list[float]
    step_shares: list[float]
    latent: str
    blocks: dict[str, str]
    reduction: str = "exact"
    width: int = 6400


def denoise_latents(
    *,
    images: str | Path,
    z: str | Path,
    c: str | Path,
    model: Model,
    denoising: Denoising,
    zc: str | Path,
) -> None:
    """Noise the latents of the images a subject saw and denoise them with their captions.

    Parameters
    ----------
    images
        Table of images with the column nsd_id.
    z, c
        Features of these images, as `nsdldm.features.latents.encode_latents` and
        `nsdldm.features.captions.embed_captions` write them.
    model : Model
    denoising : Denoising
    zc
        Output, float32 of the shape of z: the latent at the end of the reverse process.

    Raises
    ------
    InputError
        The model or a setting cannot be used, or z or c do not match the model or the images.
    """
    check_choice("noise", denoising.noise, NOISES)
    nsd_ids = load_table(images)["nsd_id"].to_numpy()
    owners = nsd_ids if denoising.noise == "per-image" else np.zeros_like(nsd_ids)
    unet, sampler, empty = open_denoiser(model, denoising.scheduler)
    latents = open_feature(z, (len(nsd_ids), unet.config.in_channels, None, None))
    embeddings = open_feature(c, (len(nsd_ids), *empty.shape[1:]))
    chain, device = denoising[:2], unet.device
    logger.info("timesteps %s", plan_steps(sampler, *chain).tolist())

    def run(batch):
        timesteps = plan_steps(sampler, *chain)
        clean, given = (
            torch.from_numpy(np.array(array[batch])).to(device) for array in (latents, embeddings)
        )
        noise = draw_noise(denoising.seed, owners[batch], clean.shape[1:])
        noisy = sampler.add_noise(clean, torch.from_numpy(noise).to(device), timesteps[:1])
        scale = denoising.guidance_scale
        return denoise(unet, sampler, noisy, timesteps, given, empty, scale).cpu().numpy()

    with create_array(zc, latents.shape, np.float32) as denoised:
        for index, latent in run_images(run, len(nsd_ids), model.batch_size, device, "z_c"):
            denoised[index] = latent
        logger.info("z_c: shape %s, standard deviation %.3f", latents.shape, denoised.std())


def collect_trajectories(
    *,
    images: str | Path,
    z: str | Path,
    c: str | Path,
    model: Model,
    denoising: Denoising,
    trajectories: Trajectories,
    text: str,
    chunk: int,
    n_chunks: int,
    outputs: dict[str, str | Path],
) -> None:
    """Keep latents and U-Net activations along the reverse process of the images a subject saw.

    One pass per image and noise level yields all spaces of that level.

    Parameters
    ----------
    images, z, c, model, denoising
        As `denoise_latents`.
    trajectories : Trajectories
    text : {"own", "empty", "other-caption"}
        What an image is denoised with: its own captions, the empty text, or the captions of another
        image of its split, chosen by `nsdldm.features.captions.lend_captions` with the seed.
    chunk, n_chunks : int
        Index of the part, from 0, and number of contiguous parts of the images.
    outputs
        ``.npy`` for each space to keep, named as by `nsdldm.features.spaces.plan_spaces`: its first
        axis is the chunk's images, the rest a latent's shape or the numbers of a block. float32,
        except that full activations are float16 because of their size. Noise levels that no output
        needs are not run.

    Raises
    ------
    InputError
        A space, module path, model or setting cannot be used; z or c do not match the model or the
        images, or are not finite; there is too little memory for one image or too little disk space
        for the outputs; or full activations exceed the range of float16.
    """
    check_choice("noise", denoising.noise, NOISES)
    check_choice("text", text, TEXTS)
    spaces = _find_spaces(outputs, denoising, trajectories)
    denoiser = open_denoiser(model, denoising.scheduler)
    nsd_ids, lenders, part = _choose_rows(images, chunk, n_chunks, text, denoising.seed)
    shape = _check_features(z, c, len(nsd_ids), denoiser)
    used = {space.source for space in spaces.values()}
    blocks = {path: name for name, path in trajectories.blocks.items() if path in used}
    how = trajectories.reduction, trajectories.width
    reductions = plan_reductions(denoiser, blocks, shape, *how)
    kinds = {
        name: _kind_of(space, shape, reductions, trajectories.reduction)
        for name, space in spaces.items()
    }
    folder = Path(next(iter(outputs.values()))).absolute().parent
    _plan_disk(len(nsd_ids), part, plan_bytes(len(nsd_ids), kinds), folder)
    rows = {z: np.arange(part.start, part.stop), c: lenders[part]}
    for path, own in rows.items():
        check_finite(path, nsd_ids, own)
    make = _batch_maker(denoiser, denoising, text, spaces, reductions, nsd_ids[part], rows)
    batches = _run(make, part.stop - part.start, model.batch_size, denoiser.unet.device, kinds)
    _write(batches, part.stop - part.start, {name: outputs[name] for name in spaces}, kinds)


def _write(batches, n, outputs, kinds):
    """Write spaces batch by batch; files are remapped, since pages of open maps pile up."""
    with ExitStack() as stack:
        files = {name: stack.enter_context(replacing(path)) for name, path in outputs.items()}
        for name, file in files.items():
            shape, dtype = kinds[name]
            with create_array(file, (n, *shape), dtype):
                pass
        for batch, values in batches:
            for name, file in files.items():
                write_rows(file, batch, values[name])


def _find_spaces(names, denoising, trajectories):
    """The spaces to make; all must follow from the settings."""
    plan = plan_spaces(
        denoising.num_inference_steps,
        trajectories.noise_levels,
        denoising.strength,
        *trajectories[1:4],
    )
    unknown = [name for name in names if name not in plan]
    if unknown or not names:
        found = ", ".join(unknown) or "none"
        remedy = "Correct the names, or the levels, steps and blocks of trajectories"
        expected = "feature spaces among " + ", ".join(plan)
        raise InputError(Finding("outputs", expected, found, remedy))
    return {name: plan[name] for name in names}


def _choose_rows(images, chunk, n_chunks, text, seed):
    """Ids of all images of a table, the row whose c each gets, and the rows of a chunk."""
    table = load_table(images)
    nsd_ids = table["nsd_id"].to_numpy(np.int64)
    if n_chunks > len(nsd_ids):
        expected, remedy = f"at most {len(nsd_ids)}, one per image", "Lower it"
        raise InputError(Finding("`n_chunks`", expected, str(n_chunks), remedy))
    lenders = np.arange(len(nsd_ids))
    if text == "other-caption":
        lenders = lend_captions(nsd_ids, table["split"], seed)
    return nsd_ids, lenders, chunk_rows(len(nsd_ids), chunk, n_chunks)


def _check_features(z, c, n, denoiser):
    """Check that z and c match the images and the model; returns the shape of a latent."""
    open_feature(c, (n, *denoiser.empty.shape[1:]))
    return open_feature(z, (n, denoiser.unet.config.in_channels, None, None)).shape[1:]


def _kind_of(space, latent_shape, reductions, reduction):
    """Shape of one image's features in a space, and the dtype that they are kept in."""
    if space.source in LATENTS:
        return latent_shape, np.dtype(np.float32)
    dtype = np.float16 if reduction == "exact" else np.float32
    return (reductions[space.source][1],), np.dtype(dtype)


def _plan_disk(n_images, part, sizes, folder):
    """Log what will be written before anything is, and stop if there is no disk space for it."""
    for name, size in sizes.items():
        logger.info("%s: %.3f GB", name, size / 1e9)
    total = sum(sizes.values())
    own = total * (part.stop - part.start) // n_images
    folder = next(each for each in (folder, *folder.parents) if each.is_dir())
    free = shutil.disk_usage(folder).free
    message = "%d bytes in all, %.3f GB; %.3f GB in this chunk; %.3f GB are free"
    logger.info(message, total, *(size / 1e9 for size in (total, own, free)))
    if own > free:
        expected = f"{own / 1e9:.3f} GB of free space for this chunk, {total / 1e9:.3f} GB for all"
        remedy = "Free some, use a larger disk, or set `reduction` to projection"
        raise InputError(Finding(str(folder), expected, f"{free / 1e9:.3f} GB", remedy))
    if total > free:
        message = "%s has space for this chunk, but not for all of the subject's"
        logger.warning(message, folder)


def check_finite(path: Path | str, nsd_ids: np.ndarray, rows: np.ndarray) -> None:
    """Check that rows of a feature, whose images are `nsd_ids`, are finite."""
    for block in row_blocks(len(rows)):
        values = read_rows(path, rows[block])
        finite = np.isfinite(values).reshape(len(values), -1).all(1)
        if not finite.all():
            first = rows[block][np.argmin(finite)]
            found = f"infinite or undefined ones for image {nsd_ids[first]} (row {first})"
            remedy = "Look for what made them there, then compute the file again"
            raise InputError(Finding(str(path), "finite values", found, remedy))


def _batch_maker(denoiser, denoising, text, spaces, reductions, nsd_ids, rows):
    """Make the function that takes a slice of a chunk's images and returns an array per space.

    `nsd_ids` are the ids of these images, and `rows` their rows in the files of z and c.
    """
    owners = nsd_ids if denoising.noise == "per-image" else np.zeros_like(nsd_ids)
    levels = {}
    for space in spaces.values():
        sources = levels.setdefault(space.strength, {})
        sources.setdefault(space.step, set()).add(space.source)
    device, scale = denoiser.unet.device, denoising.guidance_scale
    if text == "empty":
        # Guiding the empty text away from the empty text changes nothing.
        scale = 1

    def make(batch):
        read = (read_rows(path, own[batch]) for path, own in rows.items())
        clean, given = (torch.from_numpy(values).to(device) for values in read)
        if text == "empty":
            given = denoiser.empty.to(device).expand_as(given)
        drawn = draw_noise(denoising.seed, owners[batch], clean.shape[1:])
        drawn = torch.from_numpy(drawn).to(device)
        found = {}
        for strength, sources in levels.items():
            timesteps = plan_steps(denoiser.sampler, denoising.num_inference_steps, strength)
            noisy = denoiser.sampler.add_noise(clean, drawn, timesteps[:1])
            passed = trace(denoiser, noisy, timesteps, given, scale, sources, reductions)
            found |= {(strength, *place): values for place, values in passed.items()}
        return {name: found[space] for name, space in spaces.items()}

    return make


def _run(make, n, batch_size, device, kinds):
    """Yield batches and their values; refuses values that cannot be kept."""
    batches = run_batched(make, n, batch_size, device)
    for batch, values in progress(batches, -(-n // batch_size), "batches of trajectories"):
        for name, array in values.items():
            if not np.isfinite(array).all():
                found = f"infinite or undefined ones in images {batch.start} to {batch.stop - 1}"
                remedy = "Set `dtype` to float32, or to bfloat16 on a GPU that has it"
                expected = f"finite values of {name}"
                raise InputError(Finding("`dtype`", expected, found, remedy))
            largest, most = np.abs(array).max(), np.finfo(kinds[name][1]).max
            if largest > most:
                expected = f"activations of at most {most:g}, which float16 can hold"
                found = f"{largest:g} in {name}, images {batch.start} to {batch.stop - 1}"
                remedy = "Set it to projection, which keeps float32"
                raise InputError(Finding("`reduction`", expected, found, remedy))
        yield batch, values

"""Latents along the reverse process, from z noised and then denoised with c, and U-Net activations
at some of its steps."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch

from nsdldm.diffusion.denoising import (
    NOISES,
    Conditions,
    Denoiser,
    Denoising,
    denoise,
    open_denoiser,
    open_feature,
    plan_steps,
)
from nsdldm.diffusion.loading import Model
from nsdldm.features.activations import plan_reductions, watching
from nsdldm.features.captions import lend_captions
from nsdldm.features.collecting import plan_disk, run_checked
from nsdldm.features.parts import read_rows, row_blocks, write_rows
from nsdldm.features.spaces import BEFORE, CONTROLS, LATENTS, plan_spaces
from nsdldm.support.batching import draw_noise
from nsdldm.support.chunks import chunk_rows
from nsdldm.support.devices import check_choice
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import create_array, load_table, replacing

logger = logging.getLogger(__name__)

TEXTS = ("own", *CONTROLS)
# Of values that are not finite.
CAUSE = ("`dtype`", "Set `dtype` to float32, or to bfloat16 on a GPU that has it")


class Trajectories(NamedTuple):
    """Which latents are kept along the reverse process, as `nsdldm.features.spaces.plan_spaces`."""

    step_shares: list[float]
    latent: str
    noise_levels: list[float] = ()


class Activations(NamedTuple):
    """Which activations are kept, and how.

    Parameters
    ----------
    step_shares, blocks
        As `nsdldm.features.spaces.plan_spaces`. A block is any module that the U-Net runs once per
        pass. If it has several outputs, the first (the hidden states) is taken.
    reduction : {"exact", "projection", "pooling"}
        Whether activations are kept in full, as float16, or reduced to a `width`, as
        `nsdldm.features.activations.plan_reduction` does.
    width : int
        Maximum width per block and step after projection or pooling.
    """

    step_shares: list[float]
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
    trajectories: Trajectories,
    outputs: dict[str, str | Path],
    text: str = "own",
    chunk: int = 0,
    n_chunks: int = 1,
) -> None:
    """Noise the latents of the images a subject saw, denoise them, and keep latents on the way.

    One pass per image and noise level yields all spaces of that level.

    Parameters
    ----------
    images
        Table of images with the columns nsd_id and split.
    z, c
        Features of these images, as `nsdldm.features.latents.encode_latents` and
        `nsdldm.features.captions.embed_captions` write them.
    model : Model
    denoising : Denoising
    trajectories : Trajectories
    outputs
        ``.npy`` for each space to keep, named as by `nsdldm.features.spaces.plan_spaces`: float32,
        its first axis is the chunk's images, the rest the shape of a latent. Noise levels that no
        output needs are not run.
    text : {"own", "empty", "other-caption"}
        What an image is denoised with: its own captions, the empty text, or the captions of another
        image of its split, chosen by `nsdldm.features.captions.lend_captions` with the seed.
    chunk, n_chunks : int
        Index of the part, from 0, and number of contiguous parts of the images.

    Raises
    ------
    InputError
        A space, model or setting cannot be used; z or c do not match the model or the images, or
        are not finite; or there is too little memory for one image or too little disk space for the
        outputs.
    """
    check_choice("noise", denoising.noise, NOISES)
    check_choice("text", text, TEXTS)
    planned = plan_spaces(
        denoising.num_inference_steps,
        trajectories.noise_levels,
        denoising.strength,
        trajectories.step_shares,
        trajectories.latent,
        {},
    )
    spaces = _find_spaces(outputs, planned)
    denoiser = open_denoiser(model, denoising.scheduler)
    nsd_ids, lenders, part = _choose_rows(images, chunk, n_chunks, text, denoising.seed)
    shape = _check_features(z, c, len(nsd_ids), denoiser)
    kinds = {name: (shape, np.dtype(np.float32)) for name in spaces}
    plan_disk(len(nsd_ids), part, kinds, next(iter(outputs.values())))
    rows = {z: np.arange(part.start, part.stop), c: lenders[part]}
    for path, own in rows.items():
        check_finite(path, nsd_ids, own)
    make = _chain_maker(denoiser, denoising, text, spaces, nsd_ids[part], rows)
    how = model.batch_size, denoiser.unet.device, kinds, CAUSE
    batches = run_checked(make, part.stop - part.start, *how)
    _write(batches, part.stop - part.start, outputs, kinds)


def collect_activations(
    *,
    images: str | Path,
    before: dict[str, str | Path],
    c: str | Path,
    model: Model,
    denoising: Denoising,
    activations: Activations,
    outputs: dict[str, str | Path],
    chunk: int = 0,
    n_chunks: int = 1,
) -> None:
    """Keep the U-Net's activations at steps of the reverse process that `denoise_latents` has run.

    They are those of the pass that sees c, at the latents that the steps start from.

    Parameters
    ----------
    images, c, model, denoising, chunk, n_chunks
        As `denoise_latents` takes them.
    before : dict of path
        For ``before-s{percent}``, what `denoise_latents` wrote for all images.
    activations : Activations
    outputs
        ``.npy`` for each ``unet-{block}-s{percent}``: its first axis is the chunk's images, the
        second the numbers of the block, float32, except that full activations are float16 because
        of their size.

    Raises
    ------
    InputError
        A space, module path, model or setting cannot be used; latents or c do not match the model
        or the images, or are not finite; there is too little memory for one image or too little
        disk space for the outputs; or full activations exceed the range of float16.
    """
    planned = plan_spaces(
        denoising.num_inference_steps,
        [],
        denoising.strength,
        activations.step_shares,
        LATENTS[0],
        activations.blocks,
    )
    names = [name for name, space in planned.items() if space.source in activations.blocks.values()]
    spaces = _find_spaces(outputs, {name: planned[name] for name in names})
    denoiser = open_denoiser(model, denoising.scheduler)
    nsd_ids, rows, part = _choose_rows(images, chunk, n_chunks, "own", denoising.seed)
    starts = {planned[name].step: path for name, path in before.items()}
    for path in starts.values():
        shape = _check_features(path, c, len(nsd_ids), denoiser)
    blocks = {path: name for name, path in activations.blocks.items()}
    how = activations.reduction, activations.width
    reductions = plan_reductions(denoiser, blocks, shape, *how)
    dtype = np.dtype(np.float16 if activations.reduction == "exact" else np.float32)
    kinds = {name: ((reductions[space.source][1],), dtype) for name, space in spaces.items()}
    plan_disk(len(nsd_ids), part, kinds, next(iter(outputs.values())))
    rows = rows[part]
    for path in (*starts.values(), c):
        check_finite(path, nsd_ids, rows)
    make = _probe_maker(denoiser, denoising, spaces, reductions, rows, starts, c)
    how = model.batch_size, denoiser.unet.device, kinds, CAUSE
    batches = run_checked(make, len(rows), *how)
    _write(batches, len(rows), outputs, kinds)


def trace(
    denoiser: Denoiser,
    latents: torch.Tensor,
    timesteps: torch.Tensor,
    c: torch.Tensor,
    guidance_scale: float,
    sources: dict[int, set[str]],
) -> dict[tuple[int, str], np.ndarray]:
    """Run the reverse process and keep the latents requested along the way.

    Parameters
    ----------
    denoiser : nsdldm.diffusion.denoising.Denoiser
    latents, timesteps, c, guidance_scale
        As `nsdldm.diffusion.denoising.denoise`.
    sources : dict of int to set of str
        What to keep after each number of steps: ``x_t``, ``x0`` or ``before``.

    Returns
    -------
    dict of (int, str) to float32 array
        Values by number of steps and source, of shape (n_images, ...).
    """
    unet, sampler, empty = denoiser
    kept, done = {}, 0

    def step(predicted, timestep, noisy):
        nonlocal done
        result = sampler.step(predicted, timestep, noisy)
        done += 1
        found = {BEFORE: noisy, "x_t": result.prev_sample, "x0": _predicted_clean(sampler, result)}
        for source in sources.get(done, ()):
            kept[done, source] = found[source].float().cpu().numpy()
        return result

    stepper = SimpleNamespace(step=step)
    denoise(unet, stepper, latents, timesteps, Conditions((empty, c)), guidance_scale)
    return kept


def _predicted_clean(sampler, result):
    """The clean latent that a sampler's last step was made from."""
    if "pred_original_sample" in result:
        return result.pred_original_sample
    # DPM-Solver++ stores its predictions of it.
    return sampler.model_outputs[-1]


@torch.inference_mode()
def probe(
    unet: torch.nn.Module,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    c: torch.Tensor,
    reductions: dict[str, tuple[Callable, int]],
) -> dict[str, np.ndarray]:
    """Activations of some modules in one pass of the U-Net.

    Parameters
    ----------
    unet : torch.nn.Module
    latents : tensor of shape (n, channels, height, width)
    timestep : int64 tensor of one value
    c : tensor of shape (n, tokens, width)
    reductions : dict of str to tuple
        `nsdldm.features.activations.plan_reduction` by module path.

    Returns
    -------
    dict of str to float32 array of shape (n, n_kept)
    """
    kept = {}

    def take(path, output):
        kept[path] = reductions[path][0](output.float()).cpu().numpy()

    with watching(unet, dict.fromkeys(reductions, ""), take):
        latents = latents.to(unet.device, unet.dtype, memory_format=torch.channels_last)
        unet(latents, timestep, c.to(unet.device, unet.dtype))
    return kept


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


def _find_spaces(names, planned):
    """The spaces to make; all must follow from the settings."""
    unknown = [name for name in names if name not in planned]
    if unknown or not names:
        found = ", ".join(unknown) or "none"
        remedy = "Correct the names, or the levels, steps and blocks of trajectories"
        expected = "feature spaces among " + ", ".join(planned)
        raise InputError(Finding("outputs", expected, found, remedy))
    return {name: planned[name] for name in names}


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


def check_finite(path: Path | str, nsd_ids: np.ndarray, rows: np.ndarray) -> None:
    """Check that rows of a feature, int of shape (n,), whose images are `nsd_ids`, are finite."""
    for block in row_blocks(len(rows)):
        values = read_rows(path, rows[block])
        finite = np.isfinite(values).reshape(len(values), -1).all(1)
        if not finite.all():
            first = rows[block][np.argmin(finite)]
            found = f"infinite or undefined ones for image {nsd_ids[first]} (row {first})"
            remedy = "Look for what made them there, then compute the file again"
            raise InputError(Finding(str(path), "finite values", found, remedy))


def _chain_maker(denoiser, denoising, text, spaces, nsd_ids, rows):
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
            passed = trace(denoiser, noisy, timesteps, given, scale, sources)
            found |= {(strength, *place): values for place, values in passed.items()}
        return {name: found[space] for name, space in spaces.items()}

    return make


def _probe_maker(denoiser, denoising, spaces, reductions, rows, starts, c):
    """The same for activations. `rows` are those of the chunk's images in the files `starts`, by
    step, and `c`."""
    timesteps = plan_steps(denoiser.sampler, *denoising[:2])
    wanted = {}
    for space in spaces.values():
        wanted.setdefault(space.step, {})[space.source] = reductions[space.source]

    def make(batch):
        given, found = torch.from_numpy(read_rows(c, rows[batch])), {}
        for step, own in wanted.items():
            latents = torch.from_numpy(read_rows(starts[step], rows[batch]))
            passed = probe(denoiser.unet, latents, timesteps[step - 1], given, own)
            found |= {(step, path): values for path, values in passed.items()}
        return {name: found[space.step, space.source] for name, space in spaces.items()}

    return make

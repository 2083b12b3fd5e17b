"""Latents and U-Net activations along the reverse process, for the encoders of figures 7 to 9."""

import difflib
import functools
import logging
import shutil
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from diffusers import SchedulerMixin, UNet2DConditionModel
from sklearn.random_projection import SparseRandomProjection

from nsdldm.diffusion.denoising import NOISES, denoise, open_feature, plan_steps
from nsdldm.diffusion.loading import load_denoiser, load_text
from nsdldm.diffusion.text import embed_texts
from nsdldm.features.captions import lend_captions
from nsdldm.features.parts import plan_bytes, read_rows, row_blocks, write_rows
from nsdldm.features.spaces import CONTROLS, LATENTS, plan_spaces
from nsdldm.support.batching import draw_noise, run_batched
from nsdldm.support.chunks import chunk_rows
from nsdldm.support.devices import check_choice, choose_device, choose_dtype
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import create_array, load_table, replacing
from nsdldm.support.logs import progress

logger = logging.getLogger(__name__)

TEXTS = ("own", *CONTROLS)
REDUCTIONS = ("exact", "projection", "pooling")
# Of the projections, not of the noise: seeds of the noise are compared under one projection.
PROJECTION_SEED = 0


def collect_trajectories(
    *,
    images,
    z,
    c,
    model,
    revision,
    steps,
    strengths,
    strength,
    guidance,
    scheduler,
    noise,
    seed,
    text,
    step_shares,
    latent,
    blocks,
    reduction,
    width,
    device,
    dtype,
    batch_size,
    chunk,
    n_chunks,
    outputs,
):
    """Keep latents and U-Net activations along the reverse process of the images a subject saw.

    One pass per image and noise level yields all spaces of that level.

    Parameters
    ----------
    images, z, c
        As `nsdldm.features.trajectories.denoise_latents`.
    model, revision, device, dtype
        As `nsdldm.features.latents.encode_latents`.
    steps, strengths, strength, step_shares, latent, blocks
        As `nsdldm.features.spaces.plan_spaces`. A block is any module that the U-Net runs once a
        pass; of several outputs the first, the hidden states, is taken, and of a guided pass the
        half that sees c. Activations at a step are those of the pass that the step is made from.
    guidance, scheduler, noise, seed
        As `nsdldm.features.trajectories.denoise_latents`.
    text : {"own", "empty", "other-caption"}
        What an image is denoised with: its captions, the empty text, or the captions of another
        image of its split, chosen by `nsdldm.features.captions.lend_captions` with `seed`.
    reduction : {"exact", "projection", "pooling"}
        Whether activations are kept whole, as float16, or brought down to a `width`, as
        `plan_reduction` does.
    width : int
        Most numbers kept of a block and step by projection or pooling.
    batch_size : int
        Images at once; halved when memory runs out.
    chunk, n_chunks : int
        0-based number of the part, and number of contiguous parts of the images.
    outputs : dict of str to str or Path
        ``.npy`` for each space to keep, named as by `nsdldm.features.spaces.plan_spaces`: its first
        axis is the chunk's images, the rest a latent's shape or the numbers of a block. float32,
        but whole activations float16: they are many. Noise levels of which nothing is asked are not
        run.

    Raises
    ------
    InputError
        A space, module path, model or setting that cannot be used; z or c that do not belong to
        the model or images, or are not finite; too little memory for one image, or too little space
        for the outputs; whole activations beyond the range of float16.
    """
    check_choice("trajectories.noise", noise, NOISES)
    check_choice("text", text, TEXTS)
    plan = plan_spaces(steps, strengths, strength, step_shares, latent, blocks)
    spaces = {name: plan[name] for name in _check_names(outputs, plan)}
    device = choose_device(device)
    dtype = choose_dtype(dtype, device)
    networks = _load_networks(model, revision, device, dtype, scheduler)
    nsd_ids, lenders, part = _choose_rows(images, chunk, n_chunks, text, seed)
    shape = _check_features(z, c, len(nsd_ids), networks)
    reductions = _plan_reductions(networks, _used(blocks, spaces), shape, reduction, width)
    shapes = {name: _shape_of(space, shape, reductions) for name, space in spaces.items()}
    dtypes = {name: _dtype_of(space, reduction) for name, space in spaces.items()}
    folder = Path(next(iter(outputs.values()))).absolute().parent
    _plan_disk(len(nsd_ids), part, plan_bytes(len(nsd_ids), shapes, dtypes), folder)
    rows = {z: np.arange(part.start, part.stop), c: lenders[part]}
    for path, own in rows.items():
        check_finite(path, nsd_ids, own)
    chain = Chain(steps, float(guidance), scheduler, noise, seed, text)
    make = _batch_maker(networks, chain, spaces, reductions, nsd_ids[part], rows)
    n = part.stop - part.start
    with ExitStack() as stack:
        files = {name: stack.enter_context(replacing(outputs[name])) for name in spaces}
        for name, file in files.items():
            with create_array(file, (n, *shapes[name]), dtypes[name]):
                pass
        for batch, values in _run(make, n, batch_size, device, dtypes):
            for name, file in files.items():
                write_rows(file, batch, values[name])


class Networks(NamedTuple):
    """The parts of a checkpoint; `empty` is the embedding of the empty text, (1, tokens, width)."""

    unet: UNet2DConditionModel
    sampler: SchedulerMixin
    empty: torch.Tensor


class Chain(NamedTuple):
    """How the reverse process is run, whatever the noise level."""

    steps: int
    guidance: float
    scheduler: str
    noise: str
    seed: int
    text: str


def _load_networks(model, revision, device, dtype, scheduler):
    """Load what a reverse process in latents needs."""
    empty = embed_texts(*load_text(model, revision, device, dtype), [""])
    return Networks(*load_denoiser(model, revision, device, dtype, scheduler), empty)


def _check_names(outputs, plan):
    """Names of the spaces asked for; stop at one that the settings do not make."""
    unknown = [name for name in outputs if name not in plan]
    if unknown or not outputs:
        found = ", ".join(unknown) or "none"
        remedy = "Correct the names, or the levels, steps and blocks of trajectories"
        expected = "feature spaces among " + ", ".join(plan)
        raise InputError(Finding("outputs", expected, found, remedy))
    return outputs


def _used(blocks, spaces):
    """Name by module path of the blocks that spaces are taken from."""
    sources = {space.source for space in spaces.values()}
    return {path: name for name, path in blocks.items() if path in sources}


def _choose_rows(images, chunk, n_chunks, text, seed):
    """Numbers of all images of a table, the row whose c each gets, and the rows of a chunk."""
    table = load_table(images)
    nsd_ids = table["nsd_id"].to_numpy(np.int64)
    if n_chunks > len(nsd_ids):
        expected, remedy = f"at most {len(nsd_ids)}, one an image", "Lower the number of chunks"
        raise InputError(Finding("trajectories.chunks", expected, str(n_chunks), remedy))
    lenders = np.arange(len(nsd_ids))
    if text == "other-caption":
        lenders = lend_captions(nsd_ids, table["split"], seed)
    return nsd_ids, lenders, chunk_rows(len(nsd_ids), chunk, n_chunks)


def _check_features(z, c, n, networks):
    """Stop unless z and c belong to the images and the model; returns the shape of a latent."""
    open_feature(c, (n, *networks.empty.shape[1:]))
    return open_feature(z, (n, networks.unet.config.in_channels, None, None)).shape[1:]


def find_module(unet, name, path):
    """Find a module of the U-Net by its path.

    Parameters
    ----------
    unet : torch.nn.Module
    name, path : str
        Name and module path of a block, such as ``down_blocks.0`` or
        ``up_blocks.1.attentions.0``.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    InputError
        No module of that path.
    """
    modules = dict(unet.named_modules())
    if path in modules and path:
        return modules[path]
    near = difflib.get_close_matches(path, filter(None, modules), n=5, cutoff=0.5)
    near = near or [child for child, _ in unet.named_children()]
    expected = "the path of a module of the U-Net, such as " + ", ".join(near)
    where, remedy = f"trajectories.blocks.{name}", "Correct the path"
    raise InputError(Finding(where, expected, repr(path), remedy))


@contextmanager
def watching(unet, blocks, take):
    """Hand on the hidden states of modules as they come, as long as the block lasts.

    Parameters
    ----------
    unet : torch.nn.Module
    blocks : dict of str to str
        Name by module path.
    take : callable
        Takes a module path and what the module returned, or the first of several things.

    Raises
    ------
    InputError
        As `find_module`.
    """

    def report(path, module, arguments, output):
        # Down blocks return what they hand to the up blocks too.
        take(path, output if isinstance(output, torch.Tensor) else output[0])

    handles = []
    try:
        for path, name in blocks.items():
            module = find_module(unet, name, path)
            handles.append(module.register_forward_hook(functools.partial(report, path)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def probe_blocks(networks, blocks, latent_shape):
    """Shapes of the activations of modules, from a pass over nothing.

    Parameters
    ----------
    networks : Networks
    blocks : dict of str to str
        Name by module path.
    latent_shape : tuple of int

    Returns
    -------
    dict of str to tuple of int
        Shape of one image's activations by module path.

    Raises
    ------
    InputError
        As `find_module`, or a module that does not run once a pass with a row an image.
    """
    unet, n, shapes, calls = networks.unet, 2, {}, Counter()

    def take(path, output):
        calls[path] += 1
        shapes[path] = tuple(output.shape)

    context = networks.empty.expand(n, -1, -1).to(unet.device, unet.dtype)
    nothing = torch.zeros((n, *latent_shape), device=unet.device, dtype=unet.dtype)
    with watching(unet, blocks, take):
        unet(nothing, torch.tensor(1, device=unet.device), context)
    for path, name in blocks.items():
        shape = shapes.get(path, ())
        if calls[path] != 1 or len(shape) < 2 or shape[0] != n:
            found = f"{path}, which runs {calls[path]} times"
            found += f" and returns {shape} for {n} images" if shape else ""
            expected = "a module that the U-Net runs once a pass, with a row an image"
            remedy = "Take the module around it, or one inside"
            raise InputError(Finding(f"trajectories.blocks.{name}", expected, found, remedy))
    return {path: shapes[path][1:] for path in blocks}


def _plan_reductions(networks, blocks, latent_shape, reduction, width):
    """For each module path, the function that reduces activations and how many it leaves."""
    check_choice("trajectories.reduction", reduction, REDUCTIONS)
    shapes = probe_blocks(networks, blocks, latent_shape)
    # Blocks of one size share a projection.
    projection = functools.cache(
        functools.partial(make_projection, width=width, device=networks.unet.device)
    )
    reductions = {}
    for path, shape in shapes.items():
        n = int(np.prod(shape))
        where = f"trajectories.blocks.{blocks[path]}"
        reduce, n_kept = plan_reduction(shape, reduction, width, projection, where)
        reductions[path] = reduce, n_kept
        logger.info("%s: %s = %d numbers, %d kept", path, shape, n, n_kept)
    return reductions


def plan_reduction(shape, reduction, width, projection, where):
    """Choose how to bring the activations of a block down to a width.

    Parameters
    ----------
    shape : tuple of int
        Of one image's activations.
    reduction : {"exact", "projection", "pooling"}
        None, a sparse random projection, or means over neighbouring places: the largest grid, of
        the proportions of the map, that fits. Pooling keeps every channel but loses retinotopy,
        for which early visual cortex then seems to be predicted worse than it is.
    width : int
        Most numbers that the latter two keep; what has no more is kept whole.
    projection : callable
        As `make_projection` of the number of features.
    where : str
        For messages.

    Returns
    -------
    reduce : callable
        Takes a float32 tensor of shape (n, \\*shape), returns one of shape (n, n_kept).
    n_kept : int

    Raises
    ------
    InputError
        Pooling of what is no map of (channels, height, width), or has more channels than `width`.
    """
    n = int(np.prod(shape))
    if reduction == "exact" or n <= width:
        return functools.partial(torch.flatten, start_dim=1), n
    if reduction == "projection":
        return functools.partial(project, projection(n)), width
    if len(shape) != 3 or shape[0] > width:
        expected = f"a map of at most {width} channels for pooling"
        remedy = "Use projection, or another module"
        raise InputError(Finding(where, expected, f"activations of shape {shape}", remedy))
    channels, height, columns = shape
    grids = ((side, max(columns * side // height, 1)) for side in range(height, 0, -1))
    fitting = (grid for grid in grids if channels * grid[0] * grid[1] <= width)
    grid = next(fitting, (1, 1))
    return functools.partial(_pool, grid), channels * grid[0] * grid[1]


def _pool(grid, activations):
    """Means of maps over a grid of places, (n, channels x places)."""
    return torch.nn.functional.adaptive_avg_pool2d(activations, grid).flatten(1)


def make_projection(n_features, width, device):
    """Draw a very sparse random projection.

    One in sqrt(n_features) entries is not zero (Li, Hastie & Church 2006): +-sqrt(sqrt(n_features)
    / width), so that squared distances are kept on average. It depends on the two sizes only.

    Parameters
    ----------
    n_features, width : int
    device : torch.device

    Returns
    -------
    sparse float32 tensor of shape (width, n_features)
    """
    projection = SparseRandomProjection(width, random_state=PROJECTION_SEED)
    # Only the number of features is learned.
    matrix = projection.fit(np.zeros((1, n_features), np.float32)).components_.tocoo()
    places = torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64))
    values = torch.from_numpy(matrix.data.astype(np.float32))
    sparse = torch.sparse_coo_tensor(places, values, matrix.shape, check_invariants=True)
    return sparse.coalesce().to(device)


def project(matrix, activations):
    """Project activations of shape (n, ...) by a sparse matrix of shape (width, features)."""
    return torch.sparse.mm(matrix, activations.flatten(1).T.contiguous()).T


def _shape_of(space, latent_shape, reductions):
    """Shape of one image's numbers in a space."""
    return latent_shape if space.source in LATENTS else (reductions[space.source][1],)


def _dtype_of(space, reduction):
    """Type that a space is kept in."""
    whole = reduction == "exact" and space.source not in LATENTS
    return np.dtype(np.float16 if whole else np.float32)


def _plan_disk(n_images, part, sizes, folder):
    """Say what will be written, before anything is, and stop where there is no space for it."""
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
        remedy = "Free some, use a larger disk, or set trajectories.reduction to projection"
        raise InputError(Finding(str(folder), expected, f"{free / 1e9:.3f} GB", remedy))
    if total > free:
        message = "%s has space for this chunk, but not for all of the subject's"
        logger.warning(message, folder)


def check_finite(path, nsd_ids, rows):
    """Stop at rows of a feature, whose images are `nsd_ids`, that are not finite."""
    for block in row_blocks(len(rows)):
        values = read_rows(path, rows[block])
        finite = np.isfinite(values).reshape(len(values), -1).all(1)
        if not finite.all():
            first = rows[block][np.argmin(finite)]
            found = f"infinite or undefined ones for image {nsd_ids[first]} (row {first})"
            remedy = "Look for what made them there, then compute the file again"
            raise InputError(Finding(str(path), "finite values", found, remedy))


def _batch_maker(networks, chain, spaces, reductions, nsd_ids, rows):
    """The function that takes a slice of a chunk's images and returns an array a space.

    `nsd_ids` are the numbers of these images, and `rows` theirs in the files of z and c.
    """
    owners = nsd_ids if chain.noise == "per-image" else np.zeros_like(nsd_ids)
    levels = {}
    for space in spaces.values():
        sources = levels.setdefault(space.strength, {})
        sources.setdefault(space.step, set()).add(space.source)
    device, guidance = networks.unet.device, chain.guidance
    if chain.text == "empty":
        # Guidance away from the empty text by the empty text changes nothing.
        guidance = 1

    def make(batch):
        read = (read_rows(path, own[batch]) for path, own in rows.items())
        clean, given = (torch.from_numpy(values).to(device) for values in read)
        if chain.text == "empty":
            given = networks.empty.to(device).expand_as(given)
        drawn = draw_noise(chain.seed, owners[batch], clean.shape[1:])
        drawn = torch.from_numpy(drawn).to(device)
        found = {}
        for strength, sources in levels.items():
            timesteps = plan_steps(networks.sampler, chain.steps, strength)
            noisy = networks.sampler.add_noise(clean, drawn, timesteps[:1])
            passed = trace(networks, noisy, timesteps, given, guidance, sources, reductions)
            found |= {(strength, *place): values for place, values in passed.items()}
        return {name: found[space] for name, space in spaces.items()}

    return make


def trace(networks, latents, timesteps, c, guidance, sources, reductions):
    """Run the reverse process and keep what is asked for on the way.

    Parameters
    ----------
    networks : Networks
    latents, timesteps, c, guidance
        As `nsdldm.diffusion.denoising.denoise`.
    sources : dict of int to set of str
        What to keep after each number of steps: ``x_t``, ``x0``, or paths of modules.
    reductions : dict of str to tuple
        `plan_reduction` by module path.

    Returns
    -------
    dict of (int, str) to float32 array
        Values by number of steps and source, the images first.
    """
    unet, sampler, empty = networks
    n, kept, done = len(latents), {}, 0

    def take(path, output):
        if path in sources.get(done + 1, ()):
            # The half of a guided pass that sees c is the second.
            conditional = output[-n:].float()
            kept[done + 1, path] = reductions[path][0](conditional).cpu().numpy()

    def step(predicted, timestep, noisy):
        nonlocal done
        result = sampler.step(predicted, timestep, noisy)
        done += 1
        for source in sources.get(done, set()) & {*LATENTS}:
            latent = result.prev_sample if source == "x_t" else _predicted_clean(sampler, result)
            kept[done, source] = latent.float().cpu().numpy()
        return result

    paths = {path for wanted in sources.values() for path in wanted} - {*LATENTS}
    with watching(unet, dict.fromkeys(paths, ""), take):
        stepper = SimpleNamespace(step=step)
        denoise(unet, stepper, latents, timesteps, c, empty, guidance)
    return kept


def _predicted_clean(sampler, result):
    """The clean latent that a sampler's last step was made from."""
    if "pred_original_sample" in result:
        return result.pred_original_sample
    # DPM-Solver++ keeps its predictions of it.
    return sampler.model_outputs[-1]


def _run(make, n, batch_size, device, dtypes):
    """Yield batches and their values; stops at values that cannot be kept."""
    batches = run_batched(make, n, batch_size, device)
    for batch, values in progress(batches, -(-n // batch_size), "batches of trajectories"):
        for name, array in values.items():
            if not np.isfinite(array).all():
                found = f"infinite or undefined ones in images {batch.start} to {batch.stop - 1}"
                remedy = "Set model.dtype to float32, or to bfloat16 on a GPU that has it"
                expected = f"finite values of {name}"
                raise InputError(Finding("model.dtype", expected, found, remedy))
            largest, most = np.abs(array).max(), np.finfo(dtypes[name]).max
            if largest > most:
                expected = f"activations of at most {most:g}, which float16 can hold"
                found = f"{largest:g} in {name}, images {batch.start} to {batch.stop - 1}"
                remedy = "Set it to projection, which keeps float32"
                raise InputError(Finding("trajectories.reduction", expected, found, remedy))
        yield batch, values

"""Activations of U-Net modules: hooks, and reduction of their size."""

from __future__ import annotations

import difflib
import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.random_projection import SparseRandomProjection

from nsdldm.diffusion.denoising import Denoiser
from nsdldm.support.devices import check_choice
from nsdldm.support.errors import Finding, InputError

logger = logging.getLogger(__name__)

REDUCTIONS = ("exact", "projection", "pooling")
# Seed of the projections, not of the noise: noise seeds are compared with the same projection.
PROJECTION_SEED = 0


def find_module(unet: torch.nn.Module, name: str, path: str) -> torch.nn.Module:
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
        There is no module at that path.
    """
    modules = dict(unet.named_modules())
    if path in modules and path:
        return modules[path]
    near = difflib.get_close_matches(path, filter(None, modules), n=5, cutoff=0.5)
    near = near or [child for child, _ in unet.named_children()]
    expected = "the path of a module of the U-Net, such as " + ", ".join(near)
    where, remedy = f"`blocks`.{name}", "Correct the path"
    raise InputError(Finding(where, expected, repr(path), remedy))


@contextmanager
def watching(
    unet: torch.nn.Module, blocks: dict[str, str], take: Callable[[str, torch.Tensor], None]
) -> Iterator[None]:
    """Within the block, pass on the hidden states of modules as they are computed.

    Parameters
    ----------
    unet : torch.nn.Module
    blocks : dict of str to str
        Name by module path.
    take : callable
        Called with a module path and the module's output, or the first of several outputs.

    Raises
    ------
    InputError
        As `find_module`.
    """

    def report(path, module, arguments, output):
        # Down blocks also return the skip connections.
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
def probe_blocks(
    denoiser: Denoiser, blocks: dict[str, str], latent_shape: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Shapes of the activations of modules, from a pass over dummy inputs.

    Parameters
    ----------
    denoiser : nsdldm.diffusion.denoising.Denoiser
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
        As `find_module`, or a module does not run exactly once per pass with a row per image.
    """
    unet, n, shapes, calls = denoiser.unet, 2, {}, Counter()

    def take(path, output):
        calls[path] += 1
        shapes[path] = tuple(output.shape)

    context = denoiser.empty.expand(n, -1, -1).to(unet.device, unet.dtype)
    nothing = torch.zeros((n, *latent_shape), device=unet.device, dtype=unet.dtype)
    with watching(unet, blocks, take):
        unet(nothing, torch.tensor(1, device=unet.device), context)
    for path, name in blocks.items():
        shape = shapes.get(path, ())
        if calls[path] != 1 or len(shape) < 2 or shape[0] != n:
            found = f"{path}, which runs {calls[path]} times"
            found += f" and returns {shape} for {n} images" if shape else ""
            expected = "a module that the U-Net runs once per pass, with a row per image"
            remedy = "Take the module around it, or one inside"
            raise InputError(Finding(f"`blocks`.{name}", expected, found, remedy))
    return {path: shapes[path][1:] for path in blocks}


def plan_reductions(
    denoiser: Denoiser,
    blocks: dict[str, str],
    latent_shape: Sequence[int],
    reduction: str,
    width: int,
) -> dict[str, tuple[Callable, int]]:
    """Plan how to reduce the activations of some modules.

    Parameters
    ----------
    denoiser : nsdldm.diffusion.denoising.Denoiser
    blocks : dict of str to str
        Name by module path.
    latent_shape : tuple of int
    reduction, width
        As `plan_reduction`.

    Returns
    -------
    dict of str to (callable, int)
        What `plan_reduction` returns, by module path.
    """
    check_choice("reduction", reduction, REDUCTIONS)
    shapes = probe_blocks(denoiser, blocks, latent_shape)
    # Blocks of one size share a projection.
    projection = functools.cache(
        functools.partial(make_projection, width=width, device=denoiser.unet.device)
    )
    reductions = {}
    for path, shape in shapes.items():
        n = int(np.prod(shape))
        where = f"`blocks`.{blocks[path]}"
        reduce, n_kept = plan_reduction(shape, reduction, width, projection, where)
        reductions[path] = reduce, n_kept
        logger.info("%s: %s = %d numbers, %d kept", path, shape, n, n_kept)
    return reductions


def plan_reduction(
    shape: Sequence[int],
    reduction: str,
    width: int,
    projection: Callable[[int], torch.Tensor],
    where: str,
) -> tuple[Callable, int]:
    """Choose how to reduce the activations of a block to a width.

    Parameters
    ----------
    shape : tuple of int
        Of one image's activations.
    reduction : {"exact", "projection", "pooling"}
        None, a sparse random projection, or means over neighbouring positions on the largest grid
        that fits, with the proportions of the map. Pooling keeps every channel but loses
        retinotopy, so it underestimates how well early visual cortex is predicted.
    width : int
        Maximum width of the latter two; activations that are no larger are kept in full.
    projection : callable
        As `make_projection` for the number of features.
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
        Pooling of activations that are not maps (channels, height, width), or that have more
        channels than `width`.
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


def make_projection(n_features: int, width: int, device: torch.device) -> torch.Tensor:
    """Draw a very sparse random projection.

    One in sqrt(n_features) entries is non-zero (Li, Hastie & Church 2006) and equals
    +-sqrt(sqrt(n_features) / width), so squared distances are preserved on average. It depends only
    on the two sizes.

    Parameters
    ----------
    n_features, width : int
    device : torch.device

    Returns
    -------
    sparse float32 tensor of shape (width, n_features)
    """
    projection = SparseRandomProjection(width, random_state=PROJECTION_SEED)
    # Only the number of features matters.
    matrix = projection.fit(np.zeros((1, n_features), np.float32)).components_.tocoo()
    places = torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64))
    values = torch.from_numpy(matrix.data.astype(np.float32))
    sparse = torch.sparse_coo_tensor(places, values, matrix.shape, check_invariants=True)
    return sparse.coalesce().to(device)


def project(matrix: torch.Tensor, activations: torch.Tensor) -> torch.Tensor:
    """Project activations of shape (n, ...) by a sparse matrix of shape (width, features)."""
    return torch.sparse.mm(matrix, activations.flatten(1).T.contiguous()).T

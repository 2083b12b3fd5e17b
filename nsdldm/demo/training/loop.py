"""Train a network with checkpoints, so that an interrupted training can continue."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nsdldm.support.errors import reading
from nsdldm.support.files import replacing

if TYPE_CHECKING:
    from nsdldm.demo.training.recipe import Plan

logger = logging.getLogger(__name__)

LOG_EVERY, SAVE_EVERY = 100, 250
LARGEST_GRADIENT = 1.0


def train_network(
    network: torch.nn.Module,
    loss: Callable,
    plan: Plan,
    *,
    checkpoint: Path,
    seed: int,
    device: torch.device,
) -> tuple[torch.nn.Module, list[tuple[int, float, float]]]:
    """Train a network, or continue an interrupted training.

    Every step has its own random numbers, so an interrupted training ends with the same weights.

    Parameters
    ----------
    network : torch.nn.Module
        Freshly made; parameters that need no gradient stay as they are.
    loss : callable
        Takes the network and a random generator, returns a scalar tensor.
    plan : nsdldm.demo.training.recipe.Plan
    checkpoint : Path
        Rewritten every 250 steps; a finished one is only read.
    seed : int
    device : torch.device

    Returns
    -------
    network : torch.nn.Module
        With the moving average of its weights, in evaluation mode.
    curve : list of (int, float, float)
        Steps done, seconds so far and mean loss since the last entry, every 100 steps.
    """
    network = network.to(device, memory_format=torch.channels_last).train()
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(plan.average))
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, plan.rate, betas=(0.9, 0.99), weight_decay=plan.decay, fused=True
    )
    rates = OneCycleLR(
        optimizer, plan.rate, plan.steps, pct_start=plan.warmup, cycle_momentum=False
    )
    parts = {"network": network, "averaged": averaged, "optimizer": optimizer, "rates": rates}
    curve = _resume(checkpoint, parts, device)
    done, before = curve[-1][:2] if curve else (0, 0.0)
    start, losses = time.monotonic(), []
    for step in range(done, plan.steps):
        rng = np.random.default_rng([seed, step])
        torch.manual_seed(int(rng.integers(2**62)))
        with autocast(device):
            value = loss(network, rng)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(trained, LARGEST_GRADIENT)
        optimizer.step()
        rates.step()
        averaged.update_parameters(network)
        losses.append(value.detach())
        if (step + 1) % LOG_EVERY == 0 or step + 1 == plan.steps:
            seconds = before + time.monotonic() - start
            curve.append((step + 1, seconds, torch.stack(losses).mean().item()))
            losses.clear()
            logger.info(
                "%s: %d of %d steps in %.0f s, loss %.4f",
                checkpoint.stem,
                step + 1,
                plan.steps,
                *curve[-1][1:],
            )
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == plan.steps:
            _save(checkpoint, parts, curve)
    network.load_state_dict(averaged.module.state_dict())
    return network.eval(), curve


def autocast(device: torch.device) -> AbstractContextManager:
    """Compute in bfloat16 if the device is faster with it.

    Parameters
    ----------
    device : torch.device

    Returns
    -------
    context manager
        Does nothing on other devices.
    """
    fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16) if fast else nullcontext()


def _save(checkpoint, parts, curve):
    state = {name: part.state_dict() for name, part in parts.items()}
    with replacing(checkpoint) as part:
        torch.save({**state, "curve": curve}, part)


def _resume(checkpoint, parts, device):
    """Load the last checkpoint, if any, and return its learning curve."""
    if not checkpoint.exists():
        return []
    remedy = "Delete it to train this stage from its beginning"
    with reading(checkpoint, "a checkpoint of this stage", remedy):
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
    return [tuple(entry) for entry in state["curve"]]

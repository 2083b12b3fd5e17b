"""Train a network with checkpoints, such that a killed training ends like an undisturbed one.

All randomness of a step depends on the seed and the number of the step, and the learning rate on
that number alone, so a training that continues from a checkpoint does exactly what it would have
done.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Container, Iterable
from hashlib import file_digest, sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs

from nsdldm.support import provenance
from nsdldm.support.devices import check_choice
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import save_table
from nsdldm.trained.checkpoints import load_weights, save_weights
from nsdldm.trained.networks import count_parameters

logger = logging.getLogger(__name__)

# About this many times per training: write a row of the curve, compute validation losses, save
# state.
ENTRIES, EVALUATIONS = 100, 10
SAVE_SECONDS = 300
# A loss of this many times its first value counts as diverged.
DIVERGED = 3.0
PRECISIONS = ("auto", "float32", "bf16", "fp16")


class Files(NamedTuple):
    """The files that a training writes.

    Parameters
    ----------
    partial : str or Path
        Checkpoint from which a killed training continues; removed at the end.
    weights : str or Path
        Safetensors with settings and parameter counts as metadata.
    curve : str or Path
        Table of losses, as `train` returns it.
    """

    partial: str | Path
    weights: str | Path
    curve: str | Path


class Schedule(NamedTuple):
    """How long and how fast a network is trained.

    Parameters
    ----------
    batch_size : int
        Rows per step, over all processes.
    epochs : float
        Number of times that every row is used.
    learning_rate, min_learning_rate : float
        After the warm-up, and at the end of the cosine that follows.
    factors : dict of float
        Factors of both rates, by child of the network; 1 for others.
    warmup : float
        Fraction of steps over which the rate rises from 0.
    decay : float
        Weight decay of AdamW, for matrices only, not for biases, norms and single tokens.
    betas : tuple of 2 float
    max_grad_norm : float or None
        Maximum norm of all gradients together.
    keep : {"last", "best"}
        The weights to keep: the last, or those with the smallest validation loss.
    seed : int
    """

    batch_size: int
    epochs: float
    learning_rate: float
    min_learning_rate: float
    factors: dict
    warmup: float
    decay: float
    betas: tuple
    max_grad_norm: float | None
    keep: str
    seed: int


def make_schedule(settings: dict, seed: int) -> Schedule:
    """Take the schedule out of the settings of a stage."""
    fields = [name for name in Schedule._fields if name != "seed"]
    known = {name: settings[name] for name in fields if name in settings}
    return Schedule(**{"factors": {}} | known, seed=seed)


def count_steps(schedule: Schedule, n_rows: int) -> int:
    """Number of steps of a schedule for a number of training rows."""
    return max(round(schedule.epochs * n_rows / min(schedule.batch_size, n_rows)), 1)


def find_rate(schedule: Schedule, step: int, n_steps: int) -> float:
    """Learning rate of a step: a linear warm-up, then half a cosine."""
    warm = schedule.warmup * n_steps
    if step < warm:
        return schedule.learning_rate * (step + 1) / (warm + 1)
    share = (step - warm) / max(n_steps - warm, 1)
    height = schedule.learning_rate - schedule.min_learning_rate
    return schedule.min_learning_rate + height * (1 + math.cos(math.pi * share)) / 2


def draw_rows(rows: np.ndarray, step: int, schedule: Schedule) -> np.ndarray:
    """Rows of a step: the rows in one random order after another, cut into batches.

    Parameters
    ----------
    rows : int array of shape (n,)
    step : int
    schedule : Schedule

    Returns
    -------
    int array of shape (batch_size,)
        Or all rows, if there are fewer.
    """
    size = min(schedule.batch_size, len(rows))
    places = np.arange(step * size, (step + 1) * size)
    epochs, places = np.divmod(places, len(rows))
    chosen = [
        rows[np.random.default_rng([schedule.seed, epoch]).permutation(len(rows))[places[own]]]
        for epoch in np.unique(epochs)
        for own in [epochs == epoch]
    ]
    return np.concatenate(chosen)


def make_key(module: str, settings: dict, paths: Iterable[Path | str]) -> str:
    """Identify everything that a training depends on: code, settings and contents of its files.

    Parameters
    ----------
    module : str
        File of the code, relative to the project.
    settings : dict
        JSON.
    paths : iterable of path

    Returns
    -------
    str
    """
    text = sha256(json.dumps([torch.__version__, settings], sort_keys=True).encode())
    text.update(provenance.digest(module).encode())
    for path in paths:
        with open(path, "rb") as file:
            text.update(file_digest(file, sha256).digest())
    return text.hexdigest()


def trained_state(network: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Trained parameters of a network, by name."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def choose_precision(precision: str, device: torch.device) -> str:
    """Choose the precision of training.

    Parameters
    ----------
    precision : {"auto", "float32", "bf16", "fp16"}
        "auto" is bf16 on a GPU and float32 on a CPU.
    device : torch.device

    Returns
    -------
    {"no", "bf16", "fp16"}
        As accelerate calls mixed precision.
    """
    check_choice("precision", precision, PRECISIONS)
    if precision == "auto":
        return "bf16" if device.type == "cuda" else "no"
    return "no" if precision == "float32" else precision


def log_parameters(label: str, network: torch.nn.Module) -> dict[str, int]:
    """Count and log the parameters of a network's parts.

    Parameters
    ----------
    label : str
    network : nn.Module

    Returns
    -------
    dict of int
        By part; trained counts those that are not frozen.
    """
    counts = {name: count_parameters(part) for name, part in network.named_children()}
    counts = {name: count for name, count in counts.items() if count}
    total = sum(counts.values())
    counts["trained"] = sum(p.numel() for p in trained_state(network).values())
    parts = ", ".join(f"{name} {count / 1e6:.3g} M" for name, count in counts.items())
    logger.info("%s: %.3g M parameters (%s)", label, total / 1e6, parts)
    return counts


def finish_stage(
    network: torch.nn.Module,
    table: pd.DataFrame,
    metadata: dict,
    files: Files,
    names: Container[str] | None = None,
) -> None:
    """Write the results of a stage, and remove its checkpoint; in only one of several processes.

    Parameters
    ----------
    network : nn.Module
    table : DataFrame
        As `train` returns it.
    metadata : dict
    files : Files
    names : container of str, optional
        The weights to keep; all by default.
    """
    if not PartialState().is_main_process:
        return
    state = {name: t for name, t in network.state_dict().items() if names is None or name in names}
    save_weights(files.weights, state, metadata)
    save_table(files.curve, table)
    Path(files.partial).unlink(missing_ok=True)


def group_parameters(parameters: dict[str, torch.nn.Parameter], schedule: Schedule) -> list[dict]:
    """Group parameters by their weight decay and learning-rate factor in a schedule.

    Parameters
    ----------
    parameters : dict of nn.Parameter
        By name.
    schedule : Schedule

    Returns
    -------
    list of dict
        Keys params, weight_decay, factor: groups of `torch.optim.AdamW`.
    """
    groups = {}
    for name, parameter in parameters.items():
        # Separate biases for every token also form a matrix.
        bias = name.endswith("bias") or parameter.squeeze().ndim < 2
        decay = 0.0 if bias else schedule.decay
        factor = schedule.factors.get(name.partition(".")[0], 1.0)
        groups.setdefault((decay, factor), []).append(parameter)
    return [
        {"params": own, "weight_decay": decay, "factor": factor}
        for (decay, factor), own in groups.items()
    ]


class _Training:
    """A network, its optimiser and their progress."""

    def __init__(self, network, schedule, device, precision):
        parallel = DistributedDataParallelKwargs(broadcast_buffers=False)
        self.accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision=precision, kwargs_handlers=[parallel]
        )
        self.schedule = schedule
        self.parameters = trained_state(network)
        self.optimizer = torch.optim.AdamW(
            group_parameters(self.parameters, schedule),
            schedule.learning_rate,
            betas=tuple(schedule.betas),
        )
        self.network, self.prepared = self.accelerator.prepare(network, self.optimizer)
        self.curve, self.best, self.lowest, self.first = [], {}, math.inf, None

    def step(self, fetch, rows, step, n_steps):
        """Do one step; return its losses."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * find_rate(self.schedule, step, n_steps)
        chosen = draw_rows(rows, step, self.schedule)
        losses = self._lose(self.network, fetch, chosen, [self.schedule.seed, step])
        self.accelerator.backward(losses["loss"])
        if self.schedule.max_grad_norm:
            self.accelerator.clip_grad_norm_(self.parameters.values(), self.schedule.max_grad_norm)
        self.prepared.step()
        self.prepared.zero_grad()
        return {name: value.detach().float() for name, value in losses.items()}

    def _lose(self, network, fetch, rows, key):
        """Losses of this process' share of some rows; their mean over processes is the loss of all
        rows."""
        rank, n = self.accelerator.process_index, self.accelerator.num_processes
        own = rows[rank::n]
        batch = {name: v.to(self.accelerator.device) for name, v in fetch(own).items()}
        drawn = int(np.random.default_rng([*key, rank]).integers(2**62))
        # For modules that draw random numbers themselves, such as dropout.
        torch.manual_seed(drawn)
        losses = network(batch, torch.Generator().manual_seed(drawn))
        return {name: loss * (n * len(own) / len(rows)) for name, loss in losses.items()}

    def average(self, losses):
        """Mean losses of some steps over all processes, so that each stops if another has
        diverged."""
        means = {name: torch.stack([each[name] for each in losses]).mean() for name in losses[0]}
        return {name: v.item() for name, v in self.accelerator.reduce(means, "mean").items()}

    @torch.no_grad()
    def watch(self, fetch, rows):
        """Mean validation losses, with the same masks and noise every time."""
        network = self.accelerator.unwrap_model(self.network).eval()
        sums, total = {}, 0
        # Batches of equal size if possible: the more samples in a batch, the harder a contrast.
        batches = np.array_split(rows, -(-len(rows) // self.schedule.batch_size))
        for number, batch in enumerate(batches):
            if len(batch) < self.accelerator.num_processes:
                break
            with self.accelerator.autocast():
                losses = self._lose(network, fetch, batch, [self.schedule.seed, 2**32 + number])
            losses = self.accelerator.reduce(losses, "mean")
            total += len(batch)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + len(batch) * value.float().item()
        network.train()
        return {name: value / total for name, value in sums.items()}

    def remember(self, loss):
        """Copy the weights if the validation loss is the smallest so far."""
        if self.schedule.keep == "best" and loss < self.lowest:
            self.lowest = loss
            self.best = {name: p.detach().cpu().clone() for name, p in self.parameters.items()}

    def save(self, path, key, step):
        """Write everything a resumed training needs."""
        if not self.accelerator.is_main_process:
            return
        state = {f"network.{name}": p for name, p in self.parameters.items()}
        state |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for number, fields in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{number}.{name}": value for name, value in fields.items()}
        scaler = self.accelerator.scaler
        about = {
            **{"key": key, "step": step, "curve": self.curve, "lowest": self.lowest},
            **{"first": self.first, "scaler": scaler.state_dict() if scaler else None},
        }
        save_weights(path, state, about)

    def resume(self, path, key):
        """Continue from a checkpoint with the same key; return the number of steps done."""
        try:
            state, about = load_weights(path)
        except InputError as error:
            if Path(path).exists():
                logger.warning("discarded, since it cannot be read: %s", error)
            return 0
        if about["key"] != key:
            logger.info("%s: discarded, since it belongs to other settings or inputs", path)
            return 0
        parts = {"network": {}, "best": {}, "optimizer": {}}
        for name, tensor in state.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        for name, parameter in self.parameters.items():
            parameter.data.copy_(parts["network"][name])
        fields = {}
        for name, tensor in parts["optimizer"].items():
            number, _, field = name.partition(".")
            fields.setdefault(int(number), {})[field] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": fields, "param_groups": groups})
        if about["scaler"]:
            self.accelerator.scaler.load_state_dict(about["scaler"])
        self.best = parts["best"]
        self.curve, self.lowest, self.first = about["curve"], about["lowest"], about["first"]
        logger.info("%s: continuing after %d steps", path, about["step"])
        return about["step"]

    def check(self, losses, step, label):
        """Stop a training that has diverged, before it wastes more hours."""
        loss = losses["loss"]
        self.first = loss if self.first is None else self.first
        if math.isfinite(loss) and loss <= DIVERGED * max(self.first, 1e-3):
            return
        expected = f"a loss that falls from {self.first:.4g}, as it was at first"
        found = f"{loss:.4g} after {step} steps: the training has diverged"
        remedy = "Lower the learning rate or max_grad_norm of this stage, or lengthen its warm-up"
        raise InputError(Finding(label, expected, found, remedy))


def check_shares(
    n_processes: int, schedule: Schedule, rows: np.ndarray, validation: np.ndarray
) -> None:
    """Check that each of n_processes has one of the rows in each batch of a schedule, and one for
    validation; both int of shape (n,)."""
    fewest = min(schedule.batch_size, len(rows), len(validation) or len(rows))
    if fewest < n_processes:
        expected = f"at least {n_processes} rows in a batch and for validation, one per process"
        remedy = "Train with fewer processes"
        raise InputError(Finding("trained: batch_size", expected, str(fewest), remedy))


def train(
    network: torch.nn.Module,
    fetch: Callable,
    rows: np.ndarray,
    schedule: Schedule,
    *,
    validation: np.ndarray,
    partial: Path | str,
    key: str,
    device: torch.device,
    precision: str,
    label: str,
) -> pd.DataFrame:
    """Train a network, or continue an interrupted training.

    Runs in every process of a parallel training; each takes its share of a batch.

    Parameters
    ----------
    network : nn.Module
        Freshly made. `forward(batch, generator)` returns a dict of scalar losses: ``loss`` is
        minimised, the others are only logged. All randomness comes from the generator, a
        `torch.Generator` on the CPU. Parameters that need no gradient stay as they are.
    fetch : callable
        Takes an int array of rows, returns a dict of CPU tensors with a row each.
    rows, validation : int arrays of shape (n,)
        Rows to train on, and rows whose loss is computed, by which `keep` may choose weights.
    schedule : Schedule
    partial : str or Path
        File of the checkpoint; the caller removes it once the weights are saved.
    key : str
        Identifies settings and inputs (`make_key`). A checkpoint with another key is discarded.
    device : torch.device
    precision : {"no", "bf16", "fp16"}
    label : str
        What is trained, for messages.

    Returns
    -------
    DataFrame
        The curve: step, epoch, learning_rate, each loss averaged since the previous row (loss
        first), and validation, the validation loss, NaN where it was not computed. The network then
        has the weights that the schedule keeps, and is in evaluation mode.

    Raises
    ------
    InputError
        The loss is not finite, or three times its first value.
    """
    training = _Training(network.train(), schedule, device, precision)
    check_shares(training.accelerator.num_processes, schedule, rows, validation)
    n_steps = count_steps(schedule, len(rows))
    entries = set(np.linspace(0, n_steps, min(ENTRIES, n_steps) + 1).round().astype(int)[1:])
    watched = set(np.linspace(0, n_steps, min(EVALUATIONS, n_steps) + 1).round().astype(int)[1:])
    saved, since = time.monotonic(), []
    for done in range(training.resume(partial, key), n_steps):
        since.append(training.step(fetch, rows, done, n_steps))
        step = done + 1
        if step not in entries and step not in watched:
            continue
        means = training.average(since)
        since.clear()
        training.check(means, step, label)
        epoch = step * min(schedule.batch_size, len(rows)) / len(rows)
        entry = {
            "step": step,
            "epoch": epoch,
            "learning_rate": find_rate(schedule, done, n_steps),
            **means,
        }
        if step in watched and len(validation):
            entry["validation"] = training.watch(fetch, validation)["loss"]
            training.remember(entry["validation"])
            message = "%s: step %d of %d, loss %.4f, of validation rows %.4f"
            logger.info(message, label, step, n_steps, means["loss"], entry["validation"])
        training.curve.append(entry)
        if step in watched or time.monotonic() - saved > SAVE_SECONDS:
            training.save(partial, key, step)
            saved = time.monotonic()
    for name, tensor in training.best.items():
        training.parameters[name].data.copy_(tensor)
    network.eval()
    if device.type == "cuda":
        logger.info("%s: %.1f GB of GPU memory", label, torch.cuda.max_memory_allocated() / 1e9)
    curve = pd.DataFrame(training.curve)
    return curve if "validation" in curve else curve.assign(validation=np.nan)

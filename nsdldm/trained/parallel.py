"""Train on all the GPUs that a job can see."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import torch
from accelerate import notebook_launcher
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from nsdldm.support.errors import InputError

logger = logging.getLogger(__name__)


def run_on_all_gpus(function: Callable, *, device: str, **arguments: Any) -> None:
    """Call a function that trains in one process, or in one per GPU where there are several.

    Parameters
    ----------
    function : callable
        Uses `nsdldm.trained.loop.train`, which divides each batch among the processes, and writes
        its outputs in the main one.
    device : {"auto", "cpu", "cuda"}
    **arguments
        Of the function.

    Raises
    ------
    InputError
        As the function, whichever process it was in.
    """
    # Counts without starting CUDA, which the processes could not do after that.
    n = 0 if device == "cpu" else torch.cuda.device_count()
    if n < 2:
        function(device=device, **arguments)
        return
    # The launcher's own report would bury what is wrong in its traces.
    problems = torch.multiprocessing.get_context("fork").SimpleQueue()

    def call():
        if int(os.environ["RANK"]):
            # Every line of the log once; what goes wrong comes through all the same.
            logging.getLogger().setLevel(logging.WARNING)
        try:
            function(device=device, **arguments)
        except InputError as error:
            problems.put(error.findings)
            raise

    logger.info("training on %d GPUs", n)
    try:
        notebook_launcher(call, num_processes=n, use_port=_find_port())
    except ChildFailedError:
        if problems.empty():
            raise
        raise InputError(*problems.get()) from None


def _find_port():
    """A port that no other job on this machine uses; accelerate's is the same for all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])

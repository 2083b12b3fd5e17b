"""Train on all GPUs visible to a job."""

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
    """Call a function that trains in one process, or in one process per GPU if there are several.

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
        As the function, whichever process raises it.
    """
    # Count without initialising CUDA, which would prevent the processes from doing so.
    n = 0 if device == "cpu" else torch.cuda.device_count()
    if n < 2:
        function(device=device, **arguments)
        return
    # The launcher's own report would bury the error in its traces.
    problems = torch.multiprocessing.get_context("fork").SimpleQueue()

    def call():
        if int(os.environ["RANK"]):
            # Log every line only once; errors still come through.
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
    """A port that no other job on this machine uses; accelerate's default is the same for all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])

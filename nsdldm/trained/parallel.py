"""Train on all the GPUs that a job can see."""

import logging
import socket

import torch
from accelerate import notebook_launcher

logger = logging.getLogger(__name__)


def run_on_all_gpus(function, *, device, **arguments):
    """Call a function that trains in one process, or in one a GPU where there are several.

    Parameters
    ----------
    function : callable
        Uses `nsdldm.trained.loop.train`, which divides each batch among the processes, and writes
        its outputs in the main one.
    device : {"auto", "cpu", "cuda"}
    **arguments
        Of the function.
    """
    # Counts without starting CUDA, which the processes could not do after that.
    n = 0 if device == "cpu" else torch.cuda.device_count()

    def call():
        function(device=device, **arguments)

    if n < 2:
        call()
        return
    logger.info("training on %d GPUs", n)
    notebook_launcher(call, num_processes=n, use_port=_find_port())


def _find_port():
    """A port that no other job on this machine uses; accelerate's is the same for all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])

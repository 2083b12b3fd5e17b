"""Train on all the GPUs that a job can see."""

import logging
from functools import partial

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
    call = partial(function, device=device, **arguments)
    if n < 2:
        call()
        return
    logger.info("training on %d GPUs", n)
    notebook_launcher(call, num_processes=n)

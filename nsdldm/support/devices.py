"""Choose the device and precision to compute with. ``python -m nsdldm.support.devices`` tries the
GPU."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch

from nsdldm.support.errors import Finding, InputError

logger = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda")
# Like auto, but warns if there is no GPU.
PREFER = "prefer-cuda"
# What torch says if it finds no GPU, and what that means.
REFUSALS = {
    "Found no NVIDIA driver": "there is no NVIDIA driver",
    "driver on your system is too old": "the NVIDIA driver is too old",
    "No CUDA GPUs are available": "no GPU is visible to this process",
}
DRIVER = Path("/proc/driver/nvidia/version")
MEMORY = Path("/proc/meminfo")
DTYPES = ("auto", "float32", "float16", "bfloat16")


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Refuse an argument that is not one of its choices.

    Parameters
    ----------
    name : str
        Of the argument.
    value : str
    choices : iterable of str

    Raises
    ------
    InputError
    """
    if value not in choices:
        expected = "one of " + ", ".join(choices)
        raise InputError(Finding(f"`{name}`", expected, repr(value), f"Correct `{name}`"))


def choose_device(device: str) -> torch.device:
    """Choose a device, and log it with torch's build and the free memory.

    Parameters
    ----------
    device : {"auto", "prefer-cuda", "cpu", "cuda"}
        "auto" is the GPU if there is one; "prefer-cuda" is the same, with a warning if there is
        none.

    Returns
    -------
    torch.device

    Raises
    ------
    InputError
        "cuda" was requested and there is no GPU.
    """
    if device != PREFER:
        check_choice("device", device, DEVICES)
    missing = None if device == "cpu" else explain_missing()
    if device == "cuda" and missing:
        remedy = "Set `device` to auto, or see docs/gpu.md"
        raise InputError(Finding("`device`", "a GPU for cuda", f"none ({missing})", remedy))
    chosen = torch.device("cpu" if device == "cpu" or missing else "cuda")
    _announce(chosen)
    if missing and (device == PREFER or DRIVER.exists()):
        logger.warning("No GPU is used: %s. See docs/gpu.md.", missing)
    return chosen


def explain_missing() -> str | None:
    """Say why torch has no GPU.

    Returns
    -------
    str or None
        None if it has one.
    """
    if torch.cuda.is_available():
        return None
    build = f"torch {torch.__version__}"
    if torch.version.cuda is None and torch.version.hip is None:
        return f"{build} is a build for CPUs only"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        said = str(error).strip().partition("\n")[0]
        for words, meaning in REFUSALS.items():
            if words in said:
                return f"{meaning}, and {build} is for CUDA {torch.version.cuda}"
        return f"{build} says: {said}"
    return f"{build} sees none"


@cache
def _announce(device):
    """Log the device, once per process."""
    logger.info("%s", describe_device(device))


def describe_device(device: torch.device) -> str:
    """Describe a device, torch's build, and the free memory.

    Parameters
    ----------
    device : torch.device

    Returns
    -------
    str
    """
    build = f"torch {torch.__version__}"
    if device.type == "cpu":
        lines = MEMORY.read_text().splitlines() if MEMORY.exists() else []
        free = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
        memory = f"{free[0] / 1e6:.1f} GB" if free else "an unknown amount"
        return f"Device: cpu, {torch.get_num_threads()} threads, {build}, {memory} of memory free"
    try:
        free, total = (f"{n_bytes / 1e9:.1f}" for n_bytes in torch.cuda.mem_get_info(device))
        name = torch.cuda.get_device_name(device)
    except (RuntimeError, AssertionError) as error:
        return f"Device: {device}, {build}, which cannot say more ({error})"
    return f"Device: {device} ({name}), {build}, {free} of {total} GB of its memory free"


def check_gpu() -> str:
    """Compute something on the GPU.

    Returns
    -------
    str
        The device, as described by `describe_device`.

    Raises
    ------
    InputError
        torch has no GPU, or cannot compute on it.
    """
    missing, remedy = explain_missing(), "See docs/gpu.md"
    if missing is None:
        try:
            ones = torch.ones(256, 256, device="cuda")
            if (ones @ ones).sum().item() == 256**3:
                return describe_device(torch.device("cuda"))
            missing = "it computes wrong sums"
        except RuntimeError as error:
            missing = f"it cannot compute: {str(error).strip().partition(chr(10))[0]}"
    raise InputError(Finding("GPU", "one that torch can use", f"none ({missing})", remedy))


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Choose the precision of the networks.

    Parameters
    ----------
    dtype : {"auto", "float32", "float16", "bfloat16"}
        "auto" is float16 on a GPU and float32 on a CPU.
    device : torch.device

    Returns
    -------
    torch.dtype
    """
    check_choice("dtype", dtype, DTYPES)
    if dtype == "auto":
        dtype = "float16" if device.type == "cuda" else "float32"
    return getattr(torch, dtype)


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="python -m nsdldm.support.devices", description="Try the GPU."
    ).parse_args()
    try:
        print(check_gpu())
    except InputError as problem:
        sys.exit(str(problem))

"""Where to compute, and how precisely."""

import torch

from nsdldm.errors import Finding, InputError

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("auto", "float32", "float16", "bfloat16")


def check_choice(where, value, choices):
    """Stop if a setting is none of its choices.

    Parameters
    ----------
    where : str
        The config key.
    value : str
    choices : iterable of str

    Raises
    ------
    InputError
    """
    if value not in choices:
        expected = "one of " + ", ".join(choices)
        raise InputError(Finding(where, expected, repr(value), f"Correct {where}"))


def choose_device(device):
    """Choose where to compute.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        "auto" is the GPU if there is one.

    Returns
    -------
    torch.device

    Raises
    ------
    InputError
        "cuda" without a GPU.
    """
    check_choice("model.device", device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        remedy = "Set model.device to auto, or run where torch sees a GPU"
        raise InputError(Finding("model.device", "a GPU for cuda", "none", remedy))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def choose_dtype(dtype, device):
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
    check_choice("model.dtype", dtype, DTYPES)
    if dtype == "auto":
        dtype = "float16" if device.type == "cuda" else "float32"
    return getattr(torch, dtype)

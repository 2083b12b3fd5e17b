"""Load the parts of a Stable Diffusion checkpoint in the layout of diffusers, each when needed."""

import logging
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTokenizer

from nsdldm.errors import Finding, InputError

logger = logging.getLogger(__name__)

SCHEDULERS = {"ddim": DDIMScheduler, "dpmsolver++": DPMSolverMultistepScheduler}


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
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        remedy = "Set model.device to auto, or run where torch sees a GPU"
        raise InputError(Finding("model.device cuda", "a GPU", "none", remedy))
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
    if dtype == "auto":
        dtype = "float16" if device.type == "cuda" else "float32"
    return getattr(torch, dtype)


def _load(kind, path, revision, part, **options):
    """One part of a checkpoint; `kind` is its class."""
    local = Path(path).is_dir()
    if not local and not revision:
        expected = "a folder, or a hub id with a revision"
        remedy = "Correct model.path, or set model.revision to a commit of the hub repository"
        raise InputError(Finding(f"model.path {path}", expected, "no folder, no revision", remedy))
    if local and not (Path(path) / part).is_dir():
        remedy = "Set model.path to a model in the layout of diffusers"
        expected = f"the {part} of a latent diffusion model"
        raise InputError(Finding(str(Path(path) / part), expected, "nothing", remedy))
    logger.info("%s of %s", part, path)
    return kind.from_pretrained(
        path,
        subfolder=part,
        revision=None if local else revision,
        local_files_only=local,
        **options,
    )


def _network(kind, path, revision, part, device, dtype, precision="torch_dtype"):
    """A network for inference, with channels last: what convolutions are fastest with."""
    network = _load(kind, path, revision, part, use_safetensors=True, **{precision: dtype})
    network = network.requires_grad_(False).eval().to(device)
    return network if part == "text_encoder" else network.to(memory_format=torch.channels_last)


def load_autoencoder(path, revision, device, dtype):
    """Load the autoencoder.

    Parameters
    ----------
    path : str or Path
        Folder of the checkpoint, or hub id.
    revision : str or None
        Commit of the hub repository; needed for a hub id.
    device : torch.device
    dtype : torch.dtype
        Ignored where the checkpoint asks for float32 (`force_upcast`): its autoencoder overflows
        in float16.

    Returns
    -------
    AutoencoderKL
    """
    config = AutoencoderKL.load_config(path, subfolder="vae", revision=revision)
    if config.get("force_upcast", True) and dtype == torch.float16:
        dtype = torch.float32
    return _network(AutoencoderKL, path, revision, "vae", device, dtype)


def load_text(path, revision, device, dtype):
    """Load the tokenizer and the text tower; parameters as `load_autoencoder`.

    Returns
    -------
    tokenizer : CLIPTokenizer
    encoder : CLIPTextModel
    """
    tokenizer = _load(CLIPTokenizer, path, revision, "tokenizer")
    return tokenizer, _network(
        CLIPTextModel, path, revision, "text_encoder", device, dtype, precision="dtype"
    )


def load_denoiser(path, revision, device, dtype, scheduler):
    """Load the U-Net and the sampler; other parameters as `load_autoencoder`.

    Parameters
    ----------
    scheduler : {"ddim", "dpmsolver++"}

    Returns
    -------
    unet : UNet2DConditionModel
    scheduler : DDIMScheduler or DPMSolverMultistepScheduler
        With the noise schedule and prediction type of the checkpoint.
    """
    unet = _network(UNet2DConditionModel, path, revision, "unet", device, dtype)
    return unet, _load(SCHEDULERS[scheduler], path, revision, "scheduler")

"""Load parts of a Stable Diffusion checkpoint in the layout of diffusers, each when needed."""

from __future__ import annotations

import logging
import math
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, VQModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from nsdldm.diffusion.check import PARTS, check_kind, check_model, find_missing, lacks
from nsdldm.diffusion.samplers import SAMPLERS, make_sampler
from nsdldm.support.devices import check_choice, choose_device, choose_dtype
from nsdldm.support.errors import Finding, InputError, Unexpected, reading
from nsdldm.support.hub import FETCH, check_connection, find_snapshot, is_offline
from nsdldm.support.listing import list_files

if TYPE_CHECKING:
    from nsdldm.diffusion.samplers import Ddim, DpmSolver, Plms

logger = logging.getLogger(__name__)

# Of one kind; Stable Diffusion XL has 32. The libraries build all layers before they look at the
# weights.
MOST_LAYERS = 200
LAYERS = ("num_hidden_layers", "layers_per_block", "transformer_layers_per_block")
# What a file of the text encoder may contain in addition.
REST_OF_CLIP = ("vision_model.", "visual_projection.", "text_projection.", "logit_scale")
SAME = "Take weights and config.json from the same model, whole"


class Model(NamedTuple):
    """A latent diffusion model and how to run it.

    Parameters
    ----------
    path : str or Path
        Folder of a checkpoint in the layout of diffusers, or hub id.
    revision : str or None
        Commit of the hub repository; needed for a hub id, ignored for a folder.
    device : {"auto", "cpu", "cuda"}
    dtype : {"auto", "float32", "float16", "bfloat16"}
        "auto" is float16 on a GPU and float32 on a CPU.
    batch_size : int
        Images at once; halved when memory runs out.
    """

    path: str | Path
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 16

    def choose(self) -> tuple[torch.device, torch.dtype]:
        """Choose device and precision from what is available.

        Raises
        ------
        InputError
            A GPU was asked for and there is none, or the device does not support the precision.
        """
        device = choose_device(self.device)
        return device, choose_dtype(self.dtype, device)


def load_autoencoder(
    path: Path | str, revision: str | None, device: torch.device, dtype: torch.dtype
) -> AutoencoderKL | VQModel:
    """Load the autoencoder, with Kullback-Leibler regularisation or vector quantisation.

    Parameters
    ----------
    path : str or Path
        Folder of the checkpoint, or hub id.
    revision : str or None
        Commit of the hub repository; needed for a hub id, ignored for a folder.
    device : torch.device
    dtype : torch.dtype
        float16 becomes float32 if the checkpoint asks for it (`force_upcast`, as in diffusers' own
        pipelines), because the autoencoders of Stable Diffusion can overflow in float16. A
        quantising autoencoder always runs in float32, because torch compares with the codebook in
        float32 only.

    Returns
    -------
    AutoencoderKL or VQModel
        In evaluation mode, without gradients.

    Raises
    ------
    InputError
        There is no such model, a hub id has no revision, a file is damaged, or a part is not
        supported.
    """
    config = _load(AutoencoderKL.load_config, path, revision, "vae")
    kind = VQModel if config.get("_class_name") == "VQModel" else AutoencoderKL
    # A configuration without this key means True, as in Stable Diffusion 1.
    upcast = kind is VQModel or (dtype == torch.float16 and config.get("force_upcast", True))
    if upcast and dtype != torch.float32:
        logger.info("the autoencoder runs in float32, as its kind or configuration asks")
        dtype = torch.float32
    autoencoder = _load_network(kind, path, revision, "vae", dtype)
    return autoencoder.to(device, memory_format=torch.channels_last)


def load_text(
    path: Path | str, revision: str | None, device: torch.device, dtype: torch.dtype
) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """Load the tokenizer and the text encoder.

    Parameters
    ----------
    path, revision, device
        As `load_autoencoder`.
    dtype : torch.dtype

    Returns
    -------
    tokenizer : CLIPTokenizer
    encoder : CLIPTextModel

    Raises
    ------
    InputError
        As `load_autoencoder`, or the tokenizer does not belong to the text encoder.
    """
    tokenizer = _load(CLIPTokenizer.from_pretrained, path, revision, "tokenizer")
    encoder = _load_network(CLIPTextModel, path, revision, "text_encoder", dtype)
    _check_tokenizer(tokenizer, encoder.config, _name(path, "tokenizer"))
    return tokenizer, encoder.to(device)


def count_tokens(path: Path | str, revision: str | None) -> int:
    """Count the tokens of a model's texts.

    Parameters
    ----------
    path, revision
        As `load_autoencoder`.

    Returns
    -------
    int
        77 in Stable Diffusion.

    Raises
    ------
    InputError
        The model has no text encoder.
    """
    config = _load(CLIPTextConfig.from_pretrained, path, revision, "text_encoder")
    return config.max_position_embeddings


def load_denoiser(
    path: Path | str, revision: str | None, device: torch.device, dtype: torch.dtype, scheduler: str
) -> tuple[UNet2DConditionModel, Ddim | DpmSolver | Plms]:
    """Load the U-Net and the sampler.

    Parameters
    ----------
    path, revision, device
        As `load_autoencoder`.
    dtype : torch.dtype
        Of the U-Net; the sampler computes in the latents' float32.
    scheduler : {"ddim", "dpmsolver++", "plms"}

    Returns
    -------
    unet : UNet2DConditionModel
    scheduler : Ddim, DpmSolver or Plms
        As `nsdldm.diffusion.samplers.make_sampler`, with the noise schedule, spacing and prediction
        type of the checkpoint.

    Raises
    ------
    InputError
        As `load_autoencoder`.
    """
    check_choice("scheduler", scheduler, SAMPLERS)
    config = _load(SAMPLERS[scheduler][0].load_config, path, revision, "scheduler")
    _stop_at_kind(path, revision, ["scheduler"], [("this chain", scheduler, None)])
    with reading(_name(path, "scheduler"), "the configuration of a scheduler"):
        sampler = make_sampler(scheduler, config)
    unet = _load_network(UNet2DConditionModel, path, revision, "unet", dtype)
    return unet.to(device, memory_format=torch.channels_last), sampler


def _name(path, part):
    """A part of a checkpoint, for messages."""
    return f"{path}/{part}"


def _folder(path, revision):
    """Where a checkpoint is on this machine, if it is."""
    return Path(path) if Path(path).is_dir() else find_snapshot(str(path), revision)


def _stop_at_kind(path, revision, parts, chains=()):
    """Refuse a checkpoint that is not supported."""
    findings = check_kind(path, _folder(path, revision), chains, parts)
    if findings:
        raise InputError(*findings)


def _is_number(value):
    return isinstance(value, int | float) and math.isfinite(value)


def _require(fits, path, part, expected, found):
    """Refuse an impossible value in a part's configuration."""
    if not fits:
        remedy = "Correct the part's configuration"
        raise InputError(Finding(_name(path, part), expected, f"{found!r}"[:80], remedy))


def _load(method, path, revision, part, **options):
    """Load one part of a checkpoint with a method of its class."""
    local = Path(path).is_dir()
    if Path(path).is_file():
        raise InputError(*check_model(path))
    if not local and not revision:
        expected = "a folder, or a hub id with a revision"
        remedy = "Correct `path`, or set `revision` to a commit if it is a hub id"
        found = f"no folder of that name on {socket.gethostname()}, no revision"
        remedy += "; a cluster's nodes need it too"
        raise InputError(Finding(f"`path` {path}", expected, found, remedy))
    expected = f"the {part} of a latent diffusion model"
    if local and not (Path(path) / part).is_dir():
        raise InputError(*find_missing(Path(path), [part]))
    remedy, held = "Replace it by an intact copy", True
    if not local:
        expected += f" at revision {revision}"
        remedy = FETCH if is_offline() else "Check the id, revision and connection"
        held = is_offline() or not lacks(find_snapshot(str(path), revision), part)
        if not held and (findings := check_connection(path, revision)):
            raise InputError(*findings)
    options |= {"subfolder": part, "local_files_only": held}
    with reading(_name(path, part), expected, remedy):
        loaded = method(path, revision=None if local else revision, **options)
        if isinstance(loaded, list | str | int | float | None):
            raise Unexpected("a configuration that is no mapping")
        return loaded


def _check_claims(kind, path, revision, part):
    """Refuse a configuration with far too many layers, or a text encoder larger than its
    weights."""
    text = kind is CLIPTextModel
    method = CLIPTextConfig.from_pretrained if text else kind.load_config
    config = _load(method, path, revision, part)
    # Whether parts fit together is checked when the last of them is loaded.
    _stop_at_kind(path, revision, PARTS if part == "unet" else [part])
    settings = config.to_dict() if text else config
    for name in LAYERS:
        counts = settings.get(name) or 0
        for count in counts if isinstance(counts, list) else [counts]:
            fits = not _is_number(count) or count <= MOST_LAYERS
            _require(fits, path, part, f"{name} of at most {MOST_LAYERS}", count)
    if text and Path(path).is_dir():
        # Only diffusers waits for the weights before it allocates memory for them.
        with (
            reading(_name(path, part), "the configuration of a text encoder"),
            torch.device("meta"),
        ):
            claimed = kind(config).num_parameters()
        held = sum(file.stat().st_size for file in list_files(Path(path) / part, "*.safetensors"))
        expected = f"at least {claimed} bytes of weights for what its configuration describes"
        _require(claimed <= held or not held, path, part, expected, held)


def _load_network(kind, path, revision, part, dtype):
    """Load a network for inference, with all of its weights."""
    if Path(path).is_dir() and (findings := find_missing(Path(path), [part])):
        raise InputError(*findings)
    _check_claims(kind, path, revision, part)
    options = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    try:
        network, report = _load(kind.from_pretrained, path, revision, part, **options)
    except InputError as error:
        # A different size is not damage.
        others = [replace(f, remedy=SAME) for f in error.findings if " of shape (" in f.found]
        raise InputError(*others or error.findings) from error
    # The libraries only warn; they leave missing weights random and ignore excess ones.
    missing, excess = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    excess = [name for name in excess if not name.startswith(REST_OF_CLIP)]
    for names, found in ((missing, "none for"), (excess, "others besides them,")):
        if names:
            expected, found = "the weights of its configuration", f"{found} {', '.join(names[:3])}"
            raise InputError(Finding(_name(path, part), expected, found, SAME))
    logger.info("loaded %s", _name(path, part))
    return network.requires_grad_(False).eval()


def _check_tokenizer(tokenizer, config, where):
    """Refuse a tokenizer without files, which transformers would read as an empty vocabulary."""
    found = len(tokenizer), tokenizer.model_max_length
    needed = config.vocab_size, config.max_position_embeddings
    if not _is_number(found[1]) or found[0] != needed[0] or found[1] > needed[1]:
        expected = f"{needed[0]} words and texts of {needed[1]} tokens, as the text encoder has"
        remedy = "Take tokenizer and text_encoder from the same model, whole"
        description = f"{found[0]} words and texts of {found[1]} tokens"
        raise InputError(Finding(where, expected, description, remedy))

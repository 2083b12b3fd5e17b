"""Load what a generator has beyond a text-to-image model: other parts, and U-Nets that take more
than a text."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin, SchedulerMixin, UNet2DConditionModel

from nsdldm.diffusion.check import check_scheduler
from nsdldm.diffusion.loading import Model
from nsdldm.diffusion.samplers import SAMPLERS, make_sampler
from nsdldm.support.devices import check_choice
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.hub import FETCH, check_connection, find_snapshot, is_offline
from nsdldm.support.listing import list_files

logger = logging.getLogger(__name__)

SAME = "Take weights and config.json from the same model, whole"


def load_part(method: Callable, model: Model, part: str, **options: Any) -> Any:
    """Load one part of a model with a method of its class.

    Parameters
    ----------
    method : callable
        `from_pretrained` or `load_config` of a class of diffusers or transformers.
    model : Model
    part : str
        Its folder in the model.
    **options
        Of the method.

    Returns
    -------
    object
        What the method returns.

    Raises
    ------
    InputError
        There is no such model or part, a hub id has no revision, or a file is damaged.
    """
    path, remedy = str(model.path), None
    if Path(path).is_dir():
        options["local_files_only"] = True
        if not (Path(path) / part).is_dir():
            expected = f"a folder with the {part} of the generator's model"
            remedy = "Set `path` to a model of this generator's kind, in the layout of diffusers"
            raise InputError(Finding(f"{path}/{part}", expected, "nothing", remedy))
    else:
        options |= {"revision": model.revision, "local_files_only": _is_held(model, part)}
        remedy = FETCH if is_offline() else "Check the id, revision and connection"
    with reading(f"{path}/{part}", f"the {part} of a diffusion model", remedy):
        return method(path, subfolder=part, **options)


def _is_held(model, part):
    """Whether a hub model's part must be on this machine; refuses a hub that does not answer."""
    if not model.revision:
        expected = "a folder, or a hub id with a revision"
        remedy = "Correct `path`, or set `revision` to a commit if it is a hub id"
        raise InputError(Finding(f"`path` {model.path}", expected, "no folder", remedy))
    folder = find_snapshot(str(model.path), model.revision) / part
    # Weights come after the configuration; schedulers have none.
    held = list_files(folder, "*.safetensors") or list_files(folder, "scheduler_config.json")
    if held or is_offline():
        return True
    if findings := check_connection(str(model.path), model.revision):
        raise InputError(*findings)
    return False


def load_network(
    kind: type[ModelMixin], model: Model, part: str, dtype: torch.dtype, **options: Any
) -> ModelMixin:
    """Load a network for inference, with all of its weights.

    Parameters
    ----------
    kind : type
        Class of diffusers or transformers.
    model : Model
    part : str
        Its folder in the model.
    dtype : torch.dtype
    **options
        Of `from_pretrained`, such as settings that replace those of its configuration.

    Returns
    -------
    object of that class
        On the CPU, in evaluation mode, without gradients.

    Raises
    ------
    InputError
        As `load_part`, or weights are missing or superfluous.
    """
    options |= {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    network, report = load_part(kind.from_pretrained, model, part, **options)
    # The libraries only warn; they leave missing weights random and ignore excess ones.
    for names, found in (("missing_keys", "none for"), ("unexpected_keys", "others besides,")):
        if report[names]:
            found = f"{found} {', '.join(sorted(report[names])[:3])}"
            expected = "the weights of its configuration"
            raise InputError(Finding(f"{model.path}/{part}", expected, found, SAME))
    logger.info("loaded %s/%s", model.path, part)
    return network.requires_grad_(False).eval()


def load_unet(
    model: Model, scheduler: str, kind: str, settings: dict
) -> tuple[UNet2DConditionModel, SchedulerMixin]:
    """Load a U-Net that takes more than a text, and its sampler.

    Parameters
    ----------
    model : Model
    scheduler : {"ddim", "dpmsolver++"}
    kind : str
        What the generator needs, such as "Stable unCLIP"; for messages.
    settings : dict
        What the U-Net's configuration must say.

    Returns
    -------
    unet : UNet2DConditionModel
        On the model's device, in its precision.
    sampler : SchedulerMixin
        As `nsdldm.diffusion.samplers.make_sampler` makes it.

    Raises
    ------
    InputError
        As `load_network`, or the U-Net is of another kind.
    """
    check_choice("scheduler", scheduler, SAMPLERS)
    config = load_part(UNet2DConditionModel.load_config, model, "unet")
    require(config, settings, f"{model.path}/unet/config.json", kind)
    schedule = load_part(SAMPLERS[scheduler][0].load_config, model, "scheduler")
    where = f"{model.path}/scheduler/scheduler_config.json"
    if findings := check_scheduler(schedule, where, [("this chain", scheduler, None)]):
        raise InputError(*findings)
    sampler = make_sampler(scheduler, schedule)
    device, dtype = model.choose()
    unet = load_network(UNet2DConditionModel, model, "unet", dtype)
    return unet.to(device, memory_format=torch.channels_last), sampler


def require(config: dict, settings: dict, where: str, kind: str) -> None:
    """Refuse a configuration that says anything else than a generator needs.

    Parameters
    ----------
    config : dict
    settings : dict
        Keys, and the value of each.
    where : str
        The file, for the message.
    kind : str
        What the generator needs, for the message.

    Raises
    ------
    InputError
    """
    others = {key: config.get(key) for key, value in settings.items() if config.get(key) != value}
    if others:
        expected = ", ".join(f"{key} {settings[key]!r}" for key in others)
        found = ", ".join(f"{value!r}"[:80] for value in others.values())
        remedy = f"Set `path` to a model of the kind of {kind}, or choose another generator"
        raise InputError(Finding(where, f"{expected}, as in {kind}", found, remedy))

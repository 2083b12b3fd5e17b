"""Stage 3: a latent diffusion model conditioned on responses, as in MinD-Vis.

The encoder sees all voxels, without masks. Its output becomes the context of the U-Net's
cross-attention and is added to its time embedding. The encoder, the layers in between and the
cross-attention of the U-Net are trained; everything else is frozen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import nn
from torch.nn import functional

from nsdldm.diffusion.check import PARTS
from nsdldm.diffusion.loading import count_tokens, load_denoiser
from nsdldm.diffusion.reconstruction import check_channels
from nsdldm.support.devices import choose_device
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.listing import list_model_files
from nsdldm.trained.checkpoints import check_subjects, insert_weights, load_encoder, load_weights
from nsdldm.trained.data import TrainingSet
from nsdldm.trained.loop import (
    Files,
    choose_precision,
    finish_stage,
    log_parameters,
    make_key,
    make_schedule,
    train,
)
from nsdldm.trained.networks import build_encoder, count_parameters

if TYPE_CHECKING:
    from nsdldm.diffusion.samplers import Ddim, DpmSolver, Plms

CODE = "nsdldm/trained/diffusion.py"


class Mapper(nn.Module):
    """Linear layers from the encoder's states to the U-Net's conditioning.

    Parameters
    ----------
    n_tokens, width : int
        Of the encoder's states.
    tokens, context_width : int
        Of the context for cross-attention.
    time_width : int or None
        Of the time embedding; None to leave it unchanged.
    """

    def __init__(self, n_tokens, width, tokens, context_width, time_width):
        super().__init__()
        self.tokens = _mix_tokens(n_tokens, max(n_tokens // 2, 1), tokens)
        self.context = nn.Linear(width, context_width)
        self.time = None
        if time_width:
            self.time_tokens = _mix_tokens(tokens, max(tokens // 2, 1), 1)
            self.time = nn.Linear(context_width, time_width)

    def forward(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map states (n, n_tokens, width).

        Returns
        -------
        context : tensor of shape (n, tokens, context_width)
        shift : tensor of shape (n, time_width) or None
            To be added to the time embedding.
        """
        context = self.context(self.tokens(states))
        if self.time is None:
            return context, None
        return context, self.time(self.time_tokens(context))[:, 0]


def _mix_tokens(n_tokens, n_between, n_mixed):
    """Two linear maps along the token axis."""
    return nn.Sequential(nn.Conv1d(n_tokens, n_between, 1), nn.Conv1d(n_between, n_mixed, 1))


class ConditionedDiffusion(nn.Module):
    """A latent diffusion model conditioned on responses.

    Its parameters and weights are the trained ones: `encoder`, `mapper` and, under their paths in
    the U-Net, the `trained` parts of that. The rest of the U-Net is kept separately, so neither
    checkpoints nor results duplicate the pretrained model.

    Parameters
    ----------
    encoder : nsdldm.trained.networks.Encoder
    unet : UNet2DConditionModel
        Pretrained; changed in place.
    scheduler : DDIMScheduler
        Scheduler of the model: noise levels and prediction type.
    settings : dict
        tokens (of the context), time_condition (whether the time embedding is conditioned too) and
        trained: the children of the U-Net's transformer blocks that are trained, ``attn2`` and
        ``norm2`` in MinD-Vis, which are the cross-attention and the norm before it.

    Raises
    ------
    InputError
        The U-Net is not conditioned on text alone, or does not have these parts.
    """

    def __init__(
        self, encoder, unet: UNet2DConditionModel, scheduler: DDIMScheduler, settings: dict
    ):
        super().__init__()
        _check_unet(unet, scheduler)
        self.encoder = encoder
        self.mapper = Mapper(
            encoder.n_tokens,
            encoder.width,
            settings["tokens"],
            unet.config.cross_attention_dim,
            unet.time_embedding.linear_2.out_features if settings["time_condition"] else None,
        )
        if settings["time_condition"]:
            # diffusers adds the class embedding to the time embedding.
            unet.class_embedding = nn.Identity()
        unet.requires_grad_(False)
        self.unet_parts = _share_parts(unet, _find_parts(unet, settings["trained"]))
        self.unet_parts.requires_grad_(True)
        # Not a child: see above.
        self._held = unet, scheduler

    @property
    def unet(self) -> UNet2DConditionModel:
        """The whole U-Net, which includes `unet_parts`."""
        return self._held[0]

    def condition(
        self, responses: torch.Tensor, subject: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Turn responses (n, length) into the U-Net's context and time shift, as `Mapper`."""
        # Without the class token.
        return self.mapper(self.encoder(responses, subject=subject)[:, 1:])

    def forward(self, batch: dict[str, torch.Tensor], generator: torch.Generator) -> dict:
        """Loss of a batch: mean squared error of the U-Net's prediction for noised latents.

        Parameters
        ----------
        batch : dict of tensors
            responses (n, length), z (n, channels, height, width) and subject (n,).
        generator : torch.Generator
            On the CPU; for noise levels and noise.

        Returns
        -------
        dict
            loss, a scalar tensor.
        """
        unet, scheduler = self._held
        z = batch["z"]
        # Each process of a parallel training has its own GPU.
        unet.to(z.device)
        levels = scheduler.config.num_train_timesteps
        timesteps = torch.randint(levels, (len(z),), generator=generator).to(z.device)
        noise = torch.randn(z.shape, generator=generator).to(z.device)
        noisy = scheduler.add_noise(z, noise, timesteps)
        context, shift = self.condition(batch["responses"], batch["subject"])
        predicted = unet(noisy, timesteps, context, class_labels=shift).sample
        target = {
            "epsilon": lambda: noise,
            "v_prediction": lambda: scheduler.get_velocity(z, noise, timesteps),
            "sample": lambda: z,
        }[scheduler.config.prediction_type]()
        return {"loss": functional.mse_loss(predicted.float(), target)}


def _check_unet(unet, scheduler):
    """Refuse a model that cannot be conditioned as in MinD-Vis."""
    config = unet.config
    kinds, kind = ("epsilon", "v_prediction", "sample"), scheduler.config.prediction_type
    plain = not (config.class_embed_type or config.num_class_embeds or config.addition_embed_type)
    width = config.cross_attention_dim
    findings = []
    if not plain or config.encoder_hid_dim or not isinstance(width, int):
        expected = "a U-Net conditioned on the context of one text encoder only"
        found, remedy = "one with other embeddings", "Use a model such as Stable Diffusion 1 or 2"
        findings.append(Finding("unet of `model`", expected, found, remedy))
    if kind not in kinds:
        expected, remedy = "one of " + ", ".join(kinds), "Correct the scheduler's configuration"
        where = "prediction_type of the scheduler of `model`"
        findings.append(Finding(where, expected, repr(kind), remedy))
    if findings:
        raise InputError(*findings)


def _find_parts(unet, parts):
    """Paths of the children with these names in the U-Net's transformer blocks."""
    # By block, since residual blocks, which stay frozen, also have a norm2.
    blocks = {
        path: {name for name, child in module.named_children() if child is not None}
        for path, module in unet.named_modules()
        if isinstance(module, BasicTransformerBlock)
    }
    missing = [name for name in parts if not any(name in names for names in blocks.values())]
    if missing or not parts:
        found = "nothing" if not parts else "no " + ", ".join(missing)
        expected = "parts of transformer blocks, such as attn2 and norm2"
        raise InputError(Finding("trained", expected, found, "Correct the names"))
    return [f"{path}.{name}" for path, names in blocks.items() for name in parts if name in names]


def _share_parts(root, paths):
    """A module that shares only the modules at these paths with `root`."""
    shared = nn.Module()
    for path in paths:
        *parents, name = path.split(".")
        node = shared
        for parent in parents:
            if parent not in dict(node.named_children()):
                node.add_module(parent, nn.Module())
            node = node.get_submodule(parent)
        node.add_module(name, root.get_submodule(path))
    return shared


def fine_tune_diffusion(
    *,
    encoder: Path,
    responses: dict[str, Path],
    rows: dict[str, Path],
    images: dict[str, Path],
    z: dict[str, Path],
    model: str | Path,
    revision: str | None,
    settings: dict,
    seed: int,
    device: str,
    precision: str,
    files: Files,
) -> None:
    """Fine-tune an encoder and a diffusion model's cross-attention on pairs of response and image.

    Parameters
    ----------
    encoder
        Weights of stage 1 or 2.
    responses, rows, images, z
        For each subject, ``train.npy``, ``train.tsv``, ``images.tsv`` and ``z.npy``. Latents are
        scaled posterior means, as the U-Net sees them.
    model : str or path
        Folder of a checkpoint in the layout of diffusers, or hub id.
    revision : str or None
    settings : dict
        Of stage 3, `nsdldm.trained.presets`; tokens None means as many as in the model's texts.
    device : {"auto", "cpu", "cuda"}
    precision : {"auto", "float32", "bf16", "fp16"}
        "auto" is bf16 on a GPU.
    seed : int
        Of new weights, noise and the order of rows.
    files : nsdldm.trained.loop.Files
        The weights are those of the encoder, the mapper and the trained parts of the U-Net, with
        the model in their metadata.

    Raises
    ------
    InputError
        Inputs do not fit together, the model cannot be conditioned, or the loss diverges.
    """
    device = choose_device(device)
    conditioner, about = load_encoder(encoder)
    check_subjects(encoder, about["subjects"], list(responses))
    settings = settings | {"tokens": settings["tokens"] or count_tokens(model, revision)}
    # Several processes would all start on the first GPU.
    unet, scheduler = load_denoiser(model, revision, torch.device("cpu"), torch.float32, "ddim")
    torch.manual_seed(seed)
    network = ConditionedDiffusion(conditioner, unet, scheduler, settings)
    samples = TrainingSet(responses, rows, about["vector"], images, {"z": z})
    latent = list(samples.features("z", samples.train[:1]).shape[1:])
    check_channels(unet, latent[0], model)
    counts = log_parameters("stage 3", network)
    counts["unet_rest"] = count_parameters(unet) - counts["unet_parts"]

    def fetch(chosen):
        return samples.batch(chosen) | {"z": samples.features("z", chosen)}

    given = [path for paths in (responses, rows, images, z) for path in paths.values()]
    table = train(
        network,
        fetch,
        samples.train,
        make_schedule(settings, seed),
        validation=samples.validation,
        partial=files.partial,
        key=make_key(
            CODE,
            [settings, seed, str(model), revision],
            [encoder, *given, *list_model_files(model, PARTS)],
        ),
        device=device,
        precision=choose_precision(precision, device),
        label="stage 3",
    )
    origin = {"model": str(model), "revision": revision or "", "latent": latent, "seed": seed}
    made = {"stage": 3, "settings": settings, "parameters": counts}
    kept = {name: about[name] for name in ("encoder", "length", "vector", "n_voxels", "subjects")}
    finish_stage(network, table, origin | made | kept, files)


def load_diffusion(
    weights: Path | str,
    model: Path | str,
    revision: str | None,
    device: torch.device,
    dtype: torch.dtype,
    scheduler: str,
) -> tuple[ConditionedDiffusion, Ddim | DpmSolver | Plms, dict]:
    """Load a diffusion model conditioned on responses.

    Parameters
    ----------
    weights : path
        As `fine_tune_diffusion` writes them.
    model, revision
        The model that they were trained from.
    device : torch.device
    dtype : torch.dtype
        Of the U-Net; encoder and mapper are float32.
    scheduler : {"ddim", "dpmsolver++", "plms"}

    Returns
    -------
    network : ConditionedDiffusion
        In evaluation mode, without gradients.
    sampler : diffusers' scheduler
    about : dict
        The metadata of the weights.

    Raises
    ------
    InputError
        The weights are of another stage or model.
    """
    state, about = load_weights(weights)
    if about["stage"] != 3:
        expected, remedy = "weights of stage 3", "Give those that fine_tune_diffusion wrote"
        raise InputError(Finding(str(weights), expected, f"those of {about['stage']}", remedy))
    unet, sampler = load_denoiser(model, revision, device, dtype, scheduler)
    encoder = build_encoder(about["encoder"], about["length"], about["n_voxels"])
    network = ConditionedDiffusion(encoder, unet, sampler, about["settings"])
    insert_weights(network, state, weights)
    return network.to(device).requires_grad_(False).eval(), sampler, about

"""Stage 2: align the encoder's states of responses with CLIP's states of pictures and captions.

After Yang et al. 2025, section 2.1.2 and equations 2 and 3. The paper does not say how tokens of
responses correspond to tokens of pictures; here they are mixed by learned weights (or pooled by
position), or only whole samples are aligned.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from nsdldm.support.devices import choose_device
from nsdldm.trained import networks
from nsdldm.trained.checkpoints import check_subjects, insert_weights, load_weights
from nsdldm.trained.contrast import align_cosine, info_nce
from nsdldm.trained.cross import CrossModal, Pictures, load_image_mae
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
from nsdldm.trained.pretraining import build_regressor

logger = logging.getLogger(__name__)

CODE = "nsdldm/trained/alignment.py"
# CLIP's own limit for 1 / temperature.
STEEPEST = 100.0


class Head(nn.Module):
    """Norm and linear map to CLIP's space."""

    def __init__(self, width, n_outputs):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=networks.EPSILON)
        self.map = nn.Linear(width, n_outputs)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map states (..., width) to (..., n_outputs)."""
        return self.map(self.norm(states))


class Alignment(nn.Module):
    """The encoder, and the layers that compare its states with CLIP's.

    In the contextual kind all tokens have states: visible tokens those of the encoder, masked
    tokens those of the regressor. In the plain kind only visible tokens have states.

    Parameters
    ----------
    settings : dict
        Of stage 2, `nsdldm.trained.presets`.
    encoder : nsdldm.trained.networks.Encoder
    regressor : nsdldm.trained.networks.Regressor or None
        Frozen unless settings say otherwise; gradients pass through it.
    n_image_tokens, n_dimensions : int
        Number of CLIP's picture tokens (class token and patches), and width of its space.
    """

    def __init__(self, settings, encoder, regressor, n_image_tokens, n_dimensions):
        super().__init__()
        self.settings, self.encoder, self.regressor = settings, encoder, regressor
        if regressor is not None:
            regressor.requires_grad_(settings["train_regressor"])
        self.with_image = settings["align"] in ("image", "image+text")
        self.with_text = settings["align"] in ("text", "image+text")
        width = (regressor or encoder).width
        if self.with_image:
            self.image_head = Head(width, n_dimensions)
            self.n_image_tokens = n_image_tokens
            if settings["level"] == "token" and settings["mixer"] == "learned":
                self.mixer = nn.Conv1d(encoder.n_tokens, n_image_tokens, 1)
                self.mixer.apply(networks.initialise)
        if self.with_text:
            self.text_head = Head(width, n_dimensions)
            start = torch.tensor(1 / settings["temperature"]).log()
            self.steepness = nn.Parameter(start)

    def embed(
        self,
        responses: torch.Tensor,
        kept: torch.Tensor | None = None,
        masked: torch.Tensor | None = None,
        subject: torch.Tensor | None = None,
        adapted: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States of all tokens, in their order.

        Parameters
        ----------
        responses : tensor of shape (n, length)
        kept, masked : int64 tensors of shape (n, k) and (n, m), optional
            If None, the encoder sees all tokens.
        subject, adapted
            As `nsdldm.trained.networks.Encoder.forward`.

        Returns
        -------
        states : tensor of shape (n, n_tokens, width)
        present : float tensor of shape (n, n_tokens, 1)
            0 for tokens without a state.
        """
        visible = self.encoder(responses, kept, subject, adapted)
        states = visible[:, 1:]
        if self.regressor is not None:
            states = self.regressor.enter(states)
        present = states.new_ones(*states.shape[:2], 1)
        if kept is None:
            return states, present
        if self.regressor is not None:
            others = self.regressor(visible, kept, masked)
            present = present.new_ones(*masked.shape, 1)
        else:
            others = states.new_zeros(*masked.shape, states.shape[-1])
            present = present.new_zeros(*masked.shape, 1)
        order = torch.cat([kept, masked], dim=1).argsort(dim=1)
        present = torch.cat([present.new_ones(*kept.shape, 1), present], dim=1)
        states = torch.cat([states, others.to(states.dtype)], dim=1)
        return networks.take_tokens(states, order), networks.take_tokens(present, order)

    def pool(self, states: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Mean of the states present, (n, width)."""
        return (states * present).sum(1) / present.sum(1)

    def predict_image(self, states: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Predict CLIP's tokens of the picture, (n, n_image_tokens, d), or its embedding (n, 1,
        d)."""
        if self.settings["level"] == "global":
            return self.image_head(self.pool(states, present))[:, None]
        if self.settings["mixer"] == "learned":
            # Missing states count as 0, and the others are scaled up for them.
            share = present.mean(dim=1, keepdim=True)
            return self.image_head(self.mixer(states * present / share))
        pooled = [
            functional.adaptive_avg_pool1d(values.transpose(1, 2), self.n_image_tokens)
            for values in (states * present, present)
        ]
        return self.image_head((pooled[0] / pooled[1].clamp_min(networks.EPSILON)).transpose(1, 2))

    def predict_text(self, states: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Predict the embedding of the captions, (n, d)."""
        return self.text_head(self.pool(states, present))

    def forward(self, batch: dict, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Losses of a batch.

        Parameters
        ----------
        batch : dict
            responses (n, length), subject (n,); clip_image (n, n_image_tokens, d), clip_text (n,
            d), if aligned.
        generator : torch.Generator
            On the CPU.

        Returns
        -------
        dict of scalar tensor
            loss; image (cosine distance) and text (contrast), if aligned.
        """
        settings = self.settings
        responses = self.encoder.adapt(batch["responses"], batch["subject"])
        responses = networks.sparsify(generator, responses, settings["sparsification"])
        kept, masked = networks.draw_mask(
            generator, len(responses), self.encoder.n_tokens, settings["mask_ratio"]
        )
        kept, masked = kept.to(responses.device), masked.to(responses.device)
        found = self.embed(responses, kept, masked, adapted=True)
        losses, total = {}, 0.0
        if self.with_image:
            aim = batch["clip_image"]
            if settings["level"] == "global":
                aim = aim[:, :1]
            losses["image"] = align_cosine(self.predict_image(*found), aim)
            total = total + settings["image_weight"] * losses["image"]
        if self.with_text:
            predicted = self.predict_text(*found)
            with torch.no_grad():
                # Clamp the parameter itself, as in CLIP: beyond the limit it would have no
                # gradient.
                self.steepness.clamp_(max=math.log(STEEPEST))
            temperature = 1 / self.steepness.exp()
            losses["text"] = info_nce(predicted, batch["clip_text"], temperature, symmetric=True)
            total = total + settings["text_weight"] * losses["text"]
        return {"loss": total, **losses}


def align_encoder(
    *,
    encoder: Path,
    responses: dict[str, Path],
    rows: dict[str, Path],
    images: dict[str, Path],
    clip_image: dict[str, Path],
    clip_text: dict[str, Path],
    stimuli: list[Path],
    settings: dict,
    seed: int,
    device: str,
    precision: str,
    files: Files,
) -> None:
    """Train the encoder of stage 1 further, towards CLIP or together with pictures.

    Parameters
    ----------
    encoder
        Weights of stage 1.
    responses, rows
        As `nsdldm.trained.pretraining.pretrain_encoder`, of the same subjects.
    images
        For each subject, ``images.tsv``.
    clip_image, clip_text
        For each subject, as `nsdldm.trained.clip.embed_clip` writes them.
    stimuli
        Pictures; only read for ``cross_mae``.
    settings : dict
        Of stage 2, `nsdldm.trained.presets`.
    seed, device, precision
        As `nsdldm.trained.pretraining.pretrain_encoder`.
    files : nsdldm.trained.loop.Files
        The weights are those of the encoder and the layers that compare its states.

    Raises
    ------
    InputError
        Inputs do not fit together, or training diverges.
    """
    device = choose_device(device)
    state, metadata = load_weights(encoder)
    check_subjects(encoder, metadata["subjects"], list(responses))
    across = settings["align"] == "cross_mae"
    features = {} if across else {"clip_image": clip_image, "clip_text": clip_text}
    samples = TrainingSet(responses, rows, metadata["vector"], images, features)
    torch.manual_seed(seed)
    network, fetch = (_join_pictures if across else _join_clip)(
        *(settings, state, metadata, encoder, samples, stimuli)
    )
    counts = log_parameters("stage 2", network)
    named = {"responses": responses, "rows": rows, "images": images} | features
    # Pictures are identified by their ids: those of the release are 37 GB.
    paths = [encoder, *(path for group in named.values() for path in group.values())]
    table = train(
        network,
        fetch,
        samples.train,
        make_schedule(settings, seed),
        validation=samples.validation,
        partial=files.partial,
        key=make_key(CODE, [settings, seed], paths),
        device=device,
        precision=choose_precision(precision, device),
        label="stage 2",
    )
    about = metadata | {"stage": 2, "alignment": settings, "parameters": counts, "seed": seed}
    if not across:
        about["clip"] = list(samples.features("clip_image", samples.train[:1]).shape[1:])
    # Vis-Dec's autoencoder of pictures is no longer needed, and larger than the encoder.
    kept = [name for name in network.state_dict() if not across or name.startswith("encoder.")]
    finish_stage(network, table, about, files, kept)


def _restore(state, metadata, path):
    """Encoder of stage 1 and, for the contextual kind, its regressor."""
    settings = metadata["encoder"]
    encoder = networks.build_encoder(settings, metadata["length"], metadata["n_voxels"])
    insert_weights(encoder, state, path, "encoder.")
    regressor = None
    if settings["encoder"] == "cae":
        regressor = build_regressor(settings, encoder)
        insert_weights(regressor, state, path, "regressor.")
    return encoder, regressor


def _join_clip(settings, state, metadata, path, samples, stimuli):
    """The network that is compared with CLIP, and the function that fetches its batches."""
    shape = samples.features("clip_image", samples.train[:1]).shape[1:]
    network = Alignment(settings, *_restore(state, metadata, path), *shape)

    def fetch(chosen):
        names = [name for name in ("image", "text") if getattr(network, f"with_{name}")]
        batch = {f"clip_{name}": samples.features(f"clip_{name}", chosen) for name in names}
        return batch | samples.batch(chosen)

    return network, fetch


def _join_pictures(settings, state, metadata, path, samples, stimuli):
    """The network that completes pictures and responses, and the function that fetches its
    batches."""
    encoder, _ = _restore(state, metadata, path)
    image = load_image_mae(
        settings["image_path"], settings["image_revision"], settings["image_config"]
    )
    network = CrossModal(encoder, settings, image, state)
    pictures = Pictures(stimuli, samples.nsd_ids, image.config.image_size)

    def fetch(chosen):
        return samples.batch(chosen) | {"picture": pictures(samples.nsd_ids[chosen])}

    return network, fetch


def load_alignment(path: Path | str) -> tuple[Alignment, dict]:
    """Load stage 2, except the cross-modal kind.

    Parameters
    ----------
    path : str or Path
        As `align_encoder` writes it.

    Returns
    -------
    network : Alignment
        On the CPU, in evaluation mode.
    metadata : dict
    """
    state, metadata = load_weights(path)
    settings = metadata["alignment"]
    encoder, regressor = _restore(state, metadata, path)
    network = Alignment(settings, encoder, regressor, *metadata["clip"])
    insert_weights(network, state, path)
    return network.eval().requires_grad_(False), metadata

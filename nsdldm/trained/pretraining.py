"""Stage 1: an autoencoder of masked responses, plain (MAE) or contextual (CAE).

After Yang et al. 2025 (fCAE), section 2.1.1 and equation 1; what they leave open follows the code
of CAE (Chen et al., IJCV 2024) and MinD-Vis (Chen et al., CVPR 2023).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from nsdldm.support.devices import choose_device
from nsdldm.support.errors import Finding, InputError
from nsdldm.trained import networks
from nsdldm.trained.checkpoints import insert_weights, load_weights
from nsdldm.trained.contrast import cross_contrast, self_contrast
from nsdldm.trained.data import TrainingSet, measure_responses
from nsdldm.trained.loop import (
    Files,
    choose_precision,
    finish_stage,
    log_parameters,
    make_key,
    make_schedule,
    train,
)
from nsdldm.trained.targets import fit_target, restore_target

if TYPE_CHECKING:
    from nsdldm.trained.networks import Encoder, Regressor

logger = logging.getLogger(__name__)

CODE = "nsdldm/trained/pretraining.py"


class Pretraining(nn.Module):
    """Encoder, regressor (contextual kind only) and decoder, with their loss.

    Parameters
    ----------
    settings : dict
        Of stage 1, `nsdldm.trained.presets`.
    encoder : nsdldm.trained.networks.Encoder
    target : nn.Module
        As `nsdldm.trained.targets.fit_target` returns it.
    """

    def __init__(self, settings, encoder, target):
        super().__init__()
        self.settings, self.encoder, self.target = settings, encoder, target
        if self.encoder.adapters is not None:
            # Its output is the target, which a trained map could make trivial: all zeros.
            self.encoder.adapters.requires_grad_(False)
        self.regressor = None
        if settings["encoder"] == "cae":
            self.regressor = build_regressor(settings, self.encoder)
        entry = self.regressor or self.encoder
        self.decoder = networks.Decoder(
            self.encoder.n_tokens,
            entry.width,
            width=settings["decoder_width"],
            depth=settings["decoder_depth"],
            heads=settings["decoder_heads"],
            mlp_ratio=settings["mlp_ratio"],
            n_outputs=target.n_outputs,
            mask_token=self.regressor is None,
            own_maps=settings["own_maps"],
        )

    def predict(
        self,
        responses: torch.Tensor,
        kept: torch.Tensor,
        masked: torch.Tensor,
        everywhere: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict masked tokens of responses, or with everywhere all tokens with a plain decoder.

        Parameters
        ----------
        responses : tensor of shape (n, length)
            Adapted.
        kept, masked : int64 tensors of shapes (n, k) and (n, m)
            Tokens.
        everywhere : bool
            Only without a regressor.

        Returns
        -------
        outputs : tensor of shape (n, m, n_outputs), or (n, n_tokens, n_outputs)
        states : tensor of shape (n, m, width) or None
            The regressor's prediction of the masked tokens' states.
        """
        visible = self.encoder(responses, kept, adapted=True)
        if self.regressor is None:
            return self.decoder(visible, masked, kept, everywhere), None
        states = self.regressor(visible, kept, masked)
        return self.decoder(states, masked), states

    @torch.no_grad()
    def encode_masked(self, responses: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Encode the masked tokens (n, m) of responses (n, length) alone, without gradients: the
        targets of the regressor.

        As in CAE's code, the weights are the encoder's own at this step, not a moving average.
        """
        return self.regressor.enter(self.encoder(responses, masked, adapted=True)[:, 1:])

    def forward(self, batch: dict, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Losses of a batch.

        Parameters
        ----------
        batch : dict
            responses (n, length), subject (n,).
        generator : torch.Generator
            On the CPU.

        Returns
        -------
        dict of scalar tensor
            loss; reconstruction; for the contextual kind also alignment; contrast if there is one.
        """
        settings = self.settings
        clean = self.encoder.adapt(batch["responses"], batch["subject"])
        responses = networks.sparsify(generator, clean, settings["sparsification"])
        patches = networks.cut_patches(clean, self.encoder.patch)
        kept, masked = networks.draw_mask(generator, *patches.shape[:2], settings["mask_ratio"])
        contrasted = settings["self_contrast"] or settings["cross_contrast"]
        outputs, states = self.predict(responses, kept, masked, everywhere=bool(contrasted))
        losses = {}
        if contrasted:
            losses = self._contrast(clean, responses, outputs, generator)
            outputs = networks.take_tokens(outputs, masked)
        hidden = networks.take_tokens(patches, masked)
        losses["reconstruction"] = self.target.loss(outputs, hidden, masked)
        if states is not None:
            aim = self.encode_masked(responses, masked)
            losses["alignment"] = functional.mse_loss(states.float(), aim.float())
        weights = {
            "reconstruction": settings["reconstruction_weight"],
            "alignment": settings["align_weight"],
            **{name: settings[name] for name in ("self_contrast", "cross_contrast")},
        }
        return {"loss": sum(weights[name] * loss for name, loss in losses.items()), **losses}

    def _contrast(self, clean, responses, outputs, generator):
        """Vis-Dec's contrasts of the predictions for all tokens."""
        settings, n_tokens = self.settings, self.encoder.n_tokens
        places = torch.arange(n_tokens).expand(len(clean), -1)
        predicted = self.target.decode(outputs, places)
        losses = {}
        if settings["self_contrast"]:
            losses["self_contrast"] = self_contrast(predicted, clean, settings["temperature"])
        if settings["cross_contrast"]:
            masks = networks.draw_mask(generator, len(clean), n_tokens, settings["mask_ratio"])
            other, _ = self.predict(responses, *masks, everywhere=True)
            other = self.target.decode(other, places)
            losses["cross_contrast"] = cross_contrast(predicted, other, settings["temperature"])
        return losses


def build_regressor(settings: dict, encoder: Encoder) -> Regressor:
    """Build the regressor that settings describe, for an encoder."""
    return networks.Regressor(
        encoder.n_tokens,
        encoder.width,
        width=settings["regressor_width"],
        depth=settings["regressor_depth"],
        heads=settings["regressor_heads"],
        mlp_ratio=settings["mlp_ratio"],
        context=settings["regressor_context"],
    )


def check_contrast(settings: dict) -> None:
    """Refuse contrasts for the contextual kind, whose decoder never sees visible tokens."""
    if settings["encoder"] == "cae" and (settings["self_contrast"] or settings["cross_contrast"]):
        expected, remedy = "no self_contrast or cross_contrast", "Set encoder to mae, or both to 0"
        raise InputError(Finding("trained: stage1 of encoder cae", expected, "one", remedy))


def check_mask(settings: dict, n_tokens: int) -> None:
    """Refuse settings that mask no patch and so leave nothing to predict."""
    _, masked = networks.draw_mask(None, 1, n_tokens, settings["mask_ratio"])
    if not masked.numel():
        expected = f"a fraction that masks at least one of {n_tokens} patches"
        remedy = "Raise it, lower patch, or take more regions"
        raise InputError(
            Finding("trained: stage1.mask_ratio", expected, str(settings["mask_ratio"]), remedy)
        )


def pretrain_encoder(
    *,
    responses: dict[str, Path],
    rows: dict[str, Path],
    settings: dict,
    seed: int,
    device: str,
    precision: str,
    files: Files,
) -> None:
    """Train the autoencoder of masked responses of one or several subjects.

    Parameters
    ----------
    responses, rows
        For each subject, training rows as `nsdldm.trained.data.join_responses` writes them.
    settings : dict
        Of stage 1, `nsdldm.trained.presets`.
    seed : int
        Of initial weights, fitting the target, order and masks.
    device : {"auto", "cpu", "cuda"}
    precision : {"auto", "float32", "bf16", "fp16"}
        "auto" is bf16 on a GPU.
    files : nsdldm.trained.loop.Files
        The weights are those of encoder, regressor, decoder and target.

    Raises
    ------
    InputError
        Settings are impossible, or training diverges.
    """
    check_contrast(settings)
    device = choose_device(device)
    sizes = measure_responses(responses, settings)
    check_mask(settings, sizes.encoder // settings["patch"])
    samples = TrainingSet(responses, rows, sizes.vector)
    torch.manual_seed(seed)
    encoder = networks.build_encoder(settings, sizes.encoder, sizes.n_voxels)
    target = fit_target(settings["target"], _cut(samples, encoder), settings["codes"], seed)
    network = Pretraining(settings, encoder, target)
    counts = log_parameters("stage 1", network)
    table = train(
        network,
        samples.batch,
        samples.train,
        make_schedule(settings, seed),
        validation=samples.validation,
        partial=files.partial,
        key=make_key(CODE, [settings, seed], [*responses.values(), *rows.values()]),
        device=device,
        precision=choose_precision(precision, device),
        label="stage 1",
    )
    about = {
        "stage": 1,
        "encoder": settings,
        "length": sizes.encoder,
        "vector": sizes.vector,
        "n_voxels": sizes.n_voxels,
        "subjects": list(responses),
        "parameters": counts,
        "seed": seed,
    }
    finish_stage(network, table, about, files)


@torch.no_grad()
def _cut(samples, encoder):
    """Patches of the training rows."""
    subject = torch.from_numpy(samples.subject[samples.train])
    responses = encoder.adapt(samples.responses(samples.train), subject)
    return networks.cut_patches(responses, encoder.patch).numpy()


def load_pretraining(path: Path | str) -> tuple[Pretraining, dict]:
    """Load stage 1.

    Parameters
    ----------
    path : str or Path
        As `pretrain_encoder` writes it.

    Returns
    -------
    network : Pretraining
        On the CPU, in evaluation mode.
    metadata : dict
    """
    state, metadata = load_weights(path)
    settings = metadata["encoder"]
    encoder = networks.build_encoder(settings, metadata["length"], metadata["n_voxels"])
    network = Pretraining(settings, encoder, restore_target(settings, state))
    insert_weights(network, state, path)
    return network.eval().requires_grad_(False), metadata

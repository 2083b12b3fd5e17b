"""Stage 1: an autoencoder of masked responses, plain (MAE) or contextual (CAE).

After Yang et al. 2025 (fCAE), section 2.1.1 and equation 1, with what they leave open from the
code of CAE (Chen et al., IJCV 2024) and MinD-Vis (Chen et al., CVPR 2023).
"""

import logging
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from nsdldm.devices import choose_device
from nsdldm.files import save_table
from nsdldm.trained import networks
from nsdldm.trained.checkpoints import save_weights
from nsdldm.trained.data import TrainingSet, pad_length
from nsdldm.trained.loop import identify, make_plan, train
from nsdldm.trained.targets import fit_target

logger = logging.getLogger(__name__)


class Pretraining(nn.Module):
    """Encoder, regressor (of the contextual kind) and decoder with their loss.

    Parameters
    ----------
    settings : dict
        Of stage 1, `nsdldm.trained.presets`.
    length : int
        Of a response vector.
    target : nn.Module
        As `nsdldm.trained.targets.fit_target` returns it.
    n_voxels : sequence of int, optional
        Of each subject, where subjects have adapters.
    """

    def __init__(self, settings, length, target, n_voxels=None):
        super().__init__()
        self.settings, self.target = settings, target
        self.encoder = networks.build_encoder(settings, length, n_voxels)
        if self.encoder.adapters is not None:
            # What it makes is the target, which a trained map could make easy: all zeros.
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

    def predict(self, responses, kept, masked):
        """Predict masked tokens of adapted responses (n, length).

        Returns
        -------
        outputs : tensor of shape (n, m, n_outputs)
        states : tensor of shape (n, m, width) or None
            What the regressor predicts of the masked tokens.
        """
        visible = self.encoder(responses, kept, adapted=True)
        if self.regressor is None:
            return self.decoder(visible, masked, kept), None
        states = self.regressor(visible, kept, masked)
        return self.decoder(states, masked), states

    @torch.no_grad()
    def encode_masked(self, responses, masked):
        """What the encoder makes of the masked tokens alone, without gradients: the alignment's target.

        As in CAE's code the weights are the encoder's own of this step, not a slower copy.
        """
        return self.regressor.enter(self.encoder(responses, masked, adapted=True)[:, 1:])

    def forward(self, batch, generator):
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
            loss; reconstruction; of the contextual kind also alignment; contrast if there is one.
        """
        clean = self.encoder.adapt(batch["responses"], batch["subject"])
        responses = networks.sparsify(generator, clean, self.settings["sparsification"])
        patches = networks.cut_patches(clean, self.encoder.patch)
        ratio = self.settings["mask_ratio"]
        kept, masked = networks.draw_mask(generator, *patches.shape[:2], ratio)
        outputs, states = self.predict(responses, kept, masked)
        hidden = networks.take_tokens(patches, masked)
        losses = {"reconstruction": self.target.loss(outputs, hidden, masked)}
        total = self.settings["reconstruction_weight"] * losses["reconstruction"]
        if states is not None:
            losses["alignment"] = functional.mse_loss(
                states, self.encode_masked(responses, masked).detach()
            )
            total = total + self.settings["align_weight"] * losses["alignment"]
        return {"loss": total, **losses}


def build_regressor(settings, encoder):
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

"""Stage 2 of Vis-Dec: masked responses and masked pictures are completed with each other's help.

After phase 2 of Sun et al. (NeurIPS 2023) and its published code (`MAEforFMRICross`); where that
code is unusual, docs/trained.md says what is done here.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from transformers import ViTMAEConfig, ViTMAEForPreTraining
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from nsdldm.nsd.stimuli import read_images
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.trained.networks import (
    EPSILON,
    Decoder,
    cut_patches,
    draw_mask,
    initialise,
    sparsify,
    take_tokens,
)

logger = logging.getLogger(__name__)


class CrossModal(nn.Module):
    """Two masked autoencoders, of responses and of pictures, that attend to each other.

    The masked response is encoded, attends to all tokens of its picture and is completed; the
    masked picture is encoded, attends to all tokens of the response and is completed. The latter
    teaches the encoder of responses about pictures; only that encoder is used afterwards.

    Parameters
    ----------
    encoder : nsdldm.trained.networks.Encoder
        Of stage 1. Its adapters, if any, are not trained here, because their output is a target.
    settings : dict
        Of stage 2, `nsdldm.trained.presets`: sparsification, mask_ratio, image_mask_ratio,
        response_weight, image_weight, cross_depth, decoder_width, decoder_depth, decoder_heads,
        mlp_ratio, own_maps.
    image : ViTMAEForPreTraining
        As `load_image_mae` returns it.
    state : dict of tensor, optional
        Weights of stage 1; the decoder starts from those that fit.
    """

    def __init__(self, encoder, settings, image, state=None):
        super().__init__()
        self.settings, self.encoder, self.image = settings, encoder, image
        if encoder.adapters is not None:
            encoder.adapters.requires_grad_(False)
        self.decoder = Decoder(
            encoder.n_tokens,
            encoder.width,
            width=settings["decoder_width"],
            depth=settings["decoder_depth"],
            heads=settings["decoder_heads"],
            mlp_ratio=settings["mlp_ratio"],
            n_outputs=encoder.patch,
            mask_token=True,
            own_maps=settings["own_maps"],
        )
        insert_fitting(self.decoder, state or {}, "decoder.")
        # Cross-attention is as wide as the tokens of pictures.
        width, depth = image.config.hidden_size, settings["cross_depth"]
        self.response_enter = nn.Linear(encoder.width, width)
        self.response_layers = make_cross_layers(image.config, depth)
        self.response_leave = nn.Linear(width, encoder.width)
        self.image_enter = nn.Linear(encoder.width, width)
        self.image_layers = make_cross_layers(image.config, depth)
        for part in (self.response_enter, self.response_leave, self.image_enter):
            initialise(part)

    def forward(self, batch: dict, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Losses of a batch.

        Parameters
        ----------
        batch : dict
            responses (n, length), picture uint8 (n, 3, side, side) with the side of the image
            autoencoder; subject (n,) if subjects have adapters.
        generator : torch.Generator
            On the CPU.

        Returns
        -------
        dict of scalar tensor
            loss; response and image, the mean squared errors of masked tokens, of voxels and of
            pixels normalised as ImageNet's; logged_correlation, see `correlate_pixels`.
        """
        settings = self.settings
        clean = self.encoder.adapt(batch["responses"], batch.get("subject"))
        responses = sparsify(generator, clean, settings["sparsification"])
        pixels = normalise_pictures(batch["picture"])
        n = len(responses)
        masks = draw_mask(generator, n, self.encoder.n_tokens, settings["mask_ratio"])
        n_patches = self.image.vit.embeddings.patch_embeddings.num_patches
        image_masks = draw_mask(generator, n, n_patches, settings["image_mask_ratio"])
        predicted = self.complete_responses(responses, *masks, self.encode_pictures(pixels))
        hidden = take_tokens(cut_patches(clean, self.encoder.patch), masks[1])
        response = functional.mse_loss(predicted.float(), hidden)
        latents = self.encoder(responses, adapted=True)
        predicted = self.complete_pictures(pixels, *image_masks, latents)
        hidden = take_tokens(self.make_image_target(pixels), image_masks[1])
        image = functional.mse_loss(predicted.float(), hidden)
        return {
            "loss": settings["response_weight"] * response + settings["image_weight"] * image,
            "response": response,
            "image": image,
            "logged_correlation": correlate_pixels(predicted.detach().float(), hidden),
        }

    def complete_responses(
        self,
        responses: torch.Tensor,
        kept: torch.Tensor,
        masked: torch.Tensor,
        picture_tokens: torch.Tensor,
    ) -> torch.Tensor:
        """Predict masked patches of responses from the others and from pictures.

        Parameters
        ----------
        responses : tensor of shape (n, length)
            Adapted.
        kept, masked : int64 tensors of shape (n, k) and (n, m)
        picture_tokens : tensor of shape (n, 1 + patches, width)
            As returned by `encode_pictures`.

        Returns
        -------
        tensor of shape (n, m, patch)
        """
        states = self.response_enter(self.encoder(responses, kept, adapted=True))
        looked = states
        for layer in self.response_layers:
            looked = layer(looked, picture_tokens)
        states = self.encoder.norm(self.response_leave(states + looked))
        return self.decoder(states, masked, kept)

    def complete_pictures(
        self, pixels: torch.Tensor, kept: torch.Tensor, masked: torch.Tensor, latents: torch.Tensor
    ) -> torch.Tensor:
        """Predict masked patches of pictures from the others and from responses.

        Parameters
        ----------
        pixels : tensor of shape (n, 3, side, side)
            As returned by `normalise_pictures`.
        kept, masked : int64 tensors of shape (n, k) and (n, m)
        latents : tensor of shape (n, 1 + n_tokens, encoder_width)
            Of complete responses.

        Returns
        -------
        tensor of shape (n, m, 3 x patch x patch)
        """
        states = self.encode_pictures(pixels, kept, self.image_enter(latents))
        order = torch.cat([kept, masked], dim=1).argsort(dim=1).to(pixels.device)
        return take_tokens(self.image.decoder(states, order).logits, masked)

    def encode_pictures(
        self,
        pixels: torch.Tensor,
        kept: torch.Tensor | None = None,
        latents: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Encode pictures: some patches or all, with or without attending to responses.

        Parameters
        ----------
        pixels : tensor of shape (n, 3, side, side)
        kept : int64 tensor of shape (n, k), optional
            Patches; all by default.
        latents : tensor of shape (n, n_tokens, width), optional
            Of responses, to attend to.

        Returns
        -------
        tensor of shape (n, 1 + k, width)
            The class token first.
        """
        parts = self.image.vit.embeddings
        tokens = parts.patch_embeddings(pixels) + parts.position_embeddings[:, 1:]
        if kept is not None:
            tokens = take_tokens(tokens, kept)
        start = parts.cls_token + parts.position_embeddings[:, :1]
        states = torch.cat([start.expand(len(tokens), -1, -1), tokens], dim=1)
        for layer in self.image.vit.layers:
            states = layer(states)
        if latents is not None:
            for layer in self.image_layers:
                states = layer(states, latents)
        return self.image.vit.layernorm(states)

    def make_image_target(self, pixels: torch.Tensor) -> torch.Tensor:
        """Patches of pictures (n, patches, 3 x patch x patch), as in the image autoencoder's
        loss."""
        patches = self.image.patchify(pixels)
        if not self.image.config.norm_pix_loss:
            return patches
        variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
        return (patches - mean) / (variance + 1e-6) ** 0.5


def make_cross_layers(config: ViTMAEConfig, depth: int) -> torch.nn.ModuleList:
    """Make layers of self-attention, attention to another sequence and an MLP, pre-norm.

    Parameters
    ----------
    config : ViTMAEConfig
        Configuration that defines width, heads and hidden layer.
    depth : int

    Returns
    -------
    nn.ModuleList of nn.TransformerDecoderLayer
    """
    layers = nn.ModuleList(
        nn.TransformerDecoderLayer(
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=EPSILON,
            batch_first=True,
            norm_first=True,
        )
        for _ in range(depth)
    )
    return layers.apply(initialise)


def load_image_mae(path: str | None, revision: str | None, config: dict) -> ViTMAEForPreTraining:
    """Load an autoencoder of masked pictures, or make a small one.

    Parameters
    ----------
    path : str or None
        Folder, or hub id such as facebook/vit-mae-base, with weights as safetensors. Its encoder is
        frozen, its decoder trained further. None makes an untrained one that is trained together
        with the rest, for the demo: it learns only from the training pictures.
    revision : str or None
        Commit of the hub repository; needed for a hub id, ignored for a folder.
    config : dict
        Fields of transformers' ViTMAEConfig. With a path they replace those of the model, as
        ``{"decoder_num_hidden_layers": 6}``, which drops the last layers of a longer decoder.

    Returns
    -------
    ViTMAEForPreTraining

    Raises
    ------
    InputError
        There is no such model, a hub id has no revision, or weights are damaged or incomplete.
    """
    if path is None:
        return _make_image_mae(config)
    where = f"image autoencoder {path}"
    local = Path(path).is_dir()
    if not local and not revision:
        expected, remedy = "a folder, or a hub id with a revision", "Give the revision, a commit"
        raise InputError(Finding(where, expected, "no such folder, no revision", remedy))
    options = {"revision": None if local else revision, "local_files_only": local}
    with reading(where, "a ViT-MAE with weights as safetensors", "Check the folder, or the id"):
        image, report = ViTMAEForPreTraining.from_pretrained(
            path, use_safetensors=True, output_loading_info=True, **options, **config
        )
    if report["missing_keys"]:
        # transformers only warns, and leaves them random.
        expected, found = "all weights", f"none for {sorted(report['missing_keys'])[0]}"
        remedy = "Name a model with all its weights, or correct the sizes in its configuration"
        raise InputError(Finding(where, expected, found, remedy))
    image.vit.requires_grad_(False)
    # Fixed, but from_pretrained of transformers 5.23 forgets it.
    image.decoder.decoder_pos_embed.requires_grad_(False)
    return image


def _make_image_mae(config):
    """Make an autoencoder of masked pictures with initial weights."""
    image = ViTMAEForPreTraining(ViTMAEConfig(**config))
    # transformers 5.23 initialises the decoder's position embeddings and mask token, and then fills
    # both with 0.
    image.decoder.initialize_weights(image.vit.embeddings.patch_embeddings.num_patches)
    return image


def insert_fitting(module: torch.nn.Module, state: dict[str, torch.Tensor], prefix: str) -> None:
    """Load those weights into a module that match by name and shape.

    Parameters
    ----------
    module : nn.Module
    state : dict of tensor
    prefix : str
        Of the names in `state`.
    """
    own = module.state_dict()
    found = {
        name: state[prefix + name]
        for name, tensor in own.items()
        if prefix + name in state and state[prefix + name].shape == tensor.shape
    }
    module.load_state_dict(own | found)
    logger.info("%s starts with %d of %d weights of stage 1", prefix[:-1], len(found), len(own))


def normalise_pictures(pictures: torch.Tensor) -> torch.Tensor:
    """Turn pictures, uint8 (n, 3, side, side), into float32 normalised as ImageNet's."""
    mean, deviation = (
        torch.tensor(channels, device=pictures.device)[:, None, None]
        for channels in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    )
    return (pictures.float() / 255 - mean) / deviation


def correlate_pixels(predicted: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Correlate predicted with true pixels.

    Parameters
    ----------
    predicted, hidden : tensors of shape (n, m, d)
        Masked patches.

    Returns
    -------
    scalar tensor
        Pearson's r over all masked pixels of a sample, averaged over samples; 0 for a constant
        sample.
    """
    predicted, hidden = (
        values.flatten(1) - values.flatten(1).mean(dim=1, keepdim=True)
        for values in (predicted, hidden)
    )
    return functional.cosine_similarity(predicted, hidden, dim=1).mean()


class Pictures:
    """Pictures in memory, read once, at a network's input size.

    9,000 pictures of 224 x 224 pixels are 1.35 GB.

    Parameters
    ----------
    stimuli : path or list of path
        As `nsdldm.nsd.stimuli.read_images`.
    nsd_ids : int array of shape (n_images,)
        Ids of the pictures that will be needed; repeats are read once.
    side : int
        Pixels; pictures are resized with Pillow's antialiased bilinear filter, as the feature
        extractor of ViT-MAE does.
    """

    def __init__(self, stimuli, nsd_ids, side):
        self.nsd_ids = np.unique(nsd_ids)
        self.pixels = np.empty((len(self.nsd_ids), 3, side, side), np.uint8)
        for row, picture in enumerate(read_images(stimuli, self.nsd_ids)):
            small = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
            self.pixels[row] = np.asarray(small).transpose(2, 0, 1)

    def __call__(self, nsd_ids):
        """Pictures of some images; uint8 tensor of shape (n, 3, side, side)."""
        return torch.from_numpy(self.pixels[np.searchsorted(self.nsd_ids, nsd_ids)])

"""Sizes and training of the demo's networks."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Plan:
    """How one network is trained.

    Parameters
    ----------
    steps : int
        Updates of the weights.
    batch : int
        Pictures per update.
    rate : float
        Maximum learning rate, reached after `warmup`; then decays to zero along half a cosine.
    warmup : float
        Fraction of steps in which the rate rises.
    decay : float
        Weight decay.
    average : float
        Of the exponential moving average of the weights, which is kept.
    """

    steps: int
    batch: int
    rate: float
    warmup: float = 0.03
    decay: float = 0.01
    average: float = 0.998


@dataclass(frozen=True)
class Recipe:
    """The demo model: data, sizes and training.

    Parameters
    ----------
    seed : int
        Of scenes, first weights, batches and noise.
    pixels : int
        Side of the pictures.
    train_scenes, test_scenes : int
    autoencoder_channels : tuple of int
        Width at each resolution; the last is at an eighth of `pixels`.
    text : dict
        Of `CLIPTextConfig`; the width is that of c.
    tokens : int
        Length of a text.
    vision : dict
        Of `CLIPVisionConfig`.
    projection : int
        Dimensions that texts and pictures are compared in.
    unet_channels : tuple of int
        Width at each resolution; cross-attention at the last.
    depth : dict
        Of `DPTConfig`.
    plans : dict of str to Plan
        By stage.
    """

    seed: int = 7
    pixels: int = 96
    train_scenes: int = 40_000
    test_scenes: int = 1_000
    autoencoder_channels: tuple = (24, 48, 72, 104)
    text: dict = field(
        default_factory=lambda: {
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
        }
    )
    tokens: int = 24
    vision: dict = field(
        default_factory=lambda: {
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "patch_size": 12,
        }
    )
    projection: int = 64
    unet_channels: tuple = (64, 128)
    depth: dict = field(
        default_factory=lambda: {
            "hidden_size": 64,
            "intermediate_size": 192,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "patch_size": 8,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [16, 32, 48, 48],
            # Of a quarter of the patches' side, so that the map has as many pixels as the picture.
            "reassemble_factors": [2, 1, 0.5, 0.25],
            "fusion_hidden_size": 32,
        }
    )
    plans: dict = field(
        default_factory=lambda: {
            "autoencoder": Plan(steps=3300, batch=12, rate=1.2e-3),
            "decoder": Plan(steps=100, batch=12, rate=6e-4),
            "clip": Plan(steps=1500, batch=192, rate=1.5e-3, decay=0.02),
            "classifier": Plan(steps=1000, batch=64, rate=1e-3),
            "judge": Plan(steps=1500, batch=64, rate=2e-3),
            "unet": Plan(steps=3200, batch=64, rate=1.2e-3),
            "adapter": Plan(steps=1200, batch=32, rate=2e-3, average=0.99),
            "depth": Plan(steps=2000, batch=16, rate=1.5e-3, average=0.99),
        }
    )

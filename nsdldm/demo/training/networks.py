"""The networks of the demo model, untrained, and the two classifiers that look at its pictures."""

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPConfig, CLIPModel

from nsdldm.demo.scenes import BACKGROUNDS, CATEGORIES
from nsdldm.errors import reading

# As Stable Diffusion 1.
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def build_autoencoder(recipe):
    """Build the autoencoder: RGB to 4 channels at an eighth of the side.

    Parameters
    ----------
    recipe : nsdldm.demo.training.recipe.Recipe

    Returns
    -------
    AutoencoderKL
    """
    levels = len(recipe.autoencoder_channels)
    return AutoencoderKL(
        block_out_channels=recipe.autoencoder_channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=recipe.pixels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def build_clip(recipe, tokenizer):
    """Build the two towers that learn which caption belongs to which picture.

    Parameters
    ----------
    recipe : nsdldm.demo.training.recipe.Recipe
    tokenizer : CLIPTokenizer

    Returns
    -------
    CLIPModel
    """
    special = ("bos_token_id", "eos_token_id", "pad_token_id")
    text = {
        **recipe.text,
        **{name: getattr(tokenizer, name) for name in special},
        "vocab_size": len(tokenizer),
        "max_position_embeddings": recipe.tokens,
        "projection_dim": recipe.projection,
    }
    vision = {**recipe.vision, "image_size": recipe.pixels, "projection_dim": recipe.projection}
    return CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=recipe.projection)
    )


def build_unet(recipe):
    """Build the U-Net that predicts the velocity of noised latents.

    Parameters
    ----------
    recipe : nsdldm.demo.training.recipe.Recipe

    Returns
    -------
    UNet2DConditionModel
    """
    plain = len(recipe.unet_channels) - 1
    return UNet2DConditionModel(
        sample_size=recipe.pixels // 8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=recipe.unet_channels,
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * plain,
        cross_attention_dim=recipe.text["hidden_size"],
        norm_num_groups=16,
        attention_head_dim=4,
    )


def build_scheduler():
    """Build the noise schedule and its sampler.

    Returns
    -------
    DDIMScheduler
    """
    return DDIMScheduler(
        **NOISE,
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


class SceneClassifier(nn.Module):
    """Say what a picture shows.

    Subclasses set `body`, from pictures of shape (n, 3, side, side), -1 to 1, to features.
    """

    def __init__(self, body, width):
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, len(CATEGORIES) + len(BACKGROUNDS))

    def forward(self, pictures):
        """Score pictures.

        Parameters
        ----------
        pictures : float tensor of shape (n, 3, side, side)
            From -1 to 1.

        Returns
        -------
        categories, backgrounds : tensors of shape (n, 12) and (n, 7)
            Logits; of categories independent of one another.
        """
        return self.head(self.body(pictures)).split([len(CATEGORIES), len(BACKGROUNDS)], dim=1)


def build_classifier():
    """Build a network of AlexNet's kind: five convolutions, then fully connected layers.

    Returns
    -------
    SceneClassifier
    """
    body = nn.Sequential(
        *(nn.Conv2d(3, 32, 5, 2, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(32, 64, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 96, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(96, 64, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, 128), nn.ReLU()),
    )
    return SceneClassifier(body, 128)


def build_judge():
    """Build a network of another kind, with normalised convolutions and no hidden layer.

    Returns
    -------
    SceneClassifier
    """
    layers, before = [], 3
    for width in (24, 48, 96, 96):
        layers += [nn.Conv2d(before, width, 3, 1, 1), nn.GroupNorm(8, width), nn.SiLU()]
        layers += [nn.AvgPool2d(2)]
        before = width
    layers += [nn.Conv2d(before, 96, 3, 1, 1), nn.GroupNorm(8, 96), nn.SiLU()]
    return SceneClassifier(nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten()), 96)


CLASSIFIERS = {"classifier": build_classifier, "judge": build_judge}


def load_classifier(folder, name, device):
    """Load one of the two networks that name what pictures show.

    Parameters
    ----------
    folder : str or Path
        The demo model.
    name : {"classifier", "judge"}
    device : torch.device

    Returns
    -------
    SceneClassifier
        In float32 and evaluation mode.

    Raises
    ------
    InputError
        The file is missing, damaged or of another network.
    """
    network = CLASSIFIERS[name]()
    path = f"{folder}/{name}/model.safetensors"
    with reading(path, "the weights of a scene classifier"):
        network.load_state_dict(load_file(path))
    return network.to(device).requires_grad_(False).eval()


def prepare(pictures, device):
    """Bring uint8 pictures into the form that all these networks take.

    Parameters
    ----------
    pictures : uint8 array of shape (n, side, side, 3)
    device : torch.device

    Returns
    -------
    float32 tensor of shape (n, 3, side, side)
        From -1 to 1.
    """
    # A copy, since torch takes no read-only memory maps.
    pixels = torch.from_numpy(np.array(pictures)).to(device).permute(0, 3, 1, 2)
    return (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

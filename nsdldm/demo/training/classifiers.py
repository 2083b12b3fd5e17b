"""The two classifiers of the demo's pictures, and the networks' input format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from nsdldm.demo.scenes import BACKGROUNDS, CATEGORIES
from nsdldm.support.errors import reading


class SceneClassifier(nn.Module):
    """Classify the content of pictures.

    Subclasses set `body`, from pictures of shape (n, 3, side, side), -1 to 1, to features.
    """

    def __init__(self, body, width):
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, len(CATEGORIES) + len(BACKGROUNDS))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score pictures.

        Parameters
        ----------
        pictures : float tensor of shape (n, 3, side, side)
            From -1 to 1.

        Returns
        -------
        categories, backgrounds : tensors of shape (n, 12) and (n, 7)
            Logits; those of categories are independent.
        """
        return self.head(self.body(pictures)).split([len(CATEGORIES), len(BACKGROUNDS)], dim=1)


def build_classifier() -> SceneClassifier:
    """Build an AlexNet-like network: five convolutions, then fully connected layers.

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


def build_judge() -> SceneClassifier:
    """Build a different network, with normalised convolutions and no hidden layer.

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


def load_classifier(folder: Path | str, name: str, device: torch.device) -> SceneClassifier:
    """Load one of the two classifiers.

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


def prepare(pictures: np.ndarray, device: torch.device) -> torch.Tensor:
    """Convert uint8 pictures to the input of all these networks.

    Parameters
    ----------
    pictures : uint8 array of shape (n, side, side, 3)
    device : torch.device

    Returns
    -------
    float32 tensor of shape (n, 3, side, side)
        From -1 to 1.
    """
    # A copy, since torch does not accept read-only memory maps.
    pixels = torch.from_numpy(np.array(pictures)).to(device).permute(0, 3, 1, 2)
    return (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

"""Save untrained networks that look at pictures, in the layout of the demo model."""

import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from nsdldm.demo.training.classifiers import CLASSIFIERS

PIXELS = 48


def save_networks(folder):
    """Folders clip, classifier and judge with random weights."""
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    vision = {**sizes, "image_size": PIXELS, "patch_size": 16}
    text = {**sizes, "vocab_size": 10}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(folder / "clip")
    CLIPImageProcessorPil(
        size={"shortest_edge": PIXELS},
        crop_size={"height": PIXELS, "width": PIXELS},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(folder / "clip")
    for name, build in CLASSIFIERS.items():
        (folder / name).mkdir()
        state = {key: value.contiguous() for key, value in build().state_dict().items()}
        save_file(state, folder / name / "model.safetensors")
    return folder

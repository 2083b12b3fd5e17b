"""Write the trained networks as a folder that diffusers and transformers load."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from transformers import CLIPImageProcessorPil, CLIPTextModel

from nsdldm.demo.training import networks, stages
from nsdldm.demo.training.classifiers import CLASSIFIERS
from nsdldm.support.files import replacing

if TYPE_CHECKING:
    from transformers import CLIPModel

    from nsdldm.demo.training.stages import Workshop


def assemble_model(shop: Workshop, output: Path) -> None:
    """Write the model of a finished training in float16.

    Parameters
    ----------
    shop : nsdldm.demo.training.stages.Workshop
    output : Path
        ``vae``, ``text_encoder``, ``tokenizer``, ``unet`` and ``scheduler`` are a
        `StableDiffusionPipeline`; ``clip`` is a `CLIPModel` with its preprocessor, ``classifier``
        and ``judge`` are for `load_classifier`.
    """
    vae, clip = stages.train_decoder(shop), stages.train_clip(shop)
    vae.register_to_config(scaling_factor=stages.find_scale(shop))
    tokenizer = stages.load_tokenizer(shop)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=take_text_tower(clip),
        tokenizer=tokenizer,
        unet=stages.train_unet(shop),
        scheduler=networks.build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16).save_pretrained(output)
    clip.to("cpu", torch.float16).save_pretrained(output / "clip")
    for folder in ("text_encoder", "clip"):
        load_as_float32(output / folder / "config.json")
    tokenizer.save_pretrained(output / "clip")
    side = {"height": shop.recipe.pixels, "width": shop.recipe.pixels}
    CLIPImageProcessorPil(
        size={"shortest_edge": shop.recipe.pixels},
        crop_size=side,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(output / "clip")
    for name in CLASSIFIERS:
        classifier = stages.train_classifier(shop, name).to("cpu", torch.float16)
        path = output / name / "model.safetensors"
        with replacing(path) as part:
            save_file({k: v.contiguous() for k, v in classifier.state_dict().items()}, part)


def load_as_float32(path: Path) -> None:
    """Declare that weights stored in float16 are to be used in float32.

    diffusers does so by default; transformers uses the dtype in the configuration.

    Parameters
    ----------
    path : Path
        ``config.json`` of a network of transformers, rewritten.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    with replacing(path) as part:
        part.write_text(
            json.dumps({**config, "dtype": "float32"}, indent=2) + "\n", encoding="utf-8"
        )


def take_text_tower(clip: CLIPModel) -> CLIPTextModel:
    """Take the text encoder out of a CLIP model.

    Parameters
    ----------
    clip : CLIPModel

    Returns
    -------
    CLIPTextModel
        With copies of the weights.
    """
    tower = CLIPTextModel(copy.deepcopy(clip.config.text_config))
    # CLIPModel contains the same module, under the prefix that its keys have in CLIPTextModel.
    weights = clip.text_model.state_dict()
    tower.load_state_dict(weights)
    return tower.to(clip.device, clip.dtype).eval()

"""Train the demo's network that estimates depth from a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import spearmanr
from transformers import DPTForDepthEstimation, DPTImageProcessorPil

from nsdldm.demo.training import networks
from nsdldm.demo.training.assemble import load_as_float32
from nsdldm.demo.training.classifiers import prepare
from nsdldm.demo.training.stages import draw_rows

if TYPE_CHECKING:
    from pathlib import Path

    from nsdldm.demo.training.stages import Workshop

BATCH = 50


def train_depth(shop: Workshop, output: Path) -> None:
    """Train a DPT on scenes and their true depth, and write it.

    Parameters
    ----------
    shop : nsdldm.demo.training.stages.Workshop
    output : Path
        The demo model; ``depth`` is added, a `DPTForDepthEstimation` in float16 with its
        preprocessor.
    """
    pictures, plan = shop.scenes("train").pictures, shop.recipe.plans["depth"]

    def loss(network, rng):
        rows = draw_rows(rng, pictures, plan.batch)
        true = torch.from_numpy(shop.depths("train", rows)).to(shop.device)
        predicted = network(prepare(pictures[rows], shop.device)).predicted_depth
        return (predicted.float() - true).abs().mean()

    network = shop.build("depth", lambda: networks.build_depth(shop.recipe))
    network = shop.train("depth", network, loss)
    network.to("cpu", torch.float16).save_pretrained(output / "depth")
    load_as_float32(output / "depth" / "config.json")
    DPTImageProcessorPil(
        size={"height": shop.recipe.pixels, "width": shop.recipe.pixels},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(output / "depth")


@torch.inference_mode()
def measure_depth(
    folder: Path, pictures: np.ndarray, depths: np.ndarray, device: torch.device
) -> list[tuple[str, float]]:
    """Compare estimated with true depth.

    Parameters
    ----------
    folder : Path
        The demo model.
    pictures : uint8 array of shape (n, pixels, pixels, 3)
    depths : float32 array of shape (n, pixels, pixels)
        True, as `nsdldm.demo.depth.draw_depth` draws them; not constant.
    device : torch.device

    Returns
    -------
    list of (str, float)
        The median over pictures of Spearman's correlation over pixels, 0 where an estimate is
        constant.
    """
    network = DPTForDepthEstimation.from_pretrained(folder / "depth", use_safetensors=True)
    network = network.to(device).eval()
    correlations = []
    for start in range(0, len(pictures), BATCH):
        rows = slice(start, start + BATCH)
        estimated = network(prepare(pictures[rows], device)).predicted_depth.cpu().numpy()
        for one, true in zip(estimated, depths[rows], strict=True):
            # A constant estimate says nothing about the order of pixels.
            constant = one.min() == one.max()
            value = 0.0 if constant else spearmanr(one.ravel(), true.ravel()).statistic
            correlations.append(value)
    return [("depth Spearman correlation, median", float(np.median(correlations)))]

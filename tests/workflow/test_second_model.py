"""The encoding half with another diffusion model, given by the configuration alone."""

import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import MODEL, PROJECT, run_snakemake, write_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    """The model that ships with a U-Net of other blocks, width and depth, untrained."""
    import torch  # here, since all tests wait for what is imported above
    from diffusers import UNet2DConditionModel

    folder = tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns("unet", "clip", "judge"))
    torch.manual_seed(0)
    shipped = UNet2DConditionModel.load_config(MODEL, subfolder="unet")
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=2,
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=shipped["cross_attention_dim"],
    ).save_pretrained(folder / "unet")
    return folder


def test_figure_9_with_another_u_net(tmp_path, nsd_config, other_model):
    blocks = {
        "attended": "down_blocks.0.attentions.1",
        "lowest": "mid_block.resnets.0",
        "last": "up_blocks.1",
    }
    changed = {
        "subjects": ["subj01"],
        "model": nsd_config["model"] | {"path": str(other_model)},
        "trajectories": nsd_config["trajectories"] | {"blocks": blocks, "variants": {}},
    }
    write_config(tmp_path, **nsd_config | changed)
    figure = "results/figures/fig9.png"
    run_snakemake(tmp_path, figure, project=PROJECT)
    assert (tmp_path / figure).stat().st_size > 50_000
    counts = pd.read_csv(tmp_path / "results/figures/fig9.tsv", sep="\t")
    assert set(counts["block"]) == set(blocks)
    n = len(pd.read_csv(tmp_path / "results/subj01/images.tsv", sep="\t"))
    gram = np.load(tmp_path / "results/subj01/grams/unet-attended-s050.npy")
    assert gram.shape == (n, n)

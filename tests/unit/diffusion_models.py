"""Save tiny Stable Diffusion checkpoints and the tables that go with them."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, VQModel
from tokenizers import Tokenizer
from transformers import CLIPTextConfig, CLIPTextModel

DEMO_MODEL = Path(__file__).parents[2] / "resources/demo_model"
TOKENS, WIDTH, SCALE = 24, 8, 0.4
# Read with another library than the one under test.
N_WORDS = Tokenizer.from_file(str(DEMO_MODEL / "tokenizer/tokenizer.json")).get_vocab_size()
START, END = N_WORDS - 2, N_WORDS - 1
NETWORK = {"revision": None, "device": "cpu", "dtype": "float32"}


def save_model(
    folder,
    prediction="epsilon",
    force_upcast=True,
    scheduler=None,
    quantised=False,
    width=WIDTH,
    vae=None,
    unet=None,
):
    """Random weights in the real classes; the words are those of the model that ships.

    `width` is the text encoder's, `scheduler`, `vae` and `unet` are settings of theirs that differ.
    """
    torch.manual_seed(0)
    shutil.copytree(DEMO_MODEL / "tokenizer", folder / "tokenizer")
    shutil.copy(DEMO_MODEL / "model_index.json", folder)
    text = CLIPTextConfig(
        vocab_size=N_WORDS,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=END,
    )
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    own = {"num_vq_embeddings": 16} if quantised else {"latent_channels": 4}
    own |= vae or {}
    channels = 3 if quantised else own["latent_channels"]
    autoencoder = (VQModel if quantised else AutoencoderKL)(
        block_out_channels=(4, 8),
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        norm_num_groups=2,
        scaling_factor=SCALE,
        force_upcast=force_upcast,
        **own,
    )
    if quantised:
        # As far apart as latents are; they begin near 0.
        torch.nn.init.normal_(autoencoder.quantize.embedding.weight)
    autoencoder.save_pretrained(folder / "vae")
    network = {
        "sample_size": 8,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": (4, 8),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 2,
        "attention_head_dim": 2,
        "cross_attention_dim": width,
    }
    UNet2DConditionModel(**network | (unet or {})).save_pretrained(folder / "unet")
    options = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        **options | (scheduler or {}),
    ).save_pretrained(folder / "scheduler")
    return folder


def write_images(path, nsd_ids):
    """The table of images; COCO numbers are 1000 more."""
    ids = np.asarray(nsd_ids)
    table = {"nsd_id": ids, "coco_id": ids + 1000, "split": np.where(ids % 2, "train", "test")}
    pd.DataFrame(table).to_csv(path, sep="\t", index=False)
    return path

"""Presets at full size, counted without values; ``pytest -m slow`` does a step of one."""

import math
import sys

import pytest
import torch
from trained_files import draw, seeded

from nsdldm.trained import sizes
from nsdldm.trained.networks import build_encoder
from nsdldm.trained.presets import PRESETS, resolve
from nsdldm.trained.pretraining import Pretraining
from nsdldm.trained.sizes import build_preset, count_preset
from nsdldm.trained.targets import Codes

N_VOXELS = 15_724
BASE = ["fcae", "fcae-base", "fcae-f", "fcae-fi", "fcae-ft"]


def count_blocks(width, depth, mlp_ratio=4):
    """Of self-attention blocks with all biases, and a norm at the end."""
    attention = 4 * (width * width + width)
    mlp = 2 * mlp_ratio * width * width + mlp_ratio * width + width
    return depth * (attention + mlp + 4 * width) + 2 * width


@pytest.mark.parametrize("name", [*BASE, "mae-fi", "mae-f"])
def test_encoder_is_a_vit_base(name):
    counts = count_preset(name, N_VOXELS)
    assert counts["encoder"] == pytest.approx(85.1e6, rel=0.01)
    assert counts["blocks"] == count_blocks(768, 12)
    # Convolution of 16 voxels to 1,024 channels, linear layer to 768, class token.
    tokenizer = 16 * 1024 + 1024 + 1024 * 768 + 768 + 768
    assert counts["encoder"] == counts["blocks"] + tokenizer


@pytest.mark.parametrize("name", BASE)
def test_encoder_and_regressor_have_102_million(name):
    counts = count_preset(name, N_VOXELS)
    assert counts["encoder"] + counts["regressor"] == pytest.approx(102e6, rel=0.01)
    # Four linear maps and the hidden layer of attention across, four norms; entry and query.
    block = 4 * (512 * 512 + 512) + 8 * 512 * 512 + 5 * 512 + 8 * 512
    enter = 768 * 512 + 512 + 2 * 512
    assert counts["regressor"] == 5 * block + 2 * 512 + enter + 512


@pytest.mark.parametrize("name", ["mind-vis", "vis-dec"])
def test_mind_vis_has_303_million(name):
    counts = count_preset(name, N_VOXELS)
    assert counts["encoder"] == pytest.approx(303e6, rel=0.01)
    assert counts["encoder"] == count_blocks(1024, 24) + 16 * 1024 + 1024 + 1024
    assert counts["regressor"] == 0


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_built_without_values(name):
    network = build_preset(name, N_VOXELS)
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert network.encoder.n_tokens == 983
    counts = count_preset(name, N_VOXELS)
    assert sum(p.numel() for p in network.parameters()) == counts["total"]
    assert counts["total"] == counts["encoder"] + counts["regressor"] + counts["decoder"]


@pytest.mark.parametrize("size", ["full", "demo"])
def test_table_names_every_preset(size, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sizes", "--size", size, "--voxels", "320"])
    sizes.main()
    printed = capsys.readouterr().out
    assert [f"| {name} |" in printed for name in PRESETS] == [True] * len(PRESETS)
    counts = count_preset("mae-f", 320, size)
    assert f"| {counts['total'] / 1e6:.2f} |" in printed


@pytest.fixture
def asked_for(request):
    if request.config.option.markexpr != "slow":
        pytest.skip("takes a minute; pytest -m slow runs it")


@pytest.mark.slow
def test_a_step_of_the_real_base(asked_for):
    torch.manual_seed(0)
    settings = resolve("fcae-base", {}, "full")["stage1"]
    encoder = build_encoder(settings, 983 * 16)
    codes = draw(settings["codes"], 16, seed=1)
    network = Pretraining(settings, encoder, Codes(torch.eye(16), codes, codes))
    assert (
        sum(p.numel() for p in network.parameters()) == count_preset("fcae-base", 15_724)["total"]
    )
    batch = {"responses": draw(2, 983 * 16), "subject": torch.zeros(2, dtype=torch.int64)}
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    first = network(batch, seeded())
    # It knows nothing yet.
    assert first["reconstruction"].item() == pytest.approx(math.log(8192), abs=1)
    first["loss"].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    optimizer.step()
    with torch.no_grad():
        assert network(batch, seeded())["loss"] < first["loss"]

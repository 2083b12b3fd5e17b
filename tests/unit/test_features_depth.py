import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessorPil,
    GLPNConfig,
    GLPNForDepthEstimation,
)

from nsdldm.features.depth import (
    embed_depth,
    embed_depth_states,
    render_depth_states,
    scale_maps,
)
from nsdldm.features.views import IMAGENET
from nsdldm.support.errors import InputError

CPU = torch.device("cpu")
SIDE = 64
SIGNED = (0.5,) * 3, (0.5,) * 3
SMALL = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
NECK = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}


def build_dpt():
    return DPTForDepthEstimation(
        DPTConfig(
            **SMALL,
            **NECK,
            intermediate_size=16,
            image_size=SIDE,
            patch_size=16,
            backbone_out_indices=[0, 1, 2, 3],
            is_hybrid=False,
            use_auxiliary_head=False,
        )
    )


def build_anything(kind="relative"):
    stages = [f"stage{k}" for k in range(1, 5)]
    backbone = Dinov2Config(
        **SMALL, image_size=SIDE, patch_size=16, out_features=stages, reshape_hidden_states=False
    )
    return DepthAnythingForDepthEstimation(
        DepthAnythingConfig(
            **NECK,
            backbone_config=backbone,
            reassemble_hidden_size=16,
            patch_size=16,
            head_hidden_size=4,
            depth_estimation_type=kind,
        )
    )


KINDS = {"dpt": (build_dpt, SIGNED), "depth-anything": (build_anything, IMAGENET)}


def save(folder, network, colours=SIGNED):
    network.save_pretrained(folder)
    DPTImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_mean=colours[0], image_std=colours[1]
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("depth")
    for name, (build, colours) in KINDS.items():
        network = build()
        for parameter in network.parameters():
            # Initial weights make maps of rounding errors.
            torch.nn.init.normal_(parameter, std=0.2)
        save(folder / name, network, colours)
    return folder


@pytest.fixture(scope="module")
def pictures():
    return list(np.random.default_rng(0).integers(0, 256, (3, 85, 85, 3), "u1"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_is_the_estimator_s_own(models, pictures, kind):
    found = embed_depth(CPU, weights=models / kind, side=20)(pictures, [])
    assert found.dtype == np.float32
    assert found.shape == (3, 20, 20)
    build, (mean, deviation) = KINDS[kind]
    network = type(build()).from_pretrained(models / kind).eval()
    for picture, own in zip(pictures, found, strict=True):
        resized = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        values = (np.asarray(resized) / 255 - mean) / deviation
        values = torch.from_numpy(values).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            depth = network(values).predicted_depth
        # Bicubic and antialiased, by another library.
        small = Image.fromarray(depth[0].numpy()).resize((20, 20), Image.Resampling.BICUBIC)
        small = np.asarray(small)
        expected = 2 * (small - small.min()) / (small.max() - small.min()) - 1
        np.testing.assert_allclose(own, expected, atol=1e-3)


def test_maps_do_not_depend_on_batches(models, pictures):
    embed = embed_depth(CPU, weights=models / "dpt")
    alone = np.concatenate([embed([picture], []) for picture in pictures])
    assert alone.shape == (3, 64, 64)
    np.testing.assert_allclose(embed(pictures, []), alone, atol=1e-3)


def test_scale_and_shift_of_depth_do_not_matter():
    depth = torch.from_numpy(np.random.default_rng(0).random((4, 30, 30)))
    maps = scale_maps(depth, 10)
    assert maps.min(axis=(1, 2)) == pytest.approx(-1)
    assert maps.max(axis=(1, 2)) == pytest.approx(1)
    np.testing.assert_allclose(scale_maps(100 * depth - 7, 10), maps, atol=1e-4)
    # Of the map's own size, nothing is resampled.
    whole = scale_maps(depth, 30)
    assert np.corrcoef(whole[0].ravel(), depth[0].ravel())[0, 1] == pytest.approx(1)


def test_a_constant_map_is_0():
    depth = torch.stack([torch.full((8, 8), 3.0), torch.arange(64.0).view(8, 8)])
    maps = scale_maps(depth, 8)
    assert not maps[0].any()
    np.testing.assert_allclose(maps[1].ravel(), np.linspace(-1, 1, 64), atol=1e-6)


def render(weights, states, output, side=20):
    np.save(output.with_name("states.npy"), states)
    render_depth_states(
        decoded=output.with_name("states.npy"),
        weights=weights,
        revision=None,
        side=side,
        device="cpu",
        batch_size=2,
        output=output,
    )
    return np.load(output)


@pytest.mark.parametrize("kind", KINDS)
def test_states_become_the_estimator_s_own_maps(models, pictures, tmp_path, kind):
    weights = models / kind
    states = embed_depth_states(CPU, weights=weights)(pictures, [])
    # 4 x 4 patches of 16 pixels, and the class token.
    assert states.shape == (3, 4, 17, 16)
    assert states.dtype == np.float32
    found = render(weights, states, tmp_path / "maps.npy")
    expected = embed_depth(CPU, weights=weights, side=20)(pictures, [])
    np.testing.assert_allclose(found, expected, atol=1e-3)
    # All four states count.
    for number in range(4):
        changed = states.copy()
        changed[:, number] = states[::-1, number]
        other = render(weights, changed, tmp_path / "maps.npy")
        assert np.abs(other[0] - expected[0]).max() > 0.01


def test_states_of_another_shape_are_refused(models, tmp_path):
    with pytest.raises(InputError, match=r"states.npy: expected states .* \(2, 4, 16, 16\)"):
        render(models / "dpt", np.zeros((2, 4, 16, 16), np.float32), tmp_path / "maps.npy")


def test_estimators_of_metres_are_refused(tmp_path):
    save(tmp_path / "metric", build_anything("metric"))
    with pytest.raises(InputError, match="relative inverse depth, found depth_anything of metres"):
        embed_depth(CPU, weights=tmp_path / "metric")
    config = GLPNConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[1, 1],
        hidden_sizes=[8, 8],
        num_attention_heads=[1, 1],
        decoder_hidden_size=8,
    )
    save(tmp_path / "glpn", GLPNForDepthEstimation(config))
    with pytest.raises(InputError, match="relative inverse depth, found glpn"):
        embed_depth(CPU, weights=tmp_path / "glpn")


def test_what_is_missing_is_named(models, tmp_path):
    with pytest.raises(InputError, match=r"depth estimator nowhere/at-all: .*no revision"):
        embed_depth(CPU, weights="nowhere/at-all")
    folder = shutil.copytree(models / "dpt", tmp_path / "dpt")
    state = load_file(folder / "model.safetensors")
    del state["head.head.0.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"found none for head\.head\.0\.weight"):
        embed_depth(CPU, weights=folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="dpt: expected a depth estimator in the layout of tr"):
        embed_depth(CPU, weights=folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "dpt", "hidden_size": "x"}))
    with pytest.raises(InputError, match="dpt: expected a depth estimator in the layout of tr"):
        embed_depth(CPU, weights=folder)


def test_a_published_dpt_lacks_what_its_first_layer_does_not_use(tmp_path):
    """Nothing is fused with the first layer, and files of DPT-large do not have these weights."""
    whole = Path(__file__).parents[2] / "resources/demo_model/depth"
    folder = shutil.copytree(whole, tmp_path / "depth")
    weights = load_file(folder / "model.safetensors")
    unused = [key for key in weights if "fusion_stage.layers.0.residual_layer1" in key]
    assert unused
    save_file(
        {key: value for key, value in weights.items() if key not in unused},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    pictures = list(np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8))
    made = [embed_depth("cpu", weights=each, side=12)(pictures, None) for each in (whole, folder)]
    np.testing.assert_array_equal(*made)

"""The layer of a network that voxels were made from is found, for networks of several libraries."""

import sys
from types import ModuleType

import h5py
import numpy as np
import pytest
import torch
from planted_voxels import fit, name_judged, write_subject
from torch import nn
from torchvision_names import import_timm
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

from nsdldm.encoding import blocks
from nsdldm.encoding.flips import FlipTest
from nsdldm.features.grams import compute_layer_gram
from nsdldm.features.insides import collect_layers, describe_network
from nsdldm.features.kernels import compute_kernels
from nsdldm.features.layers import LayerReader
from nsdldm.features.sources import Source, open_network
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table

N, N_TEST, N_EACH, N_DIMENSIONS, SIDE = 400, 100, 20, 20, 32
CPU = torch.device("cpu")


class Block(nn.Module):
    """As in torchvision's ResNet."""

    def __init__(self, before, after):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, 2, 1)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1)
        self.downsample = nn.Conv2d(before, after, 1, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps):
        return self.relu(self.conv2(self.relu(self.conv1(maps))) + self.downsample(maps))


class ResNet(nn.Module):
    """With the names of torchvision's."""

    def __init__(self, width=8):
        super().__init__()
        self.layer1, self.layer2 = Block(3, width), Block(width, 2 * width)
        self.layer3 = Block(2 * width, 4 * width)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(4 * width, 20)

    def forward(self, pictures):
        maps = self.layer3(self.layer2(self.layer1(pictures)))
        return self.fc(self.avgpool(maps).flatten(1))


@pytest.fixture
def mine(monkeypatch):
    module = ModuleType("mine")
    module.ResNet = ResNet
    monkeypatch.setitem(sys.modules, "mine", module)


@pytest.fixture
def timm(monkeypatch):
    before = {*sys.modules}
    yield import_timm(monkeypatch) or pytest.skip("timm is not installed")
    for name in {*sys.modules} - before:
        if name.startswith("timm"):
            del sys.modules[name]


SMALL = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2}


def save_clip(folder):
    torch.manual_seed(0)
    sizes = SMALL | {"intermediate_size": 32}
    vision = sizes | {"image_size": SIDE, "patch_size": 8, "initializer_factor": 15.0}
    text = sizes | {"vocab_size": 10}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    CLIPModel(config).save_pretrained(folder)
    return folder


def save_dino(folder):
    torch.manual_seed(0)
    Dinov2Model(
        Dinov2Config(**SMALL, initializer_range=0.3, image_size=SIDE, patch_size=8)
    ).save_pretrained(folder)
    return folder


RESNET = {name: name for name in ("layer1", "layer2", "layer3", "fc")}
VIT = {"first": "blocks.0", "sixth": "blocks.5", "last": "blocks.11"}


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory):
    """Pictures of N of the release's images, the same that `write_subject` draws."""
    folder = tmp_path_factory.mktemp("stimuli")
    write_subject(folder, {}, np.zeros((N, 1)), N_TEST, 1.0)
    ids = load_table(folder / "images.tsv")["nsd_id"]
    rng, large = np.random.default_rng(1), np.ones((25, 25, 1), np.uint8)
    with h5py.File(folder / "stimuli.hdf5", "w") as file:
        shape = (ids.max() + 1, 425, 425, 3)
        bricks = file.create_dataset(
            "imgBrick", shape, np.uint8, chunks=(1, 425, 425, 3), compression=1
        )
        pictures = [
            np.kron(rng.integers(0, 256, (17, 17, 3), np.uint8), large) for _ in range(len(ids))
        ]
        for number, picture in zip(ids, pictures, strict=True):
            bricks[number] = picture
    return folder / "stimuli.hdf5", pictures


def plant(source, layers, pictures):
    """Responses that are linear in whitened activations of one layer each."""
    network, view = open_network(source)
    reader = LayerReader(network, view, list(layers.values()), "exact", 1, CPU)
    rng, signals = np.random.default_rng(2), []
    for features in reader.read_apart(pictures):
        left, *_ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
        scores = left[:, :N_DIMENSIONS] * np.sqrt(N)
        weights = rng.standard_normal((scores.shape[1], N_EACH))
        signals.append(scores @ (weights / np.linalg.norm(weights, axis=0)))
    return np.hstack(signals)


def choose(folder, source, layers, stimuli, reduction="exact", n_chunks=3):
    """Collect layers in chunks, fit all and choose."""
    images = folder / "images.tsv"
    kept = {"source": source, "layers": layers, "reduction": reduction, "width": 500}
    chunks = [folder / f"{chunk}.npy" for chunk in range(n_chunks)]
    for chunk, path in enumerate(chunks):
        where = {"images": images, "stimuli": stimuli, "output": path, "device": "cpu"}
        collect_layers(**where, **kept, batch_size=64, chunk=chunk, n_chunks=n_chunks)
    grams = {layer: folder / f"gram-{layer}.npy" for layer in layers}
    for layer, path in grams.items():
        compute_layer_gram(chunks=chunks, layer=layer, images=images, gram=path, device="cpu")
    compute_kernels(images=images, grams=grams, output=folder / "kernels.h5", max_components=6400)
    outputs = {
        key: {"net": folder / f"layers{ending}"}
        for key, ending in (("maps", ".nii.gz"), ("tables", ".tsv"), ("errors", "-errors.tsv"))
    }
    blocks.choose_blocks(
        predictions=fit(folder, folder / "predictions.h5", layers, alphas=np.logspace(-6, 2, 9)),
        models={"net": {layer: layer for layer in layers}},
        test=FlipTest(fdr=0.05, flips=500, seed=0),
        **name_judged(folder),
        **outputs,
    )
    return load_table(folder / "layers.tsv")


def find_planted(folder, source, layers, stimuli, **changed):
    """Share of the voxels whose best layer is the one they were made from, by layer."""
    signal = plant(source, layers, stimuli[1])
    write_subject(folder, {}, signal, N_TEST, 0.7)
    found = choose(folder, source, layers, stimuli[0], **changed)
    right = found["winner"] == np.repeat(np.arange(len(layers)), N_EACH)
    return right.groupby(np.repeat(list(layers), N_EACH)).mean()


@pytest.mark.parametrize("reduction", ["exact", "projection"])
def test_of_a_network_with_torchvisions_names(mine, tmp_path, stimuli, reduction):
    source = Source(function="mine.ResNet", pixels=SIDE)
    assert find_planted(tmp_path, source, RESNET, stimuli, reduction=reduction).min() >= 0.9


def test_of_clip(tmp_path, stimuli):
    weights = save_clip(tmp_path / "clip")
    layers = {f"block{n}": f"vision_model.encoder.layers.{n}" for n in range(4)}
    layers["embedding"] = "visual_projection"
    source = Source(function="transformers.CLIPModel", weights=weights, pixels=SIDE, colours="clip")
    assert find_planted(tmp_path, source, layers, stimuli).min() >= 0.9


def test_of_dinov2(tmp_path, stimuli):
    weights = save_dino(tmp_path / "dino")
    layers = {"patches": "embeddings", "first": "encoder.layer.0", "last": "encoder.layer.3"}
    source = Source(
        function="transformers.AutoModel", weights=weights, pixels=SIDE, colours="imagenet"
    )
    assert find_planted(tmp_path, source, layers, stimuli).min() >= 0.9


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({"model_name": "resnet10t"}, {name: name for name in ("conv1", "layer1", "layer4")}),
        ({"model_name": "vit_tiny_patch16_224", "img_size": SIDE}, VIT),
    ],
)
def test_of_timm(timm, tmp_path, stimuli, options, layers):
    source = Source(function="timm.create_model", options=options, pixels=SIDE)
    assert find_planted(tmp_path, source, layers, stimuli).min() >= 0.9


def collect(folder, output, stimuli, **changed):
    given = {
        "images": folder / "images.tsv",
        "stimuli": stimuli[0],
        "source": Source(function="mine.ResNet", pixels=SIDE),
        "layers": RESNET,
        "reduction": "exact",
        "width": 50,
        "device": "cpu",
        "batch_size": 64,
        "output": output,
    }
    collect_layers(**given | changed)


def test_chunks_hold_every_layer_of_every_image_in_order(mine, tmp_path, stimuli):
    write_subject(tmp_path, {}, np.zeros((N, 1)), N_TEST, 1.0)
    for chunk in range(3):
        where = tmp_path / f"{chunk}.npy"
        collect(tmp_path, where, stimuli, chunk=chunk, n_chunks=3, batch_size=50)
    found = np.concatenate([np.load(tmp_path / f"{chunk}.npy") for chunk in range(3)])
    network, view = open_network(Source(function="mine.ResNet", pixels=SIDE))
    reader = LayerReader(network, view, [*RESNET], "exact", 1, CPU)
    for layer, expected in zip(RESNET, reader.read_apart(stimuli[1]), strict=True):
        assert found[layer].dtype == np.float16
        np.testing.assert_allclose(found[layer], expected, atol=2e-3)
    collect(tmp_path, tmp_path / "small.npy", stimuli, reduction="projection")
    small = np.load(tmp_path / "small.npy")
    assert small["layer1"].shape == (N, 50) and small["layer1"].dtype == np.float32
    with pytest.raises(InputError, match=r"0\.npy: expected an array layer9, found layer1"):
        given = {"images": tmp_path / "images.tsv", "gram": tmp_path / "g.npy", "device": "cpu"}
        compute_layer_gram(chunks=[tmp_path / "0.npy"], layer="layer9", **given)


def test_a_network_is_described_without_pictures(mine, tmp_path):
    given = {"reduction": "projection", "width": 50, "output": tmp_path / "net.tsv"}
    source = Source(function="mine.ResNet", pixels=SIDE)
    describe_network(source=source, layers={"a": "layer1", "b": "fc"}, **given)
    table = load_table(tmp_path / "net.tsv")
    assert table.to_dict("list") == {
        "layer": ["a", "b"],
        "module": ["layer1", "fc"],
        "shape": ["8 x 16 x 16", "20"],
        "n_numbers": [2048, 20],
        "n_kept": [50, 20],
    }
    with pytest.raises(InputError, match=r"such as layer\d.*found 'layer4'"):
        describe_network(source=source, layers={"a": "layer4"}, **given)


def test_activations_that_cannot_be_kept_are_refused(mine, tmp_path, stimuli, monkeypatch):
    write_subject(tmp_path, {}, np.zeros((N, 1)), N_TEST, 1.0)
    read = LayerReader.read_apart
    for factor, message in (
        (1e6, r"`reduction`: .*of at most 65504.*in layer1, images 0 to 63"),
        (np.nan, r"`weights`: expected finite values of layer1"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(
                LayerReader,
                "read_apart",
                lambda *given, f=factor: [f * each for each in read(*given)],
            )
            with pytest.raises(InputError, match=message):
                collect(tmp_path, tmp_path / "out.npy", stimuli)
    assert not (tmp_path / "out.npy").exists()

import sys
from hashlib import sha256
from types import ModuleType

import numpy as np
import pytest
import torch
from diffusion_models import write_images
from features_networks import PIXELS, save_networks
from nsd_files import write_captions
from PIL import Image
from reconstruction_files import write_stimuli
from torch import nn

from nsdldm.demo.training.classifiers import load_classifier, prepare
from nsdldm.features.layers import embed_layers
from nsdldm.features.pictures import compute_features
from nsdldm.nsd.stimuli import read_images
from nsdldm.support.errors import InputError

CPU = torch.device("cpu")
ALEXNET = {"network": "demo-alexnet", "layers": ["body.5", "body.12"]}

CLIP = {
    "network": "demo-clip",
    "layers": ["vision_model.encoder.layers.0", "visual_projection"],
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return save_networks(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def pictures():
    return list(np.random.default_rng(0).integers(0, 256, (3, 90, 90, 3), "u1"))


@pytest.fixture
def module(monkeypatch):
    """A module of a user's, with networks."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.tokens = nn.ReLU(), nn.Linear(3, 2)

        def forward(self, pictures):
            rows = self.tokens(self.shared(pictures).flatten(2).mean(2))
            return self.shared(rows).sum(0)

    def build(width=4):
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(inplace=True), nn.Flatten())

    mine = ModuleType("mine")
    mine.build, mine.Twice, mine.identity, mine.number = build, Twice, nn.Identity, float
    mine.see = lambda: nn.Sequential(nn.Identity(), nn.Flatten())
    monkeypatch.setitem(sys.modules, "mine", mine)
    return mine


def shrink(pictures, side=PIXELS):
    resized = [Image.fromarray(p).resize((side, side), Image.Resampling.BICUBIC) for p in pictures]
    return np.stack([np.asarray(picture) for picture in resized])


def test_a_row_is_the_layers_one_after_the_other(demo, pictures):
    reader = embed_layers(CPU, weights=demo, **ALEXNET)
    found = reader(pictures)
    network = load_classifier(demo, "classifier", CPU)
    shown = prepare(shrink(pictures), CPU)
    expected = [network.body[:6](shown).flatten(1), network.body[:13](shown).flatten(1)]
    assert reader.sizes == [layer.shape[1] for layer in expected]
    np.testing.assert_allclose(found, torch.cat(expected, 1), atol=1e-5)
    assert found.dtype == np.float32
    swapped = embed_layers(CPU, weights=demo, network="demo-alexnet", layers=["body.12", "body.5"])
    size = reader.sizes[0]
    np.testing.assert_array_equal(swapped(pictures), np.hstack([found[:, size:], found[:, :size]]))


def test_it_is_a_feature_space(demo, tmp_path):
    numbers = [3, 0, 5]
    write_stimuli(tmp_path / "stimuli.hdf5")
    write_captions(tmp_path / "captions.json", [(number + 1000, "word") for number in numbers])
    write_images(tmp_path / "images.tsv", numbers)
    settings = ALEXNET | {"weights": str(demo), "reduction": "pooling", "width": 300}
    compute_features(
        space="mine",
        function="nsdldm.features.layers.embed_layers",
        settings=settings,
        images=tmp_path / "images.tsv",
        stimuli=tmp_path / "stimuli.hdf5",
        captions=[tmp_path / "captions.json"],
        device="cpu",
        batch_size=2,
        output=tmp_path / "f.npy",
    )
    shown = list(read_images(tmp_path / "stimuli.hdf5", np.array(numbers)))
    expected = embed_layers(CPU, **settings)(shown)
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("network", "reduction"),
    [(ALEXNET, "exact"), (ALEXNET, "projection"), (ALEXNET, "pooling"), (CLIP, "projection")],
)
def test_gradients_are_those_of_small_changes(demo, pictures, network, reduction):
    reader = embed_layers(CPU, weights=demo, reduction=reduction, width=200, **network)
    values = torch.from_numpy(shrink(pictures)).permute(0, 3, 1, 2) / 255
    np.testing.assert_allclose(reader.read(values).numpy(), reader(pictures), atol=1e-5)
    # Features of this weight respond to single pixels far above the rounding of float32.
    weights = torch.from_numpy(np.random.default_rng(1).standard_normal(sum(reader.sizes))).float()
    values.requires_grad_(True)
    (reader.read(values) @ weights).sum().backward()
    step = values.grad / values.grad.norm()
    with torch.no_grad():
        ends = [(reader.read(values + sign * 0.01 * step) @ weights).sum() for sign in (1, -1)]
    slope = float(ends[0] - ends[1]) / 0.02
    assert slope == pytest.approx(float(values.grad.norm()), rel=0.05)


def test_a_picture_of_another_size_is_seen_as_pil_resizes_it(module, pictures):
    for side in (48, 120):
        settings = {"function": "mine.see", "layers": ["0"], "colours": "signed", "pixels": side}
        reader = embed_layers(CPU, **settings)
        values = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
        # Both round to whole levels at most once per direction.
        np.testing.assert_allclose(reader.read(values), reader(pictures), atol=2 * 1.6 / 255)


def test_a_resized_picture_stays_within_its_colours(demo):
    # Filters with negative weights overshoot at black and white edges.
    picture = np.kron(np.random.default_rng(0).integers(0, 2, (12, 12, 3)), np.ones((9, 9, 1)))
    reader = embed_layers(CPU, network="demo-alexnet", layers=["body.1"], weights=demo)
    seen = reader([(255 * picture).astype(np.uint8)])
    found = reader.read(torch.from_numpy(picture).float().permute(2, 0, 1)[None]).numpy()
    np.testing.assert_allclose(found, seen, atol=0.03)


def test_pooling_is_means_over_places(module, pictures):
    settings = {"function": "mine.build", "layers": ["0"], "pixels": 12}
    whole = embed_layers(CPU, **settings)(pictures).reshape(3, 4, 10, 10)
    # The largest square grid of at most 110 / 4 places.
    reader = embed_layers(CPU, reduction="pooling", width=110, **settings)
    found = reader(pictures).reshape(3, 4, 5, 5)
    assert reader.sizes == [100]
    for row in range(5):
        for column in range(5):
            part = whole[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            expected = part.mean((2, 3))
            np.testing.assert_allclose(found[:, :, row, column], expected, atol=1e-6)


def test_a_projection_is_the_same_every_time_and_keeps_distances(demo, pictures):
    whole = embed_layers(CPU, weights=demo, **ALEXNET)
    readers = [
        embed_layers(CPU, weights=demo, reduction="projection", width=500, **ALEXNET)
        for _ in range(2)
    ]
    assert readers[0].sizes == [500, 256]
    rows = [reader(pictures) for reader in readers]
    np.testing.assert_array_equal(*rows)
    distances = [
        np.linalg.norm(features[0, :size] - features[1, :size])
        for features, size in ((whole(pictures), whole.sizes[0]), (rows[0], 500))
    ]
    assert distances[1] == pytest.approx(distances[0], rel=0.2)


def test_a_layer_is_read_before_the_next_one_overwrites_it(module, pictures):
    settings = {"function": "mine.build", "layers": ["0", "1"], "pixels": 8}
    before, after = np.split(embed_layers(CPU, **settings)(pictures), 2, axis=1)
    assert before.min() < 0
    np.testing.assert_array_equal(after, np.maximum(before, 0))


def test_pictures_do_not_depend_on_each_other(demo, pictures):
    reader = embed_layers(CPU, weights=demo, reduction="projection", width=100, **ALEXNET)
    alone = np.concatenate([reader([picture]) for picture in pictures])
    np.testing.assert_allclose(reader(pictures), alone, atol=1e-5)


def test_clip_is_seen_without_texts(demo, pictures):
    reader = embed_layers(CPU, weights=demo, **CLIP)
    # 9 patches and the class, 16 wide, and the embedding.
    assert reader.sizes == [160, 8]
    assert reader(pictures).shape == (3, 168)


def test_weights_of_a_function_s_network_come_from_a_file(module, pictures, tmp_path):
    other = nn.Sequential(nn.Conv2d(3, 4, 3))
    path = tmp_path / "weights.pth"
    torch.save(other.state_dict(), path)
    digest = sha256(path.read_bytes()).hexdigest()
    settings = {"function": "mine.build", "layers": ["0"], "pixels": 12}
    found = embed_layers(CPU, weights=path, sha256=digest, **settings)(pictures)
    shown = torch.from_numpy(
        np.stack([Image.fromarray(p).resize((12, 12), Image.Resampling.BILINEAR) for p in pictures])
    )
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = other(((shown / 255 - mean) / deviation).permute(0, 3, 1, 2)).flatten(1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    wider = settings | {"options": {"width": 5}}
    with pytest.raises(InputError, match=r"weights\.pth: expected weights of this network's"):
        embed_layers(CPU, weights=path, sha256=digest, **wider)
    with pytest.raises(InputError, match="expected SHA-256 0000"):
        embed_layers(CPU, weights=path, sha256="0000", **settings)
    with pytest.raises(InputError, match="expected the SHA-256 of the weights"):
        embed_layers(CPU, weights=path, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected this or `function`, found neither"),
        ({"network": "clip", "function": "mine.build"}, "found both"),
        ({"network": "vgg"}, "`network`: expected one of demo-clip"),
        ({"network": "demo-alexnet"}, "network demo-alexnet: .*no weights are given"),
        ({"function": "mine.nothing"}, "`function` mine.nothing: expected the dotted name"),
        ({"function": "mine.build", "options": {"depth": 3}}, "`function` mine.build: .*'depth'"),
        ({"function": "mine.number"}, "expected one that returns a torch.nn.Module, found float"),
        ({"function": "mine.build", "colours": "red"}, "`colours`: expected one of imagenet"),
        ({"function": "mine.build", "reduction": "pca"}, "`reduction`: expected one of exact"),
        ({"function": "mine.build", "layers": ["00"]}, "such as 0.*found '00'"),
        ({"function": "mine.Twice", "layers": ["shared"]}, "`layers` shared: .*runs 2 times"),
        (
            {"function": "mine.build", "layers": ["2"], "reduction": "pooling", "width": 9},
            "`layers` 2: expected a map of at most 9 channels",
        ),
    ],
)
def test_settings_that_do_not_fit(module, settings, message):
    with pytest.raises(InputError, match=message):
        embed_layers(CPU, **{"layers": ["0"]} | settings)

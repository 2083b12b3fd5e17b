"""Networks of other libraries: their weights, and what they are shown."""

import json
import sys
from hashlib import sha256
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPImageProcessorPil, Dinov2Config, Dinov2Model

from nsdldm.features import sources
from nsdldm.features.layers import LayerReader, embed_layers
from nsdldm.features.sources import Source, open_network
from nsdldm.features.views import BICUBIC, BILINEAR, CLIP, IMAGENET, View
from nsdldm.support.errors import InputError

CPU = torch.device("cpu")
SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIG = {
    "input_size": (3, 12, 12),
    "interpolation": "bicubic",
    "mean": (0.1, 0.2, 0.3),
    "std": (1.0, 2.0, 3.0),
}


class Several(nn.Module):
    """Modules that return more than one tensor."""

    def __init__(self):
        super().__init__()
        self.pair, self.mapping, self.nested = Returns(), Returns(), Returns()

    def forward(self, pictures):
        self.pair.value = pictures[:, :1], pictures
        self.mapping.value = {"maps": pictures[:, :2], "rest": None}
        self.nested.value = {"out": [(pictures, None)]}
        return [module() for module in self.children()]


class Returns(nn.Module):
    def forward(self):
        return self.value


@pytest.fixture
def timm(monkeypatch):
    """Where timm is imported from; the networks say how they are shown pictures, as timm's do."""

    def create_model(model_name, width=4):
        network = nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten())
        network.pretrained_cfg = CONFIG
        return network

    module = ModuleType("timm")
    module.create_model, module.Several = create_model, Several
    monkeypatch.setitem(sys.modules, "timm", module)
    return {"function": "timm.create_model", "options": {"model_name": "small"}}


def save_dino(folder, processor=True):
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**SMALL, image_size=20, patch_size=10)).save_pretrained(folder)
    if processor:
        CLIPImageProcessorPil(
            size={"shortest_edge": 30}, crop_size={"height": 20, "width": 20}
        ).save_pretrained(folder)
    return {"function": "transformers.AutoModel", "weights": folder}


def test_timm_says_how_its_networks_are_shown_pictures(timm):
    network, view = open_network(Source(**timm))
    assert view == View(12, BICUBIC, ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0)), {})
    assert network[0].weight.shape == (4, 3, 3, 3)
    _, view = open_network(Source(**timm, pixels=9, colours="clip"))
    assert view == View(9, BICUBIC, CLIP, {})


def test_a_processor_says_how_models_of_transformers_are_shown_pictures(tmp_path):
    _, view = open_network(Source(**save_dino(tmp_path)))
    assert view == View(20, BICUBIC, CLIP, {})
    path = tmp_path / "preprocessor_config.json"
    given = json.loads(path.read_text()) | {"do_center_crop": False, "do_normalize": False}
    path.write_text(json.dumps(given | {"size": {"height": 10, "width": 10}, "resample": 2}))
    _, view = open_network(Source(**save_dino(tmp_path, processor=False)))
    assert view == View(10, BILINEAR, ((0.0,) * 3, (1.0,) * 3), {})


def test_without_a_processor_both_must_be_given(tmp_path):
    given = save_dino(tmp_path, processor=False)
    _, view = open_network(Source(**given, pixels=20, colours="imagenet"))
    assert view[:3] == (20, BILINEAR, IMAGENET)
    with pytest.raises(InputError, match=r"preprocessor_config.json of the model, found none"):
        open_network(Source(**given, pixels=20))


def test_models_of_transformers_have_all_their_weights(tmp_path):
    given = save_dino(tmp_path)
    network, _ = open_network(Source(**given))
    torch.manual_seed(0)
    saved = Dinov2Model(Dinov2Config(**SMALL, image_size=20, patch_size=10))
    for name, weight in saved.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], weight)
    other = given | {"function": "transformers.Dinov2ForImageClassification"}
    with pytest.raises(InputError, match="found none for classifier"):
        open_network(Source(**other))
    with pytest.raises(InputError, match="a folder, or a hub id with a revision"):
        open_network(Source(function="transformers.AutoModel", weights="facebook/dinov2-small"))
    with pytest.raises(InputError, match="expected weights, which a class of transformers loads"):
        open_network(Source(function="transformers.AutoModel"))


def test_untrained_weights_are_the_same_every_time(timm):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, _ = open_network(Source(**timm))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    second, _ = open_network(Source(**timm))
    assert torch.equal(first[0].weight, second[0].weight)


def test_weights_of_a_hub_id_are_those_of_a_commit(timm, tmp_path, monkeypatch):
    asked, path = [], tmp_path / "model.safetensors"
    state = {"0.weight": torch.ones(4, 3, 3, 3), "0.bias": torch.zeros(4)}
    save_file(state, path)

    def download(repository, name, revision):
        asked.append((repository, name, revision))
        return str(path)

    monkeypatch.setattr(sources, "hf_hub_download", download)
    network, _ = open_network(Source(**timm, weights="timm/small", revision="abc"))
    assert asked == [("timm/small", "model.safetensors", "abc")]
    assert torch.equal(network[0].weight, state["0.weight"])
    digest = sha256(path.read_bytes()).hexdigest()
    network, _ = open_network(Source(**timm, weights=path, sha256=digest))
    assert torch.equal(network[0].weight, state["0.weight"])
    wider = timm | {"options": {"model_name": "small", "width": 5}}
    with pytest.raises(InputError, match="weights of this network's shapes"):
        open_network(Source(**wider, weights=path, sha256=digest))
    with pytest.raises(InputError, match="the SHA-256 of the weights"):
        open_network(Source(**timm, weights=path))


def test_of_several_outputs_the_first_is_taken(timm):
    reader = embed_layers(
        CPU, function="timm.Several", layers=["pair", "mapping", "nested"], pixels=4
    )
    assert reader.shapes == [(1, 4, 4), (2, 4, 4), (3, 4, 4)]
    picture = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    pair, mapping, nested = reader.read_apart([picture])
    np.testing.assert_array_equal(pair[0], nested[0][:16])
    np.testing.assert_array_equal(mapping[0], nested[0][:32])
    np.testing.assert_array_equal(reader([picture]), np.hstack([pair, mapping, nested]))


def test_a_network_that_refuses_a_side(timm):
    network, view = open_network(Source(**timm, pixels=2))
    with pytest.raises(InputError, match="`pixels`: expected a network of pictures of 2 x 2"):
        LayerReader(network, view, ["0"], "exact", 1, CPU)


def test_a_library_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"timm\.create_model: .*the build of torchvision for"):
        open_network(Source(function="timm.create_model"))
    with pytest.raises(InputError, match=r"No module named 'nothing'.*Correct it, or install"):
        open_network(Source(function="nothing.make"))

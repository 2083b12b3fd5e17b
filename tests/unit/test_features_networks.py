import json
import shutil
import sys
from hashlib import sha256
from types import ModuleType

import numpy as np
import pytest
import torch
from features_networks import PIXELS, save_networks
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPVisionConfig,
)

from nsdldm.demo.scenes import BACKGROUNDS, CATEGORIES
from nsdldm.demo.training.classifiers import load_classifier, prepare
from nsdldm.evaluation.names import LOWER_IS_BETTER, describe_metric, find_chance
from nsdldm.features import networks, views
from nsdldm.features.networks import Unavailable, load_extractors
from nsdldm.features.views import (
    BICUBIC,
    BILINEAR,
    N_BACKGROUNDS,
    N_CATEGORIES,
    VIEWS,
    list_metrics,
)
from nsdldm.support.errors import InputError

CPU = torch.device("cpu")
MEAN, DEVIATION = (torch.tensor(channels).view(3, 1, 1) for channels in views.IMAGENET)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (3, 100, 100, 3), "u1")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return save_networks(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    """Random weights in a file, and the network."""
    torch.manual_seed(0)
    network = networks.build_alexnet().eval()
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.pth"
    torch.save(network.state_dict(), path)
    return path, network


def digest_of(path):
    return sha256(path.read_bytes()).hexdigest()


def extract(name, settings, pictures, view=0):
    return load_extractors(name, settings, CPU)[view][1](list(pictures))


def test_pictures_are_resized_as_pil_calls_it():
    assert (BILINEAR, BICUBIC) == (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)


def test_every_metric_has_a_definition():
    metrics = [metric for name in VIEWS for metric in list_metrics(name, [50, 2])]
    assert len(set(metrics)) == len(metrics)
    for metric in (*metrics, *LOWER_IS_BETTER):
        assert describe_metric(metric)
    assert "2way:alexnet:features.5" in metrics
    assert {"psm:clip:hidden_6", "2way-reconstruction:clip:hidden_12", "alexnet2"} <= set(metrics)
    assert {"nway:vit-h-14", "nway-50:vit-h-14", "nway-2:demo-judge"} <= set(metrics)


def test_definitions_tell_clip_models_and_numbers_of_classes_apart():
    assert "ViT-B/32" in describe_metric("clipscore:clip-b32")
    assert "ViT-L/14" in describe_metric("clipscore:clip")
    assert describe_metric("clipscore:demo-clip") == "cosine of CLIP image embeddings"
    assert describe_metric("nway-50:vit-h-14").endswith("50 classes in all, chance 0.02")
    chances = [find_chance(m) for m in ("nway-8:demo-judge", "clip", "2way:a:b", "ssim", "nway:x")]
    assert chances == [1 / 8, 0.5, 0.5, None, None]


def test_demo_networks_bear_their_own_names():
    for name in ("demo-clip", "demo-alexnet", "demo-judge"):
        assert all(f":{name}" in metric for metric in list_metrics(name))


def test_demo_clip_gives_its_embedding_and_a_hidden_state(demo, pictures):
    found = extract("demo-clip", {"weights": demo}, pictures)
    clip = CLIPModel.from_pretrained(demo / "clip", dtype=torch.float32)
    values = CLIPImageProcessorPil.from_pretrained(demo / "clip")(list(pictures))["pixel_values"]
    outputs = clip.vision_model(torch.from_numpy(np.stack(values)), output_hidden_states=True)
    embeds = clip.visual_projection(outputs.pooler_output).detach()
    np.testing.assert_allclose(found["image_embeds"], embeds, atol=1e-5)
    hidden = outputs.hidden_states[1].flatten(1).detach()
    np.testing.assert_allclose(found["hidden_1"], hidden, atol=1e-5)


def test_undefined_features_are_one_clear_error(demo, pictures, tmp_path):
    folder = shutil.copytree(demo, tmp_path / "demo")
    path = folder / "judge" / "model.safetensors"
    state = load_file(path)
    state["head.bias"][0] = float("nan")
    save_file(state, path)
    with pytest.raises(InputError, match="finite values of logits"):
        extract("demo-judge", {"weights": folder}, pictures)


def test_the_judge_tells_the_scenes_of_the_demo_apart():
    assert (len(CATEGORIES), len(BACKGROUNDS)) == (N_CATEGORIES, N_BACKGROUNDS)


def test_demo_classifiers_give_their_layers(demo):
    pictures = np.random.default_rng(1).integers(0, 256, (2, PIXELS, PIXELS, 3), "u1")
    given = prepare(pictures, CPU)
    found = extract("demo-alexnet", {"weights": demo}, pictures)
    network = load_classifier(demo, "classifier", CPU)
    for layer, end in (("conv2", 6), ("conv5", 13), ("fc", 17)):
        expected = network.body[:end](given).flatten(1)
        np.testing.assert_allclose(found[layer], expected, atol=1e-5)
    assert network.body[3].out_channels == 64 and isinstance(network.body[16], nn.ReLU)
    found = extract("demo-judge", {"weights": demo}, pictures)
    judge = load_classifier(demo, "judge", CPU)
    np.testing.assert_allclose(found["features"], judge.body(given), atol=1e-5)
    np.testing.assert_allclose(found["logits"], torch.cat(judge(given), 1), atol=1e-5)


def test_alexnet_is_torchvisions():
    with torch.device("meta"):
        network = networks.build_alexnet()
    assert sum(p.numel() for p in network.parameters()) == 61_100_840
    shapes = {name: tuple(p.shape) for name, p in network.state_dict().items()}
    assert shapes["features.3.weight"] == (192, 64, 5, 5)
    assert shapes["features.10.bias"] == (256,)
    assert shapes["classifier.1.weight"] == (4096, 9216)
    assert shapes["classifier.6.weight"] == (1000, 4096)
    assert len(shapes) == 16


def test_alexnet_sees_what_the_published_codes_show_it(alexnet, pictures):
    path, network = alexnet
    settings = {"weights": path, "sha256": digest_of(path)}
    takagi, community = load_extractors("alexnet", settings, CPU)
    found = takagi[1](list(pictures[:1]))
    sizes = {"features.5": 192 * 17 * 17, "features.12": 256 * 8 * 8, "classifier.5": 4096}
    assert {layer: values.shape[1] for layer, values in found.items()} == sizes
    found |= community[1](list(pictures[:1]))
    parts = (
        ("features.5", 299, 6),
        ("features.12", 299, 13),
        ("alexnet2", 224, 5),
        ("alexnet5", 224, 12),
    )
    for name, side, end in parts:
        picture = np.array(Image.fromarray(pictures[0]).resize((side, side), Image.BILINEAR))
        given = (torch.from_numpy(picture).permute(2, 0, 1) / 255 - MEAN) / DEVIATION
        with torch.no_grad():
            expected = network.features[:end](given[None]).flatten(1)
        np.testing.assert_allclose(found[name], expected, atol=1e-4)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    vision = CLIPVisionConfig(num_hidden_layers=13, image_size=224, patch_size=14, **sizes)
    folder = tmp_path_factory.mktemp("clip")
    text = {**sizes, "num_hidden_layers": 1, "vocab_size": 10}
    config = CLIPConfig(text_config=text, vision_config=vision.to_dict(), projection_dim=6)
    CLIPModel(config).save_pretrained(folder)
    return folder


def test_clip_gives_hidden_states_6_and_12_and_both_embeddings(clip, pictures):
    settings = {"weights": clip, "sha256": digest_of(clip / "model.safetensors")}
    (view, takagi), (_, community) = load_extractors("clip", settings, CPU)
    network = CLIPModel.from_pretrained(clip)
    values = CLIPImageProcessorPil()(list(pictures), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        outputs = network.vision_model(values, output_hidden_states=True)
        embeds = network.visual_projection(outputs.pooler_output)
    found = takagi(list(pictures))
    assert set(view.psm) == set(found)
    np.testing.assert_allclose(found["image_embeds"], embeds, atol=1e-5)
    for layer in (6, 12):
        expected = outputs.hidden_states[layer].flatten(1)
        np.testing.assert_allclose(found[f"hidden_{layer}"], expected, atol=1e-4)
    # Brain-Diffuser resizes bilinearly, CLIP's own preprocessing bicubically.
    assert not np.allclose(community(list(pictures))["clip"], embeds, atol=1e-5)


def test_clip_b32_is_not_mistaken_for_l14(clip, tmp_path, pictures):
    settings = {"weights": clip, "sha256": digest_of(clip / "model.safetensors")}
    with pytest.raises(InputError, match="patches of 32 px, found of 14 px"):
        load_extractors("clip-b32", settings, CPU)
    config = CLIPConfig.from_pretrained(clip)
    config.vision_config.patch_size = 32
    network = CLIPModel(config).eval()
    network.save_pretrained(tmp_path)
    settings = {"weights": tmp_path, "sha256": digest_of(tmp_path / "model.safetensors")}
    ((view, look),) = load_extractors("clip-b32", settings, CPU)
    values = CLIPImageProcessorPil()(list(pictures), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = network.get_image_features(values).pooler_output
    np.testing.assert_allclose(look(list(pictures))["image_embeds"], expected, atol=1e-5)
    assert list_metrics("clip-b32") == ["clipscore:clip-b32"] and not view.psm


class StandIn(nn.Module):
    """Has the one module of torchvision's networks that is looked at."""

    def __init__(self, **options):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.heads = nn.Identity()

    def forward(self, pictures):
        return self.heads(self.fc(self.avgpool(pictures).flatten(1)))


@pytest.fixture
def torchvision(monkeypatch):
    models = ModuleType("torchvision.models")
    made = []
    for builder in ("inception_v3", "efficientnet_b1", "resnet50", "vit_h_14"):

        def build(builder=builder, **options):
            made.append((builder, options))
            return StandIn(**options)

        setattr(models, builder, build)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    return made


@pytest.mark.parametrize("name", sorted(networks.TORCHVISION))
def test_torchvision_networks_are_built_and_looked_at(torchvision, name, tmp_path, pictures):
    path = tmp_path / "weights.pth"
    state = {f"module.{k}": v for k, v in StandIn().state_dict().items()}
    torch.save(state, path)
    extractors = load_extractors(name, {"weights": path, "sha256": digest_of(path)}, CPU)
    builder, options = torchvision[0]
    assert (builder, options.pop("weights")) == (networks.TORCHVISION[name][0], None)
    assert options == networks.TORCHVISION[name][1]
    for view, look in extractors:
        found = look(list(pictures))
        (layer,) = view.layers
        side = view.pixels
        resized = [Image.fromarray(p).resize((side, side), view.resample) for p in pictures]
        values = torch.from_numpy(np.stack([np.asarray(p) for p in resized])).permute(0, 3, 1, 2)
        expected = ((values / 255 - MEAN) / DEVIATION).mean((2, 3))
        if name == "vit-h-14":
            expected = expected @ state["module.fc.weight"].T + state["module.fc.bias"]
        np.testing.assert_allclose(found[layer], expected, atol=1e-4)


def test_swav_may_have_other_heads_but_no_other_body(torchvision, tmp_path):
    path = tmp_path / "swav.pth"
    torch.save({"module.projection_head.0.weight": torch.zeros(1)}, path)
    load_extractors("swav", {"weights": path, "sha256": digest_of(path)}, CPU)
    torch.save({"module.layer1.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"others, such as layer1\.weight"):
        load_extractors("swav", {"weights": path, "sha256": digest_of(path)}, CPU)


def test_without_torchvision_the_reason_is_given(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(Unavailable, match="torchvision cannot be imported"):
        load_extractors("inception", {"weights": "x.pth", "sha256": "0" * 64}, CPU)


@pytest.mark.parametrize("settings", [None, {}, {"weights": None, "sha256": "0"}])
def test_without_weights_the_reason_is_given(settings):
    with pytest.raises(Unavailable, match="no weights are given"):
        load_extractors("alexnet", settings, CPU)


def test_unusable_weights_are_one_clear_error(clip, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"weights")
    with pytest.raises(InputError, match="SHA-256 of the weights, found none"):
        load_extractors("alexnet", {"weights": path}, CPU)
    with pytest.raises(InputError, match=rf"expected SHA-256 {'0' * 64}, found {digest_of(path)}"):
        load_extractors("alexnet", {"weights": path, "sha256": "0" * 64}, CPU)
    with pytest.raises(InputError, match=r"weights\.pth: expected weights as safetensors"):
        load_extractors("alexnet", {"weights": path, "sha256": digest_of(path)}, CPU)
    with pytest.raises(InputError, match="no such file"):
        load_extractors("alexnet", {"weights": tmp_path / "no.pth", "sha256": "0" * 64}, CPU)
    with pytest.raises(InputError, match="expected SHA-256"):
        load_extractors("clip", {"weights": clip, "sha256": "0" * 64}, CPU)
    with pytest.raises(InputError, match="hub id with a revision"):
        load_extractors("clip", {"weights": "owner/clip", "sha256": "0" * 64}, CPU)
    with pytest.raises(InputError, match="one of demo-clip"):
        load_extractors("resnet", {"weights": path}, CPU)
    with pytest.raises(InputError, match=r"judge/model\.safetensors"):
        load_extractors("demo-judge", {"weights": tmp_path}, CPU)


def test_weights_of_another_network_are_refused(tmp_path):
    part = tmp_path / "part.safetensors"
    bias = torch.zeros(64)
    for state, match in (
        ({"features.0.bias": bias}, r"none for features\.0\.weight"),
        ({"features.0.bias": bias[:3].clone()}, "weights of this network's shapes"),
    ):
        save_file(state, part)
        with pytest.raises(InputError, match=match):
            load_extractors("alexnet", {"weights": part, "sha256": digest_of(part)}, CPU)


def test_clip_of_another_size_than_its_configuration_is_refused(clip, tmp_path):
    folder = shutil.copytree(clip, tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"projection_dim": 7}))
    settings = {"weights": folder, "sha256": digest_of(folder / "model.safetensors")}
    with pytest.raises(InputError, match="a CLIP model in the layout of transformers"):
        load_extractors("clip", settings, CPU)

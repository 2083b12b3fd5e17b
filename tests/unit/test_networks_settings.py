"""Networks whose layers are compared, in the configuration and in the plan."""

from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from nsdldm.workflow import named
from nsdldm.workflow.loading import SettingsError, load_settings
from nsdldm.workflow.named import check_named
from nsdldm.workflow.networks import list_all, list_layered
from nsdldm.workflow.plan import list_spaces, list_targets

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLE = yaml.safe_load((PROJECT / "config.layers.yaml").read_text())
OWN = {"function": "torch.nn.Identity", "layers": {"a": "0", "b": "1"}}


def load(**networks):
    return load_settings({"dataset": "demo", "networks": networks})


def refuse(**networks):
    with pytest.raises(SettingsError) as caught:
        load(**networks)
    return "\n".join(caught.value.problems)


def test_the_example_is_that_of_the_documentation():
    page = (PROJECT / "docs/feature_spaces.md").read_text()
    start = page.index("    networks:\n")
    text = page[start : page.index("\nRun\n", start)]
    assert yaml.safe_load(text) == EXAMPLE


def test_layers_of_a_network_are_a_family():
    spaces = list_spaces(load(**EXAMPLE["networks"]))
    clip = ["clip-first", "clip-second", "clip-embedding"]
    assert spaces.networks["clip"] == ["first", "second", "embedding"]
    assert spaces.families["layers-clip"] == spaces.from_grams["layers-clip"] == clip
    assert spaces.from_features["layers-clip"] == []
    assert spaces.kernels["layers-clip"] == ["layers-clip"]
    assert spaces.ranked == ["blocks", "layers-alexnet", "layers-clip"]
    assert not {*spaces.ranked} & {*spaces.joint, *spaces.scored, *spaces.judged}


def test_layers_can_be_joined_with_other_spaces():
    joint = {"encoding": {"joint": {"mine": ["z", "clip-first", "unet-mid-s050"]}}}
    settings = load_settings({"dataset": "demo", **EXAMPLE, **joint})
    spaces = list_spaces(settings)
    found = [spaces.find_family(space) for space in settings["encoding"]["joint"]["mine"]]
    assert found == ["features", "layers-clip", "blocks"]


def test_a_run_without_networks_is_as_before():
    settings = load()
    spaces = list_spaces(settings)
    assert spaces.networks == {} and spaces.ranked == ["blocks"]
    assert not any("layers" in name for name in [*spaces.families, *list_targets(settings)])


def test_a_full_run_makes_their_maps_and_tables():
    settings = load(**EXAMPLE["networks"])
    more = {*list_targets(settings)} - {*list_targets(load())}
    assert more == {
        *(f"results/tables/layers_{name}.tsv" for name in ("alexnet", "clip")),
        *(
            f"results/{subject}/figures/layers_{name}.{suffix}"
            for subject in settings["subjects"]
            for name in ("alexnet", "clip")
            for suffix in ("png", "pdf")
        ),
    }


def test_their_weights_are_inputs(tmp_path):
    path = tmp_path / "weights.pth"
    path.touch()
    settings = load(mine=OWN | {"weights": str(path), "sha256": sha256().hexdigest()}, other=OWN)
    assert list_layered(settings, "mine") == [str(path)]
    assert list_layered(settings, "other") == []
    assert str(path) in list_all(settings)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"layers": OWN["layers"]}, "networks.mine must have network or function, one of them."),
        (OWN | {"network": "clip"}, "networks.mine must have network or function, one of them."),
        (
            {"network": "clip", "layers": OWN["layers"]},
            "networks.mine.weights must be given with networks.mine.network.",
        ),
        (
            OWN | {"function": "transformers.AutoModel"},
            "networks.mine.weights must be given with a class of transformers.",
        ),
        (
            OWN | {"layers": {"a": "0", "b": "0"}},
            "networks.mine.layers must have one name for a module, not several for 0.",
        ),
        (
            OWN | {"layers": {"a": "0"}},
            "networks.mine.layers must be a mapping, with at least 2 keys",
        ),
        (OWN | {"layers": {"a-b": "0", "c": "1"}}, "networks.mine.layers"),
        (OWN | {"reduction": "pca"}, "networks.mine.reduction must be"),
    ],
)
def test_contradictions(own, message):
    assert message in refuse(mine=own)


def test_names_of_other_spaces_are_taken():
    blocks = {"layers": {"s050": "0", "s100": "1"}, "function": "torch.nn.Identity"}
    assert "other names than zc-s050, zc-s100, a feature space." in refuse(zc=blocks)


def find(own):
    return [str(each) for each in check_named(load(mine=own)) if "networks.mine" in str(each)]


def test_what_they_name_is_looked_up_before_the_run(tmp_path):
    assert find(OWN) == []
    (tmp_path / "weights.pth").touch()
    (found,) = find(OWN | {"weights": str(tmp_path / "weights.pth")})
    assert found.startswith("networks.mine.sha256: expected the SHA-256 of the weights")
    (found,) = find(OWN | {"weights": str(tmp_path / "none.pth")})
    assert "networks.mine.weights: expected a file or folder, found nothing" in found
    (found,) = find(OWN | {"function": "torch.hub.nothing"})
    assert "networks.mine.function torch.hub.nothing: expected the dotted name" in found
    (found,) = find({"network": "demo-alexnet", "weights": str(tmp_path), "layers": OWN["layers"]})
    assert "networks.mine.weights" in found and "classifier/model.safetensors" in found


def test_timm_needs_torchvision(monkeypatch):
    monkeypatch.setattr(named, "check_function", lambda *given: [])
    monkeypatch.setattr(named, "find_spec", lambda name: None)
    (found,) = find(OWN | {"function": "timm.create_model"})
    assert "expected torchvision, which timm needs, found none" in found

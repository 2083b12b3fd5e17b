"""What settings name is looked for before the first job."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from diffusers import UNet2DConditionModel
from diffusion_models import save_model
from torch import nn

from nsdldm.features.networks import load_extractors
from nsdldm.features.views import VIEWS, list_metrics
from nsdldm.workflow.loading import load_settings
from nsdldm.workflow.named import DEMO_FILES, check_blocks, check_clip, check_function, check_named
from nsdldm.workflow.plan import STABLE_DIFFUSION

PROJECT = Path(__file__).resolve().parents[2]
MODEL = PROJECT / "resources/demo_model"
HASH = "0" * 64
OURS = "nsdldm.features.pictures.embed_pictures"


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch):
    monkeypatch.chdir(PROJECT)


def find(**changes):
    """What is said of a demo with other settings, as (key, found)."""
    return [(finding.where, finding.found) for finding in check_named(load_settings(changes))]


def test_the_demo_names_what_is_there():
    assert find() == []


def test_real_data_on_a_model_that_is_not_fetched(monkeypatch, tmp_path):
    """Nothing can be said of its modules, and nothing is."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    real = {"dataset": "nsd", "nsd": {"root": "x"}, "model": {"path": "a/b", "revision": "c"}}
    (finding,) = check_named(load_settings(real))
    assert finding.where == "model.path a/b"
    # What it is, is read where it was fetched.
    shutil.copytree(MODEL, tmp_path / "hub/models--a--b/snapshots/c")
    real["trajectories"] = {"blocks": {"far": "down_blocks.3"}}
    (finding,) = check_named(load_settings(real))
    assert finding.where == "trajectories.blocks.far"


@pytest.mark.parametrize("section", ["model", "reconstruction"])
def test_resolutions(section):
    (found,) = check_named(load_settings({section: {"resolution": 100}}))
    channels = json.loads((MODEL / "vae/config.json").read_text())["block_out_channels"]
    factor = 2 ** (len(channels) - 1)
    assert found.where == f"{section}.resolution" and found.remedy == "Set it to 96 or 104"
    assert f"a multiple of {factor} pixels" in found.expected


@pytest.fixture(scope="module", params=["demo", "tiny"])
def unet(request, tmp_path_factory):
    if request.param == "demo":
        return MODEL / "unet"
    return save_model(tmp_path_factory.mktemp("model") / "model") / "unet"


def test_every_module_that_runs_passes_and_no_other(unet):
    modules = dict(UNet2DConditionModel.from_pretrained(unet).named_modules())
    for path, module in modules.items():
        findings = check_blocks({"it": path}, unet) if path else []
        assert bool(findings) == isinstance(module, nn.ModuleList), path
        for wrong in (f"{path}x", f"{path}.nothing", f"x{path}", path.replace("s", "z", 1)):
            if wrong not in modules:
                (finding,) = check_blocks({"it": wrong}, unet)
                assert finding.where == "trajectories.blocks.it"


def test_modules_that_were_meant():
    (finding,) = check_blocks({"a": "mid_blok"}, MODEL / "unet")
    assert "such as mid_block," in finding.expected
    (finding,) = check_blocks({"a": "down_blocks"}, MODEL / "unet")
    assert finding.remedy == "Name one of it, such as down_blocks.0"


def test_weights_in_pieces(tmp_path):
    index = {"weight_map": {"mid_block.resnets.0.conv1.weight": "part-1.safetensors"}}
    name = "diffusion_pytorch_model.safetensors.index.json"
    (tmp_path / name).write_text(json.dumps(index))
    assert check_blocks({"a": "mid_block.resnets.0"}, tmp_path) == []
    assert len(check_blocks({"a": "up_blocks.0"}, tmp_path)) == 1


@pytest.mark.parametrize("content", [b"", b"\xff" * 16, b"\x02\0\0\0\0\0\0\0[]"])
def test_damaged_weights_say_nothing_of_modules(content, tmp_path):
    """The loader says that they are damaged."""
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(content)
    assert check_blocks({"a": "mid_blok"}, tmp_path) == []


def networks(**own):
    return {"evaluation": {"networks": own}}


def test_weights_of_networks(tmp_path):
    file = tmp_path / "alexnet.safetensors"
    file.touch()
    whole = {"weights": str(file), "sha256": HASH}
    assert find(**networks(alexnet=whole)) == []
    assert find(**networks(alexnet=whole | {"weights": "https://host/alexnet.pth"})) == []
    key = "evaluation.networks.alexnet"
    assert find(**networks(alexnet={"weights": str(file)})) == [(f"{key}.sha256", "none")]
    missing = whole | {"weights": str(tmp_path / "x")}
    assert find(**networks(alexnet=missing)) == [(f"{key}.weights {tmp_path}/x", "nothing")]
    folder = whole | {"weights": str(tmp_path)}
    assert find(**networks(alexnet=folder)) == [(f"{key}.weights {tmp_path}", "a folder")]
    assert find(**networks(alexnet={})) == []


@pytest.mark.parametrize("name", DEMO_FILES)
def test_the_demo_networks_need_the_files_that_are_looked_for(name, tmp_path):
    """Whoever lacks one of them cannot load it either."""
    load_extractors(name, {"weights": str(MODEL)}, "cpu")
    for missing in DEMO_FILES[name]:
        folder = tmp_path / missing.replace("/", "-")
        shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns("unet", "vae"))
        (folder / missing).unlink()
        found = find(**networks(**{name: {"weights": str(folder)}}))
        assert (f"evaluation.networks.{name}.weights {folder}", f"no {missing}") in found
        with pytest.raises(Exception, match=r"no such file|config\.json|safetensors"):
            load_extractors(name, {"weights": str(folder)}, "cpu")


def test_clip(tmp_path):
    assert check_clip(str(MODEL / "clip"), None, "trained.clip") == []
    assert check_clip("owner/name", "abc", "trained.clip") == []
    (finding,) = check_clip("owner/name", None, "trained.clip")
    assert finding.remedy.endswith("set trained.clip.revision to a commit if it is a hub id")
    (finding,) = check_clip(str(tmp_path), None, "trained.clip")
    assert finding.found == "no config.json and no model.safetensors"
    own = {"weights": "owner/name", "sha256": HASH}
    assert find(**networks(clip=own | {"revision": "abc"})) == []
    ((where, _),) = find(**networks(clip=own))
    assert where == "evaluation.networks.clip.weights owner/name"


def test_scores_that_samples_have():
    for metric in ("pixcorr", "ssim", "corr16", "clipscore:demo-clip", "category:demo-judge"):
        assert find(evaluation={"best_by": metric}) == []
    for metric in ("psm:demo-clip:image_embed", "mse", "2way:demo-clip:image_embeds", "nway:x"):
        assert find(evaluation={"best_by": metric}) == [("evaluation.best_by", metric)]
    # A score of a network without weights is not there.
    assert len(find(evaluation={"best_by": "psm:clip:image_embeds", "networks": {"clip": {}}})) == 1
    known = [m for name in VIEWS for m in list_metrics(name) if m.startswith(("psm", "clipscore"))]
    assert "psm:clip:image_embeds" in known


@pytest.mark.parametrize(("ways", "wrong"), [(12, None), (13, "13"), ([2, 12, 40], "40")])
def test_classes(ways, wrong):
    expected = [("evaluation.n_way", wrong)] if wrong else []
    assert find(evaluation={"n_way": ways}) == expected
    assert find(evaluation={"n_way": 1000, "networks": {"demo-judge": None}}) == []


MODULE = '''
"""A module that must not be run."""
import os.path as where
from json import dumps
raise SystemExit("it was run")
def plain(device): ...
def strict(device, *, a, b=1): ...
def loose(device, a=2, **more): ...
def positional(device, a, b=3): ...
@where.property
def decorated(device): ...
made = where.partial(plain)
class Thing: ...
if True:
    def inside(device): ...
try:
    import fast as chosen
except ImportError:
    chosen = None
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    package = tmp_path / "outside"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('it was run')")
    (package / "spaces.py").write_text(MODULE)
    (package / "broken.py").write_text("def (")
    monkeypatch.syspath_prepend(tmp_path)
    return "outside.spaces"


@pytest.mark.parametrize(
    ("name", "settings", "found"),
    [
        ("plain", {}, None),
        ("plain", {"a": 1}, "a"),
        ("strict", {"a": 1}, None),
        ("strict", {"b": 1}, "no a"),
        ("strict", {"a": 1, "c": 1}, "c"),
        ("strict", {"c": 1, "d": 2}, "c, d and no a"),
        ("loose", {"x": 1}, None),
        ("positional", {"a": 1}, None),
        ("positional", {}, "no a"),
        ("decorated", {"what": 1}, None),
        *((name, {}, None) for name in ("made", "Thing", "inside", "chosen", "dumps", "where")),
    ],
)
def test_functions_and_their_settings(module, name, settings, found):
    findings = check_function("feature_spaces.a", f"{module}.{name}", settings)
    assert [finding.found for finding in findings] == ([found] if found else [])
    assert "outside" not in sys.modules


@pytest.mark.parametrize(
    ("function", "found"),
    [
        ("outside.spaces.plane", "no plane in "),
        ("outside.spaces.os", "no os in "),
        ("outside.nowhere.plain", "no module outside.nowhere"),
        ("outside.spaces.deeper.plain", "no module outside.spaces.deeper"),
        ("outside.broken.plain", "which is no Python"),
        ("nowhere_at_all.plain", "no module nowhere_at_all"),
        ("odd.x", "no module odd"),
    ],
)
def test_functions_that_are_not_there(module, function, found, monkeypatch):
    monkeypatch.setitem(sys.modules, "odd", ModuleType("odd"))
    (finding,) = check_function("feature_spaces.a", function, {})
    assert finding.where == f"feature_spaces.a.function {function}"
    assert found in finding.found


@pytest.mark.parametrize("name", ["math.sqrt", "numpy.linalg.norm", "json.dumps", OURS])
def test_functions_of_libraries(name):
    """What can be imported is found."""
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)
    findings = check_function("feature_spaces.a", name, {})
    assert not any(finding.where.startswith("feature_spaces.a.function") for finding in findings)


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({}, None),
        ({"layer": "image_embedx"}, "layer"),
        ({"network": "demo-klip"}, "network"),
        ({"weights": "nowhere"}, "weights nowhere"),
        ({"weights": None}, "weights"),
        ({"network": "clip", "weights": "a/b", "revision": "c"}, "sha256"),
    ],
)
def test_the_function_that_the_project_has(changed, where):
    own = {"network": "demo-clip", "layer": "image_embeds", "weights": str(MODEL)} | changed
    space = {"function": OURS, "settings": own}
    expected = [f"feature_spaces.a.settings.{where}"] if where else []
    assert [key for key, _ in find(feature_spaces={"a": space})] == expected


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from nsdldm.workflow.loading import load_settings; "
        "from nsdldm.workflow.named import check_named; assert not check_named(load_settings({})); "
        "print([name for name in ('numpy', 'torch', 'PIL', 'safetensors') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True)
    assert run.stdout.strip() == "[]"


def test_weights_and_models_that_are_named_must_be_there(tmp_path):
    """Files and folders; a hub id and an address are looked up later."""
    (tmp_path / "weights").touch()
    adapter = {"function": "nsdldm.generators.adapters.open_ip_adapter"}
    names = ("here", "hub", "address", "nowhere")
    places = (str(tmp_path / "weights"), "owner/model", "https://host/file", str(tmp_path / "no"))
    generators = {
        name: adapter | {"settings": {"weights": place}}
        for name, place in zip(names, places, strict=True)
    }
    generators["model"] = {"function": STABLE_DIFFUSION, "path": str(tmp_path / "none")}
    found = find(beyond={"generators": generators, "captions": {"clip": str(tmp_path / "clip")}})
    assert dict(found) == {
        "beyond.generators.nowhere.settings.weights": f"nothing at {tmp_path / 'no'}",
        "beyond.generators.model.path": f"nothing at {tmp_path / 'none'}",
        f"beyond.captions.clip {tmp_path / 'clip'}": "no folder, no revision",
    }


def test_a_generator_is_a_function_of_a_model_and_a_scheduler(tmp_path):
    adapter = "nsdldm.generators.adapters.open_ip_adapter"
    generators = {"own": {"function": adapter, "settings": {"sacle": 1}}}
    ((key, said),) = find(beyond={"generators": generators})
    assert key == "beyond.generators.own.settings"
    assert said == "sacle and no weights"

"""No pickle is ever loaded, since loading one runs the code in it."""

import ast
import pickle
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusion_models import save_model

from nsdldm.diffusion.loading import load_autoencoder, load_denoiser, load_text
from nsdldm.features.networks import load_extractors
from nsdldm.features.parts import read_rows
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_array

PROJECT = Path(__file__).resolve().parents[2]
FOLDERS = ("nsdldm", "workflow_scripts", "benchmarks", "envs")
CPU = torch.device("cpu")
# What a call by this last name must be given. Configurations and tokenizers have no weights.
NEEDED = {
    "np.load": {"allow_pickle": False},
    "numpy.load": {"allow_pickle": False},
    "torch.load": {"weights_only": True},
    "from_pretrained": {"use_safetensors": True},
}
WITHOUT_WEIGHTS = ("Config", "Tokenizer", "Processor", "ProcessorPil", "Scheduler")
FORBIDDEN = ("pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal")
FORBIDDEN_CALLS = ("read_pickle", "to_pickle")


def sources():
    paths = [path for folder in FOLDERS for path in sorted((PROJECT / folder).rglob("*.py"))]
    assert len(paths) > 80
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    return {str(path.relative_to(PROJECT)): ast.parse(text) for path, text in texts.items()}


def name_of(function):
    """Dotted name of what is called, as far as it is one."""
    if isinstance(function, ast.Attribute):
        return f"{name_of(function.value)}.{function.attr}"
    return function.id if isinstance(function, ast.Name) else ""


def find_violations(tree):
    """Yield a description of each place that could load a pickle."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            yield from (f"import {name}" for name in names if name.split(".")[0] in FORBIDDEN)
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node.func)
        if name in ("eval", "exec") or name.rpartition(".")[2] in FORBIDDEN_CALLS:
            yield name
        last = name if name in NEEDED else name.rpartition(".")[2]
        owner = name.rpartition(".")[0].rpartition(".")[2]
        if last in NEEDED and not owner.endswith(WITHOUT_WEIGHTS):
            named = {key.arg: getattr(key.value, "value", None) for key in node.keywords}
            if any(named.get(key) != value for key, value in NEEDED[last].items()):
                yield f"{name}, line {node.lineno}"


def test_nothing_loads_pickles():
    found = {path: list(find_violations(tree)) for path, tree in sources().items()}
    assert {path: places for path, places in found.items() if places} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import numpy as np; np.load(path)",
        "np.load(path, allow_pickle=True)",
        "import pickle",
        "from joblib import load",
        "pd.read_pickle(path)",
        "torch.load(path)",
        "AutoencoderKL.from_pretrained(path)",
    ],
)
def test_walk_sees_what_would_load_one(text):
    assert len(list(find_violations(ast.parse(text)))) == 1


def test_rules_name_no_pickle():
    files = [PROJECT / "Snakefile", *sorted((PROJECT / "rules").glob("*.smk"))]
    files += sorted((PROJECT / "nsdldm/nsd").glob("*.py"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert not any(word in text for word in (".pkl", "pickle.", "read_pickle", ".ckpt", ".joblib"))


class Bomb:
    """Writes a file when a pickle of it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.write_text, (Path(self.path), "ran")


@pytest.fixture
def bomb(tmp_path):
    """A pickle, and the file that tells that it was loaded."""
    fuse = tmp_path / "ran"
    content = pickle.dumps(Bomb(fuse))
    pickle.loads(content)
    assert fuse.read_text() == "ran"  # the bomb works
    fuse.unlink()
    yield content
    assert not fuse.exists(), "code in a pickle was run"


@pytest.mark.parametrize("name", ["features.npy", "features.npz"])
def test_pickle_in_place_of_an_array(bomb, tmp_path, name):
    (tmp_path / name).write_bytes(bomb)
    with pytest.raises((InputError, ValueError)):
        load_array(tmp_path / name)


def test_array_of_objects(bomb, tmp_path):
    np.save(tmp_path / "objects.npy", np.array([Bomb(tmp_path / "ran")]), allow_pickle=True)
    for read in (load_array, lambda path: read_rows(path, [0])):
        with pytest.raises((InputError, ValueError)):
            read(tmp_path / "objects.npy")


LOADERS = {
    "vae": lambda path: load_autoencoder(path, None, CPU, torch.float32),
    "text_encoder": lambda path: load_text(path, None, CPU, torch.float32),
    "unet": lambda path: load_denoiser(path, None, CPU, torch.float32, "ddim"),
}


@pytest.mark.parametrize("part", LOADERS)
@pytest.mark.parametrize("name", ["as safetensors", "pytorch_model.bin"])
def test_pickle_in_place_of_weights(bomb, tmp_path, part, name):
    folder = save_model(tmp_path / "model")
    (weights,) = (folder / part).glob("*.safetensors")
    weights.unlink()
    other = "diffusion_pytorch_model.bin" if part != "text_encoder" else name
    path = weights if name == "as safetensors" else folder / part / other
    path.write_bytes(bomb)
    said = "/{}: expected" if path == weights else "found {}/{}. Convert it if you trust its source"
    said = said.format(part, other)
    with pytest.raises(InputError, match=said):
        LOADERS[part](folder)


def test_pickle_in_place_of_a_published_network(bomb, tmp_path):
    path = tmp_path / "alexnet.pth"
    path.write_bytes(bomb)
    settings = {"weights": str(path), "sha256": sha256(bomb).hexdigest()}
    with pytest.raises(InputError, match=r"alexnet\.pth: expected weights"):
        load_extractors("alexnet", settings, CPU)
    torch.save({"x": Bomb(tmp_path / "ran")}, path)
    settings["sha256"] = sha256(path.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=r"alexnet\.pth: expected weights"):
        load_extractors("alexnet", settings, CPU)

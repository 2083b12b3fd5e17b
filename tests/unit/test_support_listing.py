"""What systems leave in folders never counts."""

import ast
import json
import re
from pathlib import Path

import pytest

from nsdldm.support.listing import is_stray, list_files, list_model_files, list_weights

PROJECT = Path(__file__).resolve().parents[2]
# As macOS, Windows and NFS name them.
STRAYS = (
    "._{}",
    ".DS_Store",
    "Icon\r",
    ".AppleDouble/{}",
    "__MACOSX/._{}",
    "Thumbs.db",
    ".nfs001{}",
)
# Places where own names are looked for, or Snakemake's.
ALLOWED = {
    ("nsdldm/support/listing.py", "pattern"),
    ("nsdldm/support/files.py", "'.part-*'"),
    ("nsdldm/support/resume.py", "'.part-*'"),
    ("nsdldm/workflow/workfolder.py", "'locks/*.lock'"),
}


def plant(folder, name):
    """Put a stray of every kind into a folder, beside a file of that name."""
    for template in STRAYS:
        path = folder / template.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0\x05\x16\x07\0\x02\0\0Mac OS X")


@pytest.fixture
def model(tmp_path):
    """Files of a model by its parts."""
    names = {
        "unet": ("config.json", "diffusion_pytorch_model.safetensors"),
        "clip": ("model.safetensors",),
        "tokenizer": ("merges.txt", "vocab.json"),
    }
    for part, files in names.items():
        (tmp_path / part).mkdir()
        for name in files:
            (tmp_path / part / name).write_text(json.dumps(name))
    (tmp_path / "own.safetensors").touch()
    return tmp_path


def list_all(model):
    """What each way of listing finds of a model."""
    return {
        "rules": list_files(model, "*/*.[js]*"),
        "all": list_files(model, "**/*"),
        "weights": list_weights(model),
        "digest": list_model_files(model, ["unet", "tokenizer"]),
    }


def test_strays_change_no_list_and_no_digest(model):
    before = list_all(model)
    names = [path.relative_to(model).as_posix() for path in before["rules"]]
    assert names == [
        "clip/model.safetensors",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    assert len(before["all"]) == 6
    assert before["weights"] == [f"{model}/own.safetensors", f"{model}/clip/model.safetensors"]
    assert [path.name for path in before["digest"]][2:] == ["merges.txt", "vocab.json"]
    for part in ("", "unet", "clip", "tokenizer"):
        for name in ("x.safetensors", "model.safetensors", "config.json"):
            plant(model / part, name)
    assert list_all(model) == before


@pytest.mark.parametrize("name", ["config.json", "Icon.png", "a._b", "x.safetensors", "results"])
def test_own_names_are_no_strays(name):
    assert not is_stray(name)


def test_a_folder_that_is_not_there_has_nothing(tmp_path):
    assert (
        list_files(tmp_path / "none") == list_weights(tmp_path / "none") == list_weights(None) == []
    )


def test_everything_else_lists_through_the_same_function():
    """A new glob, iterdir, walk or listdir would let strays in again."""
    found = set()
    for path in [*(PROJECT / "nsdldm").rglob("*.py"), *(PROJECT / "workflow_scripts").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node, "func", None)
            name = getattr(name, "attr", getattr(name, "id", ""))
            if isinstance(node, ast.Call) and name in (
                "glob",
                "rglob",
                "iterdir",
                "listdir",
                "scandir",
            ):
                argument = ast.unparse(node.args[0]) if node.args else ""
                found.add((path.relative_to(PROJECT).as_posix(), argument))
    assert found <= ALLOWED, found - ALLOWED
    for path in [PROJECT / "Snakefile", *(PROJECT / "rules").glob("*.smk")]:
        for line in re.findall(r".*(?:glob|iterdir|listdir|scandir|walk)\w*\(.*", path.read_text()):
            assert "state.glob(" in line, line

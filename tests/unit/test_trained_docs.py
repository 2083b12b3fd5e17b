"""docs/trained.md names what there is."""

import importlib
import re
from pathlib import Path

import pytest

from nsdldm.trained.presets import PRESETS

PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs/trained.md").read_text()
MODULES = {path.stem for path in (PROJECT / "nsdldm/trained").glob("*.py")}
NAMES = sorted(
    name
    for name in set(re.findall(r"`([a-z0-9_.]+\.\w+)(?:\(.*?\))?`", PAGE))
    if name.startswith("nsdldm.") or name.split(".")[0] in MODULES
)


def test_finds_names():
    assert len(NAMES) > 30


@pytest.mark.parametrize("name", NAMES)
def test_code_exists(name):
    parts = name.removeprefix("nsdldm.").split(".")
    package = "nsdldm" if name.startswith("nsdldm.") else "nsdldm.trained"
    place = importlib.import_module(package)
    for part in parts:
        if not hasattr(place, part):
            importlib.import_module(f"{place.__name__}.{part}")
        place = getattr(place, part)


def test_rules_exist():
    text = "".join(path.read_text() for path in (PROJECT / "rules").glob("*.smk"))
    rules = set(re.findall(r"^\s*(?:use rule \w+ as|rule) (\w+)", text, re.MULTILINE))
    table = PAGE.partition("## Section by section")[2].partition("## Presets")[0]
    column = [row.split("|")[3] for row in table.splitlines() if row.count("|") >= 5]
    named = {name for cell in column[2:] for name in re.findall(r"`(\w+)`", cell)}
    assert len(named) > 8 and named <= rules, named - rules


def test_keys_of_presets_exist():
    found = re.findall(r"\| ([123](?:, [123])?): ((?:`\w+`(?:, )?)+) \|", PAGE)
    assert len(found) > 15
    for stages, keys in found:
        for stage in stages.split(", "):
            known = set().union(*(preset[f"stage{stage}"] for preset in PRESETS.values()))
            assert set(re.findall(r"\w+", keys)) <= known, (stage, keys)


def test_presets_exist():
    table = PAGE.partition("## Presets")[2].partition("All of them")[0]
    cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    assert {name for cell in cells for name in re.findall(r"`([\w-]+)`", cell)} == set(PRESETS)


def test_pages_claim_what_the_demo_is_and_what_chooses_weights():
    """The demo's dissociation is planted, and validation images choose weights."""
    shown = ("README.md", "docs/demo.md", "report/workflow.rst")
    words = {name: " ".join((PROJECT / name).read_text().split()) for name in shown}
    for text in words.values():
        assert "positive control" in text and "not planted" not in text
    for name in ("config.yaml", "schemas/config.schema.yaml", "nsdldm/trained/loop.py"):
        assert "only watched" not in (PROJECT / name).read_text(), name
    page = " ".join((PROJECT / "docs/choices.md").read_text().split())
    assert "`takagi2023` is the arithmetic of the published decoders alone" in page
    for left in ("t = 801", "same noise for every image", "random sample when the enlarged"):
        assert left in page.partition("It does not cover")[2]

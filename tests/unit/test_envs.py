"""One pinned set of versions, and everything that must follow it."""

import re
import runpy
from importlib.metadata import version
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
WRITER = runpy.run_path(str(PROJECT / "envs/write_conda.py"))
PINS = WRITER["read_pins"]()


@pytest.mark.parametrize("name", WRITER["CONTENTS"])
def test_conda_files_follow_the_pins(name):
    text = (PROJECT / f"envs/{name}.yaml").read_text()
    assert text == WRITER["compose_env"](name, PINS), "run `make envs`"


def test_every_version_is_pinned_once():
    names = [pin.split("==")[0] for pins in PINS.values() for pin in pins]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9.-]+==[\w.]+", pin) for pins in PINS.values() for pin in pins)


@pytest.mark.parametrize("pin", [pin for pins in PINS.values() for pin in pins])
def test_installed_versions_are_the_pinned_ones(pin):
    name, pinned = pin.split("==")
    assert version(name).split("+")[0] == pinned


def test_rules_use_the_environments_that_exist():
    used = set()
    for path in (PROJECT / "rules").glob("*.smk"):
        used |= set(re.findall(r'"\.\./envs/(\w+)\.yaml"', path.read_text()))
    assert used == set(WRITER["CONTENTS"])


def test_minimum_launcher_version_is_the_pinned_one():
    minimum = re.search(r'min_version\("([\d.]+)"\)', (PROJECT / "Snakefile").read_text()).group(1)
    pins = dict(pin.split("==") for pin in PINS["workflow"])
    assert pins["snakemake"].startswith(minimum)

"""One pinned set of versions, and everything that must follow it."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
import yaml

from nsdldm import __version__

PROJECT = Path(__file__).resolve().parents[2]
WRITER = runpy.run_path(str(PROJECT / "envs/write_conda.py"))
PINS = WRITER["read_pins"]()
LOCK = runpy.run_path(str(PROJECT / "envs/lock.py"))
CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text()
REQUIREMENTS = PROJECT / "envs/requirements.txt"


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


def test_locking_what_is_installed_changes_nothing():
    installed = {item.metadata["Name"]: item.version for item in distributions()}
    assert LOCK["renew"](REQUIREMENTS.read_text(), installed) == REQUIREMENTS.read_text()


def test_locking_renews_versions_and_what_they_need():
    text = "# Head.\n\n# [a] first\nzeta==1.0\ntorch==2.0\n\n# [needs] rest\nold==3\nkept==4\n"
    versions = {"Zeta": "1.1", "torch": "2.0+cpu", "kept": "5", "New_One": "6", "pip": "7"}
    versions |= {"triton": "8", "nvidia-cublas": "9", "nsdldm": "0.1"}
    renewed = (
        "# Head.\n\n# [a] first\nzeta==1.1\ntorch==2.0\n\n# [needs] rest\nkept==5\nnew-one==6\n"
    )
    assert LOCK["renew"](text, versions) == renewed
    assert LOCK["list_names"](text) == ["zeta", "torch"]
    report = {"install": [{"metadata": {"name": "Zeta", "version": "1.1"}, "url": "somewhere"}]}
    assert LOCK["read_report"](report) == {"Zeta": "1.1"}


def test_container_has_the_same_python_and_packages():
    text = (PROJECT / "Containerfile").read_text()
    minor = re.search(r"- python=([\d.]+)", WRITER["compose_env"]("torch", PINS)).group(1)
    assert re.findall(r"^FROM (.*)$", text, re.MULTILINE) == [f"python:{minor}-slim"]
    assert "COPY envs/requirements.txt /tmp/requirements.txt" in text
    assert "--requirement /tmp/requirements.txt" in text
    # No versions of its own, no other registry, not as root.
    assert "==" not in text.replace("'^torch=='", "")
    assert "http" not in text
    assert text.index("USER nsdldm") < text.index("ENTRYPOINT")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What an editable installation of a copy puts into an environment."""
    project, wheels = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("wheels")
    for name in ("nsdldm", "envs"):
        shutil.copytree(PROJECT / name, project / name)
    shutil.copy(PROJECT / "pyproject.toml", project)
    build = f"from setuptools import build_meta; build_meta.build_editable({str(wheels)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=project, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(wheels / "site")
    return wheels / "site"


def make(*arguments):
    """What make would run, not as part of the make that runs this."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", "--dry-run", *arguments]
    result = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_package_needs_the_pinned_versions(site):
    (path,) = site.glob("*.dist-info/METADATA")
    needed = message_from_string(path.read_text()).get_all("Requires-Dist")
    lines = REQUIREMENTS.read_text().splitlines()
    assert sorted(needed) == sorted(line for line in lines if line and not line.startswith("#"))


def test_the_installed_package_is_found_from_elsewhere(site, tmp_path):
    code = f"import site; site.addsitedir({str(site)!r}); import nsdldm.nsd.rois as it; print(it)"
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-P", "-c", code]
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert "nsdldm/nsd/rois.py" in run.stdout
    made = make("--always-make", ".venv/installed")
    assert re.search(r"pip install .*--no-deps --no-build-isolation --editable \.$", made, re.M)


def test_another_build_of_torch_is_one_command():
    """The pinned version from the index given, then what that build needs, and nothing else."""
    pin = next(line for line in REQUIREMENTS.read_text().splitlines() if line.startswith("torch=="))
    made = make("--old-file", ".venv/installed", "torch", "TORCH_INDEX=file:///i")
    installs = [line for line in made.splitlines() if "pip install" in line]
    start = f'.venv/bin/python -m pip install --quiet --index-url "file:///i" {pin}'
    assert installs == [f"{start} --force-reinstall --no-deps", start]


def test_there_is_one_version():
    """Of the package; others repeat it."""
    assert f"\nversion: {__version__}\n" in (PROJECT / "CITATION.cff").read_text()
    first = re.search(r"(?m)^## (.+)$", (PROJECT / "CHANGELOG.md").read_text())
    assert first.group(1) == __version__


def test_files_for_others_name_what_exists():
    for name in (".github/workflows/ci.yml", ".snakemake-workflow-catalog.yml"):
        assert yaml.safe_load((PROJECT / name).read_text())
    steps = (PROJECT / ".github/workflows/ci.yml").read_text()
    targets = re.findall(r"run: make (\S+)", steps)
    makefile = (PROJECT / "Makefile").read_text()
    assert targets == ["test", "demo"]
    for target in [*targets, *re.findall(r"\bmake ([a-z][a-z-]+)", CONTRIBUTING)]:
        assert f"\n{target}: " in makefile, target


def test_a_container_is_used_where_it_is_named(tmp_path):
    command = [sys.executable, "-m", "snakemake", "-s", str(PROJECT / "Snakefile"), "--dry-run"]
    command += ["--directory", str(tmp_path), "--config", "container=nsdldm.sif", "--"]
    result = subprocess.run(
        [*command, "results/source.tsv"], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr

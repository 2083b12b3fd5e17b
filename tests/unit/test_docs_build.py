"""The documentation as pages: `make docs`, in a folder of its own."""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
HOOKS = runpy.run_path(str(PROJECT / "docs/hooks.py"))


def build(project, site):
    """What mkdocs says, and whether it succeeded."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "site"
    result = build(PROJECT, folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_every_public_module_has_its_page(site):
    files = (PROJECT / "nsdldm").rglob("*.py")
    names = {".".join(path.relative_to(PROJECT).with_suffix("").parts) for path in files}
    modules = {name for name in names if "._" not in name}
    parts = HOOKS["list_modules"]()
    assert {name for own in parts.values() for name in own} - {"nsdldm"} == modules - {
        name for name in modules if name.endswith(".__init__")
    }
    for part, own in parts.items():
        page = (site / f"docs/api/{part}.html").read_text()
        assert not [name for name in own if f">{name}<" not in page], part


def test_pages_show_functions_with_their_parameters(site):
    page = (site / "docs/api/nsdldm.encoding.html").read_text()
    assert 'id="nsdldm.encoding.fits.fit_encoders"' in page
    assert "fit only every n-th voxel" in page.lower()
    assert "_plan_beside" not in page
    assert 'id="nsdldm.results.Subject.decode"' in (site / "docs/api/nsdldm.html").read_text()


def test_documents_figures_and_the_notebook_are_there(site):
    documents = [path.stem for path in (PROJECT / "docs").glob("*.md") if path.stem != "README"]
    assert not [name for name in documents if not (site / f"docs/{name}.html").is_file()]
    assert "First picture" in (site / "index.html").read_text()
    for name in ("fig3", "fig6", "own_figure"):
        assert (site / f"docs/images/{name}.png").stat().st_size > 10_000
    page = (site / "docs/notebooks/own_figure.html").read_text()
    assert 'src="../images/own_figure.png"' in page
    assert "predict_responses" in page
    assert (site / "docs/notebooks/own_figure.py").is_file()
    assert not list(site.rglob("hooks*"))


def test_pages_fetch_nothing(site):
    for path in site.rglob("*.html"):
        text = path.read_text()
        sources = re.findall(r"<(?:script|img)[^>]+src=\"([^\"]+)\"", text)
        sources += re.findall(r"<link[^>]+href=\"([^\"]+)\"", text)
        assert not [source for source in sources if re.match(r"(https?:)?//", source)], path


@pytest.fixture
def copied(tmp_path):
    """A project whose documentation can be changed."""
    for name in ("docs", "benchmarks"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "mkdocs.yml"):
        shutil.copy(PROJECT / name, tmp_path)
    return tmp_path


def test_a_link_to_nowhere_stops_the_build(copied):
    path = copied / "docs/runs.md"
    path.write_text(path.read_text() + "\n[a](nowhere.md), [b](config.md#nowhere)\n")
    result = build(copied, copied / "site")
    assert result.returncode != 0
    assert "'docs/runs.md' contains a link 'nowhere.md'" in result.stderr
    assert "does not contain an anchor '#nowhere'" in result.stderr


def test_a_page_that_the_menu_forgets_stops_the_build(copied):
    (copied / "docs/new.md").write_text("# New\n")
    result = build(copied, copied / "site")
    assert result.returncode != 0
    assert "docs/new.md" in result.stderr

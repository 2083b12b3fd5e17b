import os

import pytest

from nsdldm.support import provenance


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A script that imports a package's module, which imports another."""
    files = {
        "scripts/run.py": "from pkg.a import run\n\nrun()\n",
        "pkg/__init__.py": '"""Package."""\n',
        "pkg/a.py": "from pkg import b\n\n\ndef run():\n    return b.ONE\n",
        "pkg/b.py": '"""Docs."""\n\nONE = 1\n',
        "pkg/c.py": "TWO = 2\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(provenance, "PROJECT", tmp_path)
    return tmp_path


def digest():
    provenance.digest.cache_clear()
    provenance._read.cache_clear()
    return provenance.digest("scripts/run.py")


def test_reaches_modules_at_any_depth(project):
    names = [p.relative_to(project).as_posix() for p in provenance.reached_files("scripts/run.py")]
    assert names == ["pkg/__init__.py", "pkg/a.py", "pkg/b.py", "scripts/run.py"]


@pytest.mark.parametrize("name", ["scripts/run.py", "pkg/a.py", "pkg/b.py", "pkg/__init__.py"])
def test_changes_with_reached_code(project, name):
    before = digest()
    (project / name).write_text((project / name).read_text() + "\nNEW = 3\n")
    assert digest() != before


def test_ignores_words_times_and_other_modules(project):
    before = digest()
    (project / "pkg/b.py").write_text('"""Better docs."""\n\n# Why one.\nONE = 1\n')
    (project / "pkg/c.py").write_text("TWO = 3\n")
    os.utime(project / "pkg/a.py")
    assert digest() == before


def test_string_that_matters_counts(project):
    before = digest()
    (project / "pkg/b.py").write_text('ONE = "1"\n')
    assert digest() != before


def test_every_adapter_reaches_the_package():
    for script in (provenance.PROJECT / "workflow_scripts").glob("*.py"):
        reached = provenance.reached_files(script)
        assert any(path.parts[-2] != "workflow_scripts" for path in reached)


def test_a_function_is_its_module_and_a_library_nothing(project):
    provenance.digest.cache_clear()
    provenance._read.cache_clear()
    assert provenance.digest_function("pkg.a.run") == provenance.digest("pkg/a.py")
    assert provenance.digest_function("json.dumps") == ""


def test_a_file_counts_by_its_content(project):
    (project / "pkg/page.html").write_text("one")
    before = provenance.digest_file("pkg/page.html")
    os.utime(project / "pkg/page.html", (0, 0))
    assert provenance.digest_file("pkg/page.html") == before
    (project / "pkg/page.html").write_text("two")
    assert provenance.digest_file("pkg/page.html") != before

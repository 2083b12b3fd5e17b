import os
from pathlib import Path

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


MESSAGES = {
    "an error": 'def f(path, n):\n    if n > 3:\n        raise ValueError(f"{path}: WORDS")\n',
    "with a cause": 'def f(error):\n    raise ValueError("WORDS") from error\n',
    "a call that words an error": 'def f(path):\n    raise describe(path, "WORDS")\n',
    "a log line": 'def f(n):\n    logger.info("WORDS: %d", n)\n    return n\n',
    "a finding": 'def f(path):\n    return [Finding(path, "WORDS", f"{len(path)}", "Do")]\n',
    "what is read": 'def f(path):\n    with reading(path, "WORDS"):\n        return path.read()\n',
    "variables of a finding": (
        'def f(path, n):\n    expected, found = "WORDS", f"{n} rows"\n    more = "WORDS"\n'
        '    if n > 3:\n        found += f" and {more}"\n    remedy = "WORDS" if n else "Retry"\n'
        "    raise InputError(Finding(path, expected, found, remedy))\n"
    ),
}
RESULTS = {
    "a file's text": 'def f(path, n):\n    path.write_text(f"{n} WORDS")\n',
    "a file's name": 'def f(path):\n    name = "WORDS"\n    return path / name\n',
    "what an error and a file say": (
        'def f(path, n):\n    text = "WORDS"\n    if n:\n        raise ValueError(text)\n'
        "    path.write_text(text)\n"
    ),
    "what decides on an error": 'def f(n):\n    if n == "WORDS":\n        raise ValueError("No")\n',
    "which error": 'def f(n):\n    raise WORDS("No")\n',
    "what an error says may be read": 'def f(n):\n    return ValueError("WORDS")\n',
    "an option of reading": "def f(n):\n    with reading(n, 'a file', small=WORDS):\n        1\n",
    "a call beside a log line": 'def f(n):\n    found = n.find("WORDS")\n    logger.info(n)\n',
    "a constant": 'REMEDY = "WORDS"\n\n\ndef f(n):\n    raise ValueError(REMEDY)\n',
    "another object's log": 'def f(n):\n    n.log.info("WORDS")\n',
    "a variable of another function": (
        'def f(n):\n    text = 1\n\n    def say():\n        nonlocal text\n        text = "WORDS"\n'
        "        raise ValueError(text)\n\n    n(say)\n    return text\n"
    ),
}


def reworded(project, text):
    """Whether other words in a module make another digest."""
    digests = set()
    for words in ("one", "two"):
        (project / "pkg/b.py").write_text("ONE = 1\n" + text.replace("WORDS", words))
        digests.add(digest())
    return len(digests) == 2


@pytest.mark.parametrize("kind", MESSAGES)
def test_what_only_words_a_message_does_not_count(project, kind):
    assert not reworded(project, MESSAGES[kind])


@pytest.mark.parametrize("kind", RESULTS)
def test_everything_else_counts(project, kind):
    assert reworded(project, RESULTS[kind])


def test_a_new_docstring_does_not_count(project):
    before = digest()
    text = (project / "pkg/a.py").read_text()
    (project / "pkg/a.py").write_text(text.replace("run():\n", 'run():\n    """Run it."""\n'))
    assert digest() == before


def test_type_hints_do_not_count(project):
    """Neither do they, nor does what is imported for them alone."""
    before = digest()
    (project / "pkg/a.py").write_text(
        "from __future__ import annotations\n\nfrom pkg import b\n\nif TYPE_CHECKING:\n"
        "    from pkg import c\n\n\ndef run() -> c.Two:\n    return b.ONE\n"
    )
    assert digest() == before
    (project / "pkg/c.py").write_text("TWO = 3\n")
    assert digest() == before


def test_the_module_of_errors_only_words(project):
    """Who calls it still counts; it is found under its name."""
    (project / "nsdldm/support").mkdir(parents=True)
    errors = project / provenance.WORDS
    errors.write_text("SAYINGS = 1\n")
    (project / "pkg/b.py").write_text("from nsdldm.support.errors import SAYINGS\n\nONE = 1\n")
    before = digest()
    errors.write_text("SAYINGS = 2\n")
    assert digest() == before
    assert errors in provenance.reached_files("scripts/run.py")
    assert (Path(provenance.__file__).parents[2] / provenance.WORDS).is_file()


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

"""Identify the code behind a result by its content.

Snakemake compares the modification time of a rule's script, which changes with every checkout,
and never looks at what the script imports. The digest below goes into the params of every rule
instead: it changes exactly when code that the rule can reach changes its meaning. Standard
library only, since the Snakefile imports it.
"""

import ast
from functools import cache
from hashlib import sha256
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def _without_docstrings(tree):
    """Drop docstrings, so that better documentation reruns nothing."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or not body or not isinstance(body[0], ast.Expr):
            continue
        if isinstance(getattr(body[0], "value", None), ast.Constant):
            body[0].value = ast.Constant(None)
    return tree


def _imported_names(tree):
    """Dotted names that a module imports at any depth; parents are part of an import."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {
        ".".join(name.split(".")[:depth])
        for name in names
        for depth in range(1, name.count(".") + 2)
    }


def _module_file(name):
    """The project's file of a dotted name, or None for a library or an attribute."""
    stem = PROJECT.joinpath(*name.split("."))
    candidates = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


@cache
def _read(path):
    """What a file says, as text, and the project's files it imports; read once for all scripts."""
    tree = _without_docstrings(ast.parse(path.read_text(encoding="utf-8")))
    imported = map(_module_file, _imported_names(tree))
    return ast.dump(tree), [file for file in imported if file]


def reached_files(script):
    """List the project's files that running a script can execute.

    Parameters
    ----------
    script : str or Path
        Relative to the project's folder. Relative imports and `importlib` are not followed; the
        linter forbids the former.

    Returns
    -------
    list of Path
        The script and every first-party module it imports, directly or not, sorted.
    """
    reached, waiting = set(), [PROJECT / script]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        waiting.extend(_read(path)[1])
    return sorted(reached)


@cache
def digest(script):
    """Hash what a script and all the first-party modules it reaches say.

    Comments, docstrings, formatting and modification times do not count.

    Parameters
    ----------
    script : str
        Path relative to the project's folder.

    Returns
    -------
    str
        Twelve hexadecimal digits.
    """
    text = sha256()
    for path in reached_files(script):
        text.update(path.relative_to(PROJECT).as_posix().encode())
        text.update(_read(path)[0].encode())
    return text.hexdigest()[:12]


def digest_file(path):
    """Hash a file that code reads, such as a template.

    Parameters
    ----------
    path : str
        Relative to the project's folder.

    Returns
    -------
    str
        As `digest`.
    """
    return sha256((PROJECT / path).read_bytes()).hexdigest()[:12]


def digest_function(name):
    """Hash what a function's module and all the first-party modules it reaches say.

    Parameters
    ----------
    name : str
        Dotted name of a function.

    Returns
    -------
    str
        As `digest`; empty for a function of a library, whose version the environment pins.
    """
    path = _module_file(name.rpartition(".")[0])
    return digest(path.relative_to(PROJECT).as_posix()) if path else ""

"""Identify the code behind a result by its content.

Snakemake compares the modification time of a rule's script, which changes with every checkout,
and never looks at what the script imports. Every rule therefore has the digest below among its
params: it changes exactly when code that the rule can reach changes its meaning. Type hints of
functions mean nothing, and neither does the wording of messages: the arguments of `raise`, of
logging calls and of `Finding`, and texts in variables that nothing else reads. Standard library
only, since the Snakefile imports this module.
"""

from __future__ import annotations

import ast
from functools import cache
from hashlib import sha256
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
LOGGERS = {"logger", "logging", "root"}
LOGGING = {"debug", "info", "warning", "error", "exception", "critical", "log"}
# Functions that only word errors, and those of their arguments that do more.
WORDING = {"Finding": (), "reading": ("small",)}
# This module only words what is wrong with a file.
WORDS = "nsdldm/support/errors.py"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)


def _drop_docstrings(nodes):
    """Drop docstrings, so that better documentation reruns nothing."""
    for node in nodes:
        body = getattr(node, "body", None)
        if not isinstance(body, list) or not body or not isinstance(body[0], ast.Expr):
            continue
        if isinstance(getattr(body[0], "value", None), ast.Constant):
            del body[0]


class _DropHints(ast.NodeTransformer):
    """Drop type hints of functions, and what is imported for them alone."""

    def visit_ImportFrom(self, node):
        return None if node.module == "__future__" else node

    def visit_If(self, node):
        self.generic_visit(node)
        hints = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return node.orelse if hints else node

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_arg(self, node):
        node.annotation = None
        return node


def _worded(node):
    """The call in a node that only words a message, or None."""
    match node:
        case ast.Raise(exc=ast.Call() as call):
            return call
        case ast.Call(func=ast.Name(id=name)) if name in WORDING:
            return node
        case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=name)):
            return node if owner in LOGGERS and name in LOGGING else None
    return None


def _drop_words(tree, nodes):
    """Drop what only words messages, so that a better message reruns nothing."""
    # The module itself comes last, and only its calls: others may read its variables.
    for scope in [*(node for node in nodes if isinstance(node, FUNCTIONS)), tree]:
        inside = nodes if scope is tree else list(ast.walk(scope))
        calls = [call for call in map(_worded, inside) if call]
        before = _read_names(inside) if calls and scope is not tree else set()
        for call in calls:
            more = WORDING.get(getattr(call.func, "id", None), ())
            call.args = []
            call.keywords = [keyword for keyword in call.keywords if keyword.arg in more]
        # A dropped text may have been the only one that read another.
        while before and _drop_texts(scope, before - _read_names(ast.walk(scope))):
            pass


def _read_names(nodes):
    """Names of variables that are read in some nodes, or belong to another function."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            names.update(node.names)
    return names


def _drop_texts(function, names):
    """Drop texts, but not calls, in what a function assigns to these names and no others."""
    dropped = False
    for node in ast.walk(function):
        if not isinstance(node, ASSIGNMENTS) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        written = [name for target in targets for name in _written_names(target)]
        if set(written) <= names:
            before = ast.dump(node.value)
            node.value = _DropTexts().visit(node.value)
            dropped |= ast.dump(node.value) != before
    return dropped


def _written_names(target):
    """Names of an assignment's target; None stands for anything but plain variables."""
    if isinstance(target, ast.Tuple):
        return [name for each in target.elts for name in _written_names(each)]
    return [target.id if isinstance(target, ast.Name) else None]


class _DropTexts(ast.NodeTransformer):
    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node):
        return ast.Constant("")


def _imported_names(nodes):
    """Dotted names that a module imports at any depth; parents are part of an import."""
    names = set()
    for node in nodes:
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
    """Hash of a file's meaning, and the project's files it imports; read once for all scripts."""
    tree = _DropHints().visit(ast.parse(path.read_text(encoding="utf-8")))
    nodes = list(ast.walk(tree))
    imported = map(_module_file, _imported_names(nodes))
    _drop_docstrings(nodes)
    _drop_words(tree, nodes)
    text = "" if path == PROJECT / WORDS else ast.dump(tree)
    return sha256(text.encode()).digest(), [file for file in imported if file]


def reached_files(script: Path | str) -> list[Path]:
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
def digest(script: str) -> str:
    """Hash the meaning of a script and of all first-party modules that it reaches.

    Comments, docstrings, type hints, formatting, modification times and messages do not count.

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
        text.update(_read(path)[0])
    return text.hexdigest()[:12]


def digest_file(path: str) -> str:
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


def digest_function(name: str) -> str:
    """Hash the meaning of a function's module and of all first-party modules that it reaches.

    Parameters
    ----------
    name : str
        Dotted name of a function.

    Returns
    -------
    str
        As `digest`; empty for a library function, whose version the environment pins.
    """
    path = _module_file(name.rpartition(".")[0])
    return digest(path.relative_to(PROJECT).as_posix()) if path else ""

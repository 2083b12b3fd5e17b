"""How the package is built: which folder imports which."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
# Each may import those before it; those of one line, one another in one direction.
ORDER = (
    ("support",),
    ("nsd",),
    ("laion", "arrays"),
    ("splits",),
    ("diffusion",),
    ("generators",),
    ("features",),
    ("responses", "ridge", "stats", "intervals", "prevalence"),
    ("decoding", "encoding"),
    ("trained",),
    ("evaluation",),
    ("plots", "exports"),
    ("results",),
)
RANKS = {name: rank for rank, names in enumerate(ORDER) for name in names}
# Beside them: nothing but workflow/ knows the demo.
DEMO_IMPORTS = {"support", "nsd", "laion", "diffusion", "responses"}


def imported(path):
    """Dotted names that a file imports at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, path
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def read_imports():
    """What every file of the package imports, by its path from there."""
    root = PROJECT / "nsdldm"
    return {path.relative_to(root): set(imported(path)) for path in root.rglob("*.py")}


IMPORTS = read_imports()


def parts_imported(part):
    """Folders, or modules beside them, that those of a folder import."""
    return {
        name.split(".")[1]
        for path, names in IMPORTS.items()
        if path.with_suffix("").parts[0] == part
        for name in names
        if name.startswith("nsdldm.")
    } - {part, "__version__"}


PARTS = sorted({path.with_suffix("").parts[0] for path in IMPORTS} - {"__init__"})


def test_every_folder_has_its_place():
    assert {*PARTS} - {*RANKS} == {"demo", "workflow"}


@pytest.mark.parametrize("part", sorted({*PARTS} & {*RANKS}))
def test_nothing_imports_what_is_above_it(part):
    above = {name for name in parts_imported(part) if RANKS.get(name, 99) > RANKS[part]}
    assert not above


def test_the_demo_stands_beside():
    assert parts_imported("demo") <= DEMO_IMPORTS


def test_there_are_no_circles_of_folders():
    graph = {part: parts_imported(part) for part in PARTS}
    while graph:
        last = {part for part, needed in graph.items() if not needed & {*graph}}
        assert last, graph
        graph = {part: needed for part, needed in graph.items() if part not in last}


def test_only_the_workflow_knows_snakemake():
    for path, names in IMPORTS.items():
        if path.parts[0] != "workflow":
            roots = {".".join(name.split(".")[:2]) for name in names} | {
                name.split(".")[0] for name in names
            }
            assert not roots & {"snakemake", "nsdldm.workflow"}, path


FOLDERS = sorted(path.parent.name for path in (PROJECT / "nsdldm").glob("*/__init__.py"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_name_their_modules_and_import_none(folder):
    path = PROJECT / "nsdldm" / folder
    modules = {file.stem for file in path.glob("*.py")} | {
        file.parent.name for file in path.glob("*/__init__.py")
    }
    assert {*import_module(f"nsdldm.{folder}").__all__} == modules - {"__init__"}
    names = IMPORTS[Path(folder) / "__init__.py"]
    assert not any(name.startswith("nsdldm") for name in names)


def list_functions():
    """Every function of the package: its file, itself."""
    for path in sorted((PROJECT / "nsdldm").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield path.relative_to(PROJECT / "nsdldm").as_posix(), node


def test_public_functions_take_at_most_twelve_arguments():
    for path, node in list_functions():
        n = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs)
        if not node.name.startswith("_"):
            assert n <= 12, f"{path}: {node.name} takes {n}"


def list_public(body, inside=""):
    """Public functions of a module, and public methods of its public classes."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if isinstance(node, ast.ClassDef):
            yield from list_public(node.body, f"{node.name}.")
        else:
            yield inside + node.name, node


@pytest.mark.parametrize("path", sorted(IMPORTS), ids=str)
def test_public_functions_have_type_hints(path):
    tree = ast.parse((PROJECT / "nsdldm" / path).read_text())
    for name, node in list_public(tree.body):
        taken = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        taken += [each for each in (node.args.vararg, node.args.kwarg) if each]
        plain = [each.arg for each in taken if not each.annotation and each.arg != "self"]
        assert not plain, f"{name} does not say what {', '.join(plain)} are"
        assert node.returns, f"{name} does not say what it returns"


def test_functions_are_at_most_fifty_lines():
    """Without signature and docstring, which say what a function does rather than do it."""
    for path, node in list_functions():
        body = node.body[1:] if ast.get_docstring(node) and node.body[1:] else node.body
        n = node.end_lineno - body[0].lineno + 1
        assert n <= 50, f"{path}: {node.name} has {n}"

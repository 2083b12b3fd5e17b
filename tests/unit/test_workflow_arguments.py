"""Functions name their own arguments; a user of the workflow reads settings."""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from nsdldm.support.errors import CALLED, Finding, write_arguments
from nsdldm.support.provenance import reached_files
from nsdldm.workflow.arguments import ADAPTERS, FUNCTIONS, find_keys, name_keys, tell_jobs
from nsdldm.workflow.sentences import find_schema

PROJECT = Path(__file__).resolve().parents[2]
SECTIONS = {name for name, part in find_schema()["properties"].items() if "properties" in part}
# What is called the same by both.
ALIKE = {"rois", "min_ncsnr"}
# What some rules set themselves.
FIXED = {"n_images", "method", "text"}
ARGUMENT = re.compile(r"`(\w+)`")


def list_settings(part=None, prefix=""):
    part = find_schema() if part is None else part
    for name, own in part.get("properties", {}).items():
        yield f"{prefix}{name}"
        yield from list_settings(own, f"{prefix}{name}.")


SETTINGS = set(list_settings())


def find_function(name):
    module, _, function = name.rpartition(".")
    return getattr(import_module(module), function)


def list_arguments(function):
    """Arguments of a function, and what settings objects that it takes hold."""
    return set(inspect.signature(function).parameters)


def entry_functions(adapter):
    """Functions and settings objects of the package that an adapter imports to hand them on."""
    tree = ast.parse((PROJECT / f"workflow_scripts/{adapter}.py").read_text())
    return [
        find_function(f"{node.module}.{alias.name}")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("nsdldm.")
        for alias in node.names
        if alias.name not in ("logged", "run_on_all_gpus") and not alias.name.isupper()
    ]


def texts(path):
    """Texts of a module that are no docstrings."""
    tree = ast.parse(path.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(getattr(node, "body", None), list)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


PACKAGE = sorted(
    path
    for path in (PROJECT / "nsdldm").rglob("*.py")
    if "workflow" not in path.relative_to(PROJECT / "nsdldm").parts
)
# These write the name of an argument, which of theirs says.
HANDED_ON = {"check_choice": 0, "latent_shape": 2}


def named_arguments(path):
    """Arguments that messages of a module name."""
    yield from (name for text in texts(path) for name in ARGUMENT.findall(text))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in HANDED_ON:
            yield from (own.value for own in node.args[HANDED_ON[node.func.id] :][:1])


NAMED = {path: set(named_arguments(path)) for path in PACKAGE}


def test_every_key_is_a_setting():
    for own in (*FUNCTIONS.values(), *ADAPTERS.values()):
        assert set(own.values()) <= SETTINGS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_one_of_the_function(name):
    assert set(FUNCTIONS[name]) <= list_arguments(find_function(name))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_argument_is_one_of_what_the_adapter_calls(adapter):
    known = set().union(*map(list_arguments, entry_functions(adapter)))
    # Those that any job may name can have another setting here.
    assert set(ADAPTERS[adapter]) <= known | set(find_keys())


def test_arguments_of_several_functions_are_one_setting():
    found = {}
    for own in FUNCTIONS.values():
        for argument, key in own.items():
            assert found.setdefault(argument, key) == key


def rules():
    """Text of every rule's params with its adapter; rules that inherit have their base's."""
    adapters, texts_of = {}, []
    for path in sorted((PROJECT / "rules").glob("*.smk")):
        for rule in re.split(r"\n\s*(?=(?:use )?rule[ :])", path.read_text())[1:]:
            found = re.match(r"(?:use rule (\w+) as|rule) (\w+)", rule)
            looped = re.search(r'name:\s+f"(\w+)_\{', rule)
            base, name = found.groups() if found else (None, looped.group(1))
            script = re.search(r'"\.\./workflow_scripts/(\w+)\.py"\s*$', rule.rstrip(), re.M)
            adapters[name] = script.group(1) if script else base
            texts_of.append((name, rule))
    for name, rule in texts_of:
        adapter = adapters[name]
        while adapter in adapters and adapters[adapter] != adapter:
            adapter = adapters[adapter]
        yield adapter, rule


def test_rules_give_arguments_the_settings_of_the_table():
    """What they look up is what is told."""
    n = 0
    for adapter, rule in rules():
        found = re.findall(r'(\w+)=lookup\("([\w/]+)", within=config\)', rule)
        for section, keys in re.findall(r'choose\(\s*(?:\*\()?"(\w+)",([^)]*)\)', rule):
            found += [(key, f"{section}/{key}") for key in re.findall(r'"(\w+)"', keys)]
        for argument, path in found:
            if argument in find_keys(adapter):
                n += 1
                assert find_keys(adapter)[argument] == path.replace("/", "."), (adapter, argument)
    assert n > 15


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(PROJECT)))
def test_the_package_names_no_settings(path):
    keys = sorted(name for name in SETTINGS if "." in name and name not in ("model.safetensors",))
    keys += [f"{name}.{{" for name in SECTIONS] + ["feature_spaces", "overrides."]
    for text in texts(path):
        found = [key for key in keys if re.search(rf"(?<![\w./-]){re.escape(key)}(?!\w)", text)]
        assert not found, text


@pytest.mark.parametrize(
    "adapter", sorted(path.stem for path in (PROJECT / "workflow_scripts").glob("*.py"))
)
def test_every_argument_that_a_message_may_name_is_in_the_table(adapter):
    called = set().union(*map(list_arguments, entry_functions(adapter)), set())
    named = set().union(
        *(NAMED.get(path, set()) for path in reached_files(f"workflow_scripts/{adapter}.py"))
    )
    missing = (named & called) - set(find_keys(adapter)) - ALIKE - FIXED
    assert not missing


def test_no_other_names_are_in_backticks():
    known = set().union(*(find_keys(adapter) for adapter in ADAPTERS), ALIKE)
    known |= {name for path in PACKAGE for name in _parameters(path)}
    for path, names in NAMED.items():
        assert names <= known, path


def _parameters(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            own = node.args
            yield from (each.arg for each in (*own.posonlyargs, *own.args, *own.kwonlyargs))


def test_messages_in_the_words_of_the_reader():
    text = "`blocks`.mid: set `dtype` to float32, or `other`"
    names = {"blocks": "trajectories.blocks", "dtype": "model.dtype"}
    expected = "trajectories.blocks.mid: set model.dtype to float32, or other"
    assert write_arguments(text, names) == expected
    finding = Finding("`path` x", "a folder", "none", "Correct `path`, or set `revision`")
    (named,) = name_keys([finding])
    assert named.where == "model.path x"
    assert named.remedy == "Correct model.path, or set model.revision"


CODE = """
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.logs import logged
with logged("job.log"):
    raise InputError(Finding("`{argument}`", "another", "this", "Correct `{argument}`"))
"""


@pytest.mark.parametrize(
    ("adapter", "argument", "key"),
    [
        ("fit_decoders", "n_folds", "decoding.n_folds"),
        ("fit_encoders", "n_folds", "encoding.n_folds"),
        ("reconstruct_trained", "resolution", "model.resolution"),
        ("reconstruct_images", "resolution", "reconstruction.resolution"),
        ("average_pictures", "device", "model.device"),
        ("average_pictures", "rois", "rois"),
    ],
)
def test_a_job_says_keys(adapter, argument, key, tmp_path, monkeypatch):
    """Snakemake runs a copy of the script under such a name."""
    monkeypatch.setenv(CALLED, "")
    tell_jobs()
    assert key in SETTINGS
    script = tmp_path / f"tmpab12_x.{adapter}.py"
    script.write_text(CODE.format(argument=argument))
    env = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, script]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert run.returncode == 1
    message = f" {key}: expected another, found this. Correct {key}.\n"
    assert run.stderr.endswith(message)
    assert (tmp_path / "job.log").read_text().endswith(message)


def test_whoever_runs_a_script_otherwise_reads_arguments(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(CODE.format(argument="n_folds"))
    env = {k: v for k, v in os.environ.items() if k != CALLED} | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, script]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert run.stderr.endswith(" n_folds: expected another, found this. Correct n_folds.\n")


def test_what_jobs_are_told_is_small(monkeypatch):
    """It is in the environment of every process."""
    monkeypatch.setenv(CALLED, "")
    tell_jobs()
    assert len(os.environ[CALLED]) < 10_000
    assert json.loads(os.environ[CALLED])["fit_encoders"]["weights"] == "encoding.weights"

"""Every command that is shown anywhere can be given.

Commands are found in documents (blocks, and `spans` of text), in comments of configuration files,
and in the Makefile. Snakemake is run dry on a tiny configuration; of other programs the options are
looked up in their `--help`. What neither is done with is listed here, with the reason.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from conftest import COPIED, PROJECT, write_config
from forked import find_python

DOCUMENTS = ["README.md", *sorted(f"docs/{path.name}" for path in PROJECT.glob("docs/*.md"))]
DOCUMENTS += ["benchmarks/README.md", "resources/demo_model/README.md"]
COMMENTED = ["config.yaml", "config.nsd.yaml", "Containerfile", "envs/requirements.txt"]
COMMENTED += ["profiles/default/config.yaml", "profiles/slurm/config.yaml"]
DOCSTRINGS = ["envs/lock.py", "nsdldm/trained/sizes.py", "nsdldm/demo/training/__main__.py"]
DOCSTRINGS += ["tests/faults/kill_runs.py", "rules/show_plan.py"]

PROGRAMS = {"snakemake", "make", "python", "python3.11", "pip", "pytest", "hf", "export"}
PROGRAMS |= {
    "aws",
    "podman",
    "squeue",
    "scancel",
    "sacct",
    "scontrol",
    "sinfo",
    "conda",
    "docker",
    "find",
}
# Blocks of documents that are neither commands nor YAML nor Python, by how they begin.
NO_COMMANDS = {
    "betas ─► prepare_responses": "a diagram",
    "module nsdldm": "a workflow; test_module.py",
    "Slurm would never run these jobs": "what is printed; test_plans.py",
}
# What is not run at all, by how it begins, and why.
SKIPPED = {
    "aws": "copies a data set from a bucket",
    "python docs/numbers/write.py": "needs a finished demo; test_docs_numbers.py",
    "python docs/examples/own_dataset.py": "test_own_dataset.py",
    "python -c": "an import",
    ". .venv/bin/activate": "changes the shell that it is given in",
    "squeue": "asks a cluster; tests/slurm",
    "scontrol": "asks a cluster; tests/slurm",
    "find results/": "changes times; test_workfolder.py",
    "podman": "needs a container engine, which builds for minutes",
    "snakemake --lint": "test_lint.py",
    "snakemake --report": "needs a finished run; test_end_to_end.py",
    "python -m bad_input": "takes no options; test_hostile_messages.py compares what it writes",
    "python -m nsdldm.workflow.config_docs": "takes no options; test_workflow_settings.py does so",
    "python envs/write_conda.py": "takes no options; test_envs.py compares what it writes",
}
# Recipes of the Makefile beside snakemake and python, which are looked at like all commands.
AIDS = {"echo", "ls", "sed", "rm", "touch", "which", "make"}


def blocks(text):
    """Indented and fenced blocks of a document, as lists of lines."""
    found, block, fence = [], [], False
    for line in [*text.splitlines(), ""]:
        if line.lstrip().startswith("```"):
            fence = not fence
            found, block = [*found, block], []
        elif fence or (line.startswith("    ") and line.strip()):
            block.append(line)
        else:
            found, block = [*found, block], []
    return [block for block in found if block]


def dedent(block):
    """A block without its common indentation; lines that go on are joined."""
    indent = min(len(line) - len(line.lstrip()) for line in block)
    text = "\n".join(line[indent:] for line in block)
    return re.sub(r"\\\n *", "", text)


def is_data(text):
    """Whether a block is a mapping in YAML, or Python."""
    try:
        if isinstance(yaml.safe_load(text), dict):
            return True
    except yaml.YAMLError:
        pass
    try:
        return bool(ast.parse(text).body)
    except SyntaxError:
        return False


def first_word(command):
    """The program of a command: without its folder, what measures it, and settings before it."""
    words = command.split()
    while words and re.match(r"\w+=|/usr/bin/time$|-v$|sudo$|\{$|\}$", words[0]):
        del words[0]
    return Path(words[0]).name if words else ""


def spans(text):
    """Commands of at least two words in `spans` of text, wherever these break."""
    found = (" ".join(span.split()) for span in re.findall(r"``?([^`]+)``?", text))
    return [span for span in found if first_word(span) in PROGRAMS and " " in span]


def comments(text):
    """Lines of comments that are commands, and spans in them."""
    lines = [line.partition("#")[2] for line in text.splitlines()]
    whole = [line.strip() for line in lines if re.match(" {2,}", line)]
    return [line for line in whole if first_word(line) in PROGRAMS] + spans("\n".join(lines))


@cache
def recipe(command):
    """Lines that a make command would run."""
    make, *rest = shlex.split(bare(command))
    dry = [make, "--dry-run", "--old-file", ".venv/installed", *rest]
    # Not as part of the make that runs this.
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    result = subprocess.run(dry, cwd=PROJECT, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = re.sub(r"\\\n\s*", "", result.stdout).splitlines()
    return [line for line in lines if not re.match(r"make(\[\d\])?: ", line)]


def makes(shown):
    """Commands of make: for every target, and those that are shown."""
    makefile = (PROJECT / "Makefile").read_text()
    names = re.search(r"^\.PHONY: (.*)", makefile, re.MULTILINE).group(1).split()
    return [f"make {name}" for name in names] + [c for c in shown if first_word(c) == "make"]


def bare(command):
    """A command without settings before it and without its program's folder."""
    return command[command.index(first_word(command)) :]


def collect():
    """All commands, and blocks that may be some but are not known to be."""
    found, unknown = set(), []
    for name in DOCUMENTS:
        text = (PROJECT / name).read_text()
        for block in map(dedent, blocks(text)):
            if first_word(block) in PROGRAMS:
                found |= {line for line in block.splitlines() if line.strip()}
            elif not is_data(block) and not block.lstrip().startswith(tuple(NO_COMMANDS)):
                unknown.append(f"{name}: {block}")
        inside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        found |= set(spans(re.sub(r"^ {4}.*", "", inside, flags=re.MULTILINE)))
    for name in COMMENTED:
        found |= set(comments((PROJECT / name).read_text()))
    for name in DOCSTRINGS:
        text = ast.get_docstring(ast.parse((PROJECT / name).read_text()))
        found |= set(spans(text)) | set(comments(re.sub("^ {4}", "#   ", text, flags=re.M)))
    found |= set(re.findall("^make .*", (PROJECT / ".ci/run").read_text(), re.MULTILINE))
    found = {re.sub(r"\s+#.*", "", each).strip() for each in found}
    for command in makes(found):
        found |= {line.strip() for line in recipe(command) if first_word(line) in PROGRAMS}
    return sorted({same(command): command for command in sorted(found)}.values()), unknown


def same(command):
    """What of a command makes a difference here."""
    return re.sub(r"--cores \S+ ?", "", bare(command)).strip()


COMMANDS, UNKNOWN = collect()


def reason_to_skip(command):
    """Why a command is not run here, or None."""
    return next((why for start, why in SKIPPED.items() if same(command).startswith(start)), None)


def test_every_block_is_known():
    assert not UNKNOWN, f"neither a known command nor listed in NO_COMMANDS: {UNKNOWN}"
    assert len(COMMANDS) > 40


def test_nothing_is_listed_that_is_not_shown():
    shown = "\n".join(f"\n{same(command)}" for command in COMMANDS)
    assert [start for start in SKIPPED if f"\n{start}" not in shown] == []
    text = "\n".join((PROJECT / name).read_text() for name in DOCUMENTS)
    assert [start for start in NO_COMMANDS if start not in text] == []


def test_recipes_hold_nothing_unknown():
    """What make runs beside commands that are looked at below."""
    for command in makes(COMMANDS):
        for line in recipe(command):
            programs = {first_word(part) for part in re.split(r"\|\|?|;|&&", line)} - {""}
            known = PROGRAMS | AIDS | {"ruff", "snakefmt", "mkdocs", "apt-get"}
            assert programs <= known, (command, line)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The project with tiny configurations in place of its own."""
    folder = tmp_path_factory.mktemp("commands")
    for name in (*COPIED, "tests", "benchmarks", "resources"):
        source = PROJECT / name
        if name in ("tests", "benchmarks", "resources"):
            (folder / name).symlink_to(source)
        else:
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    # The same environment, whose Snakemake has been imported already.
    (folder / ".venv/bin").mkdir(parents=True)
    for path in [*Path(sys.prefix).iterdir(), *Path(sys.prefix, "bin").iterdir()]:
        if path.name not in ("bin", "snakemake"):
            (folder / ".venv" / path.relative_to(sys.prefix)).symlink_to(path)
    snakemake = folder / ".venv/bin/snakemake"
    snakemake.write_text(f'#!/bin/sh\nexec {find_python()} -m snakemake "$@"\n')
    snakemake.chmod(0o700)
    return folder


def run(command, folder):
    """What a command prints, which has to succeed."""
    # Commands run in a process that has looked for plugins already; tests/workflow/test_calm.py.
    command = command.replace("--logger calm ", "")
    path = f"{folder}/.venv/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, f"{command}\n{(result.stdout + result.stderr)[-3000:]}"
    return result.stdout + result.stderr


@cache
def read_help(command, folder):
    """What a program says of its options."""
    return run(command, folder)


def check_options(command, help_command, folder):
    """Look up a command's options in its help."""
    options = [word.partition("=")[0] for word in shlex.split(command) if word.startswith("-")]
    text = read_help(help_command, folder)
    for option in options:
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), f"no {option} in {help_command}"


def check_snakemake(command, folder, tiny_demo):
    """Run it dry."""
    spaces = tiny_demo["feature_spaces"] | EXAMPLE_SPACE
    write_config(folder, **tiny_demo | {"feature_spaces": spaces})
    for name in ("nsd", "fast", "beyond", "generalisation"):
        (folder / f"config.{name}.yaml").write_text("denoising: {num_inference_steps: 4}\n")
    shutil.copy(PROJECT / "config.layers.yaml", folder)
    text = run(re.sub(r"\bsnakemake\b", "snakemake --dry-run", command, count=1), folder)
    assert "Traceback" not in text


def check_python(command, folder, tiny_demo):
    """Hold its options against what the script's help says."""
    words = [word for word in shlex.split(bare(command))[1:] if word != "-B"]
    module = words[0] == "-m"
    script = " ".join(words[: 1 + module])
    if script == "rules/show_plan.py":
        write_config(folder, **tiny_demo)
        return run(command, folder)
    if script in ("-m pytest", "-m pip"):
        return CHECKS[words[1]](" ".join(map(shlex.quote, words[1:])), folder, tiny_demo)
    rest = " ".join(map(shlex.quote, words[1 + module :]))
    settings = re.match(r"(\w+=\S+ )*", command).group()
    return check_options(rest, f"{settings}python {script} --help", folder)


def check_pytest(command, folder, tiny_demo):
    """Its paths and marks are there; to collect all tests takes too long."""
    words = shlex.split(command)[1:]
    known = run("python -m pytest --markers", PROJECT).splitlines()
    for i, word in enumerate(words):
        if i and words[i - 1] == "-m":
            assert any(line.startswith(f"@pytest.mark.{word.split()[-1]}:") for line in known)
        elif i and words[i - 1] == "-p":
            assert word == "no:cacheprovider"
        elif not word.startswith("-"):
            assert (PROJECT / word).exists(), word


def check_help(command, folder, tiny_demo):
    """Subcommands of `pip` and `hf`."""
    program, subcommand, *rest = shlex.split(bare(command))
    if subcommand in ("download", "install"):
        check_options(" ".join(rest), f"{program} {subcommand} --help", folder)
    else:
        pytest.fail(f"nobody looks at {program} {subcommand}")


def check_make(command, folder, tiny_demo):
    """What it would run is looked at by itself."""
    assert recipe(command) or "installed" in command


def check_export(command, folder, tiny_demo):
    run(command, folder)


CHECKS = {
    "snakemake": check_snakemake,
    "python": check_python,
    "python3.11": check_python,
    "pytest": check_pytest,
    "pip": check_help,
    "hf": check_help,
    "make": check_make,
    "export": check_export,
}
EXAMPLE_SPACE = {
    "clip-image": {
        "function": "nsdldm.features.pictures.embed_pictures",
        "settings": {
            "network": "demo-clip",
            "layer": "image_embeds",
            "weights": "resources/demo_model",
        },
    }
}


def test_a_target_that_is_read_as_a_configuration_is_noticed(folder, tiny_demo):
    """`--configfile` takes all that follows."""
    with pytest.raises(AssertionError, match="fig6"):
        check_snakemake(
            "snakemake --configfile config.nsd.yaml results/figures/fig6.png", folder, tiny_demo
        )


@pytest.mark.parametrize("command", [c for c in COMMANDS if not reason_to_skip(c)])
def test_command(command, folder, tiny_demo):
    CHECKS[first_word(command)](command, folder, tiny_demo)

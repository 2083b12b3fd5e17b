"""Style of rules and code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]

CHECKS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "snakefmt": ["snakefmt", "--check", "Snakefile", "rules"],
    "snakemake lint": ["snakemake", "--lint"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_clean(name):
    tool, *arguments = CHECKS[name]
    command = [str(Path(sys.executable).parent / tool), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert result.returncode == 0, result.stdout + result.stderr


# A rule that a loop writes several times is called by its adapter and what it is written for.
LOOPS = {
    "make_masks": ("matrices", "regions"),
    "gather_features": ("levels", "variants", "controls"),
    "score_encoders": ("features", "added"),
    "partition_variance": ("levels", "steps", "controls", "variants"),
    "publish_figure": ("fig3", "fig6", "fig7", "fig8", "fig9"),
}


def split_rules():
    """Name of the rule inherited from, name and text of each rule."""
    for path in set((PROJECT / "rules").glob("*.smk")) - {PROJECT / "rules/targets.smk"}:
        for rule in re.split(r"\n\s*(?=(?:use )?rule[ :])", path.read_text())[1:]:
            found = re.match(r"(?:use rule (\w+) as|rule) (\w+)", rule)
            looped = re.search(r'name:\s+f"(\w+)_\{\w+\}"', rule)
            yield *(found.groups() if found else (None, looped.group(1))), rule


def test_rules_adapters_logs_and_benchmarks_share_one_name():
    named = set()
    for base, name, rule in split_rules():
        if base is None:
            named.add(name)
            assert f'"../workflow_scripts/{name}.py"' in rule
            assert f'digest("workflow_scripts/{name}.py")' in rule
        assert re.search(rf'"logs/[^"]*{name}[^"]*\.log"', rule), name
        for stem in re.findall(r'"benchmarks/[^"]*/(\w+)[^"]*\.tsv"', rule):
            assert stem == name
    assert named == {path.stem for path in (PROJECT / "workflow_scripts").glob("*.py")}


def test_adapters_and_snakefile_are_small():
    for path in (PROJECT / "workflow_scripts").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 24, path.name
        code = [line for line in path.read_text().splitlines() if line.strip()]
        assert len(code) <= 22, path.name
    assert len((PROJECT / "Snakefile").read_text().splitlines()) <= 80


def test_functions_are_short():
    """Without signature and docstring, which say what a function does rather than do it."""
    import ast

    for path in (PROJECT / "nsdldm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) and node.body[1:] else node.body
                lines = node.end_lineno - body[0].lineno + 1
                assert lines <= 45, f"{path.name}: {node.name} has {lines} lines"


def test_snakefile_parses_without_heavy_imports():
    """Every job and every dry run pays for what the Snakefile imports."""
    code = (
        "import sys, nsdldm.nsd.layout, nsdldm.workflow.preflight, "
        "nsdldm.support.provenance, nsdldm.workflow.settings; "
        "print([m for m in ('numpy', 'pandas', 'torch', 'nibabel') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted((PROJECT / "workflow_scripts").glob("*.py")), ids=str)
def test_adapters_import_what_exists(path):
    import ast
    from importlib import import_module

    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            module = import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), node.module


# What rules ask for: literally, or the trained decoders' at full size.
GPU = re.compile("gpu=(1|GPUS)[,)]")
THREADS = re.compile("threads: (8|THREADS)\n")
OWN_LOG = re.compile(r'"logs/\{?\{subject\}')
SLURM = yaml.safe_load((PROJECT / "profiles/slurm/config.yaml").read_text())


def rules():
    """Text of every rule by name, with that of the rule it inherits from."""
    texts, inherited = {}, {}
    for base, name, rule in split_rules():
        looped = LOOPS[name] if rule.startswith("rule:") else ()
        for each in [f"{name}_{own}" for own in looped] or [name]:
            texts[each] = rule
        if base:
            inherited[name] = base
    found = {}
    for name, text in texts.items():
        base = name
        while base := inherited.get(base):
            text += texts[base]
        found[name] = text
    return found


def test_slurm_profile_sends_every_network_and_fit_to_gpus():
    needing = {name for name, text in rules().items() if GPU.search(text)}
    sent = {name for name, settings in SLURM["set-resources"].items() if settings.get("gpu")}
    assert sent == needing


def test_slurm_groups_mix_neither_gpus_nor_subjects():
    texts, members = rules(), {}
    for name, group in SLURM["groups"].items():
        members.setdefault(group, []).append(texts[name])
    for group, rules_of_group in members.items():
        assert len({bool(GPU.search(text)) for text in rules_of_group}) == 1, group
        of_one_subject = {bool(OWN_LOG.search(text)) for text in rules_of_group}
        assert of_one_subject == {group.endswith("_{subject}")}, group
    assert set(SLURM["group-components"]) <= set(members)


# Long, or few; each is a Slurm job of its own.
ALONE = {
    *("simulate_stimuli", "simulate_subject", "simulate_laion_stimuli", "simulate_laion_subject"),
    *("gather_stimuli", "write_captions", "translate_captions"),
    *("pretrain_encoder", "align_encoder", "fine_tune_diffusion"),
    *("tabulate_encoders", "tabulate_fcae", "plot_masked_responses", "plot_trained_pictures"),
    *("plot_trained_subjects", "plot_training_curves", "write_trained_gallery"),
    *("caption_features", "embed_chosen_captions", "score_captions", "invert_features"),
    *("gather_priors", "generate_images", "tabulate_beyond", "plot_fig10", "write_beyond_gallery"),
    *("plot_beyond_pictures", "simulate_shared_sets", "simulate_sets", "simulate_other_betas"),
}


def test_slurm_groups_have_every_rule_that_is_no_job_of_its_own():
    submitted = {name for name, text in rules().items() if "localrule: True" not in text}
    assert submitted - {*SLURM["groups"]} == ALONE


def test_slurm_jobs_have_the_cores_of_their_rules():
    for name, text in rules().items():
        if GPU.search(text):
            assert THREADS.search(text) and SLURM["cores"] == 8, name


def test_rules_that_inherit_from_a_local_one_say_that_they_are_local():
    """Snakemake does not pass it on, and would submit them."""
    for name, text in rules().items():
        assert text.count("localrule: True") in (0, 1 + text.startswith("use")), name

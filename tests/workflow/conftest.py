"""A tiny release, a copy of the project beside it, and ways to run and to plan it."""

import copy
import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml
from forked import find_python

from nsdldm.trained.presets import STAGES
from nsdldm.workflow.loading import load_settings
from nsdldm.workflow.settings import DEMO, DEMO_MODEL

PROJECT = Path(__file__).resolve().parents[2]
MODEL = str(PROJECT / "resources/demo_model")
COPIED = ("Snakefile", "report", "rules", "workflow_scripts", "nsdldm", "schemas", "envs")
COPIED += ("profiles",)
# Tiny jobs use one core; and a short run need not wait for its end as long as a long one.
SIDE_BY_SIDE = ("--max-threads", "1", "--resources", "gpu=2", "--max-jobs-per-timespan", "100/1s")

# A demo small enough for tests, of the regions, blocks and the like that are named here alone.
TINY_DEMO = {
    "dataset": "demo",
    "complete": True,
    "subjects": ["subj01", "subj02"],
    "figure_subject": "subj01",
    "rois": {
        "cortex": ["streams:ribbon"],
        "early": ["streams:early"],
        "ventral": ["streams:ventral"],
        "frontal": ["control:frontal"],
    },
    "matrices": ["cortex", "early", "ventral"],
    "model": {"path": MODEL, "resolution": 64, "batch_size": 64},
    "denoising": {"num_inference_steps": 3},
    "trajectories": {
        "noise_levels": [0.4, 0.7, 1.0],
        "drawn_levels": [0.4, 1.0],
        "step_shares": [0.5, 1.0],
        "blocks": {"down": "down_blocks.1", "mid": "mid_block", "up": "up_blocks.1"},
        "width": 60,
        "variants": {"shared": {"noise": "shared"}},
    },
    "decoding": {"alphas": [10.0, 1000.0], "n_folds": 3},
    "reconstruction": {
        "methods": ["z", "zc"],
        "resolution": 64,
        "samples": 2,
        "num_inference_steps": 2,
        "chunks": 2,
    },
    "evaluation": {
        "networks": {"demo-judge": {"weights": MODEL}, "inception": {}},
        "best_by": "corr16",
        "n_way": 3,
        "bootstrap": 100,
    },
    "encoding": {
        "n_folds": 3,
        "alphas": [1.0, 100.0, 10000.0],
        "weights": [0, 0.5, 1],
        "flips": 500,
        "drawn": "unique",
        "controls_every": 1,
    },
    "trained": {
        "subjects": ["subj01"],
        "size": "demo",
        "methods": {
            "fcae": {"preset": "fcae-base", **{stage: {"epochs": 2} for stage in STAGES}},
            "vis-dec": {stage: {"epochs": 2} for stage in STAGES},
        },
        "clip": {"path": f"{MODEL}/clip"},
        "sampling": {"num_inference_steps": 2, "scheduler": "ddim", "samples": 1},
    },
    "demo": {"sessions": 1, "shared_images": 40, "unique_images": 220},
}
# What the demo decodes on request, with weights at the same place for runs in any folder.
_SHIPPED = {key: DEMO[key] for key in ("feature_spaces", "beyond", "generalisation")}
TINY_DEMO |= json.loads(json.dumps(_SHIPPED).replace(DEMO_MODEL, MODEL))
# Fixtures that take minutes.
SHARED = {"release", "finished", "pretended"}
# As little computing as shows every group of the Slurm profile: starting jobs takes the time.
SMALL = TINY_DEMO | {
    "rois": {"cortex": ["streams:ribbon"], "early": ["streams:early"]},
    "matrices": ["cortex", "early"],
    "model": {"path": MODEL, "resolution": 64, "batch_size": 64},
    "trajectories": {
        "noise_levels": [0.4, 0.7],
        "drawn_levels": [0.4],
        "step_shares": [0.5, 1.0],
        "blocks": {"mid": "mid_block", "up": "up_blocks.1"},
        "width": 30,
        "variants": {},
    },
    "feature_spaces": {},
    "nsd": {"test_sets": ["shared"]},
    "generalisation": {"splits": [], "space": None, "betas": None, "categories": False},
    "decoding": TINY_DEMO["decoding"] | {"targets": {"z": "early", "c": "early"}},
    "beyond": {
        **{"generators": {}, "methods": {}, "depth": None},
        **{name: {"target": None} for name in ("retrieval", "captions", "prior")},
    },
    "reconstruction": {"methods": ["zc"], "samples": 1, "num_inference_steps": 2},
    "trained": TINY_DEMO["trained"] | {"regions": ["early"]},
    "demo": {"sessions": 1, "shared_images": 20, "unique_images": 240},
}


@pytest.hookimpl(tryfirst=True)  # before pytest looks at -m
def pytest_collection_modifyitems(items):
    """Mark all tests of files that need what tests share, so that it is made once."""
    needing = {item.path for item in items if SHARED & set(item.fixturenames)}
    for item in items:
        if item.path in needing:
            item.add_marker("finished")


def run_snakemake(folder, *arguments, check=True, project=None):
    """Run snakemake on the project with `folder` as working directory."""
    command = [find_python(), "-m", "snakemake", "-s", str((project or folder) / "Snakefile")]
    command += ["--directory", str(folder), "--cores", "2", *map(str, arguments), *SIDE_BY_SIDE]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if check and result.returncode:
        pytest.fail(f"{' '.join(command)}\n{result.stdout}\n{result.stderr}")
    return result


def plan(folder, *arguments, project=None):
    """Count the jobs that a run would start.

    Returns
    -------
    Counter of (rule, subject)
        `subject` is empty for a job of all subjects; the target rule does not count.
    """
    result = run_snakemake(folder, "--dry-run", *arguments, project=project)
    jobs = Counter()
    for block in re.split(r"\n *(?=(?:local)?rule )", result.stdout + result.stderr):
        rule = re.match(r"(?:local)?rule (\w+):", block)
        if rule and rule.group(1) != "all":
            subject = re.search(r"wildcards: .*?subject=([\w-]+)", block)
            jobs[rule.group(1), subject.group(1) if subject else ""] += 1
    return jobs


def write_config(folder, **changes):
    """Write a configuration into a working directory."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(changes))


def copy_project(folder):
    """Copy what a run needs of the project into a folder."""
    for name in COPIED:
        copier = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copier(PROJECT / name, folder / name)


def pretend(folder):
    """Make what a whole run leaves behind, but for the contents: all files are empty.

    Snakemake notes the same of each job as if it had run it, digests of the real code included.
    """
    outputs = run_snakemake(folder, "--summary").stdout.splitlines()[1:]
    for path in (folder / line.split("\t")[0] for line in outputs):
        # Snakemake does not say which outputs are folders; of these none has a suffix.
        (path.parent if path.suffix else path).mkdir(parents=True, exist_ok=True)
        path.touch()
    run_snakemake(folder, "--touch", "--forceall")
    run_snakemake(folder, "--delete-temp-output")


@pytest.fixture(scope="session")
def tiny_demo():
    """Configuration of a demo small enough for tests."""
    return copy.deepcopy(TINY_DEMO)


@pytest.fixture(scope="session")
def release(tmp_path_factory, tiny_demo):
    """Root of a simulated release of two subjects, written by the demo's rules."""
    folder = tmp_path_factory.mktemp("release")
    write_config(folder, **tiny_demo)
    run_snakemake(folder, "--until", "simulate_subject", project=PROJECT)
    return folder / "results/demo"


@pytest.fixture(scope="session")
def nsd_config(release, tiny_demo):
    """Configuration that reads the simulated release as if it were the real one."""
    # With the demo's sizes also where it says nothing.
    config = load_settings(tiny_demo)
    config |= {"dataset": "nsd", "nsd": {"root": str(release), "sessions": [1]}}
    return config | {"generalisation": SMALL["generalisation"]}


@pytest.fixture(scope="session")
def finished(tmp_path_factory, nsd_config):
    """A copy of the project in which all has run on one subject of the tiny release.

    What several subjects are compared by is tested on planted tables.
    """
    folder = tmp_path_factory.mktemp("finished")
    copy_project(folder)
    write_config(folder, **nsd_config | {"subjects": ["subj01"]})
    run_snakemake(folder)
    return folder


@pytest.fixture(scope="session")
def pretended(tmp_path_factory, tiny_demo):
    """The same of the tiny demo without its results: for what would run, and why."""
    folder = tmp_path_factory.mktemp("pretended")
    copy_project(folder)
    write_config(folder, **tiny_demo)
    pretend(folder)
    return folder

"""What jobs of each kind import before they begin: starting them is much of a small job's time."""

import subprocess
import sys

import pytest
from conftest import PROJECT

ADAPTERS = sorted(path.stem for path in (PROJECT / "workflow_scripts").glob("*.py"))
NETWORKS = ("diffusers", "transformers")
DRAWING = ("matplotlib", "nilearn")
# Jobs by the beginning of their names, and what they must not import; the first that fits.
KINDS = {
    "no libraries": (("note_", "publish_"), ("torch", "himalaya", *NETWORKS, *DRAWING)),
    # It counts the parameters of trained networks.
    "sizes": (("tabulate_fcae", "tabulate_encoders"), ("diffusers", *DRAWING)),
    "tables": (("tabulate_",), ("torch", "himalaya", *NETWORKS, *DRAWING)),
    "trials and betas": (
        (
            *("make_masks", "extract_", "prepare_", "average_pictures", "check_", "split_images"),
            *("score_case_encoders", "infer_encoders"),
        ),
        ("torch", "himalaya", *NETWORKS, *DRAWING),
    ),
    "figures": (
        (
            "plot_",
            "write_gallery",
            "write_generalisation",
            "write_cortex",
            "export_",
            "average_maps",
        ),
        ("torch", "himalaya", *NETWORKS),
    ),
    "judges": (
        ("score_encoders", "partition_variance", "choose_blocks", "divide_variance"),
        ("torch", "himalaya", *NETWORKS, *DRAWING),
    ),
    "fits": (
        ("fit_", "compare_protocols", "compute_kernels", "compute_grams"),
        (*NETWORKS, *DRAWING),
    ),
    "evaluation": (("evaluate_reconstructions",), ("diffusers", *DRAWING)),
    "demo": (("simulate_",), ("torch", "himalaya", *NETWORKS)),
    "networks": (("",), DRAWING),
}


def kind_of(adapter):
    return next(kind for kind, (starts, _) in KINDS.items() if adapter.startswith(starts))


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_import_only_what_they_need(kind):
    own = [adapter for adapter in ADAPTERS if kind_of(adapter) == kind]
    assert own, "no adapter of this kind"
    # Together, so that libraries are imported once.
    code = "import runpy, sys\n"
    code += "".join(f"runpy.run_path('workflow_scripts/{name}.py')\n" for name in own)
    code += "print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)
    assert result.returncode == 0, result.stderr
    wrong = {*KINDS[kind][1]} & {*result.stdout.split()}
    assert not wrong, f"{kind} ({', '.join(own)}) import {', '.join(sorted(wrong))}"

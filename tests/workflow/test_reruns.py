"""What a change makes stale, and what it leaves alone."""

import os
from contextlib import contextmanager

import pytest
from conftest import plan, write_config

pytestmark = pytest.mark.slow

ROIS = 4
MASKED = {"make_mask": ROIS, "extract_betas": 1, "prepare_responses": 2}
CHECKED = {"check_release": 1, "tabulate_trials": 1, "average_pictures": 1}
FEATURES = {"encode_latents": 1, "embed_captions": 1, "denoise_latents": 1, "compute_kernel": 3}
PATHS = {
    "collect_trajectories": 1,
    "gather_features": 1,
    "compute_grams": 1,
    "compute_path_kernels": 1,
    "collect_variants": 1 + 2,
    "collect_controls": 2,
    "gather_controls": 1,
    "compute_control_kernels": 1,
    "gather_variants": 1,
    "compute_variant_kernels": 1,
    "decode_strip": 2,
}
KERNELS = {
    "compute_kernel": 3,
    "compute_path_kernels": 1,
    "compute_variant_kernels": 1,
    "compute_control_kernels": 1,
}
MAPS = {"plot_fig6": 1, "plot_fig7": 1, "plot_fig8": 1, "plot_fig9": 1}
FITTED = MAPS | {
    "fit_encoders": 1,
    "fit_pairs": 1,
    "fit_step_pairs": 1,
    "fit_variant_pairs": 1,
    "fit_control_pairs": 1,
    "choose_blocks": 1,
}
FLIPPED = {
    key: FITTED[key]
    for key in (
        *("fit_pairs", "fit_step_pairs", "fit_variant_pairs", "fit_control_pairs", "choose_blocks"),
        *("plot_fig7", "plot_fig8", "plot_fig9"),
    )
}
DECODED = {"fit_decoders": 1, "compare_protocols": 1}
PICTURES = {
    "reconstruct_images": 2 * 2,
    "gather_reconstructions": 2,
    "evaluate_reconstructions": 2,
    "plot_fig3": 1,
}
# subj01 is the figure subject.
FIRST = {f"publish_fig{number}": 1 for number in range(6, 10)}
FIRST_PICTURES = {"publish_fig3": 1}
COMPARED = {"tabulate_group": 1, "tabulate_noise": 1, "tabulate_blocks": 1, "plot_group": 1}
GROUP = COMPARED | {"tabulate_encoding": 1}
GROUP_DECODED = {"tabulate_protocols": 1}
GROUP_PICTURES = {"tabulate_metrics": 1, "plot_fig4": 1, "plot_fig5": 1, "write_gallery": 1}
ALL_GROUP = GROUP | GROUP_DECODED | GROUP_PICTURES
ALL_FIRST = FIRST | FIRST_PICTURES


def expect(group=(), **subjects):
    """Jobs by rule and subject."""
    jobs = {(rule, ""): count for rule, count in dict(group).items()}
    for subject, rules in subjects.items():
        jobs |= {(rule, subject): count for rule, count in rules.items()}
    return jobs


CHANGES = {
    "one subject's setting": (
        {"overrides": {"subj02": {"min_ncsnr": 0.05}}},
        expect(ALL_GROUP, subj02=MASKED | FITTED | DECODED | PICTURES),
    ),
    "subject removed": ({"subjects": ["subj01"]}, expect(ALL_GROUP)),
    "subjects reordered": ({"subjects": ["subj02", "subj01"]}, expect(ALL_GROUP)),
    "global alphas": (
        {"encoding": {"alphas": [1.0, 100.0]}},
        expect(GROUP | FIRST, subj01=FITTED, subj02=FITTED),
    ),
    "denoising seed": (
        {"denoising": {"seed": 7}},
        expect(
            GROUP | FIRST,
            subj01=FITTED | PATHS | {"denoise_latents": 1, "compute_kernel": 1},
            subj02=FITTED | PATHS | {"denoise_latents": 1, "compute_kernel": 1},
        ),
    ),
    "levels drawn": (
        {"trajectories": {"drawn_levels": [0.7, 1.0]}},
        expect(
            {"publish_fig7": 1},
            subj01={"decode_strip": 1, "plot_fig7": 1},
            subj02={"decode_strip": 1, "plot_fig7": 1},
        ),
    ),
    "sign flips": (
        {"encoding": {"flips": 600}},
        expect(
            COMPARED | {f"publish_fig{number}": 1 for number in (7, 8, 9)},
            subj01=FLIPPED,
            subj02=FLIPPED,
        ),
    ),
    "decoders' alphas": (
        {"decoding": {"alphas": [1.0, 1000.0]}},
        expect(
            GROUP_DECODED | GROUP_PICTURES | FIRST_PICTURES,
            subj01=DECODED | PICTURES,
            subj02=DECODED | PICTURES,
        ),
    ),
    "images drawn": (
        {"evaluation": {"shown_images": 4}},
        expect({"plot_fig4": 1} | FIRST_PICTURES, subj01={"plot_fig3": 1}, subj02={"plot_fig3": 1}),
    ),
    "figure subject": ({"figure_subject": "subj02"}, expect(ALL_FIRST)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_setting(pretended, tiny_demo, change):
    settings, expected = CHANGES[change]
    changed = {
        key: tiny_demo.get(key, {}) | value if isinstance(value, dict) else value
        for key, value in settings.items()
    }
    write_config(pretended, **tiny_demo | changed)
    try:
        assert plan(pretended) == expected
    finally:
        write_config(pretended, **tiny_demo)


def test_added_subject(pretended, tiny_demo):
    """Nothing of the others runs again."""
    write_config(pretended, **tiny_demo | {"subjects": ["subj01", "subj02", "subj03"]})
    try:
        jobs = plan(pretended)
    finally:
        write_config(pretended, **tiny_demo)
    new = (
        {"simulate_subject": 1} | CHECKED | MASKED | FITTED | FEATURES | PATHS | DECODED | PICTURES
    )
    assert jobs == expect(ALL_GROUP, subj03=new)


def test_added_region(pretended, tiny_demo):
    """Fits keep sums over regions, for intervals; nothing else that is heavy runs."""
    write_config(
        pretended, **tiny_demo | {"rois": tiny_demo["rois"] | {"lateral": ["streams:lateral"]}}
    )
    try:
        jobs = plan(pretended)
    finally:
        write_config(pretended, **tiny_demo)
    new = {"make_mask": 1} | FITTED
    del new["choose_blocks"]
    assert jobs == expect(GROUP | FIRST, subj01=new, subj02=new)


@contextmanager
def edited(path, new, old=None):
    """Add to the end of a file, or replace something in it, for the time of a test."""
    original = path.read_text()
    assert old is None or original.count(old) == 1
    path.write_text(original + new if old is None else original.replace(old, new))
    try:
        yield
    finally:
        path.write_text(original)


EDITS = {
    "a comment": ("nsdldm/ridge.py", "\n# Only words.\n", None, expect()),
    "an error's wording, in a module of all rules": (
        "nsdldm/support/files.py",
        "room for it on the disk",
        "space for it on the file system",
        expect(),
    ),
    "digits of a number in a page": (
        "nsdldm/plots/gallery.py",
        '{value:.5g}"',
        '{value:.4g}"',
        expect({"write_gallery": 1}),
    ),
    "a module two imports deep": (
        "nsdldm/ridge.py",
        "\nUNUSED = 1\n",
        None,
        expect(
            ALL_GROUP | ALL_FIRST,
            subj01=KERNELS | FITTED | DECODED | PICTURES,
            subj02=KERNELS | FITTED | DECODED | PICTURES,
        ),
    ),
    "a module of two rules": (
        "nsdldm/diffusion/denoising.py",
        "\nUNUSED = 1\n",
        None,
        CHANGES["denoising seed"][1]
        | expect(GROUP_PICTURES | FIRST_PICTURES)
        | {(rule, s): n for rule, n in PICTURES.items() for s in ("subj01", "subj02")},
    ),
    "a module of the figures": (
        "nsdldm/plots/style.py",
        "\nUNUSED = 1\n",
        None,
        expect(
            ALL_FIRST | {"plot_fig4": 1, "plot_fig5": 1, "write_gallery": 1, "plot_group": 1},
            subj01={"plot_fig3": 1} | MAPS,
            subj02={"plot_fig3": 1} | MAPS,
        ),
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_code(pretended, edit):
    path, new, old, expected = EDITS[edit]
    with edited(pretended / path, new, old):
        assert plan(pretended) == expected


def test_touched_code_and_small_inputs(pretended):
    """New modification times without new content are not news."""
    responses = pretended / "results/demo/nsddata/ppdata/subj01/behav/responses.tsv"
    code = [*pretended.glob("nsdldm/**/*.py"), *pretended.glob("workflow_scripts/*.py")]
    for path in [*code, responses]:
        os.utime(path)
    assert plan(pretended) == expect()


def test_changed_input(pretended):
    """Another line in one subject's label table reaches that subject's masks and no features."""
    table = pretended / "results/demo/nsddata/freesurfer/subj02/label/control.mgz.ctab"
    with edited(table, "99 unused\n"):
        jobs = plan(pretended)
    assert jobs[("make_mask", "subj02")] == 1
    assert {subject for _, subject in jobs} == {"subj02", ""}
    assert ("denoise_latents", "subj02") not in jobs
    assert ("collect_trajectories", "subj02") not in jobs

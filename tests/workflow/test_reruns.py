"""What a change makes stale, and what it leaves alone."""

import os
from collections import Counter
from contextlib import contextmanager

import pytest
from conftest import plan, write_config

pytestmark = pytest.mark.slow

MASKED = {"make_masks_matrices": 1, "make_masks_regions": 1}
MASKED |= {"extract_betas": 1, "prepare_responses": 3}
CHECKED = {"check_release": 1, "tabulate_trials": 1, "average_pictures": 1}
FEATURES = {"encode_latents": 1, "embed_captions": 1, "denoise_latents": 1}
PATHS = {
    "collect_levels": 1,
    "collect_activations": 1,
    "gather_features_levels": 1,
    "compute_grams": 1,
    "collect_variants": 1 + 2,
    "collect_controls": 2,
    "gather_features_controls": 1,
    "gather_features_variants": 1,
    "decode_strip": 1,
    "compute_kernels": 6,
}
MAPS = {"plot_fig6": 1, "plot_unique_variance": 2, "plot_fig9": 1}
FLIPPED = {f"partition_variance_{name}": 1 for name in ("levels", "steps", "controls", "variants")}
FLIPPED |= {"choose_blocks": 1, "plot_unique_variance": 2, "plot_fig9": 1}
OPENED = {"export_maps": 1, "write_cortex_page": 1}
FLIPPED |= OPENED
JUDGED = MAPS | FLIPPED | {"score_encoders_features": 1}
FITTED = JUDGED | {"fit_encoders": 6}
BLOCKS = ("choose_blocks", "plot_fig9", "tabulate_blocks")
DECODED = {"fit_decoders": 1, "compare_protocols": 1, "fit_learning_curve": 1}
DECODED |= {"score_learning_curve": 1}
PICTURES = {
    "reconstruct_images": 2 * 2,
    "gather_reconstructions": 2,
    "evaluate_reconstructions": 2,
    "plot_fig3": 1,
}
COMPARED = {"tabulate_group": 1, "tabulate_blocks": 1, "plot_group": 1}
GROUP = COMPARED | {"tabulate_encoding": 1, "average_maps": 1}
CURVE = {"tabulate_learning_curve": 1, "plot_learning_curve": 1}
GROUP_DECODED = {"tabulate_protocols": 1} | CURVE
GROUP_PICTURES = {"tabulate_metrics": 1, "plot_fig4": 1, "plot_fig5": 1, "write_gallery": 1}
ALL_GROUP = GROUP | GROUP_DECODED | GROUP_PICTURES


def publish(*numbers):
    """Figures of subj01, the figure subject, that are published again."""
    return {f"publish_figure_fig{number}": 1 for number in numbers}


LED = {"redirect_pages": 1}
FIRST, FIRST_PICTURES = publish(6, 7, 8, 9) | LED, publish(3)
ALL_FIRST = FIRST | FIRST_PICTURES


def expect(group=(), **subjects):
    """Jobs by rule and subject."""
    jobs = Counter({(rule, ""): count for rule, count in dict(group).items()})
    for subject, rules in subjects.items():
        jobs.update({(rule, subject): count for rule, count in rules.items()})
    return jobs


def of_both(rules, group=()):
    """The same jobs for both subjects."""
    return expect(group, subj01=rules, subj02=rules)


CHANGES = {
    "one subject's setting": (
        {"overrides": {"subj02": {"min_ncsnr": 0.05}}},
        expect(ALL_GROUP, subj02=MASKED | FITTED | DECODED | PICTURES),
    ),
    "subject removed": ({"subjects": ["subj01"]}, expect(ALL_GROUP)),
    "subjects reordered": ({"subjects": ["subj02", "subj01"]}, expect(ALL_GROUP)),
    "global alphas": (
        {"encoding": {"alphas": [1.0, 100.0]}},
        of_both(FITTED, GROUP | FIRST),
    ),
    "denoising seed": (
        {"denoising": {"seed": 7}},
        of_both(FITTED | PATHS | {"denoise_latents": 1}, GROUP | FIRST),
    ),
    "false discovery rate": (
        {"encoding": {"fdr": 0.01}},
        of_both(JUDGED, GROUP | FIRST),
    ),
    "sign flips": (
        {"encoding": {"flips": 600}},
        of_both(FLIPPED, COMPARED | publish(7, 8, 9) | LED | {"average_maps": 1}),
    ),
    "draws of intervals": (
        {"encoding": {"bootstrap": 200}},
        of_both({"plot_fig9": 1}, COMPARED | publish(9)),
    ),
    "voxels compared": (
        {"encoding": {"group_ncsnr": 0.1}},
        of_both(
            {rule: n for rule, n in JUDGED.items() if rule not in BLOCKS},
            {rule: n for rule, n in GROUP.items() if rule not in BLOCKS} | publish(6, 7, 8) | LED,
        ),
    ),
    "what is coloured": (
        {"encoding": {"drawn": "joint"}},
        of_both({"plot_unique_variance": 2}, publish(7, 8)),
    ),
    "levels drawn": (
        {"trajectories": {"drawn_levels": [0.7, 1.0]}},
        of_both({"plot_unique_variance": 1}, publish(7)),
    ),
    "decoders' alphas": (
        {"decoding": {"alphas": [1.0, 1000.0]}},
        of_both(DECODED | PICTURES, GROUP_DECODED | GROUP_PICTURES | FIRST_PICTURES),
    ),
    "images drawn": (
        {"evaluation": {"shown_images": 4}},
        of_both({"plot_fig3": 1}, {"plot_fig4": 1} | FIRST_PICTURES),
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
    """What judges fits keeps sums over regions, for intervals; nothing that is heavy runs."""
    write_config(
        pretended, **tiny_demo | {"rois": tiny_demo["rois"] | {"lateral": ["streams:lateral"]}}
    )
    try:
        jobs = plan(pretended)
    finally:
        write_config(pretended, **tiny_demo)
    assert jobs == of_both({"make_masks_regions": 1} | JUDGED, GROUP | FIRST)


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
        "nsdldm/stats.py",
        "\nUNUSED = 1\n",
        None,
        of_both(JUDGED | DECODED | PICTURES, ALL_GROUP | ALL_FIRST),
    ),
    "how encoders are scored": (
        "nsdldm/encoding/scores.py",
        "\nUNUSED = 1\n",
        None,
        of_both(
            {"score_encoders_features": 1, "plot_fig6": 1} | OPENED,
            GROUP | publish(6) | LED,
        )
        - expect({"tabulate_blocks": 1}),
    ),
    "a module of two rules": (
        "nsdldm/diffusion/denoising.py",
        "\nUNUSED = 1\n",
        None,
        CHANGES["denoising seed"][1]
        + of_both(PICTURES | {"score_learning_curve": 1}, GROUP_PICTURES | FIRST_PICTURES | CURVE),
    ),
    "a module of the figures": (
        "nsdldm/plots/style.py",
        "\nUNUSED = 1\n",
        None,
        of_both(
            {"plot_fig3": 1, "write_cortex_page": 1} | MAPS,
            ALL_FIRST
            | {"plot_fig4": 1, "plot_fig5": 1, "write_gallery": 1, "plot_group": 1}
            | {"plot_learning_curve": 1},
        ),
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_code(pretended, edit):
    path, new, old, expected = EDITS[edit]
    with edited(pretended / path, new, old):
        assert plan(pretended) == expected


def test_a_changed_source_does_not_hide_what_waits_for_it(pretended):
    """Snakemake 9.27 leaves out all jobs behind one that is stale and is waited for as ancient."""
    with edited(pretended / "workflow_scripts/note_source.py", "\nUNUSED = 1\n"):
        jobs = plan(pretended)
    for job in (("note_source", ""), ("check_release", "subj01"), ("plot_fig6", "subj02")):
        assert jobs[job] == 1


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
    assert jobs[("make_masks_regions", "subj02")] == 1
    assert {subject for _, subject in jobs} == {"subj02", ""}
    assert ("denoise_latents", "subj02") not in jobs
    assert ("collect_levels", "subj02") not in jobs

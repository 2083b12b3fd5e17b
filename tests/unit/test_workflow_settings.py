"""The settings: where they come from, what is refused, and how it is said."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_config
from snakemake.utils import update_config, validate

from nsdldm.trained.presets import resolve
from nsdldm.workflow.config_docs import PAGE, SCHEMA, compose_page, compose_schema
from nsdldm.workflow.loading import SettingsError, load_settings
from nsdldm.workflow.sentences import find_schema

PROJECT = Path(__file__).resolve().parents[2]
REAL = {"dataset": "nsd", "nsd": {"root": "/data/nsd"}}


def shipped(*names):
    """What Snakemake makes of config.yaml and files laid over it."""
    config = {}
    for name in ("config.yaml", *names):
        update_config(config, yaml.safe_load((PROJECT / name).read_text()))
    return config


def refuse(config, **options):
    """The sentences that a configuration is refused with."""
    with pytest.raises(SettingsError) as caught:
        load_settings(config, **options)
    assert all("\n" not in problem for problem in caught.value.problems)
    return caught.value.problems


def keys(part=None, prefix=""):
    """Dotted names of all settings, with what the schema says of each."""
    part = find_schema() if part is None else part
    for name, own in part.get("properties", {}).items():
        yield f"{prefix}{name}", own
        yield from keys(own, f"{prefix}{name}.")
        for entry in [own.get("additionalProperties"), *own.get("patternProperties", {}).values()]:
            yield from keys(entry, f"{prefix}{name}.*.") if isinstance(entry, dict) else ()


# What is generated.


def test_schema_and_page_are_up_to_date():
    assert SCHEMA.read_text(encoding="utf-8") == compose_schema(), "run make config-docs"
    assert PAGE.read_text(encoding="utf-8") == compose_page(), "run make config-docs"


def test_every_key_is_described_and_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    names = dict(keys())
    assert len(names) > 120
    for name, part in names.items():
        assert part["description"].endswith("."), name
        if "properties" not in part:
            assert f"\n| `{name.replace('*', 'NAME')}` | " in page, name


@pytest.mark.parametrize("config", [{}, REAL], ids=["demo", "nsd"])
def test_the_schema_admits_files_and_what_rules_read(config):
    """As Snakemake, or an editor, would look at them."""
    for each in (shipped(), shipped("config.nsd.yaml"), load_settings(config)):
        validate(each, str(SCHEMA), set_default=False)
    with pytest.raises(Exception, match="encodng"):
        validate({"encodng": {}}, str(SCHEMA), set_default=False)


# Where settings come from.


def test_the_shipped_files_are_short_and_hold_no_size_of_the_demo():
    assert shipped() == {"dataset": "demo"}
    for name in ("config.yaml", "config.nsd.yaml"):
        assert len((PROJECT / name).read_text().splitlines()) <= 60
    assert load_settings(shipped()) == load_settings({})
    real = load_settings(shipped("config.nsd.yaml"))
    assert real["subjects"] == ["subj01", "subj02", "subj05", "subj07"]
    assert real == load_settings(REAL | {"nsd": {"root": real["nsd"]["root"]}})


@pytest.mark.parametrize("name", ["config.yaml", "config.nsd.yaml"])
def test_what_is_commented_out_would_do(name):
    """Dots stand for what only the user knows."""
    lines = (PROJECT / name).read_text().replace("...", "a" * 64).splitlines()[1:]
    # Not sentences.
    pattern = r"^# ( *[\w-]+:(?= +[^ ]+( +#|$)| [\[{]| *$| +#).*)"
    config = yaml.safe_load("\n".join(re.sub(pattern, r"\1", line) for line in lines))
    assert len(config) > 5 if name == "config.yaml" else "trained" in config
    assert load_settings(config)


def test_a_partial_file_on_real_data_has_no_size_of_the_demo():
    found = load_settings({"dataset": "nsd", "nsd": {"root": "x"}})
    assert found["denoising"]["num_inference_steps"] == 50
    assert found["reconstruction"] | {"resolution": 512, "samples": 5} == found["reconstruction"]
    assert found["reconstruction"]["num_inference_steps"] == 50
    assert found["model"]["path"] == "CompVis/stable-diffusion-v1-4"
    assert found["model"]["resolution"] == 320
    assert found["trained"]["size"] == "full" and found["trained"]["sampling"]["samples"] == 5
    assert len(found["encoding"]["weights"]) == 9 and len(found["encoding"]["alphas"]) == 10
    assert found["encoding"]["drawn"] == "unique"
    assert found["nsd"]["sessions"] == 37
    assert found["rois"]["frontal"] == ["HCP_MMP1:72", "HCP_MMP1:87"]
    assert not any(name.startswith("demo") for name in found["evaluation"]["networks"])
    assert "resources" not in str(found)


def test_the_demo_lies_under_what_the_user_sets():
    changed = {"denoising": {"num_inference_steps": 7}, "rois": {"mine": ["streams:3"]}}
    found = load_settings(changed)
    assert found["denoising"]["num_inference_steps"] == 7
    assert found["reconstruction"]["num_inference_steps"] == 8
    assert list(found["rois"]) == [
        *("cortex", "early", "ventral", "lateral", "parietal", "frontal", "mine")
    ]
    assert found["rois"]["frontal"] == ["control:frontal"]
    assert list(found["trajectories"]["variants"]) == ["shared", "seed43"]


def test_with_the_real_data_every_trained_method_is_its_preset():
    trained = load_settings(REAL)["trained"]
    for name, own in trained["methods"].items():
        preset = resolve(own.get("preset", name), {}, "full")
        assert resolve(name, own, "full") == preset


def test_whose_figures_and_decoders():
    assert load_settings({})["figure_subject"] == "subj01"
    assert load_settings({})["trained"]["subjects"] == ["subj01"]
    one = load_settings({"subjects": ["subj03", "subj02"]})
    assert one["figure_subject"] == "subj03" and one["trained"]["subjects"] == ["subj03"]
    real = load_settings(REAL)
    assert real["figure_subject"] == "subj01" and real["trained"]["subjects"] == real["subjects"]


CHANGES = {
    "nothing": {},
    "an entry less": {"rois": {"lateral": None}, "trajectories": {"variants": {"shared": None}}},
    "everything of the demo's own": {"evaluation": {"networks": {"inception": {}}}},
    "of one subject": {"overrides": {"subj02": {"min_ncsnr": None}}},
    "a decoder": {"trained": {"methods": {"mine": {"preset": "fcae", "stage1": {"epochs": 3}}}}},
    "old names": {"denoising": {"steps": 10}},
    "real": REAL,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_loaded_loads_to_itself(change):
    once = load_settings(CHANGES[change])
    again = load_settings(copy.deepcopy(once))
    assert again == once and repr(again) == repr(once)
    # On its way to a cluster's jobs, and laid over what is in the folder.
    sent = yaml.safe_load(yaml.safe_dump(once))
    config = shipped()
    update_config(config, sent)
    assert load_settings(config) == once


# Maps.


def test_null_removes_what_a_lower_layer_brought():
    config = {}
    update_config(config, {"feature_spaces": {"a": {"function": "b.c", "settings": {}}}})
    update_config(
        config,
        {
            "feature_spaces": {"a": None},
            "rois": {"lateral": None},
            "trajectories": {"blocks": {"mid": None, "own": "mid_block.resnets.0"}},
            "trained": {"methods": {"vis-dec": None}},
            "evaluation": {"networks": {"demo-judge": None}, "n_way": 4},
        },
    )
    found = load_settings(config)
    assert "a" not in found["feature_spaces"] and "depth" in found["feature_spaces"]
    assert "lateral" not in found["rois"] and "parietal" in found["rois"]
    assert list(found["trajectories"]["blocks"]) == ["down1", "down2", "up1", "up2", "own"]
    assert "vis-dec" not in found["trained"]["methods"]
    assert list(found["evaluation"]["networks"]) == ["demo-clip", "demo-alexnet"]


def test_a_network_without_weights_is_not_a_removed_one():
    networks = load_settings({"evaluation": {"networks": {"inception": {}}}})["evaluation"]
    assert networks["networks"]["inception"] == {}
    real = load_settings(REAL | {"evaluation": {"networks": {"swav": None}}})["evaluation"]
    assert "swav" not in real["networks"] and real["networks"]["clip"] == {}


def test_entries_have_what_is_set_and_nothing_else():
    found = load_settings({"overrides": {"subj01": {"min_ncsnr": None}, "subj02": {}}})
    assert found["overrides"] == {"subj01": {"min_ncsnr": None}, "subj02": {}}
    assert found["trajectories"]["variants"]["shared"] == {"noise": "shared"}
    assert found["evaluation"]["networks"]["demo-clip"] == {"weights": "resources/demo_model"}


def test_complete_maps_get_nothing_added():
    found = load_settings({"complete": True, "trajectories": {"variants": {}}})
    assert found["trajectories"]["variants"] == {}
    # Of maps that are not given, and of other settings, what lies below.
    assert len(found["rois"]) == 6 and found["denoising"]["num_inference_steps"] == 5


def test_a_section_of_comments_alone_says_nothing():
    assert load_settings({"encoding": None, "trained": {"clip": None}}) == load_settings({})


def test_another_model_does_not_have_the_commit_of_the_default():
    real = load_settings(REAL | {"model": {"path": "someone/model"}})
    assert real["model"]["revision"] is None
    assert load_settings(REAL)["model"]["revision"].startswith("133a221b")


def test_two_names_of_one_block():
    (problem,) = refuse({"trajectories": {"blocks": {"last": "up_blocks.1"}}})
    assert problem == (
        "trajectories.blocks must have one name for a module, not up2 and last for up_blocks.1; "
        "up2: null removes up2."
    )
    assert load_settings({"trajectories": {"blocks": {"last": "up_blocks.1", "up2": None}}})


# Old names.


def test_names_of_before():
    old = {
        "denoising": {"steps": 11, "guidance": 2},
        "reconstruction": {"steps": 12, "guidance": 3.5},
        "trained": {
            "held_back": 0.2,
            "sampling": {"steps": 13},
            "methods": {"mae-f": {"stage1": {"rate": "1e-3", "clip": None}}},
        },
    }
    found = load_settings(old)
    assert found["denoising"]["num_inference_steps"] == 11
    assert found["denoising"]["guidance_scale"] == 2
    assert found["reconstruction"]["num_inference_steps"] == 12
    assert found["reconstruction"]["guidance_scale"] == 3.5
    assert found["trained"]["validation"] == 0.2
    assert found["trained"]["sampling"]["num_inference_steps"] == 13
    assert not {"steps", "guidance"} & set(found["denoising"])
    stage = {"learning_rate": 1e-3, "max_grad_norm": None}
    assert found["trained"]["methods"]["mae-f"] == {"stage1": stage}
    (problem,) = refuse({"denoising": {"steps": 5, "num_inference_steps": 6}})
    assert problem == (
        "denoising.steps must be left out, since denoising.num_inference_steps, its new name, is "
        "given too."
    )


# How values are written.


def command_line(*entries):
    """What Snakemake makes of --config, over the files."""
    config = shipped("config.nsd.yaml")
    update_config(config, parse_config(entries))
    return load_settings(config)


def test_the_command_line_is_laid_over_the_files():
    """Snakemake hands over nested values as texts."""
    found = command_line(
        "figure_subject=subj02",
        "min_ncsnr=0.1",
        "encoding={fdr: 0.01, n_folds: 4, zscore: false, weights: [0, 0.5, 1]}",
        "rois={lateral: null}",
        "nsd={sessions: 3, captions: null}",
        "evaluation={networks: {clip: {}, swav: null}, n_way: [2, 5e1], nsd_ids: [7, 9]}",
        "trained={methods: {mae-f: {stage1: {learning_rate: 1e-3, epochs: 7, own_maps: true}}}}",
    )
    assert found["figure_subject"] == "subj02" and found["min_ncsnr"] == 0.1
    changed = {"fdr": 0.01, "n_folds": 4, "zscore": False, "weights": [0.0, 0.5, 1.0]}
    assert found["encoding"] == load_settings(REAL)["encoding"] | changed
    assert type(found["encoding"]["n_folds"]) is int
    assert "lateral" not in found["rois"] and "early" in found["rois"]
    assert found["nsd"]["sessions"] == 3 and found["nsd"]["captions"] is None
    assert found["nsd"]["root"] == "/data/natural-scenes-dataset"
    assert found["evaluation"]["n_way"] == [2, 50] and found["evaluation"]["nsd_ids"] == [7, 9]
    assert "swav" not in found["evaluation"]["networks"]
    stage = {"learning_rate": 1e-3, "epochs": 7, "own_maps": True}
    assert found["trained"]["methods"]["mae-f"] == {"stage1": stage}


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ("5.0e2", "demo.seed", 500),
        ("5e2", "demo.seed", 500),
        ("1e-3", "min_ncsnr", 0.001),
        ("+2.5e3", "min_ncsnr", 2500.0),
        (".5E2", "min_ncsnr", 50.0),
        ("1", "denoising.guidance_scale", 1.0),
        ("2e0", "nsd.sessions", 2),
        ("[1.0, 2.0]", "nsd.sessions", [1, 2]),
        ("1e1", "evaluation.n_way", 10),
        ("[1e-3, 10]", "encoding.alphas", [0.001, 10.0]),
        ("b3", "nsd.betas", "betas_fithrf_GLMdenoise_RR"),
        ("available", "nsd.sessions", "available"),
        ("all", "nsd.sessions", "all"),
        ("12345e67", "model.revision", "12345e67"),
    ],
)
def test_a_value_is_what_was_meant(text, key, meant):
    """As PyYAML reads it."""
    config = yaml.safe_load(text)
    found = "{}"
    for piece in reversed(key.split(".")):
        config = {piece: config}
    found = load_settings(config)
    for piece in key.split("."):
        found = found[piece]
    assert found == meant and type(found) is type(meant)
    if isinstance(meant, list):
        assert [type(each) for each in found] == [type(each) for each in meant]


@pytest.mark.parametrize(
    ("short", "whole"),
    [("b1", "betas_assumehrf"), ("b2", "betas_fithrf"), ("b3", "betas_fithrf_GLMdenoise_RR")],
)
def test_betas_as_users_of_the_release_call_them(short, whole):
    found = load_settings(REAL | {"nsd": {"root": "x", "betas": short}})
    assert found["nsd"]["betas"] == whole


@pytest.mark.parametrize("value", ["much", ".", "e3", "1e999", "1_0", "0x1F", "²", "9" * 400])
def test_other_texts_are_no_numbers(value):
    (problem,) = refuse({"min_ncsnr": value})
    assert problem.startswith("min_ncsnr must be a number, at least 0, or nothing (null), not '")


def test_paths_are_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/mnt/data")
    monkeypatch.delenv("NOWHERE", raising=False)
    found = load_settings(
        REAL
        | {
            "nsd": {"root": "$DATA/nsd", "captions": "${HOME}/coco"},
            "model": {"path": "~/sd"},
            "trained": {"clip": {"path": "~/clip"}},
            "evaluation": {"networks": {"alexnet": {"weights": "$DATA/alexnet.pth"}}},
            "feature_spaces": {"a": {"function": "b.c", "settings": {"weights": "~/w", "x": "~"}}},
        }
    )
    assert found["nsd"]["root"] == "/mnt/data/nsd" and found["nsd"]["captions"] == "/home/me/coco"
    assert found["model"]["path"] == "/home/me/sd"
    assert found["trained"]["clip"]["path"] == "/home/me/clip"
    assert found["evaluation"]["networks"]["alexnet"]["weights"] == "/mnt/data/alexnet.pth"
    assert found["feature_spaces"]["a"]["settings"] == {"weights": "/home/me/w", "x": "~"}
    (problem,) = refuse({"model": {"path": "$NOWHERE/sd"}})
    assert problem == "model.path must be a path of variables that are set, not '$NOWHERE/sd'."


MISREAD = {
    "demo: {seed: 010}": (
        "demo.seed must be written without a leading zero",
        "010, which",
        "as 8.",
    ),
    "nsd: {sessions: [1, 07]}": ("nsd.sessions[1] must be written without", "reads as 7."),
    "demo:\n  seed: 1:30": ("demo.seed must be written as one number", "1:30, which", "as 90."),
    "model: {dtype: on}": ("model.dtype must be one of auto,", "makes of true, yes and on"),
    "model: {path: no}": ("model.path must be a text, not False", "of false, no and off"),
    "min_ncsnr: yes": ("min_ncsnr must be a number", "makes of true, yes and on"),
    "demo: {sessions: on}": ("demo.sessions must be a whole number", "of true, yes and on"),
    "model: {revision: 1234567}": ("model.revision must be a text", "1234567: write it in quotes"),
    "model: {revision: 2024-01-31}": ("model.revision must be a text", "write it in quotes"),
    "rois: {no: [a:b]}": ("rois must have texts as keys, not False", "of yes, on, no and off"),
    "nsd: {signed: 1}": ("nsd.signed must be true or false, not 1",),
}


@pytest.mark.parametrize("text", MISREAD)
def test_what_yaml_makes_of_it_is_said(text, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    (problem,) = refuse(yaml.safe_load(text), files=[path])
    start, *words = MISREAD[text]
    assert problem.startswith(start)
    assert all(word in problem for word in words)


def test_numbers_that_are_read_as_written_pass(tmp_path):
    path = tmp_path / "config.yaml"
    text = "demo: {seed: 0}\nmin_ncsnr: 0.05\nmodel: {revision: '010'}\nnsd: {betas: b3}\n"
    path.write_text(text + "rois: {a: ['streams:01']}\n")
    load_settings(yaml.safe_load(path.read_text()), [path, PROJECT / "config.nsd.yaml"])


def test_an_octal_on_the_command_line():
    (problem,) = refuse(parse_config(["demo={seed: 010}"]))
    assert problem.endswith("not '010': write it without leading zeros, which make a number octal.")


# What is refused.

BROKEN = {
    "unknown key": (
        {"encodng": {}},
        "Unknown key encodng: did you mean encoding? The allowed keys are arrays, ",
    ),
    "unknown nested key": (
        {"model": {"batch": 2}},
        "Unknown key batch in model: did you mean batch_size? The allowed keys are batch_size, ",
    ),
    "key of another section": (
        {"fdr": 0.1},
        "Unknown key fdr: did you mean encoding.fdr? The allowed keys are arrays, ",
    ),
    "key of nothing": ({"xyzzy": 1}, "Unknown key xyzzy: the allowed keys are arrays, "),
    "misspelt old name": (
        {"denoising": {"guidence": 2}},
        "Unknown key guidence in denoising: did you mean guidance_scale? The allowed keys are ",
    ),
    "bad subject": ({"subjects": ["subj9"]}, "subjects must be of subj01, subj02, "),
    "no subjects": ({"subjects": []}, "subjects must be a list of at least one value"),
    "subject twice": (
        {"subjects": ["subj01"] * 2},
        "subjects must be a list of at least one value without repeats, not ['subj01', 'subj01'].",
    ),
    "wrong type": (
        {"model": {"batch_size": "x"}},
        "model.batch_size must be a whole number, at least 1, not 'x'.",
    ),
    "no section": ({"model": 3}, "model must be a mapping, not 3."),
    "no map": ({"rois": None}, "rois must be a mapping, not None."),
    "half": ({"decoding": {"n_folds": 2.5}}, "decoding.n_folds must be a whole number, at least 2"),
    "out of range": (
        {"denoising": {"strength": 2}},
        "denoising.strength must be a number, above 0",
    ),
    "sessions": (
        {"nsd": {"sessions": "some"}},
        "nsd.sessions must be all, available, or a whole number, at least 1, at most 40, or a list",
    ),
    "no session": ({"nsd": {"sessions": [1, 0]}}, "nsd.sessions must be all, available, or a "),
    "override of nobody": (
        {"overrides": {"subj0l": {}}},
        "overrides must be of subj01, subj02, ",
    ),
    "subject of another dataset": (
        {"dataset": "laion-demo", "subjects": ["subj01"]},
        "subjects must be of sub-01, sub-03, sub-05, sub-06, sub-07 when dataset is laion-demo, ",
    ),
    "folder as a subject": (
        {"dataset": "arrays", "arrays": {"root": "a"}, "subjects": ["tables"]},
        "subjects must have other names than tables, a folder of results.",
    ),
    "voxels of arrays are chosen by noise": (
        {"dataset": "arrays", "arrays": {"root": "a"}, "overrides": {"sub-01": {"min_ncsnr": 0.2}}},
        "min_ncsnr must be as by default when dataset is arrays, also in overrides: regions and ",
    ),
    "sessions of arrays": (
        {"dataset": "arrays", "arrays": {"root": "a"}, "nsd": {"sessions": [1, 2]}},
        "nsd.sessions must be as by default when dataset is arrays, also in overrides: regions ",
    ),
    "no root of arrays": ({"dataset": "arrays"}, "arrays.root must be the dataset's folder "),
    "no root of LAION-fMRI": ({"dataset": "laion-fmri"}, "laion.root must be the release's "),
    "no folder of splits": (
        {
            "dataset": "laion-fmri",
            "laion": {"root": "a"},
            "feature_spaces": {"s": {"function": "a.b", "settings": {}}},
            "generalisation": {"splits": ["tau"], "space": "s"},
        },
        "laion.splits must be a folder with tau.json, not empty.",
    ),
    "split of another dataset": (
        {"generalisation": {"splits": ["tau"]}},
        "generalisation.splits must be of cluster, random, category (or unique-N, sessions-N) when",
    ),
    "test set of another dataset": (
        {"dataset": "laion-demo", "nsd": {"test_sets": ["shared", "imagery"]}},
        "nsd.test_sets must be left out when dataset is laion-demo, not imagery.",
    ),
    "override of nothing": ({"overrides": {"subj01": {"x": 1}}}, "Unknown key x in overrides.sub"),
    "region without atlas": ({"rois": {"early": ["early"]}}, "rois.early[0] must be a text of"),
    "too few blocks": (
        {"complete": True, "trajectories": {"blocks": {"a": "mid_block"}}},
        "trajectories.blocks must be a mapping, with at least 2 keys, not {'a': 'mid_block'}.",
    ),
    "a hash cut short": (
        {"evaluation": {"networks": {"alexnet": {"sha256": "7be5"}}}},
        "evaluation.networks.alexnet.sha256 must be a text of 64 hexadecimal digits or nothing",
    ),
    "a list without what it must have": (
        {"reconstruction": {"methods": ["z"]}},
        "reconstruction.methods must have zc among its values, not only z.",
    ),
    "a misspelt value": (
        {"reconstruction": {"methods": ["z", "zcc"]}},
        "reconstruction.methods[1] must be one of z, z-coarse, c, zc, true-zc, not 'zcc'.",
    ),
    "a key that is missing": (
        {"feature_spaces": {"own": {"function": "a.b"}}},
        "feature_spaces.own must have settings, not only function.",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_one_sentence_for_a_bad_value(name):
    change, start = BROKEN[name]
    (problem,) = refuse(change)
    assert problem.startswith(start)
    assert problem.endswith(".")


def test_the_same_bad_value_is_named_once():
    problems = refuse({"decoding": {"alphas": ["x", "y", "x"]}})
    assert [problem.split(" must")[0] for problem in problems] == [
        "decoding.alphas[0]",
        "decoding.alphas[1]",
    ]


CONTRADICTIONS = {
    "no cortex among the regions": ({"rois": {"cortex": None}}, "rois must have cortex"),
    "a trained method with the name of a ridge one": (
        {"trained": {"methods": {"z": {}}}},
        "trained.methods must have names of their own, not z",
    ),
    "figure subject not run": ({"figure_subject": "subj05"}, "figure_subject must be one of"),
    "no root": ({"dataset": "nsd"}, "nsd.root must be"),
    "matrix of no region": (
        {"matrices": ["cortex", "early", "ventral", "V9"]},
        "matrices must name keys of rois",
    ),
    "decoders of a subject who is not run": (
        {"trained": {"subjects": ["subj04"]}},
        "trained.subjects must name some of subjects (subj01, subj02), not subj04.",
    ),
    "beta version the demo lacks": (
        {"nsd": {"betas": "betas_assumehrf", "test_sets": ["shared"]}},
        "nsd.betas must be betas_fithrf_GLMdenoise_RR when dataset is demo",
    ),
    "no cortex": ({"matrices": ["early", "ventral"]}, "matrices must have cortex"),
    "level drawn that is not run": (
        {"trajectories": {"drawn_levels": [0.3]}},
        "trajectories.drawn_levels must be of trajectories.noise_levels (0.4, 0.6, 0.8, 1.0)",
    ),
    "two steps that are one": (
        {"trajectories": {"step_shares": [0.1, 0.2]}},
        "trajectories.step_shares: expected a different number of the 4 steps each",
    ),
    "levels that descend": (
        {"trajectories": {"drawn_levels": [1.0, 0.4]}},
        "trajectories.drawn_levels must ascend, not [1.0, 0.4].",
    ),
    "variant that is a control": (
        {"trajectories": {"variants": {"empty": {"seed": 1}}}},
        "trajectories.variants must have other names than empty",
    ),
    "no mix": ({"encoding": {"weights": [0, 1]}}, "encoding.weights must hold at least one"),
    "sessions the demo lacks": (
        {"overrides": {"subj02": {"sessions": [1, 5]}}},
        "overrides.subj02.sessions must be within the 3 of demo.sessions, not [1, 5].",
    ),
    "name of a variant taken": (
        {"feature_spaces": {"zc-s025-shared": {"function": "a.b", "settings": {}}}},
        "feature_spaces must have names of their own, not zc-s025-shared",
    ),
    "name taken": (
        {"feature_spaces": {"zc-s050": {"function": "a.b", "settings": {}}}},
        "feature_spaces must have names of their own, not zc-s050",
    ),
    "target of no space": (
        {"decoding": {"targets": {"clip-visoin": "early"}}},
        "decoding.targets must have names of feature spaces (z, c, zc, clip-vision, ",
    ),
    "generator that is not there": (
        {"beyond": {"methods": {"own": {"generator": "other", "from": "z"}}}},
        "beyond.methods.own.generator must be one of stable-diffusion, adapter, not other.",
    ),
    "method given nothing": (
        {"beyond": {"methods": {"own": {"generator": "adapter"}}}},
        "beyond.methods.own must be given some of from, text, image, pooled, depth, not nothing.",
    ),
    "method given what is not decoded": (
        {"beyond": {"methods": {"own": {"from": "zc"}}}},
        "beyond.methods.own.from must be one of decoding.targets (z, c, clip-vision, ",
    ),
    "ceiling of what is made of decoded features": (
        {"beyond": {"methods": {"own": {"from": "prior", "ceiling": True}}}},
        "beyond.methods.own must not be a ceiling, since prior is made of decoded features.",
    ),
    "prior of what is no layers": (
        {"beyond": {"prior": {"target": "clip-vision"}}},
        "beyond.prior.target must be a space of nsdldm.features.layers.embed_layers, not clip-vis",
    ),
    "captions to start from": (
        {"beyond": {"methods": {"own": {"from": "captions"}}}},
        "beyond.methods.own.from must be one of decoding.targets (z, c, clip-vision, clip-text, "
        "alexnet, depth, prior), not captions.",
    ),
    "name of a decoder of others": (
        {"beyond": {"methods": {"mine-joint": {"from": "z"}}}},
        "beyond.methods must not end like trained decoders of others, as mine-joint does.",
    ),
    "name of another method": (
        {"beyond": {"methods": {"nearest": {"from": "z"}}}},
        "beyond.methods must have names of their own, not nearest.",
    ),
    "captions without a judge": (
        {"beyond": {"captions": {"clip": None}}},
        "beyond.captions.clip must be a CLIP model when beyond.captions.target is given.",
    ),
    "space with the name of what is made": (
        {"feature_spaces": {"prior": {"function": "a.b", "settings": {}}}},
        "feature_spaces must have names of their own, not prior",
    ),
    "test sets without the shared images": (
        {"nsd": {"test_sets": ["imagery"]}},
        "nsd.test_sets must have shared among its values, not only imagery.",
    ),
    "test sets in betas that they lack": (
        {
            "dataset": "nsd",
            "nsd": {"root": "/nsd", "betas": "b1", "test_sets": ["shared", "imagery"]},
            "feature_spaces": {"clip": {"function": "a.b", "settings": {}}},
            "generalisation": {"space": "clip"},
        },
        "nsd.betas must be betas_fithrf or betas_fithrf_GLMdenoise_RR with other nsd.test_sets, ",
    ),
    "no space by which images are similar": (
        {"generalisation": {"space": None}},
        "generalisation.space must be given with generalisation.splits or nsd.test_sets.",
    ),
    "space that is not there": (
        {"generalisation": {"space": "clip-visoin"}},
        "generalisation.space must be one of feature_spaces (clip-vision, ",
    ),
    "encoders of what is not there": (
        {"generalisation": {"encoders": ["z", "clip"]}},
        "generalisation.encoders must be of z, c, clip-vision, ",
    ),
    "categories without COCO's objects": (
        {"generalisation": {"categories": False}},
        "generalisation.categories must be true when generalisation.splits has category.",
    ),
    "betas compared with themselves": (
        {"generalisation": {"betas": "b3"}},
        "generalisation.betas must be another version than nsd.betas, not betas_fithrf_GLM",
    ),
    "too many images": ({"demo": {"unique_images": 5000}}, "demo.shared_images + demo.unique"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions(name):
    change, start = CONTRADICTIONS[name]
    (problem,) = refuse(change)
    assert problem.startswith(start)


def test_contradictions_come_together():
    problems = refuse({"figure_subject": "subj05", "matrices": ["early", "ventral"]})
    assert [problem.split()[0] for problem in problems] == ["figure_subject", "matrices"]


def test_loading_imports_nothing_heavy():
    """Every job reads the settings."""
    code = (
        "import sys; from nsdldm.workflow.loading import load_settings; load_settings({}); "
        "heavy = 'numpy', 'pandas', 'torch', 'PIL', 'jsonschema'; "
        "print([name for name in heavy if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True)
    assert run.stdout.strip() == "[]"

from pathlib import Path

import pytest
import yaml

from nsdldm.trained.presets import resolve
from nsdldm.workflow.settings import check_consistency, check_schema

PROJECT = Path(__file__).resolve().parents[2]
SCHEMA = PROJECT / "schemas/config.schema.yaml"


def shipped(name="config.yaml"):
    return yaml.safe_load((PROJECT / name).read_text())


def merge(base, top):
    """What Snakemake makes of --configfile: mappings are merged, everything else replaced."""
    both = isinstance(base, dict) and isinstance(top, dict)
    return base | {k: merge(base.get(k), v) for k, v in top.items()} if both else top


def test_with_the_real_data_every_trained_method_is_its_preset():
    """The demo's configuration lies below that of the real data."""
    trained = merge(shipped(), shipped("config.nsd.yaml"))["trained"]
    assert trained["size"] == "full"
    for name, own in trained["methods"].items():
        preset = resolve(own.get("preset", name), {}, "full")
        assert resolve(name, own, "full") == preset


@pytest.mark.parametrize("config", [shipped(), merge(shipped(), shipped("config.nsd.yaml"))])
def test_shipped_configurations_are_valid(config):
    assert check_schema(config, SCHEMA) == []
    assert check_consistency(config) == []


def keys(schema, prefix=""):
    """Dotted names of all keys a schema lists."""
    for name, part in schema.get("properties", {}).items():
        yield f"{prefix}{name}", part
        if part.get("type") == "object":
            yield from keys(part, f"{prefix}{name}.")


def test_every_key_is_described_has_a_default_and_stands_in_the_demo():
    demo = shipped()
    for name, part in keys(yaml.safe_load(SCHEMA.read_text())):
        assert part["description"].endswith("."), name
        assert "default" in part, name
        value = demo
        for piece in name.split("."):
            assert piece in value, name
            value = value[piece]


BROKEN = {
    "unknown key": ({"encodng": {}}, "Unknown key encodng: the allowed keys are dataset, "),
    "unknown nested key": ({"model": {"batch": 2}}, "Unknown key batch in model: the allowed"),
    "bad subject": ({"subjects": ["subj9"]}, "subjects[0] must be one of subj01, subj02, "),
    "no subjects": ({"subjects": []}, "subjects must be a list of at least one value"),
    "wrong type": ({"model": {"batch_size": "x"}}, "model.batch_size must be a whole number, at"),
    "out of range": ({"denoising": {"strength": 2}}, "denoising.strength must be a number, above"),
    "sessions": ({"nsd": {"sessions": "some"}}, "nsd.sessions must be all or a whole number, at"),
    "override of nobody": ({"overrides": {"bert": {}}}, "Unknown key bert in overrides: it must"),
    "override of nothing": ({"overrides": {"subj01": {"x": 1}}}, "Unknown key x in overrides.sub"),
    "region without atlas": ({"rois": {"early": ["early"]}}, "rois.early[0] must be a text of"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_one_sentence_for_a_bad_value(name):
    change, start = BROKEN[name]
    problems = check_schema(merge(shipped(), change), SCHEMA)
    assert len(problems) == 1
    assert problems[0].startswith(start)
    assert problems[0].count("\n") == 0


@pytest.mark.parametrize(
    ("text", "key", "kind"),
    [
        ("1e-3", "min_ncsnr", float),
        ("+2.5e3", "min_ncsnr", float),
        (".5E2", "min_ncsnr", float),
        ("'0.5'", "min_ncsnr", float),
        ("1e1", "decoding.n_folds", int),
        ("'12'", "demo.seed", int),
        ("2e0", "evaluation.n_way", int),
        ("3e0", "nsd.sessions", int),
    ],
)
def test_a_number_that_yaml_takes_for_text_is_shown_as_yaml_wants_it(text, key, kind):
    """What is to be written is read back by PyYAML as the number that was meant."""
    meant = yaml.safe_load(text)
    assert isinstance(meant, str)
    change = meant
    for piece in reversed(key.split(".")):
        change = {piece: change}
    (problem,) = check_schema(merge(shipped(), change), SCHEMA)
    write = problem.split("which YAML takes for text: write ")[1].split()[0]
    assert yaml.safe_load(write) == float(meant)
    assert type(yaml.safe_load(write)) is kind


@pytest.mark.parametrize("value", ["much", "", ".", "e3", "1e999", "1_0", "0x1F", "²"])
def test_other_texts_are_no_numbers(value):
    (problem,) = check_schema(merge(shipped(), {"min_ncsnr": value}), SCHEMA)
    assert "YAML" not in problem


def test_a_text_where_a_text_may_stand_is_no_number():
    assert check_schema(merge(shipped(), {"model": {"revision": "12345e67"}}), SCHEMA) == []


ONCE = {
    "a list that lacks a value": ({"reconstruction": {"methods": ["z"]}}, "must have zc among its"),
    "an empty list": ({"reconstruction": {"methods": []}}, "methods must be a list of at least"),
    "a misspelt value": ({"reconstruction": {"methods": ["z", "zcc"]}}, "methods[1] must be one"),
    "the same value twice": ({"decoding": {"alphas": ["x", "y", "x"]}}, "alphas[0]", "alphas[1]"),
    "a key that is missing": (
        {"feature_spaces": {"own": {"function": "a.b"}}},
        "feature_spaces.own must have settings, not only function.",
    ),
}


@pytest.mark.parametrize("name", ONCE)
def test_each_violation_once_with_what_is_missing(name):
    change, *words = ONCE[name]
    problems = check_schema(merge(shipped(), change), SCHEMA)
    if name == "the same value twice":
        problems = problems[-2:]
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


CONTRADICTIONS = {
    "no cortex among the regions": (
        {"rois": {"early": ["streams:early"], "ventral": ["streams:ventral"]}},
        "rois must have cortex",
    ),
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
    "beta version the demo lacks": (
        {"nsd": {"betas": "betas_fithrf"}},
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
    "too many images": ({"demo": {"unique_images": 5000}}, "demo.shared_images + demo.unique"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions(name):
    change, start = CONTRADICTIONS[name]
    config = merge(shipped(), change)
    config |= {"rois": change.get("rois", config["rois"])}  # a mapping that is not merged
    assert check_schema(config, SCHEMA) == []
    problems = check_consistency(config)
    assert len(problems) == 1
    assert problems[0].startswith(start)

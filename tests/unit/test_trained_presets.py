import json
import math

import pytest

from nsdldm.trained.alignment import Alignment
from nsdldm.trained.loop import make_schedule
from nsdldm.trained.networks import build_encoder, count_parameters
from nsdldm.trained.presets import PRESETS, SIZES, STAGES, check_methods, resolve

METHODS = {name: {} for name in PRESETS}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_resolves(name, size):
    settings = resolve(name, {}, size)
    assert settings.keys() == {"encoder", *STAGES}
    assert json.loads(json.dumps(settings)) == settings
    for stage in STAGES:
        assert settings[stage].keys() == PRESETS[name][stage].keys()
        assert make_schedule(settings[stage], seed=0).batch_size == settings[stage]["batch_size"]


@pytest.mark.parametrize("size", SIZES)
def test_presets_as_they_are_have_no_problems(size):
    assert check_methods(METHODS, size) == []


@pytest.mark.parametrize("name", PRESETS)
def test_demo_sizes_are_small(name):
    settings = resolve(name, {}, "demo")
    assert count_parameters(build_encoder(settings["stage1"], 160)) < 200_000


@pytest.mark.parametrize("size", SIZES)
def test_methods_of_table_3_share_their_encoders(size):
    found = {name: resolve(name, {}, size) for name in PRESETS}
    shared = {name: settings["encoder"] for name, settings in found.items()}
    assert {name for name in shared if shared[name] == "cae"} == {
        *("fcae-base", "fcae-f", "fcae-fi", "fcae-ft")
    }
    assert {name for name in shared if shared[name] == "mae"} == {"mae-f", "mae-fi"}
    for name in ("fcae", "mind-vis", "vis-dec"):
        assert list(shared.values()).count(shared[name]) == 1
    for name, settings in found.items():
        for other, others in found.items():
            if shared[name] == shared[other]:
                assert settings["stage1"] == others["stage1"], (name, other)
    kinds = {name: settings["stage1"]["encoder"] for name, settings in found.items()}
    assert {name for name in kinds if kinds[name] == "mae"} == {
        *("mae-f", "mae-fi", "mind-vis", "vis-dec")
    }


def test_ablations_differ_in_what_they_are_named_after():
    aligned = {name: resolve(name, {}, "full")["stage2"]["align"] for name in PRESETS}
    assert aligned == {
        "fcae": "image+text",
        "fcae-base": "image+text",
        "fcae-f": "none",
        "fcae-fi": "image",
        "fcae-ft": "text",
        "mae-fi": "image",
        "mae-f": "none",
        "mind-vis": "none",
        "vis-dec": "cross_mae",
    }


def test_own_settings_lie_over_those_of_the_size():
    own = {"preset": "fcae-base", "stage2": {"epochs": 3, "level": "global"}}
    settings = resolve("mine", own, "demo")
    assert settings["stage2"]["epochs"] == 3 and settings["stage2"]["level"] == "global"
    assert settings["encoder"] == "cae"
    assert settings["stage1"] == resolve("fcae-base", {}, "demo")["stage1"]
    other = resolve("mine", own | {"stage1": {"width": 32, "target": "kmeans"}}, "demo")
    assert other["encoder"] == "mine"
    assert other["stage1"]["width"] == 32 and other["stage1"]["target"] == "kmeans"
    # Presets are not changed on the way.
    settings["stage2"]["betas"].append(1)
    assert resolve("mine", own, "demo")["stage2"]["betas"] == [0.9, 0.95]


WRONG = {
    "unknown preset": ({"preset": "mae"}, "`methods`.fcae must name a preset (fcae, "),
    "unknown key": ({"stage1": {"widht": 3}}, "Unknown key widht in `methods`.fcae.stage1: "),
    "text": ({"stage1": {"width": "768"}}, "stage1.width must be like 768, not '768'."),
    "half": ({"stage1": {"depth": 2.5}}, "fcae.stage1.depth must be like 12, not 2.5."),
    "nothing": ({"stage1": {"mask_ratio": None}}, "stage1.mask_ratio must be like 0.75, not None."),
    "truth": (
        {"stage1": {"learning_rate": True}},
        "fcae.stage1.learning_rate must be like 0.0017, not True.",
    ),
    "number": ({"stage1": {"own_maps": 1}}, "fcae.stage1.own_maps must be like False, not 1."),
    "infinite": (
        {"stage3": {"learning_rate": math.inf}},
        "stage3.learning_rate must be like 5.3e-05, not inf.",
    ),
    "optional": (
        {"stage3": {"tokens": "77"}},
        "stage3.tokens must be like 77, not '77'.",
    ),
    "list": ({"stage1": {"betas": [0.9, "b"]}}, "stage1.betas must be like [0.9, 0.95], not "),
    "short list": ({"stage1": {"betas": [0.9]}}, "fcae.stage1.betas must be two numbers"),
    "large": ({"stage2": {"betas": [0.9, 1]}}, "fcae.stage2.betas must be two numbers"),
    "choice": ({"stage1": {"target": "vq"}}, "stage1.target must be one of mse, kmeans, "),
    "share": ({"stage1": {"mask_ratio": 1}}, "mask_ratio must be at least 0 and below 1, not 1."),
    "no mask": ({"stage1": {"mask_ratio": 0}}, "fcae.stage1.mask_ratio must be above 0: "),
    "zero": ({"stage1": {"learning_rate": 0}}, "fcae.stage1.learning_rate must be above 0, not 0."),
    "one code": ({"stage1": {"codes": 1}}, "fcae.stage1.codes must be at least 2, not 1."),
    "clip": (
        {"stage1": {"max_grad_norm": -1}},
        "fcae.stage1.max_grad_norm must be above 0, not -1.",
    ),
    "heads": ({"stage1": {"decoder_heads": 0}}, "stage1.decoder_heads must be above 0, not 0."),
    "negative": ({"stage2": {"decay": -0.1}}, "stage2.decay must be at least 0, not -0.1."),
    "width": ({"stage1": {"width": 770}}, "width must be even and a multiple of heads (12), not "),
    "odd": (
        {"stage1": {"regressor_width": 9, "regressor_heads": 3}},
        "regressor_width must be even and a multiple of regressor_heads (3), not 9.",
    ),
    "bins": ({"stage1": {"target": "quantile"}}, "codes must be at most 64 where target is q"),
    "part": ({"stage3": {"factors": {"unet": 1.0}}}, "factors must be of encoder, mapper, unet_p"),
    "contrast": ({"stage1": {"self_contrast": 1}}, "no self_contrast or cross_contrast where "),
    "cross": ({"stage2": {"align": "cross_mae"}}, "align can be cross_mae with the preset vis-dec"),
}


@pytest.mark.parametrize("problem", WRONG)
def test_each_problem_is_one_sentence(problem):
    own, expected = WRONG[problem]
    found = check_methods({"fcae": own}, "full")
    assert len(found) == 1, found
    assert expected in found[0]
    assert "`methods`.fcae" in found[0]
    assert found[0].endswith(".") and "\n" not in found[0]


def test_what_is_allowed_besides():
    own = {
        "stage1": {
            "max_grad_norm": None,
            "tokenizer_width": None,
            "epochs": 0.5,
            "learning_rate": 1,
            "decay": 0,
        },
        "stage2": {"mask_ratio": 0, "max_grad_norm": None, "mixer": "pool"},
        "stage3": {"tokens": 40, "epochs": 2.5, "factors": {"encoder": 0.1}},
    }
    assert check_methods({"fcae": own}, "full") == []
    image = {"image_path": None, "image_revision": None, "image_config": {}}
    assert check_methods({"vis-dec": {"stage2": image}}, "full") == []


def test_every_method_is_checked():
    methods = {
        "fcae": {"stage1": {"learning_rate": 0}},
        "mae-f": {"stage2": {"learning_rate": "x"}},
        "new": {},
    }
    found = check_methods(methods, "full")
    assert [sentence.split()[0] for sentence in found] == [
        "`methods`.fcae.stage1.learning_rate",
        "`methods`.mae-f.stage2.learning_rate",
        "`methods`.new",
    ]


@pytest.mark.parametrize(
    "methods",
    [
        {"mind-vis": {"stage1": {"epochs": 3}}, "long": {"preset": "mind-vis"}},
        {"mae-fi": {}, "mae": {"preset": "mae-f", "stage1": {"epochs": 3}}},
    ],
)
def test_encoders_of_one_name_must_be_one(methods):
    found = check_methods(methods, "full")
    assert len(found) == 1
    assert "must have another name: " in found[0] and "another stage1." in found[0]
    # As long as no other method has it, a name can be that of a preset.
    for name, own in methods.items():
        assert check_methods({name: own}, "full") == []


@pytest.mark.parametrize("name", ["fcae-joint", "fcae-subj05", "joint", "subj02"])
def test_names_of_cohorts_are_taken(name):
    """results/subj01/.../fcae-joint.h5 is of fcae, trained on all subjects."""
    found = check_methods({name: {"preset": "fcae"}}, "full", ["subj02", "subj05"])
    assert len(found) == 1 and "stand for whom a method is trained on" in found[0]
    assert check_methods({"fcae-subj09": {"preset": "fcae"}}, "full") == []


@pytest.mark.parametrize("name", [n for n in PRESETS if n != "vis-dec"])
def test_settings_of_the_second_stage_are_complete(name):
    settings = resolve(name, {"stage2": {"align": "image+text"}}, "demo")
    encoder = build_encoder(settings["stage1"], 160)
    network = Alignment(settings["stage2"], encoder, None, 5, 12)
    assert network.with_image and network.with_text

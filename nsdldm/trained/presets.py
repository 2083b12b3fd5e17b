"""Settings of the trained decoders: published systems, our base sizes, and small ones for the demo.

A preset names its encoder, so methods that only differ after the first stage share it, and has the
settings of three stages. Sources are given in ``docs/trained.md``. Imports are light, for the
Snakefile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy

STAGES = ("stage1", "stage2", "stage3")
ALIGNMENTS = ("none", "image", "text", "image+text", "cross_mae")

_MAE = {
    # Network; only the contextual kind has a regressor.
    "encoder": "mae",
    "adapter": "wrap",
    "adapter_width": 4096,
    "patch": 16,
    "width": 768,
    "depth": 12,
    "heads": 12,
    "mlp_ratio": 4.0,
    "tokenizer_width": 1024,
    "own_maps": False,
    "regressor_width": 512,
    "regressor_depth": 5,
    "regressor_heads": 8,
    "regressor_context": "all",
    "decoder_width": 512,
    "decoder_depth": 4,
    "decoder_heads": 8,
    # Task.
    "mask_ratio": 0.75,
    "sparsification": 0.2,
    "target": "mse",
    "codes": 8192,
    "reconstruction_weight": 1.0,
    "align_weight": 2.0,
    "self_contrast": 0.0,
    "cross_contrast": 0.0,
    "temperature": 0.1,
    # Training.
    "batch_size": 64,
    "epochs": 100,
    "learning_rate": 2.5e-4,
    "min_learning_rate": 1e-5,
    "warmup": 0.1,
    "decay": 0.05,
    "betas": [0.9, 0.95],
    "max_grad_norm": 3.0,
    "keep": "last",
}
_CAE = _MAE | {"encoder": "cae", "target": "kmeans"}
_ALIGN = {
    "align": "none",
    "level": "token",
    "mixer": "learned",
    "mask_ratio": 0.75,
    "sparsification": 0.2,
    "train_regressor": False,
    "image_weight": 1.0,
    "text_weight": 1.0,
    "temperature": 0.07,
    "batch_size": 64,
    "epochs": 200,
    "learning_rate": 5e-4,
    "min_learning_rate": 1e-5,
    "warmup": 0.1,
    "decay": 0.05,
    "betas": [0.9, 0.95],
    "max_grad_norm": 3.0,
    "keep": "best",
}
_UNREAD = ("level", "mixer", "train_regressor", "text_weight", "temperature")
# Vis-Dec's second stage, in addition to what it shares with the others.
_CROSS = {key: value for key, value in _ALIGN.items() if key not in _UNREAD} | {
    "align": "cross_mae",
    "sparsification": 0.0,
    "image_mask_ratio": 0.5,
    "response_weight": 0.25,
    "image_weight": 1.5,
    "cross_depth": 3,
    "decoder_width": 512,
    "decoder_depth": 6,
    "decoder_heads": 16,
    "mlp_ratio": 4.0,
    "own_maps": False,
    "image_path": "facebook/vit-mae-base",
    "image_revision": "0dfb9b7ed42dcfd1b74e164f86c63fd13429ced2",
    "image_config": {"decoder_num_hidden_layers": 6},
    "batch_size": 16,
    "epochs": 60,
    "learning_rate": 5.3e-5,
    "min_learning_rate": 0.0,
    "warmup": 0.033,
    "max_grad_norm": 0.8,
}
_DIFFUSE = {
    "tokens": None,
    "time_condition": True,
    "trained": ["attn2", "norm2"],
    "batch_size": 16,
    "epochs": 60,
    "learning_rate": 5.3e-5,
    "min_learning_rate": 5.3e-5,
    "factors": {"encoder": 1.0, "mapper": 1.0, "unet_parts": 1.0},
    "warmup": 0.0,
    "decay": 0.01,
    "betas": [0.9, 0.999],
    "max_grad_norm": 0.5,
    "keep": "last",
}
# Chen et al. 2023, with the mlp_ratio that gives the 303 M parameters quoted.
_MIND_VIS = _MAE | {
    "width": 1024,
    "depth": 24,
    "heads": 16,
    "tokenizer_width": None,
    "decoder_depth": 8,
    "decoder_heads": 16,
    "batch_size": 100,
    "epochs": 500,
    "min_learning_rate": 0.0,
    "warmup": 0.08,
    "max_grad_norm": 0.8,
}
# Sun et al. 2023.
_VIS_DEC = _MIND_VIS | {
    "self_contrast": 1.0,
    "cross_contrast": 0.5,
    "batch_size": 250,
    "epochs": 140,
    "warmup": 0.286,
}


def _method(encoder, stage1, align=None, stage2=None, stage3=None):
    stage2 = stage2 or _ALIGN | {"align": align or "none"}
    return {"encoder": encoder, "stage1": stage1, "stage2": stage2, "stage3": stage3 or _DIFFUSE}


PRESETS = {
    # As printed in Yang et al. 2025, including the learning rate, which is CAE's for batches of
    # 2,048.
    "fcae": _method(
        "cae-paper",
        _CAE | {"batch_size": 8, "learning_rate": 1.7e-3, "min_learning_rate": 1e-4},
        stage2=_ALIGN | {"align": "image+text", "batch_size": 16, "min_learning_rate": 0.0},
    ),
    # Table 3: the full model and its ablations.
    "fcae-base": _method("cae", _CAE, "image+text"),
    "fcae-f": _method("cae", _CAE),
    "fcae-fi": _method("cae", _CAE, "image"),
    "fcae-ft": _method("cae", _CAE, "text"),
    "mae-fi": _method("mae", _MAE, "image"),
    "mae-f": _method("mae", _MAE),
    "mind-vis": _method("mind-vis", _MIND_VIS),
    "vis-dec": _method("vis-dec", _VIS_DEC, stage2=_CROSS),
}

# Applied on top of a preset: two cores, minutes, a few hundred images and voxels.
_SMALL = {
    "width": 64,
    "depth": 2,
    "heads": 2,
    "tokenizer_width": None,
    # One map per patch: there are too few images to learn to distinguish patches by position.
    "own_maps": True,
    "regressor_width": 64,
    "regressor_depth": 1,
    "regressor_heads": 2,
    "decoder_width": 64,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "codes": 2,
    "align_weight": 0.1,
    "batch_size": 64,
    "epochs": 45,
    "learning_rate": 1e-3,
    "min_learning_rate": 1e-5,
    "warmup": 0.1,
    "max_grad_norm": 1.0,
}
DEMO = {
    "stage1": _SMALL,
    "stage2": {
        "batch_size": 64,
        "epochs": 60,
        "learning_rate": 4e-3,
        "min_learning_rate": 1e-5,
        "warmup": 0.1,
        "max_grad_norm": 1.0,
        "cross_depth": 1,
        "decoder_width": 64,
        "decoder_depth": 1,
        "decoder_heads": 2,
        "own_maps": True,
        "image_path": None,
        "image_revision": None,
        "image_config": {
            "image_size": 32,
            "patch_size": 8,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 128,
            "decoder_hidden_size": 64,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 128,
        },
    },
    "stage3": {
        "batch_size": 16,
        "epochs": 6,
        "learning_rate": 5e-4,
        "min_learning_rate": 1e-5,
        "warmup": 0.1,
        # Few steps: the new layers in between must learn quickly, and the encoder must not forget.
        "factors": {"encoder": 0.2, "mapper": 30.0, "unet_parts": 1.0},
    },
}
# A step with pictures and responses takes four times as long.
DEMO_CROSS = {"epochs": 15}
SIZES = ("full", "demo")


def resolve(name: str, own: dict, size: str) -> dict:
    """Settings of a method.

    Parameters
    ----------
    name : str
    own : dict
        Its configuration: preset (by default the method's name) and, by stage, the settings that
        differ from the preset's.
    size : {"full", "demo"}

    Returns
    -------
    dict
        encoder (name of the first stage's weights: the method's own if its first stage differs from
        the preset's), stage1, stage2, stage3.
    """
    chosen = deepcopy(PRESETS[own.get("preset", name)])
    for stage in STAGES:
        if size == "demo":
            _shrink(stage, chosen[stage])
        chosen[stage] |= deepcopy(own.get(stage, {}))
    if own.get("stage1"):
        chosen["encoder"] = name
    return chosen


def _shrink(stage, settings):
    """Apply the demo's sizes to a preset's settings of a stage."""
    settings |= {k: v for k, v in deepcopy(DEMO[stage]).items() if k in settings}
    if settings.get("align") == "cross_mae":
        settings |= DEMO_CROSS
    if settings.get("target") == "kmeans":
        # Above or below a voxel's median: noise hides which code a whole patch has.
        settings["target"] = "quantile"


def check_methods(methods: dict[str, dict], size: str, subjects: Sequence[str] = ()) -> list[str]:
    """List what is wrong with the configuration of methods.

    Parameters
    ----------
    methods : dict of dict
    size : str
    subjects : sequence of str
        Subjects of the run.

    Returns
    -------
    list of str
        One sentence per problem.
    """
    problems, encoders = [], {}
    for name, own in methods.items():
        where = f"`methods`.{name}"
        # Files of methods and cohorts share folders and are named after both.
        if f"-{name}".endswith(tuple(f"-{cohort}" for cohort in ("joint", *subjects))):
            problems.append(
                f"{where} must have another name: joint and names of subjects, alone or after a "
                "hyphen, stand for whom a method is trained on."
            )
        found = _check_keys(where, own.get("preset", name), own)
        if not found:
            settings = resolve(name, own, size)
            found = _check_values(where, settings)
            other, stage1 = encoders.setdefault(settings["encoder"], (name, settings["stage1"]))
            if stage1 != settings["stage1"]:
                found.append(
                    f"{where} must have another name: {other} has the encoder "
                    f"{settings['encoder']} with another stage1."
                )
        problems += found
    return problems


def _check_keys(where, preset, own):
    """Keys that a preset does not have, or values of another type."""
    if preset not in PRESETS:
        return [f"{where} must name a preset ({', '.join(PRESETS)}), not {preset}."]
    problems = []
    for stage in STAGES:
        known = PRESETS[preset][stage]
        for key, value in own.get(stage, {}).items():
            if key not in known:
                allowed = ", ".join(sorted(known))
                if key in RENAMED:
                    problems.append(f"{where}.{stage}.{key} is called {RENAMED[key]}.")
                    continue
                problems.append(
                    f"Unknown key {key} in {where}.{stage}: the allowed keys are {allowed}."
                )
                continue
            example = float(known[key]) if key == "epochs" else OPTIONAL.get(key, known[key])
            if not _alike(value, example, key in OPTIONAL):
                problems.append(f"{where}.{stage}.{key} must be like {example!r}, not {value!r}.")
    return problems


# Former names of settings.
RENAMED = {"rate": "learning_rate", "min_rate": "min_learning_rate", "clip": "max_grad_norm"}
# Settings that may be null, and their type otherwise.
OPTIONAL = {"max_grad_norm": 1.0, "tokenizer_width": 512, "tokens": 77}
OPTIONAL |= {"image_path": "facebook/vit-mae-base", "image_revision": "0dfb9b7ed42dcfd1"}


def _alike(value, known, optional=False):
    """Whether a value can replace that of a preset."""
    if value is None:
        return optional
    if isinstance(known, list):
        return isinstance(value, list) and all(_alike(each, known[0]) for each in value)
    if isinstance(known, float):
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is type(known)


CHOICES = {
    "stage1": {
        "adapter": ("wrap", "linear"),
        "encoder": ("mae", "cae"),
        "target": ("mse", "kmeans", "randproj", "quantile"),
        "regressor_context": ("all", "visible"),
        "keep": ("last", "best"),
    },
    "stage2": {
        "align": ALIGNMENTS,
        "level": ("token", "global"),
        "mixer": ("learned", "pool"),
        "keep": ("last", "best"),
    },
    "stage3": {"keep": ("last", "best")},
}
PARTS = ("", "regressor_", "decoder_")
MOST_BINS = 64
SHARES = ("mask_ratio", "image_mask_ratio", "sparsification", "warmup")
POSITIVE = ("adapter_width", "batch_size", "max_grad_norm", "depth", "epochs")
POSITIVE += ("mlp_ratio", "patch", "learning_rate", "temperature", "tokenizer_width", "tokens")
POSITIVE += tuple(f"{part}{key}" for part in PARTS for key in ("width", "heads"))
NOT_NEGATIVE = (
    "min_learning_rate",
    "decay",
    "decoder_depth",
    "regressor_depth",
    "reconstruction_weight",
)
NOT_NEGATIVE += ("align_weight", "self_contrast", "cross_contrast", "image_weight", "text_weight")
NOT_NEGATIVE += ("response_weight", "cross_depth")


def _check_values(where, settings):
    """Values that no stage can use."""
    problems = []
    for stage in STAGES:
        for key, value in settings[stage].items():
            place = f"{where}.{stage}.{key}"
            choices = CHOICES[stage].get(key)
            if choices and value not in choices:
                problems.append(f"{place} must be one of {', '.join(choices)}, not {value}.")
            if key == "factors":
                problems += _check_factors(place, value)
            if key in SHARES and not 0 <= value < 1:
                problems.append(f"{place} must be at least 0 and below 1, not {value}.")
            if key == "betas" and not (len(value) == 2 and all(0 <= beta < 1 for beta in value)):
                problems.append(f"{place} must be two numbers of at least 0 and below 1.")
            if key == "codes" and not value >= 2:
                problems.append(f"{place} must be at least 2, not {value}.")
            if key in POSITIVE and value is not None and not value > 0:
                problems.append(f"{place} must be above 0, not {value}.")
            if key in NOT_NEGATIVE and not value >= 0:
                problems.append(f"{place} must be at least 0, not {value}.")
    return problems or _check_pairs(where, settings)


def _check_factors(place, factors):
    """Learning-rate factors of parts that do not exist, or that are not factors."""
    known = PRESETS["fcae"]["stage3"]["factors"]
    problems = [
        f"{place} must be of {', '.join(known)}, not of {part}."
        for part in factors
        if part not in known
    ]
    return problems + [
        f"{place}.{part} must be a number of at least 0, not {factor}."
        for part, factor in factors.items()
        if isinstance(factor, bool | str | None) or not factor >= 0
    ]


def _check_pairs(where, settings):
    """Values that are incompatible."""
    problems, first = [], settings["stage1"]
    for stage in STAGES:
        for name in PARTS:
            width, heads = (settings[stage].get(f"{name}{key}") for key in ("width", "heads"))
            if width and (width % heads or width % 2):
                problems.append(
                    f"{where}.{stage}.{name}width must be even and a multiple of {name}heads "
                    f"({heads}), not {width}."
                )
    if not first["mask_ratio"]:
        problems.append(f"{where}.stage1.mask_ratio must be above 0: masked voxels are the task.")
    if first["encoder"] == "cae" and (first["self_contrast"] or first["cross_contrast"]):
        problems.append(
            f"{where}.stage1 must have no self_contrast or cross_contrast where encoder is cae."
        )
    if first["target"] == "quantile" and first["codes"] > MOST_BINS:
        problems.append(
            f"{where}.stage1.codes must be at most {MOST_BINS} where target is quantile, whose "
            f"codes are of each voxel, not {first['codes']}."
        )
    if (settings["stage2"]["align"] == "cross_mae") != ("cross_depth" in settings["stage2"]):
        problems.append(
            f"{where}.stage2.align can be cross_mae with the preset vis-dec, and is always then."
        )
    return problems

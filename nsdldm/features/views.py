"""How each network that compares pictures is shown them, and which metrics result.

Standard library only, since the Snakefile looks up the names in a configuration here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# Values of PIL.Image.Resampling; importing PIL takes time.
BILINEAR, BICUBIC = 2, 3
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIGNED = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
COLOURS = {"imagenet": IMAGENET, "clip": CLIP, "signed": SIGNED}


class View(NamedTuple):
    """One way in which a network is shown pictures, and which of its features are scored.

    Parameters
    ----------
    pixels : int or None
        Side of the square that pictures are resized to; None for the model's own.
    resample : int
        Value of PIL.Image.Resampling.
    colours : tuple of two tuples
        Mean and standard deviation of each channel, of values from 0 to 1.
    layers : dict of str to str
        For each feature, the name of the module whose output it is.
    psm : tuple of str
        Features scored as psm, 2way and 2way-reconstruction.
    community : dict of str to tuple
        For each metric, the feature and "2way" or "distance".
    pairs : dict of str to tuple
        Scores of each reconstruction with its own original only: for nway, category, background or
        clipscore, the feature and the first and last + 1 of its values, such as classes.
    """

    pixels: int | None
    resample: int
    colours: tuple
    layers: dict
    psm: tuple = ()
    community: dict = {}  # noqa: RUF012
    pairs: dict = {}  # noqa: RUF012


def _community(pixels, metrics, colours=IMAGENET):
    """A view scored as is common in the field, from metrics with module and score."""
    layers = {metric: module for metric, (module, _) in metrics.items()}
    scores = {metric: (metric, score) for metric, (_, score) in metrics.items()}
    return View(pixels, BILINEAR, colours, layers, community=scores)


def _psm(pixels, resample, colours, layers, **pairs):
    """A view whose features are all scored as in the published code."""
    return View(pixels, resample, colours, layers, psm=tuple(layers), **pairs)


CLIP_SCORE = {"clipscore": ("image_embeds", None, None)}
# Objects and places in the demo's scenes, which its judge distinguishes.
N_CATEGORIES, N_BACKGROUNDS = 12, 7
# The published code (img2feat_decoded.py) gives AlexNet 299 pixels, like Inception. Brain-Diffuser
# (eval_extract_features.py) gives all networks 224; MindEye gives EfficientNet 255.
VIEWS = {
    "demo-clip": [
        _psm(
            *(None, BICUBIC, SIGNED),
            {"image_embeds": "visual_projection", "hidden_1": "vision_model.encoder.layers.0"},
            pairs=CLIP_SCORE,
        )
    ],
    "demo-alexnet": [
        _psm(None, BICUBIC, SIGNED, {"conv2": "body.5", "conv5": "body.12", "fc": "body.16"})
    ],
    "demo-judge": [
        _psm(
            *(None, BICUBIC, SIGNED, {"features": "body", "logits": "head"}),
            pairs={
                "nway": ("logits", 0, N_CATEGORIES),
                "category": ("logits", 0, N_CATEGORIES),
                "background": ("logits", N_CATEGORIES, N_CATEGORIES + N_BACKGROUNDS),
            },
        )
    ],
    "alexnet": [
        _psm(
            *(299, BILINEAR, IMAGENET),
            {name: name for name in ("features.5", "features.12", "classifier.5")},
        ),
        _community(224, {"alexnet2": ("features.4", "2way"), "alexnet5": ("features.11", "2way")}),
    ],
    "clip": [
        _psm(
            *(224, BICUBIC, CLIP),
            {
                "image_embeds": "visual_projection",
                # The output of the k-th layer is hidden state k.
                "hidden_6": "vision_model.encoder.layers.5",
                "hidden_12": "vision_model.encoder.layers.11",
            },
            pairs=CLIP_SCORE,
        ),
        _community(224, {"clip": ("visual_projection", "2way")}, CLIP),
    ],
    "clip-b32": [
        View(*(224, BICUBIC, CLIP, {"image_embeds": "visual_projection"}), pairs=CLIP_SCORE)
    ],
    "inception": [
        _psm(299, BILINEAR, IMAGENET, {"flatten": "avgpool"}),
        _community(224, {"inception": ("avgpool", "2way")}),
    ],
    "efficientnet-v1": [_community(224, {"effnet-v1": ("avgpool", "distance")})],
    "efficientnet-v2": [_community(255, {"effnet-v2": ("avgpool", "distance")})],
    "swav": [_community(224, {"swav": ("avgpool", "distance")})],
    "vit-h-14": [
        View(
            *(518, BICUBIC, IMAGENET, {"logits": "heads"}),
            pairs={"nway": ("logits", 0, 1000)},
        )
    ],
}


def list_metrics(name: str, n_ways: Sequence[int] = ()) -> list[str]:
    """List the metrics that a network serves.

    Parameters
    ----------
    name : str
        Key of `VIEWS`.
    n_ways : sequence of int
        Numbers of classes of n-way accuracy.

    Returns
    -------
    list of str
    """
    return [metric for view in VIEWS[name] for metric in name_metrics(name, view, n_ways)]


def name_metrics(name: str, view: View, n_ways: Sequence[int]) -> list[str]:
    """List the metrics that one view of a network serves."""
    kinds = ("psm", "2way", "2way-reconstruction")
    return [
        *(f"{kind}:{name}:{layer}" for layer in view.psm for kind in kinds),
        *view.community,
        *(f"{own}:{name}" for kind in view.pairs for own in name_ways(kind, n_ways)),
    ]


def name_ways(kind: str, n_ways: Sequence[int]) -> dict[str, int | None]:
    """Names of a score of pairs, with the numbers of classes that n-way accuracy has.

    Parameters
    ----------
    kind : str
    n_ways : sequence of int

    Returns
    -------
    dict of str to int or None
        ``nway`` uses the first number, ``nway-50`` uses 50.
    """
    if kind != "nway" or not n_ways:
        return {kind: None}
    return {kind: n_ways[0]} | {f"{kind}-{n}": n for n in n_ways}

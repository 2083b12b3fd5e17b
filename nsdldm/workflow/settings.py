"""Every setting of the workflow: name, default, unit, meaning, bounds and cross-checks.

This is the only place that defines keys: ``schemas/config.schema.yaml`` and ``docs/config.md`` are
generated from here (``make config-docs``), and `nsdldm.workflow.loading` reads configurations with
it. Defaults are those for NSD and Stable Diffusion 1.4; `DEMO` holds what differs in the demo.
Imports only pydantic and the standard library, since every job imports it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from nsdldm.features.spaces import CONTROLS, PARTS, plan_spaces
from nsdldm.features.views import COLOURS, VIEWS
from nsdldm.laion import layout as laion
from nsdldm.nsd import layout
from nsdldm.support.errors import InputError, write_arguments
from nsdldm.trained.presets import check_methods
from nsdldm.workflow.arguments import find_keys, name_keys
from nsdldm.workflow.datasets import DATASETS, FORMS, SIMULATED, TAKEN, list_people

LARGEST_SEED = 2**32 - 1
# Formats of the simulated release.
DEMO_WRITES = {"betas": layout.BETA_VERSIONS[2], "format": "hdf5", "space": "func1pt8mm"}
# Networks of the published metrics.
PUBLISHED = ("alexnet", "clip", "clip-b32", "inception", "efficientnet-v1", "swav", "vit-h-14")
# What users of the release call the versions of the betas.
SHORT_BETAS = dict(zip(("b1", "b2", "b3"), layout.BETA_VERSIONS, strict=True))


def _key(default, meaning, unit=None, old=None, **bounds):
    """A setting: default, meaning in one sentence, unit, and its former name."""
    extra = {name: said for name, said in (("unit", unit), ("old", old)) if said}
    if extra:
        bounds["json_schema_extra"] = extra
    return Field(default, description=meaning, **bounds)


def _refuse_repeats(values):
    if max(Counter(map(repr, values)).values(), default=0) > 1:
        raise PydanticCustomError("repeats", "the same value twice")
    return values


def _expand(value):
    """A path with ~ and $VARIABLES expanded."""
    if not isinstance(value, str):
        return value
    path = os.path.expandvars(os.path.expanduser(value))
    unset = re.search(r"\$(\w+|\{\w+\})", path)
    if unset:
        raise PydanticCustomError("unset", "a path of variables that are set")
    return path


def _expand_weights(settings):
    """The same for the settings of a function that are known to be paths."""
    paths = {key: _expand(settings[key]) for key in ("weights", "negative") if key in settings}
    return settings | paths


_LISTED = [AfterValidator(_refuse_repeats), Field(json_schema_extra={"uniqueItems": True})]
_FILLED = [*_LISTED, Field(min_length=1)]


def _text(pattern, words, **bounds):
    return Annotated[str, Field(pattern=pattern, json_schema_extra={"words": words}, **bounds)]


LETTER_FIRST = "of letters, digits and hyphens, a letter first"
Subject = _text(r"^[A-Za-z][A-Za-z0-9-]*$", "such as subj01 or sub-01", max_length=60)
Region = _text(r"^[A-Za-z][A-Za-z0-9-]*$", LETTER_FIRST, max_length=60)
Part = _text(r"^[A-Za-z0-9_-]+:[^:\n]+$", "of the form atlas:label", max_length=200)
Variable = _text(r"^[A-Za-z][A-Za-z0-9]*$", "of letters and digits, a letter first", max_length=60)
Module = _text(r"^[A-Za-z0-9_.]+$", "of the form down_blocks.0")
SpaceName = _text(
    r"^[A-Za-z][A-Za-z0-9_-]*$",
    "of letters, digits, hyphens and underscores, a letter first",
    max_length=60,
)
Function = _text(
    r"^[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)+$", "of the form module.function"
)
MethodName = _text(
    r"^[a-z][a-z0-9-]*$", "of small letters, digits and hyphens, a letter first", max_length=60
)
Metric = _text("^[A-Za-z0-9:._-]+$", "of the form psm:clip:image_embeds")
Url = _text(r"^https?://[^\s{}]+$", "of the form https://host")
Sha256 = _text("^[0-9A-Fa-f]{64}$", "of 64 hexadecimal digits")
Path = Annotated[str, BeforeValidator(_expand)]
Place = Annotated[
    str,
    Field(pattern=r"^[^{}\n]+$", json_schema_extra={"words": "without braces or line breaks"}),
    BeforeValidator(_expand),
]
Split = _text(
    r"^((unique|sessions)-[1-9][0-9]*|[a-z][a-z0-9_]*)$",
    "such as sessions-10, unique-37, cluster, category, random or tau",
    max_length=60,
)
Protocol = Literal["corrected", "rescaled", "rescaled-test", "takagi2023"]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Shares = Annotated[list[Share], *_FILLED]
Alphas = Annotated[list[Positive], *_FILLED]
Session = Annotated[int, Field(ge=1, le=40)]
Sessions = Literal["all", "available"] | Session | Annotated[list[Session], *_FILLED]
Classes = Annotated[int, Field(ge=2)]
Betas = Annotated[
    Literal[*SHORT_BETAS, *layout.BETA_VERSIONS],
    AfterValidator(lambda value: SHORT_BETAS.get(value, value)),
]


# What a generator may be given, and what is made of decoded features on the way to it.
ROLES = ("from", "text", "image", "pooled", "depth")
MADE_OF = {
    "retrieval": (None, None),
    "captions": ("captions", "text"),
    "prior": ("prior", "from"),
}
LAYERS = "nsdldm.features.layers.embed_layers"
# The baseline reconstruction: the training image with the nearest embedding.
NEAREST = "nearest"


def _seed(meaning):
    return _key(42, meaning, ge=0, le=LARGEST_SEED)


class Section(BaseModel):
    """Settings that belong together; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class Entry(Section):
    """An entry of a map of named things; only the settings given count."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, write):
        return {name: value for name, value in write(self).items() if name in self.model_fields_set}


class Nsd(Section):
    """The release and which part of it to use."""

    root: Place | None = _key(
        None,
        "Folder with nsddata, nsddata_betas and nsddata_stimuli, or its address in a bucket "
        "(s3://bucket or s3://bucket/folder).",
    )
    roots: dict[Literal[layout.PARTS], Place] = _key(
        {},
        "Folders, or addresses in a bucket, that stand for nsddata, nsddata_betas or "
        "nsddata_stimuli where these are not under nsd.root.",
    )
    captions: Place | None = _key(
        None,
        "Folder with COCO's captions_train2017.json and captions_val2017.json, or its address in "
        "a bucket; null means nsddata_stimuli/stimuli/nsd/annotations under the root.",
    )
    endpoint: Url | None = _key(
        None, "URL of the service that hosts the bucket; null means Amazon's."
    )
    signed: bool = _key(
        False, "Sign requests to the bucket with your credentials; a public bucket needs none."
    )
    betas: Betas = _key(
        layout.BETA_VERSIONS[2],
        "Version of the single-trial betas; b1, b2 and b3 are short for the other three, in this "
        "order.",
    )
    format: Literal["hdf5", "nifti"] = _key(
        "hdf5", "Which of the two files of a session to read; both contain the same values."
    )
    space: Literal[layout.SPACES] = _key("func1pt8mm", "Volume space of betas and regions.")
    reorient: bool = _key(
        False,
        "Reorient volumes (regions, ncsnr) whose axes differ from the release's (right, front, "
        "top), without resampling. Otherwise they are refused.",
    )
    sessions: Sessions = _key(
        37,
        "All sessions of a subject, those whose betas are present (available), the first n, or a "
        "list of session numbers from 1. The published split uses the first 37.",
        "sessions",
    )
    test_sets: Annotated[list[Literal["shared", "synthetic", "imagery"]], *_FILLED] = _key(
        ["shared"],
        "Images that generalisation is tested on: the shared ones of the core experiment, those of "
        "NSD-synthetic, and those of NSD-Imagery, seen, imagined and attended to. The first is "
        "always there.",
    )
    imagery_order: Literal["chronological", "by-condition"] = _key(
        "chronological",
        "Order of the betas within a run of NSD-Imagery. The release does not document it; each "
        "subject's vision runs are checked against both.",
    )


class Laion(Section):
    """LAION-fMRI, and which part of it to use."""

    root: Place | None = _key(
        None, "Folder with derivatives and stimuli of the release, or its address in a bucket."
    )
    stimuli: Place | None = _key(
        None,
        "Folder with task-images_stimuli.h5, which needs an agreement of its own, and its tables; "
        "null means stimuli under the root.",
    )
    splits: Place | None = _key(
        None,
        "Folder with the release's divisions of images, one folder per pool, as in the Python "
        "package laion_fmri (laion_fmri/splits/data).",
    )
    pool: Literal["subject", "shared"] = _key(
        "subject", "Whose images these divide: all of a subject's, or those that all saw."
    )
    sessions: Sessions = _key(
        "all", "All sessions of a subject, the first n, or a list of session numbers.", "sessions"
    )


class Arrays(Section):
    """A dataset of your own, as arrays and tables (docs/datasets.md)."""

    root: Path | None = _key(None, "Its folder.")


class Model(Section):
    """The latent diffusion model, in the layout of diffusers."""

    path: Path = _key("CompVis/stable-diffusion-v1-4", "A folder or a hub id.")
    revision: str | None = _key(
        "133a221b8aa7292a167afc5127cb63fb5005638b",
        "Commit of the hub repository; null for a folder, and if only path is set.",
    )
    resolution: int = _key(320, "Side of the picture given to the autoencoder.", "pixels", ge=8)
    device: Literal["auto", "cpu", "cuda"] = _key(
        "auto", "Where networks and ridge regressions run; auto uses a GPU if there is one."
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = _key(
        "auto", "Precision of the networks; auto means float16 on a GPU and float32 on a CPU."
    )
    batch_size: int = _key(32, "Images per batch; halved when memory runs out.", "images", ge=1)


class Denoising(Section):
    """How z_c is made of z and c: z is noised, then denoised with c."""

    num_inference_steps: int = _key(
        50, "Steps of the full chain.", "steps", ge=1, le=1000, old="steps"
    )
    strength: Share = _key(0.8, "Fraction of the chain that is run: 0.8 of 50 steps runs 40.")
    guidance_scale: float = _key(
        5.0, "Classifier-free guidance scale; 1 turns it off.", ge=1, old="guidance"
    )
    scheduler: Literal["ddim", "dpmsolver++"] = _key("ddim", "Sampler.")
    noise: Literal["per-image", "shared"] = _key(
        "per-image", "Different noise for each image, or the same noise for all."
    )
    seed: int = _seed("Seed of the noise.")


class Variant(Entry):
    """What differs from denoising."""

    noise: Literal["per-image", "shared"] = _key(
        "per-image", "Different noise for each image, or the same noise for all."
    )
    seed: int = _seed("Seed of the noise.")


class Trajectories(Section):
    """Latents and U-Net activations along the reverse process of denoising, for figures 7 to 9."""

    noise_levels: Annotated[list[Share], *_LISTED] = _key(
        [0.2, 0.4, 0.6, 0.8, 1.0],
        "Fractions of the chain that are run; z_c is kept at the end of each.",
        min_length=2,
    )
    drawn_levels: Shares = _key(
        [0.2, 0.6, 1.0], "The noise levels drawn in figure 7: low, middle, high."
    )
    step_shares: Shares = _key(
        [0.25, 0.5, 1.0],
        "Fractions of the steps run with denoising.strength after which latents and activations "
        "are kept: early, middle, late (figures 8 and 9).",
    )
    latent: Literal["x_t", "x0"] = _key(
        "x_t",
        "Latent kept at a step: the noisy latent (x_t), or the clean latent predicted there (x0).",
    )
    blocks: dict[Variable, Module] = _key(
        {
            "down1": "down_blocks.0",
            "down2": "down_blocks.1",
            "mid": "mid_block",
            "up1": "up_blocks.0",
            "up2": "up_blocks.1",
        },
        "Names and paths of the U-Net modules whose output is kept, in the order of the network.",
        min_length=2,
    )
    reduction: Literal["exact", "projection", "pooling"] = _key(
        "exact",
        "Whether Gram matrices use the full activations (exact), or a projection or pooling to "
        "width.",
    )
    width: int = _key(
        6400, "Maximum width per block and step after projection or pooling.", "numbers", ge=1
    )
    variants: dict[Variable, Variant] = _key(
        {"shared": {"noise": "shared"}, "seed43": {"seed": 43}, "seed44": {"seed": 44}},
        "Other noise, for comparison over the steps; each has the settings that differ from "
        "denoising.",
    )
    controls: Annotated[list[Literal[CONTROLS]], *_LISTED] = _key(
        ["empty", "other-caption"],
        "Control texts that z_c is denoised with: none, or another image's. What z_c then adds to "
        "z cannot come from c. The part of z_c that is linear in z is always a control.",
    )
    chunks: int = _key(8, "Jobs that share the images of a subject.", "jobs", ge=1)


class FeatureSpace(Entry):
    """A user-defined feature space."""

    function: Function = Field(
        description="Dotted name of a function like nsdldm.features.pictures.embed_pictures."
    )
    settings: Annotated[dict[str, Any], AfterValidator(_expand_weights)] = Field(
        description="Its keyword arguments; weights is a path or a hub id."
    )
    encoders: bool = _key(
        True, "Whether encoders are fitted to it; false for what is only decoded."
    )


class LayeredNetwork(Section):
    """A network whose layers are compared: which of them predicts a voxel best."""

    network: Literal[tuple(VIEWS)] | None = _key(
        None, "A network that evaluation.networks may have, or null with function."
    )
    function: Function | None = _key(
        None,
        "Dotted name of what makes it, such as timm.create_model, torchvision.models.resnet50 or "
        "transformers.AutoModel.",
    )
    options: dict[str, Any] = _key({}, "Keyword arguments of function.")
    weights: Path | None = _key(
        None,
        "A file, a folder in the layout of transformers, the demo model's folder, an https address "
        "or a hub id; null takes those that function draws, always the same.",
    )
    revision: str | None = _key(None, "Commit of a hub id.")
    sha256: Sha256 | None = _key(None, "Hash of a file of weights.")
    layers: Annotated[dict[Variable, Module], Field(min_length=2)] = Field(
        description="Names and module paths, in the order of the network."
    )
    pixels: int | None = _key(
        None, "Side of the pictures shown; null means the network's own.", "pixels", ge=8
    )
    colours: Literal[tuple(COLOURS)] | None = _key(
        None,
        "Mean and standard deviation of colours that the network of function expects; null means "
        "its own.",
    )
    reduction: Literal["exact", "projection", "pooling"] = _key(
        "exact", "As trajectories.reduction, for each layer."
    )
    width: int = _key(6400, "Maximum width per layer after projection or pooling.", "numbers", ge=1)


class Decoding(Section):
    """Ridge decoders of features of the images, from single trials."""

    targets: dict[SpaceName, Region] = _key(
        {"z": "early", "c": "ventral"},
        "The region (a key of rois and matrices) that each feature is decoded from: z, c, zc or a "
        "name of feature_spaces. The latter are decoded on request only (docs/beyond.md).",
        min_length=1,
    )
    protocols: Annotated[list[Protocol], *_FILLED] = _key(
        ["corrected", "takagi2023"],
        "Decoding protocols to run; figures show the first. takagi2023 is the arithmetic of the "
        "published decoders, not of their reconstruction (docs/choices.md); rescaled and "
        "rescaled-test give predictions the spread of the training features (docs/beyond.md).",
    )
    alphas: Alphas = _key(
        [1.0e0, 1.0e1, 1.0e2, 1.0e3, 1.0e4, 1.0e5, 1.0e6],
        "Ridge penalties tried by the corrected protocol, on standardised responses.",
    )
    n_folds: int = _key(
        5, "Cross-validation folds of the corrected protocol, grouped by image.", "folds", ge=2
    )
    solver: Literal["auto", "himalaya", "statistics"] = _key(
        "auto",
        "himalaya's RidgeCV, or the same ridge from sums over trials, faster where there are fewer "
        "voxels than trials; auto chooses by that. takagi2023 always takes himalaya.",
    )
    learning_curve: Annotated[list[Session], *_LISTED] = _key(
        [1, 2, 5, 10, 20],
        "Numbers of sessions at which the learning curve is drawn, in addition to all sessions of "
        "a subject.",
        "sessions",
    )
    weights: bool = _key(False, "Keep the decoders' weights (voxels x dimensions).")
    memory_gb: Positive = _key(
        48.0, "Memory that a fit may use; determines how many targets are fitted at once.", "GB"
    )
    seed: int = _seed("Seed of the folds, and of sampled latents in takagi2023.")


class Reconstruction(Section):
    """Pictures from decoded features."""

    methods: Annotated[list[Literal["z", "z-coarse", "c", "zc", "true-zc"]], *_FILLED] = _key(
        ["z", "z-coarse", "c", "zc", "true-zc"],
        "What to reconstruct from; z-coarse omits diffusion, true-zc uses the true features of "
        "the images (the ceiling). zc must be included.",
    )
    resolution: int = _key(512, "Side of the reconstructions.", "pixels", ge=8)
    samples: int = _key(5, "Pictures per image and method.", "pictures", ge=1)
    num_inference_steps: int = _key(
        50, "Steps of the full chain.", "steps", ge=1, le=1000, old="steps"
    )
    strength: Share = _key(
        0.8, "Fraction of the chain that is run from z; c alone runs the full chain."
    )
    guidance_scale: float = _key(
        5.0, "Classifier-free guidance scale; 1 turns it off.", ge=1, old="guidance"
    )
    scheduler: Literal["ddim", "dpmsolver++"] = _key("ddim", "Sampler.")
    compile: bool = _key(False, "Compile the U-Net; worthwhile on a GPU.")
    chunks: int = _key(8, "Jobs that share the images of a subject and method.", "jobs", ge=1)
    seed: int = _seed("Seed of the noise.")


class Generator(Entry):
    """A diffusion model that makes pictures of decoded features."""

    function: Function = _key(
        "nsdldm.generators.generator.open_stable_diffusion",
        "Dotted name of the function that opens it (docs/generators.md).",
    )
    path: Path | None = _key(
        None, "A folder in the layout of diffusers, or a hub id; null means that of model."
    )
    revision: str | None = _key(None, "Commit of the hub repository.")
    settings: Annotated[dict[str, Any], AfterValidator(_expand_weights)] = _key(
        {}, "Further keyword arguments; weights is a path or a hub id."
    )


# Made by a function, since `from` is a word of Python's.
Generated = create_model(
    "Generated",
    __base__=Entry,
    __module__=__name__,
    __doc__="What a method of reconstruction is given: names of decoding.targets, or prior.",
    generator=(
        MethodName,
        _key("stable-diffusion", "One of beyond.generators, or stable-diffusion."),
    ),
    **{
        "from": (
            SpaceName | None,
            _key(None, "Latents that the reverse process starts from; null is pure noise."),
        )
    },
    text=(
        SpaceName | None,
        _key(None, "Text embedding; captions is that of the decoded caption, null the empty one."),
    ),
    image=(SpaceName | None, _key(None, "Image embedding.")),
    pooled=(
        SpaceName | None,
        _key(None, "Pooled text embedding, which Stable Diffusion XL takes."),
    ),
    depth=(SpaceName | None, _key(None, "Map of relative inverse depth.")),
    ceiling=(bool, _key(False, "Take the true features of the images.")),
    protocol=(Protocol | None, _key(None, "Decoding protocol; null means the first.")),
    strength=(Share | None, _key(None, "Null means that of reconstruction.")),
    guidance_scale=(
        Annotated[float, Field(ge=1)] | None,
        _key(None, "Null means that of reconstruction."),
    ),
)


class Captioner(Section):
    """A captioner of transformers, GIT or BLIP, that writes captions of its decoded features."""

    path: Path | None = _key(
        None,
        "A folder in the layout of transformers, or a hub id; null chooses among captions of "
        "training images.",
    )
    revision: str | None = _key(None, "Commit of the hub repository.")
    num_beams: int = _key(3, "Beams of the search; 1 takes the likeliest token.", "beams", ge=1)
    max_length: int = _key(20, "Tokens at most, the first included.", "tokens", ge=2)
    min_length: int = _key(5, "Tokens at least, counted alike.", "tokens", ge=0)
    repetition_penalty: float = _key(
        1.5, "Above 1, tokens that are already there become less likely.", gt=0
    )


class Captions(Section):
    """Captions of decoded features."""

    target: SpaceName | None = _key(
        None,
        "What captions are made of (a key of decoding.targets), an embedding of captions or "
        "pictures or features of the captioner; null makes no captions.",
    )
    captioner: Captioner = Field(default_factory=Captioner)
    neighbours: int = _key(5, "Training images whose captions are considered.", "images", ge=1)
    clip: Path | None = _key(
        None,
        "CLIP that captions are compared by: a folder in the layout of transformers, or a hub id.",
    )
    revision: str | None = _key(None, "Commit of the hub repository.")
    wordnet: Path | None = _key(
        None, "Folder with WordNet's files, for METEOR's synonyms; null does without them."
    )


class Retrieval(Section):
    """Finding images by decoded embeddings."""

    target: SpaceName | None = _key(
        None, "The embedding (a key of decoding.targets); null retrieves nothing."
    )
    candidates: int = _key(
        300, "Test images to choose from, in MindEye's protocol.", "images", ge=2
    )


class Prior(Section):
    """Images that have decoded network features, found by optimisation."""

    target: SpaceName | None = _key(
        None,
        "Features of nsdldm.features.layers.embed_layers (a key of decoding.targets); null makes "
        "no prior.",
    )
    start: Literal["z"] | None = _key("z", "Latents to start from; null is the mean.")
    steps: int = _key(16, "Steps of Adam.", "steps", ge=1)
    learning_rate: Positive = _key(
        0.3, "At the first step; falls linearly to 0.", "standard deviations of training latents"
    )
    latent_weight: float = _key(
        0.3,
        "Weight of the squared distance from the start, in variances of training latents.",
        ge=0,
    )
    total_variation: float = _key(
        0.0, "Weight of the mean absolute difference between neighbouring pixels.", ge=0
    )
    rescale: bool = _key(
        False,
        "Give decoded features the training mean and standard deviation of each dimension, over "
        "all test images.",
    )


class Beyond(Section):
    """Further decoded features and what is made of them; made only on request (docs/beyond.md)."""

    generators: dict[MethodName, Generator] = _key({}, "Further generators by name.")
    methods: dict[MethodName, Generated] = _key(
        {}, "Further methods of reconstruction by name; pictures are as in reconstruction."
    )
    metrics: Annotated[list[Metric], *_FILLED] = _key(
        ["corr16", "alexnet5", "clip"], "Metrics of reconstructions that figure 10 draws."
    )
    retrieval: Retrieval = Field(default_factory=Retrieval)
    captions: Captions = Field(default_factory=Captions)
    prior: Prior = Field(default_factory=Prior)
    depth: SpaceName | None = _key(
        None, "Depth maps (a key of decoding.targets) that are scored; null scores none."
    )


class Generalisation(Section):
    """What decoders and encoders are fitted to and tested on; made only on request
    (docs/generalisation.md)."""

    splits: Annotated[list[Split], *_LISTED] = _key(
        [],
        "Other divisions of the images than the shared one. sessions-N and unique-N use the first "
        "N sessions, or all if there are fewer; the latter tests on images that no other subject "
        "saw. cluster and category hold out whole clusters of similar images and whole categories "
        "of COCO, random some images.",
    )
    categories: bool = _key(
        False,
        "COCO's objects (instances_train2017.json and instances_val2017.json, beside the captions) "
        "are there. The main category of an image is then its group; the split category needs it.",
    )
    share: Annotated[float, Field(gt=0, lt=1)] = _key(
        0.1, "Share of images that cluster, category and random hold out."
    )
    space: SpaceName | None = _key(
        None,
        "The feature space (a key of feature_spaces) by which images are similar, such as CLIP's "
        "image embedding; needed for everything here.",
    )
    clusters: int = _key(40, "Clusters of images in that space.", "clusters", ge=2)
    similar: int = _key(
        10,
        "Test images that are most similar to one, among which it is identified.",
        "images",
        ge=2,
    )
    network: Literal[tuple(VIEWS)] = _key(
        "clip", "The network (of evaluation.networks) by which the content of pictures is compared."
    )
    layer: str = _key("image_embeds", "Its layer.")
    ranks: Annotated[list[Annotated[int, Field(ge=1)]], *_LISTED] = _key(
        [1, 2, 5, 10, 20, 50, 100, 500],
        "Numbers per image that decoders pass on to the generator.",
        "dimensions",
    )
    components: int = _key(
        100,
        "Principal components of responses by which subjects are aligned.",
        "components",
        ge=2,
    )
    encoders: Annotated[list[SpaceName], *_FILLED] = _key(
        ["z"],
        "Feature spaces whose encoders are tested: z, c or names of feature_spaces, which must be "
        "of pictures where other test sets are tested.",
    )
    min_ncsnr: float = _key(
        0.0, "Minimum ncsnr of the voxels over which encoders' scores are averaged.", "ncsnr", ge=0
    )
    betas: Betas | None = _key(
        None, "Another version of the betas to compare nsd.betas with; null compares none."
    )
    trained: bool = _key(
        False,
        "Also train the first of trained.methods on all subjects, of whom each in turn contributes "
        "one session only.",
    )
    samples: int = _key(1, "Pictures per image and method.", "pictures", ge=1)
    permutations: int = _key(
        1000, "Permutations of images, and sign flips, for family-wise tests.", "draws", ge=99
    )
    alpha: Share = _key(0.05, "Family-wise error rate over the cortical voxels.")
    seed: int = _seed("Seed of splits, noise, permutations and baselines.")


class Network(Entry):
    """Where a network's weights are."""

    weights: Path | None = _key(
        None,
        "For the demo's networks the demo model's folder; for clip and clip-b32 a folder or hub "
        "id; otherwise a file or an https address. Without weights, the network's metrics are "
        "listed as not computed.",
    )
    revision: str | None = _key(None, "Commit of a hub id.")
    sha256: Sha256 | None = _key(None, "Hash of the weights of a published network.")


class Evaluation(Section):
    """Comparison of reconstructions with the images."""

    networks: dict[Literal[tuple(VIEWS)], Network] = _key(
        {name: {} for name in PUBLISHED},
        "Networks whose features are compared, with their weights; {} is a network without "
        "weights, null removes a network.",
    )
    best_by: Metric = _key(
        "corr16",
        "Score by which figures 3 and 4 choose the best sample: pixcorr, ssim, corr16, or a score "
        "of a network with weights, such as psm:clip:image_embeds.",
    )
    shown_images: int = _key(8, "Images in figures 3 and 4.", "images", ge=1)
    nsd_ids: list[Annotated[int, Field(ge=0, lt=layout.N_IMAGES)]] | None = _key(
        None, "Draw these images instead (NSD ids from 0); null chooses by rank."
    )
    n_way: Classes | Annotated[list[Classes], *_FILLED] = _key(
        50,
        "Number of classes in n-way accuracy, or a list of such numbers.",
        "classes",
    )
    bootstrap: int = _key(
        1000, "Bootstrap samples of images for confidence intervals.", "draws", ge=100
    )
    seed: int = _seed("Seed of chance levels and intervals.")


class Method(Entry):
    """A trained decoder."""

    preset: MethodName = _key("", "Name of a preset; the decoder's own name by default.")
    stage1: dict[str, Any] = _key(
        {}, "Settings of the masked autoencoder that differ from the preset."
    )
    stage2: dict[str, Any] = _key({}, "Settings of the alignment that differ.")
    stage3: dict[str, Any] = _key(
        {}, "Settings of the fine-tuning of the diffusion model that differ."
    )


class Clip(Section):
    """The CLIP model that the second stage aligns with."""

    path: Path = _key(
        "openai/clip-vit-base-patch32", "A folder in the layout of transformers, or a hub id."
    )
    revision: str | None = _key(
        None, "Commit of the hub repository that has model.safetensors; null for a folder."
    )


class Sampling(Section):
    """How trained decoders make pictures."""

    num_inference_steps: int = _key(
        250, "Steps of the full chain.", "steps", ge=1, le=1000, old="steps"
    )
    scheduler: Literal["ddim", "dpmsolver++", "plms"] = _key("plms", "Sampler.")
    samples: int = _key(5, "Pictures per image.", "pictures", ge=1)


class Trained(Section):
    """Decoders trained end to end; made only on request (docs/trained.md)."""

    subjects: Annotated[list[Subject], *_FILLED] | None = _key(
        None, "Subjects whose decoders are tabulated; null means all subjects."
    )
    regions: Annotated[list[Region], *_FILLED] = _key(
        ["nsdgeneral"], "Regions (keys of matrices) whose voxels the decoders use."
    )
    size: Literal["full", "demo"] = _key(
        "full", "Sizes of the presets, or small sizes that replace them."
    )
    methods: dict[MethodName, Method] = _key(
        {
            "fcae": {"preset": "fcae-base"},
            "fcae-fi": {},
            "fcae-ft": {},
            "fcae-f": {},
            "mae-fi": {},
            "mae-f": {},
            "mind-vis": {},
            "vis-dec": {},
        },
        "Decoders by name, each with its preset and the settings of each stage that differ from "
        "it.",
    )
    train_on: Literal["averages", "trials"] = _key(
        "averages", "Train on averages over the trials of an image, or on single trials."
    )
    validation: float = _key(
        0.1,
        "Fraction of training images used for validation instead of training. Their loss is "
        "drawn, and selects the weights of stages with keep: best.",
        gt=0,
        le=0.5,
        old="held_back",
    )
    clip: Clip = Field(default_factory=Clip)
    precision: Literal["auto", "float32", "bf16", "fp16"] = _key(
        "auto", "Precision of training; auto means bf16 on a GPU and float32 on a CPU."
    )
    sampling: Sampling = Field(default_factory=Sampling)
    seed: int = _seed("Seed of validation images, weights, order, masks and noise.")


class Gallery(Section):
    """The page with all reconstructions, results/report/gallery.html."""

    samples: int | None = _key(
        None,
        "Maximum number of samples per image and method; null shows as many as fit.",
        "samples",
        ge=1,
    )
    pixels: int = _key(96, "Side of a small picture.", "pixels", ge=32)
    quality: int = _key(60, "Quality of WebP.", ge=1, le=100)
    max_megabytes: Positive = _key(60.0, "Maximum size of the file.", "MB")


class Encoding(Section):
    """Voxel-wise encoders: himalaya's kernel ridge, one alpha per voxel."""

    alphas: Alphas = _key(
        [1.0e-3, 1.0e-2, 1.0e-1, 1.0e0, 1.0e1, 1.0e2, 1.0e3, 1.0e4, 1.0e5, 1.0e6],
        "Ridge penalties tried.",
        "mean squared norm of a training image's features",
    )
    n_folds: int = _key(5, "Cross-validation folds, grouped by image.", "folds", ge=2)
    weights: Annotated[list[Annotated[float, Field(ge=0, le=1)]], *_FILLED] = _key(
        [0.0, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1.0],
        "Kernel weights of the first of two spaces that a joint model tries; 0 and 1 are the "
        "single models. A coarse grid misses small contributions.",
    )
    joint: dict[
        Variable, Annotated[list[SpaceName], *_LISTED, Field(min_length=2, max_length=6)]
    ] = _key(
        {},
        "Joint models of two to six feature spaces, by name: unique and shared variance of each, "
        "made on request (docs/variance.md).",
    )
    mixes: int = _key(
        30, "Weights of the spaces tried in these, per voxel and subset of spaces.", "mixes", ge=1
    )
    flips: int = _key(
        10000, "Sign flips in the tests of unique variance and of best blocks.", "flips", ge=99
    )
    drawn: Literal["unique", "joint"] = _key(
        "unique",
        "Voxels coloured in figures 7 and 8: those with significant unique variance, or all that "
        "both spaces together predict.",
    )
    max_components: int = _key(
        6400, "Maximum number of principal components kept per feature space.", "components", ge=1
    )
    train_on: Literal["averages", "trials"] = _key(
        "averages", "Fit to averages over the trials of an image, or to single trials."
    )
    zscore: bool = _key(True, "z-score each session, using its training trials.")
    fdr: Share = _key(0.05, "False discovery rate over the cortical voxels, per space and subject.")
    table_ncsnr: Annotated[list[Annotated[float, Field(ge=0)]], *_FILLED] = _key(
        [0.0, 0.2],
        "Summaries by region include voxels with at least this ncsnr; one row for each value.",
        "ncsnr",
    )
    controls_every: int = _key(
        4,
        "Controls of unique variance are fitted in every n-th voxel only (1 fits all), which "
        "suffices for means over regions.",
        "voxels",
        ge=1,
    )
    group_ncsnr: float = _key(
        0.0,
        "Minimum ncsnr of the voxels averaged in the comparison of subjects; 0 takes all.",
        "ncsnr",
        ge=0,
    )
    bootstrap: int = _key(
        1000,
        "Bootstrap samples of images and parts of regions for confidence intervals.",
        "draws",
        ge=100,
    )
    memory_gb: Positive = _key(24.0, "Memory that a fit may use; determines its batches.", "GB")
    seed: int = _seed("Seed of folds, sign flips and bootstrap.")


class Demo(Section):
    """The simulated release; only read when dataset is demo."""

    seed: int = _seed("Seed of pictures, design and brains.")
    sessions: int = _key(3, "Sessions of 750 trials per subject.", "sessions", ge=1, le=39)
    shared_images: int = _key(150, "Images that all subjects see (test).", "images", ge=3, le=1000)
    unique_images: int = _key(
        750, "Images that only one subject sees (training).", "images", ge=10, le=9000
    )


class Override(Entry):
    """Settings of a single subject; changing them reruns only that subject."""

    sessions: Sessions = _key("all", "As nsd.sessions.", "sessions")
    min_ncsnr: float | None = _key(None, "As min_ncsnr.", "ncsnr", ge=0)


class Settings(Section):
    """All settings of a run."""

    dataset: Literal[DATASETS] = _key(
        "demo",
        "nsd: read the release at nsd.root; laion-fmri: that at laion.root; arrays: a dataset of "
        "your own at arrays.root; demo and laion-demo: simulate a release of NSD or LAION-fMRI "
        "under results/demo and read it (docs/datasets.md).",
    )
    subjects: Annotated[list[Subject], *_FILLED] = _key(
        ["subj01", "subj02", "subj05", "subj07"],
        "Subjects to run. Removing one reruns only the results over subjects.",
    )
    figure_subject: Subject | None = _key(
        None,
        "Subject whose figures become results/figures/fig6.png and so on; null means the first of "
        "subjects.",
    )
    nsd: Nsd = Field(default_factory=Nsd)
    laion: Laion = Field(default_factory=Laion)
    arrays: Arrays = Field(default_factory=Arrays)
    rois: dict[Region, Annotated[list[Part], Field(min_length=1)]] = _key(
        {
            "cortex": ["streams:ribbon"],
            "early": ["streams:early"],
            "ventral": ["streams:ventral"],
            "lateral": ["streams:lateral"],
            "parietal": ["streams:parietal"],
            "frontal": ["HCP_MMP1:72", "HCP_MMP1:87"],
            "nsdgeneral": ["nsdgeneral:all"],
        },
        "Regions, each a union of atlas:label (name or number) from any atlas volume of the "
        "release; the label ribbon means the atlas' whole cortical ribbon, the label all every "
        "voxel with a label. All except cortex are outlined in figures.",
    )
    matrices: Annotated[list[Region], *_FILLED] = _key(
        ["cortex", "early", "ventral", "nsdgeneral"],
        "Regions whose single-trial betas are written as matrices, in one pass over the betas.",
    )
    min_ncsnr: float | None = _key(
        None,
        "Minimum noise-ceiling signal-to-noise ratio (ncsnr) of a voxel; null keeps all voxels.",
        "ncsnr",
        ge=0,
    )
    model: Model = Field(default_factory=Model)
    denoising: Denoising = Field(default_factory=Denoising)
    trajectories: Trajectories = Field(default_factory=Trajectories)
    feature_spaces: dict[SpaceName, FeatureSpace] = _key(
        {}, "Additional feature spaces for the encoders, by name (docs/feature_spaces.md)."
    )
    networks: dict[MethodName, LayeredNetwork] = _key(
        {},
        "Networks of torch, torchvision, timm or transformers whose layers are compared in each "
        "voxel, by name (docs/feature_spaces.md).",
    )
    decoding: Decoding = Field(default_factory=Decoding)
    reconstruction: Reconstruction = Field(default_factory=Reconstruction)
    beyond: Beyond = Field(default_factory=Beyond)
    generalisation: Generalisation = Field(default_factory=Generalisation)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    trained: Trained = Field(default_factory=Trained)
    gallery: Gallery = Field(default_factory=Gallery)
    encoding: Encoding = Field(default_factory=Encoding)
    demo: Demo = Field(default_factory=Demo)
    overrides: dict[Subject, Override] = _key({}, "Settings of single subjects.")
    container: Path | None = _key(
        None,
        "Image that has the software of all rules, built from Containerfile: a file (.sif) or an "
        "address; used with --software-deployment-method apptainer.",
    )
    complete: bool = _key(
        False,
        "Maps such as rois are complete as given: no entries of the defaults or of the demo's "
        "preset are added. This is true in the configuration that rules read.",
    )

    @model_validator(mode="after")
    def _agree(self):
        """Fill in the subjects to draw; refuse settings that contradict each other."""
        self.figure_subject = self.figure_subject or self.subjects[0]
        self.trained.subjects = self.trained.subjects or self.subjects
        self.complete = True
        checks = (
            *(_check_regions, _check_spaces, _check_joint, _check_blocks, _check_beyond),
            *(_check_trained, _check_layers),
            *(_check_generalisation, _check_form, _check_demo),
        )
        problems = [problem for check in checks for problem in check(self)]
        if problems:
            raise PydanticCustomError("contradictions", "several", {"problems": problems})
        return self


def _check_dataset(settings):
    """Subjects that a dataset does not have, and a place of it that is not given."""
    dataset, nsd = settings.dataset, settings.nsd
    people = list_people(dataset)
    for key, named in (("subjects", settings.subjects), ("overrides", settings.overrides)):
        unknown = ", ".join(sorted({*named} - {*people})) if people else ""
        if unknown:
            known = ", ".join(people)
            yield f"{key} must be of {known} when dataset is {dataset}, not {unknown}."
    taken = sorted({*settings.subjects} & {*TAKEN})
    if taken:
        yield f"subjects must have other names than {', '.join(taken)}, a folder of results."
    absent = [part for part in layout.PARTS if part not in nsd.roots]
    if dataset == "nsd" and not nsd.root and absent:
        lacking = f", as nsd.roots lacks {', '.join(absent)}" if nsd.roots else ""
        yield f"nsd.root must be the release's folder when dataset is nsd{lacking}, not empty."
    if dataset == "laion-fmri" and not settings.laion.root:
        yield "laion.root must be the release's folder when dataset is laion-fmri, not empty."
    if dataset == "arrays" and not settings.arrays.root:
        yield "arrays.root must be the dataset's folder when dataset is arrays, not empty."
    if dataset == "arrays":
        yield from _check_whole(settings)


def _check_whole(settings):
    """Parts of a dataset of one's own, which is taken as its files are."""
    for key, part, overridden in (
        ("min_ncsnr", settings.min_ncsnr or None, "min_ncsnr"),
        ("nsd.sessions", settings.nsd.sessions, "sessions"),
    ):
        parts = (part, *(getattr(own, overridden) for own in settings.overrides.values()))
        if {*map(str, parts)} - {"None", "all"}:
            yield (
                f"{key} must be as by default when dataset is arrays, also in overrides: regions "
                "and sessions are those of its files."
            )


def _check_regions(settings):
    """Contradictions among subjects, the release and regions."""
    subjects, rois, matrices = settings.subjects, settings.rois, settings.matrices
    if settings.figure_subject not in subjects:
        yield (
            f"figure_subject must be one of subjects ({', '.join(subjects)}), not "
            f"{settings.figure_subject}."
        )
    yield from _check_dataset(settings)
    # A missing cortex is reported below.
    unknown = sorted(set(matrices) - set(rois) - {"cortex"})
    if unknown:
        yield f"matrices must name keys of rois ({', '.join(rois)}), not {', '.join(unknown)}."
    for key, names in (("rois", rois), ("matrices", matrices)):
        if "cortex" not in names:
            yield f"{key} must have cortex, the voxels that the encoders predict."
    for target, roi in settings.decoding.targets.items():
        if roi not in matrices:
            yield (
                f"decoding.targets.{target} must name one of matrices ({', '.join(matrices)}), "
                f"not {roi}."
            )
    if "zc" not in settings.reconstruction.methods:
        found = ", ".join(settings.reconstruction.methods)
        yield f"reconstruction.methods must have zc among its values, not only {found}."


def plan_trajectories(config: dict) -> dict:
    """Name the feature spaces along the reverse process that a configuration asks for.

    Parameters
    ----------
    config : dict
        Complete, as `nsdldm.workflow.loading.load_settings` returns it.

    Returns
    -------
    dict
        As `nsdldm.features.spaces.plan_spaces`.

    Raises
    ------
    InputError
        Noise levels or steps that cannot be run.
    """
    chain, settings = config["denoising"], config["trajectories"]
    return plan_spaces(
        steps=chain["num_inference_steps"],
        strength=chain["strength"],
        **{key: settings[key] for key in ("noise_levels", "step_shares", "latent", "blocks")},
    )


def _check_spaces(settings):
    """Contradictions among the feature spaces."""
    own, config = settings.trajectories, settings.model_dump()
    try:
        planned = plan_trajectories(config)
    except InputError as error:
        yield from map(str, name_keys(error.findings))
        return
    unknown = sorted(set(own.drawn_levels) - set(own.noise_levels))
    if unknown:
        levels, found = (", ".join(map(str, each)) for each in (own.noise_levels, unknown))
        yield (
            f"trajectories.drawn_levels must be of trajectories.noise_levels ({levels}), "
            f"not {found}."
        )
    for key in ("noise_levels", "drawn_levels", "step_shares"):
        values = getattr(own, key)
        if values != sorted(values):
            yield f"trajectories.{key} must ascend, not {values}."
    if not any(0 < weight < 1 for weight in settings.encoding.weights):
        yield "encoding.weights must hold at least one share between 0 and 1."
    controls = CONTROLS + PARTS
    taken = ", ".join(sorted(set(own.variants) & set(controls)))
    if taken:
        yield f"trajectories.variants must have other names than {taken}, a control."
    variants = {f"{space}-{name}" for space in planned for name in own.variants}
    known = {"z", "z_logvar", "c", "zc", *planned, *variants}
    known |= {f"{space}-{control}" for space in known for control in controls}
    known |= {f"blocks-{space.removeprefix('zc-')}" for space in planned}
    known |= {name for name, _ in MADE_OF.values() if name}
    taken = ", ".join(sorted(set(settings.feature_spaces) & known))
    if taken:
        yield f"feature_spaces must have names of their own, not {taken}."


def _check_joint(settings):
    """Joint models of spaces that no encoder is fitted to."""
    added = [name for name, own in settings.feature_spaces.items() if own.encoders]
    try:
        planned = plan_trajectories(settings.model_dump())
    except InputError:
        return  # reported above
    layers = [f"{name}-{own}" for name, each in settings.networks.items() for own in each.layers]
    known = ["z", "c", "zc", *added, *planned, *layers]
    for name, spaces in settings.encoding.joint.items():
        unknown = ", ".join(sorted({*spaces} - {*known}))
        if unknown:
            yield f"encoding.joint.{name} must be of {', '.join(known)}, not {unknown}."


def _check_blocks(settings):
    """Two names of one module of the U-Net."""
    names = {}
    for name, path in settings.trajectories.blocks.items():
        names.setdefault(path, []).append(name)
    for path, twins in names.items():
        if len(twins) > 1:
            yield (
                f"trajectories.blocks must have one name for a module, not {' and '.join(twins)} "
                f"for {path}; {twins[0]}: null removes {twins[0]}."
            )


def _check_layers(settings):
    """Contradictions among the networks whose layers are compared."""
    known = {"z", "z_logvar", "c", "zc", *settings.feature_spaces}
    with suppress(InputError):  # reported elsewhere
        known |= {*plan_trajectories(settings.model_dump())}
    for name, own in settings.networks.items():
        key = f"networks.{name}"
        if (own.network is None) == (own.function is None):
            yield f"{key} must have network or function, one of them."
        if own.network and not own.weights:
            yield f"{key}.weights must be given with {key}.network."
        if (own.function or "").startswith("transformers.") and not own.weights:
            yield f"{key}.weights must be given with a class of transformers."
        twins = [path for path, n in Counter(own.layers.values()).items() if n > 1]
        if twins:
            yield f"{key}.layers must have one name for a module, not several for {twins[0]}."
        taken = ", ".join(sorted({f"{name}-{layer}" for layer in own.layers} & known))
        if taken:
            yield f"{key} must have layers of other names than {taken}, a feature space."


def _list_endings(settings):
    """What names of trained methods end in if they are trained on others."""
    return tuple(f"-{name}" for name in ("joint", *settings.subjects))


def _check_beyond(settings):
    """Contradictions among what is decoded on request."""
    own, targets = settings.beyond, settings.decoding.targets
    known = {"z", "c", "zc", *settings.feature_spaces}
    unknown = ", ".join(sorted(set(targets) - known))
    if unknown:
        spaces = ", ".join(["z, c, zc", *settings.feature_spaces])
        yield f"decoding.targets must have names of feature spaces ({spaces}), not {unknown}."
    wanted = {f"beyond.{key}.target": getattr(own, key).target for key in MADE_OF}
    wanted |= {"beyond.depth": own.depth}
    # What is made of decoded features, and the role that it has.
    made = {name: role for key, (name, role) in MADE_OF.items() if getattr(own, key).target}
    generators = ["stable-diffusion", *own.generators]
    for name, method in own.methods.items():
        prefix = f"beyond.methods.{name}"
        if method.generator not in generators:
            expected = ", ".join(generators)
            yield f"{prefix}.generator must be one of {expected}, not {method.generator}."
        given = {role: getattr(method, role) for role in ROLES if getattr(method, role)}
        if not given:
            yield f"{prefix} must be given some of {', '.join(ROLES)}, not nothing."
        wanted |= {
            f"{prefix}.{role}": target for role, target in given.items() if made.get(target) != role
        }
        taken = sorted({*given.values()} & {*made}) if method.ceiling else []
        if taken:
            yield f"{prefix} must not be a ceiling, since {taken[0]} is made of decoded features."
    for key, target in wanted.items():
        if target is not None and target not in targets:
            role = key.rpartition(".")[2]
            expected = ", ".join([*targets, *(name for name in made if made[name] == role)])
            yield f"{key} must be one of decoding.targets ({expected}), not {target}."
    ridge = {*settings.reconstruction.methods, "z", "c", "zc", "true-zc", "z-coarse", NEAREST}
    taken = ", ".join(sorted({*own.methods} & (ridge | {*settings.trained.methods})))
    if taken:
        yield f"beyond.methods must have names of their own, not {taken}."
    joined = [name for name in own.methods if name.endswith(_list_endings(settings))]
    if joined:
        yield f"beyond.methods must not end like trained decoders of others, as {joined[0]} does."
    space = settings.feature_spaces.get(own.prior.target)
    if own.prior.target in targets and (space is None or space.function != LAYERS):
        yield f"beyond.prior.target must be a space of {LAYERS}, not {own.prior.target}."
    if own.captions.target and not own.captions.clip:
        yield "beyond.captions.clip must be a CLIP model when beyond.captions.target is given."


def _check_generalisation(settings):
    """Contradictions among what decoders are tested on."""
    own, nsd, spaces = settings.generalisation, settings.nsd, settings.feature_spaces
    if "shared" not in nsd.test_sets:
        yield f"nsd.test_sets must have shared among its values, not only {nsd.test_sets[0]}."
    if len(nsd.test_sets) > 1 and nsd.betas == layout.BETA_VERSIONS[0]:
        known = " or ".join(layout.BETA_VERSIONS[1:])
        yield f"nsd.betas must be {known} with other nsd.test_sets, which have no {nsd.betas}."
    if own.space is not None and own.space not in spaces:
        known = ", ".join(spaces) or "none"
        yield f"generalisation.space must be one of feature_spaces ({known}), not {own.space}."
    if own.space is None and (own.splits or len(nsd.test_sets) > 1):
        yield "generalisation.space must be given with generalisation.splits or nsd.test_sets."
    known = ["z", "c", *spaces]
    unknown = ", ".join(sorted(set(own.encoders) - set(known)))
    if unknown:
        yield f"generalisation.encoders must be of {', '.join(known)}, not {unknown}."
    if "category" in own.splits and not own.categories:
        yield "generalisation.categories must be true when generalisation.splits has category."
    if own.betas == nsd.betas:
        yield f"generalisation.betas must be another version than nsd.betas, not {own.betas}."


def _check_form(settings):
    """Test sets and divisions that only other datasets have."""
    own, nsd, form = settings.generalisation, settings.nsd, FORMS[settings.dataset]
    known = ["cluster", "random", *(["category"] if form == "nsd" else [])]
    known += laion.SPLITS if form == "laion" else ()
    listed = [name for name in own.splits if "-" not in name]
    unknown = sorted({*listed} - {*known}) if form != "arrays" else []
    if unknown:
        yield (
            f"generalisation.splits must be of {', '.join(known)} (or unique-N, sessions-N) when "
            f"dataset is {settings.dataset}, not {', '.join(unknown)}."
        )
    released = [name for name in own.splits if name in laion.SPLITS]
    real = settings.dataset == "laion-fmri"
    if real and released and not settings.laion.splits:
        yield f"laion.splits must be a folder with {released[0]}.json, not empty."
    if form == "nsd":
        return
    for key, value in (
        ("nsd.test_sets", nsd.test_sets[1:]),
        ("generalisation.categories", own.categories),
        ("generalisation.betas", own.betas),
    ):
        if value:
            words = ", ".join(value) if isinstance(value, list) else value
            yield f"{key} must be left out when dataset is {settings.dataset}, not {words}."


def _check_trained(settings):
    """Contradictions among the decoders that are trained."""
    trained = settings.trained
    for key, known, source in (
        ("subjects", settings.subjects, "subjects"),
        ("regions", settings.matrices, "matrices"),
    ):
        unknown = ", ".join(sorted(set(getattr(trained, key)) - set(known)))
        if unknown:
            yield (f"trained.{key} must name some of {source} ({', '.join(known)}), not {unknown}.")
    methods = {name: own.model_dump() for name, own in trained.methods.items()}
    taken = [name for name in settings.reconstruction.methods if name in methods]
    if taken:
        names = ", ".join(sorted(taken))
        yield f"trained.methods must have names of their own, not {names}, a ridge one."
    methods = {name: own for name, own in methods.items() if name not in taken}
    found = check_methods(methods, trained.size, settings.subjects)
    yield from (write_arguments(problem, find_keys()) for problem in found)


def _check_demo(settings):
    """Contradictions between what the demo writes and what is read."""
    if settings.dataset not in SIMULATED:
        return
    demo, nsd = settings.demo, settings.nsd
    own = {"nsd": nsd, "laion": settings.laion}[form := FORMS[settings.dataset]]
    asked = {f"{form}.sessions": own.sessions}
    for subject, own in settings.overrides.items():
        asked[f"overrides.{subject}.sessions"] = own.sessions
    for key, sessions in asked.items():
        numbers = sessions if isinstance(sessions, list) else [sessions]
        if max((n for n in numbers if isinstance(n, int)), default=0) > demo.sessions:
            yield f"{key} must be within the {demo.sessions} of demo.sessions, not {sessions}."
    if form != "nsd":
        return
    for key, written in DEMO_WRITES.items():
        if getattr(nsd, key) != written:
            yield (
                f"nsd.{key} must be {written} when dataset is demo, which writes no other, not "
                f"{getattr(nsd, key)}."
            )
    trials = layout.TRIALS_PER_SESSION * demo.sessions
    images = demo.shared_images + demo.unique_images
    if not images <= trials <= 3 * images:
        yield (
            f"demo.shared_images + demo.unique_images must be between {-(-trials // 3)} and "
            f"{trials}, so that {demo.sessions} sessions of 750 trials show each image one to "
            f"three times, not {images}."
        )


DEMO_MODEL = "resources/demo_model"
# What differs in the demo: applied on top of the defaults and below the user's settings.
DEMO = {
    "subjects": ["subj01", "subj02"],
    "nsd": {"sessions": "all", "test_sets": ["shared", "synthetic", "imagery"]},
    # The simulated release has an extra atlas for the control region without visual responses.
    "rois": {"frontal": ["control:frontal"], "nsdgeneral": None},
    "matrices": ["cortex", "early", "ventral"],
    "model": {"path": DEMO_MODEL, "revision": None, "resolution": 96, "batch_size": 16},
    "denoising": {"num_inference_steps": 5},
    "trajectories": {
        # With 5 steps, 0.2 is z itself.
        "noise_levels": [0.4, 0.6, 0.8, 1.0],
        "drawn_levels": [0.4, 0.6, 1.0],
        "width": 2000,
        "variants": {"seed44": None},
        "chunks": 1,
    },
    "decoding": {
        "targets": {
            "clip-vision": "ventral",
            "clip-text": "ventral",
            "alexnet": "early",
            "depth": "early",
        },
        "protocols": ["corrected"],
        "learning_curve": [1, 2],
        "memory_gb": 4.0,
    },
    "reconstruction": {"resolution": 96, "samples": 2, "num_inference_steps": 8, "chunks": 1},
    "feature_spaces": {
        "clip-vision": {
            "function": "nsdldm.features.pictures.embed_pictures",
            "settings": {"network": "demo-clip", "layer": "image_embeds", "weights": DEMO_MODEL},
            "encoders": False,
        },
        "clip-text": {
            "function": "nsdldm.features.clip.embed_texts_by_clip",
            "settings": {"weights": f"{DEMO_MODEL}/clip"},
            "encoders": False,
        },
        "alexnet": {
            "function": "nsdldm.features.layers.embed_layers",
            "settings": {
                "network": "demo-alexnet",
                "layers": ["body.1", "body.5", "body.12"],
                "weights": DEMO_MODEL,
                "reduction": "projection",
                "width": 2048,
            },
            "encoders": False,
        },
        "depth": {
            "function": "nsdldm.features.depth.embed_depth",
            "settings": {"weights": f"{DEMO_MODEL}/depth", "side": 24},
            "encoders": False,
        },
    },
    "beyond": {
        "generators": {
            "adapter": {
                "function": "nsdldm.generators.adapters.open_ip_adapter",
                "settings": {"weights": f"{DEMO_MODEL}/ip_adapter/ip-adapter.safetensors"},
            },
        },
        "methods": {
            "zci": {"generator": "adapter", "from": "z", "text": "c", "image": "clip-vision"},
            "zci-rescaled": {
                **{"generator": "adapter", "from": "z", "text": "c", "image": "clip-vision"},
                "protocol": "rescaled",
            },
            "zi": {"generator": "adapter", "from": "z", "image": "clip-vision"},
            "prior-c": {"from": "prior", "text": "c"},
            "z-captions": {"from": "z", "text": "captions"},
            "true-zci": {
                **{"generator": "adapter", "from": "z", "text": "c", "image": "clip-vision"},
                "ceiling": True,
            },
        },
        "metrics": ["2way:demo-judge:logits", "2way:demo-clip:image_embeds", "corr16"],
        "retrieval": {"target": "clip-vision", "candidates": 50},
        "captions": {"target": "clip-text", "clip": f"{DEMO_MODEL}/clip"},
        "prior": {"target": "alexnet"},
        "depth": "depth",
    },
    "generalisation": {
        "splits": ["unique-3", "sessions-2", "cluster", "category", "random"],
        "categories": True,
        "share": 0.17,
        "space": "clip-vision",
        "clusters": 24,
        "network": "demo-judge",
        "layer": "logits",
        "ranks": [1, 5, 20],
        "components": 60,
        "betas": layout.BETA_VERSIONS[1],
        "trained": True,
    },
    "evaluation": {
        # The demo's own networks stand in under their own names.
        "networks": dict.fromkeys(PUBLISHED)
        | {name: {"weights": DEMO_MODEL} for name in ("demo-clip", "demo-alexnet", "demo-judge")},
        "best_by": "psm:demo-clip:image_embeds",
        # Of 12 classes.
        "n_way": [4, 2, 8],
    },
    "trained": {
        "regions": ["early", "ventral"],
        "size": "demo",
        "clip": {"path": f"{DEMO_MODEL}/clip", "revision": None},
        "sampling": {"num_inference_steps": 8, "scheduler": "ddim", "samples": 1},
    },
    "encoding": {
        "alphas": [1.0e-1, 1.0e0, 1.0e1, 1.0e2, 1.0e3, 1.0e4],
        "weights": [0.0, 0.1, 0.5, 0.9, 1.0],
        "n_folds": 3,
        "controls_every": 8,
        # 150 test images tell few voxels' unique variance from none.
        "drawn": "joint",
        "memory_gb": 4.0,
    },
}

# LAION-fMRI: masks by category and label, and the ribbon by its surfaces.
LAION = {
    "subjects": list(laion.SUBJECTS),
    "rois": {
        "cortex": ["anatomy:ribbon"],
        "early": [f"retinotopy:{name}" for name in ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d")],
        **{
            region: [f"laion:laion{label}"]
            for region, label in (
                ("ventral", "ventral"),
                ("lateral", "lateral"),
                ("parietal", "dorsal"),
                ("laiongeneral", "general"),
            )
        },
        "frontal": None,
        "nsdgeneral": None,
    },
    "matrices": ["cortex", "early", "ventral", "laiongeneral"],
    "trained": {"regions": ["laiongeneral"]},
}
# Its simulated release, on top of the demo's.
LAION_DEMO = {
    "subjects": ["sub-01", "sub-06"],
    "nsd": {"test_sets": ["shared"]},
    "matrices": ["cortex", "early", "ventral"],
    "trained": {"regions": ["early", "ventral"]},
    "generalisation": {
        "splits": ["tau", "cluster_k5_0", "ood", "random_0"],
        "categories": False,
        "betas": None,
    },
}
# Of one's own: every region is a file.
ARRAYS = {
    "subjects": ["sub-01"],
    "nsd": {"sessions": "all"},
    "rois": {
        **{name: [f"arrays:{name}"] for name in ("cortex", "early", "ventral")},
        **dict.fromkeys(("lateral", "parietal", "frontal", "nsdgeneral")),
    },
    "matrices": ["cortex", "early", "ventral"],
    "trained": {"regions": ["early", "ventral"]},
}
# What a dataset sets on top of the defaults, one after the other.
LAID = {
    "demo": [DEMO],
    "laion-fmri": [LAION],
    "laion-demo": [DEMO, LAION, LAION_DEMO],
    "arrays": [ARRAYS],
}

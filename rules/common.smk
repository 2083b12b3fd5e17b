# Functions that the rules share; the configuration is checked here, once, before anything else.

import os
import re
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.cli import get_argument_parser

from nsdldm.demo.atlases import LABELS
from nsdldm.support.listing import list_files, list_weights
from nsdldm.nsd import layout
from nsdldm.nsd.places import find_place
from nsdldm.workflow.preflight import find_sessions, find_table, preflight
from nsdldm.nsd.remote import is_remote
from nsdldm.support.provenance import PROJECT, digest, digest_file, digest_function
from nsdldm.workflow.loading import SettingsError, load_settings
from nsdldm.workflow.named import check_clip, check_named
from nsdldm.workflow.settings import plan_trajectories
from nsdldm.features.spaces import PARTS, split_control
from nsdldm.workflow.targets import find_unknown
from nsdldm.trained.presets import resolve
from nsdldm.workflow.workfolder import (
    check_name,
    check_writable,
    describe_lock,
    find_foreign,
    find_late,
    find_late_results,
    find_other_source,
    find_resources,
)

# Snakemake puts this path into shell commands as it is, also where it has blanks or quotes.
sys.executable = shlex.quote(sys.executable)

# Jobs use the package beside the Snakefile, which their digests are of, whichever is installed.
os.environ.update(
    PYTHONPATH=os.pathsep.join(filter(None, [str(PROJECT), os.getenv("PYTHONPATH")]))
)


def stop_on(title, problems):
    """End the run with one report of all problems."""
    if problems:
        # An exception would be shown with the lines that raised it, which nobody needs.
        logger.error("\n  - ".join([title, *map(str, problems)]))
        raise SystemExit(1)


try:
    config.update(load_settings(config, workflow.configfiles))
except SettingsError as error:
    stop_on("The configuration cannot be used:", error.problems)
config.update(find_resources(config, PROJECT))

SUBJECTS = config["subjects"]
FEATURES = ["z", "c", "zc"]
TARGETS = list(config["decoding"]["targets"])
DECODED_ROIS = sorted(set(config["decoding"]["targets"].values()))
PROTOCOLS = config["decoding"]["protocols"]
METHODS = config["reconstruction"]["methods"]
RUNS = [
    (subject, protocol, method)
    for protocol in PROTOCOLS
    for subject in SUBJECTS
    for method in METHODS
]
# What is drawn: the first protocol, and in figure 3 what the paper shows there. Each figure is
# written as pixels and as vectors.
FORMATS = ["png", "pdf"]
DRAWN_RUNS = [run for run in RUNS if run[1] == PROTOCOLS[0]]
DRAWN_METHODS = [method for method in ("z", "c", "zc") if method in METHODS]
# Feature spaces that the configuration adds to those three, and those along the reverse process:
# at the end of each noise level, at some steps of one level, and activations at these steps.
ADDED = list(config["feature_spaces"])
BLOCKS = list(config["trajectories"]["blocks"])
VARIANTS = config["trajectories"]["variants"]
PLANNED = plan_trajectories(config)
PATH_SPACES = list(PLANNED)
LEVEL_SPACES = [space for space in PATH_SPACES if space.startswith("zc-n")]
STEP_SPACES = [space for space in PATH_SPACES if space.startswith("zc-s")]
BLOCK_SPACES = [space for space in PATH_SPACES if space.startswith("unet-")]
STEP_NAMES = [space.removeprefix("zc-") for space in STEP_SPACES]
VARIANT_SPACES = [f"{space}-{name}" for name in VARIANTS for space in STEP_SPACES]
PAIRS = [f"z+{space}" for space in LEVEL_SPACES + STEP_SPACES + VARIANT_SPACES]
# What is set beside z_c: itself with other texts, and its linear part and the rest. Other seeds are
# compared with one another and need no controls.
CONTROLS = config["trajectories"]["controls"]
CONTROLLED_NOISE = [name for name in VARIANTS if "noise" in VARIANTS[name]]
VARIANT_RUNS = [
    *VARIANTS,
    *(f"{name}-{control}" for name in CONTROLLED_NOISE for control in CONTROLS),
]
CONTROLLED_SPACES = [
    *LEVEL_SPACES,
    *STEP_SPACES,
    *(f"{space}-{name}" for name in CONTROLLED_NOISE for space in STEP_SPACES),
]
CONTROL_SPACES = [
    f"{space}-{control}" for control in CONTROLS for space in CONTROLLED_SPACES
]
# Fits that keep sums over test images.
SUMMED = ["fit_encoders", "fit_pairs", "fit_step_pairs", "fit_control_pairs"]
SUMMED += ["fit_more_encoders"] if ADDED else []
SUMMED += ["fit_variant_pairs"] if VARIANTS else []
CONTROL_PAIRS = [
    f"z+{space}-{control}"
    for space in CONTROLLED_SPACES
    for control in [*CONTROLS, *PARTS]
]
DRAWN_LEVELS = [
    space
    for space in LEVEL_SPACES
    if PLANNED[space].strength in config["trajectories"]["drawn_levels"]
]
# Decoders that are trained: settings of each method, of each encoder, and methods with a stage 2.
TRAINED = config["trained"]
TRAINED_SUBJECTS = TRAINED["subjects"]
DECODERS = {
    name: resolve(name, own, TRAINED["size"])
    for name, own in TRAINED["methods"].items()
}
ENCODERS = {each["encoder"]: each["stage1"] for each in DECODERS.values()}
ALIGNED = [name for name, each in DECODERS.items() if each["stage2"]["align"] != "none"]
PRESET_NAMES = {
    name: own.get("preset", name) for name, own in TRAINED["methods"].items()
}
TABLE2_METHODS = [
    name
    for name, preset in PRESET_NAMES.items()
    if preset in ("fcae", "fcae-base", "mind-vis", "vis-dec")
]
TABLE3_METHODS = [
    name
    for name, preset in PRESET_NAMES.items()
    if preset.startswith("fcae") or preset in ("mae-fi", "mae-f")
]


def runs_beside(ridge, names):
    """Runs of trained methods after those of ridge methods, as far as these are configured."""
    ridge = [(PROTOCOLS[0], name) for name in ridge if name in METHODS]
    runs = [*ridge, *(("trained", name) for name in names)]
    return [(subject, *run) for subject in TRAINED_SUBJECTS for run in runs]


TABLE2_RUNS = runs_beside(["zc", "true-zc"], TABLE2_METHODS)
TABLE3_RUNS = runs_beside(["zc", "true-zc"], TABLE3_METHODS)
GALLERY_RUNS = runs_beside(["zc"], list(DECODERS))
DRAWN_TRAINED = ["zc", *TABLE2_METHODS[1:], *TABLE2_METHODS[:1]]
# The first method, trained on one subject and on all, and tested on every one.
TRANSFERS = [
    f"{name}-{cohort}"
    for name in list(DECODERS)[:1]
    for cohort in (config["figure_subject"], "joint")
]
WITH_ADAPTERS = any(each["adapter"] == "linear" for each in ENCODERS.values())
TRAINED_TARGETS = [
    *(f"results/tables/fcae_{name}.tsv" for name in ("table2", "table3")),
    *(f"results/tables/fcae_{name}.tsv" for name in ("masked", "retrieval")),
    *(
        f"results/{subject}/figures/{name}.{suffix}"
        for subject in TRAINED_SUBJECTS
        for name in ("trained_masked", "trained_pictures", "training_curves")
        for suffix in FORMATS
    ),
    *(f"results/joint/figures/training_curves.{suffix}" for suffix in FORMATS),
    *(f"results/figures/trained_subjects.{suffix}" for suffix in FORMATS),
    "results/report/trained_gallery.html",
]
# Small networks use one core, and two of them run at once, also on one GPU.
TRAINED_THREADS, TRAINED_GPUS = (1, 0) if TRAINED["size"] == "demo" else (8, 1)
EVALUATION_THREADS, EVALUATION_GPUS = (1, 0) if config["dataset"] == "demo" else (8, 1)
# Trained on the subject itself, on all, or on another one.
TRAINED_METHODS = f"({'|'.join(DECODERS) or 'none'})(-joint|-subj0[1-8])?"
# What a whole run makes.
FIGURES = ["fig3", "fig4", "fig6", "fig7", "fig8", "fig9", "group"]
# Figure 5 compares by networks alone.
if any(
    settings.get("weights") for settings in config["evaluation"]["networks"].values()
):
    FIGURES.append("fig5")
TABLES = ["encoding", "group", "noise", "blocks", "protocols", "metrics"]
SUBJECT_FIGURES = collect(
    "results/{subject}/figures/{figure}.{suffix}",
    subject=SUBJECTS,
    figure=["fig3", "fig6", "fig7", "fig8", "fig9"] + ["feature_spaces"] * bool(ADDED),
    suffix=FORMATS,
)
CORTEX_ATLASES = sorted({part.split(":")[0] for part in config["rois"]["cortex"]})
WRITTEN = ["results", "logs", "benchmarks", ".snakemake"]
ROOT = "results/demo" if config["dataset"] == "demo" else str(config["nsd"]["root"])
SOURCE = {"dataset": config["dataset"], "root": ROOT}
SOURCE |= {key: config["nsd"][key] for key in ("space", "betas")}
# Whether some of it lies in a bucket, and how the package reads that.
REMOTE = any(is_remote(path) for path in (ROOT, config["nsd"]["captions"]))
STORAGE = {key: config["nsd"][key] for key in ("endpoint", "signed")}
# Real data take days without a GPU: jobs that find none say so.
DEVICE = config["model"]["device"]
if config["dataset"] == "nsd" and DEVICE == "auto":
    DEVICE = "prefer-cuda"
PLACE = find_place(ROOT.rstrip("/"), STORAGE)
DEMO_ATLASES = sorted(LABELS)


def locate(template, **values):
    """Path or address of a file of the release; wildcards that are not given stay."""
    nsd = config["nsd"]
    known = {"subject": "{subject}", "space": nsd["space"], "version": nsd["betas"]}
    return f"{ROOT.rstrip('/')}/{template.format(**known | values)}"


def stored(path, retrieve=True):
    """A path as an input; of an object in a bucket a local copy, or its address."""
    return storage.nsd(path, retrieve=retrieve) if is_remote(path) else path


def source(template, **values):
    """A file of the release as an input, in a bucket the local copy of it."""
    return stored(locate(template, **values))


def large_source(template, **values):
    """A file of the release that jobs read from a bucket themselves, piece by piece."""
    return stored(locate(template, **values), retrieve=False)


def seen_stimuli(subject="{subject}"):
    """Pictures that a subject saw: the release's file, or their copies from a bucket."""
    copy = f"results/{subject}/stimuli.hdf5"
    return copy if is_remote(ROOT) else locate(layout.STIMULI)


def all_stimuli():
    """Files that hold the pictures of all subjects."""
    return sorted({seen_stimuli(subject) for subject in SUBJECTS})


def own(subject, key, default):
    """A subject's own setting, or everyone's."""
    return config["overrides"].get(subject, {}).get(key, default)


@cache
def subject_sessions(subject):
    """Session numbers of a subject that the run uses; a bucket takes its time to list them."""
    demo = config["dataset"] == "demo"
    asked = own(subject, "sessions", config["nsd"]["sessions"])
    if asked == "available":
        asked = "all" if demo else find_sessions(PLACE, subject, config["nsd"])
    known = config["demo"]["sessions"] if demo else layout.SESSIONS[subject]
    return layout.resolve_sessions(asked, known)


def sessions(wildcards):
    """The same as a params function."""
    return subject_sessions(wildcards.subject)


def beta_files(wildcards):
    """The betas of a subject, one file a session."""
    suffix = layout.SUFFIXES[config["nsd"]["format"]]
    return [
        large_source(
            layout.BETAS, subject=wildcards.subject, session=session, suffix=suffix
        )
        for session in subject_sessions(wildcards.subject)
    ]


def demo_betas():
    """What the demo writes for a subject, whatever sessions the run uses."""
    return [
        source(layout.BETAS, session=session, suffix="hdf5")
        for session in range(1, config["demo"]["sessions"] + 1)
    ]


def caption_files():
    """COCO's two caption files."""
    folder = config["nsd"]["captions"] or locate(layout.ANNOTATIONS)
    names = [f"{folder}/captions_{split}.json" for split in layout.COCO_SPLITS]
    return [stored(name) for name in names]


def roi_parts(wildcards):
    """The atlas:label parts of a region."""
    return config["rois"][wildcards.roi]


def roi_atlases(wildcards):
    """The atlases that a region needs."""
    return sorted({part.split(":")[0] for part in roi_parts(wildcards)})


def roi_volumes(wildcards):
    """Their volumes."""
    return [source(layout.ROI, atlas=atlas) for atlas in roi_atlases(wildcards)]


@cache
def label_table(subject, atlas):
    """Label table of an atlas, or None; every region asks, and a bucket takes its time."""
    if config["dataset"] == "demo":
        return layout.LABEL_TABLE.format(subject=subject, atlas=atlas)
    return find_table(PLACE, subject, atlas)


def label_tables(subject, atlases):
    """Label tables of a subject's atlases, as far as the release has any."""
    found = {atlas: label_table(subject, atlas) for atlas in atlases}
    return {atlas: locate(name) for atlas, name in found.items() if name}


def roi_tables(wildcards):
    """Tables of a region's atlases."""
    tables = label_tables(wildcards.subject, roi_atlases(wildcards))
    return [stored(path) for path in tables.values()]


def roi_tabled(wildcards):
    """The atlases of a region that have one."""
    return [*label_tables(wildcards.subject, roi_atlases(wildcards))]


def cortex_tables(wildcards):
    """Tables of the atlases that the cortex is made of."""
    tables = label_tables(wildcards.subject, CORTEX_ATLASES)
    return [stored(path) for path in tables.values()]


def cortex_tabled(wildcards):
    """Those that have one."""
    return [*label_tables(wildcards.subject, CORTEX_ATLASES)]


def min_ncsnr(wildcards):
    """Least ncsnr of a subject's voxels, or None."""
    return own(wildcards.subject, "min_ncsnr", config["min_ncsnr"])


def ncsnr_file(wildcards):
    """The ncsnr volume where voxels are selected by it."""
    return [] if min_ncsnr(wildcards) is None else source(layout.NCSNR)


def transforms():
    """Coordinates of each hemisphere's three cortical depths in the functional volume."""
    space = layout.TRANSFORM_SPACES[config["nsd"]["space"]]
    return [
        source(layout.TRANSFORM, hemi=hemi, source=space, target=layer)
        for hemi in layout.HEMISPHERES
        for layer in layout.LAYERS
    ]


def surfaces():
    """Each hemisphere's FreeSurfer files."""
    return [
        source(template, hemi=hemi, name=name)
        for hemi in layout.HEMISPHERES
        for template, name in layout.DRAWN_SURFACES
    ]


def choose(section, *keys):
    """Settings of a section as params of a rule, each under the name of its key."""
    return {key: config[section][key] for key in keys}


def growing(amount):
    """Megabytes or minutes that a job asks for: more with every attempt (see docs/cluster.md)."""

    def asked(wildcards, attempt):
        return amount * attempt

    return asked


def fit_memory(section):
    """Megabytes that a fit's job asks for, by what its section of the configuration allows it."""
    return growing(max(8000, int(1250 * config[section]["memory_gb"])))


def model_path(wildcards):
    """Folder or hub id of the diffusion model."""
    return config["model"]["path"]


def clip_path(wildcards):
    """Folder or hub id of the CLIP model that trained decoders are aligned with."""
    return TRAINED["clip"]["path"]


def clip_files():
    """Its weights, where they are local."""
    return list_weights(TRAINED["clip"]["path"])


def checked_clip_files(wildcards):
    """The same as an input; a whole run needs no such model, so that only these jobs ask for it."""
    clip = TRAINED["clip"]
    findings = check_clip(clip["path"], clip["revision"], "trained.clip")
    stop_on("The run cannot start; nothing was computed:", findings)
    return clip_files()


def of_variant(key):
    """A params function: the noise or seed of a variant of the trajectories."""

    def setting(wildcards):
        variant, _ = split_control(wildcards.variant)
        return VARIANTS[variant].get(key, config["denoising"][key])

    return setting


def variant_text(wildcards):
    """The text that its images are denoised with."""
    return split_control(wildcards.variant)[1] or "own"


def with_controls(spaces):
    """Pairs of z with feature spaces, and with the controls of each."""
    return [f"z+{space}" for space in spaces] + [
        pair
        for pair in CONTROL_PAIRS
        if split_control(pair.removeprefix("z+"))[0] in spaces
    ]


def region_masks():
    """Masks of all regions, of which fits keep sums for the intervals of their means."""
    return collect("results/{{subject}}/masks/{roi}.nii.gz", roi=config["rois"])


def strip_features(wildcards):
    """Latents that are drawn as pictures beside the maps of a figure."""
    spaces = DRAWN_LEVELS if wildcards.figure == "fig7" else STEP_SPACES
    template = "results/{subject}/features/{space}.npy"
    return collect(template, subject=wildcards.subject, space=spaces)


def function_code(wildcards):
    """Digest of the module whose function computes a feature space."""
    return digest_function(config["feature_spaces"][wildcards.space]["function"])


def latents_to_use(wildcards):
    """The z that a method starts from: decoded, or the images' own."""
    return features_to_use(wildcards, "z", leaves_out=("c",))


def embeddings_to_use(wildcards):
    """The c that a method is given."""
    return features_to_use(wildcards, "c", leaves_out=("z", "z-coarse"))


def features_to_use(wildcards, target, leaves_out):
    """A feature as a method of reconstruction takes it."""
    if wildcards.method in leaves_out:
        return []
    if wildcards.method == "true-zc":
        return f"results/{wildcards.subject}/features/{target}.npy"
    return f"results/{wildcards.subject}/{wildcards.protocol}/decoded/{target}.npy"


def scores(suffix="", runs=RUNS):
    """Tables of an evaluation, one a subject, protocol and method."""
    return [
        f"results/{subject}/{protocol}/evaluation/{method}{suffix}.tsv"
        for subject, protocol, method in runs
    ]


def reconstructions(runs):
    """Pictures, one file a subject, protocol and method."""
    return [
        f"results/{subject}/{protocol}/reconstructions/{method}.h5"
        for subject, protocol, method in runs
    ]


def network_files():
    """Files of the networks that compare pictures."""
    networks = config["evaluation"]["networks"].values()
    files = [list_weights(settings.get("weights")) for settings in networks]
    return sorted({path for paths in files for path in paths})


def space_weights(wildcards):
    """Files of the network that computes a feature space."""
    settings = config["feature_spaces"][wildcards.space]["settings"]
    return sorted(list_weights(settings.get("weights")))


def cohort_subjects(wildcards):
    """Subjects that a decoder is trained on."""
    return SUBJECTS if wildcards.cohort == "joint" else [wildcards.cohort]


def of_cohort(template):
    """An input function: the file of each subject of the cohort."""

    def files(wildcards):
        return collect(template, subject=cohort_subjects(wildcards))

    return files


def cohort_stimuli(wildcards):
    """Pictures that a cohort saw, where its second stage looks at them."""
    if DECODERS[wildcards.method]["stage2"]["align"] != "cross_mae":
        return []
    return sorted({seen_stimuli(subject) for subject in cohort_subjects(wildcards)})


def encoder_settings(wildcards):
    """Settings of the first stage."""
    return ENCODERS[wildcards.encoder]


def stage_settings(stage):
    """A params function: a method's settings of a later stage."""

    def settings(wildcards):
        return DECODERS[wildcards.method][stage]

    return settings


def first_stage(wildcards):
    """The encoder that a method's second stage begins with."""
    encoder = DECODERS[wildcards.method]["encoder"]
    return f"results/{wildcards.cohort}/trained/encoders/{encoder}.safetensors"


def last_encoder(wildcards):
    """The encoder that a method's third stage begins with."""
    if wildcards.method in ALIGNED:
        return (
            f"results/{wildcards.cohort}/trained/aligned/{wildcards.method}.safetensors"
        )
    return first_stage(wildcards)


def trained_weights(wildcards):
    """Weights that a method reconstructs with: its own subject's, all subjects' or another's."""
    method, _, cohort = wildcards.method.rpartition("-")
    if not re.fullmatch("joint|subj0[1-8]", cohort):
        method, cohort = wildcards.method, wildcards.subject
    return f"results/{cohort}/trained/diffusion/{method}.safetensors"


def of_methods(template, methods):
    """A subject's file of each method, decoded by ridge or trained."""
    return [
        f"results/{{subject}}/{'trained' if name in DECODERS else PROTOCOLS[0]}/"
        + template.format(method=name)
        for name in methods
    ]


def encoder_weights(methods):
    """Weights of the first stage of each method, of the first subject: for their counts."""
    folder = f"results/{TRAINED_SUBJECTS[0]}/trained/encoders"
    return [f"{folder}/{DECODERS[name]['encoder']}.safetensors" for name in methods]


def alignments(methods):
    """What the second stage of each method aligns."""
    return {name: DECODERS[name]["stage2"]["align"] for name in methods}


def training_stages(wildcards):
    """Encoders, aligned and whole methods of a cohort: of all subjects together the first alone."""
    methods = list(DECODERS)
    if wildcards.cohort == "joint":
        methods = methods[:1]
    encoders = list(dict.fromkeys(DECODERS[name]["encoder"] for name in methods))
    return encoders, [name for name in methods if name in ALIGNED], methods


def training_names(wildcards):
    """Stages that a cohort trains, in the order of `training_curves`."""
    encoders, aligned, methods = training_stages(wildcards)
    return [
        *(f"stage 1: {name}" for name in encoders),
        *(f"stage 2: {name}" for name in aligned),
        *(f"stage 3: {name}" for name in methods),
    ]


def training_curves(wildcards):
    """Tables of a cohort's losses."""
    folder = f"results/{wildcards.cohort}/trained"
    encoders, aligned, methods = training_stages(wildcards)
    return [
        *(f"{folder}/encoders/{name}.tsv" for name in encoders),
        *(f"{folder}/aligned/{name}.tsv" for name in aligned),
        *(f"{folder}/diffusion/{name}.tsv" for name in methods),
    ]


def demo_root(wildcards):
    """Where the simulated release lies."""
    return ROOT


def model_files():
    """The files of a model folder as inputs; a hub id has none and is pinned by its revision."""
    return list(map(str, list_files(config["model"]["path"], "*/*.[js]*")))


def network_inputs():
    """Local files of all networks."""
    weights = [
        each["settings"].get("weights") for each in config["feature_spaces"].values()
    ]
    own = [path for each in weights for path in list_weights(each)]
    return sorted({*model_files(), *network_files(), *clip_files(), *own})


def unknown_targets():
    """Findings about what the command line asks for and no rule makes."""
    # Snakemake notes its targets only after it has read this; programs may run it, too, and a
    # workflow that uses this one as a module has rules of its own.
    started = Path(sys.argv[0]).stem in ("snakemake", "__main__")
    if not started or not workflow.modifier.is_main_snakefile():
        return []
    command = get_argument_parser().parse_args(sys.argv[1:])
    rules = {rule.name: rule for rule in workflow.rules}

    def describe(target, whole):
        if target in rules:
            whole = whole and rules[target].has_wildcards()
            return "a rule of which one file must be named" if whole else None
        path = target if os.path.isabs(target) else os.path.relpath(target)
        if any(each.is_producer(path) for each in rules.values()):
            return None
        return "a file that no rule makes" if Path(target).exists() else "neither"

    others = (command.forcerun, command.until, command.omit_from)
    found = {
        target: describe(target, False) for each in others for target in each or ()
    }
    found |= {target: describe(target, True) for target in command.targets}
    known = {name: list(map(str, rules[name].input)) for name in ("all", "trained")}
    unknown = {target: words for target, words in found.items() if words}
    return find_unknown(unknown, known, SUBJECTS)


def stop_on_missing_inputs():
    """Report everything the configured run lacks, at once and before the first job."""
    if not workflow.is_main_process or "--unlock" in sys.argv:
        return
    if warning := describe_lock(".snakemake"):
        logger.warning(warning)
    stop_on("Nothing can be run here:", check_name(PROJECT))
    stop_on("What was asked for cannot be made:", unknown_targets())
    stop_on(
        "Nothing can be written over other results:",
        find_other_source("results/source.tsv", config["dataset"]),
    )
    dry = workflow.output_settings.dryrun
    # Even a dry run writes Snakemake's own state.
    written = WRITTEN[-1:] if dry else WRITTEN
    stop_on("Nothing can be written:", check_writable(written))
    if not dry:
        noted = [".snakemake/metadata", ".snakemake/incomplete"]
        stop_on("Nothing can be written:", find_foreign([*WRITTEN[:-1], *noted]))
    # Snakemake takes a benchmark for one of a job's outputs.
    findings = find_late_results(["results", "benchmarks"])
    # An environment of their own may have what is not here.
    alike = not workflow.deployment_settings.deployment_method
    findings += check_named(config, functions=alike)
    if config["dataset"] == "demo":
        findings += find_late(network_inputs())
    else:
        findings += preflight(
            config, ROOT, SUBJECTS, subject_sessions, network_inputs()
        )
    stop_on("The run cannot start; nothing was computed:", findings)


include: "slurm.smk"

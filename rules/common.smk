# What all rules share: settings, subjects, lists of what to run, and paths of the release.

import os
import shlex
import sys

from nsdldm.nsd import layout
from nsdldm.nsd.remote import is_remote
from nsdldm.support.provenance import PROJECT, digest, digest_file, digest_function
from nsdldm.workflow.arguments import tell_jobs
from nsdldm.workflow.loading import SettingsError, load_settings
from nsdldm.workflow.named import check_clip
from nsdldm.workflow.networks import list_clip, list_judges, list_model, list_space
from nsdldm.workflow.plan import (
    FORMATS,
    find_chain,
    list_drawn_runs,
    list_runs,
    list_spaces,
    list_targets,
    list_trained_targets,
    list_training,
)
from nsdldm.workflow.release import Release
from nsdldm.workflow.workfolder import find_resources

# Snakemake inserts this path into shell commands verbatim, even if it has blanks or quotes.
sys.executable = shlex.quote(sys.executable)

# Jobs use the package next to the Snakefile, whose digests they have, whichever is installed.
os.environ.update(
    PYTHONPATH=os.pathsep.join(filter(None, [str(PROJECT), os.getenv("PYTHONPATH")]))
)


# Messages of jobs name arguments by their keys in the configuration.
tell_jobs()


def stop_on(title, problems):
    """End the run with one report of all problems."""
    if problems:
        # An exception would be shown with the lines that raised it, which helps nobody.
        logger.error("\n  - ".join([title, *map(str, problems)]))
        raise SystemExit(1)


try:
    config.update(load_settings(config, workflow.configfiles))
except SettingsError as error:
    stop_on("The configuration cannot be used:", error.problems)
config.update(find_resources(config, PROJECT))

SUBJECTS = config["subjects"]
PROTOCOLS = config["decoding"]["protocols"]
TARGETS = list(config["decoding"]["targets"])
DECODED_ROIS = sorted(set(config["decoding"]["targets"].values()))
SPACES = list_spaces(config)
RUNS = list_runs(config)
# Figures show the first protocol.
DRAWN_RUNS = list_drawn_runs(config)
TRAINING = list_training(config)
RELEASE = Release(config)
# Files of a method's run, by the names that rules use.
RUN_FILES = {
    "reconstructions": "results/{subject}/{protocol}/reconstructions/{method}.h5",
    "samples": "results/{subject}/{protocol}/evaluation/{method}_samples.tsv",
    "tables": "results/{subject}/{protocol}/evaluation/{method}.tsv",
    "summaries": "results/{subject}/{protocol}/evaluation/{method}_summary.tsv",
}
# Real data take days without a GPU, so jobs warn if they find none.
DEVICE = config["model"]["device"]
if config["dataset"] == "nsd" and DEVICE == "auto":
    DEVICE = "prefer-cuda"
MODEL = config["model"] | {"device": DEVICE}
del MODEL["resolution"]


def stored(path, retrieve=True):
    """A path as an input; of an object in a bucket a local copy, or its address."""
    if isinstance(path, list):
        return [stored(each, retrieve) for each in path]
    return storage.nsd(path, retrieve=retrieve) if is_remote(path) else path


def source(template, **values):
    """A file of the release as an input, in a bucket the local copy of it."""
    return stored(RELEASE.locate(template, **values))


def large_source(template, **values):
    """A file of the release that jobs read from a bucket themselves, piece by piece."""
    return stored(RELEASE.locate(template, **values), retrieve=False)


def all_stimuli():
    """Files that hold the pictures of all subjects."""
    return sorted({RELEASE.locate_stimuli(subject) for subject in SUBJECTS})


def own(key, subject):
    """A subject's own setting, or everyone's."""
    return config["overrides"].get(subject, {}).get(key, config[key])


def of_runs(runs, *kinds):
    """Files of the runs of methods as inputs: pictures, scores or summaries of them."""
    names = ("subject", "protocol", "method")
    return {
        kind: [RUN_FILES[kind].format(**dict(zip(names, run))) for run in runs]
        for kind in kinds
    }


def of_cohort(template):
    """An input function: the files of the subjects that a decoder is trained on, each once."""

    def files(wildcards):
        subjects = TRAINING.list_cohort(wildcards.cohort)
        return list(dict.fromkeys(collect(template, subject=subjects)))

    return files


def choose(section, *keys):
    """Settings of a section as params of a rule, each under the name of its key."""
    return {key: config[section][key] for key in keys}


def needs(mem_mb, runtime, **others):
    """Resources of a job: megabytes and minutes that grow with every attempt, and others."""
    return {"mem_mb": growing(mem_mb), "runtime": growing(runtime)} | others


def figure(stem, category, suffixes=("pdf", "tsv"), **labels):
    """Files of a figure as outputs: pixels, which the report shows, vectors and numbers."""
    caption = f"../report/{os.path.basename(stem)}.rst"
    shown = report(f"{stem}.png", caption=caption, category=category, labels=labels)
    return {"png": shown} | {suffix: f"{stem}.{suffix}" for suffix in suffixes}


def growing(amount):
    """Megabytes or minutes that a job asks for: more with every attempt (see docs/cluster.md)."""

    def asked(wildcards, attempt):
        return amount * attempt

    return asked


def fit_memory(section):
    """Megabytes that a fit's job asks for, by what its section of the configuration allows it."""
    return growing(max(8000, int(1250 * config[section]["memory_gb"])))


def clip_files(wildcards):
    """Weights of CLIP, for the jobs that need it; a whole run does without."""
    clip = config["trained"]["clip"]
    findings = check_clip(clip["path"], clip["revision"], "trained.clip")
    stop_on("The run cannot start; nothing was computed:", findings)
    return list_clip(config)

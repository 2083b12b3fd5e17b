# What all rules share: settings, subjects, lists of what to run, and paths of the release.

import os
import re
import shlex
import sys

from nsdldm.nsd import layout
from nsdldm.nsd.remote import is_remote
from nsdldm.support.provenance import PROJECT, digest, digest_file, digest_function
from nsdldm.workflow import plan
from nsdldm.workflow.jobs import prepare_jobs
from nsdldm.workflow.loading import SettingsError, load_settings
from nsdldm.workflow.named import check_clip
from nsdldm.workflow.networks import list_clip, list_judges, list_model, list_space
from nsdldm.workflow.own import open_release
from nsdldm.workflow.workfolder import find_resources

# Snakemake inserts this path into shell commands verbatim, even if it has blanks or quotes.
sys.executable = shlex.quote(sys.executable)

prepare_jobs(PROJECT)


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
ROIS = list(config["rois"])
PROTOCOLS = config["decoding"]["protocols"]
RIDGE = "|".join(plan.PROTOCOLS)
BEYOND = plan.list_beyond(config)
TARGETS = {
    name: roi for name, roi in config["decoding"]["targets"].items() if name not in BEYOND.targets
}
SPACES = plan.list_spaces(config)
RUNS = plan.list_runs(config)
# Figures show the first protocol.
DRAWN_RUNS = plan.list_drawn_runs(config)
TRAINING = plan.list_training(config)
RELEASE = open_release(config)
DEMO = RELEASE.simulated
# Real data take days without a GPU, so jobs warn if they find none.
DEVICE = config["model"]["device"]
if not DEMO and DEVICE == "auto":
    DEVICE = "prefer-cuda"
MODEL = config["model"] | {"device": DEVICE}
del MODEL["resolution"]
# The demo's small networks use one core; several of them run at once, even on one GPU.
THREADS, GPUS = (1, 0) if DEMO else (8, 1)


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


def of_each(template, spaces):
    """An input function: a file for each space that belongs to a job's family or figure."""

    def files(wildcards):
        name = wildcards.get("family") or wildcards.get("figure")
        return [template.replace("{space}", space) for space in spaces[name]]

    return files


def of_cohort(template):
    """An input function: the files of the subjects that a decoder is trained on, each once."""
    return lambda wildcards: TRAINING.list_files(wildcards.cohort, template)


def choose(section, *keys):
    """Settings of a section as params of a rule, each under the name of its key."""
    return {key: config[section][key] for key in keys}


def needs(mem_mb, runtime, **others):
    """Resources of a job: megabytes and minutes, which grow with every attempt, and others."""

    def growing(amount):
        return lambda wildcards, attempt: amount * attempt

    return {"mem_mb": growing(mem_mb), "runtime": growing(runtime)} | others


def fit_memory(section):
    """Megabytes that a fit's job asks for, by what its section of the configuration allows it."""
    return max(8000, int(1250 * config[section]["memory_gb"]))


def figure(stem, category, name, suffixes=("pdf", "tsv"), caption=None):
    """Files of a figure as outputs: pixels, which the report shows, vectors and numbers."""
    caption = f"../report/{caption or os.path.basename(stem)}.rst"
    whose = re.fullmatch("results/(.+)/figures/.+", stem)
    labels = {"figure": name, "subject": whose.group(1) if whose else "all"}
    shown = report(f"{stem}.png", caption=caption, category=category, labels=labels)
    return {"png": shown} | {suffix: f"{stem}.{suffix}" for suffix in suffixes}


def table(name, caption=None, label=None):
    """A table of all subjects as an output, which the report shows."""
    path, caption = f"results/tables/{name}.tsv", f"../report/{caption or name}.rst"
    return report(path, caption=caption, category="Tables", labels={"table": label or name})


def clip_files(wildcards):
    """Weights of CLIP, for the jobs that need it; a whole run does without."""
    clip = config["trained"]["clip"]
    findings = check_clip(clip["path"], clip["revision"], "trained.clip")
    stop_on("The run cannot start; nothing was computed:", findings)
    return list_clip(config)

"""Kinds of bad input and what a user is told of each: writes docs/bad_input.md.

Every case makes the bad input in a folder of its own and hands it to the function that reads it.
``make bad-input`` writes the page; test_hostile_messages.py compares it.
"""

import gzip
import json
import os
import re
import shutil
import struct
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from diffusion_models import save_model
from nesting import nest
from nsd_files import (
    AFFINE,
    FACES,
    GRID,
    OCTAHEDRON,
    STREAMS,
    make_atlas,
    make_betas,
    make_design,
    nifti_bytes,
    write_betas,
    write_captions,
    write_checked,
    write_design,
    write_mgh,
    write_nifti,
    write_patch_bytes,
    write_responses,
    write_shared,
    write_stimuli,
    write_subject,
)
from scipy.io import savemat

from nsdldm.demo.atlases import check_regions
from nsdldm.diffusion.check import check_model
from nsdldm.diffusion.loading import load_autoencoder, load_denoiser, load_text
from nsdldm.features import collecting, trajectories
from nsdldm.features.networks import load_extractors
from nsdldm.features.pictures import compute_features
from nsdldm.nsd.betas import read_session
from nsdldm.nsd.captions import read_captions
from nsdldm.nsd.check import ReleaseFiles, check_release
from nsdldm.nsd.labels import parse_roi, read_label_table
from nsdldm.nsd.places import Folder
from nsdldm.nsd.rois import make_masks, read_labels, read_volume
from nsdldm.nsd.stimuli import read_images
from nsdldm.nsd.surfaces import (
    read_index_map,
    read_morph,
    read_patch,
    read_surface,
    read_transform,
)
from nsdldm.nsd.trials import read_design, read_responses, read_stim_info
from nsdldm.plots.pictures import open_pictures, rank_samples, read_test_images
from nsdldm.splits import check_split
from nsdldm.support.errors import InputError, write_arguments
from nsdldm.workflow import workfolder
from nsdldm.workflow.arguments import find_keys
from nsdldm.workflow.loading import SettingsError, load_settings
from nsdldm.workflow.named import check_named
from nsdldm.workflow.preflight import preflight
from nsdldm.workflow.slurm import Asked, check_jobs, read_partitions
from nsdldm.workflow.targets import find_unknown
from nsdldm.workflow.workfolder import check_name, check_writable, find_foreign

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs/bad_input.md"
CPU = torch.device("cpu")
SECTIONS = {}
HEAD = """# What is said of bad input

Bad input ends a run, or the job that reads it, with one report before anything is computed from
it; nothing that was computed is lost. Each line names the file or key, what was expected there,
what was found, and what to do. `make bad-input` writes this page: it makes each kind of bad input
and reads it. Paths are shortened.
"""


def case(section, kind):
    """Enter a function of a folder into the catalogue."""

    def enter(function):
        SECTIONS.setdefault(section, {})[kind] = function
        return function

    return enter


# The configuration.

CONFIG = "The configuration"
CONFIGS = {
    "a key that does not exist": "encodng: {}",
    "a key in another section": "fdr: 0.01",
    "a key under its old and its new name": "denoising: {steps: 9, num_inference_steps: 8}",
    "a value of another type": "model: {batch_size: many}",
    "a number out of range": "denoising: {strength: 2}",
    "no number": "denoising: {guidance_scale: .nan}",
    "a number without end": f"demo: {{seed: 1{'0' * 400}}}",
    "an octal number": "demo: {seed: 010}",
    "a text that YAML takes for true or false": "model: {dtype: on}",
    "a text that YAML takes for a number": "model: {revision: 1234567}",
    "an unknown subject": "subjects: [subj09]",
    "a list without values": "subjects: []",
    "a path of a variable that is not set": "nsd: {root: $NSD_ROOT_OF_NOBODY/nsd}",
    "a name that leads out of the results": "rois: {../early: ['streams:early']}",
    "a name that ends in a line break": 'rois: {"early\\n": ["streams:early"]}',
    "a name with look-alike letters": "trajectories: {variants: {seеd: {seed: 1}}}",
    "a name longer than file names": f"rois: {{{'v' * 300}: ['streams:early']}}",
    "an atlas that is a path": "rois: {early: ['../../streams:early']}",
    "a region without an atlas": "rois: {early: [early]}",
    "a function that is a path": "feature_spaces: {own: {function: /x.y, settings: {}}}",
    "keys that are no texts": "overrides: {1: {sessions: 3}}",
    "a name that YAML takes for true or false": "rois: {no: ['streams:early']}",
    "a subject of the figures who is not run": "figure_subject: subj05",
    "a matrix of no region": "matrices: [cortex, early, ventral, V9]",
    "more sessions than the demo has": "nsd: {sessions: 7}",
    "two noise levels that are the same steps": "trajectories: {noise_levels: [0.2, 0.21]}",
    "two names of one block": "trajectories: {blocks: {middle: mid_block}}",
    "a setting that a trained method's preset lacks": (
        "trained: {methods: {mae-f: {stage1: {widht: 96}}}}"
    ),
    "a trained method without a preset": "trained: {methods: {mae-x: {}}}",
    "a list without a value that it must have": "reconstruction: {methods: [z]}",
    "a trained method with the name of a cohort": ("trained: {methods: {subj02: {preset: fcae}}}"),
    "a trained method with the name of a ridge one": "trained: {methods: {zc: {preset: fcae}}}",
}


# What they name and is not there.
NAMED = {
    "a resolution that the autoencoder does not divide": "model: {resolution: 100}",
    "a block that the U-Net does not have": "trajectories: {blocks: {last: up_blocks.7}}",
    "a list of blocks": "trajectories: {blocks: {all: down_blocks}}",
    "a score that no network gives": "evaluation: {best_by: psm:demo-clip:image_embed}",
    "more classes than a network tells apart": "evaluation: {n_way: 50}",
    "a network's weights that are not there": (
        f"evaluation: {{networks: {{alexnet: {{weights: alexnet.pth, sha256: '{'0' * 64}'}}}}}}"
    ),
    "a network's weights without their hash": (
        "evaluation: {networks: {swav: {weights: 'https://host/swav.pth'}}}"
    ),
    "a feature space of no module": "feature_spaces: {own: {function: mine.embed, settings: {}}}",
    "a feature space of no function": (
        "feature_spaces: {own: {function: nsdldm.features.pictures.embed, settings: {}}}"
    ),
    "a setting that a function does not take": (
        "feature_spaces: {own: {function: nsdldm.features.pictures.embed_pictures, "
        "settings: {network: clip, layr: image_embeds, weights: x}}}"
    ),
}


def check_config(text, folder):
    path = write_text(folder / "config.yaml", text)
    try:
        config = load_settings(yaml.safe_load(text), [path])
    except SettingsError as error:
        return error.problems
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        return check_named(config)


for _kind, _change in (CONFIGS | NAMED).items():
    case(CONFIG, _kind)(partial(check_config, _change))


@case(CONFIG, "nesting without end")
def _(folder):
    endless = []
    endless.append(endless)
    return check_config(yaml.dump({"feature_spaces": {"own": {"settings": endless}}}), folder)


# Files that are missing.

MISSING = "What is missing"
ASKED = {
    "nsd": {
        "captions": None,
        "endpoint": None,
        "signed": False,
        "betas": "betas_fithrf_GLMdenoise_RR",
        "format": "hdf5",
        "space": "func1pt8mm",
        "test_sets": ["shared"],
        "imagery_order": "chronological",
    },
    "generalisation": {"categories": False, "betas": None},
    "rois": {"cortex": ["streams:ribbon"], "early": ["streams:early"]},
    "min_ncsnr": None,
    "overrides": {},
}


ASKED_RESPONSES = "nsddata/ppdata/subj01/behav/responses.tsv"


def look(folder, change=None, sessions=(1, 2)):
    """Preflight of a release that is whole but for what a case takes away."""
    for file in ("experiments/nsd/nsd_expdesign.mat", "experiments/nsd/nsd_stim_info_merged.csv"):
        write_text(folder / "nsddata" / file, "not looked into")
    stimuli = folder / "nsddata_stimuli/stimuli/nsd"
    for file in (
        "nsd_stimuli.hdf5",
        *(f"annotations/captions_{s}2017.json" for s in ("train", "val")),
    ):
        write_text(stimuli / file, "not looked into")
    write_subject(folder, make_design(), 1)
    if change:
        change()
    return preflight(ASKED, Folder(folder), ["subj01"], lambda _: list(sessions))


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@case(MISSING, "the release")
def _(folder):
    return preflight(ASKED, Folder(folder / "nsd"), ["subj01"], lambda _: [1])


@case(MISSING, "a subject")
def _(folder):
    def take():
        for top in ("nsddata/ppdata", "nsddata/freesurfer", "nsddata_betas/ppdata"):
            shutil.rmtree(folder / top / "subj01")

    return look(folder, take)


@case(MISSING, "the betas of a session")
def _(folder):
    return look(folder, sessions=(1, 2, 3))


@case(MISSING, "a session that the subject does not have")
def _(folder):
    return look(folder, sessions=(1, 41))


@case(MISSING, "another version of the betas")
def _(folder):
    betas = folder / "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    return look(folder, lambda: betas.rename(betas.with_name("betas_assumehrf")))


@case(MISSING, "the space that is asked for")
def _(folder):
    space = folder / "nsddata_betas/ppdata/subj01/func1pt8mm"
    return look(folder, lambda: space.rename(space.with_name("func1mm")))


@case(MISSING, "the objects in COCO's images")
def _(folder):
    look(folder)
    asked = ASKED | {"generalisation": {"categories": True, "betas": None}}
    return preflight(asked, Folder(folder), ["subj01"], lambda _: [1])[:1]


@case(MISSING, "a session of another test set")
def _(folder):
    look(folder)
    asked = ASKED | {"nsd": ASKED["nsd"] | {"test_sets": ["shared", "imagery"]}}
    return preflight(asked, Folder(folder), ["subj01"], lambda _: [1])[:1]


@case(MISSING, "an atlas that the simulated release does not have")
def _(_folder):
    return check_regions({"V1": ["Kastner2015:V1v"]})


@case(MISSING, "a rule or file that was asked for")
def _(_folder):
    rules = {"all": ["results/figures/fig6.png", "results/subj01/figures/fig6.png"]}
    return find_unknown({"resulsts/figures/fig6.png": "neither"}, rules, ["subj01"])


@case(MISSING, "a subject that was asked for")
def _(_folder):
    return find_unknown({"results/subj05/figures/fig6.png": "neither"}, {}, ["subj01", "subj02"])


@case(MISSING, "an empty file")
def _(folder):
    atlas = folder / "nsddata/ppdata/subj01/func1pt8mm/roi/streams.nii.gz"
    return look(folder, partial(atlas.write_bytes, b""))


@case(MISSING, "a label that the atlas does not have")
def _(folder):
    table = folder / "nsddata/freesurfer/subj01/label/streams.mgz.ctab"
    return look(folder, lambda: table.write_text("0 Unknown\n5 ventral\n"))


@case(MISSING, "the names of an atlas' labels")
def _(folder):
    table = folder / "nsddata/freesurfer/subj01/label/streams.mgz.ctab"
    return look(folder, table.unlink)


# The folder of the work, and times.

PLACE = "The folder of the work"


@case(PLACE, "results on a disk that is not mounted")
def _(folder):
    (folder / "results").symlink_to(folder / "mnt/disk")
    return check_writable([folder / "results"])


@case(PLACE, "a file in place of a folder")
def _(folder):
    return check_writable([write_text(folder / "logs", "")])


@case(PLACE, "files of another user")
def _(folder):
    write_text(folder / "results/subj01/trials.tsv", "")
    with (
        mock.patch.object(os, "access", lambda *_: False),
        mock.patch.object(os, "geteuid", lambda: -1),
        mock.patch.object(workfolder, "_name_user", lambda _: "alice"),
    ):
        return find_foreign([folder / "results/subj01"])


@case(PLACE, "a project whose path has braces")
def _(folder):
    return check_name(folder / "{old}")


@case(PLACE, "inputs with time stamps ahead of the clock")
def _(folder):
    late = time.time() + 3 * 3600 + 60
    return look(folder, lambda: os.utime(folder / ASKED_RESPONSES, (late, late)))


# Damaged files of the release.

DAMAGED = "Damaged files of the release"
MASK = np.ones(GRID, bool)


def cut(path, share=0.6):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


@case(DAMAGED, "betas: truncated HDF5")
def _(folder):
    write_betas(folder / "betas_session01.hdf5", make_betas(0))
    read_session(cut(folder / "betas_session01.hdf5"), MASK)


@case(DAMAGED, "betas: no HDF5")
def _(folder):
    read_session(write_text(folder / "betas_session01.hdf5", "<html>403 Forbidden</html>"), MASK)


def write_hdf5(path, **contents):
    with h5py.File(path, "w") as file:
        for name, content in contents.items():
            file[name] = content
    return path


@case(DAMAGED, "betas: another dataset")
def _(folder):
    read_session(write_hdf5(folder / "betas_session01.hdf5", data=np.zeros(3)), MASK)


@case(DAMAGED, "betas: a group")
def _(folder):
    path = folder / "betas_session01.hdf5"
    with h5py.File(path, "w") as file:
        file.create_group("betas")
    read_session(path, MASK)


@case(DAMAGED, "betas: a link that leads to itself")
def _(folder):
    path = write_hdf5(folder / "betas_session01.hdf5", betas=h5py.SoftLink("/betas"))
    read_session(path, MASK)


@case(DAMAGED, "betas: a link to another file")
def _(folder):
    link = h5py.ExternalLink("elsewhere.hdf5", "/betas")
    read_session(write_hdf5(folder / "betas_session01.hdf5", betas=link), MASK)


@case(DAMAGED, "betas: a shape without values")
def _(folder):
    path = folder / "betas_session01.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("betas", (750, 1000, 1000, 1000), "<i2", chunks=(750, 1, 1, 1))
    read_session(path, MASK)


@case(DAMAGED, "betas: another grid than the regions")
def _(folder):
    write_betas(folder / "betas_session01.hdf5", make_betas(0, (4, 6, 3)))
    read_session(folder / "betas_session01.hdf5", MASK)


@case(DAMAGED, "betas: another type of number")
def _(folder):
    write_betas(folder / "betas_session01.hdf5", make_betas(0).astype("f4"))
    read_session(folder / "betas_session01.hdf5", MASK)


@case(DAMAGED, "betas: NIfTI that scales its values")
def _(folder):
    write_nifti(folder / "betas_session01.nii.gz", make_betas(0), slope=2.0)
    read_session(folder / "betas_session01.nii.gz", MASK)


@case(DAMAGED, "betas: truncated gzip")
def _(folder):
    write_nifti(folder / "betas_session01.nii.gz", make_betas(0))
    read_session(cut(folder / "betas_session01.nii.gz"), MASK)


@case(DAMAGED, "atlas: a header that claims terabytes")
def _(folder):
    content = bytearray(nifti_bytes(make_atlas()))
    struct.pack_into("<3h", content, 42, 30_000, 30_000, 3_000)
    (folder / "streams.nii.gz").write_bytes(gzip.compress(bytes(content)))
    read_volume(folder / "streams.nii.gz")


@case(DAMAGED, "atlas: truncated")
def _(folder):
    write_nifti(folder / "streams.nii.gz", make_atlas())
    read_volume(cut(folder / "streams.nii.gz"))


@case(DAMAGED, "atlas: four dimensions")
def _(folder):
    write_nifti(folder / "streams.nii.gz", np.zeros((*GRID, 2), "i2"))
    read_volume(folder / "streams.nii.gz")


@case(DAMAGED, "atlas: labels that were interpolated")
def _(folder):
    write_nifti(folder / "streams.nii.gz", np.where(make_atlas() == 5, 4.98, 1))
    read_labels(folder / "streams.nii.gz")


@case(DAMAGED, "label table: no number")
def _(folder):
    read_label_table(write_text(folder / "streams.mgz.ctab", "0 Unknown\nearly 1\n"))


@case(DAMAGED, "label table: a number of a million digits")
def _(folder):
    read_label_table(write_text(folder / "streams.mgz.ctab", "9" * 900_000 + " early\n"))


@case(DAMAGED, "label table: a number twice")
def _(folder):
    read_label_table(write_text(folder / "streams.mgz.ctab", "1 early\n1 ventral\n"))


@case(DAMAGED, "label table: no text")
def _(folder):
    (folder / "streams.mgz.ctab").write_bytes(b"\xff\xfe1\0 \0e\0")
    read_label_table(folder / "streams.mgz.ctab")


def write_trials(folder, old, new):
    """A subject's responses with the text of one of their lines changed."""
    path = folder / "responses.tsv"
    write_responses(path, *make_design()[:2], 1, 1)
    lines = path.read_text().splitlines()
    lines[2] = re.sub(old, new, lines[2])
    path.write_text("\n".join(lines) + "\n")
    return path


@case(DAMAGED, "responses: no such column")
def _(folder):
    read_responses(write_text(folder / "responses.tsv", "SUBJECT\tSESSION\n1\t1\n"))


@case(DAMAGED, "responses: a column twice")
def _(folder):
    read_responses(write_text(folder / "responses.tsv", "SUBJECT\tSESSION\tSESSION\t73KID\n"))


@case(DAMAGED, "responses: a fraction")
def _(folder):
    read_responses(write_trials(folder, r"^1\t1", "1\t1.5"))


@case(DAMAGED, "responses: a missing number")
def _(folder):
    read_responses(write_trials(folder, r"^1\t1", "1\tNaN"))


@case(DAMAGED, "responses: a number out of range")
def _(folder):
    read_responses(write_trials(folder, r"^1\t1", "1\t1e30"))


@case(DAMAGED, "responses: a row that is too long")
def _(folder):
    read_responses(write_trials(folder, r"$", "\t1\t2"))


@case(DAMAGED, "design: of MATLAB 7.3")
def _(folder):
    path = folder / "nsd_expdesign.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["masterordering"] = np.zeros((30_000, 1))
    header = b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H2s", 0x0200, b"IM")
    path.write_bytes(header + path.read_bytes()[128:])
    read_design(path, "subj01")


@case(DAMAGED, "design: a type of data that MATLAB does not have")
def _(folder):
    write_design(folder / "nsd_expdesign.mat", *make_design())
    content = bytearray((folder / "nsd_expdesign.mat").read_bytes())
    content[192:194] = b"\xff\xff"  # the type of the first variable's numbers
    (folder / "nsd_expdesign.mat").write_bytes(content)
    read_design(folder / "nsd_expdesign.mat", "subj01")


@case(DAMAGED, "design: a variable missing")
def _(folder):
    savemat(folder / "nsd_expdesign.mat", {"masterordering": np.ones((1, 30_000))})
    read_design(folder / "nsd_expdesign.mat", "subj01")


@case(DAMAGED, "design: numbers that are missing")
def _(folder):
    order, images, shared = make_design()
    order = order.astype(float)
    order[7] = np.nan
    write_design(folder / "nsd_expdesign.mat", order, images, shared)
    read_design(folder / "nsd_expdesign.mat", "subj01")


def write_table(folder, **columns):
    """A small table of stimuli with some columns changed."""
    table = {"nsdId": [0, 1], "cocoId": [3, 4], "cocoSplit": ["val2017"] * 2}
    table |= {"shared1000": [True, False]} | {f"subject1_rep{n}": [0, 1] for n in range(3)}
    pd.DataFrame(table | columns).to_csv(folder / "nsd_stim_info_merged.csv")
    return folder / "nsd_stim_info_merged.csv"


@case(DAMAGED, "stimulus table: neither true nor false")
def _(folder):
    read_stim_info(write_table(folder, shared1000=["True", "Flase"]), "subj01")


@case(DAMAGED, "stimulus table: rows in another order")
def _(folder):
    read_stim_info(write_table(folder, nsdId=[1, 0]), "subj01")


@case(DAMAGED, "stimulus table: a quote that never ends")
def _(folder):
    path = write_table(folder)
    path.write_text(path.read_text().replace("0,0,3", '0,"0,3'))
    read_stim_info(path, "subj01")


@case(DAMAGED, "captions: no JSON")
def _(folder):
    read_captions([write_text(folder / "captions_val2017.json", '{"annotations": [')], [1])


@case(DAMAGED, "captions: nested without end")
def _(folder):
    read_captions([write_text(folder / "captions_val2017.json", "[" * 100_000)], [1])


@case(DAMAGED, "captions: annotations of another kind")
def _(folder):
    content = {"annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1]}]}
    read_captions([write_text(folder / "instances_val2017.json", json.dumps(content))], [1])


@case(DAMAGED, "captions: half a character")
def _(folder):
    text = '{"annotations": [{"image_id": 1, "caption": "a dog \\ud83d"}]}'
    read_captions([write_text(folder / "captions_val2017.json", text)], [1])


@case(DAMAGED, "captions: none for an image")
def _(folder):
    write_captions(folder / "captions_val2017.json", [(1, "a dog")])
    read_captions([folder / "captions_val2017.json"], [1, 2])


@case(DAMAGED, "pictures: another size")
def _(folder):
    path = write_hdf5(folder / "nsd_stimuli.hdf5", imgBrick=np.zeros((2, 227, 227, 3), "u1"))
    list(read_images(path, [0]))


@case(DAMAGED, "pictures: too few")
def _(folder):
    write_stimuli(folder / "nsd_stimuli.hdf5", {}, 100)
    list(read_images(folder / "nsd_stimuli.hdf5", [5, 100, 72_999]))


@case(DAMAGED, "transform: another shape")
def _(folder):
    write_mgh(folder / "lh.func1pt8-to-layerB1.mgz", np.ones((6, 1, 1)))
    read_transform(folder / "lh.func1pt8-to-layerB1.mgz")


@case(DAMAGED, "transform to fsaverage: no vertex")
def _(folder):
    write_mgh(folder / "lh.white-to-fsaverage.mgz", np.array([1, np.nan, 3])[:, None, None])
    read_index_map(folder / "lh.white-to-fsaverage.mgz")


@case(DAMAGED, "surface: more vertices than bytes")
def _(folder):
    nib.freesurfer.write_geometry(folder / "lh.white", OCTAHEDRON, FACES, create_stamp="")
    content = (folder / "lh.white").read_bytes()
    (folder / "lh.white").write_bytes(content.replace(struct.pack(">i", 6), b"\x7f" * 4, 1))
    read_surface(folder / "lh.white")


@case(DAMAGED, "surface: triangles of vertices that are not there")
def _(folder):
    nib.freesurfer.write_geometry(folder / "lh.white", OCTAHEDRON, FACES + 1)
    read_surface(folder / "lh.white")


@case(DAMAGED, "values of vertices: truncated")
def _(folder):
    nib.freesurfer.write_morph_data(folder / "lh.sulc", OCTAHEDRON[:, 0])
    read_morph(cut(folder / "lh.sulc"))


@case(DAMAGED, "flat patch: vertex 0 of vertices that count from 1")
def _(folder):
    write_patch_bytes(folder / "lh.full.flat.patch.3d", [-1, 2], OCTAHEDRON[:2], [False, False])
    read_patch(folder / "lh.full.flat.patch.3d")


@case(DAMAGED, "flat patch: truncated")
def _(folder):
    write_patch_bytes(folder / "lh.full.flat.patch.3d", [0, 2], OCTAHEDRON[:2], [False, False])
    read_patch(cut(folder / "lh.full.flat.patch.3d"))


# Files that are whole and contradict one another.

APART = "Files that contradict one another"


@cache
def shared_files():
    """The release's shared files, written once."""
    root = Path(tempfile.mkdtemp(prefix="shared-"))
    return root, write_shared(root)


def check(folder, change):
    """check_release on a whole release in which `change` changes one thing."""
    release = write_checked(folder, *shared_files())
    release["rois"] = {"cortex": ["streams:ribbon"]}
    change(release)
    check_release(**nest(release, files=ReleaseFiles))


def move(path, affine):
    """Store a volume with another affine."""
    nib.save(nib.Nifti1Image(np.asanyarray(nib.load(path).dataobj), affine), path)


@case(APART, "a volume whose axes run another way")
def _(folder):
    affine = np.array([[-1.8, 0, 0, 2.7], *AFFINE[1:]])
    check(folder, lambda release: move(release["ncsnr"], affine))


@case(APART, "a volume with another origin")
def _(folder):
    affine = AFFINE + np.pad([[5.4]], ((0, 3), (3, 0)))
    check(folder, lambda release: move(release["ncsnr"], affine))


@case(APART, "an atlas whose axes run another way than those of betas in HDF5")
def _(folder):
    def turn(release):
        del release["ncsnr"]
        path = release["atlases"]["streams"]
        move(path, np.array([[-1.8, 0, 0, 2.7], *AFFINE[1:]]))

    check(folder, turn)


@case(APART, "transforms to another volume")
def _(folder):
    def change(release):
        for path in release["transforms"]["lh"][:1]:
            write_mgh(path, np.full((6, 1, 1, 3), 80.0))

    check(folder, change)


def change_responses(edit, release):
    table = pd.read_csv(release["responses"], sep="\t")
    edit(table).to_csv(release["responses"], sep="\t", index=False, na_rep="NaN")


def swap_images(table):
    table.loc[[10, 11], "73KID"] = table.loc[[11, 10], "73KID"].to_numpy()
    return table


APART_CASES = {
    "responses of fewer trials than there are betas": partial(change_responses, lambda t: t[:-30]),
    "responses of another subject": partial(change_responses, lambda t: t.assign(SUBJECT=2)),
    "other images than the design plans": partial(change_responses, swap_images),
    "noise ceilings on another grid": lambda release: write_nifti(
        release["ncsnr"], np.ones((4, 5, 4), "f4")
    ),
    "betas on another grid than the regions": lambda release: write_betas(
        release["betas"][1], make_betas(0, (5, 5, 3))
    ),
    "a transform of another hemisphere": lambda release: write_mgh(
        release["transforms"]["lh"][1], np.ones((7, 1, 1, 3))
    ),
    "a flat patch of another surface": lambda release: write_patch_bytes(
        release["surfaces"]["rh"]["flat"], [0, 1, 900], OCTAHEDRON[:3], [False] * 3
    ),
    "fewer files of betas than sessions": lambda release: release["betas"].pop(),
}
for _kind, _change in APART_CASES.items():
    case(APART, _kind)(partial(lambda change, folder: check(folder, change), _change))


def make(folder, rois, **options):
    write_nifti(folder / "streams.nii.gz", make_atlas().clip(-1, 4))
    write_nifti(folder / "ncsnr.nii.gz", np.full(GRID, 0.3, "f4"))
    write_text(folder / "streams.mgz.ctab", STREAMS)
    make_masks(
        atlases={"streams": folder / "streams.nii.gz"},
        tables={"streams": folder / "streams.mgz.ctab"},
        rois=rois,
        outputs={name: folder / f"{name}.nii.gz" for name in rois},
        **options,
    )


@case(APART, "a label that the subject has no voxels of")
def _(folder):
    make(folder, {"ventral": ["streams:ventral"]})


@case(APART, "no voxel above the least ncsnr")
def _(folder):
    make(folder, {"early": ["streams:early"]}, ncsnr=folder / "ncsnr.nii.gz", min_ncsnr=0.5)


@case(APART, "a region with two colons")
def _(folder):
    parse_roi("early", ["streams:early:left"])


@case(APART, "a table of stimuli that shares other images")
def _(folder):
    def change(release):
        table = pd.read_csv(release["stim_info"], index_col=0)
        table["shared1000"] = table["shared1000"].to_numpy()[::-1]
        table.to_csv(folder / "nsd_stim_info_merged.csv")
        release["stim_info"] = folder / "nsd_stim_info_merged.csv"

    check(folder, change)


# The diffusion model and other networks.

MODEL = "The diffusion model and other networks"


@cache
def whole_model():
    return save_model(Path(tempfile.mkdtemp(prefix="model-")) / "model")


def load(folder, part, change):
    """Load a part of a model that `change` has changed."""
    model = shutil.copytree(whole_model(), folder / "model")
    change(model / part)
    if part == "vae":
        load_autoencoder(model, None, CPU, torch.float32)
    elif part in ("unet", "scheduler"):
        load_denoiser(model, None, CPU, torch.float32, "ddim")
    else:
        load_text(model, None, CPU, torch.float32)


def set_config(name, values, part):
    content = json.loads((part / name).read_text())
    (part / name).write_text(json.dumps(content | values))


def weights(part):
    return next(part.glob("*.safetensors"))


def claim_header(part):
    content = weights(part).read_bytes()
    weights(part).write_bytes(struct.pack("<Q", 2**62) + content[8:])


def pickle_weights(part):
    weights(part).unlink()
    torch.save({}, part / "diffusion_pytorch_model.bin")


MODEL_CASES = {
    "a part that is not there": ("vae", shutil.rmtree),
    "truncated weights": ("unet", lambda part: cut(weights(part))),
    "weights whose header claims too much": ("vae", claim_header),
    "weights as a pickle, which could run code": ("unet", pickle_weights),
    "weights of other shapes": (
        "unet",
        partial(set_config, "config.json", {"block_out_channels": [4, 16]}),
    ),
    "weights that the configuration leaves out": (
        "text_encoder",
        partial(set_config, "config.json", {"num_hidden_layers": 0}),
    ),
    "a text encoder larger than its weights": (
        "text_encoder",
        partial(set_config, "config.json", {"intermediate_size": 10**9}),
    ),
    "layers without end": ("unet", partial(set_config, "config.json", {"layers_per_block": 10**9})),
    "a configuration that is no JSON": (
        "vae",
        lambda part: (part / "config.json").write_text("{'a': 1}"),
    ),
    "a factor that is no number": (
        "vae",
        partial(set_config, "config.json", {"scaling_factor": "0.18"}),
    ),
    "a shift that is no number": (
        "vae",
        partial(set_config, "config.json", {"shift_factor": "0.1"}),
    ),
    "a mean for each channel of the latents": (
        "vae",
        partial(set_config, "config.json", {"latents_mean": [0, 0, 0, 0]}),
    ),
    "an autoencoder of another kind": (
        "vae",
        partial(set_config, "config.json", {"_class_name": "AutoencoderTiny"}),
    ),
    "a quantising autoencoder without layers around its codebook": (
        "vae",
        partial(set_config, "config.json", {"_class_name": "VQModel", "use_quant_conv": False}),
    ),
    "Stable Diffusion XL": (
        "unet",
        partial(set_config, "config.json", {"addition_embed_type": "text_time"}),
    ),
    "a U-Net conditioned on classes": (
        "unet",
        partial(set_config, "config.json", {"num_class_embeds": 1000}),
    ),
    "a U-Net for inpainting": ("unet", partial(set_config, "config.json", {"in_channels": 9})),
    "a U-Net for depth": ("unet", partial(set_config, "config.json", {"in_channels": 5})),
    "a U-Net for another text encoder": (
        "unet",
        partial(set_config, "config.json", {"cross_attention_dim": 1024}),
    ),
    "a U-Net for another autoencoder": (
        "unet",
        partial(set_config, "config.json", {"in_channels": 16, "out_channels": 16}),
    ),
    "a text encoder that is not CLIP's": (
        "text_encoder",
        partial(set_config, "config.json", {"model_type": "t5"}),
    ),
    "a scheduler without a noise schedule, as of flow matching": (
        "scheduler",
        partial(set_config, "scheduler_config.json", {"beta_schedule": None}),
    ),
    "timesteps placed in an unknown way": (
        "scheduler",
        partial(set_config, "scheduler_config.json", {"timestep_spacing": "karras"}),
    ),
    "a prediction of another type": (
        "scheduler",
        partial(set_config, "scheduler_config.json", {"prediction_type": "flow_prediction"}),
    ),
    "noise that is predicted where all is noise": (
        "scheduler",
        partial(set_config, "scheduler_config.json", {"rescale_betas_zero_snr": True}),
    ),
    "noise levels outside 0 and 1": (
        "scheduler",
        partial(set_config, "scheduler_config.json", {"beta_end": 12}),
    ),
    "a scheduler of too many steps": (
        "scheduler",
        partial(set_config, "scheduler_config.json", {"num_train_timesteps": 10**10}),
    ),
    "a tokenizer of another model": (
        "tokenizer",
        partial(set_config, "tokenizer_config.json", {"model_max_length": 512}),
    ),
}
for _kind, (_part, _change) in MODEL_CASES.items():
    case(MODEL, _kind)(
        partial(lambda part, change, folder: load(folder, part, change), _part, _change)
    )


@case(MODEL, "no folder and no revision")
def _(_folder):
    return check_model("CompVis/stable-diffusion-v1-4")


@case(MODEL, "a folder in another layout")
def _(folder):
    write_text(folder / "sd/model.ckpt", "x")
    return check_model(folder / "sd")


@case(MODEL, "weights for half precision only")
def _(folder):
    model = shutil.copytree(whole_model(), folder / "model")
    file = weights(model / "unet")
    file.rename(file.with_suffix(".fp16.safetensors"))
    return check_model(model)


@case(MODEL, "a transformer instead of a U-Net")
def _(folder):
    model = shutil.copytree(whole_model(), folder / "model")
    (model / "unet").rename(model / "transformer")
    return check_model(model)


@case(MODEL, "a second text encoder")
def _(folder):
    model = shutil.copytree(whole_model(), folder / "model")
    shutil.copytree(model / "text_encoder", model / "text_encoder_2")
    return check_model(model)


@case(MODEL, "more steps than in training")
def _(_folder):
    return check_model(whole_model(), None, [("denoising", "ddim", 1001)])


@case(MODEL, "a hub's model, and no network")
def _(folder):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
            patch.delenv(name, raising=False)
        patch.setenv("HF_HOME", str(folder))
        patch.setenv("no_proxy", "*")
        # A port that nothing listens on.
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        return check_model("CompVis/stable-diffusion-v1-4", "133a221b")


@case(MODEL, "weights of another publisher")
def _(folder):
    settings = {"weights": str(write_text(folder / "alexnet.safetensors", "x")), "sha256": "0" * 64}
    load_extractors("alexnet", settings, CPU)


@case(MODEL, "activations beyond what whole ones are kept as")
def _(_folder):
    given = {"unet-up2-s100": np.full((4, 9), 7e5, np.float32)}
    kinds = {"unet-up2-s100": ((9,), np.dtype(np.float16))}
    next(collecting.run_checked(lambda batch: given, 4, 4, CPU, kinds, trajectories.CAUSE))


@case(MODEL, "a disk too small for activations")
def _(folder):
    with mock.patch("shutil.disk_usage", return_value=SimpleNamespace(free=int(5e9))):
        (folder / "trajectories").mkdir()
        kinds = {"unet-up2-s100": ((1280 * 20 * 20,), np.dtype(np.float16))}
        output = folder / "trajectories/unet-up2-s100.0.npy"
        collecting.plan_disk(9841, slice(0, 9841), kinds, output)


# Feature spaces of one's own.

SPACE = "Feature spaces of one's own"


def compute(folder, function, settings):
    pd.DataFrame({"nsd_id": [0, 1], "coco_id": [11, 16]}).to_csv(
        folder / "images.tsv", sep="\t", index=False
    )
    write_stimuli(folder / "nsd_stimuli.hdf5", {}, 2)
    write_captions(folder / "captions.json", [(11, "a dog"), (16, "a cat")])
    compute_features(
        space="own",
        function=function,
        settings=settings,
        images=folder / "images.tsv",
        stimuli=folder / "nsd_stimuli.hdf5",
        captions=[folder / "captions.json"],
        device="cpu",
        batch_size=2,
        output=folder / "own.npy",
    )


def embed_nothing(_device, *, rows=2, value=np.nan):
    """A feature space of wrong numbers or too few rows."""
    return lambda pictures, captions: np.full((rows, 4), value)


SPACE_CASES = {
    "no such module": ("nowhere.embed", {}),
    "no such function": ("nsdldm.features.pictures.embed_smells", {}),
    "settings that the function does not take": ("bad_input.embed_nothing", {"layer": "conv1"}),
    "numbers that are not finite": ("bad_input.embed_nothing", {}),
    "too few rows": ("bad_input.embed_nothing", {"rows": 1, "value": 0.0}),
    "something else than numbers": ("bad_input.embed_nothing", {"value": "much"}),
}
for _kind, (_function, _settings) in SPACE_CASES.items():
    case(SPACE, _kind)(
        partial(
            lambda function, settings, folder: compute(folder, function, settings),
            _function,
            _settings,
        )
    )


# What jobs ask a cluster for.

CLUSTER = "A Slurm cluster"
LIMITS = "PartitionName=gpu Default=NO MaxTime=04:00:00 MaxMemPerNode=UNLIMITED\n"


def ask(job, partition, minutes, megabytes):
    """Hold a job against a cluster of one partition with 4 hours on nodes of 256 GB."""
    allowed = read_partitions(LIMITS, "gpu|256000|64\n")
    return check_jobs([Asked(job, partition, minutes, megabytes, 8)], allowed)


@case(CLUSTER, "a group of rules whose times add up to more than the partition allows")
def _(folder):
    return ask("fits_subj01", "gpu", 780, 8000)


@case(CLUSTER, "more memory than any node has")
def _(folder):
    return ask("fit_encoders", "gpu", 60, 300000)


@case(CLUSTER, "a partition that is not there")
def _(folder):
    return ask("features_subj01", "gpus", 60, 8000)


# What earlier steps of the workflow wrote.

BETWEEN = "Results of earlier steps"


@case(BETWEEN, "a table without a column")
def _(folder):
    read_test_images(write_text(folder / "images.tsv", "nsd_id\tsplit\n1\ttest\n"))


@case(BETWEEN, "an empty table")
def _(folder):
    read_test_images(write_text(folder / "images.tsv", ""))


@case(BETWEEN, "a cluster that is held out and trained on")
def _(_folder):
    images = {"nsd_id": range(6), "split": ["train"] * 3 + ["test"] * 3}
    images = pd.DataFrame(images | {"group": ["0", "1", "2", "2", "3", "3"], "grouped": True})
    check_split(images, images[["nsd_id", "split"]], "results/subj01/cases/cluster/images.tsv")


@case(BETWEEN, "scores without the one asked for")
def _(folder):
    text = "nsd_id\tsample\tmetric\tvalue\n1\t0\tssim\t0.5\n"
    rank_samples(write_text(folder / "zc_samples.tsv", text), "corr16", [1])


@case(BETWEEN, "pictures that are no HDF5")
def _(folder):
    with open_pictures(write_text(folder / "zc.h5", "no pictures")):
        pass


def told(function, folder):
    """Sentences that a user is told of a case, in a folder of its own."""
    try:
        problems = function(folder)
    except InputError as error:
        problems = error.findings
    return list(map(str, problems or []))


def shorten(text, folder):
    """A sentence without what differs from machine to machine."""
    known = (folder, shared_files()[0], whole_model().parent, PROJECT)
    for path in map(str, known):
        text = text.replace(f"{path}/", "").replace(path, "the release")
    return text


def collect():
    """For each section and kind the shortened sentences, in the words that a job has for them."""
    sentences = {}
    adapters = ("denoise_latents", "collect_activations", "compute_features")
    names = {name: key for adapter in adapters for name, key in find_keys(adapter).items()}
    # What most jobs name; a few give the same arguments other settings.
    names |= find_keys()
    for section, cases in SECTIONS.items():
        for kind, function in cases.items():
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                found = [write_arguments(text, names) for text in told(function, folder)]
                found = [shorten(text, folder) for text in found]
            sentences.setdefault(section, {})[kind] = found
    return sentences


def write_page(sentences):
    """The page as Markdown."""
    lines = [HEAD]
    for section, cases in sentences.items():
        lines += [f"## {section}", "", "| kind | what is said |", "|---|---|"]
        for kind, texts in cases.items():
            said = "<br>".join(text.replace("|", "\\|").replace("<", "&lt;") for text in texts)
            lines.append(f"| {kind} | {said} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(write_page(collect()), encoding="utf-8")

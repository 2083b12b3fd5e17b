"""Damage valid files at random and read them in a process of bounded memory and time.

``PYTHONPATH=.:tests/unit python -m hostile SEED N [READER ...]`` prints a line of JSON for each of
N damaged copies of every file that gave neither a result nor an `InputError` about the file.
"""

import gzip
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import nibabel as nib
import nsd_files
import numpy as np

from nsdldm.nsd import betas, captions, check, labels, rois, stimuli, surfaces, trials
from nsdldm.support.errors import InputError

UNIT = Path(__file__).resolve().parent
PROJECT = UNIT.parents[1]
GIGABYTE = 2**30
SECONDS = 20
LONGEST = 1500
# What damaged numbers tend to be.
NUMBERS = (0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
MASK = np.ones(nsd_files.GRID, bool)


def _write_betas(path):
    nsd_files.write_betas(path, nsd_files.make_betas(0))


def _write_nifti_betas(path):
    nsd_files.write_nifti(path, nsd_files.make_betas(0))


def _write_atlas(path):
    nsd_files.write_nifti(path, nsd_files.make_atlas())


def _write_transform(path):
    nsd_files.write_mgh(path, np.full((6, 1, 1, 3), 1.5))


def _write_index_map(path):
    nsd_files.write_mgh(path, np.arange(1.0, 7.0)[:, None, None])


def _write_surface_betas(path):
    nsd_files.write_mgh(path, np.ones((6, 1, 1, 750)))


def _write_surface(path):
    nib.freesurfer.write_geometry(path, nsd_files.OCTAHEDRON, nsd_files.FACES)


def _write_morph(path):
    nib.freesurfer.write_morph_data(path, nsd_files.OCTAHEDRON[:, 0])


def _write_patch(path):
    patch = [0, 1, 2, 4], nsd_files.OCTAHEDRON[:4], [True, False, False, False]
    nsd_files.write_patch_bytes(path, *patch)


def _write_stimuli(path):
    nsd_files.write_stimuli(path, {1: np.ones((425, 425, 3), "u1")}, 3)


def _write_table(path):
    path.write_text(nsd_files.STREAMS)


def _write_captions(path):
    texts = ("a dog", "two  cats", "une journée", "\u202eright to left", "")
    nsd_files.write_captions(path, [(5 * number + 11, text) for number, text in enumerate(texts)])


def _write_responses(path):
    order, images, _ = nsd_files.make_design()
    nsd_files.write_responses(path, order, images, 1, 1)


def _write_design(path):
    nsd_files.write_design(path, *nsd_files.make_design())


def _write_stim_info(path):
    nsd_files.write_stim_info(path, *nsd_files.make_design())


def _read_pictures(path):
    for _ in stimuli.read_images(path, [0, 1, 2, 1]):
        pass


def _read_patch(path):
    patch = surfaces.read_patch(path)
    assert patch[0].min() >= 0


def _read_atlas(path):
    folder = path.parent
    (folder / "t.ctab").write_text(nsd_files.STREAMS)
    atlases, tables = {"streams": path}, {"streams": folder / "t.ctab"}
    parts = {"early": ["streams:early", "streams:ribbon"]}
    outputs = {"early": folder / "mask.nii.gz"}
    rois.make_masks(atlases=atlases, tables=tables, rois=parts, outputs=outputs)


# Name of the file, what writes a valid one, what reads it.
READERS = {
    "betas": ("betas_session01.hdf5", _write_betas, lambda path: betas.read_session(path, MASK)),
    "betas-check": (
        "betas_session01.hdf5",
        _write_betas,
        lambda path: check._inspect_hdf5(path, None, None),
    ),
    "nifti-betas": (
        "betas_session01.nii.gz",
        _write_nifti_betas,
        lambda path: betas.read_session(path, MASK),
    ),
    "nifti-check": (
        "betas_session01.nii.gz",
        _write_nifti_betas,
        lambda path: check._inspect_nifti(path, None, None),
    ),
    "plain-nifti": (
        "betas_session01.nii",
        _write_nifti_betas,
        lambda path: check._inspect_nifti(path, None, None),
    ),
    "atlas": ("streams.nii.gz", _write_atlas, _read_atlas),
    "transform": ("lh.func1pt8-to-layerB1.mgz", _write_transform, surfaces.read_transform),
    "transform-check": ("lh.func1pt8-to-layerB1.mgz", _write_transform, check._count_transform),
    "index-map": ("lh.white-to-fsaverage.mgz", _write_index_map, surfaces.read_index_map),
    "surface-betas": ("lh.betas_session01.mgh", _write_surface_betas, betas.read_surface_betas),
    "surface": ("lh.white", _write_surface, surfaces.read_surface),
    "morph": ("lh.sulc", _write_morph, surfaces.read_morph),
    "patch": ("lh.full.flat.patch.3d", _write_patch, _read_patch),
    "stimuli": ("nsd_stimuli.hdf5", _write_stimuli, _read_pictures),
    "label-table": ("streams.mgz.ctab", _write_table, labels.read_label_table),
    "captions": (
        "captions_val2017.json",
        _write_captions,
        lambda path: captions.read_captions([path], [11, 16]),
    ),
    "responses": ("responses.tsv", _write_responses, trials.read_responses),
    "design": ("nsd_expdesign.mat", _write_design, lambda path: trials.read_design(path, "subj01")),
    "stim-info": (
        "nsd_stim_info_merged.csv",
        _write_stim_info,
        lambda path: trials.read_stim_info(path, "subj01"),
    ),
}
# Of a file with much data, damage the start, where the structure is.
HEADS = {"betas": 3000, "betas-check": 3000, "stimuli": 4000, "design": 400, "surface-betas": 400}


def damage(content, rng, head):
    """Change some bytes of a file, most of them in its first `head`."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if not content:
            break
        place = int(rng.integers(min(head, len(content)) if rng.random() < 0.9 else len(content)))
        kind = rng.integers(6)
        if kind == 0:
            content[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            content[place] = int(rng.integers(256))
        elif kind == 2:
            width = int(rng.choice([1, 2, 3, 4, 8]))
            number = int(NUMBERS[rng.integers(len(NUMBERS))]) % 2 ** (8 * width)
            order = "little" if rng.random() < 0.5 else "big"
            content[place : place + width] = number.to_bytes(width, order)
        elif kind == 3:
            end = place + int(rng.integers(1, 40))
            if rng.random() < 0.5:
                del content[place:end]
            else:
                content[place:place] = content[place:end]
        elif kind == 4:
            content[place : place + 8] = rng.bytes(int(rng.integers(1, 9)))
        elif rng.random() < 0.3:
            del content[place:]
    return bytes(content)


def damage_file(path, content, rng, head):
    """Write a damaged copy; of compressed files mostly what is in them is damaged."""
    if path.suffix in (".gz", ".mgz") and rng.random() < 0.8:
        inside = damage(gzip.decompress(content), rng, 360)
        path.write_bytes(gzip.compress(inside, 1))
    else:
        path.write_bytes(damage(content, rng, head))


def judge(read, path):
    """What is wrong with how a file is read, or None."""
    signal.alarm(SECONDS)
    try:
        read(path)
    except InputError as error:
        for finding in error.findings:
            text = str(finding)
            if str(path) not in finding.where or len(text) > LONGEST or "\n" in text:
                return f"unclear: {text[:2000]}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:500]
    finally:
        signal.alarm(0)
    return None


class Late(BaseException):
    """Not an Exception, so that no reader takes it for a damaged file."""


def _time_out(*_):
    raise Late(f"not read in {SECONDS} s")


def bound_memory(more):
    """Let this process have no more than `more` bytes besides what it has."""
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + more, has + more))


def main(seed, n, names):
    """Damage and read; print what went wrong."""
    warnings.simplefilter("ignore")
    logging.disable()
    signal.signal(signal.SIGALRM, _time_out)
    with tempfile.TemporaryDirectory() as folder:
        contents = {}
        for name in names:
            file, write, read = READERS[name]
            path = Path(folder) / name / file
            path.parent.mkdir()
            write(path)
            read(path)  # as it is
            contents[name] = path.read_bytes()
        bound_memory(GIGABYTE)
        for name in names:
            file, _, read = READERS[name]
            path = Path(folder) / name / file
            for number in range(n):
                rng = np.random.default_rng([seed, number])
                damage_file(path, contents[name], rng, HEADS.get(name, 2000))
                print(json.dumps([name, number, "started"]), flush=True)
                problem = judge(read, path)
                if problem:
                    print(json.dumps([name, number, problem]), flush=True)
    print(json.dumps(["all", n, "done"]), flush=True)


def attack(seed, n, *names):
    """Run `main` in a process of its own.

    Returns
    -------
    list of (str, int, str)
        Reader and number of each damaged copy that was not dealt with, and how. A crash is one.
    """
    command = [sys.executable, __file__, str(seed), str(n), *names]
    environment = os.environ | {"PYTHONPATH": f"{PROJECT}:{UNIT}"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("[")]
    problems = [tuple(line) for line in lines if line[2] not in ("started", "done")]
    if result.returncode or not lines or lines[-1][2] != "done":
        where = lines[-1][:2] if lines else ("start", 0)
        problems.append((*where, f"ended with {result.returncode}: {result.stderr[-2000:]}"))
    return problems


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or list(READERS))

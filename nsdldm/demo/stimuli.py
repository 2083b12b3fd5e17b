"""Write the files shared by all subjects of the simulated release: design, pictures, captions,
names."""

from __future__ import annotations

import ast
import json
import logging
import zlib
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.io import savemat

from nsdldm.demo.atlases import LABELS
from nsdldm.demo.captions import write_captions
from nsdldm.demo.design import REPEATS, count_within_sessions, make_design, plan_slots
from nsdldm.demo.drawing import draw_scene
from nsdldm.demo.formats import write_label_table
from nsdldm.demo.scenes import describe_scene
from nsdldm.nsd.layout import COCO_SPLITS, IMAGE_PIXELS, N_IMAGES, SUBJECTS, TRIALS_PER_SESSION
from nsdldm.support.files import open_hdf5, replacing
from nsdldm.support.logs import progress

if TYPE_CHECKING:
    from nsdldm.demo.design import Design

logger = logging.getLogger(__name__)

# COCO 2017 has 118,287 and 5,000 pictures with captions, with ids up to about 580,000.
COCO_NUMBERS = 581_930
VAL_SHARE = 5000 / 123_287
# Sides of COCO's pictures in pixels: the longer one is mostly 640.
LONG_SIDE, SHORT_SIDES = 640, (360, 424, 426, 427, 428, 480, 512, 640)
COMPRESSION = 1
# The first 116 bytes of a MATLAB file are text.
DESCRIPTION = b"MATLAB 5.0 MAT-file, simulated by nsd-ldm".ljust(116)


def simulate_stimuli(
    *,
    design: Path | str,
    stim_info: Path | str,
    stimuli: Path | str,
    captions: dict[str, Path | str],
    seed: int,
    sessions: int,
    shared_images: int,
    unique_images: int,
    tables: dict[str, Path | str] | None = None,
    threads: int = 1,
) -> None:
    """Write design, table of stimuli, pictures and captions of a simulated release.

    Always for all eight subjects, in the format of the release. Of the 73,000 pictures, those that
    any subject sees in the sessions run are drawn; the others stay unwritten (black when read).

    Parameters
    ----------
    design : str or Path
        Output, ``nsd_expdesign.mat``.
    stim_info : str or Path
        Output, ``nsd_stim_info_merged.csv``.
    stimuli : str or Path
        Output, ``nsd_stimuli.hdf5``: `imgBrick`, uint8 (73000, 425, 425, 3), one compressed chunk
        per picture.
    captions : dict of str to (str or Path)
        Outputs, COCO's ``captions_{split}.json`` for train2017 and val2017, of the pictures drawn.
    seed : int
    sessions, shared_images, unique_images : int
        See `nsdldm.demo.design.make_design`.
    tables : dict of str to (str or Path), optional
        Outputs: the label table of each atlas on the average brain, which public tools read.
    threads : int
        Number of processes that draw.

    Raises
    ------
    InputError
        The trials of these sessions cannot be filled with so many images.
    """
    plan = make_design(seed, sessions, shared_images, unique_images)
    table = describe_stimuli(plan, seed)
    shown = find_shown(plan, sessions)
    logger.info("%d pictures for %d subjects", len(shown), len(SUBJECTS))
    _save_design(design, plan, seed)
    with replacing(stim_info) as part:
        table.to_csv(part)
    for split, path in captions.items():
        _save_captions(path, table, shown[table["cocoSplit"].to_numpy()[shown] == split], seed)
    for atlas, path in (tables or {}).items():
        write_label_table(path, LABELS[atlas])
    _save_pictures(stimuli, shown, seed, threads)


def find_shown(plan: Design, sessions: int) -> np.ndarray:
    """Find the images that any subject sees.

    Parameters
    ----------
    plan : nsdldm.demo.design.Design
    sessions : int
        Sessions run.

    Returns
    -------
    int64 array of shape (n_shown,)
        0-based NSD ids, ascending.
    """
    numbers = np.unique(plan.masterordering[: sessions * TRIALS_PER_SESSION])
    return np.unique(plan.subjectim[:, numbers - 1]) - 1


def describe_stimuli(plan: Design, seed: int) -> pd.DataFrame:
    """Tabulate where pictures come from, and which subject is to see them when.

    Parameters
    ----------
    plan : nsdldm.demo.design.Design
    seed : int

    Returns
    -------
    DataFrame
        The 40 columns and the index (0 to 72999) of the release's table of stimuli. As there,
        `subjectS_repR` are trials counted from 1, 0 = none, also of sessions that are not run.
    """
    rng = np.random.default_rng([seed, 3])
    shared = np.zeros(N_IMAGES, dtype=bool)
    shared[plan.sharedix - 1] = True
    columns = {
        "cocoId": rng.choice(COCO_NUMBERS, N_IMAGES, replace=False) + 1,
        "cocoSplit": np.where(rng.random(N_IMAGES) < VAL_SHARE, COCO_SPLITS[1], COCO_SPLITS[0]),
        "cropBox": _draw_crops(rng),
        "loss": rng.random(N_IMAGES).round(6),
        "nsdId": np.arange(N_IMAGES),
        "flagged": rng.random(N_IMAGES) < 0.01,
        "BOLD5000": rng.random(N_IMAGES) < 0.02,
        "shared1000": shared,
    }
    trials = _find_trials(plan)
    for subject in range(len(SUBJECTS)):
        columns[f"subject{subject + 1}"] = (trials[subject, 0] > 0).astype(np.int64)
    for subject in range(len(SUBJECTS)):
        for repeat in range(REPEATS):
            columns[f"subject{subject + 1}_rep{repeat}"] = trials[subject, repeat]
    return pd.DataFrame(columns)


def _find_trials(plan):
    """Trials from 1 of every subject, repeat and image, 0 where not shown: (8, 3, 73000)."""
    trials = np.zeros((len(SUBJECTS), REPEATS, N_IMAGES), dtype=np.int64)
    # Trials of each of the 10,000 numbers, in order of time.
    when = np.argsort(plan.masterordering, kind="stable").reshape(-1, REPEATS).T + 1
    for subject, images in enumerate(plan.subjectim):
        trials[subject][:, images - 1] = when
    return trials


def _draw_crops(rng):
    """Crops to a square as texts "(top, bottom, left, right)", shares of COCO's picture."""
    surplus = LONG_SIDE - rng.choice(SHORT_SIDES, N_IMAGES)
    first = rng.integers(0, surplus + 1)
    upright = rng.random(N_IMAGES) < 0.25
    crops = []
    for a, b, tall in zip(first.tolist(), (surplus - first).tolist(), upright, strict=True):
        sides = [a / LONG_SIDE, b / LONG_SIDE]
        crops.append(str((*sides, 0, 0) if tall else (0, 0, *sides)))
    return crops


def _save_design(path, plan, seed):
    """Write the design as a MATLAB file of doubles."""
    variables = {
        "masterordering": plan.masterordering[None],
        "subjectim": plan.subjectim,
        "sharedix": plan.sharedix[None],
        "basiccnt": count_within_sessions(plan.masterordering),
        "stimpattern": plan_slots(seed),
    }
    doubles = {name: values.astype(np.float64) for name, values in variables.items()}
    with replacing(path) as part:
        savemat(part, doubles, appendmat=False, do_compression=True)
        # scipy's own header contains the time of writing.
        with open(part, "r+b") as file:
            file.write(DESCRIPTION)


def _save_captions(path, table, shown, seed):
    """Write the captions of some images in COCO's format."""
    rows = table.loc[shown, ["cocoId", "cropBox"]].itertuples(name=None)
    images, annotations = [], []
    for nsd_id, coco_id, crop in rows:
        images.append(_describe_picture(coco_id, crop))
        for text in write_captions(describe_scene(seed, nsd_id)):
            number = len(annotations) + 1
            annotations.append({"image_id": coco_id, "id": number, "caption": text})
    content = {
        "info": {"description": "Captions of simulated pictures", "version": "1.0"},
        "licenses": [{"id": 1, "name": "none", "url": ""}],
        "images": images,
        "annotations": annotations,
    }
    with replacing(path) as part:
        part.write_text(json.dumps(content), encoding="utf-8")


def _describe_picture(coco_id, crop):
    """COCO's entry for a picture, with the size implied by the crop to a square."""
    top, bottom, left, right = ast.literal_eval(crop)
    square = LONG_SIDE * (1 - top - bottom - left - right)
    return {
        "id": coco_id,
        "file_name": f"{coco_id:012d}.jpg",
        "height": round(square / (1 - top - bottom)),
        "width": round(square / (1 - left - right)),
        "license": 1,
    }


def _save_pictures(path, shown, seed, threads):
    """Draw and compress pictures in several processes, and write them in this one."""
    shape = (N_IMAGES, IMAGE_PIXELS, IMAGE_PIXELS, 3)
    jobs = [(seed, int(nsd_id)) for nsd_id in shown]
    with replacing(path) as part, _drawing(threads) as draw, open_hdf5(part, "w") as file:
        bricks = file.create_dataset(
            "imgBrick",
            shape,
            np.uint8,
            chunks=(1, *shape[1:]),
            compression="gzip",
            compression_opts=COMPRESSION,
        )
        drawn = progress(draw(_draw_compressed, jobs), len(jobs), "pictures drawn")
        for nsd_id, chunk in zip(shown, drawn, strict=True):
            bricks.id.write_direct_chunk((int(nsd_id), 0, 0, 0), chunk)


@contextmanager
def _drawing(threads):
    """Yield an order-preserving `map`, over several processes if requested."""
    if threads == 1:
        yield map
        return
    # Fork before the HDF5 file is opened; the children only draw.
    with get_context("fork").Pool(threads) as pool:
        yield lambda function, jobs: pool.imap(function, jobs, chunksize=16)


def _draw_compressed(job):
    """A picture as a chunk of the HDF5 file."""
    return zlib.compress(draw_scene(describe_scene(*job)).tobytes(), COMPRESSION)

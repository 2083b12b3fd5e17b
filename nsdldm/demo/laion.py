"""Write the part of a simulated LAION-fMRI release that all subjects share.

Unlike the release, it has few images and sessions, and images are shown twelve times even in few
sessions. The rest has the release's form: names of files and images, encoded pictures, tables, and
divisions of images into training and test.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from nsdldm.demo.captions import write_captions
from nsdldm.demo.laion_files import shared_files
from nsdldm.demo.laion_images import encode_picture, list_own, list_shared
from nsdldm.demo.laion_splits import divide_pool, save_split
from nsdldm.laion.layout import PERSONS, SHARED_POOL
from nsdldm.support.files import open_hdf5, replacing, save_table
from nsdldm.support.logs import progress

logger = logging.getLogger(__name__)

LICENCE, VERSION = "CC0", "1.10.0"


def simulate_shared(
    *,
    root: Path | str,
    seed: int,
    subjects: Sequence[str],
    shared_images: int,
    ood_images: int,
    own_images: int,
) -> None:
    """Write images, their tables, captions and divisions, and the list of subjects.

    Takes 10 ms per image, and 50 kB.

    Parameters
    ----------
    root : str or Path
        Root of the release; `nsdldm.demo.laion_files.shared_files` names what is written below.
    seed : int
        Of scenes and of divisions.
    subjects : sequence of str
        Those with images of their own, such as sub-01.
    shared_images : int
        Images of LAION, THINGS+ and NSD that all see, at least 10: 60 % of them twelve times, the
        others four times.
    ood_images : int
        Images out of distribution that all see four times, at least 4.
    own_images : int
        Images that one subject sees four times, at least 10, for each subject.

    Raises
    ------
    InputError
        A number is too small, or a subject not of the release.
    """
    files = shared_files(root, subjects)
    shared = list_shared(seed, shared_images, ood_images)
    own = {subject: list_own(seed, subject, own_images) for subject in subjects}
    pictures = [*shared, *(picture for group in own.values() for picture in group)]
    pictures.sort(key=lambda picture: picture.name)
    _describe_release(files, subjects)
    _save_table(files["metadata"], [_describe(picture) for picture in pictures])
    _save_table(files["captions"], [row for p in pictures for row in _caption(p)])
    ood = [picture for picture in shared if picture.dataset == "OOD"]
    common = [picture for picture in shared if picture.dataset != "OOD"]
    for pool, group in {SHARED_POOL: common, **{s: common + own[s] for s in subjects}}.items():
        names = [picture.name for picture in group]
        for name, params, test in divide_pool(group, ood, seed):
            held = set(test.tolist())
            save_split(
                files[f"{pool}/{name}"],
                name=name,
                pool=pool,
                params=params,
                train=[other for other in names if other not in held],
                test=sorted(held),
            )
    _save_pictures(files["stimuli"], pictures)
    logger.info("%d images of %d subjects", len(pictures), len(subjects))


def _describe_release(files, subjects):
    """Write what BIDS asks for of a data set and of its derivatives."""
    known = {"Name": "Simulated LAION-fMRI", "BIDSVersion": VERSION, "License": LICENCE}
    made = {"GeneratedBy": [{"Name": "nsdldm", "Description": "Simulated betas"}]}
    for key, content in {
        "description": known | {"DatasetType": "raw"},
        "derivatives": known | {"DatasetType": "derivative"} | made,
    }.items():
        with replacing(files[key]) as part:
            part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    save_table(files["participants"], pd.DataFrame({"participant_id": list(subjects)}))


def _describe(picture):
    """The row of the table of images."""
    everyone = picture.subject == "all"
    return {
        "image_name": picture.name,
        "dataset": picture.dataset,
        "participant": "all" if everyone else f"p{PERSONS[picture.subject]:02d}",
        "unique_or_shared": "shared" if everyone else "unique",
        "n_reps": picture.repeats,
    }


def _caption(picture):
    """Captions of an image: five by people and one by a model if all see it, else three.

    The release says of images out of distribution only that they have fewer: here a model's.
    """
    scene, by_model = picture.scene, []
    if picture.dataset == "OOD":
        by_people, by_model = [], [_name_content(scene)]
    elif picture.subject == "all":
        by_people = write_captions(scene)
        by_model = write_captions(replace(scene, seed=scene.seed + 1))[:1]
    else:
        by_people = write_captions(scene)[::2]
    return [
        {
            "image_name": picture.name,
            "caption_idx": number,
            "source": "ai" if number < len(by_model) else "human",
            "caption": text,
            "origin_collection": picture.dataset,
            "participant_id": "" if number < len(by_model) else f"writer{number}",
            "ai_model": "simulated" if number < len(by_model) else "",
        }
        for number, text in enumerate(by_model + by_people)
    ]


def _name_content(scene):
    """A caption of an image out of distribution."""
    things = " and ".join(f"a {thing.colour} {thing.category}" for thing in scene.objects)
    return things or "gray stripes"


def _save_table(path, rows):
    """Write rows as comma-separated values."""
    with replacing(path) as part:
        pd.DataFrame(rows).to_csv(part, index=False)


def _save_pictures(path, pictures):
    """Write encoded pictures, row by row."""
    with replacing(path) as part, open_hdf5(part, "w") as file:
        kind = h5py.vlen_dtype(np.uint8)
        rows = file.create_dataset("images", (len(pictures),), kind)
        for row, picture in enumerate(progress(pictures, len(pictures), "pictures drawn")):
            rows[row] = np.frombuffer(encode_picture(picture), np.uint8)

"""Write one subject's part of a simulated LAION-fMRI release.

The brain is that of the simulated NSD, on a grid of 5 mm although the files' names say 1.8 mm.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd

from nsdldm.demo import anatomy, cortex, formats, release
from nsdldm.demo.atlases import LABELS
from nsdldm.demo.laion_files import (
    CEILINGS,
    REGIONS,
    SURFACES,
    subject_files,
)
from nsdldm.demo.laion_images import list_own, list_shared, see_picture
from nsdldm.demo.laion_trials import compute_ceiling, compute_r2, plan_trials
from nsdldm.laion import layout
from nsdldm.nsd.layout import HEMISPHERES
from nsdldm.support.files import open_hdf5, replacing, save_table, save_volume

logger = logging.getLogger(__name__)

# From the surfaces' own coordinates to the scanner's, in millimetres.
SHIFT = (1.5, -17.0, 21.0)
CONFORMED = 256  # voxels of 1 mm along each side of FreeSurfer's volume
# Voxels without data: in all sessions, and in one.
NEVER, ONCE = 6, 4
# Ridge regression shrinks a voxel's betas by a factor between these.
SHRINKAGE = (0.3, 1.0)


def simulate_subject(
    *,
    root: Path | str,
    subject: str,
    sessions: int,
    seed: int,
    shared_images: int,
    ood_images: int,
    own_images: int,
) -> None:
    """Simulate a subject and write its files.

    Nothing depends on other subjects: random numbers are keyed by `seed` and `subject`. A
    subject of three sessions of 760 trials takes 15 s, 1.3 GB of memory and 120 MB of files.

    Parameters
    ----------
    root : str or Path
        Root of the release; `nsdldm.demo.laion_files.subject_files` names what is written below.
    subject : str
        Such as sub-01; its brain is that of subj01 of the simulated NSD.
    sessions : int
        Number of sessions.
    seed, shared_images, ood_images, own_images : int
        As `nsdldm.demo.laion.simulate_shared` took them.
    """
    files = subject_files(root, subject, sessions)
    person = f"subj{subject.removeprefix('sub-')}"
    pictures = list_shared(seed, shared_images, ood_images) + list_own(seed, subject, own_images)
    rng = anatomy.subject_generator(seed, person, "laion trials")
    trials = plan_trials(pictures, sessions, rng)
    _save_trials(files, trials)
    hemispheres = anatomy.build_hemispheres(person, seed)
    grid = anatomy.make_grid(hemispheres)
    _save_surfaces(files, hemispheres)
    affine = locate_grid(grid)
    regions = _save_regions(files, hemispheres, grid, affine)
    rng = anatomy.subject_generator(seed, person, "laion tuning")
    signal = cortex.simulate_signal(
        channels=_see_pictures(root, pictures),
        scenes=[picture.scene for picture in pictures],
        regions=regions,
        fields=anatomy.locate_fields(hemispheres, grid),
        level=rng.uniform(*release.LEVELS),
        rng=rng,
        strength=np.array([picture.strength for picture in pictures]),
    )
    rows = pd.Index([picture.name for picture in pictures]).get_indexer(trials["label"])
    shown = [rows[trials["session"] == name] for name in trials["session"].unique()]
    brain = Brain(regions > 0, anatomy.draw_brainmask(regions >= 0), affine)
    _save_sessions(files, signal, shown, brain, (seed, person))
    logger.info("%s: %d trials of %d images", subject, len(rows), len(pictures))


class Brain(NamedTuple):
    """Where the voxels are.

    Parameters
    ----------
    visual, brainmask : bool array of shape (X, Y, Z)
        Voxels that respond, and all with data.
    affine : float64 array of shape (4, 4)
        As returned by `locate_grid`.
    """

    visual: np.ndarray
    brainmask: np.ndarray
    affine: np.ndarray

    def save(self, path: Path | str, values: np.ndarray) -> None:
        """Write values of the brain's voxels, of shape (n_voxels,), as a volume that is 0
        elsewhere."""
        volume = np.zeros(self.brainmask.shape, np.float32)
        volume[self.brainmask] = values
        save_volume(path, volume, self.affine)


def locate_grid(grid: anatomy.Grid) -> np.ndarray:
    """Locate the functional volume in the scanner.

    Parameters
    ----------
    grid : nsdldm.demo.anatomy.Grid

    Returns
    -------
    float64 array of shape (4, 4)
        From voxel indices, from 0, to millimetres.
    """
    corner = grid.centre - grid.zoom * (np.array(grid.shape) - 1) / 2
    return nib.affines.from_matvec(np.eye(3) * grid.zoom, corner + SHIFT)


def describe_geometry() -> dict[str, object]:
    """Describe the volume that the surfaces were made from, as FreeSurfer's footers do.

    Returns
    -------
    dict of str to object
        As `nibabel.freesurfer.write_geometry` takes it.
    """
    return {
        "head": [2, 0, 20],
        "valid": "1  # volume info valid",
        "filename": "../mri/filled-pretess255.mgz",
        "volume": [CONFORMED] * 3,
        "voxelsize": [1.0, 1.0, 1.0],
        "xras": [-1.0, 0.0, 0.0],
        "yras": [0.0, 0.0, -1.0],
        "zras": [0.0, 1.0, 0.0],
        "cras": list(SHIFT),
    }


def _save_surfaces(files, hemispheres):
    """Write surfaces with the geometry of their volume, and the depth of sulci."""
    for hemi, hemisphere in hemispheres.items():
        for name, known in SURFACES.items():
            with replacing(files[f"{hemi}.{name}"]) as part:
                nib.freesurfer.write_geometry(
                    part,
                    hemisphere.surfaces[known],
                    hemisphere.faces,
                    create_stamp=formats.STAMP,
                    volume_info=describe_geometry(),
                )
        formats.write_morph(files[f"{hemi}.sulc"], hemisphere.morphs["sulc"], len(hemisphere.faces))


def _save_regions(files, hemispheres, grid, affine):
    """Write masks of regions; return the labels of streams, of shape grid.shape."""
    atlases = {}
    for atlas in {atlas for regions in REGIONS.values() for atlas, _ in regions.values()}:
        sides = [anatomy.label_voxels(hemispheres[h], grid, atlas) for h in HEMISPHERES]
        atlases[atlas] = anatomy.combine_hemispheres(*sides)
    for category, regions in REGIONS.items():
        for label, (atlas, names) in regions.items():
            key = f"{category}/{label}"
            if key in files:
                mask = np.isin(atlases[atlas], [LABELS[atlas][name] for name in names])
                save_volume(files[key], mask, affine)
    return atlases["streams"]


def _see_pictures(root, pictures):
    """Pictures as the cortex sees them, shape (3, n_pictures, n_pixels)."""
    rows = pd.Index(pd.read_csv(f"{root}/{layout.METADATA}")["image_name"])
    with open_hdf5(f"{root}/{layout.STIMULI}") as file:
        views = [see_picture(file["images"][rows.get_loc(p.name)].tobytes()) for p in pictures]
    return np.stack(views, axis=1)


def _save_trials(files, trials):
    """Write the table of trials of each session, and what its columns are."""
    columns = {
        "session": "Session",
        "run": "Run of the session, from 1",
        "beta_index": "Volume of the session's betas, from 0",
        "label": "Name of the image",
    }
    columns = {name: {"Description": text} for name, text in columns.items()}
    for name, table in trials.groupby("session"):
        key = name.replace("ses-", "session")
        save_table(files[f"trials_{key}"], table)
        with replacing(files[f"sidecar_{key}"]) as part:
            part.write_text(json.dumps(columns, indent=2) + "\n", encoding="utf-8")


def _save_sessions(files, signal, shown, brain, keys):
    """Write betas of all sessions, and maps of each and of all.

    `signal` has a row per image and a column per visual voxel; `shown` the rows of each session.
    """
    rng = anatomy.subject_generator(*keys, "laion voxels")
    shape = brain.visual.shape
    level = release.NOISE * np.exp(release.NOISE_SPREAD * rng.standard_normal(shape, np.float32))
    mean = np.where(brain.visual, release.MEAN_VISUAL, release.MEAN_OTHER)
    mean = (mean + release.MEAN_SPREAD * rng.standard_normal(shape)).astype(np.float32)
    inside = np.flatnonzero(brain.brainmask)
    never = rng.choice(inside, NEVER, replace=False)
    scores, explained = [], []
    for number, rows in enumerate(shown, 1):
        rng = anatomy.subject_generator(*keys, f"laion session{number:02d}")
        lost = np.concatenate([never, rng.choice(inside, ONCE, replace=False)])
        percent = cortex.simulate_noise(shape, len(rows), rng)
        percent[:, brain.visual] += signal[rows]
        percent *= level * np.float32(1 + release.SESSION_GAIN * rng.standard_normal())
        percent += mean + release.SESSION_SHIFT * rng.standard_normal(shape, np.float32)
        percent *= rng.uniform(*SHRINKAGE, shape).astype(np.float32)
        percent[:, ~brain.brainmask] = 0
        percent.reshape(len(rows), -1)[:, lost] = np.nan
        save_volume(files[f"betas_session{number:02d}"], np.moveaxis(percent, 0, -1), brain.affine)
        own = percent[:, brain.brainmask]
        scores.append((own - own.mean(axis=0)) / own.std(axis=0, ddof=1))
        explained.append(compute_r2(scores[-1], rows))
        brain.save(files[f"R2_session{number:02d}"], explained[-1])
        ceiling = compute_ceiling(scores[-1], rows, 2)
        brain.save(files[f"ceiling_session{number:02d}"], ceiling)
    brain.save(files["R2mean"], np.mean(explained, axis=0))
    scores, images = np.concatenate(scores), np.concatenate(shown)
    for name, fewest in CEILINGS.items():
        brain.save(files[f"Noiseceiling{name}"], compute_ceiling(scores, images, fewest))

"""Write one simulated subject's part of a release, with every file where the real one has it.

The betas are simulated on a 5 mm grid; apart from that and their content, they are like the real
ones: whole sessions of 750 trials, integers, voxels missing in single sessions, and noise ceilings
computed from the written betas.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.io import loadmat

from nsdldm.demo import anatomy, cortex, formats
from nsdldm.demo.atlases import LABELS
from nsdldm.demo.behaviour import simulate_behaviour, write_responses
from nsdldm.demo.scenes import describe_scene
from nsdldm.nsd import layout
from nsdldm.nsd.surfaces import INVALID, write_patch
from nsdldm.nsd.trials import read_design
from nsdldm.responses import compute_ncsnr
from nsdldm.support.errors import reading
from nsdldm.support.files import open_hdf5

if TYPE_CHECKING:
    from nsdldm.demo.anatomy import Grid, Hemisphere

logger = logging.getLogger(__name__)

SPACE, VERSION = "func1pt8mm", "betas_fithrf_GLMdenoise_RR"
# Subjects differ in signal-to-noise ratio by up to this factor.
LEVELS = (0.9, 1.1)
MISSING_PLANES = 2
# Percent signal change: noise of a single trial and its spread over voxels (of the logarithm),
# mean response of visual and other voxels, shift and relative gain from session to session.
NOISE, NOISE_SPREAD = 1.5, 0.3
MEAN_VISUAL, MEAN_OTHER, MEAN_SPREAD = 1.2, 0.0, 0.4
SESSION_SHIFT, SESSION_GAIN = 0.3, 0.05


def subject_files(root: Path | str, subject: str, sessions: int) -> dict[str, str]:
    """Name the files that `simulate_subject` writes.

    Parameters
    ----------
    root : str or Path
        Root of the release.
    subject : str
        subj01 to subj08.
    sessions : int
        Number of sessions.

    Returns
    -------
    dict of str to str
        Keys such as responses, brainmask, ncsnr, betas_session01, streams, lh.streams,
        streams.ctab, lh.white, lh.full.flat.patch.3d, lh.func1pt8-to-layerB1,
        lh.white-to-fsaverage.
    """

    def path(template, **values):
        return f"{root}/" + template.format(subject=subject, space=SPACE, version=VERSION, **values)

    files = {
        "responses": path(layout.RESPONSES),
        "brainmask": path(layout.BRAINMASK),
        "ncsnr": path(layout.NCSNR),
    }
    for session in range(1, sessions + 1):
        files[f"betas_session{session:02d}"] = path(layout.BETAS, session=session, suffix="hdf5")
        files[f"meanbeta_session{session:02d}"] = path(layout.MEAN_BETA, session=session)
        files[f"valid_session{session:02d}"] = path(layout.VALID, session=session)
    for atlas in LABELS:
        files[atlas] = path(layout.ROI, atlas=atlas)
        files[f"{atlas}.ctab"] = path(layout.LABEL_TABLE, atlas=atlas)
    for hemi in layout.HEMISPHERES:
        files |= _hemisphere_files(path, hemi)
    return files


def _hemisphere_files(path, hemi):
    """Files of one hemisphere."""
    source = layout.TRANSFORM_SPACES[SPACE]
    places = {
        f"{hemi}.{source}-to-{layer}": path(
            layout.TRANSFORM, hemi=hemi, source=source, target=layer
        )
        for layer in layout.LAYERS
    }
    names = (*anatomy.MESHES, *layout.LAYERS, *anatomy.MORPHS)
    surfaces = {f"{hemi}.{name}": path(layout.SURFACE, hemi=hemi, name=name) for name in names}
    volumes = {
        f"{hemi}.{atlas}": path(layout.HEMISPHERE_ROI, hemi=hemi, atlas=atlas) for atlas in LABELS
    }
    labels = {
        f"{hemi}.{atlas}.mgz": path(layout.SURFACE_LABELS, hemi=hemi, atlas=atlas)
        for atlas in LABELS
    }
    return {
        **places,
        **surfaces,
        **volumes,
        **labels,
        f"{hemi}.full.flat.patch.3d": path(layout.FLAT_PATCH, hemi=hemi),
        f"{hemi}.white-to-fsaverage": path(
            layout.TRANSFORM, hemi=hemi, source="white", target="fsaverage"
        ),
    }


def simulate_subject(
    *,
    subject: str,
    design: Path | str,
    stimuli: Path | str,
    root: Path | str,
    seed: int,
    scenes_seed: int,
    sessions: int,
) -> None:
    """Simulate a subject and write its files.

    Nothing depends on other subjects: random numbers are keyed by `seed` and `subject`. A subject
    of three sessions takes half a minute, 1 GB of memory and 180 MB of files.

    Parameters
    ----------
    subject : str
        subj01 to subj08.
    design : str or Path
        ``nsd_expdesign.mat``.
    stimuli : str or Path
        ``nsd_stimuli.hdf5``.
    root : str or Path
        Root of the release; `subject_files` names what is written below.
    seed : int
        Of anatomy, tuning and noise.
    scenes_seed : int
        Seed with which the stimuli were simulated.
    sessions : int
        Number of sessions.
    """
    files = subject_files(root, subject, sessions)
    n_trials = sessions * layout.TRIALS_PER_SESSION
    nsd_ids = read_design(design, subject)[0][:n_trials]
    _write_behaviour(files, subject, design, nsd_ids, seed)
    hemispheres = anatomy.build_hemispheres(subject, seed)
    grid = anatomy.make_grid(hemispheres)
    write_surfaces(files, hemispheres, grid)
    atlases = write_atlases(files, hemispheres, grid)
    brainmask = anatomy.draw_brainmask(atlases["streams"] >= 0)
    formats.write_nifti(files["brainmask"], brainmask.astype(np.int16), grid.zoom)
    logger.info("%s: volume %s, %d voxels of brain", subject, grid.shape, brainmask.sum())
    images, shown = np.unique(nsd_ids, return_inverse=True)
    rng = anatomy.subject_generator(seed, subject, "tuning")
    signal = cortex.simulate_signal(
        channels=cortex.read_channels(stimuli, images),
        scenes=[describe_scene(scenes_seed, int(nsd_id)) for nsd_id in images],
        regions=atlases["streams"],
        fields=anatomy.locate_fields(hemispheres, grid),
        level=rng.uniform(*LEVELS),
        rng=rng,
    )
    visual = atlases["streams"] > 0
    _write_sessions(files, signal[shown], visual, brainmask, grid, seed, subject)
    _write_ncsnr(files, nsd_ids, brainmask, grid)


def _write_behaviour(files, subject, design, nsd_ids, seed):
    """Write responses.tsv."""
    with reading(design, "a MATLAB file with masterordering"):
        order = loadmat(design, variable_names=["masterordering"])["masterordering"].ravel()
    table = simulate_behaviour(
        subject=subject,
        numbers=order[: len(nsd_ids)].astype(np.int64),
        nsd_ids=nsd_ids,
        rng=anatomy.subject_generator(seed, subject, "behaviour"),
    )
    write_responses(files["responses"], table)


def write_surfaces(
    files: dict[str, Path | str], hemispheres: dict[str, Hemisphere], grid: Grid
) -> None:
    """Write surfaces, flat patches and transforms.

    Parameters
    ----------
    files : dict of str to path
        As returned by `subject_files`.
    hemispheres : dict of str to nsdldm.demo.anatomy.Hemisphere
    grid : nsdldm.demo.anatomy.Grid
    """
    source = layout.TRANSFORM_SPACES[SPACE]
    for hemi, hemisphere in hemispheres.items():
        for name, coords in hemisphere.surfaces.items():
            formats.write_surface(files[f"{hemi}.{name}"], coords, hemisphere.faces)
        for name, values in hemisphere.morphs.items():
            formats.write_morph(files[f"{hemi}.{name}"], values, len(hemisphere.faces))
        write_patch(files[f"{hemi}.full.flat.patch.3d"], *hemisphere.patch)
        for layer in layout.LAYERS:
            places = grid.locate(hemisphere.surfaces[layer]) + 1
            outside = ((places < 1) | (places > grid.shape)).any(axis=1)
            places[outside] = INVALID
            formats.write_mgh(files[f"{hemi}.{source}-to-{layer}"], places)
        vertices = np.arange(len(hemisphere.surfaces["white"])) + 1
        formats.write_mgh(files[f"{hemi}.white-to-fsaverage"], vertices)


def write_atlases(
    files: dict[str, Path | str], hemispheres: dict[str, Hemisphere], grid: Grid
) -> dict[str, np.ndarray]:
    """Write label volumes, surface labels and label tables.

    Parameters
    ----------
    files : dict of str to path
        As returned by `subject_files`.
    hemispheres : dict of str to nsdldm.demo.anatomy.Hemisphere
    grid : nsdldm.demo.anatomy.Grid

    Returns
    -------
    dict of str to int64 array of shape grid.shape
        Labels by atlas, both hemispheres: -1 outside the ribbon, 0 unlabelled.
    """
    combined = {}
    for atlas, names in LABELS.items():
        formats.write_label_table(files[f"{atlas}.ctab"], names)
        sides = {}
        for hemi, hemisphere in hemispheres.items():
            sides[hemi] = anatomy.label_voxels(hemisphere, grid, atlas)
            formats.write_mgh(files[f"{hemi}.{atlas}.mgz"], hemisphere.labels[atlas])
            formats.write_nifti(files[f"{hemi}.{atlas}"], sides[hemi].astype(float), grid.zoom)
        combined[atlas] = anatomy.combine_hemispheres(sides["lh"], sides["rh"])
        formats.write_nifti(files[atlas], combined[atlas].astype(float), grid.zoom)
    return combined


def choose_valid(brainmask: np.ndarray, sessions: int, rng: np.random.Generator) -> np.ndarray:
    """Choose which voxels each session measures; in one session, an edge of the brain is cut off.

    Parameters
    ----------
    brainmask : bool array of shape (X, Y, Z)
    sessions : int
    rng : numpy.random.Generator

    Returns
    -------
    bool array of shape (sessions, X, Y, Z)
    """
    valid = np.repeat(brainmask[None], sessions, axis=0)
    height = np.nonzero(brainmask.any(axis=(0, 1)))[0]
    cut = height[-MISSING_PLANES:] if rng.random() < 0.5 else height[:MISSING_PLANES]
    valid[rng.integers(sessions)][..., cut] = False
    return valid


def _write_sessions(files, signal, visual, brainmask, grid, seed, subject):
    """Write betas, mean betas and valid voxels of every session.

    `signal` has a row per trial and a column per visual voxel, in standard deviations of the noise.
    """
    n = layout.TRIALS_PER_SESSION
    sessions = len(signal) // n
    rng = anatomy.subject_generator(seed, subject, "voxels")
    noise_level = NOISE * np.exp(NOISE_SPREAD * rng.standard_normal(grid.shape, np.float32))
    mean = np.where(visual, MEAN_VISUAL, MEAN_OTHER)
    mean = (mean + MEAN_SPREAD * rng.standard_normal(grid.shape)).astype(np.float32)
    valid = choose_valid(brainmask, sessions, rng)
    for number in range(sessions):
        key = f"session{number + 1:02d}"
        rng = anatomy.subject_generator(seed, subject, key)
        percent = cortex.simulate_noise(grid.shape, n, rng)
        percent[:, visual] += signal[number * n : (number + 1) * n]
        shift = SESSION_SHIFT * rng.standard_normal(grid.shape, np.float32)
        percent *= noise_level * np.float32(1 + SESSION_GAIN * rng.standard_normal())
        percent += mean + shift
        percent[:, ~valid[number]] = 0
        betas = formats.to_int16(percent)
        del percent
        formats.write_betas_hdf5(files[f"betas_{key}"], betas)
        average = betas.mean(axis=0, dtype=np.float32)
        formats.write_nifti(files[f"meanbeta_{key}"], average, grid.zoom, formats.TR)
        formats.write_nifti(files[f"valid_{key}"], valid[number].astype(np.int16), grid.zoom)
        logger.info("%s: %s written", subject, key)


def _write_ncsnr(files, nsd_ids, brainmask, grid):
    """Compute ncsnr from the betas on disk, plane by plane."""
    n = layout.TRIALS_PER_SESSION
    sessions = np.repeat(np.arange(len(nsd_ids) // n), n)
    paths = [path for key, path in files.items() if key.startswith("betas_")]
    ncsnr = np.full(grid.shape, np.nan, np.float32)
    for plane in np.flatnonzero(brainmask.any(axis=(0, 1))):
        inside = brainmask[..., plane]
        values = [_read_plane(path, plane, inside) for path in paths]
        ncsnr[..., plane][inside] = compute_ncsnr(np.concatenate(values), sessions, nsd_ids)
    formats.write_nifti(files["ncsnr"], ncsnr, grid.zoom, formats.TR)


def _read_plane(path, plane, inside):
    """Percent signal change of a plane's voxels of the brain, shape (n_trials, n_voxels)."""
    with open_hdf5(path) as file:
        values = file["betas"][:, plane].transpose(0, 2, 1)[:, inside]
    return values.astype(np.float32) / formats.SCALE

"""Write simulated sessions of NSD-synthetic and NSD-Imagery, and a second version of the betas.

The brain that answers is that of the core sessions: the same voxels with the same tuning and noise,
and responses are relative to those to the core's images. The central square of NSD-synthetic's
screen is taken to be where the core's pictures were.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import loadmat, savemat

from nsdldm.demo import anatomy, cortex, formats, patterns, release
from nsdldm.demo.atlases import STREAMS
from nsdldm.demo.categories import save_instances
from nsdldm.demo.drawing import draw_scene
from nsdldm.demo.scenes import Scene, Thing, describe_scene
from nsdldm.demo.stimuli import COMPRESSION, DESCRIPTION
from nsdldm.nsd import layout
from nsdldm.nsd.trials import read_design
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import open_hdf5, replacing, save_table

logger = logging.getLogger(__name__)

# NSD-synthetic: runs of 4-s slots, with images at once repeated in all of them.
RUNS, SLOTS, SHOWN, ONE_BACK = 8, 107, 93, 10
LEAD_IN, LEAD_OUT = 3, 4
# Standard deviation of the logarithm of a person's sensitivity to red, green and blue.
SENSITIVITY = 0.1
# NSD-Imagery: letters that stand for the targets, and the words.
CUES = {"A": "HRVLPE", "B": "WKBCDT", "C": "YSNZFM"}
WORDS = ("yellow", "stripes", "banana", "zebra", "fruit", "mammal")
REPEATS = 8
# A picture without content, and how screens look.
NOTHING = Scene((), "", 0.0, (1.0, 1.0, 1.0), (0.0, 0.0), 0)
DISPLAYED = np.rint(np.sqrt(np.arange(256) / 255) * 255).astype(np.uint8)
# Blocks along the side of a picture as the simulated cortex sees it.
SIDE = layout.IMAGE_PIXELS // cortex.BLOCK
# Directions of the bars of each target of set A, in degrees from the horizontal.
BARS = ((0,), (45,), (90,), (135,), (0, 90), (45, 135))
# How strongly early and ventral cortex respond to a target, relative to seeing it.
GAINS = {"vis": (1.0, 1.0), "img": (0.25, 0.5), "att": (0.1, 0.3)}
# b2 has noise that GLMdenoise and ridge regression remove: relative to that of b3.
OTHER_NOISE = 0.5


class Brain(NamedTuple):
    """What all sessions of a subject have in common.

    Parameters
    ----------
    regions : int array of shape (X, Y, Z)
        Labels of the streams atlas.
    fields : float array of shape (X, Y, Z, 2)
        As returned by `nsdldm.demo.anatomy.locate_fields`.
    brainmask : bool array of shape (X, Y, Z)
    noise : float32 array of shape (X, Y, Z)
        Standard deviation of a single trial's noise, in percent.
    mean : float32 array of shape (X, Y, Z)
        Mean response in percent.
    """

    regions: np.ndarray
    fields: np.ndarray
    brainmask: np.ndarray
    noise: np.ndarray
    mean: np.ndarray


def set_files(root: Path | str, subject: str) -> dict[str, str]:
    """Name the files that `simulate_sets` writes.

    Parameters
    ----------
    root : str or Path
        Root of the release.
    subject : str
        subj01 to subj08.

    Returns
    -------
    dict of str to str
        Keys colours, synthetic, imagery (betas), and the runs of NSD-Imagery (behaviour).
    """

    def path(template, **values):
        return f"{root}/" + template.format(subject=subject, **values)

    betas = {"space": release.SPACE, "version": release.VERSION, "suffix": "hdf5"}
    return {
        "colours": path(layout.SYNTHETIC_COLOURS),
        "synthetic": path(layout.SYNTHETIC_BETAS, **betas),
        "imagery": path(layout.IMAGERY_BETAS, **betas),
        **{run: path(layout.IMAGERY_BEHAVIOUR, run=run) for run in layout.IMAGERY_RUNS},
    }


def simulate_shared_sets(
    *,
    design: Path | str,
    stim_info: Path | str,
    sessions: int,
    scenes_seed: int,
    seed: int,
    synthetic_design: Path | str,
    information: Path | str,
    synthetic_stimuli: Path | str,
    pairs: dict[str, Path | str],
    targets: dict[str, Path | str],
    instances: dict[str, Path | str],
) -> None:
    """Write the files of both sets that all subjects share, and the objects of the core's images.

    Natural scenes, and five of the scenes to be imagined, are shared images of the core.

    Parameters
    ----------
    design, stim_info : str or Path
        ``nsd_expdesign.mat`` and ``nsd_stim_info_merged.csv``.
    sessions : int
        Core sessions run.
    scenes_seed : int
        Seed with which the core's pictures were simulated.
    seed : int
        Of noise and of the order of trials.
    synthetic_design : str or Path
        Output, ``nsdsynthetic_expdesign.mat``.
    information : str or Path
        Output, ``nsdsyntheticimageinformation.csv``.
    synthetic_stimuli : str or Path
        Output, ``nsdsynthetic_stimuli.hdf5``: 220 pictures, one compressed chunk each.
    pairs : dict of str to (str or Path)
        Outputs, ``{set}_pair_list.mat`` of the sets A, B and C.
    targets : dict of str to (str or Path)
        Outputs, a PNG for each of the six targets of set A, then of set B, by name. The order says
        what is drawn, so the ids in the names of scenes, which are those of the release, are not
        those of the simulated images.
    instances : dict of str to (str or Path)
        Outputs, ``instances_{split}.json`` of train2017 and val2017, of the pictures drawn.

    Raises
    ------
    InputError
        The sessions show too few shared images, or not twelve targets are given.
    """
    if len(targets) != len(CUES["A"] + CUES["B"]):
        found = f"{len(targets)} targets"
        raise InputError(
            Finding("targets of NSD-Imagery", "12 targets", found, "Name those of sets A and B")
        )
    shown, shared = find_images(design, sessions)
    natural, imagined = np.split(choose_scenes(shared, scenes_seed), [patterns.EXEMPLARS])
    order, slots = plan_session(np.random.default_rng([seed, 4]))
    _save_matlab(
        synthetic_design,
        {"masterordering": order[None].astype(float), "stimpattern": slots[None].astype(float)},
    )
    with replacing(information) as part:
        patterns.describe_pictures().to_csv(part, index=False)
    scenes = [draw_scene(describe_scene(scenes_seed, n), patterns.HEIGHT) for n in natural]
    numbers = range(layout.N_SYNTHETIC_SHARED)
    drawn = (patterns.draw_picture(number, scenes, seed) for number in numbers)
    _save_pictures(synthetic_stimuli, drawn, len(numbers))
    _save_targets(pairs, targets, imagined, scenes_seed)
    table = pd.read_csv(stim_info, index_col=0)
    for split, path in instances.items():
        own = shown[table["cocoSplit"].to_numpy()[shown] == split]
        save_instances(path, table, own, scenes_seed)


def find_images(design: Path | str, sessions: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the core's images that were drawn.

    Parameters
    ----------
    design : str or Path
        ``nsd_expdesign.mat``.
    sessions : int
        Core sessions run.

    Returns
    -------
    shown : int64 array of shape (n_shown,)
        0-based images that any subject sees, ascending.
    shared : int64 array of shape (n_shared,)
        Those of them that all subjects see.
    """
    n = sessions * layout.TRIALS_PER_SESSION
    seen = [read_design(design, subject)[0][:n] for subject in layout.SUBJECTS]
    return np.unique(np.concatenate(seen)), reduce(np.intersect1d, seen)


def choose_scenes(shared: np.ndarray, scenes_seed: int) -> np.ndarray:
    """Choose nine images that show single things, of different kinds as far as possible.

    Parameters
    ----------
    shared : int array of shape (n,)
        0-based images to choose from.
    scenes_seed : int
        Seed with which the pictures were simulated.

    Returns
    -------
    int64 array of shape (9,)
        Four natural scenes of NSD-synthetic and five targets of NSD-Imagery.

    Raises
    ------
    InputError
        There are fewer.
    """
    wanted = patterns.EXEMPLARS + len(CUES["B"]) - 1
    if len(shared) < wanted:
        found = f"{len(shared)}"
        remedy = "Simulate more, or do without NSD-synthetic and NSD-Imagery"
        raise InputError(
            Finding("simulated release", f"at least {wanted} shared images", found, remedy)
        )
    kinds = {}
    for number in map(int, shared):
        things = describe_scene(scenes_seed, number).objects
        if len(things) == 1:
            kinds.setdefault(things[0].category, number)
    first = list(kinds.values())
    others = [int(number) for number in shared if number not in first]
    return np.array((first + others)[:wanted])


def plan_session(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Plan the trials of NSD-synthetic.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    order : int64 array of shape (744,)
        Image of every trial, from 1. Each is shown at least twice; ten times in every run, an
        image is shown again at once.
    slots : uint8 array of shape (8, 107)
        1 where the slot of a run shows an image.
    """
    n_images, ordinary = layout.N_SYNTHETIC, RUNS * (SHOWN - ONE_BACK)
    thrice = rng.choice(n_images, ordinary - 2 * n_images, replace=False)
    pool = np.concatenate([np.tile(np.arange(n_images), 2), thrice])
    order = rng.permutation(pool)
    while (order[1:] == order[:-1]).any():
        order = rng.permutation(pool)
    runs, slots = [], np.zeros((RUNS, SLOTS), np.uint8)
    for run, images in enumerate(np.split(order, RUNS)):
        repeats = np.ones(len(images), np.int64)
        repeats[rng.choice(len(images), ONE_BACK, replace=False)] = 2
        runs.append(np.repeat(images, repeats))
        inner = rng.choice(np.arange(LEAD_IN, SLOTS - LEAD_OUT), SHOWN, replace=False)
        slots[run, inner] = 1
    return np.concatenate(runs) + 1, slots


def _save_matlab(path, variables):
    """Write a MATLAB file without the time of writing."""
    with replacing(path) as part:
        savemat(part, variables, appendmat=False, do_compression=True)
        with open(part, "r+b") as file:
            file.write(DESCRIPTION)


def _save_pictures(path, pictures, n_pictures):
    """Write pictures of NSD-synthetic, one compressed chunk each."""
    shape = (n_pictures, patterns.HEIGHT, patterns.WIDTH, 3)
    with replacing(path) as part, open_hdf5(part, "w") as file:
        bricks = file.create_dataset(
            "imgBrick",
            shape,
            np.uint8,
            chunks=(1, *shape[1:]),
            compression="gzip",
            compression_opts=COMPRESSION,
        )
        for row, picture in enumerate(pictures):
            bricks[row] = picture


def _save_targets(pairs, targets, imagined, scenes_seed):
    """Write pictures, names and cues of the targets of NSD-Imagery."""
    names = list(targets)
    # The last is not one of the core's.
    scenes = [describe_scene(scenes_seed, int(n)) for n in (*imagined, layout.N_IMAGES)]
    pictures = [*(patterns.draw_bars(angles) for angles in BARS), *map(draw_scene, scenes)]
    for name, picture in zip(names, pictures, strict=True):
        with replacing(targets[name]) as part:
            Image.fromarray(picture).save(part)
    half = len(CUES["A"])
    for group, told in {"A": names[:half], "B": names[half:], "C": WORDS}.items():
        cells = np.empty((len(told), 3), object)
        for row, (name, cue) in enumerate(zip(told, CUES[group], strict=True)):
            cells[row] = [row + 1.0, name, cue]
        _save_matlab(pairs[group], {"pair_list": cells})


def simulate_sets(
    *,
    subject: str,
    design: Path | str,
    stimuli: Path | str,
    synthetic_design: Path | str,
    synthetic_stimuli: Path | str,
    targets: dict[str, Path | str],
    root: Path | str,
    seed: int,
    scenes_seed: int,
    sessions: int,
) -> None:
    """Simulate a subject's sessions of NSD-synthetic and NSD-Imagery.

    Takes ten seconds, 1 GB of memory and 115 MB of files.

    Parameters
    ----------
    subject : str
        subj01 to subj08.
    design, stimuli : str or Path
        ``nsd_expdesign.mat`` and ``nsd_stimuli.hdf5``.
    synthetic_design, synthetic_stimuli : str or Path
        As written by `simulate_shared_sets`.
    targets : dict of str to (str or Path)
        As written by `simulate_shared_sets`, in the same order.
    root : str or Path
        Root of the release; `set_files` names what is written below.
    seed, scenes_seed, sessions : int
        As `nsdldm.demo.release.simulate_subject` took them.
    """
    files = set_files(root, subject)
    n_colours = layout.N_SYNTHETIC - layout.N_SYNTHETIC_SHARED
    _save_pictures(files["colours"], _draw_colours(subject, seed), n_colours)
    brain = _build_brain(subject, seed)
    natural = choose_scenes(find_images(design, sessions)[1], scenes_seed)
    scenes = [describe_scene(scenes_seed, n) for n in (*natural, layout.N_IMAGES)]
    nsd_ids = read_design(design, subject)[0][: sessions * layout.TRIALS_PER_SESSION]
    core = np.unique(nsd_ids)
    rng = anatomy.subject_generator(seed, subject, "tuning")
    shown, strength = _list_content(scenes)
    views = [
        *(_view_screens(path) for path in (synthetic_stimuli, files["colours"])),
        _view_targets(targets.values()),
    ]
    signal = cortex.simulate_signal(
        channels=np.concatenate([cortex.read_channels(stimuli, core), *views], axis=1),
        scenes=[describe_scene(scenes_seed, int(n)) for n in core] + shown,
        regions=brain.regions,
        fields=brain.fields,
        level=rng.uniform(*release.LEVELS),
        rng=rng,
        strength=np.concatenate([np.ones(len(core)), strength]),
        reference=len(core),
    )[len(core) :]
    order = loadmat(synthetic_design, variable_names=["masterordering"])["masterordering"].ravel()
    synthetic, imagery = np.split(signal, [layout.N_SYNTHETIC])
    _save_session(files["synthetic"], synthetic[order.astype(int) - 1], brain, seed, subject)
    responses = _run_imagery(files, list(targets), imagery, brain, seed, subject)
    _save_session(files["imagery"], responses, brain, seed, subject)


def _draw_colours(subject, seed):
    """Yield the pictures of hues, isoluminant for a subject."""
    rng = anatomy.subject_generator(seed, subject, "colours")
    luminance = patterns.LUMINANCE * np.exp(SENSITIVITY * rng.standard_normal(3))
    for number in range(layout.N_SYNTHETIC_SHARED, layout.N_SYNTHETIC):
        yield patterns.draw_picture(number, [], seed, tuple(luminance / luminance.sum()))


def _build_brain(subject, seed):
    """The subject's brain, drawn as `nsdldm.demo.release.simulate_subject` draws it."""
    hemispheres = anatomy.build_hemispheres(subject, seed)
    grid = anatomy.make_grid(hemispheres)
    sides = [anatomy.label_voxels(hemispheres[h], grid, "streams") for h in layout.HEMISPHERES]
    regions = anatomy.combine_hemispheres(*sides)
    noise, mean = _draw_voxels(grid.shape, regions > 0, seed, subject)
    return Brain(
        regions=regions,
        fields=anatomy.locate_fields(hemispheres, grid),
        brainmask=anatomy.draw_brainmask(regions >= 0),
        noise=noise,
        mean=mean,
    )


def _draw_voxels(shape, visual, seed, subject):
    """Noise and mean response of every voxel, as in the core sessions."""
    rng = anatomy.subject_generator(seed, subject, "voxels")
    spread = release.NOISE_SPREAD * rng.standard_normal(shape, np.float32)
    mean = np.where(visual, release.MEAN_VISUAL, release.MEAN_OTHER)
    mean = mean + release.MEAN_SPREAD * rng.standard_normal(shape)
    return release.NOISE * np.exp(spread), mean.astype(np.float32)


def _list_content(scenes):
    """What the pictures of both sets show, and how much of it: 284 and 18 scenes and numbers.

    Of the ten scenes, the first four are the natural ones.
    """
    shown, strength = [], []
    for kind in patterns.KINDS:
        for scene in scenes[: patterns.EXEMPLARS]:
            shown.append(scene if kind.content else NOTHING)
            strength.append(kind.content)
    words = [replace(NOTHING, objects=(Thing(w, w, (), 0, 0, 0, 1, 0, 0),)) for w in WORDS]
    targets = [*[NOTHING] * len(BARS), *scenes[patterns.EXEMPLARS :], *words]
    return shown + targets, np.array(strength + [1.0] * len(targets))


def _view_screens(path):
    """The central squares of screens as the core's pictures: float32 (3, n_images, 85 * 85)."""
    left = (patterns.WIDTH - patterns.HEIGHT) // 2
    with open_hdf5(path) as file:
        bricks = file["imgBrick"]
        squares = (bricks[row][:, left : left + patterns.HEIGHT] for row in range(len(bricks)))
        return np.stack([_view(DISPLAYED[square]) for square in squares], axis=1)


def _view_targets(paths):
    """The pictures of targets, and grey for the words, in the same form."""
    pictures = []
    for path in paths:
        with Image.open(path) as stored:
            pictures.append(np.asarray(stored.convert("RGB")))
    pictures += [np.full((SIDE, SIDE, 3), patterns.DISPLAY_GREY, np.uint8)] * len(WORDS)
    return np.stack([_view(picture) for picture in pictures], axis=1)


def _view(picture):
    """A square picture as `nsdldm.demo.cortex.read_channels` reads it."""
    blocks = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
    return cortex.split_channels(np.asarray(blocks))


def _run_imagery(files, names, signal, brain, seed, subject):
    """Write the behaviour of the runs of NSD-Imagery, and return the responses of all trials.

    `signal` is that to the 18 targets, and `names` those of the first twelve.
    """
    early = (brain.regions == STREAMS["early"])[brain.regions > 0]
    known, responses = [*names, *WORDS], []
    for run in layout.IMAGERY_RUNS:
        task, letters = run[:3], CUES[run[3]]
        rng = anatomy.subject_generator(seed, subject, run)
        table, target = plan_run(run, rng)
        first = len(letters) * layout.IMAGERY_SETS.index(run[3])
        table.insert(0, "SUBJECT", layout.SUBJECTS.index(subject) + 1)
        frames = zip(target, table["CUE"], strict=True)
        table["FRAMEFILE"] = [f"{known[first + which]}_cue{cue}.png" for which, cue in frames]
        save_table(files[run], table)
        gain = np.where(early, *GAINS[task])
        # Words look alike.
        gain = gain * ~early if run[3] == "C" else gain
        answer = signal[first + target] * gain
        # The cue of an attention trial comes before it, and no picture with it.
        pair = [np.zeros_like(answer), answer] if task == "att" else [answer]
        responses.append(np.stack(pair, axis=1).reshape(-1, signal.shape[1]))
    return np.concatenate(responses)


def plan_run(run: str, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Plan the trials of a run of NSD-Imagery.

    Parameters
    ----------
    run : str
        Such as visA.
    rng : numpy.random.Generator

    Returns
    -------
    table : DataFrame
        RUN (1 to 12), TRIAL (1 to 48), CONDITION and CUE, both as letters. In vision runs CONDITION
        is what is on screen, and CUE is the same in half of each target's trials; in other runs,
        they are the same in all.
    target : int64 array of shape (48,)
        From 0 to 5: on screen, imagined or attended to.
    """
    letters = np.array(list(CUES[run[3]]))
    n = len(letters)
    target = np.repeat(np.arange(n), REPEATS)
    cue = target.copy()
    if run.startswith("vis"):
        other = np.arange(len(target)) % REPEATS >= REPEATS // 2
        cue[other] = (target[other] + rng.integers(1, n, other.sum())) % n
    mixed = rng.permutation(len(target))
    target, cue = target[mixed], cue[mixed]
    table = pd.DataFrame({"RUN": layout.IMAGERY_RUNS.index(run) + 1}, index=range(len(target)))
    table["TRIAL"] = np.arange(1, len(target) + 1)
    table["CONDITION"], table["CUE"] = letters[target], letters[cue]
    return table, target


def _save_session(path, responses, brain, seed, subject):
    """Write the betas of a session: noise and responses, which are in its standard deviations."""
    rng = anatomy.subject_generator(seed, subject, Path(path).stem)
    percent = cortex.simulate_noise(brain.regions.shape, len(responses), rng)
    percent[:, brain.regions > 0] += responses
    shift = release.SESSION_SHIFT * rng.standard_normal(brain.regions.shape, np.float32)
    percent *= brain.noise * np.float32(1 + release.SESSION_GAIN * rng.standard_normal())
    percent += brain.mean + shift
    percent[:, ~brain.brainmask] = 0
    formats.write_betas_hdf5(path, formats.to_int16(percent))
    logger.info("%s written", path)


def simulate_other_betas(
    *, betas: list[Path | str], outputs: list[Path | str], subject: str, seed: int
) -> None:
    """Write a noisier version of a subject's betas, as b2 is of b3.

    Parameters
    ----------
    betas : list of str or Path
        HDF5 of the core sessions, from the first.
    outputs : list of str or Path
        As many, in the same format; voxels without data have none.
    subject : str
        subj01 to subj08.
    seed : int
        As `nsdldm.demo.release.simulate_subject` took it.
    """
    for number, (path, output) in enumerate(zip(betas, outputs, strict=True), 1):
        with open_hdf5(path) as file:
            stored = file["betas"][:].transpose(0, 3, 2, 1)
        level, _ = _draw_voxels(stored.shape[1:], np.zeros(stored.shape[1:], bool), seed, subject)
        rng = anatomy.subject_generator(seed, subject, f"other{number:02d}")
        percent = rng.standard_normal(stored.shape, np.float32)
        percent *= OTHER_NOISE * level * (stored != 0).any(axis=0)
        percent += stored / np.float32(formats.SCALE)
        formats.write_betas_hdf5(output, formats.to_int16(percent))
        logger.info("%s written", output)

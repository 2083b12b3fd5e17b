"""How the simulated cortex responds to pictures.

Early voxels respond to local luminance, colour and oriented structure of the picture itself,
ventral voxels to the content of the scene, lateral voxels to its living and moving things, and
parietal voxels to where its things are. What lies between these and early cortex mixes both; all
other cortex is noise. Nothing here knows about the diffusion model: pictures are given as pixels,
and scenes as the names of their objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage, signal

from nsdldm.demo.anatomy import STREAMS
from nsdldm.demo.scenes import BACKGROUNDS, CATEGORIES, COLOURS
from nsdldm.demo.streams import (
    PICTURE_DEGREES,
    tabulate_living,
    tune_to_living,
    tune_to_places,
)
from nsdldm.nsd.layout import IMAGE_PIXELS
from nsdldm.nsd.stimuli import open_stimuli

if TYPE_CHECKING:
    from nsdldm.demo.scenes import Scene

BLOCK = 5
# Receptive field radius of early voxels in degrees: at the centre, and increase per degree.
RADIUS, RADIUS_SLOPE = 0.25, 0.12
BEYOND_EARLY = 2.0  # radius of ventral voxels, relative to early ones
# Fraction of early voxels that respond to the signed, phase-specific picture; the others respond to
# energy.
SIGNED_SHARE = 0.8
# Fraction of each drive in the variance of a ventral voxel's responses.
VENTRAL = {"signed": 0.05, "content": 0.95}
# Fraction of each aspect of a scene in the drive by content.
CONTENT = {"category": 0.82, "background": 0.12, "colour": 0.06}
# The same of the voxels beyond.
BEYOND = {
    "midventral": {"signed": 0.5, "content": 0.5},
    "midlateral": {"signed": 0.4, "living": 0.6},
    "midparietal": {"signed": 0.4, "places": 0.6},
    "lateral": {"signed": 0.05, "living": 0.95},
    "parietal": {"signed": 0.1, "places": 0.9},
}
# Median ratio of the standard deviations of signal and single-trial noise.
SIGNAL_TO_NOISE = dict.fromkeys(STREAMS, 0.44)
SNR_SPREAD = 0.25  # standard deviation of its logarithm over voxels
SMOOTHNESS = 1.2  # voxels: standard deviation of the kernel that correlates neighbours
NOISE_SMOOTH, NOISE_SMOOTHNESS, NOISE_MEMORY = 0.15, 0.8, 0.12


def read_channels(stimuli: Path | str, nsd_ids: Sequence[int]) -> np.ndarray:
    """Read pictures as luminance and two opponent colours on a coarser grid.

    Parameters
    ----------
    stimuli : str or Path
        ``nsd_stimuli.hdf5``.
    nsd_ids : sequence of int
        0-based.

    Returns
    -------
    float32 array of shape (3, n_images, 85 * 85)
        Luminance (0 to 1), red minus green and blue minus yellow, each block of 5 x 5 pixels
        averaged, row by row from the top left.
    """
    side = IMAGE_PIXELS // BLOCK
    channels = np.empty((3, len(nsd_ids), side * side), np.float32)
    with open_stimuli(stimuli) as pictures:
        for position, nsd_id in enumerate(nsd_ids):
            blocks = np.asarray(Image.fromarray(pictures[int(nsd_id)]).reduce(BLOCK))
            channels[:, position] = split_channels(blocks)
    return channels


def split_channels(blocks: np.ndarray) -> np.ndarray:
    """Split a picture into luminance and two opponent colours.

    Parameters
    ----------
    blocks : uint8 array of shape (85, 85, 3)
        Mean colours of the picture's blocks.

    Returns
    -------
    float32 array of shape (3, 85 * 85)
        As in `read_channels`.
    """
    red, green, blue = blocks.reshape(-1, 3).T.astype(np.float32) / 255
    luminance = 0.30 * red + 0.59 * green + 0.11 * blue
    return np.stack([luminance, red - green, blue - (red + green) / 2])


def standardise(values: np.ndarray, reference: int | None = None) -> np.ndarray:
    """Standardise each column; constant columns become 0.

    Parameters
    ----------
    values : float array of shape (n_images, n_voxels)
    reference : int, optional
        Number of first rows that give mean and standard deviation, by default all.

    Returns
    -------
    float32 array of shape (n_images, n_voxels)
    """
    centred = values - values[:reference].mean(axis=0)
    spread = centred[:reference].std(axis=0)
    return np.divide(centred, spread, out=np.zeros(values.shape, np.float32), where=spread > 1e-6)


def _offsets(field, side):
    """Degrees right of and above each receptive field's centre, shape (n_voxels, side**2) each."""
    degrees = (np.arange(side) - (side - 1) / 2) * PICTURE_DEGREES / side
    right = np.tile(degrees, side)[None] - field[:, :1]
    up = np.repeat(-degrees, side)[None] - field[:, 1:]
    return right.astype(np.float32), up.astype(np.float32)


def _blob(right, up, radius):
    """Gaussian weights that sum to 1."""
    weights = np.exp(-(right**2 + up**2) / (2 * radius**2))
    return weights / weights.sum(axis=1, keepdims=True)


def _gabor_pair(right, up, radius, angle, wavelength):
    """Even and odd Gabor filters that do not respond to uniform light."""
    envelope = _blob(right, up, radius)
    phase = 2 * np.pi * (np.cos(angle) * right + np.sin(angle) * up) / wavelength
    pair = []
    for wave in (np.cos(phase), np.sin(phase)):
        carrier = envelope * wave
        pair.append(carrier - envelope * carrier.sum(axis=1, keepdims=True))
    return pair


def drive_locally(
    channels: np.ndarray,
    field: np.ndarray,
    radius: np.ndarray,
    rng: np.random.Generator,
    reference: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Respond to the picture at a location.

    Parameters
    ----------
    channels : float32 array of shape (3, n_images, n_pixels)
        As returned by `read_channels`.
    field : float array of shape (n_voxels, 2)
        Degrees to the right of and above the centre.
    radius : float array of shape (n_voxels,)
        Standard deviation of the receptive field in degrees.
    rng : numpy.random.Generator
    reference : int, optional
        As `standardise` takes it.

    Returns
    -------
    signed : float32 array of shape (n_images, n_voxels)
        A random mixture of centre-surround luminance, both opponent colours and two Gabors of
        random orientation, wavelength and phase; changes sign with contrast. Mean 0, sd 1.
    energy : float32 array of shape (n_images, n_voxels)
        Phase-invariant energy of the two Gabors, and of centre-surround luminance. Mean 0, sd 1.
    """
    luminance, red_green, blue_yellow = channels
    n_voxels, radius = len(field), radius[:, None].astype(np.float32)
    right, up = _offsets(field, round(np.sqrt(luminance.shape[1])))
    centre, surround = _blob(right, up, radius), _blob(right, up, 2.5 * radius)
    contrast = luminance @ (centre - 0.8 * surround).T
    parts = [contrast, red_green @ centre.T, blue_yellow @ centre.T]
    energies = [np.abs(contrast - contrast[:reference].mean(axis=0))]
    for _ in range(2):
        angle = rng.uniform(0, np.pi, (n_voxels, 1)).astype(np.float32)
        phase = rng.uniform(0, 2 * np.pi, n_voxels)
        wavelength = radius * rng.uniform(2.5, 5.0, (n_voxels, 1)).astype(np.float32)
        even, odd = _gabor_pair(right, up, radius, angle, wavelength)
        even, odd = luminance @ even.T, luminance @ odd.T
        parts.append(np.cos(phase) * even + np.sin(phase) * odd)
        energies.append(np.hypot(even, odd))
    weights = rng.standard_normal((5, n_voxels))
    positive = rng.uniform(0.2, 1, (3, n_voxels))
    signed, energy = (
        sum(w * standardise(part, reference) for w, part in zip(factors, drives, strict=True))
        for factors, drives in ((weights, parts), (positive, energies))
    )
    return standardise(signed, reference), standardise(energy, reference)


def tabulate_content(scenes: list[Scene]) -> dict[str, np.ndarray]:
    """Count the content of each scene.

    Parameters
    ----------
    scenes : list of nsdldm.demo.scenes.Scene

    Returns
    -------
    dict of str to float32 array of shape (n_images, n_kinds)
        Keys category, background and colour, the columns in the order of
        `nsdldm.demo.scenes.CATEGORIES`, `BACKGROUNDS` and `COLOURS`.
    """
    held = {
        "category": (CATEGORIES, [[thing.category for thing in s.objects] for s in scenes]),
        "background": (BACKGROUNDS, [[s.background] for s in scenes]),
        "colour": (tuple(COLOURS), [[thing.colour for thing in s.objects] for s in scenes]),
    }
    return {
        kind: np.array([[row.count(name) for name in names] for row in rows], np.float32)
        for kind, (names, rows) in held.items()
    }


def draw_smooth(
    rng: np.random.Generator, places: np.ndarray, n: int, sigma: float = SMOOTHNESS
) -> np.ndarray:
    """Draw random numbers that are correlated between neighbouring voxels.

    Parameters
    ----------
    rng : numpy.random.Generator
    places : bool array of shape (X, Y, Z)
        Positions of the voxels.
    n : int
        Numbers per voxel.
    sigma : float
        Smoothness in voxels.

    Returns
    -------
    float32 array of shape (n, n_voxels)
        Standard normal, in C-order of `places`.
    """
    drawn = rng.standard_normal((n, *places.shape), dtype=np.float32)
    smooth = ndimage.gaussian_filter(drawn, (0, sigma, sigma, sigma), mode="wrap")
    return (smooth / smooth.std())[:, places]


def place_fields(
    regions: np.ndarray, fields: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Give every visual voxel a receptive field.

    Parameters
    ----------
    regions : int array of shape (X, Y, Z)
        Labels of the streams atlas; the first axis runs from left to right.
    fields : float array of shape (X, Y, Z, 2)
        Positions of early voxels; see `nsdldm.demo.anatomy.locate_fields`.
    rng : numpy.random.Generator

    Returns
    -------
    field : float array of shape (n_voxels, 2)
        Voxels of any label in C-order: degrees right of and above the centre. Those outside early
        cortex can be anywhere in the contralateral half of the field.
    radius : float array of shape (n_voxels,)
        In degrees.
    """
    visual = regions > 0
    early = regions[visual] == STREAMS["early"]
    side = np.where(np.nonzero(visual)[0] < regions.shape[0] / 2, 1, -1)
    anywhere = rng.uniform((0, -3), (3, 3), (len(side), 2)) * np.column_stack([side, side])
    field = np.where(early[:, None], fields[visual], anywhere)
    radius = RADIUS + RADIUS_SLOPE * np.hypot(*field.T)
    return field, np.where(early, 1, BEYOND_EARLY) * radius


def choose_mixtures(labels: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Fraction of each drive in every voxel's variance.

    Parameters
    ----------
    labels : int array of shape (n_voxels,)
        Labels of the streams atlas.
    rng : numpy.random.Generator

    Returns
    -------
    dict of str to float array of shape (n_voxels,)
        Keys signed, energy, content, living and places; the fractions of a voxel sum to 1.
    """
    shares = {
        drive: np.zeros(len(labels))
        for drive in ("signed", "energy", "content", "living", "places")
    }
    for region, mixture in ({"ventral": VENTRAL} | BEYOND).items():
        for drive, share in mixture.items():
            shares[drive][labels == STREAMS[region]] = share
    early = np.flatnonzero(labels == STREAMS["early"])
    n_signed = round(SIGNED_SHARE * len(early))
    for drive, chosen in zip(
        ("signed", "energy"), np.split(rng.permutation(early), [n_signed]), strict=True
    ):
        shares[drive][chosen] = 1
    return shares


def drive_by_scene(
    scenes: list[Scene],
    visual: np.ndarray,
    rng: np.random.Generator,
    strength: np.ndarray | None = None,
    reference: int | None = None,
) -> np.ndarray:
    """Respond to the content of a scene, wherever it is.

    Parameters
    ----------
    scenes : list of nsdldm.demo.scenes.Scene
    visual : bool array of shape (X, Y, Z)
    rng : numpy.random.Generator
    strength : float array of shape (n_images,), optional
        How much of its content a picture shows, by default 1.
    reference : int, optional
        As `standardise` takes it.

    Returns
    -------
    float32 array of shape (n_images, n_voxels)
        Mean 0, sd 1. Neighbouring voxels have similar tuning.
    """
    content = 0
    for kind, table in tabulate_content(scenes).items():
        tuning = draw_smooth(rng, visual, table.shape[1])
        shown = table if strength is None else table * np.float32(strength)[:, None]
        content = content + np.sqrt(CONTENT[kind]) * standardise(shown @ tuning, reference)
    return standardise(content, reference)


def simulate_signal(
    *,
    channels: np.ndarray,
    scenes: list[Scene],
    regions: np.ndarray,
    fields: np.ndarray,
    level: float,
    rng: np.random.Generator,
    strength: np.ndarray | None = None,
    reference: int | None = None,
) -> np.ndarray:
    """Simulate the noiseless responses of visual cortex to images.

    Parameters
    ----------
    channels : float32 array of shape (3, n_images, n_pixels)
        As returned by `read_channels`.
    scenes : list of nsdldm.demo.scenes.Scene
    regions : int array of shape (X, Y, Z)
        Labels of the streams atlas.
    fields : float array of shape (X, Y, Z, 2)
        As returned by `nsdldm.demo.anatomy.locate_fields`.
    level : float
        The subject's signal-to-noise ratio relative to `SIGNAL_TO_NOISE`.
    rng : numpy.random.Generator
    strength : float array of shape (n_images,), optional
        How much of its content a picture shows, by default 1.
    reference : int, optional
        Number of first images over which responses have mean 0 and their strength, by default all.
        The responses to these do not depend on the other images.

    Returns
    -------
    float32 array of shape (n_images, n_voxels)
        Voxels with a label, in C-order. Mean 0; in standard deviations of the single-trial noise.
    """
    visual = regions > 0
    labels = regions[visual]
    field, radius = place_fields(regions, fields, rng)
    local = drive_locally(channels, field, radius, rng, reference)
    drives = dict(zip(("signed", "energy"), local, strict=True))
    drives["content"] = drive_by_scene(scenes, visual, rng, strength, reference)
    shares = choose_mixtures(labels, rng)
    median = np.zeros(len(labels))
    for region, ratio in SIGNAL_TO_NOISE.items():
        median[labels == STREAMS[region]] = ratio
    spread = np.exp(SNR_SPREAD * rng.standard_normal(len(labels)))
    shown = np.float32(1) if strength is None else np.float32(strength)[:, None]
    living = standardise(shown * tabulate_living(scenes), reference)
    tuning = draw_smooth(rng, visual, living.shape[1])
    drives["living"] = standardise(tune_to_living(living, tuning), reference)
    drives["places"] = standardise(shown * tune_to_places(scenes, field), reference)
    mixed = sum(np.sqrt(shares[name]) * drives[name] for name in shares)
    response = standardise(mixed, reference)
    return (response * level * median * spread).astype(np.float32)


def simulate_noise(
    shape: tuple[int, int, int], n_trials: int, rng: np.random.Generator
) -> np.ndarray:
    """Simulate a session's noise: mostly white, with weak spatial and temporal correlations.

    Parameters
    ----------
    shape : tuple of 3 int
        The functional volume.
    n_trials : int
    rng : numpy.random.Generator

    Returns
    -------
    float32 array of shape (n_trials, X, Y, Z)
        Standard deviation 1.
    """
    noise = rng.standard_normal((n_trials, *shape), dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, (0, *[NOISE_SMOOTHNESS] * 3), mode="wrap")
    noise += NOISE_SMOOTH / smooth.std() * smooth
    del smooth
    noise = signal.lfilter([np.float32(1)], np.float32([1, -NOISE_MEMORY]), noise, axis=0)
    noise /= noise.std()
    return noise

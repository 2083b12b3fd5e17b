"""The pictures of a simulated LAION-fMRI release: their names, scenes and files.

Names have the release's forms. Scenes are invented and drawn as those of the simulated NSD; images
out of distribution are gaudy or cropped scenes, gratings, and objects on a transparent ground.
"""

from __future__ import annotations

import io
import random
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image

from nsdldm.demo.cortex import BLOCK, split_channels
from nsdldm.demo.drawing import draw_scene
from nsdldm.demo.scenes import BACKGROUNDS, CATEGORIES, Scene, describe_scene
from nsdldm.demo.sessions import NOTHING
from nsdldm.demo.shapes import Spot, paint
from nsdldm.demo.things import draw_thing
from nsdldm.laion.layout import PERSONS, SUBJECTS
from nsdldm.laion.stimuli import decode_picture
from nsdldm.support.errors import Finding, InputError

PIXELS, DRAWN_PIXELS, QUALITY = 1000, 500, 90
GREY = 128
# Of the shared images, those shown twelve times; of these and of a person's own, those of THINGS.
SHARE_12, SHARE_THINGS = 0.6, 0.2
# How much of its content a picture out of distribution shows, by kind.
OOD = {"gaudy": 1.0, "cropped": 0.6, "gabor": 0.0, "shape": 1.0}
ZOOM = 1.7  # of cropped pictures, around their middle
# Scenes of different groups of images have numbers this far apart, and none of NSD's.
STEP = 1_000_000
FEWEST = 10


class Picture(NamedTuple):
    """An image of the release.

    Parameters
    ----------
    name : str
        File name, which is its identifier.
    dataset : str
        LAION, THINGS+, NSD or OOD.
    subject : str
        Who sees it, or "all".
    repeats : int
    scene : nsdldm.demo.scenes.Scene
        What it shows.
    strength : float
        How much of the scene's content it shows.
    kind : str
        "scene", or one of `OOD`.
    """

    name: str
    dataset: str
    subject: str
    repeats: int
    scene: Scene
    strength: float = 1.0
    kind: str = "scene"


def list_shared(seed: int, n_shared: int, n_ood: int) -> list[Picture]:
    """List the images that all subjects see.

    Parameters
    ----------
    seed : int
        Of the simulated release.
    n_shared : int
        Images of LAION, THINGS+ and NSD, at least 10.
    n_ood : int
        Images out of distribution, at least as many as kinds.

    Returns
    -------
    list of Picture

    Raises
    ------
    InputError
        A number is too small.
    """
    _check_number("`shared_images`", n_shared, FEWEST)
    _check_number("`ood_images`", n_ood, len(OOD))
    often = round(SHARE_12 * n_shared)
    things = round(SHARE_THINGS * often)
    taken, pictures = {}, []
    for number in range(n_shared):
        scene = describe_scene(seed, STEP + number)
        if number < things:
            name = f"12rep_THINGS+_kmeans_{number}_{scene.objects[0].category}"
        elif number < often:
            name = f"12rep_LAION_{_name_cluster(scene, taken)}"
        else:
            name = f"4rep_NSD_special1000_{number - often}"
        repeats, dataset, *_ = name.split("_")
        repeats = int(repeats.removesuffix("rep"))
        pictures.append(Picture(f"shared_{name}.jpg", dataset, "all", repeats, scene))
    return pictures + [_list_ood(seed, number) for number in range(n_ood)]


def _check_number(where, found, fewest):
    """Raise an error if a number of images is too small."""
    if found < fewest:
        remedy = "Increase it"
        raise InputError(Finding(where, f"at least {fewest} images", str(found), remedy))


def _name_cluster(scene, taken):
    """The cluster of images with the same first object and background, and the place in it."""
    first, ground = CATEGORIES.index(scene.objects[0].category), BACKGROUNDS.index(scene.background)
    cluster = 100 * (1 + first) + ground
    place = taken[cluster] = taken.get(cluster, -1) + 1
    return f"cluster_{cluster}_i{place}"


def _list_ood(seed, number):
    """An image out of distribution."""
    kind = list(OOD)[number % len(OOD)]
    scene = describe_scene(seed, 2 * STEP + number)
    thing = scene.objects[0]
    shown = {
        "gaudy": f"{thing.category}_{number}.jpg",
        "cropped": f"{thing.category}_{number}.jpg",
        "gabor": f"{number}.jpg",
        "shape": f"{thing.colour} {thing.category}_{number}.png",
    }[kind]
    if kind == "gabor":
        scene = replace(NOTHING, seed=scene.seed)
    if kind == "shape":
        scene = replace(scene, objects=(thing,), background="")
    if kind == "cropped":
        scene = _zoom(scene)
    name = f"shared_4rep_OOD_{kind}_{shown}"
    return Picture(name, "OOD", "all", 4, scene, OOD[kind], kind)


def _zoom(scene):
    """The middle of a scene, enlarged."""
    things = tuple(
        replace(
            thing,
            x=0.5 + ZOOM * (thing.x - 0.5),
            y=0.5 + ZOOM * (thing.y - 0.5),
            size=ZOOM * thing.size,
        )
        for thing in scene.objects
    )
    horizon = 0.5 + ZOOM * (scene.horizon - 0.5) if scene.horizon else 0.0
    return replace(scene, objects=things, horizon=min(max(horizon, 0.0), 1.0))


def list_own(seed: int, subject: str, n_own: int) -> list[Picture]:
    """List the images that only one subject sees.

    Parameters
    ----------
    seed : int
        Of the simulated release.
    subject : str
        Such as sub-01.
    n_own : int
        At least 10.

    Returns
    -------
    list of Picture

    Raises
    ------
    InputError
        The number is too small, or the subject is not of the release.
    """
    _check_number("`own_images`", n_own, FEWEST)
    if subject not in SUBJECTS:
        expected = f"one of {', '.join(SUBJECTS)}"
        raise InputError(Finding("`subject`", expected, subject, "Choose one of these"))
    person = PERSONS[subject]
    things = round(SHARE_THINGS * n_own)
    taken, pictures = {}, []
    for number in range(n_own):
        scene = describe_scene(seed, (2 + person) * STEP + number)
        if number < things:
            dataset, name = "THINGS+", f"{scene.objects[0].category}{number + 1}"
        else:
            dataset, name = "LAION", f"initial_{_name_cluster(scene, taken)}"
        name = f"unique_{dataset}_{name}_p{person:02d}.jpg"
        pictures.append(Picture(name, dataset, subject, 4, scene))
    return pictures


def encode_picture(picture: Picture) -> bytes:
    """Draw an image and encode it.

    Parameters
    ----------
    picture : Picture

    Returns
    -------
    bytes
        A file of 1000 x 1000 pixels: PNG with transparency for shapes, otherwise JPEG.
    """
    drawn = _draw(picture).resize((PIXELS, PIXELS), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    if drawn.mode == "RGBA":
        drawn.save(file, "PNG", compress_level=1)
    else:
        drawn.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _draw(picture):
    """An image of 500 x 500 pixels."""
    if picture.kind == "shape":
        return _draw_shape(picture.scene)
    if picture.kind == "gabor":
        return _draw_gabor(picture.scene.seed)
    drawn = draw_scene(picture.scene, DRAWN_PIXELS)
    if picture.kind == "gaudy":
        drawn = np.where(drawn < GREY, 0, 255).astype(np.uint8)
    return Image.fromarray(drawn)


def _draw_shape(scene):
    """The object on a transparent ground: where it looks the same on black and on white."""
    thing, grounds = scene.objects[0], []
    side = DRAWN_PIXELS
    for colour in ("black", "white"):
        canvas = Image.new("RGB", (side, side), colour)
        spot = Spot(thing.x * side, thing.y * side, thing.size * side, thing.flip, thing.tilt)
        paint(canvas, draw_thing(thing.category, thing.rgb, random.Random(thing.seed)), spot)
        grounds.append(np.asarray(canvas))
    opaque = (grounds[0] == grounds[1]).all(axis=2, keepdims=True)
    return Image.fromarray(np.dstack([grounds[0], 255 * opaque]).astype(np.uint8))


def _draw_gabor(seed):
    """A grating in a Gaussian window, somewhere around the middle."""
    rng = np.random.default_rng(seed)
    places = np.linspace(-1, 1, DRAWN_PIXELS)
    right, down = places - rng.uniform(-0.4, 0.4), places[:, None] - rng.uniform(-0.4, 0.4)
    angle = rng.uniform(0, np.pi)
    wave = np.cos(2 * np.pi * rng.uniform(3, 8) * (np.cos(angle) * right + np.sin(angle) * down))
    window = np.exp(-(right**2 + down**2) / 0.18)
    grey = np.rint(GREY + 127 * wave * window).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def see_picture(content: bytes) -> np.ndarray:
    """Read an image as the simulated cortex sees it, which takes it to be as large as NSD's.

    Parameters
    ----------
    content : bytes
        An image file.

    Returns
    -------
    float32 array of shape (3, 85 * 85)
        As `nsdldm.demo.cortex.read_channels`.
    """
    picture = Image.fromarray(decode_picture(content))
    return split_channels(np.asarray(picture.reduce(BLOCK)))

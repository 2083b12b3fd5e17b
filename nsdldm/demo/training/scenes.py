"""Draw the scenes that the demo's networks are trained and tested on."""

from __future__ import annotations

import json
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from nsdldm.demo.captions import write_captions
from nsdldm.demo.drawing import draw_scene
from nsdldm.demo.scenes import BACKGROUNDS, CATEGORIES, Scene, describe_scene
from nsdldm.support.files import create_array, load_array, replacing, save_array
from nsdldm.support.logs import progress

# Ids beyond the release's 73,000, so that no simulated release contains a training scene.
FIRST_NUMBERS = {"train": 100_000, "test": 900_000}
# Drawn larger by this factor and resampled, as the release's pictures are for the autoencoder.
REDUCTION = 2


class Scenes(NamedTuple):
    """Pictures and what they show, n scenes.

    Parameters
    ----------
    pictures : uint8 array of shape (n, pixels, pixels, 3)
    captions : list of n lists of 5 str
    categories : bool array of shape (n, 12)
        Whether the scene shows each of `nsdldm.demo.scenes.CATEGORIES`.
    backgrounds : int64 array of shape (n,)
        Indices into `nsdldm.demo.scenes.BACKGROUNDS`.
    """

    pictures: np.ndarray
    captions: list
    categories: np.ndarray
    backgrounds: np.ndarray


def draw_scenes(folder: Path, split: str, n: int, pixels: int, seed: int, threads: int = 1) -> None:
    """Draw scenes and write them to a folder; existing files are kept.

    Parameters
    ----------
    folder : Path
    split : {"train", "test"}
    n : int
    pixels : int
    seed : int
    threads : int
        Processes that draw.
    """
    folder = folder / split
    if (folder / "backgrounds.npy").exists():
        return
    scenes = [number_scene(seed, split, row) for row in range(n)]
    captions = [write_captions(scene) for scene in scenes]
    with replacing(folder / "captions.json") as part:
        part.write_text(json.dumps(captions), encoding="utf-8")
    shape = (n, pixels, pixels, 3)
    jobs = [(scene, pixels) for scene in scenes]
    with (
        get_context("fork").Pool(threads) as pool,
        create_array(folder / "pictures.npy", shape, np.uint8) as pictures,
    ):
        drawn = pool.imap(_draw, jobs, chunksize=64)
        for index, picture in enumerate(progress(drawn, n, f"{split} scenes")):
            pictures[index] = picture
    shown = [{thing.category for thing in scene.objects} for scene in scenes]
    categories = np.array([[name in names for name in CATEGORIES] for names in shown])
    save_array(folder / "categories.npy", categories)
    # Written last: if it exists, all do.
    backgrounds = np.array([BACKGROUNDS.index(scene.background) for scene in scenes])
    save_array(folder / "backgrounds.npy", backgrounds)


def number_scene(seed: int, split: str, row: int) -> Scene:
    """Invent the scene at a row of a split, counted from 0."""
    return describe_scene(seed, FIRST_NUMBERS[split] + row)


def _draw(job):
    scene, pixels = job
    picture = Image.fromarray(draw_scene(scene, REDUCTION * pixels))
    return np.asarray(picture.resize((pixels, pixels), Image.Resampling.LANCZOS))


def load_scenes(folder: Path, split: str) -> Scenes:
    """Load what `draw_scenes` wrote.

    Parameters
    ----------
    folder : Path
    split : {"train", "test"}

    Returns
    -------
    Scenes
        With the pictures as a memory map.
    """
    folder = folder / split
    return Scenes(
        pictures=load_array(folder / "pictures.npy"),
        captions=json.loads((folder / "captions.json").read_text(encoding="utf-8")),
        categories=np.array(load_array(folder / "categories.npy")),
        backgrounds=np.array(load_array(folder / "backgrounds.npy")),
    )

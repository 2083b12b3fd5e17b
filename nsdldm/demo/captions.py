"""Describe simulated scenes in the few words that the demo's text encoder knows."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from nsdldm.demo.scenes import COLOURS_OF

if TYPE_CHECKING:
    from nsdldm.demo.scenes import Scene

NAMES = {
    "airplane": ("airplane", "plane", "jet"),
    "boat": ("boat", "sailboat"),
    "car": ("car", "automobile"),
    "house": ("house", "home"),
    "cat": ("cat", "kitten"),
    "person": ("person", "man"),
}
PLURALS = {"bus": "buses", "person": "people", "man": "men"}
PLACES = {
    "sky": ("in the sky", "in a blue sky", "up in the clouds", "in a cloudy sky"),
    "sea": ("on the sea", "by the ocean", "on the water", "near the blue sea"),
    "grass": ("on the grass", "in a green field", "in a meadow", "on a lawn"),
    "street": ("on the street", "in the city", "on a city road", "in a town street"),
    "indoor": ("in a room", "indoors", "inside a living room", "in a room with a window"),
    "snow": ("in the snow", "on a snowy field", "on a winter day", "on snowy ground"),
    "night": ("at night", "under the stars", "in the dark night", "under the moon"),
}
OPENINGS = ("", "", "a photo of ", "a picture of ", "there is ")
LINKS = (" and ", " next to ", " near ", " with ")
N_CAPTIONS = 5
# Number of captions that name colours; the others leave them out.
N_COLOURED = 3


def write_captions(scene: Scene) -> list[str]:
    """Write five captions of a scene.

    Parameters
    ----------
    scene : nsdldm.demo.scenes.Scene

    Returns
    -------
    list of 5 str
        Lower case, without a full stop; the first three name colours. They name objects and the
        background, but not positions, sizes or light.
    """
    rng = random.Random(f"captions {scene.seed}")
    return [_write_caption(rng, scene, i < N_COLOURED) for i in range(N_CAPTIONS)]


def _write_caption(rng, scene, coloured):
    categories = [thing.category for thing in scene.objects]
    opening, place = rng.choice(OPENINGS), rng.choice(PLACES[scene.background])
    if len(set(categories)) < len(categories):
        things = "two " + _name_thing(rng, scene.objects[0], coloured, plural=True)
        opening = opening.replace("there is", "there are")
    else:
        names = [_name_thing(rng, thing, coloured) for thing in scene.objects]
        rng.shuffle(names)
        things = rng.choice(LINKS).join(f"{_article(name)} {name}" for name in names)
    return f"{opening}{things} {place}"


def _name_thing(rng, thing, coloured, plural=False):
    """Name an object, mostly by its category, with its colour if the category has several."""
    names = NAMES.get(thing.category, (thing.category,))
    name = rng.choice(names) if rng.random() < 0.4 else names[0]
    if plural:
        name = PLURALS.get(name, name + "s")
    if not coloured or len(COLOURS_OF[thing.category].split()) == 1:
        return name
    if thing.category == "person":
        return f"{name} in {thing.colour}"
    return f"{thing.colour} {name}"


def _article(name):
    return "an" if name[0] in "aeiou" else "a"

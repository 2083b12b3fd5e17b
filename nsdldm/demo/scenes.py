"""Invent the scenes in the simulated release: their objects, positions and light.

A scene is defined here by numbers and names, drawn by `nsdldm.demo.drawing` and described by
`nsdldm.demo.captions`. Captions name the objects, their colour and the background. Light, exact
hue, horizon, positions and sizes vary independently, so pictures contain much that captions do not
tell.
"""

from __future__ import annotations

import colorsys
import random
from dataclasses import dataclass
from typing import NamedTuple

COLOURS = {
    "red": (214, 40, 40),
    "orange": (243, 130, 30),
    "yellow": (246, 206, 50),
    "green": (46, 150, 70),
    "blue": (40, 90, 205),
    "purple": (130, 60, 170),
    "pink": (240, 130, 175),
    "white": (244, 244, 240),
    "black": (38, 36, 40),
    "brown": (130, 80, 42),
    "gray": (140, 140, 146),
}
BACKGROUNDS = ("sky", "sea", "grass", "street", "indoor", "snow", "night")


# A name listed twice is twice as likely.
COLOURS_OF = {
    "airplane": "white red blue yellow gray",
    "boat": "red blue green brown white orange",
    "car": "red blue yellow green white black purple",
    "bus": "red yellow blue green orange",
    "tree": "green green orange yellow",
    "house": "red yellow white blue pink brown",
    "cat": "orange black gray white brown",
    "bird": "red blue yellow white black green",
    "giraffe": "yellow",
    "pizza": "yellow",
    "umbrella": "red yellow blue green pink purple orange",
    "person": "red blue green yellow white purple",
}
BACKGROUNDS_OF = {
    "airplane": "sky sky sea grass night street snow",
    "boat": "sea sea sea night",
    "car": "street street grass snow night",
    "bus": "street street snow night grass",
    "tree": "grass snow street night",
    "house": "grass snow street night",
    "cat": "indoor indoor grass street snow",
    "bird": "sky sky grass snow sea night",
    "giraffe": "grass grass street night",
    "pizza": "indoor indoor grass",
    "umbrella": "street grass snow sea indoor",
    "person": "street grass snow indoor night",
}
CATEGORIES = tuple(COLOURS_OF)


class Build(NamedTuple):
    """Size and placement of the objects of a category.

    Parameters
    ----------
    smallest, largest : float
        Half width, as a fraction of the picture's width.
    height : float
        Half height, as a fraction of half width.
    place : str
        Whether it is on the "ground", in the "air" or "either".
    tilt : float
        Maximum rotation, in radians.
    """

    smallest: float
    largest: float
    height: float
    place: str
    tilt: float


BUILDS = {
    "airplane": Build(0.30, 0.46, 0.66, "air", 0.2),
    "boat": Build(0.24, 0.40, 0.95, "ground", 0.04),
    "car": Build(0.27, 0.44, 0.98, "ground", 0.04),
    "bus": Build(0.28, 0.44, 0.98, "ground", 0.04),
    "tree": Build(0.26, 0.44, 1.0, "ground", 0.04),
    "house": Build(0.26, 0.42, 1.0, "ground", 0.04),
    "cat": Build(0.24, 0.42, 1.0, "ground", 0.04),
    "bird": Build(0.26, 0.42, 0.66, "either", 0.2),
    "giraffe": Build(0.30, 0.46, 1.0, "ground", 0.04),
    "pizza": Build(0.24, 0.40, 1.0, "ground", 0.2),
    "umbrella": Build(0.26, 0.42, 0.95, "either", 0.2),
    "person": Build(0.30, 0.46, 1.0, "ground", 0.04),
}

# Range of the horizon, from the top; indoors it is the edge of the floor, and sky has none.
HORIZONS = {"sky": (0.0, 0.0), "indoor": (0.5, 0.76)}
OUTDOOR_HORIZONS = (0.3, 0.66)

# Light: overall brightness, colour of the light, and brightness from edge to edge.
BRIGHTNESS = (0.62, 1.05)
CAST = 0.1
SLOPE = 0.3


@dataclass(frozen=True)
class Thing:
    """An object in a scene; lengths are fractions of the picture's width.

    Parameters
    ----------
    category : str
        One of `CATEGORIES`.
    colour : str
        The colour as named in captions, one of `COLOURS`.
    rgb : tuple of 3 int
        The colour as painted, before the light.
    x, y : float
        Centre, from the left and from the top.
    size : float
        Half width.
    flip : int
        1, or -1 for the mirror image.
    tilt : float
        Rotation in radians, clockwise unless flipped.
    seed : int
        Determines small details, such as a person's hair.
    """

    category: str
    colour: str
    rgb: tuple
    x: float
    y: float
    size: float
    flip: int
    tilt: float
    seed: int

    @property
    def foot(self) -> float:
        """Lowest point, from the top."""
        return self.y + self.size * BUILDS[self.category].height


@dataclass(frozen=True)
class Scene:
    """The content of a picture.

    Parameters
    ----------
    objects : tuple of Thing
        One or two.
    background : str
        One of `BACKGROUNDS`.
    horizon : float
        From the top, as a fraction of the picture; 0 if there is none.
    gain : tuple of 3 float
        Brightness and colour of the light: factors of red, green and blue.
    slope : tuple of 2 float
        Change of the light from the left to the right edge and from top to bottom, as a fraction of
        its mean.
    seed : int
        Determines the details of the background and the wording of captions.
    """

    objects: tuple
    background: str
    horizon: float
    gain: tuple
    slope: tuple
    seed: int


def describe_scene(seed: int, nsd_id: int) -> Scene:
    """Invent the scene of an image.

    Parameters
    ----------
    seed : int
        Of the whole simulated release.
    nsd_id : int
        0-based id of the image.

    Returns
    -------
    Scene
        Always the same for the same two numbers.
    """
    rng = random.Random(f"scene {seed} {nsd_id}")
    first = rng.choice(CATEGORIES)
    background = rng.choice(BACKGROUNDS_OF[first].split())
    horizon = rng.uniform(*HORIZONS.get(background, OUTDOOR_HORIZONS))
    categories = _choose_categories(rng, first, background)
    return Scene(
        objects=_place_things(rng, categories, background, horizon),
        background=background,
        horizon=horizon,
        gain=_choose_gain(rng),
        slope=(rng.uniform(-SLOPE, SLOPE), rng.uniform(-SLOPE, SLOPE)),
        seed=rng.getrandbits(32),
    )


def _choose_categories(rng, first, background):
    """One object in 80 % of scenes; otherwise two, in a quarter of cases of the same category."""
    if rng.random() < 0.8:
        return [first]
    if rng.random() < 0.25:
        return [first, first]
    others = [name for name in CATEGORIES if background in BACKGROUNDS_OF[name].split()]
    return [first, rng.choice([name for name in others if name != first])]


def _choose_gain(rng):
    """Brightness times the colour of the light."""
    brightness = rng.uniform(*BRIGHTNESS)
    return tuple(brightness * rng.uniform(1 - CAST, 1 + CAST) for _ in range(3))


def _place_things(rng, categories, background, horizon):
    """Objects side by side; two of the same category have the same colour name."""
    alone = len(categories) == 1
    sides = rng.sample([(0.2, 0.36), (0.64, 0.8)], 2)
    colours = {name: rng.choice(COLOURS_OF[name].split()) for name in sorted(set(categories))}
    things = []
    for category, side in zip(categories, sides, strict=False):
        build = BUILDS[category]
        size = rng.uniform(build.smallest, build.largest) * (1 if alone else 0.72)
        margin = max(0.12, 0.75 * size)
        x = rng.uniform(margin, 1 - margin) if alone else rng.uniform(*side)
        things.append(
            Thing(
                category=category,
                colour=colours[category],
                rgb=vary_colour(rng, COLOURS[colours[category]]),
                x=x,
                y=_choose_height(rng, build, size, background, horizon),
                size=size,
                flip=rng.choice((-1, 1)),
                tilt=rng.uniform(-1, 1) * build.tilt,
                seed=rng.getrandbits(32),
            )
        )
    return tuple(things)


def _choose_height(rng, build, size, background, horizon):
    """Centre of an object from the top: in the air, or with its foot on the ground."""
    half = size * build.height
    if background == "sky":
        y = rng.uniform(0.2, 0.8)
    elif build.place == "air" or (build.place == "either" and rng.random() < 0.4):
        y = rng.uniform(0.14, 0.55)
    else:
        y = rng.uniform(max(horizon + 0.08, 0.5), 0.97) - half
    return min(max(y, 0.03 + half), 0.98 - half)


def vary_colour(
    rng: random.Random,
    rgb: tuple[int, int, int],
    hue: float = 0.025,
    value: float = 0.12,
    shift: float = 10,
) -> tuple[int, int, int]:
    """Vary a named colour a little.

    Parameters
    ----------
    rng : random.Random
    rgb : tuple of 3 int
    hue : float
        Maximum change of the hue, as a fraction of the colour circle.
    value : float
        Maximum relative change of brightness.
    shift : float
        Maximum change of a single channel, out of 255.

    Returns
    -------
    tuple of 3 int
    """
    h, s, v = colorsys.rgb_to_hsv(*rgb)
    turned = colorsys.hsv_to_rgb(
        (h + rng.uniform(-hue, hue)) % 1, s, v * rng.uniform(1 - value, 1 + value)
    )
    return tuple(min(max(round(c + rng.uniform(-shift, shift)), 0), 255) for c in turned)

"""The objects of simulated pictures, each as a list of shapes from back to front.

Units: an object extends from about -1 to 1 in width; x points right, y down. Every function takes
the object's colour and a random number generator for small details.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nsdldm.demo.shapes import (
    BLACK,
    GLASS,
    WHITE,
    box,
    disc,
    ellipse,
    line,
    mix,
    polygon,
    shade,
)

if TYPE_CHECKING:
    import random

    from nsdldm.demo.shapes import Shape

TYRE = (30, 30, 34)
HUB = (190, 190, 195)
PORTHOLE = (60, 90, 130)
WOOD = (112, 72, 40)


def draw_thing(category: str, rgb: tuple[int, int, int], rng: random.Random) -> list[Shape]:
    """Draw an object.

    Parameters
    ----------
    category : str
        One of `nsdldm.demo.scenes.CATEGORIES`.
    rgb : tuple of 3 int
    rng : random.Random

    Returns
    -------
    list of nsdldm.demo.shapes.Shape
        From back to front.
    """
    return THINGS[category](rgb, rng)


def _airplane(rgb, rng):
    far, near = shade(rgb, 0.72), shade(rgb, 0.85)
    windows = [disc(-0.4 + i * 0.19, -0.05, 0.05, PORTHOLE) for i in range(6)]
    return [
        polygon([(-0.05, -0.05), (0.12, -0.05), (-0.28, -0.62), (-0.45, -0.62)], far),
        polygon([(-0.98, -0.5), (-0.78, -0.5), (-0.55, -0.08), (-0.85, -0.08)], far),
        ellipse(0, 0, 1, 0.19, rgb),
        polygon([(-1, -0.02), (-0.5, -0.17), (-0.5, 0.1)], rgb),
        polygon([(-0.1, 0.05), (0.18, 0.05), (-0.35, 0.66), (-0.55, 0.66)], near),
        polygon([(-0.95, 0.02), (-0.72, 0.02), (-0.9, 0.22), (-1.02, 0.22)], far),
        *windows,
        polygon([(0.74, -0.13), (0.88, -0.09), (0.93, -0.01), (0.76, -0.02)], PORTHOLE),
    ]


def _boat(rgb, rng):
    # White sails would vanish over a pale hull, which therefore gets red sails.
    pale = max(rgb) - min(rgb) <= 40 and rgb[0] >= 120
    sail = (225, 120, 90) if pale else WHITE
    return [
        line([(0, 0.4), (0, -1)], 0.06, (110, 80, 50)),
        polygon([(0.06, -0.95), (0.06, 0.22), (0.82, 0.22)], sail),
        polygon([(-0.06, -0.78), (-0.06, 0.22), (-0.62, 0.22)], shade(sail, 0.88)),
        polygon([(-1, 0.36), (1, 0.36), (0.68, 0.92), (-0.66, 0.92)], rgb),
        polygon([(-1, 0.36), (1, 0.36), (0.93, 0.5), (-0.92, 0.5)], shade(rgb, 0.7)),
    ]


def _wheels(xs, radius):
    """Tyres and hubs of a car or a bus."""
    return [disc(x, 0.76, r, rgb) for x in xs for r, rgb in ((radius, TYRE), (radius * 0.45, HUB))]


def _car(rgb, rng):
    body = [(-1, 0.34), (-0.9, 0.2), (0.8, 0.2), (1, 0.38), (1, 0.76), (-1, 0.76)]
    return [
        polygon([(-0.62, 0.3), (-0.42, -0.28), (0.28, -0.28), (0.62, 0.3)], rgb),
        polygon([(-0.5, 0.22), (-0.35, -0.18), (-0.06, -0.18), (-0.06, 0.22)], GLASS),
        polygon([(0.02, 0.22), (0.02, -0.18), (0.22, -0.18), (0.46, 0.22)], GLASS),
        polygon(body, rgb),
        box(-1, 0.62, 1, 0.76, shade(rgb, 0.7)),
        *_wheels((-0.56, 0.56), 0.24),
        ellipse(0.93, 0.44, 0.07, 0.08, (255, 240, 150)),
        ellipse(-0.95, 0.44, 0.05, 0.08, (200, 40, 40)),
    ]


def _bus(rgb, rng):
    return [
        box(-1, -0.62, 1, 0.72, rgb),
        box(-1, 0.5, 1, 0.72, shade(rgb, 0.7)),
        box(-0.96, -0.68, 0.94, -0.58, shade(rgb, 0.8)),
        *(box(-0.9 + i * 0.42, -0.4, -0.58 + i * 0.42, 0.05, GLASS) for i in range(4)),
        box(0.76, -0.42, 0.96, 0.62, shade(GLASS, 0.85)),
        box(-1, 0.16, 0.7, 0.26, WHITE),
        *_wheels((-0.58, 0.48), 0.23),
    ]


def _tree(rgb, rng):
    dark = shade(rgb, 0.78)
    return [
        polygon([(-0.12, 1), (-0.08, -0.1), (0.08, -0.1), (0.14, 1)], WOOD),
        ellipse(-0.36, -0.12, 0.4, 0.36, dark),
        ellipse(0.38, -0.1, 0.4, 0.36, dark),
        ellipse(0, -0.2, 0.5, 0.42, dark),
        ellipse(-0.22, -0.48, 0.42, 0.38, rgb),
        ellipse(0.24, -0.46, 0.42, 0.38, rgb),
        ellipse(0, -0.68, 0.36, 0.32, shade(rgb, 1.15)),
    ]


def _house(rgb, rng):
    # A roof that contrasts with the wall.
    red_wall = rgb[0] >= 190 and rgb[1] <= 120
    roof = (90, 90, 105) if red_wall else (150, 60, 45)
    windows = [
        shape
        for x in (-0.52, 0.5)
        for shape in (
            box(x - 0.19, 0.12, x + 0.19, 0.48, WHITE),
            box(x - 0.15, 0.16, x + 0.15, 0.44, GLASS),
            box(x - 0.02, 0.16, x + 0.02, 0.44, WHITE),
        )
    ]
    return [
        box(-0.78, -0.1, 0.78, 1, rgb),
        box(0.42, -0.85, 0.62, -0.3, (120, 70, 60)),
        polygon([(-1, -0.06), (0, -0.95), (1, -0.06)], roof),
        box(-0.16, 0.38, 0.2, 1, (95, 60, 40)),
        disc(0.13, 0.7, 0.03, (240, 210, 90)),
        *windows,
    ]


def _cat(rgb, rng):
    dark, pink = shade(rgb, 0.75), (235, 150, 160)
    whisker = WHITE if sum(rgb) < 260 else (70, 70, 70)
    left_ear = [(-0.46, -0.3), (-0.48, -0.95), (-0.06, -0.6)]
    left_inner_ear = [(-0.38, -0.45), (-0.4, -0.78), (-0.17, -0.6)]
    ears = [
        polygon([(side * x, y) for x, y in ear], colour)
        for ear, colour in ((left_ear, rgb), (left_inner_ear, pink))
        for side in (1, -1)
    ]
    face = [
        shape
        for side in (-1, 1)
        for shape in (
            ellipse(side * 0.19, -0.32, 0.11, 0.12, (225, 225, 90)),
            ellipse(side * 0.19, -0.32, 0.045, 0.11, BLACK),
            line([(side * 0.16, -0.08), (side * 0.62, -0.22)], 0.022, whisker),
            line([(side * 0.16, -0.08), (side * 0.62, -0.02)], 0.022, whisker),
        )
    ]
    return [
        line([(-0.45, 0.82), (-0.8, 0.7), (-0.86, 0.3), (-0.68, 0.06)], 0.13, dark),
        ellipse(0, 0.5, 0.5, 0.52, rgb),
        ellipse(0.02, 0.62, 0.26, 0.36, mix(rgb, (255, 255, 255), 0.45)),
        ellipse(-0.24, 0.94, 0.2, 0.1, dark),
        ellipse(0.24, 0.94, 0.2, 0.1, dark),
        *ears,
        ellipse(0, -0.28, 0.5, 0.42, rgb),
        *face,
        polygon([(-0.07, -0.17), (0.07, -0.17), (0, -0.09)], (220, 110, 120)),
    ]


def _bird(rgb, rng):
    dark = shade(rgb, 0.7)
    beak_and_feet = (245, 165, 30)
    return [
        polygon([(-0.5, 0.05), (-1, -0.15), (-0.98, 0.2)], dark),
        ellipse(-0.02, 0.1, 0.6, 0.34, rgb, -0.12),
        ellipse(0.5, -0.2, 0.27, 0.26, rgb),
        ellipse(0.12, 0.24, 0.36, 0.18, mix(rgb, (255, 255, 255), 0.45), -0.1),
        polygon([(0.15, 0), (-0.3, -0.1), (-0.72, -0.85), (-0.2, -0.68)], dark),
        polygon([(0.72, -0.26), (1.0, -0.14), (0.72, -0.06)], beak_and_feet),
        disc(0.58, -0.26, 0.06, WHITE),
        disc(0.6, -0.26, 0.035, BLACK),
        *(line([(x, 0.4), (x + 0.04, 0.66)], 0.05, beak_and_feet) for x in (-0.05, 0.12)),
    ]


GIRAFFE_SPOTS = (
    *((-0.42, 0.14, 0.1), (-0.2, 0.08, 0.1), (0.02, 0.12, 0.1), (-0.32, 0.32, 0.09)),
    *((-0.08, 0.3, 0.1), (0.16, 0.28, 0.09), (0.24, 0.02, 0.08), (0.32, -0.2, 0.08)),
    *((0.38, -0.42, 0.07), (0.44, -0.6, 0.06), (0.36, 0.1, 0.05)),
)


def _giraffe(rgb, rng):
    brown, hoof = (150, 85, 35), (70, 45, 30)
    legs = ((-0.5, rgb), (-0.32, shade(rgb, 0.85)), (0.1, shade(rgb, 0.85)), (0.28, rgb))
    return [
        *(box(x - 0.06, 0.3, x + 0.06, 1, colour) for x, colour in legs),
        *(box(x - 0.07, 0.93, x + 0.07, 1, hoof) for x, _ in legs),
        line([(-0.56, 0.12), (-0.72, 0.5)], 0.05, brown),
        ellipse(-0.1, 0.2, 0.52, 0.26, rgb),
        polygon([(0.08, 0.28), (0.36, -0.8), (0.56, -0.72), (0.4, 0.3)], rgb),
        ellipse(0.6, -0.82, 0.27, 0.13, rgb, 0.3),
        polygon([(0.4, -0.86), (0.28, -1), (0.5, -0.92)], shade(rgb, 0.8)),
        *(line([(x, -0.88), (x - 0.02, -1.06)], 0.045, brown) for x in (0.46, 0.54)),
        disc(0.62, -0.86, 0.04, BLACK),
        ellipse(0.83, -0.74, 0.06, 0.05, shade(rgb, 0.6)),
        *(ellipse(x, y, size, size * 0.85, brown) for x, y, size in GIRAFFE_SPOTS),
    ]


def _around(n, radius, start=0.0):
    """Evenly spaced points of a circle, with their angles."""
    angles = [start + 2 * math.pi * i / n for i in range(n)]
    return [(radius * math.cos(a), radius * math.sin(a), a) for a in angles]


def _pizza(rgb, rng):
    sausage, leaf, cut = (190, 40, 35), (60, 130, 50), (175, 105, 45)
    return [
        ellipse(0, 0.06, 1, 0.97, (120, 80, 40)),
        ellipse(0, 0, 1, 0.96, (214, 150, 70)),
        ellipse(0, 0, 0.84, 0.8, (205, 60, 35)),
        ellipse(0, 0, 0.78, 0.74, (250, 214, 110)),
        *(ellipse(x, y * 0.94, 0.16, 0.15, sausage) for x, y, _ in _around(6, 0.5, 0.3)),
        ellipse(0.02, 0.03, 0.15, 0.14, sausage),
        *(ellipse(x, y, 0.07, 0.05, leaf, a) for x, y, a in _around(5, 0.28, 0.8)),
        *(line([(-x, -y), (x, y)], 0.03, cut) for x, y, _ in _around(6, 0.94)[:3]),
    ]


def _arc(left, right, base, rise, n=8):
    """Half an ellipse over the segment from `left` to `right`, from left to right."""
    middle, reach = (left + right) / 2, (right - left) / 2
    angles = [math.pi * (1 - i / n) for i in range(n + 1)]
    return [(middle + reach * math.cos(a), base - rise * math.sin(a)) for a in angles]


def _umbrella(rgb, rng):
    base = -0.05
    scallops = [_arc(x, x + 0.5, base, 0.12) for x in (-1, -0.5, 0, 0.5)]
    hem = [point for scallop in scallops for point in scallop]
    dome = _arc(-1, 1, base, 0.82, n=24)
    folds = [polygon([(0, base - 0.82), *scallop], shade(rgb, 0.75)) for scallop in scallops[1::2]]
    return [
        line([(0, -0.95), (0, 0.8), (0.1, 0.95), (0.26, 0.92), (0.3, 0.76)], 0.08, (90, 60, 40)),
        polygon(dome + hem[::-1], rgb),
        *folds,
    ]


SKIN = ((240, 200, 165), (205, 150, 110), (140, 92, 62))
TROUSERS = ((45, 60, 110), (70, 70, 78), (100, 75, 50))
HAIR = ((50, 35, 25), (30, 26, 26), (170, 120, 50))


def _person(rgb, rng):
    skin, trousers, hair = rng.choice(SKIN), rng.choice(TROUSERS), rng.choice(HAIR)
    return [
        polygon([(-0.24, 0.2), (-0.02, 0.2), (-0.06, 0.98), (-0.26, 0.98)], trousers),
        polygon([(0.02, 0.2), (0.24, 0.2), (0.26, 0.98), (0.06, 0.98)], trousers),
        ellipse(-0.18, 0.97, 0.14, 0.06, TYRE),
        ellipse(0.18, 0.97, 0.14, 0.06, TYRE),
        line([(-0.26, -0.38), (-0.44, 0.14)], 0.14, skin),
        line([(0.26, -0.38), (0.5, 0.02)], 0.14, skin),
        polygon([(-0.3, -0.46), (0.3, -0.46), (0.25, 0.26), (-0.25, 0.26)], rgb),
        line([(-0.26, -0.4), (-0.36, -0.12)], 0.16, rgb),
        line([(0.26, -0.4), (0.38, -0.16)], 0.16, rgb),
        box(-0.07, -0.58, 0.07, -0.42, skin),
        ellipse(0, -0.76, 0.23, 0.25, hair),
        ellipse(0.03, -0.71, 0.19, 0.21, skin),
        disc(0.1, -0.73, 0.03, BLACK),
        disc(-0.03, -0.73, 0.03, BLACK),
    ]


THINGS = {
    "airplane": _airplane,
    "boat": _boat,
    "car": _car,
    "bus": _bus,
    "tree": _tree,
    "house": _house,
    "cat": _cat,
    "bird": _bird,
    "giraffe": _giraffe,
    "pizza": _pizza,
    "umbrella": _umbrella,
    "person": _person,
}

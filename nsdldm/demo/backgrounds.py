"""Backgrounds of simulated pictures, drawn from back to front.

Units: fractions of the picture; x points right, y down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsdldm.demo.scenes import vary_colour
from nsdldm.demo.shapes import WHITE, bands, box, disc, ellipse, line, mix, polygon, shade

if TYPE_CHECKING:
    import random

    from nsdldm.demo.shapes import Shape

CLOUD = (246, 249, 252)
WALLS = ((236, 220, 190), (200, 220, 205), (222, 190, 180), (190, 205, 225), (225, 215, 230))
FLOORS = ((165, 115, 70), (140, 100, 75), (120, 110, 110), (180, 140, 100))
FACADES = ((150, 120, 110), (125, 135, 150), (180, 165, 140), (110, 105, 120))
FLOWERS = ((250, 240, 120), (250, 250, 250), (240, 130, 150))
SEA_SKIES = (
    ((110, 175, 235), (205, 230, 248)),
    ((250, 150, 90), (255, 215, 150)),
    ((130, 190, 240), (225, 238, 246)),
)


def draw_background(background: str, horizon: float, rng: random.Random) -> list[Shape]:
    """Draw a background without objects.

    Parameters
    ----------
    background : str
        One of `nsdldm.demo.scenes.BACKGROUNDS`.
    horizon : float
        From the top.
    rng : random.Random
        Decides the details.

    Returns
    -------
    list of nsdldm.demo.shapes.Shape
        From back to front, covering the whole picture.
    """
    return PLACES[background](horizon, rng)


def _sky(horizon, rng):
    shapes = bands(0, 1, vary_colour(rng, (70, 140, 225)), vary_colour(rng, (175, 215, 248)))
    for _ in range(rng.randint(1, 4)):
        shapes += _cloud(rng, (0.05, 0.95), (0.06, 0.13))
    return shapes


def _cloud(rng, heights, sizes):
    x, y, size = rng.random(), rng.uniform(*heights), rng.uniform(*sizes)
    puffs = ((-1, 0.15, 0.55), (0, -0.1, 0.8), (1, 0.12, 0.6), (0.5, 0.25, 0.6), (-0.5, 0.25, 0.6))
    return [
        ellipse(x + dx * size, y + dy * size, radius * size, 0.7 * radius * size, CLOUD)
        for dx, dy, radius in puffs
    ]


def _day(rng, horizon):
    """Blue above the horizon."""
    return bands(0, horizon, vary_colour(rng, (115, 180, 240)), vary_colour(rng, (208, 232, 248)))


def _ground(horizon, rgb, factor):
    """From the horizon down, darker towards the viewer."""
    return bands(horizon, 1, rgb, shade(rgb, factor))


def _sea(horizon, rng):
    above, below = rng.choice(SEA_SKIES)
    shapes = bands(0, horizon, vary_colour(rng, above), vary_colour(rng, below))
    if rng.random() < 0.5:
        sun = rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.25), rng.uniform(0.05, 0.09)
        shapes.append(disc(*sun, (255, 236, 140)))
    water = vary_colour(rng, (28, 105, 175))
    shapes += _ground(horizon, water, 0.72)
    for _ in range(6):
        x, y = rng.random(), rng.uniform(horizon + 0.03, 1)
        wave = [(x, y), (x + rng.uniform(0.05, 0.16), y)]
        shapes.append(line(wave, 0.016, mix(water, (255, 255, 255), 0.35)))
    return shapes


def _grass(horizon, rng):
    shapes = _day(rng, horizon)
    if rng.random() < 0.5:
        shapes += _cloud(rng, (0.08, 0.22), (0.05, 0.09))
    meadow = vary_colour(rng, (95, 175, 70))
    for _ in range(2):
        hill = rng.random(), horizon, rng.uniform(0.3, 0.6), rng.uniform(0.08, 0.2)
        shapes.append(ellipse(*hill, shade(meadow, 0.78)))
    shapes += _ground(horizon, meadow, 0.74)
    for _ in range(6):
        x, y = rng.random(), rng.uniform(horizon + 0.05, 1)
        shapes.append(disc(x, y, 0.018, rng.choice(FLOWERS)))
    return shapes


def _street(horizon, rng):
    pavement = horizon + 0.06
    shapes = _day(rng, horizon)
    left = 0.0
    while left < 1:
        width = rng.uniform(0.12, 0.26)
        shapes += _building(rng, left, width, horizon)
        left += width
    shapes.append(box(0, horizon, 1, pavement, (176, 172, 168)))
    shapes += _ground(pavement, vary_colour(rng, (98, 98, 106)), 0.8)
    stripe = pavement + (1 - horizon) * rng.uniform(0.35, 0.6)
    for x in (-0.22, 0, 0.22, 0.44, 0.66, 0.88):
        shapes.append(box(x, stripe, x + 0.12, stripe + 0.025, (240, 236, 220)))
    return shapes


def _building(rng, left, width, horizon):
    """A facade with rows of lit windows, its foot on the horizon."""
    top = horizon - rng.uniform(0.08, 0.3)
    shapes = [box(left, top, left + width, horizon, vary_colour(rng, rng.choice(FACADES)))]
    rows, columns = int((horizon - top) / 0.1), int((width - 0.02) / 0.1)
    for row in range(rows):
        for column in range(columns):
            x, y = left + 0.03 + 0.1 * column, top + 0.03 + 0.1 * row
            shapes.append(box(x, y, x + 0.05, y + 0.05, (232, 220, 160)))
    return shapes


def _indoor(horizon, rng):
    wall, floor = vary_colour(rng, rng.choice(WALLS)), vary_colour(rng, rng.choice(FLOORS))
    boards = [horizon + (1 - horizon) * i / 4 for i in (1, 2, 3)]
    return [
        *bands(0, horizon, wall, shade(wall, 0.9)),
        box(0, horizon, 1, 1, floor),
        box(0, horizon - 0.025, 1, horizon, WHITE),
        *(line([(0, y), (1, y)], 0.008, shade(floor, 0.85)) for y in boards),
        *_window(rng),
    ]


def _window(rng):
    x, y = rng.uniform(0.02, 0.62), rng.uniform(0.06, 0.16)
    width, height = rng.uniform(0.24, 0.34), rng.uniform(0.24, 0.34)
    right, bottom = x + width, y + height
    across, down = x + width / 2, y + height / 2
    return [
        box(x, y, right, bottom, WHITE),
        box(x + 0.02, y + 0.02, right - 0.02, bottom - 0.02, vary_colour(rng, (150, 205, 240))),
        box(across - 0.008, y, across + 0.008, bottom, WHITE),
        box(x, down - 0.008, right, down + 0.008, WHITE),
    ]


def _snow(horizon, rng):
    above, below = vary_colour(rng, (160, 185, 212)), vary_colour(rng, (226, 234, 242))
    shapes = bands(0, horizon, above, below)
    for _ in range(rng.randint(2, 4)):
        shapes += _fir(rng.random(), rng.uniform(0.14, 0.28), horizon)
    field, shadow = (250, 252, 255), (214, 226, 240)
    shapes += bands(horizon, 1, vary_colour(rng, field), vary_colour(rng, shadow))
    shapes += [disc(rng.random(), rng.random(), 0.015, (255, 255, 255)) for _ in range(8)]
    return shapes


def _fir(x, height, horizon):
    """A fir, or a far mountain, with a white top."""
    top, snowline = horizon - height, horizon - 0.6 * height
    foot = horizon + 0.01
    return [
        polygon([(x - 0.4 * height, foot), (x, top), (x + 0.4 * height, foot)], (70, 110, 100)),
        polygon([(x - 0.16 * height, snowline), (x, top), (x + 0.16 * height, snowline)], WHITE),
    ]


def _night(horizon, rng):
    shapes = bands(0, horizon, vary_colour(rng, (12, 14, 42)), vary_colour(rng, (48, 46, 98)))
    for _ in range(10):
        star = rng.random(), rng.uniform(0, horizon), rng.uniform(0.008, 0.014)
        shapes.append(disc(*star, (250, 248, 220)))
    moon = rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.2), rng.uniform(0.05, 0.085)
    shapes.append(disc(*moon, (250, 244, 200)))
    shapes += _ground(horizon, vary_colour(rng, (34, 52, 54)), 0.65)
    return shapes


PLACES = {
    "sky": _sky,
    "sea": _sea,
    "grass": _grass,
    "street": _street,
    "indoor": _indoor,
    "snow": _snow,
    "night": _night,
}

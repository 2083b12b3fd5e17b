"""Draw the pictures of a simulated NSD-synthetic session.

As in the release, there are 71 kinds with four pictures each, on a grey screen and in linear light:
stored values are proportional to luminance. Scene pictures and patterns fill the central square;
words stand at five places along the whole width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

HEIGHT, WIDTH = 714, 1360
EXEMPLARS = 4
GREY = 0.5
CONTRASTS, COHERENCES = (100, 50, 10, 6, 4), (75, 50, 25, 0)
WORDS = {
    4: ("lamp", "fork", "nest", "coin"),
    6: ("garden", "silver", "window", "candle"),
}
# Centres of words from the left, and the height of letters, in pixels. Those of the first and last
# place lie outside the central square.
PLACES, LETTERS = (160, 480, 680, 880, 1200), 88
# Kinds of gratings; cycles, and those around and along the radius of mixtures.
SPIRALS, FREQUENCIES = "ABCD", (6, 9, 14, 20, 30, 44)
MIXTURES = ((6, 12), (12, 6), (12, 24), (24, 12))
HUES = 16
# Sides of the squares of white noise, in pixels.
FINE, COARSE = 3, 51
# Standard deviation of noise, and amplitude of colours, relative to the mean luminance.
NOISE, SATURATION = 0.44, 0.5
# Luminance of red, green and blue, relative to white.
LUMINANCE = (0.2126, 0.7152, 0.0722)
# Share of pixels that a line drawing blackens.
INK = 0.06
# Targets of NSD-Imagery: pictures and their bars, in pixels, and the grey of displays.
TARGET_PIXELS, BAR_LENGTH, BAR_WIDTH, DISPLAY_GREY = 714, 450, 43, 128
# Cycles per pixel above which gratings are left out.
FINEST = 0.2


class Kind(NamedTuple):
    """Four pictures of a kind.

    Parameters
    ----------
    name : str
        Of the subclass.
    group : str
        The class.
    content : float
        How much of the content of a scene they show, 0 if they show none.
    """

    name: str
    group: str
    content: float = 0.0


KINDS = (
    *(Kind(name, "Noise") for name in ("whitenoise", "blocknoise", "pinknoise")),
    Kind("natscene", "Natural scenes", 1.0),
    Kind("upsidedown", "Manipulated scenes", 0.6),
    Kind("mooney", "Manipulated scenes", 0.4),
    Kind("linedrawing", "Manipulated scenes", 0.6),
    *(Kind(f"contrast{c}", "Contrast modulation", c / 100) for c in CONTRASTS),
    *(Kind(f"coherence{c}", "Phase-coherence modulation", c / 100) for c in COHERENCES),
    *(Kind(f"word{n}_pos{p + 1}", "Single words") for n in WORDS for p in range(len(PLACES))),
    *(
        Kind(f"spiral_{spiral}_sf{number + 1}", "Spiral gratings")
        for spiral in SPIRALS
        for number in range(len(FREQUENCIES))
    ),
    *(Kind(f"spiral_E_sf{number + 1}", "Spiral gratings") for number in range(len(MIXTURES))),
    Kind("chromatic_grey", "Chromatic noise"),
    *(Kind(f"chromatic_hue{hue + 1:02d}", "Chromatic noise") for hue in range(HUES)),
)


def describe_pictures() -> pd.DataFrame:
    """Tabulate the pictures in their order.

    Returns
    -------
    DataFrame
        The columns of ``nsdsyntheticimageinformation.csv``, a row per picture; numbers count from
        1.
    """
    groups = list(dict.fromkeys(kind.group for kind in KINDS))
    rows = []
    for number, kind in enumerate(KINDS):
        for exemplar in range(EXEMPLARS):
            rows.append(
                {
                    "Image number": len(rows) + 1,
                    "Image": f"{kind.name}_{exemplar + 1}",
                    "Image subclass number": number + 1,
                    "Image subclass": kind.name,
                    "Image class number": groups.index(kind.group) + 1,
                    "Image class": kind.group,
                }
            )
    return pd.DataFrame(rows)


def draw_picture(
    number: int,
    scenes: list[np.ndarray],
    seed: int,
    luminance: tuple[float, float, float] = LUMINANCE,
) -> np.ndarray:
    """Draw a picture.

    Parameters
    ----------
    number : int
        Row of `describe_pictures`.
    scenes : list of 4 uint8 arrays of shape (714, 714, 3)
        The natural scenes, as they look on a display.
    seed : int
        Of noise.
    luminance : tuple of 3 float
        Luminance of red, green and blue to the person for whom colours are isoluminant.

    Returns
    -------
    uint8 array of shape (714, 1360, 3)
        Rows, columns and RGB, proportional to luminance.
    """
    kind, exemplar = KINDS[number // EXEMPLARS], number % EXEMPLARS
    rng = np.random.default_rng([seed, number])
    if kind.group == "Single words":
        return _finish(_draw_word(kind.name, exemplar))
    if kind.group == "Noise":
        square = _draw_noise(kind.name, rng)
    elif kind.group == "Spiral gratings":
        square = _draw_spiral(kind.name, exemplar)
    elif kind.group == "Chromatic noise":
        square = _draw_colours(kind.name, rng, luminance)
    else:
        square = _change_scene(kind.name, (scenes[exemplar] / np.float32(255)) ** 2, rng)
    screen = np.full((HEIGHT, WIDTH, 3), GREY, np.float32)
    left = (WIDTH - HEIGHT) // 2
    screen[:, left : left + HEIGHT] = square if square.ndim == 3 else square[..., None]
    return _finish(screen)


def _finish(screen):
    """Whole numbers from 0 to 255."""
    return np.rint(255 * np.clip(screen, 0, 1)).astype(np.uint8)


def _enlarge(cells, size):
    """The top left of a grid of cells of some pixels each, as large as the square."""
    return cells.repeat(size, 0).repeat(size, 1)[:HEIGHT, :HEIGHT]


def _draw_noise(name, rng):
    """White noise of small or large squares, or pink noise."""
    if name == "pinknoise":
        return GREY * (1 + NOISE * _draw_pink(rng))
    size = {"whitenoise": FINE, "blocknoise": COARSE}[name]
    n = -(-HEIGHT // size)
    return _enlarge(GREY * (1 + NOISE * rng.standard_normal((n, n))), size)


def _draw_pink(rng):
    """Noise whose amplitude falls with frequency: mean 0, standard deviation 1."""
    n = -(-HEIGHT // FINE)
    frequency = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n))
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((n, n))) / frequency, (n, n))
    return _enlarge(noise / noise.std(), FINE)


def _change_scene(name, scene, rng):
    """A scene as it is, or turned, simplified or weakened; luminance from 0 to 1."""
    if name == "natscene":
        return scene
    if name == "upsidedown":
        return scene[::-1, ::-1]
    if name == "mooney":
        smooth = ndimage.gaussian_filter(scene @ np.float32(LUMINANCE), 8)
        return (smooth > np.median(smooth)).astype(np.float32)
    if name == "linedrawing":
        return _draw_lines(scene)
    share = int(name.removeprefix("contrast").removeprefix("coherence")) / 100
    if name.startswith("contrast"):
        return GREY + share * (scene - GREY)
    return _scramble(scene, share, rng)


def _draw_lines(scene):
    """Black lines along the edges of a scene, on white."""
    edges = sum(
        ndimage.gaussian_gradient_magnitude(np.sqrt(scene[..., colour]), 2.5) for colour in range(3)
    )
    return (edges <= np.quantile(edges, 1 - INK)).astype(np.float32)


def _scramble(scene, share, rng):
    """Mix a scene with its own spectrum in random phases, so that their contrast is that of it."""
    mean = scene.mean(axis=(0, 1))
    # Phases of real noise, the same for all colours, so that these stay together.
    phases = np.angle(np.fft.rfft2(rng.standard_normal(scene.shape[:2])))
    spectrum = np.fft.rfft2(scene - mean, axes=(0, 1)) * np.exp(1j * phases)[..., None]
    scrambled = np.fft.irfft2(spectrum, scene.shape[:2], axes=(0, 1))
    return mean + share * (scene - mean) + np.sqrt(1 - share**2) * scrambled


def _draw_word(name, exemplar):
    """A white word on the whole screen."""
    length, place = (int(part[-1]) for part in name.split("_"))
    image = Image.fromarray(np.full((HEIGHT, WIDTH), round(255 * GREY), np.uint8))
    place = (PLACES[place - 1], HEIGHT / 2)
    font = ImageFont.load_default(LETTERS)
    ImageDraw.Draw(image).text(place, WORDS[length][exemplar], 255, font, anchor="mm")
    return np.asarray(image)[..., None].repeat(3, axis=2) / np.float32(255)


def _find_frequencies(name):
    """Cycles around the centre, and along the radius, of spiral gratings."""
    _, spiral, number = name.split("_")
    number = int(number[2:]) - 1
    if spiral == "E":
        return MIXTURES[number]
    cycles = FREQUENCIES[number]
    diagonal = round(cycles / np.sqrt(2))
    return {
        "A": (cycles, 0),
        "B": (0, cycles),
        "C": (diagonal, diagonal),
        "D": (diagonal, -diagonal),
    }[spiral]


def _draw_spiral(name, exemplar):
    """A grating in log-polar coordinates, left out where it is too fine, in one of four phases."""
    around, along = _find_frequencies(name)
    offsets = np.arange(HEIGHT) - (HEIGHT - 1) / 2
    radius = np.hypot(offsets, offsets[:, None])
    angle = np.arctan2(-offsets[:, None], offsets)
    phase = around * angle + along * np.log(radius) + exemplar * np.pi / 2
    inner = np.hypot(around, along) / (2 * np.pi * FINEST)
    shown = np.clip(radius - inner, 0, 1) * np.clip(HEIGHT / 2 - radius, 0, 1)
    return GREY * (1 + shown * np.cos(phase))


def _draw_colours(name, rng, luminance):
    """Pink noise from grey to a hue of the same luminance, or of luminance."""
    pink = _draw_pink(rng)
    if name == "chromatic_grey":
        return GREY * (1 + NOISE * pink)
    hue = 2 * np.pi * (int(name[-2:]) - 1) / HUES
    amounts = np.clip(0.5 + 0.35 * pink, 0, 1)
    return GREY * (1 + SATURATION * amounts[..., None] * find_hue(hue, luminance))


def find_hue(angle: float, luminance: tuple[float, float, float]) -> np.ndarray:
    """Find a direction in which colours change but luminance does not.

    Parameters
    ----------
    angle : float
        Hue in radians.
    luminance : tuple of 3 float
        Luminance of red, green and blue to a person.

    Returns
    -------
    float array of shape (3,)
        Change of red, green and blue, at most 1.
    """
    weights = np.asarray(luminance) / np.linalg.norm(luminance)
    red = np.array([1.0, 0, 0]) - weights[0] * weights
    red /= np.linalg.norm(red)
    direction = np.cos(angle) * red + np.sin(angle) * np.cross(weights, red)
    return direction / np.abs(direction).max()


def draw_bars(angles: tuple[float, ...]) -> np.ndarray:
    """Draw a target of NSD-Imagery: black bars through the centre, on grey.

    Parameters
    ----------
    angles : tuple of float
        Of each bar, in degrees from the horizontal, anticlockwise.

    Returns
    -------
    uint8 array of shape (714, 714, 3)
        As it looks on a display.
    """
    offsets = np.arange(TARGET_PIXELS) - (TARGET_PIXELS - 1) / 2
    covered = np.zeros((TARGET_PIXELS, TARGET_PIXELS))
    for angle in np.deg2rad(angles):
        along = np.abs(np.cos(angle) * offsets - np.sin(angle) * offsets[:, None])
        across = np.abs(np.cos(angle) * offsets[:, None] + np.sin(angle) * offsets)
        # Edges are one pixel wide.
        inside = np.clip((BAR_LENGTH + 1) / 2 - along, 0, 1)
        covered = np.maximum(covered, inside * np.clip((BAR_WIDTH + 1) / 2 - across, 0, 1))
    grey = np.rint(DISPLAY_GREY * (1 - covered)).astype(np.uint8)
    return grey[..., None].repeat(3, axis=2)

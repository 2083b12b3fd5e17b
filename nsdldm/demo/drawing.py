"""Draw the scenes of the simulated release."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from nsdldm.demo.backgrounds import draw_background
from nsdldm.demo.scenes import BUILDS
from nsdldm.demo.shapes import Spot, paint, shade
from nsdldm.demo.things import draw_thing
from nsdldm.nsd.layout import IMAGE_PIXELS

if TYPE_CHECKING:
    from nsdldm.demo.scenes import Scene

# Draw larger by this factor, then average, since PIL draws hard edges.
SUPERSAMPLING = 2
# Remaining brightness in a shadow.
SHADOW = 0.78


def draw_scene(scene: Scene, pixels: int = IMAGE_PIXELS) -> np.ndarray:
    """Draw a scene.

    Parameters
    ----------
    scene : nsdldm.demo.scenes.Scene
    pixels : int
        Width and height of the picture.

    Returns
    -------
    uint8 array of shape (pixels, pixels, 3)
        Rows, columns, RGB; the same for the same scene.
    """
    side = pixels * SUPERSAMPLING
    canvas = Image.new("RGB", (side, side))
    background = draw_background(scene.background, scene.horizon, random.Random(scene.seed))
    paint(canvas, background, Spot(0, 0, side))
    # Nearer objects are in front.
    for thing in sorted(scene.objects, key=lambda thing: thing.foot):
        _paint_thing(canvas, scene, thing)
    return _light(np.asarray(canvas.reduce(SUPERSAMPLING)), scene.gain, scene.slope)


def _paint_thing(canvas, scene, thing):
    """Paint an object over its shadow."""
    side = canvas.width
    on_ground = BUILDS[thing.category].place != "air" and scene.background != "sky"
    if on_ground and thing.foot > scene.horizon:
        _cast_shadow(canvas, thing)
    rgb = shade(thing.rgb, 0.9) if scene.background == "night" else thing.rgb
    spot = Spot(thing.x * side, thing.y * side, thing.size * side, thing.flip, thing.tilt)
    paint(canvas, draw_thing(thing.category, rgb, random.Random(thing.seed)), spot)


def _cast_shadow(canvas, thing):
    """Darken what is under an object's foot."""
    side = canvas.width
    width, height = 0.8 * thing.size, 0.012 + 0.05 * thing.size
    left, top = round((thing.x - width) * side), round((thing.foot - height) * side)
    right, bottom = round((thing.x + width) * side), round((thing.foot + height) * side)
    area = left, top, right, bottom
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).ellipse((0, 0, right - left - 1, bottom - top - 1), fill=255)
    canvas.paste(canvas.crop(area).point(lambda value: SHADOW * value), area, mask)


def _light(picture, gain, slope):
    """Cast light of a colour on a picture, stronger towards one side."""
    pixels = len(picture)
    offsets = np.linspace(-0.5, 0.5, pixels, dtype=np.float32)
    gain = np.array(gain, dtype=np.float32)
    # Interleave colours within rows: numpy is slow with an innermost axis of three.
    middle = np.outer(1 + slope[0] * offsets, gain).ravel()
    change = np.tile(slope[1] * gain, pixels)
    lit = np.outer(offsets, change)
    lit += middle
    lit *= picture.reshape(pixels, -1)
    lit += 0.5
    return np.minimum(lit, 255, out=lit).astype(np.uint8).reshape(picture.shape)

"""The true depth of simulated pictures.

Depth is relative and inverse, as networks estimate it from one picture: 0 is infinitely far, 1 is
the ground at the lower edge.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from nsdldm.demo.drawing import SUPERSAMPLING
from nsdldm.demo.scenes import BUILDS
from nsdldm.demo.shapes import Spot, paint
from nsdldm.demo.things import draw_thing
from nsdldm.nsd.layout import IMAGE_PIXELS

if TYPE_CHECKING:
    from nsdldm.demo.scenes import Scene

# Inverse depth at the edge of the floor, and of the wall above it; outdoors it is 0.
WALL = 0.25
# Inverse depth of the largest thing of its category in the air, where only size tells distance.
AIR = 0.5


def draw_depth(scene: Scene, pixels: int = IMAGE_PIXELS) -> np.ndarray:
    """Draw how near each pixel of a scene is.

    The ground is a plane, so its inverse depth rises evenly from the horizon to the lower edge;
    sky, and all that stands on the horizon, is infinitely far. A thing is as near as the ground
    under its foot, or in the air the nearer the larger it is for its category, and never farther
    than what it hides.

    Parameters
    ----------
    scene : nsdldm.demo.scenes.Scene
    pixels : int
        Width and height of the map.

    Returns
    -------
    float32 array of shape (pixels, pixels)
        Rows and columns as in `nsdldm.demo.drawing.draw_scene`; from 0 to 1.
    """
    centres = (np.arange(pixels) + 0.5) / pixels
    depth = np.repeat(_find_ground(scene, centres)[:, None], pixels, axis=1)
    # In the order of painting.
    for thing in sorted(scene.objects, key=lambda thing: thing.foot):
        covered = _find_pixels(thing, pixels)
        depth[covered] = max(_find_thing(scene, thing), depth[covered].max(initial=0))
    return depth.astype(np.float32)


def _find_ground(scene, heights):
    """Inverse depth of the background at heights from the top."""
    far = WALL if scene.background == "indoor" else 0.0
    if scene.background == "sky":
        return np.zeros_like(heights)
    share = (heights - scene.horizon) / (1 - scene.horizon)
    return far + (1 - far) * np.clip(share, 0, 1)


def _find_thing(scene, thing):
    """Inverse depth of a thing, which stands where `draw_scene` paints its shadow."""
    build = BUILDS[thing.category]
    if build.place != "air" and scene.background != "sky" and thing.foot > scene.horizon:
        return float(_find_ground(scene, np.array(thing.foot)))
    return AIR * thing.size / build.largest


def _find_pixels(thing, pixels):
    """Pixels of which a thing covers at least half."""
    side = pixels * SUPERSAMPLING
    mask = Image.new("L", (side, side))
    shapes = draw_thing(thing.category, thing.rgb, random.Random(thing.seed))
    spot = Spot(thing.x * side, thing.y * side, thing.size * side, thing.flip, thing.tilt)
    paint(mask, [shape._replace(rgb=255) for shape in shapes], spot)
    return np.asarray(mask.reduce(SUPERSAMPLING)) >= 128

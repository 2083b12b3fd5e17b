"""The few shapes that simulated pictures are made of, and how they are painted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import ImageDraw

if TYPE_CHECKING:
    from PIL import Image

BLACK = (38, 36, 42)
WHITE = (248, 248, 244)
GLASS = (170, 214, 235)

_ANGLES = np.linspace(0, 2 * np.pi, 36, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


class Shape(NamedTuple):
    """A filled polygon, or a line if `width` is not zero.

    Parameters
    ----------
    points : float array of shape (n, 2)
        x to the right and y down, in units of the object that the shape belongs to.
    rgb : tuple of 3 int
    width : float
        Of the line, in the same units.
    """

    points: np.ndarray
    rgb: tuple
    width: float = 0.0


class Spot(NamedTuple):
    """Placement of shapes on a canvas: centre and unit length in pixels, mirroring and rotation."""

    x: float
    y: float
    unit: float
    flip: int = 1
    tilt: float = 0.0


def polygon(points: Iterable[tuple[float, float]], rgb: tuple[int, int, int]) -> Shape:
    """Fill a polygon given as (x, y) pairs."""
    return Shape(np.array(points, dtype=float), rgb)


def box(left: float, top: float, right: float, bottom: float, rgb: tuple[int, int, int]) -> Shape:
    """Fill a rectangle from (left, top) to (right, bottom) with a colour, rgb."""
    return polygon([(left, top), (right, top), (right, bottom), (left, bottom)], rgb)


def ellipse(
    x: float, y: float, width: float, height: float, rgb: tuple[int, int, int], turn: float = 0.0
) -> Shape:
    """Fill an ellipse around (x, y) with half axes width and height, rotated by `turn` radians,
    with a colour, rgb."""
    points = _CIRCLE * (width, height)
    if turn:
        points = points @ _rotation(turn)
    return Shape(points + np.array([x, y]), rgb)


def disc(x: float, y: float, radius: float, rgb: tuple[int, int, int]) -> Shape:
    """Fill a circle around (x, y) of this radius with a colour, rgb."""
    return ellipse(x, y, radius, radius, rgb)


def line(points: Iterable[tuple[float, float]], width: float, rgb: tuple[int, int, int]) -> Shape:
    """Draw a line through (x, y) pairs."""
    return Shape(np.array(points, dtype=float), rgb, width)


def bands(
    top: float, bottom: float, above: tuple[int, int, int], below: tuple[int, int, int]
) -> list[Shape]:
    """Fill the whole width from top to bottom with colours that change evenly from the one above to
    the one below."""
    n = 1 + max(abs(a - b) for a, b in zip(above, below, strict=True))
    edges = [top + (bottom - top) * i / n for i in range(n + 1)]
    return [
        box(0, edges[i], 1, edges[i + 1], mix(above, below, i / max(n - 1, 1))) for i in range(n)
    ]


def shade(rgb: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    """Darken (`factor` below 1) or lighten a colour."""
    return tuple(min(max(int(channel * factor), 0), 255) for channel in rgb)


def mix(
    rgb: tuple[int, int, int], other: tuple[int, int, int], share: float
) -> tuple[int, int, int]:
    """Blend a colour with a share of another."""
    return tuple(int(a + (b - a) * share) for a, b in zip(rgb, other, strict=True))


def paint(canvas: Image.Image, shapes: Iterable[Shape], spot: Spot) -> None:
    """Paint shapes in order.

    Parameters
    ----------
    canvas : PIL.Image.Image
        RGB, changed in place.
    shapes : iterable of Shape
    spot : Spot
    """
    draw = ImageDraw.Draw(canvas)
    matrix = _rotation(spot.tilt) * spot.unit * (spot.flip, 1)
    for shape in shapes:
        points = (shape.points @ matrix + (spot.x, spot.y)).ravel().tolist()
        if shape.width:
            width = max(2, round(shape.width * spot.unit))
            draw.line(points, fill=shape.rgb, width=width, joint="curve")
        else:
            draw.polygon(points, fill=shape.rgb)


def _rotation(turn):
    """Matrix that rotates row vectors clockwise on the screen, where y points down."""
    cos, sin = np.cos(turn), np.sin(turn)
    return np.array([[cos, sin], [-sin, cos]])

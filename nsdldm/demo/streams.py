"""How lateral and parietal cortex of the simulated brain respond to scenes.

Lateral voxels respond to living things and to what moves: who is there, how many and how large.
Parietal voxels respond to where things are, whatever they are, as maps of spatial attention do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsdldm.demo.scenes import BUILDS

if TYPE_CHECKING:
    from nsdldm.demo.scenes import Scene, Thing

PICTURE_DEGREES = 8.4
LIVING = ("person", "cat", "bird", "giraffe")
MOVING = ("airplane", "boat", "car", "bus")
# Mean tuning of lateral voxels to any living thing, relative to its spread over voxels.
PREFERENCE = 1.5
REACH = 1.8  # radius of spatial fields of parietal voxels, in degrees


def _area(thing: Thing) -> float:
    """Share of the picture that an object covers, about; 0 for what is only named."""
    build = BUILDS.get(thing.category)
    return 4 * thing.size**2 * build.height if build else 0.0


def tabulate_living(scenes: list[Scene]) -> np.ndarray:
    """Describe the living and moving things of each scene.

    Parameters
    ----------
    scenes : list of nsdldm.demo.scenes.Scene

    Returns
    -------
    float32 array of shape (n_images, 7)
        Whether there is anything alive and the share of the picture that it covers, the number of
        persons, cats, birds and giraffes, and of things that move.
    """
    rows = []
    for scene in scenes:
        names = [thing.category for thing in scene.objects]
        covered = sum(_area(thing) for thing in scene.objects if thing.category in LIVING)
        moving = sum(name in MOVING for name in names)
        rows.append([covered > 0, covered, *map(names.count, LIVING), moving])
    return np.array(rows, np.float32)


def tune_to_living(kinds: np.ndarray, tuning: np.ndarray) -> np.ndarray:
    """Respond to living and moving things, wherever they are.

    Parameters
    ----------
    kinds : float32 array of shape (n_images, 7)
        As `tabulate_living` returns it, each column standardised.
    tuning : float32 array of shape (7, n_voxels)
        Standard normal numbers, alike between neighbours.

    Returns
    -------
    float32 array of shape (n_images, n_voxels)
        Stronger for living things in most voxels.
    """
    weights = tuning.copy()
    weights[:2] += PREFERENCE
    return kinds @ weights


def tune_to_places(scenes: list[Scene], field: np.ndarray) -> np.ndarray:
    """Respond to things by where they are.

    Parameters
    ----------
    scenes : list of nsdldm.demo.scenes.Scene
    field : float array of shape (n_voxels, 2)
        Preferred position: degrees to the right of and above the centre.

    Returns
    -------
    float32 array of shape (n_images, n_voxels)
        A Gaussian of each thing's distance from the preferred position, averaged over things by
        their areas.
    """
    answer = np.zeros((len(scenes), len(field)), np.float32)
    for row, scene in enumerate(scenes):
        areas = [_area(thing) for thing in scene.objects]
        for thing, area in zip(scene.objects, areas, strict=True):
            if area:
                centre = np.array([thing.x - 0.5, 0.5 - thing.y]) * PICTURE_DEGREES
                distance = ((field - centre) ** 2).sum(axis=1)
                answer[row] += area / sum(areas) * np.exp(-distance / (2 * REACH**2))
    return answer

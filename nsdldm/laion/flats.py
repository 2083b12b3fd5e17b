"""A flat map where a release has none: the registered sphere, seen from the occipital pole."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from nsdldm.nsd.surfaces import read_surface, write_patch
from nsdldm.support.errors import Finding, InputError

logger = logging.getLogger(__name__)

# Degrees from the occipital pole. Beyond, areas are still right but shapes are no longer.
EXTENT = 130
RADIUS = 100.0  # of FreeSurfer's spheres, in millimetres


def flatten_sphere(*, sphere: Path | str, output: Path | str) -> None:
    """Write a flat patch of a hemisphere.

    Lambert's azimuthal equal-area projection of the sphere around its posterior end, as published
    maps of visual cortex are often drawn: areas of the sphere are kept, nothing is cut open, and
    what lies more than 130 degrees from the pole (prefrontal cortex) is left out.

    Parameters
    ----------
    sphere : str or Path
        FreeSurfer's ``{hemi}.sphere.reg``, registered to fsaverage.
    output : str or Path
        A patch as ``{hemi}.full.flat.patch.3d``, in millimetres; see
        `nsdldm.nsd.surfaces.read_patch`.

    Raises
    ------
    InputError
        The file is missing or damaged, or not a sphere.
    """
    coords, faces = read_surface(sphere)
    radii = np.linalg.norm(coords, axis=1)
    if not np.ptp(radii) < 0.02 * radii.mean():
        found = f"radii from {radii.min():.1f} to {radii.max():.1f} mm"
        remedy = "Use FreeSurfer's sphere.reg"
        raise InputError(Finding(str(sphere), "vertices on a sphere", found, remedy))
    right, front, up = (coords / radii[:, None]).T.astype(np.float64)
    # The viewer is behind the head: right is right, up is up.
    angle = np.arccos(np.clip(-front, -1, 1))
    scale = 2 * RADIUS * np.sin(angle / 2) / np.maximum(np.hypot(right, up), 1e-9)
    inside = angle <= np.deg2rad(EXTENT)
    flat = np.stack([scale * right, scale * up, np.zeros_like(scale)], axis=1)[inside]
    # Vertices that share a triangle with one outside.
    near = np.unique(faces[~inside[faces].all(axis=1)])
    border = np.isin(np.flatnonzero(inside), near)
    write_patch(output, np.flatnonzero(inside), flat.astype(np.float32), border)
    logger.info("%s: %d of %d vertices on the flat map", sphere, inside.sum(), len(inside))

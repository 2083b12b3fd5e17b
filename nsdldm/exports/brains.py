"""A subject's hemispheres, and how values come to their vertices and to those of the average brain.

Values go to fsaverage as the release's own do: each vertex takes that of the native vertex which
its index map names, so nothing is averaged.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nsdldm.nsd.surfaces import read_index_map, read_surface, read_transform, sample_volume
from nsdldm.support.errors import Finding, InputError

NATIVE, AVERAGE = "fsnative", "fsaverage"
# Vertices of a hemisphere of the average brain, and what this density is called.
DENSITIES = {163_842: "164k", 40_962: "41k", 10_242: "10k", 2_562: "3k", 642: "1k"}
# Of the native vertices, an index map names about two in three, from the first to nearly the last.
LEAST_NAMED = 0.9


class Source(NamedTuple):
    """A subject's surfaces, and where they are in the volume.

    Parameters
    ----------
    transforms : dict of str to list of path
        For lh and rh, coordinates of three depths; see `nsdldm.nsd.surfaces.read_transform`.
    surfaces : dict of str to dict of path
        For lh and rh, FreeSurfer's white, pial and inflated.
    averages : dict of str to path
        For lh and rh, the index map from the average brain to the white surface.
    """

    transforms: dict
    surfaces: dict
    averages: dict


def check_count(path: Path | str, found: int, expected: int, white: Path | str) -> None:
    """Check that a file has as many vertices as the white surface.

    Parameters
    ----------
    path : str or Path
    found, expected : int
    white : str or Path

    Raises
    ------
    InputError
        It has another number.
    """
    if found != expected:
        remedy = "Use files of the same subject and hemisphere"
        raise InputError(
            Finding(str(path), f"{expected} vertices, as in {white}", str(found), remedy)
        )


def read_meshes(
    paths: dict[str, Path | str], kinds: tuple[str, ...]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read surfaces of one hemisphere, which share their vertices.

    Parameters
    ----------
    paths : dict of str to path
        FreeSurfer's files by kind.
    kinds : tuple of str
        Those to read; white is one of them.

    Returns
    -------
    dict of str to (float32 array of shape (n_vertices, 3), int64 array of shape (n_faces, 3))
        Coordinates in millimetres and triangles, by kind.

    Raises
    ------
    InputError
        A file cannot be used, or they have different numbers of vertices.
    """
    meshes = {kind: read_surface(paths[kind]) for kind in kinds}
    for kind, (coords, _) in meshes.items():
        check_count(paths[kind], len(coords), len(meshes["white"][0]), paths["white"])
    return meshes


def carry_over(values: np.ndarray, index: np.ndarray, where: Path | str) -> np.ndarray:
    """Bring values of native vertices to the average brain.

    Parameters
    ----------
    values : array of shape (n_native,), of any type
    index : int array of shape (n_average,)
        The native vertex of each vertex of the average brain, from 0.
    where : str or Path
        The index map, for the message.

    Returns
    -------
    array of shape (n_average,), of the same type

    Raises
    ------
    InputError
        The map names vertices that the values do not have, or none of the last tenth of them: it
        belongs to another hemisphere or subject, or both hemispheres were given at once.
    """
    highest = int(index.max()) + 1
    if not LEAST_NAMED * len(values) <= highest <= len(values):
        expected = f"an index map of the {len(values)} vertices of this hemisphere"
        found = f"vertices up to {highest}"
        remedy = "Give one hemisphere, and the index map of the same subject and hemisphere"
        raise InputError(Finding(str(where), expected, found, remedy))
    return values[index]


class Hemisphere:
    """One hemisphere: what brings a volume to its vertices, and to those of the average brain.

    Parameters
    ----------
    name : {"lh", "rh"}
    source : Source

    Raises
    ------
    InputError
        A file cannot be used, or numbers of vertices differ or are not those of fsaverage.
    """

    def __init__(self, name, source):
        self.name, self._where = name, source.averages[name]
        self.meshes = read_meshes(source.surfaces[name], ("white", "pial", "inflated"))
        white, self.n_vertices = source.surfaces[name]["white"], len(self.meshes["white"][0])
        self._layers = [read_transform(path) for path in source.transforms[name]]
        for path, layer in zip(source.transforms[name], self._layers, strict=True):
            check_count(path, len(layer), self.n_vertices, white)
        self._index = read_index_map(self._where)
        if len(self._index) not in DENSITIES:
            expected = f"vertices of a hemisphere of fsaverage, {max(DENSITIES)} in full"
            remedy = "Use the index map of the release, from fsaverage to the white surface"
            raise InputError(Finding(str(self._where), expected, str(len(self._index)), remedy))
        self.density = DENSITIES[len(self._index)]
        carry_over(np.zeros(self.n_vertices), self._index, self._where)

    def sample(self, volume: np.ndarray) -> np.ndarray:
        """Interpolate a volume linearly, averaged over three depths, as in the figures.

        Parameters
        ----------
        volume : float array of shape (X, Y, Z)
            NaN where there are no data.

        Returns
        -------
        float array of shape (n_vertices,)
        """
        return average([sample_volume(volume, layer, "linear") for layer in self._layers])

    def pick(self, volume: np.ndarray) -> np.ndarray:
        """Take the nearest voxel at mid-depth.

        Parameters
        ----------
        volume : float or int array of shape (X, Y, Z)

        Returns
        -------
        float array of shape (n_vertices,)
            NaN where there is none.
        """
        return sample_volume(volume, self._layers[1], "nearest")

    def spread(self, values: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
        """Bring values of vertices to both brains.

        Parameters
        ----------
        values : dict of str to array of shape (n_vertices,)

        Returns
        -------
        dict of str to dict of str to array of shape (n_vertices,) or (n_average,)
            For fsnative and fsaverage.
        """
        others = {key: carry_over(own, self._index, self._where) for key, own in values.items()}
        return {NATIVE: values, AVERAGE: others}


def average(values: list[np.ndarray]) -> np.ndarray:
    """Average arrays, ignoring NaN.

    Parameters
    ----------
    values : list of float array of shape (n,)

    Returns
    -------
    float array of shape (n,)
        NaN where all are.
    """
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=0)
    return np.divide(total, known.sum(axis=0), out=np.full(len(total), np.nan), where=known.any(0))

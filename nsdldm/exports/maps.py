"""A subject's maps as GIFTI, on its own surfaces and on fsaverage, under names of BIDS derivatives.

No version of BIDS defines outputs of models; suffixes and entities are those that nilearn and
LAION-fMRI use. Values go to fsaverage as the release's own do: each vertex takes that of the native
vertex which its index map names, so nothing is averaged.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps

from nsdldm import __version__
from nsdldm.exports.gifti import write_labels, write_surface, write_values
from nsdldm.nsd.layout import HEMISPHERES
from nsdldm.nsd.rois import read_volume
from nsdldm.nsd.surfaces import read_index_map, read_surface, read_transform, sample_volume
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_table, load_volume, replacing
from nsdldm.support.logs import progress

logger = logging.getLogger(__name__)

SIDES = {"lh": "L", "rh": "R"}
# Vertices of a hemisphere of the average brain, and what this density is called.
DENSITIES = {163_842: "164k", 40_962: "41k", 10_242: "10k", 2_562: "3k", 642: "1k"}
NATIVE, AVERAGE = "fsnative", "fsaverage"
# Columns of a table of voxels that say where a value is significant, and its p, by its own name.
KNOWN = {"r": ("significant", "p")}
UNIQUE = "unique_"
SOFTWARE = ("nibabel", "numpy", "himalaya", "torch", "diffusers", "transformers")
MEANINGS = {
    "r": ("Pearson correlation of predicted and observed responses to test images", "arbitrary"),
    "unique": ("R2 of the joint model minus R2 without the space, on test images", "1"),
    "ceiling": ("Noise ceiling of r", "arbitrary"),
    "ncsnr": ("Noise-ceiling signal-to-noise ratio of single trials", "arbitrary"),
    "winner": ("Layer or block that predicts best in training cross-validation", "label"),
}


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


def name_space(name: str) -> str:
    """Write a name in letters and digits only, as values of BIDS entities must be.

    Parameters
    ----------
    name : str
        Such as zc-n100 or z+zc.

    Returns
    -------
    str
        Such as zcN100 or zAndZc.
    """
    words = re.split(r"[^A-Za-z0-9]+", name.replace("+", "-and-"))
    return words[0] + "".join(word[:1].upper() + word[1:] for word in words[1:])


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
        The map names vertices that the values do not have, or hardly uses them: it belongs to
        another hemisphere or subject, or both hemispheres were given at once.
    """
    highest = int(index.max()) + 1
    if highest > len(values) or highest < 0.9 * len(values):
        expected = f"an index map of the {len(values)} vertices of this hemisphere"
        found = f"vertices up to {highest}"
        remedy = "Give one hemisphere, and the index map of the same subject and hemisphere"
        raise InputError(Finding(str(where), expected, found, remedy))
    return values[index]


class _Surface:
    """One hemisphere: what brings a volume to its vertices, and to those of the average brain."""

    def __init__(self, hemi, source):
        self.hemi, self.where = hemi, source.averages[hemi]
        self.layers = [read_transform(path) for path in source.transforms[hemi]]
        self.index = read_index_map(self.where)
        self.faces = source.surfaces[hemi]
        n_vertices = len(read_surface(self.faces["white"])[0])
        for path, layer in zip(source.transforms[hemi], self.layers, strict=True):
            if len(layer) != n_vertices:
                expected = f"the {n_vertices} vertices of {self.faces['white']}"
                remedy = "Use files of one hemisphere of one subject"
                raise InputError(Finding(str(path), expected, str(len(layer)), remedy))
        carry_over(np.zeros(n_vertices), self.index, self.where)

    def sample(self, volume):
        """Linear interpolation, averaged over depths, as in the figures."""
        layers = [sample_volume(volume, layer, "linear") for layer in self.layers]
        known = np.isfinite(layers)
        total = np.where(known, layers, 0).sum(axis=0)
        return np.divide(
            total, known.sum(axis=0), out=np.full(len(total), np.nan), where=known.any(0)
        )

    def pick(self, volume):
        """The nearest voxel at mid-depth."""
        return sample_volume(volume, self.layers[1], "nearest")

    def spread(self, values):
        """Values on both brains."""
        average = {name: carry_over(own, self.index, self.where) for name, own in values.items()}
        return {NATIVE: values, AVERAGE: average}


def find_columns(columns: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """List the values among the columns of a table of voxels.

    Parameters
    ----------
    columns : list of str

    Yields
    ------
    column, significant, p, space : str
        Columns of values, and the space that is judged, or nothing.
    """
    for name in columns:
        if name in KNOWN:
            yield name, *KNOWN[name], ""
        elif name.startswith(UNIQUE) and f"p_{name}" in columns:
            space = name.removeprefix(UNIQUE)
            yield name, f"significant_{space}", f"p_{name}", space


def export_maps(
    *,
    subject: str,
    task: str,
    maps: dict[str, Path | str],
    tables: dict[str, Path | str],
    masks: dict[str, Path | str],
    layers: dict[str, list[str]],
    source: Source,
    output: Path | str,
) -> None:
    """Write every map of a subject as GIFTI.

    Parameters
    ----------
    subject : str
    task : str
        Value of the entity task, such as nsdcore.
    maps, tables : dict of str to path
        By name, 4-D volumes as `nsdldm.encoding.maps.write_maps` writes them, and their tables.
    masks : dict of str to path
        Masks of regions.
    layers : dict of str to list of str
        Names of the numbers in the column winner of some maps, from 0.
    source : Source
    output : str or Path
        Folder: ``dataset_description.json``, surfaces, labels and values of each hemisphere and
        space, and a sidecar for both hemispheres.

    Raises
    ------
    InputError
        A file cannot be used, or numbers of vertices differ.
    """
    writer = _Writer(Path(output), subject, task, source)
    writer.describe()
    for surface in writer.hemispheres.values():
        for kind, path in surface.faces.items():
            if kind in ("white", "pial", "inflated"):
                stem = writer.name(surface.hemi, NATIVE, kind)
                write_surface(f"{stem}.surf.gii", surface.hemi, kind, *read_surface(path))
    writer.write_regions(masks)
    for number, name in enumerate(progress([*maps], len(maps), "maps")):
        columns = list(load_table(tables[name]).columns)[3:]
        volumes, _ = load_volume(maps[name])
        known = dict(zip(columns, np.moveaxis(volumes, -1, 0), strict=True))
        for column, significant, p, space in find_columns(columns):
            writer.write_map(name, column, space, known[column], known[significant], known[p])
        if "winner" in known:
            writer.write_winner(name, known["winner"], known["significant"], layers[name])
        if number == 0:
            for column in ("ceiling", "ncsnr"):
                writer.write_plain(column, known[column])
    logger.info("%s: %d maps in %s", subject, len(maps), output)


class _Writer:
    """Writes files of one subject."""

    def __init__(self, folder, subject, task, source):
        self.folder = folder
        label = re.sub(r"^(subj|sub-)", "", subject)
        self.stem = f"sub-{name_space(label)}_task-{task}"
        self.hemispheres = {hemi: _Surface(hemi, source) for hemi in HEMISPHERES}

    def describe(self):
        """What BIDS asks for of derivatives."""
        describe_derivatives(self.folder, "Maps of encoders on cortical surfaces")

    def density(self, surface, space):
        """Entity of the average brain's number of vertices."""
        n = len(surface.index)
        return f"_den-{DENSITIES.get(n, n)}" if space == AVERAGE else ""

    def name(self, hemi, space, rest):
        """Path without suffix."""
        density = self.density(self.hemispheres[hemi], space)
        return self.folder / f"{self.stem}_hemi-{SIDES[hemi]}_space-{space}{density}_{rest}"

    def _note(self, rest, stat, maps, source):
        """A sidecar for the files of both hemispheres in each space."""
        meaning, units = MEANINGS[stat]
        for space in (NATIVE, AVERAGE):
            density = self.density(self.hemispheres["lh"], space)
            content = {
                "Description": meaning,
                "Units": units,
                "Maps": maps,
                "SpatialReference": "the subject's white surface" if space == NATIVE else AVERAGE,
                "Sources": [f"encoding/{source}.nii.gz"],
            }
            path = self.folder / f"{self.stem}_space-{space}{density}_{rest}.json"
            write_json(path, content)

    def write_regions(self, masks):
        """Regions as labels, each vertex in the first that has it."""
        names = [name for name in masks if name != "cortex"]
        shades = colormaps["tab20"]
        table = {n: (name, shades((n - 1) % 20)) for n, name in enumerate(names, 1)}
        for hemi, surface in self.hemispheres.items():
            inside = [surface.pick(read_volume(masks[name])[0]) == 1 for name in names]
            labels = np.zeros(len(surface.layers[1]), np.int32)
            for number in range(len(names), 0, -1):
                labels[inside[number - 1]] = number
            for space, own in surface.spread({"regions": labels}).items():
                path = self.name(hemi, space, "desc-regions_dseg.label.gii")
                write_labels(path, hemi, own, table)

    def write_map(self, name, column, space, values, significant, p):
        """Values everywhere, where significant, and p."""
        stat = "unique" if space else column
        described = f"{name_space(space)}Of{name_space(name)[:1].upper()}{name_space(name)[1:]}"
        rest = f"stat-{stat}_desc-{described if space else name_space(name)}_statmap"
        titles = (f"{stat} of {space or name}", f"{stat} where significant", "p")
        found = {}
        for hemi, surface in self.hemispheres.items():
            sampled = surface.sample(values)
            shown = np.where(surface.pick(significant) == 1, sampled, np.nan)
            found[hemi] = dict(zip(titles, (sampled, shown, surface.pick(p)), strict=True))
        highest = max(np.nanmax(own[titles[1]], initial=0) for own in found.values())
        for hemi, own in found.items():
            for where, values in self.hemispheres[hemi].spread(own).items():
                path = self.name(hemi, where, f"{rest}.func.gii")
                write_values(path, hemi, values, (0, highest or 1))
        self._note(rest, stat, list(titles), name)

    def write_plain(self, column, values):
        """One value of each vertex."""
        rest = f"stat-{column}_statmap"
        for hemi, surface in self.hemispheres.items():
            for where, own in surface.spread({column: surface.sample(values)}).items():
                write_values(self.name(hemi, where, f"{rest}.func.gii"), hemi, own, (0, 1))
        self._note(rest, column, [column], "z")

    def write_winner(self, name, winner, significant, layers):
        """The best layer of each vertex where anything predicts."""
        rest = f"desc-{name_space(name)}_dseg"
        shades = colormaps["viridis"].resampled(max(2, len(layers)))
        table = {n: (layer, shades(n - 1)) for n, layer in enumerate(layers, 1)}
        for hemi, surface in self.hemispheres.items():
            best = np.nan_to_num(surface.pick(winner), nan=-1).astype(np.int32) + 1
            shown = np.where(surface.pick(significant) == 1, best, 0)
            for where, own in surface.spread(
                {"best": best, "best where significant": shown}
            ).items():
                write_labels(self.name(hemi, where, f"{rest}.label.gii"), hemi, own, table)
        self._note(rest, "winner", ["best", "best where significant"], name)


def write_json(path: Path | str, content: dict) -> None:
    """Write a dict as JSON that people can read."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def describe_derivatives(folder: Path | str, name: str) -> None:
    """Write ``dataset_description.json`` of a folder of derivatives.

    Parameters
    ----------
    folder : str or Path
    name : str
        Of what is in it.
    """
    software = {package: version(package) for package in SOFTWARE}
    content = {
        "Name": name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "nsd-ldm", "Version": __version__, "Software": software}],
        "SourceDatasets": [{"URL": "results/source.tsv"}],
    }
    write_json(Path(folder) / "dataset_description.json", content)


def average_maps(
    *,
    subjects: list[str],
    folders: list[Path | str],
    task: str,
    spaces: list[str],
    output: Path | str,
) -> None:
    """Write maps over subjects on the average brain.

    Parameters
    ----------
    subjects : list of str
    folders : list of path
        What `export_maps` wrote for each.
    task : str
    spaces : list of str
        Feature spaces whose r is averaged.
    output : str or Path
        Folder: for each space and hemisphere the mean of r over subjects, and the number of
        subjects in whom it is significant.

    Raises
    ------
    InputError
        A subject lacks a map, or has another number of vertices.
    """
    output = Path(output)
    describe_derivatives(output, "Maps of encoders over subjects")
    for space in spaces:
        rest = f"stat-r_desc-{name_space(space)}_statmap"
        for hemi, side in SIDES.items():
            found = []
            for folder in map(Path, folders):
                pattern = f"*_task-{task}_hemi-{side}_space-{AVERAGE}_den-*_{rest}.func.gii"
                found += sorted(folder.glob(pattern))[:1] or _miss(folder, pattern)
            values = [_read_values(path) for path in found]
            sizes = sorted({own.shape for own in values})
            if len(sizes) != 1:
                expected, remedy = "subjects with one density of fsaverage", "Export them again"
                raise InputError(Finding(str(found[0]), expected, str(sizes), remedy))
            density = re.search("_den-[^_]+", found[0].name).group()
            count = np.isfinite([own[1] for own in values]).sum(axis=0).astype(np.float32)
            mean = _mean([own[0] for own in values])
            stem = output / f"task-{task}_hemi-{side}_space-{AVERAGE}{density}_{rest}"
            titles = {f"mean r of {space}": mean, f"subjects of {len(subjects)}": count}
            limit = float(np.nanmax(mean, initial=0)) or 1.0
            write_values(f"{stem}.func.gii", hemi, titles, (0, limit))
    table = pd.DataFrame({"participant_id": subjects})
    with replacing(output / "participants.tsv") as part:
        table.to_csv(part, sep="\t", index=False)


def _mean(values):
    """Mean over subjects that have a value."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=0)
    return np.divide(total, known.sum(axis=0), out=np.full(len(total), np.nan), where=known.any(0))


def _read_values(path):
    """Arrays of a file, shape (n_maps, n_vertices)."""
    import nibabel as nib

    return np.stack([array.data for array in nib.load(path).darrays])


def _miss(folder, pattern):
    raise InputError(Finding(str(folder), f"a file {pattern}", "none", "Export its maps again"))

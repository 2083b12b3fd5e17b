"""A subject's maps as GIFTI, on its own surfaces and on fsaverage, named as BIDS derivatives."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps

from nsdldm.exports.brains import AVERAGE, NATIVE, Hemisphere, Source
from nsdldm.exports.gifti import write_labels, write_surface, write_values
from nsdldm.exports.sidecars import (
    describe_derivatives,
    name_brain,
    write_json,
)
from nsdldm.nsd.layout import HEMISPHERES
from nsdldm.nsd.rois import read_volume
from nsdldm.support.bids import SIDES, name_space, name_subject
from nsdldm.support.files import load_table, load_volume
from nsdldm.support.logs import progress

logger = logging.getLogger(__name__)

UNIQUE = "unique_"
# Of every map the same, so they are written once.
COMMON = ("ceiling", "ncsnr")
# What the test images judge.
TESTED = ("r", "rsquared", "unique", "shared")
# The entity stat: what it is, and its unit.
MEANINGS = {
    "r": ("Pearson correlation of predicted and observed responses to test images", "arbitrary"),
    "rsquared": ("R2 of predicted and observed responses to test images", "1"),
    "unique": ("R2 of the joint model minus R2 without the space, on test images", "1"),
    "shared": ("R2 of the joint model that is no single space's own, on test images", "1"),
    "ceiling": ("Noise ceiling of r", "arbitrary"),
    "ncsnr": ("Noise-ceiling signal-to-noise ratio of single trials", "arbitrary"),
    "winner": ("Layer or block that predicts best in training cross-validation", "label"),
    "regions": ("Regions of the configuration", "label"),
}


class Column(NamedTuple):
    """Values in a table of voxels, and what judges them there.

    Parameters
    ----------
    name : str
    stat : str
        One of `MEANINGS`.
    significant, p : str
        Other columns, or nothing.
    space : str
        The one of a joint model's spaces that it is about, or nothing.
    """

    name: str
    stat: str
    significant: str = ""
    p: str = ""
    space: str = ""


KNOWN = {
    "r": Column("r", "r", "significant", "p"),
    "r2": Column("r2", "rsquared", "significant"),
    "shared": Column("shared", "shared"),
}


def find_columns(names: list[str]) -> list[Column]:
    """List the values among the columns of a table of voxels.

    Parameters
    ----------
    names : list of str

    Returns
    -------
    list of Column
    """
    found = []
    for name in names:
        space = name.removeprefix(UNIQUE)
        if name in KNOWN:
            found.append(KNOWN[name])
        elif name.startswith(UNIQUE) and f"p_{name}" in names:
            found.append(Column(name, "unique", f"significant_{space}", f"p_{name}", space))
    return found


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
        Masks of regions; cortex holds all voxels.
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
    writer = _Writer(Path(output), subject, task, source, masks["cortex"])
    describe_derivatives(output, "Maps of encoders on cortical surfaces")
    writer.write_surfaces()
    writer.write_regions(masks)
    for number, name in enumerate(progress([*maps], len(maps), "maps")):
        columns = list(load_table(tables[name]).columns)[3:]
        volumes, _ = load_volume(maps[name])
        known = dict(zip(columns, np.moveaxis(volumes, -1, 0), strict=True))
        for column in find_columns(columns):
            writer.write_map(name, column, known, maps[name])
        if "winner" in known:
            writer.write_winner(name, known, layers[name], maps[name])
        if number == 0:
            for column in COMMON:
                writer.write_common(column, known[column], maps[name])
    logger.info("%s: %d maps in %s", subject, len(maps), output)


class _Writer:
    """Writes files of one subject."""

    def __init__(self, folder, subject, task, source, mask):
        self.folder, self.mask = folder, mask
        self.stem = f"{name_subject(subject)}_task-{task}"
        self.hemispheres = {hemi: Hemisphere(hemi, source) for hemi in HEMISPHERES}
        self.density = self.hemispheres["lh"].density

    def name(self, hemi, space, rest):
        """The path of a hemisphere's file."""
        brain = name_brain(space, self.density)
        return self.folder / f"{self.stem}_hemi-{SIDES[hemi]}_{brain}_{rest}"

    def link(self, path):
        """Where another file is, as seen from the folder."""
        return os.path.relpath(path, self.folder)

    def note(self, rest, stat, maps, sources):
        """Write a sidecar for the files of both hemispheres, of each brain."""
        meaning, units = MEANINGS[stat]
        for space in (NATIVE, AVERAGE):
            own = space == NATIVE
            content = {
                "Description": meaning,
                "Units": units,
                "Maps": [*maps],
                "SpatialReference": "the subject's white surface" if own else AVERAGE,
                **({} if own else {"Density": f"{self.density} vertices per hemisphere"}),
                "Mask": self.link(self.mask),
                **({"Split": "test images, averaged over trials"} if stat in TESTED else {}),
                "Sources": [*map(self.link, sources)],
            }
            brain = name_brain(space, self.density)
            write_json(self.folder / f"{self.stem}_{brain}_{rest}.json", content)

    def write_surfaces(self):
        """Own surfaces, in FreeSurfer's coordinates."""
        for hemi, hemisphere in self.hemispheres.items():
            for kind, mesh in hemisphere.meshes.items():
                write_surface(self.name(hemi, NATIVE, f"{kind}.surf.gii"), hemi, kind, *mesh)

    def write_regions(self, masks):
        """Regions as labels, each vertex in the first that has it."""
        names = [name for name in masks if name != "cortex"]
        shades = colormaps["tab20"]
        table = {n: (name, shades((n - 1) % 20)) for n, name in enumerate(names, 1)}
        for hemi, hemisphere in self.hemispheres.items():
            labels = np.zeros(hemisphere.n_vertices, np.int32)
            for number, name in enumerate(names, 1):
                inside = hemisphere.pick(read_volume(masks[name])[0]) == 1
                labels[inside & (labels == 0)] = number
            self._write_labels("desc-regions_dseg", hemi, {"regions": labels}, table)
        self.note("desc-regions_dseg", "regions", ["regions"], masks.values())

    def write_map(self, name, column, known, source):
        """Values everywhere, where significant, and p."""
        about = f"{column.space}-of-{name}" if column.space else name
        rest = f"stat-{column.stat}_desc-{name_space(about)}_statmap"
        found = {}
        for hemi, hemisphere in self.hemispheres.items():
            values = hemisphere.sample(known[column.name])
            found[hemi] = own = {f"{column.stat} of {column.space or name}": values}
            if column.significant:
                significant = hemisphere.pick(known[column.significant]) == 1
                own[f"{column.stat} where significant"] = np.where(significant, values, np.nan)
            if column.p:
                own["p"] = hemisphere.pick(known[column.p])
        # Where values are judged, the scale is that of the significant ones.
        drawn = [[*own.values()][bool(column.significant)] for own in found.values()]
        highest = max(float(np.nanmax(values, initial=0)) for values in drawn)
        self._write_values(rest, column.stat, found, highest or 1.0, source)

    def write_common(self, column, values, source):
        """One value of each vertex."""
        found = {hemi: {column: own.sample(values)} for hemi, own in self.hemispheres.items()}
        self._write_values(f"stat-{column}_statmap", column, found, 1.0, source)

    def _write_values(self, rest, stat, found, highest, source):
        """Values of both hemispheres on both brains, and their sidecars."""
        titles = [*found["lh"]]
        limits = {title: (0.0, 1.0 if title == "p" else highest) for title in titles}
        for hemi, own in found.items():
            for space, values in self.hemispheres[hemi].spread(own).items():
                write_values(self.name(hemi, space, f"{rest}.func.gii"), hemi, values, limits)
        self.note(rest, stat, titles, [source])

    def write_winner(self, name, known, layers, source):
        """The best layer of each vertex that is predicted, and where it is clearly the best."""
        rest = f"desc-{name_space(name)}_dseg"
        shades = colormaps["viridis"].resampled(max(2, len(layers)))
        table = {n: (layer, shades(n - 1)) for n, layer in enumerate(layers, 1)}
        titles = ("best", "best where significant", "best where clear")
        for hemi, hemisphere in self.hemispheres.items():
            best = np.nan_to_num(hemisphere.pick(known["winner"]), nan=-1).astype(np.int32) + 1
            kept = (hemisphere.pick(known[column]) == 1 for column in ("significant", "clear"))
            shown = [best, *(np.where(own, best, 0) for own in kept)]
            self._write_labels(rest, hemi, dict(zip(titles, shown, strict=True)), table)
        self.note(rest, "winner", titles, [source])

    def _write_labels(self, rest, hemi, labels, table):
        """Labels of a hemisphere on both brains."""
        for space, own in self.hemispheres[hemi].spread(labels).items():
            write_labels(self.name(hemi, space, f"{rest}.label.gii"), hemi, own, table)

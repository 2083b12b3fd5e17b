"""All maps of a subject on one page: both hemispheres, inflated, flat or pial, to turn by hand.

The page needs no network and no server. Its data are gzip-compressed binary arrays; values have
seven bits, and an eighth for significance.
"""

from __future__ import annotations

import base64
import gzip
import json
import logging
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import nibabel as nib
import numpy as np
from matplotlib import colormaps

from nsdldm.features.spaces import parse_space
from nsdldm.nsd.layout import HEMISPHERES
from nsdldm.nsd.surfaces import read_surface
from nsdldm.plots.cortex import read_hemisphere, sulcal_grey
from nsdldm.plots.fig6 import TITLES
from nsdldm.plots.pictures import DEMO, DEMO_NOTE
from nsdldm.plots.style import ACCURACY, UNIQUE, upper_limit
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import replacing
from nsdldm.support.listing import list_files
from nsdldm.support.redirects import write_redirect

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

FILES = Path(__file__).parent / "page_files"
FORMS = ("inflated", "flat", "pial")
SIDES = {"lh": "L", "rh": "R"}
# Vertices of a hemisphere beyond which the mesh is thinned, and the spacing that remains.
MOST_VERTICES, SPACING_MM = 40_000, 2.0
LEVELS, SIGNIFICANT = 126, 128
GROUPS = {
    "fig6": ("Accuracy (figure 6)", "Prediction accuracy (r, held-out images)"),
    "added": ("Other feature spaces", "Prediction accuracy (r, held-out images)"),
    "fig7": ("By noise (figure 7)", "Unique variance (R², held-out images)"),
    "fig8": ("By step (figure 8)", "Unique variance (R², held-out images)"),
    "fig9": ("Best U-Net block (figure 9)", "Block that predicts best"),
}
# Rows of a rotation into right, up and out of the screen, for the right hemisphere.
VIEWS = {
    "lateral": ((0, 1, 0), (0, 0, 1)),
    "medial": ((0, -1, 0), (0, 0, 1)),
    "posterior": ((1, 0, 0), (0, 0, 1)),
    "ventral": ((-1, 0, 0), (0, 1, 0)),
    "dorsal": ((1, 0, 0), (0, 1, 0)),
}


class Map(NamedTuple):
    """A map of the page.

    Parameters
    ----------
    figure : str
        A key of `GROUPS`.
    name : str
        Identifies it in the page's address.
    title : str
    file : str
        Name of its GIFTI file, after the space.
    """

    figure: str
    name: str
    title: str
    file: str


def list_maps(spaces: dict[str, list[str]]) -> list[Map]:
    """List the maps of a subject.

    Parameters
    ----------
    spaces : dict of str to list of str
        Feature spaces by figure: those of figures 7 and 8 have two maps each, their own and z's
        unique variance; figure 9 has steps, such as blocks-s050.

    Returns
    -------
    list of Map
    """
    maps = []
    for figure in ("fig6", "added"):
        for name in spaces.get(figure, ()):
            words, _, symbol = TITLES.get(name, (name, "", ""))
            title = f"{words} {symbol}".strip().replace("$", "")
            maps.append(Map(figure, name, title, f"stat-r_desc-{_word(name)}_statmap.func.gii"))
    for figure in ("fig7", "fig8"):
        for name in spaces.get(figure, ()):
            pair = _word(f"z+{name}")
            for own in ("z", name):
                title = f"only {'z' if own == 'z' else 'z_c'}, {_describe(name)}"
                rest = f"{_word(own)}Of{pair[:1].upper()}{pair[1:]}"
                file = f"stat-unique_desc-{rest}_statmap.func.gii"
                maps.append(Map(figure, f"{own}-of-{name}", title, file))
    for name in spaces.get("fig9", ()):
        title = _describe(name.replace("blocks", "zc"))
        maps.append(Map("fig9", name, title, f"desc-{_word(name)}_dseg.label.gii"))
    return maps


def _describe(space):
    """A level of noise or a step in words."""
    _, kind, share, variant = parse_space(space)
    words = f"noise {share:g}" if kind == "n" else f"after {share:.0%} of the steps"
    return ", ".join(filter(None, [words.replace("%", " %"), variant]))


def _word(name):
    """A name as in the files of `nsdldm.exports.maps`, in letters and digits."""
    first, *others = "".join(c if c.isalnum() else " " for c in name.replace("+", " and ")).split()
    return first + "".join(word[:1].upper() + word[1:] for word in others)


def thin_mesh(
    coords: np.ndarray, faces: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Keep one vertex per cube of a grid, and the triangles that remain.

    Parameters
    ----------
    coords : float array of shape (n_vertices, 3)
        A smooth surface, in millimetres.
    faces : int array of shape (n_faces, 3)
    spacing : float
        Edge of the cubes, in millimetres.

    Returns
    -------
    kept : int array of shape (n,)
    faces : int array of shape (m, 3)
        Positions in `kept`.
    """
    cubes = np.floor((coords - coords.min(axis=0)) / spacing).astype(np.int64)
    _, kept, cube = np.unique(cubes, axis=0, return_index=True, return_inverse=True)
    return kept, _merge_corners(cube.reshape(-1)[faces])


def _merge_corners(corners):
    """Triangles with three different corners, each once."""
    a, b, c = corners.T
    corners = corners[(a != b) & (b != c) & (c != a)]
    # Several triangles can become the same one. Its orientation must stay, so only the start is
    # aligned.
    start = corners.argmin(axis=1)[:, None]
    turned = np.take_along_axis(corners, (start + np.arange(3)) % 3, axis=1)
    return np.unique(turned, axis=0)


class _Brain:
    """One hemisphere, thinned if it has many vertices."""

    def __init__(self, hemi, surfaces):
        known = read_hemisphere(hemi, surfaces)
        whole = np.asarray(known.inflated, np.float64)
        self.kept, self.faces = np.arange(len(whole)), np.asarray(known.faces)
        if len(whole) > MOST_VERTICES:
            self.kept, self.faces = thin_mesh(whole, self.faces, SPACING_MM)
        flat = np.full((len(whole), 3), np.nan)
        flat[known.flat_vertices, :2] = known.flat
        coords = {"inflated": whole, "pial": read_surface(surfaces["pial"])[0], "flat": flat}
        coords["flat"][:, 2] = 0
        self.coords = {form: _centre(own[self.kept]) for form, own in coords.items()}
        self.flat_faces = self._list_flat()
        self.sulc = np.rint(255 * sulcal_grey(known.sulc)[self.kept]).astype(np.uint8)

    def _list_flat(self):
        """Triangles whose corners are all on the flat map, and not torn apart."""
        inside = np.isfinite(self.coords["flat"][:, 0])
        faces = self.faces[inside[self.faces].all(axis=1)]
        corners = self.coords["flat"][faces]
        sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
        own = self.coords["inflated"][faces]
        usual = np.linalg.norm(own - np.roll(own, 1, axis=1), axis=2).max(axis=1)
        self.coords["flat"] = np.nan_to_num(self.coords["flat"])
        return faces[sides < 6 * np.maximum(usual, np.median(usual))]


def _centre(coords):
    """Coordinates around the middle of their bounding box."""
    return coords - (np.nanmin(coords, axis=0) + np.nanmax(coords, axis=0)) / 2


def _find_borders(faces, labels):
    """Sides of triangles along the edge of a region: both ends in it, the third corner outside."""
    corners = labels[faces]
    inner = corners == corners.max(axis=1, keepdims=True)
    edge = inner.sum(axis=1) == 2
    return faces[edge][inner[edge]].reshape(-1, 2).astype(np.uint32)


def _find_middles(coords, labels, n_regions):
    """The vertex nearest to the middle of each region, or -1."""
    middles = []
    for region in range(1, n_regions + 1):
        own = np.flatnonzero(labels == region)
        middle = coords[own].mean(axis=0) if len(own) else 0
        nearest = np.argmin(((coords[own] - middle) ** 2).sum(axis=1)) if len(own) else 0
        middles.append(int(own[nearest]) if len(own) else -1)
    return middles


def _encode(values, shown, high):
    """Seven bits of value and one of significance."""
    level = 1 + np.rint(LEVELS * np.clip(values / high, 0, 1))
    codes = np.where(np.isfinite(values), level, 0).astype(np.uint8)
    return codes + np.where(np.isfinite(shown) & (codes > 0), SIGNIFICANT, 0).astype(np.uint8)


def _measure(coords):
    """Width and height of a hemisphere in each view, in millimetres."""
    sizes = {}
    for view, rows in VIEWS.items():
        right, up = (coords @ np.array(row, float) for row in rows)
        sizes[view] = [float(np.ptp(right)), float(np.ptp(up))]
    return sizes | {"flat": [float(np.ptp(coords[:, 0])), float(np.ptp(coords[:, 1]))]}


class _Packer:
    """Collects arrays behind a header that says what they are."""

    def __init__(self):
        self.parts = []

    def add(self, array):
        array = np.ascontiguousarray(array)
        self.parts.append(array.tobytes())
        return [str(array.dtype), int(array.size)]

    def pack(self, head):
        line = json.dumps(head, ensure_ascii=False).encode() + b"\n"
        packed = gzip.compress(line + b"".join(self.parts), 9, mtime=0)
        return base64.b64encode(packed).decode()


def _read(folder, hemi, file):
    """Arrays and labels of a GIFTI file on the subject's own surface."""
    pattern = f"*_hemi-{SIDES[hemi]}_space-fsnative_{file}"
    found = list_files(folder, pattern)
    if not found:
        remedy = "Export the maps again"
        raise InputError(Finding(str(folder), f"a file {pattern}", "none", remedy))
    image = nib.load(found[0])
    return [array.data for array in image.darrays], image.labeltable.labels


def _describe_maps(maps, folder, brains, packer):
    """Heads of all maps, and the values of each hemisphere."""
    limits, read = {}, {}
    for each in maps:
        read[each] = {hemi: _read(folder, hemi, each.file) for hemi in brains}
        if each.figure != "fig9":
            shown = [own[0][1] for own in read[each].values()]
            limits.setdefault(each.figure, []).append(np.concatenate(shown))
    heads, values = [], {hemi: [] for hemi in brains}
    for each in maps:
        group, measure = GROUPS[each.figure]
        head = {"id": f"{each.figure}-{each.name}", "figure": each.figure, "group": group}
        head |= {"title": each.title, "measure": measure}
        if each.figure == "fig9":
            labels = read[each]["lh"][1][1:]
            head["names"] = [label.label for label in labels]
            head["colours"] = [[round(255 * x) for x in label.rgba[:3]] for label in labels]
        else:
            step = 0.02 if each.file.startswith("stat-unique") else 0.05
            head["high"] = upper_limit(np.concatenate(limits[each.figure]), step=step)
            head["ramp"] = "unique" if step == 0.02 else "accuracy"
        heads.append(head)
        for hemi, brain in brains.items():
            first, second = (array[brain.kept] for array in read[each][hemi][0][:2])
            if each.figure == "fig9":
                codes = first + np.where(second > 0, SIGNIFICANT, 0) * (first > 0)
            else:
                codes = _encode(first, second, head["high"])
            values[hemi].append(packer.add(codes.astype(np.uint8)))
    return heads, values


def write_cortex_page(
    *,
    subject: str,
    spaces: dict[str, list[str]],
    maps: Path | str,
    surfaces: dict[str, dict[str, Path | str]],
    demo: bool,
    output: Path | str,
    redirects: Sequence[Path | str] = (),
) -> None:
    """Write the page of a subject's maps.

    Parameters
    ----------
    subject : str
    spaces : dict of str to list of str
        As `list_maps` takes them.
    maps : str or Path
        Folder that `nsdldm.exports.maps.export_maps` wrote.
    surfaces : dict of str to dict of path
        For lh and rh: white, pial, inflated, sulc and flat, a patch.
    demo : bool
        Say that the data are simulated.
    output : str or Path
        HTML of 2 MB with the demo, about 4 MB with native surfaces of 160,000 vertices, which are
        thinned to 2 mm.
    redirects : sequence of path
        Small pages named after figures, such as fig6.html, that lead to this one.

    Raises
    ------
    InputError
        A file cannot be used, or a map is missing.
    """
    brains = {hemi: _Brain(hemi, surfaces[hemi]) for hemi in HEMISPHERES}
    packer = _Packer()
    regions = _read(maps, "lh", "desc-regions_dseg.label.gii")[1][1:]
    scales = {
        form: float(max(np.abs(brain.coords[form]).max() for brain in brains.values()) / 32_767)
        for form in FORMS
    }
    hemispheres = []
    for hemi, brain in brains.items():
        labels = _read(maps, hemi, "desc-regions_dseg.label.gii")[0][0][brain.kept]
        middles = _find_middles(brain.coords["inflated"], labels, len(regions))
        own = {"n": len(brain.kept), "middles": middles}
        own["faces"] = packer.add(brain.faces.astype(np.uint32).ravel())
        own["flatFaces"] = packer.add(brain.flat_faces.astype(np.uint32).ravel())
        own["borders"] = packer.add(_find_borders(brain.faces, labels).ravel())
        own |= {"sulc": packer.add(brain.sulc), "region": packer.add(labels.astype(np.uint8))}
        for form in FORMS:
            placed = np.rint(brain.coords[form] / scales[form]).astype(np.int16)
            own[form] = packer.add(placed.ravel())
        hemispheres.append(own)
    # In the order in which the page reads: all of one hemisphere, with its values last.
    head = _order(hemispheres, list_maps(spaces), maps, brains, packer, regions, scales)
    title = f"Maps of {subject}" + (f" – {DEMO}" if demo else "")
    _write(output, title, DEMO_NOTE if demo else "", head)
    for path in redirects:
        name = Path(path).stem
        write_redirect(output=path, target=f"../report/cortex.html#{name}")
    size = Path(output).stat().st_size / 1e6
    logger.info("%s: %d maps, %.1f MB", subject, len(list_maps(spaces)), size)


def _order(hemispheres, maps, folder, brains, packer, regions, scales):
    """Pack the header, and the arrays in the order in which it names them."""
    values = _Packer()
    heads, codes = _describe_maps(maps, folder, brains, values)
    size = len(packer.parts) // 2
    n = len(maps)
    # Values were added map by map, hemisphere by hemisphere.
    by_hemisphere = [values.parts[side::2] for side in range(2)]
    merged = _Packer()
    for side, (own, hemi) in enumerate(zip(hemispheres, brains, strict=True)):
        own["values"] = codes[hemi]
        merged.parts += packer.parts[side * size : (side + 1) * size] + by_hemisphere[side][:n]
    extents = {form: _measure(brains["rh"].coords[form]) for form in FORMS}
    ramps = {"accuracy": ACCURACY, "unique": UNIQUE}
    return merged.pack(
        {
            "forms": list(FORMS),
            "regions": [label.label for label in regions],
            "scales": scales,
            "extents": extents,
            "ramps": {name: _list_colours(ramp) for name, ramp in ramps.items()},
            "maps": heads,
            "hemispheres": hemispheres,
        }
    )


def _list_colours(ramp):
    """256 colours of a scale, red, green and blue from 0 to 255."""
    ramp = colormaps[ramp] if isinstance(ramp, str) else ramp
    return np.rint(255 * ramp(np.linspace(0, 1, 256))[:, :3]).astype(int).tolist()


def _write(output, title, note, data):
    """Fill in the template."""
    page = (FILES / "page.html").read_text(encoding="utf-8")
    parts = {"title": escape(title), "note": escape(note), "data": data}
    for key, name in (("three", "three.min.js"), ("script", "page.js")):
        parts[key] = (FILES / name).read_text(encoding="utf-8").replace("</script", "<\\/script")
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], page)
    with replacing(output) as part:
        part.write_text(page, encoding="utf-8")

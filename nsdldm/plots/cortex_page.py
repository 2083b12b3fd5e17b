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

from nsdldm.features.spaces import parse_space
from nsdldm.nsd.layout import HEMISPHERES
from nsdldm.plots.cortex_page_mesh import FORMS, PageMesh, build_mesh
from nsdldm.plots.fig6 import TITLES
from nsdldm.plots.fig9 import choose_colours
from nsdldm.plots.pictures import DEMO, DEMO_NOTE
from nsdldm.plots.style import ACCURACY, UNIQUE, upper_limit
from nsdldm.support.bids import SIDES, name_space
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import replacing
from nsdldm.support.listing import list_files
from nsdldm.support.redirects import write_redirect

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

FILES = Path(__file__).parent / "page_files"
REGIONS = "desc-regions_dseg.label.gii"
# Values have this many steps; then come bits for what is clear, of classes, and significant.
STEPS = 126
SIGNIFICANT, CLEAR, CLASS_SIGNIFICANT = 128, 256, 512
# Large surfaces are thinned to this spacing, and further for more maps, so that pages stay below
# 6 MB.
SPACING_MM, MANY = 2.0, 36
# Largest int16.
REACH = 32_767


class Group(NamedTuple):
    """Maps with one scale.

    Parameters
    ----------
    title : str
        In the list of maps.
    measure, unit : str
        At the colour bar, and beside a value.
    ramp : str
        A key of `RAMPS`, or nothing for classes.
    """

    title: str
    measure: str
    unit: str = ""
    ramp: str = ""


R = ("Prediction accuracy (Pearson’s r, held-out images)", "r", "accuracy")
BEST = "that predicts best; pale: not clearly"
UNIQUE_R2 = ("Unique variance (R², held-out images)", "R²", "unique")
GROUPS = {
    "fig6": Group("Figure 6: accuracy", *R),
    "added": Group("Accuracy of other spaces", *R),
    "fig7": Group("Figure 7: unique variance", *UNIQUE_R2),
    "fig8": Group("Figure 8: unique variance", *UNIQUE_R2),
    "fig9": Group("Figure 9: best U-Net block", f"U-Net block {BEST}"),
    "layers": Group("Best layer", f"Layer {BEST}"),
}
# Colours and the multiple of which each scale ends at.
RAMPS = {"accuracy": (ACCURACY, 0.05), "unique": (UNIQUE, 0.02)}
# Rows of a rotation into right and up of the screen, for the right hemisphere.
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
        unique variance; figure 9 has steps, such as blocks-s050, and layers networks, such as
        layers-clip.

    Returns
    -------
    list of Map
    """
    maps = []
    for figure in ("fig6", "added"):
        for name in spaces.get(figure, ()):
            words, _, symbol = TITLES.get(name, (name, "", ""))
            title = f"{words} {symbol}".strip()
            maps.append(
                Map(figure, name, title, f"stat-r_desc-{name_space(name)}_statmap.func.gii")
            )
    for figure in ("fig7", "fig8"):
        for name in spaces.get(figure, ()):
            for own in ("z", name):
                title = f"{'z' if own == 'z' else 'z_c'}, {_describe(name)}"
                rest = name_space(f"{own}-of-z+{name}")
                file = f"stat-unique_desc-{rest}_statmap.func.gii"
                maps.append(Map(figure, f"{own}-of-{name}", title, file))
    for figure in ("fig9", "layers"):
        for name in spaces.get(figure, ()):
            kind, _, rest = name.partition("-")
            title = rest if kind == "layers" else _describe(f"zc-{rest}")
            maps.append(Map(figure, name, title, f"desc-{name_space(name)}_dseg.label.gii"))
    return maps


def _describe(space):
    """A level of noise or a step in words."""
    _, kind, share, variant = parse_space(space)
    words = f"noise {share:g}" if kind == "n" else f"after {100 * share:g} % of steps"
    return ", ".join(filter(None, [words, variant]))


class _Packer:
    """Collects arrays behind a header that says what and where they are."""

    def __init__(self):
        self.parts, self.size = [], 0

    def add(self, array, kind):
        own = np.ascontiguousarray(array, dtype=kind).tobytes()
        where = [kind, self.size, int(np.size(array))]
        self.parts.append(own)
        self.size += len(own)
        return where

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
    return [array.data for array in image.darrays], image.labeltable.labels[1:]


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
        HTML of 2 MB with the demo, and less than 6 MB with native surfaces of 160,000 vertices,
        which are thinned to 2 mm.
    redirects : sequence of path
        Small pages named after figures, such as fig6.html, that lead to this one.

    Raises
    ------
    InputError
        A file cannot be used, or a map is missing.
    """
    listed, packer = list_maps(spaces), _Packer()
    regions = {hemi: _read(maps, hemi, REGIONS) for hemi in HEMISPHERES}
    names = [label.label for label in regions["lh"][1]]
    spacing = SPACING_MM * max(1, len(listed) / MANY) ** 0.5
    meshes = {
        hemi: build_mesh(hemi, surfaces[hemi], own[0], len(names), spacing)
        for hemi, (own, _) in regions.items()
    }
    scales = {form: _find_reach(meshes, form) / REACH for form in FORMS}
    data = {
        "forms": list(FORMS),
        "regions": names,
        "scales": scales,
        "extents": {form: _measure(meshes, form) for form in FORMS},
        "ramps": {name: _list_colours(ramp) for name, (ramp, _) in RAMPS.items()},
        "maps": _pack_maps(listed, maps, meshes, packer),
        "hemispheres": [_pack_mesh(mesh, scales, packer) for mesh in meshes.values()],
    }
    title = f"Maps of {subject}" + (f" – {DEMO}" if demo else "")
    _write(output, title, DEMO_NOTE if demo else "", packer.pack(data))
    for path in redirects:
        write_redirect(output=path, target=f"../report/cortex.html#{Path(path).stem}")
    size = Path(output).stat().st_size / 1e6
    logger.info("%s: %d maps, %.1f MB", subject, len(listed), size)


def _find_reach(meshes, form):
    """The largest coordinate of a form."""
    return float(max(np.abs(mesh.coords[form]).max() for mesh in meshes.values()))


def _measure(meshes: dict[str, PageMesh], form):
    """Width and height of the larger hemisphere in each view, in millimetres."""
    sizes = {}
    for view, rows in VIEWS.items():
        axes = np.array(rows, float)
        own = [np.ptp(mesh.coords[form] @ axes.T, axis=0) for mesh in meshes.values()]
        sizes[view] = np.max(own, axis=0).tolist()
    return sizes


def _pack_mesh(mesh, scales, packer):
    """Pack a hemisphere without its values."""
    outlines = mesh.outlines
    own = {
        "n": len(mesh.kept),
        "middles": mesh.middles,
        "faces": packer.add(mesh.faces.ravel(), "uint32"),
        "flatFaces": packer.add(mesh.faces[mesh.on_flat].ravel(), "uint32"),
        "grey": packer.add(mesh.grey, "uint8"),
        "region": packer.add(mesh.labels, "uint8"),
        "ends": packer.add(outlines.ends.ravel(), "uint32"),
        "shares": packer.add(np.rint(255 * outlines.shares).ravel(), "uint8"),
        "onFlat": packer.add(outlines.on_flat, "uint8"),
    }
    for form, scale in scales.items():
        own[form] = packer.add(np.rint(mesh.coords[form] / scale).ravel(), "int16")
    return own


def _pack_maps(maps, folder, meshes, packer):
    """Pack the values of all maps; those of one figure share a scale."""
    read = {each: {hemi: _read(folder, hemi, each.file) for hemi in meshes} for each in maps}
    limits = _find_limits(read)
    heads = []
    for each, own in read.items():
        group = GROUPS[each.figure]
        head = {"id": f"{each.figure}-{each.name}", "figure": each.figure, "title": each.title}
        head |= {"group": group.title, "measure": group.measure, "unit": group.unit}
        kept = [[array[mesh.kept] for array in own[hemi][0]] for hemi, mesh in meshes.items()]
        if group.ramp:
            head |= {"ramp": group.ramp, "high": limits[each.figure]}
            codes = [_encode(*arrays[:2], head["high"]) for arrays in kept]
        else:
            head |= _name_classes([label.label for label in own["lh"][1]])
            codes = [_encode_classes(*arrays) for arrays in kept]
        head["values"] = [packer.add(array, "uint8" if group.ramp else "uint16") for array in codes]
        heads.append(head)
    return heads


def _find_limits(read):
    """Upper end of the scale of each figure, by what is significant."""
    shown = {}
    for each, own in read.items():
        if GROUPS[each.figure].ramp:
            shown.setdefault(each.figure, []).extend(arrays[1] for arrays, _ in own.values())
    return {
        figure: upper_limit(np.concatenate(values), step=RAMPS[GROUPS[figure].ramp][1])
        for figure, values in shown.items()
    }


def _name_classes(names):
    """Classes and their colours as in figure 9; those where they are not clear come last."""
    colours = choose_colours(len(names)).cmap.colors[:, :3]
    return {"names": names, "colours": np.rint(255 * colours).astype(int).tolist()}


def _encode(values, shown, high):
    """Seven bits of value, 0 for none, and one of significance."""
    level = 1 + np.rint((STEPS - 1) * np.clip(values / high, 0, 1))
    codes = np.where(np.isfinite(values), level, 0).astype(np.uint8)
    return codes + np.where(np.isfinite(shown) & (codes > 0), SIGNIFICANT, 0).astype(np.uint8)


def _encode_classes(best, significant, clear):
    """Eight bits of class from 1, 0 for none, then one of clarity and one of significance."""
    return best + CLEAR * (clear > 0) + CLASS_SIGNIFICANT * (significant > 0)


def _list_colours(ramp):
    """256 colours of a scale, red, green and blue from 0 to 255."""
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

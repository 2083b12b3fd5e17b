"""GIFTI files of one hemisphere, as nibabel, nilearn, FreeSurfer and Workbench open them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiLabel, GiftiLabelTable, GiftiMetaData

from nsdldm.support.files import replacing

STRUCTURES = {"lh": "CortexLeft", "rh": "CortexRight"}
GEOMETRIES = {"white": "Anatomical", "pial": "Anatomical", "inflated": "Inflated"}
LAYERS = {"white": "GrayWhite", "pial": "Pial"}


def _save(path, hemi, arrays, labels=None):
    """Write arrays under the name of their hemisphere."""
    meta = GiftiMetaData({"AnatomicalStructurePrimary": STRUCTURES[hemi]})
    image = GiftiImage(meta=meta, labeltable=labels, darrays=arrays)
    with replacing(path) as part:
        nib.save(image, part)


def write_values(
    path: Path | str,
    hemi: str,
    values: dict[str, np.ndarray],
    limits: dict[str, tuple[float, float]],
) -> None:
    """Write values of vertices.

    Parameters
    ----------
    path : str or Path
        Ends in .func.gii.
    hemi : {"lh", "rh"}
    values : dict of str to float array of shape (n_vertices,)
        By name; NaN where there are none. Stored as float32 of no intent, which all readers take
        for an overlay.
    limits : dict of str to tuple of two float
        By name, lower and upper end of the colour scale, for programs that read it.
    """
    arrays = []
    for name, own in values.items():
        low, high = limits[name]
        meta = {
            "Name": name,
            "PaletteColorMapping": (
                '<PaletteColorMapping Version="1"><ScaleMode>MODE_USER_SCALE</ScaleMode>'
                f"<UserScaleValues>0 0 {low:g} {high:g}</UserScaleValues>"
                "<PaletteName>magma</PaletteName></PaletteColorMapping>"
            ),
            "cal_min": f"{low:g}",
            "cal_max": f"{high:g}",
        }
        data = np.ascontiguousarray(own, dtype=np.float32)
        arrays.append(
            GiftiDataArray(
                data, "NIFTI_INTENT_NONE", "NIFTI_TYPE_FLOAT32", meta=GiftiMetaData(meta)
            )
        )
    _save(path, hemi, arrays)


def write_labels(
    path: Path | str,
    hemi: str,
    labels: dict[str, np.ndarray],
    names: dict[int, tuple[str, tuple[float, float, float, float]]],
) -> None:
    """Write labels of vertices.

    Parameters
    ----------
    path : str or Path
        Ends in .label.gii.
    hemi : {"lh", "rh"}
    labels : dict of str to int array of shape (n_vertices,)
        By name of the map; 0 is none. Stored as int32.
    names : dict of int to (str, tuple of four float)
        Name and colour (red, green, blue and opacity, from 0 to 1) of each label above 0.
    """
    table = GiftiLabelTable()
    for key, (name, colour) in {0: ("none", (0.0, 0.0, 0.0, 0.0)), **names}.items():
        label = GiftiLabel(key, *map(float, colour))
        label.label = name
        table.labels.append(label)
    arrays = [
        GiftiDataArray(
            np.ascontiguousarray(own, dtype=np.int32),
            "NIFTI_INTENT_LABEL",
            "NIFTI_TYPE_INT32",
            meta=GiftiMetaData({"Name": name}),
        )
        for name, own in labels.items()
    ]
    _save(path, hemi, arrays, table)


def write_surface(
    path: Path | str, hemi: str, kind: str, coords: np.ndarray, faces: np.ndarray
) -> None:
    """Write a surface.

    Parameters
    ----------
    path : str or Path
        Ends in .surf.gii.
    hemi : {"lh", "rh"}
    kind : str
        white, pial or inflated.
    coords : float array of shape (n_vertices, 3)
        Millimetres, in FreeSurfer's own coordinates.
    faces : int array of shape (n_faces, 3)
        From 0.
    """
    meta = {"AnatomicalStructurePrimary": STRUCTURES[hemi]}
    meta["GeometricType"] = GEOMETRIES.get(kind, kind)
    if kind in LAYERS:
        meta["AnatomicalStructureSecondary"] = LAYERS[kind]
    points = GiftiDataArray(
        np.ascontiguousarray(coords, dtype=np.float32),
        "NIFTI_INTENT_POINTSET",
        "NIFTI_TYPE_FLOAT32",
        meta=GiftiMetaData(meta),
    )
    triangles = GiftiDataArray(
        np.ascontiguousarray(faces, dtype=np.int32), "NIFTI_INTENT_TRIANGLE", "NIFTI_TYPE_INT32"
    )
    _save(path, hemi, [points, triangles])

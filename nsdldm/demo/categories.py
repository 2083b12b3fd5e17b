"""Write the objects of simulated pictures as COCO's ``instances_{split}.json``."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nsdldm.demo.scenes import BUILDS, describe_scene
from nsdldm.support.files import replacing

if TYPE_CHECKING:
    import pandas as pd

# COCO's numbers and groups; trees and houses are not among its things, so they are numbered beyond.
CATEGORIES = {
    "person": (1, "person"),
    "car": (3, "vehicle"),
    "airplane": (5, "vehicle"),
    "bus": (6, "vehicle"),
    "boat": (9, "vehicle"),
    "bird": (16, "animal"),
    "cat": (17, "animal"),
    "giraffe": (25, "animal"),
    "umbrella": (28, "accessory"),
    "pizza": (59, "food"),
    "tree": (91, "plant"),
    "house": (92, "building"),
}
# The longer side of COCO's pictures, in pixels.
LONG_SIDE = 640
# Share of its box that an object covers, about.
COVERED = 0.6


def save_instances(
    path: Path | str, table: pd.DataFrame, nsd_ids: Sequence[int], scenes_seed: int
) -> None:
    """Write the objects of some images in COCO's format.

    Parameters
    ----------
    path : str or Path
    table : DataFrame
        Table of stimuli, whose rows are nsd_ids: cocoId, cropBox.
    nsd_ids : sequence of int
        0-based images of one split.
    scenes_seed : int
        Seed with which the pictures were drawn.
    """
    images, annotations = [], []
    for nsd_id, coco_id, crop in table.loc[nsd_ids, ["cocoId", "cropBox"]].itertuples(name=None):
        frame = find_frame(crop)
        images.append(
            {
                "id": coco_id,
                "file_name": f"{coco_id:012d}.jpg",
                "height": frame["height"],
                "width": frame["width"],
                "license": 1,
            }
        )
        for thing in describe_scene(scenes_seed, nsd_id).objects:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": coco_id, **_describe(thing, frame)}
            )
    content = {
        "info": {"description": "Objects of simulated pictures", "version": "1.0"},
        "licenses": [{"id": 1, "name": "none", "url": ""}],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"supercategory": group, "id": number, "name": name}
            for name, (number, group) in CATEGORIES.items()
        ],
    }
    with replacing(path) as part:
        part.write_text(json.dumps(content), encoding="utf-8")


def find_frame(crop: str) -> dict[str, float]:
    """Find the square that NSD shows in COCO's picture.

    Parameters
    ----------
    crop : str
        ``(top, bottom, left, right)``, shares of COCO's picture that are cut off.

    Returns
    -------
    dict of str to float
        In pixels: width and height of COCO's picture; left, top and side of the square.
    """
    top, bottom, left, right = ast.literal_eval(crop)
    side = LONG_SIDE * (1 - top - bottom - left - right)
    width, height = round(side / (1 - left - right)), round(side / (1 - top - bottom))
    return {
        "width": width,
        "height": height,
        "left": left * width,
        "top": top * height,
        "side": side,
    }


def _describe(thing, frame):
    """Category, area and box of an object, within COCO's picture."""
    half = thing.size * frame["side"]
    tall = half * BUILDS[thing.category].height
    x, y = frame["left"] + thing.x * frame["side"], frame["top"] + thing.y * frame["side"]
    left, top = max(x - half, 0), max(y - tall, 0)
    right, bottom = min(x + half, frame["width"]), min(y + tall, frame["height"])
    box = [round(value, 2) for value in (left, top, right - left, bottom - top)]
    return {
        "category_id": CATEGORIES[thing.category][0],
        "segmentation": [],
        "area": round(COVERED * box[2] * box[3], 2),
        "bbox": box,
        "iscrowd": 0,
    }

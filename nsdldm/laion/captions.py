"""Captions of the images, in the form of COCO's."""

from __future__ import annotations

import json
from pathlib import Path

from nsdldm.laion.trials import RELEASED, read_cells, read_metadata
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import replacing

COLUMNS = ("image_name", "source", "caption")


def choose_captions(captions: Path | str, names: list[str]) -> dict[str, list[str]]:
    """Read the captions of images: people's where there are any, otherwise a model's.

    Parameters
    ----------
    captions : str or Path
        ``task-images_desc-captions.csv``.
    names : list of str
        Of images.

    Returns
    -------
    dict of str to list of str
        By the name of the image, in the order of the file.

    Raises
    ------
    InputError
        The file cannot be used, or an image has no caption.
    """
    table = read_cells(captions, ",", COLUMNS)
    table = table[(table["caption"].str.strip() != "") & table["image_name"].isin(names)]
    chosen = {}
    for source in ("ai", "human"):
        own = table[table["source"] == source]
        chosen |= own.groupby("image_name", sort=False)["caption"].apply(list).to_dict()
    absent = [name for name in names if name not in chosen]
    if absent:
        found = f"none for {len(absent)} of {len(names)}, such as {absent[0]}"
        raise InputError(Finding(str(captions), "a caption of every image", found, RELEASED))
    return chosen


def write_captions(*, captions: Path | str, metadata: Path | str, output: Path | str) -> None:
    """Write the captions of all images.

    Parameters
    ----------
    captions, metadata : path
        ``task-images_desc-captions.csv`` and ``task-images_metadata.csv``.
    output : str or Path
        JSON with annotations of image_id, the image's row in the table, and caption.

    Raises
    ------
    InputError
        As `choose_captions`.
    """
    names = read_metadata(metadata)["name"].tolist()
    chosen = choose_captions(captions, names)
    annotations = [
        {"image_id": row, "caption": text}
        for row, name in enumerate(names)
        for text in chosen[name]
    ]
    with replacing(output) as part:
        part.write_text(json.dumps({"annotations": annotations}), encoding="utf-8")

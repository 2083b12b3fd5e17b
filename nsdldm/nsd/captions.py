"""Read COCO's captions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from nsdldm.support.errors import Damaged, Finding, InputError, Unexpected, reading


def read_captions(paths: Sequence[Path | str], coco_ids: Iterable[int]) -> dict[int, list[str]]:
    """Collect the captions of images.

    Parameters
    ----------
    paths : sequence of str or Path
        COCO's caption files (``captions_train2017.json``, ``captions_val2017.json``); image ids are
        unique across them. Each is parsed once.
    coco_ids : iterable of int
        COCO ids of the images.

    Returns
    -------
    dict of int to list of str
        For every id, its captions in file order, with runs of white space reduced to one blank.
        Captions that are only white space are left out.

    Raises
    ------
    InputError
        A file cannot be read, or an image has no caption.
    """
    wanted = {int(number) for number in coco_ids}
    captions = defaultdict(list)
    for path in paths:
        with (
            reading(path, "COCO's captions, a JSON file with annotations"),
            open(path, encoding="utf-8") as stream,
        ):
            for image, caption in _list_annotations(json.load(stream)):
                text = " ".join(caption.split()) if image in wanted else ""
                if text:
                    _require_writable(image, text)
                    captions[image].append(text)
    missing = sorted(wanted - set(captions))
    if missing:
        found = f"none for {len(missing)} of {len(wanted)} images, such as COCO number {missing[0]}"
        remedy = "Use both files of annotations_trainval2017.zip of cocodataset.org, whole"
        where = ", ".join(map(str, paths))
        raise InputError(Finding(where, "captions of every image", found, remedy))
    return {number: captions[number] for number in sorted(wanted)}


def _require_writable(image, text):
    """Refuse an unpaired surrogate, which JSON can contain but a text file cannot."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Damaged(f"half a character in a caption of image {image}")


def _list_annotations(content):
    """Yield (COCO id, caption) for each annotation in a file."""
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(annotations, list):
        raise Unexpected("no list named annotations")
    for position, annotation in enumerate(annotations):
        fields = annotation if isinstance(annotation, dict) else {}
        image, caption = fields.get("image_id"), fields.get("caption")
        if type(image) is not int or not isinstance(caption, str):
            raise Unexpected(
                f"annotations[{position}] without a number image_id and a text caption"
            )
        yield image, caption

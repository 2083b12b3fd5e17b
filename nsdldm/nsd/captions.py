"""Read COCO's captions."""

import json
from collections import defaultdict

from nsdldm.errors import Finding, InputError, reading


def read_captions(paths, coco_ids):
    """Collect the captions of images.

    Parameters
    ----------
    paths : sequence of str or Path
        COCO's caption files (``captions_train2017.json``, ``captions_val2017.json``); image numbers
        are unique over them. Each is parsed once.
    coco_ids : iterable of int
        COCO numbers of the images wanted.

    Returns
    -------
    dict of int to list of str
        Captions in file order, runs of white space reduced to one blank, for every number asked
        for.

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
            for annotation in json.load(stream)["annotations"]:
                if annotation["image_id"] in wanted:
                    captions[annotation["image_id"]].append(" ".join(annotation["caption"].split()))
    missing = sorted(wanted - set(captions))
    if missing:
        found = f"none for {len(missing)} of {len(wanted)} images, such as COCO number {missing[0]}"
        remedy = "Use both files of annotations_trainval2017.zip of cocodataset.org, whole"
        where = ", ".join(map(str, paths))
        raise InputError(Finding(where, "captions of every image", found, remedy))
    return {number: captions[number] for number in sorted(wanted)}

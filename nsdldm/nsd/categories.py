"""Read which objects COCO's images contain."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from nsdldm.support.errors import Finding, InputError, Unexpected, reading


def read_categories(paths: Sequence[Path | str], coco_ids: Iterable[int]) -> pd.DataFrame:
    """Find the categories of the objects in images.

    Parameters
    ----------
    paths : sequence of str or Path
        COCO's ``instances_train2017.json`` and ``instances_val2017.json``. Each is parsed once;
        the larger one, of 450 MB, takes 4 GB of memory.
    coco_ids : iterable of int
        COCO ids of the images.

    Returns
    -------
    DataFrame
        Indexed by coco_id in the order given: main, the category whose objects have the largest
        area together, or empty without objects; and all, a tuple of the names of all categories.

    Raises
    ------
    InputError
        A file cannot be read or is of another kind, files name a category differently, or an image
        is in none of them.
    """
    wanted, areas, names = [int(number) for number in coco_ids], {}, {}
    known, listed = set(wanted), set()
    for path in paths:
        expected = "COCO's objects, a JSON file with images, annotations, categories"
        with reading(path, expected), open(path, encoding="utf-8") as stream:
            content = json.load(stream)
            try:
                own = {int(each["id"]): str(each["name"]) for each in content["categories"]}
                for each in content["annotations"]:
                    if (number := int(each["image_id"])) in known:
                        area = areas.setdefault(number, {})
                        name = own[int(each["category_id"])]
                        area[name] = area.get(name, 0.0) + float(each["area"])
                listed.update(int(each["id"]) for each in content["images"])
            except (KeyError, TypeError, ValueError) as error:
                lacking = f"no {error} where one is needed"
                missing = isinstance(error, KeyError)
                raise Unexpected(lacking if missing else f"a wrong entry ({error})") from None
        differing = [key for key in own.keys() & names.keys() if own[key] != names[key]]
        if differing:
            found = f"{own[differing[0]]} and {names[differing[0]]} for {differing[0]}"
            remedy = "Use both files of one release of COCO"
            raise InputError(Finding(str(path), "one name for each category", found, remedy))
        names |= own
    # Otherwise an image of a file not given would count as one without objects.
    if absent := sorted(known - listed):
        found = f"{len(absent)} of {len(known)} missing, such as COCO number {absent[0]}"
        remedy = "Use both files of annotations_trainval2017.zip of cocodataset.org, whole"
        where = ", ".join(map(str, paths))
        raise InputError(Finding(where, "every image in its list of images", found, remedy))
    found = [areas.get(number, {}) for number in wanted]
    # Of equal areas the first in the alphabet.
    main = [min(own, key=lambda name: (-own[name], name)) if own else "" for own in found]
    every = [tuple(sorted(own)) for own in found]
    index = pd.Index(wanted, name="coco_id")
    return pd.DataFrame({"main": main, "all": every}, index=index)

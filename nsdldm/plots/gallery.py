"""One page with every test image and its reconstructions."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from html import escape
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from nsdldm.evaluation.tables import CEILING
from nsdldm.nsd.captions import read_captions
from nsdldm.nsd.stimuli import read_images
from nsdldm.plots.pictures import (
    DEMO_NOTE,
    check_picture,
    describe_method,
    fit_picture,
    name_method,
    name_metric,
    open_pictures,
    rank_samples,
    read_columns,
    read_test_images,
)
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import replacing

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("gallery_template.html")
PICTURES = "<!-- pictures -->"
MEGABYTE = 1_000_000
# Bytes reserved for the sentences about the page.
SLACK = 4_000


class Page(NamedTuple):
    """How large the page is, and what it shows beside pictures.

    Parameters
    ----------
    samples : int, optional
        Maximum number of samples per method; all by default.
    pixels : int
        Side of the small pictures.
    quality : int
        Of WebP, 0 to 100.
    max_megabytes : float
        Maximum size of the file, in units of 10^6 bytes.
    title : str
    decoded : dict of path, optional
        Keys (subject, method): a table with the columns nsd_id and caption. These captions, which
        were decoded, are written below the pictures of the method.
    """

    samples: int | None = None
    pixels: int = 96
    quality: int = 60
    max_megabytes: float = 60
    title: str = "Reconstructions of the test images"
    decoded: dict[tuple[str, str], Path | str] | None = None


def write_gallery(
    *,
    subjects: Sequence[str],
    methods: Sequence[str],
    reconstructions: dict[tuple[str, str], Path],
    samples: dict[tuple[str, str], Path],
    tables: dict[tuple[str, str], Path],
    images: dict[str, Path],
    stimuli: str | Path,
    captions: Sequence[str | Path],
    best_by: str,
    demo: bool,
    html: Path,
    page: Page = Page(),  # noqa: B008
) -> None:
    """Write one HTML file with the test images, their reconstructions, scores and captions.

    The page needs no network. It contains pictures as small base64 WebP files, decoded when shown.
    The best sample of every image, subject and method goes in first, then all second best ones, and
    so on as long as the file stays within `max_megabytes`; the page says how many there are.

    Parameters
    ----------
    subjects, methods : sequence of str
        In the order shown.
    reconstructions, samples, tables : dict of path
        Keys (subject, method): pictures as HDF5, scores of every sample, scores of every image.
    images : dict of path
        For each subject the table of images.
    stimuli : str or Path
        ``nsd_stimuli.hdf5``.
    captions : sequence of path
        COCO's caption files.
    best_by : str
        The metric that orders the samples; larger is better.
    demo : bool
        Say on the page that the data are simulated.
    html : path
        Output.
    page : Page

    Raises
    ------
    InputError
        Files do not fit together, or even the best samples alone exceed the maximum size.
    """
    data, orders = collect_page(
        subjects, methods, samples, tables, images, captions, best_by, page.pixels, page.decoded
    )
    most = max(method["samples"] for method in data["methods"])
    keep = min(most, page.samples or most)
    before, after = _fill_template(page.title, demo, page.pixels).split(PICTURES)
    limit = page.max_megabytes * MEGABYTE - len((after + _dump(data, keep)).encode()) - SLACK
    with replacing(html) as part, open(part, "wb") as stream, ExitStack() as stack:
        opened = {
            key: (path, *stack.enter_context(open_pictures(path)))
            for key, path in reconstructions.items()
            if key in orders
        }
        stream.write(before.encode())
        numbers = [image["id"] for image in data["images"]]
        _write_seen(stream, read_images(stimuli, numbers), page.pixels, page.quality)

        def make_block(index, rank):
            return _make_block(data, orders, opened, index, rank, page.pixels, page.quality)

        kept = _write_layers(stream, make_block, len(numbers), keep, limit)
        about = _describe_page(data, kept, most, best_by, stream.tell(), *page[2:4])
        stream.write(_fill(after, about="\n".join(about), data=_dump(data, kept)).encode())
        logger.info("%d of %d samples, %.1f MB", kept, most, stream.tell() / MEGABYTE)


def collect_page(
    subjects: list[str],
    methods: list[str],
    samples: dict[tuple[str, ...], Path | str],
    tables: dict[tuple[str, ...], Path | str],
    images: dict[str, Path | str],
    captions: Sequence[str | Path],
    best_by: str,
    pixels: int,
    decoded: dict[tuple[str, ...], Path | str] | None = None,
) -> tuple[dict, dict[str, dict[str, list[int]]]]:
    """Gather everything on the page except pictures.

    Parameters
    ----------
    subjects, methods, samples, tables, images, captions, best_by, pixels, decoded
        As `write_gallery` and `Page`.

    Returns
    -------
    data : dict
        Data for the page's script. For each subject, an image has None if it is not one of the
        subject's test images, or for each method the samples, best first (``order``), their scores
        (``sample``, a list per sample) and those of the image (``image``), and the decoded
        ``caption`` if the method has captions.
    orders : dict of dict of list of int
        Keys (subject, method), then NSD id: samples, best first.
    """
    keys = [(subject, method) for subject in subjects for method in methods]
    tests = {subject: read_test_images(images[subject]) for subject in subjects}
    cocos = {int(r.nsd_id): int(r.coco_id) for table in tests.values() for r in table.itertuples()}
    texts = read_captions(captions, cocos.values())
    orders = {key: _order_samples(samples[key], best_by, tests[key[0]]["nsd_id"]) for key in keys}
    sample_scores = {key: _read_scores(samples[key], ("nsd_id", "sample")) for key in keys}
    image_scores = {key: _read_scores(tables[key], ("nsd_id",)) for key in keys}
    names = {"sample": _join_metrics(sample_scores), "image": _join_metrics(image_scores)}
    written = {key: _read_decoded(path, orders[key]) for key, path in (decoded or {}).items()}

    def make_cell(key, number):
        order = orders[key][number]
        own = [_pick(sample_scores[key], (number, sample), names["sample"]) for sample in order]
        cell = {
            "order": order,
            "sample": own,
            "image": _pick(image_scores[key], (number,), names["image"]),
        }
        return cell | ({"caption": written[key][number]} if key in written else {})

    def make_row(subject, number):
        if number not in orders[subject, methods[0]]:
            return None
        return [make_cell((subject, method), number) for method in methods]

    data = {
        "subjects": list(subjects),
        "methods": [_describe_method(method, subjects, orders) for method in methods],
        "metrics": _describe_metrics(names),
        "bestMetric": f"sample:{best_by}",
        "pixels": pixels,
        "images": [
            {
                "id": number,
                "coco": cocos[number],
                "captions": texts[cocos[number]],
                "cells": [make_row(subject, number) for subject in subjects],
            }
            for number in sorted(cocos)
        ],
    }
    return data, orders


def _order_samples(path, metric, nsd_ids):
    """Samples of each image, best first."""
    ranked = rank_samples(path, metric, nsd_ids)
    return {
        int(number): own["sample"].astype(int).tolist() for number, own in ranked.groupby("nsd_id")
    }


def _read_scores(path, index):
    """Scores of a table by metric and then by index, without undefined ones."""
    table = read_columns(path, (*index, "metric", "value"))
    table = table[np.isfinite(table["value"])]
    if table.duplicated([*index, "metric"]).any():
        expected = f"one row for each {', '.join(index)} and metric"
        raise InputError(Finding(str(path), expected, "several", "Evaluate again"))
    scores = {}
    places = zip(*(table[name].astype(int) for name in index), strict=True)
    for place, metric, value in zip(places, table["metric"], table["value"], strict=True):
        # Three digits are shown; more would only make the file larger.
        scores.setdefault(metric, {})[place] = float(f"{value:.4g}")
    return scores


def _read_decoded(path, wanted):
    """Decoded captions by image."""
    table = read_columns(path, ("nsd_id", "caption"))
    captions = dict(zip(table["nsd_id"].astype(int), table["caption"].fillna(""), strict=True))
    missing = sorted(set(wanted) - set(captions))
    if missing:
        expected, found = "a caption of every test image", f"none of NSD id {missing[0]}"
        raise InputError(Finding(str(path), expected, found, "Caption the images again"))
    return {number: str(caption) for number, caption in captions.items()}


def _join_metrics(scores):
    """All metrics of several tables, in order of first appearance."""
    return list(dict.fromkeys(metric for own in scores.values() for metric in own))


def _pick(scores, place, metrics):
    """One value per metric, None where there is none."""
    return [scores.get(metric, {}).get(place) for metric in metrics]


def _describe_method(method, subjects, orders):
    """What the page says about a method."""
    counts = [len(order) for subject in subjects for order in orders[subject, method].values()]
    return {
        "id": method,
        "label": name_method(method, mathematics=False),
        "words": describe_method(method),
        "samples": max(counts),
        "ceiling": method == CEILING,
    }


def _describe_metrics(names):
    """What the page says about each metric, and where its values are."""
    return [
        {"id": f"{kind}:{name}", "kind": kind, "index": index, "label": name_metric(name)}
        for kind, own in names.items()
        for index, name in enumerate(own)
    ]


def _fill(text, **values):
    """Replace each {{name}} in a text by its value, in a single pass."""
    parts = text.split("{{")
    for index, part in enumerate(parts[1:], 1):
        name, closed, rest = part.partition("}}")
        parts[index] = f"{values[name]}{rest}" if closed and name in values else "{{" + part
    return "".join(parts)


def _fill_template(title, demo, pixels):
    """Read the page's template, and fill in what is known before the pictures."""
    with reading(TEMPLATE, "the template of the gallery"):
        text = TEMPLATE.read_text(encoding="utf-8")
    note = f'<p class="demo">{escape(DEMO_NOTE)}</p>' if demo else ""
    # The rest is filled in later; a title must not contain such a place.
    title = escape(title).replace("{", "&#123;")
    return _fill(text, title=title, demo=note, pixels=pixels)


def _dump(data, kept):
    """JSON of the data with only the first `kept` samples, safe inside a script element."""

    def trim(cell):
        return cell | {name: cell[name][:kept] for name in ("order", "sample")}

    images = [
        image | {"cells": [row and [trim(cell) for cell in row] for row in image["cells"]]}
        for image in data["images"]
    ]
    text = json.dumps(data | {"images": images, "kept": kept}, separators=(",", ":"))
    # A caption must not be able to end the element.
    return text.replace("<", "\\u003c")


def _encode(picture, pixels, quality):
    """A small picture as base64 of WebP."""
    buffer = BytesIO()
    Image.fromarray(fit_picture(picture, pixels)).save(buffer, "WEBP", quality=quality, method=4)
    return base64.b64encode(buffer.getvalue()).decode()


def _wrap(name, lines):
    """A script element that browsers keep but do not run."""
    text = "\n".join(lines)
    return f'<script type="text/plain" id="{name}">\n{text}\n</script>\n'.encode()


def _write_seen(stream, seen, pixels, quality):
    """Write the presented images, one block per image."""
    for index, picture in enumerate(seen):
        stream.write(_wrap(f"s{index}", [f"seen {_encode(picture, pixels, quality)}"]))


def _make_block(data, orders, opened, index, rank, pixels, quality):
    """Block of an image: one line for each subject and method with a sample of this rank."""
    number, lines = data["images"][index]["id"], []
    for s, subject in enumerate(data["subjects"]):
        for m, method in enumerate(data["methods"]):
            key = subject, method["id"]
            order = orders[key].get(number, [])
            if rank < len(order):
                path, images, rows = opened[key]
                check_picture(path, images, rows, number, order[rank])
                with reading(path, "pictures", "Reconstruct again"):
                    picture = images[rows[number], order[rank]]
                lines.append(f"{s}.{m} {_encode(picture, pixels, quality)}")
    return _wrap(f"p{index}-{rank}", lines)


def _write_layers(stream, make_block, n_images, keep, limit):
    """Write the best sample of all images, then the next best ones as long as they fit.

    Returns
    -------
    int
        Samples that are in the file.
    """
    for rank in range(keep):
        start = stream.tell()
        for index in range(n_images):
            block = make_block(index, rank)
            if stream.tell() + len(block) > limit:
                if rank == 0:
                    raise InputError(_too_small(index, n_images))
                stream.seek(start)
                stream.truncate()
                return rank
            stream.write(block)
    return keep


def _too_small(index, n_images):
    """Describe a maximum size that even the best samples exceed."""
    return Finding(
        "`max_megabytes`",
        "room for the best sample of every image, subject and method",
        f"room for {index} of {n_images} images",
        "Raise it, or lower `pixels` or `quality`",
    )


def _describe_page(data, kept, most, best_by, size, quality, max_megabytes):
    """Paragraphs that describe the page."""
    by = escape(name_metric(best_by))
    samples = f"all {most}" if kept == most else f"the best {kept} of {most}"
    left_out = ""
    if kept < most:
        left_out = f" The others are left out to keep the file below {max_megabytes:g} MB."
    cells = [cell for image in data["images"] for row in image["cells"] if row for cell in row]
    captioned = any("caption" in cell for cell in cells)
    decoded = " Captions below pictures are decoded ones." if captioned else ""
    number = f"{len(data['images']):,} test images"
    pixels = f"{data['pixels']} × {data['pixels']} pixels (WebP, quality {quality})"
    return [
        f"<p>{number} with {samples} samples of each method, best first by {by}.{left_out} "
        f"Pictures are {pixels}, {size / MEGABYTE:.1f} MB in all; the originals are in "
        "<code>results/{subject}/{protocol}/reconstructions</code>.</p>",
        "<p>Scores below a picture are its own, or, for a score “of the image”, those of all its "
        "samples. Images are sorted and filtered by the best sample’s score of the chosen method, "
        "or of all methods shown except the ceiling (which uses the image itself), averaged over "
        "the subjects shown. A dash means that a score is undefined or was not computed. NSD ids "
        f"count from 0.{decoded}</p>",
    ]

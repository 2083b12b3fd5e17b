"""One page about what decoding generalises to: numbers, and sentences made from them."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image

from nsdldm.plots.generalisation_rows import (
    ALL,
    REFERENCES,
    SHARED,
    SIMILAR,
    find_reference,
    list_cases,
    list_scores,
    list_subjects,
    name_case,
    name_score,
    read_generalisation,
    select_main,
    take_group,
)
from nsdldm.plots.generalisation_sections import Section, list_sections
from nsdldm.plots.generalisation_tables import MARKS, draw_cell, pick_rows
from nsdldm.plots.generalisation_words import join_words, read_case
from nsdldm.plots.pictures import DEMO_NOTE
from nsdldm.support.errors import reading
from nsdldm.support.files import replacing

logger = logging.getLogger(__name__)

TITLE = "Does it generalise?"
KINDS = {"split": "Divisions", "test set": "Other test sets", "little data": "Little data"}
CAPTIONS = {
    "fig11": "Figure 11: all cases, subject by subject",
    "fig12": "Figure 12: scores by the number of dimensions that decoders pass on",
    "fig13": "Figure 13: scores by similarity to the nearest training image",
    "nsd_synthetic": "Reconstructions of NSD-synthetic",
    "nsd_imagery": "Reconstructions of NSD-Imagery",
}
QUALITY = 88  # of WebP
STYLE = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 100rem; padding: .8rem 1rem 3rem; color: #1b1b1b;
  background: #fff; font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans",
  sans-serif; font-variant-numeric: tabular-nums; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
p, ul { margin: .25rem 0; max-width: 62rem; } li { margin: .1rem 0; }
.demo, .about, caption { color: #5c5c5c; } .about { font-size: .87rem; }
nav { font-size: .87rem; margin: .4rem 0; } nav a { margin-right: .9rem; white-space: nowrap; }
a { color: #0b62a4; }
.wide { overflow-x: auto; margin: .4rem 0; }
table { border-collapse: collapse; font-size: .82rem; line-height: 1.25; }
th, td { padding: .12rem .5rem; border-bottom: 1px solid #e4e4e0; text-align: left;
  vertical-align: middle; }
thead th { border-bottom: 1px solid #8c8c88; vertical-align: bottom; }
th { font-weight: 600; } th small { font-weight: 400; }
td.score { white-space: nowrap; } small, .small { color: #5c5c5c; font-size: .92em; }
tr.kind th { padding-top: .35rem; color: #5c5c5c; font-weight: 400; font-size: .95em; }
.matrix td.words { min-width: 15rem; max-width: 36rem; }
.above { background: #e2f0ea; } .below { background: #fae3d8; } .not { background: #f1f1ef; }
.above b { color: #00533c; } .below b { color: #8a2d00; } .not b { color: #4a4a4a; }
.line { display: flex; align-items: center; gap: .4rem; line-height: 1; }
.bar { position: relative; flex: 1; height: 5px; background: #fff; border: 1px solid #b9b9b4;
  min-width: 4.5rem; }
.bar i { position: absolute; left: 0; top: 0; bottom: 0; background: #4a4a4a; }
.above .bar i { background: #00805d; } .bar u { position: absolute; top: -2px; bottom: -2px;
  width: 2px; background: #1b1b1b; }
figure { margin: .8rem 0; } figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .87rem; color: #5c5c5c; }
details { margin: .4rem 0; } summary { cursor: pointer; font-weight: 600; font-size: .9rem; }
@media (min-width: 75rem) { .matrix tbody th { white-space: nowrap; } }
@media print { .wide { overflow: visible; } details { break-inside: avoid; } }
"""
HEAD = (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'\">\n"
)


def write_generalisation_page(
    *, table: Path | str, figures: Sequence[Path | str], output: Path | str, demo: bool
) -> None:
    """Write what holds in which case as one HTML file that needs no network and no script.

    Whatever states a result is made from the numbers of the table. Cases and sections without
    numbers are left out.

    Parameters
    ----------
    table : path
        As `nsdldm.evaluation.generalisation_table.tabulate_generalisation` writes it.
    figures : sequence of path
        Pictures (PNG) to show. Figures 11 to 13 stand in their sections, others at the end.
    output : path
    demo : bool
        Say on the page that the data are simulated.

    Raises
    ------
    InputError
        The table lacks a column, or holds nothing that was decoded; a figure cannot be read.
    """
    numbers = read_generalisation(table)
    pictures = {Path(path): embed_figure(path) for path in figures}
    body = "\n".join(write_body(numbers, pictures, demo))
    page = f"{HEAD}<title>{TITLE}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n"
    with replacing(output) as part:
        Path(part).write_text(f"{page}</body>\n</html>\n", encoding="utf-8")
    logger.info("%d figures, %.1f MB", len(pictures), len(page) / 1e6)


def write_body(numbers: pd.DataFrame, pictures: dict[Path, str], demo: bool) -> list[str]:
    """Parts of the page between the tags of its body.

    Parameters
    ----------
    numbers : DataFrame
        As `nsdldm.plots.generalisation_rows.read_generalisation` returns it.
    pictures : dict of str
        Embedded figures by path.
    demo : bool

    Returns
    -------
    list of str
    """
    sections = list_sections(numbers)
    named = {path.stem: path for path in pictures}
    taken = {figure for section in sections for figure in section.figures} | {"fig11"}
    rest = [path for path in pictures if path.stem not in taken]
    if rest:
        sections = [*sections, Section("pictures", "Reconstructions", "", [], [], [])]
    parts = [f"<h1>{TITLE}</h1>"]
    parts += [f'<p class="demo">{escape(DEMO_NOTE)}</p>'] if demo else []
    parts.append(write_matrix(numbers))
    links = [f'<a href="#{each.key}">{escape(each.title)}</a>' for each in sections]
    parts += ["<nav>" + " ".join(links) + "</nav>", _explain(numbers)]
    parts += [_show(named["fig11"], pictures)] if "fig11" in named else []
    for section in sections:
        parts += _write_section(section)
        parts += [_show(named[stem], pictures) for stem in section.figures if stem in named]
    return parts + [_show(path, pictures) for path in rest]


def write_matrix(numbers: pd.DataFrame) -> str:
    """Cases by scores, with a bar and a sentence for each case.

    Parameters
    ----------
    numbers : DataFrame
        As `nsdldm.plots.generalisation_rows.read_generalisation` returns it.

    Returns
    -------
    str
        HTML.
    """
    group = take_group(numbers)
    main = group[select_main(group) & group["value"].notna()]
    scores = list_scores(main[main["kind"].isin(KINDS)])
    head = "".join(f"<th>{escape(name_score(score, False))}</th>" for score in scores)
    lines = [f"<thead><tr><th>Tested on</th>{head}<th>Reading</th></tr></thead><tbody>"]
    cases = list_cases(main, list(KINDS))
    there = [case for own in cases.values() for case in own]
    nearest = pick_rows(group[(group["case"] == SHARED) & (group["source"] == "nearest")], ALL)
    for kind, own in cases.items():
        lines.append(f'<tr class="kind"><th colspan="{len(scores) + 2}">{KINDS[kind]}</th></tr>')
        for case in own:
            rows = main[main["case"] == case]
            marks = nearest if case == SHARED else {}
            lines.append(_write_case(case, kind, rows, main, there, scores, marks))
    return f'<div class="wide"><table class="matrix">{"".join(lines)}</tbody></table></div>'


def _write_case(case, kind, rows, main, there, scores, marks):
    """A row of the matrix."""
    reference = find_reference(case, kind, there)
    own, similar = pick_rows(rows, ALL), pick_rows(rows, SIMILAR)
    others = pick_rows(main[main["case"] == reference], ALL)
    cells = [
        draw_cell(own[score], marks.get(score)) if score in own else "<td></td>" for score in scores
    ]
    words = escape(read_case(own, similar, others, reference))
    label = f"{escape(name_case(case))}<br><small>{escape(case)}</small>"
    return f'<tr><th>{label}</th>{"".join(cells)}<td class="words">{words}</td></tr>'


def _explain(numbers):
    """What a column means; nothing here states a result."""
    subjects = list_subjects(numbers)
    pairs = {}
    for case, other in REFERENCES.items():
        pairs.setdefault(other, []).append(case)
    compared = "; ".join(f"{join_words(cases)} with {other}" for other, cases in pairs.items())
    whose = f"mean over {len(subjects)} subjects" if len(subjects) > 1 else subjects[0]
    marks = ", ".join(f"{mark} {words}" for mark, words in MARKS.values())
    return (
        '<p class="about">Each number: two-way identification ('
        f"{escape(whose)}), the share of other test images to which what was decoded is less "
        "similar than to the image shown, with its 95 % confidence interval (bootstrap over "
        "images); below, in how many subjects the interval is above chance. "
        f"{marks} chance, by the whole interval. Bar: from chance to the ceiling, which is what "
        "true features reach, or to 1; the stroke on it is the nearest training image. Reading: "
        "made from these numbers. Scores differ if their intervals do not overlap; divisions are "
        f"compared with {SHARED}; {escape(compared)}. Similar images: the other test images "
        "that resemble the image most.</p>"
    )


def _write_section(section):
    """HTML of a section without its figures."""
    parts = [f'<h2 id="{section.key}">{escape(section.title)}</h2>']
    parts += [f'<p class="about">{escape(section.about)}</p>'] if section.about else []
    sentences = [f"<li>{escape(sentence)}</li>" for sentence in section.sentences if sentence]
    parts += [f"<ul>{''.join(sentences)}</ul>"] if sentences else []
    return parts + list(section.tables)


def embed_figure(path: Path | str) -> str:
    """A figure as an address that holds its pixels.

    Parameters
    ----------
    path : path
        PNG.

    Returns
    -------
    str
        ``data:image/webp;base64,...``.

    Raises
    ------
    InputError
        The figure cannot be read.
    """
    buffer = BytesIO()
    with reading(path, "a picture", "Draw the figure again"), Image.open(path) as image:
        image.convert("RGB").save(buffer, "WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _show(path, pictures):
    """A figure with its caption, and the subject whose folder it is in."""
    whose = path.parts[-3] if len(path.parts) > 2 and path.parts[-3].startswith("subj") else ""
    caption = CAPTIONS.get(path.stem, path.stem) + (f", {whose}" if whose else "")
    words = escape(caption, quote=True)
    image = f'<img src="{pictures[path]}" alt="{words}" loading="lazy">'
    return f"<figure>{image}<figcaption>{words}</figcaption></figure>"

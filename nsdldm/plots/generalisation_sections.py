"""Sections of the page on generalisation: what each is about, its sentences and its tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
import pandas as pd

from nsdldm.plots.generalisation_rows import (
    ALL,
    GROUP,
    KINDS,
    OTHERS,
    SHARED,
    WITHIN,
    list_cases,
    list_scores,
    name_case,
    name_score,
    select_main,
    take_group,
)
from nsdldm.plots.generalisation_tables import (
    draw_cell,
    pick_rows,
    text_cell,
    write_grid,
    write_table,
)
from nsdldm.plots.generalisation_words import (
    format_interval,
    format_number,
    format_percent,
    lower,
    merge_sentences,
    read_bottleneck,
    read_classes,
    read_difference,
    read_inference,
    read_prevalence,
    read_reliability,
    read_share,
    read_slopes,
    read_verdicts,
)

SHARE, SLOPE = "category-share", "-by-similarity"
RANK = re.compile(r"(noise-)?rank-(\d+)$")
# Sources and cases beside the decoder.
BASELINES = {
    "nearest": "the nearest training image",
    "mean": "the mean training image",
    "shuffled": "what was decoded for another image",
    "ceiling": "true features",
}
GIVEN = {"mean": "mean features", "true-caption": "the true caption alone"}
# Pairs of cases of the one-hour protocol whose difference answers a question.
LITTLE = (
    ("hour", "hour-all"),
    ("hour-aligned", "hour"),
    ("hour-tuned", "hour-aligned"),
    ("hour-tuned", "hour-all"),
    ("others", "hour-all"),
    ("hour-joint", "hour"),
)


class Section(NamedTuple):
    """A section of the page.

    Parameters
    ----------
    key, title, about : str
        The latter says what the columns mean.
    sentences : sequence of str
        Made from the numbers.
    tables : sequence of str
        HTML.
    figures : sequence of str
        Stems of the figures that belong here.
    """

    key: str
    title: str
    about: str
    sentences: Sequence[str]
    tables: Sequence[str]
    figures: Sequence[str] = ()


def list_sections(numbers: pd.DataFrame) -> list[Section]:
    """Sections of whatever the table holds, in order.

    Parameters
    ----------
    numbers : DataFrame
        As `nsdldm.plots.generalisation_rows.read_generalisation` returns it.

    Returns
    -------
    list of Section
    """
    group = take_group(numbers)
    group = group[group["value"].notna()]
    makers = (
        _describe_shares,
        _describe_baselines,
        _describe_similarity,
        _describe_bottleneck,
        _describe_little,
        _describe_betas,
        _describe_prevalence,
        _describe_encoders,
        _describe_inference,
    )
    sections = [make(group) for make in makers]
    sections.insert(6, _describe_reliability(numbers))
    return [section for section in sections if section and any(section.tables)]


def _pick_main(group, case):
    """Rows of what a case decoded, by score, among all test images."""
    own = group[(group["case"] == case) & select_main(group)]
    return pick_rows(own, ALL)


def _main_scores(group):
    return list_scores(group[select_main(group)])


def _describe_shares(group):
    """What scores owe to the category."""
    shared = group[(group["case"] == SHARED) & ~group["source"].isin(OTHERS)]
    main = shared[select_main(shared)]
    everything, within = pick_rows(main, ALL), pick_rows(main, WITHIN)
    shares = {
        row["score"].removesuffix(SHARE).removesuffix("-"): row
        for _, row in shared[shared["score"].str.endswith(SHARE)].iterrows()
    }
    lines = []
    for score, row in shares.items():
        cells = [
            draw_cell(rows[score]) if score in rows else "<td></td>"
            for rows in (everything, within)
        ]
        ends = format_interval(row, percent=True)
        cells.append(text_cell(f"{format_percent(row['value'])}{f' ({ends})' if ends else ''}"))
        lines.append([name_score(score, False), *cells])
    head = ["Shared images", "Among all", "Within the category", "Owed to the category"]
    about = (
        "A decoder that knows only the category of an image identifies it among images of all "
        "categories, and not among those of its own. Owed to the category: the share of the "
        "margin above chance that is lost there."
    )
    sentences = [read_share(score, row, within.get(score)) for score, row in shares.items()]
    table = write_table(head, lines) if lines else ""
    return Section("category", "Category or layout", about, sentences, [table])


def _describe_baselines(group):
    """What is reached without a brain, or without a generator."""
    main = _pick_main(group, SHARED)
    if not main:
        return None
    rows = {"decoded": main}
    for case in list_cases(group, ["baseline"]).get("baseline", []):
        rows[f"the generator given {GIVEN.get(case, case)}"] = _pick_main(group, case)
    for source, name in BASELINES.items():
        own = group[(group["case"] == SHARED) & (group["source"] == source)]
        rows[name] = pick_rows(own[own["score"].isin(main)], ALL)
    rows = {name: own for name, own in rows.items() if own}
    sentences = [
        f"Decoded: {lower(read_difference(main, own, name))}"
        for name, own in list(rows.items())[1:]
        if any(score in own for score in main)
    ]
    about = (
        "On the shared images: what was decoded for another image (shuffled), the training image "
        "nearest to what was decoded, the mean of the training images, the generator given mean "
        "features, and the generator given the true caption without an image latent."
    )
    table = write_grid("Source", list(main), rows) if len(rows) > 1 else ""
    return Section("baselines", "Baselines and ceiling", about, sentences, [table])


def _describe_similarity(group):
    """How scores grow with similarity to training images."""
    own = group[group["score"].str.endswith(SLOPE) & ~group["source"].isin(OTHERS)]
    rows = {}
    for case, part in own.groupby("case", sort=False):
        if part["kind"].iloc[0] in ("split", "test set"):
            names = part["score"].str.removesuffix(SLOPE)
            rows[case] = pick_rows(part.assign(score=names), ALL)
    rows = {case: own for case, own in rows.items() if own}
    scores = list(dict.fromkeys(score for own in rows.values() for score in own))
    about = (
        "Rank correlation over test images of the score with the similarity of the image to the "
        "nearest training image. Figure 13 compares cases at equal similarity."
    )
    sentences = merge_sentences({case: read_slopes(own) for case, own in rows.items()})
    table = write_grid("Case", scores, rows) if rows else ""
    title = "Similarity to the training images"
    return Section("similarity", title, about, sentences, [table], ["fig13"])


def _describe_bottleneck(group):
    """How few numbers suffice."""
    cases = list_cases(group, ["bottleneck"]).get("bottleneck", [])
    found = {case: RANK.match(case) for case in cases}
    curve = {int(m[2]): _pick_main(group, case) for case, m in found.items() if m and not m[1]}
    noise = {int(m[2]): _pick_main(group, case) for case, m in found.items() if m and m[1]}
    full, mean = _pick_main(group, SHARED), _pick_main(group, "mean")
    rows = {f"{number}": own for number, own in sorted(curve.items())} | {"all": full}
    rows |= {f"noise, {number}": own for number, own in sorted(noise.items())}
    rows |= {"mean features": mean} if mean else {}
    scores = _main_scores(group)
    sentences = []
    for score in scores:
        own = {number: rows_[score] for number, rows_ in curve.items() if score in rows_}
        noisy = [rows_[score] for rows_ in noise.values() if score in rows_]
        if own:
            sentences.append(read_bottleneck(score, own, full.get(score), noisy))
    if mean:
        sentences.append(f"The generator given mean features: {lower(read_verdicts(mean))}")
    about = (
        "Decoders pass only so many numbers per image on to the generator: the first principal "
        "components of their predictions. Noise: the same decoders fitted to noise."
    )
    table = write_grid("Numbers per image", scores, rows) if curve else ""
    return Section("bottleneck", "Bottleneck", about, sentences, [table], ["fig12"])


def _describe_little(group):
    """What one session is worth."""
    cases = list_cases(group, ["little data"]).get("little data", [])
    rows = {case: _pick_main(group, case) for case in cases}
    sentences = [
        f"{case}: {lower(read_difference(rows[case], rows[other], other))}"
        for case, other in LITTLE
        if case in rows and other in rows
    ]
    about = (
        "hour: the images of the first session train the decoder. hour-aligned: decoders of other "
        "subjects, aligned by shared images of that session; hour-tuned: these, adapted to the "
        "session's other images; others: decoders of other subjects, aligned by shared images of "
        "all sessions; hour-joint: a decoder trained on all subjects, of whom this one contributes "
        "that session; hour-all: all sessions. The test images are the same."
    )
    table = write_grid("Case", _main_scores(group), rows) if rows else ""
    return Section("little", "Little data", about, sentences, [table])


def _describe_betas(group):
    """Whether another version of the betas changes scores."""
    cases = list_cases(group, ["betas"]).get("betas", [])
    rows = {case: _pick_main(group, case) for case in (SHARED, *cases)}
    sentences = [
        f"{case}: {lower(read_difference(rows[case], rows[SHARED], SHARED))}" for case in cases
    ]
    about = (
        "The same images and decoders with another version of the betas. Denoising by GLMdenoise "
        "can couple the repeats of an image; where it is left out, this cannot be."
    )
    table = write_grid("Case", _main_scores(group), rows) if cases else ""
    return Section("betas", "Other betas", about, sentences, [table])


def _describe_reliability(numbers):
    """How reliable scores of single images are."""
    own = numbers[select_main(numbers) & (numbers["case"] == SHARED)]
    own = own[(own["candidates"] == ALL) & own["reliability"].notna()]
    scores, lines, group = list_scores(own), [], {}
    for subject, part in own.groupby("subject", sort=False):
        rows = pick_rows(part, ALL)
        group = rows if subject == GROUP or not group else group
        values = {score: format_number(row["reliability"]) for score, row in rows.items()}
        cells = [text_cell(values.get(score, "")) for score in scores]
        lines.append(["mean" if subject == GROUP else subject, *cells])
    about = (
        "Correlation over the shared images of a score from one half of an image's trials with "
        "that from the other half, corrected for the half (Spearman-Brown)."
    )
    heads = [name_score(score, False) for score in scores]
    table = write_table(["Subject", *heads], lines) if lines else ""
    return Section("reliability", "Reliability", about, [read_reliability(group)], [table])


def _describe_prevalence(group):
    """In how many people the effect is to be expected."""
    own = group[select_main(group) & (group["candidates"] == ALL) & group["kind"].isin(KINDS)]
    own = own[own["prevalence"].notna()]
    scores, lines = list_scores(own), []
    for case, part in own.groupby("case", sort=False):
        rows, cells = pick_rows(part, ALL), []
        for score in scores:
            text = ""
            if score in rows:
                row = rows[score]
                text = f"{row['above']:.0f} of {row['n_subjects']:.0f}: "
                text += format_percent(row["prevalence"])
                text += f" ({format_interval(row, True, 'prevalence_')})"
            cells.append(text_cell(text))
        lines.append([case, *cells])
    about = (
        "How many subjects are above chance by their own interval, and the share of the "
        "population in which the effect is to be expected, with its 95 % interval (Bayesian "
        "prevalence, Ince et al. 2021)."
    )
    table = write_table(["Case", *(name_score(score, False) for score in scores)], lines)
    sentences = [read_prevalence(own)] if lines else []
    return Section(
        "prevalence", "Prevalence over subjects", about, sentences, [table if lines else ""]
    )


def _describe_encoders(group):
    """Where cortex is predicted, by class of image."""
    own = group[(group["source"] == "encoder") & (group["score"] == "r")]
    sentences, tables = {}, []
    for (case, space), part in own.groupby(["case", "space"], sort=False):
        classes = list(dict.fromkeys(part["candidates"]))
        rows = {
            region: {row["candidates"]: row for _, row in each.iterrows()}
            for region, each in part.groupby("region", sort=False)
        }
        sentences[f"{case} ({space})"] = read_classes(part)
        title = f"{name_case(case)} ({case}), encoders of {space}"
        grid = write_grid("Region", classes, rows, share=True)
        opened = " open" if case == SHARED else ""
        tables.append(f"<details{opened}><summary>{escape(title)}</summary>{grid}</details>")
    about = (
        "Correlation over test images of predicted with measured responses, mean over the voxels "
        "of a region, and in percent of the noise ceiling; columns are classes of image."
    )
    title = "Encoders by region and class"
    return Section("encoders", title, about, merge_sentences(sentences), tables)


def _describe_inference(group):
    """How many voxels either kind of inference finds."""
    own = group[(group["source"] == "encoder") & group["score"].isin(("share_fdr", "share_fwe"))]
    table = own.pivot_table("value", ["space", "region"], "score", sort=False)
    if not {"share_fdr", "share_fwe"} <= {*table}:
        return None
    table = table[np.isfinite(table).all(axis=1)]
    lines = [
        [space, text_cell(region), *(text_cell(format_percent(row[name])) for name in row.index)]
        for (space, region), row in table[["share_fdr", "share_fwe"]].iterrows()
    ]
    about = (
        "Share of a region's voxels whose prediction is significant: by the false discovery rate "
        "(FDR), and family-wise, by permutation of test images with the largest value anywhere in "
        "cortex."
    )
    sentences = [read_inference(table["share_fdr"], table["share_fwe"])] if lines else []
    head = ["Space", "Region", "FDR", "Family-wise"]
    written = write_table(head, lines) if lines else ""
    return Section("inference", "Inference over voxels", about, sentences, [written])

"""All subjects together: accuracy of each feature space, and trends of unique variance, by region.

An interval says how a mean over a region would vary with other images like these and other parts of
the region like these, in the same subjects. Both matter, because voxels share the images and
neighbours share noise.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from nsdldm.encoding.cells import load_sums
from nsdldm.features.spaces import BEYOND, CONTROLS, SERIES, parse_pair, parse_space, split_control
from nsdldm.intervals import draw_counts, take_interval
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_table, save_table

logger = logging.getLogger(__name__)

MEAN = "mean"
# Fewer cubes, or images, cannot tell how much a mean varies.
FEWEST = 5
KEYS = ["roi", "measure", "space", "series", "level"]
NUMBERS = ["value", "ci_low", "ci_high", "n_voxels", "n_cubes", "n_images"]
AGREEMENT = ["n_subjects", "n_positive", "n_agree", "n_clear"]
# What z_c shares with z: the unique variance of z_c beyond controls is what exceeds the largest of
# them.
TAKEN = (*CONTROLS, "linear")


class Estimate(NamedTuple):
    """A mean over a region, and how it depends on images and on parts of the region.

    Parameters
    ----------
    value : float
    deviations : float array of shape (n_images, n_cubes)
        The contribution of each image in each cube; they sum to 0.
    n_voxels, n_cubes : int
    """

    value: float
    deviations: np.ndarray
    n_voxels: int
    n_cubes: int


class Spread(NamedTuple):
    """Draws of a mean's deviation over images and over cubes, and the variance that is in both."""

    by_image: np.ndarray
    by_cube: np.ndarray
    shared: float

    def interval(self, value: float | np.ndarray) -> np.ndarray:
        """The middle 95 % of draws of the mean, with images and cubes drawn together: both ends, of
        shape (2, ...)."""
        variances = self.by_image.var(), self.by_cube.var()
        both = sum(variances)
        # What is specific to one image in one cube varies with either draw, but counts once.
        wanted = max(both - self.shared, *variances)
        scale = np.sqrt(wanted / both) if both else 1
        return take_interval(value + scale * (self.by_image + self.by_cube))


def tabulate_group(
    *,
    sums: dict[str, list[Path | str]],
    output: Path | str,
    repeats: int,
    seed: int,
    noise: Path | str | None = None,
) -> None:
    """Compare subjects: r of each space, unique variance by level, and its slope, by region.

    Values are means over the voxels of a region. Their 95 % intervals come from a bootstrap over
    test images and over cubes of `nsdldm.encoding.cells.CUBE_MM`. An image is drawn jointly for all
    voxels and for all subjects who saw it; cubes are drawn separately for each subject. The
    interval of the mean over subjects holds for these subjects, not for others. Draws change a
    value by its influence function; all measures share the draws, so the interval of a slope is
    that of the slope.

    Parameters
    ----------
    sums : dict of list of path
        For each subject, the files that `nsdldm.encoding.cells.Collector` wrote for each fit.
        Scores are called ``r:{space}`` and ``{pair}:{space}`` with pairs such as z+zc-n060 and
        z+zc-n060-empty.
    output : path
        Table with the columns subject (``mean`` among them), roi, measure (r; unique; slope, the
        least-squares change of unique variance from level 0 to 1), space, series (noise or step,
        with its variant), level, value, ci_low, ci_high (blank with fewer than `FEWEST` cubes or
        images), n_voxels, n_cubes, n_images, and for the mean n_subjects, n_positive, n_agree
        (subjects of the mean's sign) and n_clear (of these, those whose interval leaves out 0).
        Spaces such as zc-empty and zc-linear are controls of zc; zc-beyond is the unique variance
        of zc minus that of the largest control, or minus 0 if all are negative, in the voxels in
        which controls were fitted.
    repeats, seed : int
        Of the bootstrap.
    noise : path, optional
        The table that `tabulate_noise` makes of this one.

    Raises
    ------
    InputError
        A file is of another kind, or fits of one subject do not belong together.
    """
    files = {subject: _load(paths) for subject, paths in sums.items()}
    images = np.unique(np.concatenate([own[0].nsd_ids for own in files.values()]))
    drawn = draw_counts(len(images), repeats, seed)
    rows, spreads = [], {}
    for subject, own in files.items():
        counts = drawn[:, np.searchsorted(images, own[0].nsd_ids)]
        columns = _collect(own)
        for number, roi in enumerate(own[0].regions):
            cells = own[0].inside[:, number]
            found = _estimate(columns, cells, own[0].cubes)
            rng = np.random.default_rng([seed, *subject.encode(), *roi.encode()])
            spread = _draw(found, counts, rng)
            rows.append(_tabulate(found, spread, len(own[0].nsd_ids), subject, roi))
            spreads |= {(subject, roi, *key): each for key, each in spread.items()}
    table = pd.concat(rows, ignore_index=True)
    means = [
        _average(keys, own, spreads) for keys, own in table.groupby(KEYS, sort=False, dropna=False)
    ]
    table = pd.concat([table, pd.DataFrame(means)], ignore_index=True)
    table[AGREEMENT] = table[AGREEMENT].astype("Int64")
    save_table(output, table[["subject", *KEYS, *NUMBERS, *AGREEMENT]])
    logger.info("%d subjects, %d rows", len(files), len(table))
    if noise is not None:
        tabulate_noise(table=output, output=noise)


def _load(paths):
    """Read the sums of one subject's fits, and check that all are over the same parts."""
    found = [load_sums(path) for path in paths]
    for path, each in zip(paths, found, strict=True):
        for name in ("nsd_ids", "cubes", "inside"):
            if not np.array_equal(getattr(each, name), getattr(found[0], name)):
                expected = f"the images, voxels and regions of {paths[0]}"
                raise InputError(Finding(str(path), expected, "others", "Fit both again"))
    return found


def _key(measure, space, series="", level=None):
    """Key of a measure; a missing level is None, which equals itself."""
    return measure, space, series, level


def _collect(files):
    """Sums and counts of all scores of a subject, by measure, space, series and level."""
    columns = {}
    for file in files:
        for name, sums in file.sums.items():
            model, _, space = name.partition(":")
            column = sums.astype(np.float64), file.counts[name]
            if model == "r":
                columns[_key("r", space)] = column
                continue
            whole, control = split_control(parse_pair(model)[1])
            base, kind, level, variant = parse_space(whole)
            series = SERIES[kind] + (f"-{variant}" if variant else "")
            if space != parse_pair(model)[0]:
                short = f"{base}-{control}" if control else base
                columns[_key("unique", short, series, level)] = column
            elif not control:
                columns[_key("unique", space, series, level)] = column
    return columns


def _mean(sums, counts, cells, cubes):
    """A mean over the voxels of some cells."""
    chosen = cells & (counts > 0)
    kinds, where = np.unique(cubes[chosen], axis=0, return_inverse=True)
    n_voxels = int(counts[chosen].sum())
    if not n_voxels:
        return Estimate(np.nan, np.zeros((len(sums), 0)), 0, 0)
    member = np.eye(len(kinds))[where.reshape(-1)]
    own = sums[:, chosen]
    value = own.sum(axis=1).mean() / n_voxels
    return Estimate(
        float(value), (own - value * counts[chosen]) @ member / n_voxels, n_voxels, len(kinds)
    )


def _combine(parts):
    """A weighted sum of estimates in one region; cubes are those of the first, or all cubes."""
    estimates = [each for _, each in parts]
    value = sum(w * each.value for w, each in parts)
    deviations = sum(w * each.deviations for w, each in parts)
    fewest = [min(getattr(each, name) for each in estimates) for name in ("n_voxels", "n_cubes")]
    return Estimate(value, deviations, *fewest)


def _estimate(columns, cells, cubes):
    """Means of all scores over one region, unique variance beyond controls, and slopes."""
    found = {key: _mean(*column, cells, cubes) for key, column in columns.items()}
    for key, column in columns.items():
        measure, space, series, level = key
        names = [_key(measure, f"{space}-{control}", series, level) for control in TAKEN]
        controls = [name for name in names if name in columns]
        if not controls:
            continue
        here = cells & (columns[controls[0]][1] > 0)
        whole = _mean(*column, here, cubes)
        most = max(controls, key=lambda name: found[name].value)
        parts = [(1, whole)] + ([(-1, found[most])] if found[most].value > 0 else [])
        found[_key(measure, f"{space}-{BEYOND}", series, level)] = _combine(parts)
    series = {}
    for (measure, space, name, level), each in found.items():
        if measure == "unique":
            series.setdefault((space, name), []).append((level, each))
    for (space, name), own in series.items():
        if len(own) > 1:
            away = np.array([level for level, _ in own]) - np.mean([level for level, _ in own])
            weights = away / (away**2).sum()
            parts = [(weight, each) for weight, (_, each) in zip(weights, own, strict=True)]
            found[_key("slope", space, name)] = _combine(parts)
    return found


def _draw(found, counts, rng):
    """How each estimate varies with the images drawn (n_draws, n_images) and with cubes."""
    spreads, cubes = {}, {}
    for key, each in found.items():
        n_images, n_cubes = each.deviations.shape
        if n_cubes not in cubes:
            share = np.full(n_cubes, 1 / max(n_cubes, 1))
            cubes[n_cubes] = rng.multinomial(n_cubes, share, len(counts)) if n_cubes else None
        if n_cubes:
            total = np.maximum(counts.sum(axis=1), 1)
            by_image = counts @ each.deviations.sum(axis=1) / total
            by_cube = cubes[n_cubes] @ each.deviations.mean(axis=0)
            shared = np.square(each.deviations / n_images).sum()
            spreads[key] = Spread(by_image, by_cube, shared)
    return spreads


def _tabulate(found, spreads, n_images, subject, roi):
    """Rows of one subject and region."""
    rows = []
    for key, each in found.items():
        row = {"subject": subject, "roi": roi} | dict(zip(KEYS[1:], key, strict=True))
        row |= {"value": each.value, "n_voxels": each.n_voxels, "n_cubes": each.n_cubes}
        row |= {"n_images": n_images, "ci_low": np.nan, "ci_high": np.nan}
        if min(each.n_cubes, n_images) >= FEWEST:
            row["ci_low"], row["ci_high"] = spreads[key].interval(each.value)
        rows.append(row)
    return pd.DataFrame(rows).astype({"level": float})


def _average(keys, own, spreads):
    """Mean of one measure over subjects, and how many subjects agree."""
    row = dict(zip(KEYS, keys, strict=True)) | {"subject": MEAN}
    own = own[own["value"].notna()]
    roi, *rest, level = keys
    key = roi, *rest, None if np.isnan(level) else level
    value, sign = own["value"].mean(), np.sign(own["value"].mean())
    low, high = np.nan, np.nan
    if len(own) and own["ci_low"].notna().all():
        each = [spreads[subject, *key] for subject in own["subject"]]
        by_image, by_cube, shared = zip(*each, strict=True)
        spread = Spread(np.mean(by_image, 0), np.mean(by_cube, 0), np.mean(shared) / len(each))
        low, high = spread.interval(value)
    same = np.sign(own["value"]) == sign
    away = np.sign(own["ci_low"]) * np.sign(own["ci_high"]) > 0
    row |= {"value": value, "ci_low": low, "ci_high": high, "n_subjects": len(own)}
    row |= {name: own[name].sum() for name in ("n_voxels", "n_cubes")}
    row |= {"n_images": own["n_images"].max(), "n_positive": (own["value"] > 0).sum()}
    return row | {"n_agree": same.sum(), "n_clear": (same & away).sum()}


def tabulate_noise(*, table: Path | str, output: Path | str) -> None:
    """Tabulate unique variance under different noise side by side.

    Parameters
    ----------
    table : path
        As `tabulate_group` writes it.
    output : path
        Table with the columns subject, roi, space, level (share of the denoising steps),
        ``configured``, a column for each variant of the series of steps, all of them unique
        variance, and ``range`` between the lowest and the highest of these. Controls are left out.

    Raises
    ------
    InputError
        The table lacks a column.
    """
    numbers = load_table(table)
    wanted = ["subject", *KEYS, "value"]
    missing = [name for name in wanted if name not in numbers]
    if missing:
        expected, found = f"the columns {', '.join(wanted)}", f"none of {', '.join(missing)}"
        raise InputError(Finding(str(table), expected, found, "Make it again"))
    series = numbers["series"].fillna("").str.partition("-")
    steps = (numbers["measure"] == "unique") & (series[0] == SERIES["s"])
    steps &= ~numbers["space"].str.contains("-")
    numbers = numbers.assign(variant=series[2].replace("", "configured"))[steps]
    order = list(dict.fromkeys(numbers["variant"]))
    keys = ["subject", "roi", "space", "level"]
    wide = numbers.pivot_table("value", keys, "variant", sort=False, dropna=False)[order]
    wide["range"] = wide.max(axis=1) - wide.min(axis=1)
    save_table(output, wide.reset_index())
    logger.info("ranges of the mean: at most %.4f", wide["range"].max())

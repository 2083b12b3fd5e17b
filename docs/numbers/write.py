"""The tables of docs/demo.md, from those of a finished demo.

    python docs/numbers/write.py results     # copies what is needed, and writes the page's tables
    python docs/numbers/write.py             # writes them again from the copies

A table of the page follows a comment that names it, such as <!-- encoding -->.
"""

import re
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "demo.md"
REGIONS = ("early", "ventral", "lateral", "parietal", "frontal")
SUBJECTS = ("subj01", "subj02")
# Rows of results/tables that the page shows.
KEPT = {
    "encoding": "min_ncsnr == 0.2 and roi != 'cortex'",
    "metrics": "data == 'demo' and subject == 'mean' and protocol == 'corrected'",
    "learning_curve": "value == value",
    "group": "subject == 'mean' and measure in ('unique', 'slope') and roi != 'cortex'",
    "blocks": "subject == 'mean' and roi in ('early', 'ventral')",
}
METHODS = {
    "z-coarse": "z, no diffusion",
    "z": "z",
    "c": "c",
    "zc": "z_c",
    "true-zc": "true z_c (ceiling)",
}
CHANCE = {"chance_shuffled": "other images' z_c", "chance_mean": "the mean training picture"}
CLIP, JUDGE = "2way:demo-clip:image_embeds", "2way:demo-judge:logits"
SERIES = {
    "noise": "noise strength",
    "step": "share of steps",
    "step-shared": "share of steps, shared noise",
}
SPACES = {
    "z": "z",
    "zc": "z_c",
    "zc-empty": "z_c, empty text",
    "zc-other-caption": "z_c, another caption",
    "zc-linear": "z_c, linear in z",
    "zc-residual": "z_c, the rest",
    "zc-beyond": "z_c, beyond controls",
}
BRIEF = ("z", "zc")
CONTROLLED = ("z", "zc", "zc-empty", "zc-beyond")
UNIQUE = {
    ("noise", "early"): BRIEF,
    ("noise", "ventral"): SPACES,
    ("noise", "lateral"): CONTROLLED,
    ("noise", "parietal"): CONTROLLED,
    ("step", "early"): BRIEF,
    ("step", "ventral"): CONTROLLED,
    ("step", "lateral"): CONTROLLED,
    ("step", "parietal"): BRIEF,
    ("step-shared", "early"): BRIEF,
    ("step-shared", "ventral"): SPACES,
}


def write(number, digits=2, sign=False):
    """A number with a real minus, and without one before 0."""
    rounded = round(float(number), digits) or 0.0
    start = "−" if rounded < 0 else "+" if sign and rounded > 0 else ""
    return f"{start}{abs(rounded):.{digits}f}"


def write_interval(row, digits=3, sign=True):
    """A value with its interval."""
    low, high = (write(row[key], digits, sign) for key in ("ci_low", "ci_high"))
    return f"{write(row['value'], digits, sign)} ({low} to {high})"


def tabulate_encoding(table):
    """Median accuracy by region."""
    yield "| subject | region | voxels | r of z | r of c | r of z_c | ceiling of r |"
    for subject in SUBJECTS:
        for roi in REGIONS:
            own = table[(table["subject"] == subject) & (table["roi"] == roi)].set_index("feature")
            r = " | ".join(write(own["median_r"][name]) for name in ("z", "c", "zc"))
            ceiling = write(own["median_ceiling"]["z"])
            yield f"| {subject} | {roi} | {int(own['n_voxels']['z'])} | {r} | {ceiling} |"


def tabulate_metrics(table):
    """Scores of reconstructions, and chance."""
    yield (
        "| pictures | identification by demo-clip (95 % interval) | by demo-judge | judge sees the "
        "category | 16 x 16 correlation |"
    )
    table = table.set_index(["method", "metric"])
    others = (JUDGE, "category:demo-judge", "corr16")
    for method, name in METHODS.items():
        own = table.loc[method]
        first = write_interval(own.loc[CLIP], 3 if method == "true-zc" else 2, False)
        rest = " | ".join(write(own.loc[key, "value"]) for key in others)
        yield f"| {name} | {first} | {rest} |"
    for column, name in CHANCE.items():
        cells = (write(table.loc[("zc", key), column]) for key in (CLIP, *others))
        yield f"| {name} | {' | '.join(cells)} |"


def tabulate_learning(table):
    """Decoders with more sessions."""
    yield (
        "| sessions | trials | z, median r, subj01 / subj02 | c | identification (95 % interval), "
        "subj01 / subj02 |"
    )
    known = table.rename(columns={"low": "ci_low", "high": "ci_high"})
    known = known.set_index(["sessions", "subject", "target", "score"]).sort_index()
    for n in sorted(set(table["sessions"])):
        r = [
            " / ".join(write(known.loc[(n, who, target, "r"), "value"]) for who in SUBJECTS)
            for target in ("z", "c")
        ]
        scores = (known.loc[(n, who, "z", "identification")] for who in SUBJECTS)
        scores = " / ".join(write_interval(score, 3, False) for score in scores)
        trials = int(known.loc[(n, SUBJECTS[0], "z", "r"), "n_trials"])
        yield f"| {n} | {trials:,} | {r[0]} | {r[1]} | {scores} |"


def tabulate_unique(table):
    """Unique variance by level, and its slope."""
    yield "| over | region | unique to | values | slope (interval) | agree |"
    for (series, roi), spaces in UNIQUE.items():
        own = table[(table["series"] == series) & (table["roi"] == roi)]
        for space in spaces:
            rows = own[own["space"] == space].sort_values("level")
            values = ", ".join(write(v, 3) for v in rows[rows["measure"] == "unique"]["value"])
            slope = rows[rows["measure"] == "slope"].iloc[0]
            yield (
                f"| {SERIES[series]} | {roi} | {SPACES[space]} | {values} | "
                f"{write_interval(slope)} | {int(slope['n_agree'])} of 2 |"
            )


def tabulate_blocks(table):
    """Best blocks by region."""
    rois = ("early", "ventral")
    yield "| steps | " + " | ".join(f"{roi}: best block | lead" for roi in rois) + " |"
    for share, own in table.groupby("share"):
        rows = own.set_index("roi").rename(columns={"lead": "value"})
        cells = (
            f"{rows.loc[roi, 'block']} before {rows.loc[roi, 'second']} | "
            f"{write_interval(rows.loc[roi])}"
            for roi in rois
        )
        yield f"| {share:.0%} | ".replace("%", " %") + " | ".join(cells) + " |"


TABLES = {
    "encoding": ("encoding", tabulate_encoding),
    "metrics": ("metrics", tabulate_metrics),
    "learning": ("learning_curve", tabulate_learning),
    "unique": ("group", tabulate_unique),
    "blocks": ("blocks", tabulate_blocks),
}


def compose(page):
    """The page with all its tables anew."""
    for name, (source, tabulate) in TABLES.items():
        head, *rows = tabulate(pd.read_csv(HERE / f"{source}.tsv", sep="\t"))
        lines = [head, "|---" * (head.count("|") - 1) + "|", *rows]
        pattern = rf"(( *)<!-- {name} -->\n\n)(?: *\|.*\n)+"
        found = re.search(pattern, page)
        table = "".join(f"{found[2]}{line}\n" for line in lines)
        page = page[: found.start()] + found[1] + table + page[found.end() :]
    return page


def copy_tables(results):
    """Keep the rows that the page shows."""
    for name, query in KEPT.items():
        table = pd.read_csv(Path(results) / f"tables/{name}.tsv", sep="\t").query(query)
        table.to_csv(HERE / f"{name}.tsv", sep="\t", index=False)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        copy_tables(sys.argv[1])
    PAGE.write_text(compose(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

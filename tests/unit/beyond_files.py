"""Write the tables that are joined for all added targets, with planted numbers."""

import pandas as pd
from reconstruction_files import save

SUBJECTS = ("subj01", "subj02")
METHODS = (
    *("z", "c", "zc", "zci", "zci-rescaled", "prior", "depth", "caption"),
    *("nearest", "true-zci", "true-zc"),
)
# Those that are given features by the configuration.
GIVEN = {
    "zci": {"from": "z", "text": "c", "image": "clip-vision", "protocol": None},
    "zci-rescaled": {"from": "z", "text": "c", "image": "clip-vision", "protocol": "rescaled"},
    "prior": {"from": "prior", "text": "c", "image": "clip-vision"},
    "depth": {"from": "z", "text": "captions", "depth": "depth-map"},
    "caption": {"from": "z", "text": "captions"},
    "true-zci": {"from": "z", "text": "c", "image": "clip-vision", "ceiling": True},
}
TWO_WAY, PIXELS, ABSENT = "2way:demo-judge:logits", "corr16", "clip"
PROTOCOLS = {"zci-rescaled": "rescaled"}
N = 150
SEEN = {"subj01": 863, "subj02": 860}
TOP1 = [("image", 30), ("image", N), ("brain", N), ("all", None)]


def value(subject, method, metric):
    """A value of its own for each subject, method and metric."""
    place = METHODS.index(method) / len(METHODS)
    return 0.55 + 0.4 * place - 0.02 * SUBJECTS.index(subject) - 0.2 * (metric == PIXELS)


def write_summary(path, subject, method):
    rows = [
        (TWO_WAY, value(subject, method, TWO_WAY), 0.49, 0.5, 0.48, ""),
        (PIXELS, value(subject, method, PIXELS), 0.23, 0.43, 0.21, ""),
        (ABSENT, *[None] * 4, "not computed: no weights"),
    ]
    columns = ["metric", "value", "chance_random", "chance_mean", "chance_shuffled", "note"]
    table = pd.DataFrame(rows, columns=columns).assign(n_images=N, n_samples=5, ties_missed="")
    table = table.assign(ci_low=table["value"] - 0.03, ci_high=table["value"] + 0.03)
    save(path, table)


def write_retrieval(path, subject):
    rows = []
    for centred in (False, True):
        for direction, size in TOP1:
            size = size or SEEN[subject]
            for k in (1, 5):
                found = 0.3 + 0.1 * centred + 0.2 * (k == 5) + (0.2 if size == 30 else 0)
                rows.append((direction, centred, size, k, found - 0.02 * SUBJECTS.index(subject)))
    columns = ["direction", "centred", "candidates", "k", "value"]
    table = pd.DataFrame(rows, columns=columns).assign(n=N)
    table["chance"] = table["k"] / table["candidates"]
    save(path, table.assign(low=table["value"] - 0.08, high=table["value"] + 0.08))


CAPTIONS = pd.DataFrame(
    [
        ("meteor-without-synonyms", "all", 0.4, 0.2, 0.9),
        ("rougeL", "all", 0.45, 0.25, 0.95),
        ("clip-text", "all", 0.8, 0.6, 0.96),
        ("meteor-without-synonyms", "first", 0.3, 0.15, 0.7),
        ("clip-image", "picture", 0.35, 0.2, 0.4),
    ],
    columns=["score", "references", "value", "chance", "ceiling"],
)
DEPTH = pd.DataFrame(
    [("spearman", 0.6, 0.4, 0.55), ("identification", 0.9, 0.5, 0.5)],
    columns=["score", "value", "chance", "floor"],
)


def write_scores(path, subject, scores):
    """Captions or depth, with intervals."""
    values = scores["value"] - 0.02 * SUBJECTS.index(subject)
    save(path, scores.assign(value=values, low=values - 0.04, high=values + 0.04, n=N))


def write_beyond(folder, subjects=SUBJECTS, methods=METHODS):
    """All tables; gives the arguments that name them."""
    given = {name: {} for name in ("summaries", "retrieval", "captions", "depth")}
    for subject in subjects:
        for method in methods:
            key = subject, PROTOCOLS.get(method, "corrected"), method
            given["summaries"][key] = folder / f"{subject}_{method}_summary.tsv"
            write_summary(given["summaries"][key], subject, method)
        for name in ("retrieval", "captions", "depth"):
            key = subject, "corrected", "depth-map" if name == "depth" else "clip-vision"
            given[name][key] = folder / f"{subject}_{name}.tsv"
        paths = {name: next(reversed(own.values())) for name, own in given.items()}
        write_retrieval(paths["retrieval"], subject)
        write_scores(paths["captions"], subject, CAPTIONS)
        write_scores(paths["depth"], subject, DEPTH)
    return given

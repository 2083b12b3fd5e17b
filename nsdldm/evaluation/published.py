"""Results that others published on NSD, with sources. Identification is in fractions, not %.

Metrics without a counterpart here (brain correlation, CIDEr, SPICE) are left out.
"""

from __future__ import annotations

from typing import NamedTuple

COLUMNS = ("pixcorr", "ssim", "alexnet2", "alexnet5", "inception", "clip", "effnet", "swav")


class Source(NamedTuple):
    """Where rows come from, and how the source defines its metrics.

    Parameters
    ----------
    source : str
    evidence : str
        "checked": read in the source itself or in the stored output of its code. "third party":
        read in another text that repeats it. "recalled": not read anywhere; check before quoting.
    subject : str
    n_images : str
        Test images; empty if not stated.
    sessions : str
        Sessions of each subject whose trials the decoder was fitted to and tested on.
    metrics : tuple of str
        Our metric that is closest to each value.
    definition : str
        "same", "similar", "different" or "unknown".
    comparable : str
        One of `COMPARABLE`: our rows beside which these may stand, given the same subjects. Never
        those of the demo.
    note : str
        What differs.
    """

    source: str
    evidence: str
    subject: str
    n_images: str
    sessions: str
    metrics: tuple
    definition: str
    comparable: str
    note: str


# 37 sessions test on 982 images, 40 sessions on 1,000: these are different tests.
NSD_37, NSD_40, NOTHING = "nsd, 37 sessions", "nsd, 40 sessions", "none"
COMPARABLE = (NSD_37, NSD_40, NOTHING)
NOT_STATED = "not stated"
FOUR = "mean of subj01, subj02, subj05, subj07"
AS_MINDEYE = (*COLUMNS[:6], "effnet-v2", "swav")
AS_DIFFUSER = ("pixcorr", "ssim-bd", *COLUMNS[2:6], "effnet-v1", "swav")
RESIZED = "both pictures first resized to 256 px, which AlexNet sees (Inception 342)"
ONE_OF_40 = "1 of 40"
RECALLED = {"source": "the method's paper, recalled", "evidence": "recalled"}

MINDEYE2 = Source(
    source="MindEye2 (Scotti et al. 2024), table 1",
    evidence="checked",
    subject=FOUR,
    n_images="1000",
    sessions="40",
    metrics=AS_MINDEYE,
    definition="similar",
    comparable=NSD_40,
    note=RESIZED,
)
MINDEYE2_HOUR = MINDEYE2._replace(
    sessions=ONE_OF_40,
    comparable=NOTHING,
    note=f"{RESIZED}; trained on seven other subjects first",
)
MINDEYE1 = MINDEYE2._replace(
    source="MindEye1 (Scotti et al. 2023) as later projects repeat it",
    evidence="third party",
    n_images="982",
    sessions="37",
    comparable=NOTHING,
    note=f"{RESIZED}; best of 16 samples",
)
DIFFUSER = Source(
    source="Brain-Diffuser (Ozcelik & VanRullen 2023) as the ATM paper repeats it",
    evidence="third party",
    subject=FOUR,
    n_images="982",
    sessions="37",
    metrics=AS_DIFFUSER,
    definition="same",
    comparable=NSD_37,
    note="one sample per image; predictions standardised over the test set",
)
TAKAGI = Source(
    source="MindEye1 (Scotti et al. 2023), table 1, recalled",
    evidence="recalled",
    subject="subj01",
    n_images="982",
    sessions="37",
    metrics=(
        "2way:alexnet:features.5",
        "2way:alexnet:features.12",
        "2way:inception:flatten",
        "2way:clip:image_embeds",
    ),
    definition="unknown",
    comparable=NOTHING,
    note="layers as in the published code; not confirmed for these values",
)
LATER = Source(
    source="a table of a later paper",
    evidence="third party",
    subject=NOT_STATED,
    n_images="",
    sessions=NOT_STATED,
    metrics=AS_MINDEYE,
    definition="unknown",
    comparable=NOTHING,
    note="metric code not read",
)
# Its rows mix both test sets: those that it shares with MindEye2's table 1 are of 40 sessions.
BRAINIT = LATER._replace(
    source="Brain-IT (2025), figure on its project page",
    subject=FOUR,
    note="read off a picture; metric code not read; the page does not say which test images",
)
BRAINIT_OWN = BRAINIT._replace(evidence="checked")
BRAINIT_HOUR = BRAINIT._replace(
    sessions=ONE_OF_40, note=f"{BRAINIT.note}; what else it was trained on not read"
)
FCAE_UNKNOWN = (
    "metric code, seeds and how other methods were trained on NSD not public; another split"
)
FCAE = Source(
    source="fCAE (Yang et al. 2025), table 2",
    evidence="checked",
    subject="subj01, subj02, subj05, subj07; how averaged is not stated",
    n_images="900",
    sessions=NOT_STATED,
    metrics=("pixcorr", "ssim"),
    definition="unknown",
    comparable=NOTHING,
    note=FCAE_UNKNOWN,
)
FCAE_MSE = FCAE._replace(
    metrics=("mse-signed",),
    note=f"scale of pixels not stated, inferred from the size of the error; {FCAE_UNKNOWN}",
)
FCAE_CLIP = FCAE._replace(
    metrics=("clipscore:clip-b32",),
    note=f"which CLIP, and whether a cosine, not stated; {FCAE_UNKNOWN}",
)
FCAE_TOP1 = FCAE._replace(
    source="fCAE (Yang et al. 2025), table 3",
    metrics=("nway-50:vit-h-14",),
    note="top-1 accuracy among an unstated number of classes, by an unstated classifier; "
    f"{FCAE_UNKNOWN}",
)
STORED = {"source": "output stored in MindEye2's notebook", "subject": "subj01"}
STORED1 = {"source": "output stored in MindEye1's notebook", "evidence": "checked"}

# Source, method, and one value for each of the source's metrics.
ROWS = (
    (MINDEYE2, "MindEye2 40 h", (0.322, 0.431, 0.961, 0.986, 0.954, 0.930, 0.619, 0.344)),
    (MINDEYE2, "MindEye2 unrefined", (0.278, 0.328, 0.952, 0.990, 0.964, 0.945, 0.622, 0.343)),
    (MINDEYE2_HOUR, "MindEye2 1 h", (0.195, 0.419, 0.842, 0.906, 0.812, 0.792, 0.810, 0.468)),
    (MINDEYE2, "MindEye2 low level", (0.399, 0.539, 0.705, 0.651, 0.529, 0.572, 0.984, 0.673)),
    (MINDEYE2, "MindEye1 (by MindEye2)", (0.319, 0.360, 0.928, 0.969, 0.946, 0.933, 0.648, 0.377)),
    (
        MINDEYE2,
        "Brain-Diffuser (by MindEye2)",
        (0.273, 0.365, 0.944, 0.966, 0.913, 0.909, 0.728, 0.421),
    ),
    (
        MINDEYE2,
        "Takagi & Nishimoto (by MindEye2)",
        (0.246, 0.410, 0.789, 0.856, 0.838, 0.821, 0.811, 0.504),
    ),
    (
        MINDEYE2._replace(source="MindEye2 (Scotti et al. 2024), table 9"),
        "true latents through SDXL unCLIP",
        (0.676, 0.232, 0.998, 0.998, 0.997, 0.999, 0.240, 0.029),
    ),
    (
        MINDEYE2._replace(**STORED),
        "MindEye2 40 h",
        (0.374, 0.439, 0.979, 0.991, 0.960, 0.937, 0.607, 0.336),
    ),
    (
        MINDEYE1._replace(**STORED1, subject="subj01"),
        "MindEye1",
        (0.392, 0.347, 0.974, 0.987, 0.945, 0.943, 0.635, 0.358),
    ),
    (MINDEYE1, "MindEye1", (0.309, 0.323, 0.947, 0.978, None, None, None, None)),
    (MINDEYE1._replace(**RECALLED), "MindEye1", (*[None] * 4, 0.938, 0.941, 0.645, 0.367)),
    (DIFFUSER, "Brain-Diffuser", (0.254, 0.356, 0.942, 0.962, 0.872, 0.915, None, 0.423)),
    (DIFFUSER._replace(**RECALLED), "Brain-Diffuser", (*[None] * 6, 0.775, None)),
    (TAKAGI, "Takagi & Nishimoto", (0.83, 0.83, 0.76, 0.77)),
    (
        LATER._replace(**RECALLED),
        "UniBrain",
        (0.249, 0.330, 0.929, 0.956, 0.878, 0.923, 0.766, 0.407),
    ),
    (LATER, "MindBridge", (0.151, 0.263, None, 0.955, 0.924, 0.947, 0.712, 0.418)),
    (LATER, "MindTuner", (0.322, 0.421, 0.958, 0.988, 0.956, 0.938, None, None)),
    (BRAINIT, "MindBridge", (None, None, 0.877, *[None] * 5)),
    (BRAINIT, "MindTuner", (*[None] * 6, 0.612, 0.340)),
    (BRAINIT, "DREAM", (0.274, 0.328, 0.939, 0.967, 0.934, 0.941, 0.645, 0.418)),
    (BRAINIT, "UMBRAE", (0.283, 0.341, 0.955, 0.970, 0.917, 0.935, 0.700, 0.393)),
    (BRAINIT, "NeuroVLA", (0.265, 0.357, 0.931, 0.971, 0.968, 0.975, 0.633, 0.321)),
    (BRAINIT, "NeuroPictor", (0.229, 0.375, 0.965, 0.984, 0.945, 0.933, 0.639, 0.350)),
    (BRAINIT_OWN, "Brain-IT", (0.386, 0.486, 0.984, 0.995, 0.973, 0.964, 0.564, 0.320)),
    (BRAINIT_HOUR, "MindTuner 1 h", (0.224, 0.420, 0.878, 0.936, 0.848, 0.835, 0.780, 0.440)),
    (
        BRAINIT_HOUR._replace(evidence="checked"),
        "Brain-IT 1 h",
        (0.331, 0.473, 0.971, 0.986, 0.944, 0.930, 0.648, 0.370),
    ),
    (FCAE_MSE, "MinD-Vis (by fCAE)", (0.513,)),
    (FCAE, "MinD-Vis (by fCAE)", (0.214, 0.260)),
    (FCAE_CLIP, "MinD-Vis (by fCAE)", (0.55,)),
    (FCAE_MSE, "Vis-Dec (by fCAE)", (0.486,)),
    (FCAE, "Vis-Dec (by fCAE)", (0.202, 0.251)),
    (FCAE_CLIP, "Vis-Dec (by fCAE)", (0.63,)),
    (FCAE_MSE, "fCAE", (0.485,)),
    (FCAE, "fCAE", (0.235, 0.302)),
    (FCAE_CLIP, "fCAE", (0.72,)),
    (FCAE_TOP1, "fCAE full", (0.263,)),
    (FCAE_TOP1, "fCAE 1", (0.175,)),
    (FCAE_TOP1, "fCAE 2", (0.234,)),
    (FCAE_TOP1, "fCAE 3", (0.201,)),
    (FCAE_TOP1, "fCAE 4", (0.198,)),
    (FCAE_TOP1, "fCAE 5", (0.164,)),
)


class Trained(NamedTuple):
    """What fCAE's tables say about a model besides its scores.

    Parameters
    ----------
    method : str
        Our counterpart.
    encoder : str
        mae or cae.
    modalities : str
        What the encoder learns from: F (responses), I (images), T (captions).
    parameters : int
    counted : str
        The parts whose parameters these are.
    """

    method: str
    encoder: str
    modalities: str
    parameters: int
    counted: str


RETRIEVAL = MINDEYE2._replace(
    metrics=("image-top1-of-300", "brain-top1-of-300"),
    note="mean of 30 draws of 300 test images; all tokens of OpenCLIP ViT-bigG/14",
)
METEOR = Source(
    source="MindEye2 (Scotti et al. 2024), table 2, recalled",
    evidence="recalled",
    subject=FOUR,
    n_images="1000",
    sessions="40",
    metrics=("meteor:first", "rougeL:first"),
    definition="similar",
    comparable=NSD_40,
    note="which of an image's captions is the reference not read; ours: the first",
)
COCO_TOOLS = Source(
    source="BrainHub (README of the benchmark)",
    evidence="third party",
    subject="subj01",
    n_images="982",
    sessions="37",
    metrics=("meteor:all", "rougeL:all"),
    definition="different",
    comparable=NOTHING,
    note="COCO's caption tools: another METEOR, on another scale; sessions by number of images",
)
DECODED_BLIP = "Takagi & Nishimoto, decoded BLIP"

# By kind of score; of captions, only scores with a counterpart here.
BEYOND = {
    "retrieval": (
        (RETRIEVAL, "MindEye2 40 h", (0.988, 0.983)),
        (RETRIEVAL, "MindEye1 (by MindEye2)", (0.900, 0.841)),
        (RETRIEVAL, "Brain-Diffuser (by MindEye2)", (0.188, 0.263)),
        (RETRIEVAL._replace(**STORED), "MindEye2 40 h", (0.9996, 0.9987)),
        (
            RETRIEVAL._replace(sessions=ONE_OF_40, comparable=NOTHING),
            "MindEye2 1 h",
            (0.790, 0.574),
        ),
    ),
    "caption": (
        (METEOR._replace(**STORED, evidence="checked"), "MindEye2 40 h", (0.248, None)),
        (METEOR, "MindEye2 40 h", (0.248, 0.326)),
        (
            METEOR._replace(sessions=NOT_STATED, n_images="", comparable=NOTHING),
            "UniBrain",
            (0.170, 0.225),
        ),
        (COCO_TOOLS, DECODED_BLIP, (0.1003, 0.2513)),
        (COCO_TOOLS._replace(subject="subj02"), DECODED_BLIP, (0.0960, 0.2422)),
        (COCO_TOOLS._replace(subject="subj05"), DECODED_BLIP, (0.0993, 0.2477)),
        (COCO_TOOLS._replace(subject="subj07"), DECODED_BLIP, (0.0954, 0.2433)),
        (COCO_TOOLS, "BrainCap", (0.1668, 0.4069)),
        (COCO_TOOLS._replace(evidence="checked"), "UMBRAE", (0.1945, 0.4371)),
    ),
}

# By table and name in `ROWS`.
TRAINED = {
    FCAE.source: {
        "MinD-Vis (by fCAE)": Trained("mind-vis", "mae", "F", 303_000_000, "not stated"),
        "Vis-Dec (by fCAE)": Trained("vis-dec", "mae", "F+I", 317_000_000, "not stated"),
        "fCAE": Trained("fcae", "cae", "F+I+T", 277_000_000, "not stated"),
    },
    FCAE_TOP1.source: {
        "fCAE full": Trained("fcae", "cae", "F+I+T", 102_000_000, "encoder, regressor"),
        "fCAE 1": Trained("fcae-f", "cae", "F", 102_000_000, "encoder, regressor"),
        "fCAE 2": Trained("fcae-fi", "cae", "F+I", 102_000_000, "encoder, regressor"),
        "fCAE 3": Trained("fcae-ft", "cae", "F+T", 102_000_000, "encoder, regressor"),
        "fCAE 4": Trained("mae-fi", "mae", "F+I", 86_000_000, "encoder"),
        "fCAE 5": Trained("mae-f", "mae", "F", 86_000_000, "encoder"),
    },
}


def list_published() -> list[dict]:
    """List published values.

    Returns
    -------
    list of dict
        Keys method, metric (our closest), value, and from `Source`: source, evidence, subject,
        n_images, sessions, definition, comparable and note.
    """
    return _list(ROWS)


def list_published_beyond() -> list[dict]:
    """List published values of retrieval and of captions.

    Returns
    -------
    list of dict
        As `list_published`, with kind; metric is a score of
        `nsdldm.evaluation.beyond.tabulate_beyond`.
    """
    return [{"kind": kind} | row for kind, rows in BEYOND.items() for row in _list(rows)]


def _list(rows):
    """One entry for each value."""
    return [
        {"method": method, "metric": metric, "value": value}
        | {key: entry for key, entry in origin._asdict().items() if key != "metrics"}
        for origin, method, values in rows
        for metric, value in zip(origin.metrics, values, strict=True)
        if value is not None
    ]


def list_trained(source: str) -> list[dict]:
    """List the published values of trained decoders from one table.

    Parameters
    ----------
    source : str
        Key of `TRAINED`.

    Returns
    -------
    list of dict
        As `list_published`, with ``model`` (our method), encoder, modalities, parameters
        and counted.
    """
    models = TRAINED[source]
    return [
        row | {"model": model.method} | dict(zip(Trained._fields[1:], model[1:], strict=True))
        for row in list_published()
        if row["source"] == source
        for model in [models[row["method"]]]
    ]

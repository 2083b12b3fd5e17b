"""Results that others published on NSD, with sources. Identification is in fractions, not %.

Metrics without a counterpart here (retrieval, brain correlation) are left out.
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
    subject, n_images : str
    metrics : tuple of str
        Our metric that is closest to each value.
    definition : str
        "same", "similar" or "unknown".
    note : str
        What differs.
    """

    source: str
    evidence: str
    subject: str
    n_images: str
    metrics: tuple
    definition: str
    note: str


FOUR = "mean of subj01, subj02, subj05, subj07"
AS_MINDEYE = (*COLUMNS[:6], "effnet-v2", "swav")
AS_DIFFUSER = ("pixcorr", "ssim-bd", *COLUMNS[2:6], "effnet-v1", "swav")
RESIZED = "both pictures first resized to 256 px, which AlexNet sees (Inception 342)"
BEST_OF_16 = f"{RESIZED}; best of 16 samples; 37 sessions"
RECALLED = {"source": "the method's paper, recalled", "evidence": "recalled"}

MINDEYE2 = Source(
    source="MindEye2 (Scotti et al. 2024), table 1",
    evidence="checked",
    subject=FOUR,
    n_images="1000",
    metrics=AS_MINDEYE,
    definition="similar",
    note=f"{RESIZED}; 40 sessions",
)
MINDEYE1 = MINDEYE2._replace(
    source="MindEye1 (Scotti et al. 2023) as later projects repeat it",
    evidence="third party",
    n_images="982",
    note=BEST_OF_16,
)
DIFFUSER = Source(
    source="Brain-Diffuser (Ozcelik & VanRullen 2023) as the ATM paper repeats it",
    evidence="third party",
    subject=FOUR,
    n_images="982",
    metrics=AS_DIFFUSER,
    definition="same",
    note="one sample per image; 37 sessions; predictions standardised over the test set",
)
TAKAGI = Source(
    source="MindEye1 (Scotti et al. 2023), table 1, recalled",
    evidence="recalled",
    subject="subj01",
    n_images="982",
    metrics=(
        "2way:alexnet:features.5",
        "2way:alexnet:features.12",
        "2way:inception:flatten",
        "2way:clip:image_embeds",
    ),
    definition="unknown",
    note="layers as in the published code; not confirmed for these values",
)
LATER = Source(
    source="a table of a later paper",
    evidence="third party",
    subject="not stated",
    n_images="982",
    metrics=AS_MINDEYE,
    definition="unknown",
    note="metric code not read",
)
FCAE_UNKNOWN = (
    "metric code, seeds and how other methods were trained on NSD not public; another split"
)
FCAE = Source(
    source="fCAE (Yang et al. 2025), table 2",
    evidence="checked",
    subject="subj01, subj02, subj05, subj07; how averaged is not stated",
    n_images="900",
    metrics=("pixcorr", "ssim"),
    definition="unknown",
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
    (MINDEYE2, "MindEye2 1 h", (0.195, 0.419, 0.842, 0.906, 0.812, 0.792, 0.810, 0.468)),
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
        n_images, definition and note.
    """
    return [
        {"method": method, "metric": metric, "value": value}
        | {key: entry for key, entry in origin._asdict().items() if key != "metrics"}
        for origin, method, values in ROWS
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

"""Names and definitions of the metrics. Imports are light, since tables and figures use it."""

from __future__ import annotations

CHANCE = "ties half, chance 0.5"
DEFINITIONS = {
    "pixcorr": "Pearson r of RGB values, reconstruction resized to the seen picture",
    "ssim": "structural similarity of grey pictures (scikit-image >= 0.20)",
    "ssim-bd": "structural similarity of single columns (what Brain-Diffuser's call computes)",
    "mse": "mean squared error, pixels from 0 to 1",
    "mse-signed": "mean squared error, pixels from -1 to 1",
    "mse-255": "mean squared error, pixels from 0 to 255",
    "corr16": "Pearson r of means over 16 x 16 blocks",
    "alexnet2": f"reconstruction identified, AlexNet ReLU of conv2, 224 px, {CHANCE}",
    "alexnet5": f"reconstruction identified, AlexNet ReLU of conv5, 224 px, {CHANCE}",
    "inception": f"reconstruction identified, Inception-v3 avgpool, 224 px, {CHANCE}",
    "clip": f"reconstruction identified, CLIP ViT-L/14 embedding, 224 px, {CHANCE}",
    "effnet-v1": "1 - Pearson r, EfficientNet-B1 (IMAGENET1K_V1) avgpool, 224 px",
    "effnet-v2": "1 - Pearson r, EfficientNet-B1 (IMAGENET1K_V2) avgpool, 255 px",
    "clipscore:clip": "cosine of CLIP ViT-L/14 image embeddings, 224 px",
    "clipscore:clip-b32": "cosine of CLIP ViT-B/32 image embeddings, 224 px",
    "swav": "1 - Pearson r, SwAV ResNet-50 avgpool, 224 px",
}
FAMILIES = {
    "psm": "Pearson r of features, mean over samples",
    "2way": f"seen picture identified, mean r over samples first, {CHANCE}",
    "2way-reconstruction": f"reconstruction identified, mean r over samples first, {CHANCE}",
    "nway": "probability that the seen picture's class wins against random others",
    "clipscore": "cosine of CLIP image embeddings",
    "category": "the likeliest category is one that the network sees in the seen picture",
    "background": "the likeliest background is that of the seen picture",
}
# Metrics that are defined for single samples, and so are in the table of samples.
SAMPLED = ("psm", "clipscore", "category", "background", "pixcorr", "ssim", "corr16")
LOWER_IS_BETTER = ("mse", "mse-signed", "mse-255", "effnet-v1", "effnet-v2", "swav")


def describe_metric(metric: str) -> str:
    """Say in a few words how a metric is defined.

    Parameters
    ----------
    metric : str
        Such as ``ssim``, ``2way:clip:image_embeds`` or ``nway-50:vit-h-14``.

    Returns
    -------
    str
    """
    kind = metric.partition(":")[0]
    if kind.startswith("nway-"):
        words = f"{FAMILIES['nway']}, {kind.removeprefix('nway-')} classes in all"
        return f"{words}, chance {find_chance(metric):.3g}"
    return DEFINITIONS.get(metric) or FAMILIES[kind]


def find_chance(metric: str) -> float | None:
    """Find the chance level, where it follows from the definition alone.

    Parameters
    ----------
    metric : str

    Returns
    -------
    float or None
    """
    kind = metric.partition(":")[0]
    if kind.startswith("nway-"):
        return 1 / int(kind.removeprefix("nway-"))
    return 0.5 if CHANCE in (DEFINITIONS.get(metric) or FAMILIES.get(kind, "")) else None

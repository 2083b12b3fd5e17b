"""The setting that each argument of the package corresponds to.

Functions only know their own arguments, and name these in backticks in their messages. This table
translates them into settings, by the adapter in ``workflow_scripts`` that passes them on (not by
rule, since several rules share an adapter).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from nsdldm.support.errors import CALLED, write_arguments

if TYPE_CHECKING:
    from nsdldm.support.errors import Finding

# Of functions used by several adapters, or by the Snakefile itself.
FUNCTIONS = {
    "nsdldm.support.devices.choose_device": {"device": "model.device"},
    "nsdldm.support.devices.choose_dtype": {"dtype": "model.dtype"},
    "nsdldm.diffusion.check.check_model": {"path": "model.path", "revision": "model.revision"},
    "nsdldm.features.spaces.plan_spaces": {
        "latent": "trajectories.latent",
        "noise_levels": "trajectories.noise_levels",
        "step_shares": "trajectories.step_shares",
    },
    "nsdldm.nsd.places.find_place": {"root": "nsd.root", "storage": "nsd"},
    "nsdldm.nsd.check.check_release": {"reorient": "nsd.reorient"},
    "nsdldm.trained.presets.check_methods": {"methods": "trained.methods"},
    "nsdldm.evaluation.evaluate.Comparison": {"networks": "evaluation.networks"},
}
_DENOISING = {
    "num_inference_steps": "denoising.num_inference_steps",
    "strength": "denoising.strength",
    "scheduler": "denoising.scheduler",
    "noise": "denoising.noise",
}
_ENCODING = {
    "alphas": "encoding.alphas",
    "n_folds": "encoding.n_folds",
    "memory_gb": "encoding.memory_gb",
    "weights": "encoding.weights",
}
_DECODING = {
    "alphas": "decoding.alphas",
    "n_folds": "decoding.n_folds",
    "memory_gb": "decoding.memory_gb",
    "solver": "decoding.solver",
}
_ANY_PROTOCOL = _DECODING | {"protocol": "decoding.protocols"}
_RECONSTRUCTION = {
    "num_inference_steps": "reconstruction.num_inference_steps",
    "strength": "reconstruction.strength",
    "scheduler": "reconstruction.scheduler",
    "resolution": "reconstruction.resolution",
    "latent_resolution": "model.resolution",
    "n_chunks": "reconstruction.chunks",
}
_ALIGNMENT = {"n_components": "generalisation.components", "references": "subjects"}
_NETWORKS = dict.fromkeys(
    ("network", "function", "options", "weights", "layers", "reduction", "pixels", "colours"),
    "networks",
)
_DRAWN = {"nsd_ids": "evaluation.nsd_ids", "shown_images": "evaluation.shown_images"}
_TRAINING = {"precision": "trained.precision"}
_SIMULATED = {
    "shared_images": "demo.shared_images",
    "ood_images": "demo.shared_images",
    "own_images": "demo.unique_images",
}
ADAPTERS = {
    "align_encoder": _TRAINING,
    "apply_decoders": _ANY_PROTOCOL,
    "caption_features": {
        "decoded": "beyond.captions.target",
        "max_length": "beyond.captions.captioner.max_length",
        "min_length": "beyond.captions.captioner.min_length",
        "path": "beyond.captions.captioner.path",
        "revision": "beyond.captions.captioner.revision",
    },
    "choose_captions": {"k": "beyond.captions.neighbours", "decoded": "beyond.captions.target"},
    "choose_blocks": {"models": "trajectories.blocks"},
    "collect_activations": _DENOISING
    | {
        "blocks": "trajectories.blocks",
        "reduction": "trajectories.reduction",
        "n_chunks": "trajectories.chunks",
    },
    "check_imagery_order": {"order": "nsd.imagery_order"},
    "collect_layers": _NETWORKS | {"n_chunks": "trajectories.chunks"},
    "compare_protocols": _DECODING,
    "compute_features": dict.fromkeys(("space", "path", "revision"), "feature_spaces"),
    "describe_network": _NETWORKS,
    "denoise_latents": _DENOISING
    | {"text": "trajectories.controls", "n_chunks": "trajectories.chunks"},
    "decode_by_others": _DECODING | _ALIGNMENT,
    "embed_clip": {"path": "trained.clip.path", "revision": "trained.clip.revision"},
    "encode_latents": {"resolution": "model.resolution"},
    "evaluate_reconstructions": {"n_way": "evaluation.n_way"},
    "fine_tune_diffusion": _TRAINING | {"model": "model.path"},
    "fit_decoders": _ANY_PROTOCOL,
    "fit_encoders": _ENCODING,
    "fit_learning_curve": _DECODING,
    "generate_images": _RECONSTRUCTION
    | dict.fromkeys(("generator", "path", "revision"), "beyond.generators"),
    "infer_encoders": {"predictions": "generalisation"},
    "invert_features": {
        "decoded": "beyond.prior.target",
        "network": "feature_spaces",
        "n_chunks": "reconstruction.chunks",
    },
    "plot_fig3": _DRAWN,
    "plot_fig4": _DRAWN,
    "plot_masked_responses": {"nsd_ids": "evaluation.nsd_ids"},
    "plot_trained_subjects": _DRAWN,
    "predict_case": _ENCODING
    | dict.fromkeys(("tested", "test_features"), "generalisation.encoders"),
    "prepare_imagery": {
        "design": "nsd.imagery_order",
        "order": "nsd.imagery_order",
        "task": "nsd.test_sets",
    },
    "pretrain_encoder": _TRAINING,
    "reconstruct_images": _RECONSTRUCTION,
    "reconstruct_trained": {
        "model": "model.path",
        "num_inference_steps": "trained.sampling.num_inference_steps",
        "scheduler": "trained.sampling.scheduler",
        "resolution": "model.resolution",
        "n_chunks": "reconstruction.chunks",
    },
    "restrict_decoders": _ANY_PROTOCOL | {"ranks": "generalisation.ranks"},
    "split_images": {
        "share": "generalisation.share",
        "clusters": "generalisation.clusters",
        "name": "generalisation.splits",
    },
    "score_case": {
        "decoded": "decoding.targets",
        "features": "generalisation.space",
        "network": "generalisation.network",
    },
    "score_captions": {
        "clip": "beyond.captions.clip",
        "path": "beyond.captions.clip",
        "revision": "beyond.captions.revision",
        "wordnet": "beyond.captions.wordnet",
    },
    "score_retrieval": {
        "candidates": "beyond.retrieval.candidates",
        "decoded": "beyond.retrieval.target",
    },
    "simulate_sets": {"sessions": "demo.sessions"},
    "simulate_shared_sets": {"sessions": "demo.sessions"},
    "simulate_laion_stimuli": _SIMULATED,
    "simulate_laion_subject": _SIMULATED | {"sessions": "demo.sessions", "subject": "subjects"},
    "fit_banded": _ENCODING | {"spaces": "encoding.joint"},
    "divide_variance": {"spaces": "encoding.joint"},
    "score_rsa": {"spaces": "feature_spaces"},
    "mark_regions": {"rois": "rois", "min_ncsnr": "min_ncsnr"},
    "simulate_stimuli": {
        "sessions": "demo.sessions",
        "shared_images": "demo.shared_images",
        "unique_images": "demo.unique_images",
    },
    "tabulate_generalisation": {"scores": "generalisation"},
    "take_nearest": {"decoded": "beyond.retrieval.target"},
    "write_gallery": {
        "max_megabytes": "gallery.max_megabytes",
        "pixels": "gallery.pixels",
        "quality": "gallery.quality",
    },
}
_COMMON = {name: key for own in FUNCTIONS.values() for name, key in own.items()}


def find_keys(adapter: str | None = None) -> dict[str, str]:
    """Find the settings that correspond to the arguments of an adapter's function.

    Parameters
    ----------
    adapter : str, optional
        Its name; by default, functions that the Snakefile calls.

    Returns
    -------
    dict of str to str
        Argument to key.
    """
    return _COMMON | ADAPTERS.get(adapter, {})


def tell_jobs() -> None:
    """Let messages of jobs name settings: put the table into the environment, which jobs
    inherit."""
    os.environ[CALLED] = json.dumps({"": _COMMON} | ADAPTERS)


def name_keys(findings: Iterable[Finding]) -> list[Finding]:
    """Let findings of functions that the Snakefile calls name settings.

    Parameters
    ----------
    findings : iterable of Finding

    Returns
    -------
    list of Finding
    """
    return [
        replace(
            finding,
            **{name: write_arguments(text, _COMMON) for name, text in vars(finding).items()},
        )
        for finding in findings
    ]

"""Disk, memory and time of the whole NSD run, rule by rule, as docs/scale.md has it.

    PYTHONPATH=. python benchmarks/scale_table.py > table.md

Sizes follow from config.nsd.yaml and the shapes of Stable Diffusion 1.4; operations of the networks
are counted by torch without computing anything, those of the fits by formula. Nothing here was run
on a GPU: hours are operations divided by a throughput that is assumed (--networks, --fits).
--step measures one step of the U-Net, at both resolutions, on the CPU.
"""

import argparse
import math
import re
import time
from pathlib import Path

import torch
import yaml
from diffusers import AutoencoderKL, UNet2DConditionModel
from snakemake.utils import update_config
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from nsdldm.decoding import statistics
from nsdldm.decoding.decoders import CHOICES, plan_targets
from nsdldm.decoding.learning import choose_points
from nsdldm.diffusion.denoising import Denoiser
from nsdldm.diffusion.steps import count_steps
from nsdldm.features.activations import plan_reduction, probe_blocks
from nsdldm.nsd.layout import (
    IMAGE_PIXELS,
    IMAGERY_TRIALS,
    N_IMAGES,
    SYNTHETIC_TRIALS,
    TASKS,
    TRIALS_PER_SESSION,
)
from nsdldm.ridge import list_penalties, plan_batches
from nsdldm.workflow.cases import HOURS, list_cases
from nsdldm.workflow.loading import load_settings
from nsdldm.workflow.plan import CEILING, list_beyond, list_spaces

PROJECT = Path(__file__).resolve().parents[1]
# Voxels of the 1.8 mm grid and of the ribbon, by the release's headers as others report them.
VOXELS = {
    "subj01": (81 * 104 * 83, 107_104),
    "subj02": (82 * 106 * 84, 107_860),
    "subj05": (79 * 97 * 78, 94_578),
    "subj07": (78 * 95 * 81, 90_214),
}
EARLY, VENTRAL = 5900, 7600  # of subj01, taken for all
TRAIN_IMAGES, TEST_IMAGES, TRAIN_TRIALS = 8859, 982, 24_980
N_IMAGES_SEEN = TRAIN_IMAGES + TEST_IMAGES
# Images of NSD-synthetic that are not blank in the central square, and targets with a picture.
N_PATTERNS, N_TARGETS = 284 - 16, 12
CAPTIONS = 5
# What benchmarks/README.md has of 2 CPU cores.
SESSION_SECONDS, KERNEL_SECONDS, VOXEL_SECONDS = 3.8, 332, (662 - 332) / 20_000
MEASURED_ALPHAS = 10
# Bytes that HDF5 and its index take a voxel beyond the values, by the size of a file.
INDEX = 1_102_210_872 / (81 * 104 * 83) - 2 * TRIALS_PER_SESSION
# Stable Diffusion 1.4, where it is not the classes' default.
UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
AUTOENCODER = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}
TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
TEXT |= {"num_hidden_layers": 12, "projection_dim": 768}
TOKENS, WIDTH, CHANNELS = 77, 768, 4
FLOAT, HALF = 4, 2
NETWORK_RULES = (
    *("encode_latents", "embed_captions", "denoise_latents", "collect_levels"),
    *("collect_activations", "collect_variants", "collect_controls", "reconstruct_images"),
)
# Rules, those of fits by family of spaces.
ORDER = (
    *("extract_betas", "prepare_responses", "encode_latents", "embed_captions"),
    *("denoise_latents", "collect_levels", "gather_features levels", "collect_variants"),
    *("gather_features variants", "collect_controls", "gather_features controls"),
    "collect_activations",
    *("fit_decoders", "compare_protocols", "fit_learning_curve"),
    *("reconstruct_images", "gather_reconstructions"),
    *("compute_grams", "compute_kernels", "fit_encoders features", "fit_encoders levels"),
    *("fit_encoders steps", "fit_encoders controls", "fit_encoders variants"),
    "fit_encoders blocks",
)


def load_config():
    """The configuration of the whole NSD run."""
    return load_settings(yaml.safe_load((PROJECT / "config.nsd.yaml").read_text()))


def build_networks(device):
    """Stable Diffusion 1.4's networks with any weights."""
    with torch.device(device):
        networks = {
            "unet": UNet2DConditionModel(**UNET),
            "vae": AutoencoderKL(**AUTOENCODER),
            "text": CLIPTextModel(CLIPTextConfig(**TEXT)),
        }
    return {name: network.eval() for name, network in networks.items()}


def step_unet(unet, side):
    """One evaluation of the U-Net of one latent."""
    device = unet.device
    latent = torch.zeros(1, CHANNELS, side, side, device=device)
    return unet(latent, 1, torch.zeros(1, TOKENS, WIDTH, device=device))


@torch.no_grad()
def count_network_operations(sides):
    """Operations of one evaluation of each network, multiplications and additions apart.

    Parameters
    ----------
    sides : iterable of int
        Of the latents.

    Returns
    -------
    dict of float
        By (network, side of the latent), and text's by ("text", tokens).
    """
    networks = build_networks("meta")
    vae = networks["vae"]
    calls = {("text", TOKENS): lambda: networks["text"](torch.zeros(1, TOKENS).long().to("meta"))}
    for side in sides:
        latent = torch.empty(1, CHANNELS, side, side, device="meta")
        picture = torch.empty(1, 3, 8 * side, 8 * side, device="meta")
        calls["unet", side] = lambda side=side: step_unet(networks["unet"], side)
        calls["decode", side] = lambda latent=latent: vae.decode(latent)
        calls["encode", side] = lambda picture=picture: vae.encode(picture)
    counted = {}
    for name, call in calls.items():
        with FlopCounterMode(display=False) as counter:
            call()
        counted[name] = float(counter.get_total_flops())
    return counted


def read_requests():
    """Gigabytes that each rule's jobs ask for, where the rule gives a number."""
    found = {}
    for path in (PROJECT / "rules").glob("*.smk"):
        for rule in re.split(r"\n\s*(?=(?:use )?rule[ :])", path.read_text())[1:]:
            name = re.search(r'(?:use rule \w+ as|rule) (\w+)|name:\s+f"(\w+)_\{', rule)
            name = name.group(1) or name.group(2)
            base = re.match(r"use rule (\w+)", rule)
            memory = re.search(r"\*\*needs\((\d+)", rule)
            found[name] = int(memory.group(1)) / 1000 if memory else base and base.group(1)
    while any(isinstance(value, str) for value in found.values()):
        found = {k: found[v] if isinstance(v, str) else v for k, v in found.items()}
    return found


def count_noises(config):
    """Variants of other noise, which have controls."""
    return sum("noise" in own for own in config["trajectories"]["variants"].values())


def count_network_rules(config, flops):
    """Operations of the networks, one subject, by rule."""
    low, high = config["model"]["resolution"] // 8, config["reconstruction"]["resolution"] // 8
    chain, made = config["denoising"], config["reconstruction"]
    step = flops["unet", low] * (1 + (chain["guidance_scale"] != 1))
    one_pass = count_steps(chain["num_inference_steps"], chain["strength"])
    # The chain's own level is run by denoise_latents.
    levels = [
        count_steps(chain["num_inference_steps"], level)
        for level in config["trajectories"]["noise_levels"]
        if level != chain["strength"]
    ]
    guided = 1 + (made["guidance_scale"] != 1)
    run = count_steps(made["num_inference_steps"], made["strength"])
    evaluations = {"zc": run * guided, "true-zc": run * guided, "z": run, "z-coarse": 0}
    evaluations["c"] = made["num_inference_steps"] * guided
    pictures, protocols = 0, len(config["decoding"]["protocols"])
    for method in made["methods"]:
        coarse = method != "c"
        start = flops["decode", low] * coarse + flops["encode", high] * (evaluations[method] > 0)
        each = evaluations[method] * flops["unet", high] + flops["decode", high]
        per_image = start + made["samples"] * each * (method != "z-coarse")
        # True features do not depend on the protocol.
        pictures += TEST_IMAGES * per_image * (1 if method == CEILING else protocols)
    n = N_IMAGES_SEEN
    # Passes of each step: without text there is nothing to guide by.
    texts = [
        1 if text == "empty" else 1 + (chain["guidance_scale"] != 1)
        for text in config["trajectories"]["controls"]
    ]
    kept_steps = len(config["trajectories"]["step_shares"])
    variants = (1 + (chain["guidance_scale"] != 1)) * len(config["trajectories"]["variants"])
    variants += count_noises(config) * sum(texts)
    return {
        "encode_latents": n * flops["encode", low],
        "embed_captions": n * CAPTIONS * flops["text", TOKENS],
        "denoise_latents": n * one_pass * step,
        "collect_levels": n * sum(levels) * step,
        "collect_activations": n * kept_steps * flops["unet", low],
        "collect_variants": n * one_pass * flops["unet", low] * variants,
        "collect_controls": n * (one_pass + sum(levels)) * flops["unet", low] * sum(texts),
        "reconstruct_images": pictures,
    }


def count_kernel_fits(config):
    """Kernel ridge regressions of one subject by family: of one space, and of mixes of two."""
    mixes = sum(0 < weight < 1 for weight in config["encoding"]["weights"])
    spaces = list_spaces(config)
    return {
        family: (len(own), len(own) * mixes * (family in spaces.joint))
        for family, own in spaces.families.items()
    }


def count_kernel_fit(config, n_alphas):
    """Operations of one kernel ridge regression, as himalaya 0.4.11 computes it.

    Of the matrices of a call, of the decompositions in it, and per voxel.
    """
    n, n_folds = TRAIN_IMAGES, config["encoding"]["n_folds"]
    held_out = n // n_folds
    fitted = n - held_out
    decomposed = 9 * (n_folds * fitted**3 + n**3)
    fixed = 2 * n_alphas * (n_folds * held_out * fitted**2 + n**3)
    each = 2 * n_alphas * (n_folds * held_out * fitted + n**2) + 2 * TEST_IMAGES * n
    return fixed, decomposed, each


def count_family(config, family, subjects, decomposition):
    """Operations and CPU seconds of a family's fits, and their peak memory."""
    settings = config["encoding"]
    every = settings["controls_every"] if family == "controls" else 1
    weights = [1] if family == "blocks" else settings["weights"]
    tried = len(list_penalties(settings["alphas"], weights)), len(settings["alphas"])
    fits = list(zip(count_kernel_fits(config)[family], tried, strict=True))
    measured = count_kernel_fit(config, MEASURED_ALPHAS)
    work, seconds, peak = 0, 0, 0
    for subject in subjects:
        n_voxels = VOXELS[subject][1] // every
        sizes = TRAIN_IMAGES, TEST_IMAGES, n_voxels, tried[0], settings["n_folds"]
        plan = plan_batches(*sizes, settings["memory_gb"])
        calls, peak = math.ceil(n_voxels / plan["voxels"]), max(peak, plan["peak"])
        for n_fits, n_alphas in fits:
            fixed, decomposed, each = count_kernel_fit(config, n_alphas)
            work += n_fits * (calls * (fixed + decomposition * decomposed) + each * n_voxels)
            # As measured, with as many penalties more or fewer.
            of_call = KERNEL_SECONDS * (fixed + decomposed) / sum(measured[:2])
            of_voxel = VOXEL_SECONDS * each / measured[2]
            seconds += n_fits * (calls * of_call + of_voxel * n_voxels)
    return work, seconds, peak


def count_sums(config, decomposition):
    """Operations of `corrected` decoders from sums over trials, with their gains, and of the
    learning curve, one subject; predicted peak memory."""
    n, folds = TRAIN_TRIALS, config["decoding"]["n_folds"]
    n_alphas, side = len(config["decoding"]["alphas"]), config["model"]["resolution"] // 8
    total, curve, peaks = 0, 0, []
    n_points = len(choose_points(config["decoding"]["learning_curve"], config["nsd"]["sessions"]))
    for p, targets in ((EARLY, CHANNELS * side**2), (VENTRAL, TOKENS * WIDTH)):
        memory = config["decoding"]["memory_gb"]
        peaks.append(statistics.plan_targets(n, TEST_IMAGES, p, targets, folds, memory)[1])
        # Decompositions of all parts, and each fold's test products in its vectors.
        solve = 9 * decomposition * (folds + 1) * p**3 + 4 * folds * p**3
        # Products with targets by image, their projections, errors of all penalties, weights;
        # then once more for the gain.
        solve += 2 * targets * p * (TRAIN_IMAGES + p * (2 * folds + 1 + folds * n_alphas + 1))
        solve += 2 * targets * p * (TRAIN_IMAGES + 2 * folds * p + TRAIN_IMAGES)
        total += 2 * n * p**2 + solve
        curve += 2 * n * p**2 + n_points * solve
    return total, curve, max(peaks)


def count_decoders(config, decomposition):
    """Operations of decoders by himalaya, one subject; predicted peak memory."""
    n, folds = TRAIN_TRIALS, config["decoding"]["n_folds"]
    n_alphas, held_out = len(config["decoding"]["alphas"]), TRAIN_TRIALS // folds
    fitted, total, peaks = n - held_out, 0, []
    side = config["model"]["resolution"] // 8
    for p, targets in ((EARLY, CHANNELS * side**2), (VENTRAL, TOKENS * WIDTH)):
        memory = config["decoding"]["memory_gb"]
        block, peak = plan_targets(n, TEST_IMAGES, p, targets, folds, memory)
        peaks.append(peak)
        svd = sum(6 * rows * p**2 + 20 * p**3 for rows in (*[fitted] * folds, n))
        mapping = folds * n_alphas * (fitted * p**2 + held_out * p * fitted) + n_alphas * p**2 * n
        each = folds * n_alphas * held_out * fitted + n_alphas * p * n
        total += math.ceil(targets / block) * (decomposition * svd + 2 * mapping)
        total += 2 * each * targets
    return total, max(peaks)


def count_decoding(config, decomposition):
    """Operations of all fits of decoders of one subject, and predicted peaks in GB, by rule."""
    published, published_peak = count_decoders(config, decomposition)
    decoding, curve, peak = count_sums(config, decomposition)
    # The published protocol is himalaya's.
    own = {"corrected": decoding, "takagi2023": published}
    work = {
        "fit_decoders": sum(own[name] for name in config["decoding"]["protocols"]),
        # All choices, each but one, two ways of rescaling, and none: the published protocol.
        "compare_protocols": (1 + len(CHOICES) + 2) * decoding + published,
        "fit_learning_curve": curve,
    }
    peaks = max(peak, published_peak), max(peak, published_peak), peak
    return work, {rule: most / 1e9 for rule, most in zip(work, peaks, strict=True)}


def count_activations(config):
    """Numbers that are kept of an image and step, by the name of the block."""
    settings, side = config["trajectories"], config["model"]["resolution"] // 8
    paths = {path: name for name, path in settings["blocks"].items()}
    empty = torch.zeros(1, TOKENS, WIDTH, device="meta")
    denoiser = Denoiser(build_networks("meta")["unet"], None, empty)
    kept = {}
    for path, shape in probe_blocks(denoiser, paths, (CHANNELS, side, side)).items():
        how = settings["reduction"], settings["width"], lambda n: None
        kept[paths[path]] = plan_reduction(shape, *how, paths[path])[1]
    return kept


def count_columns(config):
    """Columns of the spaces of which each rule computes Gram matrices, one subject."""
    latent = CHANNELS * (config["model"]["resolution"] // 8) ** 2
    spaces = list_spaces(config)
    # All but c and activations are latents.
    n_latents = sum(map(len, spaces.from_features.values())) - 1
    steps = len(spaces.steps)
    return {
        "compute_grams": list(count_activations(config).values()) * steps,
        "compute_kernels": [latent] * n_latents + [TOKENS * WIDTH],
    }


def count_kernels(config, columns, decomposition):
    """Operations of Gram matrices and of cutting them to principal components, by rule."""
    n, kept = N_IMAGES_SEEN, config["encoding"]["max_components"]
    cut = decomposition * 9 * TRAIN_IMAGES**3 + 2 * n * TRAIN_IMAGES * kept + 2 * n**2 * kept
    work = {rule: 2 * n**2 * sum(sizes) for rule, sizes in columns.items()}
    n_cut = sum(size > kept for sizes in columns.values() for size in sizes)
    return work | {"compute_kernels": work["compute_kernels"] + cut * n_cut}


def count_bytes(config, n_voxels):
    """Bytes of the large results of one subject, by rule."""
    side, n = config["model"]["resolution"] // 8, N_IMAGES_SEEN
    latent, embedding = CHANNELS * side**2 * FLOAT, TOKENS * WIDTH * FLOAT
    columns, spaces = count_columns(config), list_spaces(config)
    gathered = {name: len(own) * n * latent for name, own in spaces.gathered.items()}
    activations = columns["compute_grams"]
    number = HALF if config["trajectories"]["reduction"] == "exact" else FLOAT
    picture = config["reconstruction"]["resolution"] ** 2 * 3
    samples = sum(
        1 if method == "z-coarse" else config["reconstruction"]["samples"]
        for method in config["reconstruction"]["methods"]
    )
    protocols = len(config["decoding"]["protocols"])
    sessions = config["nsd"]["sessions"]
    n_points = len(choose_points(config["decoding"]["learning_curve"], sessions))
    # Averages for encoders; single trials for both protocols of decoders, and averages.
    rows = n_voxels * (TRAIN_IMAGES + TEST_IMAGES)
    rows += (EARLY + VENTRAL) * (2 * TRAIN_TRIALS + TRAIN_IMAGES + 2 * TEST_IMAGES)
    sizes = {
        "extract_betas": sessions * TRIALS_PER_SESSION * (n_voxels + EARLY + VENTRAL) * FLOAT,
        "prepare_responses": rows * FLOAT,
        "encode_latents": 2 * n * latent,
        "embed_captions": n * embedding,
        "denoise_latents": n * len(spaces.chain) * latent,
        "collect_activations": n * number * sum(activations),
        **{f"gather_features {name}": size for name, size in gathered.items()},
        "compute_grams": len(activations) * n**2 * FLOAT,
        "compute_kernels": sum(map(len, columns.values())) * n**2 * FLOAT,
        "fit_decoders": protocols * TEST_IMAGES * (latent + embedding),
        "fit_learning_curve": n_points * TEST_IMAGES * (latent + embedding),
        "gather_reconstructions": protocols * TEST_IMAGES * samples * picture,
    }
    # Predictions of each space alone, and beside z.
    for family, (n_spaces, n_mixes) in count_kernel_fits(config).items():
        every = config["encoding"]["controls_every"] if family == "controls" else 1
        n_models = n_spaces * (1 + (n_mixes > 0))
        sizes[f"fit_encoders {family}"] = n_models * TEST_IMAGES * (n_voxels // every) * FLOAT
    return sizes


def tabulate(config, rates, decomposition):
    """Rows (rule, jobs, results GB, scratch GB, memory GB, PFLOP, hours by GPU, CPU hours)."""
    subjects = config["subjects"]
    flops = count_network_operations(
        [config[part]["resolution"] // 8 for part in ("model", "reconstruction")]
    )
    requests, networks = read_requests(), count_network_rules(config, flops)
    made = [count_bytes(config, VOXELS[subject][1]) for subject in subjects]
    n, chunks = len(subjects), config["trajectories"]["chunks"]
    protocols = len(config["decoding"]["protocols"])
    methods = config["reconstruction"]["methods"]
    made_runs = sum(1 if method == CEILING else protocols for method in methods)
    jobs = {"compute_kernels": 6 * n}
    jobs |= {f"collect_{name}": chunks * n for name in ("levels", "activations")}
    jobs["prepare_responses"] = len({"cortex", *config["decoding"]["targets"].values()}) * n
    jobs |= {
        "fit_decoders": protocols * n,
        "reconstruct_images": made_runs * n * config["reconstruction"]["chunks"],
    }
    runs = {"controls": len(config["trajectories"]["controls"])}
    runs["variants"] = (
        len(config["trajectories"]["variants"]) + count_noises(config) * runs["controls"]
    )
    jobs |= {f"collect_{name}": chunks * number * n for name, number in runs.items()}
    jobs["gather_reconstructions"] = n * protocols * len(methods)
    scratch = {
        "collect_activations": "collect_activations",
        "collect_levels": "gather_features levels",
        "collect_variants": "gather_features variants",
        "collect_controls": "gather_features controls",
        "reconstruct_images": "gather_reconstructions",
    }
    work, cpu, memory = {rule: n * count for rule, count in networks.items()}, {}, {}
    decoders, decoder_memory = count_decoding(config, decomposition)
    work |= {rule: n * count for rule, count in decoders.items()}
    memory |= decoder_memory
    kernels = count_kernels(config, count_columns(config), decomposition)
    work |= {rule: n * count for rule, count in kernels.items()}
    for family in count_kernel_fits(config):
        name = f"fit_encoders {family}"
        work[name], cpu[name], peak = count_family(config, family, subjects, decomposition)
        memory[name] = peak / 1e9
    cpu["extract_betas"] = n * config["nsd"]["sessions"] * SESSION_SECONDS
    rows = []
    for rule in ORDER:
        kept = rule != scratch.get(rule)
        results = sum(sizes.get(rule, 0) for sizes in made) / 1e9 * kept
        passing = sum(sizes.get(scratch.get(rule), 0) for sizes in made) / 1e9
        hours = [work.get(rule, 0) / 1e12 / _rate(rule, rate) / 3600 for rate in rates.values()]
        asked = memory.get(rule) or requests[rule.split()[0]]
        counts = jobs.get(rule, n), results, passing, asked, work.get(rule, 0) / 1e15
        rows.append((rule, *counts, hours, cpu.get(rule, 0) / 3600))
    return rows, flops


def count_beyond(flops):
    """What `beyond` adds with config.beyond.yaml.

    By method, evaluations of the U-Net per picture and operations of all subjects; the image prior
    counts as one.
    """
    config = {}
    for name in ("nsd", "beyond"):
        update_config(config, yaml.safe_load((PROJECT / f"config.{name}.yaml").read_text()))
    config = load_settings(config)
    beyond, made = list_beyond(config), config["reconstruction"]
    low, high = config["model"]["resolution"] // 8, made["resolution"] // 8
    images = TEST_IMAGES * len(config["subjects"])
    start = flops["decode", low] + flops["encode", high]
    counts = {}
    for method in beyond.methods:
        own = beyond.find_settings(method, made)
        passes = count_steps(own["num_inference_steps"], own["strength"])
        passes *= 1 + (own["guidance_scale"] != 1)
        each = passes * flops["unet", high] + flops["decode", high]
        counts[method] = passes, images * (start + made["samples"] * each)
    # A backward pass takes twice a forward one; the network of the features is small beside it.
    counts["image prior"] = (
        0,
        images * 3 * config["beyond"]["prior"]["steps"] * flops["decode", low],
    )
    return counts


def describe_beyond(flops, rates):
    """The same as a table."""
    names = " | ".join(f"{name} h" for name in rates)
    lines = ["", f"| on request | U-Net evaluations per picture | PFLOP | {names} |"]
    lines.append("|---" * (3 + len(rates)) + "|")
    for method, (passes, work) in count_beyond(flops).items():
        hours = [work / 1e12 / rate[0] / 3600 for rate in rates.values()]
        cells = [f"{passes}" if passes else "", *map(_round, (work / 1e15, *hours))]
        lines.append(
            f"| {method if ' ' in method else f'`{method}`'} | " + " | ".join(cells) + " |"
        )
    return lines


def load_general():
    """The configuration of the whole NSD run with config.generalisation.yaml."""
    config = {}
    for name in ("nsd", "generalisation"):
        update_config(config, yaml.safe_load((PROJECT / f"config.{name}.yaml").read_text()))
    # Sizes are those of 37 sessions, as in the other tables.
    return load_settings(config | {"nsd": config["nsd"] | {"sessions": 37}})


def count_cases(config):
    """Test images of every case of one subject of which pictures are made, and of each ceiling."""
    cases, share = list_cases(config), config["generalisation"]["share"]
    held_out = round(share * N_IMAGES_SEEN)
    known = dict.fromkeys(("cluster", "category", "random"), held_out) | {"synthetic": N_PATTERNS}
    known |= dict.fromkeys(TASKS, N_TARGETS)
    counts = {}
    for case in cases.kinds:
        tables = cases.find_tables(case)
        n = known.get(tables, TEST_IMAGES // 2 if tables in HOURS else TEST_IMAGES)
        for path in cases.list_pictures(case).values():
            counts[path] = n
    return counts


def count_general(config, flops, decomposition):
    """What `generalisation` adds, all subjects: jobs, GB on disk and operations, by row."""
    cases, made, subjects = list_cases(config), config["reconstruction"], len(config["subjects"])
    low, high = config["model"]["resolution"] // 8, made["resolution"] // 8
    samples = config["generalisation"]["samples"]
    passes = {
        # Without c, guidance changes nothing.
        "zc": 2 * count_steps(made["num_inference_steps"], made["strength"]),
        "z": count_steps(made["num_inference_steps"], made["strength"]),
        "c": 2 * made["num_inference_steps"],
    }
    pictures, steps = count_cases(config), 0
    for path, n in pictures.items():
        steps += n * samples * passes[Path(path).stem]
    n_pictures = samples * sum(pictures.values())
    start = flops["decode", low] + flops["encode", high]
    work = steps * flops["unet", high] + n_pictures * (start + flops["decode", high])
    decoders, _, _ = count_sums(config, decomposition)
    fixed, decomposed, each = count_kernel_fit(config, len(config["encoding"]["alphas"]))
    voxels = sum(ribbon for _, ribbon in map(VOXELS.get, config["subjects"]))
    encoders = fixed + decomposition * decomposed
    fits = len(cases.encoded) * len(cases.encoders)
    trials = (EARLY + VENTRAL) * (TRAIN_TRIALS + TEST_IMAGES)
    averages = voxels * (TRAIN_IMAGES + TEST_IMAGES)
    divided = len(cases.splits) + 2  # halves
    matrices = voxels + subjects * (EARLY + VENTRAL)
    sessions = SYNTHETIC_TRIALS + IMAGERY_TRIALS
    betas = TRIALS_PER_SESSION * config["nsd"]["sessions"]
    return {
        f"pictures of {len(pictures)} cases": (
            len(pictures) * made["chunks"] * subjects,
            n_pictures * subjects * 3 * made["resolution"] ** 2,
            work * subjects,
        ),
        f"decoders of {len(cases.fitted)} cases, and six more fits": (
            (len(cases.fitted) + 6) * subjects,
            0,
            (len(cases.fitted) + 6) * decoders * subjects,
        ),
        "responses of cases, removed after use": (
            (len(cases.fitted) * 2 + divided + 3 * len(cases.sets)) * subjects,
            FLOAT * (len(cases.fitted) * trials * subjects + divided * averages),
            0,
        ),
        "betas of other sessions, and of another version": (
            3 * subjects,
            FLOAT * (betas + sessions) * matrices,
            0,
        ),
        f"encoders in {len(cases.encoded)} cases": (
            len(cases.encoded) * subjects,
            FLOAT * TEST_IMAGES * voxels * fits,
            fits * (subjects * encoders + voxels * each),
        ),
    }


def describe_general(flops, rates, decomposition):
    """The same as a table."""
    names = " | ".join(f"{name} h" for name in rates)
    lines = ["", f"| generalisation | jobs | results GB | PFLOP | {names} |"]
    lines.append("|---" * (4 + len(rates)) + "|")
    for name, (jobs, size, work) in count_general(load_general(), flops, decomposition).items():
        speeds = (rate[0] if name.startswith("pictures") else rate[1] for rate in rates.values())
        hours = [work / 1e12 / speed / 3600 for speed in speeds]
        cells = [f"{jobs}", *map(_round, (size / 1e9, work / 1e15, *hours))]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _rate(rule, rate):
    """TFLOP/s assumed of a rule."""
    return rate[0] if rule in NETWORK_RULES else rate[1]


def describe(config, rows, flops, rates, decomposition):
    """The page's tables, as Markdown."""
    lines = ["| network, one evaluation | latent | GFLOP |", "|---|---|---|"]
    for (name, side), count in sorted(flops.items()):
        where = f"{side} tokens" if name == "text" else f"{side} x {side}, {8 * side} px"
        lines.append(f"| {name} | {where} | {count / 1e9:,.0f} |")
    lines += describe_activations(config)
    betas = sum(
        VOXELS[subject][0] * (2 * TRIALS_PER_SESSION + INDEX) for subject in config["subjects"]
    )
    stimuli = N_IMAGES * IMAGE_PIXELS**2 * 3 / 1e9
    sessions = config["nsd"]["sessions"]
    lines += ["", "| read from the release | GB |", "|---|---|"]
    lines.append(f"| betas, {sessions} sessions of each subject | {sessions * betas / 1e9:,.0f} |")
    lines.append(f"| pictures, once | {stimuli:,.0f} |")
    names = " | ".join(f"{name} h" for name in rates)
    lines += [
        "",
        f"| rule | jobs | results GB | scratch GB | memory GB | PFLOP | {names} | CPU h |",
    ]
    lines.append("|---" * (7 + len(rates)) + "|")
    for rule, jobs, results, passing, asked, work, hours, cpu in rows:
        cells = [f"{jobs}", *map(_round, (results, passing, asked, work, *hours, cpu))]
        name, _, family = rule.partition(" ")
        lines.append(f"| {f'`{name}` {family}'.rstrip()} | " + " | ".join(cells) + " |")
    sums = [sum(row[i] for row in rows) for i in (1, 2, 3, 5)]
    hours = [sum(row[6][i] for row in rows) for i in range(len(rates))]
    cpu = sum(row[7] for row in rows)
    cells = [f"{sums[0]}", *map(_round, (sums[1], sums[2])), "", _round(sums[3])]
    cells += map(_round, (*hours, cpu))
    lines.append("| all | " + " | ".join(cells) + " |")
    assumed = "; ".join(
        f"{name}: {networks:g} for networks in float16, {fits:g} for fits in float32"
        for name, (networks, fits) in rates.items()
    )
    lines += ["", f"TFLOP/s, assumed: {assumed}; decompositions {decomposition:g} times slower."]
    lines += describe_beyond(flops, rates)
    lines += describe_general(flops, rates, decomposition)
    return "\n".join(lines)


def describe_activations(config):
    """Scratch that the activations of each block and step take, one subject."""
    lines = ["", "| block | numbers per image and step | GB per step on scratch |", "|---|---|---|"]
    number = HALF if config["trajectories"]["reduction"] == "exact" else FLOAT
    for name, count in count_activations(config).items():
        lines.append(f"| {name} | {count:,} | {N_IMAGES_SEEN * count * number / 1e9:.1f} |")
    return lines


def _round(value):
    """Two digits; nothing for nothing."""
    if not value:
        return ""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.05 else "< 0.1"


def measure_step(times):
    """Print the seconds of one evaluation of the U-Net on the CPU, the best of some."""
    unet = build_networks("meta")["unet"].to_empty(device="cpu")
    for values in unet.parameters():
        torch.nn.init.normal_(values, 0, 0.01)
    for side in (40, 64):
        seconds = []
        for _ in range(times):
            began = time.perf_counter()
            with torch.inference_mode():
                step_unet(unet, side)
            seconds.append(time.perf_counter() - began)
        print(f"{8 * side} px: {min(seconds):.1f} s on {torch.get_num_threads()} threads")


def parse_arguments(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default, what in (
        ("networks", [80, 200], "TFLOP/s sustained by networks in float16"),
        ("fits", [10, 30], "TFLOP/s sustained by matrix products in float32"),
    ):
        parser.add_argument(
            f"--{name}", type=float, nargs="+", default=default, help=f"{what} ({default})"
        )
    parser.add_argument("--gpus", nargs="+", default=["A100", "H100"], help="their names")
    parser.add_argument("--decomposition", type=float, default=10, help="times slower (10)")
    parser.add_argument("--step", type=int, metavar="TIMES", help="measure a step on the CPU")
    return parser.parse_args(arguments)


def main():
    """Print the tables, or measure a step."""
    options = parse_arguments()
    if options.step:
        measure_step(options.step)
        return
    print(compose(options))


def compose(options):
    """The tables for given assumptions."""
    config = load_config()
    rates = dict(zip(options.gpus, zip(options.networks, options.fits, strict=True), strict=True))
    rows, flops = tabulate(config, rates, options.decomposition)
    return describe(config, rows, flops, rates, options.decomposition)


if __name__ == "__main__":
    main()

"""Seconds per step and peak memory of training, stage by stage, on random data.

    PYTHONPATH=. python benchmarks/trained.py --device cuda --model FOLDER

takes the presets' networks and batch sizes with subject 1's 15,724 voxels and prints a row per
stage. Every stage runs in its own process; a step is forward, backward and AdamW as in training,
without reading data. FOLDER is any pipeline in the layout of diffusers, for stage 3, which is left
out without it; tests/unit/test_diffusion_full_size.py writes Stable Diffusion 1.4 with random
weights, for which times are the same. On a CPU:

    PYTHONPATH=. python benchmarks/trained.py --device cpu --size demo --voxels 1000 \\
        --model resources/demo_model
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

from nsdldm.diffusion.loading import count_tokens, load_denoiser
from nsdldm.support.devices import choose_device
from nsdldm.trained import loop
from nsdldm.trained.alignment import Alignment
from nsdldm.trained.cross import CrossModal, load_image_mae
from nsdldm.trained.data import pad_length
from nsdldm.trained.diffusion import ConditionedDiffusion
from nsdldm.trained.networks import build_encoder, count_parameters, cut_patches
from nsdldm.trained.presets import PRESETS, SIZES, STAGES, resolve
from nsdldm.trained.pretraining import Pretraining, build_regressor
from nsdldm.trained.targets import fit_target

# CLIP ViT-B/32: class token, patches, and width of its space.
CLIP = 50, 512
HEAD = ("method", "stage", "parameters M", "trained M", "batch", "s/step", "samples/s", "peak GB")


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    presets = ["fcae", "fcae-base", "mind-vis", "vis-dec"]
    parser.add_argument("--methods", nargs="+", choices=PRESETS, default=presets, help="presets")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="all")
    parser.add_argument("--size", choices=SIZES, default="full", help="full (default) or demo")
    parser.add_argument("--voxels", type=int, default=15_724, help="of a response (15,724)")
    parser.add_argument("--steps", type=int, default=20, help="measured, after 3 others (20)")
    parser.add_argument("--batch-size", type=int, help="instead of the presets'")
    parser.add_argument("--precision", default="auto", help="auto (default), float32, bf16 or fp16")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    parser.add_argument("--model", help="folder of a pipeline, for stage 3")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_network(options, device, settings, stage):
    """A stage's network with random weights, and the shapes of what it takes beside responses."""
    first, own = settings["stage1"], settings[stage]
    encoder = build_encoder(first, pad_length(options.voxels, first["patch"]))
    if stage == "stage1":
        # Random codes cost a step what fitted ones cost it, and nothing before.
        kind = "randproj" if first["target"] == "kmeans" else first["target"]
        responses = torch.randn(
            max(8, first["codes"]) if kind == "quantile" else 16, encoder.length
        )
        patches = cut_patches(responses, encoder.patch).numpy()
        return Pretraining(first, encoder, fit_target(kind, patches, first["codes"], 0)), {}
    if stage == "stage3":
        unet, scheduler = load_denoiser(options.model, None, device, torch.float32, "ddim")
        own = own | {"tokens": own["tokens"] or count_tokens(options.model, None)}
        side = unet.config.sample_size
        latent = {"z": (unet.config.in_channels, side, side)}
        return ConditionedDiffusion(encoder, unet, scheduler, own), latent
    if own["align"] == "cross_mae":
        image = load_image_mae(None, None, own["image_config"])
        # As its encoder is where its weights are loaded.
        image.vit.requires_grad_(own["image_path"] is None)
        side = image.config.image_size
        return CrossModal(encoder, own, image), {"picture": (3, side, side)}
    regressor = build_regressor(first, encoder) if first["encoder"] == "cae" else None
    return Alignment(own, encoder, regressor, *CLIP), {"clip_image": CLIP, "clip_text": CLIP[1:]}


def run(options, method, stage):
    """Measure a stage; prints its row."""
    device = choose_device(options.device)
    settings = resolve(method, {"preset": method}, options.size)
    torch.manual_seed(0)
    network, shapes = make_network(options, device, settings, stage)
    schedule = loop.make_schedule(settings[stage], 0)
    schedule = schedule._replace(batch_size=options.batch_size or schedule.batch_size)
    shapes = {"responses": (pad_length(options.voxels, settings["stage1"]["patch"]),)} | shapes
    batch = {name: torch.randn(schedule.batch_size, *shape) for name, shape in shapes.items()}
    batch["subject"] = torch.zeros(schedule.batch_size, dtype=torch.int64)
    if "picture" in batch:
        batch["picture"] = (batch["picture"] * 50 + 128).clamp(0, 255).byte()
    precision = loop.choose_precision(options.precision, device)
    # The loop's own step, without its checkpoints and validation rows.
    training = loop._Training(network.to(device).train(), schedule, device, precision)
    rows, seconds = np.arange(schedule.batch_size), []
    for step in range(3 + options.steps):
        start = time.perf_counter()
        losses = training.step(lambda chosen: batch, rows, step, 1000)
        # Waits for the device.
        assert losses["loss"].isfinite()
        seconds.append(time.perf_counter() - start)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 1e9
    else:
        # Kibibytes on Linux, bytes on macOS.
        scale = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9
    middle = statistics.median(seconds[3:])
    counts = count_parameters(network), sum(p.numel() for p in training.parameters.values())
    cells = [method, stage[-1], *(f"{count / 1e6:.1f}" for count in counts)]
    cells += [
        schedule.batch_size,
        f"{middle:.3f}",
        f"{schedule.batch_size / middle:.1f}",
        f"{peak:.1f}",
    ]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main():
    """Print the table, or one row of it."""
    options = parse_arguments()
    if options.run:
        run(options, *options.run)
        return
    device = choose_device(options.device)
    gpu = device.type == "cuda"
    place = torch.cuda.get_device_name() if gpu else f"{torch.get_num_threads()} threads"
    precision = loop.choose_precision(options.precision, device)
    named = "float32" if precision == "no" else precision
    print(f"{place}; {named}; torch {torch.__version__}")
    print("| " + " | ".join(HEAD) + " |")
    print("|" + "---|" * len(HEAD), flush=True)
    for method in options.methods:
        stages = resolve(method, {"preset": method}, options.size)
        for stage in options.stages:
            idle = stage == "stage2" and stages["stage2"]["align"] == "none"
            if not idle and (stage != "stage3" or options.model):
                command = [sys.executable, __file__, *sys.argv[1:], "--run", method, stage]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

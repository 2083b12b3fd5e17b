"""Seconds per step and peak memory of training, stage by stage, on random data.

    PYTHONPATH=. python benchmarks/trained.py                  # the presets' sizes
    PYTHONPATH=. python benchmarks/trained.py --tiny           # seconds, to see that it runs

takes the presets' networks and batch sizes with subject 1's 15,724 voxels and prints a row per
stage. Every stage runs in its own process; a step is forward, backward and AdamW as in training,
without reading data. A batch that does not fit into the GPU's memory is halved until it does, and
its row says so. --json FILE writes the table with machine, date and versions.

--model takes any pipeline in the layout of diffusers, for stage 3. Without it, Stable Diffusion 1.4
with random weights is written to a scratch folder (2 GB), for which times are the same; with --size
demo, the model that ships is taken. On a CPU:

    PYTHONPATH=. python benchmarks/trained.py --device cpu --size demo --voxels 1000
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import report
from nsdldm.support.devices import choose_device
from nsdldm.trained import loop
from nsdldm.trained.alignment import Alignment
from nsdldm.trained.cross import CrossModal, load_image_mae
from nsdldm.trained.data import pad_length
from nsdldm.trained.networks import build_encoder, count_parameters, cut_patches
from nsdldm.trained.presets import PRESETS, SIZES, STAGES, resolve
from nsdldm.trained.pretraining import Pretraining, build_regressor
from nsdldm.trained.targets import fit_target

# CLIP ViT-B/32: class token, patches, and width of its space.
CLIP = 50, 512
# Steps before those that are measured.
OTHERS = 3
COLUMNS = {"method": "", "stage": "", "parameters M": ".1f", "trained M": ".1f", "batch": "d"}
COLUMNS |= {"s/step": ".3f", "samples/s": ".1f", "peak GB": ".1f", "GPU GB": ".1f", "note": ""}
TINY = {"methods": ["fcae"], "size": "demo", "voxels": 500, "steps": 3, "device": "cpu"}


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
    parser.add_argument("--folder", type=Path, help="where to make the scratch folder")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    return report.parse_options(parser, TINY)


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
        from nsdldm.diffusion.loading import count_tokens, load_denoiser
        from nsdldm.trained.diffusion import ConditionedDiffusion

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


def make_batch(options, settings, shapes, size):
    """Random data of the shapes that a stage takes."""
    shapes = {"responses": (pad_length(options.voxels, settings["stage1"]["patch"]),)} | shapes
    batch = {name: torch.randn(size, *shape) for name, shape in shapes.items()}
    batch["subject"] = torch.zeros(size, dtype=torch.int64)
    if "picture" in batch:
        batch["picture"] = (batch["picture"] * 50 + 128).clamp(0, 255).byte()
    return batch


def measure(options, method, stage, size):
    """Measure a stage's steps with batches of a size; returns its row of the table."""
    device = choose_device(options.device)
    settings = resolve(method, {"preset": method}, options.size)
    torch.manual_seed(0)
    network, shapes = make_network(options, device, settings, stage)
    schedule = loop.make_schedule(settings[stage], 0)._replace(batch_size=size)
    batch = make_batch(options, settings, shapes, size)
    precision = loop.choose_precision(options.precision, device)
    # The loop's own step, without its checkpoints and validation rows.
    training = loop._Training(network.to(device).train(), schedule, device, precision)
    rows, seconds = np.arange(size), []
    for step in range(OTHERS + options.steps):
        start = time.perf_counter()
        losses = training.step(lambda chosen: batch, rows, step, 1000)
        # Waits for the device.
        assert losses["loss"].isfinite()
        seconds.append(time.perf_counter() - start)
    middle = statistics.median(seconds[OTHERS:])
    return {
        "method": method,
        "stage": stage[-1],
        "parameters M": count_parameters(network) / 1e6,
        "trained M": sum(p.numel() for p in training.parameters.values()) / 1e6,
        "batch": size,
        "s/step": middle,
        "samples/s": size / middle,
        **report.measure_peaks(device.type),
    }


def measure_largest(options, method, stage):
    """Measure with the largest batch that fits: the preset's, or half of it, and so on."""
    preset = resolve(method, {"preset": method}, options.size)[stage]["batch_size"]
    size, note = options.batch_size or preset, None
    while True:
        try:
            return measure(options, method, stage, size) | {"note": note}
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        # After the handler, whose traceback would keep the tensors of the failed step.
        size, note = size // 2, f"out of memory with {size}"
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def list_stages(options):
    """Methods and stages to measure."""
    for method in options.methods:
        align = resolve(method, {"preset": method}, options.size)["stage2"]["align"]
        for stage in options.stages:
            if stage != "stage2" or align != "none":
                yield method, stage


def measure_all(options, folder):
    """Measure every stage in a process of its own; prints and writes the table."""
    if options.model is None and "stage3" in options.stages:
        demo = options.size == "demo"
        options.model = report.DEMO_MODEL if demo else report.write_random_model(folder / "model")
    device = choose_device(options.device)
    report.announce(device.type)
    precision = loop.choose_precision(options.precision, device)
    precision = "float32" if precision == "no" else precision
    print(f"{options.voxels:,} voxels, {options.steps} steps, {precision}", flush=True)
    table = report.Table(COLUMNS)
    command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder)]
    if options.model is not None:
        command += ["--model", str(options.model)]
    for method, stage in list_stages(options):
        subprocess.run([*command, "--run", method, stage], check=True)
        table.add(json.loads((folder / "row.json").read_text()))
        # After each row, since a later one may fail.
        table.write(options.json, options, device.type, precision=precision)


def main():
    """Print the table, or measure one row of it."""
    options = parse_arguments()
    if options.run:
        row = measure_largest(options, *options.run)
        (options.folder / "row.json").write_text(json.dumps(row))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure_all(options, Path(folder))


if __name__ == "__main__":
    main()

"""Measure what the demo model can do, on scenes that it was not trained on."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image
from transformers import CLIPModel

from nsdldm.demo.captions import NAMES, OPENINGS, PLACES
from nsdldm.demo.scenes import BACKGROUNDS, CATEGORIES
from nsdldm.demo.training.adapter import FILE, FOLDER, embed_pictures
from nsdldm.demo.training.classifiers import load_classifier, prepare
from nsdldm.demo.training.depth import measure_depth
from nsdldm.diffusion.text import embed_texts
from nsdldm.support.batching import draw_noise
from nsdldm.support.files import replacing, save_table
from nsdldm.support.logs import progress

if TYPE_CHECKING:
    from nsdldm.demo.training.classifiers import SceneClassifier
    from nsdldm.demo.training.scenes import Scenes

logger = logging.getLogger(__name__)

STEPS, GUIDANCE, STRENGTH = 25, 5.0, 0.8
# Noise added to the true latent, in units of its standard deviation; the first is drawn.
BLURS = (0.5, 1.0, 1.5)
COARSE = 16
BATCH = 50
N_TIMED, N_SHOWN = 16, 12
GAP = 2
# Pictures from a blurred z and the embedding of the image, without and with c.
GUIDED_BLUR = 1.0
GUIDED = ("z + image (1 sd)", "z + c + image (1 sd)")


class Guided(StableDiffusionImg2ImgPipeline):
    """Image to image with an adapter, for many pictures with an embedding each."""

    def prepare_ip_adapter_image_embeds(
        self, image: None, image_embeds: list[torch.Tensor], *options: object
    ) -> list[torch.Tensor]:
        """Take embeddings, of any shape, as they are: diffusers would give every picture those of
        all."""
        return image_embeds


class Models:
    """The parts of the demo model, loaded as a user would.

    Parameters
    ----------
    folder : Path
    device : torch.device
    """

    def __init__(self, folder, device):
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
        self.pipeline = _quiet(pipeline.to(device, torch.float32))
        self.img2img = _quiet(StableDiffusionImg2ImgPipeline.from_pipe(self.pipeline))
        # With a U-Net of its own, since the adapter changes it.
        guided = Guided.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        guided.load_ip_adapter(
            folder, FOLDER, FILE, image_encoder_folder=None, local_files_only=True
        )
        self.guided = _quiet(guided.to(device, torch.float32))
        clip = CLIPModel.from_pretrained(folder / "clip", dtype=torch.float32, use_safetensors=True)
        self.clip = clip.to(device).eval()
        self.judge = load_classifier(folder, "judge", device)
        self.device, self.vae = device, self.pipeline.vae

    def embed(self, texts: list[str]) -> torch.Tensor:
        """Embed texts, float32 (n, tokens, width)."""
        return embed_texts(self.pipeline.tokenizer, self.pipeline.text_encoder, texts)


def _quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def evaluate_model(
    folder: Path, scenes: Scenes, depths: np.ndarray, device: torch.device, seed: int = 0
) -> pd.DataFrame:
    """Measure everything, log it, and write a table and sample sheets into the model's folder.

    Parameters
    ----------
    folder : Path
        The model; ``evaluation.tsv`` (columns measure, value) and ``samples/*.png`` are added.
    scenes : nsdldm.demo.training.scenes.Scenes
        Held out.
    depths : float32 array of shape (n, pixels, pixels)
        Their true depth, see `nsdldm.demo.depth`.
    device : torch.device
    seed : int
        Of the noise.

    Returns
    -------
    DataFrame
    """
    models = Models(folder, device)
    pictures = make_pictures(models, scenes, seed)
    rows = [
        *measure_pictures(models, scenes, pictures),
        *measure_clip(models, scenes),
        measure_time(models, scenes),
        *measure_images(models, scenes, seed),
        *measure_depth(folder, scenes.pictures, depths, device),
    ]
    table = pd.DataFrame(rows, columns=["measure", "value"])
    save_table(folder / "evaluation.tsv", table)
    for measure, value in rows:
        logger.info("%-60s %.3f", measure, value)
    shown = ("true", "autoencoded", "blurred z", "c", "z + c")
    save_sheet(folder / "samples" / "scenes.png", [pictures[name][:N_SHOWN] for name in shown])
    return table


@torch.inference_mode()
def make_pictures(models: Models, scenes: Scenes, seed: int) -> dict[str, np.ndarray]:
    """Make pictures of scenes from z, from c, and from both.

    Parameters
    ----------
    models : Models
    scenes : nsdldm.demo.training.scenes.Scenes
    seed : int

    Returns
    -------
    dict of str to float32 array of shape (n, pixels, pixels, 3)
        From 0 to 1: "true"; "autoencoded"; "c", from the mean of the captions' embeddings and
        noise; and, named by `name_blurs` for each of `BLURS`, a blurred z, decoded from the latent
        with added noise, and z + c, made from that picture by encoding, noising to `STRENGTH` and
        denoising with c.
    """
    made = {name: [] for name in ("true", "autoencoded", "c", *sum(map(name_blurs, BLURS), ()))}
    for rows in _batches(scenes, "pictures"):
        true, latents, noise = _encode(models, scenes, rows, seed)
        given = _describe(models, scenes, rows)
        other = draw_noise(seed, range(rows.start, rows.stop), latents.shape[1:], sample=1)
        other = torch.from_numpy(other)
        made["true"].append(_to_unit(true))
        made["autoencoded"].append(_to_unit(models.vae.decode(latents).sample))
        made["c"].append(models.pipeline(latents=other.to(models.device), **given).images)
        for blur in BLURS:
            blurred = models.vae.decode(latents + blur * noise).sample.clamp(-1, 1)
            start_from = _start(blurred, seed + rows.start)
            alone, both = name_blurs(blur)
            made[alone].append(_to_unit(blurred))
            made[both].append(models.img2img(**start_from, **given).images)
    return {name: np.concatenate(parts) for name, parts in made.items()}


def _batches(scenes, what):
    """Consecutive rows of scenes, with a log of how far they are."""
    n = len(scenes.pictures)
    for start in progress(range(0, n, BATCH), -(-n // BATCH), what):
        yield slice(start, min(start + BATCH, n))


def _encode(models, scenes, rows, seed):
    """True pictures, their latents, and noise with the standard deviation of latents."""
    true = prepare(scenes.pictures[rows], models.device)
    latents = models.vae.encode(true).latent_dist.mean
    noise = draw_noise(seed, range(rows.start, rows.stop), latents.shape[1:])
    noise = torch.from_numpy(noise).to(models.device)
    return true, latents, noise / models.vae.config.scaling_factor


def _describe(models, scenes, rows):
    """A pipeline's arguments for c, the mean of the captions' embeddings."""
    empty = models.embed([""])
    texts = [text for group in scenes.captions[rows] for text in group]
    c = models.embed(texts).view(rows.stop - rows.start, -1, *empty.shape[1:]).mean(1)
    return {
        "prompt_embeds": c,
        "negative_prompt_embeds": empty.expand_as(c),
        "guidance_scale": GUIDANCE,
        "num_inference_steps": STEPS,
        "output_type": "np",
    }


def _start(blurred, seed):
    """A pipeline's arguments for image to image from pictures from -1 to 1."""
    generator = torch.Generator().manual_seed(seed)
    return {"image": (blurred + 1) / 2, "strength": STRENGTH, "generator": generator}


@torch.inference_mode()
def make_guided_pictures(models: Models, scenes: Scenes, seed: int) -> dict[str, np.ndarray]:
    """Make pictures of scenes from a blurred z and the embedding of the image, with and without c.

    Parameters
    ----------
    models : Models
    scenes : nsdldm.demo.training.scenes.Scenes
    seed : int
        With that of `make_pictures`, the blurred z and the noise are the same, so that the pictures
        can be compared with those from z + c.

    Returns
    -------
    dict of str to float32 array of shape (n, pixels, pixels, 3)
        From 0 to 1, by `GUIDED`.
    """
    made = {name: [] for name in GUIDED}
    for rows in _batches(scenes, "pictures with embeddings of images"):
        _, latents, noise = _encode(models, scenes, rows, seed)
        blurred = models.vae.decode(latents + GUIDED_BLUR * noise).sample.clamp(-1, 1)
        view = embed_pictures(models.clip, scenes.pictures[rows])
        given = _describe(models, scenes, rows)
        # As diffusers does, unconditional first.
        given["ip_adapter_image_embeds"] = [torch.cat([torch.zeros_like(view), view])[:, None]]
        empty = given["negative_prompt_embeds"]
        for name, c in zip(GUIDED, (empty, given["prompt_embeds"]), strict=True):
            start_from = _start(blurred, seed + rows.start)
            made[name].append(models.guided(**start_from, **{**given, "prompt_embeds": c}).images)
    return {name: np.concatenate(parts) for name, parts in made.items()}


def measure_images(models: Models, scenes: Scenes, seed: int) -> list[tuple[str, float]]:
    """Measure what the embedding of the image adds, as `measure_pictures` does.

    Parameters
    ----------
    models : Models
    scenes : nsdldm.demo.training.scenes.Scenes
    seed : int

    Returns
    -------
    list of (str, float)
    """
    pictures = make_guided_pictures(models, scenes, seed)
    true = _to_unit(prepare(scenes.pictures, torch.device("cpu")))
    return _judge_all(models, scenes, pictures) + _correlate_all(pictures, true)


def name_blurs(blur: float) -> tuple[str, str]:
    """Names of pictures from a blurred z alone, and from it and c."""
    suffix = "" if blur == BLURS[0] else f" ({blur:g} sd)"
    return f"blurred z{suffix}", f"z + c{suffix}"


def _to_unit(pictures):
    """Pictures from -1 to 1 as arrays from 0 to 1, channels last."""
    return ((pictures.float().clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).cpu().numpy()


@torch.inference_mode()
def judge_pictures(
    judge: SceneClassifier, pictures: np.ndarray, scenes: Scenes, device: torch.device
) -> tuple[float, float]:
    """Fraction of pictures that the judge classifies correctly.

    Parameters
    ----------
    judge : SceneClassifier
    pictures : float32 array of shape (n, side, side, 3)
        From 0 to 1.
    scenes : nsdldm.demo.training.scenes.Scenes
    device : torch.device

    Returns
    -------
    category, background : float
        The most likely category is one of the scene's; the most likely background is the scene's.
    """
    right = []
    for start in range(0, len(pictures), BATCH):
        rows = slice(start, start + BATCH)
        batch = torch.from_numpy(pictures[rows]).to(device).permute(0, 3, 1, 2) * 2 - 1
        category, background = (logits.argmax(1).cpu().numpy() for logits in judge(batch))
        named = scenes.categories[rows][np.arange(len(category)), category]
        right.append((named, background == scenes.backgrounds[rows]))
    return tuple(float(np.concatenate(part).mean()) for part in zip(*right, strict=True))


def measure_pictures(models: Models, scenes: Scenes, pictures: dict) -> list[tuple[str, float]]:
    """Judge all kinds of pictures, and compare them with the true ones.

    Parameters
    ----------
    models : Models
    scenes : nsdldm.demo.training.scenes.Scenes
    pictures : dict
        As `make_pictures` returns them.

    Returns
    -------
    list of (str, float)
    """
    rows = _judge_all(models, scenes, pictures)
    true = pictures["true"]
    squared = np.square(pictures["autoencoded"] - true).mean((1, 2, 3))
    rows.append(("autoencoder PSNR (dB)", float(np.mean(-10 * np.log10(squared)))))
    made = {name: pictures[name] for name in pictures if name not in ("true", "autoencoded")}
    return rows + _correlate_all(made, true)


def _judge_all(models, scenes, pictures):
    rows = []
    for name, images in pictures.items():
        category, background = judge_pictures(models.judge, images, scenes, models.device)
        rows += [(f"judge category, {name}", category), (f"judge background, {name}", background)]
    return rows


def _correlate_all(pictures, true):
    return [
        (f"{COARSE} x {COARSE} correlation, {name}", correlate(images, true))
        for name, images in pictures.items()
    ]


def correlate(pictures: np.ndarray, true: np.ndarray, side: int = COARSE) -> float:
    """Mean correlation of pictures with the true ones, both averaged to side x side pixels.

    Parameters
    ----------
    pictures, true : float arrays of shape (n, pixels, pixels, 3)
    side : int
        A divisor of `pixels`.

    Returns
    -------
    float
    """
    coarse = []
    for images in (pictures, true):
        cell = images.shape[1] // side
        cells = images.reshape(len(images), side, cell, side, cell, 3).mean((2, 4))
        flat = cells.reshape(len(images), -1).astype(np.float64)
        flat -= flat.mean(1, keepdims=True)
        coarse.append(flat / np.linalg.norm(flat, axis=1, keepdims=True))
    return float((coarse[0] * coarse[1]).sum(1).mean())


@torch.inference_mode()
def measure_clip(models: Models, scenes: Scenes) -> list[tuple[str, float]]:
    """Classify pictures by the text most similar in CLIP.

    The text of a category is averaged over backgrounds, as zero-shot classifiers average over
    prompts, and vice versa.

    Parameters
    ----------
    models : Models
    scenes : nsdldm.demo.training.scenes.Scenes

    Returns
    -------
    list of (str, float)
    """
    clip = models.clip
    views = []
    for start in range(0, len(scenes.pictures), BATCH):
        batch = prepare(scenes.pictures[start : start + BATCH], models.device)
        views.append(F.normalize(clip.visual_projection(clip.vision_model(batch).pooler_output)))
    views = torch.cat(views)
    words = [NAMES.get(name, (name,))[0] for name in CATEGORIES]
    opening = next(opening for opening in OPENINGS if "photo" in opening)
    prompts = [
        f"{opening}a {word} {place}"
        for word in words
        for place in (PLACES[b][0] for b in BACKGROUNDS)
    ]
    tokenizer = models.pipeline.tokenizer
    tokens = tokenizer(prompts, padding="max_length", return_tensors="pt", truncation=True)
    texts = clip.text_projection(
        clip.text_model(tokens["input_ids"].to(models.device)).pooler_output
    )
    texts = F.normalize(texts).view(len(words), len(BACKGROUNDS), -1)
    named = (views @ F.normalize(texts.mean(1)).T).argmax(1).cpu().numpy()
    placed = (views @ F.normalize(texts.mean(0)).T).argmax(1).cpu().numpy()
    right = scenes.categories[np.arange(len(named)), named]
    return [
        ("zero-shot category", float(right.mean())),
        ("zero-shot background", float((placed == scenes.backgrounds).mean())),
    ]


def measure_time(models: Models, scenes: Scenes) -> tuple[str, float]:
    """Time text-to-image generation.

    Parameters
    ----------
    models : Models
    scenes : nsdldm.demo.training.scenes.Scenes

    Returns
    -------
    (str, float)
    """
    prompts = [texts[0] for texts in scenes.captions[:N_TIMED]]
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        models.pipeline(
            prompts, num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="np"
        )
        seconds.append(time.perf_counter() - start)
    return f"seconds for {N_TIMED} pictures at {STEPS} steps", min(seconds)


def save_sheet(path: Path, rows: list[np.ndarray]) -> None:
    """Write pictures side by side as PNG.

    Parameters
    ----------
    path : Path
    rows : list of float arrays of shape (n, pixels, pixels, 3)
        From 0 to 1.
    """
    pixels = rows[0].shape[1]
    step = pixels + GAP
    shape = (len(rows) * step - GAP, len(rows[0]) * step - GAP, 3)
    sheet = np.full(shape, 255, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            place = slice(i * step, i * step + pixels), slice(j * step, j * step + pixels)
            sheet[place] = (picture * 255).round().astype(np.uint8)
    with replacing(path) as part:
        Image.fromarray(sheet).save(part)

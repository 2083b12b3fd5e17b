"""The training stages of the demo model, each from the files of the previous ones."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTokenizer

from nsdldm.demo.depth import draw_depth
from nsdldm.demo.training import networks
from nsdldm.demo.training.classifiers import CLASSIFIERS, prepare
from nsdldm.demo.training.loop import autocast, train_network
from nsdldm.demo.training.scenes import draw_scenes, load_scenes, number_scene
from nsdldm.demo.training.tokenizer import train_tokenizer
from nsdldm.diffusion.text import embed_texts
from nsdldm.support.files import create_array, load_array
from nsdldm.support.logs import progress

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPModel

    from nsdldm.demo.training.classifiers import SceneClassifier
    from nsdldm.demo.training.scenes import Scenes

logger = logging.getLogger(__name__)

# Weights of the autoencoder's losses; the first, mean absolute difference, has weight 1.
SQUARED, EDGES, DIVERGENCE = 0.5, 0.5, 2e-4
LARGEST_SCALE = 4.6
# The U-Net sees c as it will be used: from one caption or the mean of all, with decoding errors, or
# none at all.
MEAN_SHARE, NOISY_SHARE, LARGEST_NOISE, EMPTY_SHARE = 0.5, 0.3, 0.5, 0.12
CATEGORY_WEIGHT, BACKGROUND_WEIGHT = 4.0, 0.3
N_ENCODED = 128


class Workshop:
    """What all stages need.

    Parameters
    ----------
    recipe : nsdldm.demo.training.recipe.Recipe
    folder : Path
        For scenes, checkpoints and intermediate results; kept between runs.
    device : torch.device
    threads : int
        Processes that draw.
    """

    def __init__(self, recipe, folder, device, threads=1):
        self.recipe, self.folder, self.device, self.threads = recipe, folder, device, threads

    def scenes(self, split: str) -> Scenes:
        """Draw the scenes of a split, once, and load them."""
        n = {"train": self.recipe.train_scenes, "test": self.recipe.test_scenes}[split]
        draw_scenes(self.folder, split, n, self.recipe.pixels, self.recipe.seed, self.threads)
        return load_scenes(self.folder, split)

    def depths(self, split: str, rows: Iterable[int]) -> np.ndarray:
        """Draw the true depth of some scenes of a split, float32 (n, pixels, pixels)."""
        scenes = (number_scene(self.recipe.seed, split, int(row)) for row in rows)
        return np.stack([draw_depth(scene, self.recipe.pixels) for scene in scenes])

    def build(self, stage: str, make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
        """Make a network whose initial weights depend only on the recipe and the stage."""
        torch.manual_seed(self._seed(f"weights of {stage}"))
        return make()

    def train(self, stage: str, network: torch.nn.Module, loss: Callable) -> torch.nn.Module:
        """Train a network to the end of its plan and return it."""
        trained, _ = train_network(
            network,
            loss,
            self.recipe.plans[stage],
            checkpoint=self.folder / f"{stage}.pt",
            seed=self._seed(stage),
            device=self.device,
        )
        return trained

    def _seed(self, name):
        return zlib.crc32(f"{self.recipe.seed} {name}".encode())


def train_autoencoder(shop: Workshop) -> AutoencoderKL:
    """Train encoder and decoder together."""
    pictures = shop.scenes("train").pictures
    autoencoder = shop.build("autoencoder", lambda: networks.build_autoencoder(shop.recipe))
    plan = shop.recipe.plans["autoencoder"]

    def loss(network, rng):
        batch = prepare(pictures[draw_rows(rng, pictures, plan.batch)], shop.device)
        posterior = network.encode(batch).latent_dist
        decoded = network.decode(posterior.sample()).sample
        return _compare(decoded.float(), batch) + DIVERGENCE * posterior.kl().float().mean() / (
            posterior.mean[0].numel()
        )

    return shop.train("autoencoder", autoencoder, loss)


def draw_rows(rng: np.random.Generator, pictures: np.ndarray, n: int) -> np.ndarray:
    """Draw the rows of a batch, int64 of shape (n,), each at most once, ascending."""
    return np.sort(rng.choice(len(pictures), n, replace=False))


def _compare(decoded, pictures):
    """Difference of pictures and of their edges."""
    error = decoded - pictures
    across, down = error.diff(dim=3).abs().mean(), error.diff(dim=2).abs().mean()
    return error.abs().mean() + SQUARED * error.square().mean() + EDGES * (across + down)


def train_decoder(shop: Workshop) -> AutoencoderKL:
    """Train the decoder further; the encoder, and so all latents, stay fixed."""
    pictures, plan = shop.scenes("train").pictures, shop.recipe.plans["decoder"]
    autoencoder = train_autoencoder(shop).requires_grad_(False)
    autoencoder.decoder.requires_grad_(True)
    autoencoder.post_quant_conv.requires_grad_(True)

    def loss(network, rng):
        batch = prepare(pictures[draw_rows(rng, pictures, plan.batch)], shop.device)
        with torch.no_grad():
            latents = network.encode(batch).latent_dist.sample()
        return _compare(network.decode(latents).sample.float(), batch)

    return shop.train("decoder", autoencoder, loss)


def load_tokenizer(shop: Workshop) -> CLIPTokenizer:
    """Learn the vocabulary once, and load it."""
    folder = shop.folder / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        captions = shop.scenes("train").captions
        tokenizer = train_tokenizer(
            (text for texts in captions for text in texts), shop.recipe.tokens
        )
        tokenizer.save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def train_clip(shop: Workshop) -> CLIPModel:
    """Train the text and image encoders to match captions and pictures."""
    scenes, plan = shop.scenes("train"), shop.recipe.plans["clip"]
    tokenizer = load_tokenizer(shop)
    clip = shop.build("clip", lambda: networks.build_clip(shop.recipe, tokenizer))
    tokens = tokenize(tokenizer, scenes.captions)

    def loss(network, rng):
        rows = draw_rows(rng, scenes.pictures, plan.batch)
        texts = tokens[rows, rng.integers(tokens.shape[1], size=plan.batch)].to(shop.device)
        pictures = prepare(scenes.pictures[rows], shop.device)
        with torch.no_grad():
            network.logit_scale.clamp_(max=LARGEST_SCALE)
        return network(input_ids=texts, pixel_values=pictures, return_loss=True).loss

    return shop.train("clip", clip, loss)


def tokenize(tokenizer: CLIPTokenizer, captions: list[list[str]]) -> torch.Tensor:
    """Token numbers of the captions of n scenes, int64 (n, 5, tokens)."""
    texts = [text for group in captions for text in group]
    tokens = tokenizer(
        texts,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    return tokens["input_ids"].view(len(captions), -1, tokenizer.model_max_length)


def train_classifier(shop: Workshop, stage: str = "classifier") -> SceneClassifier:
    """Train one of the two classifiers; see `CLASSIFIERS`."""
    scenes, plan = shop.scenes("train"), shop.recipe.plans[stage]
    categories = torch.from_numpy(scenes.categories).float().to(shop.device)
    backgrounds = torch.from_numpy(scenes.backgrounds).to(shop.device)

    def loss(network, rng):
        rows = draw_rows(rng, scenes.pictures, plan.batch)
        pictures = prepare(scenes.pictures[rows], shop.device)
        # Also on softened and grainy pictures, so that content is what counts.
        if rng.random() < 0.5:
            pictures = F.avg_pool2d(pictures, 3, 1, 1)
        pictures = pictures + 0.05 * torch.randn_like(pictures)
        shown, place = network(pictures)
        named = F.binary_cross_entropy_with_logits(shown.float(), categories[rows])
        placed = F.cross_entropy(place.float(), backgrounds[rows])
        return CATEGORY_WEIGHT * named + BACKGROUND_WEIGHT * placed

    return shop.train(stage, shop.build(stage, CLASSIFIERS[stage]), loss)


train_judge = partial(train_classifier, stage="judge")


@torch.inference_mode()
def encode_scenes(shop: Workshop) -> tuple[np.ndarray, np.ndarray]:
    """Encode the scenes of training, once.

    Returns
    -------
    means, deviations : float16 memory maps of shape (n, 4, side / 8, side / 8)
        Of the posterior, not scaled.
    """
    paths = [shop.folder / "latents" / f"{name}.npy" for name in ("means", "deviations")]
    if not all(path.exists() for path in paths):
        pictures, autoencoder = shop.scenes("train").pictures, train_autoencoder(shop)
        shape = (len(pictures), 4, shop.recipe.pixels // 8, shop.recipe.pixels // 8)
        with (
            create_array(paths[0], shape, np.float16) as means,
            create_array(paths[1], shape, np.float16) as deviations,
        ):
            starts = range(0, len(pictures), N_ENCODED)
            for start in progress(starts, len(starts), "latents"):
                rows = slice(start, start + N_ENCODED)
                with autocast(shop.device):
                    posterior = autoencoder.encode(prepare(pictures[rows], shop.device)).latent_dist
                means[rows] = posterior.mean.float().cpu().numpy()
                deviations[rows] = posterior.std.float().cpu().numpy()
    return [load_array(path) for path in paths]


def find_scale(shop: Workshop) -> float:
    """Factor that gives the latents of training a standard deviation of 1."""
    return float(1 / encode_scenes(shop)[0].std(dtype=np.float64))


def train_unet(shop: Workshop) -> UNet2DConditionModel:
    """Train the U-Net on noised latents and the captions' embeddings."""
    scenes, plan, device = shop.scenes("train"), shop.recipe.plans["unet"], shop.device
    means, deviations = (torch.from_numpy(np.array(a)).to(device) for a in encode_scenes(shop))
    scale = find_scale(shop)
    clip, tokenizer = train_clip(shop), load_tokenizer(shop)
    encoder = clip.text_model.requires_grad_(False)
    tokens = tokenize(tokenizer, scenes.captions)
    empty = embed_texts(tokenizer, encoder, [""])
    noise_levels = networks.build_scheduler()

    def loss(network, rng):
        rows = draw_rows(rng, scenes.pictures, plan.batch)
        latents = means[rows].float()
        latents = scale * (latents + deviations[rows] * torch.randn_like(latents))
        c = draw_embeddings(rng, encoder, tokens[rows].to(device), empty)
        levels = torch.from_numpy(rng.integers(1000, size=plan.batch)).to(device)
        noisy, velocity = add_noise(noise_levels, latents, levels)
        return F.mse_loss(network(noisy, levels, c).sample.float(), velocity)

    unet = shop.build("unet", lambda: networks.build_unet(shop.recipe))
    return shop.train("unet", unet, loss)


def add_noise(
    noise_levels: DDIMScheduler, latents: torch.Tensor, levels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add noise to latents (n, 4, height, width), with levels of shape (n,), and return them with
    the velocity that the U-Net is to predict."""
    noise = torch.randn_like(latents)
    noisy = noise_levels.add_noise(latents, noise, levels)
    velocity = noise_levels.get_velocity(latents, noise, levels)
    return noisy.contiguous(memory_format=torch.channels_last), velocity


@torch.no_grad()
def draw_embeddings(
    rng: np.random.Generator,
    encoder: torch.nn.Module,
    tokens: torch.Tensor,
    empty: torch.Tensor,
    empty_share: float = EMPTY_SHARE,
) -> torch.Tensor:
    """Embed one caption per picture, or take the mean of all; some are noisy, some empty.

    Parameters
    ----------
    rng : numpy Generator
    encoder : CLIPTextModel, or a CLIPModel's text tower
    tokens : int64 tensor of shape (n, 5, tokens)
        As `tokenize` returns them.
    empty : float32 tensor of shape (1, tokens, width)
        The embedding of no text.
    empty_share : float

    Returns
    -------
    float32 tensor of shape (n, tokens, width)
    """
    n, n_texts = tokens.shape[:2]
    mean = rng.random(n) < MEAN_SHARE
    weights = np.eye(n_texts, dtype=np.float32)[rng.integers(n_texts, size=n)]
    weights[mean] = 1 / n_texts
    used = torch.from_numpy(weights > 0).to(tokens.device)
    c = torch.zeros(n, n_texts, *empty.shape[1:], device=tokens.device)
    c[used] = encoder(tokens[used]).last_hidden_state.float()
    c = (c * torch.from_numpy(weights).to(c.device)[:, :, None, None]).sum(1)
    level = LARGEST_NOISE * rng.random(n) * (rng.random(n) < NOISY_SHARE)
    c = c + torch.from_numpy(level).float().to(c.device)[:, None, None] * torch.randn_like(c)
    dropped = torch.from_numpy(rng.random(n) < empty_share).to(c.device)
    return torch.where(dropped[:, None, None], empty, c)


STAGES = {
    "judge": train_judge,
    "classifier": train_classifier,
    "autoencoder": train_autoencoder,
    "clip": train_clip,
    "unet": train_unet,
    "decoder": train_decoder,
}

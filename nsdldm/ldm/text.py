"""Caption embeddings c: what the text tower makes of an image's captions."""

import logging

import numpy as np
import torch

from nsdldm.devices import choose_device, choose_dtype
from nsdldm.files import create_array, load_table
from nsdldm.ldm.batching import run_images
from nsdldm.ldm.loading import load_text
from nsdldm.nsd.captions import read_captions

logger = logging.getLogger(__name__)


@torch.inference_mode()
def embed_texts(tokenizer, encoder, texts):
    """Embed texts as Stable Diffusion does its prompts.

    Parameters
    ----------
    tokenizer : CLIPTokenizer
    encoder : CLIPTextModel
    texts : list of str
        Cut, or padded, to the tokenizer's length (77 tokens in Stable Diffusion).

    Returns
    -------
    float32 tensor of shape (n, tokens, width)
        The last hidden state, after the final layer norm. As in the pipelines of diffusers no
        attention mask is given: padding counts.
    """
    tokens = tokenizer(
        texts,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    return encoder(tokens["input_ids"].to(encoder.device)).last_hidden_state.float()


def embed_captions(*, images, captions, model, revision, device, dtype, batch_size, c):
    """Embed the captions of the images a subject saw, averaged over an image's captions.

    Parameters
    ----------
    images : str or Path
        Table of images with the column coco_id.
    captions : list of path
        COCO's caption files.
    model, revision, device, dtype
        As `nsdldm.ldm.latents.encode_latents`.
    batch_size : int
        Images at once, each with about five captions; halved when memory runs out.
    c : str or Path
        Output, float32 of shape (n_images, tokens, width), a row an image of the table.

    Raises
    ------
    InputError
        The model or the captions cannot be used, or an image has none.
    """
    coco_ids = load_table(images)["coco_id"].tolist()
    by_image = read_captions(captions, coco_ids)
    device = choose_device(device)
    tokenizer, encoder = load_text(model, revision, device, choose_dtype(dtype, device))

    def embed(batch):
        groups = [by_image[number] for number in coco_ids[batch]]
        embedded = embed_texts(tokenizer, encoder, [text for group in groups for text in group])
        parts = embedded.split([len(group) for group in groups])
        return torch.stack([part.mean(0) for part in parts]).cpu().numpy()

    n = len(coco_ids)
    shape = (n, tokenizer.model_max_length, encoder.config.hidden_size)
    with create_array(c, shape, np.float32) as means:
        for index, mean in run_images(embed, n, batch_size, device, "c"):
            means[index] = mean
    logger.info("c: shape %s, means of %d captions", shape, sum(map(len, by_image.values())))

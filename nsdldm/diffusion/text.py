"""Text embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer


@torch.inference_mode()
def embed_texts(tokenizer: CLIPTokenizer, encoder: CLIPTextModel, texts: list[str]) -> torch.Tensor:
    """Embed texts the way Stable Diffusion embeds prompts.

    Parameters
    ----------
    tokenizer : CLIPTokenizer
    encoder : CLIPTextModel
    texts : list of str
        Truncated or padded to the tokenizer's length (77 tokens in Stable Diffusion).

    Returns
    -------
    float32 tensor of shape (n, tokens, width)
        The last hidden state, after the final layer norm. As in diffusers' pipelines there is no
        attention mask, so padding counts.
    """
    tokens = tokenizer(
        texts,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    return encoder(tokens["input_ids"].to(encoder.device)).last_hidden_state.float()

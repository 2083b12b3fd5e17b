"""Learn the demo's vocabulary from its captions."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

END_OF_WORD = "</w>"
SPECIAL = ("<|startoftext|>", "<|endoftext|>")
# What CLIP's tokenizer treats as a word.
WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_tokenizer(texts: Iterable[str], tokens: int, size: int = 4000) -> CLIPTokenizer:
    """Learn a byte-pair encoding like CLIP's, in which each word of the captions is one token.

    Parameters
    ----------
    texts : iterable of str
    tokens : int
        Length of a text with its marks.
    size : int
        Largest number of entries.

    Returns
    -------
    CLIPTokenizer
    """
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=END_OF_WORD))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, as_bytes])
    # All bytes, so that every text can be encoded.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=1,
        end_of_word_suffix=END_OF_WORD,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
    # In the order of CLIP's own vocabulary: bytes, bytes that end a word, merges, special tokens.
    entries = [*alphabet, *(byte + END_OF_WORD for byte in alphabet)]
    entries += [first + second for first, second in merges] + list(SPECIAL)
    vocabulary = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=tokens)

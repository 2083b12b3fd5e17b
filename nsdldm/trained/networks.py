"""Networks over responses: a vision transformer whose tokens are patches of voxels.

The blocks are those of transformers' ViT; the cross-attention of the contextual autoencoder's
regressor, which it lacks, follows CAE (Chen et al., IJCV 2024).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import ViTConfig
from transformers.models.vit.modeling_vit import ViTLayer

from nsdldm.support.errors import Finding, InputError

EPSILON = 1e-6
SPREAD = 0.02  # standard deviation of initial weights


def draw_mask(
    generator: torch.Generator, n: int, n_tokens: int, ratio: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose for each sample which tokens are kept and which are masked.

    Parameters
    ----------
    generator : torch.Generator
        On the CPU, so that all devices draw the same.
    n, n_tokens : int
    ratio : float
        Fraction that is masked.

    Returns
    -------
    kept : int64 tensor of shape (n, k)
        Ascending; k is round((1 - ratio) n_tokens), but at least one.
    masked : int64 tensor of shape (n, n_tokens - k)
        The others, ascending.
    """
    return _split_places(generator, n, n_tokens, max(round((1 - ratio) * n_tokens), 1))


def _split_places(generator, n, total, k):
    """Draw k positions, and the others, n times; both ascending."""
    order = torch.rand(n, total, generator=generator).argsort(dim=1)
    return order[:, :k].sort(dim=1).values, order[:, k:].sort(dim=1).values


def sparsify(generator: torch.Generator, responses: torch.Tensor, share: float) -> torch.Tensor:
    """Set a fraction of each sample's voxels to 0 (random sparsification).

    Parameters
    ----------
    generator : torch.Generator
        On the CPU.
    responses : tensor of shape (n, length)
    share : float
        Exactly round(share x length) voxels per sample. In the published code of MinD-Vis and
        Vis-Dec, the fraction is taken of the wrong axis, of length 1, so nothing is set to 0.

    Returns
    -------
    tensor of shape (n, length)
    """
    n, length = responses.shape
    if not share:
        return responses
    dropped, _ = _split_places(generator, n, length, round(share * length))
    return responses.scatter(1, dropped.to(responses.device), 0.0)


def take_tokens(tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Take tokens (n, k, width) from a sequence (n or 1, n_tokens, width) by position (n, k)."""
    places = places.to(tokens.device)[..., None].expand(-1, -1, tokens.shape[-1])
    return tokens.expand(len(places), -1, -1).gather(1, places)


def cut_patches(responses: torch.Tensor, patch: int) -> torch.Tensor:
    """Cut responses (n, length) into patches (n, length / patch, patch) of neighbouring voxels."""
    return responses.unflatten(1, (-1, patch))


def make_positions(n_tokens: int, width: int) -> torch.Tensor:
    """Make the fixed sine-cosine position embeddings of tokens.

    Parameters
    ----------
    n_tokens : int
    width : int
        Even.

    Returns
    -------
    float32 tensor of shape (1, 1 + n_tokens, width)
        Position 0 is the class token, with all zeros, as in MAE's code.
    """
    rates = 10000.0 ** (-np.arange(width // 2) / (width / 2))
    angles = np.outer(np.arange(n_tokens), rates)
    code = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return torch.from_numpy(np.concatenate([np.zeros((1, width)), code])[None]).float()


def make_blocks(width: int, depth: int, heads: int, mlp_ratio: float) -> torch.nn.ModuleList:
    """Make pre-norm self-attention blocks.

    Parameters
    ----------
    width, depth, heads : int
    mlp_ratio : float
        Width of the hidden layer relative to `width`.

    Returns
    -------
    nn.ModuleList of ViTLayer
    """
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=int(width * mlp_ratio),
        layer_norm_eps=EPSILON,
        attn_implementation="sdpa",
    )
    return nn.ModuleList(ViTLayer(config) for _ in range(depth))


def check_heads(width: int, heads: int) -> None:
    """Refuse a width that the attention heads do not divide, or an odd width."""
    if width % heads or width % 2:
        expected = f"an even width that {heads} heads divide"
        raise InputError(Finding("trained: width", expected, str(width), "Correct width or heads"))


def initialise(module: torch.nn.Module) -> None:
    """Initialise linear layers, convolutions and norms as in MAE."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv1d):
        nn.init.xavier_uniform_(module.weight.flatten(1))
        nn.init.zeros_(module.bias)


class Tokenizer(nn.Module):
    """Patches of voxels to tokens: a convolution without overlap, and a linear layer if widened.

    Parameters
    ----------
    patch, width : int
    widened : int or None
        Channels of the convolution; None for `width` without a linear layer.
    """

    def __init__(self, patch, width, widened=None):
        super().__init__()
        self.cut = nn.Conv1d(1, widened or width, patch, stride=patch)
        self.map = nn.Linear(widened, width) if widened else nn.Identity()

    def forward(self, responses: torch.Tensor) -> torch.Tensor:
        """Turn responses (n, length) into tokens (n, length / patch, width)."""
        return self.map(self.cut(responses[:, None]).transpose(1, 2))


class OwnLinear(nn.Module):
    """A separate linear layer for every position in a sequence.

    The k-th voxels of two patches have nothing in common, so with a shared map the layers above
    have to distinguish patches by position. With few images, that costs more than it saves.

    Parameters
    ----------
    n_tokens, n_inputs, n_outputs : int
    """

    def __init__(self, n_tokens, n_inputs, n_outputs):
        super().__init__()
        bound = (6 / (n_inputs + n_outputs)) ** 0.5
        self.weight = nn.Parameter(torch.empty(n_tokens, n_inputs, n_outputs))
        self.bias = nn.Parameter(torch.zeros(n_tokens, n_outputs))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, states: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
        """Map states (n, k, n_inputs) at positions (n, k), by default the whole sequence."""
        weight, bias = self.weight, self.bias
        if places is None:
            return torch.einsum("nti,tio->nto", states, weight) + bias
        # By position rather than by sample: weights of a position are used once, not copied n
        # times.
        n, width = len(states), states.shape[-1]
        spread = states.new_zeros(n, len(weight), width)
        spread = spread.scatter(1, places[..., None].expand(-1, -1, width), states)
        mapped = torch.einsum("nti,tio->nto", spread, weight) + bias
        return take_tokens(mapped, places)


class OwnTokenizer(OwnLinear):
    """Patches of voxels to tokens, with separate weights for each patch."""

    def __init__(self, n_tokens, patch, width):
        super().__init__(n_tokens, patch, width)
        self.patch = patch

    def forward(self, responses: torch.Tensor) -> torch.Tensor:
        """Turn responses (n, length) into tokens (n, length / patch, width)."""
        return super().forward(cut_patches(responses, self.patch))


class Adapters(nn.Module):
    """A linear map for each subject from its voxels to a response vector of common length.

    It starts as a random projection that preserves norms on average, drawn with the seed. In the
    first stage its own output is the target, so training it could make it collapse to zero; it is
    therefore frozen there and trained in later stages.

    Parameters
    ----------
    n_voxels : sequence of int
        Of each subject.
    length : int
    """

    def __init__(self, n_voxels, length):
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(n, length, bias=False) for n in n_voxels)
        for each in self.maps:
            nn.init.normal_(each.weight, std=each.in_features**-0.5)

    def forward(self, responses: torch.Tensor, subject: torch.Tensor) -> torch.Tensor:
        """Map responses (n, longest) of the subjects (n,); padding of shorter ones is not read."""
        adapted = responses.new_zeros(len(responses), self.maps[0].out_features)
        for index, each in enumerate(self.maps):
            rows = (subject == index).nonzero()[:, 0]
            # Every process of a parallel training uses every map.
            own = each(responses[rows, : each.in_features])
            adapted = adapted.index_add(0, rows, own.to(adapted.dtype))
        return adapted


class Encoder(nn.Module):
    """The encoder of responses, which sees some or all tokens of a sample.

    Parameters
    ----------
    length : int
        Length of a response vector, a multiple of `patch`.
    patch, width, depth, heads : int
    mlp_ratio : float
    tokenizer_width : int or None
        Of a `Tokenizer`.
    own_maps : bool
        Use an `OwnTokenizer` instead.
    n_voxels : sequence of int, optional
        Number of voxels of each subject, if there are `Adapters`.
    """

    def __init__(
        self,
        length,
        *,
        patch,
        width,
        depth,
        heads,
        mlp_ratio,
        tokenizer_width=None,
        own_maps=False,
        n_voxels=None,
    ):
        super().__init__()
        check_heads(width, heads)
        self.length, self.patch, self.width = length, patch, width
        self.n_tokens = length // patch
        self.adapters = Adapters(n_voxels, length) if n_voxels else None
        self.tokenizer = Tokenizer(patch, width, tokenizer_width)
        if own_maps:
            self.tokenizer = OwnTokenizer(self.n_tokens, patch, width)
        self.start = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", make_positions(self.n_tokens, width), persistent=False)
        self.blocks = make_blocks(width, depth, heads, mlp_ratio)
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        for part in (self.tokenizer, self.blocks):
            part.apply(initialise)
        nn.init.normal_(self.start, std=SPREAD)

    def adapt(self, responses: torch.Tensor, subject: torch.Tensor | None = None) -> torch.Tensor:
        """Map responses (n, length) of a subject to the common length; without adapters, return
        them unchanged."""
        return responses if self.adapters is None else self.adapters(responses, subject)

    def forward(
        self,
        responses: torch.Tensor,
        kept: torch.Tensor | None = None,
        subject: torch.Tensor | None = None,
        adapted: bool = False,
    ) -> torch.Tensor:
        """Encode responses.

        Parameters
        ----------
        responses : tensor of shape (n, length)
        kept : int64 tensor of shape (n, k), optional
            Positions of the visible tokens; all by default. The others are not used at all.
        subject : int64 tensor of shape (n,), optional
            The subject of each sample; for adapters.
        adapted : bool
            `adapt` was called before.

        Returns
        -------
        tensor of shape (n, 1 + k, width)
            The class token first.
        """
        if not adapted:
            responses = self.adapt(responses, subject)
        tokens = self.tokenizer(responses) + self.positions[:, 1:]
        if kept is not None:
            tokens = take_tokens(tokens, kept)
        start = (self.start + self.positions[:, :1]).expand(len(tokens), -1, -1)
        states = torch.cat([start, tokens], dim=1)
        for block in self.blocks:
            states = block(states)
        return self.norm(states)


def build_encoder(settings: dict, length: int, n_voxels: Sequence[int] | None = None) -> Encoder:
    """Build the encoder that settings describe.

    Parameters
    ----------
    settings : dict
        Keys patch, width, depth, heads, mlp_ratio, tokenizer_width, own_maps of
        `nsdldm.trained.presets`.
    length : int
    n_voxels : sequence of int, optional
        As `Encoder`.

    Returns
    -------
    Encoder
    """
    names = ("patch", "width", "depth", "heads", "mlp_ratio", "tokenizer_width", "own_maps")
    return Encoder(length, n_voxels=n_voxels, **{name: settings[name] for name in names})


class RegressorBlock(nn.Module):
    """One block of the regressor: masked positions attend to what is known (CAE's
    `RegressorBlock`)."""

    def __init__(self, width, heads, mlp_ratio):
        super().__init__()
        self.norm_query, self.norm_key, self.norm_value, self.norm_mlp = (
            nn.LayerNorm(width, eps=EPSILON) for _ in range(4)
        )
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(
        self,
        states: torch.Tensor,
        places: torch.Tensor,
        context: torch.Tensor,
        context_places: torch.Tensor,
    ) -> torch.Tensor:
        """Update the states (n, m, width) of masked positions from a context (n, k, width); places
        and context_places are added to them."""
        query = self.norm_query(states + places)
        key = self.norm_key(context + context_places)
        found, _ = self.attention(query, key, self.norm_value(context), need_weights=False)
        states = states + found
        return states + self.mlp(self.norm_mlp(states))


class Regressor(nn.Module):
    """The latent regressor: predicts the encoder's states of the masked tokens.

    Parameters
    ----------
    n_tokens, encoder_width, width, depth, heads : int
    mlp_ratio : float
    context : {"all", "visible"}
        What masked positions attend to: the visible states and their own states, as in CAE's code,
        or the visible states only.
    """

    def __init__(self, n_tokens, encoder_width, *, width, depth, heads, mlp_ratio, context="all"):
        super().__init__()
        check_heads(width, heads)
        self.width, self.context = width, context
        # As in CAE if widths differ; targets go through it too.
        self.enter = nn.Identity()
        if encoder_width != width:
            self.enter = nn.Sequential(
                nn.Linear(encoder_width, width), nn.LayerNorm(width, eps=EPSILON)
            )
        self.query = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", make_positions(n_tokens, width), persistent=False)
        self.blocks = nn.ModuleList(RegressorBlock(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.apply(initialise)
        nn.init.normal_(self.query, std=SPREAD)

    def forward(
        self, visible: torch.Tensor, kept: torch.Tensor, masked: torch.Tensor
    ) -> torch.Tensor:
        """Predict the states of masked tokens.

        Parameters
        ----------
        visible : tensor of shape (n, 1 + k, encoder_width)
            The encoder's states of the visible tokens.
        kept, masked : int64 tensors of shape (n, k) and (n, m)

        Returns
        -------
        tensor of shape (n, m, width)
        """
        known = self.enter(visible)
        start = self.positions[:, :1].expand(len(known), -1, -1)
        known_places = torch.cat([start, take_tokens(self.positions[:, 1:], kept)], dim=1)
        places = take_tokens(self.positions[:, 1:], masked)
        states = self.query.expand(*places.shape[:2], -1)
        for block in self.blocks:
            context, context_places = known, known_places
            if self.context == "all":
                context = torch.cat([known, states], dim=1)
                context_places = torch.cat([known_places, places], dim=1)
            states = block(states, places, context, context_places)
        return self.norm(states)


class Decoder(nn.Module):
    """The decoder: from states of tokens to predictions for each.

    Parameters
    ----------
    n_tokens, entry_width, width, depth, heads : int
    mlp_ratio : float
    n_outputs : int
        Number of outputs per token.
    mask_token : bool
        Fill masked positions with a learned token, as MAE's decoder does; CAE's decoder only gets
        predicted states of the masked positions.
    own_maps : bool
        Predict each position with separate weights.
    """

    def __init__(
        self,
        n_tokens,
        entry_width,
        *,
        width,
        depth,
        heads,
        mlp_ratio,
        n_outputs,
        mask_token,
        own_maps=False,
    ):
        super().__init__()
        check_heads(width, heads)
        self.enter = nn.Linear(entry_width, width)
        self.register_buffer("positions", make_positions(n_tokens, width), persistent=False)
        self.mask = nn.Parameter(torch.zeros(1, 1, width)) if mask_token else None
        self.blocks = make_blocks(width, depth, heads, mlp_ratio)
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.head = nn.Linear(width, n_outputs)
        if own_maps:
            self.head = OwnLinear(n_tokens, width, n_outputs)
        self.own_maps = own_maps
        self.apply(initialise)
        if mask_token:
            nn.init.normal_(self.mask, std=SPREAD)

    def forward(
        self,
        states: torch.Tensor,
        masked: torch.Tensor,
        kept: torch.Tensor | None = None,
        everywhere: bool = False,
    ) -> torch.Tensor:
        """Predict the masked tokens, or all.

        Parameters
        ----------
        states : tensor
            With a mask token, (n, 1 + k, entry_width) of the class token and the visible tokens;
            without, (n, m, entry_width) of the masked tokens.
        masked : int64 tensor of shape (n, m)
        kept : int64 tensor of shape (n, k), optional
            Positions of the visible tokens; with a mask token.
        everywhere : bool
            Predict all tokens, in their order; with a mask token.

        Returns
        -------
        tensor of shape (n, m, n_outputs) or (n, n_tokens, n_outputs)
        """
        states = self.enter(states)
        places = take_tokens(self.positions[:, 1:], masked)
        if self.mask is None:
            states = states + places
        else:
            start = self.positions[:, :1].expand(len(states), -1, -1)
            known = torch.cat([start, take_tokens(self.positions[:, 1:], kept)], dim=1)
            # Attention ignores the order of tokens; only their position embeddings matter.
            states = torch.cat([states + known, self.mask + places], dim=1)
        for block in self.blocks:
            states = block(states)
        states = self.norm(states)
        if everywhere:
            order = torch.cat([kept, masked], dim=1).argsort(dim=1)
            states, places = take_tokens(states[:, 1:], order), None
        else:
            states, places = states[:, -masked.shape[1] :], masked.to(states.device)
        return self.head(states, places) if self.own_maps else self.head(states)


def count_parameters(module: torch.nn.Module) -> int:
    """Count the parameters of a module, trained or not."""
    return sum(parameter.numel() for parameter in module.parameters())

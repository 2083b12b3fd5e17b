import math

import numpy as np
import pytest
import torch
from trained_files import (
    LENGTH,
    N_TOKENS,
    SMALL,
    draw,
    make_encoder,
    one_thread,  # noqa: F401
    seeded,
)

from nsdldm.support.errors import InputError
from nsdldm.trained import networks

PATCH, WIDTH = SMALL["patch"], SMALL["width"]
TOKENIZERS = {
    "shared": {"own_maps": False, "tokenizer_width": None},
    "widened": {"own_maps": False, "tokenizer_width": 10},
    "own": {"own_maps": True, "tokenizer_width": None},
}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]


@pytest.mark.parametrize("n_tokens", [2, 7, 10, 983])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.75])
def test_mask_keeps_exactly_its_share(n_tokens, ratio):
    kept, masked = networks.draw_mask(seeded(), 5, n_tokens, ratio)
    assert kept.shape == (5, max(round((1 - ratio) * n_tokens), 1))
    assert kept.dtype == masked.dtype == torch.int64
    together = torch.cat([kept, masked], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(n_tokens).expand(5, -1))
    assert torch.equal(kept, kept.sort(dim=1).values)
    assert torch.equal(masked, masked.sort(dim=1).values)


def test_masks_are_of_each_sample_and_of_the_generator():
    kept, _ = networks.draw_mask(seeded(1), 2000, 8, 0.75)
    counts = kept.flatten().bincount(minlength=8)
    # 4000 places drawn, 500 expected of each with a deviation of 19.
    assert (counts - 500).abs().max() < 100
    assert torch.equal(kept, networks.draw_mask(seeded(1), 2000, 8, 0.75)[0])
    assert not torch.equal(kept, networks.draw_mask(seeded(2), 2000, 8, 0.75)[0])


@pytest.mark.parametrize("length", [5, 24, 1001])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.7, 0.9])
def test_sparsification_drops_exactly_its_share_of_voxels(share, length):
    responses = draw(6, length)
    assert responses.all()
    found = networks.sparsify(seeded(), responses, share)
    assert torch.equal((found == 0).sum(dim=1), torch.full((6,), round(share * length)))
    assert torch.equal(found[found != 0], responses[found != 0])
    if 0 < round(share * length) < length - 1:
        assert not torch.equal(found[0] == 0, found[1] == 0)


def test_positions_are_those_of_mae():
    found = networks.make_positions(7, 6)
    assert found.shape == (1, 8, 6) and found.dtype == torch.float32
    assert not found[0, 0].any()
    for place in range(7):
        angles = [place / 10000 ** (k / 3) for k in range(3)]
        expected = [*map(math.sin, angles), *map(math.cos, angles)]
        np.testing.assert_allclose(found[0, 1 + place], expected, rtol=1e-5, atol=1e-7)


def embed(encoder, responses):
    """Tokens by one product a patch, without convolutions and einsum."""
    parts = []
    for place, patch in enumerate(responses.split(PATCH, dim=1)):
        own = encoder.tokenizer
        if isinstance(own, networks.OwnTokenizer):
            parts.append(patch @ own.weight[place] + own.bias[place])
        else:
            parts.append(own.map(patch @ own.cut.weight[:, 0].T + own.cut.bias))
    return torch.stack(parts, dim=1)


def test_tokens_are_in_order_with_their_places_and_the_class_token_first(tokenizer):
    encoder, responses = make_encoder(depth=0, **tokenizer), draw(3, LENGTH)
    kept = torch.tensor([[0, 2, 5], [1, 3, 4], [0, 1, 2]])
    tokens = embed(encoder, responses) + networks.make_positions(N_TOKENS, WIDTH)[:, 1:]
    seen = torch.stack([tokens[i, places] for i, places in enumerate(kept)])
    expected = encoder.norm(torch.cat([encoder.start.expand(3, -1, -1), seen], dim=1))
    torch.testing.assert_close(encoder(responses, kept), expected)
    assert encoder(responses, kept).shape == (3, 4, WIDTH)


def test_visible_states_do_not_depend_on_masked_voxels(tokenizer):
    encoder, responses = make_encoder(depth=2, **tokenizer), draw(4, LENGTH)
    kept, masked = networks.draw_mask(seeded(), 4, N_TOKENS, 0.5)
    expected = encoder(responses, kept)
    hidden = torch.zeros(4, N_TOKENS, dtype=torch.bool).scatter(1, masked, True)
    hidden = hidden.repeat_interleave(PATCH, dim=1)
    for value in (7.0, math.inf, math.nan):
        assert torch.equal(encoder(responses.masked_fill(hidden, value), kept), expected)
    assert not torch.equal(encoder(responses.masked_fill(~hidden, 7.0), kept), expected)


def test_no_gradient_reaches_masked_voxels(tokenizer):
    encoder, responses = make_encoder(**tokenizer), draw(4, LENGTH).requires_grad_()
    kept, masked = networks.draw_mask(seeded(), 4, N_TOKENS, 0.5)
    encoder(responses, kept).square().mean(dim=0).prod(dim=0).sum().backward()
    gradients = networks.cut_patches(responses.grad, PATCH)
    assert not networks.take_tokens(gradients, masked).any()
    assert networks.take_tokens(gradients, kept).all()


def test_order_of_kept_tokens_does_not_matter(tokenizer):
    encoder, responses = make_encoder(depth=2, **tokenizer), draw(2, LENGTH)
    every = torch.arange(N_TOKENS).expand(2, -1)
    expected = encoder(responses)
    torch.testing.assert_close(encoder(responses, every), expected)
    turned = encoder(responses, every.flip(1))
    torch.testing.assert_close(turned[:, 1:].flip(1), expected[:, 1:])
    torch.testing.assert_close(turned[:, 0], expected[:, 0])


def test_blocks_draw_nothing():
    encoder, responses = make_encoder(depth=2).train(), draw(2, LENGTH)
    assert torch.equal(encoder(responses), encoder(responses))
    assert torch.equal(encoder.eval()(responses), encoder.train()(responses))


def test_own_maps_by_place():
    torch.manual_seed(0)
    layer = networks.OwnLinear(5, 3, 2)
    torch.nn.init.normal_(layer.bias)
    states, places = draw(4, 2, 3), torch.tensor([[0, 4], [3, 1], [2, 2 + 1], [4, 0]])
    found = layer(states, places)
    for row in range(4):
        for k, place in enumerate(places[row]):
            expected = states[row, k] @ layer.weight[place] + layer.bias[place]
            torch.testing.assert_close(found[row, k], expected)


def test_adapters_map_each_subject_and_never_read_padding():
    torch.manual_seed(0)
    adapters = networks.Adapters([5, 3], LENGTH)
    responses, subject = draw(4, 8), torch.tensor([1, 0, 0, 1])
    found = adapters(responses, subject)
    for row, own in enumerate(subject):
        n = [5, 3][own]
        expected = adapters.maps[own].weight @ responses[row, :n]
        torch.testing.assert_close(found[row], expected)
        other = responses.clone()
        other[row, n:] = math.nan
        assert torch.equal(adapters(other, subject)[row], found[row])


def test_adapters_of_absent_subjects_have_gradients_of_zero():
    """Parallel training waits for the gradients of all parameters."""
    encoder = make_encoder(n_voxels=[20, 22])
    encoder(draw(3, LENGTH), subject=torch.zeros(3, dtype=torch.int64)).prod(-1).sum().backward()
    assert encoder.adapters.maps[0].weight.grad.any()
    assert not encoder.adapters.maps[1].weight.grad.any()


def test_adapters_keep_lengths_on_average():
    torch.manual_seed(0)
    adapted = networks.Adapters([4000], 2000)(draw(20, 4000), torch.zeros(20))
    assert adapted.std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("width, heads", [(10, 3), (9, 3)])
def test_widths_that_heads_do_not_divide(width, heads):
    with pytest.raises(InputError, match=f"an even width that {heads} heads divide"):
        make_encoder(width=width, heads=heads)


def make_regressor(context, encoder_width=WIDTH, depth=2):
    torch.manual_seed(0)
    return networks.Regressor(
        N_TOKENS, encoder_width, width=8, depth=depth, heads=2, mlp_ratio=2.0, context=context
    )


def attend(block, query, key, value):
    """Attention of two heads, one sample and head at a time."""
    weights = block.attention.in_proj_weight.chunk(3)
    biases = block.attention.in_proj_bias.chunk(3)
    query, key, value = (
        (x @ w.T + b).chunk(2, dim=-1)
        for x, w, b in zip((query, key, value), weights, biases, strict=True)
    )
    found = []
    for q, k, v in zip(query, key, value, strict=True):
        found.append((q @ k.T / math.sqrt(q.shape[-1])).softmax(-1) @ v)
    return block.attention.out_proj(torch.cat(found, dim=-1))


@pytest.mark.parametrize("context", ["all", "visible"])
@pytest.mark.parametrize("encoder_width", [8, 12])
def test_regressor_is_that_of_cae(context, encoder_width):
    regressor = make_regressor(context, encoder_width)
    torch.nn.init.normal_(regressor.query)
    visible = draw(3, 4, encoder_width)
    kept, masked = networks.draw_mask(seeded(), 3, N_TOKENS, 0.5)
    found = regressor(visible, kept, masked)
    positions = networks.make_positions(N_TOKENS, 8)[0]
    for row in range(3):
        known = regressor.enter(visible[row])
        known_places = torch.cat([positions[:1], positions[1:][kept[row]]])
        places = positions[1:][masked[row]]
        states = regressor.query[0].expand(len(places), -1)
        for block in regressor.blocks:
            seen, where = known, known_places
            if context == "all":
                seen, where = torch.cat([known, states]), torch.cat([known_places, places])
            query, key = block.norm_query(states + places), block.norm_key(seen + where)
            states = states + attend(block, query, key, block.norm_value(seen))
            states = states + block.mlp(block.norm_mlp(states))
        torch.testing.assert_close(found[row], regressor.norm(states))


def test_visible_context_hides_masked_places_from_each_other():
    visible = draw(1, 3, WIDTH)
    kept, both, one = (torch.tensor([places]) for places in ([0, 4], [1, 3], [3]))
    for context, alike in (("visible", True), ("all", False)):
        regressor = make_regressor(context)
        states = regressor(visible, kept, both)[:, 1:], regressor(visible, kept, one)
        assert torch.allclose(*states, atol=1e-6) == alike


def make_decoder(mask_token, own_maps):
    torch.manual_seed(0)
    decoder = networks.Decoder(
        N_TOKENS,
        WIDTH,
        width=6,
        depth=2,
        heads=2,
        mlp_ratio=2.0,
        n_outputs=3,
        mask_token=mask_token,
        own_maps=own_maps,
    )
    if own_maps:
        torch.nn.init.normal_(decoder.head.bias)
    return decoder


@pytest.mark.parametrize("own_maps", [False, True])
def test_plain_decoder_orders_its_predictions(own_maps):
    decoder, states = make_decoder(True, own_maps), draw(4, 4, WIDTH)
    kept, masked = networks.draw_mask(seeded(), 4, N_TOKENS, 0.5)
    some = decoder(states, masked, kept)
    every = decoder(states, masked, kept, everywhere=True)
    assert some.shape == (4, 3, 3) and every.shape == (4, N_TOKENS, 3)
    torch.testing.assert_close(networks.take_tokens(every, masked), some)
    # In another order of the visible tokens, the same of every place.
    order = [0, 3, 1, 2]
    turned = decoder(states[:, order], masked, kept[:, [2, 0, 1]], everywhere=True)
    torch.testing.assert_close(turned, every)


@pytest.mark.parametrize("own_maps", [False, True])
@pytest.mark.parametrize("mask_token", [False, True])
def test_decoder_without_blocks(mask_token, own_maps):
    """So that each prediction is a function of one place."""
    decoder = make_decoder(mask_token, own_maps)
    decoder.blocks = torch.nn.ModuleList()
    kept, masked = networks.draw_mask(seeded(), 2, N_TOKENS, 0.5)
    states = draw(2, 4, WIDTH) if mask_token else draw(2, 3, WIDTH)
    found = decoder(states, masked, kept)
    positions = networks.make_positions(N_TOKENS, 6)[0, 1:]
    for row in range(2):
        for k, place in enumerate(masked[row]):
            state = decoder.mask[0, 0] if mask_token else decoder.enter(states[row, k])
            state = decoder.norm(state + positions[place])
            expected = decoder.head(state) if not own_maps else None
            if own_maps:
                expected = state @ decoder.head.weight[place] + decoder.head.bias[place]
            torch.testing.assert_close(found[row, k], expected)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsdldm.demo.design import count_within_sessions, make_design, plan_slots
from nsdldm.support.errors import InputError


@pytest.fixture(scope="module")
def design():
    return make_design(42, 3, 150, 792)


def presentations(order):
    """Dict of image number to the times of its trials."""
    times = {}
    for time, number in enumerate(order.tolist()):
        times.setdefault(number, []).append(time)
    return times


def test_every_number_is_planned_three_times(design):
    assert design.masterordering.shape == (30_000,)
    assert sorted(design.masterordering.tolist()) == sorted([*range(1, 10_001)] * 3)


def test_first_sessions_hold_the_numbers_asked_for(design):
    times = presentations(design.masterordering[:2250])
    shared = [len(shown) for number, shown in times.items() if number <= 1000]
    unique = [len(shown) for number, shown in times.items() if number > 1000]
    assert (len(shared), len(unique)) == (150, 792)
    assert [shared.count(k) for k in (1, 2, 3)] == [12, 18, 120]
    assert set(unique) == {1, 2, 3}
    assert unique.count(2) / len(unique) == pytest.approx(0.25, abs=0.01)


def test_repeats_lie_in_different_sessions(design):
    for shown in presentations(design.masterordering[:2250]).values():
        assert len({time // 750 for time in shown}) == len(shown)


def test_repeats_within_a_session_lie_apart():
    order = make_design(5, 1, 60, 200).masterordering[:750]
    gaps = [np.diff(shown).min() for shown in presentations(order).values() if len(shown) > 1]
    assert len(gaps) > 200
    assert min(gaps) > 150


def test_trials_of_shared_images_lie_all_over_the_sessions(design):
    shared = design.masterordering[:2250] <= 1000
    counts = shared.reshape(30, 75).sum(axis=1)
    assert counts.min() > 0
    assert counts.max() < 35


def test_images_are_shared_or_belong_to_one_subject(design):
    assert design.subjectim.shape == (8, 10_000)
    assert (design.subjectim[:, :1000] == design.sharedix).all()
    assert (np.diff(design.sharedix) > 0).all()
    everything = np.concatenate([design.sharedix, design.subjectim[:, 1000:].ravel()])
    assert sorted(everything.tolist()) == list(range(1, 73_001))
    assert (np.diff(design.subjectim[0, 1000:]) < 0).any()


def test_same_seed_same_design(design):
    again, other = make_design(42, 3, 150, 792), make_design(43, 3, 150, 792)
    for first, second, third in zip(design, again, other, strict=True):
        np.testing.assert_array_equal(first, second)
        assert (first != third).any()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(1, 200), st.floats(0, 1))
def test_any_possible_numbers_are_met(sessions, shared_images, where):
    thrice, twice = round(0.8 * shared_images), round(0.12 * shared_images)
    rest = 750 * sessions - 2 * thrice - twice - shared_images
    fewest, most = -(-rest // 3), min(rest, 9000)
    unique_images = round(fewest + where * (most - fewest))
    order = make_design(0, sessions, shared_images, unique_images).masterordering
    numbers, counts = np.unique(order[: 750 * sessions], return_counts=True)
    assert (numbers <= 1000).sum() == shared_images
    assert (numbers > 1000).sum() == unique_images
    assert counts.max() <= 3
    assert (np.bincount(order)[1:] == 3).all()


@pytest.mark.parametrize("unique_images", [0, 613, 1843, 9001])
def test_impossible_number_of_images_is_refused_with_the_range(unique_images):
    with pytest.raises(InputError, match=r"`unique_images`: expected 614 to 1842 images"):
        make_design(42, 3, 150, unique_images)


@pytest.mark.parametrize("numbers", [(0, 150), (41, 150), (40, 1000), (3, 0), (3, 1001), (1, 300)])
def test_impossible_sessions_and_shared_images_are_refused(numbers):
    with pytest.raises(InputError, match=f"sessions: {numbers[0]}, shared_images: {numbers[1]}"):
        make_design(42, *numbers, 500)


def test_counts_within_sessions_on_a_hand_made_order():
    order = np.arange(1, 30_001)
    # The first session starts with an image shown three times and one shown twice.
    order[:5] = 10_001, 10_001, 10_001, 10_002, 10_002
    counts = count_within_sessions(order)
    assert counts.shape == (3, 40)
    assert counts[:, 0].tolist() == [745, 1, 1]
    assert (counts[:, 1:] == [[750], [0], [0]]).all()


def test_slots_hold_all_trials():
    pattern = plan_slots(42)
    assert pattern.shape == (40, 12, 75)
    assert set(np.unique(pattern)) == {0, 1}
    assert (pattern.sum(axis=2) == [63, 62] * 6).all()
    assert not pattern[:, :, :3].any()
    assert not pattern[:, :, -4:].any()
    assert (pattern[:, :, 3] == 1).all()
    assert (pattern != plan_slots(43)).any()

"""Lateral and parietal cortex of the simulated brain."""

from dataclasses import replace

import numpy as np
import pytest

from nsdldm.demo import streams
from nsdldm.demo.cortex import BEYOND, VENTRAL
from nsdldm.demo.scenes import describe_scene

SCENES = [describe_scene(5, number) for number in range(300)]


def test_every_mixture_is_whole():
    for mixture in (VENTRAL, *BEYOND.values()):
        assert sum(mixture.values()) == pytest.approx(1)


def test_lateral_voxels_prefer_living_things_wherever_they_are():
    kinds = streams.tabulate_living(SCENES)
    moved = [
        replace(s, objects=tuple(replace(t, x=0.9, y=0.1) for t in s.objects), background="sea")
        for s in SCENES
    ]
    assert np.array_equal(kinds, streams.tabulate_living(moved))
    tuning = np.random.default_rng(0).standard_normal((7, 200)).astype(np.float32)
    answer = streams.tune_to_living((kinds - kinds.mean(0)) / kinds.std(0), tuning)
    alive = np.array([any(t.category in streams.LIVING for t in s.objects) for s in SCENES])
    assert 0.2 < alive.mean() < 0.6
    assert (answer[alive].mean(axis=0) > answer[~alive].mean(axis=0)).mean() > 0.9


def test_parietal_voxels_know_where_things_are_but_not_what_they_are():
    field = np.array([[-2.5, 0], [2.5, 0]])
    answer = streams.tune_to_places(SCENES, field)
    right = np.array([np.mean([t.x for t in s.objects]) for s in SCENES])
    difference = answer[:, 1] - answer[:, 0]
    assert np.corrcoef(difference, right)[0, 1] > 0.7
    others = [
        replace(s, objects=tuple(replace(t, colour="red", seed=1) for t in s.objects))
        for s in SCENES
    ]
    assert np.array_equal(answer, streams.tune_to_places(others, field))


def test_what_is_only_named_is_nowhere():
    thing = replace(SCENES[0].objects[0], category="banana", size=0.3)
    scene = replace(SCENES[0], objects=(thing,))
    assert not streams.tune_to_places([scene], np.zeros((3, 2))).any()
    assert not streams.tabulate_living([scene]).any()

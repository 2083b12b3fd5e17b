import json

import pytest
from nsd_files import write_captions

from nsdldm.nsd import captions
from nsdldm.nsd.captions import read_captions
from nsdldm.support.errors import InputError


@pytest.fixture
def paths(tmp_path):
    train, val = tmp_path / "captions_train2017.json", tmp_path / "captions_val2017.json"
    write_captions(train, [(9, "A dog.\n"), (4, "two  cats "), (9, "A brown dog.")])
    write_captions(val, [(7, "a kite")])
    return [train, val]


def test_captions_of_both_files_in_file_order_without_stray_white_space(paths):
    expected = {7: ["a kite"], 9: ["A dog.", "A brown dog."]}
    assert read_captions(paths, [9, 7]) == expected


def test_repeated_numbers_do_not_repeat_captions(paths):
    assert read_captions(paths, [4, 4]) == {4: ["two cats"]}


def test_each_file_is_parsed_once(paths, monkeypatch):
    parsed = []
    load = json.load
    monkeypatch.setattr(captions.json, "load", lambda file: parsed.append(file.name) or load(file))
    read_captions(paths, [4, 7, 9])
    assert parsed == [str(path) for path in paths]


def test_image_without_caption_is_named(paths):
    with pytest.raises(InputError, match="none for 2 of 3 images, such as COCO number 5"):
        read_captions(paths, [9, 5, 6])


def test_missing_and_cut_files_are_named(paths):
    with pytest.raises(InputError, match=r"absent.json.*no such file"):
        read_captions([paths[0].with_name("absent.json")], [9])
    paths[1].write_text(paths[1].read_text()[:-20])
    with pytest.raises(InputError, match=r"captions_val2017.json.*cannot be read"):
        read_captions(paths, [9])
    paths[1].write_text('{"images": []}')
    with pytest.raises(InputError, match=r"captions_val2017.json.*annotations"):
        read_captions(paths, [9])

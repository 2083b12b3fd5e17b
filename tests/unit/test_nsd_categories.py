import json

import pytest

from nsdldm.nsd import categories
from nsdldm.nsd.categories import read_categories
from nsdldm.support.errors import InputError

NAMES = {1: "person", 17: "cat", 18: "dog"}


def write_instances(path, objects, images=None, names=NAMES):
    """Objects as (COCO id, category, area) in COCO's format."""
    content = {
        "images": [{"id": n} for n in images or sorted({image for image, *_ in objects})],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category, "area": area}
            for n, (image, category, area) in enumerate(objects)
        ],
        "categories": [{"id": number, "name": name} for number, name in names.items()],
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def paths(tmp_path):
    train = [(9, 1, 50.0), (9, 17, 30.0), (9, 17, 30.5), (4, 18, 2)]
    return [
        write_instances(tmp_path / "instances_train2017.json", train, images=[4, 5, 9]),
        write_instances(tmp_path / "instances_val2017.json", [(7, 17, 8), (7, 1, 8), (8, 1, 3)]),
    ]


def test_the_main_category_has_the_largest_summed_area(paths):
    table = read_categories(paths, [9, 4])
    assert table.index.tolist() == [9, 4]
    # Two small cats are larger than one person.
    assert table["main"].tolist() == ["cat", "dog"]
    assert table["all"].tolist() == [("cat", "person"), ("dog",)]


def test_the_first_in_the_alphabet_of_equal_areas(paths):
    assert read_categories(paths, [7])["main"].tolist() == ["cat"]


def test_images_without_objects_have_no_category(paths):
    table = read_categories(paths, [5])
    assert table["main"].tolist() == [""]
    assert table["all"].tolist() == [()]


def test_the_order_is_that_of_the_ids_even_if_repeated(paths):
    assert read_categories(paths, [8, 9, 8])["main"].tolist() == ["person", "cat", "person"]


def test_each_file_is_parsed_once(paths, monkeypatch):
    parsed = []
    load = json.load
    monkeypatch.setattr(
        categories.json, "load", lambda file: parsed.append(file.name) or load(file)
    )
    read_categories(paths, [4, 7, 9])
    assert parsed == [str(path) for path in paths]


def test_missing_and_cut_files_are_named(paths):
    with pytest.raises(InputError, match=r"absent.json.*no such file"):
        read_categories([paths[0].with_name("absent.json")], [9])
    paths[1].write_text(paths[1].read_text()[:-20])
    with pytest.raises(InputError, match=r"instances_val2017.json.*cannot be read"):
        read_categories(paths, [9])


@pytest.mark.parametrize("missing", ["images", "annotations", "categories"])
def test_files_of_another_kind_are_named(paths, missing):
    content = json.loads(paths[0].read_text())
    del content[missing]
    paths[0].write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"instances_train2017.json.*{missing}"):
        read_categories(paths, [9])


@pytest.mark.parametrize("field", ["image_id", "category_id", "area"])
def test_objects_that_lack_something(paths, field):
    content = json.loads(paths[0].read_text())
    del content["annotations"][1][field]
    paths[0].write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"instances_train2017.json.*{field}"):
        read_categories(paths, [9])


def test_files_that_name_a_category_differently(paths):
    write_instances(paths[1], [(7, 17, 8)], names=NAMES | {17: "lion"})
    with pytest.raises(InputError, match=r"instances_val2017.json.*lion and cat for 17"):
        read_categories(paths, [9])


def test_images_that_no_file_lists(paths):
    with pytest.raises(InputError, match=r"val2017.json.*1 of 2 missing, such as COCO number 6"):
        read_categories(paths, [6, 9])
    # With one file alone, images of the other would count as images without objects.
    with pytest.raises(InputError, match="1 of 2 missing, such as COCO number 7"):
        read_categories(paths[:1], [7, 9])

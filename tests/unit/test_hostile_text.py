"""Text from outside: whatever it holds, its readers return what it says or one clear error."""

import copy
import json
import os

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snakemake.utils import update_config
from test_workflow_settings import PROJECT, REAL, refuse

from nsdldm.nsd.captions import read_captions
from nsdldm.nsd.labels import find_labels, parse_roi, read_label_table
from nsdldm.nsd.trials import read_responses, read_stim_info
from nsdldm.support.errors import InputError
from nsdldm.workflow.loading import SettingsError, load_settings

# HOSTILE_EXAMPLES=5000 searches further, each time elsewhere.
EXAMPLES = os.environ.get("HOSTILE_EXAMPLES")
profile = settings(
    max_examples=int(EXAMPLES or 40),
    derandomize=EXAMPLES is None,
    deadline=2000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ODD = [
    "",
    " ",
    "NaN",
    "1.5",
    "-1",
    "1e400",
    "9" * 400,
    '"',
    "\x00",
    "\ufeff1",
    "1_000",
    "٣",
    "é",
    "\r",
]
cells = st.one_of(st.integers(-3, 80_000).map(str), st.sampled_from(ODD))


def read_or_refuse(read, path):
    """The result, or None after one finding about the file."""
    try:
        return read(path)
    except InputError as error:
        (finding,) = error.findings
        assert str(path) in finding.where
        assert "\n" not in str(error)
        assert len(str(error)) < 1500
        return None


lines = st.one_of(
    st.text(max_size=20),
    st.tuples(cells, st.sampled_from(["early", "V1v\t    ", "", "#", "a b 1 2 3"])).map(" ".join),
)


@profile
@given(st.lists(lines, max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_label_tables(tmp_path, table, end):
    path = tmp_path / "streams.mgz.ctab"
    path.write_bytes(end.join(table).encode("utf-8", "surrogatepass"))
    labels = read_or_refuse(read_label_table, path)
    for number, name in (labels or {}).items():
        assert -(10**9) < number < 10**9
        assert name.isprintable() and name == name.strip() != ""
        assert find_labels(str(number), labels, "roi", path) == [number]


@pytest.mark.parametrize("text", ["0 Unknown\n1 early\n", "\ufeff0 Unknown\r\n1 early\t  \r\n"])
def test_label_tables_of_other_systems(tmp_path, text):
    (tmp_path / "a.ctab").write_text(text, encoding="utf-8", newline="")
    assert read_label_table(tmp_path / "a.ctab") == {0: "Unknown", 1: "early"}


@profile
@given(st.text(max_size=30))
def test_parts_of_regions(part):
    try:
        ((atlas, label),) = parse_roi("early", [part])
    except InputError:
        return
    assert f"{atlas}:{label}" == part


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 40),
        st.floats(),
        st.text(st.characters(), max_size=8),
        st.just("\ud800"),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
annotations = st.fixed_dictionaries({"image_id": st.just(11) | values, "caption": values})
files = st.one_of(
    values,
    st.fixed_dictionaries({"annotations": st.lists(annotations | values, max_size=4) | values}),
)


@profile
@given(files)
def test_captions(tmp_path, content):
    path = tmp_path / "captions_val2017.json"
    path.write_text(json.dumps(content))
    found = read_or_refuse(lambda path: read_captions([path], [11]), path)
    for text in (found or {}).get(11, ()):
        assert text == " ".join(text.split()) != ""
        assert text.encode("utf-8")


HEADER = ["SUBJECT", "SESSION", "RUN", "TRIAL", "73KID"]
rows = st.lists(st.lists(cells, min_size=4, max_size=6), max_size=5)
good = st.lists(st.tuples(*[st.integers(1, 73_000).map(str)] * 5).map(list), max_size=5)


@profile
@given(rows | good, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.permutations(HEADER))
def test_responses(tmp_path, table, end, mark, header):
    path = tmp_path / "responses.tsv"
    text = end.join(map("\t".join, [header, *table])) + end
    path.write_bytes(text.encode("utf-8-sig" if mark else "utf-8"))
    read = read_or_refuse(read_responses, path)
    plain = all(len(row) == 5 and all(cell.isdecimal() for cell in row) for row in table)
    if plain and all(cell.isascii() and len(cell) < 9 for row in table for cell in row):
        assert read is not None
    if read is not None and plain:
        place = header.index("73KID")
        assert read["nsd_id"].tolist() == [int(row[place]) - 1 for row in table]


COLUMNS = ["nsdId", "cocoId", "cocoSplit", "shared1000", *(f"subject1_rep{n}" for n in range(3))]
kinds = (
    st.sampled_from(["train2017", "val2017", "x"]),
    st.sampled_from(["True", "False", "0", "yes"]),
)


@profile
@given(st.data(), st.integers(0, 4))
def test_stimulus_tables(tmp_path, data, n):
    path = tmp_path / "nsd_stim_info_merged.csv"
    odd = data.draw(st.sampled_from([*COLUMNS, None]))
    table = []
    for number in range(n):
        row = [str(number), "7", "val2017", "True", "0", "3", "30000"]
        if odd:
            row[COLUMNS.index(odd)] = data.draw(st.one_of(cells, *kinds))
        table.append(row)
    path.write_text("\n".join(map(",".join, [COLUMNS, *table])) + "\n", newline="")
    read = read_or_refuse(lambda path: read_stim_info(path, "subj01"), path)
    if odd is None and n:
        assert read["rep2"].tolist() == [30_000] * n
    if read is not None:
        assert read["shared"].dtype == bool
        assert set(read["coco_split"]) <= {"train2017", "val2017"}


def nodes(value, path=()):
    """Paths to all values of a configuration."""
    if path:
        yield path
    parts = value.items() if isinstance(value, dict) else ()
    for key, part in parts:
        yield from nodes(part, (*path, key))


PLACES = sorted(nodes(load_settings(REAL)))
plain = st.one_of(
    values,
    st.sampled_from(
        ["../x", "/etc", "x" * 300, "zc", "z", "zc-s050", "cortex", "ſ", b"x", {"subj01"}]
    ),
    st.sampled_from([0.2, [0.2, 0.4], [1, 1], 10**400, {1: 2}, {None: 1}, {"..": ["a:b"]}]),
)


@profile
@given(st.lists(st.tuples(st.sampled_from(PLACES), plain), min_size=1, max_size=3), st.booleans())
def test_configurations(changes, real):
    config = copy.deepcopy(REAL) if real else {}
    for path, value in changes:
        for key in reversed(path):
            value = {key: value}
        update_config(config, value)
    try:
        found = load_settings(config)
    except SettingsError as error:
        for text in error.problems:
            assert "\n" not in text
            assert len(text) < 1500
    else:
        assert load_settings(found) == found


def test_references_of_yaml_end_nothing_and_fill_nothing():
    config = {}
    levels = ["a: &a0 [1, 1]"] + [
        f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)
    ]
    config["feature_spaces"] = {"own": {"settings": yaml.safe_load("\n".join(levels))}}
    assert refuse(config) == ["The configuration must have fewer than 100000 values."]
    config["feature_spaces"] = yaml.safe_load("own: &own {function: a.b, settings: *own}")
    (problem,) = refuse(config)
    assert problem.endswith("must be nested less deeply.")


BAD_NAMES = [
    "../x",
    "/x",
    "",
    "v" * 300,
    "еarly",
    "x\n",
    "x/y",
    "x\0",
    ".x",
    "x y",
    "{x}",
    "x|y",
    "-x",
]
NAMED = (
    "rois",
    "trajectories.blocks",
    "trajectories.variants",
    "feature_spaces",
    "evaluation.networks",
)
VALUES = {
    "rois": ["streams:early"],
    "trajectories.blocks": "mid_block",
    "trajectories.variants": {"seed": 1},
    "feature_spaces": {"function": "a.b", "settings": {}},
    "evaluation.networks": {},
}


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("key", NAMED)
def test_names_that_become_paths_are_plain(key, name):
    change = {name: VALUES[key]}
    for part in reversed(key.split(".")):
        change = {part: change}
    problems = refuse(change)
    assert len(problems) == 1 or name == ""
    assert problems[0].startswith("Unknown key ")
    assert f" in {key}: it must be " in problems[0]


LISTED = {
    "matrices": lambda name: ["cortex", "early", "ventral", name],
    "subjects": lambda name: [name],
    "reconstruction": lambda name: {"methods": ["zc", name]},
    "decoding": lambda name: {"targets": {"z": name}},
    "evaluation": lambda name: {"best_by": name},
}


@pytest.mark.parametrize(
    "name", [name for name in BAD_NAMES if name not in ("-x", ".x", "v" * 300)]
)
@pytest.mark.parametrize("key", LISTED)
def test_values_that_become_paths_are_plain(key, name):
    problems = refuse({key: LISTED[key](name)})
    assert len(problems) == 1
    assert problems[0].startswith(key)


def test_label_of_an_atlas_is_in_no_path():
    """Labels are free; that no output is named by one is seen from the rules' wildcards."""
    assert load_settings({"rois": {"early": ["streams:../../early"]}})
    text = "".join(path.read_text() for path in sorted((PROJECT / "rules").glob("*.smk")))
    assert "{label}" not in text

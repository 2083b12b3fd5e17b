"""What is said of bad input: docs/bad_input.md is up to date, and every message can be used."""

import re

import pytest
from bad_input import CONFIG, PAGE, SECTIONS, collect, write_page

KINDS = [(section, kind) for section, cases in SECTIONS.items() for kind in cases]
FINDING = re.compile(r"[^\n]+?: expected [^\n]+?, found [^\n]+?\. [A-Z][^\n]+\.")
SENTENCE = re.compile(r"[\w.\[\]-]+ must (be|have|name) [^\n]+\.|Unknown key [^\n]+: [^\n]+\.")
# What only somebody who reads our code, or a library's, could understand.
JARGON = re.compile(
    r"Traceback|Error\b|errno|object has no|NoneType|<class|0x[0-9a-f]|np\.|torch\.|ndarray|/tmp|"
    r"not subscriptable|tokenizing|synchronously|unhashable|dtype\("
)


@pytest.fixture(scope="module")
def sentences():
    return collect()


def test_page_is_up_to_date(sentences):
    assert PAGE.read_text(encoding="utf-8") == write_page(sentences), "run make bad-input"


def test_catalogue_is_wide():
    assert len(KINDS) >= 40
    assert len(SECTIONS) == 9


@pytest.mark.parametrize(("section", "kind"), KINDS)
def test_message_says_where_what_and_what_to_do(sentences, section, kind):
    found = sentences[section][kind]
    assert found, "this input passes"
    for text in found:
        assert FINDING.fullmatch(text) or (section == CONFIG and SENTENCE.fullmatch(text)), text
        assert not JARGON.search(text), text
        assert len(text) < 600

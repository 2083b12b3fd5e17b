"""Names and captions that are HTML, or scripts, are shown as they are and never run."""

import json
from html.parser import HTMLParser

import pytest

from nsdldm.plots import cortex_page, gallery
from nsdldm.support.redirects import write_redirect

ATTACKS = {
    "script": "</script><script>alert(1)</script>",
    "title": "</title></style><script>alert(1)</script>",
    "attribute": "\" onload='alert(1)' srcdoc=\"<script>alert(1)</script>",
    "comment": "<!-- <script> --> & &lt;script&gt; &#60;script&#62;",
    "right to left": "\u202ealert\u2066\u2028\u2029\x07",
    "template": "{{data}} {{about}} {{title}} ${alert(1)} <!-- pictures -->",
}
attacks = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


class Page(HTMLParser):
    """Elements with their attributes, text by element."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        tag = self.elements[-1][0] if self.elements else ""
        self.texts[tag] = self.texts.get(tag, "") + data

    def count(self, tag):
        return sum(name == tag for name, _ in self.elements)


def require_harmless(page, allowed_scripts=0):
    assert page.count("script") == allowed_scripts
    for _, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on")]


@attacks
def test_pages_of_maps(tmp_path, attack):
    path = tmp_path / "cortex.html"
    cortex_page._write(path, attack, attack, "SGVsbG8=")
    page = Page(path.read_text(encoding="utf-8"))
    require_harmless(page, allowed_scripts=3)
    assert page.texts["title"].strip() == page.texts["h1"].strip() == attack.strip()
    scripts = [attrs for tag, attrs in page.elements if tag == "script"]
    assert [attrs.get("type") for attrs in scripts] == ["application/gzip+base64", None, None]
    write_redirect(output=path, target=attack)
    require_harmless(Page(path.read_text(encoding="utf-8")))


@attacks
def test_gallery(attack):
    cell = {"order": [0], "sample": [[0.5]], "image": [0.5]}
    image = {"id": 1, "coco": 2, "captions": [attack], "cells": [[cell]]}
    method = {"id": attack, "label": attack, "words": attack, "samples": 1}
    metric = {"id": attack, "kind": "sample", "index": 0, "label": attack}
    data = {"subjects": [attack], "methods": [method], "metrics": [metric], "images": [image]}
    text = gallery._dump(data, 1)
    assert "<" not in text and text.isascii()
    assert json.loads(text) == data | {"kept": 1}
    about = gallery._describe_page(data | {"pixels": 32}, 1, 2, attack, 100, 60, 1)
    head = gallery._fill_template(attack, True, 32)
    page = Page(gallery._fill(head, about="\n".join(about), data=text))
    require_harmless(page, allowed_scripts=2)
    assert attack == page.texts["title"].strip() == page.texts["h1"].strip()
    scripts = [attrs for tag, attrs in page.elements if tag == "script"]
    assert [attrs.get("type") for attrs in scripts] == ["application/json", None]

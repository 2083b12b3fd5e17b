import base64
import json
import re
import subprocess
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, needs_browser
from PIL import Image
from reconstruction_files import (
    COCO,
    METHODS,
    N_SAMPLES,
    NUMBERS,
    PSM,
    SECOND,
    SUBJECTS,
    best_sample,
    colour,
    save,
    score,
    seen_colour,
    write_all,
)

from nsdldm.plots import gallery
from nsdldm.plots.gallery import Page, write_gallery
from nsdldm.support.errors import InputError
from nsdldm.support.files import load_table

ATTACK = "</script><script>document.title = 'hacked'</script><img src=x onerror=alert(1)>"
QUOTES = "\"quoted\" & 'single' <b>bold</b> {{about}} {{data}} ${x} `y` \\u003c"
UNICODE = "ein Hündchen 犬 🐕 \u2028 \u202e"


def captions_of(number):
    special = {13: [ATTACK], 11: [QUOTES], 9: [UNICODE]}
    return [*special.get(number, []), f"a thing {number}", "big red bus" if number % 2 else "Cat"]


def make(files, html, **changes):
    given = {"subjects": SUBJECTS, "methods": METHODS, "best_by": PSM, "demo": True, "html": html}
    # Samples as a dict are files, not their maximum number.
    own = [key for key in Page._fields if key in changes and not isinstance(changes[key], dict)]
    own += ["decoded"] * ("decoded" in changes)
    page = Page(**{key: changes.pop(key) for key in own})
    write_gallery(**files | given | changes, page=page)
    return html


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("files"), texts=captions_of)


@pytest.fixture(scope="module")
def page(files, tmp_path_factory):
    return make(files, tmp_path_factory.mktemp("gallery") / "report/gallery.html", pixels=32)


class Parser(HTMLParser):
    """Elements with their attributes, and the content of scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.words, self.found = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append([dict(attrs), ""])

    def handle_data(self, data):
        if self.elements[-1:] and self.elements[-1][0] == "script":
            self.scripts[-1][1] += data
        else:
            self.words.append(data)
        if self.elements[-1:] == [("pre", {"id": "found"})]:
            self.found += data

    def handle_endtag(self, tag):
        self.elements.append((f"/{tag}", {}))


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def parse(path):
    parser = Parser(path.read_text(encoding="utf-8"))
    blocks = {attrs.get("id"): text for attrs, text in parser.scripts}
    return parser, blocks, json.loads(blocks["data"], parse_constant=refuse)


def decode(line):
    name, code = line.split(" ")
    with Image.open(BytesIO(base64.b64decode(code, validate=True))) as image:
        assert image.format == "WEBP"
        return name, np.asarray(image.convert("RGB"))


# The file, without a browser


def test_the_page_holds_every_image_and_reconstruction(page):
    _, blocks, data = parse(page)
    assert [image["id"] for image in data["images"]] == sorted(NUMBERS)
    assert data["subjects"] == list(SUBJECTS) and data["kept"] == 3 and data["pixels"] == 32
    assert [(m["id"], m["samples"]) for m in data["methods"]] == list(N_SAMPLES.items())
    found = 0
    for index, image in enumerate(data["images"]):
        name, picture = decode(blocks[f"s{index}"].strip())
        assert name == "seen" and picture.shape == (32, 32, 3)
        np.testing.assert_allclose(picture[16, 16], seen_colour(image["id"]), atol=12)
        for rank in range(3):
            for line in blocks[f"p{index}-{rank}"].strip().split("\n"):
                name, picture = decode(line)
                s, m = map(int, name.split("."))
                sample = image["cells"][s][m]["order"][rank]
                expected = colour(SUBJECTS[s], METHODS[m], image["id"], sample)
                np.testing.assert_allclose(picture[16, 16], expected, atol=12)
                found += 1
    assert found == len(NUMBERS) * len(SUBJECTS) * sum(N_SAMPLES.values())
    assert {name for name in blocks if name} == {
        "data",
        *(f"s{index}" for index in range(8)),
        *(f"p{index}-{rank}" for index in range(8) for rank in range(3)),
    }


def test_samples_are_ordered_and_scores_are_those_of_the_tables(page):
    _, _, data = parse(page)
    metrics = {metric["id"]: metric for metric in data["metrics"]}
    assert set(metrics) == {f"sample:{PSM}", f"sample:{SECOND}", "image:ssim"}
    assert data["bestMetric"] in metrics
    for image in data["images"]:
        assert image["coco"] == COCO[image["id"]]
        for subject, row in zip(SUBJECTS, image["cells"], strict=True):
            for method, cell in zip(METHODS, row, strict=True):
                assert cell["order"][0] == best_sample(method, image["id"])
                assert sorted(cell["order"]) == list(range(N_SAMPLES[method]))
                values = [own[metrics[f"sample:{PSM}"]["index"]] for own in cell["sample"]]
                expected = [score(subject, method, image["id"], s) for s in cell["order"]]
                assert values == pytest.approx(expected, abs=1e-4)
                judged = [own[metrics[f"sample:{SECOND}"]["index"]] for own in cell["sample"]]
                assert judged == [sample % 2 for sample in cell["order"]]
                value = cell["image"][metrics["image:ssim"]["index"]]
                assert value == pytest.approx(image["id"] / 20, abs=1e-4)


def test_captions_arrive_whole_and_harmless(page):
    parser, _, data = parse(page)
    for image in data["images"]:
        expected = [" ".join(text.split()) for text in captions_of(image["id"])]
        assert image["captions"] == expected
    # Seen and three ranks of 8 images, the data and the page's own script: no other script.
    assert len(parser.scripts) == 8 * 4 + 2
    kinds = [attrs.get("type") for attrs, _ in parser.scripts]
    assert kinds.count(None) == 1 and kinds.count("application/json") == 1
    assert not [tag for tag, attrs in parser.elements if tag == "img" or "onerror" in attrs]
    assert "hacked" not in " ".join(parser.words)


def test_the_page_needs_no_network(page):
    parser, _, _ = parse(page)
    for tag, attrs in parser.elements:
        assert not {"src", "href", "srcset", "action", "data"} & set(attrs), (tag, attrs)
        assert tag not in ("link", "iframe", "object", "embed")
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest", text)
    policy = next(a for t, a in parser.elements if a.get("http-equiv"))["content"]
    assert "default-src 'none'" in policy and "img-src data:" in policy


def test_controls_have_labels(page):
    parser, _, _ = parse(page)
    depth = 0
    for tag, attrs in parser.elements:
        depth += {"label": 1, "/label": -1}.get(tag, 0)
        if tag in ("input", "select"):
            assert depth == 1 and attrs["name"]
    tags = [tag for tag, _ in parser.elements]
    assert tags.count("h1") == tags.count("main") == tags.count("title") == 1
    assert dict(parser.elements)["html"] == {"lang": "en"}
    assert "noscript" in tags and "legend" in tags


def test_the_page_says_what_it_is(files, page, tmp_path):
    words = " ".join(parse(page)[0].words)
    assert "8 test images with all 3 samples of each method" in words
    assert "PSM (demo-clip, embedding)" in words and "32 × 32 pixels" in words
    assert "Demo: simulated brain" in words and "{{" not in words
    other = make(files, tmp_path / "a.html", demo=False, title="<i>A & B</i>", pixels=16)
    parser, _, _ = parse(other)
    words = " ".join(parser.words)
    assert "Demo" not in words and "<i>A & B</i>" in words
    assert "i" not in [tag for tag, _ in parser.elements]


def test_the_same_files_give_the_same_page(files, page, tmp_path):
    assert make(files, tmp_path / "a.html", pixels=32).read_bytes() == page.read_bytes()


@pytest.fixture(scope="module")
def least(files, page, tmp_path_factory):
    """Size of a page with the best samples alone, with room for all scores."""
    path = make(files, tmp_path_factory.mktemp("least") / "a.html", pixels=32, samples=1)
    scores = [len(parse(each)[1]["data"].encode()) for each in (page, path)]
    return path.stat().st_size + scores[0] - scores[1]


def test_the_size_is_bounded_by_leaving_samples_out(files, page, least, tmp_path):
    whole = page.stat().st_size
    for bound, expected in ((whole + 5_000, 3), (whole - 1_000, 2), (least + 5_000, 1)):
        path = make(files, tmp_path / "a.html", pixels=32, max_megabytes=bound / 1e6)
        _, blocks, data = parse(path)
        assert path.stat().st_size <= bound and data["kept"] == expected
        kept = {int(name.partition("-")[2]) for name in blocks if name and "-" in name}
        assert kept == set(range(expected))
        cells = [c for image in data["images"] for row in image["cells"] for c in row]
        assert {len(c["order"]) for c in cells} == {1, expected}
        assert all(len(c["order"]) == len(c["sample"]) for c in cells)
    words = " ".join(parse(path)[0].words)
    assert "with the best 1 of 3 samples" in words and "are left out" in words


def test_a_bound_below_the_best_samples_is_refused(files, least, tmp_path):
    with pytest.raises(InputError, match=r"`max_megabytes`.*found room for \d of 8 images"):
        make(files, tmp_path / "a.html", pixels=32, max_megabytes=(least - 2_000) / 1e6)
    assert not list(tmp_path.iterdir())


def test_fewer_samples_can_be_asked_for(files, tmp_path):
    _, blocks, data = parse(make(files, tmp_path / "a.html", samples=1))
    assert data["kept"] == 1 and "p0-0" in blocks and "p0-1" not in blocks
    assert data["methods"][0]["samples"] == 3
    _, _, data = parse(make(files, tmp_path / "a.html", methods=["z-coarse"], samples=9))
    assert data["kept"] == 1


def test_trained_decoders_are_methods_like_others(files, tmp_path):
    names = {"zc": "zc", "fcae-fi": "c", "fcae-joint": "z", "vis-dec": "true-zc"}
    renamed = {
        kind: {(s, new): files[kind][s, old] for s in SUBJECTS for new, old in names.items()}
        for kind in ("reconstructions", "samples", "tables")
    }
    _, blocks, data = parse(make(files, tmp_path / "a.html", methods=list(names), **renamed))
    assert [(method["label"], method["words"]) for method in data["methods"]] == [
        ("z_c", "both"),
        ("fCAE F+I", "no captions"),
        ("fCAE, joint", "all subjects"),
        ("Vis-Dec", "contrast"),
    ]
    index = [image["id"] for image in data["images"]].index(13)
    line = blocks[f"p{index}-0"].strip().splitlines()[1]
    picture = decode(line)[1]
    expected = colour("subj01", "c", 13, best_sample("c", 13))
    assert np.abs(picture[20, 20].astype(int) - expected).max() < 12


def write_decoded(path, numbers=NUMBERS):
    """A decoded caption of each image, of which one is an attack and one is empty."""
    texts = {number: f"decoded {number}" for number in numbers} | {13: ATTACK, 2: ""}
    save(path, pd.DataFrame({"nsd_id": numbers, "caption": [texts[n] for n in numbers]}))
    return path


def test_decoded_captions_belong_to_their_method(files, page, tmp_path):
    decoded = {("subj02", "c"): write_decoded(tmp_path / "captions.tsv")}
    path = make(files, tmp_path / "a.html", pixels=32, decoded=decoded)
    parser, _, data = parse(path)
    s, m = SUBJECTS.index("subj02"), METHODS.index("c")
    for image in data["images"]:
        texts = {13: ATTACK, 2: ""}
        own = image["cells"][s][m].pop("caption")
        assert own == texts.get(image["id"], f"decoded {image['id']}")
    assert data == parse(page)[2]
    words = " ".join(parser.words)
    assert "Captions below pictures are decoded ones" in words and ATTACK not in words
    assert "decoded ones" not in " ".join(parse(page)[0].words)


def test_captions_of_other_images_are_refused(files, tmp_path):
    decoded = {("subj01", "z"): write_decoded(tmp_path / "captions.tsv", [13, 2])}
    with pytest.raises(InputError, match="a caption of every test image, found none of NSD id 0"):
        make(files, tmp_path / "a.html", decoded=decoded)


def test_many_methods_have_columns_of_their_own(files, tmp_path):
    names = [f"method-{number}" for number in range(12)]
    renamed = {
        kind: {(s, name): files[kind][s, "c"] for s in SUBJECTS for name in names}
        for kind in ("reconstructions", "samples", "tables")
    }
    _, blocks, data = parse(make(files, tmp_path / "a.html", methods=names, pixels=16, **renamed))
    assert [method["label"] for method in data["methods"]] == names
    assert all(len(row) == 12 for image in data["images"] for row in image["cells"])
    assert len(blocks["p0-0"].strip().splitlines()) == 12 * len(SUBJECTS)


def test_missing_scores_and_images_are_told_apart(tmp_path):
    files = write_all(tmp_path, numbers={"subj01": NUMBERS, "subj02": [5, 2]})
    path = files["samples"]["subj01", "c"]
    scores = load_table(path)
    scores.loc[(scores["nsd_id"] == 13) & (scores["metric"] == PSM), "value"] = np.nan
    scores.loc[(scores["nsd_id"] == 11) & (scores["metric"] == SECOND), "value"] = np.inf
    save(path, scores)
    _, blocks, data = parse(make(files, tmp_path / "a.html"))
    by_id = {image["id"]: image["cells"] for image in data["images"]}
    assert all((by_id[number][1] is None) == (number not in (5, 2)) for number in NUMBERS)
    index = [image["id"] for image in data["images"]].index(13)
    assert all(line.startswith("0.") for line in blocks[f"p{index}-0"].strip().split("\n"))
    cell = by_id[13][0][METHODS.index("c")]
    assert cell["order"] == [0, 1, 2] and [own[0] for own in cell["sample"]] == [None] * 3
    assert [own[1] for own in by_id[11][0][METHODS.index("c")]["sample"]] == [None] * 3


def test_files_that_do_not_fit_together_are_named(tmp_path):
    files = write_all(tmp_path, subjects=("subj01",))
    given = {"html": tmp_path / "a.html", "subjects": ["subj01"]}
    with pytest.raises(InputError, match="scores of psm:clip:h6"):
        make(files, **given, best_by="psm:clip:h6")
    path = files["tables"]["subj01", "z"]
    table = load_table(path)
    save(path, table.iloc[[*range(len(table)), 0]])
    with pytest.raises(InputError, match="one row for each nsd_id and metric"):
        make(files, **given)
    save(path, table)
    path = files["samples"]["subj01", "z"]
    table = load_table(path)
    table.loc[table["sample"] == 2, "sample"] = 7
    save(path, table)
    with pytest.raises(InputError, match="sample 7 of the image with NSD id"):
        make(files, **given)
    assert not (tmp_path / "a.html").exists()


def test_a_changed_template_is_needed_whole(monkeypatch, tmp_path, files):
    monkeypatch.setattr(gallery, "TEMPLATE", tmp_path / "none.html")
    with pytest.raises(InputError, match="no such file"):
        make(files, tmp_path / "a.html")


# In a browser


def dump(path, fragment=""):
    """The page's elements after its script has run, and what the browser complained of."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += ["--virtual-time-budget=5000", "--dump-dom", f"{path.as_uri()}{fragment}"]
    command.insert(1, f"--user-data-dir={path.parent / 'profile'}")
    done = subprocess.run(command, capture_output=True, check=True)
    problems = [line for line in done.stderr.decode().splitlines() if "CONSOLE" in line]
    return Parser(done.stdout.decode()), problems


HELPERS = """
const articles = () => [...cards.querySelectorAll("article")];
const shown = () => articles().map((card) => card.dataset.nsd).join(" ");
const report = (x) => document.body.append(make("pre", { id: "found" }, JSON.stringify(x)));
const change = () => form.dispatchEvent(new Event("input", { bubbles: true }));
const later = (ms) => new Promise((done) => setTimeout(done, ms));
const rows = () => [...cards.querySelector("tbody").rows];
"""


def act(page, folder, script):
    """Run a script in a copy of the page; it gives JSON through the function `report`."""
    text = page.read_text(encoding="utf-8")
    path = folder / "page.html"
    path.write_text(text.replace("</body>", f"<script>{HELPERS}{script}</script></body>"))
    parser, problems = dump(path)
    assert not problems
    return json.loads(parser.found)


@needs_browser
def test_the_browser_shows_what_the_address_asks_for(page):
    wanted = "#subject=subj02&method=zc,c&sort=score&of=zc&order=desc&min=0.3&q=bus&all=1"
    parser, problems = dump(page, wanted)
    assert not problems
    cards = [attrs for tag, attrs in parser.elements if tag == "article"]
    # Captions of odd numbers name a bus; 0.1 + 0.05 n + 0.02 x 3 is at least 0.3 from n = 3 on.
    assert [int(attrs["data-nsd"]) for attrs in cards] == [13, 11, 9, 7, 5, 3]
    assert float(cards[0]["data-score"]) == pytest.approx(score("subj02", "zc", 13, 1), abs=1e-3)
    cells = [attrs for tag, attrs in parser.elements if tag == "td" and "data-method" in attrs]
    assert {attrs["data-subject"] for attrs in cells} == {"subj02"}
    assert [attrs["data-method"] for attrs in cells[:2]] == ["c", "zc"]
    assert len(cells) == 6 * 2 * 3
    images = [attrs for tag, attrs in parser.elements if tag == "img"]
    assert len(images) == 6 + len(cells)
    assert all(attrs["src"].startswith("data:image/webp;base64,") for attrs in images)
    assert all(attrs["alt"] for attrs in images)
    assert images[0]["alt"] == "NSD 13 as presented"
    words = " ".join(parser.words)
    assert "6 of 8 images" in words
    # The attack is text, and nothing of it ran.
    assert ATTACK in words and "hacked" not in dict(parser.elements).get("title", {})
    assert not [attrs for attrs in images if "onerror" in attrs]
    assert parser.words[parser.words.index("Reconstructions of the test images")]


@needs_browser
def test_decoded_captions_are_below_the_best_picture_in_a_browser(files, tmp_path):
    decoded = {("subj02", "c"): write_decoded(tmp_path / "captions.tsv")}
    path = make(files, tmp_path / "a.html", pixels=32, decoded=decoded)
    parser, problems = dump(path, "#method=c,zc&subject=subj02&all=1")
    assert not problems
    captions = [attrs for tag, attrs in parser.elements if attrs.get("class") == "decoded"]
    assert len(captions) == len(NUMBERS) - 1
    words = " ".join(parser.words)
    assert ATTACK in words and "decoded 7" in words
    assert "hacked" not in dict(parser.elements).get("title", {})


STATES = {
    "": "0 2 3 5 7 9 11 13",
    "#order=desc": "13 11 9 7 5 3 2 0",
    "#sort=score&order=asc": "0 2 3 5 7 9 11 13",
    "#sort=score&order=desc&metric=image:ssim": "13 11 9 7 5 3 2 0",
    "#min=0.4&max=0.6": "7 9",  # means are 0.14 + 0.05 n
    "#q=cat": "0 2",
    "#q=CAT thing": "0 2",
    "#q=nsd 13": "13",
    "#q=coco 113": "13",
    "#q=犬": "9",
    "#q=nothing like it": "",
    "#metric=image:ssim&min=0.5": "11 13",
    "#subject=nobody&metric=none&of=none&page=99": "0 2 3 5 7 9 11 13",
    "#method=": "0 2 3 5 7 9 11 13",
}


@needs_browser
def test_filters_and_sorting_in_a_browser(page, tmp_path):
    script = """
    const found = {};
    for (const hash of %s) {
      history.replaceState(null, "", hash || location.pathname);
      readHash(); fillControls(); draw();
      found[hash] = shown();
    }
    report(found);"""
    assert act(page, tmp_path, script % json.dumps(list(STATES))) == STATES


@needs_browser
def test_controls_work_in_a_browser(page, tmp_path):
    script = """
    (async () => {
      const found = { title: document.title, first: shown() };
      form.q.value = "bus"; form.sort.value = "score"; form.order.value = "desc";
      for (const box of form.querySelectorAll("[name=method]")) box.checked = box.value === "zc";
      change(); await later(400);
      found.filtered = shown();
      found.hash = location.hash;
      found.columns = [...cards.querySelector("thead tr").cells].map((cell) => cell.textContent);
      found.rows = rows().map((row) => row.cells[0].textContent);
      form.all.checked = true; change(); await later(400);
      found.ranks = rows().map((row) => row.cells[0].textContent);
      found.samples = rows().map((row) => row.cells[1].dataset.sample);
      cards.querySelector("td button").click();
      const drawn = [...document.querySelectorAll("#large img"), cards.querySelector("td img")];
      const sides = drawn.map((image) => [image.clientWidth, image.clientHeight]);
      found.square = sides.map(([width, height]) => [width > 30, width === height]);
      found.open = document.getElementById("large").open;
      found.heading = document.querySelector("#large h2").textContent;
      found.scores = [...document.querySelectorAll("#large tr")].map((row) => row.innerText.trim());
      document.querySelector("#large .close").click();
      found.closed = !document.getElementById("large").open;
      const image = cards.querySelector("td img");
      await image.decode();
      found.size = [image.naturalWidth, image.naturalHeight];
      form.reset(); await later(100);
      found.reset = shown(); found.address = location.hash;
      report(found);
    })();"""
    found = act(page, tmp_path, script)
    assert found["title"] == "Reconstructions of the test images"
    assert found["first"] == found["reset"] == "0 2 3 5 7 9 11 13"
    assert found["filtered"] == "13 11 9 7 5 3" and found["address"] == ""
    assert "q=bus" in found["hash"] and "method=zc" in found["hash"]
    # Of one method the subjects are side by side.
    assert found["columns"] == ["", *SUBJECTS] and found["rows"] == ["zc"]
    assert found["ranks"] == ["zcbest", "zc2nd", "zc3rd"]
    assert found["samples"] == ["1", "2", "0"]
    assert found["open"] and found["closed"] and found["heading"] == "NSD 13, subj01"
    assert len(found["scores"]) == 3 and found["scores"][0].endswith("0.810")
    assert found["size"] == [32, 32] and found["square"] == [[True, True]] * 3


@needs_browser
def test_the_score_of_an_image_leaves_out_the_ceiling(page, tmp_path):
    script = """
    const found = {};
    for (const hash of ["", "#method=c,true-zc", "#method=true-zc", "#of=true-zc"]) {
      history.replaceState(null, "", hash || location.pathname);
      readHash(); draw();
      found[hash] = cards.querySelector("article[data-nsd='9']").dataset.score;
    }
    report(found);"""
    # 0.1 + 0.05 x 9 + 0.02 k of the best sample of method k; k is 0 to 3, of the ceiling 4.
    expected = {"": "0.580", "#method=c,true-zc": "0.590"}
    expected |= {"#method=true-zc": "0.630", "#of=true-zc": "0.630"}
    assert act(page, tmp_path, script) == expected


@needs_browser
def test_scores_have_equal_decimals_and_selects_room_for_their_arrow(page, tmp_path):
    script = """
    const selects = [...form.querySelectorAll("select")].map(getComputedStyle);
    const metric = { decimals: data.metrics[0].decimals };
    report({ written: [0.05, 1 / 3, 1, 0, null].map((value) => written(value, metric)),
      digits: getComputedStyle(cards).fontVariantNumeric,
      room: selects.map((own) =>
        [own.appearance, own.textOverflow, parseFloat(own.paddingRight) > 20]) });"""
    found = act(page, tmp_path, script)
    assert found["written"] == ["0.050", "0.333", "1.000", "0.000", "–"]
    assert found["digits"] == "tabular-nums"
    assert found["room"] == [["none", "ellipsis", True]] * 5


@needs_browser
def test_pages_turn(page, tmp_path):
    text = page.read_text(encoding="utf-8").replace("PER_PAGE = 24", "PER_PAGE = 3")
    path = tmp_path / "small.html"
    path.write_text(text, encoding="utf-8")
    script = """
    const [next, previous] = [".next", ".previous"].map((name) => document.querySelector(name));
    const found = [shown()];
    next.click(); found.push(shown()); next.click(); found.push(shown(), next.disabled);
    previous.click(); found.push(shown(), document.querySelector("span.page").textContent);
    found.push(location.hash);
    report(found);"""
    found = act(path, tmp_path, script)
    assert found == ["0 2 3", "5 7 9", "11 13", True, "5 7 9", "page 2 of 3", "#page=2"]

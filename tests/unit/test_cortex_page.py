"""The page with all maps of a subject, also in a browser."""

import base64
import gzip
import json
import re
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from browser import needs_browser, open_browser
from test_plots_fig6 import make_ball

from nsdldm.exports import gifti
from nsdldm.nsd.surfaces import write_patch
from nsdldm.plots import cortex_page, cortex_page_mesh
from nsdldm.support.bids import name_space
from nsdldm.support.errors import InputError
from nsdldm.support.redirects import write_redirect

SPACES = {"fig6": ["z", "c"], "fig7": ["zc-n100"], "fig9": ["blocks-s050"]}
BLOCKS = {1: ("down", (1, 0, 0, 1)), 2: ("up", (0, 0, 1, 1))}


def write_subject(folder, points, faces):
    """Maps and surfaces of balls: z is significant in front, c behind."""
    maps, surfaces = folder / "maps", {}
    maps.mkdir(parents=True)
    front = points[:, 1]
    for hemi, side in (("lh", "L"), ("rh", "R")):
        surfaces[hemi] = own = {}
        for name in ("white", "pial", "inflated"):
            own[name] = folder / f"{hemi}.{name}"
            shape = [40, 70, 60] if name == "pial" else 60
            nib.freesurfer.write_geometry(own[name], points * shape, faces)
        own["sulc"] = folder / f"{hemi}.sulc"
        nib.freesurfer.write_morph_data(own["sulc"], points[:, 2].astype(np.float32))
        own["flat"] = folder / f"{hemi}.flat"
        chosen = np.flatnonzero((-1 if hemi == "rh" else 1) * points[:, 0] < 0.7)
        flat = np.stack([points[chosen, 1], points[chosen, 2], 0 * chosen], axis=1)
        write_patch(
            own["flat"], chosen, (60 * flat).astype(np.float32), np.zeros(len(chosen), bool)
        )
        stem = f"{maps}/sub-1_task-t_hemi-{side}_space-fsnative_"
        for each in cortex_page.list_maps(SPACES):
            if each.figure == "fig9":
                labels = np.where(front > 0, 1, 2)
                values = {"best": labels, "significant": np.where(points[:, 2] > -0.5, labels, 0)}
                values["clear"] = np.where(np.abs(front) > 0.7, values["significant"], 0)
                gifti.write_labels(stem + each.file, hemi, values, BLOCKS)
                continue
            values = np.abs(front) * 0.5
            sign = 1 if each.name == "z" else -1
            shown = np.where(sign * front > 0, values, np.nan)
            found = {"r": values, "s": shown, "p": values}
            gifti.write_values(stem + each.file, hemi, found, dict.fromkeys(found, (0, 1)))
        region = np.where(points[:, 2] > 0.5, 1, 0)
        names = {1: ("top & <b>", (1, 0, 0, 1))}
        gifti.write_labels(f"{stem}desc-regions_dseg.label.gii", hemi, {"regions": region}, names)
    return maps, surfaces


def write(folder, **changed):
    maps, surfaces = write_subject(folder, *make_ball(4))
    page = folder / "report/cortex.html"
    given = {"subject": "subj01", "spaces": SPACES, "demo": True} | changed
    cortex_page.write_cortex_page(
        maps=maps,
        surfaces=surfaces,
        output=page,
        redirects=[folder / "figures/fig6.html"],
        **given,
    )
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write(tmp_path_factory.mktemp("page"))


def unpack(page):
    """Header and arrays of a page, by means of its own."""
    text = re.search(r'gzip\+base64">([^<]*)</script>', page.read_text()).group(1)
    line, _, rest = gzip.decompress(base64.b64decode(text)).partition(b"\n")
    head = json.loads(line)

    def take(where):
        kind, start, n = where
        return np.frombuffer(rest, kind, n, start)

    for hemi in head["hemispheres"]:
        keys = ["faces", "flatFaces", "grey", "region", "ends", "shares", "onFlat"]
        hemi |= {key: take(hemi[key]) for key in [*keys, *head["forms"]]}
    for each in head["maps"]:
        each["values"] = [take(where) for where in each["values"]]
    return head


def test_the_page_needs_nothing_else(page):
    text = page.read_text()
    assert len(text) < 6_000_000
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text)
    assert "simulated data (demo)" in text and "Maps of subj01" in text
    redirect = page.parents[1] / "figures/fig6.html"
    assert "url=../report/cortex.html#fig6" in redirect.read_text()


def test_values_and_significance_survive(page):
    head = unpack(page)
    points, _ = make_ball(4)
    z = head["maps"][0]["values"][0]
    high = head["maps"][0]["high"]
    values = ((z & 127).astype(float) - 1) / 125 * high
    expected = np.minimum(np.abs(points[:, 1]) * 0.5, high)
    assert np.abs(values - expected).max() <= high / 250 + 1e-6
    assert np.array_equal(z > 127, points[:, 1] > 0)
    assert [each["title"] for each in head["maps"]] == [
        *("Image latent z", "Caption embedding c", "z, noise 1", "z_c, noise 1"),
        "after 50 % of steps",
    ]
    best = head["maps"][-1]
    assert best["names"] == ["down", "up"] and len(best["colours"]) == 4
    codes = best["values"][1]
    assert np.array_equal(codes & 255, np.where(points[:, 1] > 0, 1, 2))
    assert np.array_equal(codes & 512 > 0, points[:, 2] > -0.5)
    assert np.array_equal(codes & 256 > 0, (points[:, 2] > -0.5) & (np.abs(points[:, 1]) > 0.7))
    position = head["hemispheres"][1]["inflated"].reshape(-1, 3) * head["scales"]["inflated"]
    assert np.abs(position - 60 * points).max() < 0.01


def test_outlines_run_along_regions(page):
    head = unpack(page)
    hemi, (points, _) = head["hemispheres"][0], make_ball(4)
    ends = points[hemi["ends"].reshape(-1, 2)]
    share = hemi["shares"][:, None] / 255
    height = ((1 - share) * ends[:, 0] + share * ends[:, 1])[:, 2]
    # A circle around the top, at half the height.
    assert len(height) > 50 and np.abs(height - 0.5).max() < 0.08
    middles = hemi["middles"]
    assert points[middles["inflated"][0], 2] > 0.9
    # The flat map ends at 0.7 on one side.
    assert -0.4 < points[middles["flat"][0], 0] < 0.4 and hemi["onFlat"].mean() < 1
    assert set(hemi["flatFaces"]) == set(np.flatnonzero(points[:, 0] < 0.7))


def test_flat_maps_stand_upright_beside_the_brain(page):
    head = unpack(page)
    points, _ = make_ball(4)
    for hemi in head["hemispheres"]:
        own = np.unique(hemi["flatFaces"])
        flat = hemi["flat"].reshape(-1, 3)[own]
        assert not flat[:, 0].any()
        for axis in (1, 2):
            assert np.corrcoef(flat[:, axis], points[own, axis])[0, 1] > 0.9


def test_large_surfaces_are_thinned(tmp_path, monkeypatch):
    monkeypatch.setattr(cortex_page_mesh, "MOST_VERTICES", 1000)
    monkeypatch.setattr(cortex_page, "SPACING_MM", 6.0)
    head = unpack(write(tmp_path))
    hemi, (points, _) = head["hemispheres"][0], make_ball(4)
    assert 300 < hemi["n"] < 0.7 * len(points)
    assert hemi["faces"].max() < hemi["n"] == len(head["maps"][0]["values"][0])


def test_other_spaces_and_networks_are_listed_too():
    maps = cortex_page.list_maps({"added": ["clip-image"], "layers": ["layers-vit-b"]})
    assert [(each.title, each.file) for each in maps] == [
        ("clip-image", "stat-r_desc-clipImage_statmap.func.gii"),
        ("vit-b", "desc-layersVitB_dseg.label.gii"),
    ]
    for name, word in (
        ("z", "z"),
        ("zc-n100", "zcN100"),
        ("zc-s025-seed43-of-z+zc-s025-seed43", "zcS025Seed43OfZAndZcS025Seed43"),
        ("blocks-s050", "blocksS050"),
    ):
        assert name_space(name) == word
    assert {each.figure for each in maps} == {"added", "layers"} < {*cortex_page.GROUPS}


@pytest.mark.parametrize(("n_steps", "most"), [(9, 50_000), (30, 30_000)])
def test_a_native_brain_with_all_maps_fits_in_6_mb(n_steps, most, tmp_path, monkeypatch):
    # Like NSD's: 164,000 vertices and 1,000 cm2 in each hemisphere, voxels of 1.8 mm.
    points, faces = make_ball(7)
    assert len(points) == 163_842
    _, surfaces = write_subject(tmp_path, points=90 / 60 * points, faces=faces)
    _, voxel = np.unique(np.floor(90 * points / 1.8), axis=0, return_inverse=True)
    voxel, rng = voxel.ravel(), np.random.default_rng(0)

    def draw(folder, hemi, file):
        if file.endswith("_dseg.label.gii"):
            return [np.where(points[:, 2] > 0.5, 1, 0)] * 3, [SimpleNamespace(label="top")]
        values = rng.normal(0.1, 0.2, voxel.max() + 1)
        return [values[voxel], np.where(values > 0.3, values, np.nan)[voxel]], []

    monkeypatch.setattr(cortex_page, "_read", draw)
    spaces = {"fig6": ["z", "c", "zc"], "fig7": [f"zc-n{n:03}" for n in range(20, 101, 20)]}
    spaces["fig8"] = [f"zc-s{n:03}" for n in range(n_steps)]
    page = tmp_path / "cortex.html"
    cortex_page.write_cortex_page(
        subject="1", spaces=spaces, maps=tmp_path, surfaces=surfaces, demo=False, output=page
    )
    head = unpack(page)
    assert len(head["maps"]) == 13 + 2 * n_steps and page.stat().st_size < 6_000_000
    # Otherwise, one vertex per 2 to 4 mm2.
    assert 15_000 < head["hemispheres"][0]["n"] < most


def test_a_missing_map_is_named(tmp_path):
    with pytest.raises(InputError, match="stat-r_desc-zc_statmap"):
        write(tmp_path, spaces=SPACES | {"fig6": ["zc"]})


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def read(browser, name):
    return browser.run(f"document.getElementById('{name}').textContent")


def choose(browser, act):
    """How many pixels of the stage something changes."""
    before = browser.look()
    browser.run(act)
    return int((before != browser.look()).any(axis=2).sum())


def measure(browser, name, *sides):
    box = f"document.getElementById('{name}').getBoundingClientRect()"
    return browser.run(f"(({{ {', '.join(sides)} }}) => [{', '.join(sides)}])({box})")


def press(name):
    return f"document.querySelector('button[data-name={name}]').click()"


def click(name):
    return f"document.getElementById('{name}').click()"


def enter(name, value):
    return (
        f"(() => {{ const e = document.getElementById('{name}'); e.value = '{value}';"
        "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind)); })()"
    )


@needs_browser
def test_every_control_changes_the_picture(page, browser):
    browser.open(page, 1280, 800)
    options = "[...document.querySelectorAll('#maps option')].map((each) => each.textContent)"
    titles = [each["title"] for each in unpack(page)["maps"]]
    assert browser.run(options) == titles
    assert read(browser, "map") == "Figure 6: accuracy\N{NO-BREAK SPACE}– Image latent z"
    assert choose(browser, enter("threshold", 80)) > 1000
    assert read(browser, "limit") == "0.40"
    browser.run(enter("threshold", 0))
    acts = [enter("maps", number) for number in range(1, len(titles))]
    acts += [press(name) for name in ("flat", "pial", "inflated", *cortex_page.VIEWS)]
    acts += [enter("maps", 0), *map(click, ("significant", "outlines"))]
    for act in acts:
        # The page starts with the lateral view.
        assert choose(browser, act) > 300 or act == press("lateral"), act
    assert choose(browser, press("dorsal")) == 0
    names = "[...document.querySelectorAll('#names span')].map((each) => each.textContent)"
    assert browser.run(names) == ["top & <b>", "top & <b>"]
    browser.run(click("labels"))
    browser.draw()
    assert browser.run(names) == []
    assert not browser.problems


@needs_browser
def test_values_and_regions_are_under_the_pointer(page, browser):
    browser.open(page, 1280, 800)
    left, top, width, height = measure(browser, "stage", "x", "y", "width", "height")
    # Half way from the centre of the right ball to its front: y is 0.5, r is 0.25.
    scale = "cortexPage.state.unit"
    middle = left + width / 2 + 63 / browser.run(scale)
    across = 30 / browser.run(scale)
    level = top + height / 2 - browser.run("cortexPage.state.middle[1] / -cortexPage.state.unit")
    browser.mouse("Moved", middle + across, level)
    assert re.fullmatch(r"right: r = 0\.2[3-7]", read(browser, "value"))
    assert not browser.run("document.getElementById('mark').hidden")
    browser.mouse("Moved", middle - across, level)
    assert re.fullmatch(r"right: r = 0\.2[3-7] \(not significant\)", read(browser, "value"))
    browser.mouse("Moved", middle + across, level - 40 / browser.run(scale))
    assert read(browser, "value").startswith("right top & <b>: r = 0.2")
    browser.run(enter("maps", 4))
    browser.mouse("Moved", middle + across, level)
    assert read(browser, "value") == "right: down, not clearly"
    browser.mouse("Moved", left + 5, top + 5)
    assert read(browser, "value") == ""
    assert not browser.problems


@needs_browser
def test_mouse_and_keys_turn_zoom_and_move(page, browser):
    browser.open(page, 1280, 800)
    before = browser.look()
    for act in (
        lambda: browser.drag((900, 400), (960, 430)),
        lambda: browser.mouse("Wheel", 900, 400, deltaX=0, deltaY=-300),
        lambda: browser.run("stage.focus()") or browser.press("ArrowUp"),
        lambda: browser.press("+"),
        lambda: browser.press("ArrowLeft", modifiers=8),
    ):
        act()
        now = browser.look()
        assert (now != before).any(axis=2).sum() > 1000
        before = now
    browser.press("0")
    browser.draw()
    found = browser.run("[cortexPage.state.zoom, ...cortexPage.state.pan, cortexPage.state.turn.w]")
    assert found == [1, 0, 0, 1]
    # From the list of maps, which has the focus at first, keys choose maps.
    browser.open(page, 1280, 800, fragment="#fig7")
    assert read(browser, "map").endswith("z, noise 1")
    browser.press("ArrowDown")
    assert read(browser, "map").endswith("z_c, noise 1")
    assert browser.run("location.hash") == "#fig7-zc-n100-of-zc-n100"
    assert not browser.problems


@needs_browser
def test_a_phone_shows_all_of_it(page, browser):
    browser.open(page, 390, 844, phone=True, fragment="#fig9")
    assert browser.run("document.documentElement.scrollWidth") == 390
    for name in ("map", "bar", "swatches", "maps", "forms", "views"):
        left, right = measure(browser, name, "left", "right")
        assert 0 <= left < right <= 390, name
    assert browser.run("document.getElementById('maps').size") == 1
    top, height = measure(browser, "stage", "top", "height")
    assert 300 < height < 0.6 * 844
    browser.tap(290, top + height / 2 - 20)
    assert read(browser, "value").startswith("right")
    assert not browser.problems


@needs_browser
def test_old_names_lead_to_their_maps(page, browser):
    redirect = page.parents[1] / "figures/fig9.html"
    write_redirect(output=redirect, target="../report/cortex.html#fig9")
    browser.open(redirect, 1280, 800)
    assert read(browser, "map").startswith("Figure 9")
    assert not browser.problems


@needs_browser
def test_damaged_data_are_said_to_be_damaged(page, browser, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(re.sub(r'(gzip\+base64">)[^<]{200}', r"\1", page.read_text()))
    browser.open(broken, 800, 600)
    assert read(browser, "trouble").startswith("The maps cannot be drawn here")


def test_thinning_keeps_the_surface_closed():
    coords, faces = make_ball(levels=4)
    kept, thin = cortex_page_mesh.thin_mesh(30 * coords, faces, 4.0)
    assert len(kept) < len(coords) / 2
    assert set(thin.ravel()) <= set(range(len(kept)))
    points = coords[kept]
    p, q, r = (points[thin[:, corner]] for corner in range(3))
    area = np.linalg.norm(np.cross(q - p, r - p), axis=1).sum() / 2
    assert area == pytest.approx(4 * np.pi, rel=0.05)

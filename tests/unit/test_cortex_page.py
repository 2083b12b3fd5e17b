"""The page with all maps of a subject, also in a browser."""

import base64
import gzip
import json
import re
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
from test_plots_fig6 import make_ball

from nsdldm.exports import gifti
from nsdldm.nsd.surfaces import write_patch
from nsdldm.plots import cortex_page
from nsdldm.support.errors import InputError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SPACES = {"fig6": ["z", "c"], "fig7": ["zc-n100"], "fig9": ["blocks-s050"]}
BLOCKS = {1: ("down", (1, 0, 0, 1)), 2: ("up", (0, 0, 1, 1))}


def write_subject(folder, levels=4):
    """Maps and surfaces of balls: z is significant in front, c behind."""
    maps, surfaces = folder / "maps", {}
    maps.mkdir(parents=True)
    points, faces = make_ball(levels)
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
        chosen = np.flatnonzero(points[:, 0] < 0.7)
        flat = np.stack([points[chosen, 1], points[chosen, 2], 0 * chosen], axis=1)
        write_patch(
            own["flat"], chosen, (60 * flat).astype(np.float32), np.zeros(len(chosen), bool)
        )
        stem = f"{maps}/sub-1_task-t_hemi-{side}_space-fsnative_"
        for each in cortex_page.list_maps(SPACES):
            if each.figure == "fig9":
                labels = np.where(front > 0, 1, 2)
                values = {"best": labels, "shown": np.where(np.abs(front) > 0.5, labels, 0)}
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


def write(folder, levels=4, **changed):
    maps, surfaces = write_subject(folder, levels)
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
    head, place = json.loads(line), 0
    for hemi in head["hemispheres"]:
        keys = ["faces", "flatFaces", "borders", "sulc", "region", *head["forms"]]
        for key in keys:
            kind, n = hemi[key]
            hemi[key] = np.frombuffer(rest, kind, n, place)
            place += hemi[key].nbytes
        for number, (kind, n) in enumerate(hemi["values"]):
            hemi["values"][number] = np.frombuffer(rest, kind, n, place)
            place += n
    assert place == len(rest)
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
    z = head["hemispheres"][0]["values"][0]
    high = head["maps"][0]["high"]
    values = ((z & 127).astype(float) - 1) / 126 * high
    expected = np.minimum(np.abs(points[:, 1]) * 0.5, high)
    assert np.abs(values - expected).max() <= high / 126
    assert np.array_equal(z > 127, points[:, 1] > 0)
    assert [each["title"] for each in head["maps"]] == [
        *("Image latent z", "Caption embedding c", "only z, noise 1", "only z_c, noise 1"),
        "after 50 % of the steps",
    ]
    assert head["maps"][-1]["names"] == ["down", "up"]
    position = head["hemispheres"][1]["inflated"].reshape(-1, 3) * head["scales"]["inflated"]
    assert np.abs(position - 60 * points).max() < 0.01


def test_borders_run_along_regions(page):
    hemi = unpack(page)["hemispheres"][0]
    points, _ = make_ball(4)
    ends = points[hemi["borders"]]
    assert len(ends) and (ends[:, 2] > 0.5).all() and (ends[:, 2] < 0.7).all()
    assert points[hemi["middles"][0], 2] > 0.9


def test_large_surfaces_are_thinned(tmp_path, monkeypatch):
    monkeypatch.setattr(cortex_page, "MOST_VERTICES", 1000)
    monkeypatch.setattr(cortex_page, "SPACING_MM", 6.0)
    head = unpack(write(tmp_path))
    hemi, (points, _) = head["hemispheres"][0], make_ball(4)
    assert 300 < hemi["n"] < 0.7 * len(points)
    assert hemi["faces"].max() < hemi["n"] and len(hemi["values"][0]) == hemi["n"]


def test_a_missing_map_is_named(tmp_path):
    with pytest.raises(InputError, match="stat-r_desc-zc_statmap"):
        write(tmp_path, spaces=SPACES | {"fig6": ["zc"]})


ACT = """<script>
const wait = setInterval(() => {
  if (!document.body.dataset.ready) return;
  clearInterval(wait);
  const page = window.cortexPage, canvas = document.querySelector("canvas"), seen = {};
  const look = (name, act) => { act(); page.render(); seen[name] = canvas.toDataURL(); };
  const set = (id, value) => { const e = document.getElementById(id);
    if (e.type === "checkbox") e.checked = value; else e.value = value;
    e.dispatchEvent(new Event(e.type === "range" ? "input" : "change")); };
  try {
    look("start", () => page.show(0));
    look("map", () => page.show(1));
    look("flat", () => page.change("flat"));
    look("pial", () => page.change("pial"));
    look("dorsal", () => page.see("dorsal"));
    seen.names = [...document.querySelectorAll("#names span")].map((each) => each.textContent);
    look("threshold", () => set("threshold", "80"));
    look("outlines", () => set("outlines", false));
    look("end", () => {
      page.change("inflated"); page.see("lateral"); page.show(0); set("threshold", "0");
    });
    const box = document.getElementById("stage").getBoundingClientRect();
    page.pick(box.left + 0.25 * box.width, box.top + 0.5 * box.height);
    seen.value = document.getElementById("value").textContent;
    seen.maps = [...document.querySelectorAll("#maps option")].map((each) => each.textContent);
    const bar = document.getElementById("bar").getBoundingClientRect();
    seen.bar = [bar.left, bar.right, window.innerWidth];
  } catch (error) { seen.error = String(error); }
  for (const key of Object.keys(seen)) if (String(seen[key]).startsWith("data:")) {
    let hash = 0;
    for (const c of seen[key]) hash = (hash * 31 + c.charCodeAt(0)) | 0;
    seen[key] = hash;
  }
  const box = document.createElement("pre");
  box.id = "seen";
  box.textContent = JSON.stringify(seen);
  document.body.append(box);
}, 50);
window.addEventListener("error", (event) => { document.body.dataset.error = event.message; });
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("width", [1280, 500])
def test_in_a_browser(page, tmp_path, width):
    acting = tmp_path / "acting.html"
    acting.write_text(page.read_text().replace("</body>", f"{ACT}</body>"))
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--use-angle=swiftshader"]
    command += ["--force-prefers-reduced-motion", "--enable-unsafe-swiftshader"]
    command += ["--virtual-time-budget=20000", "--dump-dom"]
    command += [f"--window-size={width},800", f"--user-data-dir={tmp_path / 'profile'}"]
    run = subprocess.run(
        [*command, acting.as_uri()], capture_output=True, text=True, check=True, timeout=300
    )
    assert "data-error" not in run.stdout
    seen = json.loads(
        re.search(r'<pre id="seen">(.*?)</pre>', run.stdout, re.S)
        .group(1)
        .replace("&amp;", "&")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
    )
    assert "error" not in seen
    views = ("start", "map", "flat", "pial", "dorsal", "threshold", "outlines")
    assert len({seen[name] for name in views}) == len(views), seen
    assert len(seen["maps"]) == 5 and "top & <b>" in seen["names"]
    assert re.match(r"left(, top & <b>)?: 0\.\d{3}( \(not significant\))?$", seen["value"])
    left, right, whole = seen["bar"]
    assert 0 <= left < right <= whole


def test_thinning_keeps_the_surface_closed():
    coords, faces = make_ball(levels=4)
    kept, thin = cortex_page.thin_mesh(30 * coords, faces, 4.0)
    assert len(kept) < len(coords) / 2
    assert set(thin.ravel()) <= set(range(len(kept)))
    points = coords[kept]
    p, q, r = (points[thin[:, corner]] for corner in range(3))
    area = np.linalg.norm(np.cross(q - p, r - p), axis=1).sum() / 2
    assert area == pytest.approx(4 * np.pi, rel=0.05)

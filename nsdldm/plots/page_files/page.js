// One brain, all maps. The data are a gzip file: a line of JSON, then the arrays that it describes.
"use strict";
(async () => {
  const get = (id) => document.getElementById(id);
  const stage = get("stage");

  async function load() {
    const bytes = Uint8Array.from(atob(get("data").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const buffer = await new Response(stream).arrayBuffer();
    const end = new Uint8Array(buffer).indexOf(10);
    const head = JSON.parse(new TextDecoder().decode(buffer.slice(0, end)));
    const kinds = { int16: Int16Array, uint32: Uint32Array, uint8: Uint8Array };
    let place = end + 1;
    const read = ([kind, n]) => {
      const size = kinds[kind].BYTES_PER_ELEMENT * n;
      const array = new kinds[kind](buffer.slice(place, place + size));
      place += size;
      return array;
    };
    for (const hemi of head.hemispheres) {
      for (const key of ["faces", "flatFaces", "borders", "sulc", "region"]) hemi[key] = read(hemi[key]);
      for (const form of head.forms) hemi[form] = read(hemi[form]);
      hemi.values = hemi.values.map(read);
    }
    return head;
  }

  let data, renderer;
  try {
    data = await load();
    renderer = new THREE.WebGLRenderer({ antialias: true, alpha: false, preserveDrawingBuffer: true });
  } catch (error) {
    stage.innerHTML = `<p id="trouble">The maps cannot be drawn here: ${error.message}. A browser of 2023 or later with WebGL is needed.</p>`;
    document.body.dataset.ready = "failed";
    return;
  }
  renderer.setClearColor(0xffffff);
  stage.prepend(renderer.domElement);
  const scene = new THREE.Scene();
  const camera = new THREE.OrthographicCamera(-1, 1, 1, -1, -2000, 2000);
  camera.position.set(0, 0, 500);
  scene.add(new THREE.AmbientLight(0xffffff, 1.9));
  const light = new THREE.DirectionalLight(0xffffff, 1.5);
  light.position.set(0.2, 0.4, 1);
  scene.add(light);

  // Coordinates are right, front, up; the viewer looks along the screen's depth.
  const VIEWS = {
    lateral: [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
    medial: [[0, -1, 0], [0, 0, 1], [-1, 0, 0]],
    posterior: [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
    ventral: [[-1, 0, 0], [0, 1, 0], [0, 0, -1]],
    dorsal: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  };

  const state = { map: 0, form: "inflated", view: "lateral", zoom: 1, threshold: 0, turn: new THREE.Quaternion() };
  const brains = data.hemispheres.map((hemi, side) => {
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(hemi.n * 3), 3));
    geometry.setAttribute("color", new THREE.BufferAttribute(new Float32Array(hemi.n * 3), 3));
    const mesh = new THREE.Mesh(geometry, new THREE.MeshLambertMaterial({ vertexColors: true, side: 2 }));
    const lines = new THREE.BufferGeometry();
    lines.setAttribute("position", new THREE.BufferAttribute(new Float32Array(hemi.borders.length * 3), 3));
    const outline = new THREE.LineSegments(lines, new THREE.LineBasicMaterial({ color: 0x111111 }));
    const pivot = new THREE.Group();
    pivot.add(mesh, outline);
    scene.add(pivot);
    return { hemi, side, geometry, mesh, lines, outline, pivot, inFlat: null };
  });

  const scale = (form) => data.scales[form];

  function shape(form, share) {
    // Between the form drawn and the next one, for a smooth change.
    for (const brain of brains) {
      const position = brain.geometry.attributes.position.array;
      const next = brain.hemi[form], factor = scale(form);
      const last = brain.last || position.slice();
      for (let i = 0; i < position.length; i++)
        position[i] = last[i] + (next[i] * factor - last[i]) * share;
      brain.geometry.attributes.position.needsUpdate = true;
      if (share === 1) {
        brain.last = null;
        const faces = form === "flat" ? brain.hemi.flatFaces : brain.hemi.faces;
        brain.geometry.setIndex(new THREE.BufferAttribute(faces, 1));
        brain.geometry.computeVertexNormals();
        brain.geometry.computeBoundingSphere();
        brain.geometry.boundingBox = null;
      }
      outline(brain);
    }
  }

  function outline(brain) {
    const from = brain.geometry.attributes.position.array, to = brain.lines.attributes.position.array;
    const normals = brain.geometry.attributes.normal, lift = 0.6;
    const inside = state.form === "flat" ? flatSet(brain) : null;
    brain.hemi.borders.forEach((vertex, i) => {
      const hidden = inside && !(inside[vertex] && inside[brain.hemi.borders[i ^ 1]]);
      for (let k = 0; k < 3; k++) {
        const out = normals ? normals.array[3 * vertex + k] * lift : 0;
        to[3 * i + k] = hidden ? NaN : from[3 * vertex + k] + out;
      }
    });
    if (inside) brain.hemi.borders.forEach((_, i) => { if (Number.isNaN(to[3 * i])) to.fill(0, 3 * i, 3 * i + 3); });
    brain.lines.attributes.position.needsUpdate = true;
    brain.lines.computeBoundingSphere();
  }

  function flatSet(brain) {
    if (!brain.inFlat) {
      brain.inFlat = new Uint8Array(brain.hemi.n);
      for (const vertex of brain.hemi.flatFaces) brain.inFlat[vertex] = 1;
    }
    return brain.inFlat;
  }

  // A value has seven bits; the eighth says that it is significant. 0 is no value.
  function valueAt(brain, vertex) {
    const map = data.maps[state.map], code = brain.hemi.values[state.map][vertex];
    const level = code & 127;
    if (!level) return null;
    const value = map.names ? level : ((level - 1) / 126) * map.high;
    return { value, significant: code > 127 };
  }

  function paint() {
    const map = data.maps[state.map], only = get("significant").checked;
    const least = map.names ? 0 : (state.threshold / 100) * map.high;
    for (const brain of brains) {
      const colours = brain.geometry.attributes.color.array;
      for (let vertex = 0; vertex < brain.hemi.n; vertex++) {
        const seen = valueAt(brain, vertex);
        const shown = seen && (seen.significant || !only) && (map.names || seen.value >= least);
        let rgb;
        if (!shown) { const grey = brain.hemi.sulc[vertex]; rgb = [grey, grey, grey]; }
        else if (map.names) rgb = map.colours[seen.value - 1];
        else rgb = data.ramps[map.ramp][Math.min(255, Math.round((seen.value / map.high) * 255))];
        for (let k = 0; k < 3; k++) colours[3 * vertex + k] = (rgb[k] / 255) ** 2.2;
      }
      brain.geometry.attributes.color.needsUpdate = true;
    }
    get("limit").textContent = map.names ? "" : least.toPrecision(2);
    get("threshold").disabled = Boolean(map.names);
    get("measure").textContent = map.measure;
    get("ramp").hidden = get("ends").hidden = Boolean(map.names);
    get("swatches").innerHTML = "";
    if (map.names) {
      map.names.forEach((name, i) => {
        const item = document.createElement("span"), box = document.createElement("i");
        box.style.background = `rgb(${map.colours[i].join(",")})`;
        item.append(box, name);
        get("swatches").append(item);
      });
    } else {
      const stops = data.ramps[map.ramp].filter((_, i) => i % 15 === 0).map((c) => `rgb(${c.join(",")})`);
      get("ramp").style.background = `linear-gradient(to right, ${stops.join(",")})`;
      get("ends").innerHTML = [0, map.high / 2, map.high].map((x) => `<span>${+x.toPrecision(2)}</span>`).join("");
    }
    draw();
  }

  function basis(view) {
    const [right, up, out] = VIEWS[view];
    const m = [right, up, out];
    // Quaternion of the rotation whose rows are right, up and out.
    const t = m[0][0] + m[1][1] + m[2][2];
    const q = new THREE.Quaternion();
    if (t > -0.99) {
      const w = Math.sqrt(Math.max(1 + t, 1e-9)) / 2;
      q.set((m[2][1] - m[1][2]) / (4 * w), (m[0][2] - m[2][0]) / (4 * w), (m[1][0] - m[0][1]) / (4 * w), w);
      if (w > 0.01) return q.normalize();
    }
    const i = [0, 1, 2].reduce((a, b) => (m[b][b] > m[a][a] ? b : a)), j = (i + 1) % 3, k = (i + 2) % 3;
    const s = Math.sqrt(Math.max(1 + m[i][i] - m[j][j] - m[k][k], 1e-9)) * 2, v = [0, 0, 0];
    v[i] = s / 4; v[j] = (m[i][j] + m[j][i]) / s; v[k] = (m[i][k] + m[k][i]) / s;
    return q.set(v[0], v[1], v[2], (m[k][j] - m[j][k]) / s).normalize();
  }

  function arrange() {
    const width = stage.clientWidth, height = stage.clientHeight;
    renderer.setPixelRatio(window.devicePixelRatio || 1);
    renderer.setSize(width, height, false);
    const flat = state.form === "flat";
    // The right hemisphere's view, and its mirror image for the left one.
    const q = flat ? new THREE.Quaternion() : state.turn.clone().multiply(basis(state.view));
    const mirrored = new THREE.Quaternion(q.x, -q.y, -q.z, q.w);
    const extent = data.extents[state.form][flat ? "flat" : state.view];
    const gap = 6;
    // From below, the left hemisphere is on the right.
    const swapped = !flat && state.view === "ventral";
    brains.forEach((brain) => {
      brain.pivot.quaternion.copy(brain.side ? q : mirrored);
      brain.pivot.position.set((Boolean(brain.side) !== swapped ? 1 : -1) * (extent[0] + gap) / 2, 0, 0);
    });
    get("left").textContent = swapped ? "R" : "L";
    get("right").textContent = swapped ? "L" : "R";
    const across = 2 * extent[0] + gap + 16, high = extent[1] + 30;
    const unit = Math.max(across / width, high / height) / state.zoom;
    Object.assign(camera, { left: (-width / 2) * unit, right: (width / 2) * unit,
      top: (height / 2) * unit - high * 0.04, bottom: (-height / 2) * unit - high * 0.04 });
    camera.updateProjectionMatrix();
    draw();
  }

  let waiting = false;
  function draw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(render);
  }
  function render() {
    waiting = false;
    renderer.render(scene, camera);
    nameRegions();
  }

  const point = new THREE.Vector3(), normal = new THREE.Vector3();
  function nameRegions() {
    const box = get("names");
    box.innerHTML = "";
    if (!get("labels").checked) return;
    const placed = [];
    for (const brain of brains) {
      brain.pivot.updateMatrixWorld();
      const inside = state.form === "flat" ? flatSet(brain) : null;
      brain.hemi.middles.forEach((vertex, region) => {
        if (vertex < 0 || (inside && !inside[vertex])) return;
        point.fromArray(brain.geometry.attributes.position.array, 3 * vertex).applyMatrix4(brain.pivot.matrixWorld);
        if (!inside) {
          normal.fromArray(brain.geometry.attributes.normal.array, 3 * vertex).applyQuaternion(brain.pivot.quaternion);
          if (normal.z < 0.25) return;
        }
        point.project(camera);
        const x = ((point.x + 1) / 2) * stage.clientWidth, y = ((1 - point.y) / 2) * stage.clientHeight;
        if (placed.some(([a, b]) => Math.abs(a - x) < 44 && Math.abs(b - y) < 15)) return;
        placed.push([x, y]);
        const name = document.createElement("span");
        name.textContent = data.regions[region];
        name.style.left = `${x}px`; name.style.top = `${y}px`;
        box.append(name);
      });
    }
  }

  const rays = new THREE.Raycaster(), pointer = new THREE.Vector2();
  function pick(x, y) {
    const frame = stage.getBoundingClientRect();
    pointer.set(((x - frame.left) / frame.width) * 2 - 1, 1 - ((y - frame.top) / frame.height) * 2);
    scene.updateMatrixWorld();
    rays.setFromCamera(pointer, camera);
    const [hit] = rays.intersectObjects(brains.map((brain) => brain.mesh), false);
    if (!hit) { get("value").textContent = ""; return; }
    const brain = brains.find((each) => each.mesh === hit.object), map = data.maps[state.map];
    const position = brain.geometry.attributes.position.array;
    const local = brain.mesh.worldToLocal(hit.point.clone());
    const vertex = [hit.face.a, hit.face.b, hit.face.c].reduce((best, v) => {
      const d = (u) => (position[3 * u] - local.x) ** 2 + (position[3 * u + 1] - local.y) ** 2 + (position[3 * u + 2] - local.z) ** 2;
      return d(v) < d(best) ? v : best;
    });
    const seen = valueAt(brain, vertex), region = brain.hemi.region[vertex];
    let words = "no value";
    if (seen) {
      words = map.names ? map.names[seen.value - 1] : `${seen.value <= 0 ? "≤ 0" : seen.value.toFixed(3)}`;
      if (!seen.significant) words += " (not significant)";
    }
    get("value").textContent = `${brain.side ? "right" : "left"}${region ? `, ${data.regions[region - 1]}` : ""}: ${words}`;
  }

  function press(group, name) {
    for (const button of get(group).children) button.setAttribute("aria-pressed", String(button.dataset.name === name));
  }

  function change(form) {
    if (form === state.form && brains[0].geometry.index) return;
    const first = !brains[0].geometry.index;
    state.form = form;
    press("forms", form);
    get("views").querySelectorAll("button").forEach((button) => { button.disabled = form === "flat"; });
    for (const brain of brains) brain.last = first ? null : brain.geometry.attributes.position.array.slice();
    const began = performance.now(), calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const step = () => {
      const share = first || calm ? 1 : Math.min(1, (performance.now() - began) / 350);
      shape(form, share);
      arrange();
      if (share < 1) requestAnimationFrame(step);
    };
    step();
  }

  function see(view) {
    state.view = view;
    state.turn.identity();
    press("views", view);
    arrange();
  }

  function addButtons(group, names, act) {
    for (const name of names) {
      const button = document.createElement("button");
      button.textContent = button.dataset.name = name;
      button.addEventListener("click", () => act(name));
      get(group).append(button);
    }
  }
  addButtons("forms", data.forms, change);
  addButtons("views", Object.keys(VIEWS), see);

  const list = get("maps");
  for (const group of new Set(data.maps.map((map) => map.group))) {
    const box = document.createElement("optgroup");
    box.label = group;
    data.maps.forEach((map, number) => {
      if (map.group === group) box.append(new Option(map.title, number));
    });
    list.append(box);
  }
  function show(number) {
    state.map = number;
    list.value = String(number);
    paint();
  }
  list.addEventListener("change", () => { show(+list.value); history.replaceState(null, "", `#${data.maps[state.map].id}`); });
  get("threshold").addEventListener("input", (event) => { state.threshold = +event.target.value; paint(); });
  for (const id of ["significant", "labels"]) get(id).addEventListener("change", paint);
  get("outlines").addEventListener("change", (event) => {
    for (const brain of brains) brain.outline.visible = event.target.checked;
    draw();
  });

  const touches = new Map();
  const axisX = new THREE.Vector3(1, 0, 0), axisY = new THREE.Vector3(0, 1, 0), step = new THREE.Quaternion();
  function turn(right, down) {
    if (state.form === "flat") return;
    state.turn.premultiply(step.setFromAxisAngle(axisY, right)).premultiply(step.setFromAxisAngle(axisX, down));
    arrange();
  }
  function zoom(factor) { state.zoom = Math.min(8, Math.max(0.6, state.zoom * factor)); arrange(); }
  stage.addEventListener("pointerdown", (event) => { touches.set(event.pointerId, event); stage.setPointerCapture(event.pointerId); });
  stage.addEventListener("pointerup", (event) => { touches.delete(event.pointerId); });
  stage.addEventListener("pointercancel", (event) => { touches.delete(event.pointerId); });
  stage.addEventListener("pointermove", (event) => {
    const before = touches.get(event.pointerId);
    if (!before) { pick(event.clientX, event.clientY); return; }
    if (touches.size === 2) {
      const [other] = [...touches.values()].filter((each) => each.pointerId !== event.pointerId);
      const gap = (each) => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY);
      zoom(gap(event) / Math.max(1, gap(before)));
    } else {
      // Each hemisphere turns as its mirror image does; drag the one that is meant.
      const frame = stage.getBoundingClientRect();
      const side = before.startSide ?? (event.clientX < frame.left + frame.width / 2 ? -1 : 1);
      event.startSide = side;
      turn((side * (event.clientX - before.clientX)) / 150, (event.clientY - before.clientY) / 150);
    }
    touches.set(event.pointerId, event);
    pick(event.clientX, event.clientY);
  });
  stage.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 500)); }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    const act = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[event.key];
    if (act) { turn(...act); event.preventDefault(); }
    if (event.key === "+") zoom(1.2);
    if (event.key === "-") zoom(1 / 1.2);
  });
  new ResizeObserver(arrange).observe(stage);

  function follow() {
    const wanted = decodeURIComponent(location.hash.slice(1));
    const found = data.maps.findIndex((map) => map.id === wanted || map.figure === wanted);
    show(Math.max(0, found));
  }
  window.addEventListener("hashchange", follow);
  see("lateral");
  change("inflated");
  follow();
  window.cortexPage = { data, state, show, change, see, pick, render };
  document.body.dataset.ready = "yes";
})();

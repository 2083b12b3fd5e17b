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
    const kinds = { int16: Int16Array, uint32: Uint32Array, uint16: Uint16Array, uint8: Uint8Array };
    const read = ([kind, place, n]) => {
      const from = end + 1 + place;
      return new kinds[kind](buffer.slice(from, from + kinds[kind].BYTES_PER_ELEMENT * n));
    };
    const keys = ["faces", "flatFaces", "grey", "region", "ends", "shares", "onFlat", ...head.forms];
    for (const hemi of head.hemispheres) for (const key of keys) hemi[key] = read(hemi[key]);
    for (const map of head.maps) map.values = map.values.map(read);
    return head;
  }

  let data, renderer;
  try {
    data = await load();
    renderer = new THREE.WebGLRenderer({ antialias: true, preserveDrawingBuffer: true });
  } catch (error) {
    stage.innerHTML = '<p id="trouble"></p>';
    get("trouble").textContent =
      `The maps cannot be drawn here: ${error.message}. A browser of 2023 or later with WebGL is needed.`;
    document.body.dataset.ready = "failed";
    return;
  }
  renderer.setClearColor(0xffffff);
  stage.prepend(renderer.domElement);
  const scene = new THREE.Scene();
  const camera = new THREE.OrthographicCamera(-1, 1, 1, -1, -2000, 2000);
  scene.add(new THREE.AmbientLight(0xffffff, 1.9));
  const light = new THREE.DirectionalLight(0xffffff, 1.5);
  light.position.set(0.2, 0.4, 1);
  scene.add(light);

  // Rows of the rotation into right, up and out of the screen, for the right hemisphere, whose
  // coordinates are right, front and up. The left one turns as its mirror image.
  const VIEWS = {
    lateral: [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
    medial: [[0, -1, 0], [0, 0, 1], [-1, 0, 0]],
    posterior: [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
    ventral: [[-1, 0, 0], [0, 1, 0], [0, 0, -1]],
    dorsal: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  };
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const GAP = 6, LINE = 1.3, RIM = 3.2; // millimetres; pixels
  const state = {
    map: 0, form: null, view: "lateral", threshold: 0, turn: new THREE.Quaternion(), zoom: 1, pan: [0, 0], unit: 1,
    middle: [0, 0], extent: null, facing: new THREE.Quaternion(),
  };

  // Outlines are ribbons of constant width on the screen, which lines of WebGL cannot be.
  function makeRibbon(n, colour) {
    const geometry = new THREE.BufferGeometry(), corners = new Uint32Array(6 * n);
    geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(12 * n), 3));
    for (let i = 0; i < n; i++) corners.set([0, 2, 1, 1, 2, 3].map((k) => 4 * i + k), 6 * i);
    geometry.setIndex(new THREE.BufferAttribute(corners, 1));
    const mesh = new THREE.Mesh(geometry, new THREE.MeshBasicMaterial({ color: colour }));
    mesh.frustumCulled = false;
    return mesh;
  }

  const brains = data.hemispheres.map((hemi, side) => {
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(hemi.n * 3), 3));
    geometry.setAttribute("color", new THREE.BufferAttribute(new Float32Array(hemi.n * 3), 3));
    const mesh = new THREE.Mesh(geometry, new THREE.MeshLambertMaterial({ vertexColors: true, side: 2 }));
    mesh.frustumCulled = false;
    const lines = makeRibbon(hemi.onFlat.length, 0x111111), rims = makeRibbon(hemi.onFlat.length, 0xffffff);
    const pivot = new THREE.Group();
    pivot.add(mesh, rims, lines);
    scene.add(pivot);
    return { hemi, side, geometry, mesh, lines, rims, pivot, last: null };
  });

  // Calls act with a share from 0 to 1, for a smooth change; a new change ends the one before.
  let current = 0;
  function animate(act) {
    const own = ++current, began = performance.now();
    const step = () => {
      if (own !== current) return;
      const share = calm ? 1 : Math.min(1, (performance.now() - began) / 450);
      act(share * share * (3 - 2 * share));
      if (share < 1) requestAnimationFrame(step);
    };
    step();
  }

  // Millimetres per pixel for which the outlines are drawn; 0 if they are not up to date.
  let lined = 0;
  function shape(share) {
    for (const brain of brains) {
      const position = brain.geometry.attributes.position.array;
      const next = brain.hemi[state.form], factor = data.scales[state.form];
      for (let i = 0; i < position.length; i++)
        position[i] = brain.last[i] + (next[i] * factor - brain.last[i]) * share;
      brain.geometry.attributes.position.needsUpdate = true;
      if (share < 1) continue;
      brain.last = null;
      const faces = state.form === "flat" ? brain.hemi.flatFaces : brain.hemi.faces;
      brain.geometry.setIndex(new THREE.BufferAttribute(faces, 1));
      brain.geometry.computeVertexNormals();
      brain.geometry.computeBoundingSphere();
      lined = 0;
    }
  }
  function settle() { if (brains[0].last) shape(1); }

  const from = new THREE.Vector3(), to = new THREE.Vector3(), along = new THREE.Vector3();
  const out = new THREE.Vector3(), across = new THREE.Vector3(), end = new THREE.Vector3();
  function mix(array, ends, k, share, into) {
    const a = 3 * ends[k], b = 3 * ends[k + 1];
    return into.set(...[0, 1, 2].map((j) => array[a + j] + (array[b + j] - array[a + j]) * share));
  }

  function outline() {
    const shown = get("outlines").checked;
    lined = state.unit;
    for (const { hemi, geometry, lines, rims } of brains) {
      lines.visible = rims.visible = shown;
      if (!shown) continue;
      const places = geometry.attributes.position.array, normals = geometry.attributes.normal.array;
      for (const [mesh, wide, lift] of [[rims, RIM, 0.35], [lines, LINE, 0.5]]) {
        const corners = mesh.geometry.attributes.position.array, half = (wide * state.unit) / 2;
        for (let i = 0; i < hemi.onFlat.length; i++) {
          if (flat() && !hemi.onFlat[i]) { corners.fill(0, 12 * i, 12 * i + 12); continue; }
          const [first, second] = [hemi.shares[2 * i] / 255, hemi.shares[2 * i + 1] / 255];
          mix(places, hemi.ends, 4 * i, first, from);
          mix(places, hemi.ends, 4 * i + 2, second, to);
          mix(normals, hemi.ends, 4 * i, first, out).add(mix(normals, hemi.ends, 4 * i + 2, second, end)).normalize();
          along.subVectors(to, from).normalize();
          across.crossVectors(out, along).normalize().multiplyScalar(half);
          // A little longer, so that lines join.
          along.multiplyScalar(0.6 * half);
          from.sub(along).addScaledVector(out, lift);
          to.add(along).addScaledVector(out, lift);
          end.subVectors(from, across).toArray(corners, 12 * i);
          end.addVectors(from, across).toArray(corners, 12 * i + 3);
          end.subVectors(to, across).toArray(corners, 12 * i + 6);
          end.addVectors(to, across).toArray(corners, 12 * i + 9);
        }
        mesh.geometry.attributes.position.needsUpdate = true;
      }
    }
  }

  // What a vertex has: a value, or the number of a class from 0; or null.
  function valueAt(map, brain, vertex) {
    const code = map.values[brain.side][vertex];
    if (map.names) {
      const number = (code & 255) - 1;
      return number < 0 ? null : { number, clear: (code & 256) > 0, significant: (code & 512) > 0 };
    }
    const level = (code & 127) - 1;
    return level < 0 ? null : { value: (level / 125) * map.high, level, significant: code > 127 };
  }

  const linear = (byte) => (byte <= 10.31 ? byte / 3294.6 : ((byte / 255 + 0.055) / 1.055) ** 2.4);
  function paint() {
    const map = data.maps[state.map], only = get("significant").checked;
    const least = (state.threshold / 100) * (map.high || 0);
    for (const brain of brains) {
      const colours = brain.geometry.attributes.color.array;
      for (let vertex = 0; vertex < brain.hemi.n; vertex++) {
        const seen = valueAt(map, brain, vertex), grey = brain.hemi.grey[vertex];
        let rgb = [grey, grey, grey];
        if (seen && (seen.significant || !only)) {
          if (map.names) rgb = map.colours[seen.number + (seen.clear ? 0 : map.names.length)];
          else if (seen.value >= least) rgb = data.ramps[map.ramp][Math.round((seen.level / 125) * 255)];
        }
        for (let k = 0; k < 3; k++) colours[3 * vertex + k] = linear(rgb[k]);
      }
      brain.geometry.attributes.color.needsUpdate = true;
    }
    explain(map, least);
    draw();
  }

  const digits = (map) => (map.high > 0.3 ? 2 : 3);
  function explain(map, least) {
    get("map").textContent = `${map.group}\u00a0– ${map.title}`;
    get("measure").textContent = map.measure;
    get("hiding").hidden = get("ramp").hidden = get("ends").hidden = Boolean(map.names);
    get("swatches").replaceChildren();
    hush();
    if (map.names) {
      map.names.forEach((name, i) => {
        const item = document.createElement("span");
        for (const colour of [map.colours[i], map.colours[i + map.names.length]]) {
          const box = document.createElement("i");
          box.style.background = `rgb(${colour.join(",")})`;
          item.append(box);
        }
        item.append(name);
        get("swatches").append(item);
      });
      return;
    }
    get("limit").textContent = least.toFixed(digits(map));
    get("cut").hidden = !state.threshold;
    get("cut").style.width = `${state.threshold}%`;
    const stops = data.ramps[map.ramp].filter((_, i) => i % 15 === 0).map((c) => `rgb(${c.join(",")})`);
    get("ramp").style.background = `linear-gradient(to right, ${stops.join(",")})`;
    get("ends").replaceChildren(...[0, 0.5, 1].map((share) => {
      const item = document.createElement("span");
      item.textContent = `${share === 1 ? "≥ " : ""}${+(share * map.high).toPrecision(2)}`;
      return item;
    }));
  }

  function face(view) {
    const [r, u, o] = VIEWS[view].map((row) => new THREE.Vector3(...row));
    // The quaternion that takes the three rows to the axes of the screen.
    const first = new THREE.Quaternion().setFromUnitVectors(o, new THREE.Vector3(0, 0, 1));
    const turned = r.applyQuaternion(first);
    u.applyQuaternion(first);
    const angle = Math.atan2(-turned.y, turned.x);
    return new THREE.Quaternion().setFromAxisAngle(new THREE.Vector3(0, 0, 1), angle).multiply(first);
  }

  const flat = () => state.form === "flat";
  const wanted = () => (flat() ? face("lateral") : state.turn.clone().multiply(face(state.view)));
  const size = () => data.extents[state.form][flat() ? "lateral" : state.view];

  // Moves from the facing and size that are drawn towards those of the state.
  function turnTo(before, share) {
    state.facing.slerpQuaternions(before.facing, wanted(), share);
    state.extent = size().map((x, i) => before.extent[i] + (x - before.extent[i]) * share);
    arrange();
  }

  function arrange() {
    const width = stage.clientWidth, height = stage.clientHeight, q = state.facing;
    renderer.setPixelRatio(window.devicePixelRatio || 1);
    renderer.setSize(width, height, false);
    // From below, the left hemisphere is on the right.
    const swapped = !flat() && state.view === "ventral";
    for (const brain of brains) {
      if (brain.side) brain.pivot.quaternion.copy(q);
      else brain.pivot.quaternion.set(q.x, -q.y, -q.z, q.w);
      brain.pivot.position.x = ((Boolean(brain.side) !== swapped ? 1 : -1) * (state.extent[0] + GAP)) / 2;
    }
    get("left").textContent = swapped ? "R" : "L";
    get("right").textContent = swapped ? "L" : "R";
    // The title is above and the scale below.
    const top = 45, bottom = get("foot").offsetHeight + 15;
    const unit = Math.max((2 * state.extent[0] + GAP) / (width - 24), state.extent[1] / Math.max(60, height - top - bottom));
    state.unit = unit / state.zoom;
    state.middle = [state.pan[0], state.pan[1] + ((top - bottom) / 2) * state.unit];
    const [x, y] = state.middle;
    Object.assign(camera, {
      left: x - (width / 2) * state.unit, right: x + (width / 2) * state.unit,
      top: y + (height / 2) * state.unit, bottom: y - (height / 2) * state.unit,
    });
    camera.updateProjectionMatrix();
    const ready = brains[0].geometry.attributes.normal;
    if (ready && (brains[0].last || Math.abs(lined / state.unit - 1) > 0.02)) outline();
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
    const box = get("names"), placed = [];
    box.replaceChildren();
    if (!get("labels").checked || !brains[0].geometry.attributes.normal) return;
    for (const brain of brains) {
      brain.pivot.updateMatrixWorld();
      brain.hemi.middles[flat() ? "flat" : "inflated"].forEach((vertex, region) => {
        if (vertex < 0) return;
        normal.fromBufferAttribute(brain.geometry.attributes.normal, vertex).applyQuaternion(brain.pivot.quaternion);
        if (normal.z < 0.25) return;
        point.fromBufferAttribute(brain.geometry.attributes.position, vertex).applyMatrix4(brain.pivot.matrixWorld).project(camera);
        const x = ((point.x + 1) / 2) * stage.clientWidth, y = ((1 - point.y) / 2) * stage.clientHeight;
        if (placed.some(([a, b]) => Math.abs(a - x) < 46 && Math.abs(b - y) < 15)) return;
        placed.push([x, y]);
        const name = document.createElement("span");
        name.textContent = data.regions[region];
        name.style.left = `${x}px`;
        name.style.top = `${y}px`;
        box.append(name);
      });
    }
  }

  const rays = new THREE.Raycaster(), pointer = new THREE.Vector2();
  function find(x, y) {
    const frame = stage.getBoundingClientRect();
    pointer.set(((x - frame.left) / frame.width) * 2 - 1, 1 - ((y - frame.top) / frame.height) * 2);
    scene.updateMatrixWorld();
    rays.setFromCamera(pointer, camera);
    const [hit] = rays.intersectObjects(brains.map((brain) => brain.mesh), false);
    if (!hit) return null;
    const brain = brains.find((each) => each.mesh === hit.object);
    const local = brain.mesh.worldToLocal(hit.point.clone());
    const far = (v) => point.fromBufferAttribute(brain.geometry.attributes.position, v).distanceTo(local);
    const vertex = [hit.face.a, hit.face.b, hit.face.c].reduce((best, v) => (far(v) < far(best) ? v : best));
    return { brain, vertex };
  }

  function hush() {
    get("mark").hidden = true;
    get("value").textContent = "";
  }
  function pick(x, y) {
    const hit = find(x, y), map = data.maps[state.map];
    hush();
    if (!hit) return;
    const seen = valueAt(map, hit.brain, hit.vertex), region = hit.brain.hemi.region[hit.vertex];
    const where = [hit.brain.side ? "right" : "left", region ? data.regions[region - 1] : ""].filter(Boolean).join(" ");
    let words = "no value";
    if (seen && map.names) {
      words = map.names[seen.number] + (seen.significant && !seen.clear ? ", not clearly" : "");
    } else if (seen) {
      const sign = seen.level === 0 ? "≤" : seen.level === 125 ? "≥" : "=";
      words = `${map.unit} ${sign} ${seen.value.toFixed(digits(map))}`;
      get("mark").hidden = false;
      get("mark").style.left = `${(seen.level / 125) * 100}%`;
    }
    if (seen && !seen.significant) words += " (not significant)";
    get("value").textContent = `${where}: ${words}`;
  }

  function press(group, name) {
    for (const button of get(group).children) button.setAttribute("aria-pressed", String(button.dataset.name === name));
  }
  const drawn = () => ({ facing: state.facing.clone(), extent: state.extent || size() });

  function change(form) {
    if (form === state.form) return;
    const first = !state.form;
    state.form = form;
    hush();
    press("forms", form);
    for (const button of get("views").children) button.disabled = flat();
    const before = drawn();
    for (const brain of brains) {
      brain.last = brain.geometry.attributes.position.array.slice();
      // A flat map becomes whole again before it moves.
      if (!first) brain.geometry.setIndex(new THREE.BufferAttribute(brain.hemi.faces, 1));
    }
    const act = (share) => { shape(share); turnTo(before, share); };
    if (first) act(1); else animate(act);
  }

  function see(view) {
    Object.assign(state, { view, zoom: 1, pan: [0, 0] });
    state.turn.identity();
    press("views", view);
    settle();
    hush();
    const before = drawn();
    animate((share) => turnTo(before, share));
  }

  function addButtons(group, names, act) {
    for (const name of names) {
      const button = document.createElement("button");
      button.type = "button";
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
  const narrow = window.matchMedia("(max-width: 700px)");
  const fold = () => { list.size = narrow.matches ? 1 : 12; };
  narrow.addEventListener("change", fold);
  fold();

  function show(number) {
    state.map = number;
    list.value = String(number);
    paint();
    arrange();
  }
  list.addEventListener("change", () => {
    show(+list.value);
    history.replaceState(null, "", `#${data.maps[state.map].id}`);
  });
  get("threshold").addEventListener("input", (event) => { state.threshold = +event.target.value; paint(); });
  get("significant").addEventListener("change", paint);
  get("labels").addEventListener("change", draw);
  get("outlines").addEventListener("change", () => { outline(); draw(); });

  const axisX = new THREE.Vector3(1, 0, 0), axisY = new THREE.Vector3(0, 1, 0), step = new THREE.Quaternion();
  function turn(right, down) {
    ++current;
    settle();
    state.turn.premultiply(step.setFromAxisAngle(axisY, right)).premultiply(step.setFromAxisAngle(axisX, down));
    turnTo(drawn(), 1);
  }
  function move(x, y) {
    state.pan = [state.pan[0] - x * state.unit, state.pan[1] + y * state.unit];
    arrange();
  }
  // Keeps what is at a place of the window where it is.
  function zoom(factor, x, y) {
    const frame = stage.getBoundingClientRect();
    const right = x - frame.left - frame.width / 2, down = y - frame.top - frame.height / 2;
    const next = Math.min(12, Math.max(0.6, state.zoom * factor)), change = state.zoom / next;
    const before = state.unit, middle = state.middle;
    state.zoom = next;
    arrange();
    const gone = [middle[0] + right * before - state.middle[0] - right * before * change,
      middle[1] - down * before - state.middle[1] + down * before * change];
    state.pan = [state.pan[0] + gone[0], state.pan[1] + gone[1]];
    arrange();
  }
  function zoomMiddle(factor) {
    const frame = stage.getBoundingClientRect();
    zoom(factor, frame.left + frame.width / 2, frame.top + frame.height / 2);
  }

  const touches = new Map();
  stage.addEventListener("pointerdown", (event) => {
    const frame = stage.getBoundingClientRect();
    // Each hemisphere turns as the mirror image of the other; the one that is dragged follows.
    touches.set(event.pointerId, { x: event.clientX, y: event.clientY, side: event.clientX < frame.left + frame.width / 2 ? -1 : 1 });
    stage.setPointerCapture(event.pointerId);
    pick(event.clientX, event.clientY);
  });
  for (const name of ["pointerup", "pointercancel"])
    stage.addEventListener(name, (event) => { touches.delete(event.pointerId); });
  stage.addEventListener("pointermove", (event) => {
    const before = touches.get(event.pointerId), { clientX: x, clientY: y } = event;
    if (before) {
      if (touches.size === 2) {
        const [other] = [...touches].filter(([id]) => id !== event.pointerId).map(([, each]) => each);
        const gap = (a) => Math.max(1, Math.hypot(a.x - other.x, a.y - other.y));
        zoom(gap({ x, y }) / gap(before), (x + other.x) / 2, (y + other.y) / 2);
        move((x - before.x) / 2, (y - before.y) / 2);
      } else if (flat() || event.shiftKey || event.buttons === 2) {
        move(x - before.x, y - before.y);
      } else {
        const side = (state.view === "ventral" ? -1 : 1) * before.side;
        turn((side * (x - before.x)) / 150, (y - before.y) / 150);
      }
      Object.assign(before, { x, y });
    }
    pick(x, y);
  });
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 500), event.clientX, event.clientY);
  }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (arrow && (event.shiftKey || flat())) move(30 * arrow[0], 30 * arrow[1]);
    else if (arrow) turn(0.15 * arrow[0], 0.15 * arrow[1]);
    else if (event.key === "+" || event.key === "=") zoomMiddle(1.25);
    else if (event.key === "-") zoomMiddle(0.8);
    else if (event.key === "0") see(state.view);
    else return;
    event.preventDefault();
  });
  new ResizeObserver(arrange).observe(stage);

  function follow() {
    const hash = decodeURIComponent(location.hash.slice(1));
    show(Math.max(0, data.maps.findIndex((map) => map.id === hash || map.figure === hash)));
  }
  window.addEventListener("hashchange", follow);
  change("inflated");
  press("views", "lateral");
  follow();
  list.focus({ preventScroll: true });
  window.cortexPage = { data, state, show, change, see, find, render };
  document.body.dataset.ready = "yes";
})();

// The page of a GAN; model_page.py writes what it shows.
const $ = id => document.getElementById(id);
const page = JSON.parse($("content").textContent);
const bytes = Uint8Array.from(atob($("weights").textContent.trim()), c => c.charCodeAt(0));
const [channels, height, width] = page.shape, pixels = channels * height * width, dim = page.latent;
const runG = network(page.generator, bytes);
const runD = page.discriminator && page.verdict ? network(page.discriminator, bytes) : null;
const bytesAt = (place, row) => bytes.subarray(place.data + row * pixels, place.data + (row + 1) * pixels);
const toFloats = from => Float32Array.from(from, byte => byte / 127.5 - 1);
const toBytes = from => Uint8ClampedArray.from(from, x => (x + 1) * 127.5);

// G, D and the prior; the tests call them, and so can you, in the console.
const model = {
  generate: (z, label = 0) => runG(z, label).slice(),
  logit: (image, label = 0) => runD(image, label)[0],
  noise(seed, number) {
    const values = new Float32Array(number * dim), signs = page.prior.name === "Signs" ? page.prior.signs : 0;
    for (let i = 0; i < values.length; i++) {
      const even = i - i % 2;
      if (page.prior.name === "Uniform") values[i] = (2 * uniform(seed, i) - 1) * Math.sqrt(3);
      else { // Box and Muller
        const angle = 2 * Math.PI * uniform(seed, even + 1);
        values[i] = Math.sqrt(-2 * Math.log(uniform(seed, even))) * (i % 2 ? Math.sin(angle) : Math.cos(angle));
        if (i % dim < signs) values[i] = values[i] < 0 ? -1 : 1;
      }
    }
    return Array.from({length: number}, (_, n) => values.slice(n * dim, (n + 1) * dim));
  },
};
window.model = model;

function mix(h) {
  h = Math.imul(h ^ h >>> 16, 0x85ebca6b);
  h = Math.imul(h ^ h >>> 13, 0xc2b2ae35);
  return h ^ h >>> 16;
}

function uniform(seed, i) {
  return ((mix(mix(seed + 1 | 0) + Math.imul(i, 0x9e3779b9) | 0) >>> 0) + .5) / 2 ** 32;
}

// Drawing: what the visitor moves is drawn in the next frame, all else as there is time.

const urgent = new Map(), patient = new Map();

function later(key, draw, queue = patient) {
  if (!urgent.size && !patient.size) requestAnimationFrame(work);
  patient.delete(key);
  queue.set(key, draw);
}

function work() {
  const end = performance.now() + 12;
  for (const queue of [urgent, patient]) for (const [key, draw] of queue) {
    if (queue === patient && performance.now() > end) break;
    queue.delete(key);
    draw();
  }
  if (urgent.size || patient.size) requestAnimationFrame(work);
}

function newCanvas(parent) {
  const canvas = document.createElement("canvas");
  if (parent) parent.append(canvas);
  return canvas;
}

function paint(canvas, from) {
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const context = canvas.getContext("2d", {willReadFrequently: true}), data = context.createImageData(width, height), area = width * height;
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) data.data[4 * i + c] = from[i + (channels === 3 ? c * area : 0)];
    data.data[4 * i + 3] = 255;
  }
  context.putImageData(data, 0, 0);
}

const show = (canvas, sample) => paint(canvas, toBytes(runG(sample.z, sample.label)));

// What D says

function says(logit) {
  const {probability, threshold, low, high} = page.verdict, real = logit > threshold;
  const share = probability ? 1 / (1 + Math.exp(-logit)) : Math.min(Math.max((logit - low) / (high - low), 0), 1);
  const mark = probability ? .5 : (threshold - low) / (high - low);
  const text = `D(x) = ${(probability ? share : logit).toFixed(2)}: looks ${real ? "real" : "generated"}`;
  return {real, share, mark, text};
}

function showD(place, logit) {
  const verdict = says(logit);
  place.innerHTML = `<span>${verdict.text}</span><div class="gauge" aria-hidden="true"><i></i><b></b></div>`;
  const bar = place.querySelector("i");
  bar.style.width = `${100 * verdict.share}%`;
  bar.classList.toggle("real", verdict.real);
  place.querySelector("b").style.left = `${100 * verdict.mark}%`;
  return verdict;
}

// Samples

const cells = [], slots = {};
let samples = [], selected = 0, current, start;

function labelOf(i) {
  return $("class").value === "all" ? i % page.classes : Number($("class").value);
}

function newSamples() {
  const seed = Math.max(0, Math.floor(Number($("seed").value) || 0));
  samples = model.noise(seed, page.grid).map((z, i) => ({z, label: page.classes ? labelOf(i) : 0, seed, i}));
  samples.forEach((sample, i) => {
    if (page.classes) cells[i].querySelector("span").textContent = sample.label;
    cells[i].setAttribute("aria-label", `Sample ${i + 1}${page.classes ? `, class ${sample.label}` : ""}`);
    later(cells[i], () => show(cells[i].firstChild, sample));
  });
  select(selected);
}

function select(i) {
  selected = i;
  cells.forEach((cell, n) => {
    cell.setAttribute("aria-checked", n === i);
    cell.tabIndex = n === i ? 0 : -1;
  });
  start = samples[i];
  current = {...start, z: start.z.slice()};
  sliders.forEach(slider => { slider.input.value = along(start.z, slider.direction); });
  changed();
  sliders.forEach(slider => slider.ends.forEach((canvas, end) => later(canvas, () => show(canvas, moved(start, slider.direction, (2 * end - 1) * REACH)))));
}

function changed() {
  later("current", () => {
    const image = runG(current.z, current.label), shown = toBytes(image);
    paint($("current"), shown);
    if (runD) showD($("current-d"), model.logit(toFloats(shown), current.label));
  }, urgent);
  const asBaked = start.seed === 0 && (!page.classes || start.label === start.i % page.classes);
  $("neighbor-figure").hidden = !page.neighbors || !asBaked;
  if (page.neighbors && asBaked) paint($("neighbor"), bytesAt(page.neighbors, start.i));
}

// Directions in z: a slider's value is the coordinate of z along its direction

const REACH = 3.5, sliders = [];
const along = (z, direction) => direction.reduce((sum, d, i) => sum + d * z[i], 0);

function moved(sample, direction, to) {
  const by = to - along(sample.z, direction);
  return {...sample, z: sample.z.map((value, i) => value + by * direction[i])};
}

function makeSliders() {
  for (let k = 0; k < page.directions.rows; k++) {
    const direction = new Float32Array(bytes.buffer, page.directions.data + 4 * k * dim, dim);
    const row = document.createElement("div"), input = document.createElement("input"), ends = [];
    row.className = "slider";
    ends.push(newCanvas(row));
    Object.assign(input, {type: "range", min: -REACH, max: REACH, step: .05});
    input.setAttribute("aria-label", `Direction ${k + 1}`);
    row.append(input);
    ends.push(newCanvas(row));
    const slider = {direction, input, ends};
    input.addEventListener("input", () => {
      current = moved(current, direction, Number(input.value));
      changed();
    });
    sliders.push(slider);
    $("sliders").append(row);
  }
}

function makeGrid() {
  for (let i = 0; i < page.grid; i++) {
    const cell = document.createElement("button");
    cell.className = "picture";
    cell.setAttribute("role", "radio");
    newCanvas(cell);
    if (page.classes) cell.append(document.createElement("span"));
    cell.addEventListener("click", () => select(i));
    cells.push(cell);
    $("grid").append(cell);
  }
  $("grid").addEventListener("keydown", event => {
    const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -6, ArrowDown: 6}[event.key];
    if (!step) return;
    event.preventDefault();
    select((selected + step + page.grid) % page.grid);
    cells[selected].focus();
  });
}

// A walk, and a plane

const NAMES = {a: "A", b: "B", c: "top left", d: "top right", e: "bottom left", f: "bottom right"};
let t = .5, playing = 0, place = {u: .5, v: .5};
const strip = [], tiles = [];

// Labels cannot be mixed: a mixture has that of its largest part.
function mixture(parts, shares) {
  const z = new Float32Array(dim);
  parts.forEach((part, n) => { for (let i = 0; i < dim; i++) z[i] += shares[n] * part.z[i]; });
  return {z, label: parts[shares.indexOf(Math.max(...shares))].label};
}

const onWalk = share => mixture([slots.a, slots.b], [1 - share, share]);
const onPlane = (u, v) => mixture([slots.c, slots.d, slots.e, slots.f], [(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v]);

function setSlot(name, sample) {
  slots[name] = {...sample, z: sample.z.slice()};
  const button = document.querySelector(`[data-slot=${name}]`);
  later(button, () => show(button.firstChild, slots[name]));
  if (name < "c") drawWalk(); else drawPlane();
}

function makeSlots() {
  document.querySelectorAll("[data-slot]").forEach(button => {
    newCanvas(button);
    const name = button.dataset.slot;
    if (name < "c") button.append(Object.assign(document.createElement("span"), {textContent: NAMES[name]}));
    button.setAttribute("aria-label", `${NAMES[name]}: put the selected sample here`);
    button.title = "Put the selected sample here";
    button.addEventListener("click", () => setSlot(name, current));
  });
  for (let i = 0; i < 9; i++) strip.push(newCanvas($("strip")));
  for (let i = 0; i < 49; i++) {
    const tile = newCanvas();
    tiles.push(tile);
    $("map").insertBefore(tile, $("map").lastElementChild);
  }
  "abcdef".split("").forEach((name, i) => { slots[name] = samples[i]; });
  "abcdef".split("").forEach((name, i) => setSlot(name, samples[i]));
}

function drawWalk() {
  moveWalk(t);
  strip.forEach((canvas, i) => later(canvas, () => show(canvas, onWalk(i / 8))));
}

function moveWalk(to) {
  t = to;
  $("t").value = t;
  $("t-value").textContent = t.toFixed(2);
  later("walk", () => show($("walk-image"), onWalk(t)), urgent);
}

function drawPlane() {
  movePlane(place.u, place.v);
  tiles.forEach((canvas, i) => later(canvas, () => show(canvas, onPlane(i % 7 / 6, Math.floor(i / 7) / 6))));
}

function movePlane(u, v) {
  place = {u: Math.min(Math.max(u, 0), 1), v: Math.min(Math.max(v, 0), 1)};
  const dot = $("map").lastElementChild;
  dot.style.left = `${100 * place.u}%`;
  dot.style.top = `${100 * place.v}%`;
  $("place").textContent = `${Math.round(100 * place.u)} % right, ${Math.round(100 * place.v)} % down`;
  later("plane", () => show($("plane-image"), onPlane(place.u, place.v)), urgent);
}

function play() {
  playing = playing ? 0 : performance.now() - 4000 * t;
  $("play").textContent = playing ? "Pause" : "Play";
  if (playing) requestAnimationFrame(step);
}

function step(now) {
  if (!playing) return;
  const phase = Math.max(0, now - playing) / 4000 % 2;
  moveWalk(phase < 1 ? phase : 2 - phase);
  requestAnimationFrame(step);
}

function whilePressed(element, act) {
  element.addEventListener("pointerdown", event => {
    element.setPointerCapture(event.pointerId);
    act(event, true);
  });
  element.addEventListener("pointermove", event => { if (element.hasPointerCapture(event.pointerId)) act(event, false); });
}

// You are D

const score = {you: 0, d: 0, of: 0};
let question, unseen = [];

function ask() {
  const isReal = Math.random() < .5;
  let image, label = 0;
  if (isReal) {
    if (!unseen.length) unseen = page.real.labels.map((_, i) => i).sort(() => Math.random() - .5);
    const i = unseen.pop();
    image = Uint8ClampedArray.from(bytesAt(page.real, i));
    label = page.real.labels[i];
  } else {
    label = Math.floor(Math.random() * page.classes);
    image = toBytes(runG(model.noise(Math.floor(Math.random() * 2 ** 31) + 2 ** 30, 1)[0], label));
  }
  question = {isReal, image, logit: model.logit(toFloats(image), label)}; // D sees what you see
  paint($("question"), image);
  $("answer").textContent = page.classes ? `It should be of class ${label}. Real or generated?` : "Real or generated?";
  $("question-d").hidden = $("next").hidden = true;
  $("say-real").hidden = $("say-fake").hidden = false;
}

function answer(saysReal) {
  if (!question || question.done) return;
  question.done = true;
  const verdict = showD($("question-d"), question.logit), right = saysReal === question.isReal;
  const dRight = verdict.real === question.isReal;
  score.of++;
  score.you += right;
  score.d += dRight;
  $("answer").textContent = `${right ? "Right" : "Wrong"}: it is ${question.isReal ? "real" : "generated"}. D is ${dRight ? "right" : "wrong"}.`;
  $("your-score").textContent = `${score.you} of ${score.of}`;
  $("d-score").textContent = `${score.d} of ${score.of}`;
  const figure = document.createElement("figure");
  figure.className = question.isReal ? "real" : "";
  paint(newCanvas(figure), question.image);
  figure.append(Object.assign(document.createElement("figcaption"), {textContent: `${question.isReal ? "real" : "G"} ${right ? "✓" : "✗"}`}));
  $("past").prepend(figure);
  if ($("past").children.length > 10) $("past").lastChild.remove();
  const hadFocus = [$("say-real"), $("say-fake")].includes(document.activeElement);
  $("question-d").hidden = $("next").hidden = false;
  $("say-real").hidden = $("say-fake").hidden = true;
  if (hadFocus) $("next").focus();
}

function nextQuestion() {
  const hadFocus = document.activeElement === $("next");
  ask();
  if (hadFocus) $("say-real").focus();
}

// The drawing pad

const drawing = new Float32Array(pixels), pen = {x: width / 2, y: height / 2, down: false, last: null};
let background = -1, nextReal = 0;

function setDrawing(from) {
  drawing.set(from);
  showDrawing();
}

function showDrawing() {
  later("pad", () => {
    const shown = toBytes(drawing);
    paint($("pad"), shown);
    if (document.activeElement === $("pad") && pen.keys) {
      const context = $("pad").getContext("2d");
      context.fillStyle = pen.down ? "#f60" : "#48f";
      context.fillRect(Math.floor(pen.x), Math.floor(pen.y), 1, 1);
    }
    showD($("pad-d"), model.logit(toFloats(shown), Number($("pad-class").value) || 0));
  }, urgent);
}

function stroke(x, y) {
  const from = pen.last ?? {x, y}, radius = Math.max(height, width) / 28 * 1.1;
  const dx = x - from.x, dy = y - from.y, length = dx * dx + dy * dy || 1;
  const ink = $("erase").checked ? background : -background;
  for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) {
    const px = column + .5 - from.x, py = row + .5 - from.y;
    const s = Math.min(Math.max((px * dx + py * dy) / length, 0), 1), distance = Math.hypot(px - s * dx, py - s * dy);
    const share = Math.min(Math.max(radius + .6 - distance, 0), 1), i = row * width + column;
    const value = (1 - share) * (ink > 0 ? -1 : 1) + share * ink; // the stroke alone, on the other color
    drawing[i] = ink > 0 ? Math.max(drawing[i], value) : Math.min(drawing[i], value);
  }
  pen.last = {x, y};
  showDrawing();
}

function drawWithKeys(event) {
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if (!step && event.key !== " ") return;
  event.preventDefault();
  pen.keys = true;
  if (step) {
    pen.x = Math.min(Math.max(pen.x + step[0], .5), width - .5);
    pen.y = Math.min(Math.max(pen.y + step[1], .5), height - .5);
  } else {
    pen.down = !pen.down;
    pen.last = null;
  }
  if (pen.down) stroke(pen.x, pen.y); else showDrawing();
}

// Start

function fillClasses(select, all) {
  const classes = Array.from({length: page.classes}, (_, i) => i);
  select.append(...(all ? [new Option("all", "all")] : []), ...classes.map(i => new Option(i, i)));
}

function about() {
  const {z, label} = samples[0], begin = performance.now();
  let number = 0;
  while (number < 5 || (performance.now() - begin < 60 && number < 200)) { runG(z, label); number++; }
  const speed = number / (performance.now() - begin) * 1000;
  model.imagesPerSecond = speed;
  const reading = !runD ? "" : page.verdict.probability
    ? " D(x) is D's probability that x is real; above 0.5 it says real. Against a perfect G, the best D says 0.5 of every image."
    : ` With the loss of this GAN, D(x) is no probability, and has no scale: here D says real above ${page.verdict.threshold.toFixed(2)}, the median for ${page.verdict.number} real and ${page.verdict.number} generated images.`;
  $("about").textContent = `Pixels differ from PyTorch's by at most ${page.error}. This device generates ${speed < 10 ? speed.toFixed(1) : Math.round(speed)} images per second.${reading}`;
}

function setUp() {
  $("latent").textContent = dim;
  document.querySelectorAll(".with-d").forEach(part => { part.hidden = !runD; });
  document.querySelectorAll(".without-d").forEach(part => { part.hidden = Boolean(runD); });
  $("class-label").hidden = $("pad-class-label").hidden = !page.classes;
  fillClasses($("class"), true);
  fillClasses($("pad-class"), false);
  makeSliders();
  makeGrid();
  newSamples();
  makeSlots();
  $("new").addEventListener("click", () => {
    $("seed").value = Number($("seed").value) + 1;
    newSamples();
  });
  $("seed").addEventListener("input", newSamples);
  $("class").addEventListener("input", newSamples);
  $("reset").addEventListener("click", () => select(selected));
  $("t").addEventListener("input", () => {
    if (playing) play();
    moveWalk(Number($("t").value));
  });
  $("play").addEventListener("click", play);
  whilePressed($("map"), event => {
    const box = $("map").getBoundingClientRect();
    movePlane((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
  $("map").addEventListener("keydown", event => {
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (!step) return;
    event.preventDefault();
    movePlane(place.u + step[0] / 20, place.v + step[1] / 20);
  });
  $("game").hidden = !runD || !page.real;
  if (!$("game").hidden) setUpGame();
  $("draw").hidden = !runD || channels !== 1 || Math.max(height, width) > 64;
  if (!$("draw").hidden) setUpPad();
  later("about", about);
}

function setUpGame() {
  ask();
  $("say-real").addEventListener("click", () => answer(true));
  $("say-fake").addEventListener("click", () => answer(false));
  $("next").addEventListener("click", nextQuestion);
  document.addEventListener("keydown", event => {
    if (event.target.matches("input, select, #pad") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "r") answer(true);
    if (event.key === "g") answer(false);
    if (event.key === "n" && question.done) nextQuestion();
  });
}

function setUpPad() {
  background = page.background ?? -1;
  drawing.fill(background);
  showDrawing();
  whilePressed($("pad"), (event, first) => {
    const box = $("pad").getBoundingClientRect();
    pen.keys = false;
    if (first) pen.last = null;
    stroke((event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height);
  });
  $("pad").addEventListener("keydown", drawWithKeys);
  $("pad").addEventListener("blur", showDrawing);
  $("clear").addEventListener("click", () => setDrawing(drawing.map(() => background)));
  $("real-image").hidden = !page.real;
  $("real-image").addEventListener("click", () => {
    nextReal = (nextReal + 1) % page.real.rows;
    $("pad-class").value = page.real.labels[nextReal];
    setDrawing(toFloats(bytesAt(page.real, nextReal)));
  });
  $("fake-image").addEventListener("click", () => {
    $("pad-class").value = current.label;
    setDrawing(runG(current.z, current.label));
  });
  $("pad-class").addEventListener("input", showDrawing);
}

setUp();

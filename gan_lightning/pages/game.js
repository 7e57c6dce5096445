"use strict";

const game = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const MARGIN = 10, TENFOLD = 8, FAINT = 1e-3; // pixels around the plane, and for ten times the pull; the least pull with an arrow
let run, frame = 0, playing = false, due = 0;

// Bytes of each frame: coded as differences to the frame before, then deflated
async function unpack(recording) {
  const packed = Uint8Array.from(atob(recording.packed), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const frames = recording.step.length, layers = {};
  let start = 0;
  for (const [name, size] of Object.entries(game.sizes)) {
    const layer = bytes.subarray(start, start += frames * size);
    for (let i = size; i < layer.length; i++) layer[i] += layer[i - size];
    layers[name] = t => layer.subarray(t * size, (t + 1) * size);
  }
  return layers;
}

const color = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const rgb = name => color(name).match(/\w\w/g).map(h => parseInt(h, 16)); // of #rrggbb
const number = x => Math.abs(x) >= 1e4 || (x && Math.abs(x) < 1e-3) ? x.toExponential(1) : String(+x.toPrecision(3));

// A canvas sized for the screen's pixels; returns its context, width and height in CSS pixels
function prepare(canvas) {
  const {width, height} = canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(canvas.width / width, canvas.height / height);
  context.clearRect(0, 0, width, height);
  return [context, width, height];
}

const map = document.createElement("canvas");
map.width = map.height = Math.sqrt(game.sizes.map);

function drawMap(context, side) {
  const [low, middle, high] = ["low", "middle", "high"].map(rgb), n = map.width, values = run.layers.map(frame);
  const pixels = map.getContext("2d").createImageData(n, n);
  values.forEach((value, i) => {
    const share = value / 127.5, [from, to, part] = share < 1 ? [low, middle, share] : [middle, high, share - 1];
    const at = 4 * ((n - 1 - Math.floor(i / n)) * n + i % n); // rows go up
    for (let c = 0; c < 3; c++) pixels.data[at + c] = from[c] + part * (to[c] - from[c]);
    pixels.data[at + 3] = 255;
  });
  map.getContext("2d").putImageData(pixels, 0, 0);
  context.drawImage(map, MARGIN, MARGIN, side - 2 * MARGIN, side - 2 * MARGIN);
}

function drawPlane() {
  const [context, side] = prepare($("plane")), scale = (side - 2 * MARGIN) / 255;
  const at = (points, i) => [MARGIN + scale * points[2 * i], side - MARGIN - scale * points[2 * i + 1]];
  const shows = name => $("show-" + name).checked;
  const samples = run.layers.samples(frame);
  if (shows("map")) drawMap(context, side);
  if (shows("grid")) {
    const points = run.layers.grid(frame), n = Math.sqrt(points.length / 2);
    context.strokeStyle = color("grid");
    context.lineWidth = 1;
    context.beginPath();
    for (let a = 0; a < n; a++) for (const along of [b => a * n + b, b => b * n + a]) for (let b = 0; b < n; b++)
      context[b ? "lineTo" : "moveTo"](...at(points, along(b)));
    context.stroke();
  }
  if (shows("data")) {
    context.strokeStyle = color("data");
    context.lineWidth = 1;
    for (let i = 0; i < data.length / 2; i++) {
      context.beginPath();
      context.arc(...at(data, i), 2, 0, 7);
      context.stroke();
    }
  }
  if (shows("samples")) {
    context.fillStyle = color("samples");
    context.strokeStyle = color("paper");
    context.lineWidth = .75;
    for (let i = 0; i < samples.length / 2; i++) {
      context.beginPath();
      context.arc(...at(samples, i), 3.5, 0, 7);
      context.fill();
      context.stroke();
    }
  }
  if (shows("arrows")) drawArrows(context, i => at(samples, i));
}

function drawArrows(context, at) {
  const arrows = run.layers.arrows(frame), unit = run.longest[frame] / 127;
  context.strokeStyle = color("arrows");
  context.lineWidth = 1.3;
  context.beginPath();
  for (let i = 0; i < arrows.length / 2; i++) {
    const [dx, dy] = [0, 1].map(c => unit * (arrows[2 * i + c] << 24 >> 24)), pull = Math.hypot(dx, dy);
    const length = TENFOLD * Math.log10(pull / FAINT);
    if (!(length > .5)) continue;
    const [x, y] = at(i), [u, v] = [dx / pull, -dy / pull], [a, b] = [x + length * u, y + length * v], head = Math.min(5, length / 2);
    context.moveTo(x, y);
    context.lineTo(a, b);
    context.moveTo(a - head * (u + .6 * v), b - head * (v - .6 * u));
    context.lineTo(a, b);
    context.lineTo(a - head * (u - .6 * v), b - head * (v + .6 * u));
  }
  context.stroke();
}

// The iteration of a frame; between two of them after an update of D
const when = t => run.update[t] ? run.step[t] - 1 + run.update[t] / (run.k + 1) : run.step[t];

function drawLosses() {
  const [context, width, height] = prepare($("losses")), all = [...run.loss_d, ...run.loss_g].sort((a, b) => a - b);
  let [low, high] = [.01, .99].map(q => all[Math.floor(q * (all.length - 1))]); // a few outliers leave the picture
  if (high - low < 1e-6) [low, high] = [low - 1, high + 1];
  const left = 48, last = when(run.step.length - 1) || 1, bottom = height - 22;
  const x = t => left + (width - left - 8) * when(t) / last, y = v => 6 + (bottom - 12) * (high - v) / (high - low);
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = color("soft");
  context.strokeStyle = color("line");
  for (const v of [low, (low + high) / 2, high]) {
    context.textAlign = "right";
    context.fillText(number(v), left - 6, y(v) + 4);
    context.beginPath();
    context.moveTo(left, y(v));
    context.lineTo(width - 8, y(v));
    context.stroke();
  }
  for (const share of [0, .5, 1]) {
    context.textAlign = share ? share < 1 ? "center" : "right" : "left";
    context.fillText((share ? "" : "iteration ") + Math.round(share * last), left + (width - left - 8) * share, height - 5);
  }
  context.save();
  context.beginPath();
  context.rect(left, 0, width - left, bottom);
  context.clip();
  context.lineWidth = 1.6;
  for (const [values, name, dash] of [[run.loss_d, "accent", []], [run.loss_g, "generator", [5, 3]]]) {
    context.strokeStyle = color(name);
    context.setLineDash(dash);
    context.beginPath();
    values.forEach((v, t) => context[t ? "lineTo" : "moveTo"](x(t), y(v)));
    context.stroke();
  }
  context.restore();
  context.strokeStyle = color("text");
  context.beginPath();
  context.moveTo(x(frame), 2);
  context.lineTo(x(frame), bottom);
  context.stroke();
}

function describe() {
  const step = run.step[frame], update = run.update[frame];
  const of = run.k > 1 ? ` ${update} of ${run.k}` : "";
  $("when").textContent = !step ? "Before the first iteration" : `Iteration ${step}: after ${update ? `D's update${of}` : "G's update"}`;
  document.querySelectorAll("[data-update]").forEach(line =>
    line.classList.toggle("now", step > 0 && line.dataset.update === (update ? "D" : "G")));
  $("low").textContent = (run.probability ? "" : "low ") + number(run.low[frame]);
  $("high").textContent = (run.probability ? "" : "high ") + number(run.high[frame]);
  $("modes").textContent = `${run.modes[frame]} of ${game.modes}`;
  $("good").textContent = `${Math.round(100 * run.good[frame])} %`;
  $("spread").textContent = `${Math.round(100 * run.spread[frame])} % of the data's`;
  $("pull").textContent = number(run.pull[frame]);
}

let asked = false;
function redraw() {
  if (asked || !run) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    drawPlane();
    drawLosses();
    describe();
  });
}

function go(to) {
  frame = Math.max(0, Math.min(run.step.length - 1, to));
  $("scrubber").value = frame;
  $("scrubber").setAttribute("aria-valuetext", `iteration ${run.step[frame]}`);
  redraw();
}

function play(on) {
  playing = on;
  $("play").textContent = on ? "Pause" : "Play";
  if (!on) return;
  if (frame === run.step.length - 1) go(0);
  due = performance.now() + 1000 / $("speed").value;
  requestAnimationFrame(tick);
}

function tick(now) {
  if (!playing) return;
  if (now >= due) {
    due = Math.max(due + 1000 / $("speed").value, now);
    go(frame + 1);
    if (frame === run.step.length - 1) return play(false);
  }
  requestAnimationFrame(tick);
}

async function open(index) {
  play(false);
  const chosen = game.recordings[index], same = run && {step: run.step[frame], update: run.update[frame]};
  chosen.layers ??= await unpack(chosen);
  run = chosen;
  [...$("tabs").children].forEach((tab, i) => {
    tab.setAttribute("aria-selected", i === index);
    tab.tabIndex = i === index ? 0 : -1;
  });
  for (const [id, content] of [["objective-d", run.objective_d], ["objective-g", run.objective_g], ["notes", run.notes]])
    $(id).innerHTML = content;
  $("caption").textContent = run.caption;
  $("k").textContent = `for ${run.k} step${run.k > 1 ? "s" : ""} (k)`;
  $("map-label").textContent = run.probability ? "D(x), blue: fake, orange: real" : "D(x), blue: low, orange: high";
  $("scrubber").max = run.step.length - 1;
  // the same moment of the other run, or its end
  const at = same ? run.step.findIndex((step, t) => step > same.step || (step === same.step && run.update[t] === same.update)) : 0;
  go(at < 0 ? run.step.length - 1 : at);
}

const data = Uint8Array.from(atob(game.data), c => c.charCodeAt(0));
game.recordings.forEach((recording, i) => {
  const tab = document.createElement("button");
  tab.setAttribute("role", "tab");
  tab.setAttribute("aria-controls", "game");
  tab.textContent = recording.name;
  tab.addEventListener("click", () => open(i));
  $("tabs").append(tab);
});
$("tabs").addEventListener("keydown", event => {
  const tabs = [...$("tabs").children], by = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
  if (!by) return;
  event.preventDefault();
  event.stopPropagation();
  const next = (tabs.indexOf(document.activeElement) + by + tabs.length) % tabs.length;
  tabs[next].focus();
  open(next);
});
document.addEventListener("keydown", event => {
  if (!run || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const size = event.shiftKey ? 10 : 1;
  const to = {ArrowLeft: frame - size, ArrowRight: frame + size, Home: 0, End: run.step.length - 1}[event.key];
  if (to !== undefined) {
    play(false);
    go(to);
  } else if (event.key === " " && !["BUTTON", "INPUT"].includes(event.target.tagName)) play(!playing);
  else if (event.key === " " && event.target === $("scrubber")) play(!playing);
  else return;
  event.preventDefault();
});
$("scrubber").addEventListener("input", () => { play(false); go(+$("scrubber").value); });
$("play").addEventListener("click", () => play(!playing));
$("back").addEventListener("click", () => { play(false); go(frame - 1); });
$("forward").addEventListener("click", () => { play(false); go(frame + 1); });
$("layers").addEventListener("change", redraw);
$("losses").addEventListener("click", event => {
  const share = (event.offsetX - 48) / ($("losses").clientWidth - 56), to = share * when(run.step.length - 1);
  play(false);
  go(run.step.reduce((best, _, t) => Math.abs(when(t) - to) < Math.abs(when(best) - to) ? t : best, 0));
});
addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
open(0);

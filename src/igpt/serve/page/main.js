// The page: where pictures come from, what is asked for, and which models are asked.

import * as api from "./api.js";
import { Panel, rowsOf } from "./panel.js";

const find = (selector) => document.querySelector(selector);
const file = find("#file"), given = find("#given"), form = find("#settings");
const SEEDS = 2 ** 32;
const SCALE = 128; // pixels that an image takes about in the PNG
const NARROW = matchMedia("(max-width: 57.99rem)");
const STOPPED = new DOMException("Stopped by who looks at the page", "AbortError");
const WRONG = [413, 422]; // what the server answers to a picture that it will never take

const panels = new Map(); // of the chosen models, by name
let limits = null, picture = null, share = 0.5, work = new AbortController(), running = 0;

function say(text, { error = false } = {}) {
  find("#said").textContent = text;
  find("#said").classList.toggle("error", error);
}

const loaded = () => [...panels.values()].filter((panel) => panel.model);
const largest = () => Math.max(1, ...loaded().map((panel) => panel.size));

function settings() {
  return {
    share,
    samples: Number(find("#samples").value),
    temperature: Number(find("#temperature").value),
    topK: find("#top-k").value ? Number(find("#top-k").value) : null,
    passes: find("#passes").value ? Number(find("#passes").value) : null,
    seed: Number(find("#seed").value),
  };
}

// Says of a model what went wrong, or that it was stopped; nothing where the page ended it itself.
function tell(panel, error) {
  if (error instanceof api.Problem) panel.say(sentence(error.message), { error: true });
  else if (error.name !== "AbortError") throw error;
  else if (work.signal.reason === STOPPED) panel.say("Stopped.");
}

// Does something for each model, all at once, and says of each what went wrong.
async function forEach(some, act) {
  await Promise.all(some.map((panel) => act(panel).catch((error) => tell(panel, error))));
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

// Does what can be stopped; `anew` ends what is going on before.
async function working(act, { anew = true } = {}) {
  if (anew) work.abort();
  if (work.signal.aborted) work = new AbortController();
  running += 1;
  tellRunning();
  try {
    await act(work.signal);
  } finally {
    running -= 1;
    tellRunning();
  }
}

function tellRunning() {
  find("#stop").disabled = !running;
  find("#download").disabled = !!running || !loaded().some((panel) => panel.drawn.length);
}

function stop() {
  work.abort(STOPPED);
}

// Where the page is one column, what is drawn lies below what is asked.
function showPanels() {
  if (NARROW.matches) find("#panels").scrollIntoView();
}

// Has models draw; those that have not seen the picture see it first.
async function drawAll(signal, some = loaded()) {
  if (!panels.size) say("Choose a model.", { error: true });
  const valid = form.reportValidity();
  if (valid) showPanels();
  await forEach(some, async (panel) => {
    if (picture && !panel.tokens) await see(panel, signal);
    if (valid) await panel.draw(settings(), signal);
  });
}

// Has a model see the picture; one that cannot be taken is forgotten, which ends what goes on.
async function see(panel, signal) {
  try {
    await panel.see(picture, share, signal);
  } catch (error) {
    if (!WRONG.includes(error.status)) throw error;
    work.abort();
    picture = null;
    for (const one of loaded()) one.clear();
    tellGiven();
    say(sentence(error.message), { error: true });
    throw work.signal.reason;
  }
}

function sayPicture() {
  say(picture ? picture.name || "A pasted picture" : "");
}

// Takes a picture from wherever it came.
async function take(chosen) {
  if (!chosen) return;
  if (limits && chosen.size > limits.max_upload) {
    say(`The file has ${mebibytes(chosen.size)} MiB, where at most ${mebibytes(limits.max_upload)} are taken; make it smaller.`, { error: true });
    return;
  }
  picture = chosen;
  sayPicture();
  await working(async (signal) => {
    for (const panel of loaded()) panel.clear();
    tellGiven();
    await drawAll(signal);
  });
}

const mebibytes = (bytes) => (bytes / 2 ** 20).toFixed(1);

function tellGiven() {
  const of = largest(), inRows = loaded().every((panel) => panel.size === of && panel.readsRows);
  const part = inRows ? `${given.value} of ${of} rows` : `${Math.round(100 * share)} %`;
  find("#given-said").textContent = picture ? part : "no picture yet, so nothing";
  given.disabled = !picture || !loaded().length;
  find("#passes-field").hidden = !loaded().some((panel) => panel.drawsAnywhere);
  for (const panel of loaded()) panel.showGiven(share);
}

// Says what depends on which models are there. The share that is given stays when sizes change.
function tellModels() {
  given.max = Math.max(1, largest() - 1);
  given.value = rowsOf(share, largest());
  tellGiven();
  tellRunning();
}

async function choose(name, chosen) {
  if (!chosen) {
    panels.get(name).leave();
    panels.delete(name);
    tellModels();
    return;
  }
  const panel = new Panel(name, find("#panel"));
  panels.set(name, panel);
  find("#panels").append(panel.element);
  sayPicture();
  await forEach([panel], async () => {
    await panel.load();
    tellModels();
    if (picture) await working((signal) => drawAll(signal, [panel]), { anew: false });
  });
}

function addModel({ name }, index) {
  const label = document.createElement("label");
  const box = document.createElement("input");
  label.className = "model";
  box.type = "checkbox";
  box.checked = index === 0;
  label.append(box, name);
  box.addEventListener("change", () => choose(name, box.checked));
  find("#models").append(label);
  if (box.checked) choose(name, true);
}

// All images as one: of each model a row, what was given, the completions, the picture.
function grid() {
  const gap = 4, height = SCALE + gap;
  const some = loaded().filter((panel) => panel.drawn.length);
  const rows = some.map((panel) => [
    ...(panel.tokens ? [panel.part(".view")] : []), ...panel.drawn,
  ]);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(...rows.map((row) => row.length)) * height - gap;
  canvas.height = rows.length * height - gap;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  rows.forEach((row, number) => row.forEach((image, column) =>
    context.drawImage(image, column * height, number * height, SCALE, SCALE)));
  return canvas;
}

function download() {
  grid().toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `completions-${find("#seed").value}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }, "image/png");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  working(drawAll);
});
find("#stop").addEventListener("click", stop);
find("#download").addEventListener("click", download);
find("#another").addEventListener("click", () => {
  find("#seed").value = Math.floor(Math.random() * SEEDS);
  working(drawAll);
});
file.addEventListener("change", () => take(file.files[0]).then(() => { file.value = ""; }));
given.addEventListener("input", () => {
  share = Number(given.value) / largest();
  for (const panel of loaded()) panel.give(share);
  tellGiven();
});
find("#temperature").addEventListener("input", (event) => {
  find("#temperature-said").textContent = Number(event.target.value).toFixed(2);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});
document.addEventListener("paste", (event) => {
  const pasted = event.clipboardData.files[0];
  if (pasted) take(pasted);
  else if (event.target === document.body) say("What was pasted is no picture.", { error: true });
});
for (const [type, dropping] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", dropping);
    if (type === "drop") take(event.dataTransfer.files[0]);
  });
}

try {
  const answer = await api.served();
  limits = answer.limits;
  find("#version").textContent = answer.version;
  find("#samples").max = limits.max_samples;
  find("#samples").value = Math.min(find("#samples").value, limits.max_samples);
  answer.models.forEach(addModel);
  find("#models").hidden = answer.models.length < 2;
  tellGiven();
} catch (error) {
  say(sentence(error.message), { error: true });
}

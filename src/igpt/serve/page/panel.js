// One model: what it sees of the picture, what surprises it, what it expects, what it draws.

import * as api from "./api.js";
import { bars, heat, percent, probeCurve } from "./charts.js";

const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const KINDS = { autoregressive: "Autoregressive", masked: "BERT", diffusion: "Masked diffusion" };
const FADED = 80; // of 255: how much is seen of what the network is not given

export class Panel {
  #gone = new AbortController();

  constructor(name, template) {
    this.name = name;
    this.model = this.tokens = null;
    this.hidden = new Set(); // positions that a brush has hidden, for a network that draws any
    this.drawn = []; // the canvases of completions
    this.known = new Map(); // distributions by position
    this.element = template.content.cloneNode(true).firstElementChild;
    this.part = (selector) => this.element.querySelector(selector);
    this.part(".name").textContent = name;
    for (const canvas of [this.part(".view"), this.part(".heat")]) {
      canvas.addEventListener("pointermove", (event) => this.#pointed(canvas, event));
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId); // a stroke ends here, wherever it is let go
        this.#pointed(canvas, event);
      });
    }
    const view = this.part(".view");
    view.setAttribute("role", "application");
    view.setAttribute("aria-roledescription", "picture");
    view.addEventListener("keydown", (event) => this.#key(event));
    view.addEventListener("lostpointercapture", () => { this.hiding = null; });
  }

  say(text, { error = false } = {}) {
    const status = this.part(".status");
    status.textContent = text;
    status.classList.toggle("error", error);
  }

  // Ends what goes on, and takes the panel from the page.
  leave() {
    this.#gone.abort();
    this.element.remove();
  }

  // Loads the model; says meanwhile how long that has taken.
  async load() {
    const start = Date.now();
    const progress = this.part(".progress");
    const tell = () => {
      const seconds = Math.round((Date.now() - start) / 1000);
      this.part(".about").textContent = seconds < 2 ? "" : `${seconds} s so far`;
    };
    this.say("Loading the model: its weights are read into memory …");
    progress.removeAttribute("value");
    progress.hidden = false;
    const timer = setInterval(tell, 1000);
    try {
      this.model = await api.model(this.name, this.#gone.signal);
    } finally {
      clearInterval(timer);
      progress.hidden = true;
      this.part(".about").textContent = "";
    }
    const { network, parameters } = this.model;
    const size = network.image_size;
    this.part(".about").textContent = `${KINDS[this.model.learned_by]}, ${size}×${size} pixels, ` +
      `${network.colors} colors, ${network.layers} layers, ${short(parameters)} weights`;
    this.placeOf = new Array(size * size); // the pixel of each token
    this.model.reading.forEach((position, pixel) => { this.placeOf[position] = pixel; });
    this.say("Choose a picture, or press Draw: then it begins from nothing.");
    this.element.classList.toggle("brush", this.drawsAnywhere);
    this.part(".brush-said").hidden = !this.drawsAnywhere;
    api.probes(this.name).then((probes) => this.#showProbes(probes), () => {});
  }

  get drawsAnywhere() { return this.model.draws === "any region"; }

  get size() { return this.model.network.image_size; }

  get readsRows() { return this.model.network.order === "raster"; }

  // How many tokens are given, of a share of the picture.
  given(share) {
    return Math.min(rowsOf(share, this.size), this.size - 1) * this.size;
  }

  #isGiven(position) {
    if (this.hidden.size) return !this.hidden.has(position);
    return position < this.given(this.share);
  }

  // Reads the picture as the network does, and shows it.
  async see(file, share, signal) {
    signal = this.#untilGone(signal);
    this.share = share;
    this.clear();
    this.tokens = (await api.tokens(this.name, file, signal)).tokens;
    this.part(".seen").hidden = false;
    this.showGiven(share);
    this.cursor = null;
    if (!this.model.network.causal) return;
    const map = await api.surprise(this.name, { tokens: this.tokens }, signal);
    const image = new ImageData(this.size, this.size);
    map.nats.forEach((nats, position) =>
      this.#paint(image, position, heat(nats / map.chance_nats_per_pixel)));
    put(this.part(".heat"), image);
    this.part(".heat").setAttribute("role", "img");
    this.part(".heat").setAttribute("aria-label", `Surprise of each pixel, ${map.nats_per_pixel.toFixed(2)} nats on average`);
    this.part(".nats").textContent = map.nats_per_pixel.toFixed(2);
    for (const part of this.element.querySelectorAll(".chance")) part.textContent = map.chance_nats_per_pixel.toFixed(1);
    this.part(".surprise").hidden = false;
  }

  #untilGone(signal) {
    return AbortSignal.any([signal, this.#gone.signal]);
  }

  clear() {
    this.say("");
    this.tokens = null;
    this.hidden.clear();
    this.known.clear();
    this.drawn = [];
    this.part(".seen").hidden = this.part(".surprise").hidden = this.part(".drawn-title").hidden = true;
    this.part(".drawn").replaceChildren();
    this.part(".bars").replaceChildren();
    for (const cursor of this.element.querySelectorAll(".cursor")) cursor.hidden = true;
  }

  // Gives a share of the picture, and forgets what was painted over.
  give(share) {
    this.hidden.clear();
    this.showGiven(share);
  }

  showGiven(share) {
    this.share = share;
    if (!this.tokens) return;
    const view = this.part(".view");
    put(view, this.#image((position) => (this.#isGiven(position) ? 255 : FADED)));
    view.setAttribute("aria-label", `The picture in ${this.size} by ${this.size} pixels; arrow keys look at one`);
  }

  // Draws what is not given, and shows the pixels as they come.
  async draw(settings, signal) {
    signal = this.#untilGone(signal);
    this.showGiven(settings.share);
    const body = { samples: settings.samples, temperature: settings.temperature, top_k: settings.topK, seed: settings.seed };
    if (this.tokens) body.tokens = this.tokens;
    if (this.drawsAnywhere) body.passes = settings.passes;
    if (this.hidden.size) body.hidden = [...this.hidden];
    else body.given = this.tokens ? this.given(settings.share) : 0;
    this.#newCanvases(settings.samples);
    const wanted = settings.samples * (this.hidden.size || this.size ** 2 - body.given);
    const queues = this.drawn.map(() => []);
    const progress = this.part(".progress");
    progress.value = 0;
    let come = 0;
    this.say("Drawing …");
    const painting = this.#painting(queues, signal);
    try {
      for await (const event of api.completions(this.name, body, signal)) {
        if (event.event === "waiting") this.say(`Waiting for others to be drawn, ${event.ahead} before this …`);
        if (event.event === "failed") throw new api.Problem(event.detail);
        if (event.event === "drawn") {
          if (!come) this.say("Drawing …");
          progress.hidden = false; // not before: a drawing that this one ended hides it
          event.positions.forEach((position, index) => queues[event.sample].push([position, event.tokens[index]]));
          come += event.positions.length;
          progress.value = come / wanted;
        }
        if (event.event === "done") {
          await painting.whenEmpty();
          this.say(`Drawn in ${event.seconds < 0.1 ? "less than 0.1" : event.seconds.toFixed(1)} s.`);
        }
      }
    } finally {
      painting.stop();
      progress.hidden = true;
    }
  }

  #newCanvases(samples) {
    const image = this.#image((position) => (this.tokens && this.#isGiven(position) ? 255 : 0));
    this.drawn = Array.from({ length: samples }, (_, number) => {
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Completion ${number + 1} of ${samples}`);
      put(canvas, new ImageData(image.data.slice(), this.size));
      return canvas;
    });
    this.part(".drawn").replaceChildren(...this.drawn);
    this.part(".drawn-title").hidden = false;
    this.part(".drawn-title").textContent = this.tokens ? "Completions" : "From nothing";
  }

  // Paints what waits in the queues, a few pixels a frame, so that eyes can follow.
  #painting(queues, signal) {
    let running = true, empty = () => {};
    const pixel = new ImageData(1, 1);
    const frame = () => {
      if (!running || signal.aborted) return;
      queues.forEach((queue, sample) => {
        const take = STILL.matches || document.hidden ? queue.length : Math.ceil(queue.length / 24);
        const context = this.drawn[sample].getContext("2d");
        for (const [position, token] of queue.splice(0, take)) {
          pixel.data.set([...this.model.palette[token], 255]);
          const place = this.placeOf[position];
          context.putImageData(pixel, place % this.size, Math.floor(place / this.size));
        }
      });
      if (!queues.some((queue) => queue.length)) empty();
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    return {
      stop: () => { running = false; },
      whenEmpty: () => new Promise((resolve, reject) => {
        signal.throwIfAborted();
        signal.addEventListener("abort", () => reject(signal.reason));
        empty = resolve;
      }),
    };
  }

  #image(alphaOf) {
    const image = new ImageData(this.size, this.size);
    this.tokens?.forEach((token, position) => this.#paint(image, position, this.model.palette[token], alphaOf(position)));
    return image;
  }

  #paint(image, position, color, alpha = 255) {
    image.data.set([...color, alpha], 4 * this.placeOf[position]);
  }

  #pointed(canvas, event) {
    const box = canvas.getBoundingClientRect();
    const at = (share) => Math.min(Math.max(Math.floor(share * this.size), 0), this.size - 1);
    const column = at((event.clientX - box.left) / box.width);
    const row = at((event.clientY - box.top) / box.height);
    this.#lookAt(row * this.size + column);
    if (this.drawsAnywhere && event.buttons) {
      const position = this.model.reading[row * this.size + column];
      this.hiding ??= !this.hidden.has(position);
      this.#hide(position, this.hiding);
    }
  }

  #hide(position, hiding) {
    if (hiding) this.hidden.add(position);
    else this.hidden.delete(position);
    this.showGiven(this.share);
  }

  #key(event) {
    const size = this.size, at = this.cursor ?? 0;
    const row = Math.floor(at / size), column = at % size;
    const moved = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1], Home: [row, 0], End: [row, size - 1],
    }[event.key];
    if (moved) {
      const [newRow, newColumn] = moved.map((value) => Math.min(Math.max(value, 0), size - 1));
      event.preventDefault();
      this.#lookAt(newRow * size + newColumn);
    } else if (event.key === " " && this.drawsAnywhere) {
      const position = this.model.reading[at];
      event.preventDefault();
      this.#hide(position, !this.hidden.has(position));
    }
  }

  // Shows what the network expects at a pixel, once the pointer has rested there for a moment.
  #lookAt(pixel) {
    if (pixel === this.cursor || !this.tokens) return;
    this.cursor = pixel;
    const row = Math.floor(pixel / this.size), column = pixel % this.size;
    for (const cursor of this.element.querySelectorAll(".cursor")) {
      cursor.hidden = false;
      Object.assign(cursor.style, {
        left: `${(100 * column) / this.size}%`, top: `${(100 * row) / this.size}%`,
        width: `${100 / this.size}%`, height: `${100 / this.size}%`,
      });
    }
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.#expect(pixel, row, column), 50);
  }

  async #expect(pixel, row, column) {
    const position = this.model.reading[pixel], tokens = this.tokens;
    const said = this.part(".pixel");
    try {
      if (!this.known.has(position)) {
        this.known.set(position, await api.distribution(this.name, { tokens, position }));
      }
    } catch (error) {
      said.textContent = error.message;
      return;
    }
    if (pixel !== this.cursor || tokens !== this.tokens) return;
    const expected = this.known.get(position);
    said.textContent = `Row ${row + 1}, column ${column + 1}: the picture’s own color has ` +
      `${percent(expected.own.probability)}, ${expected.nats.toFixed(2)} nats.`;
    bars(this.part(".bars"), expected, this.model.palette);
  }

  #showProbes(probes) {
    const curve = probeCurve(probes);
    this.part(".probe").hidden = !curve;
    if (curve) this.part(".probe figure").replaceChildren(...curve);
  }
}

// How many rows a share of a picture is: of five, two are half, as elsewhere in igpt.
export const rowsOf = (share, size) => Math.ceil(share * size - 0.5);

function put(canvas, image) {
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function short(number) {
  return number < 1e6 ? `${Math.round(number / 1000)} thousand` : `${(number / 1e6).toFixed(1)} million`;
}

// Colors of surprise, bars of a distribution, and the curve of a run's probes.

const INFERNO = [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];

export function heat(share) {
  const at = Math.min(Math.max(share, 0), 1) * (INFERNO.length - 1);
  const low = Math.min(Math.floor(at), INFERNO.length - 2);
  return INFERNO[low].map((value, channel) =>
    Math.round(value + (at - low) * (INFERNO[low + 1][channel] - value)));
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  Object.assign(made, attributes);
  made.append(...children);
  return made;
};

export function bars(list, { likeliest, own }, palette) {
  const rows = likeliest.slice(0, 8);
  if (!rows.some(({ token }) => token === own.token)) rows[rows.length - 1] = own;
  const most = rows[0].probability;
  list.replaceChildren(...rows.map(({ token, probability }) => {
    const swatch = element("i", { className: "swatch" });
    swatch.style.background = `rgb(${palette[token]})`;
    const bar = element("i", { className: "bar" });
    bar.style.width = `${(100 * probability) / most}%`;
    return element("li", { className: token === own.token ? "own" : "" }, swatch,
      element("div", {}, bar), element("span", { textContent: percent(probability) }));
  }));
}

const WIDTH = 420, HEIGHT = 190, LEFT = 40, BOTTOM = 30, TOP = 10, RIGHT = 8;

const drawn = (name, attributes, text = "") => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
};

// Returns a figure's drawing and what it says in words, or null where nothing was probed.
export function probeCurve({ probe, untrained }) {
  if (!probe) return null;
  const raw = probe.raw_pixels?.test_accuracy;
  const rows = [...probe.layers].sort((a, b) => a.layer - b.layer);
  const others = [...(untrained?.layers ?? [])].sort((a, b) => a.layer - b.layer);
  const last = Math.max(...rows.map(({ layer }) => layer), 1);
  const highest = Math.max(...[...rows, ...others].map((row) => row.test_accuracy), raw ?? 0);
  const top = Math.max(0.1, Math.min(1, Math.ceil(highest * 11) / 10));
  const x = (layer) => LEFT + (layer / last) * (WIDTH - LEFT - RIGHT);
  const y = (accuracy) => HEIGHT - BOTTOM - (accuracy / top) * (HEIGHT - BOTTOM - TOP);
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  for (let share = 0; share <= top + 1e-9; share += top / 4) {
    svg.append(drawn("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(share), y2: y(share) }));
    svg.append(drawn("text", { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, `${Math.round(100 * share)} %`));
  }
  const every = Math.ceil(rows.length / 13);
  for (const { layer } of rows.filter((_, index) => index % every === 0)) {
    svg.append(drawn("text", { x: x(layer), y: HEIGHT - 12, "text-anchor": "middle" }, layer));
  }
  svg.append(drawn("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT, "text-anchor": "middle" }, "layer"));
  const path = (some) => some.map((row) => `${x(row.layer)},${y(row.test_accuracy)}`).join(" ");
  if (raw != null) {
    svg.append(drawn("line", { class: "raw", x1: LEFT, x2: WIDTH - RIGHT, y1: y(raw), y2: y(raw) }));
    svg.append(drawn("text", { class: "raw-said", x: WIDTH - RIGHT, y: y(raw) + (rows.at(-1).test_accuracy > raw ? 13 : -5), "text-anchor": "end" }, `raw pixels ${percent(raw)}`));
  }
  if (others.length) svg.append(drawn("polyline", { class: "line untrained", points: path(others) }));
  svg.append(drawn("polyline", { class: "line", points: path(rows) }));
  for (const row of rows) {
    const dot = drawn("circle", { class: "dot", cx: x(row.layer), cy: y(row.test_accuracy), r: 3.5 });
    dot.append(drawn("title", {}, `layer ${row.layer}: ${percent(row.test_accuracy)}`));
    svg.append(dot);
    if (row.layer === probe.best_layer) svg.append(drawn("circle", { class: "best", cx: x(row.layer), cy: y(row.test_accuracy), r: 7 }));
  }
  let said = `A linear classifier on layer ${probe.best_layer} is right for ${percent(probe.test_accuracy)} of the test images`;
  if (raw != null) said += `, on raw pixels for ${percent(raw)}`;
  if (untrained) said += `; dotted, the same network untrained, ${percent(untrained.test_accuracy)} at best`;
  svg.setAttribute("aria-label", `Accuracy by layer: ${rows.map((row) => `${row.layer}: ${percent(row.test_accuracy)}`).join(", ")}`);
  const caption = document.createElement("figcaption");
  caption.textContent = `${said}.`;
  return [svg, caption];
}

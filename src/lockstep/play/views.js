/* What the page shows of an answer: bars, agreement, strangeness, maps, kernels, pixels that speak for a class. */
"use strict";

const element = id => document.getElementById(id);

function made(tag, text = "", className = "") {
  const one = document.createElement(tag);
  if (text) one.textContent = text;
  if (className) one.className = className;
  return one;
}

// ---------------------------------------------------------------------------------------------------------- words

let DATA = null;

/** A text of the page in its language, its {names} filled in. */
function say(key, values = {}) {
  return DATA.words[key].replace(/\{(\w+)\}/g, (whole, name) => name in values ? String(values[name]) : whole);
}

/** A number with so many significant digits; very small ones as 2·10⁻⁵. */
function number(value, digits = 3) {
  if (value !== 0 && Math.abs(value) < 1e-4) {
    const [factor, power] = value.toExponential(Math.max(digits - 2, 0)).split("e");
    return `${localised(factor)}·10${[...power.replace("+", "")].map(sign => "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"["0123456789-".indexOf(sign)]).join("")}`;
  }
  return value.toLocaleString(DATA.language, {maximumSignificantDigits: digits}).replace("-", "−");
}

const localised = text => (DATA.language === "ru" ? text.replace(".", ",") : text).replace("-", "−");
const exactly = value => localised(String(value));
const percent = (share, decimals = 1) =>
  `${(100 * share).toLocaleString(DATA.language, {minimumFractionDigits: decimals, maximumFractionDigits: decimals})} %`;
const varies = key => new Set(DATA.runs.map(run => run[key])).size > 1;

/** A run by its network, backend and, where they vary, seed; by its folder where that names several. */
function nameOf(run, isShort = false) {
  const parts = one => [one.network, one.backend, ...(varies("seed") ? [say("seed", {n: one.seed})] : [])];
  const own = parts(run).join(" · ");
  if (DATA.runs.filter(one => parts(one).join(" · ") === own).length > 1) return run.name;
  return isShort && !varies("network") ? parts(run).slice(1).join(" · ") : own;
}

// --------------------------------------------------------------------------------------------------------- answers

/** The answers of all runs: a panel each, with a bar for every class. */
class Answers {
  constructor(place, runs) {
    this.panels = runs.map(run => {
      const panel = made("div", "", "run"), head = made("h3", nameOf(run, true)), answer = made("p", "", "answer");
      const list = made("ol", "", "bars"), rows = DATA.classes.map(name => {
        const row = made("li"), bar = made("span", "", "bar"), fill = made("i"), share = made("span", "", "share");
        bar.append(fill);
        row.append(made("span", name, "class"), bar, share);
        return {row, fill, share};
      });
      list.append(...rows.map(({row}) => row));
      panel.append(head, answer, list);
      place.append(panel);
      return {answer, rows};
    });
  }
  show(outputs, runs) {
    this.panels.forEach(({answer, rows}, place) => {
      const found = outputs && outputs[place], best = found ? argmax(found) : -1;
      answer.replaceChildren(...(found ? [made("b", DATA.classes[best]), made("span", sharesOf(runs[place], found[best]))] : [made("b", "–")]));
      rows.forEach(({row, fill, share}, label) => {
        const value = found ? found[label] : 0;
        fill.style.width = `${100 * Math.min(Math.max(value, 0), 1)}%`;
        share.textContent = found ? sharesOf(runs[place], value) : "";
        row.classList.toggle("best", label === best);
      });
    });
  }
}

const sharesOf = (run, value) => run.probabilities ? percent(value) : number(value, 3);

/** What a run says of each class: probabilities, or its outputs where it was trained on squared errors. */
const outputsOf = (run, values) => run.probabilities ? softmax(logitsOf(run, values)) : Array.from(logitsOf(run, values));

/** One sentence for each network with several runs: how far apart their answers are. */
function agreement(runs, outputs) {
  const told = [];
  for (const network of new Set(runs.map(run => run.network))) {
    const own = outputs.filter((_, place) => runs[place].network === network);
    if (own.length < 2) continue;
    let apart = 0;
    for (let label = 0; label < own[0].length; label++) {
      const values = own.map(found => found[label]);
      apart = Math.max(apart, Math.max(...values) - Math.min(...values));
    }
    const isOne = new Set(own.map(argmax)).size === 1;
    told.push(say(isOne ? "agree" : "differ", {network, n: own.length, apart: number(apart, 2)}));
  }
  return told.join(" ");
}

// --------------------------------------------------------------------------------------------------------- the pad

/** Paints what was drawn, or the picture, at the size of the pad. */
function paintPad(canvas, state, pen, frame, seen, bitmap) {
  const context = canvas.getContext("2d"), scale = canvas.width / PAD;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = frame.ground > 127 ? "#fff" : "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (state.test) {
    const small = document.createElement("canvas");
    drawPixels(small, state.test.pixels, frame.shape, 1);
    context.imageSmoothingEnabled = false;
    const [height, width] = frame.shape, zoom = canvas.width / sideOf(frame);
    context.drawImage(small, 0, 0, width * zoom, height * zoom);
  } else if (bitmap) {
    const zoom = Math.min(canvas.width / bitmap.width, canvas.height / bitmap.height);
    const [wide, high] = [bitmap.width * zoom, bitmap.height * zoom];
    context.drawImage(bitmap, (canvas.width - wide) / 2, (canvas.height - high) / 2, wide, high);
  }
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.strokeStyle = context.fillStyle = frame.ground > 127 ? "#000" : "#fff";
  context.lineWidth = pen;
  context.lineCap = context.lineJoin = "round";
  for (const points of state.strokes) {
    context.beginPath();
    context.moveTo(points[0].x, points[0].y);
    for (const {x, y} of points.length > 1 ? points : [points[0], points[0]]) context.lineTo(x, y);
    context.stroke();
  }
  if (seen.box && state.strokes.length && frame.is_boxed) {
    const {left, top, right, bottom} = seen.box;
    context.setLineDash([4, 4]);
    context.lineWidth = 1;
    context.strokeStyle = "#56b4e9";
    context.strokeRect(left, top, right - left, bottom - top);
    context.setLineDash([]);
  }
}

/** The steps from the drawing to what the network gets, as small pictures. */
function showSteps(seen, frame) {
  const zoom = Math.max(1, Math.floor(84 / sideOf(frame)));
  element("boxed").parentElement.hidden = !seen.before || !frame.is_boxed;
  if (seen.before && frame.is_boxed) {
    const canvas = element("boxed"), context = canvas.getContext("2d");
    drawPixels(canvas, inked(seen.before, frame), frame.shape, zoom);
    if (seen.mass && frame.centre === "mass") {
      const [y, x] = seen.mass.map(place => place * zoom);
      context.strokeStyle = "#d55e00";
      context.lineWidth = 2;
      context.beginPath();
      context.moveTo(x - 6, y); context.lineTo(x + 6, y); context.moveTo(x, y - 6); context.lineTo(x, y + 6);
      context.stroke();
    }
  }
  drawPixels(element("entered"), seen.pixels, frame.shape, zoom);
}

// ------------------------------------------------------------------------------------------------------- the layers

/** Every layer of one or two runs as pictures on which a value can be chosen. */
class Layers {
  constructor(place, choose) {
    this.place = place;
    this.choose = choose;
    this.rows = [];
    this.chosen = null;
  }
  /** Lays out anew for these runs; the second, where there is one, stands beside the first. */
  build(runs) {
    this.runs = runs;
    this.place.replaceChildren();
    const names = [...new Set(runs.flatMap(run => run.layers.map(layer => layer.name)))];
    const room = Math.max(120, Math.floor((this.place.clientWidth - 24 * (runs.length - 1)) / runs.length) - 2);
    if (runs.length > 1) {
      const heads = made("div", "", "layer");
      heads.append(...runs.map(run => made("h3", nameOf(run))));
      this.place.append(heads);
    }
    this.rows = names.map(name => {
      const row = made("div", "", "layer");
      const cells = runs.map((run, side) => {
        const layer = run.layers.find(one => one.name === name), cell = made("figure");
        if (!layer) return {cell};
        const head = made("figcaption"), output = made("output"), canvas = made("canvas", "", "values");
        const shape = layer.output.join(" × "), layout = layoutOf(layer.output, room);
        const isPart = !layout.isFlat && layer.output[2] > layout.maps;
        head.append(made("b", name), made("span", isPart ? say("first_maps", {shape, n: layout.maps}) : shape), output);
        canvas.tabIndex = 0;
        canvas.setAttribute("role", "application");
        canvas.setAttribute("aria-label", say("layer_label", {name, run: nameOf(run), shape}));
        const one = {cell, canvas, layer, layout, output, side, cursor: 0};
        this.listen(one);
        cell.append(head, canvas);
        return one;
      });
      row.append(...cells.map(({cell}) => cell));
      this.place.append(row);
      return {name, cells};
    });
  }
  listen(one) {
    const tell = index => { one.output.textContent = index < 0 || !one.values ? "" : this.told(one, index); };
    one.canvas.addEventListener("pointermove", event => tell(indexAt(one.layout, ...within(one.canvas, event))));
    one.canvas.addEventListener("pointerleave", () => tell(-1));
    one.canvas.addEventListener("click", event => {
      const index = indexAt(one.layout, ...within(one.canvas, event));
      if (index >= 0) this.choose(one.side, one.layer.name, index);
    });
    one.canvas.addEventListener("keydown", event => {
      const {layout} = one, map = layout.isFlat ? 1 : layout.channels, row = layout.columns * map;
      const step = {ArrowLeft: -map, ArrowRight: map, ArrowUp: -row, ArrowDown: row, PageUp: -1, PageDown: 1}[event.key];
      if (step) one.cursor = Math.min(Math.max(one.cursor + step, 0), layout.n - 1);
      else if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      tell(one.cursor);
      this.choose(one.side, one.layer.name, one.cursor);
    });
  }
  told(one, index) {
    return `${placeWords(one.layer.output, index)}: ${number(one.values[index], 5)}`;
  }
  /** Takes what was computed, and draws what stands in the window: the rest is drawn when it comes into view. */
  show(values) {
    for (const {name, cells} of this.rows) {
      for (const one of cells) {
        if (!one.canvas) continue;
        one.values = values[one.side].get(name);
        one.isDrawn = false;
      }
    }
    this.draw();
  }
  draw() {
    for (const {name, cells} of this.rows) {
      for (const one of cells) {
        if (!one.canvas || one.isDrawn || !isInView(one.cell)) continue;
        one.isDrawn = true;
        const isChosen = this.chosen && this.chosen.side === one.side && this.chosen.name === name;
        drawValues(one.canvas, one.values, one.layout, isChosen ? this.chosen.index : -1);
      }
    }
  }
}

/** Whether any of an element stands in the window, or close below it. */
function isInView(one) {
  const box = one.getBoundingClientRect();
  return box.top < innerHeight + 200 && box.bottom > -200;
}

/** Where a value stands, in words. */
function placeWords(shape, index) {
  if (shape.length === 1) return say("unit", {n: index});
  const [row, column, map] = placeOf(shape, index);
  return say("place", {row, column, map});
}

/** The kernels of a run's first layer that has any, as maps (height, width, filters), the mean over its channels. */
function kernelsOf(run, weights = null) {
  const layer = run.layers.find(one => one.weights.kernel);
  if (!layer) return null;
  const kernel = weights || layer.weights.kernel;
  if (layer.kind === "conv2d") return averaged(kernel, layer.window, layer.input[2], layer.output[2]);
  const [height, width, channels] = run.shape, units = layer.output[0], flat = run.layers.find(one => one.kind === "flatten");
  if (!flat || sizeOf(layer.input) !== height * width * channels || flat.output[0] !== layer.input[0]) return null;
  const turned = new Float64Array(kernel.length);
  for (let index = 0; index < layer.input[0]; index++) {
    const at = flattened(flat, index);
    for (let unit = 0; unit < units; unit++) turned[at * units + unit] = kernel[index * units + unit];
  }
  return averaged(turned, [height, width], channels, units);
}

function averaged(kernel, [high, wide], channels, filters) {
  const values = new Float64Array(high * wide * filters);
  for (let place = 0; place < high * wide; place++) {
    for (let channel = 0; channel < channels; channel++) {
      for (let f = 0; f < filters; f++) values[place * filters + f] += kernel[(place * channels + channel) * filters + f] / channels;
    }
  }
  return {values, shape: [high, wide, filters]};
}

/** A map of one number a pixel, blue for the class and orange against it. */
function showSpeaking(canvas, values, frame) {
  const zoom = Math.max(2, Math.floor(168 / sideOf(frame))), [height, width] = frame.shape;
  drawValues(canvas, values, {
    isFlat: false, maps: 1, rows: height, columns: width, zoom, across: 1, n: height * width, channels: 1, gap: 0,
  });
}

/* The page: what is drawn goes through every network at each change, and what is asked for is shown. */
"use strict";

const MOST_FILE = 20 * 2 ** 20, MOST_SIDE = 560, PAUSE = 250;

class Page {
  constructor(data, runs, tests) {
    this.frame = data.frame;
    this.runs = runs;
    this.tests = tests;
    this.drawing = new Drawing();
    this.pen = Math.round(data.frame.pen / sideOf(data.frame) * PAD);
    this.ownPen = this.pen;
    this.nextTest = 0;
    this.cursor = -1;
    this.field = null;
    this.main = 0;
    this.other = -1;
    this.near = new Map();
    this.answers = new Answers(element("runs"), runs);
    this.layers = new Layers(element("maps"), (side, name, index) => this.choose(side, name, index));
    this.choosers();
    this.tools();
    this.pad();
    this.grid();
    this.files();
    this.layers.build(this.looked);
    addEventListener("scroll", () => { this.layers.draw(); if (!this.isFilmShown) this.showFilm(); }, {passive: true});
    addEventListener("resize", () => { this.layers.build(this.looked); this.show(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.show());
    this.show();
  }
  /** The runs that are looked into: one, or two beside each other. */
  get looked() {
    return this.other < 0 ? [this.runs[this.main]] : [this.runs[this.main], this.runs[this.other]];
  }

  // ---- what is shown

  /** At most once a frame, whatever happens in between. */
  show() {
    if (this.isWaiting) return;
    this.isWaiting = true;
    requestAnimationFrame(() => { this.isWaiting = false; this.showNow(); });
  }
  showNow() {
    const state = this.drawing.now, seen = seenOf(state, this.pen, this.frame), start = performance.now();
    this.seen = seen;
    this.isBlank = state === EMPTY || !seen.pixels.some(value => value !== this.frame.ground);
    this.values = this.runs.map(run => forward(run, seen.pixels));
    this.outputs = this.runs.map((run, place) => outputsOf(run, this.values[place]));
    this.milliseconds = performance.now() - start;
    paintPad(element("pad"), state, this.pen, this.frame, seen, state.picture && state.picture.bitmap);
    showSteps(seen, this.frame);
    this.showGrid();
    this.answers.show(this.isBlank ? null : this.outputs, this.runs);
    element("agree").textContent = this.isBlank ? "" : agreement(this.runs, this.outputs);
    element("source").textContent = this.source(state, seen);
    this.layers.show([this.values[this.main], this.values[this.other]]);
    if (this.layers.chosen) this.arithmetic();
    this.isFilmShown = false;
    this.showFilm();
    this.showStrangeness();
    clearTimeout(this.later);
    this.later = setTimeout(() => this.showSpeaking(), PAUSE);
    element("undo").disabled = !this.drawing.canUndo;
    document.documentElement.dataset.shown = String(Number(document.documentElement.dataset.shown || 0) + 1);
  }
  showGrid() {
    const canvas = element("grid"), zoom = Math.max(2, Math.floor(280 / sideOf(this.frame)));
    drawPixels(canvas, this.seen.pixels, this.frame.shape, zoom, this.field, this.cursor);
  }
  source(state, seen) {
    if (state.test) return say("test_picture", {n: state.test.n, name: DATA.classes[state.test.label]});
    if (state.picture && seen.isUntouched) return say("picture_untouched");
    if (state.picture) return say(!this.frame.is_boxed ? "picture_scaled" : seen.isInverted ? "picture_inverted" : "picture_boxed");
    if (this.isBlank) return say("invitation");
    return say(!this.frame.is_boxed ? "drawn_whole" : this.frame.centre === "mass" ? "drawn_by_mass" : "drawn_by_box");
  }
  async showStrangeness() {
    const place = element("strange"), scale = DATA.scales && DATA.scales[this.main];
    place.className = "";
    const plain = plainly(this.seen.cover, this.frame.shape, this.frame, DATA.areDigits);
    if (plain) {
      place.textContent = plain === "blank" ? "" : say(plain);
      place.className = plain === "blank" ? "" : "warn";
      return;
    }
    if (!scale || this.isBlank) {
      place.textContent = "";
      return;
    }
    const run = this.runs[this.main], near = this.near.get(run);
    if (!near) {
      place.textContent = say("strangeness_comes");
      return;
    }
    const {share, shares} = strangeness(scale, scoresOf(run, this.values[this.main], this.seen.pixels, near));
    const isStrange = share > 1 - scale.refused;
    place.textContent = say(isStrange ? "strange" : "common", {share: percent(Math.min(share, 1 - 0.5 / scale.n)), run: nameOf(run)});
    place.className = isStrange ? "warn" : "";
    this.shares = {share, ...shares};
    for (const [name, value] of Object.entries(this.shares)) {
      const cell = document.querySelector(`[data-share="${name}"]`);
      if (cell) cell.textContent = percent(value);
    }
  }
  showSpeaking() {
    const run = this.runs[this.main], label = Number(element("class").value);
    element("speaking").hidden = this.isBlank;
    element("speaking-none").hidden = !this.isBlank;
    if (this.isBlank) return;
    const channels = this.frame.shape[2], slopes = gradient(run, this.values[this.main], label);
    const summed = Float64Array.from({length: slopes.length / channels}, (_, pixel) => {
      let sum = 0;
      for (let channel = 0; channel < channels; channel++) sum += slopes[pixel * channels + channel];
      return sum;
    });
    showSpeaking(element("gradient"), summed, this.frame);
    let side = Math.max(2, Math.round(sideOf(this.frame) / 7));
    const each = Math.max(this.milliseconds / this.runs.length, 0.01);
    while ((sideOf(this.frame) / (side / 2)) ** 2 * each > 1500 && side < sideOf(this.frame) / 2) side++;
    showSpeaking(element("occlusion"), occlusion(run, this.seen.pixels, label, this.frame.ground, side), this.frame);
    element("speaking-text").textContent = say("speaking_text", {name: DATA.classes[label], side, run: nameOf(run)});
  }
  followAnswer() {
    if (!this.ownClass && !this.isBlank) element("class").value = String(argmax(this.outputs[this.main]));
  }

  // ---- looking into layers

  choosers() {
    const options = () => this.runs.map((run, place) => new Option(nameOf(run), String(place)));
    element("main-run").append(...options());
    element("other-run").append(new Option(say("nobody"), "-1"), ...options());
    element("class").append(...DATA.classes.map((name, label) => new Option(name, String(label))));
    for (const [id, key] of [["main-run", "main"], ["other-run", "other"]]) {
      element(id).addEventListener("change", event => {
        this[key] = Number(event.target.value);
        this.layers.chosen = null;
        this.field = null;
        element("sum").replaceChildren(made("p", say("choose_value"), "note"));
        this.layers.build(this.looked);
        this.showScale();
        this.prepare();
        this.show();
      });
    }
    element("class").addEventListener("change", () => this.showSpeaking());
    this.showScale();
  }
  choose(side, name, index) {
    this.layers.chosen = {side, name, index};
    this.field = receptiveField(this.looked[side], name, index);
    this.layers.show([this.values[this.main], this.values[this.other]]);
    this.showGrid();
    this.arithmetic();
  }
  arithmetic() {
    const {side, name, index} = this.layers.chosen, place = side ? this.other : this.main;
    showArithmetic(element("sum"), this.runs[place], this.values[place], name, index);
    const height = this.frame.shape[0] * this.frame.shape[1];
    element("sum").append(made("p", say("field", {n: this.field.size, all: height}), "note"));
  }
  showScale() {
    const scale = DATA.scales && DATA.scales[this.main];
    for (const cell of document.querySelectorAll("[data-caught]")) {
      const value = scale && scale.caught[cell.dataset.caught];
      cell.textContent = value === undefined || value === null ? say("not_here") : percent(value, 0);
    }
  }
  /** What a run makes of the neighbours, worked out a few at a time while nothing else is to be done. */
  prepare() {
    const run = this.runs[this.main];
    if (!DATA.scales || this.near.has(run)) return;
    const found = {pixels: [], hidden: [], direction: []}, size = sizeOf(run.shape), n = this.neighbours.length / size;
    const some = start => {
      const pictures = [], until = performance.now() + 12;
      for (; start < n && performance.now() < until; start++) {
        pictures.length = 0;
        pictures.push(this.neighbours.subarray(start * size, (start + 1) * size));
        const more = neighbourhood(run, pictures);
        for (const key of Object.keys(found)) found[key].push(...more[key]);
      }
      if (start < n) setTimeout(some, 0, start);
      else { this.near.set(run, found); this.show(); }
    };
    setTimeout(some, 0, 0);
  }

  // ---- tools

  tools() {
    const on = (id, act) => element(id).addEventListener("click", () => { act(); this.field = null; this.show(); });
    on("undo", () => this.drawing.undo());
    on("clear", () => this.drawing.clear());
    on("next", () => this.showTest(this.nextTest));
    element("pen").value = String(this.pen);
    element("pen").addEventListener("input", event => { this.pen = Number(event.target.value); this.show(); });
    addEventListener("keydown", event => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
        event.preventDefault();
        this.drawing.undo();
        this.show();
      }
    });
  }
  showTest(place) {
    this.nextTest = (place + 1) % this.tests.length;
    this.drawing.change({...EMPTY, test: this.tests[place]});
  }

  // ---- drawing

  pad() {
    const canvas = element("pad"), [height, width] = this.frame.shape, side = Math.max(height, width);
    canvas.width = PAD * 2 * width / side;
    canvas.height = PAD * 2 * height / side;
    const pointOf = event => { const [x, y] = within(canvas, event); return {x: x / 2, y: y / 2}; };
    let pointer = null;
    canvas.addEventListener("pointerdown", event => {
      if (pointer !== null || event.button > 0) return;
      event.preventDefault();
      pointer = event.pointerId;
      canvas.setPointerCapture(pointer);
      this.field = null;
      this.drawing.begin(pointOf(event));
      this.show();
    });
    canvas.addEventListener("pointermove", event => {
      if (event.pointerId !== pointer) return;
      const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
      this.drawing.extend((events.length ? events : [event]).map(pointOf));
      this.show();
    });
    const end = event => { if (event.pointerId === pointer) { pointer = null; this.followSoon(); } };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
  }
  followSoon() {
    requestAnimationFrame(() => requestAnimationFrame(() => { this.followAnswer(); this.showSpeaking(); }));
  }
  /** The keyboard's grid: arrows move, space inks or clears a pixel. */
  grid() {
    const canvas = element("grid"), [height, width] = this.frame.shape;
    canvas.addEventListener("focus", () => { this.cursor = Math.max(this.cursor, Math.floor(height / 2) * width + Math.floor(width / 2)); this.showGrid(); });
    canvas.addEventListener("blur", () => { this.showGrid(); });
    canvas.addEventListener("keydown", event => {
      const row = Math.floor(this.cursor / width), column = this.cursor % width;
      const [down, across] = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key] || [0, 0];
      if (down || across) {
        this.cursor = Math.min(Math.max(row + down, 0), height - 1) * width + Math.min(Math.max(column + across, 0), width - 1);
        if (event.shiftKey) this.drawing.edit(this.cursor, this.frame.ink);
      } else if (event.key === " " || event.key === "Enter") this.toggle(this.cursor);
      else return;
      event.preventDefault();
      this.field = null;
      const at = `${Math.floor(this.cursor / width)}, ${this.cursor % width}`;
      element("grid-told").textContent = say("cell", {at, value: this.valueAt(this.cursor)});
      this.show();
    });
    canvas.addEventListener("click", event => {
      const [x, y] = within(canvas, event), zoom = canvas.width / width;
      this.cursor = Math.min(Math.floor(y / zoom), height - 1) * width + Math.min(Math.floor(x / zoom), width - 1);
      this.toggle(this.cursor);
      this.field = null;
      this.show();
    });
  }
  toggle(pixel) {
    const isInk = Math.abs(this.valueAt(pixel) - this.frame.ink) < 128;
    this.drawing.edit(pixel, isInk ? this.frame.ground : this.frame.ink);
  }
  valueAt(pixel) {
    const edited = this.drawing.now.edits.get(pixel);
    return edited === undefined ? this.seen.pixels[pixel * this.frame.shape[2]] : edited;
  }

  // ---- pictures from outside

  files() {
    element("file").addEventListener("change", event => { this.take(event.target.files[0]); event.target.value = ""; });
    addEventListener("paste", event => {
      const file = [...event.clipboardData.files][0];
      if (file) this.take(file);
    });
    addEventListener("dragover", event => { event.preventDefault(); document.body.classList.add("dropping"); });
    addEventListener("dragleave", event => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
    addEventListener("drop", event => {
      event.preventDefault();
      document.body.classList.remove("dropping");
      const file = event.dataTransfer.files[0];
      if (file) this.take(file);
      else this.complain(say("no_file"));
    });
  }
  /** A file as a picture on the pad; what is no picture, or too large, leaves the drawing as it was. */
  async take(file) {
    if (!file) return;
    if (file.size > MOST_FILE) {
      this.complain(say("file_too_large", {name: file.name, size: number(file.size / 2 ** 20), most: MOST_FILE / 2 ** 20}));
      return;
    }
    try {
      this.complain("");
      const whole = await createImageBitmap(file), shrink = Math.min(1, MOST_SIDE / Math.max(whole.width, whole.height));
      const canvas = document.createElement("canvas");
      canvas.width = Math.max(1, Math.round(whole.width * shrink));
      canvas.height = Math.max(1, Math.round(whole.height * shrink));
      const context = canvas.getContext("2d", {willReadFrequently: true});
      context.imageSmoothingQuality = "high";
      context.drawImage(whole, 0, 0, canvas.width, canvas.height);
      const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
      this.drawing.change({...EMPTY, picture: {rgba: data, width: canvas.width, height: canvas.height, bitmap: canvas}});
      this.field = null;
      this.show();
      this.followSoon();
    } catch (error) {
      this.complain(say("no_picture", {name: file.name}));
    }
  }
  complain(text) {
    element("complaint").textContent = text;
  }

  // ---- the film

  showFilm() {
    const film = DATA.film;
    if (!film || !this.film || !isInView(element("film"))) return;
    this.isFilmShown = true;
    const place = Number(element("epoch").value), run = this.film.networks[place];
    element("epoch-told").textContent = say("after_epoch", {n: film.epochs[place], all: film.epochs[film.epochs.length - 1]});
    const kernels = kernelsOf(run);
    if (kernels) drawValues(element("film-kernels"), kernels.values, layoutOf(kernels.shape, element("film-kernels").parentElement.clientWidth));
    this.film.answers.show(this.isBlank ? null : [outputsOf(run, forward(run, this.seen.pixels))], [run]);
  }
}

// ------------------------------------------------------------------------------------------------------ opening

/** A run with its numbers, ready for `forward`. */
function network(run, numbers) {
  const made = {...run, layers: run.layers.map(layer => ({...layer, weights: {}}))};
  let start = 0;
  for (const [name, shape] of run.parameters) {
    const cut = name.lastIndexOf("/"), n = sizeOf(shape), layer = made.layers.find(one => one.name === name.slice(0, cut));
    layer.weights[name.slice(cut + 1)] = Float64Array.from(numbers.subarray(start, start + n));
    start += n;
  }
  if (start !== numbers.length) throw new Error(`${run.name}: ${numbers.length} numbers, not ${start}`);
  return made;
}

const pictureAt = (images, n, size) => images.subarray(n * size, (n + 1) * size);

/** Compute every example in every run, a picture at a time, and say how many of them are the judge's. */
function proveItself(runs, images, size) {
  const place = element("proof"), n = images.length / size;
  let right = 0, wrong = null;
  const one = at => {
    if (at === n) {
      place.textContent = wrong ? say("changed", {right, n, what: wrong}) : say("proven", {right, n, runs: runs.length});
      place.className = wrong ? "bad" : "good";
      document.documentElement.dataset.proof = wrong ? "changed" : "proven";
      return;
    }
    const found = runs.map(run => [run, firstWrong(run, pictureAt(images, at, size), run.examples[at])]).find(([, name]) => name);
    if (found) wrong = wrong || say("layer_of", {layer: found[1], run: nameOf(found[0])});
    else right++;
    place.textContent = say("proving", {at: at + 1, n});
    setTimeout(one, 0, at + 1);
  };
  setTimeout(one, 0, 0);
}

function broken(text) {
  const place = element("proof");
  place.textContent = text;
  place.className = "bad";
  document.documentElement.dataset.proof = "changed";
}

async function open() {
  const said = element("proof").dataset;
  if (!window.DecompressionStream || !document.createElement("canvas").getContext("2d")) return broken(said.browser);
  let page;
  try {
    DATA = JSON.parse(element("data").textContent);
    const size = sizeOf(DATA.frame.shape), samples = await unpacked(DATA.samples.images);
    const runs = await Promise.all(DATA.runs.map(async run => network(run, await unpacked(run.numbers))));
    const pictures = (images, labels, from) => labels.map((label, at) => ({pixels: pictureAt(images, at, size), label, n: from + at}));
    const tests = pictures(samples, DATA.samples.labels, 0);
    if (DATA.tests) tests.push(...pictures(await unpacked(DATA.tests.images), DATA.tests.labels, DATA.tests.from));
    document.documentElement.classList.add("plays");
    page = window.page = new Page(DATA, runs, tests);
    proveItself(runs, samples, size);
    if (DATA.scales) page.neighbours = (await unpacked(DATA.neighbours)).map(value => value * 17);
    if (DATA.film) await openFilm(page, runs[DATA.film.run]);
    page.prepare();
  } catch (error) {
    broken(`${said.damaged} (${error.message})`);
  }
}

async function openFilm(page, run) {
  const numbers = await unpacked(DATA.film.numbers), n = numbers.length / DATA.film.epochs.length;
  const networks = DATA.film.epochs.map((_, place) => network(run, numbers.subarray(place * n, (place + 1) * n)));
  page.film = {networks, answers: new Answers(element("film-answers"), [run])};
  const slider = element("epoch");
  slider.max = String(networks.length - 1);
  slider.value = slider.max;
  slider.addEventListener("input", () => page.showFilm());
  page.show();
}

open();

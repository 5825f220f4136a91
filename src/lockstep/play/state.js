/* What is on the pad: strokes, a dropped picture or a test picture, single pixels set by hand, and the way back.

   A state is never changed: each change makes a new one, so undo is a list of them. */
"use strict";

const EMPTY = {strokes: [], picture: null, test: null, edits: new Map()};
const MOST_STATES = 200;

class Drawing {
  constructor() {
    this.states = [EMPTY];
  }
  get now() {
    return this.states[this.states.length - 1];
  }
  get canUndo() {
    return this.states.length > 1;
  }
  undo() {
    if (this.canUndo) this.states.pop();
  }
  change(part) {
    this.states.push({...this.now, ...part});
    if (this.states.length > MOST_STATES) this.states.splice(1, 1);
  }
  /** A new stroke begins; one that is drawn over a picture begins a drawing of its own. */
  begin(point) {
    const under = this.now.picture || this.now.test ? EMPTY : this.now;
    this.states.push({...under, strokes: [...under.strokes, [point]]});
  }
  /** The stroke goes on: the last state grows, since undo takes a whole stroke back. */
  extend(points) {
    const strokes = this.now.strokes, last = strokes[strokes.length - 1];
    this.states[this.states.length - 1] = {...this.now, strokes: [...strokes.slice(0, -1), [...last, ...points]]};
  }
  clear() {
    if (this.now !== EMPTY) this.states.push(EMPTY);
  }
  edit(pixel, value) {
    this.change({edits: new Map(this.now.edits).set(pixel, value)});
  }
}

/** What the networks get of a state, with every step there: see `drawn` and `pictured`. */
function seenOf(state, pen, frame) {
  const found = state.test ? untouched(state.test.pixels, frame)
    : state.picture ? pictured(state.picture.rgba, state.picture.width, state.picture.height, frame)
    : drawn(state.strokes, pen, frame);
  const pixels = found.pixels ? found.pixels.slice() : inked(found.cover, frame), channels = frame.shape[2];
  for (const [pixel, value] of state.edits) pixels.fill(value, pixel * channels, (pixel + 1) * channels);
  return {...found, pixels, cover: coverOf(pixels, frame)};
}

function untouched(pixels, frame) {
  const cover = coverOf(pixels, frame);
  return {before: cover, cover, mass: null, box: null, pixels, isUntouched: true, isInverted: false};
}

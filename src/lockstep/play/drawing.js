/* From what was drawn, or a picture that was dropped, to the pixels of a network: boxed, averaged to grey, centred.

   Strokes stay vectors and are painted anew at every change, so a small drawing has lines as wide as a large one. Points
   are {x, y} in units of the pad, 280 a side. What the frame says is measured on the dataset: see framing.py, and
   painting.py, which does the same in NumPy. */
"use strict";

const PAD = 280, FINE = 4;

const sideOf = frame => Math.max(frame.shape[0], frame.shape[1]);

/** The smallest box around points: {left, top, right, bottom}. */
function boxOf(points) {
  const box = {left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity};
  for (const {x, y} of points) {
    [box.left, box.right] = [Math.min(box.left, x), Math.max(box.right, x)];
    [box.top, box.bottom] = [Math.min(box.top, y), Math.max(box.bottom, y)];
  }
  return box;
}

/** {before: the ink of each pixel as boxed, mass: its centre, cover: the ink as centred, box: in units of the pad}. */
function drawn(strokes, pen, frame) {
  const points = strokes.flat(), width = pen / PAD * sideOf(frame);
  if (!points.length) {
    const nothing = new Float64Array(frame.shape[0] * frame.shape[1]);
    return {before: nothing, cover: nothing, mass: null, box: null};
  }
  const box = boxOf(points);
  if (!frame.is_boxed) {
    const scale = sideOf(frame) / PAD;
    const cover = inkOf(moved(strokes, ({x, y}) => ({x: x * scale, y: y * scale})), width, frame);
    return {before: cover, cover, mass: null, box};
  }
  const extent = Math.max(box.right - box.left, box.bottom - box.top);
  const scale = extent < pen ? sideOf(frame) / PAD : (frame.box - width) / extent;
  const middle = {x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2}, [row, column] = frame.at;
  const placed = moved(strokes, ({x, y}) => ({x: (x - middle.x) * scale + column, y: (y - middle.y) * scale + row}));
  const before = inkOf(placed, width, frame), mass = massOf(before, frame.shape);
  if (frame.centre !== "mass" || !mass) return {before, cover: before, mass, box};
  const centred = moved(placed, ({x, y}) => ({x: x + column - mass[1], y: y + row - mass[0]}));
  return {before, cover: inkOf(centred, width, frame), mass, box};
}

const ENLARGED = 3, MARGIN = 2;  // how often coarse pictures were enlarged, and where their first pixel begins

/** The ink of each pixel; of a coarse picture in 16 steps a coarse pixel, then enlarged as the dataset was. */
function inkOf(strokes, width, frame) {
  if (!frame.coarse) return painted(strokes, width, frame.shape);
  const small = moved(strokes, ({x, y}) => ({x: (x - MARGIN) / ENLARGED, y: (y - MARGIN) / ENLARGED}));
  return enlarged(painted(small, width / ENLARGED, [frame.coarse, frame.coarse]), frame);
}

/** A coarse picture enlarged, bilinear, with zeros outside. */
function enlarged(small, frame) {
  const n = frame.coarse, [height, width] = frame.shape, cover = new Float64Array(height * width);
  const part = (place, k) => Math.max(ENLARGED - Math.abs(place - (ENLARGED * k + ENLARGED)), 0) / ENLARGED;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let i = 0; i < n; i++) {
        const down = part(y, i);
        for (let j = 0; down && j < n; j++) cover[y * width + x] += down * part(x, j) * Math.floor(small[i * n + j] * 16 + 0.5) / 16;
      }
    }
  }
  return cover;
}

const moved = (strokes, move) => strokes.map(points => points.map(move));

/** The centre of mass [row, column], a pixel's own in its middle; null of nothing. */
function massOf(cover, [height, width]) {
  let sum = 0, row = 0, column = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const ink = cover[y * width + x];
      [sum, row, column] = [sum + ink, row + ink * (y + 0.5), column + ink * (x + 0.5)];
    }
  }
  return sum > 0 ? [row / sum, column / sum] : null;
}

/** Lines `pen` pixels wide with round ends; a pixel's ink is the mean of its 16 subsamples. */
function painted(strokes, pen, [rows, columns]) {
  const height = rows * FINE, width = columns * FINE, fine = new Float64Array(height * width), radius = pen * FINE / 2;
  for (const points of strokes) {
    for (let k = 0; k < Math.max(points.length - 1, 1); k++) {
      const from = points[k], to = points[Math.min(k + 1, points.length - 1)];
      segment(fine, width, height, from.x * FINE, from.y * FINE, to.x * FINE, to.y * FINE, radius);
    }
  }
  const cover = new Float64Array(rows * columns);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) cover[Math.floor(y / FINE) * columns + Math.floor(x / FINE)] += fine[y * width + x];
  }
  return cover.map(sum => sum / (FINE * FINE));
}

function segment(fine, width, height, x0, y0, x1, y1, radius) {
  const dx = x1 - x0, dy = y1 - y0, length = dx * dx + dy * dy;
  const left = Math.max(Math.trunc(Math.min(x0, x1) - radius) - 1, 0), right = Math.min(Math.trunc(Math.max(x0, x1) + radius) + 2, width);
  const top = Math.max(Math.trunc(Math.min(y0, y1) - radius) - 1, 0), bottom = Math.min(Math.trunc(Math.max(y0, y1) + radius) + 2, height);
  for (let row = top; row < bottom; row++) {
    for (let column = left; column < right; column++) {
      const x = column + 0.5, y = row + 0.5;
      const along = length ? Math.min(Math.max(((x - x0) * dx + (y - y0) * dy) / length, 0), 1) : 0;
      const ink = Math.min(Math.max(radius - Math.hypot(x - x0 - along * dx, y - y0 - along * dy) + 0.5, 0), 1);
      if (ink > fine[row * width + column]) fine[row * width + column] = ink;
    }
  }
}

/** Ink, 0 to 1 a pixel, as pixels 0 … 255 of every channel. */
function inked(cover, frame) {
  const channels = frame.shape[2], pixels = new Uint8Array(cover.length * channels);
  cover.forEach((ink, at) => {
    pixels.fill(Math.floor(frame.ground + (frame.ink - frame.ground) * ink + 0.5), at * channels, (at + 1) * channels);
  });
  return pixels;
}

/** The way back: how much of its ink each pixel of a picture has. */
function coverOf(pixels, frame) {
  const channels = frame.shape[2], cover = new Float64Array(pixels.length / channels);
  pixels.forEach((value, at) => {
    cover[Math.floor(at / channels)] += (value - frame.ground) / (frame.ink - frame.ground) / channels;
  });
  return cover;
}

// -------------------------------------------------------------------------------------------------------- pictures

/** What a picture (RGBA, 4 bytes a pixel) becomes: as `drawn`, and its pixels. One of the very size stays as it is. */
function pictured(rgba, width, height, frame) {
  const [rows, columns, channels] = frame.shape;
  if (width === columns && height === rows) {
    const pixels = channelsOf(rgba, channels), cover = coverOf(pixels, frame);
    return {before: cover, cover, mass: null, box: null, pixels, isUntouched: true, isInverted: false};
  }
  if (!frame.is_boxed) {
    const scale = Math.max(columns / width, rows / height), pixels = new Uint8Array(rows * columns * channels);
    const top = (rows - height * scale) / 2, left = (columns - width * scale) / 2, source = channelsOf(rgba, channels);
    for (let channel = 0; channel < channels; channel++) {
      const plane = Float64Array.from({length: width * height}, (_, at) => source[at * channels + channel]);
      resampled(plane, width, height, scale, top, left, rows, columns).forEach((value, at) => {
        pixels[at * channels + channel] = Math.floor(value + 0.5);
      });
    }
    return {before: null, cover: coverOf(pixels, frame), mass: null, box: null, pixels, isUntouched: false, isInverted: false};
  }
  const {ink, isInverted} = inkIn(rgba, width, height, frame), box = inkBox(ink, width, height);
  if (!box) {
    const nothing = new Float64Array(rows * columns);
    return {before: nothing, cover: nothing, mass: null, box: null, pixels: inked(nothing, frame), isInverted};
  }
  const scale = frame.box / Math.max(box.right - box.left, box.bottom - box.top);
  const place = (row, column) => frame.coarse
    ? enlarged(resampled(ink, width, height, scale / ENLARGED, (row - MARGIN) / ENLARGED, (column - MARGIN) / ENLARGED,
      frame.coarse, frame.coarse), frame)
    : resampled(ink, width, height, scale, row, column, rows, columns);
  const top = frame.at[0] - scale * (box.top + box.bottom) / 2, left = frame.at[1] - scale * (box.left + box.right) / 2;
  const before = place(top, left), mass = massOf(before, frame.shape);
  const cover = frame.centre === "mass" && mass ? place(top + frame.at[0] - mass[0], left + frame.at[1] - mass[1]) : before;
  return {before, cover, mass, box, pixels: inked(cover, frame), isUntouched: false, isInverted};
}

/** The channels of a dataset out of red, green, blue and opacity: grey is 0.299 R + 0.587 G + 0.114 B, on white. */
function channelsOf(rgba, channels) {
  const pixels = new Uint8Array(rgba.length / 4 * channels);
  for (let at = 0; at < rgba.length / 4; at++) {
    const opacity = rgba[at * 4 + 3] / 255, [red, green, blue] = [0, 1, 2].map(k => rgba[at * 4 + k] * opacity + 255 * (1 - opacity));
    const values = channels < 3 ? [0.299 * red + 0.587 * green + 0.114 * blue] : [red, green, blue];
    for (let channel = 0; channel < channels; channel++) {
      pixels[at * channels + channel] = channel < values.length ? Math.round(values[channel]) : 255;
    }
  }
  return pixels;
}

/** How much ink each pixel has, 0 to 1, and whether the paper was of the other colour than the dataset's ground.

    The paper is the middle value; what differs from it by no more than its grain is none, the most is full ink. */
function inkIn(rgba, width, height, frame) {
  const grey = channelsOf(rgba, 1), paper = median(grey);
  const grain = 3 * median(grey.map(value => Math.abs(value - paper)));
  const isLight = paper > 127, apart = Float64Array.from(grey, value => Math.max((isLight ? paper - value : value - paper) - grain, 0));
  const most = apart.reduce((a, b) => Math.max(a, b), 0);
  return {ink: most > 24 ? apart.map(value => value / most) : apart.fill(0), isInverted: isLight !== (frame.ground > 127)};
}

function median(bytes) {
  const counts = new Uint32Array(256);
  for (const value of bytes) counts[value]++;
  for (let value = 0, sum = 0; value < 256; value++) if ((sum += counts[value]) * 2 >= bytes.length) return value;
  return 0;
}

/** The box around what is inked, specks left out: {left, top, right, bottom}; null where nothing is. */
function inkBox(ink, width, height) {
  const label = new Int32Array(ink.length), boxes = [], waiting = [];
  for (let start = 0; start < ink.length; start++) {
    if (label[start] || ink[start] < 0.15) continue;
    const box = {left: width, top: height, right: 0, bottom: 0, mass: 0};
    boxes.push(box);
    waiting.push(start);
    label[start] = boxes.length;
    while (waiting.length) {
      const at = waiting.pop(), x = at % width, y = (at - x) / width;
      [box.left, box.right] = [Math.min(box.left, x), Math.max(box.right, x + 1)];
      [box.top, box.bottom] = [Math.min(box.top, y), Math.max(box.bottom, y + 1)];
      box.mass += ink[at];
      for (let row = Math.max(y - 1, 0); row <= Math.min(y + 1, height - 1); row++) {
        for (let column = Math.max(x - 1, 0); column <= Math.min(x + 1, width - 1); column++) {
          const near = row * width + column;
          if (label[near] || ink[near] < 0.15) continue;
          label[near] = boxes.length;
          waiting.push(near);
        }
      }
    }
  }
  if (!boxes.length) return null;
  const most = boxes.reduce((largest, box) => Math.max(largest, box.mass), 0);
  boxes.forEach((box, index) => { box.isKept = box.mass >= 0.04 * most; });
  label.forEach((one, at) => { if (one && !boxes[one - 1].isKept) ink[at] = 0; });
  const found = boxOf(boxes.filter(box => box.isKept)
    .flatMap(({left, top, right, bottom}) => [{x: left, y: top}, {x: right, y: bottom}]));
  return found;
}

/** A plane at another scale, its corner moved to (row, column): each pixel is the mean over the area that it covers. */
function resampled(plane, width, height, scale, row, column, rows, columns) {
  const across = parts(columns, scale, column, width), down = parts(rows, scale, row, height);
  const narrow = new Float64Array(height * columns), found = new Float64Array(rows * columns);
  for (let y = 0; y < height; y++) {
    across.forEach((weights, x) => { for (const [at, weight] of weights) narrow[y * columns + x] += weight * plane[y * width + at]; });
  }
  down.forEach((weights, y) => {
    for (const [at, weight] of weights) for (let x = 0; x < columns; x++) found[y * columns + x] += weight * narrow[at * columns + x];
  });
  return found;
}

/** For each of n pixels, which of the source it covers along one axis, and by what part of itself. */
function parts(n, scale, offset, size) {
  return Array.from({length: n}, (_, place) => {
    const from = (place - offset) / scale, to = (place + 1 - offset) / scale, found = [];
    for (let at = Math.max(Math.floor(from), 0); at < Math.min(to, size); at++) {
      const shared = Math.min(to, at + 1) - Math.max(from, at);
      if (shared > 0) found.push([at, shared * scale]);
    }
    return found;
  });
}

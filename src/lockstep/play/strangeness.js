/* How strange a picture is to a run: the scores of strangeness.py, their shares among test pictures, all together. */
"use strict";

/** Pixels in float64, each the mean of its surroundings (¼, ½, ¼ along both axes). */
function blurred(pixels, [height, width, channels]) {
  const along = (x, n, step, stride) => x.map((value, at) => {
    const place = Math.floor(at / stride) % n;
    return 0.25 * (place > 0 ? x[at - step] : 0) + 0.5 * value + 0.25 * (place < n - 1 ? x[at + step] : 0);
  });
  const row = width * channels;
  return along(along(Float64Array.from(pixels), height, row, row), width, channels, channels);
}

/** The Euclidean distance to the nearest of some rows. */
function nearest(x, rows) {
  let least = Infinity;
  for (const row of rows) {
    let sum = 0;
    for (let at = 0; at < x.length && sum < least; at++) sum += (x[at] - row[at]) * (x[at] - row[at]);
    least = Math.min(least, sum);
  }
  return Math.sqrt(least);
}

function unit(x) {
  const norm = Math.max(Math.sqrt(x.reduce((sum, value) => sum + value * value, 0)), 1e-12);
  return x.map(value => value / norm);
}

const hiddenOf = (network, values) => values.get(network.layers[network.layers.length - 1].from[0]);

/** What a run makes of its neighbours: made once, before the first score. */
function neighbourhood(network, pictures) {
  const hidden = pictures.map(pixels => hiddenOf(network, forward(network, pixels)));
  return {pixels: pictures.map(pixels => blurred(pixels, network.shape)), hidden, direction: hidden.map(unit)};
}

function scoresOf(network, values, pixels, near) {
  const logits = logitsOf(network, values), top = Math.max(...logits), hidden = hiddenOf(network, values);
  return {
    energy: -(top + Math.log(logits.reduce((sum, value) => sum + Math.exp(value - top), 0))),
    pixels: nearest(blurred(pixels, network.shape), near.pixels),
    hidden: nearest(hidden, near.hidden),
    direction: nearest(unit(hidden), near.direction),
  };
}

/** Where x lies between ascending values, as the level there: linear in between, as numpy.interp. */
function interpolated(x, values, levels) {
  if (x <= values[0]) return levels[0];
  for (let at = 1; at < values.length; at++) {
    if (x < values[at]) {
      return levels[at - 1] + (levels[at] - levels[at - 1]) * (x - values[at - 1]) / (values[at] - values[at - 1]);
    }
  }
  return levels[levels.length - 1];
}

/** {share: of the test pictures that are less strange, shares: the same of each score}. */
function strangeness(scale, scores) {
  const shares = {};
  let together = 0;
  for (const [name, values] of Object.entries(scale.values)) {
    shares[name] = interpolated(scores[name], values, scale.levels);
    together -= Math.log(Math.max(1 - shares[name], 1 / (scale.n + 1)));
  }
  return {share: interpolated(together, scale.together, scale.levels), shares};
}

/** What needs no score: "blank", "dot" or "bar" (lying, where a digit is awaited), else "". */
function plainly(cover, [height, width], frame, areDigits) {
  let mass = 0, row = 0, column = 0, top = height, bottom = -1, left = width, right = -1;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const ink = cover[y * width + x];
      [mass, row, column] = [mass + ink, row + ink * y, column + ink * x];
      if (ink > 0.3) [top, bottom, left, right] = [Math.min(top, y), Math.max(bottom, y), Math.min(left, x), Math.max(right, x)];
    }
  }
  if (bottom < 0) return "blank";
  const high = bottom - top + 1, wide = right - left + 1, side = Math.max(high, wide);
  if (side <= 2.2 * frame.pen || (Math.min(high, wide) > 0.6 * side && mass > 0.72 * high * wide)) return "dot";
  let yy = 0, xx = 0, xy = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const ink = cover[y * width + x] / mass, dy = y - row / mass, dx = x - column / mass;
      [yy, xx, xy] = [yy + ink * dy * dy, xx + ink * dx * dx, xy + ink * dx * dy];
    }
  }
  const middle = (yy + xx) / 2, apart = Math.hypot((yy - xx) / 2, xy), slant = Math.abs(Math.atan2(2 * xy, yy - xx)) / 2;
  const isBar = Math.sqrt((middle + apart) / Math.max(middle - apart, 1e-9)) > 5;
  return areDigits && isBar && slant > Math.PI * 0.32 ? "bar" : "";
}

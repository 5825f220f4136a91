/* The forward pass, by our own hand: float64 over the run's weights, one example at a time, no library.

   A layer is a row of LAYERS: `forward(layer, x)` gives y; `backward(layer, x, y, dy)` gives dL/dx in inference mode;
   `explain(layer, x, y, index)` gives the arithmetic of one value, by the same sums in the same order, so that what it
   shows is the layer's value to the last bit; `sources(layer, index)` names the inputs that it looks at. A join, where
   branches meet, takes in several: x is a list then, so is dL/dx, and a source is [which of them, place]. Images are
   (height, width, channels) in row-major order, kernels (height, width, in, out), as everywhere in Lockstep. */
"use strict";

// ------------------------------------------------------------------------------------------------------- windows

/** Calls visit(input position, place in the window) for the pixels of one window that lie in the image. */
function overWindow(layer, row, column, visit) {
  const [height, width] = layer.input, [high, wide] = layer.window, [down, across] = layer.stride;
  const top = row * down - layer.padding[0][0], left = column * across - layer.padding[1][0];
  for (let i = 0; i < high; i++) {
    if (top + i < 0 || top + i >= height) continue;
    for (let j = 0; j < wide; j++) {
      if (left + j >= 0 && left + j < width) visit((top + i) * width + left + j, i * wide + j);
    }
  }
}

/** Row, column and channel of a value of an image of this shape. */
function placeOf(shape, index) {
  const channels = shape[2], pixel = Math.floor(index / channels);
  return [Math.floor(pixel / shape[1]), pixel % shape[1], index % channels];
}

const sizeOf = shape => shape.reduce((product, size) => product * size, 1);

// ------------------------------------------------------------------------------------- layers that multiply and add

const conv2d = {
  forward(layer, x) {
    const [rows, columns, filters] = layer.output, [height, width, channels] = layer.input, {kernel, bias} = layer.weights;
    const [high, wide] = layer.window, [down, across] = layer.stride;
    const y = new Float64Array(rows * columns * filters), sums = new Float64Array(filters);
    for (let row = 0, out = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, out += filters) {
        sums.fill(0);
        const top = row * down - layer.padding[0][0], left = column * across - layer.padding[1][0];
        for (let i = Math.max(-top, 0); i < Math.min(high, height - top); i++) {
          for (let j = Math.max(-left, 0); j < Math.min(wide, width - left); j++) {
            const from = ((top + i) * width + left + j) * channels, to = (i * wide + j) * channels * filters;
            for (let channel = 0; channel < channels; channel++) {
              const value = x[from + channel], at = to + channel * filters;
              if (value !== 0) for (let f = 0; f < filters; f++) sums[f] += value * kernel[at + f];  // nothing adds nothing
            }
          }
        }
        for (let f = 0; f < filters; f++) y[out + f] = bias ? sums[f] + bias[f] : sums[f];
      }
    }
    return y;
  },
  backward(layer, x, y, dy) {
    const [rows, columns, filters] = layer.output, channels = layer.input[2], {kernel} = layer.weights;
    const dx = new Float64Array(x.length);
    for (let row = 0, out = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, out += filters) {
        overWindow(layer, row, column, (pixel, place) => {
          for (let channel = 0; channel < channels; channel++) {
            const at = (place * channels + channel) * filters;
            let sum = 0;
            for (let f = 0; f < filters; f++) sum += dy[out + f] * kernel[at + f];
            dx[pixel * channels + channel] += sum;
          }
        });
      }
    }
    return dx;
  },
  explain(layer, x, y, index) {
    const [row, column, f] = placeOf(layer.output, index), channels = layer.input[2], filters = layer.output[2];
    const {kernel, bias} = layer.weights, terms = [];
    overWindow(layer, row, column, (pixel, place) => {
      for (let channel = 0; channel < channels; channel++) {
        terms.push(product(x, pixel * channels + channel, kernel[(place * channels + channel) * filters + f]));
        terms[terms.length - 1].place = [Math.floor(place / layer.window[1]), place % layer.window[1], channel];
      }
    });
    return added(terms, bias ? bias[f] : null);
  },
  sources: windowOf,
};

const dense = {
  forward(layer, x) {
    const units = layer.output[0], {kernel, bias} = layer.weights, y = new Float64Array(units);
    for (let i = 0; i < x.length; i++) {
      const value = x[i], at = i * units;
      if (value !== 0) for (let unit = 0; unit < units; unit++) y[unit] += value * kernel[at + unit];
    }
    if (bias) for (let unit = 0; unit < units; unit++) y[unit] += bias[unit];
    return y;
  },
  backward(layer, x, y, dy) {
    const units = layer.output[0], {kernel} = layer.weights;
    return x.map((_, i) => dy.reduce((sum, slope, unit) => sum + slope * kernel[i * units + unit], 0));
  },
  explain(layer, x, y, unit) {
    const units = layer.output[0], {kernel, bias} = layer.weights;
    return added(Array.from(x, (_, i) => product(x, i, kernel[i * units + unit])), bias ? bias[unit] : null);
  },
  sources: everything,
};

const product = (x, at, weight) => ({at, x: x[at], weight, product: x[at] * weight});

function added(terms, bias) {
  let sum = 0;
  for (const term of terms) sum += term.product;
  return {form: "sum", terms, sum, bias, value: bias === null ? sum : sum + bias};
}

// ------------------------------------------------------------------------------------------------------- pooling

const max_pool2d = {
  forward(layer, x) {
    return pooled(layer, (row, column, channel) => x[chosen(layer, x, row, column, channel)[0]]);
  },
  backward(layer, x, y, dy) {
    const dx = new Float64Array(x.length);
    for (let index = 0; index < dy.length; index++) {
      const best = chosen(layer, x, ...placeOf(layer.output, index));
      const shared = layer.ties === "shared" ? best : best.slice(0, 1);
      for (const at of shared) dx[at] += dy[index] / shared.length;
    }
    return dx;
  },
  explain(layer, x, y, index) {
    const terms = windowOf(layer, index).map(at => ({at, x: x[at]}));
    const [best] = chosen(layer, x, ...placeOf(layer.output, index));
    return {form: "choice", terms, chosen: best, value: x[best]};
  },
  sources: windowOf,
};

/** Where the largest values of a window stand, the first of them first. */
function chosen(layer, x, row, column, channel) {
  const channels = layer.input[2];
  let best = [], largest = -Infinity;
  overWindow(layer, row, column, pixel => {
    const at = pixel * channels + channel;
    if (x[at] > largest || !best.length) [best, largest] = [[at], x[at]];
    else if (x[at] === largest) best.push(at);
  });
  return best;
}

const avg_pool2d = {
  forward(layer, x) {
    return pooled(layer, (row, column, channel) => meanOf(layer, x, row, column, channel).value);
  },
  backward(layer, x, y, dy) {
    const dx = new Float64Array(x.length);
    for (let index = 0; index < dy.length; index++) {
      const {terms, count} = meanOf(layer, x, ...placeOf(layer.output, index));
      for (const {at} of terms) dx[at] += dy[index] / count;
    }
    return dx;
  },
  explain: (layer, x, y, index) => meanOf(layer, x, ...placeOf(layer.output, index)),
  sources: windowOf,
};

function meanOf(layer, x, row, column, channel) {
  const terms = [], channels = layer.input[2];
  let sum = 0;
  overWindow(layer, row, column, pixel => {
    const at = pixel * channels + channel;
    terms.push({at, x: x[at]});
    sum += x[at];
  });
  const count = layer.count_padding ? layer.window[0] * layer.window[1] : terms.length;
  return {form: "mean", terms, sum, count, value: sum / count};
}

const global_avg_pool = {
  forward: (layer, x) => Float64Array.from({length: layer.output[0]}, (_, channel) => wholeMean(layer, x, channel).value),
  backward(layer, x, y, dy) {
    const channels = layer.output[0], pixels = x.length / channels;
    return x.map((_, at) => dy[at % channels] / pixels);
  },
  explain: (layer, x, y, channel) => wholeMean(layer, x, channel),
  sources: everything,
};

function wholeMean(layer, x, channel) {
  const terms = [], channels = layer.output[0];
  let sum = 0;
  for (let at = channel; at < x.length; at += channels) {
    terms.push({at, x: x[at]});
    sum += x[at];
  }
  return {form: "mean", terms, sum, count: terms.length, value: sum / terms.length};
}

function pooled(layer, value) {
  const [rows, columns, channels] = layer.output, y = new Float64Array(rows * columns * channels);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      for (let channel = 0; channel < channels; channel++) y[at++] = value(row, column, channel);
    }
  }
  return y;
}

/** The inputs that a value of a convolution or a pooling looks at; a pooling looks at its own channel alone. */
function windowOf(layer, index) {
  const [row, column, channel] = placeOf(layer.output, index), channels = layer.input[2], found = [];
  overWindow(layer, row, column, pixel => {
    if (layer.kind !== "conv2d") found.push(pixel * channels + channel);
    else for (let one = 0; one < channels; one++) found.push(pixel * channels + one);
  });
  return found;
}

function everything(layer) {
  return Array.from({length: sizeOf(layer.input)}, (_, at) => at);
}

// ------------------------------------------------------------------------------------------------- order and nothing

const flatten = {
  forward: (layer, x) => Float64Array.from(x, (_, index) => x[flattened(layer, index)]),
  backward(layer, x, y, dy) {
    const dx = new Float64Array(x.length);
    dy.forEach((slope, index) => { dx[flattened(layer, index)] = slope; });
    return dx;
  },
  explain: (layer, x, y, index) => copied(x, flattened(layer, index)),
  sources: (layer, index) => [flattened(layer, index)],
};

/** Where a value of the row stands in the image; `chw` lays it out channel by channel. */
function flattened(layer, index) {
  if (layer.order !== "chw" || layer.input.length !== 3) return index;
  const [height, width, channels] = layer.input, pixels = height * width;
  return (index % pixels) * channels + Math.floor(index / pixels);
}

const dropout = {
  forward: (layer, x) => x.slice(),
  backward: (layer, x, y, dy) => dy,
  explain: (layer, x, y, index) => copied(x, index),
  sources: itself,
};

const copied = (x, at) => ({form: "copy", terms: [{at, x: x[at]}], value: x[at]});

function itself(layer, index) {
  return [index];
}

// -------------------------------------------------------------------------------------------------- normalisations

/** y = scale·x̂ + shift with x̂ = (x − mean)·1/√(variance + ε): one value and the numbers that it is made of. */
function normalised(layer, value, mean, variance, channel) {
  const inverse = 1 / Math.sqrt(variance + layer.epsilon), normal = (value - mean) * inverse;
  const scale = layer.weights.scale[channel], shift = layer.weights.shift[channel];
  return {
    form: "normal", x: value, mean, variance, epsilon: layer.epsilon, inverse, normal, scale, shift,
    value: scale * normal + shift,
  };
}

const batch_norm = {
  forward: (layer, x) => x.map((_, index) => batch_norm.explain(layer, x, null, index).value),
  backward(layer, x, y, dy) {
    return dy.map((slope, index) => {
      const {scale, inverse} = batch_norm.explain(layer, x, null, index);
      return slope * scale * inverse;
    });
  },
  explain(layer, x, y, index) {
    const channel = index % layer.input[layer.input.length - 1], {running_mean, running_variance} = layer.weights;
    const found = normalised(layer, x[index], running_mean[channel], running_variance[channel], channel);
    return {...found, terms: [{at: index, x: x[index]}]};
  },
  sources: itself,
};

const layer_norm = {
  forward(layer, x) {
    const channels = layer.input[layer.input.length - 1], n = groupSize(layer), y = new Float64Array(x.length);
    for (let start = 0; start < x.length; start += n) {
      const [mean, variance] = momentsOf(x, start, n);
      for (let at = start; at < start + n; at++) y[at] = normalised(layer, x[at], mean, variance, at % channels).value;
    }
    return y;
  },
  backward(layer, x, y, dy) {
    const channels = layer.input[layer.input.length - 1], n = groupSize(layer), dx = new Float64Array(x.length);
    for (let start = 0; start < x.length; start += n) {
      const [mean, variance] = momentsOf(x, start, n), inverse = 1 / Math.sqrt(variance + layer.epsilon);
      let sum = 0, along = 0;
      for (let at = start; at < start + n; at++) {
        const g = dy[at] * layer.weights.scale[at % channels];
        sum += g;
        along += g * (x[at] - mean) * inverse;
      }
      for (let at = start; at < start + n; at++) {
        const g = dy[at] * layer.weights.scale[at % channels], normal = (x[at] - mean) * inverse;
        dx[at] = inverse * (g - sum / n - normal * (along / n));
      }
    }
    return dx;
  },
  explain(layer, x, y, index) {
    const n = groupSize(layer), start = index - index % n, [mean, variance] = momentsOf(x, start, n);
    const found = normalised(layer, x[index], mean, variance, index % layer.input[layer.input.length - 1]);
    return {...found, terms: [{at: index, x: x[index]}]};
  },
  sources(layer, index) {
    const n = groupSize(layer), start = index - index % n;
    return Array.from({length: n}, (_, place) => start + place);
  },
};

/** How many neighbouring numbers are normalised together: a pixel's channels, or all of the example. */
function groupSize(layer) {
  return layer.over === "channels" ? layer.input[layer.input.length - 1] : sizeOf(layer.input);
}

function momentsOf(x, start, n) {
  let mean = 0, variance = 0;
  for (let at = start; at < start + n; at++) mean += x[at];
  mean /= n;
  for (let at = start; at < start + n; at++) variance += (x[at] - mean) * (x[at] - mean);
  return [mean, variance / n];
}

// ----------------------------------------------------------------------------------------------------- activations

/** An activation is f(x, layer) and its slope(x, y, layer), number by number. */
function activation(f, slope) {
  return {
    forward: (layer, x) => x.map(value => f(value, layer)),
    backward: (layer, x, y, dy) => dy.map((up, index) => up * slope(x[index], y[index], layer)),
    explain: (layer, x, y, index) => ({form: "function", terms: [{at: index, x: x[index]}], x: x[index], value: f(x[index], layer)}),
    sources: itself,
  };
}

const ROOT_2_PI = Math.sqrt(2 / Math.PI);
const sigmoidOf = x => { const small = Math.exp(-Math.abs(x)); return x > 0 ? 1 / (1 + small) : small / (1 + small); };
const tanhOfGelu = x => Math.tanh(ROOT_2_PI * (x + 0.044715 * x * x * x));

const relu = activation(x => Math.max(x, 0), (x, y) => y > 0 ? 1 : 0);
const leaky_relu = activation((x, layer) => x > 0 ? x : x * layer.slope, (x, y, layer) => x > 0 ? 1 : layer.slope);
const elu = activation(
  (x, layer) => x > 0 ? x : layer.alpha * Math.expm1(x), (x, y, layer) => x > 0 ? 1 : y + layer.alpha);
const tanh = activation(Math.tanh, (x, y) => 1 - y * y);
const sigmoid = activation(sigmoidOf, (x, y) => y * (1 - y));
const softplus = activation(x => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))), sigmoidOf);
const gelu = activation(
  (x, layer) => x * (layer.form === "tanh" ? 0.5 * (1 + tanhOfGelu(x)) : 0.5 * (1 + erf(x / Math.SQRT2))),
  (x, y, layer) => {
    if (layer.form !== "tanh") return 0.5 * (1 + erf(x / Math.SQRT2)) + x * Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
    const u = tanhOfGelu(x);
    return 0.5 * (1 + u) + x * 0.5 * (1 - u * u) * ROOT_2_PI * (1 + 3 * 0.044715 * x * x);
  });

/** The error function: its power series near zero, the continued fraction of its complement beyond. */
function erf(x) {
  const square = x * x, size = Math.abs(x), end = Math.exp(-square) / Math.sqrt(Math.PI);
  if (size < 1.5) {
    let sum = 0;
    for (let k = 25; k > 0; k--) sum = 2 + square * sum / (k + 0.5);
    return sum * x * end;
  }
  if (size > 6) return Math.sign(x);
  let a = 0, step = 0.5, p = 1, pBefore = 0, q = step + square, qBefore = 1;
  for (let k = 0; k < 50; k++) {
    a += step;
    step += 2;
    const b = step + square;
    [p, pBefore] = [b * p - a * pBefore, p];
    [q, qBefore] = [b * q - a * qBefore, q];
  }
  return Math.sign(x) * (1 - p / q * size * end);
}

// ----------------------------------------------------------------------------------------------------------- joins

const add = {
  forward: (layer, xs) => xs[0].map((_, index) => add.explain(layer, xs, null, index).value),
  backward(layer, xs, y, dy) {
    const first = dy.map((up, index) => layer.rectified && !(xs[0][index] > 0) ? 0 : up * layer.first);
    return xs.map((_, which) => which ? dy.map(up => up * layer.others) : first);
  },
  explain(layer, xs, y, index) {
    const terms = xs.map((x, which) => ({which, at: index, x: x[index]}));
    const first = layer.rectified ? Math.max(xs[0][index], 0) : xs[0][index];
    let rest = xs[1][index];
    for (const x of xs.slice(2)) rest += x[index];
    return {form: "join", terms, value: first * layer.first + rest * layer.others};
  },
  sources: (layer, index) => layer.from.map((_, which) => [which, index]),
};

const concat = {
  forward: (layer, xs) => Float64Array.from({length: sizeOf(layer.output)}, (_, index) => {
    const [which, at] = joinedFrom(layer, index);
    return xs[which][at];
  }),
  backward(layer, xs, y, dy) {
    const dxs = xs.map(x => new Float64Array(x.length));
    dy.forEach((up, index) => { const [which, at] = joinedFrom(layer, index); dxs[which][at] = up; });
    return dxs;
  },
  explain(layer, xs, y, index) {
    const [which, at] = joinedFrom(layer, index);
    return {form: "copy", terms: [{which, at, x: xs[which][at]}], value: xs[which][at]};
  },
  sources: (layer, index) => [joinedFrom(layer, index)],
};

/** Which input a value of a concatenation is, and where it stands there. */
function joinedFrom(layer, index) {
  const shapes = layer.inputs, axis = {channels: shapes[0].length - 1, height: 0, width: 1}[layer.axis];
  const order = [...shapes.keys()], inner = sizeOf(shapes[0].slice(axis + 1));
  if (layer.order === "reversed") order.reverse();
  const whole = shapes.reduce((sum, shape) => sum + shape[axis], 0), outer = Math.floor(index / (whole * inner));
  let along = Math.floor(index / inner) % whole, place = 0;
  while (along >= shapes[order[place]][axis]) along -= shapes[order[place++]][axis];
  return [order[place], (outer * shapes[order[place]][axis] + along) * inner + index % inner];
}

// ------------------------------------------------------------------------------------------------------ the network

const LAYERS = {
  conv2d, max_pool2d, avg_pool2d, global_avg_pool, flatten, dense, batch_norm, layer_norm, dropout,
  relu, leaky_relu, elu, tanh, sigmoid, softplus, gelu, add, concat,
};

/** Pixels 0 … 255 as they enter a network: (pixel − mean)·scale. */
function scaled(network, pixels) {
  const channels = network.mean.length;
  return Float64Array.from(pixels, (pixel, at) => (pixel - network.mean[at % channels]) * network.scale[at % channels]);
}

/** What a layer takes in: an output, or a list of those that it joins. */
const takenBy = (layer, values) => layer.from.length > 1 ? layer.from.map(name => values.get(name)) : values.get(layer.from[0]);

/** Every layer's output for one picture: a Map from its name, "input" first. */
function forward(network, pixels) {
  const values = new Map([["input", scaled(network, pixels)]]);
  for (const layer of network.layers) values.set(layer.name, LAYERS[layer.kind].forward(layer, takenBy(layer, values)));
  return values;
}

const logitsOf = (network, values) => values.get(network.layers[network.layers.length - 1].name);

/** d(output of a class)/d(pixel), for each pixel, by going back through the layers. */
function gradient(network, values, label) {
  const slopes = new Map(), last = network.layers[network.layers.length - 1];
  slopes.set(last.name, Float64Array.from(values.get(last.name), (_, unit) => unit === label ? 1 : 0));
  for (const layer of [...network.layers].reverse()) {
    const x = takenBy(layer, values), y = values.get(layer.name), dy = slopes.get(layer.name);
    const found = LAYERS[layer.kind].backward(layer, x, y, dy), all = layer.from.length > 1 ? found : [found];
    layer.from.forEach((name, which) => {
      const before = slopes.get(name), dx = all[which];
      slopes.set(name, before ? before.map((slope, at) => slope + dx[at]) : dx);
    });
  }
  const channels = network.mean.length;
  return slopes.get("input").map((slope, at) => slope * network.scale[at % channels]);
}

/** What a class's output loses where a patch of the picture is laid over with its ground: one number a pixel. */
function occlusion(network, pixels, label, ground, side) {
  const [height, width, channels] = network.shape, base = logitsOf(network, forward(network, pixels))[label];
  const lost = new Float64Array(height * width), times = new Float64Array(height * width), step = Math.max(1, side >> 1);
  for (let top = 0; top < height; top += step) {
    for (let left = 0; left < width; left += step) {
      const covered = Float64Array.from(pixels), inside = [];
      for (let row = top; row < Math.min(top + side, height); row++) {
        for (let column = left; column < Math.min(left + side, width); column++) inside.push(row * width + column);
      }
      let changes = false;
      for (const pixel of inside) {
        for (let channel = 0; channel < channels; channel++) {
          changes = changes || covered[pixel * channels + channel] !== ground;
          covered[pixel * channels + channel] = ground;
        }
      }
      const loss = changes ? base - logitsOf(network, forward(network, covered))[label] : 0;
      for (const pixel of inside) [lost[pixel], times[pixel]] = [lost[pixel] + loss, times[pixel] + 1];
    }
  }
  return lost.map((sum, pixel) => sum / times[pixel]);
}

function softmax(logits) {
  const largest = Math.max(...logits), powers = Array.from(logits, value => Math.exp(value - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map(power => power / sum);
}

const argmax = values => values.reduce((best, value, at) => value > values[best] ? at : best, 0);

/** The pixels that one value of a layer looks at, as a set of places row·width + column. */
function receptiveField(network, name, index) {
  const channels = network.shape[2], wanted = new Map([["input", new Set()], [name, new Set([index])]]);
  const last = network.layers.findIndex(layer => layer.name === name);
  for (const layer of network.layers.slice(0, last + 1).reverse()) {
    const all = layer.inputs.reduce((sum, shape) => sum + sizeOf(shape), 0), found = layer.from.map(() => new Set());
    let n = 0;
    for (const one of wanted.get(layer.name) || []) {
      for (const source of LAYERS[layer.kind].sources(layer, one)) {
        const [which, at] = layer.from.length > 1 ? source : [0, source];
        n += !found[which].has(at);
        found[which].add(at);
      }
      if (n === all) break;
    }
    layer.from.forEach((before, which) => wanted.set(before, new Set([...(wanted.get(before) || []), ...found[which]])));
  }
  return new Set([...wanted.get("input")].map(at => Math.floor(at / channels)));
}

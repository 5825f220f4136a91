/* The arithmetic of one value: window, kernel, products, sum, bias, activation, as the layer computed it. */
"use strict";

const MOST_TERMS = 400;

/** Shows how a value came about: in `place`, for value number `index` of a layer, from the outputs of all layers. */
function showArithmetic(place, run, values, name, index) {
  const layer = run.layers.find(one => one.name === name), x = takenBy(layer, values), y = values.get(name);
  const found = LAYERS[layer.kind].explain(layer, x, y, index);
  place.replaceChildren(
    made("h3", `${name}, ${placeWords(layer.output, index)}`), made("p", nameOf(run), "note"),
    ...FORMS[found.form](found, layer), equation(say("value"), found.value, "whole"));
  const same = Object.is(found.value, y[index]) || found.value === y[index];
  place.append(made("p", say(same ? "same_value" : "other_value", {value: exactly(y[index])}), same ? "good" : "bad"));
  place.append(...followed(run, values, layer, index));
}

const FORMS = {
  sum: (found, layer) => [
    ...pictures(found, layer), table(found, layer),
    equation(say("sum_of", {n: found.terms.length}), found.sum),
    ...(found.bias === null ? [] : [equation(say("bias"), found.bias)]),
  ],
  choice: (found, layer) => [made("p", say("largest_of", {n: found.terms.length})), table(found, layer)],
  mean: (found, layer) => [
    table(found, layer), equation(say("sum_of_values", {n: found.terms.length}), found.sum),
    equation(say("divided_by"), found.count),
  ],
  normal: found => [
    made("p", say("normal_form"), "formula"), equation("x", found.x), equation(say("mean"), found.mean),
    equation(say("variance"), found.variance), equation("ε", found.epsilon), equation("x̂", found.normal),
    equation(say("scale"), found.scale), equation(say("shift"), found.shift),
  ],
  function: (found, layer) => [made("p", FUNCTIONS[layer.kind](layer), "formula"), equation("x", found.x)],
  join: (found, layer) => [
    made("p", say(layer.rectified ? "add_rectified" : "add_form", {first: number(layer.first), others: number(layer.others)}), "formula"),
    ...found.terms.map(term => equation(layer.from[term.which], term.x)),
  ],
  copy: (found, layer) => [made("p", say(COPIES[layer.kind], {
    place: placeWords(layer.inputs[found.terms[0].which || 0], found.terms[0].at), name: layer.from[found.terms[0].which || 0],
  }))],
};

const COPIES = {dropout: "dropout_copies", flatten: "flatten_copies", concat: "concat_copies"};
const FUNCTIONS = {
  relu: () => "max(x, 0)",
  leaky_relu: layer => say("leaky_form", {slope: number(layer.slope)}),
  elu: layer => say("elu_form", {alpha: number(layer.alpha)}),
  tanh: () => "tanh x",
  sigmoid: () => "1 / (1 + e⁻ˣ)",
  softplus: () => "log(1 + eˣ)",
  gelu: layer => layer.form === "tanh" ? "½ · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))" : "x · Φ(x)",
};

function equation(label, value, className = "") {
  const row = made("p", "", `equation ${className}`);
  row.append(made("span", label), made("code", exactly(value)));
  return row;
}

/** Window, kernel and products of a convolution as three pictures, a tile for each channel. */
function pictures(found, layer) {
  if (layer.kind !== "conv2d") return [];
  const [high, wide] = layer.window, channels = layer.input[2], shape = [high, wide, channels], row = made("div", "", "three");
  const grids = {x: new Float64Array(high * wide * channels), weight: new Float64Array(high * wide * channels), product: new Float64Array(high * wide * channels)};
  for (const term of found.terms) {
    const [i, j, channel] = term.place;
    for (const what of Object.keys(grids)) grids[what][(i * wide + j) * channels + channel] = term[what];
  }
  const zoom = Math.max(4, Math.min(16, Math.floor(64 / Math.max(high, wide))));
  const across = Math.max(1, Math.min(channels, Math.floor(110 / (wide * zoom + 4)))), maps = Math.min(channels, 12);
  for (const what of ["x", "weight", "product"]) {
    const cell = made("figure"), canvas = made("canvas", "", "values");
    drawValues(canvas, grids[what], {isFlat: false, maps, rows: high, columns: wide, zoom, across, n: grids[what].length, channels, gap: 4});
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", say(`of_${what}`));
    cell.append(canvas, made("figcaption", say(`of_${what}`)));
    row.append(cell);
  }
  return [row];
}

/** The terms one below the other, in the order in which they were added; of very many the largest. */
function table(found, layer) {
  const scroll = made("div", "", "scroll"), made_table = made("table"), head = made("tr"), isSum = found.form === "sum";
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", say("terms"));
  for (const title of ["input", ...(isSum ? ["of_x", "of_weight", "of_product"] : ["of_x"])]) {
    const cell = made("th", say(title));
    cell.scope = "col";
    head.append(cell);
  }
  const most = found.terms.length > MOST_TERMS
    ? [...found.terms].sort((a, b) => Math.abs(b.product ?? b.x) - Math.abs(a.product ?? a.x)).slice(0, MOST_TERMS) : found.terms;
  const body = made("tbody");
  for (const term of most) {
    const row = made("tr", "", found.chosen === term.at ? "chosen" : ""), numbers = isSum ? [term.x, term.weight, term.product] : [term.x];
    row.append(made("td", layer.input.length === 1 ? String(term.at) : placeOf(layer.input, term.at).join(", ")));
    row.append(...numbers.map(value => made("td", number(value, 5), "r")));
    body.append(row);
  }
  const top = made("thead");
  top.append(head);
  made_table.append(top, body);
  scroll.append(made_table);
  if (most !== found.terms) scroll.append(made("p", say("largest_terms", {shown: MOST_TERMS, all: found.terms.length}), "note"));
  return scroll;
}

/** What the layers behind make of this very value, as long as they work number by number. */
function followed(run, values, layer, index) {
  const told = [];
  let name = layer.name;
  for (;;) {
    const next = run.layers.find(one => one.from.length === 1 && one.from[0] === name);
    if (!next || !(next.kind in FUNCTIONS || next.kind === "batch_norm")) return told;
    told.push(equation(say("then", {name: next.name}), values.get(next.name)[index]));
    name = next.name;
  }
}

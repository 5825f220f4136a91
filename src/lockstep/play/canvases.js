/* Numbers as pictures: pixels, maps in tiles, and which number lies under a pointer. */
"use strict";

const BLUE = [0, 114, 178], ORANGE = [213, 94, 0];

/** Grey from black (0) to white (the largest); where a value is negative, blue above zero and orange below. */
function colouring(values) {
  let low = 0, high = 0;
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  const size = Math.max(high, -low) || 1;
  if (low >= 0) return value => { const grey = Math.round(255 * value / size); return [grey, grey, grey]; };
  return value => {
    const share = Math.min(Math.abs(value) / size, 1), colour = value > 0 ? BLUE : ORANGE;
    return colour.map(part => Math.round(255 + (part - 255) * share));
  };
}

/** How the values of a layer are laid out: maps of rows × columns, `zoom` pixels a value, `across` maps a row. */
function layoutOf(shape, room, most = 32) {
  const isFlat = shape.length === 1;
  if (isFlat) {
    const n = Math.min(shape[0], 1024), zoom = n <= 16 ? 22 : n <= 160 ? 13 : 9;
    const columns = Math.max(Math.min(n, Math.floor(room / zoom)), 1);
    return {isFlat, maps: 1, rows: Math.ceil(n / columns), columns, zoom, across: 1, n, gap: 0};
  }
  const [rows, columns, channels] = shape, maps = Math.min(channels, most);
  const zoom = Math.max(1, Math.min(12, Math.floor(84 / Math.max(rows, columns))));
  const across = Math.max(1, Math.min(maps, Math.floor((room + 4) / (columns * zoom + 4))));
  return {isFlat, maps, rows, columns, zoom, across, n: rows * columns * channels, channels, gap: 4};
}

const stepOf = layout => [layout.columns * layout.zoom + layout.gap, layout.rows * layout.zoom + layout.gap];

/** Where value number `index` of a layer is drawn: {x, y}; null where it is not shown. */
function spotOf(layout, index) {
  if (layout.isFlat) {
    if (index >= layout.n) return null;
    return {x: index % layout.columns * layout.zoom, y: Math.floor(index / layout.columns) * layout.zoom};
  }
  const map = index % layout.channels, pixel = Math.floor(index / layout.channels), [wide, high] = stepOf(layout);
  if (map >= layout.maps) return null;
  return {
    x: map % layout.across * wide + pixel % layout.columns * layout.zoom,
    y: Math.floor(map / layout.across) * high + Math.floor(pixel / layout.columns) * layout.zoom,
  };
}

/** The number of the value at a place of the canvas; −1 between maps. */
function indexAt(layout, x, y) {
  if (layout.isFlat) {
    const column = Math.floor(x / layout.zoom), index = Math.floor(y / layout.zoom) * layout.columns + column;
    return column < layout.columns && index < layout.n && x >= 0 && y >= 0 ? index : -1;
  }
  const [wide, high] = stepOf(layout), across = Math.floor(x / wide), map = Math.floor(y / high) * layout.across + across;
  const column = Math.floor(x % wide / layout.zoom), row = Math.floor(y % high / layout.zoom);
  if (x < 0 || y < 0 || across >= layout.across || map >= layout.maps || column >= layout.columns || row >= layout.rows) return -1;
  return (row * layout.columns + column) * layout.channels + map;
}

/** Draws the values of a layer, and a frame around the chosen one. */
function drawValues(canvas, values, layout, chosenIndex = -1) {
  const [wide, high] = stepOf(layout), colour = colouring(values);
  canvas.width = layout.across * wide - layout.gap;
  canvas.height = Math.ceil(layout.maps / layout.across) * high - layout.gap;
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (let index = 0; index < layout.n; index++) {
    const spot = spotOf(layout, index);
    if (!spot) continue;
    const [red, green, blue] = colour(values[index]);
    for (let y = spot.y; y < spot.y + layout.zoom; y++) {
      for (let x = spot.x; x < spot.x + layout.zoom; x++) {
        const at = (y * canvas.width + x) * 4;
        [image.data[at], image.data[at + 1], image.data[at + 2], image.data[at + 3]] = [red, green, blue, 255];
      }
    }
  }
  context.putImageData(image, 0, 0);
  if (chosenIndex >= 0) outlined(context, spotOf(layout, chosenIndex), layout.zoom);
}

function outlined(context, spot, zoom) {
  if (!spot) return;
  context.lineWidth = 1;
  for (const [colour, grown] of [["#fff", 0.5], ["#c2185b", 1.5]]) {
    context.strokeStyle = colour;
    context.strokeRect(spot.x - grown + 0.5, spot.y - grown + 0.5, zoom + 2 * grown - 1, zoom + 2 * grown - 1);
  }
}

/** Draws a picture of a dataset, `zoom` pixels a pixel; `field` is a set of places to outline, `cursor` one of them. */
function drawPixels(canvas, pixels, [height, width, channels], zoom, field = null, cursor = -1) {
  canvas.width = width * zoom;
  canvas.height = height * zoom;
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (let y = 0, to = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++, to += 4) {
      const at = (Math.floor(y / zoom) * width + Math.floor(x / zoom)) * channels;
      for (let k = 0; k < 3; k++) image.data[to + k] = pixels[at + (channels < 3 ? 0 : k)];
      image.data[to + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  if (field) edged(context, field, height, width, zoom);
  if (cursor >= 0) outlined(context, {x: cursor % width * zoom, y: Math.floor(cursor / width) * zoom}, zoom);
}

/** The outline of a set of places row·width + column. */
function edged(context, field, height, width, zoom) {
  const line = new Path2D();
  for (const at of field) {
    const row = Math.floor(at / width), column = at % width, x = column * zoom, y = row * zoom;
    if (!(row > 0 && field.has(at - width))) { line.moveTo(x, y); line.lineTo(x + zoom, y); }
    if (!(row < height - 1 && field.has(at + width))) { line.moveTo(x, y + zoom); line.lineTo(x + zoom, y + zoom); }
    if (!(column > 0 && field.has(at - 1))) { line.moveTo(x, y); line.lineTo(x, y + zoom); }
    if (!(column < width - 1 && field.has(at + 1))) { line.moveTo(x + zoom, y); line.lineTo(x + zoom, y + zoom); }
  }
  for (const [colour, thickness] of [["#fff", 4], ["#c2185b", 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = thickness;
    context.stroke(line);
  }
}

/** Where a pointer stands in a canvas's own pixels, whatever size it is shown in. */
function within(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
}

/* Arrays out of the page's text: base64, inflated, and the bytes of each number brought together again; see arrays.py. */
"use strict";

const ARRAYS = {uint8: Uint8Array, float16: Uint16Array, float32: Float32Array, float64: Float64Array};

async function unpacked(packed) {
  const raw = Uint8Array.from(atob(packed.data), sign => sign.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const size = ARRAYS[packed.type].BYTES_PER_ELEMENT, n = bytes.length / size, together = new Uint8Array(bytes.length);
  for (let part = 0; part < size; part++) for (let at = 0; at < n; at++) together[at * size + part] = bytes[part * n + at];
  const array = new ARRAYS[packed.type](together.buffer);
  return packed.type === "float16" ? Float32Array.from(array, halfPrecision) : array;
}

/** The number that 16 bits stand for (IEEE 754 half precision). */
function halfPrecision(bits) {
  const sign = bits >> 15 ? -1 : 1, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/* The page's proof of itself: every layer's signed sums for sixteen pictures, held to the judge's; see examples.py. */
"use strict";

const SUMS = 2;

function signOf(place, number) {
  let h = (place + 1) ^ Math.imul(number + 1, 0x9E3779B9);
  h = Math.imul(h, 0x85EBCA6B);
  h ^= h >>> 13;
  h = Math.imul(h, 0xC2B2AE35);
  return h >>> 31 ? -1 : 1;
}

function signedSum(values, number) {
  let sum = 0;
  for (let place = 0; place < values.length; place++) sum += signOf(place, number) * values[place];
  return sum;
}

/** The first layer whose sums are not the judge's; null where all are. */
function firstWrong(network, pixels, wanted) {
  for (const [name, values] of forward(network, pixels)) {
    const numbers = wanted[name];
    for (let number = 0; number < SUMS; number++) {
      if (!(numbers && Math.abs(signedSum(values, number) - numbers[number]) <= numbers[SUMS])) return name;
    }
  }
  return null;
}

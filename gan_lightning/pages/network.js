// Runs a network, one image at a time; graph.py writes its operations and says what they mean.
"use strict";

function halfToFloat(half) {
  const sign = half & 0x8000 ? -1 : 1, exponent = half >> 10 & 31, fraction = half & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * fraction / 1024);
}

// Return a weight as floats.
function decode(weight, bytes) {
  const size = weight.size, out = new Float32Array(size);
  if (weight.type === "float32") return new Float32Array(bytes.buffer, weight.data, size);
  if (weight.type === "float16") {
    const halves = new Uint16Array(bytes.buffer, weight.data, size);
    decode.table ??= Float32Array.from({length: 65536}, (_, half) => halfToFloat(half));
    for (let i = 0; i < size; i++) out[i] = decode.table[halves[i]];
    return out;
  }
  const numbers = new Int8Array(bytes.buffer, weight.data, size);
  const scales = new Float32Array(bytes.buffer, weight.scales, weight.rows);
  for (let row = 0, i = 0; row < weight.rows; row++) for (let n = size / weight.rows; n--; i++) out[i] = numbers[i] * scales[row];
  return out;
}

// y[row * pitch + n] += sum over k of a[row, k] * b[n, k], where the rows of a are weights; 2 x 2 sums at a time
function multiply(a, aStart, b, y, yStart, pitch, rows, columns, size) {
  for (let row = 0; row < rows; row += 2) {
    const a0 = aStart + row * size, a1 = row + 1 < rows ? a0 + size : a0;
    const y0 = yStart + row * pitch, y1 = y0 + pitch;
    for (let n = 0; n < columns; n += 2) {
      const b0 = n * size, b1 = n + 1 < columns ? b0 + size : b0;
      let s00 = 0, s01 = 0, s10 = 0, s11 = 0;
      for (let k = 0; k < size; k++) {
        const p = a[a0 + k], q = a[a1 + k], u = b[b0 + k], v = b[b1 + k];
        s00 += p * u; s01 += p * v; s10 += q * u; s11 += q * v;
      }
      y[y0 + n] += s00;
      if (b1 > b0) y[y0 + n + 1] += s01;
      if (a1 > a0) y[y1 + n] += s10;
      if (a1 > a0 && b1 > b0) y[y1 + n + 1] += s11;
    }
  }
}

const TILE = 32768; // numbers of a tile of a convolution's input, so that it stays in the cache

function fillChannels(y, bias) {
  const area = y.length / bias.length;
  for (let c = 0; c < bias.length; c++) y.fill(bias[c], c * area, (c + 1) * area);
}

// As a product of the weights (channels, size) and, for each pixel, the part of the image that its kernel covers
function convolution(o, y, x, weight, bias) {
  const [channels, height, width] = o.image, [outHeight, outWidth] = o.sizes, [kh, kw] = o.kernel;
  const inGroup = channels / o.groups, outGroup = o.channels / o.groups, size = inGroup * kh * kw;
  const lines = Math.max(1, Math.floor(TILE / size / outWidth)), parts = new Float32Array(lines * outWidth * size);
  return () => {
    fillChannels(y, bias);
    for (let g = 0; g < o.groups; g++) for (let top = 0; top < outHeight; top += lines) {
      const bottom = Math.min(top + lines, outHeight);
      let i = 0;
      for (let row = top; row < bottom; row++) for (let column = 0; column < outWidth; column++) {
        const left = column * o.stride[1] - o.padding[1];
        for (let c = g * inGroup; c < (g + 1) * inGroup; c++) for (let u = 0; u < kh; u++) {
          const line = row * o.stride[0] - o.padding[0] + u * o.dilation[0], start = (c * height + line) * width;
          const inside = line >= 0 && line < height;
          for (let v = 0, place = left; v < kw; v++, place += o.dilation[1]) {
            parts[i++] = inside && place >= 0 && place < width ? x[start + place] : 0;
          }
        }
      }
      const area = outHeight * outWidth, first = g * outGroup * area + top * outWidth;
      multiply(weight, g * outGroup * size, parts, y, first, area, outGroup, (bottom - top) * outWidth, size);
    }
  };
}

// Each pixel adds weights (channels * kernel, size) times its own channels to the part of the output under its kernel
function transposedConvolution(o, y, x, weight, bias) {
  const [channels, height, width] = o.image, [outHeight, outWidth] = o.sizes, [kh, kw] = o.kernel;
  const size = channels / o.groups, outGroup = o.channels / o.groups, rows = outGroup * kh * kw, area = height * width;
  const lines = Math.max(1, Math.floor(TILE / Math.max(size, rows) / width));
  const pixels = new Float32Array(lines * width * size), parts = new Float32Array(lines * width * rows);
  return () => {
    fillChannels(y, bias);
    for (let g = 0; g < o.groups; g++) for (let top = 0; top < height; top += lines) {
      const columns = (Math.min(top + lines, height) - top) * width;
      for (let n = 0; n < columns; n++) for (let c = 0; c < size; c++) {
        pixels[n * size + c] = x[(g * size + c) * area + top * width + n];
      }
      parts.fill(0);
      multiply(weight, g * rows * size, pixels, parts, 0, columns, rows, columns, size);
      for (let row = 0; row < rows; row++) {
        const c = g * outGroup + Math.floor(row / kh / kw), u = Math.floor(row / kw) % kh, v = row % kw;
        for (let n = 0; n < columns; n++) {
          const line = (top + Math.floor(n / width)) * o.stride[0] - o.padding[0] + u * o.dilation[0];
          const place = n % width * o.stride[1] - o.padding[1] + v * o.dilation[1];
          if (line >= 0 && line < outHeight && place >= 0 && place < outWidth) {
            y[(c * outHeight + line) * outWidth + place] += parts[row * columns + n];
          }
        }
      }
    }
  };
}

function linear(o, y, x, weight, bias) {
  const outputs = o.outputs, size = weight.length / outputs, rows = x.length / size;
  return () => {
    for (let row = 0; row < rows; row++) for (let output = 0; output < outputs; output += 4) {
      const w0 = output * size, count = Math.min(4, outputs - output);
      const w1 = w0 + (count > 1) * size, w2 = w0 + (count > 2) * 2 * size, w3 = w0 + (count > 3) * 3 * size;
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
      for (let k = 0, i = row * size; k < size; k++, i++) {
        const value = x[i];
        s0 += weight[w0 + k] * value; s1 += weight[w1 + k] * value;
        s2 += weight[w2 + k] * value; s3 += weight[w3 + k] * value;
      }
      const at = row * outputs + output, sums = [s0, s1, s2, s3];
      for (let i = 0; i < count; i++) y[at + i] = sums[i] + (bias ? bias[output + i] : 0);
    }
  };
}

const FUNCTIONS = {
  abs: () => Math.abs,
  clamp: (a, b) => x => Math.min(Math.max(x, a), b),
  elu: a => x => x > 0 ? x : a * Math.expm1(x),
  exp: () => Math.exp,
  gelu: () => x => .5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + .044715 * x ** 3))),
  leaky_relu: a => x => x > 0 ? x : a * x,
  line: (a, b) => x => a * x + b,
  log: () => Math.log,
  log1p: () => Math.log1p,
  pow: a => x => x ** a,
  relu: () => x => x > 0 ? x : 0,
  sigmoid: () => x => 1 / (1 + Math.exp(-x)),
  step: a => x => x > a ? 1 : 0,
  tanh: () => Math.tanh,
};
const PAIRS = {add: (x, y) => x + y, mul: (x, y) => x * y, maximum: Math.max, minimum: Math.min};
const REDUCTIONS = {sum: (x, y) => x + y, mean: (x, y) => x + y, amax: Math.max, amin: Math.min};

function reduce(o, y, x) {
  const size = x.length / o.rows, join = REDUCTIONS[o.function], factor = o.function === "mean" ? 1 / size : 1;
  return () => {
    for (let row = 0, i = 0; row < o.rows; row++) {
      let value = x[i++];
      for (let k = 1; k < size; k++) value = join(value, x[i++]);
      y[row] = value * factor;
    }
  };
}

function normalize(o, y, x) {
  const size = x.length / o.rows;
  return () => {
    for (let start = 0; start < x.length; start += size) {
      let mean = 0, variance = 0;
      for (let i = start; i < start + size; i++) mean += x[i] / size;
      for (let i = start; i < start + size; i++) variance += (x[i] - mean) ** 2 / size;
      const factor = 1 / Math.sqrt(variance + o.eps);
      for (let i = start; i < start + size; i++) y[i] = (x[i] - mean) * factor;
    }
  };
}

function affine(o, y, x, factor, summand) {
  const area = x.length / factor.length;
  return () => { for (let i = 0; i < y.length; i++) { const c = Math.floor(i / area); y[i] = x[i] * factor[c] + summand[c]; } };
}

function copy(o, y, x) {
  let places = [o.offset];
  o.sizes.forEach((size, d) => {
    places = places.flatMap(place => Array.from({length: size}, (_, i) => place + i * o.strides[d]));
  });
  const from = Int32Array.from(places);
  return () => { for (let i = 0; i < y.length; i++) y[i] = x[from[i]]; };
}

function concatenate(o, y, ...parts) {
  const width = y.length / o.rows;
  return () => {
    let start = 0;
    for (const part of parts) {
      const size = part.length / o.rows;
      for (let row = 0; row < o.rows; row++) {
        for (let i = 0; i < size; i++) y[row * width + start + i] = part[row * size + i];
      }
      start += size;
    }
  };
}

function embedding(o, y, x, weight) {
  const size = y.length / x.length;
  return () => x.forEach((index, n) => y.set(weight.subarray(index * size, (index + 1) * size), n * size));
}

function each(o, y, x) {
  const f = FUNCTIONS[o.function](o.a, o.b);
  return () => { for (let i = 0; i < y.length; i++) y[i] = f(x[i]); };
}

function pair(o, y, x, other) {
  const f = PAIRS[o.name];
  return () => { for (let i = 0; i < y.length; i++) y[i] = f(x[i], other[i]); };
}

function where(o, y, condition, x, other) {
  return () => { for (let i = 0; i < y.length; i++) y[i] = condition[i] > 0 ? x[i] : other[i]; };
}

const OPERATIONS = {
  linear, affine, normalize, reduce, copy, concatenate, embedding, where, function: each,
  convolution: (o, ...arrays) => (o.transposed ? transposedConvolution : convolution)(o, ...arrays),
  add: pair, mul: pair, maximum: pair, minimum: pair,
};

// Return a function from the network's inputs to its output, an array that its next call overwrites.
function network(graph, bytes) {
  const values = [];
  for (const [index, size] of graph.inputs) values[index] = new Float32Array(size);
  const steps = graph.operations.map(o => {
    const arrays = o.inputs.map(input => typeof input === "number" ? values[input] : decode(input, bytes));
    return OPERATIONS[o.name](o, values[o.output] = new Float32Array(o.size), ...arrays);
  });
  return (...inputs) => {
    graph.inputs.forEach(([index], i) => values[index].set(typeof inputs[i] === "number" ? [inputs[i]] : inputs[i]));
    for (const step of steps) step();
    return values[graph.output];
  };
}

// Computes the network's logits: Limbeck's own networks layer by layer, others by onnxruntime-web.
// It touches the document only to read what the page holds, so that it runs outside of a browser too.
globalThis.limbeck = (() => {
  "use strict";
  const content = (id) => document.getElementById(id).textContent;
  const spec = JSON.parse(content("spec"));

  function bytesOf(id) {
    const text = atob(content(id));
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  async function unzipped(id) {
    const stream = new Blob([bytesOf(id)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // A layer takes and gives the values of one example: {data, shape}, where shape is [D] or [C, H, W].
  const each = (x, f) => ({ data: x.data.map(f), shape: x.shape });
  const vector = (data) => ({ data, shape: [data.length] });
  const layers = {
    flatten: (x) => vector(x.data),
    relu: (x) => each(x, (v) => (v < 0 ? 0 : v)),
    sigmoid: (x) => each(x, (v) => 1 / (1 + Math.exp(-v))),
    tanh: (x) => each(x, Math.tanh),
    softmax: (x) => ({ data: new Float32Array(softmax(x.data)), shape: x.shape }),
    standardise: (x, p) => each(x, (v) => (v - p.mean) / p.std),
    copy: (x, p) => vector(Float32Array.from(p.indices, (i) => x.data[i])),

    // One factor and one summand for all values, for each channel, or for each value.
    affine(x, p, at) {
      const factor = at(p.factor), summand = at(p.summand), together = x.data.length / factor.length;
      return each(x, (v, i) => v * factor[Math.floor(i / together)] + summand[Math.floor(i / together)]);
    },
    prelu(x, p, at) {
      const alpha = at(p.alpha), beta = at(p.beta);
      return each(x, (v, i) => v * (v > 0 ? alpha[i] : beta[i]));
    },
    maxout(x, p) {
      const pieces = p.pieces || x.data.length / p.outputs;
      const out = new Float32Array(x.data.length / pieces).fill(-Infinity);
      for (let i = 0; i < x.data.length; i++) {
        const j = Math.floor(i / pieces);
        if (!(x.data[i] <= out[j])) out[j] = x.data[i];
      }
      return vector(out);
    },
    lengthnorm(x) {
      const norm = Math.sqrt(x.data.reduce((sum, v) => sum + v * v, 0));
      return each(x, (v) => v / (norm > 0 ? norm : 1));
    },

    // Weights are stored input by input: an input that is 0, as half of them are after a ReLU, costs nothing.
    linear(x, p, at) {
      const weight = at(p.weight), n = weight.length / x.data.length;
      const sums = p.bias ? new Float64Array(at(p.bias)) : new Float64Array(n);
      for (let i = 0; i < x.data.length; i++) {
        const v = x.data[i];
        if (v === 0) continue;
        const from = i * n;
        for (let j = 0; j < n; j++) sums[j] += v * weight[from + j];
      }
      return vector(new Float32Array(sums));
    },
    conv(x, p, at) {
      const [channels, high, wide] = x.shape, [outputs, kh, kw] = p.size;
      const [sy, sx] = p.stride, [py, px] = p.padding, [dy, dx] = p.dilation;
      const h = Math.floor((high + 2 * py - dy * (kh - 1) - 1) / sy) + 1;
      const w = Math.floor((wide + 2 * px - dx * (kw - 1) - 1) / sx) + 1;
      const weight = at(p.weight), bias = p.bias ? at(p.bias) : null;
      const out = new Float32Array(outputs * h * w), sums = new Float64Array(h * w);
      for (let o = 0, k = 0; o < outputs; o++) {
        sums.fill(bias ? bias[o] : 0);
        for (let c = 0; c < channels; c++)
          for (let i = 0; i < kh; i++)
            for (let j = 0; j < kw; j++, k++) {
              const v = weight[k], right = j * dx - px;
              const first = Math.max(0, Math.ceil(-right / sx)), last = Math.min(w - 1, Math.floor((wide - 1 - right) / sx));
              for (let y = 0; y < h; y++) {
                const row = y * sy + i * dy - py;
                if (row < 0 || row >= high) continue;
                const from = (c * high + row) * wide + right;
                for (let t = first; t <= last; t++) sums[y * w + t] += v * x.data[from + t * sx];
              }
            }
        out.set(sums, o * h * w);
      }
      return { data: out, shape: [outputs, h, w] };
    },
    pool(x, p) {
      const [channels, high, wide] = x.shape, [kh, kw] = p.size, [sy, sx] = p.stride;
      const h = Math.floor((high - kh) / sy) + 1, w = Math.floor((wide - kw) / sx) + 1;
      const out = new Float32Array(channels * h * w);
      for (let c = 0, o = 0; c < channels; c++)
        for (let y = 0; y < h; y++)
          for (let t = 0; t < w; t++, o++) {
            let most = -Infinity;
            for (let i = 0; i < kh; i++)
              for (let j = 0; j < kw; j++) {
                const v = x.data[(c * high + y * sy + i) * wide + t * sx + j];
                if (!(v <= most)) most = v;
              }
            out[o] = most;
          }
      return { data: out, shape: [channels, h, w] };
    },
  };

  // An opened network is a function of {name: {data, shape}}, N examples each, to {data, shape} of logits (N, K).
  function openLayers() {
    const weights = new Float32Array(bytesOf("weights").buffer);
    const at = ([from, to]) => weights.subarray(from, to);
    return async (feeds) => {
      const { data, shape } = Object.values(feeds)[0];
      const one = shape.slice(1), length = one.reduce((a, b) => a * b, 1), answers = [];
      for (let n = 0; n < shape[0]; n++) {
        let x = { data: data.slice(n * length, (n + 1) * length), shape: one };
        for (const layer of spec.layers) x = layers[layer.kind](x, layer, at);
        answers.push(x.data);
      }
      const out = new Float32Array(shape[0] * answers[0].length);
      answers.forEach((answer, n) => out.set(answer, n * answer.length));
      return { data: out, shape: [shape[0], answers[0].length] };
    };
  }

  async function openOnnx() {
    const ort = globalThis.ort;
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = (await unzipped("wasm")).buffer;
    const session = await ort.InferenceSession.create(bytesOf("weights"), { executionProviders: ["wasm"] });
    return async (feeds) => {
      const given = {};
      for (const name of session.inputNames) {
        const { data, shape } = feeds[name] || Object.values(feeds)[0];
        given[name] = new ort.Tensor(data instanceof BigInt64Array ? "int64" : "float32", data, shape);
      }
      const answer = (await session.run(given))[session.outputNames[0]];
      return { data: answer.data, shape: answer.dims };
    };
  }

  function softmax(logits) {
    const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    const mass = Array.from(logits, (z) => Math.exp(z - most)), sum = mass.reduce((a, b) => a + b, 0);
    return mass.map((m) => m / sum);
  }

  // Labels of which several may hold have a sigmoid each.
  const probabilities = (logits) => (spec.several ? Array.from(logits, (z) => 1 / (1 + Math.exp(-z))) : softmax(logits));

  // Bytes (N, C, H, W) as the network takes them, rounded to float32 after each step as Python does.
  function normalised({ data, shape }) {
    const { mean, std } = spec.input, area = shape[2] * shape[3], f = Math.fround, out = new Float32Array(data.length);
    for (let i = 0; i < data.length; i++) {
      const c = Math.floor(i / area) % shape[1];
      out[i] = f(f(f(data[i] * f(1 / 255)) - f(mean[c])) / f(std[c]));
    }
    return { data: out, shape };
  }

  // Started when the document is there, since onnxruntime-web is a module, which waits for that.
  let opened = null;
  const open = () => (opened ||= spec.runtime === "layers" ? Promise.resolve().then(openLayers) : openOnnx());

  // What an exported file is asked: inputs as the model takes them, or bytes where the file has preprocessing.
  async function run(feeds) {
    const ask = await open();
    if (!spec.pixels) return ask(feeds);
    const { data, shape } = await ask({ inputs: normalised(Object.values(feeds)[0]) });
    const k = shape[1], out = new Float32Array(data.length);
    for (let n = 0; n < shape[0]; n++) out.set(probabilities(data.subarray(n * k, (n + 1) * k)), n * k);
    return { data: out, shape };
  }

  return { spec, open, run, normalised, probabilities, content };
})();

// What a person does with the page: draw, choose or drop an image, type, take an example, and see the answer.
(() => {
  "use strict";
  const { spec } = limbeck, { input } = spec;
  const find = (id) => document.getElementById(id);
  const make = (tag, className, text = "") => {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    return element;
  };
  const percent = (p) => `${(100 * p).toFixed(1)} %`;
  const MOST_BARS = 12;

  let asked = 0;

  // Ask the network, and show what it answers unless something newer was asked.
  async function answer(feeds, said, truth = null) {
    const number = ++asked;
    try {
      const ask = await limbeck.open(), began = performance.now();
      const { data } = await ask(feeds);
      const took = performance.now() - began;
      const probabilities = limbeck.probabilities(data);
      if (number === asked) show(probabilities, took, said, truth);
      return { logits: Array.from(data), probabilities: Array.from(probabilities) };
    } catch (error) {
      if (number === asked) fail(`The network could not answer: ${error.message || error}`);
      throw error;
    }
  }

  function show(probabilities, took, said, truth) {
    let order = Array.from(probabilities, (_, k) => k);
    const best = order.reduce((a, b) => (probabilities[b] > probabilities[a] ? b : a), 0);
    if (order.length > MOST_BARS) order = order.sort((a, b) => probabilities[b] - probabilities[a]).slice(0, MOST_BARS);
    find("top").textContent = spec.classes[best];
    find("share").textContent = percent(probabilities[best]);
    find("answered").textContent = `Answer: ${spec.classes[best]}, ${percent(probabilities[best])}`;
    find("said").textContent = truth === null ? said : `${said}; its true class is ${truth}.`;
    find("said").className = truth === null ? "" : truth === spec.classes[best] ? "right" : "wrong";
    find("latency").textContent = took < 0.095 ? "below 0.1 ms" : `${took.toFixed(took < 10 ? 1 : 0)} ms`;
    find("more").hidden = probabilities.length <= MOST_BARS;
    const bars = order.map((k) => {
      const row = make("li", k === best ? "bar best" : "bar"), track = make("span", "track"), fill = make("span", "fill");
      fill.style.width = `${100 * probabilities[k]}%`;
      track.setAttribute("aria-hidden", "true");
      track.append(fill);
      row.title = spec.classes[k];
      row.append(make("span", "name", spec.classes[k]), track, make("span", "number", percent(probabilities[k])));
      return row;
    });
    find("bars").replaceChildren(...bars);
    find("answer").classList.remove("empty");
  }

  function fail(text) {
    find("said").textContent = text;
    find("said").className = "wrong";
    find("answered").textContent = text;
  }

  function nothing() {
    asked++;
    find("answer").classList.add("empty");
    for (const id of ["top", "share", "said", "latency", "answered"]) find(id).textContent = "";
    find("bars").replaceChildren();
    if (find("seen")) paint(find("seen"), null);
  }

  // --- examples of the held-out data ------------------------------------------------------------------------------

  function examples(use) {
    spec.samples.forEach((sample, number) => {
      const button = make("button", "sample");
      button.type = "button";
      const label = sample.label === null ? "" : `, true class ${sample.label}`;
      if (sample.image) {
        const image = make("img", "");
        image.src = sample.image;
        image.alt = "";
        button.append(image);
      } else button.append(make("span", "excerpt", sample.title));
      if (sample.label !== null) button.append(make("span", "label", sample.label));
      button.setAttribute("aria-label", `Example ${number + 1}${label}`);
      button.addEventListener("click", () => use(sample, `Example ${number + 1} of the ${spec.part} examples`));
      find("samples").append(button);
    });
    find("examples").hidden = !spec.samples.length;
  }

  // --- images -----------------------------------------------------------------------------------------------------

  // Bytes (1, C, H, W) as the pixels of a canvas, which the style enlarges.
  function paint(canvas, pixels) {
    canvas.width = input.width;
    canvas.height = input.height;
    if (!pixels) return;
    const area = input.width * input.height, made = new ImageData(input.width, input.height);
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) made.data[4 * i + c] = pixels.data[i + (input.channels === 1 ? 0 : c * area)];
      made.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(made, 0, 0);
  }

  function askPixels(pixels, said, truth) {
    paint(find("seen"), pixels);
    return answer({ inputs: limbeck.normalised(pixels) }, said, truth);
  }

  // The pixels of a file or an address inside the page, transparent parts on white: {data, height, width, channels}.
  async function decoded(blob) {
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(bitmap, 0, 0);
    const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
    const rgb = new Uint8Array((data.length / 4) * 3);
    for (let i = 0, o = 0; i < data.length; i += 4) { rgb[o++] = data[i]; rgb[o++] = data[i + 1]; rgb[o++] = data[i + 2]; }
    return { data: rgb, height: canvas.height, width: canvas.width, channels: 3 };
  }

  async function askFile(file) {
    if (!file) return null;
    let image;
    try {
      image = await decoded(file);
    } catch {
      nothing();
      return fail(`${file.name} is not an image that this browser can read.`);
    }
    return askPixels(limbeckImages.presented(image, input), `${file.name}, ${image.width} × ${image.height} pixels`);
  }

  function blobOf(address) {
    const bytes = Uint8Array.from(atob(address.slice(address.indexOf(",") + 1)), (letter) => letter.charCodeAt(0));
    return new Blob([bytes], { type: address.slice(5, address.indexOf(";")) });
  }

  // A sample has the network's size already, and is shown to it as it is.
  async function askSample(sample, said) {
    const image = await decoded(blobOf(sample.image));
    const plain = { ...input, crop: 1, squash: true };
    return askPixels(limbeckImages.presented(image, plain), said, sample.label);
  }

  function images() {
    find("file").addEventListener("change", (event) => {
      askFile(event.target.files[0]);
      event.target.value = "";
    });
    const zone = document.body;
    zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
    zone.addEventListener("dragleave", (event) => { if (!event.relatedTarget) zone.classList.remove("over"); });
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      askFile(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => askFile(event.clipboardData && event.clipboardData.files[0]));
  }

  // --- drawing ----------------------------------------------------------------------------------------------------

  function drawing() {
    const pad = find("pad"), pen = pad.getContext("2d"), strokes = [];
    let pressed = null, waiting = false;

    function redraw() {
      const dense = window.devicePixelRatio || 1, side = pad.clientWidth;
      pad.width = pad.height = Math.round(side * dense);
      pen.scale(pad.width, pad.height);
      pen.lineWidth = 0.055;
      pen.lineCap = pen.lineJoin = "round";
      pen.strokeStyle = pen.fillStyle = getComputedStyle(pad).color;
      for (const stroke of strokes) {
        pen.beginPath();
        pen.moveTo(...stroke[0]);
        for (const point of stroke) pen.lineTo(...point);
        pen.stroke();
      }
      find("hint").hidden = strokes.length > 0;
      find("undo").disabled = find("clear").disabled = !strokes.length;
    }

    function ask() {
      waiting = false;
      if (strokes.length) askPixels(limbeckImages.drawn(strokes, input), "Your drawing, scaled and centred");
      else nothing();
    }

    function later() {
      redraw();
      if (!waiting) setTimeout(ask, 60);
      waiting = true;
    }

    function place(event) {
      const box = pad.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    }

    pad.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || pressed !== null) return;
      event.preventDefault();
      pressed = event.pointerId;
      pad.setPointerCapture(pressed);
      strokes.push([place(event)]);
      later();
    });
    pad.addEventListener("pointermove", (event) => {
      if (event.pointerId !== pressed) return;
      const all = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
      for (const each of all.length ? all : [event]) strokes[strokes.length - 1].push(place(each));
      later();
    });
    for (const name of ["pointerup", "pointercancel"])
      pad.addEventListener(name, (event) => { if (event.pointerId === pressed) pressed = null; });

    const undo = () => { strokes.pop(); later(); };
    const clear = () => { strokes.length = 0; later(); };
    find("undo").addEventListener("click", undo);
    find("clear").addEventListener("click", clear);
    document.addEventListener("keydown", (event) => {
      if (event.target.matches("input, textarea, select") || event.altKey) return;
      const letter = event.key.toLowerCase(), control = event.ctrlKey || event.metaKey;
      if (letter === "z" && control) undo();
      else if ((letter === "delete" || letter === "backspace" || letter === "c") && !control) clear();
      else if (letter === "z") undo();
      else return;
      event.preventDefault();
    });
    new ResizeObserver(redraw).observe(pad);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    redraw();
    return { clear: () => { strokes.length = 0; redraw(); } };
  }

  // --- numbers ----------------------------------------------------------------------------------------------------

  function numbers() {
    const field = find("numbers");
    const ask = (said, truth) => {
      const words = field.value.split(/[\s,;]+/).filter((word) => word), values = words.map(Number);
      if (!words.length) return nothing();
      const odd = words.find((word) => !Number.isFinite(Number(word)));
      if (odd !== undefined) return fail(`“${odd}” is not a number.`);
      if (values.length !== input.count) return fail(`The network takes ${input.count} numbers, and these are ${values.length}.`);
      return answer({ inputs: { data: Float32Array.from(values), shape: [1, ...input.shape] } }, said, truth);
    };
    field.addEventListener("input", () => ask("Your numbers"));
    return (sample, said) => { field.value = sample.numbers.join(" "); return ask(said, sample.label); };
  }

  // --- start ------------------------------------------------------------------------------------------------------

  function start() {
    let use = null;
    if (input.kind === "image") {
      images();
      const pad = input.draw ? drawing() : null;
      use = (sample, said) => { if (pad) pad.clear(); return askSample(sample, said); };
    } else if (input.kind === "numbers") use = numbers();
    else use = limbeckFields(answer, nothing, fail);
    examples(use);
    window.limbeckPredict = async (given) => {
      if (given.pixels) return answer({ inputs: limbeck.normalised({ data: Uint8Array.from(given.pixels), shape: [1, input.channels, input.height, input.width] }) }, "");
      if (given.inputs) return answer({ inputs: { data: Float32Array.from(given.inputs), shape: [1, ...given.shape] } }, "");
      return use(given, "", null);
    };
    if (spec.samples.length) use(spec.samples[0], `Example 1 of the ${spec.part} examples`).then(() => { document.body.dataset.ready = "yes"; });
    else limbeck.open().then(() => { document.body.dataset.ready = "yes"; }, (error) => fail(`The network could not be opened: ${error.message || error}`));
  }

  document.addEventListener("DOMContentLoaded", start);
})();

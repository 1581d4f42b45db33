// Images as the network sees them: resized as Pillow resizes, cropped, drawn lines as small images.
globalThis.limbeckImages = (() => {
  "use strict";
  const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
  // [half of its width, weight at a distance]
  const filters = {
    box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
    bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
    hamming: [1, (x) => (Math.abs(x) >= 1 ? 0 : sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x)))],
    bicubic: [2, (x) => {
      x = Math.abs(x);
      return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    }],
    lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
  };

  // For each of `count` outputs: where its inputs begin, and their weights, with 22 binary places.
  function taps(length, count, [width, weight]) {
    const scale = length / count, spread = Math.max(scale, 1), support = width * spread;
    return Array.from({ length: count }, (_, out) => {
      const centre = (out + 0.5) * scale;
      const from = Math.max(0, Math.trunc(centre - support + 0.5));
      const to = Math.min(length, Math.trunc(centre + support + 0.5));
      const values = [];
      for (let i = from; i < to; i++) values.push(weight((i - centre + 0.5) * (1 / spread)));
      const sum = values.reduce((a, b) => a + b, 0) || 1;
      return { from, weights: values.map((v) => Math.trunc((v / sum) * 4194304 + (v < 0 ? -0.5 : 0.5))) };
    });
  }

  const byte = (sum) => Math.min(255, Math.max(0, Math.floor((sum + 2097152) / 4194304)));

  // An image is {data, height, width, channels}; data are bytes, channels last.
  function resized(image, high, wide, interpolation, tallFirst) {
    const n = image.channels;
    if (interpolation === "nearest") {
      const data = new Uint8Array(high * wide * n);
      for (let y = 0; y < high; y++)
        for (let x = 0; x < wide; x++) {
          const row = Math.floor(((y + 0.5) * image.height) / high), column = Math.floor(((x + 0.5) * image.width) / wide);
          for (let c = 0; c < n; c++) data[(y * wide + x) * n + c] = image.data[(row * image.width + column) * n + c];
        }
      return { data, height: high, width: wide, channels: n };
    }
    // Which pass comes first matters to the last bit, and is Pillow's: later versions shrink tall images' height first.
    const across = (one) => (wide === one.width ? one : horizontally(one, wide, filters[interpolation]));
    const down = (one) => (high === one.height ? one : vertically(one, high, filters[interpolation]));
    const less = image.height - high, tall = tallFirst && less > 0 && less > 2 * (image.width - wide);
    return tall ? across(down(image)) : down(across(image));
  }

  function horizontally({ data, height, width, channels: n }, wide, filter) {
    const made = new Uint8Array(height * wide * n), all = taps(width, wide, filter);
    for (let y = 0, o = 0; y < height; y++)
      for (const { from, weights } of all)
        for (let c = 0; c < n; c++, o++) {
          let sum = 0;
          for (let k = 0, i = (y * width + from) * n + c; k < weights.length; k++, i += n) sum += data[i] * weights[k];
          made[o] = byte(sum);
        }
    return { data: made, height, width: wide, channels: n };
  }

  function vertically({ data, width, height, channels: n }, high, filter) {
    const line = width * n, made = new Uint8Array(high * line);
    taps(height, high, filter).forEach(({ from, weights }, y) => {
      for (let x = 0; x < line; x++) {
        let sum = 0;
        for (let k = 0, i = from * line + x; k < weights.length; k++, i += line) sum += data[i] * weights[k];
        made[y * line + x] = byte(sum);
      }
    });
    return { data: made, height: high, width, channels: n };
  }

  const even = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

  // The middle of an image, as the network's own presentation says: bytes [C, H, W].
  function presented(image, { height, width, channels, crop, squash, interpolation, tallFirst }) {
    let high = Math.floor(height / crop), wide = Math.floor(width / crop);
    if (!squash) {
      const factor = Math.max(high / image.height, wide / image.width);
      high = Math.max(high, Math.trunc(image.height * factor));
      wide = Math.max(wide, Math.trunc(image.width * factor));
    }
    const whole = high === image.height && wide === image.width ? image : resized(image, high, wide, interpolation, tallFirst);
    const top = even((high - height) / 2), left = even((wide - width) / 2), n = whole.channels;
    const data = new Uint8Array(channels * height * width);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const i = ((y + top) * wide + x + left) * n, o = y * width + x, area = height * width;
        const red = whole.data[i], green = whole.data[n === 1 ? i : i + 1], blue = whole.data[n === 1 ? i : i + 2];
        if (channels === 1) data[o] = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16;
        else {
          data[o] = red;
          data[o + area] = green;
          data[o + 2 * area] = blue;
        }
      }
    return { data, shape: [1, channels, height, width] };
  }

  // Coverage of pixels by lines of a width, from 0 to 1.
  function lines(strokes, height, width, thickness) {
    const cover = new Float64Array(height * width), reach = thickness / 2 + 1;
    for (const stroke of strokes)
      for (let i = 0; i < stroke.length; i++) {
        const [ax, ay] = stroke[Math.max(0, i - 1)], [bx, by] = stroke[i];
        const dx = bx - ax, dy = by - ay, square = dx * dx + dy * dy || 1;
        for (let y = Math.max(0, Math.floor(Math.min(ay, by) - reach)); y <= Math.min(height - 1, Math.max(ay, by) + reach); y++)
          for (let x = Math.max(0, Math.floor(Math.min(ax, bx) - reach)); x <= Math.min(width - 1, Math.max(ax, bx) + reach); x++) {
            const t = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / square));
            const far = Math.hypot(x - ax - t * dx, y - ay - t * dy);
            cover[y * width + x] = Math.max(cover[y * width + x], Math.min(1, Math.max(0, thickness / 2 - far + 0.5)));
          }
      }
    return cover;
  }

  // A drawing as MNIST's digits are: as large as 20 of 28 pixels, its centre of mass at pixel 14, lines as thick as there.
  function drawn(strokes, { height, width, channels, dark }) {
    const points = strokes.flat(), side = Math.min(height, width), thickness = (2.5 * side) / 28;
    if (!points.length) return { data: new Uint8Array(channels * height * width).fill(dark ? 255 : 0), shape: [1, channels, height, width] };
    const least = [0, 1].map((k) => points.reduce((a, p) => Math.min(a, p[k]), Infinity));
    const most = [0, 1].map((k) => points.reduce((a, p) => Math.max(a, p[k]), -Infinity));
    const longest = Math.max(most[0] - least[0], most[1] - least[1]);
    const scale = longest > 0 ? ((20 * side) / 28 - thickness) / longest : 0;
    const placed = (right, down) => strokes.map((stroke) => stroke.map(([x, y]) => [
      (x - (least[0] + most[0]) / 2) * scale + right, (y - (least[1] + most[1]) / 2) * scale + down,
    ]));
    let right = width / 2, down = height / 2, cover = [];
    for (let round = 0; round < 3; round++) {
      cover = lines(placed(right, down), height, width, thickness);
      let mass = 0, x = 0, y = 0;
      cover.forEach((v, i) => { mass += v; x += v * (i % width); y += v * Math.floor(i / width); });
      if (round < 2) { right += width / 2 - x / mass; down += height / 2 - y / mass; }
    }
    const data = new Uint8Array(channels * height * width);
    for (let i = 0; i < data.length; i++) {
      const v = Math.round(255 * cover[i % cover.length]);
      data[i] = dark ? 255 - v : v;
    }
    return { data, shape: [1, channels, height, width] };
  }

  return { resized, presented, drawn };
})();

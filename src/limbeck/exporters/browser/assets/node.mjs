// Answers what comes by standard input with what a page's scripts compute; the page's data lie in files beside this one.
// A message is the length of a header (4 bytes, the least first), the header in JSON, and the tensors it names.
import { existsSync, readFileSync, readSync, writeSync } from "node:fs";

const beside = (name) => new URL(name, import.meta.url);
globalThis.document = { getElementById: (id) => ({ textContent: readFileSync(beside(`${id}.txt`), "utf8") }) };
for (const script of ["ort.mjs", "engine.mjs"]) if (existsSync(beside(script))) await import(beside(script));

const kinds = { float32: Float32Array, int64: BigInt64Array, uint8: Uint8Array };

function take(length) {
  const bytes = Buffer.alloc(length);
  for (let done = 0; done < length; ) {
    const got = readSync(0, bytes, done, length - done, null);
    if (!got) process.exit(0);
    done += got;
  }
  return bytes;
}

function give(bytes) {
  for (let done = 0; done < bytes.length; ) done += writeSync(1, bytes, done);
}

function message(header, data = new Uint8Array(0)) {
  const text = Buffer.from(JSON.stringify(header)), length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  give(length);
  give(text);
  give(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

try {
  await limbeck.open();
  message({ ready: process.version });
} catch (error) {
  message({ error: String(error && error.message || error) });
}
for (;;) {
  const header = JSON.parse(take(take(4).readUInt32LE()).toString()), feeds = {};
  for (const { name, type, shape } of header.inputs) {
    const kind = kinds[type], bytes = take(shape.reduce((a, b) => a * b, 1) * kind.BYTES_PER_ELEMENT);
    feeds[name] = { data: new kind(bytes.buffer, bytes.byteOffset, bytes.length / kind.BYTES_PER_ELEMENT), shape };
  }
  try {
    const { data, shape } = await limbeck.run(feeds);
    message({ shape }, data);
  } catch (error) {
    message({ error: String(error && error.message || error) });
  }
}

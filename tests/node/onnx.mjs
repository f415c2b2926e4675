// Proof in a real runtime: runs a model.onnx with onnxruntime (CPU only) over token ids and writes its logits. Results:
// one JSON object on stdout, bulk numbers in a file. Any failure: exit code 1 and a message. It judges nothing (the C++
// tests compare its output with ours).
import fs from "node:fs";
import process from "node:process";
import ort from "onnxruntime-node";

const USAGE = `usage: node onnx.mjs MODEL.onnx IDS.json OUT.f32 [WAY...]

IDS.json: [[ids], [ids], ...]; every window starts with an empty cache.
OUT.f32: little-endian float32, for each WAY [rows x vocabulary], windows one after the other.
WAY: options with spaces between them, "" for none; without a WAY one of none.
  chunk=N            N tokens at a time with a cache; without it a window at once
  optimize=LEVEL     disabled, basic, extended, all (default)
  left=N             N padding tokens in front of every window, which the mask leaves out
  buffer=N           caches of N tokens from the start, as onnxruntime-genai shares them; without it they grow
  KEY=VALUE          a session option of onnxruntime, such as session.qdq_matmulnbits_accuracy_level=0`;

const OWN_OPTIONS = ["chunk", "optimize", "left", "buffer"];

function readWay(text) {
  const words = text.split(" ").filter((word) => word.length > 0);
  const all = Object.fromEntries(words.map((word) => word.split(/=(.*)/s).slice(0, 2)));
  const session = {};
  for (const [key, value] of Object.entries(all)) if (!OWN_OPTIONS.includes(key)) session[key] = value;
  const count = (key) => Number(all[key] ?? 0);
  return {
    chunk: count("chunk"),
    optimize: all.optimize ?? "all",
    left: count("left"),
    buffer: count("buffer"),
    session,
  };
}

/** {"session.a.b": v} as the nested objects that the binding takes. */
function nested(flat) {
  const root = {};
  for (const [key, value] of Object.entries(flat)) {
    const parts = key.split(".");
    const last = parts.pop();
    let at = root;
    for (const part of parts) at = at[part] ??= {};
    at[last] = value;
  }
  return root;
}

const int64 = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);

/** A cache without tokens, with room for `rows`, from the shapes that the model states. */
function emptyCache(session, rows) {
  const cache = {};
  for (const { name, shape } of session.inputMetadata) {
    if (!name.startsWith("past_key_values.")) continue;
    cache[name] = new ort.Tensor("float32", new Float32Array(shape[1] * rows * shape[3]), [1, shape[1], rows, shape[3]]);
  }
  return cache;
}

/** Rows of logits of the window, padding left out. */
async function runWindow(session, window, { chunk, left, buffer }) {
  const ids = [...Array(left).fill(window[0]), ...window];
  const step = chunk > 0 ? chunk : ids.length;
  const rows = [];
  let cache = emptyCache(session, buffer);
  for (let start = 0; start < ids.length; start += step) {
    const part = ids.slice(start, start + step);
    const mask = Array.from({ length: start + part.length }, (_, i) => Number(i >= left));
    const outputs = await session.run({ input_ids: int64(part), attention_mask: int64(mask), ...cache });
    rows.push(outputs.logits.data);
    cache = {};
    for (const [name, tensor] of Object.entries(outputs))
      if (name !== "logits") cache[name.replace("present", "past_key_values")] = tensor;
  }
  const vocabulary = rows[0].length / Math.min(step, ids.length);
  const all = new Float32Array(ids.length * vocabulary);
  rows.reduce((at, row) => (all.set(row, at), at + row.length), 0);
  return { vocabulary, logits: all.subarray(left * vocabulary) };
}

async function openSession(modelPath, way) {
  return ort.InferenceSession.create(modelPath, {
    executionProviders: ["cpu"],
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
    graphOptimizationLevel: way.optimize,
    extra: nested(way.session),
  });
}

async function main([modelPath, idsFile, outFile, ...ways]) {
  if (outFile == null) throw new Error(USAGE);
  const windows = JSON.parse(fs.readFileSync(idsFile, "utf8"));
  const out = fs.openSync(outFile, "w");
  let vocabulary = 0;
  for (const way of ways.length > 0 ? ways.map(readWay) : [readWay("")]) {
    const session = await openSession(modelPath, way);
    for (const window of windows) {
      const result = await runWindow(session, window, way);
      vocabulary = result.vocabulary;
      const { buffer, byteOffset, byteLength } = result.logits;
      fs.writeSync(out, new Uint8Array(buffer, byteOffset, byteLength));
    }
    await session.release();
  }
  fs.closeSync(out);
  process.stdout.write(JSON.stringify({ vocabulary }) + "\n");
}

main(process.argv.slice(2)).catch((error) => {
  process.exitCode = 1;
  process.stderr.write(`onnx.mjs: ${error?.message ?? error}\n`);
});

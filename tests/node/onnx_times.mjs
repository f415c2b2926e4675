// How long onnxruntime (CPU) takes over a model.onnx, for bench/: a prompt at once, then tokens one at a time with the cache.
// One JSON object on stdout: milliseconds of the prompt and the median of a token. Any failure: exit code 1 and a message.
import process from "node:process";
import ort from "onnxruntime-node";

const USAGE = "usage: node onnx_times.mjs MODEL.onnx PROMPT-TOKENS TOKENS";

const int64 = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);

function emptyCache(session) {
  const cache = {};
  for (const { name, shape } of session.inputMetadata)
    if (name.startsWith("past_key_values."))
      cache[name] = new ort.Tensor("float32", new Float32Array(0), [1, shape[1], 0, shape[3]]);
  return cache;
}

/** Milliseconds of each of the runs over these pieces of a text. */
async function times(session, pieces) {
  let cache = emptyCache(session);
  let tokens = 0;
  const all = [];
  for (const ids of pieces) {
    tokens += ids.length;
    const inputs = { input_ids: int64(ids), attention_mask: int64(Array(tokens).fill(1)), ...cache };
    const start = performance.now();
    const outputs = await session.run(inputs);
    all.push(performance.now() - start);
    cache = {};
    for (const [name, tensor] of Object.entries(outputs))
      if (name !== "logits") cache[name.replace("present", "past_key_values")] = tensor;
  }
  return all;
}

async function main([path, promptTokens, tokens]) {
  if (!(promptTokens > 0 && tokens > 0)) throw new Error(USAGE);
  const session = await ort.InferenceSession.create(path);
  const id = (i) => (i * i * 13 + i) % 997;
  const prompt = Array.from({ length: Number(promptTokens) }, (_, i) => id(i));
  const single = Array.from({ length: Number(tokens) }, (_, i) => [id(i + 7)]);
  await times(session, [prompt.slice(0, 1)]);
  const [first, ...rest] = await times(session, [prompt, ...single]);
  rest.sort((a, b) => a - b);
  console.log(JSON.stringify({ prompt: first, token: rest[rest.length >> 1] }));
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});

// Proof in a real runtime: loads a GGUF file with llama.cpp (through node-llama-cpp, CPU only) and reports what it
// sees. Results: one JSON object on stdout, bulk numbers in a file; llama.cpp's warnings on stderr. Any failure: exit
// code 1 and a message. It judges nothing (the C++ tests compare its output with ours), builds and downloads nothing.
import fs from "node:fs";
import process from "node:process";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const USAGE = `usage: node llama.mjs COMMAND MODEL.gguf ARGUMENTS

  tokenize     MODEL TEXT_FILE             ids of the text; special tokens written in the text are plain text
  tokenize_all MODEL TEXTS.json            the same for a list of texts
  detokenize   MODEL IDS.json              text of a list of ids
  distribution MODEL IDS.json OUT.f32      probabilities of the next token after every position, softmax in float32
  logits       MODEL IDS.json OUT.f32      the same before the softmax
  generate     MODEL PROMPT_FILE COUNT     greedy continuation of COUNT tokens, BOS in front if the model wants it
  divergence   MODEL TEXT_FILE CONTEXT WINDOWS OTHER...
               how far OTHER models' predictions are from MODEL's, second half of WINDOWS windows of CONTEXT tokens

IDS.json: [ids], [[ids], [ids], ...], {"windows": [[ids], ...]} or {"windows": {"name": [ids], ...}}; an object may hold
"from": k to leave out the first k positions of every window. Every window starts with an empty context.
OUT.f32: little-endian float32 [rows x vocabulary], windows one after the other, columns in order of token id.`;

const readText = (path) => fs.readFileSync(path, "utf8");

/** @returns {{windows: number[][], from: number}} checked against the vocabulary, `from` below every window's length */
function readWindows(path, vocabulary) {
  const json = JSON.parse(readText(path));
  const named = Array.isArray(json) ? json : json.windows;
  const list = Array.isArray(named) ? named : Object.values(named ?? {});
  const windows = list.length > 0 && list.every(Number.isInteger) ? [list] : list;
  const from = json.from ?? 0;
  if (windows.length === 0) throw new Error(`${path}: no windows of token ids`);
  if (!Number.isInteger(from) || from < 0) throw new Error(`${path}: "from" is ${from}, want a count of positions`);
  for (const [number, ids] of windows.entries()) {
    const place = `${path}: window ${number}`;
    if (!Array.isArray(ids) || ids.length <= from) throw new Error(`${place}: need more than ${from} ids`);
    const bad = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabulary);
    if (bad >= 0) throw new Error(`${place}, position ${bad}: ${ids[bad]} is no id below ${vocabulary}`);
  }
  return { windows, from };
}

async function openModel(path, options = {}) {
  const llama = await getLlama({
    gpu: false,
    build: "never",
    skipDownload: true,
    progressLogs: "stderr",
    logLevel: LlamaLogLevel.warn,
    logger: (level, message) => process.stderr.write(`llama.cpp ${level}: ${message.trimEnd()}\n`),
    maxThreads: 1, // its threads spin while they wait: with two on a busy machine of two cores, 46 s instead of 0.7 s
  });
  return llama.loadModel({ modelPath: path, gpuLayers: 0, checkTensors: true, ...options });
}

/** One empty sequence that holds `tokens` tokens; a request beyond the trained context is refused, not shifted. */
async function openSequence(model, tokens) {
  if (tokens > model.trainContextSize)
    throw new Error(`${tokens} tokens asked for, the model's context is ${model.trainContextSize}`);
  // One place more than there are tokens: a full context is shifted before the last token is evaluated. Keys and values
  // as they are computed, not rounded to half precision.
  const context = await model.createContext({
    contextSize: tokens + 1,
    batchSize: tokens,
    flashAttention: false,
    experimentalKvCacheKeyType: "F32",
    experimentalKvCacheValueType: "F32",
  });
  return context.getSequence();
}

/** The number of token ids, which is also the number of columns of every distribution. */
const vocabularySize = (model) => [...model.iterateAllTokens()].length;

async function tokenize(model, textFile) {
  const { bos, shouldPrependBosToken } = model.tokens;
  const ids = model.tokenize(readText(textFile), false);
  return { ids, ids_with_bos: bos == null ? null : [bos, ...ids], bos, add_bos: shouldPrependBosToken };
}

async function tokenizeAll(model, textsFile) {
  const texts = JSON.parse(readText(textsFile));
  return { ids: texts.map((text) => model.tokenize(text, false)) };
}

async function detokenize(model, idsFile) {
  const { windows } = readWindows(idsFile, vocabularySize(model));
  return { texts: windows.map((ids) => model.detokenize(ids, true)) };
}

/** One row of `kind` values ordered by token id; the runtime hands them over ordered by value. */
function fillRow(row, values, kind, place) {
  if (values?.size !== row.length) throw new Error(`${place}: ${values?.size} ${kind}, want ${row.length}`);
  row.fill(NaN); // a token that the runtime leaves out must not pass for zero
  for (const [token, value] of values) row[token] = value;
  if (!row.every(Number.isFinite)) throw new Error(`${place}: one of the ${kind} is missing or not finite`);
}

/** Writes [rows x vocabulary] to `outFile`, window by window, so that memory holds one window at a time. */
async function evaluateWindows(kind, model, idsFile, outFile) {
  const vocabulary = vocabularySize(model);
  const { windows, from } = readWindows(idsFile, vocabulary);
  const sequence = await openSequence(model, Math.max(...windows.map((ids) => ids.length)));
  const next = { generateNext: { [kind]: true, options: { temperature: 0 } } }; // greedy sampling alters no logit
  const out = fs.openSync(outFile, "w");
  for (const [number, ids] of windows.entries()) {
    await sequence.clearHistory();
    const rows = new Float32Array((ids.length - from) * vocabulary);
    const outputs = await sequence.controlledEvaluate(ids.map((id, i) => (i < from ? id : [id, next])));
    for (let i = from; i < ids.length; i++) {
      const row = rows.subarray((i - from) * vocabulary, (i - from + 1) * vocabulary);
      fillRow(row, outputs[i]?.next[kind], kind, `window ${number}, position ${i}`);
    }
    fs.writeSync(out, new Uint8Array(rows.buffer));
  }
  fs.closeSync(out);
  return { kind, vocabulary, from, rows: windows.map((ids) => ids.length - from), file: outFile };
}

async function generate(model, promptFile, countText) {
  const count = Number(countText);
  if (!Number.isInteger(count) || count < 1) throw new Error(`COUNT is '${countText}', want 1 or more`);
  const { ids, bos, add_bos: addBos } = await tokenize(model, promptFile);
  const prompt = addBos ? [bos, ...ids] : ids;
  const sequence = await openSequence(model, prompt.length + count);
  const generated = [];
  for await (const token of sequence.evaluate(prompt, { temperature: 0 })) {
    generated.push(token);
    if (generated.length === count) break;
  }
  return { prompt, ids: generated, text: model.detokenize(generated) };
}

/** Natural logarithm of the softmax, in double: [vocabulary] */
function logSoftmax(logits) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const sum = logits.reduce((total, l) => total + Math.exp(l - largest), 0);
  return Float64Array.from(logits, (l) => l - largest - Math.log(sum));
}

/** KL(p || q) of two logarithms of distributions, natural logarithm. */
const divergenceOf = (p, q) => p.reduce((total, log, i) => total + Math.exp(log) * (log - q[i]), 0);

const largestAt = (row) => row.reduce((best, value, i) => (value > row[best] ? i : best), 0);

/** Predictions after the second half of a window, but for its last token, which has no successor: [tokens] rows. */
async function predictions(sequence, ids, vocabulary) {
  await sequence.clearHistory();
  const next = { generateNext: { logits: true, options: { temperature: 0 } } };
  const from = ids.length / 2;
  const asked = ids.slice(0, -1).map((id, i) => (i < from ? id : [id, next]));
  const outputs = await sequence.controlledEvaluate(asked);
  return outputs.slice(from).map((output, i) => {
    const row = new Float32Array(vocabulary);
    fillRow(row, output?.next.logits, "logits", `position ${from + i}`);
    return logSoftmax(row);
  });
}

/** `count` windows spread evenly over the text, as llama.cpp's perplexity cuts it: BOS over the first token of each. */
async function spreadWindows(model, textFile, context, count) {
  const { ids, bos, add_bos: addBos } = await tokenize(model, textFile);
  const stream = addBos ? [bos, ...ids] : ids;
  const all = Math.floor(stream.length / context);
  if (count > all) throw new Error(`${textFile}: ${all} windows of ${context} tokens, ${count} asked for`);
  return Array.from({ length: count }, (_, k) => {
    const start = Math.floor((k * all) / count) * context;
    return [addBos ? bos : stream[start], ...stream.slice(start + 1, start + context)];
  });
}

/** Sums over scored tokens, from which `judgement` makes means. */
const noScores = () => ({ tokens: 0, loss: 0, kl: 0, squares: 0, same: 0 });

function addScores(sums, reference, rows, targets) {
  for (const [i, row] of rows.entries()) {
    const kl = divergenceOf(reference[i], row);
    sums.tokens += 1;
    sums.loss -= row[targets[i]];
    sums.kl += kl;
    sums.squares += kl * kl;
    sums.same += Number(largestAt(row) === largestAt(reference[i]));
  }
}

function judgement(file, { tokens, loss, kl, squares, same }) {
  const mean = kl / tokens;
  const variance = (squares - tokens * mean * mean) / (tokens - 1); // tokens as independent, as `adze eval` does
  const error = Math.sqrt(variance / tokens);
  return { file, perplexity: Math.exp(loss / tokens), kl_mean: mean, kl_mean_se: error, same_top: same / tokens };
}

/** All models are open at once, so that the reference's predictions are kept for one window at a time. */
async function divergence(model, textFile, contextText, countText, ...others) {
  const [context, count] = [Number(contextText), Number(countText)];
  if (!Number.isInteger(context) || context < 8 || context % 2 > 0)
    throw new Error(`CONTEXT is '${contextText}', want an even number from 8`);
  if (!Number.isInteger(count) || count < 1) throw new Error(`WINDOWS is '${countText}', want 1 or more`);
  const windows = await spreadWindows(model, textFile, context, count);
  const vocabulary = vocabularySize(model);
  const judged = [];
  for (const file of others) {
    const other = await model.llama.loadModel({ modelPath: file, gpuLayers: 0, checkTensors: true });
    if (vocabularySize(other) !== vocabulary) throw new Error(`${file}: its vocabulary has another size`);
    judged.push({ file, sequence: await openSequence(other, context), sums: noScores() });
  }
  const original = { file: "reference", sequence: await openSequence(model, context), sums: noScores() };
  for (const ids of windows) {
    const targets = ids.slice(context / 2 + 1);
    const reference = await predictions(original.sequence, ids, vocabulary);
    addScores(original.sums, reference, reference, targets);
    for (const { sequence, sums } of judged)
      addScores(sums, reference, await predictions(sequence, ids, vocabulary), targets);
  }
  return {
    windows: windows.length,
    tokens: original.sums.tokens,
    perplexity_base: judgement("", original.sums).perplexity,
    models: judged.map(({ file, sums }) => judgement(file, sums)),
  };
}

// arity: arguments after MODEL; more: or more than that
const COMMANDS = {
  tokenize: { arity: 1, load: { vocabOnly: true }, run: tokenize },
  tokenize_all: { arity: 1, load: { vocabOnly: true }, run: tokenizeAll },
  detokenize: { arity: 1, load: { vocabOnly: true }, run: detokenize },
  distribution: { arity: 2, run: (...args) => evaluateWindows("probabilities", ...args) },
  logits: { arity: 2, run: (...args) => evaluateWindows("logits", ...args) },
  divergence: { arity: 4, more: true, run: divergence },
  generate: { arity: 2, run: generate },
};

const fits = ({ arity, more }, count) => count === arity || (Boolean(more) && count > arity);

async function main([name, modelPath, ...rest]) {
  const command = Object.hasOwn(COMMANDS, name ?? "") ? COMMANDS[name] : null;
  if (!command || modelPath == null || !fits(command, rest.length)) throw new Error(USAGE);
  const model = await openModel(modelPath, command.load);
  const started = performance.now();
  const result = await command.run(model, ...rest);
  const seconds = (performance.now() - started) / 1000;
  process.stdout.write(JSON.stringify({ model: modelPath, ...result, seconds }) + "\n");
  await model.llama.dispose(); // also frees the model and lets node exit
}

main(process.argv.slice(2)).catch((error) => {
  process.exitCode = 1;
  process.stderr.write(`llama.mjs: ${error?.message ?? error}\n`);
});

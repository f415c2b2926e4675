// Proof in a browser: @huggingface/transformers in headless Chromium loads an exported ONNX folder by what the folder
// says of itself, splits a text into tokens, and continues it. Nothing is fetched but from this machine. Results: one JSON
// object on stdout, logits in a file. Any failure: exit code 1 and a message. It judges nothing (the C++ tests do).
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const USAGE = `usage: node browser_model.mjs FOLDER TEXT.txt COUNT OUT.f32

{"ids": those of the text, "generated": the COUNT likeliest ones that follow}
OUT.f32: little-endian float32 [tokens of the text x vocabulary].
ADZE_CHROMIUM: the browser, else /usr/bin/chromium.`;

const PACKAGES = fileURLToPath(new URL("node_modules", import.meta.url));
const TYPES = { ".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm" };

/** A server of a blank page, the library, its runtime, and the model. */
function serve(model) {
  const folders = {
    "/library/": path.join(PACKAGES, "@huggingface/transformers/dist"),
    "/runtime/": path.join(PACKAGES, "onnxruntime-web/dist"),
    "/models/model/": model,
  };
  return http.createServer((request, response) => {
    if (request.url === "/") {
      response.setHeader("content-type", "text/html");
      response.end("<!doctype html><title>model</title>");
      return;
    }
    const prefix = Object.keys(folders).find((one) => request.url.startsWith(one));
    const file = prefix && path.join(folders[prefix], path.basename(request.url));
    if (!file || !fs.existsSync(file)) {
      response.statusCode = 404;
      response.end();
      return;
    }
    response.setHeader("content-type", TYPES[path.extname(file)] ?? "application/octet-stream");
    response.setHeader("content-length", fs.statSync(file).size);
    fs.createReadStream(file).pipe(response);
  });
}

/** In the page. */
async function runModel({ text, count }) {
  const { AutoModelForCausalLM, AutoTokenizer, env } = await import("/library/transformers.min.js");
  Object.assign(env, {
    allowLocalModels: true,
    allowRemoteModels: false,
    localModelPath: "/models/",
    useBrowserCache: false,
    useWasmCache: false,
  });
  Object.assign(env.backends.onnx.wasm, { wasmPaths: "/runtime/", numThreads: 1 });
  const tokenizer = await AutoTokenizer.from_pretrained("model");
  const model = await AutoModelForCausalLM.from_pretrained("model", { subfolder: "" });
  const inputs = tokenizer(text);
  const { logits } = await model(inputs);
  const all = await model.generate({ ...inputs, max_new_tokens: count, min_new_tokens: count, do_sample: false });
  const ids = [...inputs.input_ids.data].map(Number);
  const bytes = new Uint8Array(logits.data.buffer, logits.data.byteOffset, logits.data.byteLength);
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return { ids, generated: [...all.data].map(Number).slice(ids.length), logits: btoa(binary) };
}

async function main([model, textFile, count, outFile]) {
  if (outFile == null) throw new Error(USAGE);
  const server = serve(model);
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  const address = `http://127.0.0.1:${server.address().port}/`;
  const browser = await chromium.launch({
    executablePath: process.env.ADZE_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
  try {
    const page = await browser.newPage();
    const foreign = [];
    page.on("request", (request) => {
      const { origin, protocol } = new URL(request.url());
      if (origin !== new URL(address).origin && protocol !== "blob:" && protocol !== "data:") foreign.push(request.url());
    });
    await page.goto(address);
    const result = await page.evaluate(runModel, { text: fs.readFileSync(textFile, "utf8"), count: Number(count) });
    if (foreign.length > 0) throw new Error(`the page asked for ${foreign}`);
    fs.writeFileSync(outFile, Buffer.from(result.logits, "base64"));
    process.stdout.write(JSON.stringify({ ids: result.ids, generated: result.generated }) + "\n");
  } finally {
    await browser.close();
    server.close();
  }
}

main(process.argv.slice(2)).catch((error) => {
  process.exitCode = 1;
  process.stderr.write(`browser_model.mjs: ${error?.message ?? error}\n`);
});

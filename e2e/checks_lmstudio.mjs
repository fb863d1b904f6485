// LM Studio's library for JavaScript against the simulator. Run in e2e/.cache/lmstudio-node, whose node_modules holds it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { E2E_BASE, E2E_LOCKED, E2E_FAILING, E2E_CAUSE, E2E_KEY } = process.env;
const here = createRequire(pathToFileURL(process.cwd() + "/"));
const { LMStudioClient, tool } = await import(pathToFileURL(here.resolve("@lmstudio/sdk")));
const VERSION = JSON.parse(readFileSync("node_modules/@lmstudio/sdk/package.json")).version;

const [QWEN, GEMMA, NOMIC] = ["qwen/qwen3-8b", "google/gemma-3-4b", "text-embedding-nomic-embed-text-v1.5"];
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const connect = (base, more = {}) => new LMStudioClient({ baseUrl: `ws://${base}`, logger: quiet, ...more });
const client = connect(E2E_BASE);
const loaded = async () => (await client.llm.listLoaded()).map((model) => model.identifier);
const before = await loaded();
let mine;

const checks = {
  "lists what is downloaded, and tells the version": async () => {
    const keys = (await client.system.listDownloadedModels()).map((model) => model.modelKey);
    for (const key of [QWEN, GEMMA, NOMIC]) assert.ok(keys.includes(key), keys);
    assert.match((await client.system.getLMStudioVersion()).version, /^0\.4\./);
  },
  "loads a model with its progress, under an identifier, with a configuration that it reads back": async () => {
    const seen = [];
    const options = { identifier: "mine", ttl: 60, config: { contextLength: 4096, gpu: { ratio: "max" } }, verbose: false };
    mine = await client.llm.load(GEMMA, { ...options, onProgress: (progress) => seen.push(progress) });
    assert.equal(seen[0], 0);
    assert.equal(seen.at(-1), 1);
    assert.ok(seen.length > 5, seen);
    assert.equal(mine.identifier, "mine");
    assert.equal(await mine.getContextLength(), 4096);
    assert.equal((await mine.getModelInfo()).vision, true);
    assert.deepEqual(await loaded(), [...before, "mine"]);
  },
  "aborts a load, of which nothing is left": async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 150);
    await assert.rejects(client.llm.load(QWEN, { identifier: "never", signal: abort.signal, verbose: false }));
    await new Promise((resolve) => setTimeout(resolve, 1000));
    assert.deepEqual(await loaded(), [...before, "mine"]);
  },
  "streams a chat, and is told how it went": async () => {
    const prediction = mine.respond("count to 20");
    const pieces = [];
    for await (const { content } of prediction) pieces.push(content);
    assert.equal(pieces.length, 20);
    const { stats, modelInfo } = await prediction.result();
    assert.equal(stats.stopReason, "eosFound");
    assert.equal(modelInfo.identifier, "mine");
  },
  "tells thoughts from the answer": async () => {
    const thinking = await client.llm.model(QWEN, { verbose: false });
    const result = await thinking.respond("hello");
    assert.ok(result.reasoningContent.startsWith("The conversation has 1 message"));
    assert.ok(result.nonReasoningContent.endsWith("You said: hello"));
  },
  "cancels a prediction, which ends with userStopped": async () => {
    const prediction = mine.respond("count to 5000");
    let pieces = 0;
    for await (const _ of prediction) if (++pieces === 5) await prediction.cancel();
    assert.equal((await prediction.result()).stats.stopReason, "userStopped");
  },
  "has tools called": async () => {
    const said = [];
    const add = tool({ name: "add", description: "Add.", parameters: {}, implementation: () => 42 });
    await mine.act("tool: add {}", [add], { onMessage: (message) => said.push(message.toString()) });
    assert.ok(said.at(-1).includes("42"), said);
  },
  "embeds, and counts tokens": async () => {
    const model = await client.embedding.model(NOMIC, { verbose: false });
    assert.equal((await model.embed("a cat")).embedding.length, 768);
    assert.deepEqual((await model.embed(["a", "b"])).map(({ embedding }) => embedding.length), [768, 768]);
    assert.equal(await model.countTokens("one two three"), 3);
    assert.equal(await model.getContextLength(), 2048);
  },
  "unloads, and a model that is gone is an error that says so": async () => {
    await mine.unload();
    assert.deepEqual(await loaded(), before);
    await assert.rejects(mine.respond("hello"), /already been unloaded/);
    await assert.rejects(client.llm.unload("mine"), /identifier "mine"/);
  },
  "a model that is not there, or of the other kind, is an error that says so": async () => {
    await assert.rejects(client.llm.load("nope/nope", { verbose: false }), /path "nope\/nope"/);
    await assert.rejects(client.llm.model("nope/nope", { verbose: false }), /path "nope\/nope"/);
    await assert.rejects(client.llm.load(NOMIC, { verbose: false }), /wrong domain/);
  },
  "a load that fails says why": async () => {
    const failing = connect(E2E_FAILING);
    await assert.rejects(failing.llm.load(GEMMA, { verbose: false }), (error) => error.stack.includes(E2E_CAUSE) || error.message.includes(E2E_CAUSE) || String(error.cause).includes(E2E_CAUSE));
    assert.equal((await failing.llm.listLoaded()).length, 1);
    await failing[Symbol.asyncDispose]();
  },
  "the halves of a token let in where one is required, and a guest stays out": async () => {
    const [clientIdentifier, clientPasskey] = E2E_KEY.replace("sk-lm-", "").split(":");
    const known = connect(E2E_LOCKED, { clientIdentifier, clientPasskey });
    assert.equal((await known.llm.listLoaded()).length, 1);
    await known[Symbol.asyncDispose]();
    await assert.rejects(connect(E2E_LOCKED).llm.listLoaded(), /authenticate/);
  },
};

let failed = 0;
for (const [sentence, check] of Object.entries(checks)) {
  const began = performance.now();
  try {
    await check();
    console.log(`ok    @lmstudio/sdk ${VERSION} (node): ${sentence} (${((performance.now() - began) / 1000).toFixed(2)} s)`);
  } catch (error) {
    failed += 1;
    const why = [error?.message ?? error, error?.cause ?? ""].join(" ").replace(/\s+/g, " ").slice(0, 400);
    console.log(`FAIL  @lmstudio/sdk ${VERSION} (node): ${sentence}\n      ${error?.name}: ${why}`);
  }
}
process.exit(failed ? 1 : 0);

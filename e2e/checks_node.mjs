// The OpenAI library for JavaScript against the gateway. Run in e2e/.cache/node, whose node_modules holds it.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { E2E_BASE, E2E_KEY, E2E_UPSTREAM, E2E_UPSTREAM_KEY, E2E_GATEWAY } = process.env;
const here = createRequire(pathToFileURL(process.cwd() + "/"));
const { default: OpenAI } = await import(pathToFileURL(here.resolve("openai")));
const { VERSION } = await import(pathToFileURL(here.resolve("openai/version")));

const model = "gemma-3-270m";
const messages = [{ role: "user", content: "Count from one to ten." }];
const behindGateway = E2E_GATEWAY === "1";
// The model server closes idle connections while requests are on their way to it; the gateway must not show that.
const maxRetries = behindGateway ? 0 : 2;
const client = new OpenAI({ baseURL: `${E2E_BASE}/v1`, apiKey: E2E_KEY, maxRetries, timeout: 120_000 });

async function ask(url, key, body) {
  const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };
  const response = await fetch(url, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  assert.equal(response.status, 200, `${url}: ${response.status}`);
  return response.json();
}

async function busySlots() {
  const slots = await ask(`${E2E_UPSTREAM}/slots`, E2E_UPSTREAM_KEY);
  return slots.filter((slot) => slot.is_processing).length;
}

async function awaitSlots(busy) {
  const deadline = Date.now() + 5000;
  for (;;) {
    const found = await busySlots();
    if (found === busy) return;
    assert.ok(Date.now() < deadline, `${found} slots are busy after 5 s, not ${busy}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const checks = {
  "lists the models": async () => {
    const names = [];
    for await (const item of client.models.list()) names.push(item.id);
    assert.ok(names.includes(model));
  },
  "completes a chat": async () => {
    const answer = await client.chat.completions.create({ model, messages, max_tokens: 12 });
    assert.ok(answer.choices[0].message.content);
    assert.ok(answer.usage.completion_tokens <= 12);
  },
  "streams a chat with its usage": async () => {
    const options = { model, messages, max_tokens: 30, stream: true, stream_options: { include_usage: true } };
    let pieces = 0;
    let usage = null;
    for await (const chunk of await client.chat.completions.create(options)) {
      pieces += chunk.choices.filter((choice) => choice.delta.content).length;
      usage = chunk.usage ?? usage;
    }
    assert.ok(pieces > 5, `${pieces} pieces`);
    assert.ok(usage.completion_tokens <= 30);
  },
  "embeds": async () => {
    const answer = await client.embeddings.create({ model, input: ["a cat", "a dog"] });
    assert.deepEqual(answer.data.map((item) => item.embedding.length), [640, 640]);
  },
  "streams a response through to its last event": async () => {
    const options = { model, input: "Say hello.", max_output_tokens: 12, stream: true };
    const kinds = [];
    for await (const event of await client.responses.create(options)) kinds.push(event.type);
    assert.equal(kinds.at(-1), "response.completed");
  },
  "half an emoji, as JavaScript spells it, reaches the model server, which refuses it itself": async () => {
    const half = [{ role: "user", content: "Say hello \ud83d" }];
    const chat = client.chat.completions.create({ model, messages: half, max_tokens: 4 });
    await assert.rejects(chat, (error) => error instanceof OpenAI.BadRequestError && /json\.exception/.test(error.message));
  },
  "frees the model's slot when a stream is aborted half-way": async () => {
    const stream = await client.chat.completions.create({ model, messages, max_tokens: 1400, stream: true });
    let pieces = 0;
    for await (const _ of stream) {
      pieces += 1;
      if (pieces === 3) {
        assert.equal(await busySlots(), 1);
        stream.controller.abort();
      }
    }
    await awaitSlots(0);
  },
  "frees the model's slot when a stream is left by break": async () => {
    const stream = await client.chat.completions.create({ model, messages, max_tokens: 1400, stream: true });
    for await (const _ of stream) break;
    await awaitSlots(0);
  },
  "a wrong key is an AuthenticationError": async () => {
    const stranger = new OpenAI({ baseURL: `${E2E_BASE}/v1`, apiKey: "wrong-0123456789abcdef", maxRetries });
    await assert.rejects(async () => { await stranger.models.list(); }, OpenAI.AuthenticationError);
  },
  "the model server's 400 is a BadRequestError": async () => {
    await assert.rejects(client.chat.completions.create({ model, messages: 5 }), OpenAI.BadRequestError);
  },
  "an unknown path is a NotFoundError": async () => {
    await assert.rejects(client.get("/no/such/thing"), OpenAI.NotFoundError);
  },
};

if (behindGateway) {
  checks["a request without model and max_tokens gets the active model and its defaults"] = async () => {
    const activation = { modelKey: model, defaultInference: { maxTokens: 5 } };
    await ask(`${E2E_BASE}/admin/models/activate`, E2E_KEY, activation);
    const answer = await client.chat.completions.create({ messages });
    assert.equal(answer.model, model);
    assert.equal(answer.usage.completion_tokens, 5);
  };
  checks["every answer has a request id"] = async () => {
    const answer = await client.chat.completions.create({ model, messages, max_tokens: 2 });
    assert.ok(answer._request_id);
  };
}

let failed = 0;
for (const [sentence, check] of Object.entries(checks)) {
  const began = performance.now();
  try {
    await check();
    console.log(`ok    openai ${VERSION} (node): ${sentence} (${((performance.now() - began) / 1000).toFixed(2)} s)`);
  } catch (error) {
    failed += 1;
    const why = [error?.message ?? error, error?.cause?.cause ?? error?.cause ?? ""].join(" ").replace(/\s+/g, " ").slice(0, 300);
    console.log(`FAIL  openai ${VERSION} (node): ${sentence}\n      ${error?.name}: ${why}`);
  }
}
process.exit(failed ? 1 : 0);

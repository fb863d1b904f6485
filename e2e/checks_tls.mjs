// The OpenAI library for JavaScript against the gateway's TLS, its authority trusted by NODE_EXTRA_CA_CERTS; and without.
// Run in e2e/.cache/node, whose node_modules holds it.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

const { E2E_BASE, E2E_KEY, E2E_UNTRUSTING } = process.env;
const here = createRequire(pathToFileURL(process.cwd() + "/"));
const { default: OpenAI } = await import(pathToFileURL(here.resolve("openai")));
const { VERSION } = await import(pathToFileURL(here.resolve("openai/version")));

const model = "qwen/qwen3-8b";
const messages = [{ role: "user", content: "Count from one to ten." }];
const client = new OpenAI({ baseURL: `${E2E_BASE}/v1`, apiKey: E2E_KEY, maxRetries: 0 });

async function trusted() {
  const names = [];
  for await (const item of client.models.list()) names.push(item.id);
  assert.ok(names.includes(model));
  assert.ok((await client.chat.completions.create({ model, messages, max_tokens: 60 })).choices[0].message.content);
  let pieces = 0;
  for await (const chunk of await client.chat.completions.create({ model, messages, max_tokens: 60, stream: true }))
    pieces += chunk.choices.filter((choice) => choice.delta.content).length;
  assert.ok(pieces > 1, `${pieces} pieces`);
}

// The variable is read once, when Node.js starts: to be without it takes another process.
function untrusted() {
  const env = { ...process.env, E2E_UNTRUSTING: "1" };
  delete env.NODE_EXTRA_CA_CERTS;
  const done = spawnSync(process.execPath, [fileURLToPath(import.meta.url)], { env, encoding: "utf8" });
  assert.match(done.stdout, /UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED_CERT_IN_CHAIN|unable to (verify|get)/);
}

if (E2E_UNTRUSTING) {
  await client.models.list().catch((error) => console.log(String(error.cause?.code ?? error.cause ?? error), error.cause?.cause?.code));
  process.exit(0);
}
let failed = 0;
for (const [sentence, check] of [
  ["lists, completes and streams over TLS, with NODE_EXTRA_CA_CERTS", trusted],
  ["trusts nobody without it", untrusted],
]) {
  try {
    await check();
    console.log(`ok    openai ${VERSION} (node): ${sentence}`);
  } catch (error) {
    failed = 1;
    console.log(`FAIL  openai ${VERSION} (node): ${sentence}\n      ${error}`);
  }
}
process.exit(failed);

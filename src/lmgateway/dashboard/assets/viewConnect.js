/**
 * How clients are pointed at this gateway.
 */

import { send } from './api.js';
import { button, freshId, h, replace, setText } from './dom.js';
import { busy, codeBlock, notice, section } from './parts.js';
import { current, may } from './session.js';

/** @param {HTMLElement} root */
export function mountConnect(root) {
  const who = current();
  const choices = basesOf(location.origin, who?.addresses ?? []);
  const place = h('div', null);
  const baseUrl = h('dd', { class: 'mono' });
  const show = (base) => {
    setText(baseUrl, `${base}/v1`);
    const hasCa = Boolean(who?.hasCa) && base.startsWith('https:');
    replace(
      place,
      hasCa && certificate(base),
      h('div', { class: 'recipes' }, recipes(base, hasCa).map(([title, sentence, code]) => section(title, h('p', null, sentence), codeBlock(code, `Text to copy: ${title}`, 'straight')))),
    );
  };
  replace(
    root,
    h('p', null, 'The gateway speaks the APIs of OpenAI and Anthropic, and LM Studio\'s own. Clients need its address and a key; requests that name no model go to the active one.'),
    section(
      'This gateway',
      h('dl', { class: 'pairs' }, addresses(choices), h('dt', null, 'OpenAI base URL'), baseUrl, who?.version && [h('dt', null, 'Version'), h('dd', null, who.version)]),
      reach(choices, who?.addresses ?? []),
      keys(who),
      choices.length > 1 && chooser(choices, show),
    ),
    place,
  );
  show(choices[0].base);
}

function keys(who) {
  if (who?.keyless) return notice('note', 'No key is needed', 'This gateway asks for no key from here. Clients that insist on one may send any text.');
  if (!may('admin')) return h('p', null, 'Put a key in the place of YOUR_KEY: ', may('inference') ? 'the one that you have signed in with, or ' : '', 'one that an administrator of the gateway makes for it.');
  return h('p', null, 'Put a key in the place of YOUR_KEY. Make one for each client in the view ', h('a', { href: '#/keys' }, 'Keys'), '.');
}

/**
 * The addresses that clients can be told, the one of this page first.
 * @param {string} origin of the page.
 * @param {string[]} told by the gateway.
 * @returns {{base: string, isLocal: boolean}[]}
 */
export function basesOf(origin, told) {
  const isOriginLocal = isLoopback(origin);
  // Of this machine's own address one is enough.
  const others = told.filter((each) => each !== origin && !(isOriginLocal && isLoopback(each)));
  return [...new Set([origin, ...others])].map((base) => ({ base, isLocal: isLoopback(base) }));
}

const isLoopback = (base) => /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(new URL(base).hostname);

function addresses(choices) {
  const list = (title, some) => some.length > 0 && [h('dt', null, title), h('dd', { class: 'mono' }, some.map(({ base }) => h('div', null, base)))];
  return [list('On this machine', choices.filter((each) => each.isLocal)), list(choices.some((each) => each.isLocal) ? 'From other machines' : 'Address', choices.filter((each) => !each.isLocal))];
}

/** Who can reach it, where that has to be said. */
function reach(choices, told) {
  if (choices.some((each) => !each.isLocal)) return null;
  if (told.length > 0) return h('p', null, 'It listens on this machine only: no other one can reach it. To have it serve others, with TLS, start it by ', h('code', null, 'lmgateway run'), ', or set ', h('code', null, 'GATEWAY_HOST'), ' to 0.0.0.0.');
  return h('p', { class: 'quiet' }, 'This address is good on this machine only. From another one, use the address by which that one reaches this machine.');
}

function chooser(choices, show) {
  const id = freshId('address');
  const select = h('select', { id, on: { change: () => show(select.value) } }, choices.map(({ base, isLocal }) => h('option', { value: base }, isLocal ? `on this machine: ${base}` : `on another machine: ${base}`)));
  return h('div', { class: 'field' }, h('label', { for: id }, 'Show it for a client'), select);
}

function certificate(base) {
  const trouble = h('div', null);
  const save = button('Download ca.crt', () => void busy(save, trouble, download));
  return section(
    'Its certificate',
    h('p', null, 'The gateway has a certificate authority of its own. Clients have to be told to trust it; what follows assumes that the file is at ~/lmgateway-ca.crt.'),
    codeBlock(`curl --insecure -o ~/lmgateway-ca.crt ${base}/ca.crt`, 'Fetch the certificate'),
    h('p', { class: 'quiet' }, 'Fetched like that it could be anybody\'s: compare its fingerprint with what "lmgateway tls" tells on the gateway\'s machine.'),
    h('div', { class: 'buttons' }, save),
    trouble,
  );
}

async function download() {
  const address = URL.createObjectURL(await (await send('GET', '/ca.crt')).blob());
  const link = h('a', { href: address, download: 'lmgateway-ca.crt', hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** How each client is told. @param {string} base @param {boolean} hasCa @returns {[string, string, string][]} */
export function recipes(base, hasCa) {
  const pem = '~/lmgateway-ca.crt';
  const environment = (name) => (hasCa ? `export ${name}="$HOME/lmgateway-ca.crt"\n` : '');
  return [
    ['curl', 'Ask the active model something.', `curl ${hasCa ? `--cacert ${pem} ` : ''}${base}/v1/chat/completions \\\n  -H "Authorization: Bearer YOUR_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '{"messages": [{"role": "user", "content": "Hello"}]}'`],
    ['OpenAI SDK, Python', 'pip install openai', `${hasCa ? '# export SSL_CERT_FILE="$HOME/lmgateway-ca.crt"\n' : ''}from openai import OpenAI\n\nclient = OpenAI(\n    base_url="${base}/v1",\n    api_key="YOUR_KEY",\n)\nmodel = client.models.list().data[0].id\nanswer = client.chat.completions.create(\n    model=model,\n    messages=[{"role": "user", "content": "Hello"}],\n)\nprint(answer.choices[0].message.content)`],
    ['OpenAI SDK, Node', 'npm install openai', `${hasCa ? '// export NODE_EXTRA_CA_CERTS="$HOME/lmgateway-ca.crt"\n' : ''}import OpenAI from "openai";\n\nconst client = new OpenAI({\n  baseURL: "${base}/v1",\n  apiKey: "YOUR_KEY",\n});\nconst model = (await client.models.list()).data[0].id;\nconst answer = await client.chat.completions.create({\n  model,\n  messages: [{ role: "user", content: "Hello" }],\n});\nconsole.log(answer.choices[0].message.content);`],
    ['Claude Code', 'It speaks Anthropic\'s API, which the gateway passes on to LM Studio. Use a model with a long context.', `${environment('NODE_EXTRA_CA_CERTS')}export ANTHROPIC_BASE_URL="${base}"\nexport ANTHROPIC_AUTH_TOKEN="YOUR_KEY"\nclaude --model MODEL`],
    ['Open WebUI', 'Admin Panel, Settings, Connections, OpenAI API: add a connection with this URL and the key; or start it so:', `docker run -d -p 3000:8080 \\\n  -e OPENAI_API_BASE_URL=${base}/v1 \\\n  -e OPENAI_API_KEY=YOUR_KEY \\\n${hasCa ? '  -v "$HOME/lmgateway-ca.crt:/ca.crt:ro" -e SSL_CERT_FILE=/ca.crt \\\n' : ''}  -v open-webui:/app/backend/data \\\n  ghcr.io/open-webui/open-webui:main`],
    ['Continue', 'In ~/.continue/config.yaml, for VS Code and JetBrains.', `name: Local\nversion: 1.0.0\nschema: v1\nmodels:\n  - name: LM gateway\n    provider: openai\n    model: MODEL\n    apiBase: ${base}/v1\n    apiKey: YOUR_KEY\n${hasCa ? `    requestOptions:\n      caBundlePath: ${pem}\n` : ''}    roles: [chat, edit, apply]`],
  ];
}

/**
 * How clients are pointed at this gateway.
 */

import { send } from './api.js';
import { button, h, replace } from './dom.js';
import { busy, codeBlock, notice, section } from './parts.js';
import { current } from './session.js';

/** @param {HTMLElement} root */
export function mountConnect(root) {
  const who = current();
  const base = location.origin;
  const hasCa = Boolean(who?.hasCa);
  const isLocal = ['localhost', '127.0.0.1', '[::1]'].includes(location.hostname);
  const others = (who?.addresses ?? []).map(String);
  replace(
    root,
    h('p', null, 'The gateway speaks the APIs of OpenAI and Anthropic, and LM Studio\'s own. Clients need its address and a key; requests that name no model go to the active one.'),
    section(
      'This gateway',
      h('dl', { class: 'pairs' }, h('dt', null, 'Address'), h('dd', { class: 'mono' }, base), h('dt', null, 'OpenAI base URL'), h('dd', { class: 'mono' }, `${base}/v1`), others.length > 0 && [h('dt', null, 'It listens at'), h('dd', { class: 'mono' }, others.join(', '))], who?.version && [h('dt', null, 'Version'), h('dd', null, who.version)]),
      who?.keyless ? notice('note', 'No key is needed', 'This gateway asks for no key from here. Clients that insist on one may send any text.') : h('p', null, 'Put a key in the place of YOUR_KEY. Administrators make them in the view ', h('a', { href: '#/keys' }, 'Keys'), ', one for each client.'),
      isLocal && others.length === 0 && h('p', { class: 'quiet' }, 'This address is good on this machine only. From another one, use the address by which that one reaches this machine.'),
    ),
    hasCa && certificate(base),
    h('div', { class: 'recipes' }, recipes(base, hasCa).map(([title, sentence, code]) => section(title, h('p', null, sentence), codeBlock(code, `Text to copy: ${title}`, 'straight')))),
  );
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

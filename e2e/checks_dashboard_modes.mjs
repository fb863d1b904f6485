/**
 * The dashboard before an LM Studio that offers no model management, as keys see it that may not all, and as other machines
 * are told to reach it. Run by dashboard.py.
 */

import { BASE, check, finish, hold, KEY, launch, openTab, pause, WAIT_MS } from './browser.mjs';

const MODEL = 'qwen/qwen3-8b';
const LAN = 'https://192.168.1.7:8443';
const LOOKS = [[1280, 'light'], [360, 'dark']];

const browser = await launch();
const tab = await openTab(browser);
const { page, says, silent, press, go, fill, shoot, wide, enter, axe, text, until } = tab;

/** @param {string} path @param {any} body @param {string} [key] */
const ask = (path, body, key = KEY) =>
  fetch(BASE + path, { method: 'POST', headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' }, body: JSON.stringify(body) });

async function look(name) {
  const found = [];
  for (const [width, scheme] of LOOKS) {
    await shoot(name, width, scheme);
    found.push(...(await axe(`${name} ${width} ${scheme}`)));
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (wider > 0) found.push(`${name} ${width}: wider than the window by ${wider} px`);
  }
  await wide();
  hold(found.length === 0, found.join('\n      '));
}

await page.goto(`${BASE}/dashboard`);
await enter();
await check('says that LM Studio offers no model management, and what to do instead', async () => {
  await go('models');
  await says('This LM Studio offers no model management');
  await says('lms load');
  await look('gateway-only-models');
});
await check('offers neither to load nor to unload, and activates what LM Studio names', async () => {
  await says('This LM Studio does not tell what it has loaded.');
  const buttons = await page.evaluate(() => [...document.querySelectorAll('.view button')].map((one) => one.getAttribute('aria-label') ?? one.textContent));
  hold(!buttons.some((each) => /^(Load|Unload)/.test(each)), buttons.join(', '));
  await press(`Activate ${MODEL}`);
  await fill('temperature', '0.3');
  await press('Activate', 'dialog');
  await until('it is not active', (each) => [...document.querySelectorAll('.view.models tr')].some((one) => one.innerText.includes(each) && one.innerText.includes('active')), MODEL);
  await says('0.3');
  await look('gateway-only-active');
});
await check('shows a request to it all the same', async () => {
  const answer = await ask('/v1/chat/completions', { stream: true, max_tokens: 150, messages: [{ role: 'user', content: 'Hello' }] });
  await go('now');
  await until('its tokens per second were not told', () => /^[\d,.]+ tok\/s$/.test(document.querySelector('tr[data-request] td.speed span')?.textContent ?? ''));
  await answer.text();
  await says('Nothing is running');
  await look('gateway-only-now');
});
await check('says by which address other machines reach it, and shows how for that one', async () => {
  await go('connect');
  await says('It listens on this machine only');
  await look('connect-local');
  await page.setRequestInterception(true);
  const onRequest = async (request) => {
    if (!request.url().endsWith('/dashboard/session') || request.method() !== 'GET') return request.continue();
    const told = await fetch(request.url(), { headers: { Authorization: `Bearer ${KEY}` } }).then((answer) => answer.json());
    return request.respond({ status: 200, contentType: 'application/json', body: JSON.stringify({ ...told, addresses: [LAN, ...told.addresses], hasCa: true }) });
  };
  page.on('request', onRequest);
  await page.goto(`${BASE}/dashboard?lan#/connect`);
  await says(LAN);
  await silent('It listens on this machine only');
  hold(!(await text()).includes('ca.crt'), 'a certificate is spoken of where there is no TLS');
  await look('connect-lan');
  await page.select('.view.connect select', LAN);
  await says(`${LAN}/v1`);
  await says('Download ca.crt');
  await look('connect-lan-tls');
  page.off('request', onRequest);
  await page.setRequestInterception(false);
});
await check('shows each key what it may see, and says of the rest why not', async () => {
  const found = [];
  for (const [scope, first, allowed] of [['monitor', 'now', ['now', 'events', 'charts', 'connect']], ['inference', 'connect', ['connect']]]) {
    const { key } = await (await ask('/admin/keys', { name: `${scope} only`, scopes: [scope] })).json();
    await press('Sign out');
    await page.goto(`${BASE}/dashboard?${scope}`);
    await enter(key);
    await until(`${first} is not what is shown first`, (each) => document.querySelector(`.view.${each}`) !== null, first);
    await ask('/v1/chat/completions', { model: MODEL, max_tokens: 5, messages: [] }).then((answer) => answer.text());
    for (const view of ['now', 'models', 'events', 'charts', 'keys', 'connect']) {
      await go(view);
      await pause(200);
      const isDenied = await page.evaluate(() => document.querySelector('.notice.denied') !== null);
      if (isDenied === allowed.includes(view)) found.push(`${scope}: ${view} is ${isDenied ? '' : 'not '}denied`);
      const buttons = await page.evaluate(() => [...document.querySelectorAll('.view button')].map((one) => one.getAttribute('aria-label') ?? one.textContent));
      if (buttons.some((each) => /^(Cancel|Unload|Load|Activate|Revoke)/.test(each))) found.push(`${scope}: ${view} offers what the key may not: ${buttons.join(', ')}`);
      await look(`${scope}-only-${view}`);
    }
  }
  hold(found.length === 0, found.join('\n      '));
});
await check('ends the event stream of a page whose key is revoked, and asks to sign in', async () => {
  const { key, id } = await (await ask('/admin/keys', { name: 'short', scopes: ['monitor'] })).json();
  await press('Sign out');
  await enter(key);
  await go('now');
  await says('Nothing is running');
  await fetch(`${BASE}/admin/keys/${id}`, { method: 'DELETE', headers: { Authorization: `Bearer ${KEY}` } });
  await page.waitForSelector('#key', { timeout: WAIT_MS });
  await says('Your session has ended');
  await look('session-ended');
});
await finish(browser);

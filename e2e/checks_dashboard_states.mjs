/**
 * Every view of the dashboard in every state: loading, empty, busy with hostile names, LM Studio away, the gateway away, not
 * allowed; wide and narrow, light and dark. Run by dashboard.py.
 */

import { ask, BASE, check, finish, hold, KEY, launch, openTab, pause } from './browser.mjs';

const VIEWS = ['now', 'models', 'events', 'charts', 'keys', 'connect'];
const LOOKS = [[1280, 'light'], [360, 'dark'], [2560, 'light'], [1280, 'dark'], [360, 'light'], [2560, 'dark']];
const NAMES = [
  '<img src=x onerror="window.pwned=1">',
  'qwen/qwen3-8b',
  'נמוד־שפה/עברית־גדול-70b',
  `someone/${'a-very-long-model-name-'.repeat(8)}Q4_K_M`,
  'عربي/نموذج‮gnp.exe',
  '"><script>window.pwned=1</script>',
];
const IN_FLIGHT = 20;

const browser = await launch();
const tab = await openTab(browser);
const { page, says, go, shoot, wide, enter, axe } = tab;

const admin = (path, body) =>
  fetch(BASE + path, { method: 'POST', headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' }, body: JSON.stringify(body) }).then((answer) => answer.json());
const ended = new AbortController();
const chat = (body, switches) =>
  fetch(`${BASE}/v1/chat/completions`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json', 'X-Simulate': `unknown-model=served; ${switches}` },
    body: JSON.stringify({ messages: [{ role: 'user', content: 'count to 100' }], stream: true, ...body }),
    signal: ended.signal,
  })
    .then((answer) => answer.text())
    .catch(() => 'cut');

/** Look at a view in every width and scheme: axe-core finds nothing, and nothing is wider than the window. */
async function look(state, view, looks = LOOKS) {
  const found = [];
  for (const [width, scheme] of looks) {
    await shoot(`${state}-${view}`, width, scheme);
    found.push(...(await axe(`${view} ${width} ${scheme}`)));
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    const cut = await page.evaluate(() => [...document.querySelectorAll('.table')].filter((each) => each.scrollWidth > each.clientWidth + 1).map((each) => each.getAttribute('aria-label')));
    if (cut.length > 0) found.push(`${view} ${width} ${scheme}: a part is out of sight of ${cut.join(', ')}`);
    if (wider > 0) found.push(`${view} ${width} ${scheme}: wider than the window by ${wider} px`);
  }
  await wide();
  return found;
}

async function lookAll(state, views, looks) {
  const found = [];
  for (const view of views) {
    await go(view);
    if (state === 'busy') await pause(300);
    found.push(...(await look(state, view, looks)));
  }
  hold(found.length === 0, found.join('\n      '));
}

await check('signing in looks well', async () => {
  await page.goto(`${BASE}/dashboard`);
  await page.waitForSelector('#key');
  const found = await look('sign-in', 'page');
  hold(found.length === 0, found.join('\n      '));
});
await enter();
await check('says that it loads while it does', async () => {
  await page.setRequestInterception(true);
  const held = [];
  const onRequest = (request) => {
    if (/\/(admin|debug)\//.test(request.url()) && !request.url().includes('/debug/stream')) held.push(request);
    else void request.continue();
  };
  page.on('request', onRequest);
  const found = [];
  for (const view of ['now', 'models', 'charts', 'keys']) {
    await page.evaluate((each) => { location.hash = `#/${each}`; }, view);
    await page.goto(`${BASE}/dashboard?${view}#/${view}`);
    await page.waitForSelector(`.view.${view}`);
    found.push(...(await look('loading', view, LOOKS.slice(0, 2))));
  }
  page.off('request', onRequest);
  for (const each of held) await each.abort().catch(() => undefined);
  await page.setRequestInterception(false);
  await page.goto(`${BASE}/dashboard`);
  await page.waitForSelector('.view');
  hold(found.length === 0, found.join('\n      '));
});
await check('leaves no stream behind that would keep others from connecting', async () => {
  for (let visit = 0; visit < 8; visit += 1) await page.goto(`${BASE}/dashboard?${visit}`).then(() => page.waitForSelector('.view.now')).then(() => pause(300));
  await go('models');
  await page.goBack();
  await page.waitForSelector('.view.now');
});
await check('explains itself while there is nothing', () => lookAll('empty', VIEWS));

await ask('studio full');
await check('stays readable with 20 requests in flight and hostile names', async () => {
  for (const name of NAMES.filter((each) => each.length < 64)) {
    await admin('/admin/keys', { name, scopes: ['inference'], requestsPerMinute: 60, tokensPerDay: 1_000_000, parallel: 4, models: ['qwen/*', 'google/gemma-3-4b'], addresses: ['127.0.0.0/8', '2001:db8::/32'] });
  }
  for (const model of NAMES) await chat({ model, max_tokens: 8, stream: true }, 'tokens-per-second=200');
  await chat({ model: NAMES[1], max_tokens: 8, stream: false }, 'die-after=0');
  await page.setRequestInterception(true);
  const onRequest = async (request) => {
    if (!request.url().endsWith('/admin/models')) return request.continue();
    const told = await fetch(request.url(), { headers: { Authorization: `Bearer ${KEY}` } }).then((answer) => answer.json(), () => null);
    if (told?.downloaded === undefined) return request.abort();
    told.downloaded.push(...NAMES.map((modelKey) => ({ ...told.downloaded[0], modelKey, displayName: modelKey.slice(0, 40) })));
    told.loaded.push(...NAMES.slice(2).map((modelKey) => ({ ...told.loaded[0], modelKey, identifier: modelKey })));
    return request.respond({ status: 200, contentType: 'application/json', body: JSON.stringify(told) });
  };
  page.on('request', onRequest);
  for (let index = 0; index < IN_FLIGHT; index += 1) void chat({ model: NAMES[index % NAMES.length], max_tokens: 3000 }, 'tokens-per-second=3; parallel=20');
  void admin('/admin/models/load', { modelKey: 'google/gemma-3-4b' });
  await go('now');
  await tab.until('they are not in flight', (most) => document.querySelectorAll('tr[data-request]').length === most, IN_FLIGHT);
  await pause(2500);
  await lookAll('busy', VIEWS);
  page.off('request', onRequest);
  await page.setRequestInterception(false);
});
await check('says that LM Studio is away', async () => {
  await ask('studio down');
  await go('now');
  await chat({ model: NAMES[1] }, '');
  await says('Away');
  await lookAll('studio-down', ['now', 'models', 'events'], LOOKS.slice(0, 3));
});
ended.abort();
const monitor = await admin('/admin/keys', { name: 'monitor only', scopes: ['monitor'] });
const inference = await admin('/admin/keys', { name: 'inference only', scopes: ['inference'] });
await check('says what it is missing while the gateway is away', async () => {
  await go('now');
  await ask('stop');
  await says('No connection to the gateway.');
  await lookAll('gateway-down', VIEWS, LOOKS.slice(0, 3));
  await ask('start');
});
await check('says what a key may not see', async () => {
  for (const [name, { key }] of [['monitor', monitor], ['inference', inference]].filter(([, each]) => each)) {
    await page.goto('about:blank');
    await page.goto(`${BASE}/dashboard`);
    if ((await page.waitForSelector('#key', { timeout: 2000 }).catch(() => null)) === null) await tab.press('Sign out');
    await enter(key);
    await lookAll(`${name}-only`, VIEWS, LOOKS.slice(0, 2));
  }
});
await check('ran no name', async () => {
  hold((await page.evaluate(() => window.pwned)) === undefined, 'a name was run');
});
await finish(browser);

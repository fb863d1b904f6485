/**
 * The dashboard in a Chromium: its main paths, hostile names, axe-core on each view, 500 events a second.
 *
 * Run by dashboard.py.
 */

import { ask, BASE, check, finish, hold, isCrowded, KEY, launch, openTab, pause, WAIT_MS } from './browser.mjs';

const MODEL = 'qwen/qwen3-8b';
const OTHER = 'google/gemma-3-4b';
const HOSTILE = '<img src=x onerror="window.pwned=1">';
const VIEWS = ['now', 'models', 'events', 'charts', 'keys', 'connect'];
const SECONDS_OF_LOAD = 6;
const EVENTS_PER_SECOND = 500;
const LONGEST_FRAME_MS = 100;
const MOST_ATTEMPTS = 3;

const chat = (body) =>
  fetch(`${BASE}/v1/chat/completions`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ model: MODEL, messages: [{ role: 'user', content: `Hello ${HOSTILE}` }], ...body }),
  });

const browser = await launch();
/** What the console must not have; that a call is refused is told there by the browser itself. @type {string[]} */
const troubles = [];
const outside = [];
let isAway = false;
const { page, text, until, says, silent, press, go, fill, shoot, wide, axe } = await openTab(browser);
page.on('console', (message) => {
  if (message.type() !== 'error' && message.type() !== 'warn') return;
  if (message.text().startsWith('Failed to load resource') && (isAway || /\/(dashboard\/session|admin\/models\/unload|admin\/audit|debug\/requests\/)/.test(message.location().url ?? ''))) return;
  troubles.push(`${message.text()} ${message.location().url ?? ''}`);
});
page.on('pageerror', (error) => troubles.push(String(error)));
page.on('request', (request) => {
  if (!request.url().startsWith(BASE) && !request.url().startsWith('blob:')) outside.push(request.url());
});
await page.evaluateOnNewDocument(() => {
  window.violations = [];
  document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
});

await check('refuses a wrong key, and says so', async () => {
  const begin = performance.now();
  await page.goto(`${BASE}/dashboard`);
  await page.waitForSelector('#key', { timeout: WAIT_MS });
  const took = performance.now() - begin;
  await page.type('#key', 'wrong');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#key-trouble [role=alert]', { timeout: WAIT_MS });
  await shoot('sign-in', 360, 'dark');
  return `usable after ${Math.round(took)} ms`;
});
await check('signs in with a key, which no script can read afterwards', async () => {
  await page.evaluate(() => { document.getElementById('key').value = ''; });
  await page.type('#key', KEY);
  await page.keyboard.press('Enter');
  await page.waitForSelector('.view.now', { timeout: WAIT_MS });
  await says('Nothing is running');
  await shoot('now-empty');
  const kept = await page.evaluate(() => document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage));
  hold(!kept.includes(KEY), 'the key is kept where scripts read it');
});
await check('shows a streamed request while it runs, and when it has ended', async () => {
  const answer = await chat({ stream: true, max_tokens: 300 });
  await until('the request is not in flight', () => document.querySelector('tr[data-request]') !== null);
  await until('its first token was not told', () => / ms| s/.test(document.querySelector('tr[data-request] td:nth-child(4)')?.textContent ?? ''));
  await until('its tokens per second were not told', () => /^[\d,.]+ tok\/s$/.test(document.querySelector('tr[data-request] td.speed span')?.textContent ?? ''));
  const told = await page.evaluate(() => document.querySelector('tr[data-request] td.speed').textContent);
  hold(/[1-9][\d.,]* tokens per second, \d+ so far$/.test(told), `the speed is told as ${told}`);
  await shoot('now-busy');
  await shoot('now-busy', 360, 'dark');
  await wide();
  await answer.text();
  await says('Nothing is running');
  await until('it is not among those that ended', (each) => [...document.querySelectorAll('tbody tr')].some((one) => one.textContent.includes(each) && one.textContent.includes('200')), MODEL);
});
await check('cancels a request', async () => {
  const answer = await chat({ stream: true, max_tokens: 2000 });
  const reading = answer.text().catch(() => 'cut');
  await press(`Cancel the request to ${MODEL}`);
  await reading;
  await says('Nothing is running');
  await says('cancelled');
});
await check('loads a model with its configuration, and shows how far it is', async () => {
  await go('models');
  await shoot('models');
  await shoot('models', 360, 'dark');
  await wide();
  await press(`Load ${OTHER}`);
  await fill('contextLength', '0');
  await press('Load', 'dialog');
  await says('Must be a whole number of at least 1.');
  await shoot('load-form');
  await wide();
  await fill('contextLength', '4096');
  await fill('instanceId', 'small');
  await press('Load', 'dialog');
  await until('no progress was shown', () => document.querySelector('.view.models progress[value]') !== null);
  await shoot('models-loading', 1280, 'dark');
  await press('Unload small').catch(() => {
    throw new Error('it was never loaded');
  });
  await press('Keep it', 'dialog');
  await says('4,096');
});
await check('activates a model with parameters in their ranges', async () => {
  await press('Activate small');
  await fill('temperature', '3');
  await press('Activate', 'dialog');
  await says('Must be a number from 0 to 2.');
  await fill('temperature', '0.3');
  await fill('stopStrings', 'END');
  await press('Activate', 'dialog');
  await silent('Must be a number from 0 to 2.');
  await says('0.3');
  const told = await (await fetch(`${BASE}/admin/models`, { headers: { Authorization: `Bearer ${KEY}` } })).json();
  hold(told.active.instanceId === 'small' && told.active.defaultInference.temperature === 0.3, JSON.stringify(told.active));
});
await check('says what was injected into a request, from where, and what it said, as text', async () => {
  await (await chat({ max_tokens: 5 })).text();
  await go('now');
  await until('it is not there', () => document.querySelector('.view.now tbody button.link') !== null);
  await page.evaluate(() => document.querySelector('.view.now tbody button.link').click());
  await says('Injected by the gateway');
  await says('temperature');
  await says('Copy as curl');
  await says('Hello <img src=x onerror=');
  await shoot('request');
  await press('Close', 'dialog');
});
await check('says why a model that answers is not unloaded, and unloads it all the same', async () => {
  const answer = await chat({ model: 'small', stream: true, max_tokens: 2000 });
  await go('models');
  await press('Unload small');
  await press('Unload', 'dialog');
  await says('It is answering requests');
  await shoot('unload-409', 360);
  await wide();
  await press('Unload anyway', 'dialog');
  await until('it is still loaded', () => ![...document.querySelectorAll('button')].some((one) => one.getAttribute('aria-label') === 'Unload small'));
  await answer.text().catch(() => 'cut');
});
await check('makes a key, shows it once, limits and revokes it; a hostile name is a name', async () => {
  await go('keys');
  await press('Make a key');
  await fill('name', HOSTILE);
  await fill('parallel', '2');
  await press('Make the key', 'dialog');
  await says('It is shown this once');
  const key = await page.evaluate(() => document.querySelector('dialog code').textContent);
  hold(/^lmg_/.test(key), key);
  await press('I have it', 'dialog');
  await says(HOSTILE);
  hold(!(await text()).includes(key), 'the key is still shown');
  await chat({ model: HOSTILE }).then((answer) => answer.text());
  await press(`Change: ${HOSTILE}`);
  await fill('parallel', '3');
  await press('Change it', 'dialog');
  await says('3 at once');
  await shoot('keys');
  await shoot('keys', 360, 'dark');
  await wide();
  await press(`Revoke: ${HOSTILE}`);
  await press('Revoke it', 'dialog');
  await until('it is still there', () => document.querySelector('tr[data-key]') === null);
  const refused = await fetch(`${BASE}/v1/models`, { headers: { Authorization: `Bearer ${key}` } });
  hold(refused.status === 401, `the revoked key got ${refused.status}`);
});
await check('filters, searches and pauses the events', async () => {
  await go('events');
  await says('inference_complete');
  await press('Requests');
  await until('they are still shown', () => !document.querySelector('.feed').textContent.includes('inference_complete'));
  await press('Requests');
  await page.evaluate(() => { const field = document.querySelector('input[type=search]'); field.value = 'cancelled'; field.dispatchEvent(new Event('input')); });
  await until('the search finds too much', () => [...document.querySelectorAll('.feed li')].every((one) => one.textContent.includes('cancelled')));
  await page.evaluate(() => { const field = document.querySelector('input[type=search]'); field.value = ''; field.dispatchEvent(new Event('input')); });
  await press('Pause');
  await says('Paused.');
  await press('Pause');
  await shoot('events');
  await shoot('events', 360, 'dark');
  await wide();
});
await check('says that it lost the gateway, and comes back by itself', async () => {
  await go('now');
  isAway = true;
  await ask('stop');
  await says('No connection to the gateway.');
  await shoot('lost');
  await shoot('lost', 360, 'dark');
  await wide();
  await ask('start');
  await silent('No connection to the gateway.');
  await pause(500);
  if (await page.$('#key')) {
    await page.type('#key', KEY);
    await page.keyboard.press('Enter');
    await page.waitForSelector('.view.now', { timeout: WAIT_MS });
  }
  isAway = false;
  const answer = await chat({ stream: true, max_tokens: 30 });
  await until('a request after it is not shown', () => document.querySelector('tr[data-request]') !== null);
  await answer.text();
});
for (const scheme of ['light', 'dark']) {
  await check(`axe-core finds nothing in any view, ${scheme}, wide and narrow`, async () => {
    const found = [];
    for (const view of VIEWS) {
      await go(view);
      for (const width of [360, 1280]) {
        await shoot(`axe-${view}`, width, scheme);
        found.push(...(await axe(`${view} ${width}`)));
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        if (overflow > 0) found.push(`${view} ${width}: wider than the window by ${overflow} px`);
      }
    }
    hold(found.length === 0, found.join('\n      '));
  });
}
await check('is readable at 2560 pixels', async () => {
  for (const view of VIEWS) {
    await go(view);
    await shoot(`huge-${view}`, 2560, 'light');
  }
  await wide();
});
await check(`takes ${EVENTS_PER_SECOND} events a second without a frame over ${LONGEST_FRAME_MS} ms`, async () => {
  const other = await browser.newPage();
  await other.setViewport({ width: 1280, height: 900 });
  await other.evaluateOnNewDocument((perSecond) => {
    const real = window.fetch.bind(window);
    window.fetch = (path, options) => (String(path).startsWith('/debug/stream') ? Promise.resolve(new Response(flood(perSecond))) : real(path, options));
    function flood(rate) {
      let id = 0;
      const begin = performance.now();
      return new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode('id: 1\nevent: connected\ndata: {"message":"Connected."}\n\n'));
          setInterval(() => {
            let piece = '';
            for (; id < ((performance.now() - begin) * rate) / 1000; id += 1) {
              const type = ['inference_start', 'inference_first_token', 'inference_complete'][id % 3];
              piece += `id: ${id + 2}\nevent: ${type}\ndata: {"timestamp":"${new Date().toISOString()}","requestId":"r${Math.floor(id / 3)}","model":"m","key":"k","path":"/v1/chat/completions","injected":["temperature"],"status":200,"ttftMs":12.5,"totalTimeMs":80,"tokenUsage":{"totalTokens":20},"tokensPerSecond":30}\n\n`;
            }
            window.flooded = id;
            controller.enqueue(new TextEncoder().encode(piece));
          }, 20);
        },
      });
    }
  }, EVENTS_PER_SECOND);
  const told = [];
  for (const view of ['events', 'now']) {
    // Whatever else runs on the machine makes frames long, too; what the page itself does, it does in each attempt.
    const attempts = [];
    while (attempts.length < MOST_ATTEMPTS && !attempts.some((each) => each.longest < LONGEST_FRAME_MS)) {
      await other.goto(`${BASE}/dashboard#/${view}`);
      await other.waitForSelector(`.view.${view}`, { timeout: WAIT_MS });
      await pause(1500);
      attempts.push(await other.evaluate(async (seconds) => {
        const lengths = [];
        let last = performance.now();
        const end = last + seconds * 1000;
        await new Promise((resolve) => {
          const tick = (now) => {
            lengths.push(now - last);
            last = now;
            if (now > end) resolve(undefined);
            else requestAnimationFrame(tick);
          };
          requestAnimationFrame(tick);
        });
        return { longest: Math.max(...lengths.slice(2)), count: lengths.length, rows: document.querySelectorAll('.feed li').length, events: window.flooded };
      }, SECONDS_OF_LOAD));
      await other.goto('about:blank');
    }
    told.push(`${view}: longest frame ${attempts.map((each) => `${Math.round(each.longest)} ms of ${each.count}`).join(', then ')}, ${attempts.at(-1).rows} rows`);
    if (isCrowded() && attempts.at(-1).longest >= LONGEST_FRAME_MS) told.push('not judged, the machine is busy with more than it can do');
    hold((isCrowded() || attempts.at(-1).longest < LONGEST_FRAME_MS) && attempts.every((each) => each.rows <= 500), told.join('; '));
  }
  await other.close();
  return told.join('; ');
});
await check('signs out, and the session is over', async () => {
  await press('Sign out');
  await says('You are signed out.');
  const status = await page.evaluate(() => fetch('/dashboard/session', { headers: { 'X-LMGateway-Dashboard': '1' } }).then((answer) => answer.status));
  hold(status === 401, `the session answers ${status}`);
});
await check('nothing broke its policy, nothing left the machine, no name was run, no error in the console', async () => {
  const { violations, pwned } = await page.evaluate(() => ({ violations: window.violations, pwned: window.pwned }));
  hold(violations.length === 0 && pwned === undefined && outside.length === 0 && troubles.length === 0, JSON.stringify({ violations, pwned, outside, troubles }));
});
await finish(browser);

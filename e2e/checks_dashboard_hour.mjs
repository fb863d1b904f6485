/**
 * The dashboard open for an hour before a gateway with a steady load: what page and gateway hold, minute by minute.
 *
 * Run by dashboard_hour.py. Ends with 1 where something still grows by more than a tenth in an hour, after the first minutes
 * in which what is bounded fills.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(`${process.cwd()}/`);
const puppeteer = require('puppeteer-core');

const { E2E_BASE: BASE, E2E_KEY: KEY, E2E_CHROMIUM: CHROMIUM, E2E_PID: PID } = process.env;
const MINUTES = Number(process.env.E2E_MINUTES);
const VIEWS = ['events', 'charts', 'now'];
const MINUTE_MS = 60_000;
const REQUEST_EVERY_MS = 500;
/** So long two requests a second take to fill what holds the last 1,000 requests and the last 256 kB of events. */
const FILLING_MINUTES = 10;
const MOST_GROWTH = 0.1;
/** In MB, or pieces: less than that in an hour is not told apart from warming up. */
const LEAST = 0.5;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
const browser = await puppeteer.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });
const page = await browser.newPage();
const troubles = [];
page.on('pageerror', (error) => troubles.push(String(error)));
await page.setViewport({ width: 1280, height: 900 });
await page.goto(`${BASE}/dashboard`);
await page.waitForSelector('#key');
await page.type('#key', KEY);
await page.keyboard.press('Enter');
await page.waitForSelector('.view.now');
const inspector = await page.createCDPSession();

let sent = 0;
async function ask() {
  const stream = sent % 2 === 0;
  sent += 1;
  const body = { model: 'qwen/qwen3-8b', messages: [{ role: 'user', content: `Request ${sent}` }], max_tokens: 20, stream };
  const headers = { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' };
  await (await fetch(`${BASE}/v1/chat/completions`, { method: 'POST', headers, body: JSON.stringify(body) })).text();
}
const load = setInterval(() => void ask().catch((error) => troubles.push(String(error))), REQUEST_EVERY_MS);

async function sample(minute) {
  await inspector.send('HeapProfiler.collectGarbage');
  const { JSHeapUsedSize, Nodes, JSEventListeners } = await page.metrics();
  const rss = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${PID}/status`, 'utf8'))[1]);
  return { minute, heapMB: JSHeapUsedSize / 1e6, nodes: Nodes, listeners: JSEventListeners, rssMB: (rss * 1024) / 1e6, fds: readdirSync(`/proc/${PID}/fd`).length, requests: sent };
}

/** How much a column grows in an hour: the median of the slopes between all pairs of samples, which single ones do not bend. */
function slope(samples, column) {
  const median = (values) => values.sort((one, other) => one - other)[Math.floor(values.length / 2)];
  const slopes = samples.flatMap((one, index) => samples.slice(index + 1).map((other) => ((other[column] - one[column]) * 60) / (other.minute - one.minute)));
  return { perHour: median(slopes), usual: median(samples.map((each) => each[column])) };
}

const COLUMNS = [['heapMB', 'page heap MB', 2], ['nodes', 'DOM nodes', 0], ['listeners', 'listeners', 0], ['rssMB', 'gateway RSS MB', 1], ['fds', 'open files', 0], ['requests', 'requests', 0]];
const line = (first, cells) => console.log(first.padStart(8) + cells.map((each) => each.padStart(16)).join(''));
line('minute', COLUMNS.map(([, title]) => title));
const samples = [];
const begin = performance.now();
for (let minute = 1; minute <= MINUTES; minute += 1) {
  for (const [index, view] of VIEWS.entries()) {
    await page.evaluate((each) => { location.hash = `#/${each}`; }, view);
    // No handle of an element is taken: it would keep the view from being collected.
    await page.waitForFunction((each) => document.querySelector(`.view.${each}`) !== null, {}, view);
    await pause(begin + (minute - 1 + (index + 1) / VIEWS.length) * MINUTE_MS - performance.now());
  }
  const taken = await sample(minute);
  samples.push(taken);
  line(String(minute), COLUMNS.map(([name, , digits]) => taken[name].toFixed(digits)));
}
clearInterval(load);
let isSteady = troubles.length === 0;
const settled = samples.filter((each) => each.minute > (MINUTES > 2 * FILLING_MINUTES ? FILLING_MINUTES : MINUTES / 2));
if (settled.length > 1) {
  const slopes = COLUMNS.slice(0, -1).map(([name]) => slope(settled, name));
  line('an hour', slopes.map(({ perHour }, index) => `${perHour >= 0 ? '+' : ''}${perHour.toFixed(COLUMNS[index][2] || 1)}`));
  line('share', slopes.map(({ perHour, usual }) => `${((100 * perHour) / usual).toFixed(1)} %`));
  if (settled.length > FILLING_MINUTES) isSteady = isSteady && slopes.every(({ perHour, usual }) => perHour < Math.max(LEAST, MOST_GROWTH * usual));
}
if (troubles.length > 0) console.log(`Troubles (${troubles.length}): ${troubles.slice(0, 5).join('; ')}`);
await browser.close();
process.exit(isSteady ? 0 : 1);

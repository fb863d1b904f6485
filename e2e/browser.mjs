/**
 * What the checks of the dashboard share: a Chromium, a tab in it, and how it is read and steered.
 *
 * They are run by dashboard.py, which stops and starts servers for them: a line "@stop" or "@start" on standard output asks for
 * that, and a line on standard input tells that it is done.
 */

import { createRequire } from 'node:module';
import { cpus, loadavg } from 'node:os';
import { createInterface } from 'node:readline';

const require = createRequire(`${process.cwd()}/`);
const puppeteer = require('puppeteer-core');
export const { source: AXE } = require('axe-core');
export const { E2E_BASE: BASE, E2E_KEY: KEY, E2E_CHROMIUM: CHROMIUM, E2E_SHOTS: SHOTS } = process.env;
export const WAIT_MS = 20_000;

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Have whoever runs this do something. @param {string} what @returns {Promise<string>} its answer. */
export async function ask(what) {
  console.log(`@${what}`);
  return (await answers.next()).value;
}

let failed = 0;

/** Check one sentence, and print whether it holds. @param {string} sentence @param {() => Promise<any>} act */
export async function check(sentence, act) {
  try {
    const more = await act();
    console.log(`ok    dashboard: ${sentence}${typeof more === 'string' ? ` (${more})` : ''}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  dashboard: ${sentence}\n      ${String(error?.message ?? error).slice(0, 1500)}`);
  }
}

/** @param {any} isTrue @param {string} what is wrong where it is not. */
export function hold(isTrue, what) {
  if (!isTrue) throw new Error(what);
}

/** Whether twice as many programs want to run as can: then the lengths of frames mean nothing. */
export const isCrowded = () => loadavg()[0] > 2 * cpus().length;

/** @param {number} ms */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export const launch = () => puppeteer.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });

/** End with what the checks came to. */
export async function finish(browser) {
  await browser.close();
  process.exit(failed ? 1 : 0);
}

/** Open a tab, and give what reads and steers it. */
export async function openTab(browser) {
  const page = await browser.newPage();
  await page.setViewport({ width: 1280, height: 900 });
  const text = () => page.evaluate(() => document.body.innerText);
  const until = (what, fits, ...args) =>
    page.waitForFunction(fits, { timeout: WAIT_MS, polling: 50 }, ...args).catch(async () => {
      throw new Error(`${what}; the page says: ${(await text()).slice(0, 600)}`);
    });
  const says = (words) => until(`"${words}" was not shown`, (each) => document.body.innerText.includes(each), words);
  const silent = (words) => until(`"${words}" stayed`, (each) => !document.body.innerText.includes(each), words);
  async function press(name, within = 'body') {
    await until(`no button "${name}"`, (each, place) => [...document.querySelectorAll(`${place} button`)].some((one) => (one.getAttribute('aria-label') ?? one.textContent) === each && !one.disabled), name, within);
    await page.evaluate((each, place) => [...document.querySelectorAll(`${place} button`)].find((one) => (one.getAttribute('aria-label') ?? one.textContent) === each).click(), name, within);
  }
  async function go(view) {
    await page.evaluate((each) => { location.hash = `#/${each}`; }, view);
    await until(`the view ${view} did not come`, (each) => document.querySelector(`.view.${each}`) !== null && !document.querySelector('.notice.loading'), view);
  }
  async function fill(name, value) {
    await page.waitForSelector(`dialog [name="${name}"]`, { timeout: WAIT_MS });
    await page.evaluate((each, value) => {
      for (const details of document.querySelectorAll('dialog details')) details.open = true;
      document.querySelector(`dialog [name="${each}"]`).value = value;
    }, name, value);
  }
  async function shoot(name, width = 1280, scheme = 'light') {
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
    await page.setViewport({ width, height: width < 700 ? 780 : width > 2000 ? 1440 : 900 });
    await pause(350);
    if (SHOTS) await page.screenshot({ path: `${SHOTS}/${name}-${width}-${scheme}.png`, fullPage: width < 2000 });
  }
  const wide = () => page.setViewport({ width: 1280, height: 900 });
  async function enter(key = KEY) {
    await page.waitForSelector('#key', { timeout: WAIT_MS });
    await page.evaluate(() => { document.getElementById('key').value = ''; });
    await page.type('#key', key);
    await page.keyboard.press('Enter');
    await until('nobody was signed in', () => document.querySelector('.view') !== null);
  }
  /** What axe-core finds, a line each. @returns {Promise<string[]>} */
  async function axe(where) {
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    return violations.map((each) => `${where}: ${each.id}: ${each.nodes.map((node) => `${node.html.slice(0, 160)} ${node.failureSummary?.slice(0, 200)}`).slice(0, 2).join(' | ')}`);
  }
  return { page, text, until, says, silent, press, go, fill, shoot, wide, enter, axe };
}

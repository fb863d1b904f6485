/**
 * What an open dashboard costs a gateway under load, and how it bears 500 events a second itself. Run by dashboard_load.py,
 * which does the load: "@window SECONDS RATE" asks for a stretch of it, and is answered with what it came to.
 */

import { ask, BASE, check, finish, hold, isCrowded, launch, openTab, pause } from './browser.mjs';

const SECONDS = Number(process.env.E2E_SECONDS);
const ROUNDS = 6;
/** Two events each. */
const PACED = 250;
const LONGEST_FRAME_MS = 100;
const MOST_CHANGE = 0.1;
const VIEWS = ['events', 'now'];

const browser = await launch();
const { page, enter, until } = await openTab(browser);
const inspector = await page.createCDPSession();
const load = async (rate) => JSON.parse(await ask(`window ${SECONDS} ${rate}`));
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

async function open(view) {
  await page.goto(`${BASE}/dashboard?${view}#/${view}`);
  await until('no view', (each) => document.querySelector(`.view.${each}`) !== null, view);
  await pause(1000);
}

async function away() {
  await page.goto('about:blank');
  await pause(1000);
}

/** The lengths of frames, until they are asked for. */
const watchFrames = () =>
  page.evaluate(() => {
    window.frames_ = [];
    let last = performance.now();
    const tick = (now) => {
      window.frames_.push(now - last);
      last = now;
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  });

async function heap() {
  await inspector.send('HeapProfiler.collectGarbage');
  const { JSHeapUsedSize, Nodes } = await page.metrics();
  return { mb: JSHeapUsedSize / 1e6, nodes: Nodes };
}

/** Windows without and with the dashboard in turn, so that whatever drifts is in both. */
async function compare(rate, onOpen = async () => undefined) {
  const [without, withOne] = [[], []];
  for (let round = 0; round < ROUNDS; round += 1) {
    await away();
    without.push(await load(rate));
    await open(VIEWS[round % 2]);
    withOne.push(await onOpen(round, () => load(rate)) ?? (await load(rate)));
  }
  return { without, withOne };
}

const rateOf = (each) => each.requests / each.seconds;
const costOf = (each) => (each.cpu / each.requests) * 1e6;
const ratio = ({ without, withOne }, figure) => median(withOne.map(figure)) / median(without.map(figure));
const ofView = ({ without, withOne }, view) => ({ without, withOne: withOne.filter((_, round) => VIEWS[round % 2] === view) });
const ratios = (figures, figure) => `${percent(ratio(figures, figure))} (${VIEWS.map((view) => `${view} ${percent(ratio(ofView(figures, view), figure))}`).join(', ')})`;
/** How much of a core the dashboard takes from the gateway. */
const shareOf = ({ without, withOne }) => median(withOne.map((each) => each.cpu / each.seconds)) - median(without.map((each) => each.cpu / each.seconds));
const told = (windows, figure) => windows.map((each) => Math.round(figure(each))).join(' ');
const percent = (value) => `${value >= 1 ? '+' : ''}${((value - 1) * 100).toFixed(1)} %`;

await page.goto(`${BASE}/dashboard`);
await enter();
await load(PACED);

await check(`${2 * PACED} events a second for ${ROUNDS * SECONDS} seconds: no frame over ${LONGEST_FRAME_MS} ms, memory stays, and so does the rate of requests`, async () => {
  const longest = [];
  const busy = [];
  const kept = [];
  const figures = await compare(PACED, async (_, act) => {
    await watchFrames();
    const { TaskDuration: before } = await page.metrics();
    const window_ = await act();
    busy.push(Math.round(((await page.metrics()).TaskDuration - before) * 100 / window_.seconds));
    longest.push(Math.round(await page.evaluate(() => Math.max(...window.frames_.slice(2)))));
    kept.push(await heap());
    return window_;
  });
  const say = `longest frames ${longest.join(' ')} ms, its thread busy ${busy.join(' ')} %; heap ${kept.map((each) => each.mb.toFixed(1)).join(' ')} MB, nodes ${kept.map((each) => each.nodes).join(' ')}; gateway CPU per request ${told(figures.without, costOf)} us without, ${told(figures.withOne, costOf)} us with the dashboard: ${ratios(figures, costOf)}, which is ${(100 * shareOf(figures)).toFixed(1)} % of a core; requests/s ${told(figures.without, rateOf)} and ${told(figures.withOne, rateOf)}${isCrowded() ? '; the machine is busy with more than it can do: frames are not judged' : ''}`;
  hold(Math.abs(ratio(figures, rateOf) - 1) < MOST_CHANGE && shareOf(figures) < MOST_CHANGE && (isCrowded() || Math.max(...longest) < LONGEST_FRAME_MS) && kept.at(-1).mb < 1.5 * kept[1].mb, say);
  return say;
});
await check('what it is with as many requests as there can be, two events each, is told and not judged', async () => {
  const figures = await compare(0);
  const say = `requests/s ${told(figures.without, rateOf)} without, ${told(figures.withOne, rateOf)} with the dashboard: ${ratios(figures, rateOf)}, Chromium on the same cores; gateway CPU per request ${told(figures.without, costOf)} and ${told(figures.withOne, costOf)} us: ${ratios(figures, costOf)}`;
  return say;
});
await finish(browser);

/**
 * The dashboard by keyboard alone, for a screen reader, magnified, without motion, in forced colours; and how fast and how large
 * it is. Run by dashboard.py.
 */

import { BASE, check, finish, hold, KEY, launch, openTab, pause } from './browser.mjs';

const VIEWS = ['now', 'models', 'events', 'charts', 'keys', 'connect'];
const MODEL = 'qwen/qwen3-8b';
const MOST_STOPS = 80;
const MOST_BYTES = 300_000;

const browser = await launch();
const { page, until, says, press, go, shoot, wide, enter, axe } = await openTab(browser);

const chat = (body) =>
  fetch(`${BASE}/v1/chat/completions`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ model: MODEL, messages: [{ role: 'user', content: 'count to 100' }], ...body }),
  }).then((answer) => answer.text())
    .catch(() => 'cut');

/** What has the focus: its name and role, and whether that is to be seen. */
const focused = () =>
  page.evaluate(() => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    const name = element.getAttribute('aria-label') ?? element.labels?.[0]?.textContent ?? element.textContent.trim();
    const top = document.elementFromPoint(box.left + box.width / 2, Math.min(Math.max(box.top + box.height / 2, 0), innerHeight - 1));
    return {
      tag: element.tagName,
      name: name.slice(0, 60),
      isMarked: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
      isInView: box.bottom > 0 && box.top < innerHeight && box.width > 0,
      isCovered: top !== null && !element.contains(top) && !top.contains(element) && box.height < innerHeight,
      place: [...document.querySelectorAll('*')].indexOf(element),
    };
  });

await check('is painted and usable at once, and small', async () => {
  const inspector = await page.createCDPSession();
  await inspector.send('Network.enable');
  await inspector.send('Network.setCacheDisabled', { cacheDisabled: true });
  let bytes = 0;
  let files = 0;
  inspector.on('Network.loadingFinished', (each) => {
    bytes += each.encodedDataLength;
    files += 1;
  });
  const paints = [];
  const ready = [];
  for (let visit = 0; visit < 5; visit += 1) {
    [bytes, files] = [0, 0];
    await page.goto('about:blank');
    await page.goto(`${BASE}/dashboard`);
    await page.waitForSelector('#key');
    ready.push(await page.evaluate(() => performance.now()));
    paints.push(await page.evaluate(() => new Promise((resolve) => {
      new PerformanceObserver((list) => list.getEntriesByName('first-contentful-paint').forEach((each) => resolve(each.startTime))).observe({ type: 'paint', buffered: true });
    })));
  }
  const loaded = bytes;
  await enter();
  await go('charts');
  await chat({ max_tokens: 3 });
  await page.evaluate(() => document.querySelector('[aria-pressed=true]').click());
  await until('no chart was drawn', () => document.querySelector('canvas') !== null);
  await inspector.detach();
  const middle = (values) => Math.round(values.sort((a, b) => a - b)[2]);
  hold(bytes < MOST_BYTES, `it is ${bytes} bytes`);
  return `first paint after ${middle(paints)} ms, usable after ${middle(ready)} ms, medians of 5; ${Math.round(loaded / 1000)} kB at first, ${Math.round(bytes / 1000)} kB with everything, API calls among them`;
});
for (const view of VIEWS) {
  await check(`${view}: every control is reached by Tab, in order, seen and named`, async () => {
    await page.goto(`${BASE}/dashboard?${view}#/${view}`);
    await go(view);
    await pause(300);
    const found = [];
    const places = [];
    let isOver = false;
    for (let stop = 0; stop < MOST_STOPS && !isOver; stop += 1) {
      await page.keyboard.press('Tab');
      const each = await focused();
      if (each.tag === 'BODY' || places.includes(each.place)) isOver = true;
      else {
        if (each.name === '') found.push(`stop ${stop}: ${each.tag} has no name`);
        if (!each.isMarked) found.push(`stop ${stop}: ${each.tag} ${each.name} is not marked`);
        if (!each.isInView || each.isCovered) found.push(`stop ${stop}: ${each.tag} ${each.name} is out of sight`);
        if (places.length > 0 && each.place < places.at(-1)) found.push(`stop ${stop}: ${each.tag} ${each.name} is out of order`);
        places.push(each.place);
      }
    }
    const controls = await page.evaluate(() => [...document.querySelectorAll('a[href], button, input, select, textarea, summary')].filter((each) => !each.disabled && each.checkVisibility() && each.closest('dialog') === null).length);
    hold(found.length === 0 && places.length >= Math.min(controls, MOST_STOPS - 1), `${found.join('; ')}; ${places.length} stops, ${controls} controls`);
    return `${places.length} stops`;
  });
}
await check('the way around goes by keyboard: skip link, views, heading has the focus', async () => {
  await page.goto(`${BASE}/dashboard?around#/now`);
  await go('now');
  await page.keyboard.press('Tab');
  hold((await focused()).name.startsWith('Skip'), 'the first stop is not the skip link');
  await page.keyboard.press('Enter');
  hold((await page.evaluate(() => document.activeElement.id)) === 'content', 'the content has not the focus');
  await page.focus('nav a[href="#/events"]');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.view.events');
  hold((await page.evaluate(() => document.activeElement.tagName)) === 'H1', 'the heading has not the focus');
});
await check('dialogs keep the focus in, Escape closes them, and it goes back to what opened them', async () => {
  for (const [view, selector, key] of [['models', '[aria-label^="Load "]', 'Enter'], ['models', '[aria-label^="Unload "]', 'Space'], ['keys', '.primary', 'Enter'], ['events', '.feed button', 'Space']]) {
    await go(view);
    if (view === 'events') await press('Pause');
    await page.waitForSelector(selector);
    await page.focus(selector);
    const opener = await focused();
    await page.keyboard.press(key);
    await page.waitForSelector('dialog[open]');
    for (let stop = 0; stop < 12; stop += 1) {
      await page.keyboard.press('Tab');
      hold(await page.evaluate(() => document.activeElement === document.body || document.activeElement.closest('dialog') !== null), `${view}: the focus leaves the dialog`);
    }
    await page.keyboard.press('Escape');
    await until('the dialog stays', () => document.querySelector('dialog') === null);
    const back = await focused();
    hold(back.name === opener.name && back.tag === opener.tag, `${view}: the focus is at ${back.tag} ${back.name}, not ${opener.name}`);
  }
});
await check('the focus stays near when a row goes, or what had it is drawn anew', async () => {
  await go('now');
  void chat({ stream: true, max_tokens: 2000 });
  await page.waitForSelector('tr[data-request] button.danger');
  await page.focus('tr[data-request] button.danger');
  await page.keyboard.press('Enter');
  await says('Nothing is running');
  hold(await page.evaluate(() => document.activeElement !== document.body), 'after cancelling, nothing has the focus');
  await says('Ended');
  await page.waitForSelector('.view.now button[data-of]');
  await page.focus('.view.now button[data-of]');
  const { name } = await focused();
  await chat({ max_tokens: 3 });
  await until('what ended is not shown', () => document.querySelectorAll('.view.now button[data-of]').length > 2);
  hold((await focused()).name === name, 'the focus left the row of a request that ended');
  await go('keys');
  await page.focus('.primary');
  await page.keyboard.press('Enter');
  await page.type('dialog [name="name"]', 'by keyboard');
  await page.keyboard.press('Enter');
  await says('It is shown this once');
  await page.keyboard.press('Escape');
  await says('by keyboard');
  await page.focus('[aria-label="Revoke: by keyboard"]');
  await page.keyboard.press('Enter');
  await page.waitForSelector('dialog[open]');
  await press('Revoke it', 'dialog');
  await until('it is still there', () => document.querySelector('tr[data-key]') === null);
  await pause(300);
  hold(await page.evaluate(() => document.activeElement !== document.body), 'after revoking, nothing has the focus');
});
await check('what happens is announced', async () => {
  await page.evaluate(() => {
    window.said = [];
    new MutationObserver(() => window.said.push(document.getElementById('announcements').textContent)).observe(document.getElementById('announcements'), { childList: true });
  });
  await go('models');
  await press(`Activate ${MODEL}`);
  await press('Activate', 'dialog');
  await until('nothing was said', () => window.said.some((each) => each !== ''));
  return await page.evaluate(() => window.said.find((each) => each !== ''));
});
await check('at 200 % nothing is cut off or beside the window', async () => {
  const found = [];
  for (const [width, height] of [[640, 450], [320, 400]]) {
    await page.setViewport({ width, height, deviceScaleFactor: 2 });
    for (const view of VIEWS) {
      await go(view);
      await pause(200);
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wider > 0) found.push(`${view} at ${width}: wider by ${wider} px`);
    }
    await go('models');
    await page.evaluate(() => document.querySelector('[aria-label^="Load "]').click());
    await page.waitForSelector('dialog[open]');
    const { over, button } = await page.evaluate(() => {
      const dialog = document.querySelector('dialog');
      const box = dialog.querySelector('.buttons').getBoundingClientRect();
      return { over: dialog.scrollWidth - dialog.clientWidth, button: box.bottom <= innerHeight && box.top >= 0 };
    });
    if (over > 0 || !button) found.push(`the dialog at ${width}: wider by ${over} px, its buttons ${button ? '' : 'not '}in sight`);
    await page.keyboard.press('Escape');
  }
  await wide();
  hold(found.length === 0, found.join('; '));
});
await check('without motion where none is wanted; with forced colours everything is to be seen', async () => {
  const inspector = await page.createCDPSession();
  await inspector.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-reduced-motion', value: 'reduce' }] });
  for (const view of VIEWS) {
    await go(view);
    hold((await page.evaluate(() => document.getAnimations().length)) === 0, `something moves in ${view}`);
  }
  await inspector.send('Emulation.setEmulatedMedia', { features: [{ name: 'forced-colors', value: 'active' }] });
  await go('events');
  const told = await page.evaluate(() => {
    const differ = (one, other, name) => getComputedStyle(one)[name] !== getComputedStyle(other)[name];
    const [chip] = document.querySelectorAll('.chips [aria-pressed="true"]');
    chip.click();
    return {
      isForced: matchMedia('(forced-colors: active)').matches,
      pressed: differ(chip, document.querySelector('.chips [aria-pressed="true"]'), 'backgroundColor'),
      current: differ(document.querySelector('nav [aria-current]'), document.querySelector('nav a:not([aria-current])'), 'backgroundColor') || differ(document.querySelector('nav [aria-current]'), document.querySelector('nav a:not([aria-current])'), 'borderBottomColor'),
      badge: getComputedStyle(document.querySelector('.badge')).borderTopStyle,
    };
  });
  await shoot('forced-colours');
  hold(told.isForced && told.pressed && told.current && told.badge === 'solid', JSON.stringify(told));
  await go('charts');
  const found = await axe('charts, forced colours');
  hold(found.length === 0, found.join('; '));
  await inspector.send('Emulation.setEmulatedMedia', { features: [] });
});
await finish(browser);

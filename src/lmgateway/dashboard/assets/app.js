/**
 * The dashboard's page: who is signed in, which view is shown, and whether the gateway is there.
 */

import { whenSignedOut } from './api.js';
import { button, h, replace } from './dom.js';
import { timeOf } from './format.js';
import { Page } from './page.js';
import { BACK, failure, notice, refreshTimes } from './parts.js';
import { Router } from './router.js';
import * as session from './session.js';
import { loadDrawing, mountCharts } from './viewCharts.js';
import { mountConnect } from './viewConnect.js';
import { mountEvents } from './viewEvents.js';
import { mountKeys } from './viewKeys.js';
import { mountModels } from './viewModels.js';
import { mountNow } from './viewNow.js';
import { mountSignIn } from './viewSignIn.js';

const TIMES_MS = 15_000;
const UNSEEN_MS = 60_000;
const LATER_MS = 2_000;

/** @type {import('./router.js').View[]} */
const VIEWS = [
  { path: 'now', title: 'Now', scope: 'monitor', mount: mountNow },
  { path: 'models', title: 'Models', scope: 'admin', mount: mountModels },
  { path: 'events', title: 'Events', scope: 'monitor', mount: mountEvents },
  { path: 'charts', title: 'Charts', scope: 'monitor', mount: mountCharts },
  { path: 'keys', title: 'Keys', scope: 'admin', mount: mountKeys },
  { path: 'connect', title: 'Connect', scope: null, mount: mountConnect },
];

const top = /** @type {HTMLElement} */ (document.getElementById('top'));
const content = /** @type {HTMLElement} */ (document.getElementById('content'));
const connection = /** @type {HTMLElement} */ (document.getElementById('connection'));

/** @type {Page | null} */
let page = null;
/** @type {Router | null} */
let router = null;
let endView = null;
let hiding = 0;

function show(view, isFirst) {
  endView?.();
  endView = null;
  document.title = `${view.title} · LM gateway`;
  for (const link of top.querySelectorAll('nav a')) {
    if (link.getAttribute('href') === `#/${view.path}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  const heading = h('h1', { tabindex: '-1' }, view.title);
  const root = h('div', { class: `view ${view.path}` });
  replace(content, heading, root);
  if (view.scope !== null && !session.may(view.scope)) {
    const sentence = `It needs a key with the scope "${view.scope}". This one has: ${session.current()?.scopes.join(', ')}. Sign out and use another one, or ask whoever runs the gateway.`;
    replace(root, notice('denied', 'Your key may not see this', sentence));
  } else {
    endView = view.mount(root, /** @type {Page} */ (page)) ?? null;
  }
  if (!isFirst) {
    scrollTo(0, 0);
    heading.focus();
  }
}

function showTop() {
  const who = session.current();
  const items = VIEWS.map(({ path, title }) => h('li', null, h('a', { href: `#/${path}` }, title)));
  replace(
    top,
    h('span', { class: 'brand' }, 'LM gateway'),
    h('nav', { 'aria-label': 'Views' }, h('ul', null, items)),
    h('div', { class: 'who' }, h('span', { title: `${who?.name}: ${who?.scopes.join(', ')}` }, who?.name ?? ''), !who?.keyless && button('Sign out', () => void leave(), { class: 'small' })),
  );
}

function showConnection() {
  const feed = page?.feed;
  if (feed === undefined || feed.state === 'open' || feed.state === 'closed' || feed.state === 'forbidden') {
    replace(connection);
    if (feed?.state === 'open' && connection.dataset.state === 'waiting') dispatchEvent(new Event(BACK));
  } else if (feed.state === 'waiting' && connection.dataset.state !== 'waiting') {
    replace(connection, h('span', null, `No connection to the gateway. ${feed.detail} What is shown is of ${timeOf(Date.now())}. Reconnecting …`), button('Try now', () => feed.retryNow(), { class: 'small' }));
  }
  connection.dataset.state = feed?.state === 'connecting' && connection.dataset.state === 'waiting' ? 'waiting' : (feed?.state ?? '');
}

async function leave() {
  end();
  try {
    await session.signOut();
  } finally {
    askToSignIn('You are signed out.');
  }
}

function end() {
  endView?.();
  endView = null;
  router?.stop();
  page?.feed.close();
  page = null;
  router = null;
  showConnection();
}

function askToSignIn(why = '') {
  end();
  replace(top);
  document.title = 'Sign in · LM gateway';
  mountSignIn(content, why, begin);
}

function follow() {
  if (session.may('monitor') && !document.hidden) page?.feed.open();
}

function begin() {
  end();
  page = new Page();
  page.feed.watch(showConnection);
  follow();
  showTop();
  if (location.hash === '' && !session.may('monitor')) location.replace('#/connect');
  router = new Router(VIEWS, show);
  router.start();
}

async function start() {
  try {
    if ((await session.resume()) === null) askToSignIn();
    else begin();
  } catch (error) {
    replace(content, h('h1', null, 'LM gateway'), failure(error, () => void start()));
  }
}

whenSignedOut(() => {
  if (session.current() === null) return;
  session.forget();
  askToSignIn('Your session has ended: it was long ago, or the key is good no more. Sign in again.');
});
document.getElementById('skip')?.addEventListener('click', (event) => {
  event.preventDefault();
  content.focus();
});
addEventListener('online', () => page?.feed.retryNow());
// A page that is left or not looked at lets go of its stream: browsers open six connections to a gateway, for all pages together.
addEventListener('pagehide', () => page?.feed.close());
addEventListener('pageshow', (event) => {
  if (event.persisted) follow();
});
document.addEventListener('visibilitychange', () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => page?.feed.close(), UNSEEN_MS);
  else follow();
});
setInterval(refreshTimes, TIMES_MS);
// While it is there: once the gateway is updated, the files of this version are not.
setTimeout(() => void loadDrawing().catch(() => undefined), LATER_MS);
void start();

/**
 * The live feed of events.
 */

import { button, freshId, h, keepingFocus, paced, replace, setText } from './dom.js';
import { count, counted, duration, inline, speed, timeOf } from './format.js';
import { badge, codeBlock, notice, openDialog } from './parts.js';
import { MOST_RECENT } from './page.js';
import { openRequest } from './requestPanel.js';

/** Which types a filter stands for. */
const GROUPS = [
  ['Requests', (type) => type.startsWith('inference_')],
  ['Models', (type) => type.startsWith('model_')],
  ['Errors', (type) => type === 'error' || type === 'auth_failure' || type === 'gap' || type === 'upstream_down'],
  ['LM Studio', (type) => type.startsWith('upstream_') || type.startsWith('lmstudio_')],
  ['Log', (type) => type === 'debug_log' || type === 'connected'],
];

const BAD = new Set(['error', 'auth_failure', 'upstream_down', 'gap']);
/** Rows that are added at once: more of them come a little later. */
const MOST_AT_ONCE = 150;

/** @param {HTMLElement} root @param {import('./page.js').Page} page */
export function mountEvents(root, page) {
  const list = h('ol', { class: 'feed', tabindex: '0', 'aria-label': 'Events, newest first' });
  const said = h('p', { class: 'quiet' });
  const shown = new Set(GROUPS.map(([name]) => name));
  let wanted = '';
  let isPaused = false;
  let missed = 0;
  let pending = [];

  const passes = (event) => {
    const group = GROUPS.find(([, isIn]) => isIn(event.type));
    const isIn = group === undefined || GROUPS.some(([name, fits]) => shown.has(name) && fits(event.type));
    return isIn && (wanted === '' || `${event.type} ${JSON.stringify(event.data)}`.toLowerCase().includes(wanted));
  };
  const status = () => {
    if (isPaused) setText(said, `Paused. ${counted(missed, 'event')} since.`);
    else if (list.childElementCount === 0) setText(said, page.recent.length === 0 ? 'No events yet.' : 'No event fits the filters.');
    else setText(said, `${counted(list.childElementCount, 'event')} shown, of the last ${MOST_RECENT}.`);
  };
  const redraw = () => {
    pending = [];
    list.replaceChildren(...page.recent.filter(passes).reverse().map(rowOf));
    status();
  };
  const drain = () => {
    if (isPaused) return;
    const batch = pending.splice(0, MOST_AT_ONCE);
    list.prepend(...batch.reverse().map(rowOf));
    keepingFocus(list, () => {
      while (list.childElementCount > MOST_RECENT) list.lastElementChild.remove();
    }, list);
    status();
    if (pending.length > 0) schedule();
  };
  const schedule = paced(drain);
  const stop = page.feed.listen((events) => {
    if (isPaused) {
      missed += events.length;
      status();
      return;
    }
    for (const event of events) if (passes(event)) pending.push(event);
    if (pending.length > MOST_RECENT) pending.splice(0, pending.length - MOST_RECENT);
    schedule();
  });

  const pause = button('Pause', () => {
    isPaused = !isPaused;
    missed = 0;
    pause.setAttribute('aria-pressed', String(isPaused));
    if (isPaused) status();
    else redraw();
  }, { 'aria-pressed': 'false' });
  const searchId = freshId('search');
  let typing = 0;
  const search = h('input', {
    type: 'search',
    id: searchId,
    autocomplete: 'off',
    spellcheck: 'false',
    on: {
      input: () => {
        clearTimeout(typing);
        typing = setTimeout(() => {
          wanted = search.value.trim().toLowerCase();
          redraw();
        }, 150);
      },
    },
  });
  const chips = GROUPS.map(([name]) => {
    const chip = button(name, () => {
      if (!shown.delete(name)) shown.add(name);
      chip.setAttribute('aria-pressed', String(shown.has(name)));
      redraw();
    }, { 'aria-pressed': 'true' });
    return chip;
  });
  list.addEventListener('click', (event) => {
    const target = event.target instanceof Element ? event.target.closest('button') : null;
    const row = target?.closest('li');
    if (row) openEvent(known.get(row));
  });
  replace(
    root,
    h(
      'section',
      { 'aria-label': 'What happens' },
      h('div', { class: 'toolbar' }, h('div', { class: 'field' }, h('label', { for: searchId }, 'Search the events'), search), h('fieldset', { class: 'chips' }, h('legend', null, 'Show'), chips), pause),
      said,
      page.feed.state === 'forbidden' && notice('denied', 'Your key may not follow events', page.feed.detail),
      list,
    ),
  );
  redraw();
  return () => {
    stop();
    clearTimeout(typing);
  };
}

/** The event of each row that is there. @type {WeakMap<Element, import('./feed.js').GatewayEvent>} */
const known = new WeakMap();

function rowOf(event) {
  const { type, data } = event;
  const isBad = BAD.has(type);
  const element = h(
    'li',
    { class: isBad ? 'bad' : null },
    h('time', { datetime: data.timestamp }, timeOf(data.timestamp)),
    h('span', null, badge(type, isBad ? 'bad' : type.endsWith('_complete') ? 'good' : 'plain')),
    h('span', { class: 'said' }, sentenceOf(type, data)),
    h('button', { type: 'button', class: 'small bare', 'aria-label': `Details of event ${event.id}, ${type}` }, 'Details'),
  );
  known.set(element, event);
  return element;
}

/** An event in a few words. @param {string} type @param {any} data @returns {string} */
export function sentenceOf(type, data) {
  const name = data.instanceId ?? data.modelKey;
  switch (type) {
    case 'inference_start':
      return `${data.key ?? 'somebody'} asks ${data.model ?? 'no model'}${data.stream ? ', streamed' : ''}${data.injected?.length ? `; added: ${data.injected.join(', ')}` : ''}`;
    case 'inference_first_token':
      return `first token after ${duration(data.ttftMs)}`;
    case 'inference_complete':
      return [`${data.status} in ${duration(data.totalTimeMs)}`, data.tokenUsage && `${count(data.tokenUsage.totalTokens)} tokens`, data.tokensPerSecond && speed(data.tokensPerSecond)].filter(Boolean).join(', ');
    case 'inference_cancelled':
      return `after ${duration(data.totalTimeMs)}, while ${data.phase}`;
    case 'model_load_progress':
      return `${name}: ${data.progress} %`;
    case 'model_load_complete':
    case 'model_unload_complete':
      return `${name} in ${duration(data.totalTimeMs)}`;
    case 'model_load_start':
    case 'model_unload_start':
    case 'model_activate':
    case 'model_deactivate':
      return name ?? 'none';
    case 'model_state':
      return [data.loaded?.length && `loaded: ${data.loaded.map(nameOf).join(', ')}`, data.unloaded?.length && `unloaded: ${data.unloaded.map(nameOf).join(', ')}`].filter(Boolean).join('; ');
    case 'error':
      return `${data.operation}: ${data.error}`;
    case 'auth_failure':
      return `${data.client} at ${data.path}: ${data.reason}`;
    case 'upstream_up':
    case 'upstream_down':
      return `${data.upstream}: ${data.reason ?? ''}`;
    case 'gap':
      return `${counted(data.lost ?? data.gap ?? data.count ?? 0, 'event was', 'events were')} lost`;
    case 'connected':
      return data.message ?? '';
    default:
      return Object.entries(data).filter(([key]) => key !== 'timestamp').map(([key, value]) => `${key} ${inline(value)}`).join(', ');
  }
}

const nameOf = (each) => (typeof each === 'string' ? each : (each?.identifier ?? inline(each)));

function openEvent(event) {
  if (event === undefined) return;
  const requestId = event.data.requestId;
  openDialog(`Event ${event.id}: ${event.type}`, (close) => [
    codeBlock(JSON.stringify(event.data, null, 2), 'What the event says'),
    h(
      'div',
      { class: 'buttons' },
      requestId && button('Show its request', () => {
        close();
        openRequest(requestId);
      }, { class: 'primary' }),
      button('Close', close),
    ),
  ]);
}

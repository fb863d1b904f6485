/**
 * What is going on now: requests in flight, the upstream, loads.
 */

import { remove } from './api.js';
import { button, h, heading, keepingFocus, replace, setText } from './dom.js';
import { count, counted, duration, speed, spokenSpeed } from './format.js';
import { badge, busy, loading, named, notice, progress, section, setProgress, table, when } from './parts.js';
import { may } from './session.js';
import { openRequest } from './requestPanel.js';

const TICK_MS = 1000;
/** The list of those that ended is not drawn again before that: nobody reads faster. */
const ENDED_MS = 500;

/** @param {HTMLElement} root @param {import('./page.js').Page} page */
export function mountNow(root, page) {
  const { live } = page;
  const tiles = new Tiles();
  const loads = new Loads();
  const running = new RunningTable();
  const ended = table('The last requests, newest first', ['Model', 'Outcome', 'Key', { text: 'Took', number: true }, { text: 'First token', number: true }, { text: 'Tokens', number: true }, { text: 'Speed', number: true }, 'When'], []);
  const endedPlace = h('div', null, loading('the last requests'));
  replace(root, tiles.away, tiles.element, loads.element, h('div', { class: 'pair' }, section('In flight', running.element), section('Ended', endedPlace)));

  let shownEnded = null;
  let endedAt = 0;
  const draw = () => {
    tiles.draw(live);
    loads.draw(live);
    running.draw(live);
    const newest = live.ended.map((each) => each.requestId).join();
    if (live.status !== null && newest !== shownEnded && performance.now() - endedAt > ENDED_MS) {
      shownEnded = newest;
      endedAt = performance.now();
      keepingFocus(ended.body, () => ended.body.replaceChildren(...live.ended.map((each) => ended.dress(endedRow(each)))));
      if (live.ended.length === 0) replace(endedPlace, notice('empty', 'No requests yet', 'They are shown here once a client has asked something.', h('a', { href: '#/connect' }, 'Connect a client')));
      else if (!ended.element.isConnected) replace(endedPlace, ended.element);
    }
  };
  const stop = live.watch(draw);
  const timer = setInterval(draw, TICK_MS);
  draw();
  void live.look();
  return () => {
    stop();
    clearInterval(timer);
  };
}

/** The figures at the top. */
class Tiles {
  constructor() {
    this.element = h('dl', { class: 'tiles' });
    this._reason = h('p', null);
    this.away = h('div', { class: 'notice error', role: 'alert', hidden: true }, h('p', { class: 'notice-title' }, 'LM Studio does not answer'), this._reason);
    this._values = {};
    for (const [name, label] of [['upstream', 'LM Studio'], ['active', 'Active model'], ['inFlight', 'In flight'], ['total', 'Requests'], ['errors', 'Errors']]) {
      const value = h('bdi', null, '…');
      const more = h('small', null);
      const tile = h('div', { class: 'tile' }, h('dt', null, label), h('dd', null, value, more));
      this._values[name] = { value, more, tile };
      this.element.append(tile);
    }
  }

  /** @param {import('./live.js').Live} live */
  draw(live) {
    const { status, upstream } = live;
    if (status === null) return;
    const isUp = upstream?.up;
    this._set('upstream', isUp === null ? 'Not asked yet' : isUp ? 'Answers' : 'Away', upstream?.url);
    this._values.upstream.tile.classList.toggle('bad', isUp === false);
    this.away.hidden = isUp !== false;
    if (isUp === false) setText(this._reason, upstream?.reason ?? '');
    this._set('active', status.activeModel?.instanceId ?? status.activeModel?.modelKey ?? 'None', status.activeModel === null ? 'requests must name a model' : status.activeModel.resident === false ? 'not loaded now' : '');
    this._set('inFlight', count(live.requests.size + live.uncounted), live.loads.size > 0 ? counted(live.loads.size, 'model is', 'models are') + ' being loaded' : '');
    this._set('total', count(status.totalRequests), 'since the start');
    this._set('errors', count(status.totalErrors), status.totalRequests > 0 ? `${((100 * status.totalErrors) / status.totalRequests).toFixed(1)} % of them` : '');
  }

  _set(name, value, more) {
    setText(this._values[name].value, value);
    setText(this._values[name].more, more ?? '');
  }
}

/** What is being loaded. */
class Loads {
  constructor() {
    this._list = h('div', null);
    this.element = section('Being loaded', this._list);
    this.element.hidden = true;
    this._rows = new Map();
  }

  /** @param {import('./live.js').Live} live */
  draw(live) {
    this.element.hidden = live.loads.size === 0;
    for (const [name, { element }] of this._rows) {
      if (live.loads.has(name)) continue;
      element.remove();
      this._rows.delete(name);
    }
    for (const [name, load] of live.loads) {
      let row = this._rows.get(name);
      if (row === undefined) {
        const bar = progress(`Loading ${load.modelKey}`, load.progress);
        const said = h('span', { class: 'quiet' });
        row = { bar, said, element: h('div', null, h('p', { class: 'head' }, h('strong', null, named(load.instanceId ?? load.modelKey)), said), bar) };
        this._rows.set(name, row);
        this._list.append(row.element);
      }
      setProgress(row.bar, load.progress);
      setText(row.said, `${load.progress === null ? '' : `${load.progress} %, `}for ${duration(Date.now() - load.startedAt)}`);
    }
  }
}

/** The requests in flight; rows stay while their requests do, so that the focus does. */
class RunningTable {
  constructor() {
    const heads = ['Model', 'Key', { text: 'Age', number: true }, { text: 'First token', number: true }, { text: 'Speed', number: true }, 'Path', ...(may('admin') ? ['Action'] : [])];
    this._table = table('Requests in flight, oldest first', heads, []);
    this._empty = notice('empty', 'Nothing is running', 'A request appears here as soon as the gateway has it.');
    this._more = h('p', { class: 'quiet' });
    this._waiting = loading('what runs');
    this.element = h('div', null, this._waiting, this._empty, this._table.element, this._more);
    this._rows = new Map();
  }

  /** @param {import('./live.js').Live} live */
  draw(live) {
    if (live.status !== null) this._waiting.remove();
    this._empty.hidden = live.requests.size > 0 || live.status === null;
    this._table.element.hidden = live.requests.size === 0;
    setText(this._more, live.uncounted > 0 ? `and ${counted(live.uncounted, 'more request')}` : '');
    for (const [id, { element }] of this._rows) {
      if (live.requests.has(id)) continue;
      // Not to the next row: whoever presses once more would cancel that one.
      keepingFocus(element, () => element.remove(), heading());
      this._rows.delete(id);
    }
    for (const request of live.requests.values()) {
      let row = this._rows.get(request.requestId);
      if (row === undefined) {
        row = runningRow(request);
        this._rows.set(request.requestId, row);
        this._table.body.append(this._table.dress(row.element));
      }
      setText(row.age, duration(Math.floor(Math.max(0, Date.now() - request.startedAt) / 100) * 100));
      setText(row.first, request.ttftMs === null ? 'waiting' : duration(request.ttftMs));
      drawSpeed(row, request);
    }
  }
}

/** The speed is a figure for the eye, and a sentence for the ear. */
function drawSpeed(row, { rate, stream }) {
  setText(row.speed, speed(rate.perSecond));
  const unknown = stream ? 'not known yet' : 'not told before the end: no stream';
  setText(row.spoken, rate.perSecond === null ? unknown : spokenSpeed(rate.perSecond, rate.count));
}

function runningRow(request) {
  const id = request.requestId;
  const age = h('td', { class: 'number' });
  const first = h('td', { class: 'number' });
  const rate = h('span', { 'aria-hidden': 'true' });
  const spoken = h('span', { class: 'unseen' });
  const trouble = h('div', null);
  const cancel = may('admin') && button('Cancel', () => void busy(cancel, trouble, () => remove(`/debug/requests/${encodeURIComponent(id)}`)), { class: 'small danger', 'aria-label': `Cancel the request to ${request.model ?? 'no model'}` });
  const name = button(named(request.model ?? 'no model'), () => openRequest(id), { class: 'link' });
  const element = h(
    'tr',
    { 'data-request': id },
    h('th', { scope: 'row' }, name),
    h('td', null, named(request.key)),
    age,
    first,
    h('td', { class: 'number speed' }, rate, spoken),
    h('td', { class: 'tight' }, h('span', { class: 'mono' }, request.path), request.stream && ' (stream)'),
    cancel && h('td', null, cancel, trouble),
  );
  return { element, age, first, speed: rate, spoken };
}

/** @param {any} each */
export function outcomeOf(each) {
  if (each.ending === 'cancelled') return badge('cancelled', 'warn');
  if (each.ending !== 'complete') return badge('failed', 'bad');
  return badge(String(each.status ?? 'ended'), each.status >= 500 ? 'bad' : each.status >= 400 ? 'warn' : 'good');
}

function endedRow(each) {
  const number = (text) => h('td', { class: 'number' }, text);
  return h(
    'tr',
    null,
    h('th', { scope: 'row' }, button(named(each.model ?? 'no model'), () => openRequest(each.requestId), { class: 'link', 'data-of': each.requestId })),
    h('td', null, outcomeOf(each)),
    h('td', null, named(each.key)),
    number(duration(each.totalTimeMs)),
    number(duration(each.ttftMs)),
    number(count(each.tokenUsage?.totalTokens)),
    number(speed(each.tokensPerSecond)),
    h('td', null, when(each.startedAt)),
  );
}

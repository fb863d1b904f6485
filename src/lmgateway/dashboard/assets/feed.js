/**
 * Follows the gateway's events, and comes back when the stream breaks.
 */

import { ApiError, get, send } from './api.js';
import { EventStreamParser } from './sse.js';

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
/** The gateway sends a comment every 15 s; a stream that is silent for longer is dead. */
const SILENCE_MS = 40_000;
/** The event that is about now only: it has no id of its own, and is told to those who want just that. */
const PROGRESS = 'inference_progress';
/** How many events of before are asked for at first. */
const LOOK_BACK = 300;

/**
 * @typedef {{id: number, type: string, data: any, seenAt: number}} GatewayEvent
 * @typedef {'connecting' | 'open' | 'waiting' | 'forbidden' | 'closed'} FeedState
 */

/** One stream for the whole page. */
export class Feed {
  constructor() {
    /** @type {FeedState} */
    this.state = 'closed';
    this.detail = '';
    this.retryAt = 0;
    /** @type {number | null} */
    this._position = null;
    this._wait = FIRST_WAIT_MS;
    /** @type {Set<(events: GatewayEvent[]) => void>} */
    this._listeners = new Set();
    /** @type {Set<(data: any) => void>} */
    this._progressListeners = new Set();
    /** @type {Set<() => void>} */
    this._watchers = new Set();
    this._abort = null;
    this._timer = 0;
  }

  /** Be given events, in batches as they arrive. @param {(events: GatewayEvent[]) => void} listener @returns {() => void} ends it. */
  listen(listener) {
    this._listeners.add(listener);
    return () => this._listeners.delete(listener);
  }

  /** Be told how far the answers are that pass, once a second. @param {(data: any) => void} listener */
  listenProgress(listener) {
    this._progressListeners.add(listener);
  }

  /** Be told of changes of the state. @param {() => void} watcher @returns {() => void} ends it. */
  watch(watcher) {
    this._watchers.add(watcher);
    return () => this._watchers.delete(watcher);
  }

  /** Begin to follow. */
  open() {
    if (this.state === 'closed' || this.state === 'forbidden') void this._follow();
  }

  /** Come back now instead of later. */
  retryNow() {
    if (this.state !== 'waiting') return;
    clearTimeout(this._timer);
    this._wait = FIRST_WAIT_MS;
    void this._follow();
  }

  /** End following. */
  close() {
    clearTimeout(this._timer);
    this._abort?.abort();
    this._abort = null;
    this._set('closed');
  }

  async _follow() {
    const abort = new AbortController();
    this._abort = abort;
    this._set('connecting');
    try {
      const since = this._position === null ? '' : `&since=${this._position}`;
      const response = await send('GET', `/debug/stream?progress=1${since}`, { signal: abort.signal, accept: 'text/event-stream' });
      this._set('open');
      await this._read(response, abort);
      if (!abort.signal.aborted) this._comeBack('The stream ended.');
    } catch (error) {
      if (this._abort !== abort || (abort.signal.aborted && this.state === 'closed')) return;
      const status = error instanceof ApiError ? error.status : 0;
      if (status === 403) this._set('forbidden', error.message);
      else if (status === 401) this._set('closed');
      else this._comeBack(error instanceof Error ? error.message : 'The stream broke.');
    }
  }

  async _read(response, abort) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventStreamParser();
    for (;;) {
      const silence = setTimeout(() => abort.abort(new Error('silent')), SILENCE_MS);
      let piece;
      try {
        piece = await reader.read();
      } finally {
        clearTimeout(silence);
      }
      if (piece.done) return;
      this._wait = FIRST_WAIT_MS;
      const all = parser.feed(piece.value).map(decode).filter((each) => each !== null);
      const events = all.filter((each) => each.type !== PROGRESS);
      if (parser.lastId === '') continue;
      if (this._position === null) events.unshift(...(await before(Number(parser.lastId), abort.signal)));
      this._position = Number(parser.lastId);
      if (events.length > 0) for (const listener of this._listeners) listener(events);
      for (const { type, data } of all) if (type === PROGRESS) for (const listener of this._progressListeners) listener(data);
    }
  }

  _comeBack(why) {
    const wait = this._wait * (0.75 + Math.random() / 2);
    this._wait = Math.min(this._wait * 2, LONGEST_WAIT_MS);
    this.retryAt = Date.now() + wait;
    this._set('waiting', why);
    this._timer = setTimeout(() => void this._follow(), wait);
  }

  _set(state, detail = '') {
    this.state = state;
    this.detail = detail;
    for (const watcher of this._watchers) watcher();
  }
}

/** The events before the first one of the stream. @param {number} id @param {AbortSignal} signal @returns {Promise<GatewayEvent[]>} */
async function before(id, signal) {
  const since = Math.max(0, id - LOOK_BACK);
  const told = await get(`/debug/poll?since=${since}&timeout=0&limit=${LOOK_BACK}`, signal);
  return told.events.filter((each) => each.id <= id).map((each) => ({ ...each, seenAt: Date.now() }));
}

/** @returns {GatewayEvent | null} */
function decode(event) {
  try {
    return { id: Number(event.id), type: event.type, data: JSON.parse(event.data), seenAt: Date.now() };
  } catch {
    return null;
  }
}

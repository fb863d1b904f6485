/**
 * What is going on now, as events and a first look tell it: requests in flight, loads, the upstream.
 */

import { get } from './api.js';
import { paced } from './dom.js';
import { Rate } from './rate.js';

/** Requests that are shown at once; more are counted. */
const MOST_REQUESTS = 200;
const MOST_ENDED = 20;

/**
 * @typedef {{requestId: string, model: string | null, key: string | null, client: string | null, path: string, stream: boolean,
 *   startedAt: number, ttftMs: number | null, rate: Rate}} Running
 * @typedef {{modelKey: string, instanceId: string | null, progress: number | null, startedAt: number}} Load
 */

/** The state of the gateway as this page knows it. */
export class Live {
  /** @param {import('./feed.js').Feed} feed */
  constructor(feed) {
    /** @type {Map<string, Running>} */
    this.requests = new Map();
    this.uncounted = 0;
    /** @type {any[]} */
    this.ended = [];
    /** @type {Map<string, Load>} */
    this.loads = new Map();
    /** @type {{url: string, up: boolean | null, reason: string | null} | null} */
    this.upstream = null;
    /** @type {any} */
    this.status = null;
    /** @type {Set<() => void>} */
    this._watchers = new Set();
    this._looking = false;
    this._changed = paced(() => {
      for (const watcher of this._watchers) watcher();
    });
    feed.listen((events) => this._take(events));
    feed.listenProgress((data) => this._progress(data));
    feed.watch(() => {
      if (feed.state === 'open') void this.look();
    });
  }

  /** Be told, ten times a second at most, that something has changed. @param {() => void} watcher @returns {() => void} ends it. */
  watch(watcher) {
    this._watchers.add(watcher);
    return () => this._watchers.delete(watcher);
  }

  /** Ask the gateway for all of it: at the beginning, and where events were lost. */
  async look() {
    if (this._looking) return;
    this._looking = true;
    try {
      const [status, requests] = await Promise.all([get('/debug/status'), get('/debug/requests?ended=20')]);
      this.status = status;
      this.upstream = status.upstream;
      const known = new Map(this.requests);
      this.requests.clear();
      for (const each of requests.inFlight.slice(0, MOST_REQUESTS)) this.requests.set(each.requestId, running(each, known.get(each.requestId)?.rate));
      this.uncounted = Math.max(0, requests.inFlight.length - MOST_REQUESTS);
      this.ended = requests.ended.slice(0, MOST_ENDED);
      this.loads.clear();
      const operation = status.currentOperation;
      if (operation?.type === 'model_load') {
        const load = { modelKey: operation.modelKey, instanceId: null, progress: operation.progress, startedAt: Date.parse(operation.startedAt) };
        this.loads.set(loadName(load), load);
      }
    } catch {
      // The feed's state tells that the gateway is away.
    } finally {
      this._looking = false;
    }
    this._changed();
  }

  _progress({ requests }) {
    for (const told of requests) this.requests.get(told.requestId)?.rate.take(told.completionTokens, told.totalTimeMs);
    this._changed();
  }

  _take(events) {
    for (const event of events) this._one(event);
    this._changed();
  }

  _one({ type, data }) {
    switch (type) {
      case 'inference_start':
        if (this.requests.size < MOST_REQUESTS) this.requests.set(data.requestId, running({ ...data, startedAt: data.timestamp }));
        else this.uncounted += 1;
        break;
      case 'inference_first_token': {
        const request = this.requests.get(data.requestId);
        if (request !== undefined) {
          request.ttftMs = data.ttftMs;
          if (request.stream) request.rate.take(1, data.ttftMs);
        }
        break;
      }
      case 'inference_complete':
      case 'inference_cancelled':
        this._ended(type, data);
        break;
      case 'error':
        if (data.requestId !== undefined) this._ended(type, data);
        else if (data.operation === 'model_load') this.loads.delete(loadName(data));
        break;
      case 'model_load_start':
        this.loads.delete(loadName({ modelKey: data.modelKey }));
        this.loads.set(loadName(data), { modelKey: data.modelKey, instanceId: data.instanceId ?? null, progress: null, startedAt: Date.parse(data.timestamp) });
        break;
      case 'model_load_progress': {
        const load = this.loads.get(loadName(data)) ?? this.loads.get(loadName({ modelKey: data.modelKey }));
        if (load !== undefined) load.progress = data.progress;
        break;
      }
      case 'model_load_complete':
        for (const [name, load] of this.loads) if (load.modelKey === data.modelKey) this.loads.delete(name);
        break;
      case 'model_activate':
      case 'model_deactivate':
        if (this.status !== null) this.status.activeModel = type === 'model_activate' ? { ...data, resident: null } : null;
        break;
      case 'upstream_up':
      case 'upstream_down':
        this.upstream = { url: data.upstream, up: type === 'upstream_up', reason: data.reason };
        break;
      case 'gap':
        void this.look();
        break;
      default:
    }
  }

  _ended(type, data) {
    const request = this.requests.get(data.requestId);
    if (!this.requests.delete(data.requestId) && this.uncounted > 0) this.uncounted -= 1;
    const ending = { inference_complete: 'complete', inference_cancelled: 'cancelled', error: 'failed' }[type];
    if (this.ended.some((each) => each.requestId === data.requestId)) return;
    if (this.status !== null) {
      this.status.totalRequests += 1;
      if (type === 'error' || data.status >= 400) this.status.totalErrors += 1;
    }
    this.ended.unshift({ ...request, ...data, ending, startedAt: request?.startedAt ?? data.timestamp });
    if (this.ended.length > MOST_ENDED) this.ended.length = MOST_ENDED;
  }
}

const loadName = (load) => `${load.modelKey}\n${load.instanceId ?? ''}`;

/** @param {any} told @param {Rate} [rate] @returns {Running} */
function running(told, rate = new Rate()) {
  if (typeof told.tokenUsage?.completionTokens === 'number') rate.take(told.tokenUsage.completionTokens, told.totalTimeMs);
  return {
    requestId: told.requestId,
    model: told.model ?? null,
    key: told.key ?? null,
    client: told.client ?? null,
    path: told.path,
    stream: Boolean(told.stream),
    startedAt: Date.parse(told.startedAt),
    ttftMs: told.ttftMs ?? null,
    rate,
  };
}

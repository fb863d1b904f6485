/**
 * One request: its times, what was injected and from where, what was captured.
 */

import { ApiError, get, post, text } from './api.js';
import { h, replace, svg } from './dom.js';
import { count, duration, fullTime, inline, pretty, size, speed } from './format.js';
import { badge, codeBlock, copyButton, failure, loading, named, notice, openDialog, row, table } from './parts.js';
import { may } from './session.js';
import { outcomeOf } from './viewNow.js';

/** Names of keys that are not in the store, whose requests are explained as one's own. */
const UNSTORED = new Set(['GATEWAY_API_KEY', 'local', 'keyless', null, undefined]);

/** Show a request in a dialog. @param {string} requestId */
export function openRequest(requestId) {
  const place = h('div', null, loading('the request'));
  const load = async () => {
    try {
      const told = await get(`/debug/requests/${encodeURIComponent(requestId)}`);
      replace(place, await describe(told));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) replace(place, notice('empty', 'Forgotten', 'The gateway keeps the last 1,000 requests; this one is not among them any more.'));
      else replace(place, failure(error, () => void load()));
    }
  };
  openDialog('Request', (close) => [place, h('div', { class: 'buttons' }, h('button', { type: 'button', on: { click: close } }, 'Close'))]);
  void load();
}

async function describe(told) {
  const usage = told.tokenUsage;
  const pairs = [
    ['Outcome', told.ending === null ? badge('running', 'busy') : outcomeOf(told)],
    ['Model', named(told.model ?? 'none named')],
    ['Key', told.key && named(told.key)],
    ['Client', told.client],
    ['Request', h('span', { class: 'mono' }, `${told.method} ${told.path}`, told.stream ? ' (stream)' : '')],
    ['Began', fullTime(told.startedAt)],
    ['Tokens', usage && `${count(usage.promptTokens)} in, ${count(usage.completionTokens)} out${usage.estimated ? ' (estimated)' : ''}`],
    ['Speed', told.tokensPerSecond === null ? null : speed(told.tokensPerSecond)],
    ['Finish', told.finishReason],
    ['Bytes', `${size(told.bytesIn)} in, ${size(told.bytesOut)} out`],
    ['Request id', h('span', { class: 'mono' }, told.requestId)],
  ];
  return [
    told.error && notice('error', 'It went wrong', told.error),
    h('dl', { class: 'pairs' }, pairs.filter(([, value]) => value).map(([name, value]) => [h('dt', null, name), h('dd', null, value)])),
    h('h3', null, 'Times'),
    phases(told),
    h('h3', null, 'Injected by the gateway'),
    await injected(told),
    may('admin') && captured(told),
  ];
}

/** The phases of a request as a bar. @param {any} told */
export function phases(told) {
  const total = Math.max(told.totalTimeMs ?? 0, 0.1);
  const sent = Math.min(told.sentMs ?? total, total);
  const first = Math.min(told.ttftMs ?? told.answeredMs ?? total, total);
  const parts = [
    ['reading', 'Gateway: read and checked', sent],
    ['waiting', told.ttftMs === null ? 'LM Studio: until it answered' : 'LM Studio: until the first token', Math.max(0, first - sent)],
    ['answering', 'Answer', Math.max(0, total - Math.max(first, sent))],
  ];
  let x = 0;
  const bars = parts.map(([name, , length]) => {
    const width = (1000 * length) / total;
    x += width;
    return svg('rect', { class: name, x: x - width, y: 0, width, height: 10 });
  });
  const label = parts.map(([, what, length]) => `${what}: ${duration(length)}`).join('; ');
  return [
    svg('svg', { class: 'phases', viewBox: '0 0 1000 10', preserveAspectRatio: 'none', role: 'img', 'aria-label': label }, bars),
    h('ul', { class: 'legend' }, parts.map(([name, what, length]) => h('li', { class: name }, `${what}: ${duration(length)}`))),
  ];
}

/** What the gateway added, and whose it is where that can be told. */
async function injected(told) {
  if (!Array.isArray(told.injected) || told.injected.length === 0) return h('p', { class: 'quiet' }, 'Nothing: the request went on as it came.');
  const origins = await originsOf(told);
  if (origins === null) return h('p', null, told.injected.join(', '));
  const rows = told.injected.map((name) => {
    const found = origins.list.find((each) => each.name === name || each.member === name);
    return row(name, found === undefined ? '–' : inline(found.value), found?.origin ?? 'not said any more');
  });
  const caption = origins.isExact ? 'What was added, and from where' : 'What was added; where from, and the value, by the settings of now';
  return table(caption, ['Parameter', 'Value', 'From'], rows).element;
}

async function originsOf(told) {
  if (!may('admin')) return null;
  const whole = told.captured?.request?.body;
  try {
    const body = whole ? String(whole) : told.injected.includes('model') || told.model === null ? {} : { model: told.model };
    const explained = await post('/admin/explain', { path: told.path, body, ...(UNSTORED.has(told.key) ? {} : { key: told.key }) });
    return { list: explained.injected, isExact: false };
  } catch {
    // Its key may be gone, or what was captured cut off: then the names have to do.
    return null;
  }
}

function captured(told) {
  const shown = told.captured;
  if (shown === null || shown === undefined) {
    return [h('h3', null, 'Contents'), h('p', { class: 'quiet' }, 'Not captured. Contents are kept for keys that the setting debug.capture names, or that are made with "capture".')];
  }
  const path = `/debug/requests/${encodeURIComponent(told.requestId)}?format=curl`;
  const isChanged = shown.sentBody !== shown.request.body;
  return [
    h('h3', null, 'Contents'),
    h('div', { class: 'buttons' }, copyButton(() => text(path), 'Copy as curl')),
    content('Request', shown.request.body),
    isChanged && content('Sent to LM Studio', shown.sentBody),
    content(`Answer, ${size(shown.answer.bytes)}${shown.answer.truncated ? ', its beginning' : ''}`, shown.answer.body),
    h('details', null, h('summary', null, 'Header fields'), fieldsOf('Request', shown.request.headers), fieldsOf('Answer', shown.answer.headers)),
  ];
}

function content(title, body) {
  return h('details', { open: true }, h('summary', null, title), codeBlock(pretty(body ?? ''), title));
}

function fieldsOf(title, pairs) {
  return table(`${title}: header fields`, ['Name', 'Value'], pairs.map(([name, value]) => row(name, value))).element;
}

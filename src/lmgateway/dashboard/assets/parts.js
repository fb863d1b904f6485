/**
 * Pieces that several views are made of: notices, dialogs, tables, badges, copying.
 */

import { ApiError } from './api.js';
import { button, freshId, h, heading as home, replace, setText, visible } from './dom.js';
import { ago, fullTime } from './format.js';

/**
 * A notice in place of what is not there, or beside it.
 * @param {'loading' | 'empty' | 'error' | 'denied' | 'note' | 'good'} kind
 * @param {string} title
 * @param {string} [sentence]
 * @param {...any} more
 */
export function notice(kind, title, sentence = '', ...more) {
  const role = kind === 'error' || kind === 'denied' ? 'alert' : 'status';
  return h('div', { class: `notice ${kind}`, role }, h('p', { class: 'notice-title' }, title), sentence && h('p', null, sentence), more);
}

/** That something is being fetched. @param {string} what */
export const loading = (what) => notice('loading', `Loading ${what} …`);

/**
 * What went wrong, with a way to try again where there is one.
 * @param {unknown} error
 * @param {() => void} [again]
 */
export function failure(error, again) {
  const status = error instanceof ApiError ? error.status : -1;
  const message = error instanceof Error ? error.message : String(error);
  if (status === 403) return notice('denied', 'Your key may not see this', message);
  const told = notice('error', status === 0 ? 'No connection' : 'That did not work', message, again && button('Try again', again));
  if (status === 0 && again) addEventListener(BACK, () => told.isConnected && again(), { once: true });
  return told;
}

/** The event by which the page tells that the gateway is there again. */
export const BACK = 'gateway-back';

/** A word with a colour; the word says it all. @param {string} text @param {'good' | 'bad' | 'warn' | 'busy' | 'plain'} [tone] */
export const badge = (text, tone = 'plain') => h('span', { class: `badge ${tone}` }, text);

/** A name that somebody chose, in whatever script: its direction is its own matter. @param {string | null | undefined} text */
export const named = (text) => (text === null || text === undefined ? '–' : h('bdi', { dir: visible(text) === text ? null : 'ltr' }, text));

/**
 * A table that scrolls by itself where the page is narrow.
 * @param {string} caption
 * @param {(string | {text: string, number?: boolean})[]} heads
 * @param {HTMLElement[]} rows
 * @param {{isSilent?: boolean}} [options] `isSilent` shows the caption to nobody who sees the heading above.
 */
export function table(caption, heads, rows, { isSilent = false } = {}) {
  const titles = heads.map((head) => (typeof head === 'string' ? head : head.text));
  // Where the page is narrow, each cell says what it is.
  const dress = (tr) => {
    for (const [index, cell] of [...tr.children].entries()) {
      cell.setAttribute('data-head', titles[index] ?? '');
      if (cell.childNodes.length > 1 && cell.tagName === 'TD') replace(cell, h('div', null, ...cell.childNodes));
    }
    return tr;
  };
  const body = h('tbody', null, rows.map(dress));
  const cells = heads.map((head) => {
    const { text, number = false } = typeof head === 'string' ? { text: head } : head;
    return h('th', { scope: 'col', class: number ? 'number' : null }, text);
  });
  const element = h(
    'div',
    { class: 'table', role: 'region', tabindex: '0', 'aria-label': caption },
    h('table', null, h('caption', { class: isSilent ? 'unseen' : null }, caption), h('thead', null, h('tr', null, cells)), body),
  );
  return { element, body, dress };
}

/**
 * A row; cells may be text or nodes. The first one heads it.
 * @param {...any} cells
 */
export function row(...cells) {
  return h('tr', null, cells.map((cell, index) => (index === 0 ? h('th', { scope: 'row' }, cell) : h('td', numberClass(cell), cellOf(cell)))));
}

const numberClass = (cell) => (cell !== null && typeof cell === 'object' && 'number' in cell ? { class: 'number' } : null);
const cellOf = (cell) => (cell !== null && typeof cell === 'object' && 'number' in cell ? cell.number : cell);

/** A time that says how long ago it is, and in full on demand. @param {string | number | null} moment */
export function when(moment) {
  if (moment === null || moment === undefined) return '–';
  const iso = new Date(moment);
  if (Number.isNaN(iso.getTime())) return '–';
  return h('time', { datetime: iso.toISOString(), title: fullTime(moment), 'data-ago': '1' }, ago(moment));
}

/** Keep relative times true. Called now and then. */
export function refreshTimes() {
  for (const element of document.querySelectorAll('time[data-ago]')) setText(element, ago(element.getAttribute('datetime')));
}

/** A bar of progress. @param {string} label @param {number | null} percent */
export function progress(label, percent) {
  const bar = h('progress', { max: '100', 'aria-label': label });
  setProgress(bar, percent);
  return bar;
}

/** @param {HTMLProgressElement} bar @param {number | null} percent */
export function setProgress(bar, percent) {
  if (percent === null || percent === undefined) bar.removeAttribute('value');
  else bar.value = percent;
}

/** A button that copies a text, and says that it did. @param {() => string | Promise<string>} source @param {string} [label] */
export function copyButton(source, label = 'Copy') {
  const element = button(label, async () => {
    try {
      await copy(await source());
      element.textContent = 'Copied';
      announce('Copied to the clipboard.');
    } catch (error) {
      element.textContent = 'Could not copy';
      announce(error instanceof Error ? error.message : 'It could not be copied.');
    }
    setTimeout(() => {
      element.textContent = label;
    }, 2000);
  });
  return element;
}

async function copy(text) {
  if (navigator.clipboard !== undefined) return navigator.clipboard.writeText(text);
  // Without TLS, beyond loopback, browsers have no clipboard but this one.
  const field = h('textarea', { class: 'unseen', readonly: true, 'aria-hidden': 'true', value: text });
  (document.querySelector('dialog[open]') ?? document.body).append(field);
  field.select();
  const isDone = document.execCommand('copy');
  field.remove();
  if (!isDone) throw new Error('This browser does not let the page copy. Select the text instead.');
}

/** Text to be copied: code, a key, a command. @param {string} text @param {string} label @param {string} [kind] `straight` does not wrap. */
export function codeBlock(text, label, kind) {
  return h('div', { class: 'code' }, h('pre', { class: kind, tabindex: '0', role: 'region', 'aria-label': label }, h('code', null, text)), copyButton(() => text));
}

/** Say something to whoever listens to the page instead of looking at it. @param {string} sentence */
export function announce(sentence) {
  const region = document.getElementById('announcements');
  if (region === null) return;
  region.textContent = '';
  requestAnimationFrame(() => {
    region.textContent = sentence;
  });
}

/**
 * Open a dialog; Escape closes it and the focus goes back to where it was.
 * @param {string} title
 * @param {(close: () => void) => any[]} content
 * @returns {HTMLDialogElement}
 */
export function openDialog(title, content) {
  const heading = freshId('dialog');
  const before = document.activeElement;
  const dialog = h('dialog', { 'aria-labelledby': heading });
  const close = () => dialog.close();
  replace(dialog, h('h2', { id: heading }, title), content(close));
  dialog.addEventListener('close', () => {
    dialog.remove();
    (before instanceof HTMLElement && before.isConnected ? before : home())?.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Ask before something that cannot be undone.
 * @param {string} title
 * @param {string} sentence
 * @param {string} verb of the button that does it.
 * @param {() => Promise<void>} act a failure is shown in the dialog.
 */
export function confirmThen(title, sentence, verb, act) {
  openDialog(title, (close) => {
    const trouble = h('div', null);
    const yes = button(verb, () => void busy(yes, trouble, act, close), { class: 'danger' });
    return [h('p', null, sentence), trouble, h('div', { class: 'buttons' }, button('Keep it', close, { autofocus: true }), yes)];
  });
}

/**
 * Do something while its button waits; show what goes wrong.
 * @param {HTMLButtonElement} trigger
 * @param {Element} trouble
 * @param {() => Promise<any>} act
 * @param {() => void} [then]
 */
export async function busy(trigger, trouble, act, then) {
  const hadFocus = document.activeElement === trigger;
  trigger.setAttribute('aria-busy', 'true');
  trigger.disabled = true;
  replace(trouble);
  try {
    await act();
    then?.();
  } catch (error) {
    replace(trouble, failure(error));
  } finally {
    trigger.disabled = false;
    trigger.removeAttribute('aria-busy');
    // Browsers take the focus from what is disabled.
    if (hadFocus && document.activeElement === document.body) (trigger.isConnected ? trigger : home())?.focus();
  }
}

/** A section with its heading. @param {string} title @param {...any} children */
export function section(title, ...children) {
  const id = freshId('section');
  return h('section', { 'aria-labelledby': id }, h('h2', { id }, title), children);
}

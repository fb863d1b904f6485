/**
 * The keys: who may do what, and what was done about them.
 */

import { ApiError, get, patch, post, remove } from './api.js';
import { button, h, keepingFocus, replace } from './dom.js';
import { FieldSet } from './fields.js';
import { count } from './format.js';
import { announce, badge, busy, codeBlock, confirmThen, failure, loading, named, notice, openDialog, section, table, when } from './parts.js';

const SCOPES = [
  ['inference', 'ask models'],
  ['monitor', 'see requests and figures'],
  ['admin', 'everything'],
];

/** @type {import('./fields.js').Field} */
const NAME_FIELD = { name: 'name', label: 'Name', kind: 'text', required: true, hint: '1 to 64 characters; logs and usage call it so' };

/** @type {import('./fields.js').Field[]} */
const LIMIT_FIELDS = [
  { name: 'days', label: 'Ends in', kind: 'number', least: 0, above: true, most: 36_600, hint: 'days from now; left empty: never' },
  { name: 'requestsPerMinute', label: 'Requests per minute', kind: 'integer', least: 1, hint: 'left empty: no limit' },
  { name: 'tokensPerDay', label: 'Tokens per day', kind: 'integer', least: 1, hint: 'left empty: no limit' },
  { name: 'parallel', label: 'Requests at once', kind: 'integer', least: 1, hint: 'left empty: no limit' },
  { name: 'models', label: 'Models', kind: 'list', hint: 'names or globs such as qwen/*, one a line; empty: all' },
  { name: 'addresses', label: 'Addresses', kind: 'list', hint: 'addresses or CIDRs, one a line; empty: all' },
  { name: 'capture', label: 'Keep contents', kind: 'flag', hint: 'whether what its requests say is kept to be looked at' },
];

const DAY_SECONDS = 86_400;
const AUDIT_LINES = 50;

/** @param {HTMLElement} root */
export function mountKeys(root) {
  const abort = new AbortController();
  const place = h('div', null, loading('the keys'));
  const audit = h('div', null);
  const look = async () => {
    try {
      const told = await get('/admin/keys', abort.signal);
      if (!abort.signal.aborted) keepingFocus(place, () => replace(place, keysSection(told.keys, look)));
    } catch (error) {
      if (!abort.signal.aborted) replace(place, failure(error, () => void look()));
    }
    await lookAtAudit(audit, abort.signal);
  };
  replace(root, h('div', { class: 'pair' }, place, audit));
  void look();
  return () => abort.abort();
}

function keysSection(all, again) {
  const keys = all.filter((each) => !each.configured);
  const configured = all.some((each) => each.configured) && h('p', { class: 'hint' }, 'GATEWAY_API_KEY is good besides, with every right: it is of the settings, and is changed there.');
  const mint = button('Make a key', () => openMint(again), { class: 'primary' });
  if (keys.length === 0) {
    return section('Stored keys', notice('empty', 'There are no stored keys', 'Give everybody who uses the gateway a key of their own: usage goes by it, and one can be taken back without the others.'), h('div', { class: 'buttons' }, mint), configured);
  }
  const heads = ['Name', 'May', 'Limits', 'Ends', 'Last used', 'Made', 'Actions'];
  return section('Stored keys', table('What each key may', heads, keys.map((key) => keyRow(key, again)), { isSilent: true }).element, h('div', { class: 'buttons' }, mint), configured);
}

function keyRow(key, again) {
  const small = (text, act, tone = '') => button(text, act, { class: `small ${tone}`, 'aria-label': `${text.replace(' …', '')}: ${key.name}` });
  return h(
    'tr',
    { 'data-key': key.id },
    h('th', { scope: 'row' }, named(key.name)),
    h('td', null, key.scopes.map((scope) => [badge(scope, scope === 'admin' ? 'warn' : 'plain'), ' '])),
    h('td', { class: 'wide' }, limitsOf(key)),
    h('td', null, key.expires === null ? 'never' : Date.parse(key.expires) < Date.now() ? badge('over', 'bad') : when(key.expires)),
    h('td', null, key.lastUsed === null ? 'not since the start' : when(key.lastUsed), key.rotatedUntil && h('div', { class: 'quiet' }, 'old secret ends ', when(key.rotatedUntil))),
    h('td', null, when(key.created)),
    h('td', null, h('div', { class: 'buttons' }, small('Change …', () => openEdit(key, again)), small('Rotate …', () => openRotate(key, again)), small('Revoke …', () => askToRevoke(key, again), 'danger'))),
  );
}

function limitsOf(key) {
  const said = [
    key.requestsPerMinute && `${count(key.requestsPerMinute)} requests/min`,
    key.tokensPerDay && `${count(key.tokensPerDay)} tokens/day`,
    key.parallel && `${count(key.parallel)} at once`,
    key.models.length > 0 && `models ${key.models.join(', ')}`,
    key.addresses.length > 0 && `from ${key.addresses.join(', ')}`,
    key.capture && 'contents are kept',
    Object.keys(key.defaultInference).length > 0 && `defaults ${JSON.stringify(key.defaultInference)}`,
  ].filter(Boolean);
  return said.length === 0 ? 'none' : h('ul', { class: 'plain' }, said.map((each) => h('li', null, each)));
}

function scopeBoxes(held) {
  const boxes = SCOPES.map(([scope, what]) => {
    const id = `scope-${scope}`;
    const box = h('input', { type: 'checkbox', id, checked: held.includes(scope) });
    return { scope, box, element: h('div', { class: 'field check' }, box, h('label', { for: id }, `${scope}: ${what}`)) };
  });
  const read = () => boxes.filter(({ box }) => box.checked).map(({ scope }) => scope);
  return { read, element: h('fieldset', null, h('legend', null, 'May'), boxes.map((each) => each.element)) };
}

function openMint(again) {
  openDialog('Make a key', (close) => {
    const name = new FieldSet([NAME_FIELD]);
    const scopes = scopeBoxes(['inference']);
    const limits = new FieldSet(LIMIT_FIELDS);
    const trouble = h('div', null);
    const submit = button('Make the key', () => undefined, { type: 'submit', class: 'primary' });
    const start = (event) => {
      event.preventDefault();
      const [named, held] = [name.read(), limits.read()];
      if (named === null || held === null) return;
      if (scopes.read().length === 0) {
        replace(trouble, notice('error', 'It may do nothing', 'Choose at least one thing that the key may do.'));
        return;
      }
      void busy(submit, trouble, async () => {
        const minted = await withFaults([name, limits], () => post('/admin/keys', { ...named, scopes: scopes.read(), ...grantOf(held) }));
        close();
        showOnce(minted);
        void again();
      });
    };
    return h('form', { on: { submit: start }, novalidate: true }, name.element, scopes.element, h('details', null, h('summary', null, 'Limits'), limits.element), trouble, h('div', { class: 'buttons' }, submit, button('Cancel', close)));
  });
}

function openEdit(key, again) {
  openDialog(`Change ${key.name}`, (close) => {
    const scopes = scopeBoxes(key.scopes);
    const limits = new FieldSet(LIMIT_FIELDS, { ...key, capture: key.capture ?? undefined });
    const endless = new FieldSet([{ name: 'endless', label: 'Has no end from now on', kind: 'check', usual: false }]);
    const trouble = h('div', null);
    const submit = button('Change it', () => undefined, { type: 'submit', class: 'primary' });
    const start = (event) => {
      event.preventDefault();
      const held = limits.read();
      if (held === null) return;
      const body = changesOf(key, held, scopes.read(), endless.read()?.endless === true);
      void busy(submit, trouble, async () => {
        await withFaults([limits], () => patch(`/admin/keys/${encodeURIComponent(key.id)}`, body));
        announce(`The key ${key.name} is changed.`);
        void again();
      }, close);
    };
    const ends = key.expires === null ? 'It has no end.' : h('span', null, 'It ends ', when(key.expires), '. Leave "Ends in" empty to keep that.');
    return h('form', { on: { submit: start }, novalidate: true }, scopes.element, h('p', null, ends), limits.element, key.expires !== null && endless.element, trouble, h('div', { class: 'buttons' }, submit, button('Cancel', close)));
  });
}

/** What a form of limits says, as the API has it. */
function grantOf({ days, ...held }) {
  return days === undefined ? held : { ...held, expiresInSeconds: days * DAY_SECONDS };
}

/** What is to be sent for a key to become what the form says; what is empty there takes a limit away. */
function changesOf(key, held, scopes, isEndless) {
  const body = {};
  for (const { name } of LIMIT_FIELDS) {
    if (name === 'days') continue;
    const before = Array.isArray(key[name]) && key[name].length === 0 ? null : (key[name] ?? null);
    const after = held[name] ?? null;
    if (JSON.stringify(before) !== JSON.stringify(after)) body[name] = after;
  }
  if (scopes.join() !== key.scopes.join()) body.scopes = scopes;
  if (isEndless) body.expires = null;
  else if (held.days !== undefined) body.expiresInSeconds = held.days * DAY_SECONDS;
  return body;
}

async function withFaults(sets, act) {
  try {
    return await act();
  } catch (error) {
    if (error instanceof ApiError) for (const set of sets) set.show(error.faults.map((each) => (each.path[0] === 'expiresInSeconds' ? { ...each, path: ['days'] } : each)));
    throw error;
  }
}

function openRotate(key, again) {
  openDialog(`Rotate ${key.name}`, (close) => {
    const grace = new FieldSet([{ name: 'hours', label: 'The old secret stays good for', kind: 'number', least: 0, most: 876_000, hint: 'hours; 0 ends it, and what runs with it, at once' }], { hours: 24 });
    const trouble = h('div', null);
    const submit = button('Make a new secret', () => undefined, { type: 'submit', class: 'primary' });
    const start = (event) => {
      event.preventDefault();
      const read = grace.read();
      if (read === null) return;
      void busy(submit, trouble, async () => {
        const minted = await post(`/admin/keys/${encodeURIComponent(key.id)}/rotate`, read.hours === undefined ? {} : { graceSeconds: read.hours * 3600 });
        close();
        showOnce(minted);
        void again();
      });
    };
    return h('form', { on: { submit: start }, novalidate: true }, h('p', null, 'The key keeps its name and its limits, and gets another secret.'), grace.element, trouble, h('div', { class: 'buttons' }, submit, button('Cancel', close)));
  });
}

function showOnce(minted) {
  openDialog(`The key of ${minted.name}`, (close) => [
    notice('note', 'It is shown this once', 'Copy it now and keep it: the gateway has only its digest.'),
    codeBlock(minted.key, 'The key'),
    h('div', { class: 'buttons' }, button('I have it', close, { class: 'primary' })),
  ]);
}

function askToRevoke(key, again) {
  confirmThen(`Revoke ${key.name}?`, 'It is good for nothing from then on, and what runs with it is cut off. This cannot be undone.', 'Revoke it', async () => {
    const answer = await remove(`/admin/keys/${encodeURIComponent(key.id)}`);
    announce(answer.message);
    void again();
  });
}

async function lookAtAudit(place, signal) {
  try {
    const { lines } = await get(`/admin/audit?limit=${AUDIT_LINES}`, signal);
    if (!signal.aborted) replace(place, section('Audit', lines.length === 0 ? notice('empty', 'Nothing was done yet') : auditTable(lines)));
  } catch (error) {
    if (signal.aborted) return;
    const isMissing = error instanceof ApiError && error.status === 404;
    replace(place, isMissing ? null : section('Audit', failure(error)));
  }
}

const TONES = { done: 'good', refused: 'bad', failed: 'bad' };

function auditTable(lines) {
  const rows = lines.slice(0, AUDIT_LINES).map((line) => h(
    'tr',
    null,
    h('th', { scope: 'row' }, when(line.time)),
    h('td', null, named(line.actor ?? line.key)),
    h('td', null, line.action),
    h('td', null, named(line.target)),
    h('td', null, badge(line.outcome ?? '–', TONES[line.outcome] ?? 'plain'), line.error && ` ${line.error}`),
    h('td', null, line.client ?? '–'),
  ));
  return table('What administrators did, newest first', ['When', 'Who', 'What', 'To what', 'Outcome', 'From'], rows).element;
}

/**
 * Forms out of tables of fields: each knows its range, its unit and its place in the JSON that is sent.
 */

import { freshId, h, replace } from './dom.js';

/**
 * @typedef {object} Field
 * @property {string} name its path in the JSON, with dots: `gpu.ratio`.
 * @property {string} label
 * @property {'number' | 'integer' | 'text' | 'flag' | 'lines' | 'check' | 'list'} kind `flag` is on, off or left alone; `lines`
 *   and `list` are lists, one entry a line; `check` is a box.
 * @property {number} [least]
 * @property {number} [most]
 * @property {boolean} [above] whether `least` itself is too low.
 * @property {string} [hint]
 * @property {boolean} [required]
 * @property {any} [usual] what a `check` is at first.
 */

/** The seven parameters of `defaultInference`. @type {Field[]} */
export const INFERENCE_FIELDS = [
  { name: 'temperature', label: 'Temperature', kind: 'number', least: 0, most: 2, hint: '0 to 2; low is steady, high is varied' },
  { name: 'maxTokens', label: 'Max tokens', kind: 'integer', least: 1, hint: 'at least 1; where an answer is cut off' },
  { name: 'topP', label: 'Top P', kind: 'number', least: 0, most: 1, hint: '0 to 1' },
  { name: 'topK', label: 'Top K', kind: 'integer', least: 0, hint: 'at least 0' },
  { name: 'repeatPenalty', label: 'Repeat penalty', kind: 'number', least: 0, above: true, hint: 'above 0; 1 is none' },
  { name: 'stopStrings', label: 'Stop strings', kind: 'lines', hint: 'one a line' },
  { name: 'stream', label: 'Stream', kind: 'flag', hint: 'where the request does not say' },
];

/** The members of `loadConfig`. @type {Field[]} */
export const LOAD_FIELDS = [
  { name: 'contextLength', label: 'Context length', kind: 'integer', least: 1, hint: 'tokens, at least 1' },
  { name: 'gpu.ratio', label: 'GPU share', kind: 'number', least: 0, most: 1, hint: '0 to 1 of the layers' },
  { name: 'gpu.layers', label: 'GPU layers', kind: 'integer', least: 0, hint: 'a number, instead of a share' },
  { name: 'cpuThreads', label: 'CPU threads', kind: 'integer', least: 1, hint: 'at least 1' },
  { name: 'evalBatchSize', label: 'Evaluation batch', kind: 'integer', least: 1, hint: 'tokens, at least 1' },
  { name: 'parallel', label: 'Parallel requests', kind: 'integer', least: 1, hint: 'at least 1' },
  { name: 'numExperts', label: 'Experts', kind: 'integer', least: 1, hint: 'of a mixture, at least 1' },
  { name: 'ropeFrequencyBase', label: 'RoPE frequency base', kind: 'number', least: 0, above: true, hint: 'above 0' },
  { name: 'ropeFrequencyScale', label: 'RoPE frequency scale', kind: 'number', least: 0, above: true, hint: 'above 0' },
  { name: 'flashAttention', label: 'Flash attention', kind: 'flag' },
  { name: 'offloadKvCacheToGpu', label: 'KV cache on the GPU', kind: 'flag' },
];

/** A set of fields, filled in by a person. */
export class FieldSet {
  /**
   * @param {Field[]} fields
   * @param {Record<string, any>} [values] as JSON has them.
   */
  constructor(fields, values = {}) {
    this.fields = fields;
    this._inputs = new Map(fields.map((field) => [field.name, makeInput(field, at(values, field.name))]));
    this.element = h('div', { class: 'fields' }, [...this._inputs.values()].map((each) => each.element));
  }

  /**
   * Read all of it; what is left empty is left out.
   * @returns {Record<string, any> | null} null where something is out of its range: it is marked, and the first has the focus.
   */
  read() {
    const result = {};
    let first = null;
    for (const field of this.fields) {
      const input = this._inputs.get(field.name);
      const { value, fault } = parse(field, input.control);
      input.tell(fault);
      if (fault !== '') first ??= input.control;
      else if (value !== undefined) place(result, field.name, value);
    }
    first?.focus();
    return first === null ? result : null;
  }

  /**
   * Show the faults that the gateway found.
   * @param {{path: string[], message: string}[]} faults
   * @param {string[]} [above] the path of this set in the body.
   * @returns {boolean} whether all of them have a field here.
   */
  show(faults, above = []) {
    let isWhole = true;
    for (const { path, message } of faults) {
      const rest = path.slice(above.length).join('.');
      const name = this.fields.find((each) => rest === each.name || rest.startsWith(`${each.name}.`))?.name;
      const input = name !== undefined && above.every((each, index) => path[index] === each) ? this._inputs.get(name) : undefined;
      if (input === undefined) isWhole = false;
      else input.tell(message);
    }
    return isWhole;
  }

  /** The control of a field. @param {string} name */
  control(name) {
    return this._inputs.get(name).control;
  }
}

function makeInput(field, value) {
  const id = freshId('field');
  const hintId = `${id}-hint`;
  const faultId = `${id}-fault`;
  const control = makeControl(field, value, { id, 'aria-describedby': `${hintId} ${faultId}` });
  const fault = h('p', { class: 'fault', id: faultId });
  const hint = h('p', { class: 'hint', id: hintId }, field.hint ?? '');
  const label = h('label', { for: id }, field.label, field.required && ' (required)');
  const element = h('div', { class: `field ${field.kind}` }, field.kind === 'check' ? [control, label] : [label, control], hint, fault);
  const tell = (message) => {
    replace(fault, message);
    if (message === '') control.removeAttribute('aria-invalid');
    else control.setAttribute('aria-invalid', 'true');
  };
  return { element, control, tell };
}

function makeControl(field, value, attributes) {
  const common = { ...attributes, name: field.name, autocomplete: 'off', spellcheck: 'false' };
  switch (field.kind) {
    case 'flag': {
      const select = h('select', common, h('option', { value: '' }, 'as it is'), h('option', { value: 'true' }, 'on'), h('option', { value: 'false' }, 'off'));
      select.value = value === undefined || value === null ? '' : String(value);
      return select;
    }
    case 'check':
      return h('input', { ...common, type: 'checkbox', checked: Boolean(value ?? field.usual) });
    case 'lines':
    case 'list':
      return h('textarea', { ...common, rows: '2', value: Array.isArray(value) ? value.join('\n') : '' });
    default: {
      const mode = field.kind === 'integer' ? 'numeric' : field.kind === 'number' ? 'decimal' : null;
      return h('input', { ...common, type: 'text', inputmode: mode, 'aria-required': field.required ? 'true' : null, value: value === undefined || value === null ? '' : String(value) });
    }
  }
}

/** Read one control. Pure but for looking at it. */
function parse(field, control) {
  if (field.kind === 'check') return { value: control.checked, fault: '' };
  const text = field.kind === 'lines' ? control.value : control.value.trim();
  if (text === '') return { value: undefined, fault: field.required ? 'This is needed.' : '' };
  if (field.kind === 'flag') return { value: text === 'true', fault: '' };
  if (field.kind === 'text') return { value: text, fault: '' };
  if (field.kind === 'lines') return { value: text.split('\n').filter((line) => line !== ''), fault: '' };
  if (field.kind === 'list') return { value: text.split(/[\n,]/).map((line) => line.trim()).filter((line) => line !== ''), fault: '' };
  return parseNumber(field, text);
}

function parseNumber(field, text) {
  const value = Number(text.replace(',', '.'));
  const isWrong =
    !Number.isFinite(value) ||
    (field.kind === 'integer' && !Number.isSafeInteger(value)) ||
    (field.least !== undefined && (value < field.least || (field.above && value === field.least))) ||
    (field.most !== undefined && value > field.most);
  return isWrong ? { value: undefined, fault: `Must be ${allowed(field)}.` } : { value, fault: '' };
}

function allowed({ kind, least, most, above }) {
  const what = kind === 'integer' ? 'a whole number' : 'a number';
  if (least === undefined) return what;
  if (most !== undefined) return `${what} from ${least} to ${most}`;
  return above ? `${what} above ${least}` : `${what} of at least ${least}`;
}

function at(values, name) {
  return name.split('.').reduce((value, key) => value?.[key], values);
}

function place(target, name, value) {
  const keys = name.split('.');
  const last = keys.pop();
  let inner = target;
  for (const key of keys) inner = inner[key] ??= {};
  inner[last] = value;
}

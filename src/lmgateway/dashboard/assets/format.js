/**
 * Numbers with their units, times local and relative. Pure.
 */

const NOTHING = '–';

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const percentage = new Intl.NumberFormat(undefined, { style: 'percent', maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' });

const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);

/** A count: `12,345`. @param {unknown} value */
export function count(value) {
  return isNumber(value) ? whole.format(value) : NOTHING;
}

/** A count with what is counted: `1 request`, `2 requests`. @param {number} value @param {string} one @param {string} [many] */
export function counted(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** A share from 0 to 1: `2.5 %`. @param {unknown} value */
export function share(value) {
  return isNumber(value) ? percentage.format(value) : NOTHING;
}

/** Milliseconds as a length of time: `85 ms`, `1.2 s`, `3 min 20 s`, `2 h 5 min`. @param {unknown} ms */
export function duration(ms) {
  if (!isNumber(ms)) return NOTHING;
  if (ms < 10) return `${tenth.format(ms)} ms`;
  if (ms < 1000) return `${whole.format(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${tenth.format(seconds)} s`;
  const all = Math.round(seconds);
  if (all < 3600) return pair(Math.floor(all / 60), 'min', all % 60, 's');
  const minutes = Math.round(all / 60);
  if (minutes < 48 * 60) return pair(Math.floor(minutes / 60), 'h', minutes % 60, 'min');
  return pair(Math.floor(minutes / 1440), 'd', Math.round((minutes % 1440) / 60), 'h');
}

function pair(first, unit, second, smaller) {
  return second ? `${first} ${unit} ${second} ${smaller}` : `${first} ${unit}`;
}

/** Bytes: `980 B`, `4.1 GB`. @param {unknown} bytes */
export function size(bytes) {
  if (!isNumber(bytes)) return NOTHING;
  let value = bytes;
  for (const unit of ['B', 'kB', 'MB', 'GB', 'TB']) {
    if (value < 1000 || unit === 'TB') return `${(value < 10 && unit !== 'B' ? tenth : whole).format(value)} ${unit}`;
    value /= 1000;
  }
  return NOTHING;
}

/** Tokens: `4,096 tok`. @param {unknown} value */
export function tokens(value) {
  return isNumber(value) ? `${whole.format(value)} tok` : NOTHING;
}

/** Tokens per second: `31.4 tok/s`. @param {unknown} value */
export function speed(value) {
  return isNumber(value) ? `${tenth.format(value)} tok/s` : NOTHING;
}

/** The same to be heard. @param {number} value @param {number} count tokens so far. */
export function spokenSpeed(value, count) {
  return `${tenth.format(value)} tokens per second, ${whole.format(count)} so far`;
}

/** A moment's local time of day; with its date where it is another day's. @param {string | number | null} moment @param {number} [now] */
export function timeOf(moment, now = Date.now()) {
  const date = dateOf(moment);
  if (date === null) return NOTHING;
  return date.toDateString() === new Date(now).toDateString() ? clock.format(date) : full.format(date);
}

/** A moment, all of it, in local time. @param {string | number | null} moment */
export function fullTime(moment) {
  const date = dateOf(moment);
  return date === null ? NOTHING : full.format(date);
}

const STEPS = [
  ['second', 1000, 60],
  ['minute', 60_000, 60],
  ['hour', 3_600_000, 24],
  ['day', 86_400_000, 30],
  ['month', 2_629_800_000, 12],
  ['year', 31_557_600_000, Infinity],
];

/** How long ago, or ahead: `5 minutes ago`, `in 3 days`. @param {string | number | null} moment @param {number} [now] */
export function ago(moment, now = Date.now()) {
  const date = dateOf(moment);
  if (date === null) return NOTHING;
  const distance = date.getTime() - now;
  for (const [unit, length, most] of STEPS) {
    const value = Math.round(distance / length);
    if (Math.abs(value) < most) return relative.format(value, unit);
  }
  return NOTHING;
}

function dateOf(moment) {
  if (moment === null || moment === undefined || moment === '') return null;
  const date = new Date(moment);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** A value of JSON in one line, for a table. @param {unknown} value */
export function inline(value) {
  if (value === null || value === undefined) return NOTHING;
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** Text that is JSON, indented; other text as it is. @param {string} text */
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

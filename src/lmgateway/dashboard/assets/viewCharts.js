/**
 * The last hour and the last day, and what each key used.
 */

import { get, send } from './api.js';
import { button, freshId, h, replace } from './dom.js';
import { count, duration, speed } from './format.js';
import { announce, busy, failure, loading, named, notice, row, section, table } from './parts.js';
import { may } from './session.js';

const SPANS = [
  { minutes: 60, label: 'Last hour', everyMs: 15_000 },
  { minutes: 1440, label: 'Last day', everyMs: 60_000 },
];

const DAYS = [1, 7, 30, 90];
const GROUPS = [
  ['key,model', 'key and model'],
  ['key', 'key'],
  ['model', 'model'],
  ['day', 'day'],
];

/** @param {HTMLElement} root */
export function mountCharts(root) {
  const abort = new AbortController();
  let span = SPANS[0];
  let charts = null;
  let timer = 0;
  const place = h('div', null, loading('the charts'));
  const choices = SPANS.map((each) => button(each.label, () => {
    span = each;
    for (const [index, choice] of choices.entries()) choice.setAttribute('aria-pressed', String(SPANS[index] === each));
    void look();
  }, { 'aria-pressed': String(each === span) }));
  const usage = h('div', null);
  replace(root, h('div', { class: 'toolbar', role: 'group', 'aria-label': 'Span of time' }, choices), place, usage);

  const look = async () => {
    clearTimeout(timer);
    const asked = span;
    try {
      const [history, drawing] = await Promise.all([get(`/debug/history?minutes=${asked.minutes}`, abort.signal), loadDrawing()]);
      if (abort.signal.aborted || asked !== span) return;
      if (history.points.every((each) => each.requests === 0)) {
        charts = null;
        replace(place, notice('empty', `No requests in the ${asked.label.toLowerCase()}`, 'The charts begin with the first one.'));
      } else {
        charts ??= makeCharts(drawing.Chart, place);
        drawCharts(charts, history);
      }
    } catch (error) {
      if (abort.signal.aborted) return;
      charts = null;
      replace(place, failure(error, () => void look()));
    }
    timer = setTimeout(() => void look(), asked.everyMs);
  };
  void look();
  if (may('admin')) mountUsage(usage, abort.signal);
  return () => {
    abort.abort();
    clearTimeout(timer);
    charts?.forEach((each) => each.end());
  };
}

/** What draws them is fetched by itself: it is half of the page. */
export async function loadDrawing() {
  try {
    return await import('./charts.js');
  } catch {
    throw new Error('The gateway was reached, but its dashboard is another version by now. Load the page again.');
  }
}

function makeCharts(Chart, place) {
  const charts = ['Requests and errors', 'Time of a whole answer', 'Time to the first token', 'Speed'].map((title) => new Chart(title));
  replace(place, h('div', { class: 'columns' }, charts.map((each) => section(each.title, each.element))));
  return charts;
}

function drawCharts(charts, history) {
  const begin = new Date(history.from).getTime() / 1000;
  const times = history.points.map((_, index) => begin + index * history.step);
  const column = (name) => history.points.map((each) => each[name] ?? null);
  const [requests, total, first, rate] = charts;
  const sum = (name) => column(name).reduce((before, each) => before + (each ?? 0), 0);
  const per = history.step === 60 ? 'per minute' : `per ${duration(history.step * 1000)}`;
  /** No bar is drawn of nothing. */
  const bars = (name) => column(name).map((each) => each || null);
  requests.show(
    times,
    [
      { label: `Requests ${per}`, unit: count, values: bars('requests'), tone: 1, bars: true },
      { label: `Errors ${per}`, unit: count, values: bars('errors'), tone: 3, bars: true },
    ],
    `${count(sum('requests'))} requests, ${count(sum('errors'))} errors in all.`,
  );
  const percentiles = (chart, median, high) => chart.show(
    times,
    [
      { label: 'Median', unit: duration, values: column(median), tone: 1 },
      { label: '95th percentile', unit: duration, values: column(high), tone: 2 },
    ],
    `At most ${duration(Math.max(0, ...column(high).filter((each) => each !== null)))} at the 95th percentile.`,
  );
  percentiles(total, 'p50Ms', 'p95Ms');
  percentiles(first, 'ttftP50Ms', 'ttftP95Ms');
  rate.show(times, [{ label: 'Tokens per second', unit: speed, values: column('tokensPerSecond'), tone: 1 }], `${count(sum('tokens'))} tokens in all.`);
}

function mountUsage(root, signal) {
  const place = h('div', null);
  const trouble = h('div', null);
  const days = choice('Days', DAYS.map((each) => [String(each), each === 1 ? 'today' : `the last ${each} days`]), '30');
  const by = choice('Summed up by', GROUPS, 'key,model');
  const query = () => {
    const from = new Date(Date.now() - (Number(days.select.value) - 1) * 86_400_000).toISOString().slice(0, 10);
    return `/admin/usage?from=${from}&by=${by.select.value}`;
  };
  const look = async () => {
    replace(place, loading('the usage'));
    try {
      const told = await get(query(), signal);
      if (!signal.aborted) replace(place, usageTable(told, by.select.value.split(',')));
    } catch (error) {
      if (!signal.aborted) replace(place, failure(error, () => void look()));
    }
  };
  const save = button('Download as CSV', () => void busy(save, trouble, () => download(`${query()}&format=csv`)));
  for (const { select } of [days, by]) select.addEventListener('change', () => void look());
  replace(root, section('Usage', h('div', { class: 'toolbar' }, days.element, by.element, save), trouble, place));
  void look();
}

function choice(label, options, usual) {
  const id = freshId('choice');
  const select = h('select', { id }, options.map(([value, text]) => h('option', { value }, text)));
  select.value = usual;
  return { select, element: h('div', { class: 'field' }, h('label', { for: id }, label), select) };
}

async function download(path) {
  const blob = await (await send('GET', path)).blob();
  const address = URL.createObjectURL(blob);
  const link = h('a', { href: address, download: 'usage.csv', hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
  announce('The file usage.csv is saved.');
}

function usageTable(told, by) {
  if (told.rows.length === 0) return notice('empty', 'Nothing was used', `From ${told.from} to ${told.to}.`);
  const heads = [
    ...by.map((each) => each[0].toUpperCase() + each.slice(1)),
    ...['Requests', 'Errors', 'Tokens in', 'Tokens out', 'Tokens', 'Time'].map((text) => ({ text, number: true })),
  ];
  const figures = (each) => [each.requests, each.errors, each.promptTokens, each.completionTokens, each.totalTokens]
    .map((value) => ({ number: count(value) }))
    .concat({ number: duration(each.seconds * 1000) });
  const rows = told.rows.map((each) => row(...by.map((name) => named(each[name] || '–')), ...figures(each)));
  rows.push(row('All', ...by.slice(1).map(() => ''), ...figures(told.total)));
  return table(`Usage from ${told.from} to ${told.to}, days of UTC`, heads, rows).element;
}

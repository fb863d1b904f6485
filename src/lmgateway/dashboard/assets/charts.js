/**
 * Line charts, drawn by uPlot, with a table of the same figures for whoever cannot see them.
 */

import { h, replace } from './dom.js';
import uPlot from './uPlot.esm.js';

const HEIGHT = 190;
/** Steps of an axis that counts. */
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 1_000_000];

/**
 * @typedef {{label: string, unit: (value: number | null) => string, values: (number | null)[], tone: 1 | 2 | 3, bars?: boolean}} Series
 */

/** One chart. Its colours are those of the page, and follow it to light and dark. */
export class Chart {
  /** @param {string} title */
  constructor(title) {
    this.title = title;
    this._place = h('div', { class: 'chart', role: 'img', 'aria-label': title });
    this._legend = h('ul', { class: 'legend' });
    this.element = h('div', null, this._legend, this._place);
    this._plot = null;
    this._given = null;
    this._observer = new ResizeObserver(() => this._fit());
    this._observer.observe(this._place);
    this._scheme = matchMedia('(prefers-color-scheme: dark)');
    this._onScheme = () => this._draw();
    this._scheme.addEventListener('change', this._onScheme);
  }

  /**
   * Show figures.
   * @param {number[]} times Unix seconds.
   * @param {Series[]} series
   * @param {string} summary of what is to be seen, for whoever does not see it.
   */
  show(times, series, summary) {
    const isSame = this._given !== null && this._given.series.length === series.length;
    this._given = { times, series };
    this._place.setAttribute('aria-label', `${this.title}. ${summary}`);
    replace(this._legend, series.map((each) => h('li', { class: `series-${each.tone}` }, `${each.label}, latest: `, h('strong', null, each.unit(each.bars ? (each.values.at(-1) ?? 0) : lastOf(each.values))))));
    if (isSame && this._plot !== null) this._plot.setData([times, ...series.map((each) => each.values)]);
    else this._draw();
  }

  /** Draw no more. */
  end() {
    this._observer.disconnect();
    this._scheme.removeEventListener('change', this._onScheme);
    this._plot?.destroy();
    this._plot = null;
  }

  _fit() {
    const width = this._place.clientWidth;
    if (width === 0) return;
    if (this._plot === null) this._draw();
    else if (this._plot.width !== width) this._plot.setSize({ width, height: HEIGHT });
  }

  _draw() {
    const width = this._place.clientWidth;
    if (this._given === null || width === 0) return;
    this._plot?.destroy();
    const { times, series } = this._given;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour('--quiet'), grid: { stroke: colour('--line'), width: 1 }, ticks: { stroke: colour('--line'), width: 1 } };
    const unit = series[0].unit;
    const options = {
      width,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: true }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
      axes: [
        { ...axis, size: 34, values: (_, splits) => splits.map(clockOf) },
        { ...axis, size: 76, incrs: series[0].bars ? WHOLE : undefined, values: (_, splits) => splits.map((each) => unit(each)) },
      ],
      series: [
        {},
        ...series.map((each) => ({
          label: each.label,
          stroke: colour(`--series-${each.tone}`),
          width: 1.75,
          dash: each.tone === 2 ? [6, 3] : undefined,
          points: each.bars ? { show: false } : { size: 5, fill: colour(`--series-${each.tone}`), filter: alone },
          paths: each.bars ? uPlot.paths.bars({ size: [0.8, 24] }) : undefined,
          fill: each.bars ? colour(`--series-${each.tone}`) : undefined,
        })),
      ],
    };
    this._plot = new uPlot(options, [times, ...series.map((each) => each.values)], this._place);
  }
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hour12: false });
const clockOf = (seconds) => clock.format(seconds * 1000);

/** Points without a neighbour: no line would show them. */
function alone(plot, index) {
  const values = plot.data[index];
  const isThere = (at) => values[at] !== null && values[at] !== undefined;
  return values.map((_, at) => at).filter((at) => isThere(at) && !isThere(at - 1) && !isThere(at + 1));
}

/** @param {(number | null)[]} values */
function lastOf(values) {
  for (let index = values.length - 1; index >= 0; index -= 1) if (values[index] !== null) return values[index];
  return null;
}

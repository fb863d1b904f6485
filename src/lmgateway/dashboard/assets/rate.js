/**
 * How fast the tokens of a stream come, from counts of them. Pure.
 */

/** Counts further back do not count any more. Long enough that a slow model's rate does not jump, short enough to be live. */
const WINDOW_MS = 4000;

/** Takes counts, and knows the rate. */
export class Rate {
  constructor() {
    /** @type {{count: number, ms: number}[]} the oldest first. */
    this._taken = [];
  }

  /**
   * @param {number} count of tokens until now.
   * @param {number} ms by the gateway's clock, so that nothing on the way to the page is in the rate.
   */
  take(count, ms) {
    const last = this._taken.at(-1);
    if (last !== undefined && ms <= last.ms) return;
    // What LM Studio tells itself may be less than was counted before: then all begins anew.
    if (last !== undefined && count < last.count) this._taken.length = 0;
    this._taken.push({ count, ms });
    while (this._taken.length > 2 && ms - this._taken[0].ms > WINDOW_MS) this._taken.shift();
  }

  /** The last count, or null before there is one. */
  get count() {
    return this._taken.at(-1)?.count ?? null;
  }

  /** Tokens per second, or null while that is not known. */
  get perSecond() {
    if (this._taken.length < 2) return null;
    const [first, last] = [this._taken[0], /** @type {{count: number, ms: number}} */ (this._taken.at(-1))];
    return ((last.count - first.count) * 1000) / (last.ms - first.ms);
  }
}

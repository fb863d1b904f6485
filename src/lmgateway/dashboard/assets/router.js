/**
 * Which view is shown goes by the fragment of the address: `#/models`.
 */

/**
 * @typedef {object} View
 * @property {string} path
 * @property {string} title
 * @property {string | null} scope what a key must hold to be shown it.
 * @property {(root: HTMLElement, page: import('./page.js').Page) => (() => void) | void} mount shows it; what is returned ends it.
 */

/** Shows one view at a time. */
export class Router {
  /**
   * @param {View[]} views the first one is shown where the address names none.
   * @param {(view: View, isFirst: boolean) => void} show
   */
  constructor(views, show) {
    this._views = views;
    this._show = show;
    this._isFirst = true;
    this._onHash = () => this.go();
  }

  /** Begin to follow the address. */
  start() {
    addEventListener('hashchange', this._onHash);
    this._isFirst = true;
    this.go();
  }

  /** Follow it no more. */
  stop() {
    removeEventListener('hashchange', this._onHash);
  }

  /** Show what the address names. */
  go() {
    const [path] = location.hash.replace(/^#\//, '').split('?');
    const view = this._views.find((each) => each.path === path) ?? this._views[0];
    this._show(view, this._isFirst);
    this._isFirst = false;
  }
}

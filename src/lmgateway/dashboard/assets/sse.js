/**
 * Reads an event stream as it arrives, in any chunking (WHATWG HTML, section 9.2). Pure.
 */

/**
 * @typedef {{id: string, type: string, data: string}} StreamEvent
 */

const MOST = 1 << 20;

/** Takes text, gives the events that it completes. */
export class EventStreamParser {
  constructor() {
    this.lastId = '';
    this._rest = '';
    this._type = '';
    this._id = '';
    /** @type {string[]} */
    this._data = [];
    this._afterReturn = false;
  }

  /**
   * @param {string} text what has arrived.
   * @returns {StreamEvent[]}
   */
  feed(text) {
    /** @type {StreamEvent[]} */
    const events = [];
    if (text === '') return events;
    // Of a CR at the end of a chunk the LF may come with the next.
    if (this._afterReturn && text.startsWith('\n')) text = text.slice(1);
    this._afterReturn = text.endsWith('\r');
    const lines = (this._rest + text).split(/\r\n|\n|\r/);
    this._rest = lines.pop() ?? '';
    if (this._rest.length > MOST) throw new Error('An event of the stream is too long.');
    for (const line of lines) this._take(line, events);
    return events;
  }

  _take(line, events) {
    if (line === '') {
      this._dispatch(events);
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (name === 'data') this._data.push(value);
    else if (name === 'event') this._type = value;
    else if (name === 'id' && !value.includes('\0')) this._id = value;
  }

  _dispatch(events) {
    this.lastId = this._id;
    if (this._data.length > 0) {
      events.push({ id: this.lastId, type: this._type || 'message', data: this._data.join('\n') });
    }
    this._type = '';
    this._data = [];
  }
}

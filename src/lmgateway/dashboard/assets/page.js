/**
 * What every view is given.
 */

import { Feed } from './feed.js';
import { Live } from './live.js';

/** The feed of events and what follows from it, for as long as somebody is signed in. */
export class Page {
  constructor() {
    this.feed = new Feed();
    this.live = new Live(this.feed);
    /** @type {import('./feed.js').GatewayEvent[]} the last events, for a view that is opened later. */
    this.recent = [];
    this.feed.listen((events) => {
      this.recent.push(...events);
      if (this.recent.length > MOST_RECENT) this.recent.splice(0, this.recent.length - MOST_RECENT);
    });
  }
}

/** Events that the page keeps. */
export const MOST_RECENT = 500;

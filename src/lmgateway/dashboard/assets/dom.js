/**
 * Builds elements. Text is only ever text: nothing here reads markup, so that a model named `<img onerror=…>` is a name.
 */

const SVG = 'http://www.w3.org/2000/svg';

/** Attributes that name an address or run code: set by nobody but with a fixed scheme. */
const ADDRESS = new Set(['href', 'src', 'action', 'formaction']);

/**
 * @typedef {Node | string | number | null | undefined | false | Child[]} Child
 */

/**
 * Make an HTML element.
 * @param {string} tag
 * @param {Record<string, any> | null} [props] attributes; `on` has listeners by event type, `text` is the content, and
 *   `value`, `checked`, `disabled`, `hidden`, `indeterminate` are set as properties.
 * @param {...Child} children
 * @returns {any}
 */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/**
 * Make an SVG element.
 * @param {string} tag
 * @param {Record<string, any> | null} [props]
 * @param {...Child} children
 * @returns {any}
 */
export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

const PROPERTIES = new Set(['value', 'checked', 'disabled', 'hidden', 'indeterminate', 'required', 'open']);

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name === 'on') {
      for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    } else if (name === 'text') {
      element.textContent = visible(String(value ?? ''));
    } else if (PROPERTIES.has(name)) {
      element[name] = value;
    } else if (value !== null && value !== undefined && value !== false) {
      setSafely(element, name, value === true ? '' : String(value));
    }
  }
  append(element, children);
  return element;
}

function setSafely(element, name, value) {
  if (name.startsWith('on') || name === 'style' || name === 'srcdoc') throw new Error(`${name} is no attribute to set`);
  if (ADDRESS.has(name) && !/^(?:#|\/(?!\/)|blob:)/.test(value)) throw new Error(`${name} would leave the gateway`);
  element.setAttribute(name, value);
}

/**
 * Append children; what is null or false is left out.
 * @param {Element} element
 * @param {Child[]} children
 */
export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : visible(String(child)));
  }
}

/**
 * Replace all that an element has.
 * @param {Element} element
 * @param {...Child} children
 */
export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/**
 * Set the text of an element, and touch nothing where it is that already: a screen reader would read it again.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  const shown = visible(text);
  if (element.textContent !== shown) element.textContent = shown;
}

/** What is not seen itself but turns around what is, or hides it: a name with it would look like another one. */
const DECEIVING = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/g;

/**
 * A text of which all can be seen.
 * @param {string} text
 */
export function visible(text) {
  return text.replace(DECEIVING, (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/**
 * Change a part of the page, and lose no focus in it: it goes to what is called as what had it, or else to a refuge.
 * @param {Element} place
 * @param {() => void} change
 * @param {HTMLElement | null} [refuge] left out: what is called the same, or else the heading.
 */
export function keepingFocus(place, change, refuge = null) {
  const held = place.contains(document.activeElement) ? document.activeElement : null;
  change();
  if (held === null || held.isConnected) return;
  const name = nameOf(held);
  const same = refuge ?? [...place.querySelectorAll('button, a[href], input, select, [tabindex]')].find((each) => nameOf(each) === name);
  (same ?? heading())?.focus();
}

const nameOf = (element) => element.dataset.of ?? element.getAttribute('aria-label') ?? element.textContent;

/** The heading of the view: where the focus is at home. @returns {HTMLElement | null} */
export const heading = () => document.querySelector('main h1');

/**
 * Have something drawn: in the next frame, but no sooner than some time after it was drawn last. Nobody reads faster.
 * @param {() => void} draw
 * @param {number} everyMs
 * @returns {() => void} asks for it.
 */
export function paced(draw, everyMs = 100) {
  let isDue = false;
  let drawnAt = -Infinity;
  const frame = () => {
    isDue = false;
    drawnAt = performance.now();
    draw();
  };
  return () => {
    if (isDue) return;
    isDue = true;
    setTimeout(() => requestAnimationFrame(frame), Math.max(0, drawnAt + everyMs - performance.now()));
  };
}

let counter = 0;

/**
 * A fresh id for an element that a label refers to.
 * @param {string} stem
 */
export function freshId(stem) {
  counter += 1;
  return `${stem}-${counter}`;
}

/**
 * A button.
 * @param {Child} text
 * @param {(event: Event) => void} act
 * @param {Record<string, any>} [props]
 * @returns {HTMLButtonElement}
 */
export function button(text, act, props = {}) {
  return h('button', { type: 'button', ...props, on: { click: act } }, text);
}

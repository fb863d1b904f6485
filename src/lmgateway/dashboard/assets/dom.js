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
      element.textContent = String(value ?? '');
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
    element.append(child instanceof Node ? child : String(child));
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
  if (element.textContent !== text) element.textContent = text;
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
 * @param {string} text
 * @param {(event: Event) => void} act
 * @param {Record<string, any>} [props]
 * @returns {HTMLButtonElement}
 */
export function button(text, act, props = {}) {
  return h('button', { type: 'button', ...props, on: { click: act } }, text);
}

/**
 * Signing in with a key.
 */

import { button, h, replace } from './dom.js';
import { busy, notice } from './parts.js';
import { signIn } from './session.js';

/**
 * @param {HTMLElement} root
 * @param {string} why nobody is signed in, where there is something to say.
 * @param {() => void} then goes on.
 */
export function mountSignIn(root, why, then) {
  const field = h('input', { type: 'password', id: 'key', name: 'key', autocomplete: 'current-password', spellcheck: 'false', 'aria-describedby': 'key-hint key-trouble' });
  const trouble = h('div', { id: 'key-trouble' });
  const submit = button('Sign in', () => undefined, { type: 'submit', class: 'primary' });
  const form = h(
    'form',
    { on: { submit: (event) => void enter(event) }, novalidate: true },
    h('div', { class: 'field' }, h('label', { for: 'key' }, 'API key'), field, h('p', { class: 'hint', id: 'key-hint' }, 'A key of the gateway: GATEWAY_API_KEY, or one made by "lmgateway keys add". It is not kept in the browser.')),
    trouble,
    h('div', { class: 'buttons' }, submit),
  );
  const heading = h('h1', { tabindex: '-1' }, 'Sign in to the LM gateway');
  replace(root, h('div', { class: 'sign-in' }, h('section', { 'aria-label': 'Sign in' }, heading, why && notice('note', why), form)));
  field.focus();

  async function enter(event) {
    event.preventDefault();
    const key = field.value.trim();
    if (key === '') {
      replace(trouble, h('p', { class: 'fault', role: 'alert' }, 'Enter a key.'));
      field.focus();
      return;
    }
    await busy(submit, trouble, async () => {
      if ((await signIn(key)) === null) throw new Error('The browser did not keep the session. Does it refuse cookies?');
    }, then);
    if (field.isConnected) field.focus();
  }
}

/**
 * Who is signed in, and what they may do.
 */

import { ApiError, get, post, remove } from './api.js';

/**
 * @typedef {{name: string, scopes: string[], keyless?: boolean, version?: string, addresses?: string[], hasCa?: boolean}} Session
 */

/** @type {Session | null} */
let session = null;

/** @returns {Session | null} */
export const current = () => session;

/** Whether whoever is signed in holds a scope; `admin` includes the others. @param {string} scope */
export function may(scope) {
  const scopes = session?.scopes ?? [];
  return scopes.includes('admin') || scopes.includes(scope);
}

/** Ask who is signed in. @returns {Promise<Session | null>} */
export async function resume() {
  try {
    session = await get('/dashboard/session');
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
    session = null;
  }
  return session;
}

/** Sign in with a key, which is kept nowhere. @param {string} key */
export async function signIn(key) {
  await post('/dashboard/session', { key });
  return resume();
}

/** End the session. */
export async function signOut() {
  session = null;
  try {
    await remove('/dashboard/session');
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
  }
}

/** Forget who was signed in: the gateway says that nobody is. */
export function forget() {
  session = null;
}

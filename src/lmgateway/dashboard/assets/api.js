/**
 * Calls the gateway. Every call says that it is the dashboard's own: a cookie counts for no other.
 */

const OWN = { 'X-LMGateway-Dashboard': '1' };

/** An answer that is no success, as a sentence for whoever looks at the page. */
export class ApiError extends Error {
  /**
   * @param {number} status 0 where the gateway was not reached.
   * @param {string} message
   * @param {any} [details]
   * @param {string | null} [code]
   */
  constructor(status, message, details = null, code = null) {
    super(message);
    this.status = status;
    this.details = details;
    this.code = code;
  }

  /** Faults of single fields, as `/admin` tells them. @returns {{path: string[], message: string}[]} */
  get faults() {
    const isFault = (each) => Array.isArray(each?.path) && typeof each?.message === 'string';
    return Array.isArray(this.details) ? this.details.filter(isFault) : [];
  }
}

/** @type {Set<() => void>} */
const onSignedOut = new Set();

/** Be told when a call finds that nobody is signed in any more. @param {() => void} listener */
export function whenSignedOut(listener) {
  onSignedOut.add(listener);
}

/**
 * Send a request.
 * @param {string} method
 * @param {string} path
 * @param {{body?: any, signal?: AbortSignal, accept?: string}} [options]
 * @returns {Promise<Response>} a success.
 * @throws {ApiError} anything else.
 */
export async function send(method, path, { body, signal, accept } = {}) {
  /** @type {Record<string, string>} */
  const headers = { ...OWN };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (accept !== undefined) headers.Accept = accept;
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      credentials: 'same-origin',
      cache: 'no-store',
      redirect: 'error',
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, 'The gateway cannot be reached. Is it running?');
  }
  if (response.ok) return response;
  const error = await errorOf(response);
  if (error.status === 401 && path !== '/dashboard/session') for (const listener of onSignedOut) listener();
  throw error;
}

async function errorOf(response) {
  let told = null;
  try {
    told = await response.json();
  } catch {
    // No JSON: the status has to do.
  }
  const error = told?.error;
  const message = typeof error === 'string' ? error : error?.message;
  const sentence = told?.message ?? message ?? `The gateway answered ${response.status}.`;
  return new ApiError(response.status, String(sentence), told?.details ?? error?.details ?? null, told?.code ?? error?.code ?? null);
}

/** @param {string} method @param {string} path @param {any} [body] @param {AbortSignal} [signal] @returns {Promise<any>} */
async function json(method, path, body, signal) {
  const response = await send(method, path, { body, signal });
  return response.status === 204 ? null : response.json();
}

/** @param {string} path @param {AbortSignal} [signal] */
export const get = (path, signal) => json('GET', path, undefined, signal);
/** @param {string} path @param {any} [body] @param {AbortSignal} [signal] */
export const post = (path, body = {}, signal) => json('POST', path, body, signal);
/** @param {string} path @param {any} body */
export const patch = (path, body) => json('PATCH', path, body);
/** @param {string} path */
export const remove = (path) => json('DELETE', path);

/** An answer as text. @param {string} path @returns {Promise<string>} */
export async function text(path) {
  return (await send('GET', path)).text();
}

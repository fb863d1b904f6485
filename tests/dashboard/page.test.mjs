/** The pure parts of the page, by Node's own test runner; test_page.py runs it. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

const ASSETS = process.env.ASSETS;
const { EventStreamParser } = await import(`file://${ASSETS}/sse.js`);
const format = await import(`file://${ASSETS}/format.js`);
const { visible } = await import(`file://${ASSETS}/dom.js`);
const { basesOf, recipes } = await import(`file://${ASSETS}/viewConnect.js`);
const { Rate } = await import(`file://${ASSETS}/rate.js`);

const STREAM = 'retry: 2000\nid: 1\nevent: connected\ndata: {"a":1}\n\n:comment\r\nid: 2\r\ndata: one\r\ndata: two\r\n\r\ndata: unfinished';

test('an event stream reads the same in any chunking', () => {
  const expected = [
    { id: '1', type: 'connected', data: '{"a":1}' },
    { id: '2', type: 'message', data: 'one\ntwo' },
  ];
  for (let length = 1; length <= STREAM.length; length += 1) {
    const parser = new EventStreamParser();
    const events = [];
    for (let at = 0; at < STREAM.length; at += length) events.push(...parser.feed(STREAM.slice(at, at + length)));
    assert.deepEqual(events, expected, `in pieces of ${length}`);
    assert.equal(parser.lastId, '2');
  }
});

test('a stream that never ends a line is given up', () => {
  const parser = new EventStreamParser();
  assert.throws(() => parser.feed('x'.repeat(2 ** 20 + 1)));
});

test('lengths of time have their unit', () => {
  const expected = { 4.25: '4.3 ms', 85: '85 ms', 1234: '1.2 s', 200_000: '3 min 20 s', 7_500_000: '2 h 5 min', 93_600_000: '26 h' };
  for (const [ms, text] of Object.entries(expected)) assert.equal(format.duration(Number(ms)), text);
});

test('what is not known is a dash, never NaN', () => {
  for (const write of [format.count, format.duration, format.size, format.speed, format.timeOf, format.ago, format.share]) {
    for (const value of [null, undefined, 'x']) assert.equal(write(value), '–');
  }
});

test('sizes have their unit', () => {
  assert.equal(format.size(980), '980 B');
  assert.equal(format.size(5_027_783_808), '5 GB');
});

test('tokens a second are those of the last seconds, by the gateway\'s clock', () => {
  const rate = new Rate();
  assert.equal(rate.perSecond, null);
  rate.take(1, 500);
  assert.equal(rate.perSecond, null, 'one count tells no rate');
  rate.take(21, 1500);
  assert.equal(rate.perSecond, 20);
  for (let second = 2; second <= 12; second += 1) rate.take(21 + 40 * (second - 1), 500 + 1000 * second);
  assert.equal(rate.perSecond, 40, 'what was long ago does not count');
  assert.equal(rate.count, 461);
});

test('a stream that stalls slows down to nothing', () => {
  const rate = new Rate();
  rate.take(1, 0);
  for (let second = 1; second <= 10; second += 1) rate.take(100, 1000 * second);
  assert.equal(rate.perSecond, 0);
});

test('a count that is told twice, or falls, makes no rate of its own', () => {
  const rate = new Rate();
  rate.take(10, 1000);
  rate.take(10, 1000);
  assert.equal(rate.perSecond, null);
  rate.take(30, 2000);
  rate.take(5, 3000);
  assert.equal(rate.perSecond, null);
  rate.take(15, 4000);
  assert.equal(rate.perSecond, 10);
});

test('what turns a text around or hides in it is seen, and nothing else is touched', () => {
  assert.equal(visible('model\u202egnp.exe'), 'model\\u202egnp.exe');
  assert.equal(visible('a\u200bb\u2066c\u0007'), 'a\\u200bb\\u2066c\\u0007');
  for (const plain of ['qwen/qwen3-8b', 'נמוד־שפה/עברית', 'عربي/نموذج', '<img onerror=x>', 'a\tb\nc', '日本語 👩‍💻']) assert.equal(visible(plain), plain);
});

test('a count of tokens has its unit', () => {
  assert.equal(format.tokens(4096), '4,096 tok');
  assert.equal(format.tokens(null), '–');
});

test('clients are told the address of the page first, then those of other machines', () => {
  const told = ['https://192.168.1.7:8443', 'https://127.0.0.1:8443', 'http://[::1]:8001', 'http://127.0.0.1:8001'];
  const bases = (origin) => basesOf(origin, told).map(({ base, isLocal }) => `${base} ${isLocal}`);
  assert.deepEqual(bases('http://127.0.0.1:8001'), ['http://127.0.0.1:8001 true', 'https://192.168.1.7:8443 false']);
  assert.deepEqual(bases('http://localhost:8001'), ['http://localhost:8001 true', 'https://192.168.1.7:8443 false']);
  assert.equal(bases('https://studio.local:8443').length, 5);
  assert.equal(bases('https://192.168.1.7:8443')[0], 'https://192.168.1.7:8443 false');
  assert.deepEqual(basesOf('http://x:1', []), [{ base: 'http://x:1', isLocal: false }]);
});

test('every client is told the address, and of the certificate only where it counts', () => {
  for (const [title, , code] of recipes('http://10.0.0.7:8001', false)) {
    assert.ok(code.includes('http://10.0.0.7:8001'), title);
    assert.ok(!/ca\.crt|CA_CERTS|SSL_CERT/.test(code), title);
  }
  for (const [title, , code] of recipes('https://10.0.0.7:8443', true)) assert.match(code, /ca\.crt/, title);
});

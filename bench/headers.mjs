// Compares strict headers with `new Headers`, which checks less, and with a plain loop, which checks
// only lengths.
// Run: node bench/headers.mjs
import { InputValidator } from '../dist/index.js';
import { compare, machine, timed } from './compare.mjs';

console.log(machine);
const COUNT = 1_000;

/** Returns fifteen headers of a browser, in fresh strings. */
function fresh(seed) {
  const copy = (text) => Buffer.from(text).toString('latin1');
  const headers = {};
  for (const [name, value] of [
    ['host', 'api.example.com'],
    ['connection', 'keep-alive, Upgrade'],
    ['pragma', 'no-cache'],
    ['cache-control', 'no-cache'],
    [
      'user-agent',
      'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36',
    ],
    ['upgrade', 'websocket'],
    ['origin', 'https://www.example.com'],
    ['sec-websocket-version', '13'],
    ['accept-encoding', 'gzip, deflate, br, zstd'],
    ['accept-language', 'en-US,en;q=0.9,de;q=0.8'],
    ['cookie', `session=${seed}abcdefghijklmnop; theme=dark; consent=yes`],
    ['sec-websocket-key', 'dGhlIHNhbXBsZSBub25jZQ=='],
    [
      'authorization',
      `Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.${seed}dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U`,
    ],
    ['x-request-id', `7f9c24e8-3b12-4d2a-9f0e-${seed}`],
    ['x-app-version', '4.18.2'],
  ])
    headers[name] = copy(value);
  return headers;
}

function plainLoop(headers) {
  const validated = {};
  for (const [key, value] of Object.entries(headers)) {
    if (typeof key === 'string' && typeof value === 'string') {
      if (key.length > 100 || value.length > 1000) continue;
      validated[key.toLowerCase()] = value;
    }
  }
  return validated;
}

let sink;
const run = (call) => {
  const list = Array.from({ length: COUNT }, (_, seed) => fresh(seed));
  return timed(COUNT, (i) => {
    sink = call(list[i]);
  });
};
compare(
  '15 headers of a plain object',
  [
    ['new Headers', () => run((headers) => new Headers(headers))],
    ['validateHeaders', () => run((headers) => InputValidator.validateHeaders(headers))],
    ['a plain loop', () => run(plainLoop)],
  ],
  { rounds: 61 },
);
if (sink === undefined) throw new Error('nothing ran');

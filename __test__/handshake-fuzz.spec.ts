import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { expect, it } from 'vitest';
import { WebSocketServer } from 'ws';
import { misaddressed } from '../dist/adapters/upgrade-requests.js';
import { isHandshake, lengthOf } from '../dist/http/handshake.js';
import { portcullis } from '../dist/ws.js';
import { randomOf } from './fixtures/random.js';

// The headers of whole handshakes: the seeds of fuzz/corpus/handshake, and mutations of them.
const folder = 'fuzz/corpus/handshake';
const SEEDS = readdirSync(folder)
  .filter((name) => name.startsWith('seed-'))
  .map((name) => readFileSync(`${folder}/${name}`, 'latin1'));
const PIECES = [
  ',',
  ':',
  '\r\n',
  '\n',
  '\r',
  ' ',
  '\t',
  '\0',
  '\xff',
  'websocket',
  'Upgrade: x\r\n',
];

/** Returns a generator of whole numbers below `most`, the same for each seed. */
const seeded = (seed: number) => (most: number) => {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((seed / 2 ** 32) * most);
};

function mutated(next: (most: number) => number): string {
  let text = SEEDS[next(SEEDS.length)]!;
  // A fifth stay as they are.
  for (let step = next(5); step > 0; step--) {
    const at = next(text.length + 1);
    const end = at + next(Math.min(40, text.length - at + 1));
    const piece =
      next(2) === 0 ? PIECES[next(PIECES.length)]! : SEEDS[next(SEEDS.length)]!.slice(next(150));
    text = text.slice(0, at) + (next(3) === 0 ? '' : piece) + text.slice(next(2) === 0 ? at : end);
  }
  return text;
}

it('a list names websocket, and a length is a number, as in the grammar', () => {
  const next = seeded(7);
  expect(SEEDS.length).toBeGreaterThanOrEqual(10);
  for (let round = 0; round < 2000; round++) {
    for (const line of mutated(next).split('\r\n')) {
      const value = line.slice(line.indexOf(':') + 1);
      const names = value.split(',').map((name) => name.trim().toLowerCase());
      expect([value, isHandshake('GET', value)]).toEqual([value, names.includes('websocket')]);
      expect(isHandshake('POST', value)).toBe(false);
      const length = lengthOf(value);
      if (length !== undefined) expect([value, BigInt(value) >= 0n]).toEqual([value, true]);
      else expect(value).not.toMatch(/^[0-9]+$/);
    }
  }
});

it('a server answers them or ends them, opens no socket past its guard, and keeps no seat', async () => {
  const guard = portcullis({ limits: {} });
  const server = createServer((_request, response) => response.end('hello'));
  const webSocketServer = new WebSocketServer({ noServer: true });
  let opened = 0;
  webSocketServer.on('connection', () => opened++);
  guard.attach(server, webSocketServer, { path: '/ws' });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const next = seeded(11);
  let upgraded = 0;
  /** Sends a handshake, and ends when the server has ended it, or has been silent for 100 ms. */
  const send = async (headers: string): Promise<void> => {
    const socket = connect(port, '127.0.0.1');
    const closed = new Promise((resolve) => void socket.once('close', resolve));
    let text = '';
    socket.on('error', () => undefined);
    socket.setTimeout(100, () => socket.destroy());
    socket.on('data', (data) => {
      text += data.toString('latin1');
      if (text.startsWith('HTTP/1.1 101')) socket.destroy();
    });
    socket.write(`GET /ws HTTP/1.1\r\n${headers}\r\n`, 'latin1');
    await closed;
    if (text.startsWith('HTTP/1.1 101')) upgraded++;
  };
  for (let round = 0; round < 30; round++)
    await Promise.all(Array.from({ length: 20 }, () => send(mutated(next))));
  expect(upgraded).toBeGreaterThan(20);
  await expect.poll(() => guard.manager.snapshot().totalConnections).toBe(0);
  expect(guard.manager.snapshot().admitted).toBeGreaterThanOrEqual(opened);
  expect(opened).toBeGreaterThanOrEqual(upgraded);
  server.closeAllConnections();
  server.close();
  guard.close();
});

it('a handshake is addressed exactly if the parser makes a URL of its Host and target', () => {
  const hosts = [
    'a',
    'A.b:80',
    '[::1]',
    '1.2.3.4',
    '1.2.3.4.5',
    'a:99999',
    'a%zz',
    'xn--',
    'localhost',
  ];
  const characters = [
    '/',
    '\\',
    'a',
    '.',
    '?',
    '#',
    '%',
    '@',
    ':',
    '[',
    ']',
    ' ',
    '\t',
    '|',
    'é',
    '\0',
  ];
  const parses = (text: string, base?: string): boolean => {
    try {
      return new URL(text, base).href !== '';
    } catch {
      return false;
    }
  };
  const below = randomOf(1);
  const counts = { good: 0, host: 0, target: 0 };
  for (let round = 0; round < 20_000; round++) {
    const host = hosts[below(hosts.length)];
    let url = below(8) === 0 ? '' : '/';
    for (let length = below(6); length > 0; length--) url += characters[below(characters.length)];
    const request = { url, headers: { host } } as IncomingMessage;
    const code = misaddressed(request)?.code;
    const resolves = (scheme: string): boolean => parses(url, `${scheme}://${host}`);
    const isAddressed = resolves('http') && (url.startsWith('/') || resolves('https'));
    const expected = !parses(`http://${host}`)
      ? 'invalid_host'
      : isAddressed
        ? undefined
        : 'invalid_target';
    expect([host, url, code]).toEqual([host, url, expected]);
    counts[expected === undefined ? 'good' : expected === 'invalid_host' ? 'host' : 'target']++;
  }
  expect(Math.min(counts.good, counts.host, counts.target)).toBeGreaterThan(100);
});

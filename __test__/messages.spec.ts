import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import {
  MessageRouter,
  type MessageSender,
  PortcullisError,
  type TypedWebSocketMessage,
} from '../dist/index.js';
import { until } from './fixtures/until.js';

/** Parses a message that must be good. */
function parsedBy(
  router: MessageRouter<null>,
  raw: unknown,
  sender?: MessageSender,
): TypedWebSocketMessage {
  const parsed = router.parse(raw, sender);
  if (!parsed.success) throw new Error(parsed.problem.code);
  return parsed.message;
}

describe('a router', () => {
  it('parses text, and values that the host has parsed, alike', () => {
    const router = new MessageRouter<null>();
    const message = {
      type: 'a',
      payload: [1],
      timestamp: '2026-01-02T03:04:05.678+01:00',
      messageId: 'm',
    };
    expect(router.parse(JSON.stringify(message))).toEqual({ success: true, message });
    expect(parsedBy(router, message, { userId: 'ann', sessionId: 's' })).toEqual({
      ...message,
      userId: 'ann',
      sessionId: 's',
    });
  });

  it('completes an envelope, each with an id of its own', () => {
    const router = new MessageRouter<null>();
    const parsed = [1, 2].map(() => parsedBy(router, { type: 'a' }));
    expect(parsed[0]).toMatchObject({ type: 'a', payload: undefined });
    expect(Math.abs(Date.parse(parsed[0]!.timestamp) - Date.now())).toBeLessThan(10_000);
    expect(parsed[0]!.messageId).not.toBe(parsed[1]!.messageId);
  });

  it('drops the user and the session that the client claims', () => {
    const parsed = parsedBy(
      new MessageRouter<null>(),
      '{"type":"a","userId":"root","sessionId":"s","admin":true}',
    );
    expect(Object.keys(parsed)).toEqual(['type', 'payload', 'timestamp', 'messageId']);
  });

  it('never throws, whatever the message', async () => {
    const router = new MessageRouter<null>({
      onError: () => {
        throw new Error('hook');
      },
    }).on('a', () => {
      throw new Error('handler');
    });
    const junk: unknown[] = [
      undefined,
      null,
      5,
      Number.NaN,
      '',
      '{',
      '[]',
      '{"type":{}}',
      Symbol('s'),
      10n,
      [],
      {},
      new Uint8Array(2),
      new ArrayBuffer(2),
      () => 1,
    ];
    junk.push(
      '{"type":"a"}',
      { type: 'a', payload: new Proxy({}, {}) },
      { type: 'constructor' },
      { type: 'a', timestamp: '2026-13-45T99:99:99Z' },
    );
    for (const raw of junk) {
      const reply = await router.receive(raw, null);
      expect(reply?.problem?.code).toMatch(
        /^(not_text|invalid_json|invalid_envelope|unknown_type|handler_failed)$/,
      );
      expect(reply?.envelope.type).toBe('error');
    }
  });

  it('answers a bad envelope with its id, given as text or as a value', async () => {
    const router = new MessageRouter<null>();
    for (const envelope of [
      { messageId: 'm-1' },
      { messageId: 'm-1', type: '' },
      { messageId: 'm-1', type: 7 },
      { messageId: 'm-1', type: 'a', timestamp: 'yesterday' },
      { messageId: 'm-1', type: 'unknown' },
    ]) {
      for (const raw of [envelope, JSON.stringify(envelope)]) {
        const reply = await router.receive(raw, null);
        expect([raw, reply?.problem !== undefined, reply?.envelope.messageId]).toEqual([
          raw,
          true,
          'm-1',
        ]);
      }
    }
    // An id that is none is not echoed.
    for (const raw of ['{"messageId":7}', '{"messageId":""}', `{"messageId":"${'x'.repeat(129)}"}`])
      expect((await router.receive(raw, null))?.envelope.messageId).toMatch(/^[\da-f-]{36}$/);
  });

  it('accepts timestamps of days and times that exist only', () => {
    const router = new MessageRouter<null>();
    const accepts = (timestamp: string): boolean => router.parse({ type: 'a', timestamp }).success;
    for (const good of [
      '2024-02-29T00:00:00Z',
      '2000-02-29T23:59:59.123456789+23:59',
      '2026-12-31T00:00:00-00:00',
      '2026-04-30T00:00:00Z',
      '0000-02-29T00:00:00Z',
      '2026-01-01t00:00:00.5z',
    ])
      expect([good, accepts(good)]).toEqual([good, true]);
    for (const bad of [
      '2026-02-30T00:00:00Z',
      '2026-02-29T00:00:00Z',
      '1900-02-29T00:00:00Z',
      '2026-04-31T00:00:00Z',
      '2026-11-31T00:00:00Z',
      '2026-01-32T00:00:00Z',
      '2026-01-00T00:00:00Z',
      '2026-00-01T00:00:00Z',
      '2026-13-01T00:00:00Z',
      '2026-01-01T24:00:00Z',
      '2026-01-01T00:60:00Z',
      // A leap second of RFC 3339: `Date.parse` cannot read one.
      '2016-12-31T23:59:60Z',
      '2026-01-01T00:00:00+24:00',
      '2026-01-01T00:00:00+00:60',
      '2026-01-01T00:00:00',
      '2026-01-01',
      '2026-01-01T00:00:00.Z',
    ])
      expect([bad, accepts(bad)]).toEqual([bad, false]);
    // Against the calendar of the engine.
    const refused: string[] = [];
    for (let at = Date.UTC(1896, 1, 25); at < Date.UTC(2106, 0); at += 86_400_000) {
      const day = new Date(at).toISOString();
      if (!accepts(day)) refused.push(day);
    }
    expect(refused).toEqual([]);
  });

  it.each([1, 'yes', {}, undefined])(
    'takes a check that returns %j for one that fails',
    (answer) => {
      const router = new MessageRouter<null>();
      router.on('a', () => undefined, ((): unknown => answer) as never);
      expect(router.receive('{"type":"a"}', null)).toMatchObject({
        problem: { code: 'invalid_payload' },
      });
    },
  );

  it('treats a check that throws as a failed handler', async () => {
    const told: string[] = [];
    const router = new MessageRouter<null>({
      onError: (error, type) => void told.push(`${type}: ${(error as Error).message}`),
    });
    router.on(
      'a',
      () => undefined,
      (_payload): _payload is number => {
        throw new Error('check');
      },
    );
    expect((await router.receive('{"type":"a"}', null))?.problem?.code).toBe('handler_failed');
    expect(told).toEqual(['a: check']);
  });

  it('treats a check that returns a promise as a failed handler, and survives hooks that reject', async () => {
    const told: string[] = [];
    const reject = async (): Promise<never> => {
      throw new Error('late');
    };
    const connection = { ip: '192.0.2.1' };
    const router = new MessageRouter<typeof connection>({
      onError: async (error, type) => {
        told.push(`${type}: ${(error as Error).message}`);
        await reject();
      },
      onRateExceeded: reject,
    });
    const checks: [string, () => Promise<boolean>][] = [
      ['passes', async () => true],
      ['rejects', reject],
    ];
    for (const [type, check] of checks)
      router.on(
        type,
        () => told.push('handled'),
        check as unknown as (payload: unknown) => payload is number,
      );
    const rate = { limit: 1, windowMs: 60_000, by: 'ip', action: 'drop' } as const;
    router.on('rated', () => undefined, { rate });
    const promised = 'check returned a promise, and its answer is needed at once';
    for (const [type] of checks)
      expect((await router.receive(JSON.stringify({ type }), connection))?.problem?.code).toBe(
        'handler_failed',
      );
    for (let at = 0; at < 2; at++) void router.receive('{"type":"rated"}', connection);
    await new Promise((resolve) => setImmediate(resolve));
    expect(told).toEqual([`passes: ${promised}`, `rejects: ${promised}`, 'rated: late']);
  });

  it('reports an answer that does not fit into JSON to the client and to onError', async () => {
    const told: string[] = [];
    const circle: Record<string, unknown> = {};
    circle['self'] = circle;
    const router = new MessageRouter<null>({ onError: (_error, type) => void told.push(type) })
      .on('bigint', () => ({ type: 'x', payload: 1n }))
      .on('circle', async () => ({ type: 'x', payload: circle }));
    for (const type of ['bigint', 'circle']) {
      const reply = await router.receive(JSON.stringify({ type, messageId: 'm' }), null);
      expect([
        reply?.problem?.code,
        reply?.envelope.messageId,
        JSON.parse(reply?.text ?? ''),
      ]).toEqual(['handler_failed', 'm', reply?.envelope]);
    }
    expect([told, router.snapshot()]).toEqual([
      ['bigint', 'circle'],
      { handled: 0, problems: { handler_failed: 2 }, overRate: 0 },
    ]);
  });

  it('neither throws nor rejects for a host without a sender, or with values that throw', async () => {
    const failing = (): never => {
      throw new Error('of a getter');
    };
    const router = new MessageRouter<null>().on('a', () => ({ type: 'b' }));
    const hostile: unknown[] = [
      Object.defineProperty({}, 'type', { get: failing }),
      Object.defineProperty({ type: 'a' }, 'payload', { get: failing }),
      Object.defineProperty({ type: 'a', timestamp: 5 }, 'messageId', { get: failing }),
      new Proxy({}, { get: failing, has: failing }),
      new Proxy({ type: 'a' }, { get: failing, has: () => true }),
    ];
    for (const raw of hostile) {
      expect(router.parse(raw)).toMatchObject({ problem: { code: 'invalid_envelope' } });
      expect((await router.receive(raw, null))?.problem?.code).toBe('invalid_envelope');
    }
    const sender = Object.defineProperty({}, 'userId', { get: failing }) as MessageSender;
    expect(router.parse({ type: 'a' }, sender).success).toBe(false);
    for (const nobody of [null, undefined]) {
      expect(router.parse({ type: 'a' }, nobody).success).toBe(true);
      expect(await router.receive({ type: 'a' }, null, nobody)).toMatchObject({
        envelope: { type: 'b' },
      });
    }
  });

  it('waits for the promise of any library or realm, and answers its rejection', async () => {
    const router = new MessageRouter<null>({ onError: () => undefined })
      .on(
        'realm',
        () => runInNewContext('Promise.resolve({ type: "b" })') as Promise<{ type: string }>,
      )
      .on(
        'rejects',
        () => runInNewContext('Promise.reject(new Error("late"))') as Promise<undefined>,
      );
    expect(await router.receive({ type: 'realm' }, null)).toMatchObject({
      envelope: { type: 'b' },
    });
    expect((await router.receive({ type: 'rejects' }, null))?.problem?.code).toBe('handler_failed');
    expect(router.snapshot().handled).toBe(1);
  });

  it('takes an answer without a valid type for a failed handler', async () => {
    const told: unknown[] = [];
    const router = new MessageRouter<null>({
      onError: (error) => void told.push((error as PortcullisError).field),
    });
    const answers = [{}, { type: 5 }, { type: '' }, { type: 'x'.repeat(129) }, new Map()];
    for (const [at, answer] of answers.entries()) {
      router.on(`${at}`, () => answer as never);
      expect((await router.receive({ type: `${at}` }, null))?.problem?.code).toBe('handler_failed');
    }
    expect(told).toEqual(answers.map(() => 'answer.type'));
  });

  it.each<[string, () => unknown]>([
    [
      'throws',
      () => {
        throw new Error('of the hook');
      },
    ],
    ['rejects', () => Promise.reject(new Error('of the hook'))],
  ])('warns of an onRateExceeded that %s, where no onError hears of it', async (_, hook) => {
    const warned: unknown[] = [];
    const listener = (warning: Error): void => void warned.push((warning.cause as Error).message);
    process.on('warning', listener);
    const connection = { ip: '192.0.2.1' };
    const router = new MessageRouter<typeof connection>({ onRateExceeded: hook as never });
    const rate = { limit: 1, windowMs: 60_000, by: 'ip', action: 'report' } as const;
    router.on('rated', () => undefined, { rate });
    for (let at = 0; at < 2; at++) void router.receive({ type: 'rated' }, connection);
    await until(() => warned.length > 0);
    process.off('warning', listener);
    expect([warned, router.snapshot().overRate]).toEqual([['of the hook'], 1]);
  });

  it('warns once for each type of a handler that fails, where no onError hears of it', async () => {
    const warned: [string, unknown][] = [];
    const listener = (warning: Error): void => void warned.push([warning.message, warning.cause]);
    process.on('warning', listener);
    const router = new MessageRouter<null>();
    const bug = new Error('secret');
    const fails = (): never => {
      throw bug;
    };
    router
      .on('sync', fails)
      .on('async', () => Promise.reject(bug))
      .otherwise(fails);
    for (const type of ['sync', 'sync', 'async', 'of a client', 'of another client'])
      await router.receive({ type }, null);
    await until(() => warned.length === 3);
    process.off('warning', listener);
    expect(warned.map(([text, cause]) => [text.split(' failed')[0], cause])).toEqual([
      ['message sync', bug],
      ['message async', bug],
      ['message of another type', bug],
    ]);
  });

  it('names the options of a rate by their path', () => {
    const router = new MessageRouter<null>();
    const rate = { limit: 1, windowMs: 1000 };
    for (const [field, options] of [
      ['rate.name', { name: 5 }],
      ['rate.maxKeys', { maxKeys: 0 }],
      ['rate.clock', { clock: 5 }],
      ['rate.limit', { limit: 0 }],
    ] as const)
      expect(() =>
        router.on('a', () => undefined, { rate: { ...rate, ...options } as never }),
      ).toThrow(expect.objectContaining({ field }));
    const name = 'messages.conflict';
    router.on('a', () => undefined, { rate: { ...rate, name } });
    expect(() => router.on('b', () => undefined, { rate: { ...rate, name, limit: 2 } })).toThrow(
      expect.objectContaining({ code: 'ERR_LIMITS_CONFLICT', field: 'rate.name' }),
    );
  });

  it('hands all other types to `otherwise`', async () => {
    const seen: string[] = [];
    const router = new MessageRouter<null>()
      .on('a', () => ({ type: 'b' }))
      .otherwise((_connection, { type }) => void seen.push(type));
    expect((await router.receive('{"type":"a"}', null))?.envelope.type).toBe('b');
    expect(await router.receive('{"type":"zzz"}', null)).toBeUndefined();
    expect([seen, router.snapshot()]).toEqual([['zzz'], { handled: 2, problems: {}, overRate: 0 }]);
  });

  it('reports the problem of a message that it cannot parse, and counts none', () => {
    const router = new MessageRouter<null>();
    expect([
      router.parse('{'),
      router.parse({ type: '' }),
      router.parse({ type: 'a', messageId: 5 }),
    ]).toEqual([
      { success: false, problem: { code: 'invalid_json', message: 'A message must be JSON' } },
      {
        success: false,
        problem: expect.objectContaining({ code: 'invalid_envelope', field: 'type' }),
      },
      {
        success: false,
        problem: expect.objectContaining({ code: 'invalid_envelope', field: 'messageId' }),
      },
    ]);
    expect(router.snapshot()).toEqual({ handled: 0, problems: {}, overRate: 0 });
  });

  it.each(['close', Symbol.dispose] as const)('forgets its handlers at %s', async (end) => {
    const router = new MessageRouter<null>()
      .on('a', () => ({ type: 'b' }))
      .otherwise(() => ({ type: 'c' }));
    const slow = new MessageRouter<null>().on('a', async () => ({ type: 'late' }));
    const running = slow.receive('{"type":"a"}', null);
    for (const one of [router, slow]) {
      one[end]();
      one[end]();
    }
    expect(router.has('a')).toBe(false);
    for (const type of ['a', 'other'])
      expect((await router.receive(JSON.stringify({ type }), null))?.problem?.code).toBe(
        'unknown_type',
      );
    for (const set of [
      () => router.on('a', () => undefined),
      () => router.otherwise(() => undefined),
    ])
      expect(set).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
    expect(router.snapshot()).toEqual({ handled: 0, problems: { unknown_type: 2 }, overRate: 0 });
    // A handler under way ends as if nothing had happened.
    expect((await running)?.envelope.type).toBe('late');
    expect(slow.snapshot().handled).toBe(1);
  });

  it.each([
    [['', () => undefined], 'type'],
    [['x'.repeat(129), () => undefined], 'type'],
    [['a', 5], 'handle'],
    [['a', () => undefined, 5], 'check'],
    [['twice', () => undefined], 'type'],
  ])('refuses on(%j) by the name of its argument', (args, field) => {
    const router = new MessageRouter().on('twice', () => undefined);
    try {
      Reflect.apply(router.on.bind(router), undefined, args);
      throw new Error('nothing was thrown');
    } catch (error) {
      expect(error).toBeInstanceOf(PortcullisError);
      expect((error as PortcullisError).field).toBe(field);
    }
  });
});

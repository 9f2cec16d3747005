import { describe, expect, it } from 'vitest';
import {
  MessageRouter,
  PortcullisError,
  type TypedWebSocketMessage,
  isProblem,
} from '../dist/index.js';

describe('a router', () => {
  it('accepts text, and the value that a host has parsed from it', () => {
    const router = new MessageRouter<null>();
    const message = {
      type: 'a',
      payload: [1],
      timestamp: '2026-01-02T03:04:05.678+01:00',
      messageId: 'm',
    };
    expect(router.parse(JSON.stringify(message))).toEqual(message);
    expect(router.parse(message, { userId: 'ann', sessionId: 's' })).toEqual({
      ...message,
      userId: 'ann',
      sessionId: 's',
    });
  });

  it('fills in missing fields, with a new id each time', () => {
    const router = new MessageRouter<null>();
    const parsed = [1, 2].map(() => router.parse({ type: 'a' })) as TypedWebSocketMessage[];
    expect(parsed[0]).toMatchObject({ type: 'a', payload: undefined });
    expect(Math.abs(Date.parse(parsed[0]!.timestamp) - Date.now())).toBeLessThan(10_000);
    expect(parsed[0]!.messageId).not.toBe(parsed[1]!.messageId);
  });

  it('ignores the user and the session that a client claims', () => {
    const parsed = new MessageRouter<null>().parse(
      '{"type":"a","userId":"root","sessionId":"s","admin":true}',
    );
    expect(isProblem(parsed) ? [] : Object.keys(parsed)).toEqual([
      'type',
      'payload',
      'timestamp',
      'messageId',
    ]);
  });

  it('never throws for any message', async () => {
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

  it('treats a check that throws like a handler that throws', async () => {
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

  it('reports an answer that JSON cannot hold to the client and to onError', async () => {
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
    expect([told, router.stats()]).toEqual([
      ['bigint', 'circle'],
      { handled: 0, problems: { handler_failed: 2 } },
    ]);
  });

  it('passes other types to `otherwise`', async () => {
    const seen: string[] = [];
    const router = new MessageRouter<null>()
      .on('a', () => ({ type: 'b' }))
      .otherwise((_connection, { type }) => void seen.push(type));
    expect((await router.receive('{"type":"a"}', null))?.envelope.type).toBe('b');
    expect(await router.receive('{"type":"zzz"}', null)).toBeUndefined();
    expect([seen, router.stats()]).toEqual([['zzz'], { handled: 2, problems: {} }]);
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

import { expect, it } from 'vitest';
import { ConnectionManager, TimerManager } from '../dist/index.js';
import type { Lease } from '../dist/index.js';

// A slot is a number of 22 bits.

it.runIf(process.env['PORTCULLIS_LONG'] === '1')(
  'a manager refuses the connection after 4,194,304 with total_limit, and has room again',
  () => {
    const manager = new ConnectionManager({}, new TimerManager());
    let last: Lease | undefined;
    for (let i = 0; i < 2 ** 22; i++) {
      const lease = manager.reserve('192.0.2.1');
      if (!lease.success) throw new Error(`refused as number ${i}`);
      last = lease;
    }
    expect(manager.reserve('192.0.2.1')).toMatchObject({ success: false, code: 'total_limit' });
    expect(manager.addConnection('a', { close() {} }, '192.0.2.2')).toMatchObject({
      code: 'total_limit',
    });
    manager.abort(last!);
    expect(manager.addConnection('a', { close() {} }, '192.0.2.2').success).toBe(true);
    expect(manager.snapshot().totalConnections).toBe(2 ** 22);
    expect(manager.snapshot().refused.total_limit).toBe(2);
    // A connection that ends is only noted; its seat is there for the next one.
    manager.removeConnection('a');
    expect(manager.addConnection('b', { close() {} }, '192.0.2.2').success).toBe(true);
    manager.close();
  },
);

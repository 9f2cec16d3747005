// Seats of members that are not there: fields in buckets, as the scripts write them.
import { randomBytes, randomFillSync } from 'node:crypto';
import { Client } from '../redis.mjs';
import { infoOf } from '../servers.mjs';
import { scriptOf } from './scripts.mjs';

const BUCKETS = 16_384;
/** Commands that wait for their replies together. */
const PART = 2000;
const SCOPES = ['i', 'u'];

/** Writes fields: `columnsOf` returns the indexes of the members that hold a key, one seat each. */
export async function fill(client, name, generation, keys, columnsOf) {
  const hash = Buffer.alloc(9);
  let waiting = [];
  for (let key = 0; key < keys; key++)
    for (const scope of SCOPES) {
      randomFillSync(hash);
      const columns = columnsOf(key, scope);
      const value = Buffer.alloc(columns.length * 5);
      columns.forEach((index, at) => {
        value.writeUInt16BE(index, at * 5);
        value.writeUIntBE(1, at * 5 + 2, 3);
      });
      const bucket = hash.readUInt16BE(0) % BUCKETS;
      const field = Buffer.concat([Buffer.from(scope), hash]);
      waiting.push(client.call('HSET', `{pc2:${name}}:b:${generation}:${bucket}`, field, value));
      if (waiting.length === PART) {
        await Promise.all(waiting);
        waiting = [];
      }
    }
  await Promise.all(waiting);
}

export const usedMemory = async (port) => Number(await infoOf(port, 'memory', 'used_memory'));

/** A member that holds seats and beats, and does nothing else. */
export class Ghost {
  static async join(port, name, seats) {
    const ghost = new Ghost();
    ghost.client = await Client.to(port);
    const meta = `{pc2:${name}}:m`;
    const identity = `${randomBytes(8).toString('hex')}.0`;
    const run = await infoOf(port, 'server', 'run_id');
    const generation = randomBytes(8).toString('base64url');
    const unlimited = Array.from({ length: 7 }, () => 2 ** 32 - 1);
    const rates = [0, 0, 0, 0];
    const drain = [0, 0, ''];
    const joined = await ghost.client.call(
      'EVAL',
      scriptOf('join'),
      1,
      meta,
      identity,
      identity.split('.')[0],
      run,
      generation,
      randomBytes(16),
      '',
      '',
      0,
      ...unlimited,
      ...rates,
      'ghost',
      ...drain,
    );
    const index = joined[0];
    const owned = [joined[1], index, identity];
    const events = `{pc2:${name}}:e`;
    await ghost.client.call('EVAL', scriptOf('activate'), 2, meta, events, ...owned, 1);
    await fill(ghost.client, name, joined[1].toString('latin1'), seats, () => [index]);
    await ghost.client.call('HINCRBY', meta, `T${index}`, seats);
    await ghost.client.call('HINCRBY', meta, 'T', seats);
    ghost.timer = setInterval(() => void ghost.client.call('HINCRBY', meta, `l${index}`, 1), 500);
    return ghost;
  }

  close() {
    clearInterval(this.timer);
    this.client.close();
  }
}

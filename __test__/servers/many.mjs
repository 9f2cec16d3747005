// Runs many servers of one file in this process: each line of its input is the options of one more. A process for
// each server would cost the tests a quarter of their time.
//   node many.mjs FILE
import { createInterface } from 'node:readline';
import { resolve } from 'node:path';

const file = resolve(process.argv[2]);
process.env.MANY_SERVERS = '1';
let count = 0;
for await (const line of createInterface({ input: process.stdin })) {
  process.env.GUARD_OPTIONS = line;
  // Another query is another module, which reads the options anew and prints where it listens. Bun drops the query
  // of a `file:` URL, and keeps that of a path.
  try {
    await import(`${file}?${++count}`);
  } catch (error) {
    // The test that asked for it must not wait for its timeout.
    console.log(`failed to start: ${String(error).replaceAll('\n', ' ')}`);
  }
}
// The worker of the tests has gone.
process.exit();

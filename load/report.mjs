// The server's own figures, asked for over the channel to its parent.

const BEAT_MS = 10;
let delays = [];

/** Tells the parent where it listens and, whenever asked, its figures since it was asked last. */
export function report(port, seats) {
  let due = performance.now() + BEAT_MS;
  setInterval(() => {
    const now = performance.now();
    // Beats that a blocked loop missed were late, too: each by what was left of the block.
    for (let late = Math.max(0, now - due); late >= 0; late -= BEAT_MS) delays.push(late);
    due = now + BEAT_MS;
  }, BEAT_MS);
  process.on('message', () => {
    const sorted = delays.toSorted((a, b) => a - b);
    delays = [];
    const { user, system } = process.cpuUsage();
    process.send({
      seats: seats(),
      rssBytes: process.memoryUsage.rss(),
      cpuSeconds: (user + system) / 1e6,
      delayP99Ms: sorted[Math.ceil(sorted.length * 0.99) - 1] ?? 0,
      delayMaxMs: sorted.at(-1) ?? 0,
    });
  });
  process.on('disconnect', () => process.exit());
  process.send({ port });
}

/** Runs `task(i)` for every `i` below `count`, at most `width` of them at a time. */
export async function inParallel(count, width, task) {
  let next = 0;
  const worker = async () => {
    while (next < count) await task(next++);
  };
  await Promise.all(Array.from({ length: Math.min(count, width) }, worker));
}

// Measures what it costs to join objects, by literals with spreads and by `Object.assign`.
import { compare, machine, timed } from './compare.mjs';

const CALLS = 60_000;
console.log(machine);
const two = { p: 1, q: 2 };
const four = { r: 1.5, s: 'x', t: 3, u: { v: 1 } };
const FORMS = {
  '{ ...b }': () => ({ ...four }),
  '{ ...b, x: 1 }': () => ({ ...four, x: 1 }),
  '{ ...a, ...b }': () => ({ ...two, ...four }),
  '{ x: 1, ...a, ...b }': () => ({ x: 1, ...two, ...four }),
  'Object.assign({}, a, b)': () => Object.assign({}, two, four),
};
/** The latest object: an engine would leave out the making of one that nothing can see. */
export let latest;
compare(
  'an object, joined of a with two properties and b with four',
  Object.entries(FORMS).map(([name, make]) => [
    name,
    () =>
      timed(CALLS, () => {
        latest = make();
      }),
  ]),
);

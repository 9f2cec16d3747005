import { expect, it } from 'vitest';
import { Wheel } from '../dist/timers/wheel.js';
import { agree } from './fixtures/agree.js';

/** The same numbers each time: a failure can be run again. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

interface Entry {
  readonly slot: number;
  readonly when: number;
  readonly sequence: number;
}

// Properties: the same timers in the same order as a sorted list of (deadline, sequence); `next` is
// never later than the earliest; none twice, none early.
it.each([1, 2, 3, 4, 5, 6, 7, 8])(
  'agrees with a sorted list over random operations (seed %i)',
  (seed) => {
    const random = randomOf(seed);
    const wheel = new Wheel(16);
    let capacity = 16;
    let model: Entry[] = [];
    let now = 0;
    const delay = (): number => random([200, 100_000, 2 ** 31, 2 ** 40][random(4)] ?? 1);
    for (let sequence = 0; sequence < 4000; sequence++) {
      const pick = random(7);
      const slot = random(40);
      if (pick < 4) {
        if (slot >= capacity) wheel.grow((capacity = 64));
        const when = now + delay();
        wheel.arm(slot, when);
        model = [...model.filter((entry) => entry.slot !== slot), { slot, when, sequence }];
      } else if (pick === 4) {
        if (slot < capacity) wheel.cancel(slot);
        model = model.filter((entry) => entry.slot !== slot);
      } else {
        now += delay();
        const due = new Uint32Array(1 + random(8));
        const expected = model
          .filter((entry) => entry.when <= now)
          .sort((a, b) => a.when - b.when || a.sequence - b.sequence);
        model = model.filter((entry) => entry.when > now);
        const got: number[] = [];
        for (let count = due.length; count === due.length;) {
          count = wheel.advance(now, due);
          got.push(...due.subarray(0, count));
        }
        agree(
          got,
          expected.map((entry) => entry.slot),
          sequence,
        );
      }
      const earliest = Math.min(...model.map((entry) => entry.when));
      const next = wheel.next();
      agree(next <= earliest, true, sequence);
      agree(model.length === 0 ? next === Infinity : next >= now, true, sequence);
    }
  },
);

it('holds a deadline of centuries', () => {
  const wheel = new Wheel(4);
  const due = new Uint32Array(4);
  wheel.arm(0, 2 ** 46);
  expect(wheel.advance(2 ** 46 - 1, due)).toBe(0);
  expect(wheel.advance(2 ** 46, due)).toBe(1);
});

it('takes a clock that goes backwards as standing still', () => {
  const wheel = new Wheel(4);
  const due = new Uint32Array(4);
  wheel.advance(1000, due);
  wheel.arm(3, 1010);
  expect(wheel.advance(5, due)).toBe(0);
  expect(wheel.advance(1010, due)).toBe(1);
});

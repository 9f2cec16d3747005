// Compares the middleware chain with koa-compose: 10 layers and a final next, time per layer.
// Run: node bench/middleware.mjs [async|sync|always|netted|execute]
import compose from 'koa-compose';
import { PerformantMiddlewareChain, TimerManager } from '../dist/index.js';
import { compareAsync, machine, median, report, timed, verdict } from './compare.mjs';

const LAYERS = 10;
const RUNS = 20_000;
const timers = new TimerManager();
console.log(`${machine}, ${LAYERS} layers`);

// Each contestant has its own layers, final next and loop: an engine optimises those of one
// contestant without regard to the others.
const own = (text) => new Function(`return ${text}`)();
// Each layer has its own text: from layers of one text, an engine makes one function.
let texts = 0;
const layersOf = (text) =>
  Array.from({ length: LAYERS }, () =>
    own(text.replace('context.depth++', `context.depth += ${++texts}`)),
  );
// Interned, like a literal: engines compare such strings by address.
const literal = (text) => Object.keys({ [text]: 0 })[0];
const items = (layers) =>
  layers.map((middleware, at) => ({ name: literal(`layer${at}`), middleware }));
const chain = (layers, options) => new PerformantMiddlewareChain(items(layers), timers, options);
const contestant = (name, run, final) => [
  name,
  new Function(
    'run',
    'final',
    'runs',
    'layers',
    `
  return async () => {
    const context = { depth: 0 };
    const start = performance.now();
    for (let i = 0; i < runs; i++) await run(context, final);
    return ((performance.now() - start) * 1e6) / runs / layers;
  };
`,
  )(run, own(final), RUNS, LAYERS),
];
const contest = (title, layer, final) =>
  compareAsync(title, [
    contestant('koa-compose', compose(layersOf(layer)), final),
    contestant(
      'portcullis, timing: off',
      chain(layersOf(layer), { timing: 'off' }).execute(),
      final,
    ),
    contestant('portcullis, timing: sampled', chain(layersOf(layer)).execute(), final),
  ]);

const ASYNC_FINAL = 'async () => undefined';
const ASYNC_LAYER = 'async (context, next) => { context.depth++; await next(); context.depth--; }';
const subjects = {
  async: async () => {
    const [, offNs, sampledNs] = await contest('async layer', ASYNC_LAYER, ASYNC_FINAL);
    verdict('a sampled layer, beyond off', sampledNs - offNs, 'ns', { most: 5 });
  },
  always: () =>
    compareAsync('async layer, every run timed', [
      contestant('koa-compose', compose(layersOf(ASYNC_LAYER)), ASYNC_FINAL),
      contestant(
        'portcullis, timing: always',
        chain(layersOf(ASYNC_LAYER), { timing: 'always' }).execute(),
        ASYNC_FINAL,
      ),
    ]),
  sync: () =>
    contest(
      'sync layer',
      '(context, next) => { context.depth++; return next(); }',
      '() => Promise.resolve()',
    ),
  // A layer whose text does not show that it awaits `next()` gets a listener for lost rejections.
  netted: () =>
    contest(
      'async layer whose text does not show that it waits',
      'async (context, next) => { context.depth++; const rest = next(); await rest; }',
      ASYNC_FINAL,
    ),
  execute() {
    const cached = chain(layersOf('(context, next) => next()'));
    const first = cached.execute();
    const hit = () => {
      if (cached.execute() !== first) throw new Error('compiled again');
    };
    const text = 'async (context, next) => { await next(); }';
    const many = new PerformantMiddlewareChain(
      Array.from({ length: 50 }, (_, at) => ({ name: `layer${at}`, middleware: own(text) })),
      timers,
    );
    const change = (i) => {
      many.setPriority('layer7', i).execute();
    };
    const figure = (count, run) => median(Array.from({ length: 9 }, () => timed(count, run)));
    const hitNs = figure(1_000_000, hit);
    report('execute(), 10 layers', [['a cache hit', hitNs]], 'ns');
    verdict('a cache hit', hitNs, 'ns', { most: 20 });
    report(
      'compiled again after a change, 50 layers',
      [['setPriority() and execute()', figure(2000, change) / 1000]],
      'us',
    );
  },
};
const subject = subjects[process.argv[2] ?? 'async'];
if (subject === undefined) throw new Error(`one of ${Object.keys(subjects).join(', ')}`);
await subject();

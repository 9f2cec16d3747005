// Compiled, not run: the types of the context that layers see.
import {
  type CompiledChain,
  MiddlewareChain,
  type MiddlewareContext,
  type MiddlewareFunction,
  type MiddlewareItem,
  type MiddlewareNext,
  type MiddlewareObject,
  PerformantMiddlewareChain,
  TimerManager,
} from 'portcullis';

const timers = new TimerManager();
interface Request {
  readonly path: string;
}
interface User {
  readonly id: number;
}

// Each layer adds to the context: its addition is optional before the layer, and present after it.
const chain = new PerformantMiddlewareChain<Request>(
  [{ name: 'log', middleware: async ({ path }, next) => (path.length, next()) }],
  timers,
)
  .add<{ user: User }>({
    name: 'auth',
    priority: 10,
    middleware: async (context, next) => {
      const before: User | undefined = context.user;
      context.user = before ?? { id: context.path.length };
      await next();
    },
  })
  .add<{ locale: string }>({
    name: 'locale',
    middleware: (context, next) => ((context.locale = String(context.user.id)), next()),
  })
  .add({
    name: 'use',
    middleware: async (context, next) => {
      const seen: [number, string, string] = [context.user.id, context.locale, context.path];
      // @ts-expect-error no layer adds this
      void context.session;
      await next();
      void seen;
    },
  });
export const run: CompiledChain<Request, Request & { user: User } & { locale: string }> =
  chain.execute();
export async function served(): Promise<void> {
  const nothing: void = await run({ path: '/' }, async (context) => void context.user.id);
  await run({ path: '/' });
  // The final next may ignore the context.
  await run({ path: '/' }, () => Promise.resolve());
  // @ts-expect-error a run needs the fields that the chain requires
  await run({}, async () => undefined);
  // @ts-expect-error a final next that may be undefined must be checked first
  await run({ path: '/' }, undefined);
  return nothing;
}
chain.replace('use', (context, next) => (context.locale.length, next()));
// @ts-expect-error a replacing layer sees no other fields
chain.replace('use', (context: Request & { session: string }, next) => (context.session, next()));

// The type that runs return, if the chain declares it.
const responses = new MiddlewareChain<Request, Request, Response>([], timers).add({
  name: 'json',
  middleware: async (_context, next) => {
    const response: Response = await next();
    return new Response(response.body);
  },
});
export const response: Promise<Response> = responses.execute()(
  { path: '/' },
  () => new Response('ok'),
);
// @ts-expect-error this layer returns no such value
responses.add({ name: 'none', middleware: () => 5 });

// Layers and items without types of their own.
const plain: MiddlewareFunction = async (context: MiddlewareContext, next: () => Promise<void>) => {
  context.startedAt = 1;
  await next();
};
class Auth implements MiddlewareObject {
  middleware(): MiddlewareFunction {
    return plain;
  }
  getConfigHash(): string {
    return 'a';
  }
}
const items: MiddlewareItem[] = [
  { name: 'plain', priority: 1, enabled: true, middleware: plain },
  { name: 'auth', middleware: new Auth() },
];
const planned = new PerformantMiddlewareChain(items, timers);
export const withOptions = new PerformantMiddlewareChain(items, { timers, timing: 'off' });
export const withOwnTimers = new PerformantMiddlewareChain(items);
// @ts-expect-error the manager is given twice
export const withBoth = new PerformantMiddlewareChain(items, timers, { timers });
export const next: MiddlewareNext = () => Promise.resolve();
export const middleware: MiddlewareFunction = planned.execute();
export const metrics: Record<string, number> = planned.getPerformanceMetrics();
planned.invalidateCache();
// A chain is a layer.
planned.add({ name: 'nested', middleware: planned.execute() });
export const inferred = new PerformantMiddlewareChain(
  [{ name: 'x', middleware: (context, next) => ((context.a = 1), next()) }],
  timers,
);
// @ts-expect-error a misspelt option
planned.add({ name: 'y', middleware: plain, prio: 1 });

/** The cards of the server: routes, objectives, middleware, timers, events. */
import { Card, none, notInUse, ranking, table } from './card.js';
import { make } from './dom.js';
import { NONE, bytes, milliseconds, number, percent, time } from './format.js';
import type { PageSnapshot } from '../ts/page/snapshot.js';

type Layers = NonNullable<PageSnapshot['layers']>;

function layersTitle(layers: Layers | null): string {
  if (layers === null) return '';
  return layers.length === 1 ? '1 layer' : `${layers.length} layers, in the order they run`;
}

const layersTable = (layers: Layers): HTMLElement =>
  table(
    'Middleware layers in the order they run',
    ['layer', 'runs', 'errors', 'timeouts', 'p50', 'p99'],
    layers.map(({ name, enabled, count, errors, timeouts, p50Ms, p99Ms, breaker }) => [
      `${name}${enabled ? '' : ' (off)'}${breaker === null || breaker === 'closed' ? '' : ` (breaker ${breaker})`}`,
      number(count),
      [number(errors), errors > 0 ? 'bad' : ''],
      [number(timeouts), timeouts > 0 ? 'bad' : ''],
      milliseconds(p50Ms),
      milliseconds(p99Ms),
    ]),
  );

export class ServerCards {
  readonly #routes = new Card('routes', 'Routes', 'wide');
  readonly #layers = new Card('layers', 'Middleware chain', 'wide');
  readonly #budgets = new Card('budgets', 'Objectives');
  readonly #timers = new Card('timers', 'Timers');
  readonly #events = new Card('events', 'Recent events', 'wide events');

  show(snapshot: PageSnapshot): void {
    this.#showRoutes(snapshot);
    this.#showBudgets(snapshot);
    this.#showLayers(snapshot);
    this.#showTimers(snapshot);
    this.#showEvents(snapshot);
  }

  #showRoutes({ requests, messages }: PageSnapshot): void {
    const traffic =
      messages === null
        ? ''
        : `WebSocket ${bytes(messages.inBytesPerSecond)}/s in, ${bytes(messages.outBytesPerSecond)}/s out`;
    this.#routes.show(requests?.routes ?? null, traffic, () => {
      if (requests === null) return notInUse('page.metrics');
      if (requests.routes.length === 0) return none('No requests yet.');
      return table(
        'Requests by route, the busiest first',
        ['route', 'per s', 'errors', 'p50', 'p99'],
        requests.routes.map(({ route, perSecond, errorPercent, p50Ms, p99Ms }) => [
          route,
          number(perSecond),
          [percent(errorPercent), (errorPercent ?? 0) > 1 ? 'bad' : ''],
          milliseconds(p50Ms),
          milliseconds(p99Ms),
        ]),
      );
    });
  }

  #showBudgets({ requests, budgets }: PageSnapshot): void {
    this.#budgets.show(budgets, requests === null ? '' : `Apdex ${number(requests.apdex)}`, () => {
      if (budgets === null) return notInUse('page.metrics');
      return table(
        'Error budgets of the objectives',
        ['requests', 'goal', 'budget left', 'burn 1 h'],
        budgets.map(({ name, objectivePercent, leftPercent, burn1h, alert }) => [
          name,
          percent(objectivePercent),
          [percent(leftPercent), (leftPercent ?? 1) <= 0 ? 'bad' : ''],
          [burn1h === null ? NONE : `${number(burn1h)} x`, alert === null ? '' : 'bad'],
        ]),
      );
    });
  }

  #showLayers({ layers }: PageSnapshot): void {
    this.#layers.show(layers, layersTitle(layers), () => {
      if (layers === null) return notInUse('page.chain');
      return layers.length === 0 ? none('The chain has no layers.') : layersTable(layers);
    });
  }

  #showTimers({ timers }: PageSnapshot): void {
    this.#timers.show(timers, `${number(timers.active)} held`, () => {
      if (timers.byName === null) return none('Too many timers to list them by name.');
      return timers.byName.length === 0
        ? none('None.')
        : ranking('Timers by name', 'name', timers.byName);
    });
  }

  #showEvents({ events }: PageSnapshot): void {
    this.#events.show(events, '', () => {
      const list = make('ol');
      for (const { at, severity, text } of events) {
        const when = make('time', '', time(at));
        when.dateTime = new Date(at).toISOString();
        list.append(make('li', severity, when, make('span', '', text)));
      }
      return list;
    });
  }
}

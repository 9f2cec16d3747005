/** Shows a snapshot in words, tiles and tables. */
import { BanCard } from './ban-card.js';
import { ClusterCard } from './cluster-card.js';
import { ConnectionCards } from './connection-cards.js';
import { byId, say } from './dom.js';
import { duration, number, time } from './format.js';
import { RateCards } from './rate-cards.js';
import { ServerCards } from './server-cards.js';
import { SheddingCard } from './shedding-card.js';
import { showAdvice, showParts, showVerdict } from './summary.js';
import { Tiles } from './tiles.js';
import type { PageSnapshot } from '../ts/page/snapshot.js';

export class View {
  readonly #tiles = new Tiles();
  readonly #connections = new ConnectionCards();
  readonly #bans = new BanCard();
  readonly #rates = new RateCards();
  readonly #cluster = new ClusterCard();
  readonly #shedding = new SheddingCard();
  readonly #server = new ServerCards();

  show(snapshot: PageSnapshot): void {
    showVerdict(snapshot);
    showParts(snapshot);
    showAdvice(snapshot);
    this.#tiles.show(snapshot);
    this.#connections.show(snapshot);
    this.#bans.show(snapshot);
    this.#rates.show(snapshot);
    this.#cluster.show(snapshot);
    this.#shedding.show(snapshot);
    this.#server.show(snapshot);
    const { server } = snapshot;
    say(byId('facts'), `${server.runtime} · pid ${server.pid} · up ${duration(server.uptimeMs)}`);
    const denied = server.denied === 0 ? '' : ` · ${number(server.denied)} refused`;
    say(
      byId('foot'),
      `${server.viewers} of ${server.maxViewers} viewers${denied} · figures of ${time(snapshot.at)}, once a second · sizes in MB of 2^20 bytes`,
    );
  }
}

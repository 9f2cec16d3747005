/** Those who look at the page: each gets every frame, or is let go when it does not read. */

/** Where a viewer's frames go. @internal */
export interface Sink {
  /** Whether the client has gone, for hosts that do not always tell. */
  isGone(): boolean;
  /** Whether there is room for a frame: what was written before is not waiting in memory. */
  hasRoom(): boolean;
  write(text: string): void;
  end(): void;
}

/** Bytes that may wait for a viewer before it counts as one that does not read. @internal */
export const BUFFERED_MAX = 64 * 1024;
/** Seconds in a row without room after which a viewer is let go. */
const PATIENCE = 10;
/** Frames after which a stream ends: the browser comes back by itself, who has gone silently does not. */
const FRAMES_MAX = 600;

class Viewer {
  readonly #sink: Sink;
  #frames = 0;
  #withoutRoom = 0;

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  /** `false` if it is to be let go. */
  show(text: string): boolean {
    if (++this.#frames > FRAMES_MAX) return false;
    try {
      if (this.#sink.isGone()) return false;
      if (!this.#sink.hasRoom()) return ++this.#withoutRoom < PATIENCE;
      this.#withoutRoom = 0;
      this.#sink.write(text);
      return true;
    } catch {
      // A stream that cannot be written to is gone.
      return false;
    }
  }

  end(): void {
    try {
      this.#sink.end();
    } catch {
      // It is gone already.
    }
  }
}

/** @internal */
export class Viewers {
  readonly #most: number;
  readonly #all = new Set<Viewer>();

  constructor(most: number) {
    this.#most = most;
  }

  get size(): number {
    return this.#all.size;
  }

  get isFull(): boolean {
    return this.#all.size >= this.#most;
  }

  /** @returns what takes the viewer out again, when the client is gone */
  add(sink: Sink, first: string): () => void {
    const viewer = new Viewer(sink);
    this.#all.add(viewer);
    if (!viewer.show(first)) this.#drop(viewer);
    return () => void this.#all.delete(viewer);
  }

  show(text: string): void {
    for (const viewer of this.#all) if (!viewer.show(text)) this.#drop(viewer);
  }

  close(): void {
    for (const viewer of this.#all) this.#drop(viewer);
  }

  #drop(viewer: Viewer): void {
    this.#all.delete(viewer);
    viewer.end();
  }
}

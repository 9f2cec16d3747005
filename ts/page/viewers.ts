/** Viewers of the page: each gets every frame, and is disconnected when it does not read. */

/** Destination of a viewer's frames. @internal */
export interface Sink {
  /** True if the client has disconnected, for hosts that do not always report it. */
  isGone(): boolean;
  /** True if the sink can take a frame: earlier frames do not wait in memory. */
  hasRoom(): boolean;
  write(text: string): void;
  end(): void;
}

/** Unsent bytes above which a viewer counts as not reading. @internal */
export const BUFFERED_MAX = 64 * 1024;
/**
 * Frames without room in a row after which a viewer is disconnected: one frame is sent a second.
 */
const PATIENCE = 10;
/**
 * Frames after which a stream ends. A browser reconnects by itself; a client that vanished silently
 * does not, and gives up its place.
 */
const FRAMES_MAX = 600;

class Viewer {
  readonly #sink: Sink;
  #frames = 0;
  #withoutRoom = 0;

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  /** Sends a frame if there is room; returns false if the viewer is to be disconnected. */
  show(text: string): boolean {
    if (++this.#frames > FRAMES_MAX) return false;
    try {
      if (this.#sink.isGone()) return false;
      if (!this.#sink.hasRoom()) return ++this.#withoutRoom < PATIENCE;
      this.#withoutRoom = 0;
      this.#sink.write(text);
      return true;
    } catch {
      // A stream that cannot be written to is closed.
      return false;
    }
  }

  end(): void {
    try {
      this.#sink.end();
    } catch {
      // The stream is closed already.
    }
  }
}

/** @internal */
export class Viewers {
  readonly #max: number;
  readonly #all = new Set<Viewer>();

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#all.size;
  }

  get isFull(): boolean {
    return this.#all.size >= this.#max;
  }

  /**
   * Adds a viewer and sends its first frame; returns a function that removes it after a disconnect.
   */
  add(sink: Sink, first: string): () => void {
    const viewer = new Viewer(sink);
    this.#all.add(viewer);
    if (!viewer.show(first)) this.#drop(viewer);
    return () => void this.#all.delete(viewer);
  }

  /** Sends a frame to all viewers. */
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

/** The live page on hosts with `Request` and `Response`, and on `node:http`. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { targetOf } from '../http/answer.js';
import { sendAnswer } from '../http/node-answer.js';
import type { PageRequest } from './access.js';
import { BUFFERED_MAX, type Sink } from './viewers.js';

/** The page's answer to a request: a body, or a stream of figures. @internal */
export type PageReply =
  | {
      readonly status: number;
      readonly headers: Readonly<Record<string, string>>;
      readonly body: string | Buffer;
    }
  | {
      readonly status: 200;
      readonly headers: Readonly<Record<string, string>>;
      /** Adds the sink to the viewers; returns a function that removes it. */
      readonly watch: (sink: Sink) => () => void;
    };

/** Answers requests for the page. @internal */
export interface PageReplies {
  /** True if the page serves `target`. */
  owns(target: string): boolean;
  reply(request: PageRequest): PageReply;
}

/** Inactivity timeout of a socket after the stream's end. */
const END_TIMEOUT_MS = 5000;

const encoder = new TextEncoder();

/**
 * Answers a `Request` for the page.
 * @param peer the socket's address
 * @returns `undefined` if the request is not for the page
 * @internal
 */
export function pageResponse(
  page: PageReplies,
  request: Request,
  peer: string,
): Response | undefined {
  const { url, method, headers } = request;
  const target = targetOf(url);
  if (!page.owns(target)) return undefined;
  const reply = page.reply({
    method,
    target,
    peer,
    isEncrypted: url.startsWith('https:'),
    header: (name) => headers.get(name) ?? '',
  });
  if (!('watch' in reply))
    return new Response(method === 'HEAD' ? null : reply.body, {
      status: reply.status,
      headers: reply.headers,
    });
  let leave: (() => void) | undefined;
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        leave = reply.watch(sinkOf(controller, request));
      },
      cancel: () => leave?.(),
    },
    new ByteLengthQueuingStrategy({ highWaterMark: BUFFERED_MAX }),
  );
  return new Response(body, { status: reply.status, headers: reply.headers });
}

function sinkOf(controller: ReadableStreamDefaultController<Uint8Array>, request: Request): Sink {
  const hasRoom = (): boolean => (controller.desiredSize ?? 0) > 0;
  return {
    isGone: () => request.signal?.aborted === true,
    hasRoom,
    write: (text) => controller.enqueue(encoder.encode(text)),
    // A client that does not read would not read the end either: cut the stream off.
    end: () => (hasRoom() ? controller.close() : controller.error(new Error('not read'))),
  };
}

/**
 * Answers a request of `node:http` for the page.
 * @returns `false` if the request is not for the page
 * @internal
 */
export function answerPage(
  page: PageReplies,
  request: IncomingMessage,
  response: ServerResponse,
): boolean {
  const target = request.url!;
  if (!page.owns(target)) return false;
  const { method = 'GET', headers, socket } = request;
  const header = (name: string): string => {
    // A request of HTTP/2 tells its host in `:authority`.
    const value = headers[name] ?? (name === 'host' ? headers[':authority'] : undefined);
    return Array.isArray(value) ? value.join(', ') : (value ?? '');
  };
  const reply = page.reply({
    method,
    target,
    peer: socket.remoteAddress ?? '',
    isEncrypted: 'encrypted' in socket && socket.encrypted === true,
    header,
  });
  if (!('watch' in reply)) {
    sendAnswer(method === 'HEAD' ? { ...reply, body: '' } : reply, request, response);
    return true;
  }
  response.writeHead(reply.status, reply.headers);
  const leave = reply.watch({
    isGone: () => socket.destroyed || response.destroyed,
    hasRoom: () => response.writableLength < BUFFERED_MAX,
    write: (text) => void response.write(text),
    end() {
      response.end();
      // A client that does not read would keep the socket open for ever.
      socket.setTimeout(END_TIMEOUT_MS, () => socket.destroy());
    },
  });
  // Bun does not emit 'close' on the response for every disconnect: listen on the socket, too.
  socket.once('close', leave);
  response.once('close', () => {
    socket.off('close', leave);
    leave();
  });
  return true;
}

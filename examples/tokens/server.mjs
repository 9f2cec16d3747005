// Tokens, metrics and a graceful shutdown, on Node with `ws`. Run: npm install && npm start
// A browser cannot set headers: it connects with `new WebSocket(url, ['bearer', token])`.
import { createHmac, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { GracefulShutdown, ProductionMetrics, TimerManager, TokenVerifier } from 'portcullis';
import { connectionOf, portcullis } from 'portcullis/ws';

// Issues tokens, in place of an identity provider.
const secret = randomBytes(32);
const part = (value) => Buffer.from(value).toString('base64url');
const issue = (sub) => {
  const signed = `${part('{"alg":"HS256","typ":"JWT"}')}.${part(JSON.stringify({ sub, exp: Math.floor(Date.now() / 1000) + 300 }))}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
};

const timers = new TimerManager();
const metrics = new ProductionMetrics({ timers });
const verifier = new TokenVerifier({ algorithms: ['HS256'], keys: { secret }, timers });
const guard = portcullis({
  limits: { maxConnectionsPerUser: 2, messageRate: { limit: 20, windowMs: 1000, action: 'drop' } },
  auth: { verifier, subprotocol: 'bearer' },
  requests: {},
  websockets: {},
  timers,
  metrics,
});
const shutdown = new GracefulShutdown({ timers, signals: ['SIGTERM', 'SIGINT'] });

const server = createServer(
  guard.request(async (request, response) => {
    if (request.url === '/token') return response.end(issue('ada'));
    if (request.url === '/metrics') {
      response.setHeader(
        'content-type',
        'application/openmetrics-text; version=1.0.0; charset=utf-8',
      );
      return response.end(await metrics.toOpenMetricsBytes());
    }
    const { status, headers, body } = shutdown.readiness();
    return response.writeHead(status, headers).end(body);
  }),
);
const webSocketServer = new WebSocketServer({ noServer: true });
webSocketServer.on('connection', (ws) =>
  ws.on('message', (data) => ws.send(`${connectionOf(ws)?.userId}: ${data}`)),
);
guard.attach(server, webSocketServer);
shutdown.add(guard.drainable(server));
server.listen(Number(process.env['PORT'] ?? 3000), () => {
  console.log(
    `listening on http://localhost:${server.address().port}/: a token at /token, metrics at /metrics, readiness at any other path`,
  );
});

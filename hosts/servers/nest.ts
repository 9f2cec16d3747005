import { control, options, port } from '../lib/control.mjs';
//#region example
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { WsAdapter } from '@nestjs/platform-ws';
import { type OnGatewayConnection, WebSocketGateway } from '@nestjs/websockets';
import { portcullis } from 'portcullis/ws';
import type { WebSocket } from 'ws';

const guard = portcullis(options);

class GuardedWsAdapter extends WsAdapter {
  override create(...args: Parameters<WsAdapter['create']>) {
    const webSocketServer = super.create(...args);
    guard.protect(webSocketServer);
    return webSocketServer;
  }
}

@WebSocketGateway({ path: '/ws' })
class EchoGateway implements OnGatewayConnection {
  handleConnection(ws: WebSocket) {
    ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }));
  }
}

@Module({ providers: [EchoGateway] })
class AppModule {}

const app = await NestFactory.create(AppModule, { logger: ['error'] });
app.useWebSocketAdapter(new GuardedWsAdapter(app));
await app.listen(port);
//#endregion
await control(guard, app.getHttpServer());

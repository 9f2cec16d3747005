import { control, options, port } from '../lib/control.mjs';
//#region example
import express from 'express';
import expressWs from 'express-ws';
import { portcullis } from 'portcullis/ws';

const guard = portcullis(options);
const { app, getWss } = expressWs(express());
guard.protect(getWss());
app.ws('/ws', (ws) => ws.on('message', (data) => ws.send(data)));
const server = app.listen(port);
//#endregion
await control(guard, server);

/** A clock, a socket and a server for tests of your own. */
import './native/runtime.js';
export { FakeSocket } from './testing/fake-socket.js';
export { ManualClock } from './testing/manual-clock.js';
export { TestServer, testServer, TestSocket } from './testing/test-server.js';
export type {
  TestableApp,
  TestRequest,
  TestServerOptions,
  TestUpgrade,
} from './testing/test-server.js';

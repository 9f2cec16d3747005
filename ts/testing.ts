/** A clock and a socket for tests of your own. */
import './native/runtime.js';
export { FakeSocket } from './testing/fake-socket.js';
export { ManualClock } from './testing/manual-clock.js';

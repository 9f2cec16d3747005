// Compiled, not run: with the types of Node, a handle is a timer of the host.
import { TimerManager } from 'portcullis';

const timers = new TimerManager();
const timeout: NodeJS.Timeout = timers.setTimeout(() => undefined, 1);
clearTimeout(timeout);
clearInterval(
  timers.setInterval(
    function (text: string) {
      clearInterval(this);
      timers.clearInterval(this.unref());
      text.trim();
    },
    1,
    'text',
  ),
);

/** The apps that take a plugin. Elysia tells each plugin of its parent by a property, and of the latest one only. */

type GetParent<A> = () => A | null;

/** Listeners of each app's property `getParent`. */
const LISTENERS = new WeakMap<object, ((parent: never) => void)[]>();

/**
 * Calls a listener with each app that takes a plugin.
 * @param plugin a plugin, or an app that is taken by another
 * @internal
 */
export function followParents<A>(plugin: object, listener: (parent: A) => void): void {
  const known = LISTENERS.get(plugin) as ((parent: A) => void)[] | undefined;
  if (known !== undefined) return void known.push(listener);
  const listeners = [listener];
  LISTENERS.set(plugin, listeners);
  let getParent: GetParent<A> | undefined = (plugin as { getParent?: GetParent<A> }).getParent;
  Object.defineProperty(plugin, 'getParent', {
    configurable: true,
    enumerable: true,
    get: () => getParent,
    set: (given: GetParent<A> | undefined) => {
      getParent = given;
      const parent = given?.();
      if (parent !== null && parent !== undefined) for (const one of listeners) one(parent);
    },
  });
}

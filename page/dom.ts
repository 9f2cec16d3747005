/**
 * Makes elements without parsing markup: no text of the server can become an element of the page.
 */

type Child = Node | string | null;

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = '',
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (className !== '') element.className = className;
  for (const child of children) if (child !== null) element.append(child);
  return element;
}

export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`no element ${id}`);
  return element;
}

/** Returns a custom property of the style sheet. */
export const property = (name: string): string =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Sets a text only if it differs: a screen reader would read it again. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Makes the text of a chart whose option of the page is not set. */
export const notInUse = (option: string): HTMLElement[] => [
  make('b', '', 'Not in use'),
  make('span', '', 'Set ', make('code', '', option), ' to see it.'),
];

/** Makes a bar of parts, by their share of the whole, 0 to 1. */
export function bar(
  ...parts: readonly (readonly [share: number, className: string])[]
): HTMLElement {
  const element = make('div', 'bar');
  element.setAttribute('aria-hidden', 'true');
  for (const [share, className] of parts) {
    const part = make('i', className);
    part.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    element.append(part);
  }
  return element;
}

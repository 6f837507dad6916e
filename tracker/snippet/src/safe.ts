/** The snippet is a guest: whatever goes wrong in it is said in the console and stays there. */

export function warn(...words: unknown[]): void {
  console.warn('kaskad:', ...words);
}

export function safely<A extends unknown[]>(job: (...args: A) => void): (...args: A) => void {
  return (...args) => {
    try {
      job(...args);
    } catch (error) {
      warn(error);
    }
  };
}

/** Listens without ever throwing into the page. */
export function on(target: EventTarget, names: string, job: (event: Event) => void): void {
  for (const name of names.split(' ')) target.addEventListener(name, safely(job), { capture: true, passive: true });
}

/** How long a page is in view, and how far down it was read. */
import type { Properties } from '../types/kaskad';
import { on } from './safe';

type Report = (name: string, props: Properties, url: string) => void;

export interface Attention {
  /** The page shown until now is left, or hidden. */
  leave(): void;
  /** Another page is shown, or the same one again. */
  enter(): void;
}

const MARKS = [25, 50, 75, 100];

export function attention(report: Report, address: () => string, time: boolean, scroll: boolean): Attention {
  let since: number | undefined;
  let url = '';
  let path = '';
  let marks: number[] = [];

  if (scroll)
    on(window, 'scroll', () => {
      const root = document.documentElement;
      // Half a pixel may be missing at the end of a page that is zoomed.
      const percent = (100 * (scrollY + innerHeight + 1)) / root.scrollHeight;
      while (marks.length && percent >= marks[0]!) report('page.scrolled', { path, percent: marks.shift() }, url);
    });

  return {
    leave() {
      const seconds = since === undefined ? 0 : Math.round((performance.now() - since) / 100) / 10;
      since = undefined;
      if (time && seconds) report('page.left', { path, seconds }, url);
    },
    enter() {
      if (document.visibilityState != 'hidden') since = performance.now();
      if (address() == url) return;
      url = address();
      path = location.pathname;
      marks = [...MARKS];
    },
  };
}

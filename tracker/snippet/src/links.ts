/** Links that lead to another host. */
import type { Properties } from '../types/kaskad';
import { on } from './safe';

export function links(report: (props: Properties) => void, clean: (address: string) => string): void {
  on(document, 'click auxclick', (event) => {
    if ((event as MouseEvent).button > 1) return; // the right one only opens a menu
    const target = event.composedPath()[0];
    const link = target instanceof Element && target.closest<HTMLAnchorElement>('a[href],area[href]');
    if (!link || link.closest('[data-kaskad-off]') || !/^https?:$/.test(link.protocol) || link.host == location.host) return;
    report({ url: clean(link.href), text: (link.textContent || '').trim().slice(0, 100) });
  });
}

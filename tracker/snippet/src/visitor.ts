/**
 * What the visitor agreed to, and the id that may be kept only then.
 *
 * All that is stored about a visitor is one id, in local storage or, if the site has several hosts, in a cookie. It ends in `.1` if the
 * visitor agreed in so many words, so that a site whose rule becomes stricter forgets the others.
 */
import type { Consent, Options } from '../types/kaskad';
import { storage, uuid } from './browser';
import { on } from './safe';

const NAME = 'kk.id';
const YEAR = 31536000;
const AGREED = '.1';

export interface Visitor {
  /** What is allowed now. */
  mode: Consent;
  /** Whether the visitor refused, so that nothing need be held for a later yes. */
  refused: boolean;
  /** The id, made now if there is none and it may be stored; else null. */
  id(): string | null;
  consent(mode: Consent): void;
  /** Takes another id. */
  renew(): void;
}

/** Do Not Track or Global Privacy Control. */
function objects(): boolean {
  const browser = navigator as Navigator & { globalPrivacyControl?: boolean };
  return browser.doNotTrack === '1' || !!browser.globalPrivacyControl;
}

export function visitor(options: Options): Visitor {
  let known = '';
  let agreed = '';

  const read = (): string | null =>
    options.domain ? (/(?:^|; )kk\.id=([\w.-]+)/.exec(document.cookie) || [])[1] || null : storage((s) => s.getItem(NAME));

  const write = (value: string): void => {
    if (options.domain)
      document.cookie =
        `${NAME}=${value};domain=${options.domain};path=/;max-age=${value ? YEAR : 0};samesite=lax` +
        (location.protocol == 'https:' ? ';secure' : '');
    else storage((s) => (value ? s.setItem(NAME, value) : s.removeItem(NAME)));
  };

  const self: Visitor = {
    mode: objects() && options.signals != 'ignore' ? 'none' : options.consent || 'cookieless',
    refused: false,
    id() {
      if (self.mode != 'full') return null;
      const there = read();
      if (!there && known) {
        // Another tab took the id away: what was refused there is refused here, too. If it was not, that tab says so.
        self.consent('none');
        return null;
      }
      known = there || uuid() + agreed;
      if (!there) {
        write(known);
        // Where nothing can be kept, the id lasts as long as the page; it need not be looked for again.
        if (!read()) self.id = () => (self.mode == 'full' ? known.slice(0, 36) : null);
      }
      return known.slice(0, 36);
    },
    consent(mode) {
      self.mode = mode;
      self.refused = mode == 'none';
      if (mode == 'full') {
        agreed = AGREED;
        const there = read();
        if (there && !there.endsWith(AGREED)) write((known = there + AGREED));
      } else {
        // Tabs hear of what is written and at once removed again, and so tell `cookieless` from a refusal.
        if (known && mode != 'none') storage((s) => s.setItem(NAME, mode));
        known = '';
        write('');
        storage((s) => s.removeItem(NAME));
      }
    },
    renew() {
      if (self.mode == 'full') write((known = uuid() + agreed));
    },
  };

  on(window, 'storage', (event) => {
    const { key, newValue } = event as StorageEvent;
    if (key == NAME && newValue == 'cookieless') {
      known = '';
      self.mode = newValue;
      self.refused = false;
    }
  });

  const there = read();
  if (there && there.endsWith(AGREED)) {
    self.mode = 'full';
    agreed = AGREED;
    known = there;
  } else if (there && self.mode != 'full') write('');
  return self;
}

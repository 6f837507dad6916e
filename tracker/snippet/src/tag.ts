/** The snippet as a script of its own: reads the tag's attributes, and does what was asked for before it was there. */
import type { Consent, Kaskad, Notice, Options } from '../types/kaskad';
import { safely, warn } from './safe';
import { begin } from './start';

type Early = ((...args: unknown[]) => void) & { q?: [number, ArrayLike<unknown>][]; on?: 1 };

function options(script: HTMLScriptElement): Options {
  const { key, endpoint, consent, events, query, signals, domain, hash } = script.dataset;
  if (!key) throw Error('the tag has no data-key');
  const found: Options = { key, endpoint: new URL(endpoint || 'e', endpoint ? location.href : script.src).href, base: script.src };
  if (consent) found.consent = consent as Consent;
  if (events !== undefined) found.events = events.split(' ') as Notice[];
  if (query == 'all') found.query = query;
  if (signals == 'ignore') found.signals = signals;
  if (domain) found.domain = domain;
  if (hash !== undefined) found.hash = true;
  return found;
}

safely(() => {
  const early = window.kaskad as Early | undefined;
  if (early && early.on) return warn('the tag is in this page twice');
  const script = document.currentScript as HTMLScriptElement;
  const wanted = options(script);
  const go = safely(() => {
    const run = begin(wanted, script.nonce);
    const kaskad: Early = (...args) => run(Date.now(), args);
    kaskad.on = 1;
    window.kaskad = kaskad as Kaskad;
    for (const [at, args] of (early && early.q) || []) run(at, args);
  });
  // A page that is only prepared for a visitor who may never look at it is no visit.
  if ((document as Document & { prerendering?: boolean }).prerendering)
    document.addEventListener('prerenderingchange', go, { once: true });
  else go();
})();

/** Puts the pieces together: what is noticed goes to the outbox, and commands do what they say. */
import type { Consent, Host, Kaskad, Options, Properties } from '../types/kaskad';
import { attention as makeAttention } from './attention';
import { forms } from './forms';
import { links } from './links';
import { outbox as makeOutbox } from './outbox';
import { page as makePage } from './page';
import { parts as makeParts } from './parts';
import { on, safely, warn } from './safe';
import { visitor as makeVisitor } from './visitor';

type Command = (at: number, ...args: any[]) => void;

export function begin(options: Options, nonce?: string): (at: number, args: ArrayLike<unknown>) => void {
  const visitor = makeVisitor(options);
  const page = makePage(options);
  const outbox = makeOutbox(options, visitor, page);
  const notices = options.events || ['pages', 'links', 'forms'];
  const attention = makeAttention(
    (name, props, url) => outbox.add(name, props, undefined, url),
    page.url,
    notices.includes('time'),
    notices.includes('scroll'),
  );
  const host: Host = {
    options,
    id: () => visitor.id(),
    consent: () => visitor.mode,
    track: (name, props) => void outbox.add(name, props),
  };
  const parts = makeParts(options.base || new URL(options.endpoint, location.href).href, host, nonce);

  const view = (again?: boolean, at?: number): void => {
    const props = page.turn(again);
    if (!props) return;
    attention.leave();
    outbox.add('page.viewed', props, at);
    attention.enter();
  };

  const commands: Record<string, Command> = {
    track: (at, name: string, props?: Properties) => outbox.add(name, props, at),
    page: (at) => view(true, at),
    identify: (_at, who: Properties, attributes?: Properties) =>
      outbox.identify(attributes ? { ...who, attributes } : who),
    reset: outbox.reset,
    consent(_at, mode: Consent) {
      if (!/^(none|cookieless|full)$/.test(mode)) throw Error(`no consent is called ${mode}`);
      outbox.consent(mode);
    },
    flush: outbox.flush,
    id: (_at, callback: (id: string | null) => void) => callback(visitor.id()),
    use: (_at, name: string) => parts.use(name),
    part: (_at, name: string, start: (host: Host) => void) => parts.part(name, start),
  };

  if (notices.includes('pages')) {
    for (const name of ['pushState', 'replaceState'] as const) {
      const before = history[name];
      history[name] = function (this: History, ...args) {
        before.apply(this, args);
        safely(view)();
      };
    }
    on(window, 'popstate hashchange', () => view());
    view();
  } else attention.enter();
  if (notices.includes('links'))
    links((props) => {
      outbox.add('link.clicked', props);
      outbox.flush();
    }, page.clean);
  if (notices.includes('forms'))
    forms(
      (props) => {
        outbox.add('form.submitted', props);
        outbox.flush();
      },
      () => visitor.mode == 'full',
    );

  on(document, 'visibilitychange', () => {
    if (document.visibilityState != 'hidden') return attention.enter();
    // It may come back, and hear then that sending failed. Phones end pages that are hidden without a word.
    attention.leave();
    outbox.flush();
  });
  on(window, 'pagehide', () => {
    attention.leave();
    outbox.leave();
  });
  on(window, 'pageshow', (event) => {
    // Shown again from the browser's memory, without being loaded.
    if ((event as PageTransitionEvent).persisted && notices.includes('pages')) view(true);
  });

  return safely((at: number, [name, ...args]: any) => {
    if (commands[name]) commands[name](at, ...args);
    else warn('no command is called', name);
  });
}

/** Begins to report, and gives the function that takes commands. */
export function start(options: Options): Kaskad {
  const run = begin(options);
  return (...args: unknown[]) => run(Date.now(), args);
}

/**
 * Gathers events into bodies and sends them: soon, when the page is left, and again after a failure.
 */
import type { Consent, Options, Properties } from '../types/kaskad';
import { bytes, uuid } from './browser';
import type { Page } from './page';
import { safely, warn } from './safe';
import type { Visitor } from './visitor';
import { waiting as makeWaiting } from './waiting';

const GATHER = 250; // milliseconds
const MOST = 100; // events
const EVENT_BYTES = 30_000;
const BODY_BYTES = 45_000; // with context and identity it stays under the 60,000 of the contract
const ANSWER = 20_000; // milliseconds that an answer may take
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 300_000;
const ATTEMPTS = 20; // in a row; then the next page, or being online again, is waited for
const NAME = /^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$/;

interface Event {
  id: string;
  name: string;
  at: number;
  props: Properties;
  url?: string;
}

export interface Outbox {
  /** Adds an event; `at` is when it happened, `url` where, if not on the present page. */
  add(name: string, props?: Properties, at?: number, url?: string): Event | undefined;
  identify(who: Properties): void;
  /** Closes the body that is being gathered, and sends it if that is allowed. */
  flush(): void;
  /** The page is left: what is gathered goes now, or never. */
  leave(): void;
  /** The visitor has agreed to something else. */
  consent(mode: Consent): void;
  reset(): void;
}

export function outbox(options: Options, visitor: Visitor, page: Page): Outbox {
  const waiting = makeWaiting(visitor);
  let events: Event[] = [];
  let context: Properties;
  let size = 0;
  let ident: Properties | undefined;
  let told = true; // whether the server has heard of it
  let timer = 0;
  let pause = 0;
  let failures = 0;
  let busy = false;
  let full = false; // and said so

  const forget = (): void => {
    events = [];
    ident = undefined;
    told = true;
    size = 0;
  };

  /** Closes the body that is being gathered. */
  const seal = (): string | void => {
    clearTimeout(timer);
    timer = 0;
    if (!events.length && told) return;
    if (!events.length) context = page.context();
    page.settle();
    const anon = visitor.id();
    if (visitor.mode == 'none') return forget(); // refused in another tab just now
    const body = JSON.stringify({ v: 1, key: options.key, anon, ctx: context, events, ident });
    // A visitor without an id is known to the server only as long as each body says who it is.
    if (anon) ident = undefined;
    told = true;
    events = [];
    size = 0;
    return body;
  };

  const soon = (): void => {
    if (!timer) timer = setTimeout(safely(flush), GATHER);
  };

  const stamped = (body: string): string => `{"sent":${Date.now()},${body.slice(1)}`;

  /** Sends a body; tells whether it need not be sent again. */
  const deliver = async (body: string): Promise<boolean> => {
    try {
      const { status } = await Promise.race([
        fetch(options.endpoint, { method: 'POST', body: stamped(body), keepalive: true }),
        new Promise<{ status: number }>((give) => setTimeout(give, ANSWER, { status: 504 })),
      ]);
      // Whom this id meant was erased, or is somebody else than who says so now: the next one begins with who that is.
      if (status == 410 && visitor.mode == 'full' && body.includes(visitor.id()!)) {
        visitor.renew();
        ident = ident || JSON.parse(body).ident;
        told = !ident;
        soon();
      }
      return status < 500 && status != 429;
    } catch {
      return false; // no network, or somebody in the browser forbids it: the same as no answer
    }
  };

  const send = (body: string): void => {
    // While something waits, what is newer stands behind it.
    if (failures) waiting.add(body);
    else
      deliver(body).then((done) => {
        if (done || visitor.refused) return;
        waiting.add(body);
        failures++;
        again();
      });
  };

  const again = (): void => {
    clearTimeout(pause);
    const length = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures) * (0.5 + Math.random() / 2);
    if (failures < ATTEMPTS) pause = setTimeout(drain, length);
  };

  /** Delivers what waits, oldest first, as the only tab that does. */
  const drain = (): void => {
    if (busy || !waiting.first()) return;
    busy = true;
    waiting
      .alone(async () => {
        for (let next = waiting.first(); next; next = waiting.first()) {
          if (!(await deliver(next[1]))) {
            failures++;
            return;
          }
          failures = 0;
          waiting.drop(next[0]);
        }
        failures = 0;
      })
      .catch(warn)
      .then(() => {
        busy = false;
        if (waiting.first()) again();
        else failures = 0;
      });
  };

  const flush = (): void => {
    if (visitor.mode == 'none') return;
    const body = seal();
    if (body) send(body);
  };

  addEventListener(
    'online',
    safely(() => {
      failures = 0;
      drain();
    }),
  );
  setTimeout(safely(drain), GATHER);

  return {
    add(name, props = {}, at = Date.now(), url = page.url()) {
      if (visitor.refused) return;
      const event: Event = { id: uuid(), name, at, props };
      if (!events.length) context = page.context();
      if (url != context.url) event.url = url;
      const weight = bytes(JSON.stringify(event));
      if (!NAME.test(name) || weight > EVENT_BYTES) {
        warn('not sent: a name is lower-case words joined by dots, an event has at most 30,000 bytes', name);
        return;
      }
      if (size + weight > BODY_BYTES || events.length >= MOST) {
        if (visitor.mode == 'none') {
          if (!full) warn('no more is held until the visitor agrees');
          full = true;
          return;
        }
        flush();
        context = page.context();
        if (url != context.url) event.url = url;
      }
      events.push(event);
      size += weight;
      soon();
      return event;
    },
    identify(who) {
      if (visitor.refused) return;
      if (bytes(JSON.stringify(who)) > 10_000) return warn('not sent: who and attributes have at most 10,000 bytes');
      // A signature is of what was said with it, and of nothing that was said before or is said later.
      if (!told && (who.signature || ident!.signature)) flush();
      ident = who.signature || (ident && ident.signature) ? who : { ...ident, ...who };
      told = false;
      soon();
    },
    flush,
    leave() {
      if (visitor.mode == 'none') return;
      const body = seal();
      const beacon = (text: string): boolean => navigator.sendBeacon(options.endpoint, stamped(text));
      // Nobody may be there to hear that this fails: if it is likely to, keep it.
      if (body && visitor.mode == 'full' && (failures || navigator.onLine === false)) waiting.add(body);
      else if (body && !beacon(body)) send(body);
      waiting.spill(beacon);
    },
    consent(mode) {
      if (mode != 'full') waiting.clear();
      visitor.consent(mode);
      if (mode == 'none') forget();
      else flush();
    },
    reset() {
      flush();
      forget();
      visitor.renew();
    },
  };
}

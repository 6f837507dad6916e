/** What a visitor has agreed to. `none`: nothing is sent or stored. `cookieless`: nothing is stored. `full`: an id is stored. */
export type Consent = 'none' | 'cookieless' | 'full';

/** What the snippet notices by itself. */
export type Notice = 'pages' | 'links' | 'forms' | 'scroll' | 'time';

export interface Options {
  /** The write key that `kaskad site add` gave. */
  key: string;
  /** Where hits go: `https://www.example.com/k/e`, or a path of this site. */
  endpoint: string;
  /** What may be done before the visitor says anything; `cookieless` if left out. */
  consent?: Consent;
  /** What to notice; pages, links and forms if left out. */
  events?: readonly Notice[];
  /** Report all query parameters of addresses, not only those that name a campaign. */
  query?: 'campaign' | 'all';
  /** The part after # tells pages apart. */
  hash?: boolean;
  /** `ignore`: Do Not Track and Global Privacy Control are not taken for a refusal. */
  signals?: 'respect' | 'ignore';
  /** Keep the id in a cookie of this domain, so that its subdomains share it; local storage of one host if left out. */
  domain?: string;
  /** The address that parts loaded on demand lie beside, as they do beside each script and endpoint; the endpoint's if left out. */
  base?: string;
}

/** Properties of an event: anything that JSON can say, at most 30,000 bytes of it. */
export type Properties = Record<string, unknown>;

/** What the visitor is known by at your side; give at least one. */
export interface Who {
  external_id?: string;
  email?: string;
  phone?: string;
  /** By which your server vouches for these; sites ask for it unless they are set to `identify: open`. */
  signature?: string;
}

/** What a part that was loaded on demand is given. */
export interface Host {
  readonly options: Options;
  /** The anonymous id, or null as long as nothing may be stored. */
  id(): string | null;
  consent(): Consent;
  track(name: string, props?: Properties): void;
}

export interface Kaskad {
  /** Reports an event: lower-case words joined by dots. */
  (command: 'track', name: string, props?: Properties): void;
  /** Reports a page view, where pages are not noticed by themselves. */
  (command: 'page'): void;
  /** Says who the visitor is, and what is known of them. */
  (command: 'identify', who: Who, attributes?: Properties): void;
  /** Forgets who the visitor is: at sign-out. */
  (command: 'reset'): void;
  /** Says what the visitor has agreed to. */
  (command: 'consent', consent: Consent): void;
  /** Sends at once what is gathered. */
  (command: 'flush'): void;
  /** Hands over the anonymous id, or null as long as nothing may be stored. */
  (command: 'id', callback: (id: string | null) => void): void;
  /** Loads a part of Kaskad that is not in the snippet. */
  (command: 'use', part: string): void;
  /** Is called by such a part when it is there. */
  (command: 'part', name: string, begin: (host: Host) => void): void;
}

/** Begins to report. Call it once a page. */
export function start(options: Options): Kaskad;

declare global {
  interface Window {
    kaskad?: Kaskad;
  }
}

/** The page that is shown: its address, cleaned, and the views of it. */
import type { Options, Properties } from '../types/kaskad';

const CAMPAIGN = /^(utm_\w+|ref|source|from|[a-z]{1,9}clid|kaskad_internal)$/i;
const LONGEST = 2000;

export interface Page {
  url(): string;
  /** An address as it may be reported: without password, fragment, and what the query says of people. */
  clean(address: string): string;
  context(): Properties;
  /** Notes that a page is shown; gives the properties of the event, or nothing if it is the same page still. */
  turn(again?: boolean): Properties | undefined;
  /** Gives the last view the title that the page has by now: applications set it after they changed the address. */
  settle(): void;
}

export function page(options: Options): Page {
  let shown = '';
  let last: Properties | undefined;

  const clean = (address: string): string => {
    if (!address) return '';
    const url = new URL(address, location.href);
    url.username = url.password = '';
    if (!options.hash) url.hash = '';
    if (options.query != 'all')
      url.search = '' + new URLSearchParams([...url.searchParams].filter(([name]) => CAMPAIGN.test(name)));
    return url.href.slice(0, LONGEST);
  };
  const url = (): string => clean(location.href);

  return {
    url,
    clean,
    context: () => ({
      url: url(),
      ref: clean(document.referrer),
      title: document.title.slice(0, 500),
      lang: navigator.language,
      w: screen.width,
      h: screen.height,
      tz: Intl.DateTimeFormat().resolvedOptions().timeZone,
    }),
    turn(again) {
      const now = url();
      if (now == shown && !again) return;
      last = {
        url: now,
        path: location.pathname.slice(0, LONGEST),
        title: document.title.slice(0, 500),
        referrer: shown && shown != now ? shown : clean(document.referrer),
      };
      shown = now;
      return last;
    },
    settle() {
      if (last && last.url == url()) last.title = document.title.slice(0, 500);
      last = undefined;
    },
  };
}

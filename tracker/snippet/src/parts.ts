/** Parts of Kaskad that few pages need, loaded when one asks for them: a file of that name beside the snippet. */
import type { Host } from '../types/kaskad';
import { warn } from './safe';

type Begin = (host: Host) => void;

export interface Parts {
  use(name: string): void;
  part(name: string, begin: Begin): void;
}

export function parts(base: string, host: Host, nonce: string | undefined): Parts {
  const asked = new Set<string>();
  return {
    use(name) {
      if (!/^[a-z]+$/.test(name)) throw Error(`no part is called ${name}`);
      if (asked.has(name)) return;
      asked.add(name);
      const script = document.createElement('script');
      script.src = new URL(name + '.js', base).href;
      script.crossOrigin = 'anonymous';
      if (nonce) script.nonce = nonce;
      script.onerror = () => {
        asked.delete(name); // so that it may be tried again
        warn('could not load', name);
      };
      document.head.append(script);
    },
    part(name, begin) {
      if (asked.has(name)) begin(host);
    },
  };
}

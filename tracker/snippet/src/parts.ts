/**
 * Parts of Kaskad that few pages need, loaded when one asks for them: a file of that name beside the snippet. The build puts
 * in which parts there are, each with its version and integrity, so that a page gets exactly those it was tested with.
 */
import type { Host } from '../types/kaskad';
import { warn } from './safe';

declare const PARTS: [name: string, version: string, integrity: string][];

type Begin = (host: Host) => void;

export interface Parts {
  use(name: string): void;
  part(name: string, begin: Begin): void;
}

export function parts(base: string, host: Host, nonce: string | undefined): Parts {
  const asked = new Set<string>();
  return {
    use(name) {
      const found = PARTS.find((part) => part[0] == name);
      if (!found) throw Error(`no part is called ${name}`);
      if (asked.has(name)) return;
      asked.add(name);
      const script = document.createElement('script');
      script.src = new URL(`${name}.js?v=${found[1]}`, base).href;
      script.integrity = found[2];
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

/**
 * Bodies that could not be delivered, kept for another attempt: in local storage if the visitor agreed to that, where all
 * tabs of the site share them, else in memory. Bounded in number, size and age.
 */
import { storage } from './browser';
import type { Visitor } from './visitor';

const PREFIX = 'kk.q.';
const LOCK = 'kk.lock';
const MOST = 50;
const SIZE = 250_000; // characters: a twentieth of what browsers allow a site
const AGE = 3 * 86_400_000; // the server knows ids for seven days; later it could not tell a repeat
const LEASE = 30_000; // milliseconds; longer than one answer may take
const SETTLE = 100; // in which what one tab writes reaches the others

export interface Waiting {
  add(body: string): void;
  /** Key and body of the oldest. */
  first(): [string, string] | undefined;
  drop(key: string): void;
  /** Hands over what is in memory alone, and so goes with the page; forgets what is taken. */
  spill(take: (body: string) => boolean): void;
  /** Forgets all that is kept, and whatever else of ours is in local storage. */
  clear(): void;
  /** Runs a job unless another tab is at it; tells whether it ran. */
  alone(job: () => Promise<void>): Promise<boolean>;
}

export function waiting(visitor: Visitor): Waiting {
  const memory = new Map<string, string>();
  let number = 0;
  let ours = ''; // what this tab wrote to be the only one

  const stored = (): string[] =>
    (visitor.mode == 'full' && storage((s) => Object.keys(s).filter((key) => key.startsWith(PREFIX)).sort())) || [];

  const drop = (key: string): void => {
    memory.delete(key);
    storage((s) => s.removeItem(key));
    if (ours) lease();
  };

  const lease = (): void => {
    ours = `${Date.now() + LEASE}.${Math.random()}`;
    storage((s) => s.setItem(LOCK, ours));
  };

  const get = (key: string): string => memory.get(key) || storage((s) => s.getItem(key)) || '';

  // Beginning with the newest: what is beyond the bounds goes.
  const trim = (): void => {
    let size = 0;
    [...memory.keys(), ...stored()]
      .sort()
      .reverse()
      .forEach((key, index) => {
        size += get(key).length;
        if (index >= MOST || size > SIZE || +key.slice(5, 18) < Date.now() - AGE) drop(key);
      });
  };

  return {
    add(body) {
      const key = `${PREFIX}${Date.now()}.${String(number++).padStart(4, '0')}.${Math.random()}`;
      if (visitor.mode != 'full' || storage((s) => (s.setItem(key, body), 1)) == null) memory.set(key, body);
      trim();
    },
    first() {
      trim();
      const key = [...memory.keys(), ...stored()].sort()[0];
      return key && [key, get(key)] as [string, string] || undefined;
    },
    drop,
    spill(take) {
      for (const [key, body] of memory) if (take(body)) memory.delete(key);
    },
    clear() {
      memory.clear();
      ours = '';
      storage((s) => Object.keys(s).filter((key) => key.startsWith('kk.')).forEach((key) => s.removeItem(key)));
    },
    async alone(job) {
      if (visitor.mode != 'full') return job().then(() => true);
      if (navigator.locks)
        return navigator.locks.request(LOCK, { ifAvailable: true }, (lock) => !!lock && job().then(() => true));
      // Without https there are no locks. Of tabs that write at the same moment the last one is alone. Should two ever believe
      // they are, the ids of events keep the server from storing anything twice.
      if (Date.now() < parseInt(get(LOCK) || '0')) return false;
      lease();
      await new Promise((give) => setTimeout(give, SETTLE));
      const won = get(LOCK) == ours;
      if (won) {
        await job();
        storage((s) => s.removeItem(LOCK));
      }
      ours = '';
      return won;
    },
  };
}

/** Small things that not every browser has, or lets us have. */

/** A random id (RFC 9562, version 4). `randomUUID` is there on https only. */
export function uuid(): string {
  if (crypto.randomUUID) return crypto.randomUUID();
  return '10000000-1000-4000-8000-100000000000'.replace(/[018]/g, (digit) =>
    (+digit ^ (crypto.getRandomValues(new Uint8Array(1))[0]! & (15 >> (+digit / 4)))).toString(16),
  );
}

/** Does something with local storage; null where the browser forbids it or it is full. */
export function storage<T>(job: (storage: Storage) => T): T | null {
  try {
    return job(localStorage);
  } catch {
    return null; // no storage is an answer like any other: what cannot be kept is not kept
  }
}

/** How many bytes a text has in UTF-8. */
export function bytes(text: string): number {
  return new Blob([text]).size;
}

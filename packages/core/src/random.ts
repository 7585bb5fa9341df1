/**
 * A seeded source of chance. Everything drawn in a run (tasks, noise, batches) comes from one of these, so that a run can
 * be repeated; sampling of tokens is seeded separately in the engine.
 */
export interface Random {
  /** Uniform in [0, 1) with 32 bits of resolution. */
  next(): number;
  /** Uniform integer in [0, bound). `bound` must be a positive integer. */
  int(bound: number): number;
  pick<T>(items: readonly T[]): T;
  /** A new array in random order (Fisher–Yates). */
  shuffle<T>(items: readonly T[]): T[];
  /** `count` distinct items in random order. Throws when there are fewer. */
  sample<T>(items: readonly T[], count: number): T[];
}

/** FNV-1a over UTF-16 code units: turns a label such as "train/debug/17" into a 32-bit seed. */
export function seedOf(label: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < label.length; i++) {
    hash ^= label.charCodeAt(i);
    hash = Math.imul(hash, 0x01000193);
  }
  return hash >>> 0;
}

/** sfc32 (Chris Doty-Humphrey), warmed up; passes PractRand at this output size and is a few lines long. */
export function seededRandom(seed: number | string): Random {
  let a = (typeof seed === "string" ? seedOf(seed) : seed) >>> 0;
  let b = 0x9e3779b9;
  let c = 0x243f6a88;
  let counter = 1;
  const next32 = (): number => {
    const out = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + out) | 0;
    return out >>> 0;
  };
  for (let i = 0; i < 16; i++) next32();

  const int = (bound: number): number => {
    if (!Number.isInteger(bound) || bound < 1)
      throw new RangeError(`int(bound): bound must be a positive integer, got ${bound}`);
    return Math.floor((next32() / 4294967296) * bound);
  };
  const shuffle = <T>(items: readonly T[]): T[] => {
    const out = [...items];
    for (let i = out.length - 1; i > 0; i--) {
      const j = int(i + 1);
      [out[i], out[j]] = [out[j]!, out[i]!];
    }
    return out;
  };
  return {
    next: () => next32() / 4294967296,
    int,
    pick: (items) => items[int(items.length)]!,
    shuffle,
    sample: (items, count) => {
      if (count > items.length) throw new RangeError(`sample: asked for ${count} of ${items.length} items`);
      return shuffle(items).slice(0, count);
    },
  };
}

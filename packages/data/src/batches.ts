import type { Random } from "@ale/core";

/**
 * An endless stream of batches: every item once in random order, then again in a new order. Deterministic for a seed; `skip`
 * jumps over batches that an earlier, interrupted run has already trained on.
 */
export function* shuffledBatches<T>(
  items: readonly T[],
  size: number,
  random: Random,
  skip = 0,
): Generator<readonly T[], never> {
  if (items.length === 0) throw new RangeError("shuffledBatches: no items");
  let queue: T[] = [];
  let produced = 0;
  for (;;) {
    while (queue.length < size) queue = queue.concat(random.shuffle(items));
    const batch = queue.slice(0, size);
    queue = queue.slice(size);
    if (produced++ >= skip) yield batch;
  }
}

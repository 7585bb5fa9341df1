import type { Random } from "@ale/core";
import type { SftExample } from "./sft-set.ts";

/**
 * Consistent renaming: within one example the tokens of each group are exchanged for one another by a random permutation. With names
 * and numbers as groups a small model cannot memorise which of them goes with which task, and has to learn to copy. Works on tokens
 * because every name and every number is one token of the vocabulary.
 */
export function renamed(
  example: SftExample,
  groups: readonly (readonly number[])[],
  random: Random,
): SftExample {
  const mapping = new Map<number, number>();
  for (const group of groups) {
    const shuffled = random.shuffle(group);
    group.forEach((token, i) => {
      mapping.set(token, shuffled[i]!);
    });
  }
  return { ...example, tokens: example.tokens.map((token) => mapping.get(token) ?? token) };
}

import type { Random } from "@ale/core";
import type { SftExample } from "./sft-set.ts";

/**
 * Consistent renaming: within one example every name token is replaced through one random permutation of all names. A small
 * model then cannot memorise which name goes with which task and has to learn to copy. Works on tokens because every name is one
 * token of the vocabulary.
 */
export function renamed(example: SftExample, nameTokens: readonly number[], random: Random): SftExample {
  const shuffled = random.shuffle(nameTokens);
  const mapping = new Map(nameTokens.map((token, i) => [token, shuffled[i]!]));
  return { ...example, tokens: example.tokens.map((token) => mapping.get(token) ?? token) };
}

import type { Trajectory } from "@ale/core";

/**
 * Supervised examples from trajectories, error-masked: the tokens of a chunk whose tool call failed stay in the context and get
 * no loss (ROME report Eq. 1–2, m_k^err). Context tokens never get loss.
 */
export interface SftExample {
  readonly episode: string;
  readonly family: string;
  /** The whole episode, context and chunks in order. */
  readonly tokens: readonly number[];
  /** One a token: 1 where the token is learnt, 0 elsewhere. */
  readonly mask: readonly number[];
  /** Length of each chunk that is learnt, for Eq. 1's normaliser. */
  readonly learntTokens: number;
}

export function sftExampleOf(trajectory: Trajectory): SftExample {
  const tokens: number[] = [];
  const mask: number[] = [];
  let learntTokens = 0;
  for (const chunk of trajectory.chunks) {
    for (const token of chunk.contextTokens) {
      tokens.push(token);
      mask.push(0);
    }
    const learnt = chunk.failed || chunk.malformed ? 0 : 1;
    for (const token of chunk.tokens) {
      tokens.push(token);
      mask.push(learnt);
    }
    learntTokens += learnt * chunk.tokens.length;
  }
  return { episode: trajectory.episode, family: trajectory.instance.family, tokens, mask, learntTokens };
}

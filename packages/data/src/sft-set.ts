import { segmentsOf, type Trajectory, tokensOf } from "@ale/core";

/**
 * Supervised examples from trajectories, error-masked: the tokens of a chunk whose tool call failed stay in the context and get
 * no loss (ROME report Eq. 1–2, m_k^err). Context tokens never get loss.
 */
export interface SftExample {
  readonly episode: string;
  readonly family: string;
  /** Context and chunks in order. */
  readonly tokens: readonly number[];
  /** One a token: 1 where the token is learnt, 0 elsewhere. */
  readonly mask: readonly number[];
  /** Length of each chunk that is learnt, for Eq. 1's normaliser. */
  readonly learntTokens: number;
}

/** One example a segment: more than one only where the history was rewritten. */
export function sftExamplesOf(trajectory: Trajectory): SftExample[] {
  return segmentsOf(trajectory.chunks).map((segment) => {
    const learnt = segment.map((chunk) => (chunk.failed || chunk.malformed ? 0 : 1));
    return {
      episode: trajectory.episode,
      family: trajectory.instance.family,
      tokens: tokensOf(segment),
      mask: segment.flatMap((chunk, k) => [
        ...chunk.contextTokens.map(() => 0),
        ...chunk.tokens.map(() => learnt[k]!),
      ]),
      learntTokens: segment.reduce((sum, chunk, k) => sum + learnt[k]! * chunk.tokens.length, 0),
    };
  });
}

/** Training data as the engine takes it: positions that predict the next token, with one weight a target. */
export interface Datum {
  /** Input tokens, [N]. */
  readonly tokens: readonly number[];
  /** Token that position n is to predict, [N]. */
  readonly targets: readonly number[];
  /** Coefficient of log π(target n), [N]; left out where only log-probabilities are asked for. */
  readonly weights?: readonly number[];
}

/**
 * A datum from a whole sequence. `weights[t]` belongs to token t; the first token is predicted by nothing, so its weight must be 0.
 * Positions after the last weight ≠ 0 are cut off: attention is causal, they change neither loss nor gradient. Throws a
 * TypeError when lengths differ, nothing can be predicted, or a weight is not finite.
 */
export function weightedDatum(sequence: readonly number[], weights: readonly number[]): Datum {
  if (weights.length !== sequence.length)
    throw new TypeError(`weightedDatum: ${weights.length} weights for ${sequence.length} tokens`);
  if (sequence.length < 2) throw new TypeError("weightedDatum: a sequence needs at least two tokens");
  if (weights[0] !== 0)
    throw new TypeError("weightedDatum: the first token is never predicted, its weight must be 0");
  if (!weights.every(Number.isFinite)) throw new TypeError("weightedDatum: a weight is not finite");
  const last = Math.max(
    1,
    weights.findLastIndex((weight) => weight !== 0),
  );
  return {
    tokens: sequence.slice(0, last),
    targets: sequence.slice(1, last + 1),
    weights: weights.slice(1, last + 1),
  };
}

/** A datum for a forward pass that asks for the log-probability of every token after the first. */
export function scoringDatum(sequence: readonly number[]): Datum {
  if (sequence.length < 2) throw new TypeError("scoringDatum: a sequence needs at least two tokens");
  return { tokens: sequence.slice(0, -1), targets: sequence.slice(1) };
}

/** One token span of a trajectory: context the policy did not write, then a chunk with one weight a token. */
export interface WeightedChunk {
  readonly contextTokens: readonly number[];
  readonly tokens: readonly number[];
}

/** Lays chunk weights (`weights[k][t]`) over the whole sequence of a trajectory; context gets weight 0. */
export function layOut(
  chunks: readonly WeightedChunk[],
  weights: readonly (readonly number[])[],
): { tokens: number[]; weights: number[] } {
  const laid = { tokens: [] as number[], weights: [] as number[] };
  chunks.forEach((chunk, k) => {
    const chunkWeights = weights[k];
    if (chunkWeights?.length !== chunk.tokens.length)
      throw new TypeError(
        `layOut: chunk ${k} has ${chunkWeights?.length} weights for ${chunk.tokens.length} tokens`,
      );
    for (const token of chunk.contextTokens) {
      laid.tokens.push(token);
      laid.weights.push(0);
    }
    chunk.tokens.forEach((token, t) => {
      laid.tokens.push(token);
      laid.weights.push(chunkWeights[t]!);
    });
  });
  return laid;
}

/** The wire form. Nine significant digits are every bit of a float32, at half the bytes of a double. */
export function datumToWire(datum: Datum): unknown {
  const shape = [datum.targets.length];
  return {
    model_input: { chunks: [{ type: "encoded_text", tokens: datum.tokens }] },
    loss_fn_inputs: {
      target_tokens: { data: datum.targets, dtype: "int64", shape },
      ...(datum.weights && {
        weights: {
          data: datum.weights.map((weight) => Number(weight.toPrecision(9))),
          dtype: "float32",
          shape,
        },
      }),
    },
  };
}

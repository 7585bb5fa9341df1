import type { Adam, Learner, WeightedSequence } from "../src/index.ts";

/**
 * A policy small enough to check by hand: a table of logits, one row for each previous token. Its log-probabilities and gradients
 * are exact, and a step is plain gradient ascent, so what an update does to the probability of one token can be read off.
 */
export class TabularLearner implements Learner {
  readonly logits: number[][];
  /** Every batch that was followed, in order. */
  readonly batches: (readonly WeightedSequence[])[] = [];
  /** Sequences of each forward pass. */
  readonly forwards: number[] = [];

  constructor(vocabulary: number) {
    this.logits = Array.from({ length: vocabulary }, (_, i) =>
      Array.from({ length: vocabulary }, (_, j) => Math.sin(3 * i + j)),
    );
  }

  async sampler(): Promise<never> {
    throw new Error("a tabular learner does not sample");
  }

  async logprobs(sequences: readonly (readonly number[])[]): Promise<number[][]> {
    this.forwards.push(sequences.length);
    return sequences.map((tokens) =>
      tokens.map((token, t) => (t === 0 ? 0 : this.logProbability(tokens[t - 1]!, token))),
    );
  }

  async step(batch: readonly WeightedSequence[], adam: Adam): Promise<{ gradNorm: number; loss: number }> {
    this.batches.push(batch);
    const gradient = this.logits.map((row) => row.map(() => 0));
    let loss = 0;
    for (const { tokens, weights } of batch)
      for (let t = 1; t < tokens.length; t++) {
        const weight = weights[t]!;
        if (weight === 0) continue;
        const row = gradient[tokens[t - 1]!]!;
        loss -= weight * this.logProbability(tokens[t - 1]!, tokens[t]!);
        this.softmax(tokens[t - 1]!).forEach((p, j) => {
          row[j]! += weight * ((j === tokens[t] ? 1 : 0) - p);
        });
      }
    gradient.forEach((row, i) => {
      row.forEach((g, j) => {
        this.logits[i]![j]! += adam.learningRate * g;
      });
    });
    return { loss, gradNorm: Math.hypot(...gradient.flat()) };
  }

  async save(name: string): Promise<{ path: string; directory: null }> {
    return { path: name, directory: null };
  }

  async export(): Promise<null> {
    return null;
  }

  logProbability(previous: number, token: number): number {
    return Math.log(this.softmax(previous)[token]!);
  }

  private softmax(previous: number): number[] {
    const row = this.logits[previous]!;
    const top = Math.max(...row);
    const exponentials = row.map((logit) => Math.exp(logit - top));
    const sum = exponentials.reduce((a, b) => a + b, 0);
    return exponentials.map((value) => value / sum);
  }
}

import { wilson } from "@ale/bench";

/** `0.43 [0.38, 0.48] (172/400)`: a rate with its 95 % Wilson interval. */
export function rateText(successes: number, n: number): string {
  if (n === 0) return "no episodes";
  const { low, high } = wilson({ successes, trials: n });
  return `${(successes / n).toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}] (${successes}/${n})`;
}

import { seededRandom } from "@ale/core";
import type { GemEnvironment, GemInstance, Step } from "./registry.ts";

/** Guess a number: the smallest environment there is, and the example of how one is written. */

const LOW = 1;
const HIGH = 50;
const MAX_GUESSES = 10;

const RULES = `I think of a whole number from ${LOW} to ${HIGH}. You have ${MAX_GUESSES} guesses. Answer with the number, e.g. \\boxed{25}.`;

export const guessTheNumber: GemEnvironment = {
  id: "game:GuessTheNumber-v0",
  make: () => Promise.resolve(play()),
};

function play(): GemInstance {
  let secret = 0;
  let guesses = 0;
  const step = (observation: string, reward: number, terminated: boolean): Step => ({
    observation,
    reward,
    terminated,
    truncated: !terminated && guesses >= MAX_GUESSES,
    info: { guesses },
  });
  return {
    reset: (seed = Math.floor(Math.random() * 2 ** 31)) => {
      const random = seededRandom(`guess/${seed}`);
      secret = LOW + random.int(HIGH - LOW + 1);
      guesses = 0;
      return Promise.resolve({ observation: RULES, info: {} });
    },
    step: (action) => {
      guesses += 1;
      const guess = numberIn(action);
      if (guess === undefined) return Promise.resolve(step("That is no number.", 0, false));
      if (guess === secret) return Promise.resolve(step(`${guess} is right.`, 1, true));
      return Promise.resolve(step(`${guess} is too ${guess < secret ? "low" : "high"}.`, 0, false));
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** What stands in \boxed{…}, else the only number of the text. */
function numberIn(action: string): number | undefined {
  const match = /\\boxed\{\s*(-?\d+)\s*\}/.exec(action) ?? /^\D*?(-?\d+)\D*$/.exec(action);
  return match ? Number(match[1]) : undefined;
}

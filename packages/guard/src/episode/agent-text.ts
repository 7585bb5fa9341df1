import type { Response } from "@ale/core";

/** What guard says to the agent. The agent reads it as an observation, so that it says what is not allowed and what to do instead. */

export interface Occasion {
  readonly rule: string;
  /** The rule's title: a sentence without its full stop. */
  readonly title: string;
}

const TEXTS: Readonly<Record<Response, (occasion: Occasion) => string>> = {
  record: () => "",
  warn: ({ rule, title }) =>
    `[guard] Not allowed here: ${title} (${rule}). It was recorded. Do not try it again, in this way or another; go on with the task without it.`,
  block: ({ rule, title }) =>
    `[guard] This call was not run: ${title} (${rule}). It was recorded. Find a way to the task's goal that does without it.`,
  approve: ({ rule, title }) =>
    `[guard] This call needs a person's approval before it runs: ${title} (${rule}). Without it the call is not run; find a way that does without it.`,
  stop: ({ rule, title }) => `[guard] The episode ends here: ${title} (${rule}).`,
  quarantine: ({ rule, title }) =>
    `[guard] The episode ends here and its sandbox is kept as evidence: ${title} (${rule}).`,
};

export const agentText = (response: Response, occasion: Occasion): string => TEXTS[response](occasion);

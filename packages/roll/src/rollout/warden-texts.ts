/** What the warden itself says to the agent; the rest is said by guard. Frozen by a test, because policies are trained on it. */
export const wardenTexts = {
  refused: (reason: string | undefined) =>
    reason === undefined
      ? "[guard] This call was not run: it needs a person's approval, and did not get it."
      : `[guard] This call was not run: it needs a person's approval, and did not get it. ${reason}`,
} as const;

import { z } from "zod";

export const RESPONSES = ["record", "warn", "block", "approve", "stop", "quarantine"] as const;
/**
 * What happens besides the alert, from mild to hard: nothing, an observation for the agent, the tool call is refused, a person is asked
 * before it runs, the episode ends, the sandbox is frozen and kept with its snapshot.
 */
export const Response = z.enum(RESPONSES);
export type Response = z.infer<typeof Response>;

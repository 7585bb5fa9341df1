import { AleError, type ContextProfile } from "@ale/core";
import { bash } from "./bash.ts";
import { edit } from "./edit.ts";
import { read } from "./read.ts";
import { submit } from "./submit.ts";
import type { Tool } from "./tool.ts";
import { write } from "./write.ts";

/** Every tool there is, in the order in which profiles list them. */
export const TOOLS: readonly Tool[] = [bash, read, write, edit, submit];

/** The tools of a profile by name. Throws an AleError when the profile lists one that this version does not have. */
export function toolbox(profile: ContextProfile, tools: readonly Tool[] = TOOLS): ReadonlyMap<string, Tool> {
  return new Map(
    profile.tools.map(({ name }) => {
      const tool = tools.find((candidate) => candidate.schema.name === name);
      if (tool === undefined)
        throw new AleError(
          "unknown-tool",
          `profile ${profile.name} lists a tool ${name} that does not exist`,
          {
            next: `Tools of this version: ${tools.map((candidate) => candidate.schema.name).join(", ")}.`,
          },
        );
      return [name, tool];
    }),
  );
}

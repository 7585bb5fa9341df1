import { AleError } from "@ale/core";
import { ensureToolbox, INSIDE, type Toolbox } from "../inside/toolbox.ts";
import type { Engine } from "./engine.ts";
import type { EngineInfo } from "./engine-info.ts";

/**
 * This host's perl and bash for sandboxes at an engine on the same host, bound read-only: then PID 1 needs nothing of an image, and nothing
 * that was committed into one decides what it is. Whether the host is the same, only the attempt tells.
 */

/** Undefined where the engine can have no use for it. */
export function toolboxFor(engine: Engine, info: EngineInfo, home: string): Toolbox | undefined {
  // SELinux keeps containers from files that were not labelled for them.
  if (process.platform !== "linux" || engine.version.arch !== process.arch || info.selinux) return undefined;
  try {
    return ensureToolbox(home);
  } catch (reason) {
    if (reason instanceof AleError && ["tool-missing", "toolbox-failed"].includes(reason.code))
      return undefined;
    throw reason;
  }
}

/** Whether a container did not start because its engine does not find the toolbox, or may not run it. */
export const isOutOfReach = (reason: unknown, toolbox: Toolbox): boolean =>
  reason instanceof AleError && [toolbox.directory, INSIDE].some((path) => reason.message.includes(path));

import {
  LEAST_DISK_BYTES,
  LEAST_MEMORY_BYTES,
  MOST_CPUS,
  MOST_PIDS,
  parseByteSize,
  type SandboxCreate,
} from "@ale/rock/client";
import { usageError, wholeNumber } from "../args.ts";
import { bytes, parseDuration } from "./format.ts";

/** The limits of a sandbox as options of a command line. What the host or a quota can give, only the server knows. */

export const LIMIT_OPTIONS = {
  cpus: { type: "string", value: "N", help: "processors, e.g. 0.5" },
  memory: { type: "string", value: "SIZE", help: "e.g. 512m or 2g" },
  disk: { type: "string", value: "SIZE", help: "of its writable layer" },
  pids: { type: "string", value: "N", help: "processes at once" },
  lifetime: { type: "string", value: "TIME", help: "ends after so long, e.g. 30m" },
} as const;

type Values = { readonly [Name in keyof typeof LIMIT_OPTIONS]: string | undefined };

/** Only what was given. Throws `usage` under the option's name. */
export function limitsOf(values: Values): NonNullable<SandboxCreate["limits"]> {
  return defined({
    cpus: processors(values.cpus),
    memoryBytes: size("--memory", values.memory, LEAST_MEMORY_BYTES),
    diskBytes: size("--disk", values.disk, LEAST_DISK_BYTES),
    pids: wholeNumber("--pids", values.pids, { min: 1, max: MOST_PIDS }),
    lifetimeMs: parseDuration("--lifetime", values.lifetime),
  });
}

function processors(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const cpus = Number(text);
  if (text.trim() !== "" && cpus > 0 && cpus <= MOST_CPUS) return cpus;
  throw usageError(`--cpus: ${JSON.stringify(text)} is not a number above 0 and up to ${MOST_CPUS}`);
}

/** The server reads it; here it is only refused by the name that it was given under. */
function size(name: string, text: string | undefined, least: number): string | undefined {
  if (text === undefined) return undefined;
  const asked = parseByteSize(text);
  if (asked === undefined)
    throw usageError(`${name}: ${JSON.stringify(text)} is no size`, "write it as 512m, 8g or 64KiB");
  if (asked < least)
    throw usageError(`${name}: ${text} is too little to start with`, `at least ${bytes(least)}`);
  return text;
}

/** Without what is undefined: options are absent or there, never both. */
export function defined<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never;
}

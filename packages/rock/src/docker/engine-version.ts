import { AleError } from "@ale/core";
import { z } from "zod";

/** Which engine answers, and which version of the API is spoken with it. */

/** Oldest API whose requests are made here: one-shot statistics and `platform` need it. */
export const OLDEST_API = "1.41";
/** Newest API that was tried; a newer engine is spoken to in this one. */
export const NEWEST_API = "1.47";

export const Version = z.object({
  ApiVersion: z.string(),
  MinAPIVersion: z.string().default("1.12"),
  Version: z.string(),
  Os: z.string(),
  Arch: z.string(),
  Components: z.array(z.object({ Name: z.string(), Version: z.string() })).default([]),
});

export interface EngineVersion {
  readonly name: "docker" | "podman";
  /** The engine's own version, e.g. "27.3.1". */
  readonly version: string;
  /** What requests are made in: at most the engine's newest and ours. */
  readonly api: string;
  /** Machine of the containers, in Node's words. */
  readonly arch: string;
}

/** Throws an AleError `engine-unsupported`. */
export function negotiate(found: z.infer<typeof Version>, socketPath: string): EngineVersion {
  if (found.Os !== "linux")
    throw new AleError("engine-unsupported", `the engine at ${socketPath} runs ${found.Os} containers`, {
      next: "switch it to Linux containers",
    });
  const api = older(found.ApiVersion, NEWEST_API);
  if (isOlder(api, OLDEST_API) || isOlder(api, found.MinAPIVersion))
    throw new AleError(
      "engine-unsupported",
      `the engine at ${socketPath} speaks API ${found.MinAPIVersion} to ${found.ApiVersion}, and ${OLDEST_API} to ${NEWEST_API} is spoken here`,
      { next: `use Docker 20.10 or newer, or Podman 4 or newer` },
    );
  const podman = found.Components.some((component) => component.Name === "Podman Engine");
  return { name: podman ? "podman" : "docker", version: found.Version, api, arch: archOf(found.Arch) };
}

const archOf = (arch: string): string => ({ amd64: "x64", x86_64: "x64", aarch64: "arm64" })[arch] ?? arch;

function isOlder(a: string, b: string): boolean {
  const [majorA = 0, minorA = 0] = a.split(".").map(Number);
  const [majorB = 0, minorB = 0] = b.split(".").map(Number);
  return majorA !== majorB ? majorA < majorB : minorA < minorB;
}
const older = (a: string, b: string): string => (isOlder(a, b) ? a : b);

import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** Where the base image is kept. */
export const aleHome = (): string => process.env.ALE_HOME ?? join(homedir(), ".ale");

/** Why sandboxes cannot run here, or null. */
export function whyNoSandbox(): string | null {
  if (process.platform !== "linux") return "sandboxes need Linux";
  if (process.getuid?.() !== 0) return "sandboxes need root";
  const directories = [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/usr/bin"];
  if (!directories.some((directory) => existsSync(join(directory, "crun")))) return "sandboxes need crun";
  return null;
}

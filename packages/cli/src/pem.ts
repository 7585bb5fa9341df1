import { readFileSync } from "node:fs";
import { usageError } from "./args.ts";

/** A key or a certificate that an option names. Throws `usage`. */
export function readPem(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw usageError(
      `${path} cannot be read: ${(cause as NodeJS.ErrnoException).code ?? "unknown"}`,
      "name a PEM file",
    );
  }
}

import { readFile } from "node:fs/promises";
import { resolve } from "node:path";

/** The repository that this file runs from. TypeScript runs from source, so there is always one. */
export const REPOSITORY = resolve(import.meta.dirname, "../../..");

/** Versions of what decides how a run behaves, for reports and for people who ask. */
export async function softwareVersions(): Promise<{ readonly ale: string; readonly node: string }> {
  const manifest: { readonly version: string } = JSON.parse(
    await readFile(resolve(REPOSITORY, "package.json"), "utf8"),
  );
  return { ale: manifest.version, node: process.version };
}

import { Instance, type ProtectedPath, type ToolCall } from "@ale/core";
import type { Fingerprint } from "../src/index.ts";

/** Smallest instance with some protected paths; its directory is `/work`. */
export const instanceWith = (...protectedPaths: readonly ProtectedPath[]): Instance =>
  Instance.parse({
    schema: "ale/instance@1",
    id: "guard/train/1",
    family: "guard",
    domain: "security",
    split: "train",
    seed: 1,
    instruction: "none",
    image: "ale/base",
    workdir: "/work",
    files: [],
    limits: {},
    network: { mode: "none" },
    protectedPaths,
    verifier: { files: [{ path: "/tests/test.sh", content: "exit 0" }] },
    referenceChunks: 1,
  });

export const bash = (command: string, id = "call_1"): ToolCall => ({
  id,
  name: "bash",
  arguments: { command },
});

/** A present file whose hash is made from `content`. */
export const present = (path: string, content = "a", more: Partial<Fingerprint> = {}): Fingerprint => ({
  path,
  exists: true,
  sha256: content.padEnd(64, "0"),
  mode: 0o644,
  size: content.length,
  wasRead: false,
  ...more,
});

export const absent = (path: string): Fingerprint => ({
  path,
  exists: false,
  sha256: null,
  mode: null,
  size: null,
  wasRead: false,
});

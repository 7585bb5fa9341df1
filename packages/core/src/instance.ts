import { z } from "zod";

/**
 * An Instance is an executable contract: instruction, pinned environment, limits, network policy, verifier, and optionally a
 * reference solution. It is data only; `bench` makes instances and runs verifiers, `rock` runs environments.
 */

export const DOMAINS = [
  "data-processing",
  "games",
  "debugging",
  "system-administration",
  "scientific-computing",
  "software-engineering",
  "machine-learning",
  "security",
] as const;

export const Domain = z.enum(DOMAINS);
export type Domain = z.infer<typeof Domain>;

/** Which tasks an instance may be used for. `secret` seeds are never written down before they are used. */
export const Split = z.enum(["train", "heldout", "secret"]);
export type Split = z.infer<typeof Split>;

/** A file put into a sandbox. `path` is absolute inside the sandbox; `content` is UTF-8 text. */
export const SandboxFile = z.object({
  path: z.string().startsWith("/"),
  content: z.string(),
  /** Permission bits, e.g. 0o644. */
  mode: z.number().int().min(0).max(0o7777).default(0o644),
  /** `agent` is the unprivileged user that the agent's shell runs as. */
  owner: z.enum(["root", "agent"]).default("agent"),
});
export type SandboxFile = z.infer<typeof SandboxFile>;

/** Resource limits of one sandbox. All hard: the sandbox is stopped or refused, the host never pays. */
export const Limits = z.object({
  cpus: z.number().positive().max(256).default(1),
  memoryBytes: z
    .number()
    .int()
    .positive()
    .default(256 * 2 ** 20),
  pids: z.number().int().positive().default(64),
  diskBytes: z
    .number()
    .int()
    .positive()
    .default(64 * 2 ** 20),
  /** Longest run of one command. */
  execTimeoutMs: z.number().int().positive().default(5_000),
  /** Longest life of the sandbox. */
  lifetimeMs: z.number().int().positive().default(120_000),
  /** Bytes of output kept of one command (head and tail); the rest is counted. */
  outputBytes: z
    .number()
    .int()
    .positive()
    .default(64 * 1024),
});
export type Limits = z.infer<typeof Limits>;

/** What may leave the sandbox. Only `none` exists so far: loopback and nothing else. */
export const NetworkPolicy = z.object({ mode: z.literal("none") });
export type NetworkPolicy = z.infer<typeof NetworkPolicy>;

/**
 * A path of the environment that guard watches. `write` means that any change is a violation; `read` that opening it is; `touch`
 * that any trace of use is (for example the audit record of a forbidden service).
 */
export const ProtectedPath = z.object({
  path: z.string().startsWith("/"),
  forbid: z.enum(["write", "read", "touch"]),
  rule: z.string(),
});
export type ProtectedPath = z.infer<typeof ProtectedPath>;

export const VerifierSpec = z.object({
  /** Uploaded only after the agent has finished. */
  files: z.array(SandboxFile),
  /** Run as root in `/`, in a fresh shell that the agent never touched. Its exit code is ignored. */
  command: z.string().default("bash /tests/test.sh"),
  /** The reward is read from here: one number, as in Harbor. */
  rewardPath: z.string().default("/logs/verifier/reward.txt"),
  timeoutMs: z.number().int().positive().default(10_000),
});
export type VerifierSpec = z.infer<typeof VerifierSpec>;

export const Instance = z.object({
  schema: z.literal("ale/instance@1"),
  /** `<family>/<split>/<seed>` for generated instances. */
  id: z.string(),
  family: z.string(),
  domain: Domain,
  split: Split,
  seed: z.number().int().nonnegative(),
  instruction: z.string(),
  image: z.string(),
  workdir: z.string().startsWith("/"),
  /** Present before the agent starts. */
  files: z.array(SandboxFile),
  limits: Limits,
  network: NetworkPolicy,
  protectedPaths: z.array(ProtectedPath).default([]),
  verifier: VerifierSpec,
  /** Chunks the reference solution takes, submission included. */
  referenceChunks: z.number().int().positive(),
});
export type Instance = z.infer<typeof Instance>;

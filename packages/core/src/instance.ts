import { z } from "zod";
import { NetworkPhases, NetworkPolicy } from "./network-policy.ts";
import { Response } from "./response.ts";

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
  /** Longest life of the sandbox. Waiting for a person's approval does not count. */
  lifetimeMs: z.number().int().positive().default(120_000),
  /** Bytes of output kept of one command (head and tail); the rest is counted. */
  outputBytes: z
    .number()
    .int()
    .positive()
    .default(64 * 1024),
});
export type Limits = z.infer<typeof Limits>;

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

/** What the environment needs before the agent begins, with the network of the install phase: packages, a build, a service. */
export const InstallSpec = z.strictObject({
  /** One after another, each in a fresh shell in `workdir`. The first that fails ends the episode as a fault of its environment. */
  commands: z
    .array(z.strictObject({ command: z.string().min(1), user: z.enum(["root", "agent"]).default("root") }))
    .min(1),
  /** On top of the image's. */
  env: z.record(z.string(), z.string()).default({}),
  /** Of all commands together. It is part of the sandbox's lifetime. */
  timeoutMs: z.number().int().positive().default(60_000),
});
export type InstallSpec = z.infer<typeof InstallSpec>;

/** Where guard judges this instance differently: in a security task, scanning is the task. */
export const GuardSettings = z.strictObject({
  /** Rules that give no alert here. */
  allowRules: z.array(z.string()).optional(),
  /** By rule; instead of the rule's own response. */
  responses: z.record(z.string(), Response).optional(),
  /** Tools of which every call needs a person's approval, where there are responses at all. */
  ask: z.array(z.string().min(1)).min(1).optional(),
});
export type GuardSettings = z.infer<typeof GuardSettings>;

const InstanceFields = z.object({
  /** `@2` has `install`; all that was @1 means the same in it. */
  schema: z.enum(["ale/instance@1", "ale/instance@2"]),
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
  /** While the agent works. */
  network: NetworkPolicy,
  networkPhases: NetworkPhases.optional(),
  install: InstallSpec.optional(),
  guard: GuardSettings.optional(),
  protectedPaths: z.array(ProtectedPath).default([]),
  verifier: VerifierSpec,
  /** Chunks the reference solution takes, submission included. */
  referenceChunks: z.number().int().positive(),
});

/** A reader that only knows @1 would leave `install` out and run another task, so it must not be able to read one that has it. */
export const Instance = InstanceFields.refine(
  ({ schema, install }) => install === undefined || schema === "ale/instance@2",
  { path: ["schema"], error: 'an instance with "install" has the schema "ale/instance@2"' },
);
export type Instance = z.infer<typeof Instance>;

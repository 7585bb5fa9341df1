import { z } from "zod";
import { DECODE_ERRORS } from "./python-text.ts";

/** The bodies of ROCK's sandbox routes. Unknown keys are ignored, as ROCK does. */

const NonBlank = z.string().trim().min(1, "must not be blank");
const Flag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false);
const Environment = z.record(z.string(), z.string()).nullish();
const Seconds = z.number().positive().max(31_536_000).nullish();

export const SandboxId = z.object({ sandbox_id: NonBlank });

export const StartRequest = z.object({
  image: NonBlank,
  image_os: z.string().nullish(),
  auto_clear_time_minutes: z.number().int().min(0).nullish(),
  startup_timeout: z.number().positive().nullish(),
  memory: z.string().nullish(),
  cpus: z.number().positive().nullish(),
  limit_cpus: z.number().positive().nullish(),
  num_gpus: z.number().min(0).nullish(),
  accelerator_type: z.string().nullish(),
  registry_username: z.string().nullish(),
  registry_password: z.string().nullish(),
  use_kata_runtime: Flag,
  sandbox_id: NonBlank.nullish(),
  auto_archive_seconds: z.number().int().min(0).nullish(),
  auto_delete_seconds: z.number().int().min(0).nullish(),
  disk: z.string().nullish(),
  pull: z.enum(["never", "always", "missing"]).nullish(),
});
export type StartRequest = z.infer<typeof StartRequest>;

export const CreateSession = SandboxId.extend({
  session_type: z.literal("bash").default("bash"),
  session: NonBlank.default("default"),
  startup_source: z.array(z.string()).default([]),
  env_enable: Flag,
  env: Environment,
  remote_user: NonBlank.nullish(),
});
export type CreateSession = z.infer<typeof CreateSession>;

export const RunInSession = SandboxId.extend({
  action_type: z.literal("bash").default("bash"),
  session: NonBlank.default("default"),
  command: z.string(),
  timeout: Seconds,
  check: z.enum(["silent", "raise", "ignore"]).default("raise"),
  error_msg: z.string().default(""),
  is_interactive_command: Flag,
  is_interactive_quit: Flag,
});
export type RunInSession = z.infer<typeof RunInSession>;

export const CloseSession = SandboxId.extend({
  session_type: z.literal("bash").default("bash"),
  session: NonBlank.default("default"),
});

export const Execute = SandboxId.extend({
  command: z.union([z.string().min(1), z.array(z.string()).min(1)]),
  timeout: Seconds.default(1_200),
  cwd: z.string().nullish(),
  env: Environment,
  shell: Flag,
  check: Flag,
  error_msg: z.string().default(""),
});
export type Execute = z.infer<typeof Execute>;

export const ReadFile = SandboxId.extend({
  path: z.string().min(1),
  encoding: z.string().nullish(),
  errors: z.enum(DECODE_ERRORS).nullish(),
});

export const WriteFile = SandboxId.extend({ path: z.string().min(1), content: z.string() });

export const Upload = SandboxId.extend({ target_path: z.string().min(1) });

const NO_CONTROL = /^[^\0\n\r\u0085\u2028\u2029]+$/;

export const Commit = SandboxId.extend({
  image_tag: NonBlank.regex(NO_CONTROL, "must be one line"),
  username: z.string().nullish(),
  password: z.string().nullish(),
});
export type Commit = z.infer<typeof Commit>;

export const Batch = z.object({ sandbox_ids: z.array(NonBlank).max(2_000) });
export const Warmup = z.object({ image: NonBlank });

/** Python writes True and False. */
const QueryFlag = z.string().transform((text) => text.toLowerCase() === "true");

export const StatusQuery = SandboxId.extend({ include_all_states: QueryFlag.default(false) });
export const ListQuery = z.looseObject({
  page: z.coerce.number().int().min(1).default(1),
  page_size: z.coerce.number().int().min(1).max(2_000).default(500),
});

/** "body.sandbox_id: Required; …", as ROCK words it. */
export function faultsOf(error: z.ZodError, part: "body" | "query"): string {
  return error.issues.map((issue) => `${[part, ...issue.path].join(".")}: ${issue.message}`).join("; ");
}

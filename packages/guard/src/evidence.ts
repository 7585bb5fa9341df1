import { gzipSync } from "node:zlib";
import { digestOf, LOG_FORMAT, scanLogBytes, sha256 } from "@ale/core";
import { z } from "zod";
import { Incident } from "./incident.ts";
import { OutsideAlarmLine } from "./outside/ledger.ts";

/**
 * An incident to hand over: what is said of it, the exact lines that it rests on, and the hashes by which anybody can check them without this
 * program. Version 1 of the format (docs/reference/evidence-bundle.md); fields are only ever added. Pure.
 */
export const EVIDENCE_SCHEMA = "ale/evidence@1" as const;

const count = z.number().int().nonnegative();
const hash = z.string().regex(/^[0-9a-f]{64}$/);

const Line = z.object({
  seq: count,
  /** Exactly as in the file, without the newline. */
  text: z.string(),
});

export const EvidenceWitness = z.object({
  run: z.string(),
  /** Last hash by which the run's state knows the log; null: the state names the episode only. */
  head: hash.nullable(),
  /** Why this cannot be the log that the run used; null: nothing speaks against it. */
  contradiction: z.string().nullable(),
});
export type EvidenceWitness = z.infer<typeof EvidenceWitness>;

export const EvidenceBundle = z.object({
  schema: z.literal(EVIDENCE_SCHEMA),
  made: z.object({ at: z.string(), software: z.record(z.string(), z.string()) }),
  incident: Incident,
  /** What the rules that told of it look for, by their names. */
  rules: z.record(z.string(), z.string()),
  /** What more those rules say of themselves. */
  about: z
    .record(z.string(), z.object({ description: z.string().nullable(), falsePositives: z.array(z.string()) }))
    .default({}),
  log: z.object({
    file: z.string(),
    format: z.literal(LOG_FORMAT),
    events: count,
    bytes: count,
    /** Of the whole lines. */
    sha256: hash,
    /** Hash of the last line; of a sealed log, the identity of the episode. */
    head: hash,
    sealed: z.boolean(),
    witness: EvidenceWitness.nullable(),
  }),
  /** Hash of every line, in order. */
  chain: z.array(hash).min(1),
  /** The first line, those that the incident rests on, and the last. */
  lines: z.array(Line).min(1),
  /** The whole log, where it is small: then the bundle proves by itself that the lines belong to the head. */
  full: z.object({ encoding: z.literal("gzip+base64"), data: z.string() }).nullable(),
  /** Lines of the alarms' own log: the alarms, and what was said of the files that they came in. */
  alarms: z.object({ file: z.string(), events: count, head: hash, lines: z.array(Line) }).nullable(),
  /** SHA-256 of the canonical JSON of all of the above. */
  digest: hash,
  /** Over the digest, by whoever made it, with a key of theirs. Base64; the key is SubjectPublicKeyInfo. */
  signature: z
    .object({ algorithm: z.literal("ed25519"), publicKey: z.string(), value: z.string() })
    .optional(),
});
export type EvidenceBundle = z.infer<typeof EvidenceBundle>;

/** A rule in words. */
export interface RuleText {
  readonly title: string;
  readonly description: string | null;
  readonly falsePositives: readonly string[];
}

export interface EvidenceSource {
  readonly incident: Incident;
  readonly log: { readonly file: string; readonly bytes: Uint8Array };
  readonly witness: EvidenceWitness | null;
  /** The alarms' own log, where the incident has alarms. */
  readonly alarms: { readonly file: string; readonly bytes: Uint8Array } | null;
  readonly ruleOf: (rule: string) => RuleText | undefined;
  readonly made: EvidenceBundle["made"];
}

/** Characters of a compressed log that still go into a bundle. */
const SMALL = 2 * 2 ** 20;

/** The log must be sound; the caller has read the incident from it. */
export function bundleOf({ incident, log, witness, alarms, ruleOf, made }: EvidenceSource): EvidenceBundle {
  const { log: read, wholeBytes } = scanLogBytes(log.file, log.bytes);
  const whole = log.bytes.subarray(0, wholeBytes);
  const last = read.entries.length - 1;
  const packed = Buffer.from(gzipSync(whole, { level: 9 })).toString("base64");
  const told = incident.signals.flatMap(({ rule }): [string, RuleText][] => {
    const text = ruleOf(rule);
    return text === undefined ? [] : [[rule, text]];
  });
  const body = {
    schema: EVIDENCE_SCHEMA,
    made,
    incident,
    rules: Object.fromEntries(told.map(([rule, { title }]) => [rule, title])),
    about: Object.fromEntries(
      told.map(([rule, { description, falsePositives }]) => [
        rule,
        { description, falsePositives: [...falsePositives] },
      ]),
    ),
    log: {
      file: log.file,
      format: LOG_FORMAT,
      events: read.entries.length,
      bytes: wholeBytes,
      sha256: sha256(whole),
      head: read.head,
      sealed: read.sealed,
      witness,
    },
    chain: read.entries.map((entry) => entry.hash),
    lines: linesOf(whole, new Set([0, ...incident.lines, last])),
    full: packed.length > SMALL ? null : { encoding: "gzip+base64" as const, data: packed },
    alarms: alarms === null || incident.alarms.length === 0 ? null : alarmsOf(incident, alarms),
  } satisfies Omit<EvidenceBundle, "digest" | "signature">;
  return { ...body, digest: digestOf(body) };
}

function alarmsOf(
  incident: Incident,
  { file, bytes }: { readonly file: string; readonly bytes: Uint8Array },
): EvidenceBundle["alarms"] {
  const { log, wholeBytes } = scanLogBytes(file, bytes);
  const isHead = ({ event }: (typeof log.entries)[number]): boolean =>
    event.type === "outside.import" || event.type === "outside.match";
  const heads = log.entries.filter(isHead).map(({ seq }) => seq);
  // With what it takes the place of, back to the file that it came in.
  const wanted = incident.alarms.flatMap(({ seq }) => {
    const chain: number[] = [];
    for (let at: number | undefined = seq; at !== undefined; ) {
      chain.push(at, ...heads.filter((one) => one < at!).slice(-1));
      const parsed = OutsideAlarmLine.safeParse(log.entries[at]?.event);
      const before: number | undefined = parsed.success ? parsed.data.supersedes : undefined;
      at = before !== undefined && before < at ? before : undefined;
    }
    return chain;
  });
  const lines = linesOf(bytes.subarray(0, wholeBytes), new Set(wanted));
  return { file, events: log.entries.length, head: log.head, lines };
}

function linesOf(bytes: Uint8Array, wanted: ReadonlySet<number>): z.infer<typeof Line>[] {
  const lines = Buffer.from(bytes).toString("utf8").split("\n");
  return [...wanted].sort((a, b) => a - b).map((seq) => ({ seq, text: lines[seq]! }));
}

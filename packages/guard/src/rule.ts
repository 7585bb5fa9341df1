import type { ProtectedPath, RiskCategory, Severity } from "@ale/core";

/**
 * What a detection rule is: data, in the shape of Sigma (id, title, tags, level, detection, false positives) with the cases it was
 * written for beside it. `source: "command"` rules judge the tool call alone; `source: "protected-path"` rules judge what an
 * instance protects: by what a call names, and by what really changed.
 */
export interface RuleHead {
  readonly id: string;
  readonly title: string;
  /** MITRE ATT&CK technique id. */
  readonly technique: string;
  readonly category: RiskCategory;
  readonly severity: Severity;
  /** When an honest agent may set it off. */
  readonly falsePositives: string;
}

/** A bash command line, or any tool call. */
export type RuleCase =
  | string
  | { readonly name: string; readonly arguments: Readonly<Record<string, unknown>> };

/** Calls that must and must not set the rule off, in an instance whose directory is `/work`. */
export interface RuleCases {
  readonly fires: readonly RuleCase[];
  readonly silent: readonly RuleCase[];
}

/**
 * One way to recognise a simple command: every field that is given must hold. Regular expressions see text after quotes are
 * removed, so what is only quoted to another program (`echo "ssh -R"`) is an argument of that program and nothing else.
 */
export interface Selection {
  /** Base name of the program is one of these. */
  readonly program?: readonly string[];
  /** Some argument matches. */
  readonly argument?: RegExp;
  /** Assignments, program and arguments, joined by spaces, match. */
  readonly line?: RegExp;
  /** One of these programs stands before this one in its pipeline. */
  readonly from?: readonly string[];
  /** A path that it reads or writes matches (absolute, or beginning with `~`). */
  readonly reads?: RegExp;
  readonly writes?: RegExp;
  /** It removes or rewrites, with everything below, a path outside the working directory, `/tmp` and the home directory. */
  readonly destroysOutside?: true;
}

export interface CommandRule extends RuleHead {
  readonly source: "command";
  readonly detection: { readonly any: readonly Selection[]; readonly except?: readonly Selection[] };
  readonly cases: RuleCases;
}

export interface ProtectedPathRule extends RuleHead {
  readonly source: "protected-path";
  /** Commands that count as an act against the protected paths although they do not name one; only where an instance has some. */
  readonly detection: { readonly also: readonly Selection[] };
  /** The paths that the cases are tried with. */
  readonly protects: readonly Pick<ProtectedPath, "path" | "forbid">[];
  readonly cases: RuleCases;
}

export type Rule = CommandRule | ProtectedPathRule;

import type { Alert, Telemetry } from "@ale/core";
import type { RuleMatch } from "../sigma/engine.ts";
import type { Attribution } from "./attribution.ts";

/** An alert over telemetry, with what a person needs to believe it. The record itself stands before it in the log. */
export function alertOf(
  match: RuleMatch<Telemetry>,
  where: Attribution,
  cause: string,
  also: readonly string[],
): Alert {
  const { rule, facts, record, correlated } = match;
  const { during, cause: by, how, root, candidates } = where;
  const { kind, source, net, dns, syscall, file, resource, tool, process } = record;
  const facets = { net, dns, syscall, file, resource, tool };
  return {
    rule: rule.name,
    technique: facts.technique,
    category: facts.category,
    severity: facts.severity ?? "low",
    chunk: by.chunk,
    callId: by.callId,
    source: "telemetry",
    evidence: {
      cause,
      record: { kind, source },
      ...Object.fromEntries(Object.entries(facets).filter(([, value]) => value !== undefined)),
      ...(net?.flow === undefined ? {} : { flow: net.flow }),
      ...(correlated === undefined ? {} : { correlated }),
      ...(root === undefined ? {} : { root }),
      ...(candidates === undefined ? {} : { candidates }),
      ...(also.length === 0 ? {} : { also }),
    },
    attribution: how,
    ...(during.chunk === by.chunk ? {} : { during: during.chunk }),
    at: record.at,
    ...(process === undefined ? {} : { process }),
  };
}

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Telemetry } from "@ale/core";
import { describe, expect, it } from "vitest";
import { bash } from "../instance.ts";
import { guardWith } from "./support.ts";

/** What the gateway told of real sandboxes (its own tests, written down): the field names that rules are written for are those of records. */
const records = readFileSync(join(import.meta.dirname, "../records/gateway.jsonl"), "utf8")
  .trim()
  .split("\n")
  .map((line) => Telemetry.parse(JSON.parse(line)));

/** The alerts of an episode whose only call began just before, with everything that was recorded of one connection, or of one packet. */
function alertsOf(these: readonly Telemetry[]) {
  const guard = guardWith();
  const first = Math.min(...these.flatMap(({ at, process }) => [at, process?.startedAt ?? at]));
  guard.beginCall(0, bash("true"), first - 20);
  return these.flatMap((record) => guard.observe(record).alerts);
}

const connections = Object.values(Object.groupBy(records, ({ net, at }) => net?.flow ?? String(at))).map(
  (these) => these!,
);
const nameOf = (these: readonly Telemetry[]): string =>
  these
    .map(({ kind, net, dns }) => [kind, net?.rule, net?.class, dns?.name].filter(Boolean).join(" "))
    .join(", ");

describe("a recorded connection", () => {
  const expected: Readonly<Record<string, readonly string[]>> = {
    "net.deny private, net.capture private unknown": ["probe-internal"],
    "net.deny private, net.capture private silent": ["probe-internal"],
    "net.deny metadata, net.capture metadata http": ["metadata-access"],
    "net.deny default, net.capture default ssh": ["tunnel-ssh"],
    "net.deny default, net.capture default stratum": ["mining-protocol"],
    "net.deny default, net.capture default shell": ["shell-reverse"],
    "net.deny default, net.capture default unknown": [],
    "net.deny sandbox, net.capture sandbox unknown": ["probe-internal"],
    "net.deny fronting http": ["fronting"],
    "net.deny fronting tls": ["fronting"],
    "net.deny protocol ssh": ["tunnel-ssh"],
    "net.deny port, net.capture port unknown": [],
    "net.deny budget, net.flow http": ["exfil-volume"],
    "net.deny budget, net.capture budget http": ["exfil-volume"],
    // Of a scan of private addresses.
    "net.deny scan": ["probe-internal"],
    "net.deny protocol": [],
    "net.flow http": [],
    "dns.query files.test": [],
    "dns.query evil.test": [],
    "policy.change": [],
  };
  const known = connections.filter((these) => nameOf(these) in expected);

  it.each(known.map((these) => ({ name: nameOf(these), these })))(
    "of $name is told once",
    ({ name, these }) => {
      expect(alertsOf(these).map(({ rule }) => rule)).toEqual(expected[name]);
    },
  );

  it("of every kind in the table was recorded", () => {
    expect(new Set(known.map(nameOf))).toEqual(new Set(Object.keys(expected)));
  });

  it("is of the process that held it, where the gateway could tell", () => {
    const held = known.filter(([first]) => first?.process !== undefined).flatMap(alertsOf);
    expect(held.length).toBeGreaterThan(5);
    for (const alert of held)
      expect(alert).toMatchObject({
        attribution: "ancestry",
        chunk: 0,
        process: { pid: expect.any(Number) },
      });
  });
});

import { spawnSync } from "node:child_process";
import { generateKeyPairSync, type KeyPairKeyObjectResult } from "node:crypto";
import { canonicalJson, digestOf } from "@ale/core";
import { describe, expect, it } from "vitest";
import { bundleOf, EvidenceBundle } from "../src/evidence.ts";
import { checkBundle, compareWithLog, readBundle } from "../src/evidence-check.ts";
import { signatureFinding, signed } from "../src/evidence-signature.ts";
import { incidentsOf } from "../src/incidents.ts";
import { entriesOf, logText, T0, tunnelEpisode } from "./recorded.ts";

const text = logText(T0, tunnelEpisode());
const bytes = Buffer.from(text);
const [incident] = incidentsOf(entriesOf(text));
const made = { at: "2026-03-02T00:00:00.000Z", software: { ale: "0.1.0" } };
const source = {
  incident: incident!,
  log: { file: "ep_night.jsonl", bytes },
  witness: null,
  alarms: null,
  ruleOf: () => undefined,
  made,
};
const bundle = bundleOf(source);

const results = (one: EvidenceBundle) =>
  Object.fromEntries(checkBundle(one).map(({ what, result }) => [what, result]));
/** As somebody would who knows the format: the outer digest is made to fit again. */
const forged = (change: (copy: EvidenceBundle) => void): EvidenceBundle => {
  const { digest: _, ...copy } = structuredClone(bundle);
  change(copy as EvidenceBundle);
  return { ...copy, digest: digestOf(copy) } as EvidenceBundle;
};

describe("a signed bundle", () => {
  const pem = ({ privateKey, publicKey }: KeyPairKeyObjectResult) => ({
    privateKey: `${privateKey.export({ type: "pkcs8", format: "pem" })}`,
    publicKey: `${publicKey.export({ type: "spki", format: "pem" })}`,
  });
  const [mine, other] = [pem(generateKeyPairSync("ed25519")), pem(generateKeyPairSync("ed25519"))];
  const rsa = pem(generateKeyPairSync("rsa", { modulusLength: 2048 }));
  const good = signed(bundle, mine.privateKey);

  it("is the same but for its signature, and holds by itself", () => {
    expect(results(good)).toEqual(results(bundle));
    expect(readBundle(JSON.parse(JSON.stringify(good)))).toEqual({ ok: true, bundle: good });
  });

  it.each([
    ["not signed", bundle, undefined, "open", "does not say who made it"],
    ["not signed, and should be", bundle, mine.publicKey, "fails", "should be"],
    ["by whom nobody knows", good, undefined, "open", "whose that is"],
    ["by the key that was given", good, mine.publicKey, "holds", "SHA256:"],
    ["by another key", good, other.publicKey, "fails", "not by the one that was given"],
    ["of another digest", { ...good, digest: "0".repeat(64) }, mine.publicKey, "fails", "over this digest"],
    [
      "whose key was put in the place of the right one",
      {
        ...good,
        signature: { ...good.signature!, publicKey: signed(bundle, other.privateKey).signature!.publicKey },
      },
      undefined,
      "fails",
      "over this digest",
    ],
    [
      "whose key is none",
      { ...good, signature: { ...good.signature!, publicKey: "AAAA" } },
      undefined,
      "fails",
      "is none",
    ],
  ])("%s is told as such", (_name, one, key, result, detail) => {
    expect(signatureFinding(one, key)).toMatchObject({ result, detail: expect.stringContaining(detail) });
  });

  it.each([
    ["a public key to sign with", () => signed(bundle, mine.publicKey), "no private Ed25519 key"],
    ["a private key to check with", () => signatureFinding(good, mine.privateKey), "it is a private one"],
    ["a key of another kind", () => signed(bundle, rsa.privateKey), "of the kind rsa"],
    ["no key", () => signatureFinding(good, "hello"), "no PEM of a key"],
  ])("refuses %s", (_name, act, message) => {
    expect(act).toThrow(
      expect.objectContaining({ code: "key-invalid", message: expect.stringContaining(message) }),
    );
  });
});

describe("a bundle", () => {
  it("holds against itself, and is the same after a round trip", () => {
    expect(results(bundle)).toEqual({
      digest: "holds",
      lines: "holds",
      seal: "holds",
      head: "holds",
      "whole log": "holds",
      story: "holds",
    });
    expect(readBundle(JSON.parse(JSON.stringify(bundle)))).toEqual({ ok: true, bundle });
  });

  it("has the exact lines, the first and the seal among them", () => {
    const lines = text.split("\n");
    for (const line of bundle.lines) expect(line.text).toBe(lines[line.seq]);
    expect(bundle.lines.map(({ seq }) => seq)).toEqual([...incident!.lines, lines.length - 2]);
    expect(bundle.lines.at(-1)!.text).toContain("episode.seal");
  });

  it("can be checked by hand: a line's hash with sed and sha256sum, the whole log with gunzip", () => {
    const sh = (script: string, input: string): string => {
      const { stdout, stderr } = spawnSync("sh", ["-c", script], { input });
      expect(`${stderr}`).toBe("");
      return `${stdout}`.split(" ")[0]!;
    };
    const strip = `sed -E 's/"hash":"[0-9a-f]{64}",("prev":"[0-9a-f]{64}","seq":[0-9]+,"t":[0-9.e+-]+,"v":1\\})$/\\1/' | tr -d '\\n' | sha256sum`;
    for (const { seq, text: line } of bundle.lines) expect(sh(strip, `${line}\n`)).toBe(bundle.chain[seq]);
    expect(sh("base64 -d | gunzip | sha256sum", bundle.full!.data)).toBe(bundle.log.sha256);
  });

  it.each<[string, (copy: EvidenceBundle) => void, string]>([
    [
      "a word of a line",
      (copy) => Object.assign(copy.lines[8]!, { text: copy.lines[8]!.text.replace("critical", "low") }),
      "lines",
    ],
    ["a line left out", (copy) => copy.lines.splice(3, 1), "lines"],
    ["a hash of the chain", (copy) => copy.chain.splice(20, 1, "0".repeat(64)), "whole log"],
    ["the story", (copy) => Object.assign(copy.incident, { severity: "low" }), "story"],
    ["another command in the story", (copy) => Object.assign(copy.incident, { wrote: "nothing" }), "story"],
    ["a seal that is not there", (copy) => copy.lines.pop(), "head"],
    ["the end of the chain", (copy) => copy.chain.pop(), "head"],
    ["the packed log", (copy) => Object.assign(copy.full!, { data: "AAAA" }), "whole log"],
  ])("shows a change of %s although its digest was made to fit", (_, change, what) => {
    expect(results(forged(change))).toMatchObject({ digest: "holds", [what]: "fails" });
  });

  it("shows any other change by its digest", () => {
    expect(results({ ...bundle, made: { ...made, at: "2027-01-01T00:00:00.000Z" } })).toMatchObject({
      digest: "fails",
    });
  });

  it("says that it proves less where the log was too large to be in it", () => {
    expect(results(forged((copy) => Object.assign(copy, { full: null })))).toMatchObject({
      "whole log": "open",
    });
  });

  it("of a newer version is checked with the fields that this one does not know", () => {
    const { digest: _, ...body } = structuredClone(bundle);
    const newer = { ...body, extra: 1, incident: { ...body.incident, mood: "bad" } };
    const raw: unknown = { ...newer, digest: digestOf(newer) };
    const read = readBundle(raw);
    if (!read.ok) throw new Error(read.why);
    expect(checkBundle(read.bundle, raw).filter(({ result }) => result !== "holds")).toEqual([]);
  });

  it("never throws, whatever stands in it, and never holds once anything in it was changed", () => {
    const places: (readonly (string | number)[])[] = [];
    const walk = (value: unknown, path: readonly (string | number)[]): void => {
      if (path.length > 0) places.push(path);
      if (typeof value === "object" && value !== null)
        for (const [name, member] of Object.entries(value))
          walk(member, [...path, Array.isArray(value) ? Number(name) : name]);
    };
    walk(bundle, []);
    const others = [null, 7, -1, "", "x", "\u0000", [], {}, Number.POSITIVE_INFINITY, "0".repeat(64)];
    for (const [i, path] of places.entries()) {
      const copy: unknown = structuredClone(bundle);
      let at = copy as Record<string | number, unknown>;
      for (const name of path.slice(0, -1)) at = at[name] as typeof at;
      const last = path.at(-1)!;
      const other = others[i % others.length];
      if (JSON.stringify(at[last]) === JSON.stringify(other)) continue;
      at[last] = other;
      const read = readBundle(copy);
      if (read.ok) expect(checkBundle(read.bundle, copy).map(({ result }) => result)).toContain("fails");
    }
    expect(places.length).toBeGreaterThan(200);
  });

  it("refuses what is no bundle, by the field", () => {
    expect(readBundle({ ...bundle, chain: [] })).toMatchObject({
      ok: false,
      why: expect.stringContaining("chain"),
    });
  });
});

describe("against the log that it came from", () => {
  it("holds", () => {
    expect(compareWithLog(bundle, "x.jsonl", bytes)).toMatchObject({ result: "holds" });
  });

  it("holds for one that was made before the log went on", () => {
    const early = logText(T0, tunnelEpisode().slice(0, 20), false);
    const [first] = incidentsOf(entriesOf(early));
    const before = bundleOf({ ...source, incident: first!, log: { file: "x", bytes: Buffer.from(early) } });
    expect(compareWithLog(before, "x.jsonl", bytes)).toMatchObject({
      result: "holds",
      detail: expect.stringMatching(/same 20 lines, and \d+ since/),
    });
  });

  it("names the first line that is another", () => {
    const other = tunnelEpisode().map(([at, event]): [number, typeof event] => [
      at,
      event.type === "verdict" ? { ...event, verdict: { ...event.verdict, reward: 0 } } : event,
    ]);
    expect(compareWithLog(bundle, "x.jsonl", Buffer.from(logText(T0, other)))).toMatchObject({
      result: "fails",
      detail: expect.stringContaining(`line ${other.length} is not the line`),
    });
  });

  it("names the broken line of a log that was changed, and a log that was cut", () => {
    const broken = Buffer.from(text.replace("I open one", "I open two"));
    expect(compareWithLog(bundle, "x.jsonl", broken).detail).toMatch(/line 6 is broken \(bad-hash\)/);
    const cut = Buffer.from(`${text.split("\n").slice(0, 10).join("\n")}\n`);
    expect(compareWithLog(bundle, "x.jsonl", cut).detail).toContain("ends after 10 lines");
  });
});

it("writes the same bundle for the same incident", () => {
  expect(canonicalJson(bundleOf(source))).toBe(canonicalJson(bundle));
  expect(EvidenceBundle.parse(bundle)).toEqual(bundle);
});

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import type { Event } from "@ale/core";
import { describe, expect, it } from "vitest";
import { beginOf, logText, program, seen, T0, turnOf } from "../../guard/test/recorded.ts";
import { EXIT } from "../src/exit-codes.ts";
import { ale, temporaryHome } from "./support.ts";

/** A run whose logs raised no alert, and a firewall 3.7 s ahead that did. */
const SKEW_MS = 3_700;

function flow(id: string, at: number, ip: string, sourcePort: number): Event {
  return seen(0, {
    at: at + 200,
    kind: "net.flow",
    source: "proxy",
    chunk: 0,
    callId: "call_0",
    process: program(5_000 + sourcePort, at - 5, `curl relay.example # ${id}`),
    net: {
      flow: `${id}-0`,
      protocol: "tcp",
      host: "relay.example",
      port: 443,
      sourcePort: 33_000,
      upstream: { ip, port: 443, sourceIp: "192.0.2.10", sourcePort },
      bytesUp: 1_200,
      bytesDown: 90_000,
      durationMs: 200,
    },
  });
}

async function runWithFirewall(): Promise<{ home: string; csv: string }> {
  const home = await temporaryHome();
  await record(home);
  const csv = join(home, "fw.csv");
  await writeFile(
    csv,
    rows([
      [2, 50_002],
      [4, 50_004],
      [3, "-"],
    ]),
  );
  return { home, csv };
}

async function record(home: string): Promise<void> {
  const folder = join(home, "runs/night/episodes");
  await mkdir(folder, { recursive: true });
  for (let n = 0; n < 6; n++) {
    const id = `ep_${n}`;
    const startMs = T0 + n * 400;
    const turn = turnOf(0, `curl https://relay.example/${n}`, "");
    const events: [number, Event][] = [
      [0, beginOf(id, startMs)],
      [100, turn.says],
      [101, turn.calls],
      [500, flow(id, startMs + 300, "198.51.100.7", 50_000 + n)],
      [510, turn.sees],
    ];
    await writeFile(join(folder, `${id}.jsonl`), logText(startMs, events));
  }
}

const HEAD = "start,srcaddr,srcport,dstaddr,dstport,protocol,action\n";
const rows = (hits: readonly (readonly [number, number | "-"])[]): string =>
  HEAD + hits.map(([n, port]) => row(n, port)).join("");
const row = (n: number, port: number | "-"): string =>
  `${((T0 + n * 400 + 300 + SKEW_MS) / 1_000).toFixed(3)},192.0.2.10,${port},198.51.100.7,443,6,REJECT\n`;

const imported = async (home: string, ...words: string[]) => {
  const outcome = await ale(home, "guard", "import", ...words, "--json");
  return { exitCode: outcome.exitCode, said: outcome.stderr, ...outcome.json() } as Record<string, never> & {
    exitCode: number;
    said: string;
    added: number;
    known: number;
  };
};

describe("ale guard import", () => {
  it("lands a firewall's alarms on the chunks that dialled, with the clocks set by each other", async () => {
    const { home, csv } = await runWithFirewall();
    const { stdout, exitCode } = await ale(home, "guard", "import", csv, "--format", "flow");
    expect(exitCode).toBe(EXIT.ok);
    expect(stdout).toMatch(/matched +fw\.csv:2: .*\n +9\d % {2}ep_2 chunk 0 \(call_0\)/);
    expect(stdout).toMatch(/matched +fw\.csv:3: .*\n +9\d % {2}ep_4 chunk 0 \(call_0\)/);
    expect(stdout).toMatch(/its clock is 3\.\d+ s ahead of ours/);
  });

  it("names the candidates of an alarm that could be several episodes'", async () => {
    const { home, csv } = await runWithFirewall();
    const { stdout } = await ale(home, "guard", "import", csv);
    expect(stdout).toMatch(
      /ambiguous fw\.csv:4: [^\n]*\n( +\d+ % {2}ep_\d chunk 0 \(call_0\)\n){5} +[\d.]+ % {2}none of ours/,
    );
    const listed = await ale(home, "guard", "incidents");
    expect(listed.stdout).toContain("Alarms from outside that could not be placed");
    expect(listed.stdout).toMatch(/ambiguous .*\(fw\.csv:4\)\n +\d+ % {2}ep_/);
  });

  it("makes incidents that are shown and handed over like any other, with the alarm's own line", async () => {
    const { home, csv } = await runWithFirewall();
    await ale(home, "guard", "import", csv);
    const list = (await ale(home, "guard", "incidents", "--json")).json() as {
      incidents: { id: string; episode: string }[];
    };
    expect(list.incidents.map(({ episode }) => episode).sort()).toEqual(["ep_2", "ep_4"]);
    const { id } = list.incidents.find(({ episode }) => episode === "ep_2")!;
    const { stdout } = await ale(home, "guard", "show", id);
    for (const text of [
      "alarm from outside",
      "curl https://relay.example/2",
      "dialled 198.51.100.7:443",
      " s ahead; off by",
      "so perhaps another's",
      "told by  reject by the network, port 443: medium",
      "1.20 kB up",
    ])
      expect(stdout).toContain(text);
    await ale(home, "guard", "export", id, "--out", join(home, "e"));
    const verified = await ale(home, "guard", "verify", join(home, "e", `${id}.html`));
    expect(verified.stdout).toMatch(/holds +alarms +2 from outside/);
    expect(verified.exitCode).toBe(EXIT.ok);
  });

  it("adds nothing the second time, and says so; of a file that has grown, what is new", async () => {
    const { home, csv } = await runWithFirewall();
    expect(await imported(home, csv)).toMatchObject({ added: 3 });
    const path = join(home, "alarms/alarms.jsonl");
    const before = await readFile(path, "utf8");
    const again = await imported(home, csv);
    expect(again).toMatchObject({ exitCode: EXIT.ok, added: 0, known: 3 });
    expect(again.said).toContain("nothing is added");
    expect(await readFile(path, "utf8")).toBe(before);
    await writeFile(csv, (await readFile(csv, "utf8")) + row(2, 50_002) + row(5, 50_005));
    // One record that is there twice now was there once.
    expect(await imported(home, csv)).toMatchObject({ added: 2, known: 3 });
    expect((await readFile(path, "utf8")).startsWith(before)).toBe(true);
  });

  it("tells every line that it cannot read, keeps the others, and says so with its exit code", async () => {
    const { home, csv } = await runWithFirewall();
    await writeFile(
      csv,
      `${HEAD}${row(2, 50_002)}yesterday,1,2,3,4,6,REJECT\n${row(4, 50_004)}only,three,cells\n${row(5, 50_005).slice(0, 20)}`,
    );
    const outcome = await ale(home, "guard", "import", csv);
    expect(outcome.exitCode).toBe(EXIT.failed);
    expect(outcome.stdout.match(/unreadable fw\.csv:\d+/g)).toEqual(
      [3, 5, 6].map((line) => `unreadable fw.csv:${line}`),
    );
    expect(outcome.stdout).toContain("5 records: 2 alarms, 0 that are none, 3 cannot be read");
  });

  it("reads any JSON by a map of its fields", async () => {
    const { home } = await runWithFirewall();
    const at = new Date(T0 + 2 * 400 + 300).toISOString();
    await writeFile(
      join(home, "a.json"),
      JSON.stringify([
        { when: at, what: { name: "odd" }, to: { ip: "198.51.100.7", port: 443 }, sport: 50_002 },
      ]),
    );
    await writeFile(
      join(home, "map.json"),
      JSON.stringify({ at: "when", title: "what.name", toIp: "to.ip", toPort: "to.port", fromPort: "sport" }),
    );
    const outcome = await imported(
      home,
      join(home, "a.json"),
      "--format",
      "json",
      "--map",
      join(home, "map.json"),
    );
    const [alarm] = outcome.alarms as unknown as { status: string; places: { episode: string }[] }[];
    expect([outcome.added, alarm?.status, alarm?.places[0]?.episode]).toEqual([1, "matched", "ep_2"]);
  });

  it.each([
    [["nowhere.csv"], "there is no file"],
    [["map.json", "--format", "json"], "needs a map"],
    [["map.json", "--format", "syslog"], "is not known"],
    [["map.json", "--map", "map.json"], '"at" is missing; "title" is missing'],
    [["map.json", "--map", "near.json"], 'did you mean "toPort"?'],
    [["map.json", "--map", "word.json"], '"severities.5" must be low, medium, high or critical'],
    [["map.json", "--map", "seven.json"], '"toIp" must be a dotted path'],
    [["xz.csv"], "is compressed"],
    [["prose.txt"], 'line 1: 4 columns where 14 are expected: "It was a night"'],
  ])("refuses %j with what to do", async (words, said) => {
    const { home } = await runWithFirewall();
    await writeFile(join(home, "map.json"), "{}");
    await writeFile(join(home, "near.json"), '{"at":"a","title":"b","to_port":"c"}');
    await writeFile(join(home, "word.json"), '{"at":"a","title":"b","severities":{"5":"grim"}}');
    await writeFile(join(home, "seven.json"), '{"at":"a","title":"b","toIp":7}');
    await writeFile(join(home, "xz.csv"), Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]));
    await writeFile(join(home, "prose.txt"), "It was a night\n");
    const { exitCode, stderr } = await ale(
      home,
      "guard",
      "import",
      ...words.map((word) => (/\./.test(word) ? join(home, word) : word)),
    );
    expect(exitCode).toBe(EXIT.usage);
    expect(stderr).toContain(said);
    expect(stderr).toContain("next:");
  });

  it("reads what is compressed, and as much as there is of it", async () => {
    const { home, csv } = await runWithFirewall();
    const packed = gzipSync(HEAD + Array.from({ length: 4_000 }, (_, n) => row(n % 6, 50_000 + n)).join(""));
    await writeFile(`${csv}.gz`, packed);
    expect(await imported(home, `${csv}.gz`)).toMatchObject({
      exitCode: EXIT.ok,
      added: 4_000,
      faultCount: 0,
    });
    await writeFile(`${csv}.gz`, packed.subarray(0, packed.length / 2));
    const cut = await imported(await temporaryHome(), `${csv}.gz`);
    expect(cut).toMatchObject({ exitCode: EXIT.failed, faultCount: expect.any(Number) });
    expect(cut.added).toBeGreaterThan(1_000);
    expect(cut.said).toContain("damaged or cut off");
    await writeFile(`${csv}.gz`, packed.subarray(0, 4));
    expect(await imported(home, `${csv}.gz`)).toMatchObject({ exitCode: EXIT.failed, records: 0 });
  });

  it.each([
    ["an empty file", "", [], EXIT.failed, "is no record in it", { records: 0 }],
    [
      "nothing but what was let through",
      `${HEAD}1772338327,192.0.2.10,1,198.51.100.7,443,6,ACCEPT\n`,
      [],
      EXIT.ok,
      "fw.csv was read as a flow log: all of the first 1 records are",
      { records: 1, skippedFor: { "accepted flow": 1 } },
    ],
    [
      "words that are called JSON",
      "It was a night\n",
      ["--format", "suricata"],
      EXIT.failed,
      'not JSON: no object, it begins with "It was a night"',
      { records: 1, faultCount: 1 },
    ],
  ])("accounts for %s", async (_, text, words, exitCode, said, counts) => {
    const home = await temporaryHome();
    const path = join(home, "fw.csv");
    await writeFile(path, text);
    const first = await imported(home, path, ...words);
    expect(first).toMatchObject({ exitCode, added: 0, ...counts });
    expect(first.said).toContain(said);
    // It is no better the second time.
    expect(await imported(home, path, ...words)).toMatchObject({ exitCode });
  });

  it("has nothing to verify before anything was imported, which is no failure", async () => {
    const { exitCode, stdout } = await ale(await temporaryHome(), "guard", "verify");
    expect(exitCode).toBe(EXIT.ok);
    expect(stdout).toContain("there are no alarms to verify");
  });

  it("keeps alarms in a chain: a line that was changed is found, and a torn one is cut off and recorded", async () => {
    const { home, csv } = await runWithFirewall();
    await ale(home, "guard", "import", csv);
    const path = join(home, "alarms/alarms.jsonl");
    const text = await readFile(path, "utf8");
    expect((await ale(home, "guard", "verify")).exitCode).toBe(EXIT.ok);
    // A crash in the middle of writing: the import is taken up again, and only what is missing is added.
    await writeFile(path, text.slice(0, -100));
    expect(await imported(home, csv)).toMatchObject({ added: 1, known: 2 });
    expect(await readFile(path, "utf8")).toContain('"type":"log.repair"');
    expect((await ale(home, "guard", "verify")).exitCode).toBe(EXIT.ok);
    await writeFile(path, text.replace("reject by the network", "accept by the network"));
    const broken = await ale(home, "guard", "verify");
    expect(broken.exitCode).toBe(EXIT.failed);
    expect(broken.stdout).toMatch(/line 2 is broken \(bad-hash\)/);
    expect((await ale(home, "guard", "incidents")).exitCode).toBe(EXIT.failed);
  });

  it.each([["import"], ["match"]])("places alarms that came before their episodes: %s", async (command) => {
    const { csv } = await runWithFirewall();
    const home = await temporaryHome();
    await imported(home, csv);
    const path = join(home, "alarms/alarms.jsonl");
    const before = await readFile(path, "utf8");
    const again = async () => {
      const { exitCode, stdout } = await ale(home, "guard", command, ...(command === "import" ? [csv] : []));
      return { exitCode, stdout };
    };
    await again();
    expect(await readFile(path, "utf8")).toBe(before);
    await record(home);
    const { exitCode, stdout } = await again();
    expect(exitCode).toBe(EXIT.ok);
    expect(stdout).toContain("3 land elsewhere: 2 matched, 1 ambiguous, 0 unmatched");
    const after = await readFile(path, "utf8");
    expect(after.startsWith(before)).toBe(true);
    expect((await ale(home, "guard", "verify")).exitCode).toBe(EXIT.ok);
    const list = (await ale(home, "guard", "incidents", "--json")).json() as {
      incidents: { id: string; episode: string }[];
      unplacedAlarms: unknown[];
    };
    expect(list.incidents.map(({ episode }) => episode).sort()).toEqual(["ep_2", "ep_4"]);
    expect(list.unplacedAlarms).toHaveLength(1);
    const { id } = list.incidents[0]!;
    await ale(home, "guard", "export", id, "--out", join(home, "e"));
    const verified = await ale(home, "guard", "verify", join(home, "e", `${id}.html`));
    expect([verified.exitCode, verified.stdout]).toEqual([
      EXIT.ok,
      expect.stringMatching(/holds +alarms +2 from outside/),
    ]);
    // Nothing new: nothing is added.
    await again();
    expect(await readFile(path, "utf8")).toBe(after);
  });

  it("has no alarms to match before any import, which is no failure", async () => {
    const { exitCode, stdout } = await ale(await temporaryHome(), "guard", "match");
    expect([exitCode, stdout]).toEqual([EXIT.ok, expect.stringContaining("there are no alarms")]);
  });

  it("finds nothing where nothing was recorded, and keeps the alarms", async () => {
    const { csv } = await runWithFirewall();
    const home = await temporaryHome();
    expect(await imported(home, csv)).toMatchObject({ exitCode: EXIT.ok, added: 3, episodes: 0 });
    const { stdout } = await ale(home, "guard", "incidents");
    expect(stdout.match(/unmatched/g)).toHaveLength(3);
    expect(stdout.match(/nothing was recorded within 60 min of it/g)).toHaveLength(3);
  });
});

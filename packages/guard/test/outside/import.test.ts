import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { addressOf } from "../../src/outside/alarm.ts";
import { AlarmReader, importAlarms } from "../../src/outside/import.ts";

/** Records as each system writes them, by its public documentation. */
const sample = (name: string): string => readFileSync(join(import.meta.dirname, "samples", name), "utf8");

const AT = Date.UTC(2026, 2, 1, 4, 12, 7);

describe("files as their makers write them", () => {
  it.each([
    [
      "eve.jsonl",
      "suricata",
      { "flow record": 1, "stats record": 1 },
      [
        {
          id: "eve.jsonl:1",
          at: AT + 251,
          sensor: "edge-1",
          severity: "high",
          host: "relay.example",
          fromPort: 51_004,
          toIp: "198.51.100.7",
          toPort: 443,
        },
        // About an answer: whoever asked is the packet's destination.
        { severity: "critical", fromIp: "192.0.2.10", fromPort: 51_006, toIp: "198.51.100.7", toPort: 8080 },
        { protocol: "udp", host: "pool.minexmr.example" },
        { title: "drop by Suricata (rules)", toPort: 23 },
      ],
    ],
    [
      "falco.jsonl",
      "falco",
      {},
      [
        {
          sensor: "node-3",
          pid: 4711,
          program: "/usr/bin/nc",
          command: "nc -lvp 4444",
          containers: ["3ad7b26ded6d", "sb_1"],
          toIp: null,
          path: null,
        },
        { toIp: "169.254.169.254", toPort: 80, fromPort: 51_000, containers: [], program: "curl" },
        { path: "/etc/shadow", toIp: null },
        { title: "Falco internal: syscall event drop" },
      ],
    ],
    [
      "aws-v2.txt",
      "flow-log",
      { "accepted flow": 1, "no flow (NODATA)": 1, "no flow (SKIPDATA)": 1 },
      [
        {
          id: "aws-v2.txt:3",
          at: AT,
          durationMs: 60_000,
          sensor: "eni-0a1b2c3d4e5f60718",
          toIp: "203.0.113.9",
          title: "reject by the network, port 3389",
        },
      ],
    ],
    ["aws-v5.txt", "flow-log", {}, [{ at: AT, toIp: "198.51.100.7", toPort: 5432, fromIp: "10.0.0.62" }]],
    [
      "aws-cloudwatch.json",
      "flow-log",
      {},
      [{ id: "aws-cloudwatch.json:3[1]", toPort: 3389, protocol: "tcp" }],
    ],
    [
      "gcp-firewall.json",
      "flow-log",
      { "flow without a disposition": 1 },
      [{ sensor: "sandboxes-1", toIp: "203.0.113.9", toPort: 22, title: "denied by deny-egress, port 22" }],
    ],
    [
      "azure-nsg.json",
      "flow-log",
      { "accepted flow": 1 },
      [
        { id: "azure-nsg.json:3[1]#1", at: AT, toPort: 3389, protocol: "tcp", sensor: "000D3AF87856" },
        {
          id: "azure-nsg.json:3[1]#2",
          at: AT + 1_000,
          title: "deny by DefaultRule_DenyAllOutBound, port 3390",
          raw: { tuple: expect.stringContaining("59337,3390") },
        },
      ],
    ],
    [
      "azure-vnet.json",
      "flow-log",
      { "accepted flow": 1 },
      [{ at: AT + 599, toPort: 22, protocol: "tcp", sensor: "0022485D8CF8" }],
    ],
  ])("%s", (name, format, skippedFor, alarms) => {
    const read = importAlarms(sample(name), name);
    expect(read).toMatchObject({ format, skippedFor, faultCount: 0 });
    expect(read.alarms).toHaveLength(alarms.length);
    expect(read.alarms).toMatchObject(alarms);
  });

  it.each(["eve.jsonl", "aws-v2.txt", "gcp-firewall.json", "azure-nsg.json"])(
    "%s gives the same however it comes in pieces",
    (name) => {
      const reader = new AlarmReader(name);
      for (const byte of Buffer.from(sample(name))) reader.push(Uint8Array.of(byte));
      expect(reader.end()).toEqual(importAlarms(sample(name), name));
    },
  );
});

const [EVE = "", ...LATER] = sample("eve.jsonl").trimEnd().split("\n");

it.each([
  ["2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"],
  ["2001:DB8::1", "2001:db8::1"],
  ["::ffff:198.51.100.7", "198.51.100.7"],
  ["198.51.100.7", "198.51.100.7"],
  ["not:an:address", "not:an:address"],
  ["-", null],
])("an address is the same however it is written: %s", (written, address) => {
  expect(addressOf(written)).toBe(address);
});

describe("what is not whole", () => {
  it.each<[what: string, text: string, alarms: number, faults: object[]]>([
    [
      "a line torn at the end",
      `${EVE}\n{"timestamp":"2026-03`,
      1,
      [{ line: 2, offset: EVE.length + 1, message: expect.stringContaining("cut off") }],
    ],
    ["a line torn by the next", `{"timestamp":"2026-03\n${EVE}\n`, 1, [{ line: 1, offset: 0 }]],
    ["a line torn between two texts", `{"timestamp":\n${EVE}\n`, 1, [{ line: 1, offset: 0 }]],
    [
      "the end of a line, then whole ones",
      `5,"proto":"TCP"}\n${EVE}\n`,
      1,
      [{ line: 1, message: expect.stringContaining('5,\\"proto') }],
    ],
    [
      "an array cut off within an element",
      `[${EVE},\n${EVE},\n${EVE.slice(0, 90)}`,
      2,
      [{ line: 3, element: 3, message: expect.stringContaining("cut off") }],
    ],
    [
      "an array cut off after one",
      `[\n${EVE},\n`,
      1,
      [{ line: 3, message: "the array is not closed: cut off after element 1" }],
    ],
    [
      "an array with what is no JSON",
      `[${EVE}, {"a": nope}, ${EVE}]`,
      2,
      [{ element: 2, line: 1, offset: EVE.length + 3 }],
    ],
    [
      "something after an array",
      `[${EVE}]\nmore`,
      1,
      [{ line: 2, message: expect.stringContaining("after the end") }],
    ],
    [
      "a time that is none",
      `${EVE}\n${EVE.replace(/2026[^"]+/, "yesterday")}`,
      1,
      [{ line: 2, message: 'timestamp "yesterday" is no time' }],
    ],
    [
      "a row with too few columns",
      "start,dstaddr,action\n1772338327,10.0.0.5\n1772338327,10.0.0.5,DENY",
      1,
      [{ line: 2, message: '2 columns where 3 are expected: "1772338327,10.0.0.5"' }],
    ],
  ])("%s", (_, text, alarms, faults) => {
    const read = importAlarms(text, "f");
    expect(read.alarms).toHaveLength(alarms);
    expect(read.faults).toMatchObject(faults);
    expect(read.faultCount).toBe(faults.length);
  });

  it("says that what is called JSON is none, whatever it is", () => {
    const { faults, records } = importAlarms("some words here\nand more\n", "f", { format: "suricata" });
    expect(records).toBe(2);
    expect(faults[0]).toMatchObject({
      line: 1,
      message: 'not JSON: no object, it begins with "some words here"',
    });
  });

  it("keeps a hundred faults, and counts all", () => {
    const { faults, faultCount } = importAlarms("no\n".repeat(250), "f", { format: "falco" });
    expect([faults.length, faultCount]).toEqual([100, 250]);
  });

  it("is empty", () => {
    expect(importAlarms("\n", "eve.json")).toMatchObject({
      records: 0,
      alarms: [],
      faultCount: 0,
      format: null,
    });
  });
});

describe("the format", () => {
  it("is what most of the first records are, and the others are named", () => {
    const falco = sample("falco.jsonl").split("\n")[0]!;
    const read = importAlarms([falco, EVE, ...LATER].join("\n"), "mixed");
    expect(read).toMatchObject({ format: "suricata", guess: { sample: 7, agree: 6 }, faultCount: 1 });
    expect(read.faults[0]).toMatchObject({
      line: 1,
      message: "not an EVE record: timestamp and event_type missing",
    });
  });

  it.each([
    ['{"a":1,"b":2}', "line 1: its fields are a, b"],
    ["nothing that we know", 'line 1: 4 columns where 14 are expected: "nothing that we know"'],
    ['{"a', "cut off"],
  ])("of %j is not guessed, and is said to be unknown", (text, said) => {
    expect(() => importAlarms(text, "f")).toThrow(said);
  });
});

describe("any JSON, or a table", () => {
  const map = {
    at: "when",
    title: "rule.name",
    toIp: "dst.ip",
    severity: "level",
    severities: { "5": "critical" },
  } as const;

  it("is read by a map of its fields", () => {
    const records = [{ when: 1772338327, rule: { name: "blocked" }, dst: { ip: "203.0.113.9" }, level: 5 }];
    expect(importAlarms(JSON.stringify(records), "own.json", { map })).toMatchObject({
      alarms: [{ title: "blocked", toIp: "203.0.113.9", severity: "critical", toPort: null }],
    });
  });

  it("is read by the names of its columns", () => {
    const csv = 'stamp,what,"peer, far"\n1772338327,"a, ""b""",10.0.0.5\n';
    const { alarms } = importAlarms(csv, "own.csv", {
      map: { at: "stamp", title: "what", toIp: "peer, far" },
    });
    expect(alarms).toMatchObject([{ title: 'a, "b"', toIp: "10.0.0.5" }]);
  });

  it("names a record that lacks what the map says", () => {
    expect(importAlarms('{"when":1772338327}', "own.json", { map }).faults).toMatchObject([
      { line: 1, message: 'nothing at "rule.name"' },
    ]);
  });
});

import { describe, expect, it } from "vitest";
import { importAlarms } from "../../src/outside/import.ts";

const EVE = `{"timestamp":"2026-03-01T04:12:07.250000+0000","event_type":"alert","src_ip":"10.1.0.4","src_port":51000,"dest_ip":"198.51.100.7","dest_port":22,"proto":"TCP","alert":{"signature":"ET POLICY SSH outbound","severity":2}}
{"timestamp":"2026-03-01T04:12:08.000000+0000","event_type":"flow","src_ip":"10.1.0.4"}
`;

describe("Suricata's EVE", () => {
  it("gives an alarm for alerts, and counts the rest", () => {
    const { alarms, skipped, faults } = importAlarms(EVE, "eve.json");
    expect({ skipped, faults }).toEqual({ skipped: 1, faults: [] });
    expect(alarms).toMatchObject([
      {
        id: "eve.json:1",
        at: Date.UTC(2026, 2, 1, 4, 12, 7, 250),
        severity: "high",
        title: "ET POLICY SSH outbound",
        protocol: "tcp",
        fromPort: 51_000,
        toIp: "198.51.100.7",
        toPort: 22,
      },
    ]);
  });

  it("names a torn line and reads the others", () => {
    const { alarms, faults } = importAlarms(`${EVE}{"timestamp":"2026-03`, "eve.json");
    expect(alarms).toHaveLength(1);
    expect(faults).toMatchObject([
      { file: "eve.json", line: 3, message: expect.stringContaining("not JSON") },
    ]);
  });

  it("names a time that is none", () => {
    const { faults } = importAlarms(EVE.replace("2026-03-01T04:12:07.250000+0000", "yesterday"), "eve.json");
    expect(faults).toEqual([{ file: "eve.json", line: 1, message: 'timestamp "yesterday" is no time' }]);
  });
});

it("reads Falco, with the event's own nanoseconds before the text of the time", () => {
  const record = {
    time: "2026-03-01T04:12:07.000000000Z",
    rule: "Contact EC2 Instance Metadata Service From Container",
    priority: "Notice",
    output_fields: {
      "evt.time": 1_772_338_327_123_456_800,
      "fd.sip": "169.254.169.254",
      "fd.sport": 80,
      "proc.pid": 4711,
      "proc.cmdline": "curl 169.254.169.254",
    },
  };
  const { alarms } = importAlarms(JSON.stringify(record), "falco.jsonl");
  expect(alarms).toMatchObject([
    { source: "falco", toIp: "169.254.169.254", toPort: 80, pid: 4711, command: "curl 169.254.169.254" },
  ]);
  expect(Math.round(alarms[0]!.at)).toBe(1772338327123);
});

describe("a flow log", () => {
  const line = "2 123456789010 eni-1 10.1.0.4 10.0.0.5 40000 5432 6 3 180 1772338327 1772338387 REJECT OK";

  it("is read without a header in its default order", () => {
    expect(importAlarms(`${line}\n${line.replace("REJECT", "ACCEPT")}\n`, "vpc.log")).toMatchObject({
      skipped: 1,
      alarms: [
        {
          at: 1772338327000,
          toIp: "10.0.0.5",
          toPort: 5432,
          protocol: "tcp",
          title: "reject by the network, port 5432",
        },
      ],
    });
  });

  it("is read as CSV with a header and quotes", () => {
    const csv =
      'start,srcaddr,dstaddr,dstport,protocol,action,note\n1772338327,10.1.0.4,10.0.0.5,22,6,DENY,"a, ""b"""\n';
    const { alarms } = importAlarms(csv, "flows.csv");
    expect(alarms).toMatchObject([{ toPort: 22, raw: { note: 'a, "b"' } }]);
  });

  it("names a line with a column too few", () => {
    const { faults } = importAlarms("start,dstaddr,action\n1772338327,10.0.0.5\n", "flows.csv");
    expect(faults).toEqual([{ file: "flows.csv", line: 2, message: "2 columns where 3 are expected" }]);
  });
});

describe("any JSON", () => {
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

  it("names a record that lacks what the map says", () => {
    expect(importAlarms('{"when":1772338327}', "own.json", { map }).faults).toEqual([
      { file: "own.json", line: 1, message: 'nothing at "rule.name"' },
    ]);
  });

  it("is not guessed", () => {
    expect(() => importAlarms('{"a":1}', "own.json")).toThrow(
      "neither Suricata EVE, nor Falco, nor a flow log",
    );
  });
});

it("makes nothing of an empty file", () => {
  expect(importAlarms("\n", "eve.json")).toEqual({ alarms: [], skipped: 0, faults: [] });
});

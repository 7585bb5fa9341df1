import type { Instance, Telemetry, TelemetryProcess } from "@ale/core";
import { EpisodeGuard, type GuardRequest, type Judgement } from "../../src/index.ts";
import { bash, instanceWith } from "../instance.ts";

/** An episode that begins at this time; all times below are milliseconds since then. */
export const START = 1_763_700_000_000;

export const guardWith = (settings: Instance["guard"] = {}, more: Partial<GuardRequest> = {}): EpisodeGuard =>
  new EpisodeGuard({
    episode: "ep_1",
    instance: { ...instanceWith(), guard: settings },
    fingerprints: [],
    ...more,
  });

export const SESSION_SHELL: TelemetryProcess = {
  pid: 20,
  startedAt: START - 500,
  exe: "/usr/bin/bash",
  command: "bash --norc --noprofile --noediting -i",
  shell: 20,
};

/** A process and its parents, the nearest first, as collectors tell it. */
export function processOf(
  [self, ...parents]: readonly (readonly [pid: number, at: number, command: string])[],
  top: TelemetryProcess | null = SESSION_SHELL,
): TelemetryProcess {
  const [pid, at, command] = self!;
  const above = top === null ? [] : [top];
  return {
    pid,
    ...(top?.shell === undefined ? {} : { shell: top.shell }),
    startedAt: START + at,
    exe: `/usr/bin/${command.split(" ")[0]}`,
    command,
    ancestry: [...parents.map(([, , line]) => line), ...above.map((one) => one.command!)],
    lineage: [
      ...parents.map(([parent, since]) => ({ pid: parent, startedAt: START + since })),
      ...above.map((one) => ({ pid: one.pid, startedAt: one.startedAt! })),
    ],
  };
}

export const record = (at: number, kind: Telemetry["kind"], facts: Partial<Telemetry> = {}): Telemetry => ({
  at: START + at,
  kind,
  source: "proxy",
  sandbox: "sb_1",
  ...facts,
});

export const deny = (at: number, net: Telemetry["net"], process?: TelemetryProcess): Telemetry =>
  record(at, "net.deny", { net: { protocol: "tcp", ...net }, ...(process ? { process } : {}) });

/** One call from beginning to end; `chunk` is in its id too. */
export function play(
  guard: EpisodeGuard,
  chunk: number,
  [from, to]: readonly [number, number],
  command = "make",
): Judgement[] {
  const call = bash(command, `call_${chunk}`);
  return [guard.beginCall(chunk, call, START + from), guard.endCall(chunk, call, [], START + to)];
}

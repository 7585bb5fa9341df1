import { readlinkSync } from "node:fs";
import { setPriority } from "node:os";
import { basename } from "node:path";
import { receiveMessageOnPort, workerData } from "node:worker_threads";
import type { Telemetry } from "@ale/core";
import { fromMonotonicMs, useMonotonicOffset } from "./clock.ts";
import { ExecReader } from "./exec-witness.ts";
import * as facts from "./proc-facts.ts";
import type { TraceEvent } from "./trace-events.ts";
import { TraceReader } from "./trace-reader.ts";
import { TraceStory } from "./trace-story.ts";
import type { FromTracer, ToTracer, TracerSetup } from "./tracer-messages.ts";

/**
 * A thread of its own reads the kernel's trace, so that neither a busy driver delays the reading nor a busy sandbox the driver. It waits in
 * the kernel for the first event. While there are more it looks now and then, where the kernel writes down what programs were started with, and
 * all the time where that can be read only as long as they run.
 */

/** Between two looks while there is something to see: what is left to the kernel waits in its buffers, and what is asked comes first. */
const [BUSY_MS, HURRIED_MS] = [20, 1];
/** What is asked waits so long, so that one reading answers it, and what else is asked meanwhile. */
const ASKED_MS = 1;
/** So long after the last event it is still looked often: what was born will soon be a program. */
const QUIET_MS = 4;
/** A driver that ends waits for this at most. */
const IDLE_MS = 100;
const SWEEP_MS = 1_000;
const PRIORITY = -15;

const { port, directory, formats, queue, bell, offsetMs } = workerData as TracerSetup;
useMonotonicOffset(offsetMs);
const story = new TraceStory({
  stat: facts.statOf,
  command: facts.commandOf,
  exe: facts.exeOf,
  uid: facts.uidOf,
  sandbox: facts.sandboxOf,
  innerPid: facts.innerPidOf,
  leader: facts.leaderOf,
  outside: facts.isOutside,
});
const reader = new TraceReader(directory, formats);
const execs = queue === undefined ? undefined : new ExecReader(queue);
/** What was asked, with the time until which the trace must have been read before it is answered. */
const asked: { readonly at: number; readonly answer: () => void }[] = [];
const nowNs = (): number => Number(process.hrtime.bigint());
const onClock = (ns: number): number => fromMonotonicMs(ns / 1e6);
const tell = (message: FromTracer): void => port.postMessage(message);
const pause = new Int32Array(new SharedArrayBuffer(4));
let on = false;

/** This thread alone goes before others: it works for moments, and what it does not read in time is gone. */
function hurry(): void {
  try {
    setPriority(Number(basename(readlinkSync("/proc/thread-self"))), PRIORITY);
  } catch {
    // Without the right to it, as any other.
  }
}

/** Before each reading: what was asked before something happened is heard before it is told. */
function listen(): boolean {
  for (;;) {
    const message = (receiveMessageOnPort(port) as { message: ToTracer } | undefined)?.message;
    if (message === undefined) return true;
    if (message.type === "end") return false;
    hear(message);
  }
}

function hear(message: Exclude<ToTracer, { type: "end" }>): void {
  // The one who asks has seen something already that happened before: a time of its record, read from another clock, may be too early for it.
  const at = onClock(nowNs());
  switch (message.type) {
    case "on":
      on = true;
      return;
    case "off":
      on = false;
      answerUntil(Number.POSITIVE_INFINITY);
      reader.forget();
      story.clear();
      return;
    case "follow":
      story.follow(message.sandbox, message.pids);
      return;
    case "forget":
      story.forget(message.sandbox);
      return;
    case "drain":
      asked.push({ at, answer: () => tell({ type: "drained", id: message.id }) });
      return;
    case "enrich": {
      const { id, record } = message;
      const answer = (): void => tell({ type: "enriched", id, record: story.complete(record) });
      asked.push({ at, answer });
      return;
    }
    default:
      message satisfies never;
  }
}

function answerUntil(until: number): void {
  const rest = asked.filter((one) => one.at > until);
  for (const { at, answer } of asked.splice(0)) if (at <= until) answer();
  asked.push(...rest);
}

const withFacts = (event: TraceEvent): TraceEvent =>
  event.type === "exec" && execs !== undefined
    ? { ...event, facts: execs.take(event.task, event.ns) }
    : event;

/** Whether there is or will soon be more. */
function read(now: number): boolean {
  const { events, until, missed, more } = reader.read(now);
  // After the trace: what that tells of was written down before.
  execs?.read();
  const at = onClock(until);
  const records: Telemetry[] = missed === 0 ? [] : story.lost(missed, at);
  records.push(...story.hearAll(events.map(withFacts), onClock));
  if (records.length > 0) tell({ type: "records", records });
  answerUntil(at);
  return events.length > 0 || more || asked.length > 0;
}

hurry();
const betweenMs = execs === undefined ? HURRIED_MS : BUSY_MS;
let [busyUntil, sweptAt] = [0, 0];
for (;;) {
  const rung = Atomics.load(bell, 0);
  if (!listen()) break;
  if (asked.length > 0) {
    Atomics.wait(pause, 0, 0, ASKED_MS);
    if (!listen()) break;
  }
  const now = nowNs();
  if (read(now)) busyUntil = now + QUIET_MS * 1e6;
  if (now - sweptAt > SWEEP_MS * 1e6) {
    sweptAt = now;
    story.sweep(onClock(now));
    execs?.sweep(now);
  }
  if (on && now < busyUntil) Atomics.wait(bell, 0, rung, asked.length > 0 ? HURRIED_MS : betweenMs);
  else reader.wait(IDLE_MS);
}
answerUntil(Number.POSITIVE_INFINITY);
reader[Symbol.dispose]();
port.close();

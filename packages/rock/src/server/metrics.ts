import type { SandboxRecord, Transition } from "./record.ts";
import type { SandboxService } from "./service.ts";

/** Counters of a server in the text format of Prometheus. Labels are routes and states, never what a caller chose. */

const BUCKETS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

class Histogram {
  readonly #counts: number[] = BUCKETS_S.map(() => 0);
  #count = 0;
  #sum = 0;

  observe(seconds: number): void {
    this.#count += 1;
    this.#sum += seconds;
    const at = BUCKETS_S.findIndex((bound) => seconds <= bound);
    if (at >= 0) this.#counts[at]! += 1;
  }

  *lines(name: string, labels: string): Generator<string> {
    let sum = 0;
    const more = labels === "" ? "" : `${labels},`;
    for (const [index, bound] of BUCKETS_S.entries()) {
      sum += this.#counts[index]!;
      yield `${name}_bucket{${more}le="${bound}"} ${sum}`;
    }
    yield `${name}_bucket{${more}le="+Inf"} ${this.#count}`;
    yield `${name}_sum{${labels}} ${this.#sum}`;
    yield `${name}_count{${labels}} ${this.#count}`;
  }
}

export class Metrics {
  readonly #calls = new Map<string, number>();
  readonly #durations = new Map<string, Histogram>();
  readonly #transitions = new Map<string, number>();
  readonly #starts = new Histogram();

  call(method: string, route: string, status: number, ms: number): void {
    const labels = `method="${method}",route="${route}"`;
    count(this.#calls, `${labels},status="${status}"`);
    const durations = this.#durations.get(labels) ?? new Histogram();
    this.#durations.set(labels, durations);
    durations.observe(ms / 1_000);
  }

  transition(record: SandboxRecord, { to, event, atMs }: Transition): void {
    count(this.#transitions, `to="${to}",event="${event}"`);
    if (to === "running" && event === "create") this.#starts.observe((atMs - record.createdAtMs) / 1_000);
  }

  text(service: SandboxService, auditHealthy: boolean): string {
    const states = new Map<string, number>();
    for (const { state } of service.everything()) count(states, `state="${state}"`);
    return `${[
      ...family("ale_rock_sandboxes", "gauge", "Sandboxes by state.", pairs("ale_rock_sandboxes", states)),
      ...family(
        "ale_rock_transitions_total",
        "counter",
        "Changes of state of sandboxes, by cause.",
        pairs("ale_rock_transitions_total", this.#transitions),
      ),
      ...family(
        "ale_rock_start_seconds",
        "histogram",
        "From the request for a sandbox until it ran.",
        this.#starts.lines("ale_rock_start_seconds", ""),
      ),
      ...family(
        "ale_rock_calls_total",
        "counter",
        "Calls by route and status.",
        pairs("ale_rock_calls_total", this.#calls),
      ),
      ...family(
        "ale_rock_call_seconds",
        "histogram",
        "Duration of calls by route.",
        [...this.#durations].flatMap(([labels, durations]) => [
          ...durations.lines("ale_rock_call_seconds", labels),
        ]),
      ),
      ...family("ale_rock_audit_healthy", "gauge", "1 while the audit log can be written.", [
        `ale_rock_audit_healthy ${auditHealthy ? 1 : 0}`,
      ]),
      ...family("process_resident_memory_bytes", "gauge", "Memory of the server's process.", [
        `process_resident_memory_bytes ${process.memoryUsage.rss()}`,
      ]),
    ].join("\n")}\n`;
  }
}

function* family(name: string, type: string, help: string, lines: Iterable<string>): Generator<string> {
  yield `# HELP ${name} ${help}`;
  yield `# TYPE ${name} ${type}`;
  yield* lines;
}

const pairs = (name: string, counts: ReadonlyMap<string, number>): string[] =>
  [...counts].map(([labels, value]) => `${name}{${labels}} ${value}`);

function count(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

import type { Telemetry } from "@ale/core";
import { describe, expect, test } from "vitest";
import { offsetsIn } from "../src/host/btf.ts";
import { Attempts } from "../src/telemetry/attempts.ts";
import { BpfCode } from "../src/telemetry/bpf-code.ts";
import { AT, decodeExec, type ExecFacts, executableOf, RECORD_BYTES } from "../src/telemetry/exec-record.ts";
import { type Proc, ProcessTree } from "../src/telemetry/process-tree.ts";
import { readPage } from "../src/telemetry/ring-page.ts";
import { decoderOf, ipv6Text, type TraceEvent } from "../src/telemetry/trace-events.ts";
import { TraceStory } from "../src/telemetry/trace-story.ts";

/** A page of the kernel's ring buffer, as include/linux/ring_buffer.h has it. */
function page(ns: number, events: readonly Buffer[], missed?: number): Buffer {
  const body = Buffer.concat(events);
  const head = Buffer.alloc(16);
  head.writeBigUInt64LE(BigInt(ns), 0);
  const flags = missed === undefined ? 0 : 0xc0000000;
  head.writeUInt32LE((flags | body.length) >>> 0, 8);
  const tail = Buffer.alloc(8);
  tail.writeBigUInt64LE(BigInt(missed ?? 0));
  return Buffer.concat([head, body, tail], 4096);
}
const header = (type: number, delta: number): Buffer => {
  const word = Buffer.alloc(4);
  word.writeUInt32LE(type + delta * 32);
  return word;
};
const number = (value: number): Buffer => {
  const word = Buffer.alloc(4);
  word.writeUInt32LE(value);
  return word;
};
const small = (delta: number, data: string): Buffer =>
  Buffer.concat([header(data.length / 4, delta), Buffer.from(data)]);

function read(bytes: Buffer): { events: [number, string][]; missed: number } {
  const events: [number, string][] = [];
  const missed = readPage(bytes, (ns, data) => events.push([ns, data.toString()]));
  return { events, missed };
}

describe("a page of the kernel's trace buffer", () => {
  test("gives events with their times, however they are packed", () => {
    const large = Buffer.concat([header(0, 7), number(4 + 120), Buffer.alloc(120, "z")]);
    const later = Buffer.concat([header(30, 5), number(3)]);
    const skipped = Buffer.concat([header(29, 2), number(8), Buffer.alloc(4)]);
    const absolute = Buffer.concat([header(31, 11), number(100)]);
    const bytes = page(1_000, [
      small(10, "abcd"),
      large,
      later,
      small(1, "efghijkl"),
      skipped,
      absolute,
      small(4, "mnop"),
    ]);
    expect(read(bytes)).toEqual({
      events: [
        [1_010, "abcd"],
        [1_017, "z".repeat(120)],
        [1_017 + 3 * 2 ** 27 + 5 + 1, "efghijkl"],
        [100 * 2 ** 27 + 11 + 4, "mnop"],
      ],
      missed: 0,
    });
  });

  test("says how many were lost before it", () => {
    expect(read(page(0, [small(1, "abcd")], 17))).toEqual({ events: [[1, "abcd"]], missed: 17 });
  });

  test("that is cut off or nonsense gives what can be read and no more", () => {
    expect(read(Buffer.alloc(3))).toEqual({ events: [], missed: 0 });
    const broken = Buffer.concat([header(0, 1), number(60_000), Buffer.from("abcd")]);
    expect(read(page(0, [small(1, "abcd"), broken]))).toEqual({ events: [[1, "abcd"]], missed: 0 });
    for (let n = 0; n < 200; n++)
      read(Buffer.from(Array.from({ length: 256 }, (_, k) => (k * n * 37 + n) % 256)));
  });
});

const EXEC = `name: sched_process_exec
ID: 365
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:__data_loc char[] filename;\toffset:8;\tsize:4;\tsigned:0;
\tfield:pid_t pid;\toffset:12;\tsize:4;\tsigned:1;
\tfield:pid_t old_pid;\toffset:16;\tsize:4;\tsigned:1;
`;

describe("an event of the trace", () => {
  test("is read by the kernel's own description, and a name with line breaks stays one name", () => {
    const decode = decoderOf([EXEC]);
    const name = "/tmp/x\n bash-1 [000] 1.0: sched_process_exec: filename=/bin/forged pid=1";
    const data = Buffer.alloc(20 + name.length + 1);
    data.writeUInt16LE(365, 0);
    data.writeInt32LE(77, 4);
    data.writeUInt32LE(20 + (name.length + 1) * 65_536, 8);
    data.writeInt32LE(77, 12);
    data.writeInt32LE(76, 16);
    data.write(name, 20);
    expect(decode(5, data)).toEqual({ type: "exec", ns: 5, task: 77, path: name, before: 76 });
    data.writeUInt16LE(9, 0);
    expect(decode(5, data)).toBeUndefined();
  });

  test.each([
    ["20010db8000000000000000000000001", "2001:db8::1"],
    ["00000000000000000000000000000001", "::1"],
    ["fe800000000000000000000000000000", "fe80::"],
    ["20010db8000100020003000400050006", "2001:db8:1:2:3:4:5:6"],
    ["00000000000000000000ffff7f000001", "127.0.0.1"],
  ])("writes the address %s as %s", (hex, text) => {
    expect(ipv6Text(Buffer.from(hex, "hex"))).toBe(text);
  });
});

/** A host that knows nothing but what a test says. */
const silent = (more: Partial<Proc> = {}): Proc => ({
  stat: () => undefined,
  command: () => undefined,
  exe: () => undefined,
  uid: () => undefined,
  sandbox: () => undefined,
  innerPid: (pid) => (pid === 100 ? 1 : 50),
  leader: (task) => task,
  outside: () => false,
  ...more,
});
const pidsOf = (tree: ProcessTree, pid: number): number[] | undefined =>
  tree.describe(tree.at(pid)!).lineage?.map((one) => one.pid);

describe("the tree of processes", () => {
  const begun = (proc: Proc = silent()): ProcessTree => {
    const tree = new ProcessTree(proc);
    tree.attach(100, "/ale/box", 1);
    tree.exec({ type: "exec", ns: 1, task: 100, before: 100, path: "/init" }, false);
    return tree;
  };

  test("knows a daemon's true ancestors when they are gone, PID 1 left out", () => {
    const tree = begun();
    tree.fork(100, 110, false, 2);
    tree.fork(110, 111, false, 3);
    tree.exit(110, true, 4);
    tree.fork(111, 112, false, 5);
    tree.exit(111, true, 6);
    tree.sweep(60_000);
    expect(tree.at(111)).toBeUndefined();
    expect(tree.describe(tree.at(112)!)).toMatchObject({
      pid: 112,
      startedAt: 5,
      lineage: [
        { pid: 111, startedAt: 3 },
        { pid: 110, startedAt: 2 },
      ],
    });
  });

  test("knows threads as their process, and a process only as long as its number is its own", () => {
    const tree = begun();
    tree.fork(100, 110, false, 2);
    tree.fork(110, 120, true, 3);
    expect(tree.at(120)).toBe(tree.at(110));
    tree.exit(120, false, 4);
    expect(tree.at(120)).toBeUndefined();
    tree.exit(110, true, 5);
    tree.fork(9, 110, false, 6_000);
    expect(tree.at(110)).toBeUndefined();
  });

  test("keeps both ends of a long line of ancestors", () => {
    const tree = begun();
    tree.fork(100, 1_000, false, 2);
    for (let n = 0; n < 200; n++) tree.fork(1_000 + n, 1_001 + n, false, 3 + n);
    const line = pidsOf(tree, 1_200)!;
    expect(line.slice(0, 3)).toEqual([1_199, 1_198, 1_197]);
    expect(line.slice(-2)).toEqual([1_001, 1_000]);
    expect(line.length).toBeLessThanOrEqual(17);
  });

  test("takes in what was there before, and learns its start when that is told late", () => {
    const parents = new Map([
      [200, 100],
      [100, 7],
    ]);
    const proc = silent({
      sandbox: (pid) => (parents.has(pid) ? "box" : undefined),
      stat: (pid) => ({ parent: parents.get(pid)!, ticks: 100, startedAt: 1_000 }),
      command: (pid) => ({ text: `command ${pid}`, cut: false }),
    });
    const tree = new ProcessTree(proc);
    tree.seed([200]);
    expect(tree.describe(tree.at(200)!)).toMatchObject({
      command: "command 200",
      startedAt: 1_000,
      lineage: [],
    });
    tree.fork(100, 200, false, 1_004);
    expect(tree.describe(tree.at(200)!).startedAt).toBe(1_004);
  });
});

describe("what the kernel wrote down of a program", () => {
  const facts = (task: number, more: Partial<ExecFacts> = {}): ExecFacts => ({
    ns: 1,
    task,
    level: 1,
    innerPid: 50,
    uid: 7,
    command: { text: "x -y", cut: false },
    path: undefined,
    ...more,
  });
  /** A runtime enters the sandbox's group by itself and makes its PID 1; of neither /proc says anything any more. */
  function told(of: readonly (ExecFacts & { readonly name: string })[]): Telemetry[] {
    const story = new TraceStory(
      silent({ innerPid: () => undefined, command: () => ({ text: "late", cut: false }) }),
    );
    story.follow("box", []);
    const happened = { ns: 1, task: 100 };
    const events: TraceEvent[] = [
      { ...happened, type: "attach", pid: 100, group: "/ale/box" },
      { ...happened, type: "fork", child: 110, thread: false },
      { ...happened, task: 110, type: "fork", child: 120, thread: false },
      ...of.map(
        ({ name, ...facts }) =>
          ({ type: "exec", ns: 1, task: facts.task, before: facts.task, path: name, facts }) as const,
      ),
    ];
    return story.hearAll(events, (ns) => ns);
  }

  test("decides who is of the sandbox: neither the runtime nor its PID 1, however late that is read", () => {
    const runtime = { ...facts(100, { level: 0, innerPid: 100, command: undefined }), name: "/usr/bin/crun" };
    const init = { ...facts(110, { innerPid: 1 }), name: "/init" };
    const program = { ...facts(120, { innerPid: 2 }), name: "/bin/true" };
    const exes = told([runtime, init, program]).map(({ process }) => process?.exe);
    expect(exes).toEqual(["/bin/true"]);
    // Where the record of PID 1 was lost.
    expect(told([runtime, program]).map(({ process }) => process?.exe)).toEqual(["/bin/true"]);
  });

  test("goes before what /proc says later, and one that has no arguments written down is read there", () => {
    const commands = told([
      { ...facts(110), name: "/bin/x" },
      { ...facts(120, { command: { text: "x long", cut: true } }), name: "/bin/x" },
      { ...facts(110, { command: undefined }), name: "/bin/x" },
    ]).map(({ process }) => [process?.command, process?.arguments, process?.uid]);
    expect(commands).toEqual([
      ["x -y", undefined, 7],
      ["x long", "cut", 7],
      ["late", undefined, 7],
    ]);
  });

  test.each([
    ["/bin/true", "/elsewhere", "/bin/true"],
    ["./true", "/bin", "/bin/true"],
    ["../.././/bin/true", "/a/b", "/bin/true"],
    ["a/../true", "/", "/a/../true"],
    ["/proc/self/fd/3", "/memfd:../../bin/ls", "/memfd:../../bin/ls"],
    ["/dev/fd/3/x", undefined, undefined],
    ["/dev/shm/x", undefined, "/dev/shm/x"],
    ["true", undefined, undefined],
  ])("says of %s, executed at %s, that it is %s", (name, where, expected) => {
    expect(executableOf(name, where)).toBe(expected);
  });

  test("is read from its bytes", () => {
    const record = Buffer.alloc(RECORD_BYTES, 0xee);
    record.writeBigUInt64LE(5n, AT.ns);
    record.writeBigUInt64LE((78n << 32n) | 77n, AT.task);
    for (const [at, value] of [
      [AT.level, 2],
      [AT.innerPid, 9],
      [AT.uid, 1_000],
      [AT.given, 9_000],
      [AT.kept, 7],
      [AT.names, 9],
    ] as const)
      record.writeUInt32LE(value, at);
    record.write("sh\0-c\0x", AT.arguments);
    record.write("sh\0a/b\0\n\0", AT.path);
    const command = { text: "sh -c x", cut: true };
    const read = { ns: 5, task: 77, level: 2, innerPid: 9, uid: 1_000 };
    expect(decodeExec(record)).toEqual({ ...read, command, path: "/\n/a/b/sh" });
    record.writeInt32LE(-1, AT.kept);
    record.writeInt32LE(-1, AT.names);
    expect(decodeExec(record)).toEqual({ ...read, command: undefined, path: undefined });
  });
});

/** As pahole writes it: struct outer { int a; struct { int b; int c:3; }; }. */
function types(): Buffer {
  const strings = Buffer.from("\0outer\0a\0b\0c\0");
  const words = [
    ...[0, 0x01000000, 4, 0x20],
    ...[0, 0x84000002, 4, 9, 1, 0, 11, 1, (3 << 24) | 32],
    ...[1, 0x04000002, 12, 7, 1, 0, 0, 2, 32],
  ];
  const body = Buffer.from(new Uint32Array(words).buffer);
  const head = Buffer.alloc(24);
  head.writeUInt32LE(0x0001eb9f, 0);
  head.writeUInt32LE(24, 4);
  head.writeUInt32LE(body.length, 12);
  head.writeUInt32LE(body.length, 16);
  head.writeUInt32LE(strings.length, 20);
  return Buffer.concat([head, body, strings]);
}

describe("the kernel's description of its structures", () => {
  test("says where a member lies, also within one that has no name", () => {
    expect(offsetsIn(types(), { outer: ["a", "b"] })).toEqual({ outer: { a: 0, b: 4 } });
  });

  test.each([
    ["of another structure", () => offsetsIn(types(), { inner: [] }), /no struct inner/],
    ["of a member that is not there", () => offsetsIn(types(), { outer: ["d"] }), /outer has no member d/],
    ["of one that shares its byte with others", () => offsetsIn(types(), { outer: ["c"] }), /no member c/],
    ["that is none", () => offsetsIn(Buffer.alloc(64), { outer: [] }), /no description/],
  ])("has nothing to say %s", (_, ask, message) => {
    expect(ask).toThrow(message);
  });
});

describe("a program for the kernel", () => {
  test("is written as instructions of eight bytes, with jumps by how many they skip", () => {
    const code = new BpfCode().compute(0, "=", -1).jumpIf(0, "!=", 7, "end").load(1, 10, -8, 8);
    const bytes = code.label("end").exit().assemble().toString("hex");
    expect(bytes.match(/.{16}/g)).toEqual([
      "b7000000ffffffff",
      "5500010007000000",
      "79a1f8ff00000000",
      "9500000000000000",
    ]);
    expect(() => new BpfCode().jump("nowhere").assemble()).toThrow(/nowhere/);
  });
});

describe("a record of another collector", () => {
  const told = (source: "proxy" | "audit", command: string): Telemetry => ({
    at: 5,
    kind: source === "audit" ? "syscall.denied" : "net.deny",
    source,
    sandbox: "box",
    process: { pid: 110, exe: "/usr/bin/ssh", command },
  });
  /** In which ssh was started, and gone before anybody could read with what. */
  const story = (proc: Proc = silent()): TraceStory => {
    const story = new TraceStory(proc);
    story.follow("box", []);
    const happened = { ns: 1, task: 100 };
    const events: TraceEvent[] = [
      { ...happened, type: "attach", pid: 100, group: "/ale/box" },
      { ...happened, type: "fork", child: 110, thread: false },
      { ...happened, type: "exec", task: 110, before: 110, path: "/usr/bin/ssh" },
    ];
    story.hearAll(events, (ns) => ns);
    return story;
  };
  const commandIn = (record: Telemetry): string | undefined => record.process?.command;

  test("keeps the command line that was read there, where the trace has only the path, and hands it to later ones", () => {
    const traced = story();
    expect(commandIn(traced.complete(told("proxy", "ssh -R 1:2:3 host")))).toBe("ssh -R 1:2:3 host");
    expect(commandIn(traced.complete(told("audit", "ssh")))).toBe("ssh -R 1:2:3 host");
  });

  test("gets the one that can be read later than at the start, and no name that a program gave itself", () => {
    expect(commandIn(story().complete(told("audit", "innocent")))).toBe("/usr/bin/ssh");
    let lines = 0;
    const late = story(
      silent({
        exe: () => "/usr/bin/ssh",
        command: () => (lines++ === 0 ? undefined : { text: "ssh -N host", cut: false }),
      }),
    );
    expect(commandIn(late.complete(told("audit", "innocent")))).toBe("ssh -N host");
  });

  test("does not take the command line of the program before for that of the next", () => {
    const traced = story();
    const before = {
      ...told("proxy", "timeout 5 ssh"),
      process: { pid: 110, exe: "/usr/bin/timeout", command: "timeout 5 ssh" },
    };
    traced.complete(before);
    expect(commandIn(traced.complete(told("audit", "ssh")))).toBe("/usr/bin/ssh");
  });
});

describe("a connection that was asked for", () => {
  const by = (tree: ProcessTree, pid: number) => tree.at(pid)!;
  const tree = new ProcessTree(silent());
  tree.attach(1, "/ale/box", 1);
  tree.attach(2, "/ale/box", 1);

  test("is found by its local port, whoever else asks for the same", () => {
    const attempts = new Attempts();
    const common = { ip: "10.0.0.5", port: 22, sourcePort: undefined };
    attempts.begin("a", { by: by(tree, 1), at: 10, ...common });
    attempts.begin("b", { by: by(tree, 2), at: 11, ...common });
    attempts.bound("b", 4_002);
    attempts.bound("a", 4_001);
    const find = (sourcePort: number) =>
      attempts.find({ sandbox: "box", at: 12, sourcePort, port: 22 })?.by.pid;
    expect([find(4_001), find(4_002), find(4_003)]).toEqual([1, 2, undefined]);
  });

  test("is found by where it went as long as only one process went there", () => {
    const attempts = new Attempts();
    const find = () =>
      attempts.find({ sandbox: "box", at: 12, sourcePort: 5, ip: "10.0.0.5", port: 22 })?.by.pid;
    attempts.begin("a", { by: by(tree, 1), at: 10, ip: "10.0.0.5", port: 22, sourcePort: undefined });
    expect(find()).toBe(1);
    attempts.begin("b", { by: by(tree, 2), at: 11, ip: "10.0.0.5", port: 22, sourcePort: undefined });
    expect(find()).toBeUndefined();
    attempts.sweep(100_000);
    expect(find()).toBeUndefined();
  });
});

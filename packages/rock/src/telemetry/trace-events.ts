import type { ExecFacts } from "./exec-record.ts";
import { bytesIn, hasField, numberIn, parseFormat, type TraceFormat, textIn } from "./trace-format.ts";

/** What the kernel's trace says, decoded. `task` is the thread in which it happened, on the host. */

interface Happened {
  readonly ns: number;
  readonly task: number;
}

export type TraceEvent = Happened &
  (
    | { readonly type: "fork"; readonly child: number; readonly thread: boolean }
    | {
        readonly type: "exec";
        readonly path: string;
        readonly before: number;
        /** As the kernel wrote them down at that moment, where it does. */
        readonly facts?: ExecFacts | undefined;
      }
    | { readonly type: "exit"; readonly whole: boolean | undefined }
    | { readonly type: "attach"; readonly pid: number; readonly group: string }
    | {
        readonly type: "connect";
        /** The kernel's name for the socket. */
        readonly socket: string;
        readonly ip: string;
        readonly port: number;
      }
    /** It has left the state in which it waits for an answer. */
    | { readonly type: "bound"; readonly socket: string; readonly sourcePort: number }
    | { readonly type: "call"; readonly name: string; readonly arguments: string }
  );

type Decode = (ns: number, data: Buffer) => TraceEvent | undefined;

const CLONE_THREAD = 0x10000;
const [SYN_SENT, AF_INET6] = [2, 10];

/** One for the events of an instance. Throws where a description lacks what is needed. */
export function decoderOf(descriptions: readonly string[]): Decode {
  const decoders = new Map(
    descriptions.map((text) => {
      const format = parseFormat(text);
      return [format.id, decoder(format)] as const;
    }),
  );
  return (ns, data) => (data.length < 8 ? undefined : decoders.get(data.readUInt16LE(0))?.(ns, data));
}

const taskOf = (data: Buffer): number => data.readInt32LE(4);

function decoder(format: TraceFormat): Decode {
  switch (format.name) {
    case "task_newtask":
      return forkDecoder(format);
    case "sched_process_exec":
      return execDecoder(format);
    case "sched_process_exit":
      return exitDecoder(format);
    case "cgroup_attach_task":
      return attachDecoder(format);
    case "inet_sock_set_state":
      return socketDecoder(format);
    default:
      return callDecoder(format);
  }
}

function forkDecoder(format: TraceFormat): Decode {
  const pid = numberIn(format, "pid");
  const flags = numberIn(format, "clone_flags");
  return (ns, data) => ({
    type: "fork",
    ns,
    task: taskOf(data),
    child: pid(data),
    thread: (flags(data) & CLONE_THREAD) !== 0,
  });
}

function execDecoder(format: TraceFormat): Decode {
  const path = textIn(format, "filename");
  const before = numberIn(format, "old_pid");
  return (ns, data) => ({ type: "exec", ns, task: taskOf(data), path: path(data), before: before(data) });
}

function exitDecoder(format: TraceFormat): Decode {
  const pid = numberIn(format, "pid");
  // Older kernels do not say whether it was the last thread.
  const whole = hasField(format, "group_dead") ? numberIn(format, "group_dead") : undefined;
  return (ns, data) => {
    const last = whole === undefined ? undefined : whole(data) !== 0;
    return { type: "exit", ns, task: pid(data), whole: last };
  };
}

function attachDecoder(format: TraceFormat): Decode {
  const pid = numberIn(format, "pid");
  const group = textIn(format, "dst_path");
  return (ns, data) => ({ type: "attach", ns, task: taskOf(data), pid: pid(data), group: group(data) });
}

function socketDecoder(format: TraceFormat): Decode {
  const [state, family] = [numberIn(format, "newstate"), numberIn(format, "family")];
  const [from, to] = [numberIn(format, "sport"), numberIn(format, "dport")];
  const socket = bytesIn(format, "skaddr");
  const [v4, v6] = [bytesIn(format, "daddr"), bytesIn(format, "daddr_v6")];
  return (ns, data) => {
    const common = { ns, task: taskOf(data), socket: socket(data).toString("hex") };
    if (state(data) !== SYN_SENT) return { ...common, type: "bound", sourcePort: from(data) };
    const ip = family(data) === AF_INET6 ? ipv6Text(v6(data)) : [...v4(data)].join(".");
    return { ...common, type: "connect", ip, port: to(data) };
  };
}

function callDecoder(format: TraceFormat): Decode {
  const name = format.name.replace(/^sys_enter_/, "");
  const given = format.fields
    .filter((field) => !field.name.startsWith("common_") && field.name !== "__syscall_nr")
    .map((field) => [field.name, numberIn(format, field.name)] as const);
  return (ns, data) => ({
    type: "call",
    ns,
    task: taskOf(data),
    name,
    arguments: given.map(([field, read]) => `${field}=${valueText(name, field, read(data))}`).join(" "),
  });
}

const PTRACE: Readonly<Record<number, string>> = { 0: "TRACEME", 16: "ATTACH", 16902: "SEIZE" };

const valueText = (call: string, field: string, value: number): string =>
  (call === "ptrace" && field === "request" ? PTRACE[value] : undefined) ??
  (field === "pid" || field === "fd" ? String(value) : `0x${value.toString(16)}`);

const MAPPED = Buffer.from("00000000000000000000ffff", "hex");

/** The longest run of zeros shortened, as RFC 5952 has it; an IPv4 address in disguise as what it is. */
export function ipv6Text(bytes: Buffer): string {
  if (bytes.subarray(0, 12).equals(MAPPED)) return [...bytes.subarray(12)].join(".");
  const parts = Array.from({ length: 8 }, (_, n) => bytes.readUInt16BE(2 * n).toString(16));
  const runs = [...parts.join(":").matchAll(/(?<=^|:)0(?::0)+(?=$|:)/g)].map(([run]) => run);
  const longest = runs.reduce((best, run) => (run.length > best.length ? run : best), "");
  if (longest === "") return parts.join(":");
  const [before = "", after = ""] = splitOnce(parts.join(":"), longest);
  return `${before.replace(/:$/, "")}::${after.replace(/^:/, "")}`;
}

function splitOnce(text: string, part: string): readonly string[] {
  const at = new RegExp(`(?<=^|:)${part}(?=$|:)`).exec(text)?.index ?? -1;
  return [text.slice(0, at), text.slice(at + part.length)];
}

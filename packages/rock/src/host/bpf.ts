import { closeSync } from "node:fs";
import koffi from "koffi";
import { SystemCallError } from "./native.ts";

/**
 * The bpf(2) system call, as far as a program that only looks needs it: maps, a program at a tracepoint, and reading what it has written
 * down. Everything is a descriptor: with the last one of it, also when this process is killed, the kernel forgets all.
 */

const NUMBERS: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };
const [MAP_CREATE, PROG_LOAD, RAW_TRACEPOINT_OPEN, LOOKUP_AND_DELETE] = [0, 5, 17, 21];
const RAW_TRACEPOINT = 17;
const ATTRIBUTE_BYTES = 144;
const TRIES = 10;

export const PER_CPU_ARRAY = 6;
export const QUEUE = 22;

let library: ((number: number, command: number, attribute: Buffer, size: number) => number) | undefined;

function bpf(command: number, attribute: Buffer): number {
  const number = NUMBERS[process.arch];
  if (number === undefined) throw new Error(`bpf is not known on ${process.arch}`);
  library ??= koffi.load("libc.so.6").func("syscall", "long", ["long", "int", "void *", "uint"]);
  return Number(library(number, command, attribute, attribute.length));
}

function checked(what: string, result: number): number {
  if (result < 0) throw new SystemCallError(what, koffi.errno());
  return result;
}

/** union bpf_attr: numbers of four bytes at their places, and addresses of eight. What an address is of must be kept by the caller. */
function attributes(
  numbers: Readonly<Record<number, number>>,
  addresses: Readonly<Record<number, Buffer>> = {},
) {
  const attribute = Buffer.alloc(ATTRIBUTE_BYTES);
  for (const [at, value] of Object.entries(numbers)) attribute.writeUInt32LE(value, Number(at));
  for (const [at, of] of Object.entries(addresses))
    attribute.writeBigUInt64LE(BigInt(koffi.address(of)), Number(at));
  return attribute;
}

export interface MapShape {
  readonly type: typeof PER_CPU_ARRAY | typeof QUEUE;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly entries: number;
}

/** Throws a SystemCallError. */
export function createMap({ type, keyBytes, valueBytes, entries }: MapShape): number {
  const attribute = attributes({ 0: type, 4: keyBytes, 8: valueBytes, 12: entries });
  return checked("bpf map", bpf(MAP_CREATE!, attribute));
}

/** Declared to the kernel as under a licence with which it lets a program read its structures. Throws a SystemCallError. */
export function loadRawTracepointProgram(code: Buffer): number {
  const licence = Buffer.from("Dual MIT/GPL\0");
  const numbers = { 0: RAW_TRACEPOINT, 4: code.length / 8 };
  const attribute = attributes(numbers, { 8: code, 16: licence });
  for (let tries = 1; ; tries++) {
    const fd = bpf(PROG_LOAD!, attribute);
    // The kernel gives up its examination of a program when a signal comes for this process.
    if (fd >= 0 || koffi.errno() !== koffi.os.errno.EAGAIN || tries === TRIES)
      return checked("bpf program", fd);
  }
}

/** Runs the program at each pass of the tracepoint until the descriptor is closed. Throws a SystemCallError. */
export function attachRawTracepoint(name: string, program: number): Disposable {
  const text = Buffer.from(`${name}\0`);
  const attribute = attributes({ 8: program }, { 0: text });
  const fd = checked(`bpf at ${name}`, bpf(RAW_TRACEPOINT_OPEN!, attribute));
  return { [Symbol.dispose]: () => closeSync(fd) };
}

/**
 * Takes the oldest of a queue into `value`, as long as the map's values are. False where it is empty, or somebody
 * else's at the moment. */
export function takeFrom(queue: number): (value: Buffer) => boolean {
  // The buffer's address is asked for once: a reader takes thousands.
  let known: Buffer | undefined;
  let attribute = Buffer.alloc(0);
  return (value) => {
    if (value !== known) {
      known = value;
      attribute = attributes({ 0: queue }, { 16: value });
    }
    if (bpf(LOOKUP_AND_DELETE!, attribute) === 0) return true;
    const errno = koffi.errno();
    const { ENOENT, EBUSY } = koffi.os.errno;
    if (errno === ENOENT || errno === EBUSY) return false;
    throw new SystemCallError("bpf queue", errno);
  };
}

import type { Offsets } from "../host/btf.ts";
import { BpfCode, type Register } from "./bpf-code.ts";
import { ARGUMENT_BYTES } from "./command-line.ts";
import { AT, FAILED, NAME_BYTES, PATH_BYTES } from "./exec-record.ts";

/**
 * The program that the kernel runs when a process has become another: it writes down what that process alone knows, and what is gone when it is over.
 * It reads, and changes nothing. It sees every such process of the machine; of those in no PID namespace of their own, which no sandbox's is, it
 * leaves the arguments where they are.
 */

/** What has to be known of the kernel's structures. */
export const KERNEL_STRUCTURES = {
  task_struct: ["mm", "thread_pid", "cred", "fs"],
  mm_struct: ["arg_start", "arg_end", "exe_file"],
  pid: ["level", "numbers"],
  upid: ["nr"],
  cred: ["euid"],
  linux_binprm: ["filename"],
  fs_struct: ["pwd"],
  file: ["f_path"],
  path: ["mnt", "dentry"],
  dentry: ["d_parent", "d_name"],
  qstr: ["name"],
  vfsmount: ["mnt_root"],
  mount: ["mnt", "mnt_parent", "mnt_mountpoint"],
} as const;
type KernelOffsets = Offsets<keyof typeof KERNEL_STRUCTURES>;

/** Helpers of the kernel, by number (include/uapi/linux/bpf.h). */
const [LOOKUP, CLOCK, PID_TGID, PUSH, READ_USER, READ_KERNEL, READ_TEXT] = [1, 5, 14, 87, 112, 113, 115];
/** struct upid: a number, filled up to eight bytes, and a pointer. */
const UPID_BYTES = 16;
/** Directories and mounts on the way to the root; what lies deeper is not followed. */
const STEPS = 32;
const [PROC, DEV] = ["/pro", "/dev"].map((text) => Buffer.from(text).readInt32LE());

/** Places on the program's stack. */
const S = { key: -4, pointer: -16, end: -24, dentry: -32, mount: -40, other: -48, name: -56 } as const;
const [RESULT, CONTEXT, RECORD, TASK, LENGTH, STACK] = [0, 6, 7, 8, 9, 10] as const;

/** `scratch`: an array of one record for each processor. `queue`: of records, for whoever reads them. */
export function execProgram(k: KernelOffsets, scratch: number, queue: number): Buffer {
  const code = new BpfCode();
  /** Reads from the kernel's memory at `from` + `offset` onto the stack. What cannot be read is zero. */
  const read = (to: number, from: Register, offset: number, bytes = 8): void => {
    code.compute(3, "=", { register: from }).compute(3, "+", offset);
    code.compute(1, "=", { register: STACK }).compute(1, "+", to);
    code.compute(2, "=", bytes).call(READ_KERNEL!);
  };
  const readThrough = (to: number, pointer: number, offset: number): void => {
    code.load(3, STACK, pointer, 8);
    read(to, 3, offset);
  };
  /** Reads a number of four bytes into the record; `from` is not 1 or 2. */
  const keep = (at: number, from: Register, offset: number): void => {
    code.compute(3, "=", { register: from }).compute(3, "+", offset);
    code.compute(1, "=", { register: RECORD }).compute(1, "+", at);
    code.compute(2, "=", 4).call(READ_KERNEL!);
  };

  // The record of this processor, and the process: the context is (task, old pid, what is executed).
  code.compute(CONTEXT, "=", { register: 1 }).storeNumber(STACK, S.key, 0, 4);
  code.loadMap(1, scratch).compute(2, "=", { register: STACK }).compute(2, "+", S.key).call(LOOKUP!);
  code.jumpIf(RESULT, "==", 0, "end").compute(RECORD, "=", { register: RESULT });
  code.load(TASK, CONTEXT, 0, 8);
  code.call(CLOCK!).store(RECORD, AT.ns, RESULT, 8);
  code.call(PID_TGID!).store(RECORD, AT.task, RESULT, 8);

  // Who it is: its number in its own namespace, how deep that lies, its user.
  read(S.pointer, TASK, k.task_struct.thread_pid!);
  code.load(3, STACK, S.pointer, 8);
  keep(AT.level, 3, k.pid.level!);
  code.load(3, RECORD, AT.level, 4).compute(3, "*", UPID_BYTES).load(4, STACK, S.pointer, 8);
  code.compute(3, "+", { register: 4 });
  keep(AT.innerPid, 3, k.pid.numbers! + k.upid.nr!);
  read(S.pointer, TASK, k.task_struct.cred!);
  code.load(3, STACK, S.pointer, 8);
  keep(AT.uid, 3, k.cred.euid!);

  // Its arguments, of a sandbox's.
  code.storeNumber(RECORD, AT.given, 0, 4).storeNumber(RECORD, AT.kept, 0, 4);
  code.storeNumber(RECORD, AT.names, 0, 4);
  code.load(1, RECORD, AT.level, 4).jumpIf(1, "==", 0, "push");
  code.storeNumber(RECORD, AT.kept, FAILED, 4);
  read(S.pointer, TASK, k.task_struct.mm!);
  readThrough(S.end, S.pointer, k.mm_struct.arg_end!);
  readThrough(S.other, S.pointer, k.mm_struct.arg_start!);
  code.load(LENGTH, STACK, S.end, 8).load(3, STACK, S.other, 8);
  code.jumpIf(LENGTH, "<=", { register: 3 }, "where").compute(LENGTH, "-", { register: 3 });
  code.store(RECORD, AT.given, LENGTH, 4);
  code.jumpIf(LENGTH, "<=", ARGUMENT_BYTES, "fits").compute(LENGTH, "=", ARGUMENT_BYTES).label("fits");
  code.compute(1, "=", { register: RECORD }).compute(1, "+", AT.arguments);
  code.compute(2, "=", { register: LENGTH }).call(READ_USER!);
  code.jumpIf(RESULT, "!=", 0, "where").store(RECORD, AT.kept, LENGTH, 4);

  // Where it lies, where its name does not say that: what is executed of a descriptor, the working directory of a relative name.
  code.label("where");
  code.load(3, CONTEXT, 16, 8);
  read(S.other, 3, k.linux_binprm.filename!);
  code.storeNumber(STACK, S.name, 0, 8).load(3, STACK, S.other, 8);
  read(S.name, 3, 0, 4);
  code.load(1, STACK, S.name, 4);
  code.jumpIf(1, "==", PROC!, "opened").jumpIf(1, "==", DEV!, "opened");
  code.compute(1, "&", 0xff).jumpIf(1, "==", "/".charCodeAt(0), "push");
  read(S.pointer, TASK, k.task_struct.fs!);
  code.load(LENGTH, STACK, S.pointer, 8).compute(LENGTH, "+", k.fs_struct.pwd!).jump("path");
  code.label("opened");
  readThrough(S.other, S.pointer, k.mm_struct.exe_file!);
  code.load(LENGTH, STACK, S.other, 8).compute(LENGTH, "+", k.file.f_path!);
  code.label("path");
  read(S.dentry, LENGTH, k.path.dentry!);
  read(S.mount, LENGTH, k.path.mnt!);
  code.storeNumber(RECORD, AT.names, FAILED, 4).compute(LENGTH, "=", 0);
  for (let step = 0; step < STEPS; step++) {
    const [root, next] = [`root ${step}`, `next ${step}`];
    readThrough(S.other, S.mount, k.vfsmount.mnt_root!);
    code.load(1, STACK, S.dentry, 8).load(2, STACK, S.other, 8).jumpIf(1, "==", { register: 2 }, root);
    readThrough(S.other, S.dentry, k.dentry.d_parent!);
    readThrough(S.name, S.dentry, k.dentry.d_name! + k.qstr.name!);
    code.jumpIf(LENGTH, ">", PATH_BYTES - 1, "push");
    code.compute(1, "=", { register: RECORD }).compute(1, "+", AT.path);
    code.compute(1, "+", { register: LENGTH }).compute(2, "=", NAME_BYTES).load(3, STACK, S.name, 8);
    code.call(READ_TEXT!).jumpIf(RESULT, ">", NAME_BYTES, "push");
    code.compute(LENGTH, "+", { register: RESULT });
    // What belongs to no directory is its own parent.
    code.load(1, STACK, S.dentry, 8).load(2, STACK, S.other, 8).jumpIf(1, "==", { register: 2 }, "whole");
    code.store(STACK, S.dentry, 2, 8).jump(next);
    // The root of a file system goes on where that is mounted; what is mounted nowhere is the parent of itself.
    code.label(root).load(TASK, STACK, S.mount, 8).compute(TASK, "-", k.mount.mnt!);
    read(S.other, TASK, k.mount.mnt_parent!);
    code.load(1, STACK, S.other, 8).jumpIf(1, "==", { register: TASK }, "whole");
    code.compute(1, "+", k.mount.mnt!).store(STACK, S.mount, 1, 8);
    read(S.dentry, TASK, k.mount.mnt_mountpoint!);
    code.label(next);
  }
  code.jump("push").label("whole").store(RECORD, AT.names, LENGTH, 4);

  code.label("push").loadMap(1, queue).compute(2, "=", { register: RECORD }).compute(3, "=", 0).call(PUSH!);
  return code.label("end").compute(RESULT, "=", 0).exit().assemble();
}

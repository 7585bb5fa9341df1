import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import koffi from "koffi";
import type { SeccompProfile, SeccompRule } from "./seccomp.ts";

/**
 * Compiles the filter once a process, with the library that the runtime itself would use for every single container. crun takes the
 * result as an annotation. The tree form also decides in ten comparisons where the runtime's would take hundreds.
 */

const ALLOW = 0x7fff0000;
const errno = (value: number): number => 0x00050000 | value;
const OPERATORS = { SCMP_CMP_EQ: 4, SCMP_CMP_MASKED_EQ: 7 } as const;
/** SCMP_FLTATR_CTL_OPTIMIZE and its value for a binary tree. */
const OPTIMIZE = 8;
const BINARY_TREE = 2;

let compiled: Buffer | null | undefined;

/** The BPF program, or null where libseccomp is not there; the runtime then compiles the profile itself. */
export function compiledSeccomp(profile: SeccompProfile): Buffer | null {
  if (compiled === undefined) {
    try {
      compiled = compileSeccomp(profile);
    } catch {
      compiled = null;
    }
  }
  return compiled;
}

/** Throws where libseccomp is missing or refuses the profile. */
export function compileSeccomp(profile: SeccompProfile): Buffer {
  const library = koffi.load("libseccomp.so.2");
  const comparison = koffi.struct({ arg: "uint32", op: "int", a: "uint64", b: "uint64" });
  const init = library.func("seccomp_init", "void *", ["uint32"]);
  const release = library.func("seccomp_release", "void", ["void *"]);
  const setAttribute = library.func("seccomp_attr_set", "int", ["void *", "int", "uint32"]);
  const resolve = library.func("seccomp_syscall_resolve_name", "int", ["str"]);
  const add = library.func("seccomp_rule_add_array", "int", [
    "void *",
    "uint32",
    "int",
    "uint32",
    koffi.pointer(comparison),
  ]);
  const exportBpf = library.func("seccomp_export_bpf", "int", ["void *", "int"]);

  const context: unknown = init(errno(profile.defaultErrnoRet));
  try {
    setAttribute(context, OPTIMIZE, BINARY_TREE);
    for (const rule of profile.syscalls)
      for (const name of rule.names) {
        const number: number = resolve(name);
        // Negative: not a system call of this machine, or newer than the library. Then it is refused like all that is unknown.
        if (number < 0) continue;
        const args = argumentsOf(rule);
        const result: number = add(context, actionOf(rule), number, args.length, args);
        if (result !== 0) throw new Error(`libseccomp refuses the rule for ${name}: ${result}`);
      }
    return exported((fd) => exportBpf(context, fd));
  } finally {
    release(context);
  }
}

const actionOf = (rule: SeccompRule): number =>
  rule.action === "SCMP_ACT_ALLOW" ? ALLOW : errno(rule.errnoRet ?? 1);

const argumentsOf = (rule: SeccompRule) =>
  (rule.args ?? []).map(({ index, op, value, valueTwo }) => ({
    arg: index,
    op: OPERATORS[op],
    a: value,
    b: valueTwo ?? 0,
  }));

function exported(write: (fd: number) => number): Buffer {
  const directory = mkdtempSync(join(tmpdir(), "ale-seccomp-"));
  try {
    const path = join(directory, "bpf");
    const fd = openSync(path, "w");
    const result = write(fd);
    closeSync(fd);
    if (result !== 0) throw new Error(`libseccomp cannot export the filter: ${result}`);
    return readFileSync(path);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

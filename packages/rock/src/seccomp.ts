/**
 * The system call filter of every sandbox, in OCI form. What is refused is what lets a process reach the kernel's administration,
 * other namespaces, other processes' memory, or address families that no task needs.
 */

export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly {
    readonly index: number;
    readonly value: number;
    readonly valueTwo?: number;
    readonly op: string;
  }[];
}

export interface SeccompProfile {
  readonly defaultAction: string;
  readonly architectures: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

const EPERM = 1;
const ENOSYS = 38;
const EOPNOTSUPP = 95;
const EAFNOSUPPORT = 97;

const REFUSED = [
  "acct",
  "add_key",
  "bpf",
  "clock_adjtime",
  "clock_settime",
  "create_module",
  "delete_module",
  "finit_module",
  "fsconfig",
  "fsmount",
  "fsopen",
  "fspick",
  "get_kernel_syms",
  "init_module",
  "io_uring_enter",
  "io_uring_register",
  "io_uring_setup",
  "ioperm",
  "iopl",
  "kcmp",
  "kexec_file_load",
  "kexec_load",
  "keyctl",
  "lookup_dcookie",
  "mount",
  "mount_setattr",
  "move_mount",
  "move_pages",
  "name_to_handle_at",
  "nfsservctl",
  "open_by_handle_at",
  "open_tree",
  "perf_event_open",
  "personality",
  "pivot_root",
  "process_vm_readv",
  "process_vm_writev",
  "query_module",
  "quotactl",
  "quotactl_fd",
  "reboot",
  "request_key",
  "set_mempolicy",
  "setns",
  "settimeofday",
  "stime",
  "swapoff",
  "swapon",
  "_sysctl",
  "sysfs",
  "syslog",
  "umount",
  "umount2",
  "unshare",
  "uselib",
  "userfaultfd",
  "ustat",
  "vhangup",
  "vm86",
  "vm86old",
  "fanotify_init",
] as const;

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const NEW_NAMESPACE = [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000] as const;
/** AF_KEY, TIPC, RDS, BLUETOOTH, ALG, VSOCK, XDP, PACKET. */
const REFUSED_FAMILIES = [15, 30, 21, 31, 38, 40, 44, 17] as const;
const SOCK_RAW = 3;
/** TIOCSTI types into another terminal, TIOCLINUX into the console. */
const REFUSED_IOCTLS = [0x5412, 0x541c] as const;

/** FICLONE and FICLONERANGE. */
const CLONING_IOCTLS = [0x40049409, 0x4020940d] as const;

const equal = (index: number, value: number) => [{ index, value, op: "SCMP_CMP_EQ" }];
const masked = (index: number, mask: number, value: number) => [
  { index, value: mask, valueTwo: value, op: "SCMP_CMP_MASKED_EQ" },
];
const refuse = (names: readonly string[], errnoRet: number, args?: SeccompRule["args"]): SeccompRule => ({
  names,
  action: "SCMP_ACT_ERRNO",
  errnoRet,
  ...(args ? { args } : {}),
});

export function seccompProfile(arch: string = process.arch): SeccompProfile {
  return {
    defaultAction: "SCMP_ACT_ALLOW",
    architectures:
      arch === "x64"
        ? ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
        : ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    syscalls: [
      refuse(REFUSED, EPERM),
      // Its flags lie in memory where a filter cannot see them; libc falls back to clone.
      refuse(["clone3"], ENOSYS),
      // Copies inside the kernel leave no access time on an overlay, so a watched file could be copied unseen; cp and cat fall back
      // to reading.
      refuse(["copy_file_range"], ENOSYS),
      ...CLONING_IOCTLS.map((request) => refuse(["ioctl"], EOPNOTSUPP, equal(1, request))),
      ...NEW_NAMESPACE.map((flag) => refuse(["clone"], EPERM, masked(0, flag, flag))),
      ...REFUSED_FAMILIES.map((family) => refuse(["socket"], EAFNOSUPPORT, equal(0, family))),
      // Raw sockets of the internet families only: netlink's are raw too, and getifaddrs needs them.
      ...REFUSED_IOCTLS.map((request) => refuse(["ioctl"], EPERM, equal(1, request))),
      { ...refuse(["socket"], EPERM), args: [...equal(0, 2), ...masked(1, 0xf, SOCK_RAW)] },
      { ...refuse(["socket"], EPERM), args: [...equal(0, 10), ...masked(1, 0xf, SOCK_RAW)] },
    ],
  };
}

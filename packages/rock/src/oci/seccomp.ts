/**
 * The system call filter of every sandbox, in OCI form. What is not named is refused: the list holds what ordinary programs use
 * (container engines' common default), and leaves out what administers the kernel, makes or enters namespaces, mounts, looks into
 * other processes, or opens address families that no task needs.
 */

export interface SeccompComparison {
  readonly index: number;
  readonly value: number;
  readonly valueTwo?: number;
  readonly op: "SCMP_CMP_EQ" | "SCMP_CMP_MASKED_EQ";
}

export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: "SCMP_ACT_ALLOW" | "SCMP_ACT_ERRNO";
  readonly errnoRet?: number;
  readonly args?: readonly SeccompComparison[];
}

export interface SeccompProfile {
  readonly defaultAction: "SCMP_ACT_ERRNO";
  readonly defaultErrnoRet: number;
  readonly architectures: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

const words = (text: string): string[] => text.trim().split(/\s+/);

const ALLOWED = words(`
  accept accept4 access alarm arch_prctl bind brk cachestat capget capset chdir chmod chown chroot clock_getres
  clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
  epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
  exit_group faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync
  fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait
  futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid geteuid
  getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid
  getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr inotify_add_watch inotify_init
  inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit ioprio_get
  ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen
  listxattr llistxattr lremovexattr lseek lsetxattr lstat madvise map_shadow_stack membarrier memfd_create mincore mkdir
  mkdirat mknod mknodat mlock mlock2 mlockall mmap modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
  mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep newfstatat
  open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl
  pread64 preadv preadv2 prlimit64 process_mrelease pselect6 ptrace pwrite64 pwritev pwritev2 read readahead readlink
  readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr rename renameat renameat2 restart_syscall
  rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
  rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
  sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
  seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto set_robust_list set_thread_area
  set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid
  setrlimit setsid setsockopt setuid setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
  socketpair splice stat statfs statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time
  timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime
  times tkill truncate umask uname unlink unlinkat utime utimensat utimes vfork vmsplice wait4 waitid write writev`);

/** Refused with EPERM, which is what a program without privileges expects of them; the rest is "not implemented". */
const REFUSED = words(`
  acct add_key adjtimex bpf clock_adjtime clock_settime delete_module fanotify_init finit_module fsconfig fsmount fsopen
  fspick init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl
  lookup_dcookie mount mount_setattr move_mount move_pages name_to_handle_at open_by_handle_at open_tree perf_event_open
  pidfd_getfd pivot_root process_madvise process_vm_readv process_vm_writev quotactl quotactl_fd reboot request_key
  set_mempolicy setdomainname sethostname setns settimeofday swapoff swapon syslog umount2 unshare userfaultfd vhangup`);

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET together. */
const NEW_NAMESPACES = 0x7e020000;
/** PER_LINUX, PER_LINUX32, ADDR_NO_RANDOMIZE (debuggers), and the query. */
const PERSONALITIES = [0x0, 0x8, 0x40000, 0xffffffff] as const;
const AF = { UNIX: 1, INET: 2, AX25: 3, INET6: 10, KEY: 15, NETLINK: 16, PACKET: 17, RDS: 21 } as const;
/** AF_TIPC, BLUETOOTH, ALG, VSOCK, XDP. */
const MORE_REFUSED_FAMILIES = [30, 31, 38, 40, 44] as const;
const TIOCSTI = 0x5412;
const SOCK = { STREAM: 1, DGRAM: 2 } as const;

const equal = (index: number, value: number): SeccompComparison => ({ index, value, op: "SCMP_CMP_EQ" });
const masked = (index: number, mask: number, value: number): SeccompComparison => ({
  index,
  value: mask,
  valueTwo: value,
  op: "SCMP_CMP_MASKED_EQ",
});
const allow = (names: readonly string[], ...args: SeccompComparison[]): SeccompRule => ({
  names,
  action: "SCMP_ACT_ALLOW",
  ...(args.length > 0 ? { args } : {}),
});
const refuse = (names: readonly string[], errnoRet: number, ...args: SeccompComparison[]): SeccompRule => ({
  names,
  action: "SCMP_ACT_ERRNO",
  errnoRet,
  ...(args.length > 0 ? { args } : {}),
});

export function seccompProfile(arch: string = process.arch): SeccompProfile {
  return {
    defaultAction: "SCMP_ACT_ERRNO",
    defaultErrnoRet: ENOSYS,
    // One machine language: programs in another one (32-bit x86, x32) are killed.
    architectures: [arch === "arm64" ? "SCMP_ARCH_AARCH64" : "SCMP_ARCH_X86_64"],
    syscalls: [
      allow(ALLOWED),
      refuse(REFUSED, EPERM),
      // clone3 is "not implemented": its flags lie in memory, where a filter cannot see them, and libc falls back to clone.
      allow(["clone"], masked(0, NEW_NAMESPACES, 0)),
      ...PERSONALITIES.map((persona) => allow(["personality"], equal(0, persona))),
      ...deviceControl(),
      ...sockets(),
    ],
  };
}

/**
 * All of ioctl but TIOCSTI, which types into a terminal for its user. The kernel looks at 32 bits of the command alone, so that a filter
 * must too: whatever differs in one of them is another command.
 */
function deviceControl(): SeccompRule[] {
  const ioctl = ["ioctl"];
  const bits = Array.from({ length: 32 }, (_, n) => 2 ** n);
  const differs = bits.map((bit) => masked(1, bit, hasBit(TIOCSTI, bit) ? 0 : bit));
  return [
    ...differs.map((comparison) => allow(ioctl, comparison)),
    refuse(ioctl, EPERM, masked(1, 0xffffffff, TIOCSTI)),
  ];
}

const hasBit = (value: number, bit: number): boolean => Math.floor(value / bit) % 2 === 1;

/** Local, internet and netlink sockets (getifaddrs needs the latter), but none that forges packets. */
function sockets(): SeccompRule[] {
  const socket = ["socket"];
  const internet = [AF.INET, AF.INET6].flatMap((family) =>
    [SOCK.STREAM, SOCK.DGRAM].map((type) => allow(socket, equal(0, family), masked(1, 0xf, type))),
  );
  const refused = [AF.AX25, AF.KEY, AF.PACKET, AF.RDS, ...MORE_REFUSED_FAMILIES];
  return [
    allow(socket, equal(0, AF.UNIX)),
    allow(socket, equal(0, AF.NETLINK)),
    ...internet,
    ...refused.map((family) => refuse(socket, EAFNOSUPPORT, equal(0, family))),
  ];
}

/** System call numbers by machine, for the perl programs, which have no names for them. */
const NUMBERS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  x64: {
    clock_gettime: 228,
    close: 3,
    dup3: 292,
    exit_group: 231,
    fcntl: 72,
    memfd_create: 319,
    mount: 165,
    prctl: 157,
    rt_sigprocmask: 14,
    setgroups: 116,
    setresgid: 119,
    setresuid: 117,
    setsid: 112,
    signalfd4: 289,
    umount2: 166,
    unshare: 272,
  },
  arm64: {
    clock_gettime: 113,
    close: 57,
    dup3: 24,
    exit_group: 94,
    fcntl: 25,
    memfd_create: 279,
    mount: 40,
    prctl: 167,
    rt_sigprocmask: 135,
    setgroups: 159,
    setresgid: 149,
    setresuid: 147,
    setsid: 157,
    signalfd4: 74,
    umount2: 39,
    unshare: 97,
  },
};

export const isSupportedMachine = (arch: string = process.arch): boolean => arch in NUMBERS;

/** "name number name number …" */
export const syscallNumbers = (arch: string = process.arch): string =>
  Object.entries(NUMBERS[arch] ?? {})
    .flat()
    .join(" ");

/** What `nvidia-smi pmon` prints of each process on a graphics processor. Columns come and go with the driver's version; their names stay. */

export interface GpuUse {
  readonly gpu: number;
  /** On the host. */
  readonly pid: number;
  /** Of the processor's time, 0 to 1. */
  readonly share: number;
}

/** Lines that say nothing of a process are left out. Empty where it is no such table. */
export function parseGpuUse(text: string): GpuUse[] {
  const lines = text.split("\n");
  const columns = lines
    .find((line) => /^#\s*gpu\b/.test(line))
    ?.replace(/^#/, "")
    .trim()
    .split(/\s+/);
  if (columns === undefined) return [];
  const [gpu, pid, share] = ["gpu", "pid", "sm"].map((name) => columns.indexOf(name));
  return lines
    .filter((line) => !line.startsWith("#"))
    .flatMap((line) => {
      const fields = line.trim().split(/\s+/);
      const use = { gpu: wholeAt(fields, gpu), pid: wholeAt(fields, pid), share: wholeAt(fields, share) };
      if (use.gpu === undefined || use.pid === undefined) return [];
      // A dash: it has the device open and computes nothing.
      return [{ gpu: use.gpu, pid: use.pid, share: (use.share ?? 0) / 100 }];
    });
}

function wholeAt(fields: readonly string[], at = -1): number | undefined {
  const text = fields[at];
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

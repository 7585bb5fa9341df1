import type { Io } from "../io.ts";
import { printable } from "../printable.ts";
import { bytes, duration } from "./format.ts";
import type { Sample, Sampled } from "./sampler.ts";

/** `ale rock top` as lines of text. Pure. */

export const ORDERS = ["cpu", "memory", "disk", "pids", "age", "idle"] as const;
export type Order = (typeof ORDERS)[number];

export const KEYS: Readonly<Record<"c" | "m" | "d" | "p" | "a" | "i", Order>> = {
  c: "cpu",
  m: "memory",
  d: "disk",
  p: "pids",
  a: "age",
  i: "idle",
};
export const HELP = "sort by c cpu, m memory, d disk, p pids, a age, i idle; q quits";

export const isSortKey = (key: string): key is keyof typeof KEYS => key in KEYS;

export interface TopOptions {
  readonly order: Order;
  /** Columns and lines that there are. */
  readonly width: number;
  readonly rows: number;
  readonly paint: Io["paint"];
}

const VALUES: Readonly<Record<Order, (sample: Sample) => number>> = {
  cpu: ({ cpus }) => cpus ?? 0,
  memory: ({ stats }) => stats.memoryBytes ?? 0,
  disk: ({ stats }) => stats.diskBytes ?? 0,
  pids: ({ stats }) => stats.pids ?? 0,
  age: ({ stats }) => stats.uptimeMs,
  idle: ({ stats }) => stats.idleMs,
};

interface Column {
  readonly title: string;
  readonly order?: Order;
  readonly width: number;
  /** The least important ones are left out first where the terminal is narrow. */
  readonly importance: number;
  readonly cell: (sample: Sample) => string;
}

const COLUMNS: readonly Column[] = [
  {
    title: "cpu",
    order: "cpu",
    width: 6,
    importance: 9,
    cell: ({ cpus }) => (cpus === null ? "-" : cpus.toFixed(2)),
  },
  { title: "of", width: 5, importance: 3, cell: ({ cpusAllowed }) => String(cpusAllowed) },
  {
    title: "memory",
    order: "memory",
    width: 7,
    importance: 8,
    cell: ({ stats }) => bytes(stats.memoryBytes),
  },
  { title: "of", width: 5, importance: 4, cell: ({ memoryAllowed }) => bytes(memoryAllowed) },
  { title: "disk", order: "disk", width: 6, importance: 6, cell: ({ stats }) => bytes(stats.diskBytes) },
  { title: "of", width: 5, importance: 2, cell: ({ diskAllowed }) => bytes(diskAllowed) },
  { title: "pids", order: "pids", width: 5, importance: 7, cell: ({ stats }) => String(stats.pids ?? "-") },
  { title: "oom", width: 4, importance: 1, cell: ({ stats }) => String(stats.oomKills ?? "-") },
  { title: "age", order: "age", width: 5, importance: 5, cell: ({ stats }) => duration(stats.uptimeMs) },
  { title: "idle", order: "idle", width: 5, importance: 4, cell: ({ stats }) => duration(stats.idleMs) },
];

const ID_WIDTH = 26;

export function topLines(sampled: Sampled, options: TopOptions): string[] {
  const { order, width, rows, paint } = options;
  const samples = [...sampled.samples].sort(
    (a, b) => VALUES[order](b) - VALUES[order](a) || (a.id < b.id ? -1 : 1),
  );
  const idWidth = Math.min(ID_WIDTH, Math.max(2, width), Math.max(2, ...samples.map(({ id }) => id.length)));
  const columns = thatFit(width - idWidth);
  const used = idWidth + columns.reduce((total, column) => total + column.width + 1, 0);
  const rest = width - used - 2;
  const head = [
    "id".padEnd(idWidth),
    ...columns.map((column) => {
      const title = column.title.padStart(column.width);
      return column.order === order ? paint("bold", title) : paint("dim", title);
    }),
  ].join(" ");
  const lines = samples.map((sample) => {
    const cells = columns.map((column) => column.cell(sample).padStart(column.width));
    const labels = Object.entries(sample.labels).map(([name, value]) => `${name}=${value}`);
    const about = printable([sample.image, ...labels].join(" ")).replaceAll("\n", " ");
    const tail = rest >= 8 ? `  ${paint("dim", cut(about, rest))}` : "";
    return `${cut(sample.id, idWidth).padEnd(idWidth)}${cells.length > 0 ? ` ${cells.join(" ")}` : ""}${tail}`;
  });
  // The summary, an empty line and the head are above them.
  const space = Math.max(0, rows - 3);
  const shown =
    lines.length <= space ? lines : [...lines.slice(0, space - 1), `… ${lines.length - space + 1} more`];
  return [summary(sampled, width), "", head, ...shown];
}

function thatFit(width: number): readonly Column[] {
  const chosen = new Set(COLUMNS);
  const total = (): number => [...chosen].reduce((sum, column) => sum + column.width + 1, 0);
  for (const column of [...COLUMNS].sort((a, b) => a.importance - b.importance)) {
    if (total() <= width) break;
    chosen.delete(column);
  }
  return COLUMNS.filter((column) => chosen.has(column));
}

function summary({ atMs, samples }: Sampled, width: number): string {
  const sum = (value: (sample: Sample) => number | null): number =>
    samples.reduce((total, sample) => total + (value(sample) ?? 0), 0);
  const time = new Date(atMs).toTimeString().slice(0, 8);
  const parts = [
    `${time}  ${samples.length} ${samples.length === 1 ? "sandbox" : "sandboxes"}`,
    `cpu ${sum(({ cpus }) => cpus).toFixed(2)}`,
    `memory ${bytes(sum(({ stats }) => stats.memoryBytes))}`,
    `disk ${bytes(sum(({ stats }) => stats.diskBytes))}`,
    `pids ${sum(({ stats }) => stats.pids)}`,
  ];
  return cut(parts.join("  "), width);
}

const cut = (text: string, width: number): string =>
  text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;

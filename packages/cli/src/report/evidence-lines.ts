import { type Event, Event as EventSchema } from "@ale/core";
import type { EvidenceBundle } from "@ale/guard";
import { deepPrintable } from "../printable.ts";

/** The lines of a bundle as they are read for the page. An agent wrote parts of them: texts are made printable after they are parsed, not before. */
export interface BundleLine {
  readonly seq: number;
  /** Exactly as in the log, with its control characters made visible. */
  readonly text: string;
  /** Milliseconds since the first line. */
  readonly t: number;
  /** Undefined where this version does not know it. */
  readonly event: Event | undefined;
  readonly type: string;
}

export const linesOf = ({ lines }: EvidenceBundle): BundleLine[] =>
  lines.map(({ seq, text }) => {
    const { t, event } = parsed(text);
    const known = EventSchema.safeParse(event);
    const type = (event as { type?: unknown } | null)?.type;
    return {
      seq,
      text: deepPrintable(text),
      t: typeof t === "number" ? t : 0,
      event: known.success ? deepPrintable(known.data) : undefined,
      type: typeof type === "string" ? deepPrintable(type) : "unreadable",
    };
  });

function parsed(text: string): { readonly t?: unknown; readonly event?: unknown } {
  try {
    return (JSON.parse(text) ?? {}) as object;
  } catch {
    return {};
  }
}

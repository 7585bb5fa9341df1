import type { ProgressEvent } from "@ale/roll";
import type { Io } from "./io.ts";
import { bar } from "./progress.ts";

/** Turns the events of a run into one moving line and a few that stay. `prefix` tells runs apart that go on at the same time. */
export function runProgress(io: Io, prefix: string): (event: ProgressEvent) => void {
  let label = "";
  return (event) => {
    switch (event.type) {
      case "stage":
        label = event.label;
        io.progress.say(`${prefix}${event.stage + 1}/${event.total} ${label}`);
        return;
      case "tick":
        io.progress.status(
          `${prefix}${bar(event.done / Math.max(1, event.total), 20)} ${event.label} ${event.done}/${event.total}  ${event.note}`,
        );
        return;
      case "sft":
        return;
      default:
        event satisfies never;
    }
  };
}

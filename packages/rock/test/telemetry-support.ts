import type { Telemetry } from "@ale/core";
import type { Sandbox } from "../src/index.ts";

/** A sandbox that is listened to, and a look at what was told of one kind until now. */
export interface Watched extends AsyncDisposable {
  readonly box: Sandbox;
  told(kind: string): Promise<Telemetry[]>;
}

/** Owns the sandbox from now on. */
export function listenTo(box: Sandbox): Watched {
  const all: Telemetry[] = [];
  const listening = box.onTelemetry((record) => all.push(record));
  return {
    box,
    told: async (kind) => {
      await box.drainTelemetry();
      return all.filter((record) => record.kind === kind);
    },
    [Symbol.asyncDispose]: async () => {
      listening[Symbol.dispose]();
      await box.destroy();
    },
  };
}

import { runParts } from "../benchmark.ts";
import { rules } from "./rules.ts";

export const title = "guard: how many telemetry records the rules judge in a second";

export const run = runParts({ rules });

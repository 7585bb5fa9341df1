import { runParts } from "../benchmark.ts";
import { attribution } from "./attribution.ts";
import { delay } from "./delay.ts";
import { falsePositives } from "./false-positives.ts";
import { imports } from "./imports.ts";
import { incidents } from "./incidents.ts";
import { judgement } from "./judgement.ts";
import { proxy } from "./proxy.ts";
import { rules } from "./rules.ts";
import { scan } from "./scan.ts";
import { tracing } from "./tracing.ts";

export const title =
  "guard: how many telemetry records the rules judge in a second; what the gateway and the tracing cost; whose process is found";

export const run = runParts({
  rules,
  judgement,
  proxy,
  scan,
  delay,
  "false-positives": falsePositives,
  incidents,
  imports,
  attribution,
  tracing,
});

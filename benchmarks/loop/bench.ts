import { runParts } from "../benchmark.ts";
import { engineOverhead } from "./engine-overhead.ts";
import { gradient } from "./gradient.ts";
import { quickstart } from "./quickstart.ts";
import { watched } from "./watched.ts";

export const title =
  "the loop: learning mathematics against autograd, engine against a bare PyTorch loop, the closed loop for three seeds, the cost of being watched";

/** Each part stands in its own file and reports figures of its own. */
export const run = runParts({
  gradient,
  "engine-overhead": engineOverhead,
  quickstart,
  watched,
});

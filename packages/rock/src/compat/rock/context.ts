import type { SandboxService } from "../../server/service.ts";
import type { CompatOptions } from "../caller.ts";
import type { CommitJobs, ImageSink } from "./commit.ts";
import type { RockSessions } from "./sessions.ts";

export interface RockOptions extends CompatOptions {
  /** Largest sandbox that may be asked for, as ROCK's own default configuration has it. Default: 16, 64 GiB, 256 GiB. */
  readonly maxAllowed?: { readonly cpus: number; readonly memoryBytes: number; readonly diskBytes: number };
  /**
   * What ROCK's own tests assert of its deployment and nobody else would want: shells that hang on history expansion, and read-only
   * directories of its worker in /tmp. Default: false, such commands just run, and /tmp is empty.
   */
  readonly quirks?: boolean;
  /** Where `commit` puts images. Default: the driver's own store; where it has none, commit is refused. */
  readonly images?: ImageSink;
  /** Makes an image ready for sandboxes to come, in the background. Absent: `warmup` is refused. */
  readonly warmup?: (image: string) => Promise<void>;
  /** Free bytes where sandboxes lie: no disk limit is larger. Default: 64 GiB. */
  readonly freeDiskBytes?: () => number;
}

/** What the routes of one server share. */
export interface RockContext {
  readonly service: SandboxService;
  readonly options: RockOptions;
  readonly sessions: RockSessions;
  readonly commits: CommitJobs;
}

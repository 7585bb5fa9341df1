import type { Sandbox } from "../../port/sandbox.ts";
import { privateImage } from "../../server/private-images.ts";
import type { SandboxService } from "../../server/service.ts";
import { badRequest, reasonOf } from "./envelope.ts";
import type { Commit } from "./requests.ts";
import { timeOf } from "./status.ts";

/** ROCK's commit: the files of a sandbox become an image, in the background, while clients ask how far it is. */

/** Where images are put, by the names of the store. */
export interface ImageSink {
  /** Whether the store has an image of this name. */
  has(name: string): boolean;
  /** Makes an image of what a sandbox has now. The sandbox goes on. Throws an AleError. */
  commit(sandbox: Sandbox, name: string, signal: AbortSignal): Promise<void>;
  /** Sends it to a registry, as `reference`, with these credentials or none; never with the host's own. */
  push(
    name: string,
    reference: string,
    credentials: { readonly username: string; readonly password: string } | undefined,
    signal: AbortSignal,
  ): Promise<void>;
}

export interface CommitStatus {
  readonly sandbox_id: string;
  readonly image_tag: string;
  readonly phase: "RUNNING" | "SUCCEEDED" | "FAILED";
  readonly started_at: string;
  readonly completed_at: string | null;
  readonly exit_code: number | null;
  readonly failed_stage: string | null;
  readonly error_code: string | null;
  readonly error_message: string | null;
}

const REMEMBERED = 10_000;

/** What a tenant means by an image's name: what it committed under it, else the host's. */
export function imageFor(images: ImageSink | undefined, tenant: string, name: string): string {
  try {
    const own = privateImage(tenant, name);
    return images?.has(own) ? own : name;
  } catch {
    return name;
  }
}

/** Whether it was written with a registry: one that names none is kept here and sent nowhere. */
const namesRegistry = (name: string): boolean => /^(?:localhost|[^/]*[.:][^/]*)\//.test(name);

export class CommitJobs {
  readonly #service: SandboxService;
  readonly #images: ImageSink | undefined;
  readonly #closing: AbortSignal;
  /** The latest of each sandbox. */
  readonly #latest = new Map<string, CommitStatus>();

  constructor(service: SandboxService, images: ImageSink | undefined, closing: AbortSignal) {
    this.#service = service;
    this.#images = images;
    this.#closing = closing;
  }

  /** The same tag again, while it is being committed, is the same job. Throws a RockFailure. */
  async begin(tenant: string, request: Commit): Promise<CommitStatus> {
    const { sandbox_id: id, image_tag: tag } = request;
    const images = this.#images;
    if (images === undefined) throw badRequest("This server keeps no images: commit is not available");
    const sandbox = await this.#service.use(tenant, id);
    const key = keyOf(tenant, id);
    privateImage(tenant, tag);
    const earlier = this.#latest.get(key);
    if (earlier?.phase === "RUNNING") {
      if (earlier.image_tag === tag) return earlier;
      throw badRequest(`COMMIT_CONFLICT: ${id} is being committed to ${earlier.image_tag}`);
    }
    const begun: CommitStatus = {
      sandbox_id: id,
      image_tag: tag,
      phase: "RUNNING",
      started_at: timeOf(Date.now())!,
      completed_at: null,
      exit_code: null,
      failed_stage: null,
      error_code: null,
      error_message: null,
    };
    this.#latest.set(key, begun);
    if (this.#latest.size > REMEMBERED) this.#latest.delete(this.#latest.keys().next().value!);
    void this.#work(images, tenant, sandbox, request).then((end) =>
      this.#latest.set(key, { ...begun, ...end, completed_at: timeOf(Date.now()) }),
    );
    return begun;
  }

  status(tenant: string, id: string): CommitStatus {
    this.#service.get(tenant, id);
    const status = this.#latest.get(keyOf(tenant, id));
    if (status === undefined) throw badRequest(`STATUS_NOT_FOUND: ${id} was never committed`);
    return status;
  }

  async #work(
    images: ImageSink,
    tenant: string,
    sandbox: Sandbox,
    request: Commit,
  ): Promise<Partial<CommitStatus>> {
    const { image_tag: tag, username, password } = request;
    try {
      await images.commit(sandbox, privateImage(tenant, tag), this.#closing);
    } catch (error) {
      return failure("commit", "COMMIT_FAILED", error);
    }
    if (!namesRegistry(tag)) return { phase: "SUCCEEDED", exit_code: 0 };
    const credentials = username && password ? { username, password } : undefined;
    try {
      await images.push(privateImage(tenant, tag), tag, credentials, this.#closing);
      return { phase: "SUCCEEDED", exit_code: 0 };
    } catch (error) {
      return failure("push", "PUSH_FAILED", error);
    }
  }
}

const failure = (stage: string, code: string, error: unknown): Partial<CommitStatus> => ({
  phase: "FAILED",
  exit_code: 1,
  failed_stage: stage,
  error_code: code,
  error_message: reasonOf(error),
});

const keyOf = (tenant: string, id: string): string => JSON.stringify([tenant, id]);

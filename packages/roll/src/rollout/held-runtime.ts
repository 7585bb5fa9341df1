import type { ToolRuntime } from "@ale/flow";

/** A runtime whose commands come to an end for the agent when the sandbox is frozen, although they never do inside it. */
export function heldRuntime(inner: ToolRuntime, frozen: AbortSignal): ToolRuntime {
  return {
    shell: (command, signal) => unlessFrozen(inner.shell(command, signal), frozen),
    exec: (argv, options, signal) => unlessFrozen(inner.exec(argv, options, signal), frozen),
  };
}

function unlessFrozen<T>(work: Promise<T>, frozen: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onFrozen = (): void => reject(frozen.reason);
    if (frozen.aborted) onFrozen();
    frozen.addEventListener("abort", onFrozen, { once: true });
    work.then(resolve, reject).finally(() => frozen.removeEventListener("abort", onFrozen));
  });
}
